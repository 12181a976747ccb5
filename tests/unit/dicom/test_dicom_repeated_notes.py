"""Sentences that repeat are counted by kind, and no name is lost."""

from __future__ import annotations

import pytest

from mrlinac.dicom.problems import MOST_LISTED, Findings

NAMES = ["Heart", "'Lung links 2'", *(f"organ_{n}" for n in range(38))]


@pytest.mark.parametrize("severity", ["warning", "decide", "done"])
def test_forty_sentences_of_one_kind_are_six_and_a_count(severity):
    findings = Findings()
    for number, name in enumerate(NAMES):
        findings.note(severity, f"{name} leaves the image with {number}.5% of its area: the field of view cuts it.")
        findings.note(severity, f"{name}: {number} contour(s) present twice taken once.")
    told = findings.notes().texts()
    assert len(told) == 2 * (MOST_LISTED + 1)
    counts = [text for text in told if text.startswith("The same of 34 more: ")]
    assert len(counts) == 2
    assert all(any(name in text for text in told) for name in NAMES)


def test_what_was_found_stays_whole_and_few_sentences_stay_as_they_are():
    findings = Findings()
    for name in NAMES:
        findings.note("info", f"{name}: oar, 4 cc on 3 plane(s).")
    for name in NAMES[:MOST_LISTED]:
        findings.note("warning", f"{name} is missing on 3 of 40 slices.")
    assert len(findings.notes()) == len(NAMES) + MOST_LISTED


def test_sentences_of_other_kinds_are_not_counted_together():
    findings = Findings()
    for name in NAMES[: MOST_LISTED + 1]:
        findings.note("warning", f"{name} is cut.")
        findings.note("warning", f"{name} is empty.")
    assert sum("more" in text for text in findings.notes().texts()) == 2
