"""Contours of one ROI as a file holds them: what can be used, and what cannot."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrlinac.anatomy.contours import FILLED_GAP_SLICES
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour
from mrlinac.dicom.planes import LARGEST_mm
from mrlinac.dicom.problems import Findings, integer, numbers, text

PLANE_TOLERANCE_mm = 0.1
"""Contours this near a slice are taken to lie on it (decimal strings are rounded); farther ones keep their own z."""

SMALL_mm2 = 0.5
"""Loops that share less area than this touch; they do not overlap."""

FILLED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contour Geometric Types that enclose area; loops of one plane combine by the even–odd rule."""


@dataclass
class Drawn:
    """Contours of one ROI as found, with counts of what could not be used.

    ``loops`` are the points (n, 3) of all that enclose area, whatever plane they lie in.
    """

    contours: list[Contour] = field(default_factory=list)
    loops: list[NDArray[np.float64]] = field(default_factory=list)
    other_kinds: Counter[str] = field(default_factory=Counter)
    too_few: int = 0
    off_axial: int = 0
    off_plane: int = 0
    outside: int = 0
    doubled: int = 0
    overlapping: int = 0
    crossing: int = 0


def drawn_contours(
    item: Dataset, name: str, grid: Grid, file: str, findings: Findings, move: NDArray[np.float64] | None = None
) -> Drawn:
    """All contours of one ROI that can be used, and counts of those that cannot.

    Parameters
    ----------
    item : Dataset
        Item of the ROI Contour Sequence.
    name, file : str
        For sentences.
    grid : Grid
        Of the image.
    findings : Findings
        Gets contour data that contradict themselves as problems.
    move : array (4, 4), optional
        Rigid move into the image's frame of reference.
    """
    drawn = Drawn()
    planes = grid.z_mm
    half = grid.spacing_zyx_mm[0] / 2
    for number, contour in enumerate(item.get("ContourSequence") or [], start=1):
        kind = text(contour, "ContourGeometricType").upper()
        if kind not in FILLED:
            drawn.other_kinds[kind or "no type"] += 1
            continue
        points = _points(contour, number, name, file, findings)
        if points is None:
            continue
        if move is not None:
            points = points @ move[:3, :3].T + move[:3, 3]
        if len(np.unique(points[:, :2], axis=0)) < 3 and np.ptp(points[:, 2]) <= PLANE_TOLERANCE_mm:
            drawn.too_few += 1
        elif np.ptp(points[:, 2]) > PLANE_TOLERANCE_mm:
            drawn.off_axial += 1
            drawn.loops.append(points)
        else:
            drawn.loops.append(points)
            z = float(np.mean(points[:, 2]))
            nearest = float(planes[np.argmin(np.abs(planes - z))])
            if abs(nearest - z) <= PLANE_TOLERANCE_mm:
                z = nearest
            elif abs(nearest - z) <= half + PLANE_TOLERANCE_mm:
                drawn.off_plane += 1
            else:
                drawn.outside += 1
            drawn.contours.append(Contour(z, points[:, :2]))
    _drop_doubles(drawn)
    _count_tangles(drawn)
    return drawn


def _points(contour: Dataset, number: int, name: str, file: str, findings: Findings) -> NDArray[np.float64] | None:
    """Points (n, 3) of one contour; None with a problem noted."""
    values = numbers(contour, "ContourData")
    stated = integer(contour, "NumberOfContourPoints")
    if values is None or values.size % 3 or (stated is not None and 3 * stated != values.size):
        size = "no numbers" if values is None else f"{values.size} numbers"
        reason = f"contour {number} of '{name}': {size}, {stated} points stated"
    elif np.max(np.abs(values)) > LARGEST_mm:
        reason = f"contour {number} of '{name}': a point farther than 10 m from the origin"
    else:
        return values.reshape(-1, 3)
    findings.problem(reason, "Export the structure set again", file=file, keyword="ContourData")
    return None


def _drop_doubles(drawn: Drawn) -> None:
    """Leave out loops that are there twice: by the even–odd rule the two would make nothing of one another."""
    contours = {(contour.z_mm, _same(contour.points_xy_mm)): contour for contour in reversed(drawn.contours)}
    loops = {_same(points): points for points in reversed(drawn.loops)}
    drawn.doubled = max(len(drawn.contours) - len(contours), len(drawn.loops) - len(loops))
    drawn.contours, drawn.loops = list(contours.values())[::-1], list(loops.values())[::-1]


def _same(points: NDArray[np.float64]) -> bytes:
    """What two drawings of one loop have in common: it may start elsewhere or run the other way round."""
    return (np.unique(np.round(points, 3), axis=0) + 0.0).tobytes()


def _count_tangles(drawn: Drawn) -> None:
    """Count loops that cross themselves, and pairs of loops of one plane that overlap in part."""
    by_plane: dict[float, list[shapely.Polygon]] = {}
    for contour in drawn.contours:
        polygon = shapely.Polygon(contour.points_xy_mm)
        if not polygon.is_valid:
            fixed = shapely.make_valid(polygon)
            # A keyhole touches itself along its channel and is no tangle: it makes no parts.
            drawn.crossing += _tangled(contour.points_xy_mm)
            polygon = fixed
        by_plane.setdefault(contour.z_mm, []).append(polygon)
    for polygons in by_plane.values():
        for one, other in itertools.combinations(polygons, 2):
            (a0, b0, a1, b1), (c0, d0, c1, d1) = one.bounds, other.bounds
            if a0 < c1 and c0 < a1 and b0 < d1 and d0 < b1:
                common = shapely.intersection(one, other).area
                if SMALL_mm2 < common < min(one.area, other.area) - SMALL_mm2:
                    drawn.overlapping += 1


def _tangled(points_xy_mm: NDArray[np.float64]) -> bool:
    """Whether a loop crosses itself so that its signed area differs from the even–odd one."""
    x, y = points_xy_mm.T
    signed = abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2
    even_odd = float(shapely.make_valid(shapely.Polygon(points_xy_mm)).area)
    return abs(signed - even_odd) > max(SMALL_mm2, 1e-3 * even_odd)


def note_unusable(name: str, drawn: Drawn, findings: Findings) -> None:
    """Sentences for everything unusual about the contours."""
    for kind, count in sorted(drawn.other_kinds.items()):
        findings.note("info", f"'{name}': {count} contour(s) of type {kind} enclose nothing: left out.")
    if drawn.too_few:
        findings.note("done", f"'{name}': {drawn.too_few} contour(s) of fewer than three distinct points left out.")
    if drawn.doubled:
        findings.note("done", f"'{name}': {drawn.doubled} contour(s) present twice taken once.")
    if drawn.off_axial:
        findings.note("warning", f"'{name}': {drawn.off_axial} contour(s) not in an axial plane left out.")
    if drawn.off_plane:
        findings.note(
            "warning", f"'{name}': {drawn.off_plane} contour(s) between the CT slices, kept at their own z."
        )
    if drawn.outside:
        findings.note("warning", f"'{name}': {drawn.outside} contour(s) above or below the CT, kept at their own z.")
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


def slice_spacing_mm(name: str, contours: Sequence[Contour], grid: Grid, findings: Findings) -> float:
    """Thickness a contour stands for: the image's spacing, unless the planes themselves are spaced otherwise.

    The most frequent step between neighbouring planes decides (single planes: the image's spacing); larger steps are
    gaps, which are reported (what happens to them is for ``anatomy.contours``).
    """
    spacing = grid.spacing_zyx_mm[0]
    steps = np.diff(np.unique(np.round([c.z_mm for c in contours], 2)))
    steps = steps[steps > PLANE_TOLERANCE_mm]
    if not steps.size:
        return spacing
    values, counts = np.unique(np.round(steps, 1), return_counts=True)
    usual = float(values[np.argmax(counts)])
    if abs(usual - spacing) <= 2 * PLANE_TOLERANCE_mm:
        usual = spacing
    else:
        findings.note(
            "decide",
            f"'{name}' is drawn every {usual:g} mm on slices {spacing:g} mm apart: each contour stands for"
            f" {usual:g} mm.",
        )
    missing = np.round(steps / usual).astype(int) - 1
    filled = (missing > 0) & (steps <= FILLED_GAP_SLICES * usual)
    if filled.any():
        findings.note(
            "warning",
            f"'{name}' has no contour on {missing[filled].sum()} plane(s) between others: where the neighbouring"
            " contours overlap, the nearer one stands for them.",
        )
    if (missing[~filled] > 0).any():
        findings.note("info", f"'{name}' has {(missing[~filled] > 0).sum() + 1} parts along z, with nothing between.")
    return usual
