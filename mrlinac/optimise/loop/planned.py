"""What rounds of planning and forward doses hand back, and a plan brought to its prescription."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from mrlinac.dose.dose import Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.delivery import Delivery
from mrlinac.optimise.loop.allowed_prescription import AllowedPrescription
from mrlinac.optimise.loop.predicted_vs_forward import PredictedVsForward
from mrlinac.optimise.planner import Planner
from mrlinac.optimise.solution import Solution
from mrlinac.protocol.model import Protocol

Forward = Callable[[Delivery], Dose]
"""The forward dose of one fraction of a delivery."""


@dataclass(frozen=True)
class Normalisation:
    """Scaling to the prescription.

    Attributes
    ----------
    factor : float
        Prescription over the D50 of the target, before scaling.
    applied : bool
        Whether MU and dose were scaled by it; False where it would be more than 1 %.
    """

    factor: float
    applied: bool


@dataclass(frozen=True)
class Finished:
    """A plan at its prescription.

    Attributes
    ----------
    delivery : Delivery
        Of one fraction.
    course : Sampled
        Forward dose of the course, in the structures.
    protocol : Protocol
        At the prescription.
    normalisation : Normalisation or None
        What was done about D50 = prescription, where the prescription was given.
    allowed : AllowedPrescription or None
        What the dose allows, where the prescription escalated.
    anew : bool
        Whether by another forward dose than those of the rounds.
    """

    delivery: Delivery
    course: Sampled
    protocol: Protocol
    normalisation: Normalisation | None = None
    allowed: AllowedPrescription | None = None
    anew: bool = False


class Planned(Interface):
    """What the recipe asks of either loop."""

    @property
    def delivery(self) -> Delivery:
        """The delivery of one fraction, scaled to the prescription by the rounds' forward dose."""
        ...

    @property
    def unscaled(self) -> Delivery:
        """The delivery of one fraction as it was planned, for another forward dose."""
        ...

    @property
    def sampled(self) -> Sampled:
        """Forward dose of the chosen round, of the course."""
        ...

    @property
    def solution(self) -> Solution:
        """The solve that the delivery came from."""
        ...

    @property
    def planner(self) -> Planner:
        """What that solve was made with: its rows, offset and prescription."""
        ...

    @property
    def comparisons(self) -> Sequence[tuple[PredictedVsForward, ...]]:
        """Of each round."""
        ...

    def finish(self, protocol: Protocol, fraction: Sampled | None = None) -> Finished:
        """The plan at its prescription, by the rounds' forward dose or by another of one fraction.

        Parameters
        ----------
        protocol : Protocol
            As it was planned with.
        fraction : Sampled, optional
            Another forward dose of one fraction of :attr:`unscaled`.

        Returns
        -------
        Finished
        """
        ...
