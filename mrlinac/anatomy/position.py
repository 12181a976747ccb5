"""How a patient lies: DICOM's patient positions, and the side that gravity follows."""

from __future__ import annotations

from typing import Literal

Position = Literal["HFS", "FFS", "HFP", "FFP", "HFDL", "HFDR", "FFDL", "FFDR"]

LIES_ON: dict[str, tuple[int, int]] = {"S": (1, 1), "P": (1, -1), "DL": (0, 1), "DR": (0, -1)}
"""By the end of a position's name: the patient axis (0 x, 1 y) that gravity follows, and its sign there."""

SIDES = {(1, 1): "posterior", (1, -1): "anterior", (0, 1): "left", (0, -1): "right"}


def lies_on(position: str) -> tuple[int, int]:
    """Axis and sign, in patient coordinates, of the side a patient lies on: ``(1, 1)`` (back) for HFS and FFS."""
    return LIES_ON[position[2:]]


def side_below(position: str) -> str:
    """The side a patient lies on, in words: posterior, anterior, left or right."""
    return SIDES[lies_on(position)]
