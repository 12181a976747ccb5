"""The entries cut away from the solver's matrix: an offset in dose and a price in cost.

Both are guesses, better with each solve. With the price of an earlier solution a fluence that the offset was right for is
stationary for the whole matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.rows import Rows
from mrlinac.optimise.solution import TOLERANCE_Gy
from mrlinac.optimise.solver.ceiling import Ceiling
from mrlinac.optimise.solver.interior import Outcome
from mrlinac.optimise.solver.newton import Start

CUT_ERROR_Gy = 0.05
"""Mean dose of any structure by which the guess at the cut entries' dose may be wrong: a thousandth of a prescription."""
LEAST_Gy = 2e-3
"""To this a sum of excesses is least; and the room that limits get beyond it."""
FIRM = 1e3
"""Price of a further excess, over the usual."""


@dataclass(frozen=True)
class Guess:
    """What the entries cut away are taken for.

    Attributes
    ----------
    mu : float64 array, shape (columns,)
        MU whose dose by these entries is the first offset.
    cost : float64 array, shape (columns,), or None
        Their first price, of the objective per MU; None: not known.
    """

    mu: NDArray[np.float64]
    cost: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Refinement:
    """When to solve again with a better guess.

    Attributes
    ----------
    most : int
        Most solves after the first.
    ceiling : Ceiling or None
        Takes what each solve proves; it is to come within the share ``near_enough`` of the prescription found.
    near_enough : float
    steady : float
        Most change of the objective from one solve to the next, relative.
    price_prevents : bool
        The price of exceeding a limit is only to prevent it, and says nothing of what the entries cost.
    """

    most: int
    ceiling: Ceiling | None = None
    near_enough: float = 0.0
    steady: float = np.inf
    price_prevents: bool = True


@dataclass(frozen=True)
class Solved:
    """An outcome, its MU, and the error of the guess that it was solved with.

    Attributes
    ----------
    outcome : Outcome
    mu : float64 array, shape (columns,)
    error_Gy : float
        Largest mean, over the structures, of the error in the dose of the entries cut away.
    least_gap : float
        Where limits are exceeded and the smallest sum of excesses was not found: how far away it may be, relative to
        1 Gy more than it.
    """

    outcome: Outcome
    mu: NDArray[np.float64]
    error_Gy: float
    least_gap: float = 0.0

    @property
    def exceeded(self) -> bool:
        """Whether a limit is exceeded by more than the tolerance."""
        return float(np.max(self.outcome.excess_Gy, initial=0.0)) > TOLERANCE_Gy


def any_cut(rows: Rows) -> bool:
    """Whether entries were cut away at all."""
    return bool(rows.full.nnz != rows.cut.nnz)


def dose_Gy(rows: Rows, mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Course dose on the rows by the entries cut away."""
    return np.asarray(rows.full @ mu - rows.cut @ mu)


def cost_of(rows: Rows, outcome: Outcome, price_prevents: bool = True) -> NDArray[np.float64] | None:
    """What an MU of each column costs by the entries cut away, at the rows' prices, shape (columns,).

    None where a limit is exceeded whose price is only to prevent that, and where the solver does not say.
    """
    exceeded = float(np.max(outcome.excess_Gy, initial=0.0)) > TOLERANCE_Gy
    price = None if price_prevents and exceeded else outcome.row_price
    return None if price is None else np.asarray(rows.full.T @ price - rows.cut.T @ price)


def mean_error_Gy(rows: Rows, missed_Gy: NDArray[np.float64]) -> float:
    """The largest mean over a structure of what the guess at the cut entries' dose missed."""
    structures = (scenario.stacked(name) for scenario in rows.scenarios for name in scenario.of)
    means_Gy = (abs(float(np.average(missed_Gy[r.index], weights=r.weights))) for r in structures)
    return max(means_Gy, default=0.0)


def solve(
    programme: Programme,
    run: Callable[[Programme, Start | None], Outcome],
    guess: Guess,
    near: Start | None,
    again: Refinement,
) -> Solved:
    """Solve with the entries cut away as an offset in dose and a price in cost, and again until both have settled.

    Parameters
    ----------
    programme : Programme
        As it is for the whole matrix; not changed.
    run : callable
        Solves a programme, from a start.
    guess : Guess
        The first.
    near : Start or None
    again : Refinement

    Returns
    -------
    Solved

    Raises
    ------
    SolverError
        The solver failed.
    """
    rows, some_cut = programme.rows, any_cut(programme.rows)
    last: float | None = None
    for _ in range(1 + again.most):
        small_Gy = dose_Gy(rows, guess.mu)
        cost = np.zeros(rows.columns) if guess.cost is None else guess.cost
        outcome = run(programme.moved(small_Gy, cost * rows.reference_mu, -float(cost @ guess.mu)), near)
        mu = np.maximum(outcome.x, 0) * rows.reference_mu
        error_Gy = mean_error_Gy(rows, dose_Gy(rows, mu) - small_Gy)
        new_cost = cost_of(rows, outcome, again.price_prevents)
        settled = error_Gy <= CUT_ERROR_Gy and (guess.cost is not None or new_cost is None or not some_cut)
        if some_cut and last is not None and again.steady < np.inf:
            settled &= abs(outcome.objective - last) <= again.steady * abs(outcome.objective)
        last = outcome.objective
        prescription_Gy = float(outcome.tails[-1]) if programme.escalates else None
        if again.ceiling is not None and prescription_Gy is not None:
            assert outcome.point is not None  # the interior-point method says
            again.ceiling.add(outcome.point)
            above_Gy = again.ceiling.bound_Gy() - prescription_Gy if new_cost is not None else 0.0
            settled &= above_Gy <= again.near_enough * prescription_Gy
        if settled:
            break
        guess, near = Guess(mu, new_cost), Start(outcome.x, outcome.dual, prescription_Gy)
    return Solved(outcome, mu, error_Gy)


def least(
    programme: Programme, only: Programme, run: Callable[..., Outcome], first: Solved, refinements: int
) -> Solved:
    """The smallest sum of excesses, by a programme without objective; then the objective with the limits moved out by it.

    Parameters
    ----------
    programme, only : Programme
        The plan's; and the same limits without an objective, at a price of 1 per Gy. The latter's constant is 1: a Gy
        beside, to measure a gap against where nothing needs to be exceeded.
    run : callable
        Solves a programme, from a start, to a relative gap where one is given.
    first : Solved
        The plan's, with limits exceeded.
    refinements : int
        As :attr:`Refinement.most`; at least one where entries are cut away, for either programme.

    Returns
    -------
    Solved
        Its excess is the smallest, and what the second programme needed beyond it.
    """
    # The first's price only prevents, both have to find theirs; and the limits' room depends on the smallest sum.
    most = max(refinements, 1) if any_cut(programme.rows) else 0
    near = Start(first.outcome.x, np.minimum(first.outcome.dual, 0.5), first=True)
    again = Refinement(2 * most, steady=LEAST_Gy, price_prevents=False)
    smallest = solve(only, lambda p, start: run(p, start, LEAST_Gy), Guess(first.mu), near, again)
    needed = np.maximum(smallest.outcome.excess_Gy, 0)
    wide = programme.loosened(needed + LEAST_Gy, price=FIRM * programme.price)
    near = Start(first.outcome.x, first.outcome.dual)
    solved = solve(wide, run, Guess(first.mu), near, Refinement(most))
    excess_Gy = np.where(needed > TOLERANCE_Gy, needed, 0.0) + solved.outcome.excess_Gy
    outcome = replace(solved.outcome, excess_Gy=excess_Gy, row_price=None)
    gap = 0.0 if smallest.outcome.converged else smallest.outcome.gap
    return replace(solved, outcome=outcome, least_gap=gap)
