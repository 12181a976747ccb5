"""The recipe of a second check: the Monte Carlo dose of any system's RTPLAN, beside the dose that came with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mrlinac import dicom, spec, transport
from mrlinac.anatomy.calculation_grid import calculation_grid
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.dicom import PlanObject
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError, raise_all
from mrlinac.machine import model
from mrlinac.machine.beams import field_xyz_T
from mrlinac.machine.control_points import in_segments, leaves_of
from mrlinac.machine.model import Machine
from mrlinac.notes import Note, Notes
from mrlinac.provenance import fingerprint, versions
from mrlinac.recipe import shared
from mrlinac.recipe.case import couch_of
from mrlinac.recipe.made_from import made_from, stream_seed
from mrlinac.recipe.stages import Progress, Stages, silent

SAME_SAD_mm, SAME_MV = 1.0, 0.05
"""Largest differences of a plan and a machine that count as the same."""


@dataclass(frozen=True)
class SecondCheck:
    """The Monte Carlo dose of an RTPLAN.

    Attributes
    ----------
    plan : PlanObject
    machine : Machine
    patient : Patient
    dose : Dose
        Of the course, over the body.
    field_T : float
        Along the machine's direction.
    segments : int
        Steps of the integral over the plan's control points.
    statements : tuple of str
        What was taken as it is, and what is neglected.
    notes : Notes
        Of the plan and of the medium.
    made_from : mapping
        Fingerprint, seed, versions, histories.
    """

    plan: PlanObject
    machine: Machine
    patient: Patient
    dose: Dose
    field_T: float
    segments: int
    statements: tuple[str, ...]
    notes: Notes
    made_from: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record, of plain values.

        Returns
        -------
        dict
        """
        return {
            "plan": self.plan.uid,
            "beams": len(self.plan.beams),
            "MU": self.plan.total_mu,
            "fractions": self.plan.fractions,
            "machine": self.machine.name,
            "field_T": self.field_T,
            "steps": self.segments,
            "maximum_Gy": float(self.dose.dose_Gy.max()),
            "statements": list(self.statements),
            "notes": [{"severity": note.severity, "text": note.text} for note in self.notes.entries],
            **self.made_from,
        }

    def write_dose(self, path: str | Path) -> Path:
        """Write the dose as RTDOSE in the patient's frame; it refers to the plan.

        Parameters
        ----------
        path : path

        Returns
        -------
        Path
        """
        (x0, y0), (x1, y1) = self.patient.external.extent_xy_mm()
        z_mm, (dz, dy, dx) = self.patient.image.grid.z_mm, self.dose.grid.spacing_zyx_mm
        low, high = (
            (float(x0 - dx), float(y0 - dy), float(z_mm[0] - dz)),
            (float(x1 + dx), float(y1 + dy), float(z_mm[-1] + dz)),
        )
        dose = self.dose.cropped(low, high)
        dicom.write_dose(dose, self.patient, path, str(self.made_from["fingerprint"]), plan_uid=self.plan.uid)
        return Path(path)


def machine_for(plan: PlanObject, name: str | Path | None = None) -> Machine:
    """The machine that an RTPLAN was made for, or the named one if the plan can be given on it.

    Parameters
    ----------
    plan : PlanObject
    name : str or path, optional
        Without it the machine files are searched for one of the plan's distance, leaf travel, energy and filter.

    Returns
    -------
    Machine

    Raises
    ------
    DataError
        With what does not fit.
    """
    if name is not None:
        machine = model.load(name)
        raise_all(DataError, f"the plan cannot be given on {machine.title}:", _misfits(plan, machine))
        return machine
    known = [model.load(one) for one in spec.names("machines")]
    reasons = {machine.name: _misfits(plan, machine, leaves=True) for machine in known}
    fitting = [machine for machine in known if not reasons[machine.name]]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise DataError(f"the plan fits {', '.join(m.name for m in fitting)}: choose one with --machine")
    lines = [f"{name}: {'; '.join(why)}" for name, why in reasons.items()]
    raise DataError("no machine file fits the plan. Write one, or choose with --machine:\n" + "\n".join(lines))


def _misfits(plan: PlanObject, machine: Machine, *, leaves: bool = False) -> list[str]:
    """Why a plan cannot be given on a machine; with ``leaves`` its collimator has to be the same as well."""
    reasons = []
    distances_mm = sorted({beam.sad_mm for beam in plan.beams})
    if any(abs(mm - machine.sad_mm) > SAME_SAD_mm for mm in distances_mm):
        said = ", ".join(f"{mm:g}" for mm in distances_mm)
        reasons.append(f"source and axis are {said} mm apart in the plan, {machine.sad_mm:g} mm on the machine")
    nominal = machine.photons.nominal_MV
    if nominal is not None and any(abs(mv - nominal) > SAME_MV for mv in plan.energies_MV):
        said = ", ".join(f"{mv:g}" for mv in plan.energies_MV)
        reasons.append(f"the plan has beams of {said} MV, the machine file is of {nominal:g} MV")
    if plan.flattening_filter != machine.photons.flattening_filter:
        with_filter = "with" if plan.flattening_filter else "without"
        reasons.append(f"the plan's beams are {with_filter} a flattening filter, the machine's are not")
    if leaves:
        own = {(beam.travel, len(beam.leaf_edges_mm) - 1) for beam in plan.beams if beam.leaf_edges_mm is not None}
        if own and own != {(machine.mlc.travel, machine.mlc.pairs)}:
            said = ", ".join(f"{pairs} pairs along {'X' if travel == 'u' else 'Y'}" for travel, pairs in sorted(own))
            reasons.append(f"the plan's leaves are {said}")
    return reasons


def second_check(
    plan: PlanObject,
    patient: Patient,
    machine: Machine,
    *,
    field_T: float | None = None,
    couch: bool = True,
    grid_mm: float = 3.0,
    rel_sigma: float = 0.02,
    seed: int = 1,
    same_frame: bool = False,
    progress: Progress = silent,
    threads: int | None = None,
    device: Literal["cpu", "gpu"] = "cpu",
) -> SecondCheck:
    """The Monte Carlo dose of an RTPLAN in a patient.

    The plan's own leaves, jaws, angles and MU are taken; source, spectrum, transmission and couch are the machine file's.

    Parameters
    ----------
    plan : PlanObject
    patient : Patient
        Its densities as ``patient.toml`` states them.
    machine : Machine
        From :func:`machine_for`.
    field_T : float, optional
        Along the machine's direction, or along IEC fixed +Y for a machine without a field. The machine's by default.
    couch : bool
        Whether the machine's couch lies beneath the patient.
    grid_mm : float
        Voxel size.
    rel_sigma : float
        Mean relative standard deviation above half of the maximum.
    seed : int
    same_frame : bool
        Take plan and patient for lying in one frame of reference although the files say otherwise.
    progress : function of (stage, done, total, text)
    threads : int, optional
    device : {"cpu", "gpu"}

    Returns
    -------
    SecondCheck

    Raises
    ------
    DataError, PhysicsError, MissingExtraError, DeviceError
        What stands in the way; all problems of the inputs at once.
    """
    transport.check_device(device)
    problems = _misfits(plan, machine)
    if plan.position and plan.position != patient.position:
        problems.append(f"the plan is for a patient who lies {plan.position}, the image is {patient.position}")
    if plan.frame_uid and patient.frame_uid and plan.frame_uid != patient.frame_uid and not same_frame:
        problems.append(f"plan and image state different frames of reference. {dicom.SAME_FRAME}")
    try:
        mlc = leaves_of(plan.beams, machine.mlc)
    except ValueError as error:
        problems.append(f"{error}: one collimator a plan")
        mlc = machine.mlc
    raise_all(DataError, "the plan cannot be recalculated:", problems)
    stages = Stages(progress)
    with stages.stage("anatomy"):
        under = couch_of(machine, patient) if couch else None
        grid = calculation_grid(patient, under, grid_mm)
        told = patient.decisions or PatientFile()
        overrides = told.overrides(patient.external.name, {})
        drawn = shared.rasterise(patient.rois, grid)
        medium, notes = shared.medium_of(patient, grid, drawn, couch=under, overrides=overrides, metal=told.metal)
    segments = in_segments(plan.beams, mlc, patient.position)
    size_T = float(np.linalg.norm(machine.field_iec_T)) if field_T is None else field_T
    iec = np.array(machine.field_iec_T if machine.has_field else (0.0, 1.0, 0.0))
    field_at = field_xyz_T((iec * (size_T / np.linalg.norm(iec))).tolist(), patient.position)
    with stages.stage("final dose") as tell:
        fraction = transport.dose(
            medium,
            segments,
            machine,
            field_xyz_T=field_at,
            target_rel_sigma=rel_sigma,
            seed=stream_seed(seed, "second check"),
            threads=threads,
            device=device,
            progress=tell,
        )
    course = fraction.course(plan.fractions)
    content = fingerprint("second check", plan.uid, segments.vector, machine.model_dump(mode="json"), list(field_at),
                          patient.image, grid_mm, rel_sigma, seed, couch)  # fmt: skip
    return SecondCheck(
        plan=plan,
        machine=machine,
        patient=patient,
        dose=course,
        field_T=size_T,
        segments=len(segments),
        statements=_statements(plan, machine, len(segments), size_T, couch),
        notes=Notes((*plan.notes.entries, *notes.entries, *_field_notes(field_at))),
        made_from={"fingerprint": content, "seed": seed, "versions": versions(), **made_from(course)},
    )


def _field_notes(field_at: Sequence[float]) -> tuple[Note, ...]:
    return tuple(Note("warning", text) for text in transport.field_notes(field_at))


def _statements(plan: PlanObject, machine: Machine, segments: int, field_T: float, couch: bool) -> tuple[str, ...]:
    points = sum(len(beam.points) for beam in plan.beams)
    return (
        f"RTPLAN of {len(plan.beams)} beams, {points} control points, {plan.total_mu:.1f} MU a fraction, "
        f"{plan.fractions} fractions: integrated in {segments} steps.",
        f"Machine model: {machine.title}, at {field_T:g} T; leaves, jaws, angles and MU are the plan's. "
        "It is a model after published figures, not of the clinic's own machine.",
        *(f"Neglected: {text}." for text in machine.neglected),
        *(() if couch else ("No couch.",)),
    )
