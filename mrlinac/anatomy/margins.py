"""Exact Euclidean margins on occupancies, finer than the voxel.

The surface is rebuilt inside each partly filled voxel (a plane that cuts off exactly its occupancy), sampled as small
discs, and every voxel near the new surface asks for its nearest disc. ``docs/theory/anatomy.md`` derives the steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.ndimage import maximum_filter1d
from scipy.spatial import cKDTree

from mrlinac import spec
from mrlinac.anatomy import surface
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.trace import without_traces

Floats = NDArray[np.float64]

SUBVOXEL_mm = 1.6
"""Voxels that the new surface crosses are divided into cells no larger than this."""

SMALLEST_AXIS_mm = 0.02
"""Stands for a margin of zero in one direction, where the other directions are not zero."""

QUERY_CHUNK = 200_000
PAIRS_CHUNK = 4_000


class SixMargins(spec.Spec):
    """Margins in the six directions of the patient, all outward or all inward.

    Attributes
    ----------
    left, right, anterior, posterior, superior, inferior : float
        In mm.
    inward : bool
        The structure shrinks by them.
    """

    left: float = Field(ge=0)
    right: float = Field(ge=0)
    anterior: float = Field(ge=0)
    posterior: float = Field(ge=0)
    superior: float = Field(ge=0)
    inferior: float = Field(ge=0)
    inward: bool = False


Margin = float | SixMargins


@dataclass(frozen=True)
class _Axes:
    """Semi-axes of the ellipsoid octants, x y z: towards positive and towards negative coordinates."""

    positive_mm: Floats
    negative_mm: Floats

    @property
    def symmetric(self) -> bool:
        return bool(np.allclose(self.positive_mm, self.negative_mm))

    def opposite(self) -> _Axes:
        return _Axes(self.negative_mm, self.positive_mm)


def expand(inside: NDArray[np.float32], grid: Grid, margin: Margin) -> NDArray[np.float32]:
    """Grow or shrink a structure by an exact Euclidean margin.

    Growing adds every point within the margin of the structure; shrinking removes every point within the margin of
    what is outside. Unequal directions make the margin an ellipsoid with its own semi-axis in each octant.

    Parameters
    ----------
    inside : float array [z, y, x] in 0…1
        Occupancy. Where it touches the grid's end it counts as continuing beyond it: there is no surface.
    grid : Grid
        Any spacing.
    margin : float or SixMargins
        In mm; a negative number (or ``inward``) shrinks.

    Returns
    -------
    float32 array [z, y, x] in 0…1
        Occupancy of the result. Growing never removes, shrinking never adds.
    """
    occupied = np.asarray(inside, np.float32)
    if occupied.shape != grid.shape_zyx:
        raise ValueError(f"occupancy {occupied.shape} is not the grid's {grid.shape_zyx}")
    axes, inward = _axes(margin)
    if axes is None:
        return without_traces(occupied)
    if inward:
        # What is outside grows; a point is lost if something outside lies within the margin of it, hence mirrored.
        lost = _grown(1.0 - occupied, grid, axes.opposite(), within=occupied > 0)
        return without_traces(np.minimum(occupied, 1.0 - lost))
    return without_traces(_grown(occupied, grid, axes, within=None))


def _axes(margin: Margin) -> tuple[_Axes | None, bool]:
    """Semi-axes and whether they point inward; None for a margin of zero."""
    if isinstance(margin, SixMargins):
        positive = np.array([margin.left, margin.posterior, margin.superior])  # LPS: +x left, +y posterior, +z head
        negative = np.array([margin.right, margin.anterior, margin.inferior])
        inward = margin.inward
    else:
        if not np.isfinite(margin):
            raise ValueError(f"a margin must be a number of millimetres, not {margin}")
        positive = negative = np.full(3, abs(float(margin)))
        inward = margin < 0
    if max(positive.max(), negative.max()) <= 0:
        return None, inward
    return _Axes(np.maximum(positive, SMALLEST_AXIS_mm), np.maximum(negative, SMALLEST_AXIS_mm)), inward


def _grown(
    occupied: NDArray[np.float32], grid: Grid, axes: _Axes, within: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Occupancy grown by the margin; only the voxels ``within`` are of interest."""
    result = occupied.copy()
    discs = surface.discs_of(occupied, grid)
    if len(discs.points_xyz_mm) == 0:
        return result
    near = _near(discs.voxel, grid, axes)
    near &= occupied < 1.0
    if within is not None:
        near &= within
    size = np.array(grid.spacing_zyx_mm[::-1])
    query = _Nearest(discs, axes, float(np.linalg.norm(size)) / 2)
    index = np.flatnonzero(near)
    for part in np.array_split(index, max(1, len(index) // QUERY_CHUNK)):
        result.ravel()[part] = np.maximum(occupied.ravel()[part], _filled(part, occupied, grid, size, query))
    return result


def _near(voxel: NDArray[np.int64], grid: Grid, axes: _Axes) -> NDArray[np.bool_]:
    """Voxels that the margin may reach: a box about every voxel of the surface."""
    near = np.zeros(grid.shape_zyx, np.uint8)
    near.ravel()[voxel] = 1
    reach_zyx = np.maximum(axes.positive_mm, axes.negative_mm)[::-1]
    for axis in range(3):
        voxels = int(np.ceil(reach_zyx[axis] / grid.spacing_zyx_mm[axis])) + 1
        near = maximum_filter1d(near, 2 * voxels + 1, axis=axis, mode="constant")
    return near.astype(bool)


def _filled(
    index: NDArray[np.int64], occupied: NDArray[np.float32], grid: Grid, size: Floats, query: _Nearest
) -> Floats:
    """Filled fraction of voxels: whole voxels where the surface is far, cells where it passes."""
    centre = grid.position_xyz_mm(np.stack(np.unravel_index(index, grid.shape_zyx), axis=-1).astype(float))
    partial = occupied.ravel()[index] > 0
    depth, _ = query.depth_mm(centre, partial)
    fraction = (depth > 0).astype(float)
    crossed = np.flatnonzero(_crosses(depth, size))
    cells = np.maximum(1, np.ceil(size / SUBVOXEL_mm - 1e-9)).astype(int)
    fraction[crossed] = _mean_of_cells(centre[crossed], partial[crossed], size, cells, query)
    return fraction


def _crosses(depth_mm: Floats, size: Floats) -> NDArray[np.bool_]:
    """Whether the surface may pass through boxes, by the depth of their middles.

    The depth changes by at most a millimetre per millimetre; the tenth is for the extent of a disc.
    """
    return np.abs(depth_mm) <= float(np.linalg.norm(size)) / 2 * 1.1


def _mean_of_cells(
    centre: Floats, partial: NDArray[np.bool_], size: Floats, cells: NDArray[np.int64], query: _Nearest
) -> Floats:
    """Filled fraction of boxes, the mean of so many cells along each axis; of many, blocks of two at first."""
    if len(centre) == 0:
        return np.zeros(0)
    blocks = np.where(cells >= 4, -(-cells // 2), 1)
    last = blocks.max() == 1
    counts = cells if last else blocks
    offsets = [((np.arange(n) + 0.5) / n - 0.5) * s for n, s in zip(counts, size, strict=True)]
    offset = np.stack(np.meshgrid(*offsets, indexing="ij"), axis=-1).reshape(-1, 3)
    middle = (centre[:, None, :] + offset).reshape(-1, 3)
    inherited = np.repeat(partial, len(offset))
    depth, normal = query.depth_mm(middle, inherited)
    if last:
        part = surface.filled_fraction(normal, depth, size / counts)
    else:
        part = (depth > 0).astype(float)
        crossed = np.flatnonzero(_crosses(depth, size / counts))
        within = np.where(blocks > 1, 2, cells)
        part[crossed] = _mean_of_cells(middle[crossed], inherited[crossed], size / counts, within, query)
    return np.asarray(part.reshape(len(centre), -1).mean(axis=1))


class _Nearest:
    """Signed depth of points inside the grown surface, from the discs of the original one."""

    def __init__(self, discs: surface.Discs, axes: _Axes, slack_mm: float) -> None:
        self.discs, self.axes = discs, axes
        scale = np.maximum(axes.positive_mm, axes.negative_mm)
        # With unequal opposite directions, all discs that can matter lie in an ellipsoid about the point.
        self.scale = scale if axes.symmetric else scale + 2 * slack_mm
        smallest = min(axes.positive_mm.min(), axes.negative_mm.min())
        self.sure = max(0.0, 1.0 - 1.1 * slack_mm / smallest)
        self.tree = cKDTree(discs.points_xyz_mm / self.scale)

    def depth_mm(self, points: Floats, may_lie_inside: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """How deep points lie inside the grown structure (negative: outside), and the surface's normal there.

        In units of the semi-axes the margin is a unit ball and the gauge g of a vector its length; a point is inside
        if g <= 1, and (1 − g) / |∇g| is its depth in mm: exact for equal margins and for flat surfaces.
        """
        nearest = self._nearest(points)
        vector = points - self.discs.points_xyz_mm[nearest]
        normal = self.discs.normals_xyz[nearest]
        semi = self._semi(vector)
        # A disc is as near as its nearest point: its radius comes off the sideways part of the scaled vector.
        scaled, scaled_normal = vector / semi, normal * semi
        scaled_normal /= np.linalg.norm(scaled_normal, axis=1, keepdims=True)
        height = np.einsum("ij,ij->i", scaled, scaled_normal)[:, None] * scaled_normal
        sideways = scaled - height
        length = np.linalg.norm(sideways * semi, axis=1)
        keep = np.maximum(0.0, 1.0 - self.discs.radius_mm[nearest] / np.maximum(length, 1e-12))
        scaled = height + sideways * keep[:, None]
        gauge = np.linalg.norm(scaled, axis=1)
        slope = scaled / semi / np.maximum(gauge, 1e-12)[:, None]
        steepness = np.maximum(np.linalg.norm(slope, axis=1), 1e-12)
        depth, direction = (1.0 - gauge) / steepness, slope / steepness[:, None]
        # Behind or on the original surface the depth counts along its own normal.
        behind = (may_lie_inside & (np.einsum("ij,ij->i", vector, normal) < 0)) | (gauge < 1e-6)
        support = np.linalg.norm(normal * self._semi(normal), axis=1)
        depth[behind] = (support - np.einsum("ij,ij->i", vector, normal))[behind]
        direction[behind] = normal[behind]
        return depth, direction

    def _semi(self, vector: Floats) -> Floats:
        semi: Floats = np.where(vector >= 0, self.axes.positive_mm, self.axes.negative_mm)
        return semi

    def _nearest(self, points: Floats) -> NDArray[np.int64]:
        nearest = np.asarray(self.tree.query(points / self.scale)[1], np.int64)
        if not self.axes.symmetric:
            # Deep inside by the first disc is deep inside by any; the others need the disc of least gauge.
            vector = points - self.discs.points_xyz_mm[nearest]
            unsure = np.flatnonzero(np.linalg.norm(vector / self._semi(vector), axis=1) > self.sure)
            for start in range(0, len(unsure), PAIRS_CHUNK):
                part = unsure[start : start + PAIRS_CHUNK]
                nearest[part] = self._least_gauge(points[part], nearest[part])
        return nearest

    def _least_gauge(self, points: Floats, nearest: NDArray[np.int64]) -> NDArray[np.int64]:
        """Discs of least gauge among all within reach; where none is, the given ones."""
        pairs = cKDTree(points / self.scale).sparse_distance_matrix(self.tree, 1.0, output_type="ndarray")
        if len(pairs) == 0:
            return nearest
        vector = points[pairs["i"]] - self.discs.points_xyz_mm[pairs["j"]]
        vector /= self._semi(vector)
        order = np.lexsort((np.einsum("ij,ij->i", vector, vector), pairs["i"]))
        first = order[np.unique(pairs["i"][order], return_index=True)[1]]
        result = nearest.copy()
        result[pairs["i"][first]] = pairs["j"][first]
        return result
