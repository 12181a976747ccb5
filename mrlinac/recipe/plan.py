"""The recipe of a plan, straight down: the picture of the data flow."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from mrlinac import optimise, transport
from mrlinac.anatomy.patient import Patient
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.delivery import Fluence, Segments
from mrlinac.recipe import isotoxic, judge, rounds, segments
from mrlinac.recipe.case import Case
from mrlinac.recipe.check import check
from mrlinac.recipe.forward import ForwardDoses
from mrlinac.recipe.influence import influence_of
from mrlinac.recipe.made_from import record_of_making
from mrlinac.recipe.result import PlanResult
from mrlinac.recipe.spec import PlanSpec
from mrlinac.recipe.stages import Progress, Stages, silent
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
    stages.spent("load patient", patient.loading)
    if case is not None:
        stages.spent("anatomy", case.making)

    with stages.stage("anatomy"):
        if case is None:
            checked = check(spec, patient)
            checked.raise_problems()
            case = checked.case
        assert case is not None  # a check without problems has a case

    with stages.stage("influence") as tell:
        influence = influence_of(spec, case, tell=tell, store=store, threads=threads)

    forward = ForwardDoses(spec, case, stages, threads, device)
    most = numerics.correction_rounds
    loop = optimise.correct if protocol.escalation is None else optimise.escalate
    with stages.stage("optimise") as tell:
        planner = optimise.Planner(
            influence, case.structures, protocol, oar_rows=numerics.oar_rows, target_rows=numerics.target_rows
        )
        # A limit that cannot be met is exceeded as little as possible, and reported.
        options = optimise.SolverOptions(relax=True, progress=tell)
        planned: optimise.Planned = loop(planner, forward.round, rounds=most, options=options)
    ideal, segmented = planned, None
    if spec.technique.segments is not None:
        with stages.stage("segments") as tell:
            options = optimise.SolverOptions(relax=True, progress=tell)
            segmented = segments.of_plan(spec, ideal, forward, options)
            planned = loop(segments.planner_of(segmented, protocol), forward.round, rounds=most, options=options)
    fraction_dose = forward.final(planned.unscaled)

    with stages.stage("judge"):
        structures = case.structures
        air = judge.air_in(structures, case.medium.density_g_cm3)
        anew = None if fraction_dose is None else Sampled(fraction_dose, structures, air=air, like=planned.sampled)
        finished = planned.finish(protocol, anew)
        record = isotoxic.record_of(planned, finished, protocol)
        course, delivered = replace(finished.course, air=air), finished.delivery
        duals = {limit.name: limit.dual_per_Gy for limit in planned.solution.limits}
        judgement = judge.tables(finished.protocol, course, structures, duals)

    return PlanResult(
        spec=spec,
        label=patient.label,
        patient=patient,
        ct=patient.image.cropped(case.grid.lower_xyz_mm, case.grid.upper_xyz_mm),
        structures=case.structures,
        medium=case.medium,
        isocentre_xyz_mm=case.isocentre_xyz_mm,
        field_xyz_T=case.field_xyz_T,
        fluence=cast(
            Fluence, delivered if segmented is None else ideal.delivery
        ),  # the influence's columns are beamlets
        segments=None if segmented is None else cast(Segments, delivered).in_order(),
        dose=course.dose,
        sampled_dose=course,
        **judgement,
        fluence_goals=segments.goals_before(segmented, ideal, protocol, structures, air),
        history=rounds.rounds_table(planned),
        escalation=record,
        timing=stages.table(),
        notes=case.notes,
        statements=(
            numerics.statement,
            rounds.prescription_sentence(finished, record),
            *(f"Optimisation: {thinning}" for thinning in planned.solution.thinning),
            *optimise.priority_sentences(planned.solution),
            *segments.sentences(spec, segmented, delivered),
            rounds.rounds_sentence(planned.comparisons, most),
            judge.skin_sentence(judgement["skin"], finished.protocol.prescription.dose_Gy, structures),
        ),
        made_from=record_of_making(spec, patient, course.dose, influence),
    )
