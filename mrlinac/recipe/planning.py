"""The recipe of a plan, straight down: the picture of the data flow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from mrlinac import optimise, transport
from mrlinac.anatomy.patient import Patient
from mrlinac.dose.dose import Dose
from mrlinac.machine.beams import Fluence, field_xyz_T
from mrlinac.provenance import fingerprint, versions
from mrlinac.recipe import judge
from mrlinac.recipe.case import Case, prepare
from mrlinac.recipe.result import PlanResult
from mrlinac.recipe.spec import PlanSpec
from mrlinac.recipe.stages import Progress, Stages, silent
from mrlinac.recipe.stored import influence_of
from mrlinac.store import Store


def make_plan(
    spec: PlanSpec,
    patient: Patient,
    *,
    case: Case | None = None,
    progress: Progress = silent,
    threads: int | None = None,
    store: Store | None = None,
) -> PlanResult:
    """Plan a patient.

    Parameters
    ----------
    spec : PlanSpec
    patient : Patient
    case : Case, optional
        What :func:`~mrlinac.recipe.check.check` has prepared already.
    progress : function of (stage, done, total, text)
    threads : int, optional
        Threads of the Monte Carlo (default: all cores); the result does not depend on it.
    store : Store, optional
        Where influences are kept; the user's cache by default.

    Returns
    -------
    PlanResult

    Raises
    ------
    DataError, SpecError, PhysicsError, SolverError
        What stands in the way.
    """
    stages = Stages(progress)
    store = store or Store.default()
    numerics, protocol = spec.numerics, spec.protocol

    with stages.stage("anatomy"):
        case = case or prepare(spec, patient)

    with stages.stage("influence") as tell:
        influence = influence_of(spec, case, tell=tell, store=store, threads=threads)

    def forward(fluence: Fluence, rel_sigma: float, seed: int, stage: str) -> Dose:
        with stages.stage(stage) as tell:
            return transport.dose(
                case.medium,
                fluence,
                spec.machine,
                field_xyz_T=case.field_xyz_T,
                target_rel_sigma=rel_sigma,
                seed=seed,
                threads=threads,
                progress=tell,
            )

    with stages.stage("optimise") as tell:
        solution = optimise.solve(influence, case.structures, protocol, relax=True, progress=tell)

    fluence = solution.fluence
    dose = forward(fluence, numerics.final_rel_sigma, numerics.seed, "final dose")
    with stages.stage("judge"):
        return judged(spec, case, fluence, dose.course(protocol.prescription.fractions), solution, stages)


def judged(spec, case, fluence, dose, solution, stages) -> PlanResult:
    """Goals, constraints and skin on the forward dose, and all that belongs to a result."""
    structures = case.structures
    duals = {limit.name: limit.dual_per_Gy for limit in solution.limits}
    return PlanResult(
        spec=spec,
        label=case.patient.label,
        patient=case.patient,
        ct=case.patient.image.cropped(case.grid.lower_xyz_mm, case.grid.upper_xyz_mm),
        structures=structures,
        medium=case.medium,
        isocentre_xyz_mm=case.isocentre_xyz_mm,
        field_xyz_T=case.field_xyz_T,
        fluence=fluence,
        dose=dose,
        goals=judge.goals_table(spec.protocol, dose, structures),
        constraints=judge.constraints_table(spec.protocol, dose, structures, duals),
        skin=judge.skin_table(dose, structures),
        history=pd.DataFrame(),
        timing=stages.table(),
        notes=case.notes,
        statements=tuple(map(str, solution.thinning)),
        made_from={
            "fingerprint": fingerprint_of(spec, case.patient),
            "seed": spec.numerics.seed,
            "histories": dose.provenance.histories,
            "device": dose.provenance.device,
            "engine": dose.provenance.engine,
            "mean_rel_sigma": dose.mean_rel_sigma(),
            "versions": versions(),
        },
    )


def fingerprint_of(spec: PlanSpec, patient: Patient) -> str:
    """Hash of the resolved plan and of the patient's image and structures."""
    rois = {name: (roi.role, [(c.z_mm, c.points_xy_mm) for c in roi.contours]) for name, roi in patient.rois.items()}
    return fingerprint(spec.fingerprint, patient.image, patient.position, patient.couch_top_y_mm, rois)


def recalculate(
    result: PlanResult, *, field_T: float, progress: Progress = silent, threads: int | None = None
) -> PlanResult:
    """The forward Monte Carlo dose of a result's MU in another field, to the same uncertainty.

    Parameters
    ----------
    field_T : float
        Magnitude; its direction is the machine's, or along IEC fixed +Y for a machine without a field.
    """
    spec = result.spec
    stages = Stages(progress)
    iec = np.array(spec.machine.field_iec_T if spec.machine.has_field else (0.0, 1.0, 0.0))
    position = result.fluence.maps[0].beam.position
    field = field_xyz_T((iec * (field_T / np.linalg.norm(iec))).tolist(), position)
    with stages.stage("final dose") as tell:
        one = transport.dose(
            result.medium,
            result.fluence,
            spec.machine,
            field_xyz_T=field,
            target_rel_sigma=spec.numerics.final_rel_sigma,
            seed=spec.numerics.seed,
            threads=threads,
            progress=tell,
        )
    dose = one.course(spec.protocol.prescription.fractions)
    duals = dict(zip(result.constraints["name"], result.constraints["dual"], strict=True))
    return replace(
        result,
        field_xyz_T=field,
        dose=dose,
        goals=judge.goals_table(spec.protocol, dose, result.structures),
        constraints=judge.constraints_table(spec.protocol, dose, result.structures, duals),
        skin=judge.skin_table(dose, result.structures),
        timing=stages.table(),
        statements=(f"The MU of a plan made at {result.field_T:g} T, recalculated at {field_T:g} T.", *result.statements),
        made_from={
            **result.made_from,
            "fingerprint": fingerprint("recalculate", result.fingerprint, list(field)),
            "histories": dose.provenance.histories,
            "mean_rel_sigma": dose.mean_rel_sigma(),
        },
    )
