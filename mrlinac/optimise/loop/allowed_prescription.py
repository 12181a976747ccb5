"""The isotoxic prescription of a finished dose: the largest that its organs allow, rounded down."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlinac.dose.noise import Figure
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.delivery import Delivery
from mrlinac.optimise.hidden import organ_limits
from mrlinac.protocol import kinds, verdicts
from mrlinac.protocol.escalation import Escalation
from mrlinac.protocol.model import Constraint, Protocol

MOST_SCALING = 0.01
"""Rule 7: most by which a finished plan is scaled; a plan further from its prescription is made again."""


@dataclass(frozen=True)
class OrganLimit:
    """One limit on a finished dose.

    Attributes
    ----------
    name : str
    limit_Gy : float
    allows_Gy : float
        The prescription at which the dose, scaled as a whole, reaches it, without the bias of noise.
    sigma_Gy : float
        Standard deviation of ``allows_Gy``; nan where the dose carries no batches.
    """

    name: str
    limit_Gy: float
    allows_Gy: float
    sigma_Gy: float = math.nan


@dataclass(frozen=True)
class AllowedPrescription:
    """The prescription that a finished dose may be given at.

    Attributes
    ----------
    dose_Gy, fractions
        The prescription: rounded down, at least the floor.
    allowed_Gy : float
        Before rounding, cap and floor: by the limits alone.
    driver : str
        The limit that stopped it, or ``cap``, or ``plan`` where it may not be scaled further.
    eligible : bool
        Whether the floor is within reach, by every limit and condition that holds there.
    reasons : tuple of str
        Why not.
    above_floor_Gy, below_cap_Gy : float
        Distances of the prescription.
    limits : tuple of OrganLimit
        In the order in which they would stop the dose.
    """

    dose_Gy: float
    fractions: int
    allowed_Gy: float
    driver: str
    eligible: bool
    reasons: tuple[str, ...]
    above_floor_Gy: float
    below_cap_Gy: float
    limits: tuple[OrganLimit, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values.

        Returns
        -------
        dict
        """
        return asdict(self)


def prescribe_allowed(
    protocol: Protocol, delivery: Delivery, fraction: Sampled, aimed_Gy: float
) -> tuple[Delivery, Sampled, AllowedPrescription]:
    """Give a plan the largest prescription that its dose allows.

    Parameters
    ----------
    protocol : Protocol
        With a table ``escalation``; its prescription is the floor.
    delivery : Delivery
    fraction : Sampled
        The dose of one fraction of the delivery, in the case's structures.
    aimed_Gy : float
        The prescription the plan was made for: upwards it is scaled by at most 1 %.

    Returns
    -------
    delivery, sampled
        Scaled, so that the target's median is the prescription; the dose is of the course.
    AllowedPrescription
    """
    escalation = protocol.escalation
    if escalation is None or fraction.dose.fractions != 1:
        raise ValueError("settling asks for a protocol that escalates and the dose of one fraction")
    rx = protocol.prescription
    median_Gy = fraction.metric(rx.target, "D50%", scatter=False).value
    if not median_Gy > 0:
        raise ValueError(f"the forward dose gives nothing to {rx.target}")
    limits = [
        OrganLimit(c.name, c.limit_Gy(rx), figure.value, figure.sigma)
        for c in organ_limits(protocol, fraction)
        for figure in [_allowed_Gy(c, c.limit_Gy(rx), protocol, fraction, median_Gy)]
    ]
    limits.sort(key=lambda limit: limit.allows_Gy)
    allowed_Gy = limits[0].allows_Gy if limits else np.inf
    most_Gy = {"cap": escalation.cap_Gy, "plan": (1 + MOST_SCALING) * aimed_Gy}
    if limits:
        most_Gy[limits[0].name] = allowed_Gy
    driver = min(most_Gy, key=lambda name: most_Gy[name])
    dose_Gy, fractions = escalation.rounded_down(most_Gy[driver], rx.dose_Gy, rx.fractions)
    if dose_Gy < rx.dose_Gy:
        dose_Gy, fractions = rx.dose_Gy, rx.fractions
    reasons = tuple(_at_floor(protocol, fraction, median_Gy))
    factor = dose_Gy / fractions / median_Gy
    allowed = AllowedPrescription(
        dose_Gy,
        fractions,
        float(allowed_Gy),
        driver,
        not reasons,
        reasons,
        dose_Gy - rx.dose_Gy,
        escalation.cap_Gy - dose_Gy,
        tuple(limits),
    )
    return delivery.times(factor), fraction.times(factor).course(fractions), allowed


def _allowed_Gy(
    constraint: Constraint, limit_Gy: float, protocol: Protocol, fraction: Sampled, median_Gy: float
) -> Figure:
    """The prescription at which a dose, scaled as a whole, reaches a limit."""
    rx, escalation = protocol.prescription, protocol.escalation
    most_Gy = 4 * float(escalation.cap_Gy if escalation else rx.dose_Gy)

    def allowed(dose_Gy: NDArray[np.floating], volume_cc: NDArray[np.float64]) -> float:
        per_Gy = np.asarray(dose_Gy, dtype=np.float64) / median_Gy  # of the course, per Gy of the prescription
        if not isinstance(constraint.of, kinds.MeanEQD2 | kinds.SquaredKind):  # all others double with the dose
            unit = constraint.of.limit_value(per_Gy, volume_cc, 1.0)
            return float(limit_Gy / unit) if unit > 0 else float("inf")
        low, high = 0.0, most_Gy
        for _ in range(60):
            middle = 0.5 * (low + high)
            fractions = rx.fractions if _keeps_fractions(escalation) else middle / rx.fraction_Gy
            reached = constraint.of.limit_value(middle * per_Gy, volume_cc, middle, fractions)
            low, high = (middle, high) if reached <= limit_Gy else (low, middle)
        return low

    return fraction.number(constraint.of.structure, allowed, linear=isinstance(constraint.of, kinds.MeanDose))


def _keeps_fractions(escalation: Escalation | None) -> bool:
    return escalation is None or escalation.by == "dose"


def _at_floor(protocol: Protocol, fraction: Sampled, median_Gy: float) -> list[str]:
    """Why a patient cannot have even the floor."""
    rx = protocol.prescription
    reasons = []
    for constraint in organ_limits(protocol, fraction):
        limit_Gy = constraint.at_floor_Gy or constraint.limit_Gy(rx)
        allows_Gy = _allowed_Gy(constraint, limit_Gy, protocol, fraction, median_Gy).value
        if allows_Gy < rx.dose_Gy * (1 - 1e-9):
            reasons.append(f"{constraint.name} <= {limit_Gy:g} Gy allows {allows_Gy:.1f} of {rx.dose_Gy:g} Gy")
    assert fraction.structures is not None
    for verdict in verdicts.judge_at_floor(protocol, fraction, fraction.structures, rx.dose_Gy / median_Gy):
        if verdict.outcome in ("fail", "near"):
            reasons.append(
                f"{verdict.structure} {verdict.metric} is {verdict.value:.1f} {verdict.unit} at {rx.dose_Gy:g} Gy, "
                f"{verdict.direction} {verdict.limit:g} asked for"
            )
    return reasons
