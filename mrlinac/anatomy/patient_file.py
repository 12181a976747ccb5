"""``patient.toml``: what a person decided about one patient's files. Written once by the import, edited by a person.

A table that is not there leaves the choice to the import, which says what it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mrlinac.anatomy.overrides import MetalOverride, Override
from mrlinac.anatomy.position import Position
from mrlinac.anatomy.structures import Ends, Role
from mrlinac.errors import DataError
from mrlinac.spec import Spec, read_toml, validate

FILE_NAME = "patient.toml"

Derivable = Literal["External", "CouchSurface", "Airway", "Lung_L", "Lung_R", "SpinalCanal"]  # of anatomy.autosegment

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(\.[0-9]+)?$")]


class StructureChoice(Spec):
    """What one of the clinic's structures is here: ``"Clinic name" = { name = "Heart", role = "oar" }``.

    Attributes
    ----------
    name : str
        TG-263 name.
    role : str
        What kind of structure it is.
    use : bool
        False leaves it out.
    """

    name: Annotated[str, Field(min_length=1)]
    role: Role
    use: bool = True


class PatientFile(Spec):
    """The file: which series, what structures are called, what replaces the image's densities.

    Attributes
    ----------
    folder : str
        Of the DICOM files; relative to the file itself.
    label : str or None
        How reports call the patient; must not identify a person.
    series : str or None
        Key of the image series.
    rtstruct : str or None
        The structure set: its key, or a path relative to the folder.
    position : str or None
        How the patient lies, where the files lack it.
    ends : str or None
        Where drawn structures end along z: half a slice beyond their end contours (default), or at these, as Eclipse
        has it.
    same_frame : bool
        Image and structures lie in one space, whatever frames of reference they state.
    target_base : str or None
        From which target PTVs are made.
    couch_top_y_mm : float or None
        Height of the couch under a patient on the back or the belly, in LPS.
    couch_top_x_mm : float or None
        The same under a patient on the side.
    structures : dict of StructureChoice
        By the clinic's name.
    density_overrides : dict of Override
        By structure.
    metal : MetalOverride or None
        What saturated voxels stand for.
    density_bands : dict of Override
        Of an MR: density by structure; the body's counts last.
    derive : tuple of str
        Structures derived from the CT where they were not drawn; every report names them.
    """

    folder: str = "."
    label: str | None = None
    series: Key | None = None
    rtstruct: str | None = None
    position: Position | None = None
    ends: Ends | None = None
    same_frame: bool = False
    target_base: Literal["ITV", "CTV"] | None = None
    couch_top_y_mm: float | None = None
    couch_top_x_mm: float | None = None
    structures: dict[str, StructureChoice] = Field(default_factory=dict)
    density_overrides: dict[str, Override] = Field(default_factory=dict)
    metal: MetalOverride | None = None
    density_bands: dict[str, Override] = Field(default_factory=dict)
    derive: tuple[Derivable, ...] = ()

    @property
    def says_of_planning(self) -> dict[str, object]:
        """What it says beyond which files and names: empty where it says nothing that changes a plan."""
        asked = ("target_base", "couch_top_y_mm", "couch_top_x_mm", "density_overrides", "metal", "density_bands")
        return {key: value for key in asked if (value := getattr(self, key)) not in (None, {})}

    def couch_top_mm(self, axis: str) -> float | None:
        """Where the couch's top lies on the axis that gravity follows, if a person said so."""
        return self.couch_top_y_mm if axis == "y" else self.couch_top_x_mm

    def overrides(self, external: str, more: Mapping[str, Override]) -> dict[str, Override]:
        """Overrides in the order in which they have a voxel: single structures, more of them, bands, the body.

        Parameters
        ----------
        external : str
            Name of the body's outline, which takes what is left.
        more : mapping
            Overrides from elsewhere (a plan file), which give way to those of the same name here.
        """
        named = {**self.density_overrides}
        for further in (more, self.density_bands):
            named.update({name: override for name, override in further.items() if name not in named})
        order = sorted(named, key=lambda name: name == external)  # stable: only the body moves to the end
        return {name: named[name] for name in order}


def decisions(path: Path) -> tuple[Path, PatientFile, Path | None]:
    """The folder of DICOM files, what ``patient.toml`` says, and where that file lies (None where there is none).

    Raises
    ------
    SpecError
        When the file says something wrong: key, reason, allowed values.
    """
    file = path if path.suffix == ".toml" else path / FILE_NAME
    if not file.is_file():
        if path.suffix == ".toml" and not path.is_dir():
            raise DataError(f"{path}: no such file. Give the folder; `mrlinac import FOLDER` writes its {FILE_NAME}.")
        return path, PatientFile(), None
    decided = validate(PatientFile, read_toml(file), str(file))
    return (file.parent / decided.folder), decided, file
