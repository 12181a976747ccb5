"""A primal-dual interior-point method for the programmes of `canonical`.

Every hinge's slack belongs to one row, so it is eliminated by hand; what is left is a system of the size of the
fluence, K = S + N/X + Dᵀ diag(θ) D (with one more line per tail), and one line per limit, solved by its Schur
complement. Mehrotra's predictor-corrector (Mehrotra 1992, SIAM J Optim 2:575) with centrality correctors (Gondzio 1996,
Comput Optim Appl 6:137). The objective shown is always that of
a feasible point (smallest slacks for x and t) and the bound that of feasible multipliers, so the gap needs no
tolerance.

Notation: p = s - r >= 0 with multiplier y, s >= 0 with w, e >= 0 (elastic) with o = ρ - μ, u >= 0 (slack of a limit)
with μ, x >= 0 with ν.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from mrlinac.errors import SolverError
from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.solver.maps import Array, Point
from mrlinac.optimise.solver.matrix import RowMatrix
from mrlinac.optimise.solver.newton import Method, Start
from mrlinac.optimise.solver.screening import Screened

MOST_SCREENED, NEARLY = 40, 10.0
STALLED, LESS = 15, 3.0
"""The screened problem is given up for the whole one after 40 iterations, unless its gap is within ten times the goal; and
where the gap of 15 iterations ago was not three times as large."""


@dataclass
class Outcome:
    """Where the iteration ended.

    Attributes
    ----------
    x : array
        Fluence in units of the even fluence.
    tails, excess_Gy, dual : arrays
        Free levels; elastic excess per limit; multiplier per limit.
    row_price : array or None
        What a Gy more on each row would cost; None where a solver does not say.
    point : Point or None
        All variables and multipliers; None where a solver does not say.
    objective, bound : float
        Of the elastic programme: value of a feasible point and a proven lower bound.
    """

    x: Array
    tails: Array
    excess_Gy: Array
    dual: Array
    objective: float
    bound: float
    iterations: int
    converged: bool
    history: list[tuple[float, float]] = field(default_factory=list)
    row_price: Array | None = None
    point: Point | None = None

    @property
    def gap(self) -> float:
        """Relative to the objective."""
        return _gap(self.objective, self.bound)


def solve(
    programme: Programme,
    matrix: RowMatrix,
    *,
    relative_gap: float = 1e-3,
    most_iterations: int = 80,
    progress: Callable[[float, float, str], None] | None = None,
    start: Start | None = None,
) -> Outcome:
    """Minimise a programme to a relative duality gap.

    Raises
    ------
    SolverError
        When the linear algebra breaks down.
    """
    whole = Method(programme, matrix)
    near = start or whole.approach()
    method: Method = Screened(whole, programme, near)
    point, narrow = method.start(near), True
    best_bound, history = -np.inf, []
    best: Outcome | None = None
    for iteration in range(most_iterations + 1):
        every = method.whole(point)
        objective, bound = whole.objective(every), whole.bound(every)
        best_bound = max(best_bound, bound)
        history.append((objective, best_bound))
        gap = _gap(objective, best_bound)
        converged = gap <= relative_gap
        if best is None or objective <= best.objective or converged:
            best = Outcome(
                every.x, every.t, every.e, whole.prices(every), objective, best_bound, iteration, converged, history,
                whole.row_prices(every), every,
            )  # fmt: skip
        if progress is not None:
            # The gap falls about geometrically; from 10 to the goal is the whole way.
            share = np.log(10 / min(max(gap, relative_gap), 10.0)) / np.log(10 / relative_gap)
            progress(float(share), 1.0, f"optimise: gap {gap:.1e}")
        if converged or iteration == most_iterations:
            break
        try:
            point = method.advance(point)
            if not (np.isfinite(point.x).all() and np.isfinite(point.t).all()):
                raise SolverError("the interior-point method broke down (its step is not a number)")
            slow = narrow and _slow(history, relative_gap)
        except SolverError:
            if not narrow:
                raise
            slow = True
        if slow:  # what was fixed was not near enough after all
            method, narrow, point = whole, False, whole.start(near)
    assert best is not None
    best.bound, best.iterations = best_bound, iteration
    return best


def _slow(history: list[tuple[float, float]], goal: float) -> bool:
    """Whether a screened problem comes no nearer to its goal."""
    gaps = [_gap(*values) for values in history]
    long = len(gaps) > MOST_SCREENED and gaps[-1] > NEARLY * goal
    return long or (len(gaps) > STALLED and gaps[-1] > gaps[-1 - STALLED] / LESS)


def _gap(objective: float, bound: float) -> float:
    return (objective - bound) / max(abs(objective), 1e-12)
