"""The recipe of a plan, straight down: the picture of the data flow."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from mrlinac import optimise, transport
from mrlinac.anatomy.grid import Triple
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.dose.dose import Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.beams import field_xyz_T
from mrlinac.machine.delivery import Fluence
from mrlinac.protocol.model import Protocol
from mrlinac.provenance import fingerprint, versions
from mrlinac.recipe import isotoxic, judge
from mrlinac.recipe.case import Case, source_of
from mrlinac.recipe.check import check
from mrlinac.recipe.influence import influence_of
from mrlinac.recipe.result import PlanResult
from mrlinac.recipe.spec import PlanSpec
from mrlinac.recipe.stages import Progress, Stages, silent
from mrlinac.store import Store

CONTAMINATED_T = 0.05
"""In weaker fields than this across the beam contaminant electrons reach the patient (docs/theory/transport.md)."""


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
    round_number = itertools.count()
    rounds, final = numerics.correction_rounds, (numerics.final_rel_sigma, "final dose")
    sigma, what = (numerics.correction_rel_sigma, "correction dose") if rounds else final
    with stages.stage("optimise") as tell:
        optimiser = optimise.Planner(
            influence, case.structures, protocol, oar_rows=numerics.oar_rows, target_rows=numerics.target_rows
        )

        def one_fraction(fluence: Fluence) -> Dose:
            return forward(fluence, sigma, stream_seed(numerics.seed, "round", next(round_number)), what)

        found: optimise.Correction | optimise.Escalated
        common: dict[str, Any] = {"rounds": rounds, "planner": optimiser, "progress": tell}
        if protocol.escalation is not None:
            found = optimise.escalate(influence, case.structures, protocol, one_fraction, **common)
        else:  # what cannot be met is reported, never hidden
            found = optimise.correct(influence, case.structures, protocol, one_fraction, relax=True, **common)
    planned = found.unscaled if isinstance(found, optimise.Escalated) else found.solution.fluence
    one = forward(planned, final[0], stream_seed(numerics.seed, "final"), final[1]) if rounds else None

    with stages.stage("judge"):
        air = judge.air_in(case.structures, case.medium.density_g_cm3)
        anew = None if one is None else Sampled(one, case.structures, air=air, like=found.sampled)
        fluence, course, protocol, record, said, history = finished(found, anew, protocol)
        course = replace(course, air=air)
        duals = {limit.name: limit.dual_per_Gy for limit in found.solution.limits}
        judgement = judge.tables(protocol, course, case.structures, duals)

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
        dose=course.dose,
        sampled_dose=course,
        **judgement,
        history=history,
        escalation=record,
        timing=stages.table(),
        notes=case.notes,
        statements=(
            numerics.statement,
            said,
            *(f"Optimisation: {thinning}" for thinning in found.solution.thinning),
            *optimise.wishes_said(found.solution),
            judge.rounds_sentence([each.promises for each in found.history], rounds),
            judge.skin_sentence(judgement["skin"], protocol.prescription.dose_Gy, case.structures),
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


def finished(
    found: optimise.Correction | optimise.Escalated, one: Sampled | None, protocol: Protocol
) -> tuple[Fluence, Sampled, Protocol, dict[str, Any] | None, str, pd.DataFrame]:
    """Bring a plan to its prescription, by its final dose of one fraction where there is one beyond the loop's own.

    Returns the fluence, the course dose, the protocol at its prescription, the record of an escalation, a sentence about
    what was done, and the table of rounds.
    """
    if isinstance(found, optimise.Escalated):
        fluence, course, settled = found.fluence, found.sampled, found.round.settled
        if one is not None:
            aimed_Gy = found.round.aimed_Gy
            fluence, course, settled = optimise.settle(protocol, found.unscaled, one, aimed_Gy)
        record = isotoxic.record_of(found, settled, protocol, anew=one is not None)
        at = protocol.at(settled.dose_Gy, settled.fractions)
        return fluence, course, at, record, isotoxic.sentence(record), isotoxic.rounds_table(found)
    fluence, course, normalisation = found.fluence, found.sampled, found.normalisation
    if one is not None:
        whole = one.course(protocol.prescription.fractions)
        fluence, course, normalisation = optimise.normalise(found.solution.fluence, whole, protocol)
    said = judge.normalisation_sentence(normalisation, protocol)
    return fluence, course, protocol, None, said, judge.rounds_table(found.history, found.chosen)


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
    """Hash of the resolved plan, of the patient's image and structures, and of what ``patient.toml`` says of planning."""
    source, told = source_of(spec, patient), patient.decisions or PatientFile()
    return fingerprint(
        spec.fingerprint,
        patient.image,
        patient.position,
        {name: roi.content for name, roi in patient.rois.items()},
        list(source.density_overrides.items()),  # the first named has the voxel
        source.metal,
        [told.target_base, told.couch_top_y_mm, told.couch_top_x_mm],
    )


def _field_of(result: PlanResult, field_T: float | None) -> Triple:
    """Field in LPS along the machine's direction, or along IEC fixed +Y for a machine without a field; else its own."""
    if field_T is None:
        return result.field_xyz_T
    machine = result.spec.machine
    iec = np.array(machine.field_iec_T if machine.has_field else (0.0, 1.0, 0.0))
    return field_xyz_T((iec * (field_T / np.linalg.norm(iec))).tolist(), result.fluence.maps[0].beam.position)


def stream_seed(seed: int, purpose: str, number: int = 0) -> int:
    """Seed of one forward dose: doses of other purposes, rounds and plans share no random numbers."""
    return int(fingerprint("stream", seed, purpose, number)[:15], 16)


def recalculation_fingerprint(result: PlanResult, field_T: float | None, seed: int | None = None) -> str:
    """Hash of a result, the field it is recalculated in, and the seed."""
    own = result.spec.numerics.seed if seed is None else seed
    return fingerprint("recalculate", result.fingerprint, list(_field_of(result, field_T)), own)


def recalculate(
    result: PlanResult,
    *,
    field_T: float | None = None,
    seed: int | None = None,
    progress: Progress = silent,
    threads: int | None = None,
    device: Literal["cpu", "gpu"] = "cpu",
) -> PlanResult:
    """The forward Monte Carlo dose of a result's MU in another field or with another seed, to the same uncertainty.

    Parameters
    ----------
    field_T : float, optional
        Along the machine's direction, or along IEC fixed +Y for a machine without a field; negative turns it. The
        result's own by default.
    seed : int, optional
        The plan's by default. No seed repeats the random numbers of the plan's own doses.
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
            seed=stream_seed(spec.numerics.seed if seed is None else seed, "recalculate"),
            threads=threads,
            device=device,
            progress=tell,
        )
    protocol = result.protocol
    air = judge.air_in(result.structures, result.medium.density_g_cm3)
    course = Sampled(one.course(protocol.prescription.fractions), result.structures, air=air)
    size_T = result.field_T if field_T is None else field_T
    said = [f"The MU of a plan made at {result.field_T:g} T, recalculated at {size_T:g} T."]
    if abs(size_T) < CONTAMINATED_T and spec.machine.electrons is None:
        said.append(f"This machine has no model of contaminant electrons: its skin dose at {size_T:g} T is too low.")
    said += [text[0].upper() + text[1:] + "." for text in transport.field_notes(field)]
    duals = dict(zip(result.constraints["name"], result.constraints["dual"], strict=True))
    judgement = judge.tables(protocol, course, result.structures, duals)
    skin_says = judge.skin_sentence(judgement["skin"], protocol.prescription.dose_Gy, result.structures)
    return replace(
        result,
        field_xyz_T=field,
        dose=course.dose,
        sampled_dose=course,
        **judgement,
        timing=stages.table(),
        statements=(*said, *(text for text in result.statements if not text.startswith(judge.SKIN_SAYS)), skin_says),
        made_from={
            **result.made_from,
            "fingerprint": recalculation_fingerprint(result, field_T, seed),
            "recalculation seed": spec.numerics.seed if seed is None else seed,
            **made_from(course.dose),
        },
    )
