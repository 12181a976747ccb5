"""Helpers to make and change DICOM files in tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom

from mrlinac.anatomy.structures import Contour


def circle(radius_mm: float, z_mm: float, *, x_mm: float = 0.0, y_mm: float = 0.0, points: int = 90) -> Contour:
    angle = np.arange(points) * 2 * np.pi / points
    return Contour(z_mm, np.column_stack([x_mm + radius_mm * np.cos(angle), y_mm + radius_mm * np.sin(angle)]))


def edit(path: Path, change: Callable[[pydicom.Dataset], None] | None = None, **values: object) -> None:
    """Change a DICOM file in place: set keywords (None deletes) and apply a function."""
    ds = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    if change is not None:
        change(ds)
    ds.save_as(path)
