"""A primal-dual interior-point method for the programmes of `canonical`.

Every hinge's slack belongs to one row, so it is eliminated by hand; what is left is a system of the size of the
fluence, K = S + N/X + Dᵀ diag(θ) D (with one more line per tail), and one line per limit, solved by its Schur
complement. Mehrotra's predictor-corrector (Mehrotra 1992, SIAM J Optim 2:575). The objective shown is always that of
a feasible point (smallest slacks for x and t) and the bound that of feasible multipliers, so the gap needs no
tolerance.

Notation: p = s - r >= 0 with multiplier y, s >= 0 with w, e >= 0 (elastic) with o = ρ - μ, u >= 0 (slack of a limit)
with μ, x >= 0 with ν.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from mrlinac.errors import SolverError
from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.matrix import RowMatrix

STEP = 0.995
BOX_X = 1000.0
"""Bound on the fluence, in even fluences, within which the dual bound holds."""

Array = NDArray[np.float64]


@dataclass
class Outcome:
    """Where the iteration ended.

    Attributes
    ----------
    x : array
        Fluence in units of the even fluence.
    tails, excess_Gy, dual : arrays
        Free levels; elastic excess per limit; multiplier per limit.
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

    @property
    def gap(self) -> float:
        """Relative to the objective."""
        return (self.objective - self.bound) / max(abs(self.objective), 1e-12)


@dataclass
class _Point:
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

    def moved(self, step: _Point, primal: float, dual: float) -> _Point:
        """The point plus a step."""
        lengths = dict.fromkeys("xtspeu", primal) | {"y": dual, "w": dual, "mu": dual, "o": dual, "nu": dual}
        return _Point(**{k: getattr(self, k) + a * getattr(step, k) for k, a in lengths.items()})


def solve(
    programme: Programme,
    matrix: RowMatrix,
    *,
    relative_gap: float = 1e-3,
    most_iterations: int = 80,
    progress: Callable[[float, float, str], None] | None = None,
    start_x: Array | None = None,
) -> Outcome:
    """Minimise a programme to a relative duality gap.

    Raises
    ------
    SolverError
        When the linear algebra breaks down.
    """
    method = _Method(programme, matrix)
    point = method.start(start_x)
    best_bound, history = -np.inf, []
    outcome: Outcome | None = None
    for iteration in range(most_iterations + 1):
        objective, bound = method.objective(point), method.bound(point)
        best_bound = max(best_bound, bound)
        history.append((objective, best_bound))
        gap = (objective - best_bound) / max(abs(objective), 1e-12)
        converged = gap <= relative_gap
        outcome = Outcome(point.x, point.t, point.e, point.mu, objective, best_bound, iteration, converged, history)
        if progress is not None:
            # The gap falls about geometrically; from 10 to the goal is the whole way.
            share = np.log(10 / min(max(gap, relative_gap), 10.0)) / np.log(10 / relative_gap)
            progress(float(share), 1.0, f"optimise: gap {gap:.1e}")
        if converged or iteration == most_iterations:
            break
        point = method.advance(point)
    assert outcome is not None
    return outcome


def _sums(place: NDArray[np.int64], value: Array, count: int) -> Array:
    """Sums of values by place, 0…count-1."""
    return np.bincount(place, weights=value, minlength=count).astype(np.float64, copy=False)


class _Method:
    """The arrays of one programme and the steps on them."""

    def __init__(self, programme: Programme, matrix: RowMatrix) -> None:
        self.dose = matrix
        self.n, self.tails = programme.rows.beamlets, programme.tails
        h = programme.hinges()
        self.row, self.sign, self.square, self.linear = h.row, h.sign, h.square, h.linear
        self.tail, self.limit, self.share = h.tail, h.limit, h.share
        self.has_tail, self.has_limit = h.tail >= 0, h.limit >= 0
        self.b = h.sign * (h.level - programme.offset[h.row])
        self.smooth = programme.smooth
        self.row_weight = programme.row_weight
        self.row_level = programme.row_level - programme.offset
        self.g = programme.linear()
        self.G, self.h = programme.limit_matrix()
        self.m = len(self.h)
        self.price, self.constant = programme.price, programme.constant
        self.box_t = 3 * programme.prescription_Gy

    # -- the linear maps ----------------------------------------------------------------------------------------
    def residual(self, d: Array, t: Array) -> Array:
        """r: what each hinge's slack must at least be, for row doses d (without offset) and levels t."""
        r = self.sign * d[self.row] - self.b
        r[self.has_tail] -= (self.sign * t[self.tail])[self.has_tail] if self.tails else 0.0
        return r

    def direction(self, dx: Array, dt: Array) -> Array:
        """A dz."""
        r = self.sign * self.dose.times(dx)[self.row]
        if self.tails:
            r[self.has_tail] -= (self.sign * dt[self.tail])[self.has_tail]
        return r

    def adjoint(self, y: Array) -> Array:
        """Aᵀ y over z."""
        signed = self.sign * y
        to_rows = _sums(self.row, signed, self.dose.shape[0])
        return np.concatenate([self.dose.transposed_times(to_rows), self._to_tails(-signed)])

    def _to_tails(self, v: Array) -> Array:
        return _sums(self.tail[self.has_tail], v[self.has_tail], self.tails)

    def to_limits(self, v: Array) -> Array:
        """C v: sums over each limit's hinges."""
        held = self.has_limit
        return _sums(self.limit[held], (self.share * v)[held], self.m)

    def from_limits(self, mu: Array) -> Array:
        """Cᵀ μ."""
        return np.where(self.has_limit, self.share * mu[self.limit], 0.0) if self.m else np.zeros(len(self.row))

    def smooth_gradient(self, x: Array, d: Array) -> Array:
        """Gradient over z of the objective without hinges."""
        quadratic = self.smooth @ x + self.dose.transposed_times(self.row_weight * (d - self.row_level))
        return np.concatenate([quadratic, np.zeros(self.tails)]) + self.g

    # -- start --------------------------------------------------------------------------------------------------
    def start(self, start_x: Array | None) -> _Point:
        """A centred point; the hinges' slacks are feasible, limits and multipliers become so on the way."""
        x = np.ones(self.n) if start_x is None else np.maximum(start_x, 0.05)
        t = np.zeros(self.tails)
        d = self.dose.times(x)
        if self.tails:
            # The mean of each tail's rows is a fair first level.
            r = self.residual(d, t)[self.has_tail] * self.sign[self.has_tail]
            count = np.bincount(self.tail[self.has_tail], minlength=self.tails)
            t = np.bincount(self.tail[self.has_tail], weights=r, minlength=self.tails) / np.maximum(count, 1)
        r = self.residual(d, t)
        scale = 3.0  # Gy: the size of a typical over- or underdose
        s = np.maximum(r, 0) + scale
        p = s - r
        # All products of slack and multiplier start equal, at the mean of what the hinges themselves suggest; a start
        # that is feasible but far from the central path costs half as many iterations again.
        force = self.square * s + self.linear + self.from_limits(np.ones(self.m))
        centre = max(float(np.mean(force * s * p / (s + p))) if len(s) else 0.0, 1e-6)
        over = self.G @ np.concatenate([x, t]) + self.to_limits(s) - self.h
        u = np.maximum(-over, scale)
        mu = np.minimum(centre / u, 0.5 * self.price)
        o = self.price - mu
        return _Point(x, t, s, p, centre / o, u, centre / p, centre / s, mu, o, centre / x)

    # -- certificate --------------------------------------------------------------------------------------------
    def objective(self, q: _Point) -> float:
        """Value of the elastic programme with the smallest slacks that x and t allow."""
        d = self.dose.times(q.x)
        s = np.maximum(self.residual(d, q.t), 0)
        e = np.maximum(self.G @ np.concatenate([q.x, q.t]) + self.to_limits(s) - self.h, 0)
        return float(self._smooth_value(q, d) + s @ (0.5 * self.square * s + self.linear) + self.price * e.sum())

    def _smooth_value(self, q: _Point, d: Array) -> float:
        return float(
            0.5 * q.x @ (self.smooth @ q.x)
            + 0.5 * self.row_weight @ (d - self.row_level) ** 2
            + self.g @ np.concatenate([q.x, q.t])
            + self.constant
        )

    def bound(self, q: _Point) -> float:
        """Lower bound of the Lagrangian at the multipliers, over 0 <= x <= BOX_X and 0 <= t <= 3 prescriptions.

        The slacks are minimised out in closed form; the convex rest is bounded by its tangent at x.
        """
        mu = np.clip(q.mu, 0, self.price)
        slope = self.linear + self.from_limits(mu)
        y = np.where(self.square > 0, q.y, np.minimum(q.y, slope))
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = np.where(self.square > 0, 0.5 * np.maximum(y - slope, 0) ** 2 / self.square, 0.0)
        d = self.dose.times(q.x)
        z = np.concatenate([q.x, q.t])
        value = self._smooth_value(q, d) - loss.sum() + y @ self.residual(d, q.t) + mu @ (self.G @ z - self.h)
        gradient = self.smooth_gradient(q.x, d) + self.adjoint(y) + self.G.T @ mu
        high = np.concatenate([np.full(self.n, BOX_X), np.full(self.tails, self.box_t)])
        return float(value + np.minimum(-gradient * z, gradient * (high - z)).sum())

    # -- one iteration ------------------------------------------------------------------------------------------
    def advance(self, q: _Point) -> _Point:
        """Predictor, corrector, step."""
        z = np.concatenate([q.x, q.t])
        d = self.dose.times(q.x)
        r = self.residual(d, q.t)
        gradient = self.smooth_gradient(q.x, d) + self.adjoint(q.y) + self.G.T @ q.mu
        gradient[: self.n] -= q.nu
        residuals = {
            "z": gradient,
            "s": self.square * q.s + self.linear - q.y - q.w + self.from_limits(q.mu),
            "p": r - q.s + q.p,
            "e": self.G @ z + self.to_limits(q.s) - self.h - q.e + q.u,
            "o": self.price - q.mu - q.o,
        }
        pairs = (("p", "y"), ("s", "w"), ("u", "mu"), ("e", "o"), ("x", "nu"))
        products = {a: getattr(q, a) * getattr(q, b) for a, b in pairs}
        count = sum(v.size for v in products.values())
        centre = sum(v.sum() for v in products.values()) / count

        solver = self._factorised(q)
        affine = self._step(q, residuals, products, solver)
        a_primal, a_dual = self._lengths(q, affine, 1.0)
        trial = q.moved(affine, a_primal, a_dual)
        reached = sum(float(getattr(trial, a) @ getattr(trial, b)) for a, b in pairs) / count
        sigma = (reached / centre) ** 3
        corrected = {a: products[a] + getattr(affine, a) * getattr(affine, b) - sigma * centre for a, b in pairs}
        step = self._step(q, residuals, corrected, solver)
        a_primal, a_dual = self._lengths(q, step, STEP)
        if self.row_weight.any() or self.square.any() or self.smooth.nnz:
            a_primal = a_dual = min(a_primal, a_dual)  # a quadratic objective couples the two
        return q.moved(step, a_primal, a_dual)

    @staticmethod
    def _lengths(q: _Point, step: _Point, fraction: float) -> tuple[float, float]:
        def longest(names: tuple[str, ...]) -> float:
            length = 1.0 / fraction
            for name in names:
                value, change = getattr(q, name), getattr(step, name)
                falling = change < 0
                if falling.any():
                    length = min(length, float(np.min(-value[falling] / change[falling])))
            return min(1.0, fraction * length)

        return longest(("x", "s", "p", "e", "u")), longest(("y", "w", "mu", "o", "nu"))

    def _normal_factor(self, q: _Point, theta: Array, per_row: Array) -> Any:
        """Cholesky factor of the normal matrix, of the fluence and the tails."""
        n, tails, rows = self.n, self.tails, self.dose.shape[0]
        matrix = np.zeros((n + tails, n + tails))
        # Every row counts: leaving light rows out of the step stalls the dual bound.
        self.dose.gram(per_row + self.row_weight, matrix)
        if self.smooth.nnz:
            smooth = self.smooth.tocoo()
            np.add.at(matrix, (smooth.row, smooth.col), smooth.data)
        diagonal = np.arange(n)
        matrix[diagonal, diagonal] += q.nu / q.x
        if tails:
            mine = self.has_tail
            column = np.zeros((rows, tails))
            np.add.at(column, (self.row[mine], self.tail[mine]), theta[mine])
            cross = -self.dose.transposed_times(column)
            matrix[n:, :n] = cross.T
            level = np.arange(n, n + tails)
            matrix[level, level] += self._to_tails(theta)
        matrix[np.diag_indices_from(matrix)] *= 1 + 1e-13
        # The lower triangle by rows is the upper one by columns, the order LAPACK wants: no copy is made.
        return linalg.cho_factor(matrix.T, lower=False, overwrite_a=True, check_finite=False)

    def _factorised(self, q: _Point) -> dict[str, Any]:
        """Everything of the Newton system that does not depend on the right-hand side."""
        kappa, phi = self.square + q.w / q.s, q.p / q.y
        psi = 1 / (1 + phi * kappa)
        theta = kappa * psi
        rows = self.dose.shape[0]
        n, tails = self.n, self.tails
        per_row = _sums(self.row, theta, rows)
        try:
            factor = self._normal_factor(q, theta, per_row)
        except linalg.LinAlgError as error:
            raise SolverError("the interior-point method broke down (normal matrix not positive definite)") from error
        limits = self.G.copy()  # G + C ψ A
        if self.m:
            held = np.flatnonzero(self.has_limit)
            value = (self.share * psi * self.sign)[held]
            column = np.zeros((rows, self.m))
            np.add.at(column, (self.row[held], self.limit[held]), value)
            limits[:, :n] += self.dose.transposed_times(column).T
            tailed = held[self.has_tail[held]]
            np.add.at(limits, (self.limit[tailed], n + self.tail[tailed]), -(self.share * psi * self.sign)[tailed])
            solved = linalg.cho_solve(factor, limits.T, check_finite=False)
            schur = limits @ solved
            own = np.bincount(self.limit[held], weights=(self.share**2 * psi * phi)[held], minlength=self.m)
            schur[np.diag_indices(self.m)] += q.u / q.mu + q.e / q.o + own
        else:
            solved, schur = np.zeros((n + tails, 0)), np.zeros((0, 0))
        return {
             "phi": phi, "psi": psi, "theta": theta,
            "factor": factor, "limits": limits, "solved": solved, "schur": schur,
        }  # fmt: skip

    def _step(self, q: _Point, r: dict[str, Array], c: dict[str, Array], f: dict[str, Any]) -> _Point:
        """Newton's step for residuals r and complementarity residuals c (zero is the goal)."""
        n = self.n
        phi, psi, theta = f["phi"], f["psi"], f["theta"]
        rho_p = r["p"] - c["p"] / q.y
        rho_s = r["s"] + c["s"] / q.s
        rho_e = r["e"] - c["u"] / q.mu + (c["e"] + q.e * r["o"]) / q.o
        rho_z = r["z"].copy()
        rho_z[:n] += c["x"] / q.x
        right_z = -rho_z - self.adjoint(theta * rho_p + psi * rho_s)
        right_e = -rho_e - self.to_limits(psi * (rho_p - phi * rho_s))
        first = linalg.cho_solve(f["factor"], right_z, check_finite=False)
        if self.m:
            dmu = np.linalg.solve(f["schur"], f["limits"] @ first - right_e)
            dz = first - f["solved"] @ dmu
        else:
            dmu, dz = np.zeros(0), first
        dx, dt = dz[:n], dz[n:]
        along = self.direction(dx, dt)
        back = self.from_limits(dmu)
        ds = psi * (along - phi * back - phi * rho_s + rho_p)
        dy = theta * (along + rho_p) + psi * (back + rho_s)
        dp = -(c["p"] + q.p * dy) / q.y
        dw = -(c["s"] + q.w * ds) / q.s
        du = -(c["u"] + q.u * dmu) / q.mu
        do = r["o"] - dmu
        de = -(c["e"] + q.e * do) / q.o
        dnu = -(c["x"] + q.nu * dx) / q.x
        return _Point(dx, dt, ds, dp, de, du, dy, dw, dmu, do, dnu)
