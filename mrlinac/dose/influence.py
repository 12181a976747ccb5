"""Dose per MU of each column: beamlets, or segments."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    matrix : scipy.sparse.csc_array, float32, shape (grid.size, columns), or of what columns are combined from
    columns : Columns
        What each column is the dose of.
    combined : scipy.sparse.csc_array, float64, shape (columns of the matrix, columns), or None
        Where columns are combinations of the matrix's: how much of each, as of beamlets in a segment.
    rel_sigma : float
        Mean relative standard deviation of the entries above half of their column's maximum.
    provenance : Provenance
    """

    grid: Grid
    matrix: sp.csc_array
    columns: Columns
    rel_sigma: float
    provenance: Provenance
    combined: sp.csc_array | None = None

    def __post_init__(self) -> None:
        if self.combined is not None and self.combined.shape[1] != len(self.columns):
            raise ValueError(f"{self.combined.shape[1]} combinations stand for {len(self.columns)} columns")
        expected = (self.grid.size, len(self.columns) if self.combined is None else self.combined.shape[0])
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
        of_matrix = mu if self.combined is None else self.combined @ mu
        return (self.matrix @ np.asarray(of_matrix, dtype=np.float32)).reshape(self.grid.shape_zyx)

    def combination(self, columns: Columns, combined: sp.csc_array) -> Influence:
        """The influence of columns that are combinations of this one's.

        Parameters
        ----------
        columns : Columns
        combined : csc_array, shape (columns of this influence, columns)

        Returns
        -------
        Influence
            On the same matrix.
        """
        whole = combined if self.combined is None else sp.csc_array(self.combined @ combined)
        return replace(self, columns=columns, combined=whole)
