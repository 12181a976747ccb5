"""The pricing problem: the aperture of a beam with the most negative reduced cost, exactly, for the rules of the leaves.

An aperture opens one interval of beamlets in each leaf row, or none. Its reduced cost is the sum over the open beamlets.
The best one is found by dynamic programming over the rows (Romeijn et al. 2005, SIAM J Optim 15:838, for independent rows
and for interdigitation; Men et al. 2007, Phys Med Biol 52:7333, for connected rows).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Intervals = NDArray[np.int64]
EDGE = 1e-9
"""Steps within which an edge counts as lying on a beamlet's border."""


@dataclass(frozen=True)
class LeafRules:
    """What the leaves of one beam may form, on a lattice of beamlets.

    Attributes
    ----------
    min_open : int
        Smallest number of beamlets along leaf travel that an open leaf pair opens.
    interdigitation : bool
        Whether a leaf may pass the opposite leaf of a neighbouring pair. Without it the intervals of neighbouring open rows
        overlap or touch.
    connected : bool
        Whether the open rows follow each other without a closed row between.
    min_beamlets : int
        Smallest number of open beamlets of an aperture.
    """

    min_open: int = 1
    interdigitation: bool = True
    connected: bool = True
    min_beamlets: int = 1


@dataclass(frozen=True)
class Aperture:
    """One opening in each leaf row.

    Attributes
    ----------
    edges : float64 array, shape (rows, 2)
        Where the opening of each row begins and ends, in steps along leaf travel; equal where the row is closed. A beamlet
        may be open in part.
    cost : float
        Sum of the open beamlets' costs.
    """

    edges: Array
    cost: float


def best_aperture(cost: Array, rules: LeafRules, usable: NDArray[np.bool_] | None = None) -> Aperture | None:
    """The aperture of least cost.

    Parameters
    ----------
    cost : float64 array, shape (rows, steps)
        Reduced cost of each beamlet, by leaf row and place along leaf travel.
    rules : LeafRules
    usable : bool array, shape (rows, steps), optional
        Beamlets that may be open; all by default.

    Returns
    -------
    Aperture or None
        None where no aperture can be formed.
    """
    rows, steps = cost.shape
    first, last = _intervals(steps, rules.min_open)
    if not len(first):
        return None
    of_interval = _sums(cost, first, last)
    if usable is not None:
        blocked = _sums((~usable).astype(float), first, last) > 0
        of_interval = np.where(blocked, np.inf, of_interval)
    size = last - first
    allowed = None if rules.interdigitation else (first[:, None] <= last[None, :]) & (first[None, :] <= last[:, None])
    aperture = _best(of_interval, size, allowed, rules, steps_needed=1)
    if aperture is None:
        return None
    chosen, total = aperture
    if int(size[chosen[chosen >= 0]].sum()) < rules.min_beamlets:
        larger = _best(of_interval, size, allowed, rules, steps_needed=rules.min_beamlets)
        if larger is None:
            return None
        chosen, total = larger
    edges, opened = np.zeros((rows, 2)), chosen >= 0
    edges[opened, 0], edges[opened, 1] = first[chosen[opened]], last[chosen[opened]]
    return Aperture(edges, float(total))


def _intervals(steps: int, min_open: int) -> tuple[Intervals, Intervals]:
    """All intervals of at least so many beamlets: first open place, first closed place behind it."""
    first, last = np.meshgrid(np.arange(steps), np.arange(1, steps + 1), indexing="ij")
    keep = last - first >= max(min_open, 1)
    return first[keep].astype(np.int64), last[keep].astype(np.int64)


def _sums(values: Array, first: Intervals, last: Intervals) -> Array:
    """Sum of each row's values over each interval, shape (rows, intervals)."""
    cumulated = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    return np.asarray(cumulated[:, last] - cumulated[:, first])


def _best(
    of_interval: Array, size: Intervals, allowed: NDArray[np.bool_] | None, rules: LeafRules, steps_needed: int
) -> tuple[Intervals, float] | None:
    """Number of the interval in each row (-1: closed) and the sum, of at least so many beamlets.

    The state of a row is its interval and the number of open beamlets so far, counted up to the number asked for.
    """
    rows, count = of_interval.shape
    levels = steps_needed  # states 1 … steps_needed of open beamlets
    best, back = np.full((rows, count, levels), np.inf), np.full((rows, count, levels, 2), -1, np.int64)
    reached = np.minimum(size, levels) - 1  # state of an interval alone
    closed = np.full(levels, np.inf)  # of the rows before, with a closed row behind them
    closed_from = np.full((rows, levels, 2), -1, np.int64)
    everything = np.arange(count)
    for row in range(rows):
        alone = of_interval[row]
        best[row, everything, reached] = alone
        if row == 0:
            continue
        for state in range(levels):
            before = best[row - 1, :, state]
            if not np.isfinite(before).any() and not np.isfinite(closed[state]):
                continue
            if allowed is None:
                which = int(np.argmin(before))
                ahead, source = np.full(count, before[which]), np.full(count, which)
            else:
                through = np.where(allowed, before[:, None], np.inf)
                source = np.argmin(through, axis=0)
                ahead = through[source, everything]
            from_row = np.full(count, row - 1)
            if not rules.connected and np.isfinite(closed[state]):
                other = ahead > closed[state]
                ahead = np.where(other, closed[state], ahead)
                source = np.where(other, closed_from[row, state, 1], source)
                from_row = np.where(other, closed_from[row, state, 0], from_row)
            total = ahead + alone
            to = np.minimum(state + size, levels - 1)  # a state s stands for s + 1 beamlets
            better = total < best[row, everything, to]
            at = everything[better]
            best[row, at, to[better]] = total[better]
            back[row, at, to[better], 0] = from_row[better] * levels + state
            back[row, at, to[better], 1] = source[better]
        if not rules.connected and row + 1 < rows:
            for state in range(levels):
                which = int(np.argmin(best[row - 1, :, state]))
                if best[row - 1, which, state] < closed[state]:
                    closed[state] = best[row - 1, which, state]
                    closed_from[row + 1, state] = row - 1, which
                else:
                    closed_from[row + 1, state] = closed_from[row, state]
    full = best[:, :, levels - 1]
    if not np.isfinite(full).any():
        return None
    total, state = float(full.min()), levels - 1
    row, interval = (int(place) for place in np.unravel_index(int(np.argmin(full)), full.shape))
    chosen = np.full(rows, -1, np.int64)
    while row >= 0:
        chosen[row] = interval
        origin, source = back[row, interval, state]
        if source < 0:
            break
        row, state, interval = int(origin // levels), int(origin % levels), int(source)
    return chosen, total


def leaf_slopes(aperture: Aperture, cost: Array, usable: NDArray[np.bool_]) -> tuple[Array, Array]:
    """How the reduced cost falls as each leaf moves, and how far it may move until the slope changes.

    Parameters
    ----------
    aperture : Aperture
    cost : float64 array, shape (rows, steps)
        Reduced cost of each beamlet.
    usable : bool array, shape (rows, steps)
        Beamlets that may be open.

    Returns
    -------
    slope : float64 array, shape (rows, 2)
        Cost per step in the better direction, not above zero; zero where neither direction helps and in closed rows.
    reach : float64 array, shape (rows, 2)
        Signed number of steps in that direction to the edge of the beamlet.
    """
    slope, reach = np.zeros(aperture.edges.shape), np.zeros(aperture.edges.shape)
    for row in np.flatnonzero(aperture.edges[:, 1] > aperture.edges[:, 0]):
        for side, inwards in ((0, 1), (1, -1)):
            edge = float(aperture.edges[row, side])
            above, below = int(np.floor(edge + EDGE)), int(np.ceil(edge - EDGE)) - 1
            inside, outside = (above, below) if inwards > 0 else (below, above)
            best, way = 0.0, 0
            if -cost[row, inside] < best:
                best, way = -float(cost[row, inside]), inwards
            if 0 <= outside < cost.shape[1] and usable[row, outside] and cost[row, outside] < best:
                best, way = float(cost[row, outside]), -inwards
            slope[row, side] = best
            reach[row, side] = above + 1 - edge if way > 0 else below - edge if way < 0 else 0.0
    return slope, reach


def moved(aperture: Aperture, steps: Array, rules: LeafRules) -> Aperture:
    """The aperture with its leaves moved, but for the rows in which that would break a rule.

    Parameters
    ----------
    aperture : Aperture
    steps : float64 array, shape (rows, 2)
        Signed moves.
    rules : LeafRules

    Returns
    -------
    Aperture
        Its cost is not known.
    """
    edges = aperture.edges.copy()
    for row in np.flatnonzero(np.any(steps != 0, axis=1)):
        before = edges[row].copy()
        edges[row] += steps[row]
        first, last = edges[row]
        beside = [n for n in (row - 1, row + 1) if 0 <= n < len(edges) and edges[n, 1] > edges[n, 0]]
        touching = all(first <= edges[n, 1] and edges[n, 0] <= last for n in beside)
        narrow = last - first < max(rules.min_open, 1) - EDGE
        small = float((edges[:, 1] - edges[:, 0]).sum()) < rules.min_beamlets - EDGE
        if narrow or small or not (rules.interdigitation or touching):
            edges[row] = before
    return Aperture(edges, float("nan"))
