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
FLAT = np.zeros((3, 3, 3), bool)
FLAT[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
"""Voxels of one plane are connected through their sides; planes are not connected."""
OFF_LINE_mm = 6.0
"""Largest distance of a slice's canal from a smooth line through all."""


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


def grown(mask: Mask, pixels: float) -> Mask:
    """Dilation by a disc, of one plane [y, x] or of each of a stack [z, y, x]."""
    if not mask.any():
        return mask.copy()
    # Row by row of the disc: what lies within sqrt(r² - dy²) pixels along x, moved by dy.
    wide = [mask.copy()]
    for dx in range(1, int(pixels) + 1):
        more = wide[-1].copy()
        more[..., dx:] |= mask[..., :-dx]
        more[..., :-dx] |= mask[..., dx:]
        wide.append(more)
    result = wide[-1].copy()
    for dy in range(1, int(pixels) + 1):
        row = wide[int(np.sqrt(pixels**2 - dy**2))]
        result[..., dy:, :] |= row[..., :-dy, :]
        result[..., :-dy, :] |= row[..., dy:, :]
    return result


def shrunk(mask: Mask, pixels: float) -> Mask:
    """Erosion by a disc, plane by plane; the image's edge is no edge of the mask."""
    return ~grown(~mask, pixels)


def opened(mask: Mask, pixels: float) -> Mask:
    """Erosion and dilation by a disc, plane by plane: what is thinner than it goes."""
    return grown(shrunk(mask, pixels), pixels)


def closed(mask: Mask, pixels: float) -> Mask:
    """Dilation and erosion by a disc, plane by plane: gaps narrower than it are filled."""
    filled: Mask = shrunk(grown(mask, pixels), pixels) | mask
    return filled


def filled(mask: Mask) -> Mask:
    """The mask with its holes, plane by plane: background that is not connected to the image's edge."""
    labels, number = ndimage.label(~mask, FLAT[1] if mask.ndim == 2 else FLAT)
    outside = np.zeros(number + 1, bool)
    for edge in (labels[..., 0, :], labels[..., -1, :], labels[..., 0], labels[..., -1]):
        outside[edge.ravel()] = True
    outside[0] = False  # the mask itself
    return ~outside[labels]


def volumes_cc(labels: NDArray[np.int32], voxel_cc: float) -> NDArray[np.float64]:
    """Volume of each label from 1 on."""
    return np.asarray(np.bincount(labels.ravel())[1:] * voxel_cc, np.float64)


def box_of(mask: Mask, pixels: int) -> tuple[slice, slice, slice]:
    """The bounding box of a stack's mask, wider by some pixels on each side where the image allows."""
    sides = []
    for axis, size in enumerate(mask.shape):
        others = tuple(other for other in range(3) if other != axis)
        held = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(max(0, int(held[0]) - pixels), min(size, int(held[-1]) + 1 + pixels)))
    return sides[0], sides[1], sides[2]


def largest(mask: Mask) -> Mask | None:
    """The largest connected region; None where the mask is empty."""
    labels, number = ndimage.label(mask)
    if not number:
        return None
    region: Mask = labels == 1 + int(np.argmax(volumes_cc(labels, 1.0)))
    return region


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
