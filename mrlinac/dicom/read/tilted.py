"""Contours drawn in planes that are not axial, redrawn in the image's axial planes.

A structure here is a stack of axial loops. One drawn on oblique, sagittal or coronal planes is rasterised in the frame of
its own planes, where each loop stands for a slab as any other does, and the iso-line of that occupancy is drawn in the
image's planes, with the volume kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrlinac.anatomy.contours import contours_of, occupancy, polygon_volume_cc
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.dicom.read.loops import SAME_PLANE_mm, in_common_planes, without_doubles

Points = NDArray[np.float64]

FLAT_mm = 0.1
"""How far a loop's points may leave its plane."""

PARALLEL = 1e-3
"""How far the planes' normals may differ."""

FINEST_mm = 0.5
MOST_SAMPLES = 8_000_000
"""Samples are as fine as the image's pixels, within these bounds."""

LAYERS = 4
"""Samples along z in one of the image's slabs."""


@dataclass(frozen=True)
class Redrawn:
    """Axial contours made of others, and what they were."""

    contours: tuple[Contour, ...]
    tilt_deg: float
    planes: int
    as_drawn_cc: float
    doubled: int


def in_axial_planes(loops: Sequence[Points], grid: Grid, name: str) -> Redrawn | None:
    """Redraw loops of parallel planes in the axial planes of an image; None where they are not flat or not parallel.

    Parameters
    ----------
    loops : sequence of array (n, 3)
        Points in the image's frame of reference.
    grid : Grid
        Of the image.
    name : str
        Of the structure.
    """
    frame = _frame(loops)
    if frame is None:
        return None
    own = [loop @ frame.T for loop in loops]
    each = [Contour(round(float(points[:, 2].mean()), 2), points[:, :2]) for points in own]
    contours, doubled = without_doubles(in_common_planes(each, SAME_PLANE_mm)[0])
    drawn = Roi(name, "other", tuple(contours), _step_mm(contours, frame, grid))
    low, high = drawn.extent_xy_mm()
    planes = sorted({contour.z_mm for contour in contours})
    half = drawn.slice_spacing_mm / 2
    lower, upper = np.array([*low, planes[0] - half]), np.array([*high, planes[-1] + half])
    step = max(FINEST_mm, min(grid.spacing_zyx_mm[1:]))
    step = max(step, float(np.cbrt(np.prod(upper - lower + 2 * step) / MOST_SAMPLES)))
    layer = drawn.slice_spacing_mm / max(1, round(drawn.slice_spacing_mm / step))
    lattice = Grid.covering(_triple(lower), _triple(upper), (layer, step, step)).padded((1, 1, 1), (1, 1, 1))
    inside = occupancy(drawn, lattice)
    target, planes_z_mm = _under(lattice, frame, grid, step)
    made = contours_of(_sampled(inside, lattice, frame, target), target, name, "other", planes_z_mm=planes_z_mm)
    if not made.contours:
        return None
    angle = float(np.degrees(np.arccos(min(1.0, float(np.abs(frame[2, 2]))))))
    return Redrawn(made.contours, angle, len(planes), polygon_volume_cc(drawn), doubled)


def _frame(loops: Sequence[Points]) -> NDArray[np.float64] | None:
    """Rows: two directions in the loops' planes and their common normal; None where they are not flat or not parallel."""
    normal: NDArray[np.float64] | None = None
    for loop in sorted(loops, key=lambda points: -float(np.ptp(points, axis=0).max())):  # the largest says it best
        centred = loop - loop.mean(axis=0)
        _, size, axes = np.linalg.svd(centred, full_matrices=False)
        if len(size) < 3 or size[1] < FLAT_mm or np.max(np.abs(centred @ axes[2])) > FLAT_mm:
            return None
        if normal is None:
            normal = axes[2]
        # A small loop's own normal is known to the rounding of its points only.
        elif np.max(np.abs(centred @ normal)) > FLAT_mm + PARALLEL * float(np.abs(centred).max()):
            return None
    if normal is None:
        return None
    first = np.eye(3)[int(np.argmin(np.abs(normal)))]
    u = np.cross(first, normal)
    u = u / np.linalg.norm(u)
    return np.stack([u, np.cross(normal, u), normal])


def _step_mm(contours: Sequence[Contour], frame: NDArray[np.float64], grid: Grid) -> float:
    """The most frequent distance of the planes; of a single one the image's spacing along the nearest axis."""
    steps = np.diff(np.unique([contour.z_mm for contour in contours]))
    steps = steps[steps > FLAT_mm]
    if not steps.size:
        return float(np.array(grid.spacing_zyx_mm)[::-1][int(np.argmax(np.abs(frame[2])))])
    values, counts = np.unique(np.round(steps, 1), return_counts=True)
    return float(np.median(steps[np.abs(steps - values[np.argmax(counts)]) <= FLAT_mm]))


def _under(lattice: Grid, frame: NDArray[np.float64], grid: Grid, step_mm: float) -> tuple[Grid, list[float]]:
    """Fine layers in those of the image's planes that a tilted lattice reaches, continued beyond its ends; the planes."""
    last = np.array(lattice.shape_zyx) - 1.0
    index = np.array([[a, b, c] for a in (0.0, last[0]) for b in (0.0, last[1]) for c in (0.0, last[2])])
    corners = lattice.position_xyz_mm(index) @ frame
    low, high = corners.min(axis=0), corners.max(axis=0)
    dz, origin = grid.spacing_zyx_mm[0], grid.origin_xyz_mm[2]
    lowest, highest = (round(float(end - origin) / dz) for end in (low[2], high[2]))
    planes = [origin + dz * number for number in range(lowest, highest + 1)]
    nx, ny = (np.ceil((high[:2] - low[:2]) / step_mm).astype(int) + 1).tolist()
    first = planes[0] - dz / 2 + dz / LAYERS / 2
    fine = Grid(
        (len(planes) * LAYERS, ny, nx), (dz / LAYERS, step_mm, step_mm), (float(low[0]), float(low[1]), first)
    )
    return fine, planes


def _sampled(
    inside: NDArray[np.float32], lattice: Grid, frame: NDArray[np.float64], target: Grid
) -> NDArray[np.float32]:
    """Occupancy of a tilted lattice at the points of a grid along the patient's axes, linear between."""
    of, to = np.array(lattice.spacing_zyx_mm), np.array(target.spacing_zyx_mm)
    turn = frame[::-1, ::-1]
    start = (frame @ np.array(target.origin_xyz_mm) - np.array(lattice.origin_xyz_mm))[::-1]
    result: NDArray[np.float32] = ndimage.affine_transform(
        inside, turn * to / of[:, None], start / of, target.shape_zyx, order=1
    )
    return result


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return (x, y, z)
