"""docs/validation.md is the rendering of the committed records."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[3] / "tools"


@pytest.fixture
def claims(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import claims as module

    yield module
    sys.modules.pop("claims", None)


def test_the_page_is_made_of_the_records(claims):
    assert claims.PAGE.read_text() == claims.render(), "run python tools/claims.py"


def test_records_are_whole_and_their_tests_exist(claims):
    paths = sorted(claims.RECORDS.glob("*.json"))
    assert paths
    for path in paths:
        record = json.loads(path.read_text())
        assert set(record) == {"claim", "source", "bar", "measured", "sigma", "unit", "command"}, path.name
        assert (claims.ROOT / record["command"].split()[-1]).exists(), path.name


def test_a_record_without_a_chapter_is_refused(claims, tmp_path):
    (tmp_path / "moon-cheese.json").write_text("{}")
    with pytest.raises(SystemExit, match="moon-cheese: the first word must be one of fano"):
        claims.render(tmp_path)
