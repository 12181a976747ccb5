"""Voxels as mixtures by volume, so that every part brings its mass and nothing is counted twice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.materials import HuCurve
from mrlinac.anatomy.medium import Medium

Floats = NDArray[np.float32]


class Mixture:
    """Collects, voxel by voxel, parts of volume with their mass; what is left over in the end is air."""

    def __init__(self, grid: Grid, curve: HuCurve) -> None:
        self.grid, self.air_g_cm3 = grid, curve.air_g_cm3
        self.names = [curve.materials[0]]
        self.filled = np.zeros(grid.shape_zyx, np.float32)
        self.mass = np.zeros(grid.shape_zyx, np.float32)  # g/cm³ of the whole voxel
        self.heaviest = np.zeros(grid.shape_zyx, np.float32)
        self.material = np.zeros(grid.shape_zyx, np.uint8)

    def index_of(self, name: str) -> int:
        """Number of a material, new ones at the end."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def add(self, share: Floats, density_g_cm3: Floats | float, material: NDArray[np.uint8] | str) -> None:
        """Fill a share of each voxel, as far as there is room left."""
        share = np.clip(np.minimum(share, 1.0 - self.filled), 0.0, None)
        mass = share * np.asarray(density_g_cm3, np.float32)
        self.filled += share
        self.mass += mass
        heavier = mass > self.heaviest
        index = np.uint8(self.index_of(material)) if isinstance(material, str) else material
        self.material = np.where(heavier, index, self.material)
        self.heaviest = np.where(heavier, mass, self.heaviest)

    def medium(self) -> Medium:
        """Fill the rest with air; keep the materials that occur."""
        rest = np.clip(1.0 - self.filled, 0.0, None)
        self.add(rest, self.air_g_cm3, self.names[0])
        used = np.unique(np.concatenate([[0], np.unique(self.material)]))
        renumbered = np.zeros(len(self.names), np.uint8)
        renumbered[used] = np.arange(len(used), dtype=np.uint8)
        names = tuple(self.names[i] for i in used)
        return Medium(self.grid, self.mass, renumbered[self.material], names)


def total_cc(share: Floats, grid: Grid) -> float:
    """Volume of a share of each voxel."""
    return float(share.sum(dtype=np.float64)) * grid.voxel_cc
