"""The interior-point method: starts, optima of programmes drawn at random, hinges on the central path."""

import numpy as np
import pytest
from synthetic import thorax
from test_optimise_escalation import isotoxic, planner_of
from test_optimise_solve import protocol_of, thorax_protocol, tiny

from mrlinac import optimise
from mrlinac.optimise import Problem, SolverOptions, WarmStart, canonical
from mrlinac.optimise.solver.maps import Point
from mrlinac.optimise.solver.newton import Method, slacks


@pytest.fixture(scope="module")
def planner():
    patient = thorax(spacing_mm=8.0, target_mm=20.0, half_length_mm=40.0, beamlet_mm=(7.0, 7.0))
    return optimise.Planner(*patient, thorax_protocol(), oar_rows=500, cut=0)


def test_a_start_near_another_solution_reaches_the_same_optimum(planner):
    first = planner.solve(options=SolverOptions(relative_gap=0.01, refinements=0))
    z_mm = planner.rows.nominal.grid.z_mm
    offset_Gy = np.broadcast_to(0.7 * np.cos(z_mm / 20)[:, None, None], planner.rows.nominal.grid.shape_zyx)
    cold = planner.with_offset(offset_Gy).solve(options=SolverOptions(relative_gap=1e-06, refinements=0))
    warm = planner.with_offset(offset_Gy).solve(
        options=SolverOptions(relative_gap=1e-06, refinements=0), warm=WarmStart(first)
    )
    a, b = cold.delivery.certificate, warm.delivery.certificate
    assert a.status == b.status == "optimal"
    assert b.objective == pytest.approx(a.objective, rel=2e-6)
    assert max(a.dual_bound, b.dual_bound) <= min(a.objective, b.objective)
    for mine, other in zip(warm.limits, cold.limits, strict=True):
        assert mine.value_Gy == pytest.approx(other.value_Gy, abs=0.05)


def test_a_start_from_a_plan_that_exceeded_its_limits(planner):
    hopeless = optimise.Planner.__new__(optimise.Planner)
    hopeless.__dict__.update(planner.__dict__, protocol=thorax_protocol(lungs_Gy=1.0))
    exceeded = hopeless.solve(options=SolverOptions(relax=True, refinements=0))
    assert exceeded.delivery.certificate.status.startswith("relaxed")
    again = hopeless.solve(options=SolverOptions(relax=True, refinements=0), warm=WarmStart(exceeded))
    # With every entry it is 1.7548 Gy; each finds it to 0.002 of 2.75 Gy.
    assert [one.limits[1].excess_Gy for one in (exceeded, again)] == pytest.approx([1.7548] * 2, abs=5.5e-3)
    assert again.delivery.certificate.status.startswith("relaxed")
    met = planner.solve(options=SolverOptions(refinements=0), warm=WarmStart(exceeded))
    assert met.delivery.certificate.status == "optimal"


@pytest.mark.parametrize("seed", range(8))
def test_random_programmes_agree_with_another_solver(seed):
    rng = np.random.default_rng(seed)
    dose = rng.uniform(0, 3, (40, 12)) * (rng.uniform(0, 1, (40, 12)) < 0.5) + 0.05
    some = {"structure": "O", "dose_Gy": float(rng.uniform(2, 6)), "weight": float(rng.uniform(0.1, 10))}
    objectives = [
        {"kind": "squared_underdose", "structure": "T", "dose_percent": 100, "weight": 50},
        {"kind": "squared_overdose", **some},
        {"kind": "mean_dose", "structure": "O", "weight": 0.2},
        {"kind": "upper_tail", "structure": "O", "volume_percent": 25, "weight": 0.3},
    ][seed % 2 :]
    constraints = [
        {"kind": "upper_tail", "structure": "O", "volume_percent": 10, "at_most_Gy": float(rng.uniform(4, 12))},
        {"kind": "mean_dose", "structure": "T", "at_least_Gy": 3.0},
    ]
    planner = optimise.Planner(
        *tiny(dose, {"T": range(15), "O": range(15, 40)}), protocol_of(objectives, constraints), cut=0
    )
    ours = planner.solve(options=SolverOptions(relative_gap=1e-06, relax=True)).delivery.certificate
    theirs = planner.solve(options=SolverOptions(solver="clarabel", relax=True)).delivery.certificate
    assert ours.relative_gap <= 1e-6
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-4, abs=1e-5)


def test_slacks_are_on_the_central_path():
    r = np.array([-50.0, -1e-3, 0.0, 2.0, 80.0])
    force, centre = np.array([1e-3, 0.1, 1.0, 1e-4, 5.0]), 1e-3
    for square in (np.zeros(5), np.full(5, 0.01), np.full(5, 100.0)):
        s = slacks(r, force, square, centre)
        assert (s > np.maximum(r, 0)).all()
        np.testing.assert_allclose(centre / s + centre / (s - r), force + square * s, rtol=1e-6)


@pytest.mark.parametrize("relative", [True, False])
def test_a_newton_step_takes_every_residual_to_zero(relative):
    """By a finite difference: a fraction h of the step takes off that fraction, to first order in h.

    Norms, tails and quadratic limits together; the norm's level is the prescription sought, or is not.
    """
    level = {"dose_percent": 40, "at_most_percent": 10}
    fixed = {"dose_Gy": 25, "at_most_Gy": 4, "fractions": 30}
    protocol = isotoxic(
        [
            {"kind": "mean_dose", "structure": "T", "at_least_percent": 100},
            {"kind": "upper_tail", "structure": "T", "volume_percent": 50, "at_most_percent": 110},
            {"kind": "squared_overdose", "structure": "O", **(level if relative else fixed)},
            {"kind": "geud", "structure": "O", "exponent": 4, "at_most_Gy": 30, "fractions": 30},
            {"kind": "mean_eqd2", "structure": "O", "alpha_beta_Gy": 3, "at_most_Gy": 30},
        ]
    )
    planner = planner_of(protocol)
    method = Method(canonical.build(planner.rows, planner.protocol, Problem(escalate=True)), planner._row_matrix())
    # A start is even where little is: nowhere in particular.
    rng, start = np.random.default_rng(0), method.start(method.approach())
    point = Point(**{k: v * rng.uniform(0.5, 1.5, v.shape) for k, v in vars(start).items()})
    residuals, products = method.residuals(point), method.products(point)
    step = method._step(point, residuals, products, method._factorised(point))
    h = 1e-5
    near = point.moved(step, h, h)
    for before, after in ((residuals, method.residuals(near)), (products, method.products(near))):
        for name, value in before.items():
            size = max(1.0, float(np.abs(value).max(initial=0.0)))
            np.testing.assert_allclose((after[name] - value) / h, -value, atol=1e-3 * size, err_msg=name)
