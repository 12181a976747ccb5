"""docs/benchmarks.md says of each table by which command, commit and machine it was made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md"
SECTIONS = re.split(r"^## ", PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]
HEAD = re.compile(
    r"`python3? (benchmarks/\w+\.py|make\.py)[^`]*`\s·\scommits?\s[0-9a-f]{7}[^·]*"
    r"·\s[^·]+,\s\d\s(idle\s)?cores?\s·\s\d{4}-\d\d-\d\d"
)


@pytest.mark.parametrize("section", SECTIONS, ids=[section.partition("\n")[0] for section in SECTIONS])
def test_a_section_names_command_commit_machine_and_date(section):
    head = HEAD.search(section)
    assert head is not None
    assert head.start() < section.find("\n|") or "\n|" not in section, "the head line stands before the first table"
