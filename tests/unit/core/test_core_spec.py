import pytest

from mrlinac import spec
from mrlinac.errors import SpecError


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
    assert "leaf.margin_mm: Field required" in text
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
    with pytest.raises(SpecError, match="Did you mean 'unity'"):
        spec.find("machines", "untiy")


def test_broken_toml_names_the_file(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("a = = 1")
    with pytest.raises(SpecError, match=r"bad\.toml: not valid TOML"):
        spec.read_toml(path)
