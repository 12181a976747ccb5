"""Limits that cannot all be met: the smallest relaxation, found and named; and limits that only seem so."""

import numpy as np
import pytest
from test_optimise_solve import SOLVERS, protocol_of, tiny

from mrlinac import optimise
from mrlinac.errors import SolverError
from mrlinac.optimise import SolverOptions
from mrlinac.optimise.solver import interior

ONE = {"T": (0, 1, 2), "A": (0,), "B": (1,), "C": (2,)}


def planner_of(objectives, constraints, matrix=None):
    return optimise.Planner(*tiny(np.eye(3) if matrix is None else matrix, ONE), protocol_of(objectives, constraints))


STEEP = {"kind": "squared_deviation", "structure": "T", "dose_Gy": 66, "weight": 600}
FLAT = {"kind": "squared_deviation", "structure": "T", "dose_Gy": 10, "weight": 1e-3}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("objective", [STEEP, FLAT], ids=["steep", "flat"])
def test_the_smallest_relaxation_of_a_known_problem(solver, objective):
    # One beamlet gives a to A and 0.5 a to B: A >= 20 and B <= 7 clash. A would have to give 6 (a = 14), B 3 (a = 20):
    # the smallest sum is 3, all of it from B, whatever the objective would rather have.
    limits = [
        {"kind": "mean_dose", "structure": "A", "at_least_Gy": 20},
        {"kind": "mean_dose", "structure": "B", "at_most_Gy": 7},
        {"kind": "mean_dose", "structure": "C", "at_most_Gy": 50},
    ]
    planner = planner_of([objective], limits, [[1, 0], [0.5, 0], [0, 1]])
    with pytest.raises(
        SolverError, match=r"infeasible: B mean_dose <= 7\.00 Gy would have to give 3\.0\d Gy\. Loosen"
    ):
        planner.solve(options=SolverOptions(solver=solver))
    solution = planner.solve(options=SolverOptions(solver=solver, relax=True))
    assert [limit.met for limit in solution.limits] == [True, False, True]
    assert solution.limits[1].excess_Gy == pytest.approx(3, abs=0.02)
    assert "B mean_dose exceeded by 3.0" in solution.delivery.certificate.status
    found_Gy = solution.delivery.vector * 5
    assert found_Gy[0] == pytest.approx(20, abs=0.05)
    # With that much room the objective is still served: C stands where it is best.
    assert found_Gy[1] == pytest.approx(50 if objective is STEEP else 10, abs=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["mean_dose", "dose_at_volume", "geud"])
def test_an_objective_steeper_than_the_price_of_limits_does_not_break_them(solver, kind):
    # Down from 66 Gy: the objective's slope at 10 Gy is 2 · 600 · 56 a Gy, above the price of 10⁴ a Gy.
    of = {"dose_at_volume": {"volume_percent": 1}, "geud": {"exponent": 8}}.get(kind, {})
    planner = planner_of([STEEP], [{"kind": kind, "structure": "T", "at_most_Gy": 10, **of}])
    solution = planner.solve(options=SolverOptions(solver=solver))
    assert solution.feasible
    assert solution.limits[0].value_Gy == pytest.approx(10, abs=0.02)
    assert solution.delivery.certificate.status == "optimal"


CLASH = [
    {"kind": "lower_tail", "structure": "T", "volume_percent": 20, "at_least_Gy": 8.0},
    {"kind": "upper_tail", "structure": "O", "volume_percent": 20, "at_most_Gy": 5.0},
    {"kind": "mean_dose", "structure": "O", "at_most_Gy": 3.0},
]


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_sum_is_that_of_the_whole_matrix(seed):
    """Half of the entries are cut away; no refinement is asked for, as in a correction round."""
    rng = np.random.default_rng(seed)
    large = rng.uniform(0, 3, (40, 12)) * (rng.uniform(0, 1, (40, 12)) < 0.5)
    patient = tiny(large + rng.uniform(0, 0.08, (40, 12)), {"T": range(15), "O": range(15, 40)})
    wanted = [{"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 5}]
    protocol = protocol_of(wanted, CLASH)
    sums_Gy = []
    for cut in (0, 0.03):
        found = optimise.Planner(*patient, protocol, cut=cut).solve(options=SolverOptions(relax=True, refinements=0))
        beyond_Gy = ((one.value_Gy - one.limit_Gy) * (1 if one.upper else -1) for one in found.limits)
        sums_Gy += [sum(max(0.0, e) for e in beyond_Gy), sum(one.excess_Gy for one in found.limits)]
    reached_Gy, *others_Gy = (
        sums_Gy  # by its dose and as it says, with the whole matrix and without the small entries
    )
    np.testing.assert_allclose(others_Gy, reached_Gy, atol=0.02)


def test_a_smallest_sum_that_was_not_found_is_not_called_the_smallest(monkeypatch):
    solve = interior.solve

    def soon(programme, *given, **how):
        return solve(programme, *given, **how, **({"most_iterations": 4} if programme.price == 1.0 else {}))

    limits = [
        {"kind": "mean_dose", "structure": "A", "at_least_Gy": 20},
        {"kind": "mean_dose", "structure": "B", "at_most_Gy": 7},
    ]
    planner = planner_of([STEEP], limits, [[1, 0], [0.5, 0], [0, 1]])
    assert planner.solve(options=SolverOptions(relax=True)).delivery.certificate.status.startswith("relaxed")
    monkeypatch.setattr(interior, "solve", soon)
    status = planner.solve(options=SolverOptions(relax=True)).delivery.certificate.status
    assert status.startswith("inexact: limits exceeded, the smallest sum of excesses not found")
    with pytest.raises(SolverError, match=r"infeasible.*the smallest sum of excesses not found"):
        planner.solve()
