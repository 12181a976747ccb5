"""A result's folder: whole or not there, with the version of its format."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tomli_w

from mrlinac import dicom
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.shells import Drawing
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose.dose import Batches, Dose
from mrlinac.errors import DataError, DiskError, SpecError, check_place, writing
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Certificate, Fluence
from mrlinac.notes import Note, Notes
from mrlinac.provenance import Provenance
from mrlinac.recipe import result_arrays as arrays
from mrlinac.recipe.isotoxic import EscalationRecord
from mrlinac.recipe.result import PlanResult
from mrlinac.recipe.spec import PlanSpec
from mrlinac.recipe.stages import Stages
from mrlinac.spec import read_toml, validate

FORMAT = 2
"""Of ``result.json`` and the arrays beside it: raised where an older version would read them wrong."""

TABLES = ("goals", "constraints", "skin", "history", "timing", "models", "fluence_goals")
OPTIONAL_TABLES = ("models", "fluence_goals")
"""Tables that some results do not have: those of earlier versions, and of plans that are a fluence."""


def save(result: PlanResult, folder: Path, *, overwrite: bool, figures: bool) -> Path:
    """Write a result's folder; see :meth:`mrlinac.recipe.result.PlanResult.save`.

    Parameters
    ----------
    result : PlanResult
    folder : Path
    overwrite : bool
    figures : bool

    Returns
    -------
    Path
        Of the folder, absolute.

    Raises
    ------
    DataError, DiskError
        The folder holds something else, or cannot be written.
    """
    target = folder.resolve()
    check_output(target, result.fingerprint, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    building.mkdir()
    try:
        stages = Stages()
        with stages.stage(WRITING[0]):
            _write_files(result, building)
        with stages.stage(WRITING[1]):
            for writer in result.writers:
                writer(result, building, figures=figures)
        _write_timing(result.timing, stages, building / "timing.csv")
        _write_json(result, building / "result.json")
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

    Parameters
    ----------
    folder : Path
    fingerprint : str
        Of the result that is to be written.
    overwrite : bool
        Replace another plan's result, never anything else.

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

    Parameters
    ----------
    folder : Path
    spec : PlanSpec
    overwrite : bool
        Replace another plan's result.

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
        written = json.loads(note.read_text(encoding="utf-8"))["made_from"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(written)


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
        if name == "fluence_goals" and result.segments is None:
            continue
        with writing(folder / f"{name}.csv"):
            getattr(result, name).to_csv(folder / f"{name}.csv", index=False)
    sigma, batches = result.dose.rel_sigma, result.dose.batches
    dose = {
        "dose_Gy": result.dose.dose_Gy,
        "rel_sigma": np.zeros(0, np.float32) if sigma is None else sigma,
        **({} if batches is None else {"deviation": batches.deviation, "primaries": np.array(batches.primaries)}),
        **arrays.grid_arrays(result.dose.grid),
    }
    with writing(folder / "dose.npz"):
        np.savez_compressed(folder / "dose.npz", allow_pickle=False, **dose)
    with writing(folder / "case.npz"):
        np.savez_compressed(folder / "case.npz", allow_pickle=False, **arrays.case_arrays(result))
    if result.patient is not None:
        _write_dicom(result, result.patient, folder / "dicom")


def _write_dicom(result: PlanResult, patient: Patient, folder: Path) -> None:
    """RTSTRUCT with drawn and derived structures, RTPLAN of segments, RTDOSE of the imaged body, in the patient's frame."""
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
    structure_set_uid = dicom.write_structures(
        patient, rois, folder / "rtstruct.dcm", result.fingerprint, identify=identify
    )
    plan_uid = "" if result.segments is None else _write_plan(result, patient, tuple(rois), structure_set_uid, folder)
    (x0, y0), (x1, y1) = patient.external.extent_xy_mm()
    (z0, z1), half = planes_z_mm[[0, -1]], patient.image.grid.spacing_zyx_mm[0] / 2
    # A voxel more on each side, so that a dose between voxels is the same in the file as in the plan.
    dz, dy, dx = result.dose.grid.spacing_zyx_mm
    dose = result.dose.cropped(
        (float(x0 - dx), float(y0 - dy), float(z0 - half - dz)),
        (float(x1 + dx), float(y1 + dy), float(z1 + half + dz)),
    )
    dicom.write_dose(dose, patient, folder / "rtdose.dcm", result.fingerprint, plan_uid=plan_uid, identify=identify)


def _write_plan(
    result: PlanResult, patient: Patient, rois: tuple[str, ...], structure_set_uid: str, folder: Path
) -> str:
    """RTPLAN of the segments; its SOP Instance UID."""
    assert result.segments is not None
    prescription = result.protocol.prescription
    number = rois.index(prescription.target) + 1 if prescription.target in rois else None
    prescribed = dicom.PrescribedTo(prescription.dose_Gy, prescription.fractions, prescription.target, number)
    return dicom.write_plan(
        result.segments,
        result.spec.machine,
        patient,
        folder / "rtplan.dcm",
        result.fingerprint,
        prescribed=prescribed,
        structure_set_uid=structure_set_uid,
        label=f"{result.spec.machine.name} {prescription.dose_Gy:g}/{prescription.fractions}",
        identify=result.spec.patient.identify,
    )


def _write_json(result: PlanResult, path: Path) -> None:
    certificate, of_fluence = result.delivery.certificate, result.fluence.certificate
    record = {
        "format": FORMAT,
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
                "drawn": None if s.drawn is None else arrays.planes_of(s.drawn),
                "continued_cc": s.continued_cc,
            }
            for s in result.structures.structures.values()
        ],
        "beams": [
            {"beam": _plain(m.beam), "size_uv_mm": m.size_uv_mm, "mu": float(mu.sum())}
            for m, mu in zip(result.fluence.maps, result.fluence.mu, strict=True)
        ],
        "escalation": None if result.escalation is None else result.escalation.as_dict(),
        "certificate": None if certificate is None else _plain(certificate),
        "fluence_certificate": None if of_fluence is None else _plain(of_fluence),
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


def _certificate(values: Mapping[str, Any] | None) -> Certificate | None:
    return None if values is None else Certificate(**values)


def load_result(folder: str | Path) -> PlanResult:
    """Read a result from its folder.

    Parameters
    ----------
    folder : path
        As :meth:`mrlinac.PlanResult.save` wrote it.

    Returns
    -------
    PlanResult

    Raises
    ------
    DataError
        No result, one that is not whole, or one of a later format.
    """
    place = Path(folder)
    if not (place / "result.json").is_file():
        raise DataError(f"{place}: holds no result (result.json is missing: the plan did not finish)")
    record = json.loads((place / "result.json").read_text(encoding="utf-8"))
    if not isinstance(record.get("format"), int) or record["format"] > FORMAT:
        raise DataError(
            f"{place}: result.json has format {record.get('format')!r}; this version of mrlinac reads up to {FORMAT}. "
            "Read it with the version that wrote it, or a later one"
        )
    spec = validate(PlanSpec, read_toml(place / "plan.resolved.toml"), str(place / "plan.resolved.toml"))
    with np.load(place / "case.npz") as case, np.load(place / "dose.npz") as stored:
        grid = arrays.grid_from(case)
        structures = {
            s["name"]: Structure(
                s["name"],
                s["role"],
                case[f"structure_{i}"],
                s["drawn_volume_cc"],
                s.get("flaw", ""),
                s.get("derived", False),
                drawn=arrays.drawn_from(case, s, i),
                continued_cc=s.get("continued_cc", 0.0),
            )
            for i, s in enumerate(record["structures"])
        }
        maps = tuple(
            BeamletMap(Beam(**_beam(b["beam"])), case[f"lattice_{i}"], tuple(b["size_uv_mm"]))
            for i, b in enumerate(record["beams"])
        )
        certificate = _certificate(record["certificate"])
        of_fluence = _certificate(record.get("fluence_certificate", record["certificate"]))
        fluence = Fluence(maps, tuple(case[f"mu_{i}"] for i in range(len(maps))), of_fluence)
        sigma = stored["rel_sigma"]
        provenance = dict(record["dose"]["provenance"])
        provenance["notes"] = tuple(provenance["notes"])
        return PlanResult(
            spec=spec,
            label=record["label"],
            patient=None,
            ct=Image(arrays.grid_from(case, "ct_"), case["ct"].astype(np.float32), record["ct_quantity"]),
            structures=StructureSet(grid, structures),
            medium=Medium(grid, case["density_g_cm3"], case["material"], tuple(record["materials"])),
            isocentre_xyz_mm=tuple(record["isocentre_xyz_mm"]),
            field_xyz_T=tuple(record["field_xyz_T"]),
            fluence=fluence,
            segments=arrays.segments_from(case, fluence.beams, spec.machine.mlc, certificate),
            dose=Dose(
                arrays.grid_from(stored),
                stored["dose_Gy"],
                sigma if sigma.size else None,
                record["dose"]["fractions"],
                Provenance(**provenance),
                Batches(stored["deviation"], tuple(stored["primaries"].tolist())) if "deviation" in stored else None,
            ),
            notes=Notes(tuple(Note(severity, text) for severity, text in record["notes"])),
            statements=tuple(record["statements"]),
            made_from=record["made_from"],
            escalation=None if record.get("escalation") is None else EscalationRecord.from_dict(record["escalation"]),
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
        grid = arrays.grid_from(stored)
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


def _table(path: Path) -> pd.DataFrame:
    """A table as it was saved; an empty text is a text, not a number that is missing."""
    if path.stem in OPTIONAL_TABLES and not path.is_file():
        return pd.DataFrame()
    try:
        table = pd.read_csv(path, dtype={"reason": str})  # mostly empty, so its type cannot be seen from the file
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    words = [name for name in table.columns if table[name].dtype.kind not in "ifb"]
    return table.fillna(dict.fromkeys(words, ""))


def _beam(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "isocentre_xyz_mm": tuple(values["isocentre_xyz_mm"])}
