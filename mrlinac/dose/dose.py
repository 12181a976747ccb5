"""Dose on a grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid, Triple, frozen
from mrlinac.provenance import Provenance


@dataclass(frozen=True)
class Dose:
    """Absorbed dose, to the medium where not said otherwise.

    Attributes
    ----------
    grid : Grid
    dose_Gy : float32 array [z, y, x], read-only
        Sum over ``fractions`` fractions.
    rel_sigma : float32 array [z, y, x] or None
        One standard deviation of each voxel, relative to that voxel's dose; None where unknown.
    fractions : int
        How many fractions the dose stands for; doses of different fractions do not mix.
    provenance : Provenance
    halves_Gy : tuple of two float32 arrays [z, y, x] or None
        Two independent half-runs, whose mean is the dose (but for an odd batch): they tell the noise of a metric.
    to : str
        What the dose is absorbed by: ``"medium"`` or ``"water"``.
    """

    grid: Grid
    dose_Gy: NDArray[np.float32]
    rel_sigma: NDArray[np.float32] | None
    fractions: int
    provenance: Provenance
    halves_Gy: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    to: Literal["medium", "water"] = "medium"

    def __post_init__(self) -> None:
        shape = self.grid.shape_zyx
        object.__setattr__(self, "dose_Gy", frozen(self.dose_Gy, np.float32, "dose", shape))
        if self.rel_sigma is not None:
            object.__setattr__(self, "rel_sigma", frozen(self.rel_sigma, np.float32, "rel_sigma", shape))
        if self.halves_Gy is not None:
            first, second = (frozen(half, np.float32, "half", shape) for half in self.halves_Gy)
            object.__setattr__(self, "halves_Gy", (first, second))
        if self.fractions < 1:
            raise ValueError("a dose stands for at least one fraction")

    def times(self, factor: float, *, fractions: int | None = None) -> Dose:
        """The dose scaled; ``fractions`` states what the scaled dose stands for (default: as before)."""
        scale = np.float32(factor)
        halves = None if self.halves_Gy is None else (self.halves_Gy[0] * scale, self.halves_Gy[1] * scale)
        return replace(self, dose_Gy=self.dose_Gy * scale, halves_Gy=halves, fractions=fractions or self.fractions)

    @property
    def half_doses(self) -> tuple[Dose, Dose] | None:
        """The two half-runs as doses of their own, without uncertainty; None where they are unknown."""
        if self.halves_Gy is None:
            return None
        first, second = self.halves_Gy
        return (
            replace(self, dose_Gy=first, rel_sigma=None, halves_Gy=None),
            replace(self, dose_Gy=second, rel_sigma=None, halves_Gy=None),
        )

    def course(self, fractions: int) -> Dose:
        """The dose of a whole course, from the dose of one fraction."""
        if self.fractions != 1:
            raise ValueError(f"a dose of {self.fractions} fractions cannot be repeated {fractions} times")
        return self.times(fractions, fractions=fractions)

    def cropped(self, lower_xyz_mm: Triple, upper_xyz_mm: Triple) -> Dose:
        """The part of the dose whose voxels touch a box."""
        grid, part = self.grid.touching(lower_xyz_mm, upper_xyz_mm)
        sigma = None if self.rel_sigma is None else self.rel_sigma[part]
        return replace(self, grid=grid, dose_Gy=self.dose_Gy[part], rel_sigma=sigma, halves_Gy=None)

    def mean_rel_sigma(self, above: float = 0.5) -> float:
        """Mean relative standard deviation of the voxels above a share of the maximum.

        The maximum is sought among voxels known to better than 50 %: a single track in air is not the maximum.
        """
        if self.rel_sigma is None:
            raise ValueError("this dose carries no uncertainty")
        known = self.rel_sigma < 0.5
        largest = float(self.dose_Gy.max(where=known, initial=0.0)) or float(self.dose_Gy.max())
        high = known & (self.dose_Gy > above * largest) if known.any() else self.dose_Gy > above * largest
        return float(self.rel_sigma[high].mean(dtype=np.float64))
