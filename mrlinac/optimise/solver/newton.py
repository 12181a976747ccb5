"""The steps of the interior-point method: where to begin, Newton's system, how far to go.

Notation as in `interior`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg, optimize

from mrlinac.errors import SolverError
from mrlinac.jit import kernel
from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.solver.maps import Array, Maps, Point, sums
from mrlinac.optimise.solver.matrix import KeptGram, RowMatrix

STEP = 0.995
CORRECTORS = 6
"""Most centrality correctors of one factorisation; each costs a thirtieth of it."""
LONGER, FURTHER = 1.2, 0.2
SPREAD = 10.0
WORTH = 0.1
"""A corrector aims at a step LONGER times and FURTHER more, with products within a factor SPREAD of their aim, and is
followed by another if it wins at least a share WORTH of that."""
SHARES = np.linspace(0.6, 1.0, 9)
PRIMAL, DUAL = ("x", "s", "p", "e", "u"), ("y", "w", "mu", "o", "nu")
"""Of a point, what stays above zero."""
"""Of a corrector that are tried: whichever lets the step be longest."""
ASTRAY, CURBED = 0.3, 1e-3
"""By how much, of the products that are open, a norm's gradient may miss its linear model; shortest step for it."""
APPROACH = 60
PENALTY = 100.0
"""Iterations of the first-order method before the start, and its price of a limit's excess squared (per Gy²)."""
START, START_AGAIN = 10.0, 2.0
FLOOR, FLOOR_AGAIN = 0.05, 0.02
ROOM_Gy = 1.0
"""The start's products, over the mean of what the objective suggests; least fluence (each for a first solve and for one
near another); excess of limits that the start may have."""
PAIRS = (("p", "y"), ("s", "w"), ("u", "mu"), ("e", "o"), ("x", "nu"))
"""Slacks and their multipliers."""


@dataclass
class Start:
    """Where to begin: a fluence (in even fluences), the limits' multipliers and the prescription of a similar problem.

    ``first``: not as near, by a first-order method or with another objective.
    """

    x: Array
    dual: Array
    prescription_Gy: float | None = None
    first: bool = False


def slacks(r: Array, force: Array, square: Array, centre: float, steps: int = 60) -> Array:
    """s > max(r, 0) with force + square s = centre / s + centre / (s - r): a hinge on the central path."""
    force = np.maximum(force, 1e-12)
    low, size = np.maximum(r, 0), force * np.abs(r)
    # The solution without the square, written without the difference of large numbers.
    s = low + (centre + 2 * centre**2 / (size + np.hypot(size, 2 * centre))) / force
    for _ in range(steps):
        step = force + square * s - centre / s - centre / (s - r)
        slope = square + centre / s**2 + centre / (s - r) ** 2
        # Convex from the left: from the right a step may overshoot, and is then cut to half the way.
        s = np.maximum(s - step / slope, 0.5 * (s + low))
    return s


class Method(Maps):
    """The steps on the arrays of one programme."""

    def __init__(self, programme: Programme, matrix: RowMatrix) -> None:
        super().__init__(programme, matrix)
        self._squares = KeptGram(matrix)

    # -- start --------------------------------------------------------------------------------------------------
    def start(self, near: Start) -> Point:
        """A point at which hinges hold and all products are equal; limits and gradient become right on the way."""
        x = self.first_x(near)
        d = self.dose.times(x)
        t = self.levels(d, near.prescription_Gy)
        r = self.residual(d, t)
        smallest = np.maximum(r, 0)
        scale, count = (START if near.first else START_AGAIN), 2 * len(r) + 2 * self.m + self.n
        centre = max(scale * self._distance(x, t, d) / count, 1e-9)
        mu = np.clip(near.dual, self._multipliers(x, t, r, centre), 0.99 * self.price)
        of_limit, about = self.cost_of(mu), smallest + 1e-3
        bend = of_limit * self.bend(about)
        force = self.linear + of_limit * self.slope(about) - bend * about
        s = self.norms.centred(slacks(r, force, self.square + bend, centre), r, mu, centre)
        p, o = s - r, self.price - mu
        return Point(x, t, s, p, centre / o, centre / mu, centre / p, centre / s, mu, o, centre / x)

    @staticmethod
    def first_x(near: Start) -> Array:
        """The fluence to begin with: none of it too near to nothing."""
        return np.maximum(near.x, FLOOR if near.first else FLOOR_AGAIN)

    def _distance(self, x: Array, t: Array, d: Array) -> float:
        """What stands for the distance to the optimum: the objective, without the price of limits."""
        smallest = np.maximum(self.residual(d, t), 0)
        value = 0.5 * self.square @ smallest**2 + self.linear @ smallest
        value += 0.5 * self.row_weight @ (d - self.row_level) ** 2 + self.norms.cost(smallest)
        # Where all of it is linear, or met, the terms' own size must do.
        return max(float(value), 0.1 * float(np.abs(self.g) @ np.abs(np.concatenate([x, t]))), 1e-3)

    def approach(self) -> Start:
        """A fair fluence by a first-order method, limits as a quadratic penalty: it costs about one iteration."""
        dual = np.zeros(self.m)

        def value(x: Array) -> tuple[float, Array]:
            d = self.dose.times(x)
            t = self.levels(d)
            s = np.maximum(self.residual(d, t), 0)
            z = np.concatenate([x, t])
            over = np.maximum(self.G @ z + self.in_limits(s) - self.h, 0)
            dual[:] = np.minimum(PENALTY * over, 0.5 * self.price)
            y = (s > 0) * (self.square * s + self.linear + self.cost_of(dual) * self.slope(s))
            total = 0.5 * self.square @ s**2 + self.linear @ s + 0.5 * PENALTY * over @ over
            total += 0.5 * x @ (self.smooth @ x) + 0.5 * self.row_weight @ (d - self.row_level) ** 2 + self.g @ z
            total += self.norms.cost(s)
            gradient = self.smooth_gradient(x, d) + self.adjoint(y) + self.G.T @ dual
            return float(total), gradient[: self.n]

        solution = optimize.minimize(
            value, np.ones(self.n), jac=True, method="L-BFGS-B", bounds=[(0, None)] * self.n,
            options={"maxiter": APPROACH, "maxcor": 20},
        )  # fmt: skip
        value(solution.x)
        return Start(solution.x, dual.copy(), first=True)

    def _multipliers(self, x: Array, t: Array, r: Array, centre: float) -> Array:
        """The least multipliers at which the slacks of a limit's hinges do not exceed it, but for ROOM_Gy.

        A hinge without force has a slack without end.
        """
        held, rest = self.has_limit, self.G @ np.concatenate([x, t]) - self.h
        share, limit = self.slope(np.maximum(r, 0) + 1e-3)[held], self.limit[held]
        rest, share = rest + self.norms.in_limits(np.maximum(r, 0), self.m), share * (self.norms.of[held] < 0)
        allowed = np.maximum(rest + sums(limit, share * np.maximum(r[held], 0), self.m), 0) + ROOM_Gy
        low, high = np.full(self.m, np.log(1e-9 * self.price)), np.full(self.m, np.log(0.5 * self.price))
        for _ in range(40 if self.m else 0):
            mu = np.exp(0.5 * (low + high))
            force = self.linear[held] + share * mu[limit]
            over = rest + sums(limit, share * slacks(r[held], force, self.square[held], centre, 0), self.m)
            small = centre / (self.price - mu) - centre / mu < over - allowed
            low, high = np.where(small, np.log(mu), low), np.where(small, high, np.log(mu))
        return np.asarray(np.exp(high))

    def levels(self, d: Array, prescription_Gy: float | None = None) -> Array:
        """The tails' levels that are best for row doses d; the prescription where it is one."""
        t = np.full(self.tails, self.first_prescription_Gy)
        part = self.linear + self.share
        for k in range(self.tails - self.border):
            of_tail = np.flatnonzero(self.tail == k)
            signed = self.sign[of_tail] * d[self.row[of_tail]] - self.b[of_tail]
            order = np.argsort(-signed)
            first = int(np.searchsorted(np.cumsum(part[of_tail][order]), max(self._tail_force(k), 1e-12)))
            t[k] = self.sign[of_tail[0]] * signed[order[min(first, len(order) - 1)]]
        if self.border and prescription_Gy is not None:
            t[-1] = prescription_Gy
        return t

    def _tail_force(self, k: int) -> float:
        """What the parts of a tail's hinges add up to at its best level: the (linear) price of the level itself."""
        return float(max(abs(self.g[self.n + k]), np.abs(self.G[:, self.n + k]).max(initial=0.0)))

    def whole(self, q: Point) -> Point:
        """The point with all hinges of the programme."""
        return q

    def prices(self, q: Point) -> Array:
        """What a Gy of each limit is worth: its multiplier; of one held voxel by voxel, the sum of theirs."""
        return np.where(self.by_voxel, self.to_limits(q.y), q.mu) if self.by_voxel.any() else q.mu

    # -- one iteration ------------------------------------------------------------------------------------------
    def advance(self, q: Point) -> Point:
        """Predictor, corrector, step."""
        residuals, products = self.residuals(q), self.products(q)
        count = sum(v.size for v in products.values())
        centre = sum(v.sum() for v in products.values()) / count

        solver = self._factorised(q)
        affine = self._step(q, residuals, products, solver)
        a_primal, a_dual = self._lengths(q, affine, 1.0)
        trial = q.moved(affine, a_primal, a_dual)
        reached = sum(float(getattr(trial, a) @ getattr(trial, b)) for a, b in PAIRS) / count
        sigma = (reached / centre) ** 3
        quadratic = self.row_weight.any() or self.square.any() or self.smooth.nnz
        coupled = bool(quadratic or self.curved or self.norms)
        corrected = {a: products[a] + getattr(affine, a) * getattr(affine, b) - sigma * centre for a, b in PAIRS}
        whole = self._step(q, residuals, corrected, solver)
        step, a_primal, a_dual = self._longest(q, affine, whole, coupled)
        nothing = {name: np.zeros_like(residual) for name, residual in residuals.items()}
        for _ in range(CORRECTORS):
            # Gondzio 1996: products that a somewhat longer step would leave far from the mean are drawn towards it.
            longer_p, longer_d = min(1.0, LONGER * a_primal + FURTHER), min(1.0, LONGER * a_dual + FURTHER)
            trial = q.moved(step, longer_p, longer_d)
            aim = sigma * centre
            more = {}
            for a, b in PAIRS:
                product = getattr(trial, a) * getattr(trial, b)
                more[a] = np.minimum(product - np.clip(product, aim / SPREAD, SPREAD * aim), SPREAD * aim)
            whole = step.moved(self._step(q, nothing, more, solver), 1.0, 1.0)
            other, b_primal, b_dual = self._longest(q, step, whole, coupled)
            if b_primal + b_dual < a_primal + a_dual + WORTH * (longer_p - a_primal + longer_d - a_dual):
                if b_primal + b_dual > a_primal + a_dual:
                    step, a_primal, a_dual = other, b_primal, b_dual
                break
            step, a_primal, a_dual = other, b_primal, b_dual
        if self.norms:
            a_primal = a_dual = self._curbed(q, step, a_primal)
        return q.moved(step, STEP * a_primal, STEP * a_dual)

    def residuals(self, q: Point) -> dict[str, Array]:
        """By what the conditions of an optimum are missed, but for the products: by fluence and levels (z), slacks (s),
        hinges (p), limits (e) and their elasticity (o)."""
        z = np.concatenate([q.x, q.t])
        d = self.row_dose(q.x)
        r = self.residual(d, q.t)
        gradient = self.smooth_gradient(q.x, d) + self.adjoint(q.y) + self.G.T @ q.mu
        gradient[: self.n] -= q.nu
        return {
            "z": gradient,
            "s": self.square * q.s + self.linear - q.y - q.w + self.cost_of(q.mu) * self.slope(q.s),
            "p": r - q.s + q.p,
            "e": self.G @ z + self.in_limits(q.s) - self.h - q.e + q.u,
            "o": self.price - q.mu - q.o,
        }

    @staticmethod
    def products(q: Point) -> dict[str, Array]:
        """Of slacks and their multipliers, by slack."""
        return {a: getattr(q, a) * getattr(q, b) for a, b in PAIRS}

    def _longest(self, q: Point, step: Point, other: Point, coupled: bool) -> tuple[Point, float, float]:
        """Between two steps the one that can be taken furthest, and how far: in all, or primal and dual by themselves.

        Colombo and Gondzio 2008 (Comput Optim Appl 41:277): a corrector can be too much of a good thing.
        """
        primal_dual = [np.ones(len(SHARES)), np.ones(len(SHARES))]
        for longest, names in zip(primal_dual, (PRIMAL, DUAL), strict=True):
            for name in names:
                _longest_by_share(getattr(q, name), getattr(step, name), getattr(other, name), SHARES, longest)
        lengths = [(float(primal), float(dual)) for primal, dual in zip(*primal_dual, strict=True)]
        if coupled:
            length, share = max((min(pair), share) for pair, share in zip(lengths, SHARES, strict=True))
            return step.towards(other, share, share), length, length
        (a_primal, primal), (a_dual, dual) = (
            max((pair[k], share) for pair, share in zip(lengths, SHARES, strict=True)) for k in (0, 1)
        )
        return step.towards(other, primal, dual), a_primal, a_dual

    def _curbed(self, q: Point, step: Point, length: float) -> float:
        """A length at which norms are still near their linear model: with a high exponent it does not reach far."""
        members = self.norms.members

        def missed(point: Point) -> float:
            error = self.cost_of(point.mu) * self.slope(point.s) - point.y - point.w
            return float(np.abs(error * point.s)[members].sum())

        first, open_ = missed(q), float((q.p * q.y + q.s * q.w)[members].sum())
        while length > CURBED:
            after = missed(q.moved(step, STEP * length, STEP * length))
            if after <= (1 - 0.5 * length) * (first + ASTRAY * open_):
                break
            length *= 0.7
        return length

    @staticmethod
    def _lengths(q: Point, step: Point, fraction: float) -> tuple[float, float]:
        def longest(names: tuple[str, ...]) -> float:
            length = 1.0 / fraction
            for name in names:
                value, change = getattr(q, name), getattr(step, name)
                falling = change < 0
                if falling.any():
                    length = min(length, float(np.min(-value[falling] / change[falling])))
            return min(1.0, fraction * length)

        return longest(PRIMAL), longest(DUAL)

    def _normal_factor(self, q: Point, theta: Array, per_row: Array) -> Any:
        """Cholesky factor of the normal matrix, of the fluence and the tails."""
        n, tails, rows = self.n, self.tails - self.border, self.dose.shape[0]
        matrix = np.zeros((n + tails, n + tails))
        # Every row counts: leaving light rows out of the step stalls the dual bound.
        self.dose.gram(per_row, matrix)
        if self.row_weight.any():
            matrix[:n, :n] += self._squares.of(self.row_weight)
        if self.smooth.nnz:
            smooth = self.smooth.tocoo()
            np.add.at(matrix, (smooth.row, smooth.col), smooth.data)
        diagonal = np.arange(n)
        matrix[diagonal, diagonal] += q.nu / q.x
        if tails:
            of_tails = self.has_tail & (self.tail < tails)
            column = np.zeros((rows, tails))
            np.add.at(column, (self.row[of_tails], self.tail[of_tails]), theta[of_tails])
            cross = -self.dose.transposed_times(column)
            matrix[n:, :n] = cross.T
            level = np.arange(n, n + tails)
            matrix[level, level] += self._to_tails(theta)[:tails]
        matrix[np.diag_indices_from(matrix)] *= 1 + 1e-13
        # The lower triangle by rows is the upper one by columns, the order LAPACK wants: no copy is made.
        return linalg.cho_factor(matrix.T, lower=False, overwrite_a=True, check_finite=False)

    def _factorised(self, q: Point) -> dict[str, Any]:
        """Everything of the Newton system that does not depend on the right-hand side."""
        kappa, phi = self.square + q.w / q.s, q.p / q.y
        slope = self.slope(q.s)
        if self.curved or self.norms:
            kappa = kappa + self.cost_of(q.mu) * self.bend(q.s)
        psi = 1 / (1 + phi * kappa)
        theta = kappa * psi
        rows = self.dose.shape[0]
        n, inner = self.n, self.n + self.tails - self.border
        per_row = sums(self.row, theta, rows)
        try:
            factor = self._normal_factor(q, theta, per_row)
        except linalg.LinAlgError as error:
            raise SolverError("the interior-point method broke down (normal matrix not positive definite)") from error
        limits = self.G.copy()  # G + C ψ A
        own: Any = np.zeros(self.m)
        if self.m:
            held = np.flatnonzero(self.has_limit)
            value = (slope * psi * self.sign)[held]
            column = np.zeros((rows, self.m))
            np.add.at(column, (self.row[held], self.limit[held]), value)
            limits[:, :n] += self.dose.transposed_times(column).T
            tailed = held[self.has_tail[held]]
            np.add.at(limits, (self.limit[tailed], n + self.tail[tailed]), -(slope * psi * self.pull)[tailed])
            own = np.bincount(self.limit[held], weights=(slope**2 * psi * phi)[held], minlength=self.m)
            own = own + q.u / q.mu + q.e / q.o
        # The limits, and the prescription where it is a variable, border the normal matrix; they are few.
        edge, corner = limits[:, :inner].T, np.zeros((self.m + self.border, self.m + self.border))
        corner[np.arange(self.m), np.arange(self.m)] = -own
        if self.border:
            moved = np.flatnonzero(self.tail == self.tails - 1)
            pulled = sums(self.row[moved], (self.sign * self.pull * theta)[moved], rows)
            beside = np.concatenate([-self.dose.transposed_times(pulled), np.zeros(inner - n)])
            edge = np.column_stack([edge, beside])
            corner[-1, :-1] = corner[:-1, -1] = limits[:, -1]
            corner[-1, -1] = float(np.sum((self.pull**2 * theta)[moved]))
        if self.norms:
            edge, corner = self._with_norms(q, edge, corner, slope * psi, slope**2 * psi * phi)
        solved = linalg.cho_solve(factor, edge, check_finite=False) if edge.shape[1] else edge
        return {
             "phi": phi, "psi": psi, "theta": theta, "slope": slope,
            "factor": factor, "edge": edge, "solved": solved, "schur": edge.T @ solved - corner,
        }  # fmt: skip

    def _with_norms(self, q: Point, edge: Array, corner: Array, along: Array, own: Array) -> tuple[Array, Array]:
        """One more line a norm: the sum of its hinges' changes, which takes off some of their curvature."""
        norms, before = self.norms, len(corner)
        column = np.zeros((self.dose.shape[0], len(norms)))
        np.add.at(column, (self.row[norms.members], norms.of[norms.members]), (along * self.sign)[norms.members])
        beside = np.zeros((len(edge), len(norms)))
        beside[: self.n] = self.dose.transposed_times(column)
        levels = np.zeros((self.tails, len(norms)))  # by the levels that a norm's hinges are about, as in `direction`
        moved = norms.members[self.has_tail[norms.members]]
        np.add.at(levels, (self.tail[moved], norms.of[moved]), -(along * self.pull)[moved])
        beside[self.n :] = levels[: len(edge) - self.n]
        larger = np.zeros((before + len(norms), before + len(norms)))
        larger[:before, :before] = corner
        at, of_own = before + np.arange(len(norms)), norms.sums(own)
        larger[at, at] = 1 / norms.pull(q.s, q.mu) - of_own
        if self.border:
            larger[self.m, at] = larger[at, self.m] = levels[-1]
        for line, norm, value in zip(at, norms.all, of_own, strict=True):
            if norm.limit >= 0:
                larger[norm.limit, line] = larger[line, norm.limit] = -value
        return np.column_stack([edge, beside]), larger

    def _step(self, q: Point, r: dict[str, Array], c: dict[str, Array], f: dict[str, Any]) -> Point:
        """Newton's step for residuals r and complementarity residuals c (zero is the goal)."""
        n = self.n
        phi, psi, theta, slope = f["phi"], f["psi"], f["theta"], f["slope"]
        rho_p = r["p"] - c["p"] / q.y
        rho_s = r["s"] + c["s"] / q.s
        rho_e = r["e"] - c["u"] / q.mu + (c["e"] + q.e * r["o"]) / q.o
        rho_z = r["z"].copy()
        rho_z[:n] += c["x"] / q.x
        right_z = -rho_z - self.adjoint(theta * rho_p + psi * rho_s)
        right_e = -rho_e - self.to_limits(slope * psi * (rho_p - phi * rho_s))
        inner = n + self.tails - self.border
        dz = linalg.cho_solve(f["factor"], right_z[:inner], check_finite=False)
        dmu, joint = np.zeros(0), np.zeros(0)
        if f["edge"].shape[1]:
            beyond = [right_e, right_z[inner:], -self.norms.sums(slope * psi * (rho_p - phi * rho_s))]
            right = f["edge"].T @ dz - np.concatenate(beyond)
            try:
                few = np.linalg.solve(f["schur"], right)
            except np.linalg.LinAlgError:  # two limits say the same: any division of their price will do
                few = np.linalg.lstsq(f["schur"], right, rcond=None)[0]
            dz = dz - f["solved"] @ few
            dmu = few[: self.m]
            dz = np.concatenate([dz, few[self.m : self.m + self.border]])
            joint = few[self.m + self.border :]
        dx, dt = dz[:n], dz[n:]
        along = self.direction(dx, dt)
        back = slope * self.price_of(dmu)
        if self.norms:
            back = back + np.where(self.norms.of >= 0, slope * joint[self.norms.of], 0.0)
        ds = psi * (along - phi * back - phi * rho_s + rho_p)
        dy = theta * (along + rho_p) + psi * (back + rho_s)
        dp = -(c["p"] + q.p * dy) / q.y
        dw = -(c["s"] + q.w * ds) / q.s
        du = -(c["u"] + q.u * dmu) / q.mu
        do = r["o"] - dmu
        de = -(c["e"] + q.e * do) / q.o
        dnu = -(c["x"] + q.nu * dx) / q.x
        return Point(dx, dt, ds, dp, de, du, dy, dw, dmu, do, dnu)


@kernel
def _longest_by_share(value: Any, step: Any, other: Any, share: Any, longest: Any) -> None:
    """Shorten lengths to where a value falls to zero, for each share of another step in place of a step."""
    for i in range(value.shape[0]):
        for k in range(share.shape[0]):
            change = (1.0 - share[k]) * step[i] + share[k] * other[i]
            if change < 0.0:
                length = -value[i] / change
                if length < longest[k]:
                    longest[k] = length
