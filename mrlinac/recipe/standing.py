"""What a plan is worth, in words that come before its figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mrlinac.optimise import MOST_SCALING
from mrlinac.recipe import isotoxic

if TYPE_CHECKING:
    from mrlinac.recipe.result import PlanResult

NORMALISED = 1e-3
"""D50 of the target and the prescription are the same within this: a plan that was scaled has them equal."""


@dataclass(frozen=True)
class Standing:
    """What a person has to know before any figure.

    Attributes
    ----------
    headline : str
        One sentence.
    level : {"useless", "missed", "met"}
        ``useless``: the plan must not be used whatever its goals say, because its target does not get the prescription,
        the floor of an escalation is out of reach, or the solver did not finish. ``missed``: a hard limit or a goal is not
        met.
    sentences : tuple of str
        Why, the worst first: what makes it useless, each hard limit and each goal not met by name, for what its
        fineness is good.
    """

    headline: str
    level: Literal["useless", "missed", "met"]
    sentences: tuple[str, ...]

    @property
    def useless(self) -> bool:
        """Whether the plan must not be used."""
        return self.level == "useless"

    def __str__(self) -> str:
        return "\n".join((self.headline, *(f"- {sentence}" for sentence in self.sentences)))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON.

        Returns
        -------
        dict
        """
        return {"headline": self.headline, "level": self.level, "sentences": list(self.sentences)}


def standing_of(result: PlanResult) -> Standing:
    """Say what a result is worth.

    Parameters
    ----------
    result : PlanResult

    Returns
    -------
    Standing
    """
    recalculated = "recalculation seed" in result.made_from
    faults = [*_inexact(result), *_ineligible(result)]
    off = _prescription_missed(result, recalculated)
    faults, remarks = (faults, off) if recalculated else ([*off, *faults], [])
    limits, goals, near = limits_not_met(result), goals_of(result, "fail"), goals_of(result, "near")
    looking = result.spec.numerics.looking_only
    return Standing(
        _headline(result, bool(faults), len(limits), len(goals), len(near)),
        "useless" if faults else "missed" if limits or goals else "met",
        (
            *faults,
            *remarks,
            *(f"Hard limit not met: {text}." for text in limits),
            *(f"Goal not met: {text}." for text in goals),
            *(f"Goal nearly met: {text}." for text in near),
            *((looking,) if looking else ()),
        ),
    )


def _headline(result: PlanResult, useless: bool, limits: int, goals: int, near: int) -> str:
    missed = [text for text in (counted(limits, "hard limit"), counted(goals, "goal")) if text]
    words = f"{' and '.join(missed)} not met" if missed else ""
    if useless:
        return f"Useless as it is{f'; {words}' if words else ''}."
    if words and not limits and len(result.constraints):
        held = "The hard limit is met" if len(result.constraints) == 1 else "All hard limits are met"
        return f"{held}, but {words}."
    if words:
        return f"Not what was asked for: {words}."
    judged = int((~result.goals["verdict"].isin(["report", "absent", "void"])).sum()) if len(result.goals) else 0
    asked = [text for text in (counted(len(result.constraints), "hard limit"), counted(judged, "goal")) if text]
    if not asked:
        return "Nothing was asked for: the protocol has neither hard limits nor goals."
    almost = f", {counted(near, 'goal')} nearly" if near else ""
    return f"Meets what was asked for: {' and '.join(asked)}{almost}."


def counted(number: int, noun: str) -> str:
    """``1 goal``, ``2 goals``; empty for none.

    Parameters
    ----------
    number : int
    noun : str
        In the singular.

    Returns
    -------
    str
    """
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""


def _prescription_missed(result: PlanResult, recalculated: bool) -> list[str]:
    """Where the median of the target is not the prescription."""
    rx = result.protocol.prescription
    try:
        median_Gy = result.sampled.metric(rx.target, "D50%").value
    except (KeyError, ValueError):
        return [f"{rx.target} gets no dose that can be evaluated."]
    share = median_Gy / rx.dose_Gy - 1
    if abs(share) <= NORMALISED:
        return []
    sentence = f"D50 of {rx.target} is {median_Gy:.4g} of {rx.dose_Gy:g} Gy prescribed ({100 * share:+.2g} %)"
    if recalculated:
        return [f"{sentence}: the MU are those of another dose, and are not scaled."]
    return [f"Not normalised: {sentence}, and scaling may make good {100 * MOST_SCALING:g} %."]


def _inexact(result: PlanResult) -> list[str]:
    certificate = result.delivery.certificate
    if certificate is None or not certificate.status.startswith("inexact"):
        return []
    return [f"The solver did not finish: {certificate.status}."]


def _ineligible(result: PlanResult) -> list[str]:
    record = result.escalation
    return [] if record is None or record.eligible else [isotoxic.sentence(record)]


def limits_not_met(result: PlanResult) -> list[str]:
    """Each hard limit that the dose does not keep, with its figures."""
    return [
        _figures(str(row["name"]), row, "Gy", float(row["limit"]))
        for row in result.constraints.to_dict("records")
        if not row["met"]
    ]


def goals_of(result: PlanResult, verdict: str) -> list[str]:
    """Each goal of a verdict, with its figures."""
    return [
        _figures(f"{row['structure']} {row['metric']}", row, str(row["unit"]), float(row["limit"]))
        for row in result.goals.to_dict("records")
        if row["verdict"] == verdict
    ]


def _figures(name: str, row: dict[Any, Any], unit: str, limit: float) -> str:
    """``Cord D0.1cc 52.3 ± 0.4 Gy, at most 50 Gy``; with as many digits as tell the value from the limit."""
    value, sigma = float(row["value"]), float(row.get("sigma", math.nan))
    digits = next((n for n in (3, 4, 5, 6) if f"{value:.{n}g}" != f"{limit:.{n}g}"), 7)
    text = f"{value:.{digits}g}" if digits == 3 else f"{value:#.{digits}g}"
    spread = f" ± {sigma:.2g}" if math.isfinite(sigma) else ""
    unit = f" {unit}" if unit else ""
    return f"{name} {text}{spread}{unit}, {'at most' if value > limit else 'at least'} {limit:.6g}{unit}"
