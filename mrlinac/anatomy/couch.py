"""The machine's couch under the patient, in place of the imaged one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.mixture import Mixture, total_cc
from mrlinac.anatomy.position import SIDES
from mrlinac.anatomy.structures import Roi
from mrlinac.errors import DataError
from mrlinac.notes import Note


@dataclass(frozen=True)
class CouchGeometry:
    """A flat couch: layers from the top down, along all of z.

    Attributes
    ----------
    layers : sequence of (thickness_mm, density_g_cm3, material)
    width_mm : float
    top_mm : float
        Where its top lies on the axis that gravity follows.
    midline_mm : float
        Where its middle lies on the axis across it: x under a patient on the back or the belly, else y.
    below : (axis, sign)
        Which way is down in patient coordinates (:func:`mrlinac.anatomy.position.lies_on`): ``(1, 1)`` is +y, a supine
        patient's back.
    """

    layers: Sequence[tuple[float, float, str]]
    width_mm: float
    top_mm: float
    midline_mm: float = 0.0
    below: tuple[int, int] = (1, 1)

    @property
    def thickness_mm(self) -> float:
        """Of all layers."""
        return float(sum(thickness for thickness, _, _ in self.layers))

    def extent_xy_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest x, y."""
        axis, sign = self.below
        low, high = np.full(2, self.midline_mm - self.width_mm / 2), np.full(2, self.midline_mm + self.width_mm / 2)
        low[axis], high[axis] = sorted((self.top_mm, self.top_mm + sign * self.thickness_mm))
        return low, high


def lowest_mm(external: Roi, below: tuple[int, int]) -> float:
    """The external's lowest point on the axis that gravity follows.

    Parameters
    ----------
    external : Roi
    below : (axis, sign)
        Which way is down, as :attr:`CouchGeometry.below`.

    Returns
    -------
    float
        mm, in LPS.
    """
    axis, sign = below
    return float(external.extent_xy_mm()[0 if sign < 0 else 1][axis])


def add_couch(mixture: Mixture, couch: CouchGeometry | None, external: Roi, grid: Grid) -> list[Note]:
    """Insert the layers; the body keeps its part of shared voxels.

    Parameters
    ----------
    mixture : Mixture
        On ``grid``; takes the layers.
    couch : CouchGeometry or None
    external : Roi
        The body's outline: a couch that it does not touch is worth a warning.
    grid : Grid

    Returns
    -------
    list of Note

    Raises
    ------
    DataError
        The couch does not fit the grid.
    """
    if couch is None:
        return [Note("warning", "no couch: the skin below sees air, which in a magnetic field is wrong")]
    axis, sign = couch.below
    top = couch.top_mm
    low, high = couch.extent_xy_mm()
    if np.any(low < grid.lower_xyz_mm[:2]) or np.any(high > grid.upper_xyz_mm[:2]):
        raise DataError(
            f"the couch (x {low[0]:g} … {high[0]:g}, y {low[1]:g} … {high[1]:g} mm) does not fit the grid; make it with "
            "calculation_grid()"
        )
    centres, steps = (grid.x_mm, grid.y_mm), grid.spacing_zyx_mm[:0:-1]
    across = _interval(centres[1 - axis], steps[1 - axis], low[1 - axis], high[1 - axis])
    before = mixture.filled.copy()
    depth = 0.0
    for thickness, density, material in couch.layers:
        edges = sorted((top + sign * depth, top + sign * (depth + thickness)))
        down = _interval(centres[axis], steps[axis], edges[0], edges[1])
        plane = down[:, None] * across[None, :] if axis == 1 else across[:, None] * down[None, :]
        mixture.add(np.broadcast_to(plane, grid.shape_zyx).astype(np.float32), density, material)
        depth += thickness
    lost = couch.width_mm * couch.thickness_mm * grid.shape_zyx[0] * grid.spacing_zyx_mm[0] / 1000
    lost -= total_cc(mixture.filled - before, grid)
    where = "" if couch.below == (1, 1) else f" on the patient's {SIDES[couch.below]} side"
    notes = [
        Note(
            "done", f"couch of {couch.thickness_mm:g} mm inserted{where} with its top at {'xy'[axis]} = {top:.1f} mm"
        )
    ]
    reach = sign * (lowest_mm(external, couch.below) - top)
    if reach > 1.0:
        text = f"the external reaches {reach:.1f} mm into the couch; the body keeps {lost:.0f} cc"
        notes.append(Note("warning", text))
    elif reach < -1.0:
        notes.append(Note("warning", f"there are {-reach:.1f} mm of air between external and couch"))
    return notes


def _interval(centres_mm: NDArray[np.float64], step_mm: float, low_mm: float, high_mm: float) -> NDArray[np.float64]:
    """Share of each interval of a lattice that lies between two coordinates."""
    common = np.minimum(centres_mm + step_mm / 2, high_mm) - np.maximum(centres_mm - step_mm / 2, low_mm)
    share: NDArray[np.float64] = np.clip(common / step_mm, 0.0, 1.0)
    return share
