"""Protocol files: what they may say, fractionation, and the numbers of each kind."""

import numpy as np
import pytest

from mrlinac import protocol as protocols
from mrlinac import spec
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError, SpecError
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Fractionated, Prescription
from mrlinac.provenance import Provenance

RX = {"dose_Gy": 60, "fractions": 30, "target": "T", "rule": "median", "source": "test"}


def small(**changes):
    values = {
        "name": "p",
        "title": "p",
        "citation": "test",
        "prescription": RX,
        "objectives": [
            {"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1, "source": "test"}
        ],
    }
    return protocols.from_values(values | changes)


def limit(**changes):
    return {"kind": "mean_dose", "structure": "O", "at_most_Gy": 20, "fraction_Gy": 2, "source": "test"} | changes


@pytest.mark.parametrize("name", spec.names("protocols"))
def test_every_shipped_protocol_parses_and_survives_a_round_trip(name):
    loaded = protocols.load(name)
    assert loaded.name == name
    assert protocols.from_values(loaded.model_dump(by_alias=True)) == loaded


def test_conventional_protocol_says_what_it_must():
    loaded = protocols.load("conventional-66in33")
    assert (loaded.prescription.dose_Gy, loaded.prescription.fractions) == (66, 33)
    assert loaded.structures["PTV"].margin_mm == 7
    limited = {c.of.structure for c in loaded.constraints}
    assert {"Cord", "Lungs-GTV", "Esophagus", "Heart", "PTV_eval"} <= limited
    assert not any("Skin" in o.name for o in loaded.objectives)  # the primary analysis has no skin objective
    assert any(g.structure == "Skin" and g.metric == "D2cc" for g in loaded.goals)
    assert loaded.problems(["PTV_eval"]) != []


def test_unknown_kind_names_the_known_ones():
    with pytest.raises(SpecError, match="squared_overdose"):
        small(objectives=[{"kind": "median_dose", "structure": "T", "weight": 1, "source": "test"}])


def test_unknown_key_is_an_error():
    with pytest.raises(SpecError, match="dose_gy"):
        small(objectives=[{"kind": "mean_dose", "structure": "T", "dose_gy": 3, "weight": 1, "source": "test"}])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (limit(at_least_Gy=3), "exactly one"),
        (limit(at_most_Gy=None), "exactly one"),
        (limit(kind="lower_tail", volume_cc=1), "not convex"),
        (limit(kind="upper_tail", volume_cc=1, at_most_Gy=None, at_least_Gy=3), "not convex"),
        (limit(kind="upper_tail"), "exactly one of volume_percent and volume_cc"),
        (limit(fraction_Gy=None), "neither its fractionation"),
        (limit(fraction_Gy=3), "EQD2"),
    ],
)
def test_bad_constraints_are_refused(bad, words):
    with pytest.raises(SpecError, match=words):
        small(constraints=[bad])


def test_goals_name_their_fractionation_and_a_known_metric():
    goal = {"structure": "O", "metric": "D1cc", "at_most": 50, "source": "test"}
    with pytest.raises(SpecError, match="fractionation"):
        small(goals=[goal])
    small(goals=[goal | {"fraction_Gy": 2}, goal | {"metric": "D98%[%]"}, {**goal, "at_most": None}])
    with pytest.raises(SpecError, match="Known forms"):
        small(goals=[goal | {"metric": "V20", "fraction_Gy": 2}])


def test_limits_convert_through_eqd2():
    same = Prescription(**RX)
    hypo = Prescription(**(RX | {"dose_Gy": 55, "fractions": 20}))
    stated = Fractionated(fraction_Gy=2.0, alpha_beta_Gy=3)
    assert stated.for_prescription(20, same) == 20
    converted = stated.for_prescription(20, hypo)
    assert converted * (converted / 20 + 3) == pytest.approx(20 * (2 + 3))  # EQD2 kept
    eqd2 = Fractionated(alpha_beta_Gy=3)
    assert eqd2.for_prescription(20, hypo) == pytest.approx(converted)
    with pytest.raises(SpecError, match="alpha_beta_Gy"):
        Fractionated(fraction_Gy=2.0).for_prescription(20, hypo)


def test_values_of_kinds():
    dose, weights = np.array([10.0, 20.0, 30.0]), np.array([1.0, 1.0, 2.0])
    value = lambda kind, **keys: kind(structure="S", **keys).value(dose, weights, 50.0)  # noqa: E731
    assert value(kinds.SquaredOverdose, dose_Gy=15) == pytest.approx((25 + 2 * 225) / 4)
    assert value(kinds.SquaredUnderdose, dose_percent=50) == pytest.approx((225 + 25) / 4)
    assert value(kinds.SquaredDeviation, dose_Gy=20) == pytest.approx((100 + 2 * 100) / 4)
    assert value(kinds.MeanDose) == pytest.approx(22.5)
    assert value(kinds.UpperTail, volume_percent=75) == pytest.approx((2 * 30 + 20) / 3)
    assert value(kinds.UpperTail, volume_cc=2.5) == pytest.approx((2 * 30 + 0.5 * 20) / 2.5)
    assert value(kinds.UpperTail, volume_cc=100) == pytest.approx(22.5)
    assert value(kinds.LowerTail, volume_percent=50) == pytest.approx(15)
    smooth = kinds.FluenceSmoothness()
    assert smooth.fluence_value(np.array([1.0, 3, 2]), np.array([[0, 1], [1, 2]]), 2.0) == pytest.approx(2.5 / 4)


def test_goals_are_judged_with_a_near_band(by_voxel):
    grid = Grid((1, 1, 4), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    dose = Dose(grid, np.array([60, 60, 21, 19.0]).reshape(1, 1, 4), None, 30, Provenance("test", "test"))
    occupancy = np.zeros((2, 1, 1, 4), np.float32)
    occupancy[0, ..., :2] = occupancy[1, ..., 2:] = 1
    structures = StructureSet(
        grid, {"T": Structure("T", "target", occupancy[0]), "O": Structure("O", "oar", occupancy[1])}
    )
    goal = {"structure": "O", "metric": "mean", "fraction_Gy": 2, "source": "test"}
    judged = small(
        goals=[
            goal | {"at_most": 20},
            goal | {"at_most": 19.5, "near": 1},
            goal | {"at_most": 18, "near": 1},
            goal | {"at_least": 25},
            {"structure": "T", "metric": "V95%[%]", "at_least": 95, "source": "test"},
            {"structure": "O", "metric": "D1cc", "source": "test"},
            goal | {"structure": "X", "at_most": 1, "optional": True},
        ]
    )
    verdicts = protocols.judge(judged, by_voxel(dose, structures), structures)
    assert [v.outcome for v in verdicts] == ["pass", "near", "fail", "fail", "pass", "report", "absent"]
    assert verdicts[0].margin == pytest.approx(0)
    assert verdicts[5].value == pytest.approx(21)
    with pytest.raises(ValueError, match="fraction"):
        protocols.judge(judged, by_voxel(dose.times(1 / 30, fractions=1), structures), structures)
    missing = small(goals=[goal | {"structure": "X", "at_most": 1}])
    with pytest.raises(DataError, match="X"):
        protocols.judge(missing, by_voxel(dose, structures), structures)
