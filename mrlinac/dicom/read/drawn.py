"""Contours of one ROI as a file holds them: what can be used, and what cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour
from mrlinac.dicom.problems import Findings, integer, numbers, text
from mrlinac.dicom.read.loops import in_common_planes, same_plane_mm, tangles, without_doubles
from mrlinac.dicom.read.planes import LARGEST_mm

PLANE_TOLERANCE_mm = 0.1
"""Contours this near a slice are taken to lie on it (decimal strings are rounded); farther ones keep their own z."""

FILLED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "CLOSED_PLANAR_XOR")
"""Contour Geometric Types that enclose area; loops of one plane combine by the even–odd rule. The standard's term is
CLOSEDPLANAR_XOR (PS3.3 C.8.8.6.1); the other spelling is found in files."""


@dataclass
class Drawn:
    """Contours of one ROI as found, with counts of what could not be used.

    ``loops`` are the points (n, 3) of all that enclose area, whatever plane they lie in; ``damage`` says of contours that
    contradict themselves what is wrong.
    """

    contours: list[Contour] = field(default_factory=list)
    loops: list[NDArray[np.float64]] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    other_kinds: Counter[str] = field(default_factory=Counter)
    pointless: int = 0
    too_few: int = 0
    off_axial: int = 0
    off_plane: int = 0
    outside: int = 0
    doubled: int = 0
    moved: int = 0
    overlapping: int = 0
    crossing: int = 0


def drawn_contours(
    items: Sequence[Dataset], grid: Grid, *, imaged: bool = True, move: NDArray[np.float64] | None = None
) -> Drawn:
    """All contours of one ROI that can be used, and what is to be said of those that cannot.

    Parameters
    ----------
    items : sequence of Dataset
        Items of the ROI Contour Sequence that refer to the ROI: one, or several that share its contours.
    grid : Grid
        Of the image.
    imaged : bool
        Whether there is an image: without one the grid has the spacing of slices and no place of theirs.
    move : array (4, 4), optional
        Rigid move into the image's frame of reference.
    """
    drawn = Drawn()
    number = 0
    for contour in (contour for item in items for contour in item.get("ContourSequence") or []):
        number += 1
        kind = text(contour, "ContourGeometricType").upper()
        if kind not in FILLED:
            drawn.other_kinds[kind or "no type"] += 1
            continue
        points = _points(contour, number, drawn)
        if points is None:
            continue
        if move is not None:
            points = points @ move[:3, :3].T + move[:3, 3]
        _add(points, drawn, grid if imaged else None)
    drawn.contours, drawn.moved = in_common_planes(drawn.contours, same_plane_mm(grid.spacing_zyx_mm[0]))
    drawn.contours, drawn.doubled = without_doubles(drawn.contours)
    tangled = tangles(drawn.contours)
    drawn.crossing, drawn.overlapping = tangled.crossing, tangled.overlapping
    if imaged:
        _count_beside(drawn, grid)
    return drawn


def _add(points: NDArray[np.float64], drawn: Drawn, image: Grid | None) -> None:
    """Sort one closed loop in: axial, tilted, or too small to be one."""
    if len(np.unique(points[:, :2], axis=0)) < 3 and np.ptp(points[:, 2]) <= PLANE_TOLERANCE_mm:
        drawn.too_few += 1
        return
    drawn.loops.append(points)
    if np.ptp(points[:, 2]) > PLANE_TOLERANCE_mm:
        drawn.off_axial += 1
        return
    z = float(np.mean(points[:, 2]))
    if image is not None:
        nearest = float(image.z_mm[np.argmin(np.abs(image.z_mm - z))])
        z = nearest if abs(nearest - z) <= PLANE_TOLERANCE_mm else z
    drawn.contours.append(Contour(z, points[:, :2]))


def _count_beside(drawn: Drawn, image: Grid) -> None:
    """Count contours between the image's slices, and those beyond its ends."""
    for contour in drawn.contours:
        apart = float(np.min(np.abs(image.z_mm - contour.z_mm)))
        if apart > image.spacing_zyx_mm[0] / 2 + PLANE_TOLERANCE_mm:
            drawn.outside += 1
        elif apart > PLANE_TOLERANCE_mm:
            drawn.off_plane += 1


def _points(contour: Dataset, number: int, drawn: Drawn) -> NDArray[np.float64] | None:
    """Points (n, 3) of one contour; None, counted or with its damage said, where there are none to use."""
    values = numbers(contour, "ContourData")
    stated = integer(contour, "NumberOfContourPoints")
    if values is None and not stated and not text(contour, "ContourData"):
        drawn.pointless += 1
        return None
    if values is None or values.size % 3 or not _as_stated(values, stated):
        size = "no numbers" if values is None else f"{values.size} numbers"
        drawn.damage.append(f"contour {number} holds {size}, {stated} points stated")
        return None
    if np.max(np.abs(values)) > LARGEST_mm:
        drawn.damage.append(f"contour {number} has a point farther than 10 m from the origin")
        return None
    return values.reshape(-1, 3)


def _as_stated(values: NDArray[np.float64], stated: int | None) -> bool:
    """Whether there are as many points as stated, if that is; some count a repeated first point, some do not."""
    count = values.size // 3
    closed = count > 1 and bool(np.array_equal(values[:3], values[-3:]))
    return not stated or stated == count or (closed and stated == count - 1)


def note_unusable(name: str, drawn: Drawn, findings: Findings) -> None:
    """Sentences for everything unusual about the contours of a structure."""
    for kind, count in sorted(drawn.other_kinds.items()):
        findings.note("info", f"'{name}': {count} contour(s) of type {kind} enclose nothing: left out.")
    if drawn.pointless:
        findings.note("done", f"'{name}': {drawn.pointless} contour(s) without any point left out.")
    if drawn.too_few:
        findings.note("done", f"'{name}': {drawn.too_few} contour(s) of fewer than three distinct points left out.")
    if drawn.doubled:
        findings.note("done", f"'{name}': {drawn.doubled} contour(s) present twice taken once.")
    if drawn.moved:
        findings.note("done", f"'{name}': {drawn.moved} contour(s) a little off the plane of others put into it.")
    if drawn.off_axial:
        findings.note("warning", f"'{name}': {drawn.off_axial} contour(s) not in an axial plane left out.")
    if drawn.off_plane:
        findings.note(
            "warning", f"'{name}': {drawn.off_plane} contour(s) between the image's slices, kept at their own z."
        )
    if drawn.outside:
        findings.note(
            "warning", f"'{name}': {drawn.outside} contour(s) above or below the image, kept at their own z."
        )
    if drawn.crossing:
        findings.note(
            "warning",
            f"'{name}': {drawn.crossing} contour(s) cross themselves: their parts count by the even–odd rule.",
        )
    if drawn.overlapping:
        findings.note(
            "decide",
            f"'{name}': {drawn.overlapping} pair(s) of contours of one plane overlap in part; by the even–odd rule"
            " what they share is a hole. Draw them as one if that is not meant.",
        )
