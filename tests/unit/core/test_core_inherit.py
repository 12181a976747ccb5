"""Files that build on others."""

from __future__ import annotations

import pytest

from mrlinac import inherit, spec
from mrlinac.errors import SpecError


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Write files of the kind ``plans`` below the folder that is looked in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plans" / "base").mkdir(parents=True)

    def write(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / "plans" / f"{name.replace('__', '/')}.toml").write_text(text, encoding="utf-8")

    return write


def test_tables_are_merged_by_key_and_other_values_replaced(files):
    files(
        base__a="title = 'a'\nlist = [1, 2]\n[x]\none = 1\ntwo = 2\n[x.deep]\nthree = 3\n",
        child="extends = 'base/a'\nlist = [3]\n[x]\ntwo = 22\n[x.deep]\nfour = 4\n",
    )
    found = inherit.read("plans", "child")
    assert found.values == {"title": "a", "list": [3], "x": {"one": 1, "two": 22, "deep": {"three": 3, "four": 4}}}
    assert found.origins == {
        "title": "plans/base/a", "list": "plans/child", "x.one": "plans/base/a", "x.two": "plans/child",
        "x.deep.three": "plans/base/a", "x.deep.four": "plans/child",
    }  # fmt: skip


def test_a_later_base_goes_before_an_earlier_one_and_a_base_lies_beside_the_file_too(files):
    files(base__a="one = 1\ntwo = 1\n", base__b="extends = 'a'\ntwo = 2\n", base__c="two = 3\n")
    files(child="extends = ['base/b', 'base/c']\n")
    assert inherit.read("plans", "child").values == {"one": 1, "two": 3}


def test_what_is_left_out_is_not_inherited_and_may_be_given_anew(files):
    files(a="[goals]\n'Cord D0.1cc' = 1\nother = {x = 1, y = 2}\n")
    files(b="extends = 'a'\nwithout = ['goals.\"Cord D0.1cc\"', 'goals.other']\n[goals.other]\ny = 3\n")
    found = inherit.read("plans", "b")
    assert found.values == {"goals": {"other": {"y": 3}}}
    assert found.origins == {"goals.other.y": "plans/b"}


def test_an_empty_table_moves_what_is_inherited(files):
    files(a="[t.one]\nx = 1\n[t.two]\nx = 2\n", b="extends = 'a'\n[t.three]\nx = 3\n[t.one]\n")
    found = inherit.read("plans", "b").values["t"]
    assert list(found) == ["two", "three", "one"]
    assert found["one"] == {"x": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extends = 'b'", r"plans/b.*plans/a|plans/a.*plans/b"),
        ("extends = 'nothere'", "extends: no plan file 'nothere'"),
        ("extends = 3", "a name or a list of names"),
        ("extends = 'c'\nwithout = ['t.onee', 'zzz']", r"(?s)'t.onee' is not inherited.*'zzz' is not inherited"),
    ],
)
def test_what_cannot_be_built_on_is_named_with_the_file(files, text, says):
    files(b="extends = 'a'\n", c="[t]\none = 1\n", a=text + "\n")
    with pytest.raises(SpecError, match=says) as error:
        inherit.read("plans", "a")
    assert "plans/a.toml" in str(error.value) or "plans/b.toml" in str(error.value)


def test_origins_are_told_in_few_lines():
    told = inherit.summary({"p.a.x": "one", "p.a.y": "one", "p.b.x": "one", "p.b.y": "two", 'p.c."1.5"': "two"})
    assert told == {"p.a": "one", "p.b.x": "one", "p.b.y": "two", "p.c": "two"}


def test_a_dotted_key_may_name_an_item_of_a_list_and_quote_a_part():
    values = {"goals": [{"key": "Cord D0.1cc", "near": 1}, {"key": "Cord mean", "near": 2}]}
    changed = spec.override(values, {'goals."Cord D0.1cc".near': 3, "goals.Cord mean.near": 4, "goals.1.more": 5})
    assert [goal["near"] for goal in changed["goals"]] == [3, 4]
    assert changed["goals"][1]["more"] == 5
