"""The one place that converts between voxel indices and millimetres.

World: DICOM patient coordinates LPS (+x left, +y posterior, +z head). Arrays are C-ordered ``[z, y, x]``;
a voxel's position is its centre; a flat index is the C-order ravel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """A regular, axis-aligned grid with increasing coordinates.

    Attributes
    ----------
    shape_zyx : tuple of int
        Number of voxels along z, y, x.
    spacing_zyx_mm : tuple of float
        Distance of voxel centres along z, y, x.
    origin_xyz_mm : tuple of float
        Centre of voxel ``[0, 0, 0]`` in LPS.
    """

    shape_zyx: tuple[int, int, int]
    spacing_zyx_mm: Triple
    origin_xyz_mm: Triple

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape_zyx", tuple(int(n) for n in self.shape_zyx))
        object.__setattr__(self, "spacing_zyx_mm", tuple(float(d) for d in self.spacing_zyx_mm))
        object.__setattr__(self, "origin_xyz_mm", tuple(float(o) for o in self.origin_xyz_mm))
        if len(self.shape_zyx) != 3 or min(self.shape_zyx) < 1:
            raise ValueError(f"a grid needs three positive sizes, not {self.shape_zyx}")
        if len(self.spacing_zyx_mm) != 3 or not min(self.spacing_zyx_mm) > 0:
            raise ValueError(f"a grid needs three positive spacings, not {self.spacing_zyx_mm}")
        if not np.all(np.isfinite(self.origin_xyz_mm + self.spacing_zyx_mm)):
            raise ValueError("a grid needs finite origin and spacing")

    @property
    def size(self) -> int:
        """Number of voxels."""
        nz, ny, nx = self.shape_zyx
        return nz * ny * nx

    @property
    def voxel_cc(self) -> float:
        """Volume of one voxel in cubic centimetres."""
        dz, dy, dx = self.spacing_zyx_mm
        return dz * dy * dx / 1000.0

    @property
    def x_mm(self) -> NDArray[np.float64]:
        """Centres along x, increasing."""
        return self.origin_xyz_mm[0] + self.spacing_zyx_mm[2] * np.arange(self.shape_zyx[2], dtype=np.float64)

    @property
    def y_mm(self) -> NDArray[np.float64]:
        """Centres along y, increasing."""
        return self.origin_xyz_mm[1] + self.spacing_zyx_mm[1] * np.arange(self.shape_zyx[1], dtype=np.float64)

    @property
    def z_mm(self) -> NDArray[np.float64]:
        """Centres along z, increasing."""
        return self.origin_xyz_mm[2] + self.spacing_zyx_mm[0] * np.arange(self.shape_zyx[0], dtype=np.float64)

    @property
    def lower_xyz_mm(self) -> Triple:
        """Outer corner of the first voxel."""
        (dz, dy, dx), (x, y, z) = self.spacing_zyx_mm, self.origin_xyz_mm
        return (x - dx / 2, y - dy / 2, z - dz / 2)

    @property
    def upper_xyz_mm(self) -> Triple:
        """Outer corner of the last voxel."""
        (dz, dy, dx), (nz, ny, nx), (x, y, z) = self.spacing_zyx_mm, self.shape_zyx, self.lower_xyz_mm
        return (x + nx * dx, y + ny * dy, z + nz * dz)

    def index_zyx(self, points_xyz_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional voxel indices (…, 3) ``z, y, x`` of points (…, 3) ``x, y, z`` in mm.

        Parameters
        ----------
        points_xyz_mm : float64 array, shape (…, 3)
            In LPS.

        Returns
        -------
        float64 array, shape (…, 3)
        """
        points = np.asarray(points_xyz_mm, dtype=float)
        spacing_xyz = np.array(self.spacing_zyx_mm[::-1])
        return ((points - np.array(self.origin_xyz_mm)) / spacing_xyz)[..., ::-1]

    def position_xyz_mm(self, index_zyx: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (…, 3) ``x, y, z`` in mm of (fractional) voxel indices (…, 3) ``z, y, x``.

        Parameters
        ----------
        index_zyx : float64 array, shape (…, 3)

        Returns
        -------
        float64 array, shape (…, 3)
            In LPS.
        """
        index = np.asarray(index_zyx, dtype=float)[..., ::-1]
        return index * np.array(self.spacing_zyx_mm[::-1]) + np.array(self.origin_xyz_mm)

    def padded(self, before_zyx: Sequence[int], after_zyx: Sequence[int]) -> Grid:
        """The same lattice with voxels added (or, negative, removed) before and after along each axis.

        Parameters
        ----------
        before_zyx, after_zyx : sequence of int
            Voxels added at the low and the high end of each axis.

        Returns
        -------
        Grid
        """
        shape = [n + b + a for n, b, a in zip(self.shape_zyx, before_zyx, after_zyx, strict=True)]
        dz, dy, dx = self.spacing_zyx_mm
        x, y, z = self.origin_xyz_mm
        bz, by, bx = before_zyx
        return Grid((shape[0], shape[1], shape[2]), self.spacing_zyx_mm, (x - bx * dx, y - by * dy, z - bz * dz))

    def touching(self, lower_xyz_mm: Triple, upper_xyz_mm: Triple) -> tuple[Grid, tuple[slice, slice, slice]]:
        """The part of the lattice whose voxels touch a box, and the slices ``[z, y, x]`` that cut it out of an array.

        Where the box is larger, the part ends with the grid.

        Parameters
        ----------
        lower_xyz_mm, upper_xyz_mm : tuple of float
            Corners of the box, in LPS.

        Returns
        -------
        part : Grid
        box : tuple of slice

        Raises
        ------
        ValueError
            When no voxel touches the box.
        """
        low = np.floor(self.index_zyx(np.array(lower_xyz_mm)) + 0.5).astype(int)
        high = np.ceil(self.index_zyx(np.array(upper_xyz_mm)) + 0.5).astype(int)
        shape = np.array(self.shape_zyx)
        low, high = np.clip(low, 0, shape), np.clip(high, 0, shape)
        if np.any(low >= high):
            raise ValueError("no voxel of the grid touches the box")
        part = self.padded((-low).tolist(), (high - shape).tolist())
        return part, (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))

    @classmethod
    def covering(cls, lower_xyz_mm: Sequence[float], upper_xyz_mm: Sequence[float], spacing_zyx_mm: Triple) -> Grid:
        """Smallest grid whose outer corners enclose a box; its centre is the box's centre.

        Parameters
        ----------
        lower_xyz_mm, upper_xyz_mm : sequence of float
            Corners of the box, in LPS.
        spacing_zyx_mm : tuple of float

        Returns
        -------
        Grid
        """
        lower, upper = np.asarray(lower_xyz_mm, float), np.asarray(upper_xyz_mm, float)
        spacing_xyz = np.array(spacing_zyx_mm[::-1], float)
        count = np.maximum(1, np.ceil((upper - lower) / spacing_xyz - 1e-9)).astype(int)
        first = (lower + upper) / 2 - (count - 1) / 2 * spacing_xyz
        nx, ny, nz = (int(n) for n in count)
        return cls((nz, ny, nx), spacing_zyx_mm, (float(first[0]), float(first[1]), float(first[2])))


def frozen(array: NDArray[Any], dtype: type, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read-only C-ordered view or copy of an array, with its shape checked; for the array nouns.

    Parameters
    ----------
    array : array
    dtype : type
    name : str
        For the message.
    shape : tuple of int

    Returns
    -------
    array
        Read-only.

    Raises
    ------
    ValueError
        The array has another shape.
    """
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    result: NDArray[Any] = np.ascontiguousarray(array, dtype=dtype)
    if result is array and array.flags.writeable:
        result = array.view()
    result.flags.writeable = False
    return result
