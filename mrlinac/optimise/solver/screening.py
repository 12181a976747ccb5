"""The same steps from near a solution: hinges far from their kink need no slack.

Near a solution most hinges are known to be closed, and cost nothing, or open, and cost what a parabola of the dose does.
Only those within some Gy of their kink are kept as hinges. What a step costs falls with them, and so does the number of
steps, for each slack is a wall. A hinge that comes to its kink on the way is taken in. Objective and bound are those of
the whole programme, so that what is proven does not depend on what was guessed.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.solver.maps import Array, Point, sums
from mrlinac.optimise.solver.newton import Method, Start, slacks

BAND, FIRST_BAND = 0.08, 0.15
"""Hinges so near to their kink at the start are kept, over the prescription: from a solution, from a first guess."""
INWARDS = 0.3
"""One that is fixed is taken in where it has come so near, over the band."""
ROOM_TAKEN_Gy = 0.1
"""Of a limit without room, for hinges that are taken in."""
LEAST = 16
"""Smallest number of hinges kept of each tail: its level lies at the kink of some."""


class Screened(Method):
    """The steps on the hinges near their kink; the others are fixed as open or closed.

    Parameters
    ----------
    whole : Method
        Of the programme.
    programme : Programme
    start : Start
        Near a solution.
    """

    def __init__(self, whole: Method, programme: Programme, start: Start) -> None:
        super().__init__(programme, whole.dose)
        self._whole, self._programme, self._all = whole, programme, programme.hinges()
        self._band_Gy = (FIRST_BAND if start.first else BAND) * programme.prescription_Gy
        d = self.dose.times(self.first_x(start))
        r = whole.residual(d, whole.levels(d, start.prescription_Gy))
        # What an open hinge costs must be a parabola of one row's dose, or a line of dose and levels.
        simple = (whole.curve == 0) & (whole.norms.of < 0)
        simple &= (whole.square == 0) | ~(whole.has_tail | whole.has_limit)
        self._open = simple & (r > 0)
        near = (np.abs(r) <= self._band_Gy) | ((r > 0) & ~simple) | (whole.norms.of >= 0)
        for k in range(self.tails - self.border):
            of_tail = np.flatnonzero(whole.tail == k)
            near[of_tail[np.argsort(np.abs(r[of_tail]), kind="stable")[:LEAST]]] = True
        self._keep(near)

    # -- which hinges there are -----------------------------------------------------------------------------------
    def _keep(self, near: NDArray[np.bool_]) -> None:
        """Take these hinges as such, the others as what they are fixed to."""
        self._near, whole = near, self._whole
        self.take(self._all.where(near), self._programme)
        fixed = np.flatnonzero(self._open & ~near)
        row, sign, b, square = whole.row[fixed], whole.sign[fixed], whole.b[fixed], whole.square[fixed]
        rows = self.dose.shape[0]
        # ½ q (sign d - b)² beside the squares that the rows have.
        added, pulled = sums(row, square, rows), sums(row, square * sign * b, rows)
        self.row_weight = whole.row_weight + added
        level = whole.row_weight * whole.row_level + pulled
        self.row_level = np.where(added > 0, level / np.where(added > 0, self.row_weight, 1), whole.row_level)
        linear, share = whole.linear[fixed], whole.share[fixed]
        self.g = whole.g.copy()
        self.g[: self.n] += self.dose.transposed_times(sums(row, linear * sign, rows))
        tailed = whole.has_tail[fixed]
        at = self.n + whole.tail[fixed][tailed]
        np.add.at(self.g, at, -(linear * whole.pull[fixed])[tailed])
        self.G, self.h = whole.G.copy(), whole.h.copy()
        held = whole.has_limit[fixed]
        if held.any():
            limit = whole.limit[fixed]
            column = np.zeros((rows, self.m))
            np.add.at(column, (row[held], limit[held]), (share * sign)[held])
            self.G[:, : self.n] += self.dose.transposed_times(column).T
            both = held & tailed
            np.add.at(self.G, (limit[both], self.n + whole.tail[fixed][both]), -(share * whole.pull[fixed])[both])
            self.h = self.h + sums(limit[held], (share * b)[held], self.m)

    def _taken_in(self, q: Point) -> Point:
        """The point with the hinges that have come to their kink among the others."""
        whole = self._whole
        r = whole.residual(self.row_dose(q.x), q.t)
        crossed = ~self._near & (np.where(self._open, r, -r) < INWARDS * self._band_Gy)
        if not crossed.any():
            return q
        count = 2 * len(q.s) + 2 * self.m + self.n
        centre = float(q.p @ q.y + q.s @ q.w + q.u @ q.mu + q.e @ q.o + q.x @ q.nu) / count
        r = r[crossed]
        s = self._room_for(q, crossed, r, self._on_path(q, crossed, r, centre))
        new = {name: np.zeros(len(crossed)) for name in "spyw"}
        for name in "spyw":
            new[name][self._near] = getattr(q, name)
        new["s"][crossed], new["p"][crossed] = s, s - r
        new["y"][crossed], new["w"][crossed] = centre / (s - r), centre / s
        near = self._near | crossed
        self._keep(near)
        return Point(**{f.name: getattr(q, f.name) for f in fields(Point)} | {k: v[near] for k, v in new.items()})

    def _on_path(self, q: Point, taken: NDArray[np.bool_], r: Array, centre: float) -> Array:
        """Slacks of hinges that are taken in, on the central path."""
        whole, of_limit = self._whole, self._whole.price_of(q.mu)[taken]
        force = whole.linear[taken] + of_limit * whole.share[taken]
        return slacks(r, force, whole.square[taken] + of_limit * whole.curve[taken], centre)

    def _room_for(self, q: Point, taken: NDArray[np.bool_], r: Array, s: Array) -> Array:
        """Slacks no larger than a limit has room for: where it has no price yet they would be without end."""
        whole, least = self._whole, np.maximum(r, 0)
        held = whole.has_limit[taken]
        share, curve, limit = whole.share[taken], whole.curve[taken], whole.limit[taken]
        more = share * (s - least) + 0.5 * curve * (s**2 - least**2)
        total = sums(limit[held], more[held], self.m)
        part = np.minimum(1.0, np.maximum(q.u, ROOM_TAKEN_Gy) / np.maximum(total, 1e-300))
        return least + np.where(held, part[limit] if self.m else 1.0, 1.0) * (s - least)

    def whole(self, q: Point) -> Point:
        """A point with all hinges."""
        whole = self._whole
        r = whole.residual(self.row_dose(q.x), q.t)
        s = np.maximum(r, 0)
        y = np.where(self._open, whole.square * s + whole.linear + whole.price_of(q.mu) * whole.share, 0.0)
        new = {"s": s, "p": s - r, "y": y, "w": np.zeros(len(r))}
        for name, values in new.items():
            values[self._near] = getattr(q, name)
        return Point(**{f.name: getattr(q, f.name) for f in fields(Point)} | new)

    # -- the steps ------------------------------------------------------------------------------------------------
    def advance(self, q: Point) -> Point:
        """A step, and the hinges that it brought to their kink."""
        return self._taken_in(super().advance(q))

    def row_dose(self, x: Array) -> Array:
        """Kept by the whole programme's."""
        return self._whole.row_dose(x)

    def levels(self, d: Array, prescription_Gy: float | None = None) -> Array:
        """The best levels for all hinges."""
        return self._whole.levels(d, prescription_Gy)

    def _distance(self, x: Array, t: Array, d: Array) -> float:
        return self._whole._distance(x, t, d)
