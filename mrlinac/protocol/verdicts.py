"""Goals judged on a dose."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose import metrics
from mrlinac.dose.sampled import Sampled
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
        Without the bias of noise; None where the structure is absent or cannot be evaluated.
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
    raw, sigma : float
        The value as read off the dose with its noise, and the standard deviation of ``value``; nan where unknown.
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
    raw: float = math.nan
    sigma: float = math.nan


def judge(protocol: Protocol, sampled: Sampled, structures: StructureSet) -> tuple[Verdict, ...]:
    """Judge every goal on a course dose, on the values without the bias of noise.

    Where an escalation has left its floor, goals that are conditions there (``at_floor``) are judged on the dose scaled
    to it; the value at the prescription stands in the source.

    Parameters
    ----------
    protocol : Protocol
    sampled : Sampled
        The dose of the course.
    structures : StructureSet
        Which structures there are, their roles and flaws.

    Returns
    -------
    tuple of Verdict

    Raises
    ------
    DataError
        When a structure is missing that is not optional.
    ValueError
        When the dose does not stand for the protocol's course.
    """
    rx = protocol.prescription
    if sampled.dose.fractions != rx.fractions:
        raise ValueError(
            f"the dose stands for {sampled.dose.fractions} fraction(s), the prescription for {rx.fractions}"
        )
    verdicts = [_one(goal, protocol, sampled, structures) for goal in protocol.goals]
    below = protocol.at_floor()
    if below is not None:
        share, least = below.prescription.dose_Gy / rx.dose_Gy, below.prescription
        for k, goal in enumerate(protocol.goals):
            if not goal.at_floor:
                continue
            there, here = _one(goal, below, sampled, structures, times=share), verdicts[k].value
            also = "" if here is None else f"; {here:.1f} {there.unit} at {rx.dose_Gy:g} Gy"
            source = f"{there.source}; judged at the floor, {least.dose_Gy:g} Gy{also}"
            verdicts[k] = replace(there, source=source, scaled=share)
    return tuple(verdicts)


def judge_at_floor(
    protocol: Protocol, sampled: Sampled, structures: StructureSet, times: float
) -> tuple[Verdict, ...]:
    """Judge the conditions of an escalation's floor on a dose scaled by ``times``; the protocol is at its floor."""
    return tuple(_one(goal, protocol, sampled, structures, times=times) for goal in protocol.goals if goal.at_floor)


def _one(
    goal: Goal, protocol: Protocol, sampled: Sampled, structures: StructureSet, *, times: float = 1.0
) -> Verdict:
    rx = protocol.prescription
    wanted = metrics.parse(goal.metric)
    direction, limit = protocol.limit_of(goal)
    if goal.as_constraint and limit is None:
        goal = goal.model_copy(update={"source": f"{goal.source}; no constraint limits it: reported only"})
    if limit is not None and wanted.level_unit == "Gy":
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
        figure = sampled.metric(goal.structure, wanted, rx.dose_Gy, times=times)
    except ValueError as error:  # empty on this grid, or smaller than the volume asked for
        source = f"{goal.source}; not judged: {error}"
        return Verdict(goal.structure, goal.metric, wanted.unit, None, limit, direction, None, "absent", source)
    margin: float | None = None
    outcome: Outcome = "report"
    value = figure.value
    if limit is not None:
        margin = limit - value if direction == "<=" else value - limit
        outcome = "pass" if margin >= 0 else "near" if margin >= -goal.near else "fail"
    return Verdict(
        goal.structure,
        goal.metric,
        wanted.unit,
        value,
        limit,
        direction,
        margin,
        outcome,
        goal.source,
        raw=figure.raw,
        sigma=figure.sigma,
    )
