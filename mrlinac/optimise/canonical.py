"""A protocol on rows, written as one convex quadratic programme of a fixed shape.

With x the fluence in units of the even fluence, t one free level per tail, z = (x, t):

    minimise    ½ xᵀ S x + ½ Σ w_r (d_r - l_r)² + gᵀ z + Σ (½ q_i s_i² + c_i s_i) + ρ Σ e_k
    subject to  s_i >= sign_i (d[row_i] - level_i - t[tail_i]),   s_i >= 0        (hinges)
                G z + Σ_{i in k} k_i s_i <= h_k + e_k,   e_k >= 0                 (limits)
                x >= 0

where d = D x + offset. Every kind of a protocol registers the hinges and limits it consists of, so that
`interior` needs to know nothing of protocols. The elastic e_k, at a price ρ far above any dual met in practice, makes
every programme feasible: where it stays above zero it is the relaxation needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.optimise.rows import Rows
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Constraint, Protocol

PRICE_PER_Gy = 1e4
"""Price of exceeding a limit by 1 Gy, in units of the objective (Gy², times the protocol's weights)."""


@dataclass
class Hinges:
    """Arrays over all hinges; see the module's text."""

    row: NDArray[np.int64]
    sign: NDArray[np.float64]
    level: NDArray[np.float64]
    tail: NDArray[np.int64]
    square: NDArray[np.float64]
    linear: NDArray[np.float64]
    limit: NDArray[np.int64]
    share: NDArray[np.float64]


@dataclass
class Programme:
    """The arrays of the programme; built by :func:`build`."""

    rows: Rows
    protocol: Protocol
    level_factor: float
    names: list[str] = field(default_factory=list)
    limits_Gy: list[float] = field(default_factory=list)
    upper: list[bool] = field(default_factory=list)
    tails: int = 0
    constant: float = 0.0
    price: float = PRICE_PER_Gy
    _hinges: list[tuple[NDArray[Any], ...]] = field(default_factory=list)
    _tail_linear: list[float] = field(default_factory=list)
    _limit_rows: list[tuple[NDArray[np.float64] | None, int, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = self.rows
        count = rows.full.shape[0]
        self.unit_mu = rows.reference_mu
        self.linear_x = np.zeros(rows.beamlets)
        self.smooth = sp.csr_array((rows.beamlets, rows.beamlets))
        self.row_weight = np.zeros(count)
        self.row_level = np.zeros(count)
        self.offset = np.zeros(count)
        self.mean_offset = dict.fromkeys(rows.mean, 0.0)

    @property
    def prescription_Gy(self) -> float:
        """What percentages refer to; the factor re-aims a plan whose forward dose came out low or high."""
        return self.protocol.prescription.dose_Gy * self.level_factor

    # -- objectives ---------------------------------------------------------------------------------------------
    @singledispatchmethod
    def add_objective(self, of: object, weight: float) -> None:
        """Add a weighted kind to the objective."""
        raise TypeError(f"no solver rows are registered for {type(of).__name__}")

    @add_objective.register
    def _(self, of: kinds.SquaredOverdose, weight: float) -> None:
        self._squared(of, weight, +1.0, of.level_Gy(self.prescription_Gy))

    @add_objective.register
    def _(self, of: kinds.SquaredUnderdose, weight: float) -> None:
        self._squared(of, weight, -1.0, of.level_Gy(self.prescription_Gy))

    @add_objective.register
    def _(self, of: kinds.SquaredDeviation, weight: float) -> None:
        mine = self.rows.of[of.structure]
        level = of.level_Gy(self.prescription_Gy)
        add = 2 * weight * mine.weights / mine.weights.sum()
        old, new = self.row_weight[mine.rows], self.row_weight[mine.rows] + add
        joint = (old * self.row_level[mine.rows] + add * level) / new
        # Two squares about different levels are one about their mean, plus a constant.
        self.constant += 0.5 * float(np.sum(old * self.row_level[mine.rows] ** 2 + add * level**2 - new * joint**2))
        self.row_level[mine.rows], self.row_weight[mine.rows] = joint, new

    @add_objective.register
    def _(self, of: kinds.MeanDose, weight: float) -> None:
        self.linear_x += weight * self.unit_mu * self.rows.mean[of.structure]
        self.constant += weight * self.mean_offset[of.structure]

    @add_objective.register
    def _(self, of: kinds.UpperTail, weight: float) -> None:
        self._tail(of, +1.0, weight, limit=-1)

    @add_objective.register
    def _(self, of: kinds.LowerTail, weight: float) -> None:
        self._tail(of, -1.0, weight, limit=-1)

    @add_objective.register
    def _(self, of: kinds.FluenceSmoothness, weight: float) -> None:
        pairs, n = self.rows.pairs, self.rows.beamlets
        if not len(pairs):
            return
        edge = np.arange(len(pairs))
        step = sp.csr_array(
            (np.r_[np.ones(len(pairs)), -np.ones(len(pairs))], (np.r_[edge, edge], np.r_[pairs[:, 0], pairs[:, 1]])),
            shape=(len(pairs), n),
        )
        self.smooth = sp.csr_array(self.smooth + (2 * weight / len(pairs)) * (step.T @ step))

    # -- limits -------------------------------------------------------------------------------------------------
    @singledispatchmethod
    def add_limit(self, of: object, name: str, limit_Gy: float, upper: bool) -> None:
        """Add a kind with a limit."""
        raise TypeError(f"no solver rows are registered for a limit on {type(of).__name__}")

    @add_limit.register
    def _(self, of: kinds.MeanDose, name: str, limit_Gy: float, upper: bool) -> None:
        self._limit(name, limit_Gy, upper)
        sign = 1.0 if upper else -1.0
        row = sign * self.unit_mu * self.rows.mean[of.structure]
        self._limit_rows.append((row, -1, 0.0, sign * (limit_Gy - self.mean_offset[of.structure])))

    @add_limit.register(kinds.UpperTail)
    @add_limit.register(kinds.LowerTail)
    def _(self, of: kinds.UpperTail | kinds.LowerTail, name: str, limit_Gy: float, upper: bool) -> None:
        sign = 1.0 if isinstance(of, kinds.UpperTail) else -1.0
        if of.share(self.rows.of[of.structure].weights) >= 1:
            self.add_limit(kinds.MeanDose(structure=of.structure), name, limit_Gy, upper)
            return
        self._limit(name, limit_Gy, upper)
        tail = self._tail(of, sign, 0.0, limit=len(self.names) - 1)
        self._limit_rows.append((None, tail, sign, sign * limit_Gy))

    # -- parts --------------------------------------------------------------------------------------------------
    def _squared(self, of: kinds.DoseKind, weight: float, sign: float, level: float) -> None:
        mine = self.rows.of[of.structure]
        count = len(mine.rows)
        square = 2 * weight * mine.weights / mine.weights.sum()
        none, zero = np.full(count, -1), np.zeros(count)
        self._hinges.append((mine.rows, np.full(count, sign), np.full(count, level), none, square, zero, none, zero))

    def _tail(self, of: kinds.UpperTail | kinds.LowerTail, sign: float, weight: float, limit: int) -> int:
        mine = self.rows.of[of.structure]
        total, share = float(mine.weights.sum()), of.share(mine.weights)
        part = mine.weights / (share * total)
        count, tail = len(mine.rows), self.tails
        zero = np.zeros(count)
        self.tails += 1
        self._tail_linear.append(sign * weight)
        held = part if limit >= 0 else zero
        self._hinges.append(
            (
                mine.rows,
                np.full(count, sign),
                zero,
                np.full(count, tail),
                zero,
                weight * part,
                np.full(count, limit),
                held,
            )
        )
        return tail

    def _limit(self, name: str, limit_Gy: float, upper: bool) -> None:
        self.names.append(name)
        self.limits_Gy.append(limit_Gy)
        self.upper.append(upper)

    # -- arrays -------------------------------------------------------------------------------------------------
    def hinges(self) -> Hinges:
        """All hinges, concatenated."""
        if not self._hinges:
            e, i = np.zeros(0), np.zeros(0, np.int64)
            return Hinges(i, e, e, i, e, e, i, e)
        row, sign, level, tail, square, linear, limit, share = (
            np.concatenate(column) for column in zip(*self._hinges, strict=True)
        )
        return Hinges(row, sign, level, tail, square, linear, limit, share)

    def linear(self) -> NDArray[np.float64]:
        """g over z = (x, t)."""
        return np.concatenate([self.linear_x, np.array(self._tail_linear, float).reshape(-1)])

    def limit_matrix(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """G (limits, beamlets + tails) and h."""
        n = self.rows.beamlets
        matrix = np.zeros((len(self.names), n + self.tails))
        right = np.zeros(len(self.names))
        for k, (row, tail, coefficient, bound) in enumerate(self._limit_rows):
            if row is not None:
                matrix[k, :n] = row
            if tail >= 0:
                matrix[k, n + tail] = coefficient
            right[k] = bound
        return matrix, right


def build(
    rows: Rows,
    protocol: Protocol,
    *,
    offset_Gy: NDArray[np.floating] | None = None,
    level_factor: float = 1.0,
    scaled_later: float = 1.0,
    price: float = PRICE_PER_Gy,
) -> Programme:
    """The programme of a protocol on rows.

    Parameters
    ----------
    offset_Gy : array [z, y, x], optional
        Course dose to add to ``influence @ mu``: what a forward dose had beyond it.
    level_factor : float
        Multiplies the prescription that relative dose levels refer to.
    scaled_later : float
        What the plan will be multiplied by when it is normalised: every limit must hold after that.
    """
    programme = Programme(rows, protocol, level_factor, price=price)
    if offset_Gy is not None:
        programme.offset = rows.on_rows(offset_Gy)
        programme.mean_offset = {name: rows.mean_of(name, offset_Gy) for name in rows.mean}
    for objective in protocol.objectives:
        programme.add_objective(objective.of, objective.weight)
    for constraint, limit_Gy in limits_of(protocol, rows):
        programme.add_limit(constraint.of, constraint.name, limit_Gy / scaled_later, constraint.upper)
    return programme


def limits_of(protocol: Protocol, rows: Rows) -> list[tuple[Constraint, float]]:
    """The constraints whose structure is there, each with its limit in Gy of the course.

    Relative ones refer to the prescription itself, whatever level the objectives aim at.
    """
    return [(c, c.limit_Gy(protocol.prescription)) for c in protocol.constraints if c.of.structure in rows.mean]
