"""The plan file: what it may say, and how it resolves into one frozen object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from mrlinac import inherit, notebook, spec
from mrlinac.anatomy.overrides import MetalOverride, Override
from mrlinac.anatomy.position import Position
from mrlinac.errors import SpecError, did_you_mean
from mrlinac.machine.model import Machine
from mrlinac.protocol.model import Protocol, listed
from mrlinac.provenance import fingerprint

Positive = Annotated[float, Field(gt=0)]
NUMERICS_FILE = Path(__file__).resolve().parent.parent / "data" / "numerics.toml"
PLACE_NOT_KEPT = "not kept"
_PLACES = ("patient.folder", "patient.rtstruct")
_OF_FOLDER = ("rtstruct", "series", "position", "same_frame", "densities", "derive")
"""What a plan says of how its patient's folder is to be read."""

NAMED = ("protocol", "machine", "technique", "numerics")  # tables that a plan file may give by name


class PatientSource(spec.Spec):
    """Where the patient comes from: a folder of DICOM files, or the built-in digital thorax.

    Attributes
    ----------
    folder : str or None
        Folder of DICOM files, or a ``patient.toml``; without it the digital thorax is planned.
    rtstruct : str or None
        Which structure set: its file, or the key that the import report shows.
    series : str or None
        Which image series: its key.
    position : str or None
        How the patient lies (``HFS`` …), where the files lack it.
    same_frame : bool
        Image and structures lie in one space, whatever frames of reference they state.
    densities : bool
        Take over the densities that the structure set says were overridden.
    derive : bool
        Derive body, couch, airway, lungs and canal from the CT where they were not drawn.
    phantom_seed : int
        Seed of the digital thorax.
    density_overrides : dict of Override
        By structure: density and material instead of what the image says.
    metal : MetalOverride or None
        What saturated voxels stand for; without it they are refused.
    isocentre_xyz_mm : tuple of float or None
        In LPS; by default the machine's rule decides.
    identify : bool
        Write the patient's name and ID into the DICOM output, and keep the patient's folder in the result.
    """

    folder: str | None = None
    rtstruct: str | None = None
    series: str | None = None
    position: Position | None = None
    same_frame: bool = False
    densities: bool = False
    derive: bool = False
    phantom_seed: Annotated[int, Field(ge=0)] = 1
    density_overrides: dict[str, Override] = Field(default_factory=dict)
    metal: MetalOverride | None = None
    isocentre_xyz_mm: tuple[float, float, float] | None = None
    identify: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> PatientSource:
        if self.folder is None and (keys := [key for key in _OF_FOLDER if getattr(self, key) not in (None, False)]):
            raise ValueError(f"{', '.join(keys)} needs folder")
        return self


class SegmentTable(spec.Spec):
    """Step and shoot: what the segments of a plan may be.

    Attributes
    ----------
    most : int
        Most segments of the plan.
    min_area_cm2 : float
        Smallest open area at the isocentre.
    min_mu : float
        Smallest MU of a segment in one fraction.
    source : str
        Where the figures come from.
    """

    most: Annotated[int, Field(ge=1)] = 80
    min_area_cm2: Positive
    min_mu: Positive
    source: str


class Technique(spec.Spec):
    """Beams and beamlets, and segments where the plan is to be delivered.

    Attributes
    ----------
    gantry_deg : tuple of float
        IEC 61217.
    travel_step_mm : float
        Length of a beamlet along leaf travel, at the isocentre.
    aperture_margin_mm : float
        Beamlets are open within this distance of the target's projection.
    segments : SegmentTable or None
        Without it the plan is a fluence.
    source : str
        Where the technique comes from.
    """

    gantry_deg: tuple[float, ...] = Field(min_length=1)
    travel_step_mm: Positive
    aperture_margin_mm: Annotated[float, Field(ge=0)]  # widening of the target's shadow, for the penumbra
    segments: SegmentTable | None = None
    source: str


class Numerics(spec.Spec):
    """How fine a calculation is, and how long it takes. The presets stand in ``mrlinac/data/numerics.toml``.

    Attributes
    ----------
    name : str
    seed : int
        Of all random numbers.
    grid_mm : float
        Voxel size of the calculation grid.
    photons_per_beamlet : int
        Of the influence.
    correction_rounds : int
        Most rounds of correction with a forward dose; the loop ends where the forward dose is as predicted.
    correction_rel_sigma, final_rel_sigma : float
        Mean relative standard deviation of the rounds' forward doses and of the final dose.
    oar_rows, target_rows : int
        Most rows of one structure in the optimiser (:class:`mrlinac.optimise.rows.RowChoice`).
    """

    name: str
    seed: Annotated[int, Field(ge=0)]
    grid_mm: Positive
    photons_per_beamlet: Annotated[int, Field(ge=1)]
    correction_rounds: Annotated[
        int, Field(ge=0, le=3)
    ]  # at most; the loop ends where the forward dose is as predicted
    correction_rel_sigma: Positive
    final_rel_sigma: Positive
    oar_rows: Annotated[int, Field(ge=100)]  # most rows that the optimiser has for one organ or ring …
    target_rows: Annotated[int, Field(ge=100)] | None = None  # … and for one target; None: every voxel

    @model_validator(mode="before")
    @classmethod
    def _without_statement(cls, values: Any) -> Any:
        """Plans saved by earlier versions keep a sentence of their own, which other values may have made false."""
        if isinstance(values, Mapping):
            return {key: value for key, value in values.items() if key != "statement"}
        return values

    @property
    def statement(self) -> str:
        """What these values stand for, in a sentence."""
        rounds = self.correction_rounds
        corrections = (
            f"at most {rounds} correction{'' if rounds == 1 else 's'} by a forward dose"
            if rounds
            else "no correction of the influence's noise by a forward dose asked for"
        )
        return (
            f"Numerics {self.name}{self._changed}: {self.grid_mm:g} mm voxels, {self.photons_per_beamlet} photons per "
            f"beamlet, {corrections}, final dose to a mean relative standard deviation of "
            f"{100 * self.final_rel_sigma:g} % above half of the maximum."
        )

    @property
    def looking_only(self) -> str:
        """In what a plan is coarser than the preset ``final``, in a sentence; empty where it is not."""
        final = _preset("final")
        fineness = (  # what, own, final, whether more is finer
            ("voxels of {:g} mm", self.grid_mm, final.grid_mm, False),
            ("photons per beamlet {:d}", self.photons_per_beamlet, final.photons_per_beamlet, True),
            ("correction rounds at most {:d}", self.correction_rounds, final.correction_rounds, True),
            ("σ of the final dose {:g} %", 100 * self.final_rel_sigma, 100 * final.final_rel_sigma, False),
        )
        coarse = [
            f"{words.format(own)} ({asked:g})"
            for words, own, asked, more in fineness
            if own != asked and (own < asked) == more
        ]
        return f"For looking only, coarser than the preset 'final': {', '.join(coarse)}." if coarse else ""

    @property
    def _changed(self) -> str:
        """Which values are not those of the preset of this name."""
        if self.name not in presets_of_numerics():
            return ""
        own, preset = self.model_dump(), _preset(self.name).model_dump()
        keys = [key for key in own if own[key] != preset[key] and key != "seed"]
        return f", {' and '.join(keys)} changed" if keys else ""


@cache
def presets_of_numerics() -> Mapping[str, Mapping[str, Any]]:
    """The presets, as values."""
    return spec.read_toml(NUMERICS_FILE)


def _preset(name: str) -> Numerics:
    return Numerics(name=name, **presets_of_numerics()[name])


class PlanSpec(spec.Spec):
    """A plan, resolved: nothing in it refers to another file but the patient's folder.

    Attributes
    ----------
    name, title : str
    patient : PatientSource
    protocol : Protocol
    machine : Machine
    technique : Technique
    numerics : Numerics
    applied : dict
        The overrides that made it what it is, by dotted key; already in force.
    origins : dict of str
        By dotted key: the file that a value comes from.
    """

    name: str
    title: str
    patient: PatientSource
    protocol: Protocol
    machine: Machine
    technique: Technique
    numerics: Numerics
    applied: dict[str, Any] = Field(default_factory=dict)  # the overrides that made it what it is; already in force
    origins: dict[str, str] = Field(default_factory=dict)  # by dotted key: the file that it came from

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the result, the patient's images excepted."""
        values = self.model_dump(mode="json", exclude={"name", "title", "applied", "origins", "patient"})
        # What decides how the folder is read decides what is read, and that is hashed with the patient.
        apart = {"folder", "identify", "density_overrides", *_OF_FOLDER}
        patient = self.patient.model_dump(mode="json", exclude=apart)
        # Where two overlap, the first named has the voxel.
        return fingerprint(values, patient, list(self.patient.density_overrides.items()))

    def __repr__(self) -> str:
        return f"PlanSpec({self.name!r}, {self.title!r})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """The plan in a few lines; not where its patient lies, which may say who it is."""
        rx, beams = self.protocol.prescription, ", ".join(f"{angle:g}°" for angle in self.technique.gantry_deg)
        patient = "a folder" if self.patient.folder else f"the digital patient, seed {self.patient.phantom_seed}"
        changed = {key: value for key, value in self.applied.items() if not key.startswith("patient.")}
        rows = [
            ("patient", patient),
            ("protocol", self.protocol.title),
            ("prescription", f"{rx.dose_Gy:g} Gy in {rx.fractions} fractions to {rx.target}"),
            ("machine", self.machine.title),
            ("beams", f"{len(self.technique.gantry_deg)} at {beams}"),
            ("numerics", f"{self.numerics.statement} {self.numerics.looking_only}".strip()),
            *(("changed", f"{key} = {value}") for key, value in changed.items()),
        ]
        return notebook.heading(self.title) + notebook.table(("", ""), rows)

    def without_places(self) -> PlanSpec:
        """The plan as it may be kept in a result's folder: the place of the patient may tell an identity.

        Running it again asks for the patient. The eight-digit key of a structure set stays, and so does everything
        where the patient is to be identified.

        Returns
        -------
        PlanSpec
        """
        patient = self.patient
        if patient.identify or patient.folder is None:
            return self
        keeps = patient.rtstruct is None or re.fullmatch("[0-9a-f]{8}", patient.rtstruct)
        places = {"folder": PLACE_NOT_KEPT, "rtstruct": patient.rtstruct if keeps else PLACE_NOT_KEPT}
        applied = {key: value for key, value in self.applied.items() if key not in _PLACES}
        return self.model_copy(update={"patient": patient.model_copy(update=places), "applied": applied})

    def override(self, changes: Mapping[str, Any]) -> PlanSpec:
        """A new plan with values changed by dotted key, e.g. ``{"protocol.structures.PTV.margin_mm": 3}``.

        A bare ``machine``, ``protocol``, ``technique`` or ``numerics`` takes a name.

        Parameters
        ----------
        changes : mapping from dotted key to value

        Returns
        -------
        PlanSpec

        Raises
        ------
        SpecError
            For unknown keys and wrong values, all at once.
        """
        values = self.model_dump(mode="json", exclude_none=True)
        applied = {**values.pop("applied"), **changes}
        return resolve({**_apply(values, changes, "override"), "applied": applied}, "override")


def resolve(values: Mapping[str, Any], where: str) -> PlanSpec:
    """Validate plain values, every named file inlined, into a frozen plan.

    Parameters
    ----------
    values : mapping
    where : str
        File that messages name.

    Returns
    -------
    PlanSpec

    Raises
    ------
    SpecError
        All problems at once.
    """
    return spec.validate(PlanSpec, values, where)


def load_plan(name: str | Path, changes: Mapping[str, Any] | None = None) -> PlanSpec:
    """Read a plan by path or name, inline the files it names, apply overrides, validate.

    Parameters
    ----------
    name : str or Path
        A path, or a name in ``./plans/`` or among the packaged plans. A ``plan.resolved.toml`` loads too.
    changes : mapping from dotted key to value
        Applied after the file's own table ``[overrides]``, which comes after the named files are inlined.

    Returns
    -------
    PlanSpec

    Raises
    ------
    SpecError
        Names the file, the keys and the allowed values; all problems at once.
    """
    file = inherit.read("plans", name)
    values = file.values
    origins = dict(values.pop("origins", file.origins))  # a resolved plan knows where its parts came from
    values.setdefault("name", file.path.stem)
    changes = {**values.pop("overrides", {}), **(changes or {})}
    applied = {**values.pop("applied", {}), **changes}
    where = str(file.path)
    for key in NAMED:
        if isinstance(values.get(key), str) and key not in changes:
            values[key] = _named(key, values[key], origins)
    resolved = _apply(values, changes, where, origins)
    kept = {key: label for key, label in origins.items() if spec.split_key(key)[0] in PlanSpec.model_fields}
    return resolve({**resolved, "applied": applied, "origins": inherit.summary(kept)}, where)


def _apply(
    values: Mapping[str, Any], changes: Mapping[str, Any], where: str, origins: dict[str, str] | None = None
) -> dict[str, Any]:
    """Apply overrides; a bare name of a file first, so that finer keys change what it brings in."""
    whole = {key: _named(key, value, origins) for key, value in changes.items() if _is_name(key, value)}
    finer = {key: value for key, value in changes.items() if key not in whole}
    return spec.override({**values, **whole}, finer, where)


def _is_name(key: str, value: Any) -> bool:
    return key in NAMED and isinstance(value, str)


def presets() -> dict[str, str]:
    """The presets of ``numerics``.

    Returns
    -------
    dict of str
        By name: the uncertainty that the preset stands for.
    """
    numerics_by_name = {name: _preset(name) for name in presets_of_numerics()}
    return {
        name: f"{numerics.statement} {numerics.looking_only}".strip() for name, numerics in numerics_by_name.items()
    }


def _named(key: str, name: str, origins: dict[str, str] | None = None) -> dict[str, Any]:
    """What a plan gives by name, as plain values; adds to ``origins`` where they came from."""
    if key == "numerics":
        known = presets_of_numerics()
        if name not in known:
            hint = did_you_mean(name, known)
            raise SpecError(f"numerics = '{name}': no such preset{hint} (known: {', '.join(known)})")
        return {"name": name, **known[name]}
    file = inherit.read(f"{key}s", name)
    if origins is not None:
        for dotted in [dotted for dotted in origins if spec.split_key(dotted)[0] == key]:
            del origins[dotted]
        origins |= {f"{key}.{dotted}": label for dotted, label in file.origins.items()}
    return listed(file.values) if key == "protocol" else file.values
