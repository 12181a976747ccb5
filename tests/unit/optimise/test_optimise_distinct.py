"""Settling, normalising and correcting where prescription, median, fractions and rounds are all different numbers."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic import thorax
from test_optimise_escalation import isotoxic, thorax_isotoxic
from test_optimise_solve import forward_of, protocol_of, thorax_protocol, tiny

from mrlinac import optimise
from mrlinac import protocol as protocols
from mrlinac.dose import metrics
from mrlinac.dose.dose import Batches, Dose
from mrlinac.dose.noise import Figure, balanced_halves
from mrlinac.dose.scenarios import Scenario
from mrlinac.optimise import SolverOptions, hidden, rows
from mrlinac.optimise.loop import correction, escalation, predicted_vs_forward
from mrlinac.optimise.loop.predicted_vs_forward import PredictedVsForward
from mrlinac.optimise.row_dose import RowDose
from mrlinac.protocol.eqd2 import eqd2
from mrlinac.provenance import Provenance

NAMES = {"T": (0, 1, 2), "O": (3, 4)}


def case(protocol):
    """Three target voxels and two of an organ; a fluence, and a dose of one fraction that has nothing to do with it."""
    influence, structures = tiny(np.eye(5), NAMES)
    fluence = optimise.Planner(influence, structures, protocol, cut=0).once().delivery

    def one(*gray):
        values = np.array(gray, np.float32).reshape(1, 1, 5)
        return Dose(influence.grid, values, None, 1, Provenance("test", "test"))

    return structures, fluence, one


def test_normalising_brings_the_median_to_the_prescription_and_scales_fluence_and_dose_alike(by_voxel):
    """Median 9.95, mean 9.7: the median counts, and is raised."""
    protocol = protocol_of([{"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1}])
    structures, fluence, one = case(protocol)
    course = one(1.78, 1.99, 2.05, 1.0, 0.4).course(5)
    scaled, dose, said = optimise.normalise(fluence, by_voxel(course, structures), protocol)
    assert said.applied
    assert said.factor == pytest.approx(10 / 9.95, rel=1e-6)
    np.testing.assert_allclose(scaled.vector, fluence.vector * said.factor, rtol=1e-12)
    np.testing.assert_allclose(dose.dose.dose_Gy, course.dose_Gy * said.factor, rtol=1e-6)
    assert dose.metric("T", "D50%").value == pytest.approx(10.0)
    assert dose.dose.fractions == 5
    for wrong in (1.0099, 1 / 1.0099):
        assert optimise.normalise(fluence, by_voxel(course.times(wrong * said.factor), structures), protocol)[
            2
        ].applied
    for wrong in (1.011, 1 / 1.011):
        assert not optimise.normalise(fluence, by_voxel(course.times(wrong * said.factor), structures), protocol)[
            2
        ].applied
    with pytest.raises(ValueError, match="stands for 4"):
        optimise.normalise(fluence, by_voxel(replace(course, fractions=4), structures), protocol)


# -- settling ---------------------------------------------------------------------------------------------------------


def test_fractions_are_added_until_the_eqd2_of_more_fractions_is_used_up(by_voxel):
    """Floor 61.2 Gy in 34; the organ has 0.45 and 0.15 of the target's median, which lies at 2 Gy."""
    ratio, most = 3.0, 15.2
    eqd2_limit = {"kind": "mean_eqd2", "structure": "O", "alpha_beta_Gy": ratio, "at_most_Gy": most}
    protocol = isotoxic([eqd2_limit], "fractions", cap_Gy=90.0)
    structures, fluence, one = case(protocol)
    scaled, course, allowed = optimise.prescribe_allowed(
        protocol, fluence, by_voxel(one(1.5, 2.0, 2.1, 0.9, 0.3), structures), 88.0
    )

    def reached(dose_Gy, fractions):
        return float(eqd2(np.array([0.45, 0.15]) * dose_Gy, fractions, ratio).mean())

    # At a constant 1.8 Gy a fraction EQD2 is linear in the dose: p (0.45 (0.81 + 3) + 0.15 (0.27 + 3)) / 5 / 2.
    highest = most * 10 / (0.45 * (0.81 + 3) + 0.15 * (0.27 + 3))
    assert allowed.allowed_Gy == pytest.approx(highest, rel=1e-6)
    assert reached(highest, highest / 1.8) == pytest.approx(most)
    assert abs(reached(highest, 34) - most) > 0.2  # with the floor's fractions it would be another dose
    assert (allowed.dose_Gy, allowed.fractions) == (pytest.approx(68.4), 38)
    assert reached(68.4, 38) <= most < reached(70.2, 39)
    assert allowed.driver == "O mean_eqd2"
    assert allowed.eligible
    assert allowed.above_floor_Gy == pytest.approx(7.2)
    assert allowed.below_cap_Gy == pytest.approx(21.6)
    # A fraction stays 1.8 Gy at the median, which lay at 2 Gy.
    np.testing.assert_allclose(scaled.vector, 0.9 * fluence.vector, rtol=1e-6)
    assert course.dose.fractions == 38
    assert course.metric("T", "D50%").value == pytest.approx(68.4)


def test_dose_is_added_in_the_same_number_of_fractions(by_voxel):
    """The same with dose: EQD2 is quadratic in it, and the fluence of a fraction grows."""
    ratio, most = 3.0, 16.0
    eqd2_limit = {"kind": "mean_eqd2", "structure": "O", "alpha_beta_Gy": ratio, "at_most_Gy": most}
    protocol = isotoxic([eqd2_limit], cap_Gy=90.0)
    structures, fluence, one = case(protocol)
    scaled, course, allowed = optimise.prescribe_allowed(
        protocol, fluence, by_voxel(one(1.5, 2.0, 2.1, 0.9, 0.3), structures), 88.0
    )
    # (a² + b²) p²/30 + 3 (a + b) p = 10 L.
    square, linear = (0.45**2 + 0.15**2) / 30, ratio * 0.6
    highest = (-linear + np.sqrt(linear**2 + 40 * square * most)) / (2 * square)
    assert allowed.allowed_Gy == pytest.approx(highest, rel=1e-6)
    assert allowed.dose_Gy == pytest.approx(np.floor(highest * 10) / 10)
    assert allowed.fractions == course.dose.fractions == 30
    np.testing.assert_allclose(scaled.vector, allowed.dose_Gy / 30 / 2.0 * fluence.vector, rtol=1e-6)
    assert allowed.below_cap_Gy == pytest.approx(90.0 - allowed.dose_Gy)


def test_limits_stand_in_the_order_in_which_they_would_stop_the_dose(by_voxel):
    """Mean 0.3 and hotter voxel 0.45 of the median: 21 Gy stop at 70 Gy, 30 Gy at 66.7 Gy."""
    limits = [
        {"kind": "mean_dose", "structure": "O", "at_most_Gy": 21.0, "fractions": 30},
        {"kind": "upper_tail", "structure": "O", "volume_percent": 50, "at_most_Gy": 30.0, "fractions": 30},
        {"kind": "mean_dose", "structure": "T", "at_most_percent": 150},
    ]
    protocol = isotoxic(limits, cap_Gy=90.0)
    structures, fluence, one = case(protocol)
    _, _, allowed = optimise.prescribe_allowed(
        protocol, fluence, by_voxel(one(1.5, 2.0, 2.1, 0.9, 0.3), structures), 88.0
    )
    assert [limit.name for limit in allowed.limits] == ["O upper_tail 50 %", "O mean_dose"]
    assert [limit.allows_Gy for limit in allowed.limits] == pytest.approx([30 / 0.45, 70.0])
    assert [limit.limit_Gy for limit in allowed.limits] == [30.0, 21.0]
    assert allowed.dose_Gy == pytest.approx(66.6)


@pytest.mark.parametrize(
    ("metric_", "at_most", "near", "eligible"),
    [
        ("mean", 18.91, 0.0, True),
        ("mean", 18.89, 0.0, False),
        ("mean", 18.89, 5.0, False),  # near the limit is beyond it: a condition has no band
        ("V20Gy[%]", 50.0, 0.0, True),
        ("V20Gy[%]", 49.0, 10.0, False),
    ],
)
def test_near_does_not_pass_a_condition_at_the_floor(metric_, at_most, near, eligible, by_voxel):
    """At the floor of 63 Gy the organ has 28.35 and 9.45 Gy, mean 18.9; at what it may have, and at 2 Gy, other doses."""
    goal = {"structure": "O", "metric": metric_, "at_most": at_most, "near": near, "fractions": 30, "at_floor": True}
    protocol = isotoxic([], goals=[goal])
    structures, fluence, one = case(protocol)
    _, course, allowed = optimise.prescribe_allowed(
        protocol, fluence, by_voxel(one(1.5, 2.0, 2.1, 0.9, 0.3), structures), 72.9
    )
    assert allowed.dose_Gy == pytest.approx(73.0)
    assert allowed.eligible is eligible
    assert len(allowed.reasons) == (not eligible)
    (verdict,) = protocols.verdicts.judge(protocol.at(73.0, 30), course, structures)
    assert verdict.scaled == pytest.approx(63 / 73)
    assert verdict.outcome == ("pass" if eligible else "near" if near else "fail")


def test_a_condition_at_the_floor_in_other_fractions_is_planned_for_at_its_converted_dose():
    """20 Gy in 20 fractions, α/β 3, is D with D (D/30 + 3) = 20 · 4 in 30: 15 (√(59/3) − 3) Gy."""
    tail = {"kind": "upper_tail", "structure": "O", "volume_percent": 50, "at_most_Gy": 60.0, "fractions": 30}
    stated = {"structure": "O", "metric": "V20Gy[%]", "at_most": 35.0, "at_floor": True}
    protocol = isotoxic([tail], goals=[{**stated, "fractions": 20, "alpha_beta_Gy": 3.0}])
    planner = optimise.Planner(*tiny(np.eye(5), NAMES), protocol, cut=0)
    added = escalation.with_conditions(protocol, planner).constraints[-1]
    assert added.at_most_percent == pytest.approx(100 * 15 * (np.sqrt(59 / 3) - 3) / 63)
    assert added.of.volume_percent == pytest.approx(escalation.ROOM * 35)


def test_the_floor_is_within_reach_by_its_own_limit_where_there_is_one(by_voxel):
    """18 Gy hold for a higher prescription, 20 Gy at the floor: 63 Gy bring the organ 18.9 Gy."""
    for own, eligible in ((20.0, True), (18.5, False), (None, False)):
        limit = {"kind": "mean_dose", "structure": "O", "at_most_Gy": 18.0, "fractions": 30, "at_floor_Gy": own}
        protocol = isotoxic([limit])
        structures, fluence, one = case(protocol)
        _, course, allowed = optimise.prescribe_allowed(
            protocol, fluence, by_voxel(one(1.5, 2.0, 2.1, 0.9, 0.3), structures), 70.0
        )
        assert allowed.eligible is eligible
        assert allowed.dose_Gy == 63
        assert allowed.allowed_Gy == pytest.approx(60.0)
        assert course.metric("O", "mean").value == pytest.approx(18.9)


@pytest.mark.parametrize(
    ("dose_Gy", "wanted"), [(69.9, (68.4, 38)), (70.2, (70.2, 39)), (71.9, (70.2, 39)), (1.0, (1.8, 1))]
)
def test_fractions_are_rounded_down(dose_Gy, wanted):
    found = isotoxic([], "fractions", cap_Gy=90.0).escalation.rounded_down(dose_Gy, 61.2, 34)
    assert found == (pytest.approx(wanted[0]), wanted[1])


# -- predicted doses and the noise of forward doses ------------------------------------------------------------------


def noisy_on_rows(scale=1.0):
    """Sixty voxels of an organ at 20 Gy with 1 Gy of noise in twelve batches, the last the longest by far."""
    influence, structures = tiny(np.eye(63), {"T": (0, 1, 2), "O": range(3, 63)})
    protocol = protocol_of([{"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1}])
    with_organ = {"kind": "squared_overdose", "structure": "O", "dose_Gy": 5, "weight": 1, "source": "test"}
    protocol = protocols.from_values({**protocol.model_dump(), "objectives": [*protocol.objectives, with_organ]})
    primaries = 100 * np.arange(1, 13)
    spread = np.sqrt(primaries.sum() / primaries)[:, None]
    parts = 20 + spread * np.random.default_rng(6).standard_normal((12, 63))
    mean = np.average(parts, axis=0, weights=primaries)
    batches = Batches((parts / mean - 1).astype(np.float16).reshape(12, 1, 1, 63), tuple(primaries.tolist()))
    made = Dose(influence.grid, mean.astype(np.float32).reshape(1, 1, 63), None, 1, Provenance("t", "t"), batches)
    return (
        RowDose(optimise.Planner(influence, structures, protocol, cut=0).rows.nominal, made, scale),
        parts,
        primaries,
    )


def hottest(dose_Gy, volume_cc):
    return metrics.value_of(dose_Gy, volume_cc, "D5%")


def test_numbers_on_rows_scale_with_the_dose_their_noise_too():
    (one, _, _), (more, _, _) = noisy_on_rows(), noisy_on_rows(1.5)
    for first, second in (
        (one.mean("O"), more.mean("O")),
        (one.figure("O", hottest), more.figure("O", hottest)),
    ):
        assert (second.value, second.raw, second.sigma) == pytest.approx(
            (1.5 * first.value, 1.5 * first.raw, 1.5 * first.sigma), rel=1e-4
        )
        assert first.sigma > 0
    tail = one.figure("O", hottest)
    assert tail.value < tail.raw  # noise makes the hottest hotter


def test_the_spread_of_a_mean_on_rows_weighs_batches_by_their_primaries():
    on_rows, parts, primaries = noisy_on_rows()
    means, squares = parts[:, 3:].mean(1), []
    for half in balanced_halves():
        first, second = (np.average(means[h], weights=primaries[h]) for h in (half, ~half))
        share = primaries[half].sum() / primaries.sum()
        squares.append((first - second) ** 2 * share * (1 - share))
    assert on_rows.mean("O").sigma == pytest.approx(np.sqrt(np.mean(squares)), rel=0.01)  # deviations of 11 bits
    assert on_rows.mean("O").value == pytest.approx(np.average(means, weights=primaries), rel=1e-4)


def test_what_merged_rows_hide_is_what_all_voxels_have_more(by_voxel):
    """10 and 22 Gy in turn, two voxels a row: the hottest quarter has 22 Gy, of the rows 16."""
    influence, structures = tiny(np.eye(9), {"O": range(8), "T": (8,)})
    limits = [
        {"kind": "upper_tail", "structure": "O", "volume_percent": 25, "at_most_Gy": 30.0},
        {"kind": "mean_dose", "structure": "O", "at_most_Gy": 30.0},
    ]
    wish = {"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1}
    protocol = protocol_of([wish], limits)
    chosen = rows.select([Scenario(influence, structures)], protocol, rows.RowChoice(oar_rows=4))
    gray = np.array([10, 22, 10, 22, 10, 22, 10, 22, 10], np.float32).reshape(1, 1, 9)
    course = by_voxel(Dose(influence.grid, gray, None, 5, Provenance("t", "t")), structures)
    assert hidden.beyond_rows(chosen, protocol, course) == {"O upper_tail 25 %": pytest.approx(6.0)}


@pytest.mark.parametrize(
    ("limit", "beyond"),
    [
        ({"kind": "lower_tail", "at_least_Gy": 20.0}, (0, 2, 4, 6)),
        ({"kind": "upper_tail", "at_most_Gy": 15.0}, (1, 3, 5, 7)),
        ({"kind": "lower_tail", "at_least_Gy": 9.9}, ()),
    ],
)
def test_voxels_that_get_rows_of_their_own_are_those_on_the_wrong_side_of_the_limit(limit, beyond):
    """10 and 22 Gy in turn, two voxels a row, which have 16: below 20 Gy are the first, above 15 the second."""
    influence, structures = tiny(np.eye(9), {"O": range(8), "T": (8,)})
    wish = {"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1}
    protocol = protocol_of([wish], [{"structure": "O", "volume_percent": 25, **limit}])
    chosen = rows.select([Scenario(influence, structures)], protocol, rows.RowChoice(oar_rows=4))
    gray = np.array([10, 22, 10, 22, 10, 22, 10, 22, 10], float).reshape(1, 1, 9)
    assert hidden.in_tails(chosen, protocol, gray, {}).get("O", np.zeros(0)).tolist() == list(beyond)


@pytest.mark.parametrize("scale", [0.99, 1.0, 1.01])
def test_what_is_scaled_down_to_its_prescription_is_predicted_with_less_of_a_lower_limit(scale):
    limits = [
        {"kind": "mean_dose", "structure": "T", "at_least_Gy": 9.0},
        {"kind": "mean_dose", "structure": "O", "at_most_Gy": 30.0},
    ]
    wish = {"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1}
    influence, structures = tiny(np.eye(5), NAMES)
    planner = optimise.Planner(influence, structures, protocol_of([wish], limits), cut=0)
    solution = planner.solve()
    told = predicted_vs_forward.compared_with_forward(planner, solution, forward_course(influence, solution), scale)
    said = {one.name: one for one in told}
    by_model = {limit.name: limit.value_Gy for limit in solution.limits}
    assert said["T mean_dose"].predicted == pytest.approx(min(scale, 1) * by_model["T mean_dose"])
    assert said["O mean_dose"].predicted == pytest.approx(by_model["O mean_dose"])
    assert said["T mean_dose"].forward == pytest.approx(scale * by_model["T mean_dose"], rel=1e-4)


def forward_course(influence, solution):
    """The dose of five fractions as the influence has it."""
    return forward_of(influence, np.float32(1))(solution.delivery).course(5)


@pytest.mark.parametrize(
    ("worse", "sigma", "is_kept"), [(0.5, 0.5, True), (0.51, 0.5, False), (-3.0, 0.5, True), (0.1, np.nan, False)]
)
def test_a_figure_is_as_predicted_within_one_standard_deviation(worse, sigma, is_kept):
    said = predicted_vs_forward._compared("O", 50.6, Figure(51.1, 51.4, sigma), worse)
    assert said.within_noise is is_kept
    assert said.forward == 51.4
    assert said.noise_bias == pytest.approx(0.3)  # the dose with its noise is too hot


@pytest.mark.parametrize(
    ("forward", "below"),
    [
        (20.1, 0.2 + 0.2 + 0.3),  # between the rows, beyond the model, and a standard deviation
        (19.65, 0.2 + 0.3),  # within the limit, but by less than what is hidden and the noise
        (19.45, None),
        (25.0, 0.2 + 0.6),  # no more than 3 % of the limit below it
    ],
)
def test_the_next_round_aims_below_a_limit_by_what_this_one_had_beyond_it_without_its_noise(forward, below):
    limits = [
        {"kind": kind, "structure": "O", "at_most_Gy": 20.0, **more}
        for kind, more in (("upper_tail", {"volume_percent": 50}), ("mean_dose", {}))
    ]
    wish = {"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1}
    tail, mean = (
        PredictedVsForward(name, 19.9, forward + 0.5, 0.5, 0.3, False)
        for name in ("O upper_tail 50 %", "O mean_dose")
    )
    found = correction._below(protocol_of([wish], limits), (tail, mean), {tail.name: 0.2})
    assert found.get(tail.name) == (None if below is None else pytest.approx(below))
    # A mean hides nothing between rows, and an offset puts it right: only its noise counts.
    assert found.get(mean.name) == (pytest.approx(0.3) if forward + 0.3 > 20 else None)


@pytest.mark.parametrize(
    ("forward_Gy", "sigma_Gy", "as_much"),
    [
        (69.5, 0.5, True),
        (69.49, 0.5, False),  # less than a standard deviation explains
        (70.69, 0.5, True),
        (70.71, 0.5, False),  # more than scaling may use
        (71.0, 1.0, True),
        (69.99, np.nan, True),
        (69.97, np.nan, False),
        (np.inf, 0.5, False),
    ],
)
def test_a_forward_dose_allows_as_much_as_the_model_within_its_noise(forward_Gy, sigma_Gy, as_much):
    assert escalation._as_much(70.0, forward_Gy, sigma_Gy) is as_much
    assert escalation._as_much(np.inf, np.inf, sigma_Gy)


def test_rounds_rank_by_eligibility_then_the_target_then_what_scaling_may_do_then_dose():
    def ranked(eligible, met, dose_Gy, aimed_Gy):
        allowed = SimpleNamespace(eligible=eligible, dose_Gy=dose_Gy, allowed_Gy=dose_Gy)
        return escalation._rank(SimpleNamespace(allowed=allowed, target_met=met, aimed_Gy=aimed_Gy))

    best_first = [
        ranked(True, True, 70.0, 70.5),
        ranked(True, True, 68.0, 68.0),
        ranked(True, True, 71.0, 73.0),  # scaled down by more than 1 %
        ranked(True, False, 72.0, 72.0),
        ranked(False, True, 73.0, 73.0),
        ranked(False, False, 73.0, 73.0),
    ]
    assert best_first == sorted(best_first, reverse=True)


# -- offsets of noisy rounds ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient():
    return thorax(spacing_mm=12.0, target_mm=20.0, half_length_mm=36.0, beamlet_mm=(10.0, 10.0))


def noisy(influence, sigma=0.05):
    """A forward dose whose relative error is drawn anew each time; every dose given, of one fraction."""
    rng, given = np.random.default_rng(3), []

    def forward(fluence):
        model_Gy = influence.dose_Gy(fluence.vector)
        noise = 1 + sigma * rng.standard_normal(model_Gy.shape).astype(np.float32)
        given.append((model_Gy, model_Gy * noise))
        return Dose(influence.grid, model_Gy * noise, None, 1, Provenance("test", "test"))

    return forward, given


def spied(monkeypatch):
    """Offsets that a planner, and those made of it, solve with; the second solve of the first round left out."""
    seen = []
    with_offset = optimise.Planner.with_offset
    monkeypatch.setattr(
        optimise.Planner,
        "with_offset",
        lambda self, offset_Gy: seen.append(offset_Gy) or with_offset(self, offset_Gy),
    )
    return seen


def test_the_offset_is_the_mean_of_all_rounds_before(patient, monkeypatch):
    """Three noisy forward doses: the third plan starts from the mean of two differences, not from the last or their sum."""
    influence, structures = patient
    planner = optimise.Planner(influence, structures, thorax_protocol(), oar_rows=300)
    seen, (forward, given) = spied(monkeypatch), noisy(influence)
    monkeypatch.setattr(correction, "nothing_left", lambda *_: False)
    done = optimise.correct(planner, forward, rounds=2, options=SolverOptions(relax=True))
    differences = [33 * (forward_Gy - model_Gy) for model_Gy, forward_Gy in given]
    seen.pop()  # the planner of the chosen round, for what follows
    assert len(seen) == len(differences) >= 3
    assert seen[0] is None
    for number in range(1, len(seen)):
        np.testing.assert_allclose(seen[number], np.mean(differences[:number], 0), atol=2e-3)
    np.testing.assert_allclose(done.offset_Gy, np.mean(differences, 0), atol=2e-3)
    last, total = differences[1], np.sum(differences[:2], 0)
    assert min(np.abs(seen[2] - other).max() for other in (last, total)) > 0.1  # the wrong ones would be seen


def test_escalation_averages_its_offsets_in_the_fractions_it_planned(patient, monkeypatch):
    """With fractions added, a round's dose is of that round's number of fractions; so is the model's."""
    influence, structures = patient
    protocol = thorax_isotoxic(11.0, "fractions", cap_Gy=79.2)
    planner = optimise.Planner(influence, structures, protocol, oar_rows=300)
    forward, given = noisy(influence)
    seen = []
    really = escalation.highest
    monkeypatch.setattr(escalation, "highest", lambda p, **k: seen.append(p.nominal.offset_Gy) or really(p, **k))
    monkeypatch.setattr(escalation, "_as_predicted", lambda *_: False)
    done = optimise.escalate(planner, forward, rounds=2)
    counts = [one.aimed_fractions for one in done.history]
    assert counts[0] > 34  # else the fractions would be the floor's
    differences = [n * (forward_Gy - model_Gy) for n, (model_Gy, forward_Gy) in zip(counts, given, strict=True)]
    assert seen[0] is None
    for number in range(1, len(seen)):
        np.testing.assert_allclose(seen[number], np.mean(differences[:number], 0), atol=5e-3)
    assert len(seen) >= 3
    assert np.abs(seen[2] - differences[1]).max() > 0.1


def test_a_forward_dose_of_another_fluence_is_not_taken_for_this_one(patient):
    """Scaling the fluence scales the dose: what the loop returns belongs together."""
    influence, structures = patient
    change = np.float32(1.004)
    planner = optimise.Planner(influence, structures, thorax_protocol(), oar_rows=300)
    done = optimise.correct(planner, forward_of(influence, change), rounds=0, options=SolverOptions(relax=True))
    np.testing.assert_allclose(
        done.sampled.dose.dose_Gy, 33 * influence.dose_Gy(done.delivery.vector) * change, rtol=1e-4, atol=1e-3
    )
    assert done.normalisation.factor != 1
