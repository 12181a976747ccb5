from typing import Annotated, Literal

import pytest
from pydantic import Field

from mrlinac import inherit, spec
from mrlinac.errors import SpecError
from mrlinac.protocol.model import from_values
from mrlinac.recipe.spec import load_plan


class Leaf(spec.Spec):
    margin_mm: float
    name: str = "x"


class Tree(spec.Spec):
    leaf: Leaf
    count: int = 1


def test_all_problems_at_once_with_dotted_keys_and_near_names():
    with pytest.raises(SpecError) as caught:
        spec.validate(Tree, {"leaf": {"margin": 7, "name": 3}, "count": "many"}, "plan.toml")
    text = str(caught.value)
    assert "plan.toml: 4 problem" in text
    assert "leaf.margin: unknown key; did you mean 'margin_mm'?" in text
    assert "leaf.margin_mm: is missing" in text
    assert "count:" in text


def test_override_by_dotted_key_leaves_the_original():
    values = {"leaf": {"margin_mm": 7}, "list": [{"a": 1}]}
    changed = spec.override(values, {"leaf.margin_mm": 3, "list.0.a": 2, "new.deep": 1})
    assert changed == {"leaf": {"margin_mm": 3}, "list": [{"a": 2}], "new": {"deep": 1}}
    assert values["leaf"]["margin_mm"] == 7
    with pytest.raises(SpecError, match=r"list\.4\.a"):
        spec.override(values, {"list.4.a": 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=3", ("a.b", 3)),
        ("a=[1, 2]", ("a", [1, 2])),
        ('a="x"', ("a", "x")),
        ("a=unity", ("a", "unity")),
        ("a=true", ("a", True)),
        ("a=/data/case=1", ("a", "/data/case=1")),
    ],
)
def test_parse_set(text, expected):
    assert spec.parse_set(text) == expected


def test_parse_set_without_sign():
    with pytest.raises(SpecError, match="key=value"):
        spec.parse_set("margin")


def test_find_prefers_path_then_folder_then_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packaged = spec.find("machines", "unity")
    assert packaged.parent == spec.packaged_folder("machines")
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "unity.toml").write_text("")
    assert spec.find("machines", "unity").resolve() == tmp_path / "machines" / "unity.toml"
    other = tmp_path / "mine.toml"
    other.write_text("")
    assert spec.find("machines", other) == other


def test_find_names_the_nearest():
    with pytest.raises(SpecError, match="did you mean 'unity'"):
        spec.find("machines", "untiy")


def test_broken_toml_names_the_file(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("a = = 1")
    with pytest.raises(SpecError, match=r"bad\.toml: not valid TOML"):
        spec.read_toml(path)


class Box(spec.Spec):
    kind: Literal["box"] = "box"
    side_mm: Annotated[float, Field(gt=0)]


class Ball(spec.Spec):
    kind: Literal["ball"] = "ball"
    radius_mm: Annotated[float, Field(gt=0)]


class Room(spec.Spec):
    shape: Annotated[Box | Ball, Field(discriminator="kind")]
    margin_mm: float | Leaf = 0.0
    angles: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    rule: Literal["fixed", "free"] = "free"
    seed: int = 1
    more: dict[str, Leaf] = Field(default_factory=dict)
    optional: Leaf | None = None


GOOD = {"shape": {"kind": "ball", "radius_mm": 3}}


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        ({"margin_mm": "wide"}, ["margin_mm: must be a number or a table (margin_mm, name) (given: 'wide')"]),
        (
            {"margin_mm": {"margin": 3}},
            [
                "margin_mm.margin_mm: is missing",
                "margin_mm.margin: unknown key; did you mean 'margin_mm'? (known: margin_mm, name)",
            ],
        ),
        ({"shape": {"kind": "bal"}}, ["shape: no such kind 'bal'; did you mean 'ball'? (known: box, ball)"]),
        ({"shape": {"side_mm": 3}}, ["shape: kind is missing; one of: box, ball"]),
        ({"shape": {"kind": "box", "side_mm": -1}}, ["shape.side_mm: must be greater than 0 (given: -1)"]),
        (
            {"shape": {"kind": "box", "side_mm": 1, "radius_mm": 1}},
            ["shape.radius_mm: unknown key (known: kind, side_mm)"],
        ),
        ({"shape": 3}, ["shape: must be a table (given: 3)"]),
        ({"angles": 3}, ["angles: must be a list, in brackets (given: 3)"]),
        ({"angles": []}, ["angles: must be a list of at least 1 (given: [])"]),
        ({"angles": [1, "b"]}, ["angles.1: must be a number (given: 'b')"]),
        ({"rule": "fixd"}, ["rule: must be 'fixed' or 'free' (given: 'fixd'); did you mean 'fixed'?"]),
        ({"seed": 1.5}, ["seed: must be a whole number (given: 1.5)"]),
        ({"more": {"a": {"margin_mm": "x"}}}, ["more.a.margin_mm: must be a number (given: 'x')"]),
        ({"optional": {}}, ["optional.margin_mm: is missing"]),
        ({"optional": 3}, ["optional: must be a table (given: 3)"]),
    ],
)
def test_what_is_wrong_is_said_in_our_words_where_it_lies_in_the_file(values, sentences):
    with pytest.raises(SpecError) as caught:
        spec.validate(Room, {**GOOD, **values}, "plan.toml")
    lines = str(caught.value).splitlines()
    assert lines == [f"plan.toml: {len(sentences)} problem(s)", *(f"  - {sentence}" for sentence in sentences)]


def test_a_flat_table_of_a_protocol_is_named_as_the_file_has_it():
    """Of an objective the file writes the keys of its kind beside its own; ``of`` stands in no file."""
    values = inherit.read("protocols", "conventional-66in33").values
    values["objectives"]["target-dose"] |= {"dose_percent": "much", "wieght": 2}
    values["objectives"]["rim"] = {"kind": "mean_dos", "structure": "Heart", "weight": 1, "source": "x"}
    with pytest.raises(SpecError) as caught:
        from_values(values)
    said = str(caught.value)
    assert "objectives.target-dose.dose_percent: must be a number (given: 'much')" in said
    assert "objectives.target-dose.wieght: unknown key; did you mean 'weight'?" in said
    assert "objectives.rim: no such kind 'mean_dos'; did you mean 'mean_dose'?" in said
    assert ".of" not in said


def test_a_key_of_a_kind_is_set_in_a_flat_table():
    changed = load_plan("demo", {"protocol.objectives.0.of.dose_percent": 99.0})
    assert changed.protocol.objectives[0].of.dose_percent == 99.0
    assert changed.protocol.objectives[0].of.kind == load_plan("demo").protocol.objectives[0].of.kind
