"""What a result keeps of its escalation: the record, and the sentence a person reads first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import singledispatch
from typing import Any

from mrlinac import optimise
from mrlinac.protocol.model import Protocol

WORTH = 1e-3
"""A price below this (Gy of prescription per Gy of a limit) is shown as none."""


@dataclass(frozen=True)
class EscalationLimit:
    """One limit of an isotoxic plan.

    Attributes
    ----------
    name : str
    limit_Gy, allows_Gy : float
        The limit, and the prescription at which the final dose reaches it.
    gain_Gy_per_Gy : float
        Prescription that a Gy more of the limit would allow, all else held; by the model, at its highest prescription.
    cost_Gy_per_Gy : float or None
        Its inverse: what the limit would have to give for a further Gy. None where the limit has no price.
    """

    name: str
    limit_Gy: float
    allows_Gy: float
    gain_Gy_per_Gy: float
    cost_Gy_per_Gy: float | None


@dataclass(frozen=True)
class EscalationRecord:
    """The isotoxic prescription of a plan, and what stopped it.

    Attributes
    ----------
    by : {"dose", "fractions"}
    rounds : int
    settled_anew : bool
        Whether another forward dose than the rounds' settled the prescription. The choice among rounds favours the one
        whose noise was kindest; a dose of its own takes that away.
    dose_Gy, fractions : float, int
        The prescription.
    eligible : bool
    reasons : tuple of str
        Why the patient is not eligible.
    driver : str
        The limit that stopped it, or ``cap``, or ``plan``.
    allowed_Gy : float
        What the limits alone allow.
    bound_Gy, restricted_Gy, second_pass_Gy : float
        See :class:`mrlinac.optimise.Highest`.
    aimed_Gy, floor_Gy, cap_Gy, above_floor_Gy, below_cap_Gy : float
    limits : tuple of EscalationLimit
        In the order in which they would stop the dose.
    """

    by: str
    rounds: int
    settled_anew: bool
    dose_Gy: float
    fractions: int
    eligible: bool
    reasons: tuple[str, ...]
    driver: str
    allowed_Gy: float
    bound_Gy: float
    restricted_Gy: float
    second_pass_Gy: float
    aimed_Gy: float
    floor_Gy: float
    cap_Gy: float
    above_floor_Gy: float
    below_cap_Gy: float
    limits: tuple[EscalationLimit, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``result.json`` holds them.

        Returns
        -------
        dict
        """
        return {**asdict(self), "reasons": list(self.reasons), "limits": [asdict(limit) for limit in self.limits]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EscalationRecord:
        """The record that :meth:`as_dict` wrote.

        Parameters
        ----------
        values : mapping

        Returns
        -------
        EscalationRecord
        """
        limits = tuple(EscalationLimit(**limit) for limit in values["limits"])
        return cls(**{**values, "reasons": tuple(values["reasons"]), "limits": limits})


@singledispatch
def record_of(planned: optimise.Planned, finished: optimise.Finished, protocol: Protocol) -> EscalationRecord | None:
    """What is kept of an escalation.

    Parameters
    ----------
    planned : Planned
        The rounds.
    finished : Finished
        The plan at its prescription.
    protocol : Protocol
        At the floor.

    Returns
    -------
    EscalationRecord or None
        None where the prescription was given.
    """
    return None


@record_of.register
def _of_escalated(planned: optimise.Escalated, finished: optimise.Finished, protocol: Protocol) -> EscalationRecord:
    allowed, best = finished.allowed, planned.round.highest
    escalation, rx = protocol.escalation, protocol.prescription  # the floor
    assert escalation is not None
    assert allowed is not None  # an escalation has both
    limits = []
    for limit in allowed.limits:
        price = best.prices.get(limit.name, math.nan)
        price = 0.0 if price < WORTH else price
        cost = 1 / price if price > WORTH else None
        limits.append(EscalationLimit(limit.name, limit.limit_Gy, limit.allows_Gy, price, cost))
    return EscalationRecord(
        by=escalation.by,
        rounds=len(planned.history),
        settled_anew=finished.anew,
        dose_Gy=allowed.dose_Gy,
        fractions=allowed.fractions,
        eligible=allowed.eligible,
        reasons=allowed.reasons,
        driver=allowed.driver,
        allowed_Gy=allowed.allowed_Gy,
        bound_Gy=best.bound_Gy,
        restricted_Gy=best.restricted_Gy,
        second_pass_Gy=best.second_pass_Gy,
        aimed_Gy=planned.round.aimed_Gy,
        floor_Gy=rx.dose_Gy,
        cap_Gy=escalation.cap_Gy,
        above_floor_Gy=allowed.above_floor_Gy,
        below_cap_Gy=allowed.below_cap_Gy,
        limits=tuple(limits),
    )


def sentence(record: EscalationRecord) -> str:
    """The isotoxic prescription in one sentence or two.

    Parameters
    ----------
    record : EscalationRecord

    Returns
    -------
    str
    """
    stopped = {"cap": "stopped by the cap", "plan": "stopped where the plan may not be scaled further"}
    words = stopped.get(record.driver, f"stopped by {record.driver}")
    course = f"{record.dose_Gy:g} Gy in {record.fractions} fractions"
    bound = (
        f"Convex bound {record.bound_Gy:.1f} Gy (DVH limits as mean tails), {record.second_pass_Gy:.1f} Gy with the "
        "DVH limits themselves, on the model."
    )
    if not record.eligible:
        return f"Ineligible: the floor, {course}, is out of reach: {'; '.join(record.reasons)}. {bound}"
    if record.settled_anew:
        bound += " Settled on a forward dose of its own, not on the one that chose the round."
    elif record.rounds > 1:
        bound += " Settled on the forward dose that chose the round: noise favours a high one."
    return (
        f"Isotoxic prescription: {course}, {words}; {record.above_floor_Gy:.1f} Gy above the floor, "
        f"{record.below_cap_Gy:.1f} Gy below the cap. {bound}"
    )
