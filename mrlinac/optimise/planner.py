"""From an influence and a protocol to a fluence with a certificate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose.influence import Influence
from mrlinac.errors import SolverError
from mrlinac.machine.beams import Certificate, Fluence
from mrlinac.optimise import canonical, interior
from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.interior import Outcome
from mrlinac.optimise.matrix import RowMatrix, morton
from mrlinac.optimise.rows import Rows, Thinning, select
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Protocol

Solver = Literal["interior", "clarabel"]
Progress = Callable[[float, float, str], None]

TOLERANCE_Gy = 0.02
"""A limit exceeded by less counts as met: a hundredth of what a DVH is read to."""
CUT_ERROR_Gy = 0.2
"""Mean dose of any structure by which the guess at the cut entries' dose may be wrong (0.3 % of 66 Gy)."""
OPTIMAL_GAP = 0.01
"""A plan is called optimal only within this proven relative gap."""


@dataclass(frozen=True)
class LimitState:
    """One hard limit at the solution, on the solver's rows.

    Attributes
    ----------
    name : str
    value_Gy, limit_Gy : float
    upper : bool
    met : bool
    excess_Gy : float
        By how much the limit had to be relaxed.
    dual_per_Gy : float
        What 1 Gy more room would take off the objective.
    source : str
    """

    name: str
    value_Gy: float
    limit_Gy: float
    upper: bool
    met: bool
    excess_Gy: float
    dual_per_Gy: float
    source: str


@dataclass(frozen=True)
class ObjectiveState:
    """One objective at the solution, on the solver's rows."""

    name: str
    weight: float
    value: float
    unit: str


@dataclass(frozen=True)
class Judgement:
    """A dose on the rows, by the protocol.

    Attributes
    ----------
    objectives, limits : tuples
    objective : float
        The weighted sum.
    penalised : float
        With the price of every limit exceeded.
    """

    objectives: tuple[ObjectiveState, ...]
    limits: tuple[LimitState, ...]
    objective: float
    penalised: float


@dataclass(frozen=True)
class Solution:
    """A fluence and all that was found out on the way.

    Attributes
    ----------
    fluence : Fluence
        With its certificate.
    judgement : Judgement
        Objectives and limits for the predicted dose; ``limits`` and ``objectives`` for short.
    thinning : tuple of Thinning
        How each structure was represented; ``str`` of each is a sentence.
    row_dose_Gy : array
        Predicted course dose on the rows, from the uncut influence and the offset.
    cut_error_Gy : float
        Largest mean difference, over the structures, between that and what the solver worked with.
    history : list of (objective, bound)
        By iteration.
    cpu_s : float
    rows : Rows
    """

    fluence: Fluence
    judgement: Judgement
    thinning: tuple[Thinning, ...]
    row_dose_Gy: NDArray[np.float64]
    cut_error_Gy: float
    history: tuple[tuple[float, float], ...]
    cpu_s: float
    rows: Rows

    @property
    def limits(self) -> tuple[LimitState, ...]:
        """Every hard limit."""
        return self.judgement.limits

    @property
    def objectives(self) -> tuple[ObjectiveState, ...]:
        """Every objective."""
        return self.judgement.objectives

    @property
    def feasible(self) -> bool:
        """Whether every limit is met."""
        return all(limit.met for limit in self.limits)

    @property
    def relaxed(self) -> tuple[LimitState, ...]:
        """The limits that could not be met."""
        return tuple(limit for limit in self.limits if not limit.met)

    def structure_dose_Gy(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predicted course dose and volume (cc) of a structure's rows."""
        mine = self.rows.of[name]
        return self.row_dose_Gy[mine.rows], mine.weights


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
        self.influence, self.protocol = influence, protocol
        self.rows = select(influence, structures, protocol, **selection)
        self._matrix: RowMatrix | None = None

    def _row_matrix(self) -> RowMatrix:
        if self._matrix is None:
            rows = self.rows
            first_voxel = rows.pick.indices[rows.pick.indptr[:-1]]
            index = np.stack(np.unravel_index(first_voxel, rows.grid.shape_zyx), axis=1)
            self._matrix = RowMatrix(rows.cut, morton(index), rows.reference_mu)
        return self._matrix

    def solve(
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
    ) -> Solution:
        """One solve; parameters as in :func:`solve`, and

        Parameters
        ----------
        level_factor : float
            Multiplies the prescription that relative levels refer to.
        scaled_later : float
            What the plan will be multiplied by when it is normalised: limits are held with that in view.
        guess_mu : array, optional
            Fluence at which the dose of the entries cut away is taken; the even fluence by default.
        refinements : int
            How often to solve again where that guess was wrong by more than :data:`CUT_ERROR_Gy`.
        start : Solution, optional
            Of a similar problem, to begin near its fluence and multipliers; what is proven does not depend on it.
        """
        began = time.process_time()
        rows = self.rows
        guess = np.full(rows.beamlets, rows.reference_mu) if guess_mu is None else guess_mu
        with threadpool_limits(limits=1, user_api="blas"):
            programme = canonical.build(
                rows, self.protocol, offset_Gy=offset_Gy, level_factor=level_factor, scaled_later=scaled_later
            )
            given = programme.offset
            near = None if start is None else self._start(start)
            for _ in range(1 + refinements):
                small = self._cut_away(guess)
                programme.offset = given + small
                outcome = self._run(programme, solver, relative_gap, near, progress)
                mu = np.maximum(outcome.x, 0) * rows.reference_mu
                missed = self._cut_away(mu) - small
                error_Gy = max(
                    (abs(float(np.average(missed[r.rows], weights=r.weights))) for r in rows.of.values()), default=0.0
                )
                if error_Gy <= CUT_ERROR_Gy:
                    break
                guess, near = mu, interior.Start(outcome.x, outcome.dual)
        row_dose_Gy = np.asarray(rows.full @ mu) + given
        means = {name: float(rows.mean[name] @ mu) + programme.mean_offset[name] for name in rows.mean}
        judgement = self.judge(mu, row_dose_Gy, means, level_factor, outcome.dual)
        # The solver's own excess decides what is met: the values shown hold the cut entries' dose at the fluence
        # found, of which the solver knew only a guess.
        stuck = [k for k, excess_Gy in enumerate(outcome.excess_Gy) if excess_Gy > TOLERANCE_Gy]
        limits = tuple(
            replace(limit, met=k not in stuck, excess_Gy=float(outcome.excess_Gy[k]) if k in stuck else 0.0)
            for k, limit in enumerate(judgement.limits)
        )
        judgement = replace(judgement, limits=limits)
        if stuck and not relax:
            raise SolverError(infeasible(limits, stuck, outcome.excess_Gy, scaled_later))
        certificate = self._certificate(outcome, limits, stuck, solver)
        return Solution(
            Fluence.from_vector(self.influence.maps, mu, certificate),
            judgement,
            rows.thinning,
            row_dose_Gy,
            error_Gy,
            tuple(outcome.history),
            time.process_time() - began,
            rows,
        )

    def _start(self, earlier: Solution) -> interior.Start:
        dual = np.array([limit.dual_per_Gy for limit in earlier.limits])
        return interior.Start(earlier.fluence.vector / self.rows.reference_mu, dual)

    def _run(
        self,
        programme: Programme,
        solver: Solver,
        relative_gap: float,
        near: interior.Start | None,
        progress: Progress | None,
    ) -> Outcome:
        if solver == "interior":
            matrix = self._row_matrix()
            return interior.solve(programme, matrix, relative_gap=relative_gap, start=near, progress=progress)
        if solver == "clarabel":
            from mrlinac.optimise import statement  # cvxpy takes a second to import

            return statement.solve(programme)
        raise SolverError(f"unknown solver '{solver}'; known: interior, clarabel")

    def _cut_away(self, mu: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.rows.full @ mu - self.rows.cut @ mu)

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

        def value(of: kinds.DoseKind) -> float:
            if isinstance(of, kinds.MeanDose):
                return means_Gy[of.structure]
            mine = rows.of[of.structure]
            return of.value(row_dose_Gy[mine.rows], mine.weights, prescription_Gy)

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
            number = value(constraint.of)
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

    @staticmethod
    def _certificate(outcome: Outcome, limits: tuple[LimitState, ...], stuck: list[int], solver: str) -> Certificate:
        if outcome.gap > OPTIMAL_GAP:
            status = f"inexact: stopped at a gap of {100 * outcome.gap:.2g} %"
        elif not stuck:
            status = "optimal"
        else:
            status = "relaxed: optimal with " + ", ".join(
                f"{limits[k].name} exceeded by {outcome.excess_Gy[k]:.2f} Gy" for k in stuck
            )
        worst = float(np.max(outcome.excess_Gy, initial=0.0))
        return Certificate(solver, status, outcome.objective, outcome.bound, worst, outcome.iterations)


def infeasible(
    limits: tuple[LimitState, ...], stuck: list[int], excess_Gy: NDArray[np.float64], scaled_later: float = 1.0
) -> str:
    """The sentence that says which limits stand in the way and the smallest relaxation found."""
    words = "; ".join(
        f"{limits[k].name} {'<=' if limits[k].upper else '>='} {limits[k].limit_Gy / scaled_later:.2f} Gy "
        f"would have to give {excess_Gy[k]:.2f} Gy"
        for k in stuck
    )
    if scaled_later != 1.0:
        words += f" (limits as they must hold before the plan is scaled by {scaled_later:.4f})"
    return f"infeasible: {words}. Loosen the limit(s), or allow the relaxation (relax=True)"


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
