"""The machine's couch under the patient, in place of the imaged one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.mixture import Mixture, total_cc
from mrlinac.anatomy.patient import Note, Patient
from mrlinac.errors import DataError


@dataclass(frozen=True)
class CouchGeometry:
    """A flat couch: layers from the top down, along all of z.

    Attributes
    ----------
    layers : sequence of (thickness_mm, density_g_cm3, material)
    width_mm : float
    midline_x_mm : float
    top_y_mm : float or None
        None: in contact, at the external's posterior-most point.
    """

    layers: Sequence[tuple[float, float, str]]
    width_mm: float
    midline_x_mm: float = 0.0
    top_y_mm: float | None = None

    @property
    def thickness_mm(self) -> float:
        """Of all layers."""
        return float(sum(thickness for thickness, _, _ in self.layers))

    def top_of_mm(self, patient: Patient) -> float:
        """Where the couch's top lies under a patient."""
        if self.top_y_mm is not None:
            return self.top_y_mm
        return float(patient.external.extent_xy_mm()[1][1])


def add_couch(mixture: Mixture, couch: CouchGeometry | None, patient: Patient, grid: Grid) -> list[Note]:
    """Insert the layers; the body keeps its part of shared voxels."""
    if couch is None:
        return [Note("warning", "no couch: posterior skin sees air, which in a magnetic field is wrong")]
    top = couch.top_of_mm(patient)
    half = couch.width_mm / 2
    low, high = grid.lower_xyz_mm, grid.upper_xyz_mm
    fits_x = low[0] <= couch.midline_x_mm - half and couch.midline_x_mm + half <= high[0]
    if not fits_x or not (low[1] <= top and top + couch.thickness_mm <= high[1]):
        raise DataError(
            f"the couch (x {couch.midline_x_mm - half:g} … {couch.midline_x_mm + half:g}, "
            f"y {top:g} … {top + couch.thickness_mm:g} mm) does not fit the grid; make it with calculation_grid()"
        )
    across = _interval(grid.x_mm, grid.spacing_zyx_mm[2], couch.midline_x_mm - half, couch.midline_x_mm + half)
    before = mixture.filled.copy()
    y = top
    for thickness, density, material in couch.layers:
        down = _interval(grid.y_mm, grid.spacing_zyx_mm[1], y, y + thickness)
        share = np.broadcast_to((down[:, None] * across[None, :]), grid.shape_zyx).astype(np.float32)
        mixture.add(share, density, material)
        y += thickness
    lost = couch.width_mm * couch.thickness_mm * grid.shape_zyx[0] * grid.spacing_zyx_mm[0] / 1000
    lost -= total_cc(mixture.filled - before, grid)
    posterior = float(patient.external.extent_xy_mm()[1][1])
    notes = [Note("done", f"couch of {couch.thickness_mm:g} mm inserted with its top at y = {top:.1f} mm")]
    if posterior - top > 1.0:
        text = f"the external reaches {posterior - top:.1f} mm into the couch; the body keeps {lost:.0f} cc"
        notes.append(Note("warning", text))
    elif top - posterior > 1.0:
        notes.append(Note("warning", f"there are {top - posterior:.1f} mm of air between external and couch"))
    return notes


def _interval(centres_mm: NDArray[np.float64], step_mm: float, low_mm: float, high_mm: float) -> NDArray[np.float64]:
    """Share of each interval of a lattice that lies between two coordinates."""
    common = np.minimum(centres_mm + step_mm / 2, high_mm) - np.maximum(centres_mm - step_mm / 2, low_mm)
    share: NDArray[np.float64] = np.clip(common / step_mm, 0.0, 1.0)
    return share
