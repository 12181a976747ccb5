"""The recipe of a plan, straight down: the picture of the data flow."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mrlinac import optimise, transport
from mrlinac.anatomy.grid import Triple
from mrlinac.anatomy.patient import Patient
from mrlinac.dose.dose import Dose
from mrlinac.machine.beams import Fluence, field_xyz_T
from mrlinac.provenance import fingerprint, versions
from mrlinac.recipe import judge
from mrlinac.recipe.case import Case
from mrlinac.recipe.check import check
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
    device: Literal["cpu", "gpu"] = "cpu",
    store: Store | None = None,
) -> PlanResult:
    """Plan a patient. Ctrl-C leaves nothing half-written; what was finished is in the cache.

    Parameters
    ----------
    spec : PlanSpec
        From :func:`~mrlinac.recipe.spec.load_plan`.
    patient : Patient
    case : Case, optional
        ``check(spec, patient).case``, to save its preparation; without it the plan is checked first.
    progress : function of (stage, done, total, text)
    threads : int, optional
        Threads of the Monte Carlo (default: all cores); the result does not depend on it.
    device : str
        Where forward doses are computed: ``"cpu"``, or ``"gpu"`` (a CUDA device, with the extra ``gpu``). The influence
        is made on the processor in any case.
    store : Store, optional
        Where influences are kept; the user's cache by default.

    Returns
    -------
    PlanResult

    Raises
    ------
    DataError, SpecError, PhysicsError, SolverError, MissingExtraError, DeviceError
        What stands in the way.
    """
    transport.check_device(device)
    stages = Stages(progress)
    store = store or Store.default()
    numerics, protocol = spec.numerics, spec.protocol

    with stages.stage("anatomy"):
        if case is None:
            found = check(spec, patient)
            found.raise_problems()
            case = found.case
        assert case is not None  # a check without problems has a case

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
                device=device,
                progress=tell,
            )

    # Each round's forward dose has a stream of its own, so that the noise of one is not planned into the next. A plan
    # without corrections has one forward dose only, which is then the final one.
    seeds = itertools.count(numerics.seed + 1)
    rounds, final = numerics.correction_rounds, (numerics.final_rel_sigma, "final dose")
    sigma, what = (numerics.correction_rel_sigma, "correction dose") if rounds else final
    with stages.stage("optimise") as tell:
        planned = optimise.correct(
            influence,
            case.structures,
            protocol,
            lambda fluence: forward(fluence, sigma, next(seeds), what),
            rounds=rounds,
            planner=optimise.Planner(
                influence, case.structures, protocol, oar_rows=numerics.oar_rows, target_rows=numerics.target_rows
            ),
            relax=True,  # what cannot be met is reported, never hidden
            progress=tell,
        )
    fluence, course, normalisation = planned.fluence, planned.dose, planned.normalisation
    if rounds:
        fractions, target = protocol.prescription.fractions, case.structures[protocol.prescription.target]
        course = forward(planned.solution.fluence, final[0], numerics.seed, final[1]).course(fractions)
        fluence, course, normalisation = optimise.normalise(planned.solution.fluence, course, target, protocol)

    with stages.stage("judge"):
        duals = {limit.name: limit.dual_per_Gy for limit in planned.solution.limits}
        judgement = judge.tables(protocol, course, case.structures, duals, case.medium.density_g_cm3)

    return PlanResult(
        spec=spec,
        label=patient.label,
        patient=patient,
        ct=patient.image.cropped(case.grid.lower_xyz_mm, case.grid.upper_xyz_mm),
        structures=case.structures,
        medium=case.medium,
        isocentre_xyz_mm=case.isocentre_xyz_mm,
        field_xyz_T=case.field_xyz_T,
        fluence=fluence,
        dose=course,
        **judgement,
        history=judge.rounds_table(planned.history, planned.chosen),
        timing=stages.table(),
        notes=case.notes,
        statements=(
            numerics.statement,
            *(f"Optimisation: {thinning}" for thinning in planned.solution.thinning),
            judge.normalisation_sentence(normalisation, protocol),
            judge.skin_sentence(judgement["skin"], protocol.prescription.dose_Gy, case.structures),
        ),
        made_from={
            "fingerprint": fingerprint_of(spec, patient),
            **made_from(course),
            "influence": {
                "photons per beamlet": numerics.photons_per_beamlet,
                "beamlets": case.beamlets,
                "entries": int(influence.matrix.nnz),
                "mean relative sigma": round(influence.rel_sigma, 4),
                "remarks": list(influence.provenance.notes),
            },
            "seed": numerics.seed,
            "overrides": {key: value for key, value in spec.applied.items() if not key.startswith("patient.")},
            "versions": versions(),
        },
    )


def made_from(dose: Dose) -> dict[str, Any]:
    """What a dose was made with, for the record."""
    return {
        "engine": dose.provenance.engine,
        "device": dose.provenance.device,
        "histories": dose.provenance.histories,
        "mean relative sigma above half of the maximum": round(dose.mean_rel_sigma(), 4),
        "remarks": list(dose.provenance.notes),
    }


def fingerprint_of(spec: PlanSpec, patient: Patient) -> str:
    """Hash of the resolved plan and of the patient's image and structures."""
    rois = {name: (roi.role, [(c.z_mm, c.points_xy_mm) for c in roi.contours]) for name, roi in patient.rois.items()}
    told = () if patient.decisions is None else (patient.decisions.says_of_planning,)
    return fingerprint(spec.fingerprint, patient.image, patient.position, rois, *told)


def _field_of(result: PlanResult, field_T: float) -> Triple:
    """Field in LPS along the machine's direction, or along IEC fixed +Y for a machine without a field."""
    machine = result.spec.machine
    iec = np.array(machine.field_iec_T if machine.has_field else (0.0, 1.0, 0.0))
    return field_xyz_T((iec * (field_T / np.linalg.norm(iec))).tolist(), result.fluence.maps[0].beam.position)


def recalculation_fingerprint(result: PlanResult, field_T: float) -> str:
    """Hash of a result and the field it is recalculated in."""
    return fingerprint("recalculate", result.fingerprint, list(_field_of(result, field_T)))


def recalculate(
    result: PlanResult,
    *,
    field_T: float,
    progress: Progress = silent,
    threads: int | None = None,
    device: Literal["cpu", "gpu"] = "cpu",
) -> PlanResult:
    """The forward Monte Carlo dose of a result's MU in another field, to the same uncertainty.

    Parameters
    ----------
    field_T : float
        Along the machine's direction, or along IEC fixed +Y for a machine without a field; negative turns it.
    device : str
        As in :func:`make_plan`.
    """
    transport.check_device(device)
    spec = result.spec
    stages = Stages(progress)
    field = _field_of(result, field_T)
    with stages.stage("final dose") as tell:
        one = transport.dose(
            result.medium,
            result.fluence,
            spec.machine,
            field_xyz_T=field,
            target_rel_sigma=spec.numerics.final_rel_sigma,
            seed=spec.numerics.seed,
            threads=threads,
            device=device,
            progress=tell,
        )
    dose = one.course(spec.protocol.prescription.fractions)
    said = [f"The MU of a plan made at {result.field_T:g} T, recalculated at {field_T:g} T."]
    if field_T == 0 and spec.machine.electrons is None:
        said.append("This machine has no model of contaminant electrons: its skin dose at 0 T is too low.")
    duals = dict(zip(result.constraints["name"], result.constraints["dual"], strict=True))
    judgement = judge.tables(spec.protocol, dose, result.structures, duals, result.medium.density_g_cm3)
    skin_says = judge.skin_sentence(judgement["skin"], spec.protocol.prescription.dose_Gy, result.structures)
    return replace(
        result,
        field_xyz_T=field,
        dose=dose,
        **judgement,
        timing=stages.table(),
        statements=(*said, *(text for text in result.statements if not text.startswith(judge.SKIN_SAYS)), skin_says),
        made_from={
            **result.made_from,
            "fingerprint": recalculation_fingerprint(result, field_T),
            **made_from(dose),
        },
    )
