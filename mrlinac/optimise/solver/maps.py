"""A programme as arrays: its linear maps, and the certificate of any point.

Notation as in `interior`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.optimise.canonical import Hinges, Programme
from mrlinac.optimise.solver.matrix import RowMatrix
from mrlinac.optimise.solver.norms import Norms

BOX_X = 1000.0
"""Bound on the fluence, in even fluences, within which the dual bound holds."""

Array = NDArray[np.float64]


@dataclass
class Point:
    """An iterate, or a step."""

    x: Array
    t: Array
    s: Array
    p: Array
    e: Array
    u: Array
    y: Array
    w: Array
    mu: Array
    o: Array
    nu: Array

    def moved(self, step: Point, primal: float, dual: float) -> Point:
        """The point plus a step."""
        lengths = dict.fromkeys("xtspeu", primal) | {"y": dual, "w": dual, "mu": dual, "o": dual, "nu": dual}
        return Point(**{k: getattr(self, k) + a * getattr(step, k) for k, a in lengths.items()})

    def towards(self, other: Point, primal: float, dual: float) -> Point:
        """Part of the way to another."""
        lengths = dict.fromkeys("xtspeu", primal) | {"y": dual, "w": dual, "mu": dual, "o": dual, "nu": dual}
        return Point(**{k: (1 - a) * getattr(self, k) + a * getattr(other, k) for k, a in lengths.items()})


def sums(place: NDArray[np.int64], value: Array, count: int) -> Array:
    """Sums of values by place, 0…count-1."""
    return np.bincount(place, weights=value, minlength=count).astype(np.float64, copy=False)


class Maps:
    """The arrays of one programme and the steps on them."""

    def __init__(self, programme: Programme, matrix: RowMatrix) -> None:
        self.dose = matrix
        self.n, self.tails = programme.rows.columns, programme.levels
        self.border = int(programme.escalates)  # the prescription: a level whose own curvature may vanish
        self.take(programme.hinges(), programme)
        self._asked: tuple[Array | None, Array] = (None, np.zeros(0))
        self.smooth = programme.smooth
        self.row_weight = programme.row_weight
        self.row_level = programme.row_level - programme.offset_Gy
        self.g = programme.linear()
        self.G, self.h = programme.limit_matrix()
        self.m = len(self.h)
        self.by_voxel = np.array([bound.by_voxel for bound in programme.bounds], bool)
        self.price, self.constant = programme.price, programme.constant
        self.box_t = np.full(self.tails, 3 * max(programme.prescription_Gy, programme.cap_Gy or 0.0))
        if programme.cap_Gy is not None:
            self.box_t[-1] = 1.2 * programme.cap_Gy
        self.first_prescription_Gy = programme.prescription_Gy

    def take(self, h: Hinges, programme: Programme) -> None:
        """Set the arrays over hinges."""
        self.row, self.sign, self.square, self.linear = h.row, h.sign, h.square, h.linear
        self.tail, self.limit, self.share = h.tail, h.limit, h.share
        self.pull = h.sign * h.factor
        self.curve, self.curved = h.curve, bool(h.curve.any())
        self.norms = Norms(h, programme.norms)
        self.free = np.where((h.norm >= 0) & (h.limit < 0), 1.0, 0.0)  # the price of a norm that no limit has
        self.has_tail, self.has_limit = h.tail >= 0, h.limit >= 0
        self.b = h.sign * (h.level - programme.offset_Gy[h.row])

    def row_dose(self, x: Array) -> Array:
        """Row doses of a point's fluence, without offset; several ask for the same one."""
        if x is not self._asked[0]:
            self._asked = (x, self.dose.times(x))
        return self._asked[1]

    # -- the linear maps ----------------------------------------------------------------------------------------
    def residual(self, d: Array, t: Array) -> Array:
        """r: what each hinge's slack must at least be, for row doses d (without offset) and levels t."""
        r = self.sign * d[self.row] - self.b
        r[self.has_tail] -= (self.pull * t[self.tail])[self.has_tail] if self.tails else 0.0
        return r

    def direction(self, dx: Array, dt: Array) -> Array:
        """A dz."""
        r = self.sign * self.dose.times(dx)[self.row]
        if self.tails:
            r[self.has_tail] -= (self.pull * dt[self.tail])[self.has_tail]
        return r

    def adjoint(self, y: Array) -> Array:
        """Aᵀ y over z."""
        to_rows = sums(self.row, self.sign * y, self.dose.shape[0])
        return np.concatenate([self.dose.transposed_times(to_rows), self._to_tails(-self.pull * y)])

    def _to_tails(self, v: Array) -> Array:
        return sums(self.tail[self.has_tail], v[self.has_tail], self.tails)

    def in_limits(self, s: Array) -> Array:
        """φ(s), summed over each limit's hinges, and norms."""
        value = self.share * s
        if self.curved:
            value = value + 0.5 * self.curve * s**2
        return self.to_limits(value) + self.norms.in_limits(s, self.m) if self.norms else self.to_limits(value)

    def slope(self, s: Array) -> Array:
        """φ'(s) of each hinge, or its norm's derivative."""
        slope = self.share + self.curve * s if self.curved else self.share
        return slope + self.norms.slope(s) if self.norms else slope

    def bend(self, s: Array) -> Array:
        """φ''(s) of each hinge; of a norm its diagonal."""
        return self.curve + self.norms.bend(s) if self.norms else self.curve

    def to_limits(self, v: Array) -> Array:
        """Sums over each limit's hinges."""
        held = self.has_limit
        return sums(self.limit[held], v[held], self.m)

    def price_of(self, mu: Array) -> Array:
        """The multiplier of each hinge's limit; zero where it has none."""
        return np.where(self.has_limit, mu[self.limit], 0.0) if self.m else np.zeros(len(self.row))

    def cost_of(self, mu: Array) -> Array:
        """The price of each hinge's φ or norm: its limit's multiplier, or one in the objective."""
        return self.price_of(mu) + self.free

    def smooth_gradient(self, x: Array, d: Array) -> Array:
        """Gradient over z of the objective without hinges."""
        quadratic = self.smooth @ x + self.dose.transposed_times(self.row_weight * (d - self.row_level))
        return np.concatenate([quadratic, np.zeros(self.tails)]) + self.g

    def row_prices(self, q: Point) -> Array:
        """What a Gy more on each row would cost: the Lagrangian's derivative by the dose."""
        of_hinges = sums(self.row, self.sign * q.y, self.dose.shape[0])
        return np.asarray(of_hinges + self.row_weight * (self.row_dose(q.x) - self.row_level))

    # -- certificate --------------------------------------------------------------------------------------------
    def objective(self, q: Point) -> float:
        """Value of the elastic programme with the smallest slacks that x and t allow."""
        d = self.row_dose(q.x)
        s = np.maximum(self.residual(d, q.t), 0)
        e = np.maximum(self.G @ np.concatenate([q.x, q.t]) + self.in_limits(s) - self.h, 0)
        of_hinges = s @ (0.5 * self.square * s + self.linear) + self.norms.cost(s)
        return float(self._smooth_value(q, d) + of_hinges + self.price * e.sum())

    def _smooth_value(self, q: Point, d: Array) -> float:
        return float(
            0.5 * q.x @ (self.smooth @ q.x)
            + 0.5 * self.row_weight @ (d - self.row_level) ** 2
            + self.g @ np.concatenate([q.x, q.t])
            + self.constant
        )

    def multipliers(self, q: Point) -> tuple[Array, Array, Array]:
        """Multipliers of limits and hinges near a point's for which the slacks leave the Lagrangian bounded.

        The third array is what each hinge's best slack takes off it.
        """
        mu = np.clip(q.mu, 0, self.price)
        of_limit = self.price_of(mu)
        slope, square = self.linear + of_limit * self.share, self.square + of_limit * self.curve
        # A slack without curvature leaves the Lagrangian bounded only where its multiplier is below its cost.
        y = np.where(square > 0, q.y, np.minimum(q.y, slope))
        if self.norms:
            y = np.where(self.norms.of >= 0, self.norms.bounded(q.y, mu), y)
        over = np.maximum(y - slope, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = np.where(square > 0, 0.5 * over**2 / square, 0.0)
        return mu, y, loss

    def bound(self, q: Point) -> float:
        """Lower bound of the Lagrangian at the multipliers, over 0 <= x <= BOX_X and 0 <= t <= 3 prescriptions.

        The slacks are minimised out in closed form; the convex rest is bounded by its tangent at x.
        """
        mu, y, loss = self.multipliers(q)
        d = self.row_dose(q.x)
        z = np.concatenate([q.x, q.t])
        value = self._smooth_value(q, d) - loss.sum() + y @ self.residual(d, q.t) + mu @ (self.G @ z - self.h)
        gradient = self.smooth_gradient(q.x, d) + self.adjoint(y) + self.G.T @ mu
        high = np.concatenate([np.full(self.n, BOX_X), self.box_t])
        return float(value + np.minimum(-gradient * z, gradient * (high - z)).sum())
