"""Areas with holes as single loops: a channel of no width leads from the outer loop to each hole and back.

DICOM's CLOSED_PLANAR knows no holes (PS3.3 C.8.8.6.3); a loop with such channels encloses the same area for readers that
unite the loops of a plane, that take their exclusive or, and that count windings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from mrlinac.anatomy.contours import even_odd

Floats = NDArray[np.float64]

TOUCHING_mm = 1e-9
"""A channel between holes is longer than this: two that touch at their leftmost points would each hang on the other."""


def without_holes(loops: Sequence[Floats]) -> list[Floats]:
    """Loops of a plane, combined by the even–odd rule, as loops that neither overlap nor lie in one another.

    Loops apart from all others come back as they are.
    """
    if len(loops) < 2:
        return list(loops)
    boxes = [shapely.box(*loop.min(axis=0), *loop.max(axis=0)) for loop in loops]
    first, second = shapely.STRtree(boxes).query(boxes)
    together = np.zeros(len(loops), bool)
    together[first[first != second]] = True
    apart = [loop for loop, with_others in zip(loops, together, strict=True) if not with_others]
    area = even_odd([loop for loop, with_others in zip(loops, together, strict=True) if with_others])
    polygons = [part for part in shapely.get_parts(area) if part.geom_type == "Polygon" and part.area > 0]
    return apart + [one_loop(polygon) for polygon in polygons]


def one_loop(polygon: shapely.Polygon) -> Floats:
    """The border of a polygon as one loop: outer border anticlockwise, each hole clockwise behind its channel.

    The channel of a hole runs from its leftmost point straight to the left, to the nearest border. That border is the
    outer one or that of a hole which begins farther left: so the channels form a tree.
    """
    turned = shapely.geometry.polygon.orient(polygon)
    rings = [np.asarray(ring.coords)[:-1] for ring in (turned.exterior, *turned.interiors)]
    if len(rings) == 1:
        return rings[0]
    holes = [np.roll(ring, -int(np.lexsort((ring[:, 1], ring[:, 0]))[0]), axis=0) for ring in rings[1:]]
    rings = [rings[0], *holes]
    joins = _joins(rings)
    drawn: dict[int, Floats] = {}
    for child in sorted(range(1, len(rings)), key=lambda index: -rings[index][0, 0]):
        drawn[child] = _with_channels(rings[child], joins.get(child, []), drawn)
    return _with_channels(rings[0], joins.get(0, []), drawn)


Join = tuple[int, float, Floats, int]
"""Edge of the parent's ring, distance along it from its start (mm), point there, number of the child's ring."""


def _joins(rings: Sequence[Floats]) -> dict[int, list[Join]]:
    """Where the channel of each hole ends: by the number of the ring it ends on."""
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    owner = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    edge = np.concatenate([np.arange(len(ring)) for ring in rings])
    tree = shapely.STRtree(shapely.linestrings(np.stack([start, end], axis=1)))
    left = float(start[:, 0].min()) - 1.0
    joins: dict[int, list[Join]] = {}
    for child in range(1, len(rings)):
        x, y = rings[child][0]
        near = tree.query(shapely.linestrings([[left, y], [x, y]]))
        near = near[owner[near] != child]
        low, high = np.minimum(start[near, 1], end[near, 1]), np.maximum(start[near, 1], end[near, 1])
        near = near[(low <= y) & (y < high)]  # each vertex on the line counts once
        share = (y - start[near, 1]) / (end[near, 1] - start[near, 1])
        at = start[near, 0] + share * (end[near, 0] - start[near, 0])
        before = np.flatnonzero((at < x - TOUCHING_mm) | ((owner[near] == 0) & (at <= x + TOUCHING_mm)))
        if before.size:
            best = before[np.argmax(at[before])]
            corner, point = int(near[best]), np.array([at[best], y])
        else:  # lost to rounding: the nearest corner of the outer border will do
            outer = np.flatnonzero(owner == 0)
            corner = int(outer[np.argmin(np.hypot(start[outer, 0] - x, start[outer, 1] - y))])
            point = start[corner]
        along = float(np.linalg.norm(point - start[corner]))
        joins.setdefault(int(owner[corner]), []).append((int(edge[corner]), along, point, child))
    return joins


def _with_channels(ring: Floats, joins: Sequence[Join], drawn: dict[int, Floats]) -> Floats:
    """A ring with its channels: to the child's first point, round the child, and back."""
    if not joins:
        return ring
    parts, done = [], 0
    for edge, _, point, child in sorted(joins, key=lambda join: join[:2]):
        parts += [ring[done : edge + 1], point[None], drawn[child], drawn[child][:1], point[None]]
        done = edge + 1
    return np.concatenate([*parts, ring[done:]])
