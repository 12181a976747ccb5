"""What is too little of a voxel to be anything."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TRACE = 1e-3
"""An occupancy below this is rounding, and so is one that differs less from 1: at 3 mm, a surface shifted by 3 µm,
below the 0.01 mm that contours are written with. Sums, products and differences of occupancies leave 1e-17 to 1e-6
behind; a voxel that counts for so little would give an organ a maximum from beyond its border."""


def without_traces(occupancy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Occupancy whose traces are nothing, and whose almost full voxels are full; a new array where any change."""
    traces = (occupancy < TRACE) & (occupancy != 0)
    almost = (occupancy > 1 - TRACE) & (occupancy != 1)
    if not traces.any() and not almost.any():
        return occupancy
    result = np.asarray(occupancy, np.float32).copy()
    result[traces] = 0.0
    result[almost] = 1.0
    return result
