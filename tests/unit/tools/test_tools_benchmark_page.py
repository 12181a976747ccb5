"""What benchmarks print around their figures."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import page as module

    yield module
    sys.modules.pop("page", None)


def test_the_head_says_command_commit_processor_cores_and_date(page, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/egs.py", "--photons", "6e6", "--out", "/home/me/egs"])
    monkeypatch.setattr(page, "LOAD_AT_START", 0.1)
    command, commit, machine, date = page.head().split(" · ")
    assert command == "`python benchmarks/egs.py --photons 6e6 --out egs`"
    assert re.fullmatch(r"commit ([0-9a-f]{7,}( with changes)?|unknown)", commit)
    assert re.search(f", {page.cores()} cores?$", machine)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)


def test_a_machine_on_which_others_work_is_said_to_be_loaded(page, monkeypatch):
    monkeypatch.setattr(page, "LOAD_AT_START", 1.26)
    assert page.head().endswith(" · loaded (load average 1.3 at the start)")


def test_outside_of_a_clone_the_commit_is_unknown(page, monkeypatch, tmp_path):
    monkeypatch.setattr(page, "ROOT", tmp_path / "none")
    assert page.commit() == "unknown"


def test_a_table_has_as_many_rules_as_columns(page):
    assert page.columns(["", "dose"]) == "|  | dose |\n|---|---|"
    assert page.row(["a", 1.5]) == "| a | 1.5 |"
