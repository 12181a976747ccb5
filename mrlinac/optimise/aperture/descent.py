"""MU and leaf positions of given apertures together, by a quasi-Newton descent.

With leaf positions among the unknowns the problem is not convex, and an evaluation is two products with the influence
where a master problem is a whole solve. Limits are taken as an augmented Lagrangian that starts at the master problem's
multipliers (Hestenes 1969, J Optim Theory Appl 4:303; Powell 1969); bounds hold the leaves in their rows, apart, and in
touch with neighbouring rows where the machine asks for it (L-BFGS-B: Byrd et al. 1995, SIAM J Sci Comput 16:1190).
The master problem afterwards says what the apertures are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from mrlinac.optimise.aperture.lattice import LeafLattice
from mrlinac.optimise.aperture.pricing import Aperture, LeafRules
from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.solver.maps import Maps
from mrlinac.optimise.solver.matrix import RowMatrix

Array = NDArray[np.float64]
Chosen = Sequence[tuple[int, Aperture]]
REACH = 3.0
"""Farthest that a leaf moves in one descent, in beamlets."""
GIVE_Gy = 0.05
"""Excess of a limit at which its multiplier has doubled."""
LEAST_PRICE = 1e-3
"""Smallest multiplier that the augmented Lagrangian takes, as a share of the objective per Gy."""


@dataclass(frozen=True)
class OpenRows:
    """Every open leaf pair of every segment as one line of arrays.

    Attributes
    ----------
    segment : int64 array, shape (pairs,)
    row : int64 array, shape (pairs,)
        Of the segment's lattice.
    column : int64 array, shape (pairs, steps)
        Beamlet at each step along travel; -1 where there is none.
    low, high : float64 arrays, shape (pairs, 2)
        Bounds of the two leaves, in steps.
    """

    segment: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    low: Array
    high: Array

    @classmethod
    def of(cls, chosen: Chosen, lattices: Sequence[LeafLattice], rules: Sequence[LeafRules]) -> OpenRows:
        """The open pairs of apertures, with bounds that keep every rule but the smallest area."""
        steps = max(lattice.column.shape[1] for lattice in lattices)
        segment, rows, column, low, high = [], [], [], [], []
        for k, (beam, aperture) in enumerate(chosen):
            lattice, rule, edges = lattices[beam], rules[beam], aperture.edges
            opened = np.flatnonzero(edges[:, 1] > edges[:, 0])
            for row in opened:
                first, last = edges[row]
                ends = _usable_run(lattice.usable[row], first, last)
                middle, half = (first + last) / 2, rule.min_open / 2
                most_left, least_right = middle - half, middle + half
                if not rule.interdigitation:  # neighbours stay in touch at the middle of what they share
                    for other in (row - 1, row + 1):
                        if 0 <= other < len(edges) and edges[other, 1] > edges[other, 0]:
                            shared = (max(first, edges[other, 0]) + min(last, edges[other, 1])) / 2
                            most_left, least_right = min(most_left, shared), max(least_right, shared)
                low.append((max(ends[0], first - REACH), max(least_right, last - REACH)))
                high.append((min(most_left, first + REACH), min(ends[1], last + REACH)))
                segment.append(k)
                rows.append(row)
                places = np.full(steps, -1, np.int64)
                places[: lattice.column.shape[1]] = lattice.column[row]
                column.append(places)
        return cls(np.array(segment), np.array(rows), np.array(column), np.array(low), np.array(high))

    def edges(self, chosen: Chosen) -> Array:
        """Leaf positions (pairs, 2) of apertures."""
        return np.array([chosen[k][1].edges[row] for k, row in zip(self.segment, self.row, strict=True)])

    def apertures(self, chosen: Chosen, edges: Array, rules: Sequence[LeafRules]) -> list[tuple[int, Aperture]]:
        """The apertures with other leaf positions; one that became too small stays as it was."""
        after = []
        for k, (beam, aperture) in enumerate(chosen):
            own = self.segment == k
            moved = aperture.edges.copy()
            moved[self.row[own]] = edges[own]
            large = float((moved[:, 1] - moved[:, 0]).sum()) >= rules[beam].min_beamlets
            after.append((beam, Aperture(moved, float("nan"))) if large else (beam, aperture))
        return after


def _usable_run(usable: NDArray[np.bool_], first: float, last: float) -> tuple[float, float]:
    """Ends of the run of usable beamlets that holds an opening."""
    start, end = int(np.floor(first + 1e-9)), int(np.ceil(last - 1e-9))
    while start > 0 and usable[start - 1]:
        start -= 1
    while end < len(usable) and usable[end]:
        end += 1
    return float(start), float(end)


@dataclass(frozen=True)
class Descent:
    """The smooth function that leaf positions and MU go down.

    Attributes
    ----------
    maps : Maps
        Of the programme over beamlets, all entries of the influence in its matrix, no smoothness.
    unit_mu : float
        MU of a fluence of one.
    transmission : float
    """

    maps: Maps
    unit_mu: float
    transmission: float

    @classmethod
    def of(cls, programme: Programme, matrix: RowMatrix, transmission: float) -> Descent:
        """For a programme over beamlets; its smoothness is of fluences only and left out."""
        maps = Maps(programme, matrix)
        maps.smooth = 0 * maps.smooth
        return cls(maps, programme.unit_mu, transmission)

    def down(self, chosen: Chosen, rows: OpenRows, mu: Array, dual: Array, steps: int) -> tuple[Array, Array]:
        """Leaf positions and MU after so many steps.

        Parameters
        ----------
        chosen : sequence of (beam, Aperture)
        rows : OpenRows
        mu : float64 array, shape (segments,)
        dual : float64 array, shape (limits,)
            Multipliers of the limits in the master problem.
        steps : int
            Most iterations.

        Returns
        -------
        edges : float64 array, shape (pairs, 2)
        mu : float64 array, shape (segments,)
        """
        edges = rows.edges(chosen)
        pairs, count = len(edges), len(mu)
        levels_Gy = self._levels(self._fluence(rows, mu, edges)[0])
        # An MU moves a whole aperture, a leaf one beamlet of it: units in which both matter alike.
        unit = float(mu.mean()) / max(np.sqrt((edges[:, 1] - edges[:, 0]).sum() / count), 1.0)
        start = np.concatenate([mu / unit, edges.ravel(), levels_Gy])
        low = np.concatenate([np.zeros(count), rows.low.ravel(), np.full(len(levels_Gy), -np.inf)])
        high = np.concatenate([np.full(count, np.inf), rows.high.ravel(), np.full(len(levels_Gy), np.inf)])

        def value(v: Array) -> tuple[float, Array]:
            at = v[count : count + 2 * pairs].reshape(-1, 2)
            objective, by_mu, by_edge, by_level = self._value(
                rows, unit * v[:count], at, v[count + 2 * pairs :], dual
            )
            return objective, np.concatenate([unit * by_mu, by_edge.ravel(), by_level])

        best = optimize.minimize(
            value,
            np.clip(start, low, high),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={"maxiter": steps, "maxcor": 15, "maxfun": 2 * steps},
        ).x
        return best[count : count + 2 * pairs].reshape(-1, 2), unit * best[:count]

    def _value(
        self, rows: OpenRows, mu: Array, edges: Array, levels_Gy: Array, dual: Array
    ) -> tuple[float, Array, Array, Array]:
        """Augmented Lagrangian and its derivatives by MU, leaf positions and levels."""
        x, share = self._fluence(rows, mu, edges)
        objective, by_x, by_level = self._of_fluence(x, levels_Gy, dual)
        cost = np.where(rows.column >= 0, by_x[np.maximum(rows.column, 0)], 0.0) / self.unit_mu
        by_mu = np.bincount(rows.segment, (share * cost).sum(axis=1), minlength=len(mu)).astype(
            np.float64, copy=False
        )
        weight = (1 - self.transmission) * mu[rows.segment]
        by_edge = np.stack([-weight * _at(cost, edges[:, 0]), weight * _at(cost, edges[:, 1])], axis=1)
        return objective, by_mu, by_edge, by_level

    def _fluence(self, rows: OpenRows, mu: Array, edges: Array) -> tuple[Array, Array]:
        """The fluence of segments, in even fluences, and the share of each place that each pair lets through."""
        step = np.arange(rows.column.shape[1])
        opened = np.clip(np.minimum(edges[:, 1:], step + 1) - np.maximum(edges[:, :1], step), 0.0, 1.0)
        share = np.where(rows.column >= 0, opened + self.transmission * (1 - opened), 0.0)
        column, through = np.maximum(rows.column, 0).ravel(), (mu[rows.segment, None] * share).ravel()
        return np.bincount(column, through, minlength=self.maps.n) / self.unit_mu, share

    def _levels(self, x: Array) -> Array:
        """The best level of each tail: where as much of the tail lies beyond it as its own coefficient asks for."""
        maps = self.maps
        beyond_Gy = maps.residual(maps.row_dose(x), np.zeros(maps.tails))
        levels_Gy = np.zeros(maps.tails)
        for tail in range(maps.tails):
            own = np.flatnonzero(maps.tail == tail)
            limit = int(maps.limit[own[0]])
            weight = (maps.share if limit >= 0 else maps.linear)[own]
            asked = abs(maps.G[limit, maps.n + tail] if limit >= 0 else maps.g[maps.n + tail])
            place_Gy = beyond_Gy[own] / np.abs(maps.pull[own])
            order = np.argsort(-place_Gy)
            reached = np.cumsum((weight * np.abs(maps.pull[own]))[order])
            levels_Gy[tail] = place_Gy[order[min(np.searchsorted(reached, asked), len(order) - 1)]]
            levels_Gy[tail] *= np.sign(maps.pull[own[0]])
        return levels_Gy

    def _of_fluence(self, x: Array, levels_Gy: Array, dual: Array) -> tuple[float, Array, Array]:
        """The same as a function of the fluence."""
        maps = self.maps
        z = np.concatenate([x, levels_Gy])
        d = maps.row_dose(x)
        s = np.maximum(maps.residual(d, levels_Gy), 0)
        excess_Gy = maps.G @ z + maps.in_limits(s) - maps.h
        least = np.maximum(dual, LEAST_PRICE * max(abs(maps.constant), 1.0))
        stiffness = least / GIVE_Gy
        price = np.maximum(dual + stiffness * excess_Gy, 0)
        y = (s > 0) * (maps.square * s + maps.linear + maps.cost_of(price) * maps.slope(s))
        value = s @ (0.5 * maps.square * s + maps.linear) + maps.norms.cost(s) + maps.g @ z + maps.constant
        value += 0.5 * maps.row_weight @ (d - maps.row_level) ** 2
        value += float(((price**2 - dual**2) / (2 * stiffness)).sum())
        gradient = maps.smooth_gradient(x, d) + maps.adjoint(y) + maps.G.T @ price
        return float(value), gradient[: maps.n], gradient[maps.n :]


def _at(cost: Array, edge: Array) -> Array:
    """Cost of the beamlet that an edge lies in; on a border the mean of both."""
    last = cost.shape[1] - 1
    line = np.arange(len(cost))
    above = cost[line, np.clip(np.floor(edge + 1e-9).astype(int), 0, last)]
    below = cost[line, np.clip(np.ceil(edge - 1e-9).astype(int) - 1, 0, last)]
    return np.asarray(0.5 * (above + below))
