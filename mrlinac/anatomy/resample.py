"""Volume-weighted averages of one grid's voxels over another's: exact box overlap, one axis at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mrlinac.anatomy.grid import Grid

Floats = NDArray[np.float32]


class Resampler:
    """Averages over the voxels of ``target`` of values given on ``source``.

    What lies outside the source counts as zero, save along z with ``continue_ends``: there the first and the last
    slice are continued without end. Sums (value × volume) are conserved for everything inside the target.
    """

    def __init__(self, source: Grid, target: Grid, *, continue_ends: bool = False) -> None:
        self.source, self.target = source, target
        axes = ((target.z_mm, source.z_mm), (target.y_mm, source.y_mm), (target.x_mm, source.x_mm))
        self._along = [
            _shares(to, d_to, of, d_of, continue_ends and axis == 0)
            for axis, ((to, of), d_to, d_of) in enumerate(
                zip(axes, target.spacing_zyx_mm, source.spacing_zyx_mm, strict=True)
            )
        ]

    def __call__(self, values: Floats) -> Floats:
        """Average values [z, y, x]; float32."""
        if values.shape != self.source.shape_zyx:
            raise ValueError(f"values {values.shape} are not on the source grid {self.source.shape_zyx}")
        along_z, along_y, along_x = self._along
        nz, ny, nx = values.shape
        result = (along_x @ values.reshape(nz * ny, nx).T).T.reshape(nz, ny, -1)
        result = (along_z @ result.reshape(nz, -1)).reshape(-1, ny, result.shape[2])
        result = np.ascontiguousarray(np.swapaxes(result, 0, 1))
        result = (along_y @ result.reshape(ny, -1)).reshape(-1, *result.shape[1:])
        return np.ascontiguousarray(np.swapaxes(result, 0, 1), np.float32)


def _shares(to: NDArray[np.float64], d_to: float, of: NDArray[np.float64], d_of: float, continued: bool) -> csr_array:
    """Sparse matrix of the shares of each target interval that source intervals fill."""
    lower, upper = of - d_of / 2, of + d_of / 2
    if continued:
        lower[0], upper[-1] = min(lower[0], to[0] - d_to), max(upper[-1], to[-1] + d_to)
    common = np.minimum((to + d_to / 2)[:, None], upper) - np.maximum((to - d_to / 2)[:, None], lower)
    share = np.where(common > 1e-6 * d_to, common / d_to, 0.0)
    return csr_array(share.astype(np.float32))
