"""Regions of voxels: opened, closed, grown and joined slice by slice, on averaged pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrlinac.anatomy.grid import Grid

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

WORKING_mm = 1.6
"""Pixels smaller than this are averaged two by two, or more."""
OFF_LINE_mm = 6.0
"""How far a slice's canal may lie from a smooth line through all."""


def pooled(grid: Grid, values: Floats) -> tuple[Grid, Floats]:
    """The image on pixels of at least :data:`WORKING_mm`, averaged; rows and columns left over are dropped."""
    n = max(1, round(WORKING_mm / grid.spacing_zyx_mm[2]))
    if n == 1:
        return grid, values
    nz, ny, nx = (grid.shape_zyx[0], grid.shape_zyx[1] // n, grid.shape_zyx[2] // n)
    mean = values[:, : ny * n, : nx * n].reshape(nz, ny, n, nx, n).mean(axis=(2, 4), dtype=np.float32)
    dz, dy, dx = grid.spacing_zyx_mm
    x, y, z = grid.origin_xyz_mm
    return Grid((nz, ny, nx), (dz, dy * n, dx * n), (x + (n - 1) / 2 * dx, y + (n - 1) / 2 * dy, z)), mean


def flat(iterations: int) -> Mask:
    """A cross in the plane, grown: one slice high."""
    cross = np.zeros((3, 3, 3), bool)
    cross[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    disc: Mask = ndimage.iterate_structure(cross, iterations) if iterations > 1 else cross
    return disc[disc.shape[0] // 2][None]


def grown(plane: Mask, pixels: float) -> Mask:
    """Dilation by a disc."""
    return plane.copy() if not plane.any() else ndimage.distance_transform_edt(~plane) <= pixels


def shrunk(plane: Mask, pixels: float) -> Mask:
    """Erosion by a disc; the image's edge is no edge of the mask."""
    padded = np.pad(plane, 1, mode="edge")
    if padded.all():
        return plane.copy()
    depth: Mask = ndimage.distance_transform_edt(padded)[1:-1, 1:-1] > pixels
    return depth


def opened(mask: Mask, pixels: float) -> Mask:
    """Erosion and dilation by a disc, slice by slice: what is thinner than it goes."""
    return np.stack([grown(shrunk(plane, pixels), pixels) for plane in mask])


def closed(plane: Mask, pixels: float) -> Mask:
    """Dilation and erosion by a disc: gaps narrower than it are filled."""
    found: Mask = shrunk(grown(plane, pixels), pixels) | plane
    return found


def largest(mask: Mask) -> Mask | None:
    """The largest connected region; None where the mask is empty."""
    labels, number = ndimage.label(mask)
    if not number:
        return None
    found: Mask = labels == 1 + int(np.argmax(ndimage.sum_labels(mask, labels, np.arange(1, number + 1))))
    return found


def consistent(holes: Sequence[Mask | None], pixel_mm: float) -> list[Mask | None]:
    """Leave out holes far from a smooth line through the others, or much smaller or larger than they are.

    The line is a parabola in each coordinate, fitted again and again without the hole that lies farthest from it.
    """
    known = [(z, hole) for z, hole in enumerate(holes) if hole is not None]
    centres = np.array([np.argwhere(hole).mean(axis=0) for _, hole in known]) * pixel_mm
    areas = np.array([hole.sum() for _, hole in known])
    kept = [n for n in range(len(known)) if 0.5 <= areas[n] / np.median(areas) <= 1.8]
    places = np.array([z for z, _ in known], float)
    while len(kept) >= 5:
        lines = [np.polynomial.Polynomial.fit(places[kept], centres[kept, axis], 2) for axis in (0, 1)]
        far = np.hypot(*(centres[kept, axis] - lines[axis](places[kept]) for axis in (0, 1)))
        if far.max() <= OFF_LINE_mm:
            chosen = {known[n][0] for n in kept}
            return [hole if z in chosen else None for z, hole in enumerate(holes)]
        kept.pop(int(np.argmax(far)))
    return [None] * len(holes)


def between(holes: Sequence[Mask | None], known: Sequence[int]) -> Mask:
    """Slices without a hole take the shape half-way between those about them; none beyond the first and the last."""
    depth = {}
    for z in known:
        hole = holes[z]
        assert hole is not None
        depth[z] = ndimage.distance_transform_edt(hole) - ndimage.distance_transform_edt(~hole)
    shape = (len(holes), *next(iter(depth.values())).shape)
    result = np.zeros(shape, bool)
    places = np.array(known)
    for z in range(places[0], places[-1] + 1):
        after = int(places[np.searchsorted(places, z)])
        before = int(places[np.searchsorted(places, z, side="right") - 1])
        share = 0.0 if after == before else (z - before) / (after - before)
        result[z] = (1 - share) * depth[before] + share * depth[after] > 0
    return result
