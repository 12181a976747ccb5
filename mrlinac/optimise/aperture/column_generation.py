"""Direct aperture optimisation by column generation.

The restricted master problem is the planner's own convex programme over the MU of the segments found so far. Its
multipliers price every beamlet; the pricing problem finds, for each beam, the aperture of most negative reduced cost
that the leaves can form. It joins the master problem, and so on (Romeijn et al. 2005, SIAM J Optim 15:838; Men et al.
2007, Phys Med Biol 52:7333). The fluence's own bound is a bound for every set of segments, because a segment's dose is a
sum of beamlets' doses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.errors import SolverError
from mrlinac.machine.delivery import Beamlets, Segments
from mrlinac.machine.model import Mlc
from mrlinac.optimise import canonical
from mrlinac.optimise.aperture.lattice import LeafLattice
from mrlinac.optimise.aperture.pricing import Aperture, LeafRules, best_aperture, leaf_slopes, moved
from mrlinac.optimise.planner import Planner
from mrlinac.optimise.problem import Problem, SolverOptions
from mrlinac.optimise.solution import COLD, Solution, WarmStart

MASTER_GAP = 5e-3
"""Relative gap of the master problem while apertures are found; the last solve has the options' own."""
ADDED = 3
"""Most apertures that join the master problem at a time."""
UNUSED = 1e-3
"""A segment of less than this share of the largest MU leaves the master problem."""
MOST_REFINED = 60
"""Most steps of all leaves together; each costs one solve of the master problem."""
FIRST_MOVE, LEAST_MOVE = 0.3, 0.01
"""Mean size of the first step, and of the least, in beamlets."""
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
    """

    planner: Planner
    solution: Solution
    ideal: float
    bound: float
    history: tuple[tuple[int, float], ...]

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
    columns = planner.nominal.influence.columns
    if not isinstance(columns, Beamlets):
        raise ValueError("segments are made of beamlets")
    lattices = _lattices(columns, mlc)
    rules = [_rules(lattice, mlc, limits) for lattice in lattices]
    chosen = [(beam, whole) for beam, lattice in enumerate(lattices) if (whole := lattice.whole()) is not None]
    if not chosen:
        raise SolverError("no aperture can be formed: the beamlets leave no open row")
    pricing = _Pricing(planner, fluence.problem)
    fast = replace(options, relative_gap=max(MASTER_GAP, options.relative_gap), progress=None)
    history: list[tuple[int, float]] = []
    mu = np.zeros(len(chosen))
    master, solution = _solve(planner, lattices, chosen, mlc, fluence.problem, fast, None)
    for _ in range(4 * limits.most):
        history.append((len(chosen), solution.certificate.objective))
        if options.progress is not None:
            options.progress(min(len(chosen), limits.most), limits.most, f"segments: {len(chosen)}")
        reduced = pricing.reduced_cost(solution)
        priced = []
        for beam, (lattice, rule) in enumerate(zip(lattices, rules, strict=True)):
            aperture = best_aperture(lattice.costs(reduced), rule, lattice.usable)
            if aperture is None:
                continue
            used, share = lattice.parts(aperture, mlc.transmission)
            priced.append((float(reduced[used] @ share), beam, aperture))
        known = {_key(beam, aperture) for beam, aperture in chosen}
        priced = sorted((p for p in priced if p[0] < 0 and _key(p[1], p[2]) not in known), key=lambda p: p[0])
        mu = solution.mu
        worth = WORTH * max(abs(solution.certificate.objective), 1e-6) / max(float(mu.max()), 1e-9)
        room = limits.most - len(chosen)
        new = [(beam, aperture) for cost, beam, aperture in priced[: min(ADDED, room)] if -cost > worth]
        kept = [k for k in range(len(chosen)) if mu[k] > UNUSED * mu.max()]
        if not new and (room > 0 or len(kept) == len(chosen)):
            break
        if not new:  # at the limit: what is not used makes room
            chosen, mu = [chosen[k] for k in kept], mu[kept]
        chosen, mu = [*chosen, *new], np.concatenate([mu, np.zeros(len(new))])
        master, solution = _solve(planner, lattices, chosen, mlc, fluence.problem, fast, _warm(solution, mu))
    exact = replace(options, progress=None)
    while True:
        chosen, solution = _refined(planner, lattices, rules, chosen, solution, pricing, fast)
        master, solution = _solve(
            planner, lattices, chosen, mlc, fluence.problem, exact, _warm(solution, solution.mu)
        )
        keep = [k for k in range(len(chosen)) if solution.mu[k] >= limits.min_mu]
        if len(keep) == len(chosen) or not keep:
            break
        chosen, mu = [chosen[k] for k in keep], solution.mu[keep]
        master, solution = _solve(planner, lattices, chosen, mlc, fluence.problem, fast, _warm(solution, mu))
    history.append((len(chosen), solution.certificate.objective))
    proof = fluence.certificate
    return Segmented(master, solution, proof.objective, proof.dual_bound, tuple(history))


def _refined(
    planner: Planner,
    lattices: Sequence[LeafLattice],
    rules: Sequence[LeafRules],
    chosen: list[tuple[int, Aperture]],
    solution: Solution,
    pricing: _Pricing,
    options: SolverOptions,
) -> tuple[list[tuple[int, Aperture]], Solution]:
    """Move leaves down the slope that the multipliers give, and keep what lowers the objective.

    A steepest-descent step in all leaf positions, after which the MU are optimal again; shorter where it does not help.
    """
    mlc, problem = lattices[0].mlc, solution.problem
    length = FIRST_MOVE
    for _ in range(MOST_REFINED):
        reduced, mu = pricing.reduced_cost(solution), solution.mu
        sloped = [
            leaf_slopes(aperture, lattices[beam].costs(reduced), lattices[beam].usable) for beam, aperture in chosen
        ]
        slopes = [mu[k] * slope for k, (slope, _) in enumerate(sloped)]
        scale = np.sqrt(np.mean(np.concatenate([slope[slope < 0] for slope in slopes] or [np.ones(1)]) ** 2))
        if not np.isfinite(scale) or scale <= 0:
            break
        tried = []
        for (beam, aperture), slope, (_, reach) in zip(chosen, slopes, sloped, strict=True):
            steps = np.sign(reach) * np.minimum(np.abs(reach), -length * slope / scale)
            tried.append((beam, moved(aperture, steps, rules[beam])))
        _, after = _solve(planner, lattices, tried, mlc, problem, options, _warm(solution, mu))
        gain = solution.certificate.objective - after.certificate.objective
        if gain > 0:
            chosen, solution, length = tried, after, 1.5 * length
            if gain < WORTH * abs(after.certificate.objective):
                break
        elif length < LEAST_MOVE:
            break
        else:
            length /= 3
    return chosen, solution


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


def _solve(
    planner: Planner,
    lattices: Sequence[LeafLattice],
    chosen: Sequence[tuple[int, Aperture]],
    mlc: Mlc,
    problem: Problem,
    options: SolverOptions,
    warm: WarmStart | None,
) -> tuple[Planner, Solution]:
    """The master problem over the apertures chosen, in the beams' order."""
    parts = [lattices[beam].parts(aperture, mlc.transmission) for beam, aperture in chosen]
    pointers = np.concatenate([[0], np.cumsum([len(used) for used, _ in parts])])
    combined = sp.csc_array(
        (np.concatenate([share for _, share in parts]), np.concatenate([used for used, _ in parts]), pointers),
        shape=(planner.rows.columns, len(chosen)),
    )
    segments = Segments(tuple(lattices[beam].segment(aperture, 1.0) for beam, aperture in chosen), mlc)
    master = planner.combination(segments, combined)
    return master, master.once(problem, options, COLD if warm is None else warm)


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
