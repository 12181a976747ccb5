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
from dataclasses import dataclass, field, fields, replace
from functools import singledispatchmethod
from itertools import zip_longest
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.errors import SpecError
from mrlinac.optimise.problem import HeldSum, Problem
from mrlinac.optimise.rows import Rows, ScenarioRows
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Constraint, Objective, Protocol

PRICE_PER_Gy = 1e4
"""Price of exceeding a limit by 1 Gy, in units of the objective (Gy², times the protocol's weights)."""


ESCALATION_PRICE = 300.0
"""The same where the objective is the prescription, in Gy a Gy: a Gy of an organ's limit buys a few of it."""
PRESCRIPTION = -2
"""Stands for the prescription's level until their number is known."""


@dataclass(frozen=True)
class Hinges:
    """Arrays over hinges, each of shape (hinges,); letters as in the module's text.

    Attributes
    ----------
    row : int
        Row whose dose it is of.
    sign : float
        +1 for dose above the level, -1 for dose below it.
    level : float
        Gy.
    tail, factor : int, float
        Free level and its factor f; -1: none.
    square, linear : float
        q and c, in the objective.
    limit, share, curve : int, float, float
        Limit that it is part of (-1: none), k and c of φ.
    part, exponent, norm : float, float, int
        m and a of a norm, and the norm's number (-1: none).
    """

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

    @classmethod
    def on(cls, rows: NDArray[np.int64], **columns: Any) -> Hinges:
        """A hinge a row.

        Parameters
        ----------
        rows : int64 array, shape (hinges,)
        **columns
            By name, each one value or one a row. What is not named has no effect.

        Returns
        -------
        Hinges
        """
        values = {**NO_EFFECT, **columns}
        return cls(row=rows, **{name: np.broadcast_to(value, rows.shape) for name, value in values.items()})

    @classmethod
    def together(cls, parts: Sequence[Hinges]) -> Hinges:
        """All hinges of several parts, in their order.

        Parameters
        ----------
        parts : sequence of Hinges

        Returns
        -------
        Hinges
        """
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def where(self, chosen: NDArray[np.bool_]) -> Hinges:
        """Some of the hinges.

        Parameters
        ----------
        chosen : bool array, shape (hinges,)

        Returns
        -------
        Hinges
        """
        return Hinges(**{f.name: getattr(self, f.name)[chosen] for f in fields(Hinges)})


NO_EFFECT: dict[str, float] = {
    **{"sign": 1.0, "level": 0.0, "tail": -1, "factor": 1.0, "square": 0.0, "linear": 0.0},
    **{"limit": -1, "share": 0.0, "curve": 0.0, "part": 0.0, "exponent": 2.0, "norm": -1},
}


@dataclass(frozen=True)
class Limit:
    """A constraint in one scenario: what the solver has a bound for.

    Attributes
    ----------
    name : str
        The constraint's; where there are several scenarios, with the scenario's.
    constraint : Constraint
    limit_Gy : float
        Of the course.
    scenario : ScenarioRows
    """

    name: str
    constraint: Constraint
    limit_Gy: float
    scenario: ScenarioRows


@dataclass(frozen=True)
class Bound:
    """The value of a limit.

    Attributes
    ----------
    name : str
    fixed_Gy : float
    upper : bool
    of_prescription : float
        This share of the prescription is added, where the prescription is searched for.
    by_voxel : bool
        The second pass of a DVH point, whose price is the sum of its voxels'.
    """

    name: str
    fixed_Gy: float
    upper: bool
    of_prescription: float = 0.0
    by_voxel: bool = False


@dataclass
class LimitRow:
    """The linear part of a limit.

    Attributes
    ----------
    right : float
        Right-hand side.
    fluence : float64 array, shape (columns,), or None
        Coefficients of the fluence.
    levels : dict of int to float
        Coefficients of free levels, by number.
    """

    right: float
    fluence: NDArray[np.float64] | None = None
    levels: dict[int, float] = field(default_factory=dict)


@dataclass
class Programme:
    """The arrays of the programme; built by :func:`build`.

    Attributes
    ----------
    rows : Rows
    protocol : Protocol
    problem : Problem
    offset_Gy : float64 array (rows,)
        Course dose added on the rows.
    mean_offset_Gy : tuple of dict
        The same on the exact means of each scenario.
    price : float
        Of exceeding a limit, per Gy.
    objectives : tuple of Objective
    limits : tuple of Limit
    least_x : float64 array (columns,)
        What the fluence has beside the unknown, in even fluences; its dose is in `offset_Gy`. See :meth:`above`.
    """

    rows: Rows
    protocol: Protocol
    problem: Problem
    offset_Gy: NDArray[np.float64]
    mean_offset_Gy: tuple[Mapping[str, float], ...]
    price: float
    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    held_sums: tuple[HeldSum, ...] = ()
    bounds: list[Bound] = field(default_factory=list)
    tails: int = 0
    norms: list[float] = field(default_factory=list)
    _hinges: list[Hinges] = field(default_factory=list)
    _level_linear: list[float] = field(default_factory=list)
    _limit_rows: list[LimitRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = self.rows
        count = rows.full.shape[0]
        self.unit_mu = rows.reference_mu
        self.constant = self.problem.constant
        self.linear_x = np.zeros(rows.columns)
        self.least_x = np.zeros(rows.columns)
        self.smooth = sp.csr_array((rows.columns, rows.columns))
        self.row_weight = np.zeros(count)
        self.row_level = np.zeros(count)

    @property
    def cap_Gy(self) -> float | None:
        """Highest prescription where it escalates; else None."""
        escalation = self.protocol.escalation if self.problem.escalate else None
        return None if escalation is None else escalation.cap_Gy

    @property
    def escalates(self) -> bool:
        """Whether the prescription is a variable: the last level."""
        return self.problem.escalate

    @property
    def levels(self) -> int:
        """Number of free levels: one a tail, and the prescription where it escalates."""
        return self.tails + self.escalates

    @property
    def prescription_Gy(self) -> float:
        """What percentages refer to; the factor re-aims a plan whose forward dose came out low or high."""
        return self.protocol.prescription.dose_Gy * self.problem.level_factor

    # -- objectives: as costs, or, with the number of a limit, as parts of it ------------------------------------
    @singledispatchmethod
    def add_objective(self, of: object, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        """Add a weighted kind to the objective, or to a limit."""
        raise TypeError(f"no solver rows are registered for {type(of).__name__}")

    @add_objective.register
    def _(self, of: kinds.SquaredOverdose, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        self._squared(of, scenario, weight, +1.0, of.level_Gy(self.prescription_Gy), limit)

    @add_objective.register
    def _(self, of: kinds.SquaredUnderdose, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        self._squared(of, scenario, weight, -1.0, of.level_Gy(self.prescription_Gy), limit)

    @add_objective.register
    def _(self, of: kinds.SquaredDeviation, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        rows = scenario.stacked(of.structure)
        level = of.level_Gy(self.prescription_Gy)
        if limit >= 0:
            self._squared(of, scenario, weight, +1.0, level, limit)
            self._squared(of, scenario, weight, -1.0, level, limit)
            return
        add = 2 * weight * rows.weights / rows.weights.sum()
        old, new = self.row_weight[rows.index], self.row_weight[rows.index] + add
        joint = (old * self.row_level[rows.index] + add * level) / new
        # Two squares about different levels are one about their mean, plus a constant.
        self.constant += 0.5 * float(np.sum(old * self.row_level[rows.index] ** 2 + add * level**2 - new * joint**2))
        self.row_level[rows.index], self.row_weight[rows.index] = joint, new

    @add_objective.register
    def _(self, of: kinds.MeanDose, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        row = weight * self.unit_mu * scenario.mean[of.structure]
        offset = weight * self.mean_offset_Gy[scenario.number][of.structure]
        if limit >= 0:
            held = self._limit_rows[limit]
            held.fluence = row if held.fluence is None else held.fluence + row
            held.right -= offset
            return
        self.linear_x += row
        self.constant += offset

    @add_objective.register
    def _(self, of: kinds.UpperTail, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        self._tail(of, scenario, +1.0, weight, limit)

    @add_objective.register
    def _(self, of: kinds.LowerTail, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        self._tail(of, scenario, -1.0, weight, limit)

    @add_objective.register
    def _(self, of: kinds.MeanEQD2, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        rows = scenario.stacked(of.structure)
        linear, square = self._eqd2(of, weight * rows.weights / rows.weights.sum())
        if limit >= 0:
            self._add(rows.index, +1.0, limit=limit, share=linear, curve=square)
        else:
            self._add(rows.index, +1.0, linear=linear, square=square)

    @add_objective.register
    def _(self, of: kinds.Geud, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        if of.exponent == 1:
            self.add_objective(kinds.MeanDose(structure=of.structure), scenario, weight, limit)
            return
        rows = scenario.stacked(of.structure)
        part = rows.weights / rows.weights.sum()
        self._add(rows.index, +1.0, limit=limit, part=part, exponent=of.exponent, norm=len(self.norms))
        self.norms.append(weight)

    @add_objective.register
    def _(self, of: kinds.FluenceSmoothness, scenario: ScenarioRows, weight: float, limit: int = -1) -> None:
        pairs, n = self.rows.pairs, self.rows.columns
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
    def add_limit(self, of: object, scenario: ScenarioRows, bound: Bound) -> None:
        """Add a kind with a limit."""
        raise TypeError(f"no solver rows are registered for a limit on {type(of).__name__}")

    @add_limit.register
    def _(self, of: kinds.MeanDose, scenario: ScenarioRows, bound: Bound) -> None:
        sign = 1.0 if bound.upper else -1.0
        number = self._limit(bound, sign * (bound.fixed_Gy - self.mean_offset_Gy[scenario.number][of.structure]))
        self._limit_rows[number].fluence = sign * self.unit_mu * scenario.mean[of.structure]
        self._relative(number, -sign * bound.of_prescription)

    @add_limit.register(kinds.UpperTail)
    @add_limit.register(kinds.LowerTail)
    def _(self, of: kinds.UpperTail | kinds.LowerTail, scenario: ScenarioRows, bound: Bound) -> None:
        sign = 1.0 if isinstance(of, kinds.UpperTail) else -1.0
        if of.share(scenario.of[of.structure].weights) >= 1:
            self.add_limit(kinds.MeanDose(structure=of.structure), scenario, bound)
            return
        number = self._limit(bound, sign * bound.fixed_Gy)
        self._tail(of, scenario, sign, 1.0, number)
        self._relative(number, -sign * bound.of_prescription)

    @add_limit.register
    def _(self, of: kinds.DoseAtVolume, scenario: ScenarioRows, bound: Bound) -> None:
        held = (self.problem.held or {}).get(len(self.bounds))
        if held is None:  # the first pass: what implies it
            self.add_limit(of.restriction(bound.upper), scenario, bound)
            return
        rows = scenario.stacked(of.structure)
        share = of.share(rows.weights)
        part = rows.weights[held] / ((share if bound.upper else 1 - share) * rows.weights.sum())
        number = self._limit(replace(bound, by_voxel=True), 0.0)
        sign, relative = (1.0 if bound.upper else -1.0), bound.of_prescription
        self._add(
            rows.index[held], sign, level=bound.fixed_Gy, tail=PRESCRIPTION if relative else -1,
            factor=relative or 1.0, limit=number, share=part,
        )  # fmt: skip

    @add_limit.register
    def _(self, of: kinds.Geud, scenario: ScenarioRows, bound: Bound) -> None:
        number = self._limit(bound, bound.fixed_Gy)
        self.add_objective(of, scenario, 1.0, number)
        self._relative(number, -bound.of_prescription)

    @add_limit.register
    def _(self, of: kinds.MeanEQD2, scenario: ScenarioRows, bound: Bound) -> None:
        rows = scenario.stacked(of.structure)
        share, curve = self._eqd2(of, rows.weights / rows.weights.sum())
        number = self._limit(bound, bound.fixed_Gy)
        self._add(rows.index, +1.0, limit=number, share=share, curve=curve)

    @add_limit.register
    def _(self, of: kinds.SquaredKind, scenario: ScenarioRows, bound: Bound) -> None:
        rows = scenario.stacked(of.structure)
        number, norm = self._limit(bound, bound.fixed_Gy), len(self.norms)
        level, tail, factor = of.level_Gy(self.protocol.prescription.dose_Gy) / self.problem.scaled_later, -1, 1.0
        if self.escalates and of.dose_percent is not None:
            level, tail, factor = 0.0, PRESCRIPTION, of.dose_percent / 100
        for sign, other in ((+1.0, kinds.SquaredUnderdose), (-1.0, kinds.SquaredOverdose)):
            if not isinstance(of, other):
                self._add(
                    rows.index, sign, level=level, tail=tail, factor=factor, limit=number, exponent=2.0, norm=norm,
                    part=rows.weights / rows.weights.sum(),
                )  # fmt: skip
        self.norms.append(1.0)  # the root of the mean square
        self._relative(number, -bound.of_prescription)

    def hold(self, held: HeldSum) -> None:
        """A limit on a weighted sum of objectives, in its own unit."""
        number = self._limit(Bound(f"priority {held.objectives[0].priority}", held.at_most, True), held.at_most)
        self.add_objectives(held.objectives, number)
        self.held_sums = (*self.held_sums, held)

    def add_objectives(self, objectives: Sequence[Objective], limit: int = -1) -> None:
        """Their weighted sum, its mean over the scenarios."""
        for objective in objectives:
            for scenario in self.rows.scenarios:
                self.add_objective(objective.of, scenario, objective.weight * scenario.share, limit)

    # -- parts --------------------------------------------------------------------------------------------------
    def _add(self, rows: NDArray[np.int64], sign: float, **columns: Any) -> None:
        self._hinges.append(Hinges.on(rows, sign=sign, **columns))

    def _eqd2(self, of: kinds.MeanEQD2, part: NDArray[np.float64]) -> tuple[Any, Any]:
        """Linear and quadratic coefficient of a hinge's slack, which is the dose."""
        below = 2.0 + of.alpha_beta_Gy
        return part * of.alpha_beta_Gy / below, 2 * part / (self.protocol.prescription.fractions * below)

    def _squared(
        self, of: kinds.DoseKind, scenario: ScenarioRows, weight: float, sign: float, level: float, limit: int
    ) -> None:
        rows = scenario.stacked(of.structure)
        square = 2 * weight * rows.weights / rows.weights.sum()
        if limit >= 0:
            self._add(rows.index, sign, level=level, limit=limit, curve=square)
        else:
            self._add(rows.index, sign, level=level, square=square)

    def _tail(
        self, of: kinds.UpperTail | kinds.LowerTail, scenario: ScenarioRows, sign: float, weight: float, limit: int
    ) -> None:
        rows = scenario.stacked(of.structure)
        part = weight * rows.weights / (of.share(rows.weights) * float(rows.weights.sum()))
        tail = self.tails
        self.tails += 1
        self._level_linear.append(sign * weight if limit < 0 else 0.0)
        if limit >= 0:
            self._limit_rows[limit].levels[tail] = sign * weight
            self._add(rows.index, sign, tail=tail, limit=limit, share=part)
        else:
            self._add(rows.index, sign, tail=tail, linear=part)

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
        """The same with each limit further out.

        Parameters
        ----------
        by : float64 array, shape (limits,)
            In each limit's own unit.
        price : float
            Of exceeding a limit, per Gy.

        Returns
        -------
        Programme
        """
        wide = copy(self)
        wide.price = price
        wide.bounds = [
            b if b.by_voxel else replace(b, fixed_Gy=b.fixed_Gy + (e if b.upper else -e))
            for b, e in zip(self.bounds, by, strict=True)
        ]
        of_sums = by[len(by) - len(self.held_sums) :]
        wide.held_sums = tuple(
            replace(h, at_most=h.at_most + e) for h, e in zip(self.held_sums, of_sums, strict=True)
        )
        wide._limit_rows = [replace(r, right=r.right + e) for r, e in zip(self._limit_rows, by, strict=True)]
        return wide

    def moved(self, offset_Gy: NDArray[np.float64], linear_x: NDArray[np.float64], constant: float) -> Programme:
        """The same with more dose on the rows, more cost of the fluence, and a constant added to the objective.

        Parameters
        ----------
        offset_Gy : float64 array, shape (rows,)
        linear_x : float64 array, shape (columns,)
            Cost of the fluence in units of the even fluence.
        constant : float

        Returns
        -------
        Programme
        """
        other = copy(self)
        other.offset_Gy = self.offset_Gy + offset_Gy
        other.linear_x = self.linear_x + linear_x
        other.constant = self.constant + constant
        return other

    def above(self, least_x: NDArray[np.float64]) -> Programme:
        """The same for what the fluence has beyond a least one.

        Parameters
        ----------
        least_x : float64 array, shape (columns,)
            In even fluences.

        Returns
        -------
        Programme
        """
        curved = self.smooth @ least_x
        constant = float(self.linear_x @ least_x + 0.5 * least_x @ curved)
        other = self.moved(np.asarray(self.rows.full @ (least_x * self.unit_mu)), curved, constant)
        other.least_x = self.least_x + least_x
        other._limit_rows = [
            row if row.fluence is None else replace(row, right=row.right - float(row.fluence @ least_x))
            for row in self._limit_rows
        ]
        return other

    # -- arrays -------------------------------------------------------------------------------------------------
    def hinges(self) -> Hinges:
        """All hinges, concatenated."""
        if not self._hinges:
            return Hinges.on(np.zeros(0, np.int64))
        hinges = Hinges.together(self._hinges)
        return replace(hinges, tail=np.where(hinges.tail == PRESCRIPTION, self.tails, hinges.tail))

    def linear(self) -> NDArray[np.float64]:
        """g over z = (x, t)."""
        levels = [*self._level_linear, -1.0] if self.escalates else self._level_linear
        return np.concatenate([self.linear_x, np.array(levels, float).reshape(-1)])

    def limit_matrix(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """G (limits, columns + levels) and h."""
        n = self.rows.columns
        matrix = np.zeros((len(self.bounds), n + self.levels))
        for k, row in enumerate(self._limit_rows):
            if row.fluence is not None:
                matrix[k, :n] = row.fluence
            for level, coefficient in row.levels.items():
                matrix[k, n + (self.tails if level == PRESCRIPTION else level)] = coefficient
        return matrix, np.array([row.right for row in self._limit_rows], float).reshape(-1)


def build(
    rows: Rows, protocol: Protocol, problem: Problem, offsets_Gy: Sequence[NDArray[np.floating] | None] = ()
) -> Programme:
    """The programme of a protocol on rows.

    Parameters
    ----------
    rows : Rows
    protocol : Protocol
    problem : Problem
    offsets_Gy : sequence of float arrays [z, y, x] or None
        By scenario: course dose to add to ``influence @ mu``, what a forward dose had beyond it.

    Returns
    -------
    Programme

    Raises
    ------
    SpecError
        The prescription is to escalate, and the protocol has no table ``escalation``.
    """
    if problem.escalate and protocol.escalation is None:
        raise SpecError(f"protocol {protocol.name} has no table 'escalation'")
    objectives = protocol.objectives if problem.objectives is None else problem.objectives
    offset_Gy, mean_offset_Gy = np.zeros(rows.full.shape[0]), []
    for scenario, course_Gy in zip_longest(rows.scenarios, offsets_Gy):
        if course_Gy is not None:
            offset_Gy[scenario.part] = scenario.on_rows(course_Gy)
        mean_offset_Gy.append(
            {name: 0.0 if course_Gy is None else scenario.mean_of(name, course_Gy) for name in scenario.mean}
        )
    programme = Programme(
        rows,
        protocol,
        problem,
        offset_Gy,
        tuple(mean_offset_Gy),
        problem.price or (ESCALATION_PRICE if problem.escalate else PRICE_PER_Gy),
        () if problem.escalate else tuple(objectives),
        limits_of(protocol, rows),
    )
    programme.add_objectives(programme.objectives)
    for limit in programme.limits:
        programme.add_limit(limit.constraint.of, limit.scenario, _bound(limit, problem))
    for held in problem.held_sums:
        programme.hold(held)
    if problem.escalate:
        programme.escalate()
    return programme


def _bound(limit: Limit, problem: Problem) -> Bound:
    constraint = limit.constraint
    percent = constraint.at_most_percent or constraint.at_least_percent
    if problem.escalate and percent is not None:
        return Bound(limit.name, 0.0, constraint.upper, percent / 100)
    shifted_Gy = limit.limit_Gy - problem.shift_Gy.get(limit.name, 0.0)
    return Bound(limit.name, shifted_Gy / problem.scaled_later, constraint.upper)


def limits_of(protocol: Protocol, rows: Rows) -> tuple[Limit, ...]:
    """The constraints whose structure is there, in every scenario.

    Relative ones refer to the prescription itself, whatever level the objectives aim at.

    Parameters
    ----------
    protocol : Protocol
    rows : Rows

    Returns
    -------
    tuple of Limit
        Scenario by scenario.
    """
    several = len(rows.scenarios) > 1
    return tuple(
        Limit(
            f"{constraint.name} ({scenario.name})" if several else constraint.name,
            constraint,
            constraint.limit_Gy(protocol.prescription),
            scenario,
        )
        for scenario in rows.scenarios
        for constraint in protocol.constraints
        if constraint.of.structure in scenario.mean
    )
