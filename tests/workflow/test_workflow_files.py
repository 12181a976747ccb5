"""Every file that ships parses, and every example of the documentation names what exists."""

import inspect
import re
from pathlib import Path

import pytest

import mrlinac as mr
from mrlinac import spec
from mrlinac.machine import model
from mrlinac.protocol import load
from mrlinac.recipe import plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", spec.names("plans"))
def test_plans(name):
    plan = mr.load_plan(name)
    assert plan.name == name
    assert not [g for g in plan.technique.gantry_deg if plan.machine.blocked_reason(g)]


@pytest.mark.parametrize("name", spec.names("protocols"))
def test_protocols(name):
    protocol = load(name)
    assert protocol.name == name
    for term in (*protocol.objectives, *protocol.constraints, *protocol.goals):
        assert term.source


@pytest.mark.parametrize("name", spec.names("machines"))
def test_machines(name):
    assert model.load(name).name == name


def test_all_public_names_exist():
    assert set(mr.__all__) == set(mr._HOME)
    for name in mr.__all__:
        value = getattr(mr, name)
        assert value == mr.RESEARCH_ONLY or (callable(value) and value.__doc__ and value.__name__ == name), name


def test_the_public_recipe_is_the_recipe():
    assert inspect.signature(mr.make_plan) == inspect.signature(plan.make_plan)
    assert "Ctrl-C" in mr.make_plan.__doc__


def test_override_is_recorded_and_in_force():
    plan = mr.load_plan("unity-66in33").override({"protocol.structures.PTV.margin_mm": 3})
    assert plan.protocol.structures["PTV"].margin_mm == 3
    assert plan.applied == {"protocol.structures.PTV.margin_mm": 3}
    assert plan.fingerprint != mr.load_plan("unity-66in33").fingerprint
    back = plan.override({"protocol.structures.PTV.margin_mm": 7})
    assert back.fingerprint == mr.load_plan("unity-66in33").fingerprint


def test_a_machine_by_name_in_an_override():
    plan = mr.load_plan("unity-66in33", {"machine": "agility", "numerics": "final"})
    assert plan.machine.name == "agility"
    assert plan.numerics.name == "final"


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
)
def test_links_and_files_named_in_the_documentation_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target
    for target in re.findall(r"`((?:mrlinac|docs|benchmarks|tools|protocols|machines|plans)/[\w./-]+\.\w+)`", text):
        assert (ROOT / target).exists(), target
