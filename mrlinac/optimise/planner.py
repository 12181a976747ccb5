"""From an influence and a protocol to a fluence with a certificate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
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
from mrlinac.optimise.rows import Rows, Thinning, select
from mrlinac.optimise.tiles import Tiled, morton
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Protocol

Solver = Literal["interior", "clarabel"]
Progress = Callable[[float, float, str], None]

TOLERANCE_Gy = 0.02
"""A limit exceeded by less counts as met: a hundredth of what a DVH is read to."""
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
class Solution:
    """A fluence and all that was found out on the way.

    Attributes
    ----------
    fluence : Fluence
        With its certificate.
    limits, objectives : tuples
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
    limits: tuple[LimitState, ...]
    objectives: tuple[ObjectiveState, ...]
    thinning: tuple[Thinning, ...]
    row_dose_Gy: NDArray[np.float64]
    cut_error_Gy: float
    history: tuple[tuple[float, float], ...]
    cpu_s: float
    rows: Rows

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
        self._tiled: Tiled | None = None

    def _tiles(self) -> Tiled:
        if self._tiled is None:
            rows = self.rows
            first_voxel = rows.pick.indices[rows.pick.indptr[:-1]]
            index = np.stack(np.unravel_index(first_voxel, rows.grid.shape_zyx), axis=1)
            self._tiled = Tiled(rows.cut, morton(index), rows.reference_mu)
        return self._tiled

    def solve(
        self,
        *,
        offset_Gy: NDArray[np.floating] | None = None,
        level_factor: float = 1.0,
        solver: Solver = "interior",
        relative_gap: float = 1e-3,
        relax: bool = False,
        guess_mu: NDArray[np.float64] | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """One solve; parameters as in :func:`solve`, and

        Parameters
        ----------
        level_factor : float
            Multiplies the prescription that relative levels refer to.
        guess_mu : array, optional
            Fluence at which the dose of the entries cut away is taken; the even fluence by default.
        """
        start = time.process_time()
        rows = self.rows
        with threadpool_limits(limits=1, user_api="blas"):
            programme = canonical.build(rows, self.protocol, offset_Gy=offset_Gy, level_factor=level_factor)
            given = programme.offset.copy()
            guess = np.full(rows.beamlets, rows.reference_mu) if guess_mu is None else guess_mu
            small = self._cut_away(guess)
            programme.offset += small
            if solver == "interior":
                outcome = interior.solve(programme, self._tiles(), relative_gap=relative_gap, progress=progress)
            elif solver == "clarabel":
                from mrlinac.optimise import statement  # cvxpy takes a second to import

                outcome = statement.solve(programme)
            else:
                raise SolverError(f"unknown solver '{solver}'; known: interior, clarabel")
        mu = np.maximum(outcome.x, 0) * rows.reference_mu
        row_dose_Gy = np.asarray(rows.full @ mu) + given
        error = np.abs([
            float(np.average((self._cut_away(mu) - small)[r.rows], weights=r.weights)) for r in rows.of.values()
        ])  # fmt: skip
        limits = self._limits(programme, outcome, mu, row_dose_Gy)
        if not relax and not all(limit.met for limit in limits):
            raise SolverError(infeasible(limits))
        certificate = self._certificate(outcome, limits, solver)
        return Solution(
            Fluence.from_vector(self.influence.maps, mu, certificate),
            limits,
            self._objectives(programme, mu, row_dose_Gy),
            rows.thinning,
            row_dose_Gy,
            float(error.max(initial=0.0)),
            tuple(outcome.history),
            time.process_time() - start,
            rows,
        )

    def _cut_away(self, mu: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self.rows.full @ mu - self.rows.cut @ mu)

    def _value(self, of: kinds.DoseKind, programme: Programme, mu: NDArray, row_dose_Gy: NDArray) -> float:
        if isinstance(of, kinds.MeanDose):
            return float(self.rows.mean[of.structure] @ mu) + programme.mean_offset[of.structure]
        mine = self.rows.of[of.structure]
        return of.value(row_dose_Gy[mine.rows], mine.weights, programme.prescription_Gy)

    def _limits(
        self, programme: Programme, outcome: Outcome, mu: NDArray, row_dose_Gy: NDArray
    ) -> tuple[LimitState, ...]:
        used = [c for c in self.protocol.constraints if c.of.structure in self.rows.mean]
        states = []
        for k, constraint in enumerate(used):
            limit_Gy, excess_Gy = programme.limits_Gy[k], float(outcome.excess_Gy[k])
            value_Gy = self._value(constraint.of, programme, mu, row_dose_Gy)
            states.append(
                LimitState(
                    constraint.name,
                    value_Gy,
                    limit_Gy,
                    constraint.upper,
                    excess_Gy <= TOLERANCE_Gy,
                    max(excess_Gy, 0.0),
                    float(outcome.dual[k]),
                    constraint.source,
                )
            )
        return tuple(states)

    def _objectives(self, programme: Programme, mu: NDArray, row_dose_Gy: NDArray) -> tuple[ObjectiveState, ...]:
        states = []
        for objective in self.protocol.objectives:
            if isinstance(objective.of, kinds.FluenceSmoothness):
                value = objective.of.fluence_value(mu, self.rows.pairs, self.rows.reference_mu)
            else:
                value = self._value(objective.of, programme, mu, row_dose_Gy)
            states.append(ObjectiveState(objective.name, objective.weight, value, objective.of.unit))
        return tuple(states)

    @staticmethod
    def _certificate(outcome: Outcome, limits: tuple[LimitState, ...], solver: str) -> Certificate:
        if outcome.gap > OPTIMAL_GAP:
            status = f"inexact: stopped at a gap of {100 * outcome.gap:.2g} %"
        elif all(limit.met for limit in limits):
            status = "optimal"
        else:
            status = "relaxed: optimal with " + ", ".join(
                f"{limit.name} exceeded by {limit.excess_Gy:.2f} Gy" for limit in limits if not limit.met
            )
        worst = max((limit.excess_Gy for limit in limits), default=0.0)
        return Certificate(solver, status, outcome.objective, outcome.bound, worst, outcome.iterations)


def infeasible(limits: tuple[LimitState, ...]) -> str:
    """The sentence that says which limits stand in the way and the smallest relaxation found."""
    words = "; ".join(
        f"{limit.name} {'<=' if limit.upper else '>='} {limit.limit_Gy:.2f} Gy would have to give {limit.excess_Gy:.2f} Gy"
        for limit in limits
        if not limit.met
    )
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
