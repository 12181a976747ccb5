"""Several scenarios in one plan, and columns that are not beamlets."""

import numpy as np
import pytest
import scipy.sparse as sp
from test_optimise_escalation import TARGET, isotoxic
from test_optimise_solve import SOLVERS, protocol_of, tiny

from mrlinac import optimise
from mrlinac.dose.influence import Influence
from mrlinac.dose.scenarios import Scenario
from mrlinac.errors import DataError, SolverError
from mrlinac.machine.beams import Beam
from mrlinac.machine.delivery import Segment, Segments
from mrlinac.machine.model import Mlc
from mrlinac.optimise import Problem, SolverOptions
from mrlinac.provenance import Provenance

ABOUT_10 = {"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1}
NAMES = {"T": (0,), "O": (1,)}
FRACTIONS = 5


def planner_of(protocol, *matrices, weights=(), names=NAMES):
    """A planner of one scenario a matrix."""
    (first, *others) = (tiny(matrix, names) for matrix in matrices)
    scenarios = [
        Scenario(*other, name=f"shift {n}", weight=(weights or (1.0,) * len(matrices))[n])
        for n, other in enumerate(others, 1)
    ]
    return optimise.Planner(*first, protocol, cut=0, others=scenarios)


def target_Gy(planner, solver, **options):
    """Course dose of the nominal target: its voxel gets 1 Gy per MU."""
    return FRACTIONS * planner.solve(options=SolverOptions(solver=solver, relative_gap=1e-8, **options)).mu[0]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("weight", "dose_Gy"), [(1.0, 6.0), (3.0, 70 / 13)])
def test_objectives_are_the_weighted_mean_over_scenarios(solver, weight, dose_Gy):
    """(a - 10)² + w (2a - 10)² is least at a = (10 + 20 w) / (1 + 4 w)."""
    planner = planner_of(protocol_of([ABOUT_10]), [[1.0], [0.0]], [[2.0], [0.0]], weights=(1.0, weight))
    assert target_Gy(planner, solver) == pytest.approx(dose_Gy, rel=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", [{"kind": "mean_dose"}, {"kind": "upper_tail", "volume_percent": 50}])
def test_a_limit_holds_in_the_worst_scenario(solver, kind):
    """The organ gets half of the target's dose, or 0.8 of it where the patient lies otherwise: 0.8 a <= 4."""
    limit = {"structure": "O", "at_most_Gy": 4.0, **kind}
    planner = planner_of(protocol_of([ABOUT_10], [limit]), [[1.0], [0.5]], [[1.0], [0.8]])
    assert target_Gy(planner, solver) == pytest.approx(5.0, rel=1e-4)
    alone = planner_of(protocol_of([ABOUT_10], [limit]), [[1.0], [0.5]])
    assert target_Gy(alone, solver) == pytest.approx(8.0, rel=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_dvh_point_holds_in_every_scenario(solver):
    """The second pass frees the hotter voxel of each scenario; the colder ones get 0.5 a and 0.6 a <= 3."""
    limit = {"kind": "dose_at_volume", "structure": "O", "volume_percent": 50, "at_most_Gy": 3.0}
    names = {"T": (0,), "O": (1, 2)}
    first, second = [[1.0], [0.9], [0.5]], [[1.0], [0.6], [0.8]]
    planner = planner_of(protocol_of([ABOUT_10], [limit]), first, second, names=names)
    assert target_Gy(planner, solver) == pytest.approx(5.0, rel=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_highest_prescription_is_that_of_the_worst_scenario(solver):
    """The organ's limit of 26 Gy allows 26 / 0.4 = 65 Gy in the first scenario and 26 / 0.41 in the second."""
    limit = {"kind": "mean_dose", "structure": "O", "at_most_Gy": 26.0, "fractions": 30}
    protocol = isotoxic([*TARGET, limit])
    options = SolverOptions(solver=solver, relative_gap=1e-6)
    both = planner_of(protocol, [[1.0], [0.4]], [[1.0], [0.41]])
    assert optimise.highest(both, options=options).restricted_Gy == pytest.approx(26 / 0.41, rel=2e-4)
    first = planner_of(protocol, [[1.0], [0.4]])
    assert optimise.highest(first, options=options).restricted_Gy == pytest.approx(65.0, rel=2e-4)


def test_scenarios_have_offsets_of_their_own():
    """The organ has 1 Gy already in the first scenario, none in the second: 0.5 a + 1 <= 4."""
    limit = {"kind": "mean_dose", "structure": "O", "at_most_Gy": 4.0}
    planner = planner_of(protocol_of([ABOUT_10], [limit]), [[1.0], [0.5]], [[1.0], [0.5]])
    offset_Gy = np.array([0.0, 1.0]).reshape(1, 1, 2)
    assert target_Gy(planner.with_offset(offset_Gy), "interior") == pytest.approx(6.0, rel=1e-4)
    assert target_Gy(planner, "interior") == pytest.approx(8.0, rel=1e-4)


def test_a_limit_that_cannot_be_met_names_its_scenario():
    limits = [
        {"kind": "mean_dose", "structure": "T", "at_least_Gy": 9.0},
        {"kind": "mean_dose", "structure": "O", "at_most_Gy": 5.0},
    ]
    planner = planner_of(protocol_of([ABOUT_10], limits), [[1.0], [0.5]], [[1.0], [0.8]])
    with pytest.raises(SolverError, match=r"O mean_dose \(shift 1\) <= 5\.00 Gy would have to give 2\.20 Gy"):
        planner.solve()
    names = [limit.name for limit in planner.solve(options=SolverOptions(relax=True)).limits]
    assert names == [f"{name} mean_dose ({scenario})" for scenario in ("nominal", "shift 1") for name in "TO"]


@pytest.mark.parametrize("seed", range(3))
def test_a_scenario_twice_changes_nothing(seed):
    """Random problems of linear, quadratic and tail terms with limits: the optimum is that of one scenario."""
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(0, 3, (40, 12)) * (rng.uniform(0, 1, (40, 12)) < 0.5)
    names = {"T": range(15), "O": range(15, 40)}
    objectives = [
        ABOUT_10,
        {"kind": "upper_tail", "structure": "O", "volume_percent": 20, "weight": 1},
        {"kind": "geud", "structure": "O", "exponent": 4, "weight": 1},
        {"kind": "fluence_smoothness", "weight": 1},
    ]
    protocol = protocol_of(objectives, [{"kind": "mean_dose", "structure": "O", "at_most_Gy": 4.0}])
    options = SolverOptions(relative_gap=1e-7)
    once, twice = (
        planner_of(protocol, *[matrix] * n, names=names).solve(options=options).certificate.objective for n in (1, 2)
    )
    assert twice == pytest.approx(once, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("escalate", [False, True])
def test_both_solvers_agree_on_three_scenarios(seed, escalate):
    rng = np.random.default_rng(seed)
    names = {"T": range(8), "O": range(8, 20)}
    matrices = [rng.uniform(0, 1, (20, 6)) for _ in range(3)]
    for matrix in matrices:
        matrix[:8] = 1 + 0.1 * matrix[:8]  # else no prescription keeps the target even in all of them
    limits = [
        {"kind": "upper_tail", "structure": "O", "volume_percent": 20, "at_most_Gy": 66.0, "fractions": 30},
        {"kind": "mean_eqd2", "structure": "O", "alpha_beta_Gy": 3.0, "at_most_Gy": 55.0, "fractions": 30},
    ]
    protocol = isotoxic([*TARGET, *limits], cap_Gy=90.0)
    planner = planner_of(protocol, *matrices, names=names)
    ours, theirs = (
        planner.once(Problem(escalate=escalate), SolverOptions(solver=s, relative_gap=1e-6, relax=True)).certificate
        for s in SOLVERS
    )
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-4)


def test_scenarios_of_other_columns_are_refused():
    with pytest.raises(DataError, match="different numbers of columns: "):
        planner_of(protocol_of([ABOUT_10]), [[1.0], [0.0]], [[1.0, 1.0], [0.0, 0.0]])


def test_columns_may_be_segments():
    """An influence of three segments: the plan is these segments with the MU that beamlets of the same doses get."""
    mlc = Mlc(
        pairs=2,
        leaf_width_mm=10.0,
        travel="u",
        half_field_uv_mm=(50.0, 10.0),
        min_gap_mm=0,
        interdigitation=True,
        transmission=0,
        source="test",
    )
    beam = Beam(0.0, (0.0, 0.0, 0.0), 1000.0)
    segments = [Segment(beam, np.array([[-5.0 * n, 5.0 * n]] * 2), (-10.0, 10.0), 1.0) for n in (1, 2, 3)]
    matrix = np.array([[1.0, 0.5, 0.1], [0.2, 1.0, 0.6], [0.1, 0.4, 1.0]], np.float32)
    influence, structures = tiny(matrix, {"T": (0, 1), "O": (2,)})
    objectives = [ABOUT_10, {"kind": "squared_overdose", "structure": "O", "dose_Gy": 3.0, "weight": 2}]
    by_segments = Influence(
        influence.grid, sp.csc_array(matrix), Segments(tuple(segments), mlc), 0.0, Provenance("test", "test")
    )
    options = SolverOptions(relative_gap=1e-8)
    solution = optimise.Planner(by_segments, structures, protocol_of(objectives), cut=0).solve(options=options)
    beamlets = optimise.Planner(influence, structures, protocol_of(objectives), cut=0).solve(options=options)
    assert isinstance(solution.delivery, Segments)
    assert [segment.mu for segment in solution.delivery.segments] == solution.mu.tolist()
    np.testing.assert_allclose(solution.mu, beamlets.mu, rtol=1e-5, atol=1e-6)
    assert all(
        np.array_equal(a.leaf_mm, b.leaf_mm) for a, b in zip(solution.delivery.segments, segments, strict=True)
    )
    assert solution.certificate.status == "optimal"
