"""What is said of an isotoxic prescription, from its record."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mrlinac import optimise
from mrlinac.optimise.loop.allowed_prescription import OrganLimit
from mrlinac.protocol.escalation import Escalation
from mrlinac.recipe import isotoxic

RECORD = isotoxic.EscalationRecord(
    by="dose", rounds=2, settled_anew=False, dose_Gy=68.4, fractions=30, eligible=True, reasons=(),
    driver="Cord dose_at_volume 0.1 cc", allowed_Gy=68.5, bound_Gy=71.25, restricted_Gy=69.5, second_pass_Gy=70.5,
    aimed_Gy=69.8, floor_Gy=63.0, cap_Gy=73.0, above_floor_Gy=5.4, below_cap_Gy=4.6,
)  # fmt: skip


def test_the_sentence_says_dose_driver_and_distances():
    said = isotoxic.sentence(RECORD)
    assert said.startswith("Isotoxic prescription: 68.4 Gy in 30 fractions, stopped by Cord dose_at_volume 0.1 cc; ")
    assert "5.4 Gy above the floor, 4.6 Gy below the cap" in said
    assert "Convex bound 71.2 Gy" in said
    assert "70.5 Gy with the DVH limits" in said


@pytest.mark.parametrize(
    ("driver", "words"), [("cap", "stopped by the cap"), ("plan", "may not be scaled further"), ("Heart", "by Heart")]
)
def test_what_stopped_it(driver, words):
    assert words in isotoxic.sentence(replace(RECORD, driver=driver))


def test_an_ineligible_patient_is_called_so_first_and_with_the_reason():
    said = isotoxic.sentence(replace(RECORD, eligible=False, reasons=["a allows 1", "b allows 2"], dose_Gy=63.0))
    assert said.startswith("Ineligible: the floor, 63 Gy in 30 fractions, is out of reach: a allows 1; b allows 2.")
    assert "Isotoxic prescription" not in said


@pytest.mark.parametrize(
    ("rounds", "anew", "words"),
    [(2, False, "noise favours a high one"), (2, True, "a forward dose of its own"), (1, False, "")],
)
def test_which_forward_dose_settled_it(rounds, anew, words):
    said = isotoxic.sentence(replace(RECORD, rounds=rounds, settled_anew=anew))
    known = ("noise favours a high one", "a forward dose of its own")
    assert [phrase in said for phrase in known] == [phrase == words for phrase in known]


def test_a_record_read_again_is_the_same():
    limit = isotoxic.EscalationLimit("Cord", 47.0, 68.5, 0.5, 2.0)
    record = replace(RECORD, limits=(limit,), reasons=("a", "b"))
    assert isotoxic.EscalationRecord.from_dict(json.loads(json.dumps(record.as_dict()))) == record


def test_the_record_of_an_escalation_takes_each_number_from_its_own_place():
    best = SimpleNamespace(
        prices={"cord": 0.5, "lungs": 1e-5}, bound_Gy=71.0, restricted_Gy=69.0, second_pass_Gy=70.0
    )
    rounds = [SimpleNamespace(highest=best, aimed_Gy=aimed_Gy) for aimed_Gy in (71.0, 69.3, 68.0)]
    planned = optimise.Escalated(None, None, None, None, tuple(rounds), 1, None)
    limits = (OrganLimit("cord", 47.0, 68.5), OrganLimit("lungs", 18.2, 74.0), OrganLimit("heart", 40.0, math.inf))
    allowed = optimise.AllowedPrescription(68.4, 31, 68.5, "cord", True, (), 5.4, 4.6, limits)
    escalation = Escalation(by="dose", cap_Gy=73.0, step_Gy=0.1, slip_percent=1.0, source="test")
    protocol = SimpleNamespace(escalation=escalation, prescription=SimpleNamespace(dose_Gy=63.0))
    at = SimpleNamespace(escalation=escalation, prescription=SimpleNamespace(dose_Gy=68.4))
    finished = optimise.Finished(None, None, at, allowed=allowed, anew=True)
    record = isotoxic.record_of(planned, finished, protocol)
    expected = {
        "by": "dose", "rounds": 3, "settled_anew": True, "dose_Gy": 68.4, "fractions": 31, "driver": "cord",
        "allowed_Gy": 68.5, "bound_Gy": 71.0, "restricted_Gy": 69.0, "second_pass_Gy": 70.0, "aimed_Gy": 69.3,
        "floor_Gy": 63.0, "cap_Gy": 73.0, "above_floor_Gy": 5.4, "below_cap_Gy": 4.6, "eligible": True, "reasons": [],
    }  # fmt: skip
    assert {key: record.as_dict()[key] for key in expected} == expected
    cord, lungs, heart = record.limits
    assert (cord.gain_Gy_per_Gy, cord.cost_Gy_per_Gy) == (0.5, 2.0)
    assert (lungs.gain_Gy_per_Gy, lungs.cost_Gy_per_Gy) == (0.0, None)  # too small to count
    assert math.isnan(heart.gain_Gy_per_Gy)
    assert heart.cost_Gy_per_Gy is None
