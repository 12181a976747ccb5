"""From influences and a protocol to the MU of their columns, with a certificate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose.dose import Dose
from mrlinac.dose.influence import Influence
from mrlinac.dose.sampled import Sampled
from mrlinac.dose.scenarios import Scenario
from mrlinac.errors import SolverError
from mrlinac.machine.delivery import Columns, Delivery
from mrlinac.optimise import canonical, hidden
from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.problem import Held, HeldSum, Problem, SolverOptions
from mrlinac.optimise.rows import CUT, RowChoice, ScenarioRows, select
from mrlinac.optimise.solution import (
    COLD,
    Judgement,
    LimitState,
    ObjectiveState,
    PriorityReached,
    Solution,
    TOLERANCE_Gy,
    WarmStart,
    certified,
    infeasible,
)
from mrlinac.optimise.solver import cut as cutting
from mrlinac.optimise.solver import interior
from mrlinac.optimise.solver.ceiling import Ceiling
from mrlinac.optimise.solver.interior import Outcome
from mrlinac.optimise.solver.matrix import RowMatrix, morton
from mrlinac.optimise.solver.newton import Start
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Protocol

HELD_ROOM = 1e-4
"""Least room of a held sum of objectives, relative: an interior point needs some."""
CEILING_GAPS = 2.0
"""A bound of the prescription for the whole matrix is refined until it is within this many of the solver's gaps."""


class Planner:
    """The rows of one patient and protocol, prepared once and solved as often as the problem changes.

    Parameters
    ----------
    influence : Influence
        Gy per MU of one fraction; doses of the protocol are of the course.
    structures : StructureSet
        On the influence's grid, derived structures included.
    protocol : Protocol
    oar_rows, target_rows, cut
        See :class:`mrlinac.optimise.rows.RowChoice`.
    others : sequence of Scenario
        Further scenarios of the same columns. Limits hold in every scenario; objectives are means over all.

    Raises
    ------
    DataError
        A structure is missing or empty, or the target receives no dose.
    """

    def __init__(
        self,
        influence: Influence,
        structures: StructureSet,
        protocol: Protocol,
        *,
        oar_rows: int | None = 5000,
        target_rows: int | None = None,
        cut: float = CUT,
        others: Sequence[Scenario] = (),
    ) -> None:
        self.scenarios = (Scenario(influence, structures), *others)
        self.protocol = protocol
        self.choice = RowChoice(oar_rows, target_rows, cut)
        self._protocol_of_rows = protocol
        self.rows = select(self.scenarios, protocol, self.choice)
        self._matrix: RowMatrix | None = None
        self.least_mu = 0.0

    @property
    def nominal(self) -> Scenario:
        """The scenario that forward doses are of."""
        return self.scenarios[0]

    @property
    def rows_fractions(self) -> int:
        """Fractions of the course that the rows are of, whatever prescription is planned for."""
        return self._protocol_of_rows.prescription.fractions

    def _row_matrix(self) -> RowMatrix:
        if self._matrix is None:
            self._matrix = self._as_row_matrix(self.rows.cut)
        return self._matrix

    def full_row_matrix(self) -> RowMatrix:
        """All entries of the influence on the rows, per even fluence; made anew at each call.

        Returns
        -------
        RowMatrix
        """
        return self._as_row_matrix(self.rows.full)

    def _as_row_matrix(self, matrix: sp.csr_array) -> RowMatrix:
        index = np.concatenate([_index_of_rows(scenario) for scenario in self.rows.scenarios])
        return RowMatrix(matrix, morton(index), self.rows.reference_mu, self.nominal.influence.columns.tile_keys())

    # -- the same rows, asked otherwise -------------------------------------------------------------------------
    def at(self, dose_Gy: float, fractions: float) -> Planner:
        """The same rows for another prescription.

        Parameters
        ----------
        dose_Gy : float
        fractions : float
            A number of fractions that is searched for need not be whole.

        Returns
        -------
        Planner
        """
        other = copy(self)
        self._row_matrix()  # made once, shared
        other._matrix, other.protocol = self._matrix, self.protocol.at(dose_Gy, fractions)
        return other

    def with_offset(self, offset_Gy: NDArray[np.floating] | None) -> Planner:
        """The same rows with another offset of the nominal scenario.

        Parameters
        ----------
        offset_Gy : float array [z, y, x] or None
            Course dose added to what the influence predicts.

        Returns
        -------
        Planner
        """
        self._row_matrix()  # made once, shared
        other = copy(self)
        other.scenarios = (replace(self.nominal, offset_Gy=offset_Gy), *self.scenarios[1:])
        return other

    def with_least_mu(self, least_mu: float) -> Planner:
        """The same rows where no column has fewer MU, as segments that a linac gives exactly.

        Parameters
        ----------
        least_mu : float
            Of one fraction.

        Returns
        -------
        Planner
        """
        other = copy(self)
        other.least_mu = least_mu
        return other

    def asking(self, protocol: Protocol) -> Planner:
        """The same rows and prescription for another protocol.

        Parameters
        ----------
        protocol : Protocol
            Asks for more, or less, of structures that have rows.

        Returns
        -------
        Planner
        """
        other, rx = copy(self), self.protocol.prescription
        other.protocol = protocol.at(rx.dose_Gy, rx.fractions)
        return other

    def finer_where(self, dose_Gy: NDArray[np.floating]) -> Planner:
        """Rows of their own for voxels of merged structures that make a course dose break a limit on a small tail.

        :func:`mrlinac.optimise.hidden.in_tails` says which voxels.

        Parameters
        ----------
        dose_Gy : float array [z, y, x]
            Of the course.

        Returns
        -------
        Planner
            Itself where there is nothing to refine.
        """
        before = self.choice.alone
        alone = hidden.in_tails(self.rows, self.protocol, dose_Gy, before)
        if {k: len(v) for k, v in alone.items()} == {k: len(v) for k, v in before.items()}:
            return self
        finer = copy(self)
        finer.choice, finer._matrix = replace(self.choice, alone=alone), None
        finer.rows = select(self.scenarios, self._protocol_of_rows, finer.choice)
        return finer

    def combination(self, columns: Columns, combined: sp.csc_array) -> Planner:
        """The same rows and protocol for columns that are combinations of these, such as segments of beamlets.

        Parameters
        ----------
        columns : Columns
        combined : csc_array, shape (columns of this planner, columns)
            How much of each of this planner's columns a column holds.

        Returns
        -------
        Planner
        """
        other = copy(self)
        other.scenarios = tuple(
            replace(scenario, influence=scenario.influence.combination(columns, combined))
            for scenario in self.scenarios
        )
        other.rows, other._matrix = self.rows.combination(columns, combined, self.protocol), None
        other.choice = replace(self.choice, cut=0.0)
        return other

    # -- doses --------------------------------------------------------------------------------------------------
    def predicted_Gy(self, delivery: Delivery) -> NDArray[np.floating]:
        """Course dose by the nominal influence and its offset, in the fractions of the rows.

        Parameters
        ----------
        delivery : Delivery
            Of one fraction.

        Returns
        -------
        float array [z, y, x]
            Gy, all voxels.
        """
        offset_Gy = self.nominal.offset_Gy
        dose_Gy = self.influence_Gy(delivery)
        return dose_Gy if offset_Gy is None else dose_Gy + offset_Gy

    def influence_Gy(self, delivery: Delivery) -> NDArray[np.floating]:
        """Course dose by the nominal influence alone, in the fractions of the rows.

        Parameters
        ----------
        delivery : Delivery
            Of one fraction.

        Returns
        -------
        float array [z, y, x]
            Gy, all voxels, without the offset.
        """
        return np.float32(self.rows_fractions) * self.nominal.influence.dose_Gy(delivery.vector)

    def sampled(self, delivery: Delivery, *, like: Sampled | None = None) -> Sampled:
        """Predicted course dose in the structures.

        Parameters
        ----------
        delivery : Delivery
            Of one fraction.
        like : Sampled, optional
            Another dose in the same structures, whose sampling is used again.

        Returns
        -------
        Sampled
            Of the dose of :meth:`predicted_Gy`.
        """
        predicted_Gy = np.asarray(self.predicted_Gy(delivery), np.float32)
        fractions = max(1, round(self.rows_fractions))
        influence = self.nominal.influence
        dose = Dose(influence.grid, predicted_Gy, None, fractions, influence.provenance)
        return Sampled(dose, self.nominal.structures, like=like)

    def fractions_of(self, dose_Gy: float) -> float:
        """Fractions of a prescription; where fractions are added, as many as it takes, whole or not.

        Parameters
        ----------
        dose_Gy : float
            Of the course.

        Returns
        -------
        float
        """
        rx, escalation = self.protocol.prescription, self.protocol.escalation
        adds = escalation is not None and escalation.by == "fractions"
        return dose_Gy / rx.fraction_Gy if adds else rx.fractions

    def held_by(self, row_dose_Gy: NDArray[np.float64]) -> Held:
        """Which rows the second pass of every DVH point holds, after a dose near the optimum.

        Parameters
        ----------
        row_dose_Gy : float64 array, shape (rows,)
            Course dose on the rows; of the nominal scenario alone where there is no other.

        Returns
        -------
        dict of bool array
            By number of the limit; empty without DVH points.
        """
        held = {}
        for number, limit in enumerate(canonical.limits_of(self.protocol, self.rows)):
            of = limit.constraint.of
            if isinstance(of, kinds.DoseAtVolume):
                rows = limit.scenario.stacked(of.structure)
                held[number] = of.held(row_dose_Gy[rows.index], rows.weights, limit.constraint.upper)
        return held

    # -- solving ------------------------------------------------------------------------------------------------
    def solve(
        self,
        problem: Problem | None = None,
        options: SolverOptions | None = None,
        warm: WarmStart = COLD,
        *,
        second_pass: bool = True,
    ) -> Solution:
        """Solve, in order of priority where there are several, and twice where there are DVH points.

        Parameters
        ----------
        problem : Problem, optional
        options : SolverOptions, optional
        warm : WarmStart
        second_pass : bool
            After the convex restriction of DVH points, hold all voxels but those with least room.

        Returns
        -------
        Solution

        Raises
        ------
        SolverError
            The limits cannot be met (names each, with the relaxation it needs), or the solver failed.
        """
        problem, options = problem or Problem(), options or SolverOptions()
        again = second_pass and problem.held is None
        again = again and any(isinstance(c.of, kinds.DoseAtVolume) for c in self.protocol.constraints)
        # What the restriction cannot do the DVH point itself may.
        first = replace(options, relax=options.relax or again, least=not again)
        solution = self._in_order(problem, first, warm)
        if again:
            held = replace(problem, held=self.held_by(solution.row_dose_Gy))
            solution = self._in_order(held, replace(options, least=True), WarmStart(solution))
        return solution

    def _in_order(self, problem: Problem, options: SolverOptions, warm: WarmStart) -> Solution:
        """Lexicographic: each priority's sum is minimised while those before it are held, with their slip."""
        objectives = self.protocol.objectives
        always = tuple(o for o in objectives if isinstance(o.of, kinds.FluenceSmoothness))
        priorities = sorted({o.priority for o in objectives if o not in always})
        if len(priorities) < 2 or problem.escalate:
            return self.once(problem, options, warm)
        if warm.solution is not None:  # its price is the last priority's
            warm = WarmStart(replace(warm.solution, cut_cost=None), warm.mu)
        reached: list[PriorityReached] = []
        held: list[HeldSum] = []
        for number in priorities:
            group = tuple(o for o in objectives if o.priority == number and o not in always)
            asked = replace(problem, held_sums=tuple(held), objectives=(*group, *always))
            solution = self.once(asked, options, warm)
            states = zip(objectives, solution.objectives, strict=True)
            total = sum(
                o.weight * (-state.value if o.of.curvature == "concave" else state.value)
                for o, state in states
                if o in group
            )
            slip = max(o.slip_percent for o in group) / 100
            held.append(HeldSum(group, total + slip * abs(total) + HELD_ROOM * max(1.0, abs(total))))
            reached.append(PriorityReached(number, total, held[-1].at_most))
            warm = WarmStart(replace(solution, cut_cost=None))  # the next priority has prices of its own
        return replace(solution, priorities=tuple(reached))

    def once(
        self, problem: Problem | None = None, options: SolverOptions | None = None, warm: WarmStart = COLD
    ) -> Solution:
        """Solve one programme: no priorities, no second pass.

        Parameters
        ----------
        problem : Problem, optional
        options : SolverOptions, optional
        warm : WarmStart

        Returns
        -------
        Solution

        Raises
        ------
        SolverError
            The limits cannot be met (names each, with the relaxation it needs), or the solver failed.
        """
        problem, options = problem or Problem(), options or SolverOptions()
        began = time.process_time()
        with threadpool_limits(limits=1, user_api="blas"):
            programme, solved, ceiling = self._solved(problem, options, warm)
        outcome, mu = solved.outcome, solved.mu
        row_dose_Gy = np.asarray(self.rows.full @ mu) + programme.offset_Gy
        prescription_Gy = float(outcome.tails[-1]) if problem.escalate else None
        at = self if prescription_Gy is None else self.at(prescription_Gy, self.fractions_of(prescription_Gy))
        means_Gy = [
            {name: float(mean @ mu) + offset_Gy[name] for name, mean in scenario.mean.items()}
            for scenario, offset_Gy in zip(self.rows.scenarios, programme.mean_offset_Gy, strict=True)
        ]
        judgement = at.judge(mu, row_dose_Gy, means_Gy, problem.level_factor, outcome.dual)
        # The solver's own excess decides what is met: the values shown hold the cut entries' dose at the fluence
        # found, of which the solver knew only a guess.
        excess_Gy = outcome.excess_Gy[: len(judgement.limits)]
        exceeded = [number for number, excess in enumerate(excess_Gy) if excess > TOLERANCE_Gy]
        limits = tuple(
            replace(limit, met=k not in exceeded, excess_Gy=float(excess_Gy[k]) if k in exceeded else 0.0)
            for k, limit in enumerate(judgement.limits)
        )
        judgement = replace(judgement, limits=limits)
        if exceeded and not options.relax:
            scaled_later = problem.scaled_later
            raise SolverError(infeasible(limits, exceeded, outcome.excess_Gy, scaled_later, solved.least_gap))
        certificate = certified(outcome, limits, exceeded, options.solver, solved.least_gap)
        return Solution(
            self.nominal.influence.columns.delivery(mu, certificate),
            judgement,
            self.rows.nominal.thinning,
            row_dose_Gy,
            solved.error_Gy,
            tuple(outcome.history),
            time.process_time() - began,
            problem.held or {},
            prescription_Gy,
            cut_cost=cutting.cost_of(self.rows, outcome),
            ceiling_Gy=None if ceiling is None else ceiling.bound_Gy(),
            row_price=outcome.row_price,
            dual=outcome.dual,
            problem=problem,
        )

    def _solved(
        self, problem: Problem, options: SolverOptions, warm: WarmStart
    ) -> tuple[Programme, cutting.Solved, Ceiling | None]:
        """The programme, its solution with a guess at the entries cut away, and the ceiling if one is asked for."""
        programme = self._programme(problem)
        interior_used, any_cut = options.solver == "interior", cutting.any_cut(self.rows)
        near = None if warm.solution is None else self._start(warm.solution, programme)
        guess = cutting.Guess(np.full(self.rows.columns, self.rows.reference_mu))
        refinements = options.refinements
        if warm.guess_mu is not None:
            guess = cutting.Guess(warm.guess_mu, _cost_in(warm.solution, programme) if interior_used else None)
            if guess.cost is None and interior_used and any_cut:
                refinements = max(refinements, 1)  # a price has to be found
        wanted = options.ceiling and interior_used and any_cut
        ceiling = Ceiling(programme, self._row_matrix()) if wanted else None
        again = cutting.Refinement(refinements, ceiling, near_enough=CEILING_GAPS * options.relative_gap)

        def run(programme: Programme, near: Start | None, gap: float = options.relative_gap) -> Outcome:
            return self._above_least(programme, replace(options, relative_gap=gap), near)

        solved = cutting.solve(programme, run, guess, near, again)
        if options.least and not problem.escalate and solved.exceeded:
            # The price is finite: an objective that is steeper would rather exceed a limit that can be met.
            only = self._programme(replace(problem, objectives=(), price=1.0, constant=1.0))
            solved = cutting.least(programme, only, run, solved, refinements)
        return programme, solved, ceiling

    def _programme(self, problem: Problem) -> Programme:
        offsets_Gy = [scenario.offset_Gy for scenario in self.scenarios]
        return canonical.build(self.rows, self.protocol, problem, offsets_Gy)

    def _start(self, earlier: Solution, programme: Programme) -> Start:
        dual = np.zeros(len(programme.bounds))
        known = [limit.dual_per_Gy for limit in earlier.limits]
        same = (earlier.prescription_Gy is not None) == programme.escalates
        if same:  # another objective has other prices
            dual[: len(known)] = known
        first_Gy = earlier.prescription_Gy if programme.escalates else None
        return Start(earlier.mu / self.rows.reference_mu, dual, first_Gy, first=not same)

    def _above_least(self, programme: Programme, options: SolverOptions, near: Start | None) -> Outcome:
        """Solve with every column at the least MU or more: what it has beyond is the solver's unknown."""
        if self.least_mu <= 0:
            return self._run(programme, options, near)
        least_x = np.full(self.rows.columns, self.least_mu / self.rows.reference_mu)
        if near is not None:
            near = replace(near, x=np.maximum(near.x - least_x, 0))
        outcome = self._run(programme.above(least_x), options, near)
        return replace(outcome, x=outcome.x + least_x)

    def _run(self, programme: Programme, options: SolverOptions, near: Start | None) -> Outcome:
        if options.solver == "interior":
            return interior.solve(
                programme,
                self._row_matrix(),
                relative_gap=options.relative_gap,
                start=near,
                progress=options.progress,
            )
        if options.solver == "clarabel":
            from mrlinac.optimise.solver import cvxpy_reference

            return cvxpy_reference.solve(programme)
        raise SolverError(f"unknown solver '{options.solver}'; known: interior, clarabel")

    def judge(
        self,
        mu: NDArray[np.float64],
        row_dose_Gy: NDArray[np.float64],
        means_Gy: Sequence[Mapping[str, float]],
        level_factor: float = 1.0,
        dual: NDArray[np.float64] | None = None,
    ) -> Judgement:
        """Objectives and limits of a delivery.

        Parameters
        ----------
        mu : array (columns,)
            MU of one fraction.
        row_dose_Gy : array (rows,)
            Course dose on the rows of the scenarios judged.
        means_Gy : sequence of mappings
            Exact means by structure, one mapping a scenario judged: all of them, or the nominal one only.
        level_factor : float
            Multiplies the prescription that relative levels of objectives refer to.
        dual : array (limits,), optional
            Multipliers of the limits.

        Returns
        -------
        Judgement
        """
        protocol, judged = self.protocol, self.rows.scenarios[: len(means_Gy)]
        rx, shares = protocol.prescription, sum(scenario.share for scenario in judged)

        def value(scenario: ScenarioRows, of: kinds.DoseKind, limit: bool = False) -> float:
            if isinstance(of, kinds.MeanDose):
                return means_Gy[scenario.number][of.structure]
            rows = scenario.stacked(of.structure)
            evaluated = of.limit_value if limit else of.value
            level_Gy = rx.dose_Gy if limit else rx.dose_Gy * level_factor
            return evaluated(row_dose_Gy[rows.index], rows.weights, level_Gy, rx.fractions)

        objectives, total = [], 0.0
        for objective in protocol.objectives:
            if isinstance(objective.of, kinds.FluenceSmoothness):
                number = objective.of.fluence_value(mu, self.rows.pairs, self.rows.reference_mu)
            else:
                number = sum(scenario.share * value(scenario, objective.of) for scenario in judged) / shares
            total += objective.weight * (-number if objective.of.curvature == "concave" else number)
            objectives.append(ObjectiveState(objective.name, objective.weight, number, objective.of.unit))
        limits = []
        for k, limit in enumerate(canonical.limits_of(protocol, self.rows)):
            if limit.scenario.number >= len(judged):
                break
            constraint, limit_Gy = limit.constraint, limit.limit_Gy
            number = value(limit.scenario, constraint.of, limit=True)
            excess_Gy = max(0.0, number - limit_Gy if constraint.upper else limit_Gy - number)
            limits.append(
                LimitState(
                    limit.name,
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


def _index_of_rows(scenario: ScenarioRows) -> NDArray[np.int64]:
    """Index [z, y, x] of the first voxel of each row, shape (rows, 3)."""
    first_voxel = scenario.pick.indices[scenario.pick.indptr[:-1]]
    return np.stack(np.unravel_index(first_voxel, scenario.grid.shape_zyx), axis=1)


def _cost_in(earlier: Solution | None, programme: Programme) -> NDArray[np.float64] | None:
    """The cost of the entries cut away in an earlier solution, if that answers the same question."""
    if earlier is None or (earlier.prescription_Gy is not None) != programme.escalates:
        return None
    return earlier.cut_cost
