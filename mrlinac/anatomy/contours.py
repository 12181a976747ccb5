"""From drawn contours to occupancy on a grid, and back.

A contour stands for a slab about its plane; inside it, the loops of the plane combine by the even–odd rule, so that
holes, keyholes and separate parts need no orientation. ``docs/theory/anatomy.md`` states the conventions.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import contourpy
import numpy as np
import shapely
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Roi, Role, Structure, StructureSet
from mrlinac.anatomy.trace import without_traces
from mrlinac.errors import DataError

Floats = NDArray[np.float64]

PLANE_TOLERANCE_mm = 0.01
"""Contours nearer than this along z lie in one plane."""

FILLED_GAP_SLICES = 3.5
"""Drawn planes that overlap in x–y belong to one part of a structure up to this many slice spacings apart."""

FILLED_GAP_mm = 20.0
"""A longer gap is not a forgotten plane, however thick the slices."""

ONE_MISSING_SLICES = 2.2
"""Up to this many slice spacings one plane is missing; across a longer gap loops must be as wide as :data:`WIDE_ENOUGH`."""

WIDE_ENOUGH = 0.5
"""Smallest width of loops that continue through a gap, as a share of it: a marker of 4 mm does not continue for 9 mm."""

SCANLINE_mm = 0.05
"""Largest distance of the scanlines that measure the area; along a scanline the coverage is exact."""

CHUNK_VOXELS = 4_000_000
"""Working set of the rasteriser, in voxels of a plane's bounding box."""


@dataclass(frozen=True)
class Parts:
    """How the planes of a structure are connected along z.

    Attributes
    ----------
    count : int
        Of parts with nothing between them.
    filled_planes : int
        Planes without a contour that their neighbours stand for.
    lone : int
        Planes without a near neighbour.
    """

    count: int
    filled_planes: int
    lone: int


@dataclass(frozen=True)
class _Slab:
    lower_mm: float
    upper_mm: float
    loops: tuple[Floats, ...]


def occupancy(roi: Roi, grid: Grid, *, continued: tuple[bool, bool] = (False, False)) -> NDArray[np.float32]:
    """Fraction of each voxel that lies inside a drawn structure.

    Parameters
    ----------
    roi : Roi
    grid : Grid
        Any grid; its planes need not be those of the contours. What lies outside the grid is cut off.
    continued : tuple of bool
        Whether the first (lowest z) and the last contour are continued to the ends of the grid.

    Returns
    -------
    float32 array [z, y, x] in 0…1
    """
    result = np.zeros(grid.shape_zyx, np.float32)
    slabs = _slabs(roi)
    if not slabs:
        return result
    weights = _slab_weights(slabs, grid, continued)
    used = np.flatnonzero(weights.any(axis=0))
    box = _box_yx([loop for p in used for loop in slabs[p].loops], grid)
    if box is None:
        return result
    rows, columns = box
    chunk = max(1, CHUNK_VOXELS // ((rows.stop - rows.start) * (columns.stop - columns.start)))
    for start in range(0, len(used), chunk):
        planes = used[start : start + chunk]
        covered = _coverage([slabs[p].loops for p in planes], grid, rows, columns)
        layers = np.flatnonzero(weights[:, planes].any(axis=1))
        part = np.tensordot(weights[np.ix_(layers, planes)].astype(np.float32), covered, axes=1)
        result[layers, rows, columns] += part
    return without_traces(np.clip(result, 0.0, 1.0, out=result))


def polygon_volume_cc(roi: Roi) -> float:
    """Volume of the drawn polygons: even–odd area of each plane times the thickness it stands for."""
    return sum((slab.upper_mm - slab.lower_mm) * _area_mm2(slab.loops) for slab in _slabs(roi)) / 1000.0


def rasterise(
    rois: Mapping[str, Roi], grid: Grid, *, continue_external: tuple[bool, bool] = (True, True)
) -> StructureSet:
    """Put drawn structures on a grid.

    Parameters
    ----------
    rois : mapping from name to Roi
    grid : Grid
    continue_external : tuple of bool
        Whether the body goes on below its first and above its last contour, to the grid's ends: it does
        wherever the scan cuts the body. All other structures end with their last slab.

    Raises
    ------
    DataError
        When a structure has no contours, or none of it lies in the grid: all such structures at once.
    """
    structures: dict[str, Structure] = {}
    problems = []
    for name, roi in rois.items():
        continued = continue_external if roi.role == "external" else (False, False)
        inside = occupancy(roi, grid, continued=continued)
        if not inside.any():
            reason = "lies outside the grid" if roi.contours else "has no contours"
            problems.append(f"'{name}' {reason}: leave it out, or draw it anew")
            continue
        structures[name] = Structure(
            name,
            roi.role,
            inside,
            polygon_volume_cc(roi),
            derived=roi.derived,
            drawn=roi,
            continued_cc=_continued_cc(roi, grid, continued),
        )
    if problems:
        raise DataError("structures that cannot be put on the grid:" + "".join(f"\n  - {p}" for p in problems))
    return StructureSet(grid, structures)


def _continued_cc(roi: Roi, grid: Grid, continued: tuple[bool, bool]) -> float:
    """Volume that a structure has on a grid only because it is continued to the grid's ends."""
    slabs = _slabs(roi)
    below = max(0.0, slabs[0].lower_mm - grid.lower_xyz_mm[2]) if continued[0] else 0.0
    above = max(0.0, grid.upper_xyz_mm[2] - slabs[-1].upper_mm) if continued[1] else 0.0
    return (below * _area_mm2(slabs[0].loops) + above * _area_mm2(slabs[-1].loops)) / 1000.0


def contours_of(
    inside: NDArray[np.float32],
    grid: Grid,
    name: str,
    role: Role,
    *,
    planes_z_mm: Sequence[float] | None = None,
    original_name: str = "",
    color_rgb: tuple[int, int, int] = (128, 128, 128),
) -> Roi:
    """Draw the contours of an occupancy, for structures that software derived.

    Iso-lines are drawn in each plane between the voxel centres. One level serves the whole structure, near 0.5, and
    chosen so that the polygons have the volume of the occupancy.

    Parameters
    ----------
    inside : float array [z, y, x]
        Occupancy.
    grid : Grid
    name, role, original_name, color_rgb
        As in :class:`Roi`.
    planes_z_mm : sequence of float, optional
        Evenly spaced planes to draw in, such as the CT's slices; default: the grid's own. The occupancy of a plane
        is the average over its slab.

    Returns
    -------
    Roi
        With ``derived`` set.
    """
    z = grid.z_mm if planes_z_mm is None else np.sort(np.asarray(planes_z_mm, float))
    spacing = grid.spacing_zyx_mm[0] if len(z) < 2 else float(np.median(np.diff(z)))
    stack = np.asarray(inside, np.float32)
    if planes_z_mm is not None:
        edges = (z - spacing / 2, z + spacing / 2)
        share = _overlap(edges, _edges(grid.z_mm, grid.spacing_zyx_mm[0])) / spacing
        stack = np.tensordot(share.astype(np.float32), stack, axes=1)
    generators = [_lines_of(plane, grid) if plane.max(initial=0) > 0 else None for plane in stack]
    wanted_cc = float(stack.sum(dtype=float)) * spacing * grid.voxel_cc / grid.spacing_zyx_mm[0]

    def drawn(level: float) -> Roi:
        contours = tuple(
            Contour(float(z_mm), loop)
            for z_mm, generator in zip(z, generators, strict=True)
            if generator is not None
            for loop in _closed(generator, level)
        )
        return Roi(name, role, contours, spacing, original_name or name, True, color_rgb)

    # The volume falls with the level. The bracket keeps the line within a third of a voxel of the half level.
    low, high = 0.3, 0.7
    for _ in range(7):
        level = (low + high) / 2
        if polygon_volume_cc(drawn(level)) > wanted_cc:
            low = level
        else:
            high = level
    return drawn((low + high) / 2)


def _lines_of(plane: NDArray[np.float32], grid: Grid) -> contourpy.ContourGenerator:
    """Iso-line generator of a plane with a border of zeros, so that every line closes."""
    dy, dx = grid.spacing_zyx_mm[1:]
    x = np.concatenate([[grid.x_mm[0] - dx], grid.x_mm, [grid.x_mm[-1] + dx]])
    y = np.concatenate([[grid.y_mm[0] - dy], grid.y_mm, [grid.y_mm[-1] + dy]])
    return contourpy.contour_generator(x, y, np.pad(plane, 1))


def _closed(generator: contourpy.ContourGenerator, level: float) -> list[Floats]:
    lines = [np.asarray(line, float)[:-1] for line in generator.lines(level)]
    return [line for line in lines if len(line) >= 3]


Plane = tuple[float, list[Floats]]


def planes_of(contours: Sequence[Contour]) -> list[Plane]:
    """The planes of contours, lowest first, each with its loops."""
    ordered = sorted((c for c in contours if len(c.points_xy_mm) >= 3), key=lambda c: c.z_mm)
    planes: list[Plane] = []
    for contour in ordered:
        if planes and contour.z_mm - planes[-1][0] < PLANE_TOLERANCE_mm:
            planes[-1][1].append(contour.points_xy_mm)
        else:
            planes.append((contour.z_mm, [contour.points_xy_mm]))
    return planes


def parts_of(roi: Roi) -> Parts:
    """How the planes of a structure are connected along z."""
    planes = planes_of(roi.contours)
    linked = _linked(planes, roi.slice_spacing_mm)
    gaps = np.diff([z for z, _ in planes])
    filled = sum(round(float(gap) / roi.slice_spacing_mm) - 1 for gap in gaps[linked] if gap > roi.slice_spacing_mm)
    lone = sum(not below and not above for below, above in itertools.pairwise([False, *linked, False]))
    return Parts(len(planes) - sum(linked), filled, lone)


def continues(loops: Sequence[Floats], further: Sequence[Floats], gap_mm: float) -> bool:
    """Whether the loops of one plane continue through a gap to those of another: they overlap and are wide enough."""
    wide = min(max(float(np.ptp(loop, axis=0).max()) for loop in plane) for plane in (loops, further))
    return wide >= WIDE_ENOUGH * gap_mm and _overlapping(loops, further)


def _linked(planes: Sequence[Plane], spacing_mm: float) -> list[bool]:
    """For each plane but the last whether nothing lies between it and the next."""
    return [_link(here, there, spacing_mm) for here, there in itertools.pairwise(planes)]


def _link(here: Plane, there: Plane, spacing_mm: float) -> bool:
    gap = there[0] - here[0]
    if gap <= spacing_mm + PLANE_TOLERANCE_mm:
        return True
    if gap <= ONE_MISSING_SLICES * spacing_mm and gap <= FILLED_GAP_mm:
        return _overlapping(here[1], there[1])
    return gap <= min(FILLED_GAP_SLICES * spacing_mm, FILLED_GAP_mm) and continues(here[1], there[1], gap)


def _slabs(roi: Roi) -> list[_Slab]:
    """The planes of a structure, lowest first, each with the slab it stands for.

    A slab is the slice spacing thick, but meets its neighbour half-way where the next plane is nearer, or where
    planes are missing between two that overlap: there the nearer plane stands for the missing ones. A plane without
    a near neighbour stands for one slice of the image.
    """
    planes = planes_of(roi.contours)
    linked = [False, *_linked(planes, roi.slice_spacing_mm), False]
    slabs = []
    for i, (z, loops) in enumerate(planes):
        below, above = linked[i], linked[i + 1]
        end = roi.slice_spacing_mm / 2
        if not below and not above:
            end = (roi.lone_slice_mm or roi.slice_spacing_mm) / 2
        elif roi.ends == "at-contour":
            end = 0.0
        lower = (planes[i - 1][0] + z) / 2 if below else z - end
        upper = (z + planes[i + 1][0]) / 2 if above else z + end
        slabs.append(_Slab(lower, upper, tuple(loops)))
    return slabs


def _overlapping(a: Sequence[Floats], b: Sequence[Floats]) -> bool:
    """Whether the bounding rectangles of two planes' loops overlap."""
    first, second = np.concatenate(a), np.concatenate(b)
    return bool(np.all(first.min(axis=0) < second.max(axis=0)) and np.all(second.min(axis=0) < first.max(axis=0)))


SAME_AREA = 1e-6
"""A loop that only touches itself has the area of its corners' formula to this share."""


def area_of(points_xy_mm: Floats) -> shapely.Geometry:
    """What a loop encloses; where it crosses itself, its parts count by the even–odd rule.

    A loop that only touches itself, as a keyhole does along its channel, has the area that its corners give. Where rounding
    makes the even–odd rule miss that (a part between two channels lost), GEOS's way by structure finds it.
    """
    area = shapely.Polygon(points_xy_mm)
    if area.is_valid:
        return area
    mended = _polygons(shapely.make_valid(area))
    by_corners = area.area  # of the exterior ring, by its corners, valid or not
    if abs(mended.area - by_corners) > SAME_AREA * by_corners:
        whole = _polygons(shapely.make_valid(area, method="structure", keep_collapsed=False))
        if abs(whole.area - by_corners) <= SAME_AREA * by_corners:
            return whole
    return mended


def _polygons(area: shapely.Geometry) -> shapely.Geometry:
    """An area without degenerate lines, such as those of a keyhole's channel."""
    if area.geom_type == "GeometryCollection":
        return shapely.union_all([part for part in area.geoms if part.geom_type.endswith("Polygon")])
    return area


def even_odd(loops: Sequence[Floats]) -> shapely.Geometry:
    """The area inside an odd number of loops; joined in pairs, then pairs of pairs, to save time."""
    parts = [area_of(loop) for loop in loops]
    while len(parts) > 1:
        pairs = zip(parts[::2], [*parts[1::2], None], strict=False)
        parts = [area if other is None else shapely.symmetric_difference(area, other) for area, other in pairs]
    return parts[0] if parts else shapely.Polygon()


def _area_mm2(loops: Sequence[Floats]) -> float:
    return float(even_odd(loops).area)


def _edges(centres_mm: Floats, spacing_mm: float) -> tuple[Floats, Floats]:
    return centres_mm - spacing_mm / 2, centres_mm + spacing_mm / 2


def _overlap(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> Floats:
    """Lengths (n, m) that n intervals have in common with m intervals."""
    upper = np.minimum(first[1][:, None], second[1][None, :])
    lower = np.maximum(first[0][:, None], second[0][None, :])
    common: Floats = np.maximum(upper - lower, 0.0)
    return common


def _slab_weights(slabs: Sequence[_Slab], grid: Grid, continued: tuple[bool, bool]) -> Floats:
    """Share (z, plane) of each grid layer that each slab fills."""
    lower = np.array([s.lower_mm for s in slabs])
    upper = np.array([s.upper_mm for s in slabs])
    if continued[0]:
        lower[0] = min(lower[0], grid.lower_xyz_mm[2])
    if continued[1]:
        upper[-1] = max(upper[-1], grid.upper_xyz_mm[2])
    dz = grid.spacing_zyx_mm[0]
    weights = _overlap(_edges(grid.z_mm, dz), (lower, upper)) / dz
    weights[weights < 1e-6] = 0.0  # planes that touch a layer through rounding only
    return weights


def _box_yx(loops: Sequence[Floats], grid: Grid) -> tuple[slice, slice] | None:
    """Rows and columns of the grid that the loops reach, or None."""
    if not loops:
        return None
    points = np.concatenate(loops)
    dy, dx = grid.spacing_zyx_mm[1:]
    slices = []
    for axis, step, count in ((1, dy, grid.shape_zyx[1]), (0, dx, grid.shape_zyx[2])):
        edge = grid.lower_xyz_mm[axis]
        first = int(np.clip(np.floor((points[:, axis].min() - edge) / step), 0, count))
        last = int(np.clip(np.ceil((points[:, axis].max() - edge) / step), 0, count))
        slices.append(slice(first, last))
    rows, columns = slices
    return (rows, columns) if rows.stop > rows.start and columns.stop > columns.start else None


def _coverage(planes: Sequence[Sequence[Floats]], grid: Grid, rows: slice, columns: slice) -> NDArray[np.float32]:
    """Covered fraction [plane, y, x] of each pixel of a box, by scanlines whose spans are measured exactly."""
    dy, dx = grid.spacing_zyx_mm[1:]
    lines = int(max(8, np.ceil(dy / SCANLINE_mm)))  # per row
    ny, nx = rows.stop - rows.start, columns.stop - columns.start
    origin = np.array([grid.lower_xyz_mm[0] + columns.start * dx, grid.lower_xyz_mm[1] + rows.start * dy])
    scale = np.array([1 / dx, lines / dy])
    loops = [(loop - origin) * scale - (0.0, 0.5) for plane in planes for loop in plane]
    plane_of_loop = np.repeat(np.arange(len(planes)), [len(plane) for plane in planes])
    start = np.concatenate(loops)
    end = np.concatenate([np.roll(loop, -1, axis=0) for loop in loops])
    plane = np.repeat(plane_of_loop, [len(loop) for loop in loops])

    # Scanline j (at v = j) crosses an edge if min(v) <= j < max(v): each vertex is counted once.
    first = np.ceil(np.minimum(start[:, 1], end[:, 1])).astype(np.int64)
    last = np.ceil(np.maximum(start[:, 1], end[:, 1])).astype(np.int64)
    first, last = np.clip(first, 0, ny * lines), np.clip(last, 0, ny * lines)
    count = last - first
    edge = np.repeat(np.arange(len(start)), count)
    line = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    share = (line - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
    u = np.clip(start[edge, 0] + share * (end[edge, 0] - start[edge, 0]), 0.0, nx)

    # Closed loops cross a scanline an even number of times: in order, every other crossing enters (even–odd rule).
    key = plane[edge] * (ny * lines) + line
    order = np.lexsort((u, key))
    u, row = u[order], key[order] // lines
    sign = np.where(np.arange(len(u)) % 2 == 0, 1.0, -1.0)
    column = np.minimum(np.floor(u).astype(np.int64), nx)
    inside_next = sign * (u - column)
    at = row * (nx + 2) + column
    size = len(planes) * ny * (nx + 2)
    steps = np.bincount(at, sign - inside_next, size) + np.bincount(at + 1, inside_next, size)
    covered = np.cumsum(steps.reshape(len(planes), ny, nx + 2), axis=2)[:, :, :nx] / lines
    return covered.astype(np.float32)
