"""Dose on a grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlinac import notebook
from mrlinac.anatomy.grid import Grid, Triple, frozen
from mrlinac.provenance import Provenance


@dataclass(frozen=True)
class Batches:
    """What the independent parts of a Monte Carlo run gave, which tells the noise of anything read off the dose.

    Attributes
    ----------
    deviation : float16 array [batch, z, y, x], read-only
        Dose of each batch over the dose of the run, less one; 0 where the run gave nothing.
    primaries : tuple of int
        Of each batch: the dose of the run is their mean with these weights.
    """

    deviation: NDArray[np.float16]
    primaries: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = (len(self.primaries), *self.deviation.shape[1:])
        object.__setattr__(self, "deviation", frozen(self.deviation, np.float16, "batches", shape))
        if len(self.primaries) < 2 or min(self.primaries) < 1:
            raise ValueError("at least two batches of at least one primary tell the noise of a dose")

    def __len__(self) -> int:
        return len(self.primaries)


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
    batches : Batches or None
        The independent parts of its run, where they are known (:mod:`mrlinac.dose.noise`).
    to : str
        What the dose is absorbed by: ``"medium"`` or ``"water"``.
    """

    grid: Grid
    dose_Gy: NDArray[np.float32]
    rel_sigma: NDArray[np.float32] | None
    fractions: int
    provenance: Provenance
    batches: Batches | None = None
    to: Literal["medium", "water"] = "medium"

    def __post_init__(self) -> None:
        shape = self.grid.shape_zyx
        object.__setattr__(self, "dose_Gy", frozen(self.dose_Gy, np.float32, "dose", shape))
        if self.rel_sigma is not None:
            object.__setattr__(self, "rel_sigma", frozen(self.rel_sigma, np.float32, "rel_sigma", shape))
        if self.batches is not None and self.batches.deviation.shape[1:] != shape:
            raise ValueError(f"batches of {self.batches.deviation.shape[1:]} voxels for a dose of {shape}")
        if self.fractions < 1:
            raise ValueError("a dose stands for at least one fraction")

    def __repr__(self) -> str:
        """One line: the arrays are for numpy."""
        nz, ny, nx = self.grid.shape_zyx
        spacing = "×".join(f"{d:g}" for d in self.grid.spacing_zyx_mm[::-1])
        course = f"{self.fractions} fraction{'' if self.fractions == 1 else 's'}"
        known = self.rel_sigma is not None and self.dose_Gy.max() > 0
        noise = "" if not known else f", mean σ {100 * self.mean_rel_sigma():.2g} % above half of the maximum"
        size = f"{nx}×{ny}×{nz} voxels of {spacing} mm"
        return f"Dose({size}, up to {float(self.dose_Gy.max()):.4g} Gy in {course}, to {self.to}{noise})"

    def _repr_html_(self) -> str:
        return notebook.line(repr(self))

    def times(self, factor: float, *, fractions: int | None = None) -> Dose:
        """The dose scaled; ``fractions`` states what the scaled dose stands for (default: as before).

        Parameters
        ----------
        factor : float
        fractions : int, optional
            What the scaled dose stands for.

        Returns
        -------
        Dose
        """
        return replace(self, dose_Gy=self.dose_Gy * np.float32(factor), fractions=fractions or self.fractions)

    def course(self, fractions: int) -> Dose:
        """The dose of a whole course, from the dose of one fraction.

        Parameters
        ----------
        fractions : int

        Returns
        -------
        Dose

        Raises
        ------
        ValueError
            The dose stands for more than one fraction.
        """
        if self.fractions != 1:
            raise ValueError(f"a dose of {self.fractions} fractions cannot be repeated {fractions} times")
        return self.times(fractions, fractions=fractions)

    def cropped(self, lower_xyz_mm: Triple, upper_xyz_mm: Triple) -> Dose:
        """The part of the dose whose voxels touch a box.

        Parameters
        ----------
        lower_xyz_mm, upper_xyz_mm : tuple of float
            Corners of the box, in LPS.

        Returns
        -------
        Dose
        """
        grid, part = self.grid.touching(lower_xyz_mm, upper_xyz_mm)
        sigma = None if self.rel_sigma is None else self.rel_sigma[part]
        batches = self.batches and replace(self.batches, deviation=self.batches.deviation[(slice(None), *part)])
        return replace(self, grid=grid, dose_Gy=self.dose_Gy[part], rel_sigma=sigma, batches=batches)

    def mean_rel_sigma(self, above: float = 0.5) -> float:
        """Mean relative standard deviation of the voxels above a share of the maximum (:func:`mean_rel_sigma`).

        Parameters
        ----------
        above : float
            Share of the maximum.

        Returns
        -------
        float
        """
        if self.rel_sigma is None:
            raise ValueError("this dose carries no uncertainty")
        return mean_rel_sigma(self.dose_Gy, self.rel_sigma, above)


KNOWN_BELOW = 0.5
"""A voxel whose relative standard deviation is larger is not the maximum: a single track in air gives a high dose."""


def mean_rel_sigma(dose: NDArray[np.floating], rel_sigma: NDArray[np.floating], above: float = 0.5) -> float:
    """Mean relative standard deviation of the voxels above a share of the maximum: the one definition.

    Parameters
    ----------
    dose, rel_sigma : arrays of one shape
        In any unit of dose, and its standard deviation relative to each voxel's own dose.
    above : float
        Share of the maximum, which is sought among voxels known to better than :data:`KNOWN_BELOW`.

    Returns
    -------
    float
        Infinite where there is no dose.
    """
    known = rel_sigma < KNOWN_BELOW
    largest = float(dose.max(where=known, initial=0.0)) or float(dose.max(initial=0.0))
    high = dose > above * largest
    if known.any():
        high &= known
    return float(rel_sigma[high].mean(dtype=np.float64)) if high.any() else float("inf")
