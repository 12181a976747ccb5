"""Limits that cannot all be met: the smallest relaxation, found and named; and limits that only seem so."""

import numpy as np
import pytest
from test_optimise_solve import SOLVERS, protocol_of, tiny

from mrlinac import optimise
from mrlinac.errors import SolverError

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
        planner.solve(solver=solver)
    solution = planner.solve(solver=solver, relax=True)
    assert [limit.met for limit in solution.limits] == [True, False, True]
    assert solution.limits[1].excess_Gy == pytest.approx(3, abs=0.02)
    assert "B mean_dose exceeded by 3.0" in solution.fluence.certificate.status
    found_Gy = solution.fluence.vector * 5
    assert found_Gy[0] == pytest.approx(20, abs=0.05)
    # With that much room the objective is still served: C stands where it is best.
    assert found_Gy[1] == pytest.approx(50 if objective is STEEP else 10, abs=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", ["mean_dose", "dose_at_volume", "geud"])
def test_an_objective_steeper_than_the_price_of_limits_does_not_break_them(solver, kind):
    # Down from 66 Gy: the objective's slope at 10 Gy is 2 · 600 · 56 a Gy, above the price of 10⁴ a Gy.
    of = {"dose_at_volume": {"volume_percent": 1}, "geud": {"exponent": 8}}.get(kind, {})
    planner = planner_of([STEEP], [{"kind": kind, "structure": "T", "at_most_Gy": 10, **of}])
    solution = planner.solve(solver=solver)
    assert solution.feasible
    assert solution.limits[0].value_Gy == pytest.approx(10, abs=0.02)
    assert solution.fluence.certificate.status == "optimal"
