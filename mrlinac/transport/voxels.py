"""The medium as kernels see it: which voxel a point is in, and what is there.

Coordinates are in mm from the grid's lower corner. A voxel's *place* is its index in an array of bricks: 2 × 2 × 2 voxels
stand together, so that with eight bytes a voxel a brick is one line of the processor's cache, and a track finds its
next voxel there whichever way it runs. Kernels allocate nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlinac.jit import device

MATERIAL_BITS = 63
FINE_BIT, EVEN_BIT = 64, 128
KIND_BITS = MATERIAL_BITS | FINE_BIT  # where these are the same, an electron's tables are
CODE_SHIFT, DENSITY_SHIFT = 8, 7  # a code's upper bits are those of the density as float32, less the lowest seven


class Geometry(NamedTuple):
    """The medium as kernels see it."""

    shape: NDArray[np.int64]  # nx, ny, nz
    bricks: NDArray[np.int64]  # along x, y, z; an odd row of voxels has one more, which nothing enters
    size: NDArray[np.float64]  # mm, x y z
    spacing: NDArray[np.float64]  # mm, x y z
    inverse_spacing: NDArray[np.float64]  # per mm, x y z
    inverse_majorant: NDArray[
        np.float32
    ]  # [place, row] in mm: Woodcock's mean free path outside and in the dense box
    sieve: NDArray[np.uint8]  # by place, in 255ths: no collision there is real with a larger chance, at any energy
    dense_box: NDArray[np.float64]  # mm: lower corner, upper corner; empty where upper <= lower
    field: NDArray[np.float64]  # unit vector, then rad MeV per mm: 0.2998 B
    shortest_mm: NDArray[np.float64]  # shortest side of a voxel


@device
def voxel_at(x, y, z, geometry):
    """Place of the voxel at a point, −1 outside."""
    if not (x >= 0.0 and y >= 0.0 and z >= 0.0):
        return -1
    i = int(x * geometry.inverse_spacing[0])
    j = int(y * geometry.inverse_spacing[1])
    k = int(z * geometry.inverse_spacing[2])
    if i >= geometry.shape[0] or j >= geometry.shape[1] or k >= geometry.shape[2]:
        return -1
    return place_of(i, j, k, geometry)


@device
def place_of(i, j, k, geometry):
    """Place of the voxel in column i, row j, slice k."""
    brick = ((k >> 1) * geometry.bricks[1] + (j >> 1)) * geometry.bricks[0] + (i >> 1)
    return (brick << 3) | ((k & 1) << 2) | ((j & 1) << 1) | (i & 1)


@device
def material_of(code):
    """Material index of a voxel's code."""
    return np.int64(code & np.uint32(MATERIAL_BITS))


@device
def even_near(code):
    """Whether the densities of the voxel's neighbourhood are alike."""
    return code & np.uint32(EVEN_BIT) != np.uint32(0)


@device
def kind_of(code):
    """What an electron's tables depend on: the material, and whether steps are fine here."""
    return code & np.uint32(KIND_BITS)


@device
def is_fine(code):
    """Whether a voxel lies so near a face to air or a big step of density that electrons are followed finely."""
    return code & np.uint32(FINE_BIT) != np.uint32(0)


@device
def density_of(code):
    """Density of a voxel's code, to 8e-6 of it."""
    return np.float64(np.uint32((code >> np.uint32(CODE_SHIFT)) << np.uint32(DENSITY_SHIFT)).view(np.float32))


def to_bricks(values: NDArray[Any]) -> NDArray[Any]:
    """An array [z, y, x] by place; what an odd row lacks is 0."""
    padded = np.pad(values, [(0, n % 2) for n in values.shape])
    nz, ny, nx = (n // 2 for n in padded.shape)
    return np.ascontiguousarray(padded.reshape(nz, 2, ny, 2, nx, 2).transpose(0, 2, 4, 1, 3, 5)).reshape(-1)


def from_bricks(values: NDArray[Any], shape_zyx: Sequence[int]) -> NDArray[Any]:
    """What lies by place as an array [z, y, x]."""
    nz, ny, nx = ((n + 1) // 2 for n in shape_zyx)
    whole = values.reshape(nz, ny, nx, 2, 2, 2).transpose(0, 3, 1, 4, 2, 5).reshape(2 * nz, 2 * ny, 2 * nx)
    return np.ascontiguousarray(whole[tuple(slice(n) for n in shape_zyx)])


def flat_index(shape_zyx: Sequence[int]) -> NDArray[np.int32]:
    """Flat index [z, y, x] of the voxel at each place; 0 for a place without one."""
    return to_bricks(np.arange(np.prod(shape_zyx), dtype=np.int32).reshape(*shape_zyx))
