"""Goals judged on a dose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError
from mrlinac.protocol.model import Goal, Protocol

Outcome = Literal["pass", "near", "fail", "report", "absent", "void"]


@dataclass(frozen=True)
class Verdict:
    """One goal judged.

    Attributes
    ----------
    structure, metric, unit : str
    value : float or None
        None where the structure is absent or cannot be evaluated.
    limit : float or None
        After conversion to the prescription's fractionation; None for a goal that is reported only.
    direction : {"<=", ">=", ""}
    margin : float or None
        Distance to the limit, positive on the good side.
    outcome : {"pass", "near", "fail", "report", "absent", "void"}
        ``void``: the structure is there but has a flaw, so that no number of it means anything.
    source : str
    scaled : float
        By what the dose was multiplied before it was judged: not 1 for a condition at an escalation's floor.
    """

    structure: str
    metric: str
    unit: str
    value: float | None
    limit: float | None
    direction: str
    margin: float | None
    outcome: Outcome
    source: str
    scaled: float = 1.0


Measure = Callable[[str, metrics.Metric], float]
"""Value of a metric of a structure; raises ValueError where the structure is empty or too small for it."""


def judge(
    protocol: Protocol,
    dose: Dose,
    structures: StructureSet,
    *,
    air: NDArray[np.bool_] | None = None,
    measure: Measure | None = None,
) -> tuple[Verdict, ...]:
    """Judge every goal on a course dose, on all voxels.

    Where an escalation has left its floor, goals that are conditions there (``at_floor``) are judged on the dose scaled
    to it; the value at the prescription stands in the source.

    Parameters
    ----------
    protocol : Protocol
    dose : Dose
        Of the course.
    structures : StructureSet
    air : bool array [z, y, x], optional
        Air-like voxels, which hot-spot goals of the body and of normal tissue leave out
        (:func:`mrlinac.dose.metrics.metric`).
    measure : function, optional
        Measures instead of the voxels of the dose's grid.

    Raises
    ------
    DataError
        When a structure is missing that is not optional.
    ValueError
        When the dose does not stand for the protocol's course.
    """
    rx = protocol.prescription
    if dose.fractions != rx.fractions:
        raise ValueError(f"the dose stands for {dose.fractions} fraction(s), the prescription for {rx.fractions}")
    body = structures.of_role("external")

    def on_voxels(name: str, wanted: metrics.Metric) -> float:
        external = structures[body[0]] if body else None
        return metrics.metric(dose, structures[name], wanted, prescription_Gy=rx.dose_Gy, external=external, air=air)

    found = [_one(goal, protocol, structures, measure or on_voxels) for goal in protocol.goals]
    below = protocol.at_floor()
    conditions = [k for k, goal in enumerate(protocol.goals) if goal.at_floor]
    if below is not None and conditions:
        share, least = below.prescription.dose_Gy / rx.dose_Gy, below.prescription
        asked = below.model_copy(update={"goals": tuple(protocol.goals[k] for k in conditions)})
        lower = dose.times(share, fractions=least.fractions)
        if measure is None:
            for k, there in zip(conditions, judge(asked, lower, structures, air=air), strict=True):
                here = found[k].value
                also = "" if here is None else f"; {here:.1f} {there.unit} at {rx.dose_Gy:g} Gy"
                source = f"{there.source}; judged at the floor, {least.dose_Gy:g} Gy{also}"
                found[k] = replace(there, source=source, scaled=share)
    return tuple(found)


def _one(goal: Goal, protocol: Protocol, structures: StructureSet, measure: Measure) -> Verdict:
    rx = protocol.prescription
    wanted = metrics.parse(goal.metric)
    direction = "<=" if goal.at_most is not None else ">=" if goal.at_least is not None else ""
    limit = goal.at_most if goal.at_most is not None else goal.at_least
    if limit is not None and wanted.unit == "Gy":
        limit = goal.for_prescription(limit, rx)
    elif limit is not None and wanted.level_unit == "Gy":
        level_Gy = goal.for_prescription(wanted.level, rx)
        wanted = metrics.Metric(wanted.text, wanted.form, level_Gy, "Gy", wanted.unit)
    if goal.structure not in structures:
        if not goal.optional:
            raise DataError(
                f"goal {goal.structure} {goal.metric}: the structure is missing; draw it or mark it optional"
            )
        return Verdict(goal.structure, goal.metric, wanted.unit, None, limit, direction, None, "absent", goal.source)
    if flaw := structures[goal.structure].flaw:
        source = f"{goal.source}; not evaluable: {flaw}"
        return Verdict(goal.structure, goal.metric, wanted.unit, None, limit, direction, None, "void", source)
    try:
        value = measure(goal.structure, wanted)
    except ValueError as error:  # empty on this grid, or smaller than the volume asked for
        source = f"{goal.source}; not judged: {error}"
        return Verdict(goal.structure, goal.metric, wanted.unit, None, limit, direction, None, "absent", source)
    margin: float | None = None
    outcome: Outcome = "report"
    if limit is not None:
        margin = limit - value if direction == "<=" else value - limit
        outcome = "pass" if margin >= 0 else "near" if margin >= -goal.near else "fail"
    return Verdict(goal.structure, goal.metric, wanted.unit, value, limit, direction, margin, outcome, goal.source)
