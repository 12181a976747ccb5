"""What the beam goes through: mass density and material per voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid, frozen


@dataclass(frozen=True)
class Medium:
    """Density and material on the calculation grid.

    Attributes
    ----------
    grid : Grid
    density_g_cm3 : float32 array [z, y, x], read-only
    material : uint8 array [z, y, x], read-only
        Index into ``materials``.
    materials : tuple of str
        Names in ``mrlinac/data/materials.toml``, or definitions (:class:`~mrlinac.anatomy.materials.OwnMaterial`).
    """

    grid: Grid
    density_g_cm3: NDArray[np.float32]
    material: NDArray[np.uint8]
    materials: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = self.grid.shape_zyx
        object.__setattr__(self, "density_g_cm3", frozen(self.density_g_cm3, np.float32, "density", shape))
        object.__setattr__(self, "material", frozen(self.material, np.uint8, "material", shape))
        if self.material.size and int(self.material.max()) >= len(self.materials):
            raise ValueError("a material index exceeds the list of materials")
        if not np.all(self.density_g_cm3 >= 0):
            raise ValueError("a density is negative or not a number")
