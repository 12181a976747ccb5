"""What a solve hands back: a fluence, and what it reached on the solver's rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mrlinac.machine.delivery import Certificate, Delivery
from mrlinac.optimise.problem import Held, Problem
from mrlinac.optimise.rows import Thinning
from mrlinac.optimise.solver.interior import Outcome

TOLERANCE_Gy = 0.02
"""A limit exceeded by less counts as met: a hundredth of what a DVH is read to."""
OPTIMAL_GAP = 0.01
"""A plan is called optimal only within this proven relative gap."""


@dataclass(frozen=True)
class LimitState:
    """One hard limit at the solution, on the solver's rows.

    Attributes
    ----------
    name : str
    value_Gy, limit_Gy : float
    upper : bool
    met : bool
    excess_Gy : float
        By how much the limit had to be relaxed.
    dual_per_Gy : float
        What 1 Gy more room would take off the objective.
    source : str
    """

    name: str
    value_Gy: float
    limit_Gy: float
    upper: bool
    met: bool
    excess_Gy: float
    dual_per_Gy: float
    source: str


@dataclass(frozen=True)
class ObjectiveState:
    """One objective at the solution, on the solver's rows.

    Attributes
    ----------
    name : str
    weight, value : float
    unit : str
        Of the value.
    """

    name: str
    weight: float
    value: float
    unit: str


@dataclass(frozen=True)
class Judgement:
    """A dose on the rows, by the protocol.

    Attributes
    ----------
    objectives, limits : tuples
    objective : float
        The weighted sum.
    penalised : float
        With the price of every limit exceeded.
    """

    objectives: tuple[ObjectiveState, ...]
    limits: tuple[LimitState, ...]
    objective: float
    penalised: float


@dataclass(frozen=True)
class PriorityReached:
    """One priority of several.

    Attributes
    ----------
    priority : int
    reached, held_at : float
        Weighted sum of its objectives, and what it was held at for the priorities after it.
    """

    priority: int
    reached: float
    held_at: float


@dataclass(frozen=True)
class Solution:
    """A delivery and what the solver learned of it.

    Attributes
    ----------
    delivery : Delivery
        The MU of the influence's columns, with their certificate.
    judgement : Judgement
        Objectives and limits for the predicted dose; ``limits`` and ``objectives`` for short.
    thinning : tuple of Thinning
        How each structure of the nominal scenario was represented; ``str`` of each is a sentence.
    row_dose_Gy : array (rows,)
        Predicted course dose on the rows, from the uncut influence and the offset.
    cut_error_Gy : float
        Largest mean difference, over the structures, between that and what the solver worked with.
    history : list of (objective, bound)
        By iteration.
    cpu_s : float
    held : mapping
        Which rows the second pass of each DVH statement held.
    prescription_Gy : float or None
        The highest one, where that was the question.
    priorities : tuple of PriorityReached
        In their order; empty where there is one only.
    ceiling_Gy : float or None
        No plan has a higher prescription, by the whole matrix; where that was asked for and entries are cut away.
    cut_cost : array or None
        What an MU of each column costs by the entries cut away; None where a solver does not say.
    row_price : array (rows,) or None
        What a Gy more on each row would cost; None where a solver does not say.
    dual : array (limits,)
        Multipliers of all limits of the programme, sums of objectives of higher priority included.
    problem : Problem
        What was solved last.
    """

    delivery: Delivery
    judgement: Judgement
    thinning: tuple[Thinning, ...]
    row_dose_Gy: NDArray[np.float64]
    cut_error_Gy: float
    history: tuple[tuple[float, float], ...]
    cpu_s: float
    held: Held = field(default_factory=dict)
    prescription_Gy: float | None = None
    priorities: tuple[PriorityReached, ...] = ()
    cut_cost: NDArray[np.float64] | None = None
    ceiling_Gy: float | None = None
    row_price: NDArray[np.float64] | None = None
    dual: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    problem: Problem = field(default_factory=Problem)

    @property
    def mu(self) -> NDArray[np.float64]:
        """MU of one fraction of each column, shape (columns,)."""
        return self.delivery.vector

    @property
    def certificate(self) -> Certificate:
        """What the solver proved."""
        certificate = self.delivery.certificate
        assert certificate is not None  # every solve ends with one
        return certificate

    @property
    def limits(self) -> tuple[LimitState, ...]:
        """Every hard limit."""
        return self.judgement.limits

    @property
    def objectives(self) -> tuple[ObjectiveState, ...]:
        """Every objective."""
        return self.judgement.objectives

    @property
    def feasible(self) -> bool:
        """Whether every limit is met."""
        return all(limit.met for limit in self.limits)

    @property
    def relaxed(self) -> tuple[LimitState, ...]:
        """The limits that could not be met."""
        return tuple(limit for limit in self.limits if not limit.met)


@dataclass(frozen=True)
class WarmStart:
    """Where the solver begins. What is proven does not depend on it.

    Attributes
    ----------
    solution : Solution or None
        Of a similar problem: its MU and multipliers, and what the entries cut away cost at its prices.
    mu : float64 array, shape (columns,), or None
        MU at which the dose of the entries cut away is taken; those of ``solution`` by default.
    """

    solution: Solution | None = None
    mu: NDArray[np.float64] | None = None

    @property
    def guess_mu(self) -> NDArray[np.float64] | None:
        """MU at which the dose of the entries cut away is taken; None: the reference MU of every column."""
        if self.mu is not None or self.solution is None:
            return self.mu
        return self.solution.mu


COLD = WarmStart()
"""Nothing is known yet."""


def certified(
    outcome: Outcome, limits: tuple[LimitState, ...], stuck: list[int], solver: str, least_gap: float = 0.0
) -> Certificate:
    """What a solve proved: optimal, relaxed (and by how much), or inexact and why.

    Parameters
    ----------
    outcome : Outcome
    limits : tuple of LimitState
    stuck : list of int
        Numbers of the limits that are exceeded.
    solver : str
    least_gap : float
        Where limits are exceeded: how far the smallest sum of excesses may be away, relative to 1 Gy more than it.

    Returns
    -------
    Certificate
    """
    if outcome.gap > OPTIMAL_GAP:
        status = f"inexact: stopped at a gap of {100 * outcome.gap:.2g} %"
    elif stuck and least_gap > 0:
        status = "inexact: limits exceeded, " + _unsure(least_gap)
    elif not stuck:
        status = "optimal"
    else:
        status = "relaxed: optimal with " + ", ".join(
            f"{limits[k].name} exceeded by {outcome.excess_Gy[k]:.2f} Gy" for k in stuck
        )
    worst = float(np.max(outcome.excess_Gy, initial=0.0))
    return Certificate(solver, status, outcome.objective, outcome.bound, worst, outcome.iterations)


def priority_sentences(solution: Solution) -> tuple[str, ...]:
    """What each priority but the last reached.

    Parameters
    ----------
    solution : Solution

    Returns
    -------
    tuple of str
        Sentences; empty where there is one priority only.
    """
    return tuple(
        f"Optimisation: the objectives of priority {priority.priority} reached {priority.reached:.4g} and were held at "
        f"{priority.held_at:.4g}"
        for priority in solution.priorities[:-1]
    )


def _unsure(least_gap: float) -> str:
    return f"the smallest sum of excesses not found (stopped at a gap of {100 * least_gap:.2g} %)"


def infeasible(
    limits: tuple[LimitState, ...],
    stuck: list[int],
    excess_Gy: NDArray[np.float64],
    scaled_later: float = 1.0,
    least_gap: float = 0.0,
) -> str:
    """The sentence that says which limits stand in the way and the smallest relaxation found.

    Parameters
    ----------
    limits : tuple of LimitState
    stuck : list of int
        Numbers of the limits that are exceeded.
    excess_Gy : array, shape (limits,)
    scaled_later : float
        What the plan will be multiplied by when it is normalised.
    least_gap : float
        See :func:`certified`.

    Returns
    -------
    str
    """
    words = "; ".join(
        f"{limits[k].name} {'<=' if limits[k].upper else '>='} {limits[k].limit_Gy / scaled_later:.2f} Gy "
        f"would have to give {excess_Gy[k]:.2f} Gy"
        for k in stuck
    )
    if scaled_later != 1.0:
        words += f" (limits as they must hold before the plan is scaled by {scaled_later:.4f})"
    if least_gap > 0:
        words += f"; {_unsure(least_gap)}"
    return f"infeasible: {words}. Loosen the limit(s), or allow the relaxation (relax=True)"
