"""Dose between the voxels of its grid.

Along each axis the cubic through the four nearest voxels. A dose that is quadratic in each coordinate comes out exactly,
so that neither a peak between voxels is cut off nor a gradient made coarse. Beside a jump, as at the skin, nothing
overshoots: where a bend is large against the dose itself, it is at most twice that of the straighter neighbour, and none
where the two neighbours bend to opposite sides. A smaller bend is left alone, be it the dose's or its noise: what is
linear in the dose has no bias.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.dose.dose import Dose

Floats = NDArray[np.float64]

JUMP = (0.3, 0.6)
"""Bends over the dose between which the limit sets in: a few per cent of noise bend a dose less, the skin bends it more."""


def dose_on(dose: Dose, x_mm: Floats, y_mm: Floats, z_mm: Floats) -> NDArray[np.float32]:
    """Dose [z, y, x] in Gy at all crossings of three sets of coordinates; NaN outside the outermost voxels' edges."""
    axes = [_Axis(dose.grid, axis, places) for axis, places in enumerate((z_mm, y_mm, x_mm))]
    part = dose.dose_Gy[tuple(axis.used for axis in axes)].astype(np.float32)
    value = part
    # The finest axis last: the work grows with what has been refined so far.
    for number in sorted(range(3), key=lambda a: len(axes[a].place) / max(1, part.shape[a])):
        value = axes[number].between(value, number)
    for number, axis in enumerate(axes):
        np.moveaxis(value, number, 0)[~axis.inside] = np.nan
    return value


def resampled(dose: Dose, grid: Grid) -> NDArray[np.float32]:
    """Dose [z, y, x] in Gy on another grid; NaN outside; the dose itself where the grids are equal."""
    return dose.dose_Gy if grid == dose.grid else dose_on(dose, grid.x_mm, grid.y_mm, grid.z_mm)


class _Axis:
    """Where points lie along one axis of a grid, between which voxels."""

    def __init__(self, grid: Grid, axis: int, places_mm: Floats) -> None:
        count = grid.shape_zyx[axis]
        index = (np.asarray(places_mm, float) - grid.origin_xyz_mm[2 - axis]) / grid.spacing_zyx_mm[axis]
        self.inside = (index >= -0.5 - 1e-9) & (index <= count - 0.5 + 1e-9)
        index = np.clip(index, 0.0, count - 1.0)  # half a voxel beyond the outermost centres the dose is constant
        base = np.minimum(np.floor(index).astype(np.int64), max(count - 2, 0))
        first, last = max(int(base.min()) - 1, 0), min(int(base.max()) + 3, count)
        self.used = slice(first, last)
        self.place = base - first
        self.share = (index - base).astype(np.float32)
        self.count = last - first

    def between(self, values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        """Values at the points along this axis."""
        if self.count < 2:
            return np.take(values, self.place, axis)
        bend = np.zeros_like(values)
        along, inner = np.moveaxis(values, axis, 0), np.moveaxis(bend, axis, 0)
        inner[1:-1] = along[2:] - 2 * along[1:-1] + along[:-2]
        if self.count > 2:  # the grid's ends have the curvature of their neighbours
            inner[0], inner[-1] = inner[1], inner[-2]
        t = self.share.reshape([-1 if a == axis else 1 for a in range(3)])
        b, c = np.take(values, self.place, axis), np.take(values, self.place + 1, axis)
        left, right = np.take(bend, self.place, axis), np.take(bend, self.place + 1, axis)
        curved = (left * (2 - t) + right * (1 + t)) / 3  # the cubic through four voxels
        most = np.where(left * right > 0, 2 * np.minimum(np.abs(left), np.abs(right)), 0)
        curved += _jump(b, c, left, right) * (np.clip(curved, -most, most) - curved)
        return np.asarray(b + t * (c - b) - 0.5 * t * (1 - t) * curved, np.float32)


def _jump(
    b: NDArray[np.float32], c: NDArray[np.float32], left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """How much of the limit applies (0…1) between two voxels, by their doses and bends."""
    size = np.maximum(0.5 * (np.abs(b) + np.abs(c)), np.float32(1e-30))
    bend = np.maximum(np.abs(left), np.abs(right))
    return np.clip((bend / size - JUMP[0]) / np.float32(JUMP[1] - JUMP[0]), 0, 1)


CHUNK = 2_000
"""Points at a time: 64 voxels about each, which stay near the processor while every batch is read."""


def batches_at(dose: Dose, points_xyz_mm: Floats) -> NDArray[np.float32]:
    """Doses (batches, n) in Gy of each batch at points; 0 outside the grid.

    Between voxels they follow the same cubic as the dose of the run, bent where *it* is bent: so their mean is the dose
    that :func:`dose_on` gives, and a batch's noise is interpolated as the run's is.
    """
    assert dose.batches is not None
    grid, count = dose.grid, len(dose.batches)
    result = np.zeros((count, len(points_xyz_mm)), np.float32)
    index = np.asarray(grid.index_zyx(points_xyz_mm), float)
    inside = np.all((index >= -0.5 - 1e-9) & (index <= np.array(grid.shape_zyx) - 0.5 + 1e-9), axis=1)
    if not inside.any():
        return result
    part, first = _box_about(index[inside], grid.shape_zyx)
    box_Gy = dose.dose_Gy[part]
    flat = box_Gy.ravel()
    deviations = dose.batches.deviation[(slice(None), *part)].astype(np.float32).reshape(count, -1)
    places = np.flatnonzero(inside)
    for start in range(0, len(places), CHUNK):
        place = places[start : start + CHUNK]
        voxels, shares = _around(box_Gy.shape, index[place], first)
        block = flat[voxels].reshape(-1, 4, 4, 4)
        along_z = _weights(block, shares[:, 0])
        plane = np.einsum("nzyx,nzyx->nyx", block, along_z)
        along_y = _weights(plane, shares[:, 1])
        line = np.einsum("nyx,nyx->nx", plane, along_y)
        along_x = _weights(line, shares[:, 2])
        own = np.einsum("nx,nx->n", line, along_x)
        # What each voxel adds to the dose of the run: a batch adds as much more as it deviates there.
        parts = (block * along_z * along_y[:, None] * along_x[:, None, None]).reshape(-1, 64)
        for batch, deviation in enumerate(deviations):
            result[batch, place] = own + np.einsum("nv,nv->n", parts, deviation[voxels])
    return result


def _box_about(index_zyx: Floats, shape_zyx: tuple[int, int, int]) -> tuple[tuple[slice, ...], NDArray[np.int64]]:
    """The voxels from which points take their dose, and the first of them."""
    shape = np.array(shape_zyx)
    least, most = (
        np.floor(np.clip(edge, 0, shape - 1)).astype(np.int64) for edge in (index_zyx.min(0), index_zyx.max(0))
    )
    upper = np.minimum(most + 3, shape)
    # A point at or beyond the middle of the last voxel takes its dose from the three before, too.
    lower = np.maximum(np.minimum(least - 1, upper - 4), 0)
    return tuple(slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True)), lower


def _around(
    shape_zyx: tuple[int, ...], index_zyx: Floats, first_zyx: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Flat numbers (n, 64) in a box of the voxels about points, and their places (n, 3) between the middle two."""
    shape = np.array(shape_zyx)
    index = np.clip(index_zyx - first_zyx, 0.0, shape - 1.0)
    base = np.minimum(np.floor(index).astype(np.int64), np.maximum(shape - 2, 0))
    places = np.clip(base[:, :, None] + np.arange(-1, 3), 0, (shape - 1)[:, None])
    z, y, x = (places[:, axis] for axis in range(3))
    flat = (z[:, :, None, None] * shape[1] + y[:, None, :, None]) * shape[2] + x[:, None, None, :]
    return flat.reshape(-1, 64), (index - base).astype(np.float32)


def _weights(values: NDArray[np.float32], t: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights of four neighbours (axis 1) in the cubic between the middle two, as :class:`_Axis` bends it."""
    t = t.reshape(-1, *(1,) * (values.ndim - 2))
    a, b, c, d = (values[:, k] for k in range(4))
    left, right = a - 2 * b + c, b - 2 * c + d
    cubic = (left * (2 - t) + right * (1 + t)) / 3
    least = np.where(np.abs(left) <= np.abs(right), 1, 0).astype(np.float32)
    free = np.abs(cubic) <= 2 * np.minimum(np.abs(left), np.abs(right))
    bent = left * right > 0
    limit = _jump(b, c, left, right)
    of_left, of_right = (2 - t) / 3, (1 + t) / 3
    of_left = of_left + limit * (np.where(bent, np.where(free, of_left, 2 * least), 0) - of_left)
    of_right = of_right + limit * (np.where(bent, np.where(free, of_right, 2 * (1 - least)), 0) - of_right)
    half = 0.5 * t * (1 - t)
    return np.asarray(
        np.stack(
            [
                -half * of_left,
                1 - t + half * (2 * of_left - of_right),
                t + half * (2 * of_right - of_left),
                -half * of_right,
            ],
            axis=1,
        ),
        np.float32,
    )
