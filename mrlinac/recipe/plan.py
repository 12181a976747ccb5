"""The recipe of a plan, straight down: the picture of the data flow."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Literal

from mrlinac import optimise, transport
from mrlinac.anatomy.patient import Patient
from mrlinac.dose.dose import Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.delivery import Delivery, Fluence, Segments
from mrlinac.provenance import versions
from mrlinac.recipe import isotoxic, judge, rounds, segments
from mrlinac.recipe.case import Case
from mrlinac.recipe.check import check
from mrlinac.recipe.influence import influence_of
from mrlinac.recipe.made_from import fingerprint_of, made_from, stream_seed
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

    def forward(delivery: Delivery, rel_sigma: float, seed: int, stage: str) -> Dose:
        with stages.stage(stage) as tell:
            return transport.dose(
                case.medium,
                delivery,
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
    round_number = itertools.count()
    most, final = numerics.correction_rounds, (numerics.final_rel_sigma, "final dose")
    sigma, what = (numerics.correction_rel_sigma, "correction dose") if most else final

    def one_fraction(delivery: Delivery) -> Dose:
        return forward(delivery, sigma, stream_seed(numerics.seed, "round", next(round_number)), what)

    with stages.stage("optimise") as tell:
        planner = optimise.Planner(
            influence, case.structures, protocol, oar_rows=numerics.oar_rows, target_rows=numerics.target_rows
        )
        # A limit that cannot be met is exceeded as little as possible, and reported.
        options = optimise.SolverOptions(relax=True, progress=tell)
        loop = optimise.correct if protocol.escalation is None else optimise.escalate
        planned: optimise.Planned = loop(planner, one_fraction, rounds=most, options=options)
        fluence = planned.unscaled
        assert isinstance(fluence, Fluence)  # the influence's columns are beamlets
    segmented = None
    if spec.technique.segments is not None:
        with stages.stage("segments") as tell:
            options = optimise.SolverOptions(relax=True, progress=tell)
            segmented = segments.of_plan(spec, planned, options)
            floor = protocol.prescription
            planner = segmented.planner.at(floor.dose_Gy, floor.fractions).asking(protocol)
            planned = loop(planner, one_fraction, rounds=most, options=options)
    fraction_dose = (
        forward(planned.unscaled, final[0], stream_seed(numerics.seed, "final"), final[1]) if most else None
    )

    with stages.stage("judge"):
        structures = case.structures
        air = judge.air_in(structures, case.medium.density_g_cm3)
        anew = None if fraction_dose is None else Sampled(fraction_dose, structures, air=air, like=planned.sampled)
        finished = planned.finish(protocol, anew)
        record = isotoxic.record_of(planned, finished, protocol)
        course, delivered = replace(finished.course, air=air), finished.delivery
        if isinstance(delivered, Fluence):
            fluence = delivered
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
        fluence=fluence,
        segments=delivered if isinstance(delivered, Segments) else None,
        dose=course.dose,
        sampled_dose=course,
        **judgement,
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
        made_from={
            "fingerprint": fingerprint_of(spec, patient),
            **made_from(course.dose),
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
