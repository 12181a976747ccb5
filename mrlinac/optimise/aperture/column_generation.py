"""Direct aperture optimisation by column generation.

The restricted master problem is the planner's own convex programme over the MU of the segments found so far. Its
multipliers price every beamlet; the pricing problem finds, for each beam, the aperture of most negative reduced cost
that the leaves can form. It joins the master problem, and so on (Romeijn et al. 2005, SIAM J Optim 15:838; Men et al.
2007, Phys Med Biol 52:7333). The fluence's own bound is a bound for every set of segments, because a segment's dose is a
sum of beamlets' doses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.errors import SolverError
from mrlinac.machine.delivery import Beamlets, Segments
from mrlinac.machine.model import Mlc
from mrlinac.optimise import canonical
from mrlinac.optimise.aperture.descent import Descent, OpenRows
from mrlinac.optimise.aperture.lattice import LeafLattice
from mrlinac.optimise.aperture.pricing import Aperture, LeafRules, best_aperture
from mrlinac.optimise.planner import Planner
from mrlinac.optimise.problem import Problem, SolverOptions
from mrlinac.optimise.solution import COLD, Solution, WarmStart

MASTER_GAP = 5e-3
"""Relative gap of the master problem while apertures are found; the last solve has the options' own."""
ADDED = 5
"""Most apertures that join the master problem at a time."""
UNUSED = 1e-3
"""A segment of less than this share of the largest MU leaves the master problem."""
MOST_REFINED, DESCENT_STEPS = 2, 150
"""Most descents of leaves and MU between two additions, each followed by a master problem, and steps of each."""
WORTH_REFINING = 1e-2
"""Leaves are moved again where the last time lowered the objective by this share of it."""
FULL = 4
"""Passes after which all segments are there: each adds as many, and then refines the leaves of all."""
PASSES = 5
"""Most times that segments are added after leaves were refined and segments of few MU left out."""
USED = 0.5
"""At the limit of their number a segment of less than this share of the smallest MU makes room."""
WORTH = 1e-4
"""An aperture is worth adding while it could lower the objective by this share of it."""


@dataclass(frozen=True)
class SegmentLimits:
    """What a set of segments may be.

    Attributes
    ----------
    most : int
        Most segments of the plan.
    min_area_cm2 : float
        Smallest open area, on the isocentre plane.
    min_mu : float
        Smallest MU of a segment in one fraction; a segment with less is left out and the others are solved again.
    """

    most: int = 80
    min_area_cm2: float = 4.0
    min_mu: float = 1.0


@dataclass(frozen=True)
class Segmented:
    """Segments of a plan.

    Attributes
    ----------
    planner : Planner
        Whose columns are the segments.
    solution : Solution
        Its ``delivery`` is the segments with their MU.
    ideal, bound : float
        Objective of the fluence, and what no fluence, and so no set of segments, goes below.
    history : tuple of (segments, objective)
        Of each master problem.
    beamlets : Planner
        Whose columns are the beamlets that the segments open.
    apertures : tuple of (beam, Aperture)
        Of each segment.
    limits : SegmentLimits
    """

    planner: Planner
    solution: Solution
    ideal: float
    bound: float
    history: tuple[tuple[int, float], ...]
    beamlets: Planner = field(repr=False)
    apertures: tuple[tuple[int, Aperture], ...] = field(repr=False)
    limits: SegmentLimits = SegmentLimits()

    @property
    def segments(self) -> Segments:
        """With their MU."""
        delivery = self.solution.delivery
        assert isinstance(delivery, Segments)
        return delivery


def generate(
    planner: Planner,
    mlc: Mlc,
    fluence: Solution,
    *,
    limits: SegmentLimits | None = None,
    options: SolverOptions | None = None,
) -> Segmented:
    """Segments whose dose comes as near to the fluence's optimum as so many segments can.

    Parameters
    ----------
    planner : Planner
        Whose columns are beamlets, at the prescription planned for.
    mlc : Mlc
    fluence : Solution
        A solution over beamlets with the planner's rows; its problem is what the segments solve.
    limits : SegmentLimits, optional
    options : SolverOptions, optional

    Returns
    -------
    Segmented

    Raises
    ------
    SolverError
        No aperture can be formed, or the solver failed.
    """
    limits, options = limits or SegmentLimits(), replace(options or SolverOptions(), relax=True, ceiling=False)
    fluence = planner.once(fluence.problem, replace(options, progress=None), WarmStart(fluence))
    search = _Search.of(planner, mlc, fluence.problem, limits, options)
    whole = ((beam, lattice.whole()) for beam, lattice in enumerate(search.lattices))
    chosen = [(beam, aperture) for beam, aperture in whole if aperture is not None]
    if not chosen:
        raise SolverError("no aperture can be formed: the beamlets leave no open row")
    settled = search.settled(chosen, search.solved(chosen))
    proof = fluence.certificate
    return replace(settled, ideal=proof.objective, bound=proof.dual_bound)


def polished(
    segmented: Segmented, offset_Gy: NDArray[np.floating], *, options: SolverOptions | None = None
) -> Segmented:
    """Leaf positions and MU after a forward dose of the segments.

    Parameters
    ----------
    segmented : Segmented
    offset_Gy : float array [z, y, x]
        What the forward dose of the course had beyond the model's dose of the same segments.
    options : SolverOptions, optional

    Returns
    -------
    Segmented
        With as many segments, or fewer.
    """
    options = replace(options or SolverOptions(), relax=True, ceiling=False)
    planner, before = segmented.beamlets.with_offset(offset_Gy), segmented.solution
    search = _Search.of(planner, segmented.segments.mlc, before.problem, segmented.limits, options)
    chosen = list(segmented.apertures)
    settled = search.settled(chosen, search.solved(chosen, _warm(before, before.mu)))
    history = (*segmented.history, *settled.history)
    return replace(settled, ideal=segmented.ideal, bound=segmented.bound, history=history)


Chosen = list[tuple[int, Aperture]]


@dataclass(frozen=True)
class _Search:
    """The search for apertures of one problem."""

    planner: Planner
    lattices: Sequence[LeafLattice]
    rules: Sequence[LeafRules]
    mlc: Mlc
    problem: Problem
    limits: SegmentLimits
    options: SolverOptions

    @classmethod
    def of(
        cls, planner: Planner, mlc: Mlc, problem: Problem, limits: SegmentLimits, options: SolverOptions
    ) -> _Search:
        """Over the beamlets of a planner."""
        columns = planner.nominal.influence.columns
        if not isinstance(columns, Beamlets):
            raise ValueError("segments are made of beamlets")
        lattices = _lattices(columns, mlc)
        return cls(planner, lattices, [_rules(one, mlc, limits) for one in lattices], mlc, problem, limits, options)

    @cached_property
    def pricing(self) -> _Pricing:
        return _Pricing(self.planner, self.problem)

    @cached_property
    def descent(self) -> Descent:
        offsets_Gy = [scenario.offset_Gy for scenario in self.planner.scenarios]
        programme = canonical.build(self.planner.rows, self.planner.protocol, self.problem, offsets_Gy)
        return Descent.of(programme, self.planner.full_row_matrix(), self.mlc.transmission)

    @cached_property
    def fast(self) -> SolverOptions:
        """While apertures are sought."""
        return replace(self.options, relative_gap=max(MASTER_GAP, self.options.relative_gap), progress=None)

    def settled(self, chosen: Chosen, solution: Solution) -> Segmented:
        """Segments added, leaves refined, segments of few MU left out, in turns; at last the MU to the options' own gap."""
        history: list[tuple[int, float]] = []
        for passes in range(PASSES + 1):
            if passes < PASSES:
                # In parts: apertures found beside refined ones fit better than all found at once.
                most = max(len(chosen), round(self.limits.most * min(1.0, (passes + 1) / FULL)))
                chosen, solution = self.grown(chosen, solution, most, history)
            chosen, solution = self.refined(chosen, solution, MOST_REFINED if passes >= FULL - 1 else 1)
            keep = [k for k in range(len(chosen)) if solution.mu[k] >= self.limits.min_mu]
            if not keep or (len(keep) == len(chosen) == self.limits.most and passes < PASSES):
                break
            if len(keep) < len(chosen):
                chosen, mu = [chosen[k] for k in keep], solution.mu[keep]
                solution = self.solved(chosen, _warm(solution, mu))
        while True:
            chosen = [(beam, self.lattices[beam].snapped(aperture)) for beam, aperture in chosen]
            master, solution = self.master(chosen, replace(self.options, progress=None), _warm(solution, solution.mu))
            keep = [k for k in range(len(chosen)) if solution.mu[k] >= self.limits.min_mu]
            if len(keep) == len(chosen) or not keep:
                break
            chosen, mu = [chosen[k] for k in keep], solution.mu[keep]
            solution = self.solved(chosen, _warm(solution, mu))
        history.append((len(chosen), solution.certificate.objective))
        return Segmented(master, solution, np.nan, np.nan, tuple(history), self.planner, tuple(chosen), self.limits)

    def grown(
        self, chosen: Chosen, solution: Solution, most: int, history: list[tuple[int, float]]
    ) -> tuple[Chosen, Solution]:
        """Apertures of most negative reduced cost added, while there is room and they are worth it."""
        full = np.inf
        for _ in range(2 * most):
            objective, mu, room = solution.certificate.objective, solution.mu, most - len(chosen)
            history.append((len(chosen), objective))
            if self.options.progress is not None:
                self.options.progress(min(len(chosen), most), self.limits.most, f"segments: {len(chosen)}")
            if not room:  # at the limit: what is not used makes room, while that helps
                kept = [k for k in range(len(chosen)) if mu[k] > max(UNUSED * mu.max(), USED * self.limits.min_mu)]
                if len(kept) == len(chosen) or full - objective < WORTH * abs(objective):
                    break
                full, chosen, mu = objective, [chosen[k] for k in kept], mu[kept]
            new = self.worthy(chosen, solution)[: min(ADDED, most - len(chosen))]
            if not new:
                break
            chosen = [*chosen, *new]
            solution = self.solved(chosen, _warm(solution, np.concatenate([mu, np.zeros(len(new))])))
        return chosen, solution

    def worthy(self, chosen: Chosen, solution: Solution) -> Chosen:
        """New apertures, the best first, that could lower the objective by enough to be worth a segment."""
        reduced = self.pricing.reduced_cost(solution)
        known = {_key(beam, aperture) for beam, aperture in chosen}
        priced = []
        for beam, (lattice, rule) in enumerate(zip(self.lattices, self.rules, strict=True)):
            aperture = best_aperture(lattice.costs(reduced), rule, lattice.usable)
            if aperture is None or _key(beam, aperture) in known:
                continue
            used, share = lattice.parts(aperture, self.mlc.transmission)
            priced.append((float(reduced[used] @ share), beam, aperture))
        worth = WORTH * max(abs(solution.certificate.objective), 1e-6) / max(float(solution.mu.max()), 1e-9)
        return [(beam, aperture) for cost, beam, aperture in sorted(priced, key=lambda p: p[0]) if -cost > worth]

    def refined(self, chosen: Chosen, solution: Solution, times: int) -> tuple[Chosen, Solution]:
        """Leaves and MU moved together, while it lowers the objective of the master problem."""
        for _ in range(times):
            rows = OpenRows.of(chosen, self.lattices, self.rules)
            edges, mu = self.descent.down(chosen, rows, solution.mu, solution.dual, DESCENT_STEPS)
            tried = rows.apertures(chosen, edges, self.rules)
            after = self.solved(tried, _warm(solution, mu))
            gain = solution.certificate.objective - after.certificate.objective
            if gain <= 0:
                break
            chosen, solution = tried, after
            if gain < WORTH_REFINING * abs(after.certificate.objective):
                break
        return chosen, solution

    def solved(self, chosen: Chosen, warm: WarmStart = COLD) -> Solution:
        """The MU of segments, to the gap of the search."""
        return self.master(chosen, self.fast, warm)[1]

    def master(self, chosen: Chosen, options: SolverOptions, warm: WarmStart) -> tuple[Planner, Solution]:
        """The master problem over the apertures chosen."""
        parts = [self.lattices[beam].parts(aperture, self.mlc.transmission) for beam, aperture in chosen]
        pointers = np.concatenate([[0], np.cumsum([len(used) for used, _ in parts])])
        combined = sp.csc_array(
            (np.concatenate([share for _, share in parts]), np.concatenate([used for used, _ in parts]), pointers),
            shape=(self.planner.rows.columns, len(chosen)),
        )
        made = tuple(self.lattices[beam].segment(aperture, 1.0) for beam, aperture in chosen)
        master = self.planner.combination(Segments(made, self.mlc), combined)
        return master, master.once(self.problem, options, warm)


def _lattices(columns: Beamlets, mlc: Mlc) -> list[LeafLattice]:
    firsts = np.cumsum([0, *(len(beamlets) for beamlets in columns.maps)])
    return [
        LeafLattice.of(beamlets, mlc, int(first)) for beamlets, first in zip(columns.maps, firsts[:-1], strict=True)
    ]


def _rules(lattice: LeafLattice, mlc: Mlc, limits: SegmentLimits) -> LeafRules:
    """The machine's rules in beamlets."""
    size = lattice.beamlets.size_uv_mm
    step_mm = size[0 if mlc.travel == "u" else 1]
    return LeafRules(
        min_open=max(1, int(np.ceil(mlc.min_gap_mm / step_mm - 1e-9))),
        interdigitation=mlc.interdigitation,
        connected=True,
        min_beamlets=max(1, int(np.ceil(100 * limits.min_area_cm2 / (size[0] * size[1]) - 1e-9))),
    )


class _Pricing:
    """What an MU of each beamlet costs at a master problem's multipliers."""

    def __init__(self, planner: Planner, problem: Problem) -> None:
        offsets_Gy = [scenario.offset_Gy for scenario in planner.scenarios]
        programme = canonical.build(planner.rows, planner.protocol, problem, offsets_Gy)
        self.full, self.unit_mu = planner.rows.full, planner.rows.reference_mu
        columns = planner.rows.columns
        self.linear = programme.linear()[:columns] / self.unit_mu
        self.limits = programme.limit_matrix()[0][:, :columns] / self.unit_mu

    def reduced_cost(self, solution: Solution) -> NDArray[np.float64]:
        """Derivative of the Lagrangian by the MU of each beamlet, without the smoothness term; shape (beamlets,)."""
        assert solution.row_price is not None  # the interior-point method says
        return np.asarray(self.linear + self.full.T @ solution.row_price + self.limits.T @ solution.dual)


def _warm(solution: Solution, mu: NDArray[np.float64]) -> WarmStart:
    """A start at other MU, with the multipliers of a solution."""
    columns = _Moved(mu)
    return WarmStart(replace(solution, delivery=columns, cut_cost=None))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Moved:
    """MU that stand for a delivery in a warm start."""

    vector: NDArray[np.float64]


def _key(beam: int, aperture: Aperture) -> tuple[int, bytes]:
    return beam, aperture.edges.tobytes()
