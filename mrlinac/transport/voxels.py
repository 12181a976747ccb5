"""The medium as kernels see it: which voxel a point is in, and what is there.

Coordinates are in mm from the grid's lower corner. Nothing is allocated here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlinac.jit import device

MATERIAL_BITS = 63
EVEN_BIT = 64
CODE_SHIFT, DENSITY_SHIFT = 7, 6  # a code's upper bits are those of the density as float32, less the lowest six


class Geometry(NamedTuple):
    """The medium as kernels see it."""

    shape: NDArray[np.int64]  # nx, ny, nz
    size: NDArray[np.float64]  # mm, x y z
    spacing: NDArray[np.float64]  # mm, x y z
    inverse_spacing: NDArray[np.float64]  # per mm, x y z
    inverse_majorant: NDArray[
        np.float32
    ]  # [place, row] in mm: Woodcock's mean free path outside and in the dense box
    dense_box: NDArray[np.float64]  # mm: lower corner, upper corner; empty where upper <= lower
    field: NDArray[np.float64]  # unit vector, then rad MeV per mm: 0.2998 B
    shortest_mm: NDArray[np.float64]  # shortest side of a voxel


@device
def voxel_at(x, y, z, geometry):
    """Flat index of the voxel at a point, −1 outside."""
    if not (x >= 0.0 and y >= 0.0 and z >= 0.0):
        return -1
    i = int(x * geometry.inverse_spacing[0])
    j = int(y * geometry.inverse_spacing[1])
    k = int(z * geometry.inverse_spacing[2])
    if i >= geometry.shape[0] or j >= geometry.shape[1] or k >= geometry.shape[2]:
        return -1
    return (k * geometry.shape[1] + j) * geometry.shape[0] + i


@device
def material_of(code):
    """Material index of a voxel's code."""
    return np.int64(code & np.uint32(MATERIAL_BITS))


@device
def even_near(code):
    """Whether the densities of the voxel's neighbourhood are alike."""
    return code & np.uint32(EVEN_BIT) != np.uint32(0)


@device
def density_of(code):
    """Density of a voxel's code, to 4e-6 of it."""
    return np.float64(np.uint32((code >> np.uint32(CODE_SHIFT)) << np.uint32(DENSITY_SHIFT)).view(np.float32))
