"""The surface of an occupancy, rebuilt inside the voxels.

Each partly filled voxel gets the plane that cuts off exactly its occupancy, with the normal taken from its neighbours
(piecewise linear interface construction). Flat surfaces come out exactly where they were drawn.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.trace import TRACE

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

DISC_SPACING_mm = 1.6
"""Planes are sampled at least this finely."""

FLATTEST = 1e-4
"""Smallest relative component of a normal in the volume formula, which divides by all three."""


@dataclass(frozen=True)
class Discs:
    """Small flat pieces of a surface, all arrays of the same length.

    Attributes
    ----------
    points_xyz_mm : float64 array (n, 3)
    normals_xyz : float64 array (n, 3)
        Unit vectors that point out of the structure.
    radius_mm : float64 array (n,)
    voxel : int64 array (n,)
        Flat index of the voxel in which, or on whose face, the disc lies.
    """

    points_xyz_mm: Floats
    normals_xyz: Floats
    radius_mm: Floats
    voxel: Indices


def discs_of(occupied: NDArray[np.float32], grid: Grid) -> Discs:
    """Sample the surface of an occupancy. Where it touches the grid's end there is no surface."""
    parts = [_plane_discs(occupied, grid), *(_face_discs(occupied, grid, axis) for axis in range(3))]
    return Discs(
        np.concatenate([p.points_xyz_mm for p in parts]),
        np.concatenate([p.normals_xyz for p in parts]),
        np.concatenate([p.radius_mm for p in parts]),
        np.concatenate([p.voxel for p in parts]),
    )


def filled_fraction(normals_xyz: Floats, depth_mm: Floats, size_xyz_mm: Floats) -> Floats:
    """Fraction of boxes that lies behind planes.

    Parameters
    ----------
    normals_xyz : float array (n, 3)
        Unit vectors out of the filled side.
    depth_mm : float array (n,)
        Signed distance from the box's centre to the plane, along the normal.
    size_xyz_mm : float array (3,)
        Edges of the box.
    """
    lean = _lean(np.abs(normals_xyz) * size_xyz_mm)
    total = np.sum(np.abs(normals_xyz) * size_xyz_mm, axis=1)
    return _cut_off(lean, depth_mm / total + 0.5)


def normals_of(occupied: NDArray[np.float32], grid: Grid, voxel: Indices) -> Floats:
    """Outward unit normals at voxels, from differences over the 26 neighbours (weights 1 2 1 across)."""
    zyx = np.unravel_index(voxel, grid.shape_zyx)
    gradient = np.zeros((len(voxel), 3))
    for step in itertools.product((-1, 0, 1), repeat=3):
        at = tuple(np.clip(i + s, 0, n - 1) for i, s, n in zip(zyx, step, grid.shape_zyx, strict=True))
        value = occupied[at]
        for axis in range(3):
            if step[axis]:
                others = sum(step[other] == 0 for other in range(3) if other != axis)
                gradient[:, 2 - axis] += step[axis] * 2.0**others * value
    normal = -gradient / np.array(grid.spacing_zyx_mm[::-1])
    length = np.linalg.norm(normal, axis=1)
    lost = length < 1e-9
    normal[lost] = (0.0, 0.0, 1.0)  # a speck or a sheet thinner than a voxel has no side
    length[lost] = 1.0
    return normal / length[:, None]


def _lean(weights: Floats) -> Floats:
    """Components of the plane's equation in a unit cube, positive, with sum one."""
    lean = np.maximum(weights, FLATTEST * weights.sum(axis=1, keepdims=True))
    return lean / lean.sum(axis=1, keepdims=True)


def _cut_off(lean: Floats, level: Floats) -> Floats:
    """Volume of the part of a unit cube where lean · ξ < level: Scardovelli and Zaleski, J. Comput. Phys. 164:228."""
    level = np.clip(level, 0.0, 1.0)
    low = np.minimum(level, 1.0 - level)  # symmetric about the centre; the small side keeps the digits
    volume = low**3
    for i in range(3):
        volume -= np.maximum(0.0, low - lean[:, i]) ** 3
        volume += np.maximum(0.0, low - (1.0 - lean[:, i])) ** 3
    volume /= 6.0 * lean.prod(axis=1)
    return np.where(level <= 0.5, volume, 1.0 - volume)


def _level_for(lean: Floats, fraction: Floats) -> Floats:
    """The level that cuts off a given fraction, by bisection."""
    low, high = np.zeros(len(fraction)), np.ones(len(fraction))
    for _ in range(20):
        middle = (low + high) / 2
        below = _cut_off(lean, middle) < fraction
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _plane_discs(occupied: NDArray[np.float32], grid: Grid) -> Discs:
    """Discs on the planes through partly filled voxels."""
    voxel = np.flatnonzero((occupied > TRACE) & (occupied < 1.0 - TRACE))
    size = np.array(grid.spacing_zyx_mm[::-1])
    normal = normals_of(occupied, grid, voxel)
    weights = np.abs(normal) * size
    lean = _lean(weights)
    level = _level_for(lean, occupied.ravel()[voxel].astype(float))
    depth = (level - 0.5) * weights.sum(axis=1)  # of the plane beyond the voxel's centre
    centre = grid.position_xyz_mm(np.stack(np.unravel_index(voxel, grid.shape_zyx), axis=-1).astype(float))

    steep = np.argmax(np.abs(normal), axis=1)
    points, normals, radii, voxels = [], [], [], []
    sampled = np.zeros(len(voxel), bool)
    for axis in range(3):
        chosen = np.flatnonzero(steep == axis)
        offset, radius = _columns(size, axis)
        n, here = normal[chosen], np.repeat(chosen, len(offset))
        # Height of the plane along its steepest axis over each column of the voxel.
        height = (depth[chosen, None] - n @ offset.T) / n[:, [axis]]
        keep = (np.abs(height) <= size[axis] / 2 * 1.05).ravel()
        at = np.tile(offset, (len(chosen), 1))
        at[:, axis] = height.ravel()
        sampled[here[keep]] = True
        points.append(centre[here[keep]] + at[keep])
        normals.append(normal[here[keep]])
        radii.append(np.full(int(keep.sum()), radius))
        voxels.append(voxel[here[keep]])
    rest = np.flatnonzero(~sampled)  # planes that only cut off a corner or an edge
    points.append(centre[rest] + _cut_centre(normal[rest], depth[rest], size))
    normals.append(normal[rest])
    radii.append(np.zeros(len(rest)))
    voxels.append(voxel[rest])
    return Discs(np.concatenate(points), np.concatenate(normals), np.concatenate(radii), np.concatenate(voxels))


def _columns(size: Floats, axis: int) -> tuple[Floats, float]:
    """Offsets (n, 3) of columns along an axis from the voxel's centre, and the radius of a disc in one."""
    counts = [1 if i == axis else int(np.ceil(size[i] / DISC_SPACING_mm - 1e-9)) for i in range(3)]
    lines = [((np.arange(n) + 0.5) / n - 0.5) * s for n, s in zip(counts, size, strict=True)]
    offsets = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets[:, axis] = 0.0
    return offsets, float(min(size[i] / counts[i] for i in range(3) if i != axis)) / 2


def _cut_centre(normal: Floats, depth: Floats, size: Floats) -> Floats:
    """Mean of the points where planes cross the edges of the box, relative to its centre."""
    total, count = np.zeros((len(normal), 3)), np.zeros(len(normal))
    for axis in range(3):
        others = [i for i in range(3) if i != axis]
        for signs in itertools.product((-0.5, 0.5), repeat=2):
            point = np.zeros((len(normal), 3))
            point[:, others] = np.array(signs) * size[others]
            along = normal[:, axis]
            safe = np.where(np.abs(along) < 1e-9, 1e-9, along)
            point[:, axis] = (depth - np.einsum("ij,ij->i", point, normal)) / safe
            hit = np.abs(point[:, axis]) <= size[axis] / 2
            total[hit] += point[hit]
            count += hit
    fallback = normal * depth[:, None]
    return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], fallback)


def _face_discs(occupied: NDArray[np.float32], grid: Grid, axis_zyx: int) -> Discs:
    """Discs on the faces between full and empty voxels that are neighbours along an axis."""
    full, empty = occupied >= 1.0 - TRACE, occupied <= TRACE
    before = tuple(slice(None, -1) if a == axis_zyx else slice(None) for a in range(3))
    after = tuple(slice(1, None) if a == axis_zyx else slice(None) for a in range(3))
    axis = 2 - axis_zyx
    size = np.array(grid.spacing_zyx_mm[::-1])
    offset, radius = _columns(size, axis)
    step = np.zeros(3)
    step[axis] = size[axis] / 2
    points, normals, voxels = [], [], []
    for sign, faces in ((1.0, full[before] & empty[after]), (-1.0, empty[before] & full[after])):
        index = np.argwhere(faces)
        centre = grid.position_xyz_mm(index.astype(float)) + step
        points.append((centre[:, None, :] + offset).reshape(-1, 3))
        normals.append(np.tile(np.eye(3)[axis] * sign, (len(index) * len(offset), 1)))
        flat = np.ravel_multi_index(tuple(index.T), grid.shape_zyx) if len(index) else np.zeros(0, np.int64)
        voxels.append(np.repeat(flat, len(offset)))
    point = np.concatenate(points)
    return Discs(point, np.concatenate(normals), np.full(len(point), radius), np.concatenate(voxels))
