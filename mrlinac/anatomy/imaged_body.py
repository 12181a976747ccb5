"""The part of a CT under the calculation grid, and how much of each of its voxels the body fills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.contours import occupancy
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient


@dataclass(frozen=True)
class ImagedBody:
    """The image under the calculation grid, in x and y; all slices.

    Attributes
    ----------
    grid : Grid
        The image's own voxels.
    values : float32 array [z, y, x]
        HU of a CT.
    inside : float32 array [z, y, x]
        Part of each voxel inside the external; its end slices are continued.
    """

    grid: Grid
    values: NDArray[np.float32]
    inside: NDArray[np.float32]

    @classmethod
    def under(cls, grid: Grid, patient: Patient) -> ImagedBody:
        """The part of a patient's image under a calculation grid."""
        whole = patient.image.grid
        low = np.floor(whole.index_zyx(np.array(grid.lower_xyz_mm)) + 0.5).astype(int)
        high = np.ceil(whole.index_zyx(np.array(grid.upper_xyz_mm)) + 0.5).astype(int)
        _, ny, nx = whole.shape_zyx
        y0, y1 = int(np.clip(low[1], 0, ny - 1)), int(np.clip(high[1], 1, ny))
        x0, x1 = int(np.clip(low[2], 0, nx - 1)), int(np.clip(high[2], 1, nx))
        part = whole.padded((0, -y0, -x0), (0, y1 - ny, x1 - nx))
        inside = occupancy(patient.external, part, continued=(True, True))
        return cls(part, np.ascontiguousarray(patient.image.values[:, y0:y1, x0:x1]), inside)
