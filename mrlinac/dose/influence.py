"""Dose per MU of each column: beamlets, or segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.machine.delivery import Columns
from mrlinac.provenance import Provenance


@dataclass(frozen=True)
class Influence:
    """A sparse matrix: Gy per MU, of one fraction.

    Attributes
    ----------
    grid : Grid
        Row i is the voxel with flat index i of this grid.
    matrix : scipy.sparse.csc_array, float32, shape (grid.size, columns)
    columns : Columns
        What each column is the dose of.
    rel_sigma : float
        Mean relative standard deviation of the entries above half of their column's maximum.
    provenance : Provenance
    """

    grid: Grid
    matrix: sp.csc_array
    columns: Columns
    rel_sigma: float
    provenance: Provenance

    def __post_init__(self) -> None:
        expected = (self.grid.size, len(self.columns))
        if self.matrix.shape != expected:
            raise ValueError(f"influence is {self.matrix.shape}, expected {expected}")
        if self.matrix.dtype != np.float32:
            raise ValueError("an influence is float32")

    def dose_Gy(self, mu: NDArray[np.float64]) -> NDArray[np.float32]:
        """Dose of one fraction.

        Parameters
        ----------
        mu : float64 array, shape (columns,)
            MU of each column.

        Returns
        -------
        float32 array [z, y, x]
            Gy.
        """
        return (self.matrix @ np.asarray(mu, dtype=np.float32)).reshape(self.grid.shape_zyx)
