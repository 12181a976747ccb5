"""From a fluence plan to segments, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from mrlinac import optimise
from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose.sampled import Air
from mrlinac.machine.delivery import Delivery, Segments
from mrlinac.protocol.model import Protocol
from mrlinac.recipe import judge
from mrlinac.recipe.forward import ForwardDoses
from mrlinac.recipe.spec import PlanSpec


def of_plan(
    spec: PlanSpec, planned: optimise.Planned, forward: ForwardDoses, options: optimise.SolverOptions
) -> optimise.Segmented:
    """Segments for the prescription that a fluence plan was made for.

    Where the plan has correction rounds, a forward dose of the segments says what the model of beamlets got wrong, and
    leaf positions and MU are found again with it.

    Parameters
    ----------
    spec : PlanSpec
        Whose technique has a table ``segments``.
    planned : Planned
        The fluence plan.
    forward : ForwardDoses
    options : SolverOptions

    Returns
    -------
    Segmented
    """
    table = spec.technique.segments
    assert table is not None  # the recipe asks only then
    limits = optimise.SegmentLimits(table.most, table.min_area_cm2, table.min_mu)
    made = optimise.generate(planned.planner, spec.machine.mlc, planned.solution, limits=limits, options=options)
    if not spec.numerics.correction_rounds:
        return made
    course = forward.round(made.segments).course(made.planner.protocol.prescription.fractions)
    return optimise.polished(made, course.dose_Gy - made.planner.influence_Gy(made.segments), options=options)


def planner_of(segmented: optimise.Segmented, protocol: Protocol) -> optimise.Planner:
    """The planner whose columns are the segments, asking what the protocol asks, for the rounds with forward doses.

    Parameters
    ----------
    segmented : Segmented
    protocol : Protocol
        At its own prescription: an isotoxic plan escalates again.

    Returns
    -------
    Planner
    """
    prescription = protocol.prescription
    planner = segmented.planner.at(prescription.dose_Gy, prescription.fractions).asking(protocol)
    return planner.with_least_mu(segmented.limits.min_mu)


def goals_before(
    segmented: optimise.Segmented | None,
    ideal: optimise.Planned,
    protocol: Protocol,
    structures: StructureSet,
    air: Air | None,
) -> pd.DataFrame:
    """The goals of the fluence that the segments were made from, on its last forward dose.

    Parameters
    ----------
    segmented : Segmented or None
        None where the plan is a fluence: the table is empty.
    ideal : Planned
        The fluence plan.
    protocol : Protocol
    structures : StructureSet
    air : Air or None

    Returns
    -------
    DataFrame
        As :func:`mrlinac.recipe.judge.goals_table`.
    """
    if segmented is None:
        return pd.DataFrame()
    finished = ideal.finish(protocol)
    return judge.goals_table(finished.protocol, replace(finished.course, air=air), structures)


def sentences(spec: PlanSpec, segmented: optimise.Segmented | None, delivered: Delivery) -> tuple[str, ...]:
    """How many segments and MU, and how far from the fluence they are.

    Parameters
    ----------
    spec : PlanSpec
    segmented : Segmented or None
        None where the plan is a fluence.
    delivered : Delivery

    Returns
    -------
    tuple of str
    """
    if segmented is None or not isinstance(delivered, Segments):
        return ("The plan is a fluence: its MU are relative until it is segmented.",)
    objective, table = segmented.solution.certificate.objective, spec.technique.segments
    most = "" if table is None else f" (at most {table.most})"
    return (
        f"Segments: {len(delivered)}{most} in {len(delivered.beams)} beams, {delivered.total_mu:.0f} MU per fraction; "
        f"closed leaves pass {100 * spec.machine.mlc.transmission:g} %.",
        f"Segmentation, by the model: objective {objective:.4g}; of the fluence {segmented.ideal:.4g}, bound for any "
        f"set of segments {segmented.bound:.4g}.",
    )
