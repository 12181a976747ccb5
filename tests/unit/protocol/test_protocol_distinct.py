"""Limits and goals where prescription, D50, fractions and the limit's own fractionation are all different numbers."""

import numpy as np
import pandas as pd
import pytest

from mrlinac import protocol as protocols
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.errors import SpecError
from mrlinac.protocol.biology import overall_days
from mrlinac.protocol.eqd2 import eqd2
from mrlinac.protocol.model import Constraint, Fractionated, Prescription
from mrlinac.provenance import Provenance
from mrlinac.recipe import judge

SRC = {"source": "test"}
GRID = Grid((1, 1, 6), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))  # voxels of 1 cc


def prescribed(dose_Gy=55.0, fractions=20):
    return Prescription(dose_Gy=dose_Gy, fractions=fractions, target="T", rule="median", **SRC)


def protocol(dose_Gy=55.0, fractions=20, **tables):
    wish = {"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1, **SRC}
    rx = {"dose_Gy": dose_Gy, "fractions": fractions, "target": "T", "rule": "median", **SRC}
    values = {"name": "p", "title": "p", "citation": "c", "prescription": rx, "objectives": [wish], **tables}
    return protocols.from_values(values)


def structures():
    inside = np.zeros((2, 1, 1, 6), np.float32)
    inside[0, ..., :2] = inside[1, ..., 2:] = 1
    inside[1, ..., 5] = 0.5
    return StructureSet(GRID, {"T": Structure("T", "target", inside[0]), "O": Structure("O", "oar", inside[1])})


def course(*gray, fractions=20):
    return Dose(GRID, np.array(gray, np.float32).reshape(1, 1, 6), None, fractions, Provenance("x", "test"))


def by_hand(dose_Gy, given_Gy, ratio_Gy, fractions):
    """D' of D'/n a fraction with D' (D'/n + α/β) = D (d + α/β), by bisection."""
    low, high = 0.0, 500.0
    for _ in range(80):
        middle = (low + high) / 2
        more = middle * (middle / fractions + ratio_Gy) < dose_Gy * (given_Gy + ratio_Gy)
        low, high = (middle, high) if more else (low, middle)
    return low


# -- another fractionation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "given_Gy"),
    [
        ({"fraction_Gy": 3.2, "alpha_beta_Gy": 4.0}, 3.2),
        ({"fractions": 8, "alpha_beta_Gy": 4.0}, 45 / 8),
        ({"alpha_beta_Gy": 4.0}, 2.0),  # EQD2
    ],
)
@pytest.mark.parametrize(("dose_Gy", "fractions"), [(55.0, 20), (40.0, 15), (70.0, 40)])
def test_a_dose_is_converted_with_its_own_size_of_a_fraction(named, given_Gy, dose_Gy, fractions):
    rx, limit = prescribed(dose_Gy, fractions), Fractionated(**named)
    assert not limit.holds_as_is(rx)
    converted = limit.for_prescription(45.0, rx)
    assert converted == pytest.approx(by_hand(45.0, given_Gy, 4.0, fractions), rel=1e-9)
    assert converted != pytest.approx(45.0, rel=0.01)
    # Both have one effect.
    own = 45 / given_Gy
    assert eqd2(converted, fractions, 4.0) == pytest.approx(eqd2(45.0, own, 4.0), rel=1e-9)


@pytest.mark.parametrize(
    ("named", "fraction_Gy", "holds"),
    [
        ({"fraction_Gy": 2.0}, 1.8, True),
        ({"fraction_Gy": 2.0}, 2.2, True),
        ({"fraction_Gy": 2.0}, 1.78, False),
        ({"fraction_Gy": 2.0}, 2.22, False),
        ({"fraction_Gy": 1.8}, 2.0, True),
        ({"alpha_beta_Gy": 3.0}, 1.8, True),
        ({"alpha_beta_Gy": 3.0}, 2.75, False),
    ],
)
def test_what_counts_as_the_same_fraction(named, fraction_Gy, holds):
    assert Fractionated(**named).holds_as_is(prescribed(fraction_Gy * 20, 20)) is holds


@pytest.mark.parametrize(("fractions", "holds"), [(19, False), (20, True), (21, False)])
def test_a_number_of_fractions_is_that_number(fractions, holds):
    assert Fractionated(fractions=fractions).holds_as_is(prescribed()) is holds
    reason = Fractionated(fractions=fractions).problem(prescribed())
    assert (reason is None) is holds
    if not holds:
        assert f"{fractions} fractions, not in 20" in reason
        with pytest.raises(SpecError, match="holds in"):
            Fractionated(fractions=fractions).for_prescription(45.0, prescribed())


def limit(**keys):
    return Constraint.model_validate({"kind": "mean_dose", "structure": "O", **SRC, **keys})


def test_the_limit_of_every_spelling_in_gray_of_the_course():
    rx = prescribed()
    converted = by_hand(20.0, 2.0, 3.0, 20)
    assert limit(at_most_Gy=20, fraction_Gy=2, alpha_beta_Gy=3).limit_Gy(rx) == pytest.approx(converted)
    assert limit(at_least_Gy=20, fraction_Gy=2, alpha_beta_Gy=3).limit_Gy(rx) == pytest.approx(converted)
    assert limit(at_most_Gy=20, fractions=20).limit_Gy(rx) == 20
    assert limit(at_most_percent=40).limit_Gy(rx) == pytest.approx(22.0)
    assert limit(at_least_percent=30).limit_Gy(rx) == pytest.approx(16.5)
    assert limit(at_most_percent=40).limit_Gy(rx.model_copy(update={"fractions": 25})) == pytest.approx(22.0)
    eqd2_limit = limit(kind="mean_eqd2", alpha_beta_Gy=3, at_most_Gy=20)
    assert eqd2_limit.limit_Gy(rx) == 20  # its value is EQD2 already


def test_the_table_of_constraints_is_judged_in_the_plans_own_fractions(by_voxel):
    """Organ at 22, 12, 10 and (half a voxel) 40 Gy in 20 fractions: mean 64/3.5 = 18.29 Gy."""
    wanted = [
        {"kind": "mean_dose", "structure": "O", "at_most_Gy": 17, "fraction_Gy": 2, "alpha_beta_Gy": 3, **SRC},
        {"kind": "mean_dose", "structure": "O", "at_most_Gy": 17.5, "alpha_beta_Gy": 30, **SRC},
        {"kind": "mean_dose", "structure": "O", "at_most_Gy": 18, "fractions": 20, **SRC},
        {"kind": "mean_dose", "structure": "O", "at_most_percent": 33, **SRC},
        {"kind": "mean_dose", "structure": "T", "at_least_percent": 100, **SRC},
        {"kind": "mean_dose", "structure": "T", "at_least_percent": 102, **SRC},
        {"kind": "mean_eqd2", "structure": "O", "alpha_beta_Gy": 3, "at_most_Gy": 16, **SRC},
        {"kind": "squared_overdose", "structure": "O", "dose_Gy": 30, "at_most_Gy": 3.9, "fractions": 20, **SRC},
        {"kind": "mean_dose", "structure": "Absent", "at_most_Gy": 1, "fractions": 20, "optional": True, **SRC},
    ]
    dose = course(55, 57, 22, 12, 10, 40)
    duals = {"O mean_eqd2": 1.25}
    table = judge.constraints_table(protocol(constraints=wanted), by_voxel(dose, structures()), structures(), duals)
    assert len(table) == 8
    mean = (22 + 12 + 10 + 20) / 3.5
    assert table.value.tolist()[:4] == pytest.approx([mean] * 4)
    assert table.limit.tolist()[:4] == pytest.approx(
        [by_hand(17, 2, 3, 20), by_hand(17.5, 2, 30, 20), 18.0, 0.33 * 55]
    )
    each = [d * (d / 20 + 3) / 5 for d in (22, 12, 10, 40)]
    assert table.value[6] == pytest.approx((sum(each[:3]) + each[3] / 2) / 3.5)
    assert table.limit[6] == 16
    assert table.value[7] == pytest.approx(np.sqrt(0.5 * 100 / 3.5))  # the root of the mean square, in Gy
    assert (round(table.limit[0], 2), round(table.limit[1], 2)) == (20.99, 18.12)
    assert table.met.tolist() == [True, False, False, False, True, False, True, True]
    assert table.dual.tolist()[6] == 1.25
    assert np.isnan(table.dual[0])


def test_the_table_follows_a_prescription_to_which_fractions_were_added(by_voxel):
    """61.2 Gy in 34 becomes 68.4 Gy in 38: the same 1.8 Gy, so limits named by it stay, per cent and EQD2 move."""
    given = protocol(
        61.2, 34,
        escalation={"by": "fractions", "cap_Gy": 79.2, "slip_percent": 1.0, **SRC},
        constraints=[
            {"kind": "mean_dose", "structure": "O", "at_most_Gy": 19, "fraction_Gy": 1.8, **SRC},
            {"kind": "mean_dose", "structure": "O", "at_most_percent": 28, **SRC},
            {"kind": "mean_eqd2", "structure": "O", "alpha_beta_Gy": 3, "at_most_Gy": 16, **SRC},
        ],
    )  # fmt: skip
    dose = course(68, 69, 22, 12, 10, 40, fractions=38)
    table = judge.constraints_table(given.at(68.4, 38), by_voxel(dose, structures()), structures(), {})
    assert table.limit.tolist() == pytest.approx([19, 0.28 * 68.4, 16])
    each = [d * (d / 38 + 3) / 5 for d in (22, 12, 10, 40)]
    assert table.value[2] == pytest.approx((sum(each[:3]) + each[3] / 2) / 3.5)
    with pytest.raises(SpecError, match="where fractions are added a limit names the dose of a fraction"):
        protocol(
            61.2, 34,
            escalation={"by": "fractions", "cap_Gy": 79.2, "slip_percent": 1.0, **SRC},
            constraints=[{"kind": "mean_dose", "structure": "O", "at_most_Gy": 19, "fractions": 34, **SRC}],
        )  # fmt: skip


# -- goals ------------------------------------------------------------------------------------------------------------


def judged(sampled, *goals, **rx):
    asked = protocol(**rx, goals=[{"structure": "O", **goal, **SRC} for goal in goals])
    return protocols.judge(asked, sampled, structures())


def test_doses_and_levels_of_goals_are_converted_and_per_cent_are_not(by_voxel):
    """V20 at 2 Gy a fraction is V of 23.85 Gy in 20 × 2.75 Gy (α/β 3): 22 Gy does not count, and would as it stands."""
    level = by_hand(20, 2, 3, 20)
    assert level == pytest.approx(23.85, abs=0.01)
    stated = {"fraction_Gy": 2, "alpha_beta_Gy": 3}
    dose = course(55, 55, 24, 22, 5, 5)
    volume, gray, relative = judged(
        by_voxel(dose, structures()),
        {"metric": "V20Gy[%]", "at_most": 25, "near": 10, **stated},
        {"metric": "D1cc", "at_most": 20, **stated},
        {"metric": "D1cc[%]", "at_most": 45},
    )
    assert (volume.value, volume.limit, volume.outcome) == (pytest.approx(100 / 3.5), 25, "near")
    assert (gray.value, gray.outcome) == (24, "fail")
    assert gray.limit == pytest.approx(level)
    assert gray.margin == pytest.approx(level - 24)
    assert (relative.value, relative.limit, relative.outcome) == (pytest.approx(100 * 24 / 55), 45, "pass")


@pytest.mark.parametrize(
    ("goal", "outcome"),
    [
        ({"at_most": 18.5}, "pass"),  # at the limit
        ({"at_most": 18.4}, "fail"),  # no band: not near
        ({"at_most": 18.25, "near": 0.25}, "near"),  # at the band's end
        ({"at_most": 18.25, "near": 0.2}, "fail"),
        ({"at_most": 30, "near": 0.2}, "pass"),  # far on the good side
        ({"at_least": 18.5}, "pass"),
        ({"at_least": 18.75, "near": 0.25}, "near"),
        ({"at_least": 19, "near": 0.25}, "fail"),
        ({"at_least": 5, "near": 0.25}, "pass"),
        ({"at_most": 0, "near": 0.25}, "fail"),
        ({}, "report"),
    ],
)
def test_the_band_of_near_lies_beyond_the_limit_only(goal, outcome, by_voxel):
    (verdict,) = judged(
        by_voxel(course(55, 55, 18.5, 18.5, 5, 5), structures()), {"metric": "D1cc", "fractions": 20, **goal}
    )
    assert verdict.outcome == outcome
    if "at_least" in goal:
        assert verdict.margin == pytest.approx(18.5 - goal["at_least"])
        assert verdict.direction == ">="


def test_a_floor_that_the_prescription_has_not_left_is_no_other_prescription():
    given = protocol(61.2, 34, escalation={"by": "fractions", "cap_Gy": 79.2, "slip_percent": 1.0, **SRC})
    assert given.at_floor() is None
    assert given.at(61.2, 34).at_floor() is None
    assert given.at(68.4, 38).at_floor().prescription.fraction_Gy == pytest.approx(1.8)
    assert given.at(68.4, 38).at_floor().prescription.fractions == 34


def test_a_condition_at_the_floor_is_judged_by_the_floors_own_dose_and_fractions(by_voxel):
    """At 68.4 Gy in 38 the organ's hottest cc has 24 Gy, at the floor of 61.2 Gy in 34 it has 21.5: 35 % of that."""
    stated = {"structure": "O", "at_floor": True, **SRC}
    given = protocol(
        61.2, 34,
        escalation={"by": "fractions", "cap_Gy": 79.2, "slip_percent": 1.0, **SRC},
        goals=[
            {"metric": "D1cc[%]", "at_most": 33, **stated},
            {"metric": "D1cc", "at_most": 20, "fractions": 20, "alpha_beta_Gy": 3, **stated},
        ],
    )  # fmt: skip
    dose = course(68, 69, 24, 12, 10, 9, fractions=38)
    relative, gray = protocols.judge(given.at(68.4, 38), by_voxel(dose, structures()), structures())
    assert relative.value == pytest.approx(100 * 24 / 68.4)
    assert relative.outcome == "fail"
    assert gray.value == pytest.approx(24 * 61.2 / 68.4)
    assert gray.limit == pytest.approx(by_hand(20, 1.0, 3, 34))
    assert gray.limit != pytest.approx(by_hand(20, 1.0, 3, 38), rel=1e-3)


def test_models_at_another_size_of_a_fraction(by_voxel):
    """As given at 2 Gy holds from 1.79 to 2.21 Gy, on both sides; EQD2 takes the course's own fractions."""
    mean = {"kind": "mean_eqd2", "structure": "O", "endpoint": "e", "alpha_beta_Gy": 3, **SRC}
    risk = {
        "kind": "ntcp_logistic", "structure": "O", "endpoint": "e", "intercept": -3.0, "slope_per_Gy": 0.1,
        "fraction_Gy": 2.0, **SRC,
    }  # fmt: skip
    for fraction_Gy, outcome in ((1.8, "report"), (2.2, "report"), (1.7, "void"), (2.3, "void")):
        asked = protocol(24 * fraction_Gy, 24, models={"mean": mean, "risk": risk})
        dose = course(55, 57, 22, 12, 10, 40, fractions=24)
        by_eqd2, as_given = protocols.estimate(asked, by_voxel(dose, structures()), structures())
        each = [d * (d / 24 + 3) / 5 for d in (22, 12, 10, 40)]
        assert by_eqd2.value == pytest.approx((sum(each[:3]) + each[3] / 2) / 3.5)
        assert as_given.outcome == outcome, fraction_Gy


@pytest.mark.parametrize(("fractions", "a_day", "days"), [(45, 2, 30), (44, 2, 29), (7, 3, 2), (6, 3, 1), (1, 2, 0)])
def test_a_last_day_with_fewer_fractions_is_a_day(fractions, a_day, days):
    assert overall_days(fractions, a_day, 5) == days


# -- metrics ----------------------------------------------------------------------------------------------------------


def test_homogeneity_is_over_the_median_not_the_prescription():
    """D2 62, D50 58, D98 51 of a hundred voxels, prescribed 66."""
    gray = np.full(100, 58.0)
    gray[:3], gray[-3:] = 62, 51
    gray[3:40], gray[60:-3] = 60, 55
    for prescription in (None, 66.0, 50.0):
        assert metrics.value_of(gray, np.full(100, 0.1), "HI", prescription) == pytest.approx((62 - 51) / 58)


def test_isodoses_are_of_the_prescription_not_of_what_is_reached():
    """Prescribed 40 Gy, median 48, maximum 64: the isodoses of 38 and 20 Gy, and of nothing else, count."""
    dose = course(64, 48, 39, 30, 21, 12)
    target = Structure("T", "target", np.array([1, 1, 1, 0, 0, 0], np.float32).reshape(1, 1, 6))
    for text, value in (
        ("R50", 5 / 3),
        ("CI_RTOG", 3 / 3),
        ("CI", 1.0),
        ("GI", 5 / 3),
        ("R25", 6 / 3),
        ("R75", 4 / 3),
    ):
        found = metrics.metric(dose, target, text, prescription_Gy=40.0)
        assert found == pytest.approx(value), text
    relative = {"V95%[%]": 100.0, "V100%[cc]": 2.0, "V130%[cc]": 1.0, "D50%[%]": 120.0, "mean[%]": 100 * 151 / 120}
    for text, value in relative.items():
        assert metrics.metric(dose, target, text, prescription_Gy=40.0) == pytest.approx(value), text


@pytest.mark.parametrize("text", ["CI", "GI", "R50", "V95%[%]", "D50%[%]"])
@pytest.mark.parametrize("body", [False, True])
def test_a_metric_of_a_dose_scaled_for_it_is_that_of_the_scaled_dose(text, body, by_voxel):
    """As at an escalation's floor: 64 and 48 Gy times 0.75; the isodoses stay those of 40 Gy."""
    whole, roles = structures(), {"External": "external"} if body else {}
    found = {name: Structure(name, role, np.ones((1, 1, 6), np.float32)) for name, role in roles.items()}
    whole = StructureSet(GRID, {**whole.structures, **found})
    dose = course(64, 48, 39, 30, 21, 12)
    asked, scaled = by_voxel(dose, whole), by_voxel(dose.times(0.75), whole)
    value = asked.metric("T", text, 40.0, times=0.75).value
    assert value == pytest.approx(scaled.metric("T", text, 40.0).value)
    assert value != pytest.approx(asked.metric("T", text, 40.0).value)


def test_noise_of_the_skin_is_told_in_per_cent_of_the_prescription():
    skin = pd.DataFrame({"metric": ["D2cc"], "region": "Skin", "value": 30.0, "unit": "Gy", "sigma": 0.12})
    whole = structures()
    assert "0.20 %" in judge.skin_sentence(skin, 60.0, whole)
    assert ": enough" in judge.skin_sentence(skin, 40.5, whole)
    assert ": not enough" in judge.skin_sentence(skin, 39.5, whole)
