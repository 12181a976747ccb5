"""Every kind the same way: number, cvxpy expression, convexity, solver rows against another solver, known optimum."""

import cvxpy as cp
import numpy as np
import pytest
from test_optimise_solve import ABOUT_10, SOLVERS, optimum, protocol_of, tiny

from mrlinac import optimise
from mrlinac.dose import metrics
from mrlinac.errors import SpecError
from mrlinac.optimise import Problem, SolverOptions
from mrlinac.optimise.solver import cvxpy_reference
from mrlinac.optimise.solver.norms import Norm, Norms
from mrlinac.protocol import kinds
from mrlinac.protocol.eqd2 import eqd2
from mrlinac.protocol.model import Constraint, Prescription

FRACTIONS = 5
EXAMPLES = {
    kinds.SquaredOverdose: {"dose_Gy": 8},
    kinds.SquaredUnderdose: {"dose_percent": 90},
    kinds.SquaredDeviation: {"dose_Gy": 9},
    kinds.MeanDose: {},
    kinds.UpperTail: {"volume_percent": 30},
    kinds.LowerTail: {"volume_percent": 30},
    kinds.DoseAtVolume: {"volume_percent": 30},
    kinds.Geud: {"exponent": 4},
    kinds.MeanEQD2: {"alpha_beta_Gy": 3},
}
OF_DOSE = pytest.mark.parametrize("kind", kinds.DOSE_KINDS, ids=lambda k: k.__name__)


def test_every_kind_has_an_example():
    assert set(EXAMPLES) == set(kinds.DOSE_KINDS)
    assert {*kinds.OBJECTIVE_KINDS, *kinds.LIMIT_KINDS} == set(kinds.KINDS)


@OF_DOSE
def test_number_and_expression_agree_and_are_convex(kind):
    of = kind(structure="S", **EXAMPLES[kind])
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.2, 1, 12)
    for _ in range(3):
        a, b = rng.uniform(4, 12, (2, 12))
        values = []
        for dose_Gy in (a, b, (a + b) / 2):
            expression = cvxpy_reference.expression(of, cp.Constant(dose_Gy), weights, 10.0, FRACTIONS)
            problem = cp.Problem(cp.Maximize(expression) if of.curvature == "concave" else cp.Minimize(expression))
            problem.solve(solver="CLARABEL")
            values.append(float(problem.value))
            number = of.value(dose_Gy, weights, 10.0, FRACTIONS)
            if of.curvature == "none":  # what is stated implies it
                assert number <= values[-1] + 1e-6
            else:
                assert values[-1] == pytest.approx(number, rel=1e-5, abs=1e-5)
        slack = (values[0] + values[1]) / 2 - values[2]
        assert slack <= 1e-6 if of.curvature == "concave" else slack >= -1e-6
        if of.curvature == "affine":
            assert slack == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", kinds.LIMIT_KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_a_limit_on_every_kind_agrees_with_another_solver(kind, seed):
    rng = np.random.default_rng(seed)
    dose = rng.uniform(0, 3, (40, 12)) * (rng.uniform(0, 1, (40, 12)) < 0.5) + 0.05
    low = kind is kinds.LowerTail
    structure, limit = ("T", {"at_least_Gy": 8.0}) if low else ("O", {"at_most_Gy": 3.0})
    wanted = [
        {"kind": "squared_underdose", "structure": "T", "dose_percent": 100, "weight": 5},
        {"kind": "squared_overdose", "structure": "O", "dose_Gy": 5, "weight": 1},
    ]
    patient = tiny(dose, {"T": range(15), "O": range(15, 40)})
    unlimited = optimise.Planner(*patient, protocol_of(wanted), cut=0).solve()
    free = unlimited.delivery.certificate
    if issubclass(kind, kinds.SquaredKind):  # less than without the limit
        of = kind(structure="O", **EXAMPLES[kind])
        reached_Gy = of.limit_value(unlimited.row_dose_Gy[15:], np.ones(25), 10.0)
        limit = {"at_most_Gy": 0.85 * reached_Gy}
    held = {"kind": kind.model_fields["kind"].default, "structure": structure, **EXAMPLES[kind], **limit}
    planner = optimise.Planner(*patient, protocol_of(wanted, [held]), cut=0)
    ours = planner.solve(options=SolverOptions(relative_gap=1e-07), second_pass=False)
    theirs = planner.solve(options=SolverOptions(solver="clarabel"), second_pass=False)
    a, b = ours.delivery.certificate, theirs.delivery.certificate
    assert a.status == b.status == "optimal"
    assert a.objective > 1.005 * free.objective  # the limit binds
    assert a.objective == pytest.approx(b.objective, rel=1e-4)
    assert a.dual_bound <= b.objective * (1 + 1e-5)
    assert ours.limits[0].dual_per_Gy == pytest.approx(theirs.limits[0].dual_per_Gy, rel=0.02)
    if kind is not kinds.DoseAtVolume:
        assert ours.limits[0].value_Gy == pytest.approx(ours.limits[0].limit_Gy, abs=2e-3)


@pytest.mark.parametrize("kind", kinds.OBJECTIVE_KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_every_kind_as_an_objective_agrees_with_another_solver(kind, seed):
    rng = np.random.default_rng(seed)
    dose = rng.uniform(0, 3, (40, 12)) * (rng.uniform(0, 1, (40, 12)) < 0.5) + 0.05
    wanted = {"kind": kind.model_fields["kind"].default, "weight": 4, **EXAMPLES.get(kind, {})}
    if kind is not kinds.FluenceSmoothness:
        wanted["structure"] = "T" if kind in (kinds.LowerTail, kinds.SquaredUnderdose) else "O"
    base = [
        {"kind": "squared_underdose", "structure": "T", "dose_percent": 100, "weight": 5},
        {"kind": "squared_overdose", "structure": "T", "dose_percent": 105, "weight": 5},
        {"kind": "squared_overdose", "structure": "O", "dose_Gy": 5, "weight": 1},
    ]
    planner = optimise.Planner(*tiny(dose, {"T": range(15), "O": range(15, 40)}), protocol_of([*base, wanted]), cut=0)
    ours, theirs = (
        planner.solve(options=SolverOptions(relative_gap=1e-07)),
        planner.solve(options=SolverOptions(solver="clarabel")),
    )
    a, b = ours.delivery.certificate, theirs.delivery.certificate
    assert a.status == b.status == "optimal"
    assert a.objective == pytest.approx(b.objective, rel=1e-5)
    assert ours.judgement.objective == pytest.approx(a.objective, rel=1e-5)  # the kind's own number
    assert a.dual_bound <= b.objective * (1 + 1e-5)


@pytest.mark.parametrize("exponent", [1, 1.5, 2, 12, 40])
@pytest.mark.parametrize("how", ["objective", "limit", "held"])
def test_geud_of_any_exponent_agrees_with_another_solver(exponent, how):
    rng = np.random.default_rng(1)
    dose = rng.uniform(0, 3, (40, 12)) * (rng.uniform(0, 1, (40, 12)) < 0.5) + 0.05
    geud = {"kind": "geud", "structure": "O", "exponent": exponent}
    wanted = [{"kind": "squared_underdose", "structure": "T", "dose_percent": 100, "weight": 5}]
    if how == "limit":
        protocol = protocol_of(wanted, [geud | {"at_most_Gy": 4}])
    elif how == "objective":
        protocol = protocol_of([*wanted, geud | {"weight": 3}])
    else:
        first = [wanted[0] | {"weight": 1, "slip_percent": 5}, geud | {"weight": 3}]
        protocol = protocol_of([wanted[0] | {"priority": 2}, *first])
    planner = optimise.Planner(*tiny(dose, {"T": range(15), "O": range(15, 40)}), protocol, cut=0)
    ours, theirs = (planner.solve(options=SolverOptions(solver=s, relative_gap=1e-06)) for s in SOLVERS)
    a, b = ours.delivery.certificate, theirs.delivery.certificate
    assert a.status == b.status == "optimal"
    assert a.objective == pytest.approx(b.objective, rel=1e-4)
    for mine, other in zip(ours.limits, theirs.limits, strict=True):
        assert mine.value_Gy == pytest.approx(4, abs=2e-3)
        assert mine.dual_per_Gy == pytest.approx(other.dual_per_Gy, rel=0.02)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("exponent", [2, 8])
def test_known_optimum_with_geud(solver, exponent):
    # (d - aim)² / 3 a voxel and 3 gEUD: the derivative vanishes at d where aim = d + 3/2 (d / gEUD)^(a-1).
    d_Gy = np.array([6.0, 9.0, 10.0])
    size = np.mean(d_Gy**exponent) ** (1 / exponent)
    aims = d_Gy + 1.5 * (d_Gy / size) ** (exponent - 1)
    squares = [
        {"kind": "squared_deviation", "structure": name, "dose_Gy": float(aim), "weight": 1 / 3}
        for name, aim in zip("ABC", aims, strict=True)
    ]
    geud = {"kind": "geud", "structure": "T", "exponent": exponent, "weight": 3}
    names = {"T": (0, 1, 2), "A": (0,), "B": (1,), "C": (2,)}
    _, found_Gy = optimum([*squares, geud], solver, names=names)
    np.testing.assert_allclose(found_Gy, d_Gy, atol=5e-3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"alpha_beta_Gy": 3, "fraction_Gy": 3}, "not converted"),
        ({"alpha_beta_Gy": 3}, "not converted"),
        ({"fractions": 5, "fraction_Gy": 2}, "two fractionations"),
        ({"fractions": 9}, "holds in 9 fractions"),
    ],
)
def test_a_limit_on_a_mean_square_is_not_converted(given, words):
    of = kinds.SquaredOverdose(structure="T", dose_percent=50)
    limit = Constraint(of=of, at_most_Gy=3.0, source="test", **given)
    assert words in limit.problem(Prescription(dose_Gy=10, fractions=5, target="T", rule="median", source="test"))


def test_a_limit_on_a_mean_square_has_a_closed_form():
    """Two voxels, one beamlet each, pulled to 20 Gy: the root of their mean square above 10 Gy may be 3 Gy."""
    wanted = [{"kind": "squared_deviation", "structure": "T", "dose_Gy": 20, "weight": 1}]
    limit = {"kind": "squared_overdose", "structure": "T", "dose_Gy": 10, "at_most_Gy": 3.0}
    planner = optimise.Planner(*tiny(np.eye(2), {"T": (0, 1)}), protocol_of(wanted, [limit]), cut=0)
    found = planner.solve(options=SolverOptions(relative_gap=1e-08))
    np.testing.assert_allclose(found.row_dose_Gy, 13.0, rtol=1e-4)
    assert found.limits[0].value_Gy == pytest.approx(3.0, abs=1e-3)
    # Of (20 - 10 - e)² a Gy of e at e = 3 is worth 2 · 7.
    assert found.limits[0].dual_per_Gy == pytest.approx(14.0, rel=1e-3)
    # A plan that will be scaled by 1.1 has to keep the limit after it.
    later = planner.solve(Problem(scaled_later=1.1), SolverOptions(relative_gap=1e-08))
    np.testing.assert_allclose(1.1 * later.row_dose_Gy, 13.0, rtol=1e-4)


@pytest.mark.parametrize(
    ("table", "values", "words"),
    [
        ("objectives", {"kind": "dose_at_volume", "structure": "T", "volume_cc": 1, "weight": 1}, "upper_tail"),
        ("objectives", {"kind": "geud", "structure": "T", "exponent": -10, "weight": 1}, "lower_tail"),
        ("constraints", {"kind": "fluence_smoothness", "at_most_Gy": 1}, "objective"),
        ("constraints", {"kind": "geud", "structure": "T", "exponent": 0.5, "at_least_Gy": 1}, "lower_tail"),
    ],
)
def test_a_kind_in_the_wrong_table_names_what_to_use(table, values, words):
    tables = {"objectives": [ABOUT_10], "constraints": []}
    tables[table] = [*tables[table], values]
    with pytest.raises(SpecError, match=words):
        protocol_of(**tables)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("limit", "dose_Gy"),
    [
        # (d - 10)² in every voxel; the limit cuts what all three get, or of one only.
        ({"kind": "geud", "exponent": 3, "at_most_Gy": 9}, (9, 9, 9)),
        ({"kind": "mean_dose", "at_most_Gy": 9}, (9, 9, 9)),
        ({"kind": "upper_tail", "volume_percent": 100 / 3, "at_most_Gy": 9}, (9, 9, 9)),
        ({"kind": "lower_tail", "volume_percent": 100 / 3, "at_least_Gy": 11}, (11, 11, 11)),
        # EQD2 of d in 5 fractions, α/β 3: d (d/5 + 3)/5 = 9 has the root 9.2705.
        ({"kind": "mean_eqd2", "alpha_beta_Gy": 3, "at_most_Gy": 9}, (9.27051, 9.27051, 9.27051)),
    ],
)
def test_known_optimum_of_three_voxels_at_a_limit(solver, limit, dose_Gy):
    solution, found_Gy = optimum([ABOUT_10], solver, [{"structure": "T", **limit}])
    np.testing.assert_allclose(found_Gy, dose_Gy, atol=3e-3)
    assert solution.limits[0].met


@pytest.mark.parametrize("solver", SOLVERS)
def test_known_optimum_with_mean_eqd2(solver):
    # Least of (d - 10)² + d (d/5 + 3)/5 at 2d - 20 + 2d/25 + 3/5 = 0.
    _, found_Gy = optimum(
        [ABOUT_10, {"kind": "mean_eqd2", "structure": "T", "alpha_beta_Gy": 3, "weight": 1}], solver
    )
    np.testing.assert_allclose(found_Gy, 19.4 / 2.08, atol=2e-3)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("upper", [True, False])
def test_two_passes_find_the_exact_dvh_statement(solver, upper):
    # Voxels want 10, 11 and 12 (or 10, 9 and 8) Gy; one third of the volume may pass 10.5 (or stay below 9.5).
    wants = (10, 11, 12) if upper else (10, 9, 8)
    objectives = [
        {"kind": "squared_deviation", "structure": name, "dose_Gy": want, "weight": 1}
        for name, want in zip("ABC", wants, strict=True)
    ]
    limit = {"kind": "dose_at_volume", "structure": "T", "volume_percent": 100 / 3 if upper else 200 / 3}
    limit |= {"at_most_Gy": 10.5} if upper else {"at_least_Gy": 9.5}
    names = {"T": (0, 1, 2), "A": (0,), "B": (1,), "C": (2,)}
    solution, found_Gy = optimum(objectives, solver, [limit], names=names)
    np.testing.assert_allclose(found_Gy, (10, 10.5, 12) if upper else (10, 9.5, 8), atol=5e-3)
    # The objective is (d - 11)² or (d - 9)² of the voxel held; its derivative at the limit is 1.
    if solver == "interior":
        assert solution.limits[0].dual_per_Gy == pytest.approx(1, rel=0.02)
    planner = optimise.Planner(*tiny(np.eye(3), names), protocol_of(objectives, [limit]))
    restricted = planner.solve(second_pass=False).delivery.certificate.objective
    assert restricted > solution.delivery.certificate.objective + 0.1


def test_dose_at_volume_is_the_dvh_metric():
    rng = np.random.default_rng(4)
    dose_Gy, volume_cc = rng.gamma(2, 10, 200), rng.uniform(0.001, 0.027, 200)
    for keys, text in (({"volume_cc": 0.1}, "D0.1cc"), ({"volume_percent": 33}, "D33%")):
        mine = kinds.DoseAtVolume(structure="S", **keys).value(dose_Gy, volume_cc, 60.0)
        assert mine == pytest.approx(metrics.value_of(dose_Gy, volume_cc, text), abs=1e-9)


def test_eqd2_closed_form():
    # 2 Gy fractions are their own EQD2; 55 Gy in 20 with α/β 10 is 58.4 Gy, 79.2 in 44 is 77.9 (BED 70.1, 93.5).
    np.testing.assert_allclose(eqd2(np.array([60.0]), 30, 3), 60)
    np.testing.assert_allclose(eqd2(np.array([55.0]), 20, 10), 55 * 12.75 / 12)
    np.testing.assert_allclose(eqd2(np.array([55.0, 79.2]), np.array([20, 44])[:1], 10)[0], 58.4, atol=0.05)
    with pytest.raises(ValueError, match="positive"):
        eqd2(np.array([1.0]), 0, 3)


WISHES = [
    {"kind": "squared_deviation", "structure": "A", "dose_Gy": 10, "weight": 1, "priority": 1},
    {"kind": "mean_dose", "structure": "T", "weight": 1, "priority": 2},
]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("first", "slip_percent"), [(1.0, 0), (1.0, 21)])
def test_wishes_are_met_in_order(solver, first, slip_percent):
    # One beamlet each for A (10 Gy) and B: B's dose only costs, so it goes to zero; A keeps 10 Gy less its slip.
    wishes = [dict(WISHES[0], slip_percent=slip_percent), WISHES[1]]
    # A third voxel that always gets twice A's dose keeps the first wish's least value at 100·4/5 / … above zero.
    also = {"kind": "squared_deviation", "structure": "C", "dose_Gy": 10, "weight": 1, "priority": 1}
    matrix = [[1, 0], [0, 1], [2, 0]]
    names = {"T": (0, 1, 2), "A": (0,), "B": (1,), "C": (2,)}
    solution, found_Gy = optimum([*wishes, also], solver, matrix=matrix, names=names)
    # (a - 10)² + (2a - 10)² = 5a² - 60a + 200: least at 6, where it is 20; a slip of 21 % is 4.2 = 5 (a - 6)².
    assert found_Gy[0] == pytest.approx(6 - np.sqrt(20 * slip_percent / 100 / 5), abs=0.03)
    assert found_Gy[1] == pytest.approx(0, abs=5e-3)
    first = solution.priorities[0]
    assert (first.priority, first.reached) == (1, pytest.approx(20, rel=1e-3))
    assert first.held_at == pytest.approx(20 * (1 + slip_percent / 100), rel=1e-3)


@pytest.mark.parametrize(("exponent", "large"), [(1.005, 40.0), (1.01, 5e-4), (2.0, 3.0), (40.0, 3.0)])
def test_multipliers_of_a_norm_are_bounded_at_every_exponent(exponent, large):
    """Near 1 the dual's exponent is in the hundreds: powers of the multipliers themselves leave the range of numbers."""
    part, weight = np.array([0.2, 0.3, 0.5]), 1e-4
    norms = Norms.__new__(Norms)
    norms.all = [Norm(np.arange(3), part, exponent, weight, -1)]
    bounded = norms.bounded(large * np.array([1.0, 0.5, 0.2]), np.zeros(0))
    dual = exponent / (exponent - 1)
    logs = dual * np.log(bounded / part ** (1 / exponent))
    size = np.exp((logs.max() + np.log(np.exp(logs - logs.max()).sum())) / dual)
    assert size == pytest.approx(weight, rel=1e-9)  # the largest that the norm's price allows
