"""The entries cut away from the solver's matrix: an offset in dose and a price in cost.

Both are guesses, better with each solve. With the price of an earlier solution a fluence that the offset was right for is
stationary for the whole matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
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
class Found:
    """An outcome, its fluence, and by how much the dose of the entries cut away was wrong that it was solved with.

    ``least_gap``: where limits are exceeded and the smallest sum was not found, how far it may be away, relative to 1 Gy
    more than it.
    """

    outcome: Outcome
    mu: NDArray[np.float64]
    error_Gy: float
    least_gap: float = 0.0


def any_cut(rows: Rows) -> bool:
    """Whether entries were cut away at all."""
    return bool(rows.full.nnz != rows.cut.nnz)


def dose_Gy(rows: Rows, mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Course dose on the rows by the entries cut away."""
    return np.asarray(rows.full @ mu - rows.cut @ mu)


def cost_of(rows: Rows, outcome: Outcome, made_up: bool = True) -> NDArray[np.float64] | None:
    """What an MU of each beamlet costs by the entries cut away, at the rows' prices (beamlets,).

    None where a limit is exceeded whose price is made up, and where the solver does not say.
    """
    exceeded = float(np.max(outcome.excess_Gy, initial=0.0)) > TOLERANCE_Gy
    price = None if made_up and exceeded else outcome.row_price
    return None if price is None else np.asarray(rows.full.T @ price - rows.cut.T @ price)


def mean_error_Gy(rows: Rows, missed_Gy: NDArray[np.float64]) -> float:
    """The largest mean over a structure of what the guess at the cut entries' dose missed."""
    found = (abs(float(np.average(missed_Gy[r.rows], weights=r.weights))) for r in rows.of.values())
    return max(found, default=0.0)


def solve(
    rows: Rows,
    programme: Programme,
    run: Callable[[Programme, Start | None], Outcome],
    guess_mu: NDArray[np.float64],
    cost: NDArray[np.float64] | None,
    near: Start | None,
    *,
    refinements: int,
    ceiling: Ceiling | None = None,
    near_enough: float = 0.0,
    steady: float = np.inf,
    made_up: bool = True,
) -> Found:
    """Solve with the entries cut away as an offset in dose and a price in cost, and again until both have settled.

    Parameters
    ----------
    rows : Rows
    programme : Programme
        As it is for the whole matrix; not changed.
    run : callable
        Solves a programme, from a start.
    guess_mu : array (beamlets,)
        Fluence whose dose by the entries is the first offset, in MU.
    cost : array (beamlets,) or None
        Their first price, of the objective per MU.
    near : Start or None
    refinements : int
        Most solves after the first.
    ceiling : Ceiling, optional
        Takes what each solve proves; it is to come within the share ``near_enough`` of the prescription found.
    steady : float
        Most change of the objective from one solve to the next, relative.
    made_up : bool
        The price of exceeding a limit is only to prevent it, and says nothing of what the entries cost.

    Raises
    ------
    SolverError
        The solver failed.
    """
    last: float | None = None
    for _ in range(1 + refinements):
        small_Gy, solved = dose_Gy(rows, guess_mu), copy(programme)
        tilt = np.zeros(rows.beamlets) if cost is None else cost
        solved.offset = programme.offset + small_Gy
        solved.linear_x = programme.linear_x + tilt * rows.reference_mu
        solved.constant = programme.constant - float(tilt @ guess_mu)
        outcome = run(solved, near)
        mu = np.maximum(outcome.x, 0) * rows.reference_mu
        error_Gy = mean_error_Gy(rows, dose_Gy(rows, mu) - small_Gy)
        known, cost = cost is not None, cost_of(rows, outcome, made_up)
        settled = error_Gy <= CUT_ERROR_Gy and (known or cost is None or not any_cut(rows))
        if any_cut(rows) and last is not None and steady < np.inf:
            settled &= abs(outcome.objective - last) <= steady * abs(outcome.objective)
        last = outcome.objective
        found_Gy = float(outcome.tails[-1]) if programme.escalates else None
        if ceiling is not None and found_Gy is not None:
            assert outcome.point is not None  # the interior-point method says
            ceiling.add(outcome.point)
            settled &= cost is None or ceiling.bound_Gy() - found_Gy <= near_enough * found_Gy
        if settled:
            break
        guess_mu, near = mu, Start(outcome.x, outcome.dual, found_Gy)
    return Found(outcome, mu, error_Gy)


def least(
    rows: Rows, programme: Programme, only: Programme, run: Callable[..., Outcome], first: Found, refinements: int
) -> Found:
    """The smallest sum of excesses, by a programme of nothing else; then the objective with the limits that far out.

    Parameters
    ----------
    rows : Rows
    programme, only : Programme
        The plan's, and the same limits without an objective, at a price of 1 per Gy.
    run : callable
        Solves a programme, from a start, to a relative gap where one is given.
    first : Found
        The plan's, with limits exceeded.
    refinements : int
        See :func:`solve`; at least one where entries are cut away, for either programme.

    Returns
    -------
    Found
        Its excess is the smallest, and what the second programme needed beyond it.
    """
    only.constant = 1.0  # a Gy beside, to measure a gap against where nothing needs to be exceeded
    # The first's price was made up, both have to find theirs; and the limits' room depends on the smallest sum.
    again = max(refinements, 1) if any_cut(rows) else 0
    near = Start(first.outcome.x, np.minimum(first.outcome.dual, 0.5), first=True)
    smallest = solve(
        rows, only, lambda p, start: run(p, start, LEAST_Gy), first.mu, None, near, refinements=2 * again, made_up=False,
        steady=LEAST_Gy,
    )  # fmt: skip
    needed = np.maximum(smallest.outcome.excess_Gy, 0)
    wide = programme.loosened(needed + LEAST_Gy, price=FIRM * programme.price)
    near = Start(first.outcome.x, first.outcome.dual)
    found = solve(rows, wide, run, first.mu, None, near, refinements=again)
    excess_Gy = np.where(needed > TOLERANCE_Gy, needed, 0.0) + found.outcome.excess_Gy
    outcome = replace(found.outcome, excess_Gy=excess_Gy, row_price=None)
    gap = 0.0 if smallest.outcome.converged else smallest.outcome.gap
    return replace(found, outcome=outcome, least_gap=gap)
