"""What stands in the way of a plan, and what it will cost: asked before anything expensive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mrlinac import transport
from mrlinac.anatomy.patient import Patient, lies_on, side_below
from mrlinac.anatomy.structures import StructureSet
from mrlinac.errors import DataError, MrlinacError, raise_all
from mrlinac.protocol.kinds import DoseKind
from mrlinac.protocol.model import Protocol
from mrlinac.recipe.case import Case, beams_of, prepare
from mrlinac.recipe.spec import PlanSpec
from mrlinac.spec import Spec


@dataclass(frozen=True)
class Check:
    """The answer.

    Attributes
    ----------
    problems : tuple of str
        Each stands in the way, with its remedy.
    notes, estimates : tuple of str
        What to know; memory and time.
    case : Case or None
        What the engines will work on, to hand to ``make_plan``; None where a problem kept it from being made.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    estimates: tuple[str, ...]
    case: Case | None

    def raise_problems(self) -> None:
        """Raise one DataError with every problem; do nothing when there is none."""
        raise_all(DataError, "the plan cannot be made:", self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"problems": list(self.problems), "notes": list(self.notes), "estimates": list(self.estimates)}


def check(spec: PlanSpec, patient: Patient) -> Check:
    """Collect every room's problems, and estimate memory and time.

    Parameters
    ----------
    spec : PlanSpec
    patient : Patient
    """
    problems = [*gantry_problems(spec), *patient_problems(patient)]
    case = None
    if not problems:
        try:
            case = prepare(spec, patient)
        except MrlinacError as error:
            problems.append(str(error))
    if case is None:
        return Check(tuple(problems), (), (), None)
    problems += spec.protocol.problems(case.structures)
    problems += flawed_structure_problems(spec.protocol, case.structures)
    problems += field_size_problems(spec, case)
    return Check(tuple(problems), tuple(map(str, case.notes.entries)), tuple(estimates(spec, case)), case)


def gantry_problems(spec: PlanSpec) -> list[str]:
    """Gantry angles that the machine blocks."""
    return [
        f"gantry {gantry_deg:g}°: {reason}; choose another angle in technique.gantry_deg"
        for gantry_deg in spec.technique.gantry_deg
        if (reason := spec.machine.blocked_reason(gantry_deg))
    ]


def patient_problems(patient: Patient) -> list[str]:
    """What every plan needs of a patient."""
    problems = []
    problems += couch_problems(patient)
    if not any(roi.role == "external" for roi in patient.rois.values()):
        remedy = ', or have it derived from the CT: derive = ["External"] in patient.toml (mrlinac import --derive)'
        remedy = remedy if patient.image.quantity == "HU" else ""
        problems.append(f"no structure has the role 'external': draw External (the skin){remedy}")
    for roi in patient.rois.values():
        planes_mm = np.unique([contour.z_mm for contour in roi.contours])
        gap = int(np.argmax(np.diff(planes_mm))) if len(planes_mm) > 1 else 0
        if roi.role == "external" and len(planes_mm) > 1 and np.diff(planes_mm)[gap] > 1.5 * roi.slice_spacing_mm:
            problems.append(
                f"{roi.name} has no contour between z = {planes_mm[gap]:g} and {planes_mm[gap + 1]:g} mm: "
                "the body would be air there; complete the outline"
            )
    if "CTV" not in patient.rois:
        problems.append("no CTV: the isocentre and the PTV are made from it; draw CTV or map its name")
    return problems


def couch_problems(patient: Patient) -> list[str]:
    """A height of the couch that is none for the way the patient lies."""
    axis, _ = lies_on(patient.position)
    used, other = ("couch_top_y_mm", "couch_top_x_mm") if axis == 1 else ("couch_top_x_mm", "couch_top_y_mm")
    if patient.decisions is None or getattr(patient.decisions, other) is None:
        return []
    return [
        f"patient.toml: {other} is no height of the couch for a patient who lies {patient.position}, on the"
        f" {side_below(patient.position)} side: give {used}, or neither"
    ]


def flawed_structure_problems(protocol: Protocol, structures: StructureSet) -> list[str]:
    """Objectives and constraints on a structure that cannot be evaluated: it would steer the plan.

    Goals are no problem: they are reported as not evaluable.
    """
    asked: list[tuple[str, Spec]] = [(f"the objective {o.name}", o.of) for o in protocol.objectives]
    asked += [(f"the constraint {c.name}", c.of) for c in protocol.constraints]
    return [
        f"{what} cannot be used: {structures[of.structure].flaw}; take it out of the protocol, or give a CT that "
        "holds the whole body"
        for what, of in asked
        if isinstance(of, DoseKind) and of.structure in structures and structures[of.structure].flaw
    ]


def field_size_problems(spec: PlanSpec, case: Case) -> list[str]:
    """A target that the collimator cannot cover from some gantry angle."""
    open_all = spec.machine.mlc.model_copy(update={"half_field_uv_mm": (1e4, 1e4)})
    wide = spec.model_copy(update={"machine": spec.machine.model_copy(update={"mlc": open_all})})
    needed = beams_of(wide, case.structures, case.isocentre_xyz_mm, case.patient.position)
    target = spec.protocol.prescription.target
    return [
        f"{target}: at gantry {beam.beam.gantry_deg:g}° {len(want) - len(beam)} of {len(want)} beamlets lie outside "
        "the field of the collimator; a smaller target or another machine is needed"
        for beam, want in zip(case.maps, needed, strict=True)
        if len(want) > len(beam)
    ]


def estimates(spec: PlanSpec, case: Case) -> list[str]:
    """Memory and photons, as sentences."""
    guess = transport.estimate(case.medium, case.maps, photons_per_beamlet=spec.numerics.photons_per_beamlet)
    nz, ny, nx = case.grid.shape_zyx
    return [
        f"grid {nx} × {ny} × {nz} voxels of {spec.numerics.grid_mm:g} mm; {case.beamlets} beamlets",
        f"influence: {guess['photons'] / 1e6:.0f} million photons, about {guess['entries'] / 1e6:.0f} million entries",
        f"memory of the Monte Carlo: about {guess['bytes'] / 1e9:.1f} GB at its peak",
        spec.numerics.statement,
    ]
