"""A protocol on rows, written as one convex quadratic programme of a fixed shape.

With x the fluence in units of the even fluence, t one free level per tail, z = (x, t):

    minimise    ½ xᵀ S x + ½ Σ w_r (d_r - l_r)² + gᵀ z + Σ (½ q_i s_i² + c_i s_i) + ρ Σ e_k
    subject to  s_i >= sign_i (d[row_i] - level_i - f_i t[tail_i]),   s_i >= 0    (hinges)
                G z + Σ_{i in k} φ_i(s_i) <= h_k + e_k,   e_k >= 0                (limits)
                x >= 0

where d = D x + offset and φ(s) = k s + ½ c s² is convex and grows: linear for tails, quadratic for EQD2 and for held
objectives. Generalised EUD is a norm of hinges, w (Σ m_i s_iᵃ)^(1/a), in the objective or in a limit, and so is the root
of a mean square in a limit. Where the prescription escalates it is the last level of t: the objective is its negative, and
what is relative to it moves with it. Every kind of a protocol registers the hinges and limits it consists of, so that
`interior` needs to know nothing of protocols. The elastic e_k, at a price ρ far above any dual met in practice, makes every
programme feasible: where it stays above zero it is the relaxation needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import singledispatchmethod
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.errors import SpecError
from mrlinac.optimise.rows import Rows
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Constraint, Objective, Protocol

PRICE_PER_Gy = 1e4
"""Price of exceeding a limit by 1 Gy, in units of the objective (Gy², times the protocol's weights)."""


ESCALATION_PRICE = 300.0
"""The same where the objective is the prescription, in Gy a Gy: a Gy of an organ's limit buys a few of it."""
PRESCRIPTION = -2
"""Stands for the prescription's level until their number is known."""
Held = Mapping[int, NDArray[np.bool_]]
"""By number of the constraint on a DVH statement: which of its structure's rows the second pass holds."""


@dataclass
class Hinges:
    """Arrays over all hinges; see the module's text."""

    row: NDArray[np.int64]
    sign: NDArray[np.float64]
    level: NDArray[np.float64]
    tail: NDArray[np.int64]
    factor: NDArray[np.float64]
    square: NDArray[np.float64]
    linear: NDArray[np.float64]
    limit: NDArray[np.int64]
    share: NDArray[np.float64]
    curve: NDArray[np.float64]
    part: NDArray[np.float64]
    exponent: NDArray[np.float64]
    norm: NDArray[np.int64]


@dataclass(frozen=True)
class Bound:
    """A limit: ``fixed_Gy`` and ``of_prescription`` of the prescription where that is searched for.

    ``by_voxel``: the second pass of a DVH statement, whose price is the sum of its voxels'.
    """

    name: str
    fixed_Gy: float
    upper: bool
    of_prescription: float = 0.0
    by_voxel: bool = False


@dataclass
class LimitRow:
    """The linear part of a limit: over the fluence, over levels (number: coefficient), and the right-hand side."""

    right: float
    fluence: NDArray[np.float64] | None = None
    levels: dict[int, float] = field(default_factory=dict)


@dataclass
class Programme:
    """The arrays of the programme; built by :func:`build`."""

    rows: Rows
    protocol: Protocol
    level_factor: float
    scaled_later: float = 1.0
    bounds: list[Bound] = field(default_factory=list)
    tails: int = 0
    norms: list[float] = field(default_factory=list)
    constant: float = 0.0
    price: float = PRICE_PER_Gy
    cap_Gy: float | None = None
    held: Held = field(default_factory=dict)
    objectives: tuple[Objective, ...] = ()
    wishes: list[tuple[tuple[Objective, ...], float]] = field(default_factory=list)
    _hinges: list[tuple[NDArray[Any], ...]] = field(default_factory=list)
    _level_linear: list[float] = field(default_factory=list)
    _limit_rows: list[LimitRow] = field(default_factory=list)

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
    def escalates(self) -> bool:
        """Whether the prescription is a variable: the last level."""
        return self.cap_Gy is not None

    @property
    def levels(self) -> int:
        """Number of free levels: one a tail, and the prescription where it escalates."""
        return self.tails + self.escalates

    @property
    def prescription_Gy(self) -> float:
        """What percentages refer to; the factor re-aims a plan whose forward dose came out low or high."""
        return self.protocol.prescription.dose_Gy * self.level_factor

    # -- objectives: as costs, or, with the number of a limit, as parts of it ------------------------------------
    @singledispatchmethod
    def add_objective(self, of: object, weight: float, limit: int = -1) -> None:
        """Add a weighted kind to the objective, or to a limit."""
        raise TypeError(f"no solver rows are registered for {type(of).__name__}")

    @add_objective.register
    def _(self, of: kinds.SquaredOverdose, weight: float, limit: int = -1) -> None:
        self._squared(of, weight, +1.0, of.level_Gy(self.prescription_Gy), limit)

    @add_objective.register
    def _(self, of: kinds.SquaredUnderdose, weight: float, limit: int = -1) -> None:
        self._squared(of, weight, -1.0, of.level_Gy(self.prescription_Gy), limit)

    @add_objective.register
    def _(self, of: kinds.SquaredDeviation, weight: float, limit: int = -1) -> None:
        mine = self.rows.of[of.structure]
        level = of.level_Gy(self.prescription_Gy)
        if limit >= 0:
            self._squared(of, weight, +1.0, level, limit)
            self._squared(of, weight, -1.0, level, limit)
            return
        add = 2 * weight * mine.weights / mine.weights.sum()
        old, new = self.row_weight[mine.rows], self.row_weight[mine.rows] + add
        joint = (old * self.row_level[mine.rows] + add * level) / new
        # Two squares about different levels are one about their mean, plus a constant.
        self.constant += 0.5 * float(np.sum(old * self.row_level[mine.rows] ** 2 + add * level**2 - new * joint**2))
        self.row_level[mine.rows], self.row_weight[mine.rows] = joint, new

    @add_objective.register
    def _(self, of: kinds.MeanDose, weight: float, limit: int = -1) -> None:
        row, offset = weight * self.unit_mu * self.rows.mean[of.structure], weight * self.mean_offset[of.structure]
        if limit >= 0:
            held = self._limit_rows[limit]
            held.fluence = row if held.fluence is None else held.fluence + row
            held.right -= offset
            return
        self.linear_x += row
        self.constant += offset

    @add_objective.register
    def _(self, of: kinds.UpperTail, weight: float, limit: int = -1) -> None:
        self._tail(of, +1.0, weight, limit)

    @add_objective.register
    def _(self, of: kinds.LowerTail, weight: float, limit: int = -1) -> None:
        self._tail(of, -1.0, weight, limit)

    @add_objective.register
    def _(self, of: kinds.MeanEQD2, weight: float, limit: int = -1) -> None:
        mine = self.rows.of[of.structure]
        linear, square = self._eqd2(of, weight * mine.weights / mine.weights.sum())
        if limit >= 0:
            self._add(mine.rows, +1.0, limit=limit, share=linear, curve=square)
        else:
            self._add(mine.rows, +1.0, linear=linear, square=square)

    @add_objective.register
    def _(self, of: kinds.Geud, weight: float, limit: int = -1) -> None:
        if of.exponent == 1:
            self.add_objective(kinds.MeanDose(structure=of.structure), weight, limit)
            return
        mine = self.rows.of[of.structure]
        part = mine.weights / mine.weights.sum()
        self._add(mine.rows, +1.0, limit=limit, part=part, exponent=of.exponent, norm=len(self.norms))
        self.norms.append(weight)

    @add_objective.register
    def _(self, of: kinds.FluenceSmoothness, weight: float, limit: int = -1) -> None:
        pairs, n = self.rows.pairs, self.rows.beamlets
        if not len(pairs) or limit >= 0:
            return  # never held: it is part of every priority's objective
        edge = np.arange(len(pairs))
        step = sp.csr_array(
            (np.r_[np.ones(len(pairs)), -np.ones(len(pairs))], (np.r_[edge, edge], np.r_[pairs[:, 0], pairs[:, 1]])),
            shape=(len(pairs), n),
        )
        self.smooth = sp.csr_array(self.smooth + (2 * weight / len(pairs)) * (step.T @ step))

    # -- limits -------------------------------------------------------------------------------------------------
    @singledispatchmethod
    def add_limit(self, of: object, bound: Bound) -> None:
        """Add a kind with a limit."""
        raise TypeError(f"no solver rows are registered for a limit on {type(of).__name__}")

    @add_limit.register
    def _(self, of: kinds.MeanDose, bound: Bound) -> None:
        sign = 1.0 if bound.upper else -1.0
        number = self._limit(bound, sign * (bound.fixed_Gy - self.mean_offset[of.structure]))
        self._limit_rows[number].fluence = sign * self.unit_mu * self.rows.mean[of.structure]
        self._relative(number, -sign * bound.of_prescription)

    @add_limit.register(kinds.UpperTail)
    @add_limit.register(kinds.LowerTail)
    def _(self, of: kinds.UpperTail | kinds.LowerTail, bound: Bound) -> None:
        sign = 1.0 if isinstance(of, kinds.UpperTail) else -1.0
        if of.share(self.rows.of[of.structure].weights) >= 1:
            self.add_limit(kinds.MeanDose(structure=of.structure), bound)
            return
        number = self._limit(bound, sign * bound.fixed_Gy)
        self._tail(of, sign, 1.0, number)
        self._relative(number, -sign * bound.of_prescription)

    @add_limit.register
    def _(self, of: kinds.DoseAtVolume, bound: Bound) -> None:
        held = self.held.get(len(self.bounds))
        if held is None:  # the first pass: what implies it
            self.add_limit(of.restriction(bound.upper), bound)
            return
        mine = self.rows.of[of.structure]
        share = of.share(mine.weights)
        part = mine.weights[held] / ((share if bound.upper else 1 - share) * mine.weights.sum())
        number = self._limit(replace(bound, by_voxel=True), 0.0)
        sign, relative = (1.0 if bound.upper else -1.0), bound.of_prescription
        self._add(
            mine.rows[held], sign, level=bound.fixed_Gy, tail=PRESCRIPTION if relative else -1,
            factor=relative or 1.0, limit=number, share=part,
        )  # fmt: skip

    @add_limit.register
    def _(self, of: kinds.Geud, bound: Bound) -> None:
        number = self._limit(bound, bound.fixed_Gy)
        self.add_objective(of, 1.0, number)
        self._relative(number, -bound.of_prescription)

    @add_limit.register
    def _(self, of: kinds.MeanEQD2, bound: Bound) -> None:
        mine = self.rows.of[of.structure]
        share, curve = self._eqd2(of, mine.weights / mine.weights.sum())
        number = self._limit(bound, bound.fixed_Gy)
        self._add(mine.rows, +1.0, limit=number, share=share, curve=curve)

    @add_limit.register
    def _(self, of: kinds.SquaredKind, bound: Bound) -> None:
        mine = self.rows.of[of.structure]
        number, norm = self._limit(bound, bound.fixed_Gy), len(self.norms)
        level, tail, factor = of.level_Gy(self.protocol.prescription.dose_Gy) / self.scaled_later, -1, 1.0
        if self.escalates and of.dose_percent is not None:
            level, tail, factor = 0.0, PRESCRIPTION, of.dose_percent / 100
        for sign, other in ((+1.0, kinds.SquaredUnderdose), (-1.0, kinds.SquaredOverdose)):
            if not isinstance(of, other):
                self._add(
                    mine.rows, sign, level=level, tail=tail, factor=factor, limit=number, exponent=2.0, norm=norm,
                    part=mine.weights / mine.weights.sum(),
                )  # fmt: skip
        self.norms.append(1.0)  # the root of the mean square
        self._relative(number, -bound.of_prescription)

    def hold(self, wishes: tuple[Objective, ...], at_most: float) -> None:
        """A limit on a weighted sum of objectives, in its own unit."""
        number = self._limit(Bound("priority " + str(wishes[0].priority), at_most, True), at_most)
        for wish in wishes:
            self.add_objective(wish.of, wish.weight, number)
        self.wishes.append((wishes, at_most))

    # -- parts --------------------------------------------------------------------------------------------------
    def _add(
        self, rows: NDArray[np.int64], sign: float, *, level: float = 0.0, tail: int = -1, factor: float = 1.0,
        square: Any = 0.0, linear: Any = 0.0, limit: int = -1, share: Any = 0.0, curve: Any = 0.0, part: Any = 0.0,
        exponent: float = 2.0, norm: int = -1,
    ) -> None:  # fmt: skip
        columns = (sign, level, tail, factor, square, linear, limit, share, curve, part, exponent, norm)
        self._hinges.append((rows, *(np.broadcast_to(column, rows.shape) for column in columns)))

    def _eqd2(self, of: kinds.MeanEQD2, part: NDArray[np.float64]) -> tuple[Any, Any]:
        """Linear and quadratic coefficient of a hinge's slack, which is the dose."""
        below = 2.0 + of.alpha_beta_Gy
        return part * of.alpha_beta_Gy / below, 2 * part / (self.protocol.prescription.fractions * below)

    def _squared(self, of: kinds.DoseKind, weight: float, sign: float, level: float, limit: int) -> None:
        mine = self.rows.of[of.structure]
        square = 2 * weight * mine.weights / mine.weights.sum()
        if limit >= 0:
            self._add(mine.rows, sign, level=level, limit=limit, curve=square)
        else:
            self._add(mine.rows, sign, level=level, square=square)

    def _tail(self, of: kinds.UpperTail | kinds.LowerTail, sign: float, weight: float, limit: int) -> None:
        mine = self.rows.of[of.structure]
        part = weight * mine.weights / (of.share(mine.weights) * float(mine.weights.sum()))
        tail = self.tails
        self.tails += 1
        self._level_linear.append(sign * weight if limit < 0 else 0.0)
        if limit >= 0:
            self._limit_rows[limit].levels[tail] = sign * weight
            self._add(mine.rows, sign, tail=tail, limit=limit, share=part)
        else:
            self._add(mine.rows, sign, tail=tail, linear=part)

    def _limit(self, bound: Bound, right: float) -> int:
        self.bounds.append(bound)
        self._limit_rows.append(LimitRow(right))
        return len(self.bounds) - 1

    def _relative(self, number: int, coefficient: float) -> None:
        if coefficient:
            self._limit_rows[number].levels[PRESCRIPTION] = coefficient

    def escalate(self) -> None:
        """Make the prescription as large as it may be, up to the cap."""
        cap_Gy = float(self.cap_Gy or 0)
        self._relative(self._limit(Bound("the prescription's cap", cap_Gy, True), cap_Gy), 1.0)

    def right(self, number: int) -> float:
        """Right-hand side of a limit."""
        return self._limit_rows[number].right

    def loosened(self, by: NDArray[np.float64], price: float) -> Programme:
        """The same with each limit further out, in its own unit."""
        wide = copy(self)
        wide.price = price
        wide.bounds = [
            b if b.by_voxel else replace(b, fixed_Gy=b.fixed_Gy + (e if b.upper else -e))
            for b, e in zip(self.bounds, by, strict=True)
        ]
        held = by[len(by) - len(self.wishes) :]
        wide.wishes = [(group, at_most + e) for (group, at_most), e in zip(self.wishes, held, strict=True)]
        wide._limit_rows = [replace(r, right=r.right + e) for r, e in zip(self._limit_rows, by, strict=True)]
        return wide

    # -- arrays -------------------------------------------------------------------------------------------------
    def hinges(self) -> Hinges:
        """All hinges, concatenated."""
        if not self._hinges:
            e, i = np.zeros(0), np.zeros(0, np.int64)
            return Hinges(i, e, e, i, e, e, e, i, e, e, e, e, i)
        found = Hinges(*(np.concatenate(column) for column in zip(*self._hinges, strict=True)))
        found.tail = np.where(found.tail == PRESCRIPTION, self.tails, found.tail)
        return found

    def linear(self) -> NDArray[np.float64]:
        """g over z = (x, t)."""
        levels = [*self._level_linear, -1.0] if self.escalates else self._level_linear
        return np.concatenate([self.linear_x, np.array(levels, float).reshape(-1)])

    def limit_matrix(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """G (limits, beamlets + levels) and h."""
        n = self.rows.beamlets
        matrix = np.zeros((len(self.bounds), n + self.levels))
        for k, row in enumerate(self._limit_rows):
            if row.fluence is not None:
                matrix[k, :n] = row.fluence
            for level, coefficient in row.levels.items():
                matrix[k, n + (self.tails if level == PRESCRIPTION else level)] = coefficient
        return matrix, np.array([row.right for row in self._limit_rows], float).reshape(-1)


def build(
    rows: Rows,
    protocol: Protocol,
    *,
    offset_Gy: NDArray[np.floating] | None = None,
    level_factor: float = 1.0,
    scaled_later: float = 1.0,
    price: float | None = None,
    escalate: bool = False,
    held: Held | None = None,
    wishes: Sequence[tuple[tuple[Objective, ...], float]] = (),
    objectives: Sequence[Objective] | None = None,
    shift_Gy: Mapping[str, float] | None = None,
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
    escalate : bool
        Maximise the prescription, up to the protocol's cap, instead of the objectives.
    held : mapping, optional
        The second pass of DVH statements.
    wishes : sequence of (objectives, value)
        Weighted sums to hold.
    objectives : sequence, optional
        Instead of the protocol's.
    shift_Gy : mapping, optional
        By limit: what all voxels have beyond the rows, where rows stand for several; the limit is lowered by it.
    """
    if escalate and protocol.escalation is None:
        raise SpecError(f"protocol {protocol.name} has no table 'escalation'")
    cap_Gy = protocol.escalation.cap_Gy if escalate and protocol.escalation else None
    price = price or (ESCALATION_PRICE if escalate else PRICE_PER_Gy)
    programme = Programme(rows, protocol, level_factor, scaled_later, price=price, cap_Gy=cap_Gy, held=held or {})
    if offset_Gy is not None:
        programme.offset = rows.on_rows(offset_Gy)
        programme.mean_offset = {name: rows.mean_of(name, offset_Gy) for name in rows.mean}
    programme.objectives = () if escalate else tuple(protocol.objectives if objectives is None else objectives)
    for objective in programme.objectives:
        programme.add_objective(objective.of, objective.weight)
    for constraint, limit_Gy in limits_of(protocol, rows):
        programme.add_limit(
            constraint.of,
            _bound(constraint, limit_Gy - (shift_Gy or {}).get(constraint.name, 0.0), scaled_later, escalate),
        )
    for group, at_most in wishes:
        programme.hold(group, at_most)
    if escalate:
        programme.escalate()
    return programme


def _bound(constraint: Constraint, limit_Gy: float, scaled_later: float, escalate: bool) -> Bound:
    percent = constraint.at_most_percent or constraint.at_least_percent
    if escalate and percent is not None:
        return Bound(constraint.name, 0.0, constraint.upper, percent / 100)
    return Bound(constraint.name, limit_Gy / scaled_later, constraint.upper)


def limits_of(protocol: Protocol, rows: Rows) -> list[tuple[Constraint, float]]:
    """The constraints whose structure is there, each with its limit in Gy of the course.

    Relative ones refer to the prescription itself, whatever level the objectives aim at.
    """
    return [(c, c.limit_Gy(protocol.prescription)) for c in protocol.constraints if c.of.structure in rows.mean]
