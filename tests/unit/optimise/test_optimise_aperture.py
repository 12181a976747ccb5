"""Apertures: the pricing problem against all apertures there are, and column generation against the fluence's bound."""

import itertools

import numpy as np
import pytest
from synthetic import thorax
from test_optimise_solve import thorax_protocol

from mrlinac import optimise
from mrlinac.machine import mlc_rules
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.model import Mlc
from mrlinac.optimise import SolverOptions
from mrlinac.optimise.aperture.column_generation import SegmentLimits, generate, polished
from mrlinac.optimise.aperture.lattice import LeafLattice
from mrlinac.optimise.aperture.pricing import Aperture, LeafRules, best_aperture, leaf_slopes, moved


def mlc_of(transmission=0.01, travel="u", **rules):
    given = {"min_gap_mm": 5.0, "interdigitation": True, **rules}
    return Mlc(
        pairs=80, leaf_width_mm=5.0, travel=travel, half_field_uv_mm=(200.0, 200.0), transmission=transmission, source="t",
        **given,
    )  # fmt: skip


def cheapest(cost, rules):
    """By trying every aperture."""
    rows, steps = cost.shape
    every = [None, *((a, b) for a in range(steps) for b in range(a + rules.min_open, steps + 1))]
    best = None
    for choice in itertools.product(every, repeat=rows):
        opened = [row for row, interval in enumerate(choice) if interval]
        size = sum(choice[row][1] - choice[row][0] for row in opened)
        if not opened or size < rules.min_beamlets:
            continue
        if rules.connected and opened[-1] - opened[0] + 1 != len(opened):
            continue
        beside = [(choice[row], choice[row + 1]) for row in range(rows - 1) if choice[row] and choice[row + 1]]
        if not rules.interdigitation and any(a[0] > b[1] or b[0] > a[1] for a, b in beside):
            continue
        total = sum(cost[row, slice(*choice[row])].sum() for row in opened)
        best = total if best is None or total < best else best
    return best


@pytest.mark.parametrize("seed", range(40))
def test_the_best_aperture_is_the_cheapest_of_all(seed):
    rng = np.random.default_rng(seed)
    cost = rng.normal(0.3, 1, rng.integers(1, 5, 2))
    rules = LeafRules(int(rng.integers(1, 3)), bool(seed % 2), bool(seed // 2 % 2), int(rng.integers(1, 6)))
    aperture, least = best_aperture(cost, rules), cheapest(cost, rules)
    assert (aperture is None) == (least is None)
    if aperture is not None:
        opened = [cost[row, int(a) : int(b)].sum() for row, (a, b) in enumerate(aperture.edges)]
        assert aperture.cost == pytest.approx(least) == pytest.approx(sum(opened))


def test_an_aperture_does_not_open_where_there_is_no_beamlet():
    cost, usable = np.full((1, 5), -1.0), np.array([[True, True, False, True, True]])
    aperture = best_aperture(cost, LeafRules(), usable)
    assert aperture.cost == -2
    assert aperture.edges.tolist() in ([[0, 2]], [[3, 5]])


def test_leaf_slopes_are_the_costs_of_the_beamlets_at_the_edges():
    """Inside costs 2 and -1, outside -3 and 4: the first leaf opens (3 a step), the last one stays."""
    aperture = Aperture(np.array([[1.0, 3.0]]), 0.0)
    slope, reach = leaf_slopes(aperture, np.array([[-3.0, 2.0, -1.0, 4.0]]), np.ones((1, 4), bool))
    assert slope.tolist() == [[-3, 0]]
    assert reach.tolist() == [[-1, 0]]
    half = Aperture(np.array([[1.25, 3.0]]), 0.0)  # within a beamlet both directions are of the same one
    slope, reach = leaf_slopes(half, np.array([[-3.0, 2.0, -1.0, 4.0]]), np.ones((1, 4), bool))
    assert slope[0, 0] == -2
    assert reach[0, 0] == 0.75


def test_moves_that_break_a_rule_are_not_made():
    aperture = Aperture(np.array([[0.0, 2.0], [1.0, 4.0]]), 0.0)
    steps = np.array([[0.0, -1.5], [1.2, 0.0]])
    assert moved(aperture, steps, LeafRules(min_open=1)).edges.tolist() == [[0, 2], [2.2, 4]]
    assert moved(aperture, steps, LeafRules(interdigitation=False)).edges.tolist() == [[0, 2], [1, 4]]
    assert moved(aperture, steps, LeafRules(min_beamlets=5)).edges.tolist() == [[0, 2], [1, 4]]


@pytest.mark.parametrize("travel", ["u", "v"])
def test_a_segment_opens_the_beamlets_of_its_aperture(travel):
    """Lattice of 3 rows: the open area and the leaves' places are those of the beamlets, on either axis."""
    along = 0 if travel == "u" else 1
    places = np.array([(s, r) for r in (-1, 0, 1) for s in range(-4, 4)], np.int32)
    beamlets = BeamletMap(Beam(0.0, (0.0, 0.0, 0.0), 1000.0), places[:, [along, 1 - along]], (5.0, 5.0))
    lattice = LeafLattice.of(beamlets, mlc_of(0.02, travel), first=10)
    aperture = Aperture(np.array([[0.0, 0.0], [2.0, 4.5], [3.0, 4.0]]), 0.0)
    segment = lattice.segment(aperture, 7.0)
    assert mlc_rules.problems(segment, lattice.mlc) == []
    assert segment.leaf_mm[40].tolist() == [-10, 2.5]
    assert segment.leaf_mm[41].tolist() == [-5, 0]
    assert segment.diaphragm_mm == (0, 10)
    columns, share = lattice.parts(aperture, 0.02)
    opened = {tuple(beamlets.lattice_uv[c - 10][[along, 1 - along]]): s for c, s in zip(columns, share, strict=True)}
    assert opened[-2, 0] == opened[-1, 0] == opened[-1, 1] == 1
    assert opened[0, 0] == pytest.approx(0.5 + 0.5 * 0.02)
    assert opened[3, 1] == 0.02
    assert (-2, -1) not in opened  # behind the diaphragm
    assert sum(s - 0.02 for s in share) * 25 == pytest.approx(0.98 * (12.5 * 5 + 5 * 5))


def test_leaves_stand_at_tenths_of_a_millimetre_and_keep_the_gap():
    places = np.array([(s, 0) for s in range(-4, 4)], np.int32)
    lattice = LeafLattice.of(BeamletMap(Beam(0.0, (0.0, 0.0, 0.0), 1000.0), places, (5.0, 5.0)), mlc_of(), first=0)
    wide, narrow = (lattice.snapped(Aperture(np.array([edges]), 0.0)) for edges in ((1.013, 4.987), (2.013, 3.017)))
    assert lattice.segment(wide, 1.0).leaf_mm[40].tolist() == [-14.9, 4.9]
    assert lattice.segment(narrow, 1.0).leaf_mm[40].tolist() == [-10.0, -4.9]
    whole = Aperture(np.array([[0.0, 8.0]]), 0.0)
    np.testing.assert_array_equal(lattice.snapped(whole).edges, whole.edges)


@pytest.fixture(scope="module")
def problem():
    influence, structures = thorax(spacing_mm=8.0, target_mm=20.0, half_length_mm=40.0, beamlet_mm=(5.0, 5.0))
    planner = optimise.Planner(influence, structures, thorax_protocol(cord_Gy=14.0), oar_rows=500)
    return planner, planner.solve(options=SolverOptions(relax=True))


def test_segments_come_near_the_fluences_optimum_and_never_below_its_bound(problem):
    planner, fluence = problem
    mlc = mlc_of()
    few, many = (
        generate(planner, mlc, fluence, limits=SegmentLimits(most=most, min_area_cm2=2.0, min_mu=0.1))
        for most in (18, 60)
    )
    bound = fluence.certificate.dual_bound
    assert bound < many.solution.certificate.objective < few.solution.certificate.objective
    first = few.history[0][1]  # conformal apertures
    assert many.solution.certificate.objective - bound < 0.1 * (first - bound)
    assert len(few.segments) <= 18
    assert len(many.segments) <= 60
    for segment in many.segments.segments:
        assert mlc_rules.problems(segment, mlc) == []
        open_mm2 = 5.0 * np.diff(segment.leaf_mm, axis=1).sum()
        assert open_mm2 >= 200 - 1e-6
        assert segment.mu >= 0.1
        inside = np.flatnonzero(np.diff(segment.leaf_mm, axis=1)[:, 0] > 0)
        assert len(inside) == inside[-1] - inside[0] + 1  # connected
    assert many.solution.feasible


def test_the_model_of_segments_is_the_sum_of_their_beamlets(problem):
    """Columns of segments give the dose of the beamlets that they open, transmission included."""
    planner, fluence = problem
    segmented = generate(planner, mlc_of(0.03), fluence, limits=SegmentLimits(most=18, min_area_cm2=2.0, min_mu=0.0))
    predicted_Gy = segmented.planner.predicted_Gy(segmented.segments)
    rows = segmented.planner.rows.nominal
    np.testing.assert_allclose(rows.on_rows(predicted_Gy), segmented.solution.row_dose_Gy, rtol=2e-4, atol=1e-3)
    # The same from the segments' openings: a beamlet's share is its open area, and the transmission of the rest.
    shares = np.zeros(len(planner.nominal.influence.columns))
    first = 0
    for beamlets in planner.nominal.influence.columns.maps:
        for segment in segmented.segments.segments:
            if segment.beam != beamlets.beam:
                continue
            for column, (u, v) in enumerate(beamlets.lattice_uv):
                if not segment.diaphragm_mm[0] <= v * 5 < segment.diaphragm_mm[1]:
                    continue
                left, right = segment.leaf_mm[v + 40]
                opened = np.clip(min(right, 5 * u + 5) - max(left, 5 * u), 0, 5) / 5
                shares[first + column] += segment.mu * (opened + 0.03 * (1 - opened))
        first += len(beamlets)
    np.testing.assert_allclose(predicted_Gy, 33 * planner.nominal.influence.dose_Gy(shares), rtol=1e-4, atol=1e-3)


def test_polishing_follows_the_difference_of_a_forward_dose(problem):
    """A forward dose 8 % below the model in one half of the grid: the polished segments make up for it."""
    planner, fluence = problem
    segmented = generate(planner, mlc_of(), fluence, limits=SegmentLimits(most=24, min_area_cm2=2.0, min_mu=0.1))
    model_Gy = segmented.planner.influence_Gy(segmented.segments)
    offset_Gy = -0.08 * model_Gy
    offset_Gy[..., : model_Gy.shape[2] // 2] = 0
    done = polished(segmented, offset_Gy)
    before = segmented.planner.with_offset(offset_Gy)
    unpolished = before.once(fluence.problem, SolverOptions(relax=True))  # the MU alone
    assert done.solution.certificate.objective < unpolished.certificate.objective
    assert len(done.segments) <= len(segmented.segments)
    assert any(
        not np.array_equal(one.leaf_mm, other.leaf_mm)
        for one, other in zip(done.segments.segments, segmented.segments.segments, strict=False)
    )
    assert [mlc_rules.problems(segment, mlc_of()) for segment in done.segments.segments] == [[]] * len(done.segments)
    assert done.ideal == segmented.ideal


def test_no_segment_falls_below_the_least_MU_and_the_optimum_is_that_of_the_bounded_problem(problem):
    """Both solvers agree on the problem with a lower bound, and the bound costs something."""
    planner, fluence = problem
    segmented = generate(planner, mlc_of(), fluence, limits=SegmentLimits(most=24, min_area_cm2=2.0, min_mu=0.1))
    free = segmented.planner.once(fluence.problem, SolverOptions(relax=True))
    least_mu = float(np.quantile(free.mu, 0.4))
    bounded = segmented.planner.with_least_mu(least_mu)
    interior = bounded.once(fluence.problem, SolverOptions(relax=True))
    reference = bounded.once(fluence.problem, SolverOptions(relax=True, solver="clarabel"))
    assert free.mu.min() < least_mu
    assert interior.mu.min() >= least_mu * (1 - 1e-12)
    assert interior.certificate.objective > free.certificate.objective
    assert interior.certificate.objective == pytest.approx(reference.certificate.objective, rel=2e-3)
    assert interior.certificate.dual_bound <= reference.certificate.objective * (1 + 1e-6)
    on_rows = np.asarray(bounded.rows.full @ interior.mu)
    np.testing.assert_allclose(on_rows, interior.row_dose_Gy, atol=1e-6)
