"""Which beamlets a beam needs to cover a target."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrlinac.anatomy.grid import Grid
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.model import Mlc


def beamlets_around(
    target: NDArray[np.float32], grid: Grid, beam: Beam, mlc: Mlc, travel_step_mm: float, margin_mm: float
) -> BeamletMap:
    """Beamlets whose area touches the target's projection, widened by a margin for the penumbra.

    Parameters
    ----------
    target : array [z, y, x]
        Occupancy; voxels of at least half are projected, by their eight corners.
    travel_step_mm : float
        Beamlet size along leaf travel; across it a beamlet is one leaf wide.
    margin_mm : float
        Widening of the projected voxel shadow on the isocentre plane.

    Returns
    -------
    BeamletMap
        In lexicographic order of the lattice (u, v), clipped to the field the collimator can open.

    Raises
    ------
    ValueError
        When the target is empty, or lies wholly outside the field the collimator can open.
    """
    inside = np.asarray(target) >= 0.5
    shell = inside & ~ndimage.binary_erosion(inside)  # the shell casts the same shadow as the body
    index = np.argwhere(shell).astype(float)
    if not len(index):
        raise ValueError("the target is empty on this grid")
    offsets = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    corners_uv = beam.project_uv_mm(grid.position_xyz_mm(index + offsets))  # (8, n, 2)
    lower, upper = corners_uv.min(0) - margin_mm, corners_uv.max(0) + margin_mm

    size = np.array(mlc.beamlet_size_uv_mm(travel_step_mm))
    first = np.floor(lower / size + 1e-9).astype(int)
    last = np.ceil(upper / size - 1e-9).astype(int) - 1
    limit = np.array(mlc.half_field_uv_mm)
    fits_low, fits_high = (
        np.ceil(-limit / size - 1e-9).astype(int),
        np.floor(limit / size + 1e-9).astype(int) - 1,
    )
    first, last = np.clip(first, fits_low, fits_high + 1), np.clip(last, fits_low - 1, fits_high)

    kept = np.all(first <= last, axis=1)
    if not kept.any():
        raise ValueError("the target lies outside the field that the collimator can open")
    first, last = first[kept], last[kept]

    base = first.min(0)
    open_ = np.zeros(np.maximum(last.max(0) - base + 2, 1), dtype=np.int32)
    # Mark rectangles by their corners and sum: the two-dimensional prefix sum of a difference array.
    np.add.at(open_, tuple((first - base).T), 1)
    np.add.at(open_, tuple((last + 1 - base).T), 1)
    np.add.at(open_, (first[:, 0] - base[0], last[:, 1] + 1 - base[1]), -1)
    np.add.at(open_, (last[:, 0] + 1 - base[0], first[:, 1] - base[1]), -1)
    lattice = np.argwhere(open_.cumsum(0).cumsum(1) > 0) + base
    return BeamletMap(beam, lattice.astype(np.int32), mlc.beamlet_size_uv_mm(travel_step_mm))
