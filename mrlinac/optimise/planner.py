"""From an influence and a protocol to a fluence with a certificate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose.dose import Dose
from mrlinac.dose.influence import Influence
from mrlinac.dose.sampled import Sampled
from mrlinac.errors import SolverError
from mrlinac.machine.delivery import Fluence
from mrlinac.optimise import canonical, hidden
from mrlinac.optimise.canonical import Held, Programme
from mrlinac.optimise.rows import select
from mrlinac.optimise.solution import (
    Judgement,
    LimitState,
    ObjectiveState,
    Solution,
    TOLERANCE_Gy,
    certified,
    infeasible,
)
from mrlinac.optimise.solver import cut, interior
from mrlinac.optimise.solver.ceiling import Ceiling
from mrlinac.optimise.solver.interior import Outcome
from mrlinac.optimise.solver.matrix import RowMatrix, morton, tiled
from mrlinac.optimise.solver.newton import Start
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Objective, Protocol

Solver = Literal["interior", "clarabel"]
Progress = Callable[[float, float, str], None]

WISH_ROOM = 1e-4
"""Least room of a held sum of objectives, relative: an interior point needs some."""
CEILING_GAPS = 2.0
"""The bound of a prescription for the whole matrix is looked for until it is so many of the solver's gaps above."""


class Planner:
    """The rows of one patient, influence and protocol, prepared once and solved as often as the offset changes.

    Parameters
    ----------
    influence : Influence
    structures : StructureSet
        On the influence's grid, derived structures included.
    protocol : Protocol
    oar_rows, target_rows, cut
        See :func:`mrlinac.optimise.rows.select`.
    """

    def __init__(self, influence: Influence, structures: StructureSet, protocol: Protocol, **selection: Any) -> None:
        self.influence, self.structures, self.protocol = influence, structures, protocol
        self._as_made = protocol, selection
        self.rows = select(influence, structures, protocol, **selection)
        self._matrix: RowMatrix | None = None

    @property
    def rows_fractions(self) -> int:
        """Fractions of the course that the rows are of, whatever prescription is planned for."""
        return self._as_made[0].prescription.fractions

    def _row_matrix(self) -> RowMatrix:
        if self._matrix is None:
            rows = self.rows
            first_voxel = rows.pick.indices[rows.pick.indptr[:-1]]
            index = np.stack(np.unravel_index(first_voxel, rows.grid.shape_zyx), axis=1)
            beamlets = tiled([beam.lattice_uv for beam in self.influence.maps])
            self._matrix = RowMatrix(rows.cut, morton(index), rows.reference_mu, beamlets)
        return self._matrix

    def at(self, dose_Gy: float, fractions: float) -> Planner:
        """The same rows for another prescription; a number of fractions that is searched for need not be whole."""
        other = copy(self)
        self._row_matrix()  # made once, shared
        other._matrix, other.protocol = self._matrix, self.protocol.at(dose_Gy, fractions)
        return other

    def model_Gy(self, fluence: Fluence, offset_Gy: NDArray[np.floating] | None = None) -> NDArray[np.floating]:
        """Course dose [z, y, x] by the influence, all voxels, in the fractions of the rows."""
        dose_Gy = np.float32(self.rows_fractions) * self.influence.dose_Gy(fluence.vector)
        return dose_Gy if offset_Gy is None else dose_Gy + offset_Gy

    def sampled(
        self,
        fluence: Fluence,
        structures: StructureSet,
        offset_Gy: NDArray[np.floating] | None = None,
        *,
        like: Sampled | None = None,
    ) -> Sampled:
        """Course dose by the influence, as :meth:`model_Gy`, in structures."""
        model_Gy = np.asarray(self.model_Gy(fluence, offset_Gy), np.float32)
        fractions = max(1, round(self.rows_fractions))
        dose = Dose(self.influence.grid, model_Gy, None, fractions, self.influence.provenance)
        return Sampled(dose, structures, like=like)

    def finer_where(self, dose_Gy: NDArray[np.floating]) -> Planner:
        """Rows of their own for voxels of merged structures that make a course dose break a limit on a small tail.

        Which they are says :func:`mrlinac.optimise.hidden.in_tails`.

        Returns
        -------
        Planner
            Itself where there is nothing to refine.
        """
        protocol, selection = self._as_made
        before: dict[str, NDArray[np.int64]] = selection.get("alone") or {}
        alone = hidden.in_tails(self.rows, self.protocol, dose_Gy, before)
        if {k: len(v) for k, v in alone.items()} == {k: len(v) for k, v in before.items()}:
            return self
        finer = Planner(self.influence, self.structures, protocol, **{**selection, "alone": alone})
        finer.protocol = self.protocol
        return finer

    def asking(self, protocol: Protocol) -> Planner:
        """The same rows and prescription for a protocol that asks for more, or less, of structures that have rows."""
        other, rx = copy(self), self.protocol.prescription
        other.protocol = protocol.at(rx.dose_Gy, rx.fractions)
        return other

    def fractions_of(self, dose_Gy: float) -> float:
        """Fractions of a prescription: where they are added as many as it takes, whole or not."""
        rx, escalation = self.protocol.prescription, self.protocol.escalation
        adds = escalation is not None and escalation.by == "fractions"
        return dose_Gy / rx.fraction_Gy if adds else rx.fractions

    def held_by(self, row_dose_Gy: NDArray[np.float64]) -> Held:
        """The second pass of every DVH statement, after a dose near the optimum; empty where there is none."""
        held = {}
        for k, (constraint, _) in enumerate(canonical.limits_of(self.protocol, self.rows)):
            if isinstance(constraint.of, kinds.DoseAtVolume):
                mine = self.rows.of[constraint.of.structure]
                held[k] = constraint.of.held(row_dose_Gy[mine.rows], mine.weights, constraint.upper)
        return held

    def solve(self, *, second_pass: bool = True, relax: bool = False, **given: Any) -> Solution:
        """Solve, in order of priority where there are several, and twice where there are DVH statements.

        Parameters as in :meth:`once`, and

        Parameters
        ----------
        second_pass : bool
            After the convex restriction of DVH statements, hold all voxels but those with least room.
        """
        again = second_pass and given.get("held") is None
        again = again and any(isinstance(c.of, kinds.DoseAtVolume) for c in self.protocol.constraints)
        # What the restriction cannot do the statement itself may.
        solution = self._in_order(relax=relax or again, **{"least": not again, **given})
        if again:
            near = {**given, "start": solution, "guess_mu": solution.fluence.vector, "least": True}
            solution = self._in_order(relax=relax, **{**near, "held": self.held_by(solution.row_dose_Gy)})
        return solution

    def _in_order(self, **given: Any) -> Solution:
        """Lexicographic: each priority's sum is minimised while those before it are held, with their slip."""
        wishes = self.protocol.objectives
        always = tuple(o for o in wishes if isinstance(o.of, kinds.FluenceSmoothness))
        priorities = sorted({o.priority for o in wishes if o not in always})
        if len(priorities) < 2 or given.get("escalate"):
            return self.once(**given)
        if given.get("start") is not None:  # its price is the last priority's
            given = {**given, "start": replace(given["start"], cut_cost=None)}
        reached: list[tuple[int, float, float]] = []
        held: list[tuple[tuple[Objective, ...], float]] = []
        for number in priorities:
            group = tuple(o for o in wishes if o.priority == number and o not in always)
            solution = self.once(**given, wishes=held, objectives=(*group, *always))
            states = zip(wishes, solution.objectives, strict=True)
            total = sum(
                o.weight * (-state.value if o.of.curvature == "concave" else state.value)
                for o, state in states
                if o in group
            )
            slip = max(o.slip_percent for o in group) / 100
            held.append((group, total + slip * abs(total) + WISH_ROOM * max(1.0, abs(total))))
            reached.append((number, total, held[-1][1]))
            other = replace(solution, cut_cost=None)  # the next priority has prices of its own
            given = {**given, "start": other, "guess_mu": solution.fluence.vector}
        return replace(solution, wishes=tuple(reached))

    def once(
        self,
        *,
        offset_Gy: NDArray[np.floating] | None = None,
        level_factor: float = 1.0,
        scaled_later: float = 1.0,
        solver: Solver = "interior",
        relative_gap: float = 1e-3,
        relax: bool = False,
        guess_mu: NDArray[np.float64] | None = None,
        refinements: int = 1,
        start: Solution | None = None,
        progress: Progress | None = None,
        escalate: bool = False,
        held: Held | None = None,
        wishes: Sequence[tuple[tuple[Objective, ...], float]] = (),
        objectives: Sequence[Objective] | None = None,
        shift_Gy: Mapping[str, float] | None = None,
        least: bool = False,
        ceiling: bool = False,
    ) -> Solution:
        """One programme; parameters as in :func:`solve`, and

        Parameters
        ----------
        level_factor : float
            Multiplies the prescription that relative levels refer to.
        scaled_later : float
            What the plan will be multiplied by when it is normalised: limits are held with that in view.
        guess_mu : array, optional
            Fluence at which the dose of the entries cut away is taken; the even fluence by default. Their cost is taken at
            the prices of ``start``.
        refinements : int
            How often to solve again where that guess was wrong by more than
            :data:`~mrlinac.optimise.solver.cut.CUT_ERROR_Gy`, or where what these entries cost at their rows' prices was
            not known.
        start : Solution, optional
            Of a similar problem, to begin near its fluence and multipliers; what is proven does not depend on it.
        escalate, held, wishes, objectives, shift_Gy
            See :func:`mrlinac.optimise.canonical.build`.
        least : bool
            Where limits are exceeded, find the smallest sum of excesses that any plan has, and plan with that.
        ceiling : bool
            Where the prescription escalates and entries are cut away: find a bound for the whole matrix, too, and refine
            until it is within :data:`CEILING_GAPS` gaps. ``clarabel`` finds none.
        """
        began = time.process_time()
        rows = self.rows
        guess = np.full(rows.beamlets, rows.reference_mu) if guess_mu is None else guess_mu

        def run(programme: Programme, near: Start | None, gap: float = relative_gap) -> Outcome:
            return self._run(programme, solver, gap, near, progress)

        with threadpool_limits(limits=1, user_api="blas"):
            programme = canonical.build(
                rows, self.protocol, offset_Gy=offset_Gy, level_factor=level_factor, scaled_later=scaled_later,
                escalate=escalate, held=held, wishes=wishes, objectives=objectives, shift_Gy=shift_Gy,
            )  # fmt: skip
            near = None if start is None else self._start(start, programme)
            cost = self._cost_in(start, programme) if guess_mu is not None and solver == "interior" else None
            if guess_mu is not None and cost is None and solver == "interior" and cut.any_cut(rows):
                refinements = max(refinements, 1)  # a price has to be found
            above = None
            if ceiling and solver == "interior" and cut.any_cut(rows):
                above = Ceiling(programme, self._row_matrix())
            found = cut.solve(
                rows, programme, run, guess, cost, near, refinements=refinements, ceiling=above,
                near_enough=CEILING_GAPS * relative_gap,
            )  # fmt: skip
            found_Gy = float(found.outcome.tails[-1]) if escalate else None
            if least and not escalate and float(np.max(found.outcome.excess_Gy, initial=0.0)) > TOLERANCE_Gy:
                # The price is finite: an objective that is steeper would rather exceed a limit that can be met.
                only = canonical.build(
                    rows, self.protocol, offset_Gy=offset_Gy, level_factor=level_factor, scaled_later=scaled_later,
                    held=held, wishes=wishes, shift_Gy=shift_Gy, objectives=(), price=1.0,
                )  # fmt: skip
                found = cut.least(rows, programme, only, run, found, refinements)
        outcome, mu = found.outcome, found.mu
        row_dose_Gy = np.asarray(rows.full @ mu) + programme.offset
        means = {name: float(rows.mean[name] @ mu) + programme.mean_offset[name] for name in rows.mean}
        judged = self if found_Gy is None else self.at(found_Gy, self.fractions_of(found_Gy))
        judgement = judged.judge(mu, row_dose_Gy, means, level_factor, outcome.dual)
        # The solver's own excess decides what is met: the values shown hold the cut entries' dose at the fluence
        # found, of which the solver knew only a guess.
        limited = len(judgement.limits)
        stuck = [k for k, excess_Gy in enumerate(outcome.excess_Gy[:limited]) if excess_Gy > TOLERANCE_Gy]
        limits = tuple(
            replace(limit, met=k not in stuck, excess_Gy=float(outcome.excess_Gy[k]) if k in stuck else 0.0)
            for k, limit in enumerate(judgement.limits)
        )
        judgement = replace(judgement, limits=limits)
        if stuck and not relax:
            raise SolverError(infeasible(limits, stuck, outcome.excess_Gy, scaled_later, found.least_gap))
        certificate = certified(outcome, limits, stuck, solver, found.least_gap)
        return Solution(
            Fluence.from_vector(self.influence.maps, mu, certificate),
            judgement,
            rows.thinning,
            row_dose_Gy,
            found.error_Gy,
            tuple(outcome.history),
            time.process_time() - began,
            held or {},
            found_Gy,
            cut_cost=cut.cost_of(rows, outcome),
            ceiling_Gy=None if above is None else above.bound_Gy(),
        )

    def _start(self, earlier: Solution, programme: Programme) -> Start:
        dual = np.zeros(len(programme.bounds))
        known = [limit.dual_per_Gy for limit in earlier.limits]
        same = (earlier.prescription_Gy is not None) == programme.escalates
        if same:  # another objective has other prices
            dual[: len(known)] = known
        first_Gy = earlier.prescription_Gy if programme.escalates else None
        return Start(earlier.fluence.vector / self.rows.reference_mu, dual, first_Gy, first=not same)

    def _run(
        self,
        programme: Programme,
        solver: Solver,
        relative_gap: float,
        near: Start | None,
        progress: Progress | None,
    ) -> Outcome:
        if solver == "interior":
            matrix = self._row_matrix()
            return interior.solve(programme, matrix, relative_gap=relative_gap, start=near, progress=progress)
        if solver == "clarabel":
            from mrlinac.optimise.solver import cvxpy_reference

            return cvxpy_reference.solve(programme)
        raise SolverError(f"unknown solver '{solver}'; known: interior, clarabel")

    @staticmethod
    def _cost_in(earlier: Solution | None, programme: Programme) -> NDArray[np.float64] | None:
        """The cost of the entries cut away in an earlier solution, if that answers the same question."""
        if earlier is None or (earlier.prescription_Gy is not None) != programme.escalates:
            return None
        return earlier.cut_cost

    def judge(
        self,
        mu: NDArray[np.float64],
        row_dose_Gy: NDArray[np.float64],
        means_Gy: Mapping[str, float],
        level_factor: float = 1.0,
        dual: NDArray[np.float64] | None = None,
    ) -> Judgement:
        """Objectives and limits of a fluence for a course dose on the rows and exact means."""
        protocol, rows = self.protocol, self.rows
        prescription_Gy = protocol.prescription.dose_Gy * level_factor

        def value(of: kinds.DoseKind, limit: bool = False) -> float:
            if isinstance(of, kinds.MeanDose):
                return means_Gy[of.structure]
            mine = rows.of[of.structure]
            evaluated = of.limit_value if limit else of.value
            level_Gy = protocol.prescription.dose_Gy if limit else prescription_Gy
            return evaluated(row_dose_Gy[mine.rows], mine.weights, level_Gy, protocol.prescription.fractions)

        objectives, total = [], 0.0
        for objective in protocol.objectives:
            if isinstance(objective.of, kinds.FluenceSmoothness):
                number = objective.of.fluence_value(mu, rows.pairs, rows.reference_mu)
            else:
                number = value(objective.of)
            total += objective.weight * (-number if objective.of.curvature == "concave" else number)
            objectives.append(ObjectiveState(objective.name, objective.weight, number, objective.of.unit))
        limits = []
        for k, (constraint, limit_Gy) in enumerate(canonical.limits_of(protocol, rows)):
            number = value(constraint.of, limit=True)
            excess_Gy = max(0.0, number - limit_Gy if constraint.upper else limit_Gy - number)
            limits.append(
                LimitState(
                    constraint.name,
                    number,
                    limit_Gy,
                    constraint.upper,
                    excess_Gy <= TOLERANCE_Gy,
                    excess_Gy,
                    float("nan") if dual is None else float(dual[k]),
                    constraint.source,
                )
            )
        price = canonical.PRICE_PER_Gy * sum(limit.excess_Gy for limit in limits if not limit.met)
        return Judgement(tuple(objectives), tuple(limits), total, total + price)


def solve(
    influence: Influence,
    structures: StructureSet,
    protocol: Protocol,
    *,
    offset_Gy: NDArray[np.floating] | None = None,
    oar_rows: int = 5000,
    target_rows: int | None = None,
    solver: Solver = "interior",
    relative_gap: float = 1e-3,
    relax: bool = False,
    seed: int = 1,
    progress: Progress | None = None,
) -> Solution:
    """The best fluence for a protocol, with a certificate.

    Parameters
    ----------
    influence : Influence
        Gy per MU of one fraction; doses of the protocol are of the course.
    structures : StructureSet
        On the influence's grid, derived structures included.
    protocol : Protocol
    offset_Gy : array [z, y, x], optional
        Course dose added to what the influence predicts.
    oar_rows, target_rows : int or None
        Most rows of one structure; see :mod:`mrlinac.optimise.rows`.
    solver : {"interior", "clarabel"}
        ``interior`` exploits the structure; ``clarabel`` states the same programme in cvxpy.
    relative_gap : float
        Proven relative distance to the optimum at which ``interior`` stops.
    relax : bool
        Where the limits cannot all be met: return the plan that exceeds them least (says so in ``limits`` and in the
        certificate) instead of raising.
    seed : int
        Unused: nothing is drawn at random. Kept so that callers may pass one seed to every stage.
    progress : callable, optional
        ``progress(done, total, text)``.

    Returns
    -------
    Solution

    Raises
    ------
    SolverError
        The limits cannot be met (names each, with the relaxation it needs), or the solver failed.
    DataError
        A structure is missing or empty.
    """
    planner = Planner(influence, structures, protocol, oar_rows=oar_rows, target_rows=target_rows)
    return planner.solve(
        offset_Gy=offset_Gy, solver=solver, relative_gap=relative_gap, relax=relax, progress=progress
    )
