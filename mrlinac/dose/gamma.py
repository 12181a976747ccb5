"""Gamma: how far one dose lies from another, in units of a dose and a distance that are to be tolerated.

Low et al. 1998 (Med Phys 25:656). The evaluated dose is searched, linear between its voxels, on a lattice of a tenth
of the distance criterion around every point of the reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mrlinac import jit
from mrlinac.anatomy.grid import Grid
from mrlinac.dose.dose import Dose
from mrlinac.errors import SpecError

STEPS = 10
"""Lattice points per distance criterion: what is missed between them is less than 0.1 in gamma."""
LARGEST = 2.0
"""Beyond this the search ends; such points have this value."""
CUTOFF_percent = 10.0
"""Points of the reference below this share of its maximum are not judged."""

_CRITERIA = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*/\s*(\d+(?:\.\d+)?)\s*mm\s*(local|global)?\s*")


@dataclass(frozen=True)
class Criteria:
    """``3%/2mm``: per cent of the maximum of the reference (or, ``local``, of each point), and a distance.

    Attributes
    ----------
    dose_percent : float
        Of the maximum of the reference; with ``local`` of each point.
    distance_mm : float
    local : bool
    cutoff_percent : float
        Points below this share of the maximum are not judged.
    """

    dose_percent: float
    distance_mm: float
    local: bool = False
    cutoff_percent: float = CUTOFF_percent

    def __str__(self) -> str:
        kind = "local" if self.local else "global"
        return f"{self.dose_percent:g} %/{self.distance_mm:g} mm, {kind}, above {self.cutoff_percent:g} %"


@dataclass(frozen=True)
class Gamma:
    """A gamma map on the reference's grid.

    Attributes
    ----------
    grid : Grid
    values : float32 array [z, y, x]
        NaN where nothing was judged; at most :data:`LARGEST`.
    criteria : Criteria
    """

    grid: Grid
    values: NDArray[np.float32]
    criteria: Criteria

    def passing_percent(self, where: NDArray[np.bool_] | None = None) -> float:
        """Share of the judged points, within a mask where given, with gamma of at most 1; NaN where none is.

        Parameters
        ----------
        where : bool array [z, y, x], optional

        Returns
        -------
        float
        """
        judged = self.values[np.isfinite(self.values) if where is None else np.isfinite(self.values) & where]
        return float(100 * np.mean(judged <= 1.0)) if judged.size else float("nan")

    @property
    def judged(self) -> int:
        """Number of points judged."""
        return int(np.isfinite(self.values).sum())

    @property
    def mean(self) -> float:
        """Mean gamma of the judged points."""
        return float(np.nanmean(self.values)) if self.judged else float("nan")


def parse_criteria(text: str) -> Criteria:
    """Read ``3%/2mm`` or ``2%/2mm local``.

    Parameters
    ----------
    text : str

    Returns
    -------
    Criteria

    Raises
    ------
    SpecError
        For anything else.
    """
    match = _CRITERIA.fullmatch(text)
    if match is None or float(match[1]) == 0 or float(match[2]) == 0:
        raise SpecError(f"gamma '{text}' is not understood; write 3%/2mm, or 2%/2mm local")
    return Criteria(float(match[1]), float(match[2]), match[3] == "local")


def gamma(reference: Dose, evaluated: Dose, criteria: Criteria) -> Gamma:
    """Gamma of every point of the reference above the cutoff.

    A point of the reference outside the evaluated grid is not judged.

    Parameters
    ----------
    reference, evaluated : Dose
        Of the same number of fractions.
    criteria : Criteria

    Returns
    -------
    Gamma
        On the reference's grid.
    """
    top = float(reference.dose_Gy.max())
    values = np.full(reference.grid.shape_zyx, np.nan, np.float32)
    at = np.argwhere(reference.dose_Gy >= max(criteria.cutoff_percent / 100 * top, 1e-9))
    if not len(at):
        return Gamma(reference.grid, values, criteria)
    grid = evaluated.grid
    place = np.ascontiguousarray(grid.index_zyx(reference.grid.position_xyz_mm(at.astype(np.float64))))
    dose = reference.dose_Gy[tuple(at.T)].astype(np.float64)
    scale = criteria.dose_percent / 100 * (dose if criteria.local else np.full_like(dose, top))
    offsets = _offsets()
    steps = np.ascontiguousarray(offsets[:, :3] * criteria.distance_mm / np.array(grid.spacing_zyx_mm))
    smallest_squared = np.empty(len(at))
    _search(evaluated.dose_Gy, place, dose, scale, steps, np.ascontiguousarray(offsets[:, 3]), smallest_squared)
    values[tuple(at.T)] = smallest_squared
    return Gamma(reference.grid, values, criteria)


@lru_cache(maxsize=1)
def _offsets() -> NDArray[np.float64]:
    """Lattice about the origin in units of the distance criterion: z, y, x and squared length, nearest first."""
    line = np.arange(-int(LARGEST * STEPS), int(LARGEST * STEPS) + 1) / STEPS
    points = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    squared = np.sum(points**2, axis=1)
    order = np.argsort(squared, kind="stable")
    order = order[squared[order] <= LARGEST**2 + 1e-9]
    return np.column_stack([points[order], squared[order]])


@jit.kernel
def _search(
    dose_Gy: NDArray[np.float32],
    place: NDArray[np.float64],
    wanted_Gy: NDArray[np.float64],
    scale_Gy: NDArray[np.float64],
    steps: NDArray[np.float64],
    squared: NDArray[np.float64],
    smallest_squared: NDArray[np.float64],
) -> None:
    """Smallest squared distance in dose and space of every point; its root goes to ``found``."""
    nz, ny, nx = dose_Gy.shape
    for i in range(len(wanted_Gy)):
        best = LARGEST * LARGEST
        for j in range(len(squared)):
            if squared[j] >= best:
                break
            z, y, x = place[i, 0] + steps[j, 0], place[i, 1] + steps[j, 1], place[i, 2] + steps[j, 2]
            if z < 0 or y < 0 or x < 0 or z > nz - 1 or y > ny - 1 or x > nx - 1:
                if j == 0:
                    best = np.nan
                    break
                continue
            k, m, n = min(int(z), nz - 2), min(int(y), ny - 2), min(int(x), nx - 2)
            k, m, n = max(k, 0), max(m, 0), max(n, 0)
            k1, m1, n1 = min(k + 1, nz - 1), min(m + 1, ny - 1), min(n + 1, nx - 1)
            fz, fy, fx = z - k, y - m, x - n
            low = (dose_Gy[k, m, n] * (1 - fx) + dose_Gy[k, m, n1] * fx) * (1 - fy)
            low += (dose_Gy[k, m1, n] * (1 - fx) + dose_Gy[k, m1, n1] * fx) * fy
            high = (dose_Gy[k1, m, n] * (1 - fx) + dose_Gy[k1, m, n1] * fx) * (1 - fy)
            high += (dose_Gy[k1, m1, n] * (1 - fx) + dose_Gy[k1, m1, n1] * fx) * fy
            gap = (low * (1 - fz) + high * fz - wanted_Gy[i]) / scale_Gy[i]
            total = gap * gap + squared[j]
            best = min(best, total)
        smallest_squared[i] = np.sqrt(best)
