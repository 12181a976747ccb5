"""Dose per MU of each beamlet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.machine.beams import BeamletMap
from mrlinac.provenance import Provenance


@dataclass(frozen=True)
class Influence:
    """A sparse matrix: Gy per MU, of one fraction.

    Attributes
    ----------
    grid : Grid
        Row i is the voxel with flat index i of this grid.
    matrix : scipy.sparse.csc_array, float32, shape (grid.size, beamlets)
        Column j is beamlet j: the maps' rows one after another.
    maps : tuple of BeamletMap
    rel_sigma : float
        Mean relative standard deviation of the entries above half of their column's maximum.
    provenance : Provenance
    """

    grid: Grid
    matrix: sp.csc_array
    maps: tuple[BeamletMap, ...]
    rel_sigma: float
    provenance: Provenance

    def __post_init__(self) -> None:
        beamlets = sum(len(m) for m in self.maps)
        if self.matrix.shape != (self.grid.size, beamlets):
            raise ValueError(f"influence is {self.matrix.shape}, expected {(self.grid.size, beamlets)}")
        if self.matrix.dtype != np.float32:
            raise ValueError("an influence is float32")

    def dose_Gy(self, mu: NDArray[np.float64]) -> NDArray[np.float32]:
        """Dose [z, y, x] of one fraction for MU per beamlet."""
        return (self.matrix @ np.asarray(mu, dtype=np.float32)).reshape(self.grid.shape_zyx)
