"""What leaves and diaphragms can form: the rules that a segment keeps."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from mrlinac.machine.delivery import Segment
from mrlinac.machine.model import Mlc

TOLERANCE_mm = 1e-6
"""Positions are compared to this: they are sums and differences of numbers of hundreds."""


def problems(segment: Segment, mlc: Mlc) -> list[str]:
    """Why a machine's leaves and diaphragms cannot form a segment; empty where they can.

    Parameters
    ----------
    segment : Segment
    mlc : Mlc

    Returns
    -------
    list of str
        One sentence a rule, with the leaf pairs (counted from 1) that break it.
    """
    if len(segment.leaf_mm) != mlc.pairs:
        return [f"{len(segment.leaf_mm)} leaf pairs are given; the collimator has {mlc.pairs}"]
    left, right = segment.leaf_mm.T
    along, across = mlc.half_field_uv_mm if mlc.travel == "u" else mlc.half_field_uv_mm[::-1]
    low, high = segment.diaphragm_mm
    told = []
    if (crossed := left > right + TOLERANCE_mm).any():
        told.append(f"leaves of one pair overlap: {_pairs(crossed)}")
    if (beyond := np.abs(segment.leaf_mm).max(1) > along + TOLERANCE_mm).any():
        told.append(f"leaves stand beyond ±{along:g} mm: {_pairs(beyond)}")
    gap = right - left
    if (narrow := (gap > TOLERANCE_mm) & (gap < mlc.min_gap_mm - TOLERANCE_mm)).any():
        told.append(f"leaves of an open pair stand closer than {mlc.min_gap_mm:g} mm: {_pairs(narrow)}")
    if not mlc.interdigitation:
        passed = (left[1:] > right[:-1] + TOLERANCE_mm) | (left[:-1] > right[1:] + TOLERANCE_mm)
        if passed.any():
            told.append(f"leaves pass the opposite ones of the next pair: {_pairs(passed)}")
    if low > high + TOLERANCE_mm:
        told.append(f"the diaphragms overlap: {low:g} mm is beyond {high:g} mm")
    if max(abs(low), abs(high)) > across + TOLERANCE_mm:
        told.append(f"a diaphragm stands beyond ±{across:g} mm")
    if segment.mu < 0:
        told.append(f"MU of {segment.mu:g}")
    return told


def _pairs(which: Iterable[bool]) -> str:
    return "pair " + ", ".join(str(number + 1) for number, hit in enumerate(which) if hit)
