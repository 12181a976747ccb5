"""What a result keeps of its escalation: the record, the table of rounds, the sentence a person reads first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from mrlinac import optimise
from mrlinac.protocol.model import Protocol

WORTH = 1e-3
"""A price below this (Gy of prescription per Gy of a limit) is shown as none."""


@singledispatch
def record_of(planned: optimise.Planned, finished: optimise.Finished, protocol: Protocol) -> dict[str, Any] | None:
    """What is kept of an escalation; None where the prescription was given."""
    return None


@record_of.register
def _of_escalated(planned: optimise.Escalated, finished: optimise.Finished, protocol: Protocol) -> dict[str, Any]:
    """Plain values: the prescription, the model's bound beside it, and each limit with its prices.

    ``settled_anew``: whether another forward dose than the rounds' settled the prescription. The choice among rounds
    favours the one whose noise was kindest; a dose of its own takes that away.

    ``Gy per Gy`` is the prescription that a Gy more of the limit would allow, all else held; ``costs`` its inverse: by
    how much the limit would have to give for a further Gy. Both are of the model, at its highest prescription.
    """
    settled, best = finished.settled, planned.round.highest
    escalation, rx = protocol.escalation, protocol.prescription  # the floor
    assert escalation is not None
    assert settled is not None  # an escalation has both
    limits = []
    for limit in settled.limits:
        price = best.prices.get(limit.name, math.nan)
        price = 0.0 if price < WORTH else price
        limits.append(
            {
                "name": limit.name,
                "limit_Gy": limit.limit_Gy,
                "allows_Gy": limit.allows_Gy,
                "gain_Gy_per_Gy": price,
                "cost_Gy_per_Gy": 1 / price if price > WORTH else None,
            }
        )
    return {
        "by": escalation.by,
        "rounds": len(planned.history),
        "settled_anew": finished.anew,
        "dose_Gy": settled.dose_Gy,
        "fractions": settled.fractions,
        "eligible": settled.eligible,
        "reasons": list(settled.reasons),
        "driver": settled.driver,
        "allowed_Gy": settled.allowed_Gy,
        "bound_Gy": best.bound_Gy,
        "restricted_Gy": best.restricted_Gy,
        "second_pass_Gy": best.second_pass_Gy,
        "aimed_Gy": planned.round.aimed_Gy,
        "floor_Gy": rx.dose_Gy,
        "cap_Gy": escalation.cap_Gy,
        "above_floor_Gy": settled.above_floor_Gy,
        "below_cap_Gy": settled.below_cap_Gy,
        "limits": limits,
    }


def sentence(record: Mapping[str, Any]) -> str:
    """The isotoxic prescription in one sentence or two."""
    stopped = {"cap": "stopped by the cap", "plan": "stopped where the plan may not be scaled further"}
    words = stopped.get(record["driver"], f"stopped by {record['driver']}")
    course = f"{record['dose_Gy']:g} Gy in {record['fractions']} fractions"
    bound = (
        f"Convex bound {record['bound_Gy']:.1f} Gy (DVH limits as mean tails), {record['second_pass_Gy']:.1f} Gy with the "
        "DVH limits themselves, on the model."
    )
    if not record["eligible"]:
        return f"Ineligible: the floor, {course}, is out of reach: {'; '.join(record['reasons'])}. {bound}"
    if record.get("settled_anew"):
        bound += " Settled on a forward dose of its own, not on the one that chose the round."
    elif record.get("rounds", 1) > 1:
        bound += " Settled on the forward dose that chose the round: noise favours a high one."
    return (
        f"Isotoxic prescription: {course}, {words}; {record['above_floor_Gy']:.1f} Gy above the floor, "
        f"{record['below_cap_Gy']:.1f} Gy below the cap. {bound}"
    )
