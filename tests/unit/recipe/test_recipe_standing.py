"""What a plan is worth, said first: every fault by name and with its figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mrlinac.recipe import rounds
from mrlinac.recipe.isotoxic import EscalationRecord
from mrlinac.recipe.spec import load_plan, presets


def test_a_plan_that_does_what_was_asked_says_so_and_nothing_else(planned):
    standing = planned().standing
    assert (standing.level, standing.sentences) == ("met", ())
    assert standing.headline == "Meets what was asked for: 1 hard limit and 1 goal."


def test_a_target_far_from_its_prescription_makes_a_plan_useless_though_all_limits_are_met(planned):
    standing = planned(gray=5.3).standing
    assert standing.useless
    assert standing.headline == "Useless as it is."
    assert standing.sentences[0] == (
        "Not normalised: D50 of PTV_eval is 5.3 of 66 Gy prescribed (-92 %), and scaling may make good 1 %."
    )


@pytest.mark.parametrize(("gray", "useless"), [(66.0, False), (66.05, False), (66.2, True), (65.8, True)])
def test_a_median_is_the_prescription_within_a_thousandth(planned, gray, useless):
    assert planned(gray=gray).standing.useless == useless


def test_an_inexact_solver_makes_a_plan_useless(planned):
    standing = planned(status="inexact: stopped at a gap of 12 %").standing
    assert standing.useless
    assert standing.sentences == ("The solver did not finish: inexact: stopped at a gap of 12 %.",)


def test_a_relaxed_limit_is_no_fault_of_the_solver(planned):
    assert not planned(status="relaxed: optimal with Cord exceeded by 1 Gy").standing.useless


def test_an_ineligible_patient_has_no_plan(planned):
    reasons = ["Cord allows 50.0 of 66 Gy"]
    record = EscalationRecord(
        by="dose", rounds=1, settled_anew=False, dose_Gy=66.0, fractions=33, eligible=False, reasons=tuple(reasons),
        driver="Cord", allowed_Gy=50.0, bound_Gy=60.0, restricted_Gy=60.0, second_pass_Gy=61.0, aimed_Gy=66.0,
        floor_Gy=66.0, cap_Gy=73.0, above_floor_Gy=0.0, below_cap_Gy=7.0,
    )  # fmt: skip
    standing = replace(planned(), escalation=record).standing
    assert standing.useless
    assert "Ineligible" in standing.sentences[0]
    assert reasons[0] in standing.sentences[0]


def test_every_limit_and_goal_that_is_missed_stands_by_name_with_its_figures(planned):
    standing = planned(limit=8.0, verdict="fail").standing
    assert standing.level == "missed"
    assert standing.headline == "Not what was asked for: 1 hard limit and 1 goal not met."
    assert standing.sentences == (
        "Hard limit not met: Cord upper_tail 0.1 cc 9 ± 0.25 Gy, at most 8 Gy.",
        "Goal not met: Heart mean 8 Gy, at most 7 Gy.",
    )


def test_a_goal_nearly_met_is_said_and_is_no_miss(planned):
    standing = planned(verdict="near").standing
    assert standing.level == "met"
    assert standing.headline.endswith("1 goal, 1 goal nearly.")
    assert standing.sentences == ("Goal nearly met: Heart mean 8 Gy, at most 7.9 Gy.",)


def test_a_miss_by_little_does_not_look_like_none(planned):
    assert "9.000 ± 0.25 Gy, at most 8.996 Gy" in planned(limit=8.996).standing.sentences[0]


def test_what_makes_a_plan_useless_comes_before_limits_and_goals_and_those_before_its_fineness(planned):
    words = [s.split()[0] for s in planned(5.3, "inexact: x", 8.0, "fail", "demo").standing.sentences]
    assert words == ["Not", "The", "Hard", "Goal", "For"]


def test_a_recalculation_is_not_scaled_and_not_useless(planned):
    standing = planned(gray=60.0, **{"recalculation seed": 1}).standing
    assert standing.level == "met"
    assert "D50 of PTV_eval is 60 of 66 Gy prescribed (-9.1 %)" in standing.sentences[0]


@pytest.mark.parametrize("preset", ["demo", "draft"])
def test_coarse_presets_are_for_looking_only(planned, preset):
    assert planned(numerics=preset).standing.sentences[-1].startswith("For looking only")
    assert "For looking only" in presets()[preset]


def test_sentences_about_fineness_follow_the_values():
    numerics = load_plan(
        "demo", {"numerics": "final", "numerics.grid_mm": 5, "numerics.final_rel_sigma": 0.03}
    ).numerics
    assert "5 mm voxels" in numerics.statement
    assert "3 %" in numerics.statement
    assert "final, grid_mm and final_rel_sigma changed" in numerics.statement
    assert numerics.looking_only.endswith("'final': voxels of 5 mm (3), σ of the final dose 3 % (1).")
    assert load_plan("demo", {"numerics": "final"}).numerics.looking_only == ""


def test_a_sentence_kept_by_an_earlier_version_is_not_repeated():
    spec = load_plan("demo")
    old = spec.numerics.model_dump() | {"statement": "4 mm voxels", "grid_mm": 6}
    assert "6 mm voxels" in type(spec.numerics)(**old).statement


@pytest.mark.parametrize(
    ("count", "most", "said"),
    [
        (1, 0, "No correction was asked for; the forward dose is as predicted"),
        (1, 2, "Corrections: 0 of at most 2; the last round's"),
        (3, 2, "Corrections: 2 of at most 2; the last round's"),
        (2, 0, "Corrections: 1, one beyond the 0 asked for because the prescription was still missed; the last"),
        (4, 2, "Corrections: 3, one beyond the 2 asked for because the prescription was still missed; the last"),
    ],
)
def test_corrections_are_counted_as_they_were(count, most, said):
    assert rounds.rounds_sentence([()] * count, most).startswith(said)
