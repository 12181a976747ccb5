"""A tank of water, for doses that are compared with measurements in water."""

from __future__ import annotations

import numpy as np

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.overrides import Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.provenance import dicom_uid

WATER = Override(density_g_cm3=1.0, material="water")
AROUND_mm = 30.0
"""Air about the tank."""


def water_tank(
    depth_mm: float, *, size_mm: float = 400.0, spacing_mm: float = 4.0, name: str = "External"
) -> Patient:
    """A cube of water under the beam of gantry 0, with the origin at a depth below its surface.

    Parameters
    ----------
    depth_mm : float
        Of the origin, which is where the isocentre of a plan is put.
    size_mm : float
        Edge of the cube; it is centred about the origin across the beam.
    spacing_mm : float
        Of the image.
    name : str
        Of the outline.

    Returns
    -------
    Patient
        HFS: the surface faces the gantry at 0 degrees, which is patient -y.
    """
    half, top_mm = size_mm / 2, -depth_mm
    low = (-half - AROUND_mm, top_mm - AROUND_mm, -half)
    grid = Grid.covering(low, (half + AROUND_mm, top_mm + size_mm + AROUND_mm, half), (spacing_mm,) * 3)
    x, y = (np.abs(grid.x_mm) <= half), (grid.y_mm >= top_mm) & (grid.y_mm <= top_mm + size_mm)
    values = np.full(grid.shape_zyx, -1000.0, np.float32)
    values[:, y[:, None] & x[None, :]] = 0.0
    square = np.array([[-half, top_mm], [half, top_mm], [half, top_mm + size_mm], [-half, top_mm + size_mm]])
    outline = tuple(Contour(float(z_mm), square) for z_mm in grid.z_mm)
    made_of = ("mrlinac water tank", float(depth_mm), float(size_mm), float(spacing_mm))
    return Patient(
        label="water-tank",
        image=Image(grid, values, "HU"),
        rois={name: Roi(name, "external", outline, spacing_mm)},
        position="HFS",
        frame_uid=dicom_uid(*made_of, "frame"),
        study_uid=dicom_uid(*made_of, "study"),
        series_uid=dicom_uid(*made_of, "series"),
        slice_uids=tuple(dicom_uid(*made_of, "slice", k) for k in range(grid.shape_zyx[0])),
        decisions=PatientFile(density_overrides={name: WATER}),
    )
