"""From a fluence plan to segments, and what is said of them."""

from __future__ import annotations

from mrlinac import optimise
from mrlinac.machine.delivery import Delivery, Segments
from mrlinac.recipe.spec import PlanSpec


def of_plan(spec: PlanSpec, planned: optimise.Planned, options: optimise.SolverOptions) -> optimise.Segmented:
    """Segments for the prescription that a fluence plan was made for.

    Parameters
    ----------
    spec : PlanSpec
        Whose technique has a table ``segments``.
    planned : Planned
        The fluence plan.
    options : SolverOptions

    Returns
    -------
    Segmented
    """
    table = spec.technique.segments
    assert table is not None  # the recipe asks only then
    limits = optimise.SegmentLimits(table.most, table.min_area_cm2, table.min_mu)
    return optimise.generate(planned.planner, spec.machine.mlc, planned.solution, limits=limits, options=options)


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
