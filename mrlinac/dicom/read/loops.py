"""Loops of one structure beside one another: common planes, loops drawn twice, loops that cross or overlap.

Files hold coordinates that were rounded, moved and drawn again, so all comparisons have a tolerance. No step compares
every loop of a plane with every other: a thresholded structure has hundreds in each plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from mrlinac.anatomy.contours import area_of
from mrlinac.anatomy.structures import Contour

SAME_PLANE_mm = 0.35
"""Loops nearer than this along z lie in one plane: exports round, shift and resample by tenths of a millimetre, and no
planning image has slices so thin. Of thin slices at most a third counts (:data:`SAME_PLANE_SHARE`)."""

SAME_PLANE_SHARE = 1 / 3
"""Of the slice spacing: planes of neighbouring slices stay apart however thin the slices."""

SAME_LOOP_mm = 0.1
"""Two loops whose borders lie nearer than this on average are one drawn twice; no organ's wall is so thin."""

SMALL_mm2 = 0.5
"""Loops that share less area than this touch; they do not overlap."""


@dataclass(frozen=True)
class Tangles:
    """Loops that cross themselves, and pairs of loops of one plane that overlap in part."""

    crossing: int
    overlapping: int


def same_plane_mm(slice_mm: float) -> float:
    """How near along z loops of one plane lie, on slices of a spacing."""
    return min(SAME_PLANE_mm, SAME_PLANE_SHARE * slice_mm)


def in_common_planes(contours: Sequence[Contour], within_mm: float) -> tuple[list[Contour], int]:
    """Contours of nearly the same z put into one plane, that of the largest among them; how many were moved.

    Parameters
    ----------
    contours : sequence of Contour
    within_mm : float
        Largest extent of a plane along z; see :func:`same_plane_mm`.
    """
    order = sorted(range(len(contours)), key=lambda index: contours[index].z_mm)
    planes: list[list[int]] = []
    for index in order:
        if planes and contours[index].z_mm - contours[planes[-1][0]].z_mm <= within_mm:
            planes[-1].append(index)
        else:
            planes.append([index])
    result, moved = list(contours), 0
    for members in planes:
        if contours[members[0]].z_mm == contours[members[-1]].z_mm:
            continue
        largest = max(members, key=lambda index: float(np.prod(np.ptp(contours[index].points_xy_mm, axis=0))))
        z_mm = contours[largest].z_mm
        for index in members:
            if contours[index].z_mm != z_mm:
                result[index] = Contour(z_mm, contours[index].points_xy_mm)
                moved += 1
    return result, moved


def without_doubles(contours: Sequence[Contour]) -> tuple[list[Contour], int]:
    """Contours without those that draw another of their plane again, within :data:`SAME_LOOP_mm`; how many went.

    By the even–odd rule a loop and its copy would make nothing of one another.
    """
    dropped: set[int] = set()
    for members in _by_plane(contours).values():
        areas = [area_of(contours[index].points_xy_mm) for index in members]
        for this, other in _touching(areas):
            first, second = members[this], members[other]
            if first not in dropped and second not in dropped and _same(areas[this], areas[other]):
                dropped.add(second)
    return [contour for index, contour in enumerate(contours) if index not in dropped], len(dropped)


def tangles(contours: Sequence[Contour]) -> Tangles:
    """Count loops that cross themselves, and pairs of loops of one plane that overlap in part."""
    crossing = overlapping = 0
    for members in _by_plane(contours).values():
        areas = []
        for index in members:
            areas.append(area_of(contours[index].points_xy_mm))
            # A keyhole touches itself along its channel and is no tangle: it makes no parts.
            crossing += _tangled(contours[index].points_xy_mm, areas[-1].area)
        for first, other in _touching(areas):
            common = shapely.intersection(areas[first], areas[other]).area
            overlapping += SMALL_mm2 < common < min(areas[first].area, areas[other].area) - SMALL_mm2
    return Tangles(crossing, overlapping)


def _by_plane(contours: Sequence[Contour]) -> dict[float, list[int]]:
    planes: dict[float, list[int]] = {}
    for index, contour in enumerate(contours):
        planes.setdefault(contour.z_mm, []).append(index)
    return planes


def _touching(areas: Sequence[shapely.Geometry]) -> list[tuple[int, int]]:
    """Pairs whose bounding rectangles meet, in order."""
    if len(areas) < 2:
        return []
    tree = shapely.STRtree(list(areas))
    first, second = tree.query(list(areas))
    return sorted(zip(first[first < second].tolist(), second[first < second].tolist(), strict=True))


def _same(first: shapely.Geometry, other: shapely.Geometry) -> bool:
    """Whether two areas differ by no more than a rim of :data:`SAME_LOOP_mm`."""
    rim_mm2 = SAME_LOOP_mm * max(first.length, other.length)
    larger = max(first.area, other.area)
    if abs(first.area - other.area) > rim_mm2 or larger == 0.0:
        return False
    apart: float = shapely.symmetric_difference(first, other).area
    return bool(apart <= min(rim_mm2, 0.5 * larger))


def _tangled(points_xy_mm: NDArray[np.float64], even_odd_mm2: float) -> bool:
    """Whether a loop crosses itself so that its signed area differs from the even–odd one."""
    x, y = points_xy_mm.T
    signed = abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2
    return abs(signed - even_odd_mm2) > max(SMALL_mm2, 1e-3 * even_odd_mm2)
