"""docs/keys.md is what the models say today, and every key in it says what it means."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from mrlinac.spec import Spec

ROOT = Path(__file__).resolve().parents[3]


class Example(Spec):
    """A model that describes its keys in every way that there is, and one in none.

    Attributes
    ----------
    listed_mm : float
        In the section
        of the class.
    """

    field_Gy: float = Field(description="In the field.")
    beneath: int = 1
    """In the string
    beneath it."""
    listed_mm: Annotated[float, Field(gt=0)] | None = None
    beside: Literal["a", "b"] = "a"  # in the comment
    over_two_lines: bool = (
        False  # in the comment of the line that it ends on
    )  # fmt: skip
    undescribed: tuple[float, float]


@pytest.fixture
def keys(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import keys as module

    yield module
    sys.modules.pop("keys", None)


def test_the_page_is_made_of_the_models(keys):
    assert keys.PAGE.read_text("utf-8") == keys.render(), "run python tools/keys.py"


@pytest.mark.xfail(strict=True, reason="the models do not describe all keys yet: python tools/keys.py missing")
def test_every_key_has_a_description(keys):
    assert keys.missing() == []


def test_a_description_is_taken_from_wherever_it_stands(keys):
    assert {key.name: key.description for key in keys.keys_of(Example)} == {
        "field_Gy": "In the field.",
        "beneath": "In the string\nbeneath it.",
        "listed_mm": "In the section of the class.",
        "beside": "in the comment",
        "over_two_lines": "in the comment of the line that it ends on",
        "undescribed": "",
    }


def test_a_row_says_type_unit_default_bounds_and_meaning(keys):
    rows = {key.name: keys._row(key, {}).strip() for key in keys.keys_of(Example)}
    assert rows["listed_mm"] == "| `listed_mm` | number | mm | none | > 0 | In the section of the class. |"
    assert rows["beside"] == '| `beside` | text |  | `"a"` | `a`, `b` | In the comment. |'
    assert rows["undescribed"] == "| `undescribed` | list of 2 numbers |  | required |  | — |"


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("margin_mm", "mm"),
        ("dose_per_MU_Gy", "Gy/MU"),
        ("alpha_per_Gy", "1/Gy"),
        ("grid", ""),
        ("density_g_cm3", "g/cm³"),
    ],
)
def test_the_end_of_a_key_is_its_unit(keys, key, unit):
    assert keys.unit_of(key) == unit


def test_every_link_of_the_page_leads_to_a_heading_and_no_heading_stands_twice(keys):
    page = keys.render()
    anchors = [keys.slug(heading) for heading in re.findall(r"^#+ (.*)$", page, re.MULTILINE)]
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= set(anchors)


@pytest.mark.parametrize(
    ("kind", "chapter"),
    [("plans", "Plan"), ("protocols", "Protocol"), ("machines", "Machine"), ("techniques", "Technique")],
)
def test_every_key_of_the_files_that_come_with_the_package_stands_in_its_chapter(keys, kind, chapter):
    page = re.search(rf"^## {chapter}$(.*?)(?=^## |\Z)", keys.render(), re.MULTILINE | re.DOTALL)
    assert page is not None
    listed = set(re.findall(r"^\| `(\w+)` \|", page[1], re.MULTILINE)) | {"extends", "without"}
    for path in sorted((ROOT / kind).rglob("*.toml")):
        assert set(tomllib.loads(path.read_text("utf-8"))) <= listed, path
