"""Cuts through a volume and where each voxel lands in a picture.

Radiological convention: axial and coronal pictures have the patient's right on the left-hand side, the axial one
is seen from the feet with anterior up; the sagittal one is seen from the patient's left (anterior on the left),
head up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid, Triple

View = Literal["axial", "coronal", "sagittal"]
VIEWS: tuple[View, ...] = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Layout:
    """How a view maps the patient's axes onto a picture.

    Attributes
    ----------
    normal, across, up : int
        Patient axis (0 x, 1 y, 2 z) that is cut, that runs from left to right, and that runs vertically.
    flip_up : bool
        True where the vertical patient axis increases downwards in the picture.
    left, right, top, bottom : str
        Letters of orientation at the picture's edges.
    """

    normal: int
    across: int
    up: int
    flip_up: bool
    left: str
    right: str
    top: str
    bottom: str


# LPS: x grows to the patient's left, y to posterior, z to the head.
LAYOUTS: dict[View, Layout] = {
    "axial": Layout(2, 0, 1, True, "R", "L", "A", "P"),
    "coronal": Layout(1, 0, 2, False, "R", "L", "S", "I"),
    "sagittal": Layout(0, 1, 2, False, "A", "P", "S", "I"),
}


@dataclass(frozen=True)
class Cut:
    """One plane of a volume, ready to draw.

    Attributes
    ----------
    view : str
    position_mm : float
        Along the normal, LPS.
    values : float32 array [up, across]
        Rows by increasing vertical patient coordinate, columns by increasing horizontal one.
    across_mm, up_mm : float64 arrays
        Voxel centres.
    """

    view: View
    position_mm: float
    values: NDArray[np.float32]
    across_mm: NDArray[np.float64]
    up_mm: NDArray[np.float64]

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """Outer edges left, right, bottom, top for ``imshow(origin="lower")`` in patient coordinates."""
        half_a, half_u = _half_step(self.across_mm), _half_step(self.up_mm)
        return (
            float(self.across_mm[0] - half_a),
            float(self.across_mm[-1] + half_a),
            float(self.up_mm[0] - half_u),
            float(self.up_mm[-1] + half_u),
        )


def _half_step(centres_mm: NDArray[np.float64]) -> float:
    return float(centres_mm[1] - centres_mm[0]) / 2 if len(centres_mm) > 1 else 0.5


def axis_mm(grid: Grid, axis: int) -> NDArray[np.float64]:
    """Voxel centres along a patient axis (0 x, 1 y, 2 z)."""
    return (grid.x_mm, grid.y_mm, grid.z_mm)[axis]


def cut(values: NDArray[np.float32], grid: Grid, view: View, position_mm: float) -> Cut:
    """Plane of a volume at a position, linear between the two neighbouring slices.

    Parameters
    ----------
    values : array [z, y, x]
    grid : Grid
    view : {"axial", "coronal", "sagittal"}
    position_mm : float
        LPS coordinate along the view's normal; outside the grid the end slice is used.
    """
    layout = LAYOUTS[view]
    centres = axis_mm(grid, layout.normal)
    step = centres[1] - centres[0] if len(centres) > 1 else 1.0
    place = float(np.clip((position_mm - centres[0]) / step, 0, len(centres) - 1))
    low = min(int(place), max(len(centres) - 2, 0))
    share = place - low
    array_axis = 2 - layout.normal
    plane = np.take(values, low, axis=array_axis).astype(np.float32)
    if share > 1e-6:
        plane = (1 - share) * plane + share * np.take(values, low + 1, axis=array_axis)
    # The remaining array axes stand in the order z, y, x: rows are the vertical patient axis in every view.
    return Cut(
        view, position_mm, np.asarray(plane, np.float32), axis_mm(grid, layout.across), axis_mm(grid, layout.up)
    )


def in_plane_mm(view: View, point_xyz_mm: Triple) -> tuple[float, float]:
    """Horizontal and vertical patient coordinate of a point in a view."""
    layout = LAYOUTS[view]
    return (point_xyz_mm[layout.across], point_xyz_mm[layout.up])


def body_box_mm(occupancy: NDArray[np.float32], grid: Grid, border_mm: float) -> tuple[Triple, Triple]:
    """Lower and upper corner of the voxels more than half inside a structure, with a border; the grid if empty."""
    inside = occupancy > 0.5
    if not inside.any():
        return grid.lower_xyz_mm, grid.upper_xyz_mm
    lower, upper = [], []
    for axis in range(3):
        others = tuple(2 - a for a in range(3) if a != axis)
        hit = np.flatnonzero(inside.any(axis=others))
        centres = axis_mm(grid, axis)
        half = grid.spacing_zyx_mm[2 - axis] / 2
        lower.append(float(centres[hit[0]] - half - border_mm))
        upper.append(float(centres[hit[-1]] + half + border_mm))
    return (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2])
