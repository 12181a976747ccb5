"""Isotoxic planning: the highest prescription against closed forms and another solver; floor, cap, driver, rounding."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic import thorax
from test_optimise_solve import SOLVERS, SRC, forward_of, tiny

from mrlinac import optimise
from mrlinac import protocol as protocols
from mrlinac.dose.dose import Dose
from mrlinac.dose.metrics import metric
from mrlinac.errors import SpecError
from mrlinac.optimise import Problem, SolverOptions, canonical
from mrlinac.optimise.solver.ceiling import Ceiling
from mrlinac.optimise.solver.maps import Point
from mrlinac.optimise.solver.newton import Method
from mrlinac.protocol.eqd2 import eqd2
from mrlinac.provenance import Provenance

TARGET = [
    {"kind": "mean_dose", "structure": "T", "at_least_percent": 100},
    {"kind": "upper_tail", "structure": "T", "volume_percent": 50, "at_most_percent": 110},
]
MATRIX = [[1.0, 0.0], [0.0, 1.0], [0.4, 0.1], [0.1, 0.2]]  # two target voxels, two of an organ
NAMES = {"T": (0, 1), "O": (2, 3)}


def isotoxic(constraints, by="dose", goals=(), target="T", objectives=(), **changes):
    given = {"cap_Gy": 73.0, "slip_percent": 1.0} | changes
    floor = {"dose_Gy": 63, "fractions": 30} if by == "dose" else {"dose_Gy": 61.2, "fractions": 34}
    if by == "dose":
        given["step_Gy"] = 0.1
    about = {"kind": "squared_deviation", "structure": target, "dose_percent": 100, "weight": 10}
    return protocols.from_values(
        {
            "name": "t",
            "title": "t",
            "citation": "t",
            "prescription": {**floor, "target": target, "rule": "median", **SRC},
            "escalation": {"by": by, **given, **SRC},
            "objectives": [o | SRC for o in (about, *objectives)],
            "constraints": [c | SRC for c in constraints],
            "goals": [g | SRC for g in goals],
        }
    )


def planner_of(protocol, matrix=MATRIX, names=NAMES):
    return optimise.Planner(*tiny(matrix, names), protocol, cut=0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("limit", "highest_Gy"),
    [
        # The organ's mean is 0.25 a + 0.15 b for target doses a, b of mean p, each at most 1.1 p: a = 0.9 p, b = 1.1 p.
        ({"kind": "mean_dose", "at_most_Gy": 26.0, "fractions": 30}, 26.0 / 0.39),
        # Its hotter voxel, 0.4 a + 0.1 b.
        ({"kind": "upper_tail", "volume_percent": 50, "at_most_Gy": 30.0, "fractions": 30}, 30.0 / 0.47),
        ({"kind": "mean_dose", "at_most_Gy": 60.0, "fractions": 30}, 73.0),  # the cap
    ],
)
def test_the_highest_prescription_has_a_closed_form(solver, limit, highest_Gy):
    found = optimise.highest(
        planner_of(isotoxic([*TARGET, {"structure": "O", **limit}])),
        options=SolverOptions(solver=solver, relative_gap=1e-06),
    )
    assert found.restricted_Gy == pytest.approx(highest_Gy, rel=2e-4)
    assert found.bound_Gy >= highest_Gy * (1 - 1e-5)
    assert found.bound_Gy == pytest.approx(highest_Gy, rel=1e-3)
    # Everything is homogeneous: the price of a limit that binds is the prescription over the limit.
    price = found.prices[next(name for name in found.prices if name.startswith("O"))]
    assert price == pytest.approx(highest_Gy / limit["at_most_Gy"] if highest_Gy < 73 else 0, rel=5e-3, abs=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_mean_square_limits_the_prescription(solver):
    """The hotter organ voxel, 0.4 a + 0.1 b, alone exceeds 25 Gy: with a = 0.9 p, b = 1.1 p by 0.47 p - 25."""
    square = {"kind": "squared_overdose", "structure": "O", "dose_Gy": 25.0, "at_most_Gy": 4.0, "fractions": 30}
    even = {"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "at_most_percent": 10}
    found = optimise.highest(
        planner_of(isotoxic([TARGET[0], even, square])),
        options=SolverOptions(solver=solver, relative_gap=1e-06),
    )
    assert found.restricted_Gy == pytest.approx((25 + 4 * 2**0.5) / 0.47, rel=5e-4)


@pytest.mark.parametrize(
    ("level", "limit"),
    [
        ({"dose_Gy": 20.0}, {"at_most_percent": 10}),
        ({"dose_percent": 20.0}, {"at_most_Gy": 10, "fractions": 30}),
        ({"kind": "squared_underdose", "dose_Gy": 20.0}, {"at_most_Gy": 10, "fractions": 30}),
    ],
)
def test_a_mean_square_between_two_meanings_is_refused(level, limit):
    with pytest.raises(SpecError, match="both per cent"):
        isotoxic([*TARGET, {"kind": "squared_overdose", "structure": "O", **level, **limit}])


@pytest.mark.parametrize("by", ["dose", "fractions"])
def test_mean_eqd2_at_the_highest_prescription(by):
    limit_Gy, ratio_Gy = 18.0, 3.0
    limit = {"kind": "mean_eqd2", "structure": "O", "alpha_beta_Gy": ratio_Gy, "at_most_Gy": limit_Gy}
    found = optimise.highest(
        planner_of(isotoxic([*TARGET, limit], by, cap_Gy=90.0)), options=SolverOptions(relative_gap=1e-06)
    )

    def highest_Gy(limit_Gy):
        # a = (1 - f) p and b = (1 + f) p are all the freedom there is; n is p / 1.8 where fractions are added.
        best = 0.0
        for f in np.linspace(-0.1, 0.1, 201):
            low, high = 0.0, 200.0
            for _ in range(60):
                p = 0.5 * (low + high)
                organ = np.array([0.4 * (1 - f) + 0.1 * (1 + f), 0.1 * (1 - f) + 0.2 * (1 + f)]) * p
                fractions = 30 if by == "dose" else p / 1.8
                low, high = (p, high) if eqd2(organ, fractions, ratio_Gy).mean() <= limit_Gy else (low, p)
            best = max(best, low)
        return best

    assert found.restricted_Gy == pytest.approx(highest_Gy(limit_Gy), rel=3e-4)
    # With added fractions too the price is what a little more of the limit brings.
    slope = (highest_Gy(limit_Gy + 0.05) - highest_Gy(limit_Gy - 0.05)) / 0.1
    assert found.prices["O mean_eqd2"] == pytest.approx(slope, rel=0.02)


def test_the_second_pass_reaches_more_and_keeps_the_dvh():
    free = {"kind": "dose_at_volume", "structure": "O", "volume_percent": 50, "at_most_Gy": 12.0, "fractions": 30}
    found = optimise.highest(
        planner_of(isotoxic([*TARGET, free], cap_Gy=100.0)), options=SolverOptions(relative_gap=1e-05)
    )
    # First both voxels' tail, 0.47 p <= 12 (below the floor); then the hotter one is free: 0.1 a + 0.2 b <= 12, and with
    # a = 1.1 p that is 0.29 p.
    assert found.restricted_Gy == pytest.approx(12 / 0.47, rel=1e-3)
    assert found.second_pass_Gy == pytest.approx(12 / 0.29, rel=1e-3)


def half_small(seed):
    """Half of the entries are small; limits of every kind that bends: tails, a norm, a square."""
    rng = np.random.default_rng(seed)
    large = rng.uniform(0, 3, (40, 12)) * (rng.uniform(0, 1, (40, 12)) < 0.5)
    large[15:] *= 0.5
    limits = [
        TARGET[0],
        {"kind": "lower_tail", "structure": "T", "volume_percent": 10, "at_least_percent": 60},
        {"kind": "upper_tail", "structure": "T", "volume_percent": 10, "at_most_percent": 140},
        {"kind": "upper_tail", "structure": "O", "volume_percent": 20, "at_most_Gy": 25.0, "fractions": 30},
        {"kind": "geud", "structure": "P", "exponent": 3, "at_most_Gy": 22.0, "fractions": 30},
        {"kind": "mean_eqd2", "structure": "P", "alpha_beta_Gy": 3, "at_most_Gy": 15.0},
    ]
    names = {"T": range(15), "O": range(15, 30), "P": range(30, 40)}
    return tiny(large + rng.uniform(0, 0.08, (40, 12)), names), isotoxic(limits, cap_Gy=300.0)


@pytest.mark.parametrize("seed", [1, 3, 4, 5, 6, 7])
def test_the_bound_holds_for_the_whole_matrix(seed):
    patient, protocol = half_small(seed)
    whole = optimise.highest(optimise.Planner(*patient, protocol, cut=0), options=SolverOptions(relative_gap=1e-06))
    planner = optimise.Planner(*patient, protocol, cut=0.03)
    assert planner.rows.cut.nnz < 0.6 * planner.rows.full.nnz
    found = optimise.highest(planner)
    assert found.bound_Gy >= whole.restricted_Gy
    assert found.bound_Gy == pytest.approx(whole.bound_Gy, rel=1e-3)


@pytest.mark.parametrize("seed", [1, 6])
def test_a_ceiling_holds_at_any_multipliers(seed):
    patient, protocol = half_small(seed)
    whole = optimise.highest(optimise.Planner(*patient, protocol, cut=0), options=SolverOptions(relative_gap=1e-06))
    planner = optimise.Planner(*patient, protocol, cut=0.03)
    programme = canonical.build(planner.rows, protocol, Problem(escalate=True))
    method = Method(programme, planner._row_matrix())
    start = method.start(method.approach())
    ceiling, rng, bounds_Gy = Ceiling(programme, planner._row_matrix()), np.random.default_rng(seed), []
    for _ in range(4):
        ceiling.add(Point(**{k: v * rng.uniform(0.1, 3, v.shape) for k, v in vars(start).items()}))
        bounds_Gy.append(ceiling.bound_Gy())
    assert min(bounds_Gy) >= whole.restricted_Gy
    assert (np.diff(bounds_Gy) <= 1e-6).all()  # another inequality can only lower it


@pytest.fixture(scope="module")
def patient():
    return thorax(spacing_mm=8.0, target_mm=20.0, half_length_mm=40.0, beamlet_mm=(7.0, 7.0))


def thorax_isotoxic(lungs_Gy, by="dose", **changes):
    size = {"fractions": 30} if by == "dose" else {"fraction_Gy": 1.8}
    return isotoxic(
        [
            {"kind": "mean_dose", "structure": "PTV_eval", "at_least_percent": 100},
            {"kind": "dose_at_volume", "structure": "PTV_eval", "volume_percent": 98, "at_least_percent": 90},
            {"kind": "upper_tail", "structure": "PTV_eval", "volume_percent": 2, "at_most_percent": 107},
            {"kind": "upper_tail", "structure": "Normal", "volume_cc": 5, "at_most_percent": 102},
            {"kind": "mean_dose", "structure": "Lungs-GTV", "at_most_Gy": lungs_Gy, **size},
            {"kind": "dose_at_volume", "structure": "SpinalCord", "volume_cc": 1, "at_most_Gy": 47, **size},
        ],
        by,
        target="PTV_eval",
        objectives=[
            {"kind": "squared_overdose", "structure": "Normal", "dose_percent": 50, "weight": 5},
            {"kind": "mean_dose", "structure": "Heart", "weight": 0.5},
            {"kind": "fluence_smoothness", "weight": 1},
        ],
        **changes,
    )


def test_both_solvers_find_the_same_highest_prescription(patient):
    planner = optimise.Planner(*patient, thorax_isotoxic(5.0, cap_Gy=300.0), oar_rows=600)
    ours = planner.once(Problem(escalate=True), SolverOptions(relative_gap=1e-05, refinements=0))
    theirs = planner.once(Problem(escalate=True), SolverOptions(solver="clarabel", refinements=0))
    assert ours.prescription_Gy == pytest.approx(theirs.prescription_Gy, rel=1e-4)
    assert -ours.delivery.certificate.dual_bound >= theirs.prescription_Gy * (1 - 1e-5)
    for mine, other in zip(ours.limits, theirs.limits, strict=True):
        assert mine.dual_per_Gy == pytest.approx(other.dual_per_Gy, rel=0.02, abs=2e-3)
    held = planner.held_by(ours.row_dose_Gy)
    mine, other = (
        planner.once(
            Problem(escalate=True, held=held),
            SolverOptions(solver=s, refinements=0, relative_gap=1e-05),
        )
        for s in SOLVERS
    )
    assert mine.prescription_Gy == pytest.approx(other.prescription_Gy, rel=2e-4)
    assert mine.prescription_Gy >= ours.prescription_Gy * (1 - 1e-4)


def test_rows_of_their_own_find_a_hot_spot_that_cubes_hide(patient):
    """76 of 9 290 voxels by themselves are worth all of them by themselves; cubes allow 1.2 Gy more."""
    protocol = thorax_isotoxic(2.84, cap_Gy=300.0)
    exact, merged = (optimise.Planner(*patient, protocol, oar_rows=n, cut=0) for n in (None, 600))
    all_voxels, cubes = optimise.highest(exact), optimise.highest(merged)
    assert cubes.bound_Gy > all_voxels.bound_Gy + 0.8
    model_Gy = merged.influence_Gy(cubes.solution.delivery)
    finer = merged.at(cubes.second_pass_Gy, 30).finer_where(model_Gy)
    assert finer.rows.full.shape[0] < 0.1 * exact.rows.full.shape[0]
    assert optimise.highest(finer.at(63, 30)).bound_Gy == pytest.approx(all_voxels.bound_Gy, abs=0.2)
    # Nothing is left to find, and means and volumes are what they were.
    for name, mine in finer.rows.nominal.of.items():
        assert mine.weights.sum() == pytest.approx(merged.rows.nominal.of[name].weights.sum(), rel=1e-9)
        np.testing.assert_allclose(
            np.average(finer.rows.nominal.on_rows(model_Gy)[mine.index], weights=mine.weights),
            np.average(
                merged.rows.nominal.on_rows(model_Gy)[merged.rows.nominal.of[name].index],
                weights=merged.rows.nominal.of[name].weights,
            ),
        )
    assert exact.at(60, 30).finer_where(model_Gy).rows is exact.rows


@pytest.mark.parametrize("by", ["dose", "fractions"])
def test_the_forward_dose_decides(patient, by):
    influence, structures = patient
    # The lungs' limit that about 68 Gy reach; the forward dose has 2 % more everywhere beyond the target.
    reach = optimise.highest(optimise.Planner(*patient, thorax_isotoxic(5.0, by, cap_Gy=300.0), oar_rows=None))
    lungs_Gy = 5.0 * 68 / reach.second_pass_Gy
    protocol = thorax_isotoxic(lungs_Gy, by)
    more = np.float32(1.02) - np.float32(0.02) * (structures["PTV_eval"].occupancy > 0)
    planner = optimise.Planner(*patient, protocol, oar_rows=None)
    found = optimise.escalate(planner, forward_of(influence, more), rounds=0)
    allowed = found.round.allowed
    assert allowed.eligible
    assert allowed.driver == "Lungs-GTV mean_dose" == allowed.limits[0].name
    # Rounded down: the limit holds at the prescription and would not at the next one.
    step_Gy = 0.1 if by == "dose" else 1.8
    mean_Gy = found.sampled.metric("Lungs-GTV", "mean").value
    assert mean_Gy <= lungs_Gy * (1 + 1e-6)
    assert mean_Gy * (1 + step_Gy / allowed.dose_Gy) > lungs_Gy
    assert found.sampled.metric("PTV_eval", "D50%").value == pytest.approx(allowed.dose_Gy, rel=1e-5)
    assert found.sampled.dose.fractions == allowed.fractions
    assert allowed.dose_Gy / allowed.fractions == pytest.approx(1.8 if by == "fractions" else allowed.dose_Gy / 30)
    assert allowed.dose_Gy <= found.round.highest.bound_Gy + 1.0
    assert 60 < allowed.dose_Gy < 69
    np.testing.assert_allclose(
        found.sampled.dose.dose_Gy,
        allowed.fractions * influence.dose_Gy(found.delivery.vector) * more,
        rtol=1e-4,
        atol=1e-3,
    )
    assert allowed.above_floor_Gy == pytest.approx(allowed.dose_Gy - protocol.prescription.dose_Gy)
    assert allowed.below_cap_Gy == pytest.approx(protocol.escalation.cap_Gy - allowed.dose_Gy)


def test_a_patient_out_of_reach_is_ineligible_and_a_condition_can_make_one(patient, by_voxel):
    influence, structures = patient
    exact = forward_of(influence, np.float32(1.0))
    low = optimise.escalate(optimise.Planner(*patient, thorax_isotoxic(1.0)), exact, rounds=0)
    assert not low.round.allowed.eligible
    assert low.round.allowed.dose_Gy == 63  # shown at the floor
    assert "Lungs-GTV" in low.round.allowed.reasons[0]
    easy = thorax_isotoxic(50.0)
    one = optimise.escalate(optimise.Planner(*patient, easy), exact, rounds=0)
    assert one.round.allowed.eligible
    assert (one.round.aimed_Gy, one.round.allowed.dose_Gy, one.round.allowed.driver) == (
        73,
        73,
        "cap",
    )  # no slip there
    goal = {"structure": "Heart", "metric": "mean", "at_most": 0.01, "fractions": 30, "at_floor": True, **SRC}
    strict = protocols.from_values({**easy.model_dump(), "goals": [goal]})
    _, _, allowed = optimise.prescribe_allowed(strict, one.unscaled, by_voxel(exact(one.unscaled), structures), 73)
    assert not allowed.eligible
    assert "Heart mean" in allowed.reasons[0]


def test_a_limit_of_its_own_at_the_floor(by_voxel):
    influence, structures = tiny(np.eye(2), {"T": (0,), "O": (1,)})
    constraint = {"kind": "mean_eqd2", "structure": "O", "alpha_beta_Gy": 3, "at_most_Gy": 18.2, "at_floor_Gy": 19.3}
    protocol = isotoxic([constraint])
    fluence = optimise.Planner(influence, structures, protocol, cut=0).once().delivery
    one = forward_of(influence, np.float32(1.0))(fluence)
    for organ_Gy, eligible in ((25.0, True), (27.5, False)):  # EQD2 in 30 fractions 19.2 and 21.5 Gy
        dose = replace(one, dose_Gy=np.array([63 / 30, organ_Gy / 30], np.float32).reshape(1, 1, 2))
        assert bool(eqd2(np.array([organ_Gy]), 30, 3)[0] <= 19.3) is eligible
        assert eqd2(np.array([organ_Gy]), 30, 3)[0] > 18.2
        _, course, allowed = optimise.prescribe_allowed(protocol, fluence, by_voxel(dose, structures), 63)
        assert allowed.eligible is eligible
        assert allowed.dose_Gy == 63
        assert course.metric("T", "D50%").value == pytest.approx(63, rel=1e-6)


def test_upwards_a_plan_is_scaled_by_one_percent_at_most(by_voxel):
    influence, structures = tiny(np.eye(2), {"T": (0,), "O": (1,)})
    protocol = isotoxic([{"kind": "mean_dose", "structure": "O", "at_most_Gy": 60, "fractions": 30}])
    fluence = optimise.Planner(influence, structures, protocol, cut=0).once().delivery
    one = replace(
        forward_of(influence, np.float32(1.0))(fluence), dose_Gy=np.array([2.2, 0.1], np.float32).reshape(1, 1, 2)
    )
    _, _, allowed = optimise.prescribe_allowed(protocol, fluence, by_voxel(one, structures), 66.0)
    assert allowed.driver == "plan"
    assert allowed.dose_Gy == pytest.approx(66.6)  # 66.66 rounded down


@pytest.mark.parametrize(
    ("by", "limit", "words"),
    [
        ("dose", {"fraction_Gy": 2.1}, "number of fractions"),
        ("fractions", {"fraction_Gy": 2.5, "alpha_beta_Gy": 3}, "dose of a fraction"),
        ("dose", {}, "neither its fractionation"),
    ],
)
def test_a_limit_that_would_move_with_the_prescription_is_refused(by, limit, words):
    with pytest.raises(SpecError, match=words):
        isotoxic([{"kind": "mean_dose", "structure": "O", "at_most_Gy": 20, **limit}], by)


def test_a_file_cannot_set_the_floor():
    with pytest.raises(SpecError, match="floor is no key of a file"):
        isotoxic([], floor=(40.0, 20))
    assert isotoxic([]).at(70.0, 30).at_floor().prescription.dose_Gy == 63  # kept by the code itself


def test_steps():
    by_dose = isotoxic([]).escalation
    assert by_dose.rounded_down(67.79, 63, 30) == (67.7, 30)
    for tenths in range(630, 731):  # a step stays itself, however its division is rounded
        assert by_dose.rounded_down(tenths / 10, 63, 30) == (tenths / 10, 30)
    assert by_dose.rounded_down(99, 63, 30) == (73, 30)
    added = isotoxic([], "fractions", cap_Gy=79.2).escalation
    assert added.rounded_down(70.1, 61.2, 34) == (pytest.approx(68.4), 38)
    assert added.rounded_down(99, 61.2, 34) == (pytest.approx(79.2), 44)


def test_rounds_end_where_the_forward_dose_keeps_the_promise(patient):
    influence, _ = patient
    reach = optimise.highest(optimise.Planner(*patient, thorax_isotoxic(5.0, cap_Gy=300.0), oar_rows=600))
    protocol = thorax_isotoxic(5.0 * 68 / reach.second_pass_Gy)
    planner = optimise.Planner(*patient, protocol, cut=0)  # every voxel, so that the model is exact
    found = {
        change: optimise.escalate(planner, forward_of(influence, np.float32(change)), rounds=2)
        for change in (1.0, 1.008)
    }
    assert len(found[1.0].history) == 1
    assert all(one.within_noise for one in found[1.0].round.comparisons)
    assert len(found[1.008].history) > 1
    assert not all(one.within_noise for one in found[1.008].history[0].comparisons)


def test_a_condition_at_the_floor_is_planned_for(patient):
    """V20 that a plan misses at the floor where nobody asks for it is kept where it is a condition of eligibility."""
    influence, structures = patient

    def escalated(goals):
        protocol = thorax_isotoxic(60.0, cap_Gy=70.0)
        overdose = {"kind": "squared_overdose", "structure": "Lungs-GTV", "dose_Gy": 40, "weight": 1e-3, **SRC}
        values = protocol.model_dump(mode="json", exclude_none=True)
        values["objectives"] = [*values["objectives"], overdose]
        values["goals"] = goals
        protocol = protocols.from_values(values)
        planner = optimise.Planner(*patient, protocol, oar_rows=None)
        return optimise.escalate(planner, forward_of(influence, np.float32(1)), rounds=0)

    free = escalated([])
    at_floor = free.sampled.dose.times(63 / free.round.allowed.dose_Gy, fractions=30)
    reached = metric(at_floor, structures["Lungs-GTV"], "V5Gy[%]")
    goal = {
        "structure": "Lungs-GTV",
        "metric": "V5Gy[%]",
        "at_most": 0.9 * reached,
        "fractions": 30,
        "at_floor": True,
        **SRC,
    }
    kept = escalated([goal])
    assert kept.round.allowed.eligible
    assert kept.round.allowed.dose_Gy == pytest.approx(free.round.allowed.dose_Gy, abs=0.5)
    at_floor = kept.sampled.dose.times(63 / kept.round.allowed.dose_Gy, fractions=30)
    assert metric(at_floor, structures["Lungs-GTV"], "V5Gy[%]") <= 0.9 * reached


def test_a_condition_at_the_floor_is_judged_there(by_voxel):
    influence, structures = tiny(np.eye(4), {"T": (0, 1), "O": (2, 3)})
    goals = [
        {"structure": "O", "metric": "V20Gy[%]", "at_most": 35, "fractions": 30, "at_floor": at_floor}
        for at_floor in (True, False)
    ]
    protocol = isotoxic([], goals=goals)
    # 21 Gy at 70 Gy is 18.9 Gy at the floor of 63: half of the organ, or none of it.
    dose_Gy = np.array([70, 70, 21, 1], np.float32).reshape(1, 1, 4)
    course = Dose(influence.grid, dose_Gy, None, 30, Provenance("test", "test"))
    condition, plain = protocols.verdicts.judge(protocol.at(70, 30), by_voxel(course, structures), structures)
    assert (condition.value, condition.outcome, condition.margin) == (0, "pass", 35)
    assert (condition.scaled, plain.scaled) == (0.9, 1)
    assert condition.source.endswith("judged at the floor, 63 Gy; 50.0 % at 70 Gy")
    assert (plain.value, plain.outcome, plain.margin) == (50, "fail", -15)
    assert protocol.at(70, 30).at(71, 30).at_floor().prescription.dose_Gy == 63  # the floor stays the file's
