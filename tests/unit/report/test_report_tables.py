"""CSV files round-trip; numbers read well."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mrlinac.report import tables
from mrlinac.report.diagrams import dvh_curve, goal_mark


def test_goals_round_trip(content, tmp_path):
    path = tables.write_goals_csv(content.goals, tmp_path / "goals.csv")
    back = pd.read_csv(path, keep_default_na=False, na_values={"limit": [""], "margin": [""], "sigma": [""]})
    pd.testing.assert_frame_equal(back, content.goals, check_dtype=False)
    assert b"\r" not in path.read_bytes()


def test_timing_round_trips(content, tmp_path):
    path = tables.write_timing_csv(content.timing, tmp_path / "timing.csv")
    pd.testing.assert_frame_equal(pd.read_csv(path), content.timing, check_dtype=False)


def test_dvh_csv_gives_back_the_curves(content, tmp_path):
    frame = pd.read_csv(tables.write_dvh_csv(content.dvhs, tmp_path / "dvh.csv"))
    assert list(dict.fromkeys(frame["structure"])) == list(content.dvhs)
    for name, rows in frame.groupby("structure"):
        dose, volume = dvh_curve(content.dvhs[name])
        np.testing.assert_allclose(rows["dose_Gy"], dose, rtol=1e-5)
        np.testing.assert_allclose(rows["volume_percent"], volume, rtol=1e-5, atol=1e-9)
        assert rows["volume_cc"].iloc[0] == pytest.approx(content.dvhs[name].volume, rel=1e-5)
        assert rows["volume_percent"].is_monotonic_decreasing
        assert rows["volume_percent"].iloc[-1] == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (66.0, "66.0"),
        (6.314, "6.31"),
        (0.01234, "0.0123"),
        (-3.2, "−3.20"),
        (0.0, "0"),
        (1234.5, "1234"),
        (3.2e-8, "3.20e-8"),
        (120_000_000, "120\u202f000\u202f000"),
        (True, "yes"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
        (None, "–"),
        ("text", "text"),
    ],
)
def test_numbers_as_text(value, text):
    assert tables.number(value) == text


def test_limits_say_their_direction():
    goal = {"limit": 20.0, "unit": "Gy", "direction": "at most"}
    assert tables.limit_text(goal) == "≤ 20.0 Gy"
    assert tables.limit_text({**goal, "direction": ">="}) == "≥ 20.0 Gy"
    assert tables.limit_text({**goal, "direction": ""}) == "20.0 Gy"
    assert tables.limit_text({**goal, "limit": float("nan")}) == "–"


@pytest.mark.parametrize(
    ("metric", "point"),
    [
        ("D95%", (20.0, 95.0)),
        ("D2cc", (20.0, 1.0)),
        ("D0.1cc", (20.0, 0.05)),
        ("V30Gy[%]", (30.0, 20.0)),
        ("V30Gy[cc]", (30.0, 10.0)),
        ("mean", None),
        ("CI", None),
    ],
)
def test_goals_as_points_of_the_diagram(metric, point):
    assert goal_mark(metric, 20.0, 200.0) == (pytest.approx(point) if point else None)


def test_plans_are_joined_by_structure_and_metric(content, other):
    fewer = content.goals.iloc[1:]
    from dataclasses import replace

    table = tables.compared_goals({"a": content, "b": replace(other, goals=fewer)})
    assert [cell.text for cell in table.rows[0]][-1] == "not in this plan"
    assert len(table.rows) == len(content.goals)
    skin = tables.compared_skin({"a": content, "b": other})
    assert skin.heads[-1] == "b − a"
    assert skin.rows[0][-1].text == "+9.00 ± 0.14"  # both have a σ of 0.1 Gy


def test_what_software_derived_is_marked(content) -> None:
    from dataclasses import replace

    from mrlinac.report.tables import structures_table

    structures = content.structures.structures
    changed = {
        name: replace(s, derived=name == "CTV", drawn_volume_cc=1.0 if name in ("CTV", "Heart") else None)
        for name, s in structures.items()
    }
    table = structures_table(replace(content, rois={}, structures=replace(content.structures, structures=changed)))
    origin = {row[0].text: row[-1].text for row in table.rows}
    assert origin["CTV"] == "derived by software"
    assert origin["Heart"] == "drawn"
    assert origin["PTV"] == "derived by rule"
