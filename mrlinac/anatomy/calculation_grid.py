"""The grid that doses are calculated on: body, couch and the air about them."""

from __future__ import annotations

import numpy as np

from mrlinac.anatomy.couch import CouchGeometry
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient


def calculation_grid(
    patient: Patient,
    couch: CouchGeometry | None,
    spacing_mm: float,
    *,
    air_mm: float = 30.0,
    continued_mm: float = 30.0,
) -> Grid:
    """The grid of cubes for transport: body, couch and the air about them, the imaged range and its continuation.

    One plane lies on the CT's first slice, so that with the CT's own spacing all planes coincide; in x and y the
    voxel centres are whole multiples of the spacing, the same lattice for every couch and machine.

    Parameters
    ----------
    patient : Patient
    couch : CouchGeometry or None
    spacing_mm : float
    air_mm : float
        Least air beyond body and couch in x and y.
    continued_mm : float
        Least length in z by which the end slices are continued beyond the images.

    Returns
    -------
    Grid
    """
    lower, upper = patient.external.extent_xy_mm()
    if couch is not None:
        low, high = couch.extent_xy_mm()
        lower, upper = np.minimum(lower, low), np.maximum(upper, high)
    first = np.floor((lower - air_mm) / spacing_mm + 0.5)
    last = np.ceil((upper + air_mm) / spacing_mm - 0.5)
    nx, ny = (int(n) for n in last - first + 1)
    image = patient.image.grid
    below = int(np.ceil((continued_mm + image.spacing_zyx_mm[0] / 2) / spacing_mm - 0.5 - 1e-9))
    above_mm = image.upper_xyz_mm[2] + continued_mm - image.origin_xyz_mm[2]
    above = int(np.ceil(above_mm / spacing_mm - 0.5 - 1e-9))
    origin = (first[0] * spacing_mm, first[1] * spacing_mm, image.origin_xyz_mm[2] - below * spacing_mm)
    return Grid((below + above + 1, ny, nx), (spacing_mm,) * 3, (float(origin[0]), float(origin[1]), origin[2]))
