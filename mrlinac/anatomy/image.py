"""Numbers on a grid: CT in HU, MR in arbitrary units, densities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid, Triple, frozen

Quantity = Literal["HU", "MR"]


@dataclass(frozen=True)
class Image:
    """A scalar image.

    Attributes
    ----------
    grid : Grid
    values : float32 array, shape ``grid.shape_zyx``, read-only
    quantity : {"HU", "MR"}
        What the values mean. MR never goes through an HU curve.
    unseen : bool array [z, y, x], read-only, or None
        Voxels that the scanner did not image, beyond the reconstruction circle or beside tilted slices. None: there are
        none.
    """

    grid: Grid
    values: NDArray[np.float32]
    quantity: Quantity = "HU"
    unseen: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", frozen(self.values, np.float32, "image", self.grid.shape_zyx))
        if self.unseen is not None and self.unseen.shape != self.grid.shape_zyx:
            raise ValueError(f"unseen {self.unseen.shape} is not on the image's grid {self.grid.shape_zyx}")

    def cropped(self, lower_xyz_mm: Triple, upper_xyz_mm: Triple) -> Image:
        """The part of the image whose voxels touch a box; the whole image where the box is larger.

        Parameters
        ----------
        lower_xyz_mm, upper_xyz_mm : tuple of float
            Corners of the box, in LPS.

        Returns
        -------
        Image
        """
        grid, part = self.grid.touching(lower_xyz_mm, upper_xyz_mm)
        return Image(grid, self.values[part], self.quantity, None if self.unseen is None else self.unseen[part])
