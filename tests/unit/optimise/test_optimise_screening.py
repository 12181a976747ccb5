"""Hinges fixed far from their kink: the same optimum however few are kept, and a whole programme where that fails."""

import numpy as np
import pytest
import scipy.sparse as sp
from synthetic import thorax

from mrlinac import optimise
from mrlinac import protocol as protocols
from mrlinac.errors import SolverError
from mrlinac.optimise import Problem, SolverOptions, canonical
from mrlinac.optimise.solver import interior, screening
from mrlinac.optimise.solver.matrix import KeptGram, RowMatrix
from mrlinac.optimise.solver.newton import Method
from mrlinac.optimise.solver.screening import Screened

SRC = {"source": "test"}


@pytest.fixture(scope="module")
def patient():
    return thorax(spacing_mm=8.0, target_mm=20.0, half_length_mm=40.0, beamlet_mm=(7.0, 7.0))


def planner_of(patient, escalate: bool) -> optimise.Planner:
    """Hinges of every sort: squares, tails, quadratic limits, norms, voxels held, in the objective and in limits."""
    size = {"fractions": 30}
    objectives = [
        {"kind": "squared_deviation", "structure": "PTV_eval", "dose_percent": 100, "weight": 60},
        {"kind": "squared_underdose", "structure": "PTV_eval", "dose_percent": 97, "weight": 300},
        {"kind": "squared_overdose", "structure": "Normal", "dose_percent": 50, "weight": 30},
        {"kind": "squared_overdose", "structure": "Lungs-GTV", "dose_Gy": 10, "weight": 5},
        {"kind": "upper_tail", "structure": "Esophagus", "volume_cc": 1, "weight": 0.1},
        {"kind": "geud", "structure": "Heart", "exponent": 3, "weight": 0.1},
        {"kind": "fluence_smoothness", "weight": 3},
    ]
    constraints = [
        {"kind": "upper_tail", "structure": "PTV_eval", "volume_percent": 2, "at_most_percent": 110},
        {"kind": "mean_dose", "structure": "PTV_eval", "at_least_percent": 98},
        {"kind": "upper_tail", "structure": "Lungs-GTV", "volume_percent": 20, "at_most_Gy": 33, **size},
        {"kind": "mean_eqd2", "structure": "Lungs-GTV", "alpha_beta_Gy": 3, "at_most_Gy": 14},
        {"kind": "dose_at_volume", "structure": "Esophagus", "volume_cc": 2, "at_most_Gy": 45, **size},
        {"kind": "upper_tail", "structure": "SpinalCord", "volume_cc": 0.5, "at_most_Gy": 25, **size},
    ]
    if escalate:
        constraints.append(
            {"kind": "lower_tail", "structure": "PTV_eval", "volume_percent": 2, "at_least_percent": 80}
        )
    protocol = protocols.from_values(
        {
            "name": "t",
            "title": "t",
            "citation": "t",
            "prescription": {"dose_Gy": 60, "fractions": 30, "target": "PTV_eval", "rule": "median", **SRC},
            **(
                {"escalation": {"by": "dose", "cap_Gy": 150, "step_Gy": 0.1, "slip_percent": 1.0, **SRC}}
                if escalate
                else {}
            ),
            "objectives": [o | SRC for o in objectives],
            "constraints": [c | SRC for c in constraints],
        }
    )
    return optimise.Planner(*patient, protocol, oar_rows=1500, cut=0)


def optimum(planner, escalate, held=None):
    return planner.once(
        Problem(escalate=escalate, held=held), SolverOptions(relax=True, relative_gap=1e-06)
    ).certificate


@pytest.mark.parametrize("escalate", [False, True])
@pytest.mark.parametrize("held", [False, True])
def test_the_optimum_does_not_depend_on_what_is_fixed(patient, escalate, held, monkeypatch):
    planner = planner_of(patient, escalate)
    held_rows = None
    if held:
        first = planner.once(Problem(escalate=escalate), SolverOptions(relax=True, relative_gap=0.01))
        held_rows = planner.held_by(first.row_dose_Gy)
    sizes, keep = [], Screened._keep

    def counted(self, near):
        sizes.append(near.mean())
        keep(self, near)

    monkeypatch.setattr(Screened, "_keep", counted)
    found = []
    for band in (1e3, 0.15, 0.04):
        sizes.clear()
        monkeypatch.setattr(screening, "FIRST_BAND", band)
        found.append((optimum(planner, escalate, held_rows), sizes[0], sizes[-1]))
    (whole, all_of_them, _), *others = found
    assert all_of_them > 0.99
    taken_in = 0
    assert whole.relative_gap <= 1e-6
    for proof, first_share, last_share in others:
        assert first_share < 0.8
        taken_in += last_share > first_share  # those that came to their kink
        assert proof.relative_gap <= 1e-6
        assert proof.objective == pytest.approx(whole.objective, rel=3e-6)
        assert max(proof.dual_bound, whole.dual_bound) <= min(proof.objective, whole.objective) + 1e-9
    assert taken_in


@pytest.mark.parametrize("escalate", [False, True])
def test_the_whole_programme_takes_over(patient, escalate, monkeypatch):
    planner = planner_of(patient, escalate)
    usual = optimum(planner, escalate)
    steps, advance = [], Screened.advance

    def counted(self, q):
        steps.append(len(self.row))
        return advance(self, q)

    monkeypatch.setattr(interior, "MOST_SCREENED", 2)
    monkeypatch.setattr(Screened, "advance", counted)
    slow = optimum(planner, escalate)
    assert 0 < len(steps) < slow.iterations  # the others are the whole programme's
    assert slow.objective == pytest.approx(usual.objective, rel=3e-6)

    def broken(self, q):
        raise SolverError("no")

    monkeypatch.setattr(interior, "MOST_SCREENED", 40)
    monkeypatch.setattr(Screened, "advance", broken)
    assert optimum(planner, escalate).objective == pytest.approx(usual.objective, rel=3e-6)
    monkeypatch.setattr(Method, "advance", broken)
    with pytest.raises(SolverError, match="no"):
        optimum(planner, escalate)


@pytest.mark.parametrize("slip_percent", [5, 20])
def test_hinges_of_held_squares_are_taken_in_on_the_central_path(patient, slip_percent, monkeypatch):
    """A held sum of squares has hinges whose part of the limit is quadratic: their slacks must not run away."""
    objectives = [
        {"kind": "squared_deviation", "structure": "PTV_eval", "dose_percent": 100, "weight": 60, "priority": 1},
        {"kind": "squared_overdose", "structure": "Normal", "dose_percent": 50, "weight": 30, "priority": 1},
        {"kind": "mean_dose", "structure": "Lungs-GTV", "weight": 1, "priority": 2},
        {"kind": "fluence_smoothness", "weight": 1},
    ]
    objectives[0]["slip_percent"] = slip_percent
    cord = {"kind": "upper_tail", "structure": "SpinalCord", "volume_cc": 0.5, "at_most_Gy": 25, "fractions": 30}
    protocol = protocols.from_values(
        {
            "name": "t",
            "title": "t",
            "citation": "t",
            "prescription": {"dose_Gy": 60, "fractions": 30, "target": "PTV_eval", "rule": "median", **SRC},
            "objectives": [o | SRC for o in objectives],
            "constraints": [cord | SRC],
        }
    )
    planner = optimise.Planner(*patient, protocol, oar_rows=1500, cut=0)
    found = planner.solve()
    assert found.delivery.certificate.status == "optimal"
    assert found.delivery.certificate.iterations < 40
    monkeypatch.setattr(screening, "FIRST_BAND", 1e3)
    monkeypatch.setattr(screening, "BAND", 1e3)
    whole = planner.solve()
    assert found.priorities[0].reached == pytest.approx(whole.priorities[0].reached, rel=2e-3)
    assert found.priorities[1].reached == pytest.approx(whole.priorities[1].reached, rel=1e-2)


def test_a_step_that_is_not_a_number_is_a_breakdown(patient, monkeypatch):
    planner = planner_of(patient, False)
    usual = optimum(planner, False)
    advance = Screened.advance

    def spoilt(self, q):
        after = advance(self, q)
        after.x[0] = np.nan
        return after

    monkeypatch.setattr(Screened, "advance", spoilt)
    assert optimum(planner, False).objective == pytest.approx(usual.objective, rel=3e-6)


@pytest.mark.parametrize("escalate", [False, True])
def test_what_is_fixed_costs_the_same(patient, escalate):
    """Changes of objective and limits where nothing crosses its kink, with few hinges and with all."""
    planner = planner_of(patient, escalate)
    programme = canonical.build(planner.rows, planner.protocol, Problem(escalate=escalate))
    whole = Method(programme, planner._row_matrix())
    near = whole.approach()
    few = Screened(whole, programme, near)
    assert len(few.row) < 0.8 * len(whole.row)
    t = whole.levels(whole.row_dose(near.x), near.prescription_Gy)

    def state(method, x):
        d, z = method.dose.times(x), np.concatenate([x, t])
        s = np.maximum(method.residual(d, t), 0)
        cost = 0.5 * method.square @ s**2 + method.linear @ s + method.norms.cost(s) + method.g @ z
        cost += 0.5 * method.row_weight @ (d - method.row_level) ** 2 + 0.5 * x @ (method.smooth @ x)
        return cost, method.G @ z + method.in_limits(s) - method.h

    other = near.x * np.random.default_rng(0).uniform(0.99, 1.01, near.x.shape)
    (a, b), (c, d) = ([state(m, x) for x in (near.x, other)] for m in (whole, few))
    assert d[0] - c[0] == pytest.approx(b[0] - a[0], rel=1e-6)
    np.testing.assert_allclose(c[1], a[1], atol=1e-8)
    np.testing.assert_allclose(d[1], b[1], atol=1e-8)


def test_a_solve_has_the_same_bits_whatever_was_solved_before(patient):
    planner, other = planner_of(patient, False), planner_of(patient, True)
    other._matrix = planner._row_matrix()
    first = planner.once(options=SolverOptions(relax=True)).delivery.vector
    other.once(Problem(escalate=True), SolverOptions(relax=True))
    assert np.array_equal(planner.once(options=SolverOptions(relax=True)).delivery.vector, first)


def test_a_kept_gram_matrix_is_right_whatever_came_before():
    rng = np.random.default_rng(1)
    dense = rng.uniform(0, 1, (50, 20)) * (rng.uniform(0, 1, (50, 20)) < 0.3)
    matrix = RowMatrix(sp.csr_array(dense), np.arange(50), 2.0)
    kept, exact = KeptGram(matrix), dense.astype(np.float32).astype(float)
    weight = rng.uniform(0, 1, 50)
    for change in (0, 3, 50, 1):
        weight = weight.copy()
        weight[:change] = rng.uniform(0, 1, change)
        found = kept.of(weight)
        np.testing.assert_allclose(np.tril(found), np.tril(4 * exact.T @ (weight[:, None] * exact)), rtol=1e-12)
    assert np.shares_memory(found, kept.of(weight))
