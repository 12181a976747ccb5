"""All that a plan produced: in memory, and in a folder that is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from typing import Protocol as TypedAs

import numpy as np
import pandas as pd
import tomli_w
from dicompylercore.dvh import DVH

from mrlinac import dicom, notebook
from mrlinac.anatomy.grid import Grid, Triple
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.shells import Drawing
from mrlinac.anatomy.structures import Contour, Roi, Structure, StructureSet
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.dose.dose import Batches, Dose
from mrlinac.dose.dvh import histogram
from mrlinac.dose.sampled import Sampled
from mrlinac.errors import DataError, DiskError, SpecError, check_place, writing
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Certificate, Fluence
from mrlinac.notes import Note, Notes
from mrlinac.protocol.model import Protocol
from mrlinac.provenance import Provenance
from mrlinac.recipe.judge import air_in
from mrlinac.recipe.spec import PlanSpec
from mrlinac.recipe.stages import Stages
from mrlinac.recipe.standing import Standing, standing_of
from mrlinac.spec import read_toml, validate


class Writer(TypedAs):
    """Writes more files (a report, its figures where wanted) into a result's folder before it appears under its name."""

    def __call__(self, result: PlanResult, folder: Path, /, *, figures: bool) -> None:
        """Write them."""


@dataclass(frozen=True)
class PlanResult:
    """All that was produced for one plan.

    Attributes
    ----------
    spec : PlanSpec
    label : str
        The patient's label; identifies nobody.
    patient : Patient or None
        For DICOM output; None for a result loaded from a folder.
    ct : Image
        The patient's image, cropped to the calculation grid, for display.
    structures : StructureSet
        Drawn and derived, on the calculation grid.
    medium : Medium
    isocentre_xyz_mm : tuple of float
    field_xyz_T : tuple of float
        The field the dose was computed in.
    fluence : Fluence
        MU per beamlet of one fraction, after normalisation.
    dose : Dose
        Forward Monte Carlo dose of the course.
    goals, constraints, skin, history, timing : DataFrame
        Goals and constraints judged on the forward dose; skin metrics; correction rounds; cost by stage.
    notes : Notes
        What import, structures and medium had to say.
    statements : tuple of str
        What was thinned or neglected; every report prints it.
    made_from : mapping
        Fingerprint, seed, versions, histories, device.
    models : DataFrame
        Complication and control probabilities and doses in biological terms, by the protocol's models; none for a result
        that was made before there were models.
    escalation : mapping or None
        Of an isotoxic plan: the prescription found, the convex bound, what drove it (:mod:`mrlinac.recipe.isotoxic`).
    writers : tuple of functions
        Called by :meth:`save` with the result and the folder.
    sampled_dose : Sampled or None
        The dose as it was judged, to save its sampling.
    """

    spec: PlanSpec
    label: str
    patient: Patient | None
    ct: Image
    structures: StructureSet
    medium: Medium
    isocentre_xyz_mm: Triple
    field_xyz_T: Triple
    fluence: Fluence
    dose: Dose
    goals: pd.DataFrame
    constraints: pd.DataFrame
    skin: pd.DataFrame
    history: pd.DataFrame
    timing: pd.DataFrame
    notes: Notes
    statements: tuple[str, ...]
    made_from: Mapping[str, Any]
    models: pd.DataFrame = field(default_factory=pd.DataFrame)
    escalation: Mapping[str, Any] | None = None
    writers: tuple[Writer, ...] = field(default=(), repr=False)
    sampled_dose: Sampled | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        verdict = "constraints met" if self.constraints_met else "constraints unmet"
        return f"PlanResult({self.spec.name!r}, {self.label!r}, {self.field_T:g} T, {verdict})"

    def _repr_html_(self) -> str:
        """What the plan is worth, its goals and its hard limits."""
        standing = self.standing
        goals = [
            (
                str(row["structure"]),
                str(row["metric"]),
                notebook.figure(row["value"], row.get("sigma"), str(row["unit"])),
                f"{ {'<=': '≤ ', '>=': '≥ '}.get(str(row['direction']), '') }{notebook.figure(row['limit'])}",
                str(row["verdict"]),
            )
            for row in self.goals.to_dict("records")
        ]
        return (
            notebook.heading(f"{self.spec.title}, {self.label}, {self.field_T:g} T")
            + notebook.line(standing.headline)
            + notebook.bullets(standing.sentences)
            + notebook.table(("structure", "metric", "value", "goal", "verdict"), goals)
            + notebook.line(RESEARCH_ONLY)
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the resolved plan and the patient's images and structures."""
        return str(self.made_from["fingerprint"])

    @cached_property
    def protocol(self) -> Protocol:
        """The plan's protocol, at the prescription that an escalation found."""
        found = self.escalation
        return self.spec.protocol if found is None else self.spec.protocol.at(found["dose_Gy"], found["fractions"])

    @property
    def field_T(self) -> float:
        """Magnitude of the field the dose was computed in."""
        return float(np.linalg.norm(self.field_xyz_T))

    @property
    def constraints_met(self) -> bool:
        """Whether the forward dose keeps every constraint."""
        return bool(self.constraints["met"].all()) if len(self.constraints) else True

    @cached_property
    def standing(self) -> Standing:
        """What the plan is worth, in words that come before its figures."""
        return standing_of(self)

    @cached_property
    def dvh(self) -> Mapping[str, DVH]:
        """Cumulative DVHs of the course without the bias of noise, dicompyler-core's own type.

        Of every structure that has one; not of empty ones, of couches, and of those that cannot be evaluated.
        """
        names = [
            name
            for name, structure in self.structures.structures.items()
            if structure.role != "support" and structure.occupancy.any() and not structure.flaw
        ]
        self.sampled.prepare(names, scatter=False)
        judged = {name: self.sampled.views(name).judged for name in names}
        return {name: histogram(view.dose_Gy, view.volume_cc, name) for name, view in judged.items()}

    @cached_property
    def sampled(self) -> Sampled:
        """The dose in its structures: what DVHs and metrics are read off."""
        if self.sampled_dose is not None and self.sampled_dose.dose is self.dose:
            return self.sampled_dose
        air = air_in(self.structures, self.medium.density_g_cm3)
        return Sampled(self.dose, self.structures, air=air)

    def save(self, folder: str | Path, *, overwrite: bool = False, figures: bool = True) -> Path:
        """Write the result's folder: whole or not at all.

        Parameters
        ----------
        folder : str or Path
            Must be new or empty, or hold a result with the same fingerprint, unless ``overwrite``.
        overwrite : bool
        figures : bool
            Whether to draw the report's figures, which takes most of the time of writing.

        Raises
        ------
        DataError
            When the folder holds something else.
        """
        target = Path(folder).resolve()
        check_output(target, self.fingerprint, overwrite=overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        building = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
        building.mkdir()
        try:
            stages = Stages()
            with stages.stage(WRITING[0]):
                _write_files(self, building)
            with stages.stage(WRITING[1]):
                for writer in self.writers:
                    writer(self, building, figures=figures)
            _write_timing(self.timing, stages, building / "timing.csv")
            _write_json(self, building / "result.json")
            before = target.parent / f"{building.name}.before"
            if target.exists():
                os.replace(target, before)
            os.replace(building, target)
            shutil.rmtree(before, ignore_errors=True)
        except DiskError as error:
            shutil.rmtree(building, ignore_errors=True)
            raise DiskError(str(error).replace(str(building), str(target))) from error
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        return target


def check_output(folder: Path, fingerprint: str, *, overwrite: bool = False) -> None:
    """Refuse a folder that holds anything but a result with the same fingerprint.

    ``overwrite`` replaces another plan's result, never anything else.

    Raises
    ------
    DataError
        Says what is there and how to go on.
    """
    folder = folder.resolve()
    if folder == Path.cwd() or folder in Path.cwd().parents:
        raise DataError(f"{folder}: is the working folder or holds it; choose a new folder for --out")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise DataError(f"{folder}: a file of that name exists; choose another --out")
    note = folder / "result.json"
    if note.is_file():
        if not overwrite and _fingerprint_in(note) != fingerprint:
            raise DataError(f"{folder}: holds the result of another plan; choose another --out or give --overwrite")
    elif any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty and holds no result; choose another --out")


RESULT_BYTES = 150e6
"""Room that a result is taken to need: dose, structures and image of the finest grids are compressed to less."""


def check_output_early(folder: Path, spec: PlanSpec, *, overwrite: bool = False) -> None:
    """What :func:`check_output` would refuse as far as it is known before the patient is, and room on the disk.

    Raises
    ------
    DataError, DiskError
        Says what is there and how to go on.
    """
    folder = folder.resolve()
    there = _plan_fingerprint_in(folder)
    if there is not None and there != spec.fingerprint and not overwrite:
        raise DataError(f"{folder}: holds the result of another plan; choose another --out or give --overwrite")
    check_output(folder, _fingerprint_in(folder / "result.json") or "", overwrite=overwrite)
    check_place(folder, RESULT_BYTES)


def _plan_fingerprint_in(folder: Path) -> str | None:
    """Fingerprint of the plan whose result a folder holds, without its patient; None where it holds none."""
    try:
        return validate(PlanSpec, read_toml(folder / "plan.resolved.toml"), str(folder)).fingerprint
    except SpecError:
        return None


def _fingerprint_in(note: Path) -> str | None:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))["made_from"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


TABLES = ("goals", "constraints", "skin", "history", "timing", "models")
LATER_TABLES = ("models",)
"""Tables that results made by earlier versions do not have."""


WRITING = ("write files", "write report")
"""Stages that only the folder knows of: they end after the result is made."""


def _write_timing(timing: pd.DataFrame, stages: Stages, path: Path) -> None:
    """The cost of every stage, that of writing too; a result that was written before forgets what that took."""
    before = timing[~timing["stage"].isin(WRITING)] if len(timing) else timing
    with writing(path):
        pd.concat([before, stages.table()], ignore_index=True).to_csv(path, index=False)


def _write_files(result: PlanResult, folder: Path) -> None:
    resolved = result.spec.without_places().model_dump(mode="json", exclude_none=True)
    with writing(folder / "plan.resolved.toml"):
        (folder / "plan.resolved.toml").write_text(tomli_w.dumps(resolved), encoding="utf-8")
    for name in TABLES:
        with writing(folder / f"{name}.csv"):
            getattr(result, name).to_csv(folder / f"{name}.csv", index=False)
    sigma, batches = result.dose.rel_sigma, result.dose.batches
    dose = {
        "dose_Gy": result.dose.dose_Gy,
        "rel_sigma": np.zeros(0, np.float32) if sigma is None else sigma,
        **({} if batches is None else {"deviation": batches.deviation, "primaries": np.array(batches.primaries)}),
        **_grid_arrays(result.dose.grid),
    }
    with writing(folder / "dose.npz"):
        np.savez_compressed(folder / "dose.npz", allow_pickle=False, **dose)
    with writing(folder / "case.npz"):
        np.savez_compressed(folder / "case.npz", allow_pickle=False, **_case_arrays(result))
    if result.patient is not None:
        _write_dicom(result, result.patient, folder / "dicom")


def _write_dicom(result: PlanResult, patient: Patient, folder: Path) -> None:
    """RTSTRUCT with drawn and derived structures, and RTDOSE over the imaged body, in the patient's frame."""
    folder.mkdir()
    identify = result.spec.patient.identify
    planes_z_mm = patient.image.grid.z_mm
    drawing = Drawing(result.structures.grid, planes_z_mm.tolist())
    derived = {
        name: replace(drawing.contours(s), derived=True)
        for name, s in result.structures.structures.items()
        if s.drawn_volume_cc is None and s.occupancy.any()
    }
    rois = {**patient.rois, **derived}
    dicom.write_structures(patient, rois, folder / "rtstruct.dcm", result.fingerprint, identify=identify)
    (x0, y0), (x1, y1) = patient.external.extent_xy_mm()
    (z0, z1), half = planes_z_mm[[0, -1]], patient.image.grid.spacing_zyx_mm[0] / 2
    # A voxel more on each side, so that a dose between voxels is the same in the file as in the plan.
    dz, dy, dx = result.dose.grid.spacing_zyx_mm
    dose = result.dose.cropped(
        (float(x0 - dx), float(y0 - dy), float(z0 - half - dz)),
        (float(x1 + dx), float(y1 + dy), float(z1 + half + dz)),
    )
    dicom.write_dose(dose, patient, folder / "rtdose.dcm", result.fingerprint, identify=identify)


def _grid_arrays(grid: Grid) -> dict[str, np.ndarray]:
    return {
        "shape_zyx": np.array(grid.shape_zyx),
        "spacing_zyx_mm": np.array(grid.spacing_zyx_mm),
        "origin_xyz_mm": np.array(grid.origin_xyz_mm),
    }


def _grid_from(arrays: Mapping[str, np.ndarray], prefix: str = "") -> Grid:
    keys = ("shape_zyx", "spacing_zyx_mm", "origin_xyz_mm")
    shape, spacing, origin = (arrays[prefix + key].tolist() for key in keys)
    return Grid(tuple(shape), tuple(spacing), tuple(origin))


def _case_arrays(result: PlanResult) -> dict[str, np.ndarray]:
    arrays = {
        "ct": np.round(result.ct.values).astype(np.int16),
        **{f"ct_{key}": value for key, value in _grid_arrays(result.ct.grid).items()},
        "density_g_cm3": result.medium.density_g_cm3,
        "material": result.medium.material,
        **_grid_arrays(result.medium.grid),
    }
    for number, structure in enumerate(result.structures.structures.values()):
        arrays[f"structure_{number}"] = structure.occupancy
        if structure.drawn is not None:
            arrays |= _contour_arrays(structure.drawn.contours, f"drawn_{number}_")
    for number, (beamlets, mu) in enumerate(zip(result.fluence.maps, result.fluence.mu, strict=True)):
        arrays[f"lattice_{number}"] = beamlets.lattice_uv
        arrays[f"mu_{number}"] = mu
    return arrays


def _planes_of(roi: Roi) -> dict[str, Any]:
    """What the contours of a structure stand for along z."""
    return {"slice_spacing_mm": roi.slice_spacing_mm, "lone_slice_mm": roi.lone_slice_mm, "ends": roi.ends}


def _contour_arrays(contours: Sequence[Contour], prefix: str) -> dict[str, np.ndarray]:
    """Planes, numbers of points, and all points one after the other."""
    return {
        f"{prefix}z_mm": np.array([contour.z_mm for contour in contours]),
        f"{prefix}count": np.array([len(contour.points_xy_mm) for contour in contours]),
        f"{prefix}points_xy_mm": np.concatenate([contour.points_xy_mm for contour in contours]),
    }


def _contours_from(arrays: Mapping[str, np.ndarray], prefix: str) -> tuple[Contour, ...]:
    ends = np.cumsum(arrays[f"{prefix}count"])
    loops = np.split(arrays[f"{prefix}points_xy_mm"], ends[:-1])
    return tuple(Contour(float(z), loop) for z, loop in zip(arrays[f"{prefix}z_mm"], loops, strict=True))


def _write_json(result: PlanResult, path: Path) -> None:
    certificate = result.fluence.certificate
    record = {
        "format": 1,
        "label": result.label,
        "isocentre_xyz_mm": result.isocentre_xyz_mm,
        "field_xyz_T": result.field_xyz_T,
        "standing": result.standing.as_dict(),
        "constraints_met": result.constraints_met,
        "made_from": dict(result.made_from),
        "dose": {"fractions": result.dose.fractions, "provenance": _plain(result.dose.provenance)},
        "materials": result.medium.materials,
        "ct_quantity": result.ct.quantity,
        "structures": [
            {
                "name": s.name,
                "role": s.role,
                "drawn_volume_cc": s.drawn_volume_cc,
                "flaw": s.flaw,
                "derived": s.derived,
                "drawn": None if s.drawn is None else _planes_of(s.drawn),
                "continued_cc": s.continued_cc,
            }
            for s in result.structures.structures.values()
        ],
        "beams": [
            {"beam": _plain(m.beam), "size_uv_mm": m.size_uv_mm, "mu": float(mu.sum())}
            for m, mu in zip(result.fluence.maps, result.fluence.mu, strict=True)
        ],
        "escalation": None if result.escalation is None else dict(result.escalation),
        "certificate": None if certificate is None else _plain(certificate),
        "models": json.loads(result.models.to_json(orient="records", double_precision=15)),
        "notes": [[note.severity, note.text] for note in result.notes.entries],
        "statements": list(result.statements),
    }
    temporary = path.with_suffix(".partial")
    with writing(path):
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
        os.replace(temporary, path)


def _plain(noun: Any) -> dict[str, Any]:
    return {name: getattr(noun, name) for name in noun.__dataclass_fields__}


def load_result(folder: str | Path) -> PlanResult:
    """Read a result's folder back. The patient is not part of it: DICOM output needs it read again.

    Raises
    ------
    DataError
        When the folder holds no whole result.
    """
    place = Path(folder)
    if not (place / "result.json").is_file():
        raise DataError(f"{place}: holds no result (result.json is missing: the plan did not finish)")
    record = json.loads((place / "result.json").read_text(encoding="utf-8"))
    spec = validate(PlanSpec, read_toml(place / "plan.resolved.toml"), str(place / "plan.resolved.toml"))
    with np.load(place / "case.npz") as case, np.load(place / "dose.npz") as stored:
        grid = _grid_from(case)
        structures = {
            s["name"]: Structure(
                s["name"],
                s["role"],
                case[f"structure_{i}"],
                s["drawn_volume_cc"],
                s.get("flaw", ""),
                s.get("derived", False),
                drawn=_drawn_from(case, s, i),
                continued_cc=s.get("continued_cc", 0.0),
            )
            for i, s in enumerate(record["structures"])
        }
        maps = tuple(
            BeamletMap(Beam(**_beam(b["beam"])), case[f"lattice_{i}"], tuple(b["size_uv_mm"]))
            for i, b in enumerate(record["beams"])
        )
        certificate = None if record["certificate"] is None else Certificate(**record["certificate"])
        fluence = Fluence(maps, tuple(case[f"mu_{i}"] for i in range(len(maps))), certificate)
        sigma = stored["rel_sigma"]
        provenance = dict(record["dose"]["provenance"])
        provenance["notes"] = tuple(provenance["notes"])
        return PlanResult(
            spec=spec,
            label=record["label"],
            patient=None,
            ct=Image(_grid_from(case, "ct_"), case["ct"].astype(np.float32), record["ct_quantity"]),
            structures=StructureSet(grid, structures),
            medium=Medium(grid, case["density_g_cm3"], case["material"], tuple(record["materials"])),
            isocentre_xyz_mm=tuple(record["isocentre_xyz_mm"]),
            field_xyz_T=tuple(record["field_xyz_T"]),
            fluence=fluence,
            dose=Dose(
                _grid_from(stored),
                stored["dose_Gy"],
                sigma if sigma.size else None,
                record["dose"]["fractions"],
                Provenance(**provenance),
                Batches(stored["deviation"], tuple(stored["primaries"].tolist())) if "deviation" in stored else None,
            ),
            notes=Notes(tuple(Note(severity, text) for severity, text in record["notes"])),
            statements=tuple(record["statements"]),
            made_from=record["made_from"],
            escalation=record.get("escalation"),
            **{name: _table(place / f"{name}.csv") for name in TABLES},
        )


def noise_beside(path: Path, dose: Dose) -> Dose:
    """The dose of a result's own RTDOSE with the batches that the result keeps, so that its noise is known there too.

    Parameters
    ----------
    path : Path
        Of the RTDOSE: in the folder ``dicom`` of a result, or anywhere else.
    dose : Dose
        As it was read.

    Returns
    -------
    Dose
        As given where the file does not lie in a result's folder, or is not that result's dose.
    """
    folder = path.resolve().parent.parent
    if not ((folder / "result.json").is_file() and (folder / "dose.npz").is_file()):
        return dose
    with np.load(folder / "dose.npz") as stored:
        if "deviation" not in stored:
            return dose
        grid = _grid_from(stored)
        part = _part_of(grid, dose.grid)
        if part is None or not np.allclose(
            stored["dose_Gy"][part], dose.dose_Gy, rtol=0, atol=SAME * dose.dose_Gy.max()
        ):
            return dose
        deviation = stored["deviation"][(slice(None), *part)]
        return replace(dose, batches=Batches(deviation, tuple(stored["primaries"].tolist())))


SAME = 2e-5
"""Of the largest dose: an RTDOSE of 16 bits rounds by less."""


def _part_of(whole: Grid, part: Grid) -> tuple[slice, ...] | None:
    """Where a grid lies in another of the same lattice; None where it does not."""
    if not np.allclose(whole.spacing_zyx_mm, part.spacing_zyx_mm, atol=1e-4):
        return None
    first = whole.index_zyx(np.array([part.origin_xyz_mm]))[0]
    start = np.rint(first).astype(int)
    if not np.allclose(first, start, atol=1e-2) or start.min() < 0:
        return None
    slices = tuple(slice(int(a), int(a) + n) for a, n in zip(start, part.shape_zyx, strict=True))
    return slices if all(s.stop <= n for s, n in zip(slices, whole.shape_zyx, strict=True)) else None


def _drawn_from(case: Mapping[str, np.ndarray], saved: Mapping[str, Any], number: int) -> Roi | None:
    """The contours of a structure, where it was drawn."""
    planes = saved.get("drawn")
    if planes is None:
        return None
    contours = _contours_from(case, f"drawn_{number}_")
    return Roi(saved["name"], saved["role"], contours, derived=saved.get("derived", False), **planes)


def _table(path: Path) -> pd.DataFrame:
    """A table as it was saved; an empty text is a text, not a number that is missing."""
    if path.stem in LATER_TABLES and not path.is_file():
        return pd.DataFrame()
    try:
        table = pd.read_csv(path, dtype={"reason": str})  # mostly empty, so its type cannot be seen from the file
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    words = [name for name in table.columns if table[name].dtype.kind not in "ifb"]
    return table.fillna(dict.fromkeys(words, ""))


def _beam(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "isocentre_xyz_mm": tuple(values["isocentre_xyz_mm"])}


def with_patient(result: PlanResult, patient: Patient) -> PlanResult:
    """The result with its patient at hand again, for DICOM output."""
    return replace(result, patient=patient)
