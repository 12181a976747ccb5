"""Evaluations of simple doses: who is the reference, whose prescription, what a goal near its limit means."""

import numpy as np
import pytest

from mrlinac import protocol as protocols
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.dose.dose import Dose
from mrlinac.dose.grammar import parse_requests
from mrlinac.errors import DataError, SpecError
from mrlinac.provenance import Provenance
from mrlinac.recipe.evaluate import difference_map, evaluate
from mrlinac.recipe.measuring import Subject

GRID = Grid((12, 20, 24), (3.0, 3.0, 3.0), (-34.5, -28.5, -16.5))
SRC = {"source": "test"}


def box(name, role, x0, x1):
    points = np.array([[x0, -9.0], [x1, -9.0], [x1, 9.0], [x0, 9.0]])
    return Roi(name, role, tuple(Contour(float(z), points) for z in np.arange(-7.5, 8.0, 3.0)), 3.0)


def dose(gray_of_x, fractions=20, made="t"):
    values = np.broadcast_to(gray_of_x(GRID.x_mm), GRID.shape_zyx).astype(np.float32)
    return Dose(GRID, values, None, fractions, Provenance(made, "test"))


SUBJECT = Subject("x", {"T": box("T", "target", -24, -6), "O": box("O", "oar", 6, 24)})
FLAT = dose(lambda x: np.where(x < 1.5, 60.0, 20.0))


def protocol(*goals):
    wish = {"kind": "squared_deviation", "structure": "T", "dose_percent": 100, "weight": 1, **SRC}
    rx = {"dose_Gy": 55.0, "fractions": 20, "target": "T", "rule": "median", **SRC}
    values = {"name": "p", "title": "the title", "citation": "c", "prescription": rx, "objectives": [wish]}
    return protocols.from_values({**values, "goals": [{"structure": "O", **goal, **SRC} for goal in goals]})


def value(found, structure, metric, label="a"):
    return found.metrics.set_index(["structure", "metric"]).loc[(structure, metric), label]


def test_differences_are_dose_minus_the_first_one_given():
    """2 Gy more in the target; in the organ 1 Gy less on average, rising along x."""
    other = dose(lambda x: np.where(x < 1.5, 62.0, 20.0 + 0.1 * (x - 15.0) - 1.0))
    for doses, sign in (({"a": FLAT, "b": other}, 1), ({"a": other, "b": FLAT}, -1)):
        found = evaluate(doses, SUBJECT, fractions=20)
        table = found.differences.set_index("structure")
        assert set(table["dose"]) == {"b"}
        assert table.loc["T", "mean_Gy"] == pytest.approx(2.0 * sign, abs=0.02)
        assert table.loc["O", "mean_Gy"] == pytest.approx(-1.0 * sign, abs=0.02)
        assert table.loc["O", "sd_Gy"] == pytest.approx(0.1 * 18 / np.sqrt(12), rel=0.05)
        most, least = (-0.1, -1.9) if sign > 0 else (1.9, 0.1)
        assert table.loc["O", "highest 2 % above_Gy"] == pytest.approx(most, abs=0.12)
        assert table.loc["O", "lowest 2 % below_Gy"] == pytest.approx(least, abs=0.12)
        assert np.median(difference_map(found, "b")[:, :, :10]) == pytest.approx(2.0 * sign)


def test_the_prescription_is_the_protocols_unless_another_is_given():
    """Of 60 Gy in the target: 55 Gy prescribed are 109 %, 80 Gy are 75 %."""
    requests = parse_requests(["T:mean[%],V100%[%]", "O:V50%[%]"])
    by_protocol = evaluate({"a": FLAT}, SUBJECT, protocol=protocol(), requests=requests)
    assert by_protocol.prescription_Gy == 55.0
    assert value(by_protocol, "T", "mean[%]") == pytest.approx(100 * 60 / 55, rel=1e-3)
    assert value(by_protocol, "T", "V100%[%]") == pytest.approx(100, abs=0.5)
    given = evaluate({"a": FLAT}, SUBJECT, protocol=protocol(), requests=requests, prescription_Gy=80.0)
    assert value(given, "T", "mean[%]") == pytest.approx(75, rel=1e-3)
    assert value(given, "T", "V100%[%]") == 0
    lower = evaluate({"a": FLAT}, SUBJECT, requests=requests, prescription_Gy=39.0)
    assert value(lower, "O", "V50%[%]") == pytest.approx(100, abs=0.5)  # 20 Gy are above 19.5
    with pytest.raises(SpecError, match="relative to the prescription"):
        evaluate({"a": FLAT}, SUBJECT, requests=requests)


def test_goals_fail_pass_or_are_near_on_every_dose_by_itself():
    near = {"metric": "mean", "at_most": 19.0, "near": 2.0, "fractions": 20}
    low, high = dose(lambda x: 0 * x + 18.0), dose(lambda x: 0 * x + 22.0)
    found = evaluate({"low": low, "flat": FLAT, "high": high}, SUBJECT, protocol=protocol(near))
    assert {label: table["verdict"][0] for label, table in found.goals.items()} == {
        "low": "pass",
        "flat": "near",
        "high": "fail",
    }
    assert not found.goals_met
    assert evaluate({"low": low, "flat": FLAT}, SUBJECT, protocol=protocol(near)).goals_met  # near is no failure
    assert evaluate({"high": high}, SUBJECT).goals_met  # nothing is asked for


def test_a_protocol_of_other_fractions_does_not_judge():
    with pytest.raises(DataError, match=r"a stands for 19 fraction\(s\), the protocol's prescription for 20"):
        evaluate({"a": dose(lambda x: 0 * x + 1, fractions=19)}, SUBJECT, protocol=protocol())


def test_metrics_asked_for_come_in_their_order_for_one_structure_or_all():
    found = evaluate({"a": FLAT}, SUBJECT, requests=parse_requests(["O:D2%", "mean", "T:D50%"]))
    asked = list(zip(found.metrics["structure"], found.metrics["metric"], strict=True))
    assert asked == [("O", "D2%"), ("T", "mean"), ("O", "mean"), ("T", "D50%")]
    with pytest.raises(SpecError, match="no structure Heart"):
        evaluate({"a": FLAT}, SUBJECT, requests=parse_requests(["Heart:mean"]))
