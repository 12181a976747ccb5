"""``patient.toml``: what a person decided about one patient's files. Written once by the import, edited by a person.

A table that is not there leaves the choice to the import, which says what it did.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mrlinac.anatomy.from_ct import MetalOverride, Override
from mrlinac.anatomy.patient import Position
from mrlinac.anatomy.structures import Role
from mrlinac.spec import Spec

FILE_NAME = "patient.toml"

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(\.[0-9]+)?$")]


class StructureChoice(Spec):
    """What one of the clinic's structures is here: ``"Clinic name" = { name = "Heart", role = "oar" }``."""

    name: Annotated[str, Field(min_length=1)]
    role: Role
    use: bool = True


class PatientFile(Spec):
    """The file: which series, what structures are called, what replaces the image's densities."""

    folder: str = "."  # of the DICOM files; relative to the file itself
    label: str | None = None
    series: Key | None = None
    rtstruct: str | None = None  # key, or a path relative to the folder
    position: Position | None = None
    target_base: Literal["ITV", "CTV"] | None = None
    couch_top_y_mm: float | None = None
    structures: dict[str, StructureChoice] = Field(default_factory=dict)
    density_overrides: dict[str, Override] = Field(default_factory=dict)
    metal: MetalOverride | None = None
    density_bands: dict[str, Override] = Field(default_factory=dict)  # for an MR: the body's last

    def overrides(self, external: str = "External") -> dict[str, Override]:
        """Overrides in the order in which they have a voxel: single structures, bands, the body."""
        given = {**self.density_bands, **self.density_overrides}
        order = [
            *self.density_overrides,
            *(name for name in self.density_bands if name not in self.density_overrides),
        ]
        order.sort(key=lambda name: name == external)  # stable: only the body moves to the end
        return {name: given[name] for name in order}
