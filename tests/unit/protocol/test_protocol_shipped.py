"""The shipped files: a clinical number stands in one place, and a limit is a goal by itself."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import mrlinac as mr
from mrlinac import inherit, spec
from mrlinac.protocol import model

ROOT = Path(__file__).resolve().parents[3]
FILES = [path for kind in ("protocols", "plans", "techniques") for path in sorted((ROOT / kind).rglob("*.toml"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_shipped_file_says_again_what_it_builds_on(path):
    own = spec.read_toml(path)
    bases = own.pop("extends", [])
    own.pop("without", None)
    kind = path.relative_to(ROOT).parts[0]
    inherited: dict[str, object] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        inherited |= dict(inherit._single(inherit.read(kind, base).values))
    again = [key for key, value in inherit._single(own) if key in inherited and inherited[key] == value]
    assert again == []


def test_a_clinical_limit_stands_in_one_shipped_file():
    """A number of a limit or goal, on one structure, with one source."""
    seen: Counter[tuple[object, ...]] = Counter()
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != "protocols":
            continue
        values = spec.read_toml(path)
        for item in values.get("constraints", {}).values():
            for key, number in item.items():
                if key.startswith(("at_most", "at_least", "at_floor")):
                    seen[item.get("structure"), key, number, item["source"]] += 1
        for name, item in values.get("goals", {}).items():
            for key in ("at_most", "at_least"):
                if key in item:
                    seen[name, key, item[key], item.get("source")] += 1
    assert len(seen) > 25
    assert [key for key, count in seen.items() if count > 1] == []


def a_protocol(**limit):
    constraint = {"kind": "upper_tail", "structure": "Cord", "volume_cc": 0.1, "at_most_Gy": 50, "fraction_Gy": 2.0}
    return model.from_values(
        {
            "name": "p", "title": "t", "citation": "c", "structure_order": ["T", "Cord"],
            "prescription": {"dose_Gy": 66, "fractions": 33, "target": "T", "rule": "median", "source": "s"},
            "objectives": {"o": {"kind": "mean_dose", "structure": "Cord", "weight": 1, "source": "s"}},
            "constraints": {"cord": {**constraint, "source": "s", **limit}},
            "goals": {"Cord mean": {"source": "s"}, "T D50%": {"source": "s"}},
        }
    )  # fmt: skip


def test_a_limit_is_a_goal_by_itself_and_judged_goals_come_first():
    protocol = a_protocol(near=0.5)
    assert [goal.key for goal in protocol.goals] == ["T D50%", "Cord D0.1cc", "Cord mean"]
    assert protocol.goals[1].near == 0.5
    assert protocol.limit_of(protocol.goals[1]) == ("<=", 50)


def test_a_limits_goal_moves_with_the_limit():
    """Made anew when the limit moves to another volume: not the old one beside it."""
    values = spec.override(
        a_protocol().model_dump(mode="json", exclude_none=True), {"constraints.cord.volume_cc": 0.2}
    )
    values["constraints"][0]["of"]["volume_cc"] = values["constraints"][0].pop("volume_cc")
    keys = [goal.key for goal in model.from_values(values).goals]
    assert "Cord D0.2cc" in keys
    assert "Cord D0.1cc" not in keys


def test_a_limit_can_be_kept_out_of_the_goals():
    assert [goal.key for goal in a_protocol(goal=False).goals] == ["T D50%", "Cord mean"]


def test_limits_are_changed_by_their_names():
    plan = mr.load_plan("unity-isotoxic", {"protocol.constraints.cord.at_most_Gy": 46})
    cord = next(c for c in plan.protocol.constraints if c.key == "cord")
    assert cord.at_most_Gy == 46
    again = plan.override({"protocol.constraints.cord.at_most_Gy": 45})
    assert next(c for c in again.protocol.constraints if c.key == "cord").at_most_Gy == 45


def test_the_resolved_plan_says_which_file_each_part_came_from(tmp_path):
    origins = mr.load_plan("unity-3mm-isotoxic").origins
    assert origins["protocol.structures"] == "protocols/base/lung"
    assert origins["protocol.constraints.cord"] == "protocols/isotoxic-ideal-30"
    assert origins["technique"] == "techniques/nine-field"
    assert origins["patient"] == "plans/base/lung"
    assert origins["machine"] == "machines/unity"
    assert not any("/work" in file or file.startswith("/") for file in origins.values())


def test_the_six_plans_of_the_founding_study_differ_in_machine_margin_and_protocol():
    plans = {
        (machine, margin, course): mr.load_plan(f"{machine}{'-3mm' if margin == 3 else ''}-{course}")
        for machine, margin in (("agility", 7), ("unity", 7), ("unity", 3))
        for course in ("66in33", "isotoxic")
    }
    assert {(plan.machine.name, plan.protocol.structures["PTV"].margin_mm) for plan in plans.values()} == {
        ("agility", 7), ("unity", 7), ("unity", 3)
    }  # fmt: skip
    assert len({plan.fingerprint for plan in plans.values()}) == 6
    assert len({str(plan.technique) for plan in plans.values()}) == 1
    assert len({str(plan.protocol.objectives) for plan in plans.values()}) == 1


def test_every_rule_that_is_cited_stands_in_the_rules():
    known = set(re.findall(r"^(\d+)\. ", (ROOT / "docs" / "rules.md").read_text(encoding="utf-8"), re.M))
    assert known == {str(n) for n in range(1, 23)}
    for folder in ("mrlinac", "tests", "docs", "benchmarks", "tools", "machines", "protocols"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".toml"):
                cited = set(re.findall(r"\b[Rr]ule (\d+)\b", path.read_text(encoding="utf-8")))
                assert cited <= known, path
