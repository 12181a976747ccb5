"""A structure's volume and its dose, sampled finely enough that neither grid shows in a DVH.

A voxel of 3 mm in a gradient of 5 % per mm spans 15 % of the dose: one value for the whole voxel is too coarse, and in
a small structure its outline is too. Drawn structures are put on a fine lattice of their own, structures made by rule
are divided within their voxels; the dose is interpolated at every point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.contours import occupancy
from mrlinac.anatomy.grid import Grid, Triple
from mrlinac.anatomy.structures import Roi, Role, Structure
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.dose.grammar import Metric
from mrlinac.dose.interpolate import dose_on

COARSEST_mm = 0.5
"""Distance of samples in a structure of moderate size."""
ACROSS = 60
"""Smaller structures get at least so many samples along each axis ..."""
FINEST_mm = 0.1
MOST_SAMPLES = 2_000_000
"""... and large ones no more than about so many in their bounding box."""
SUBDIVISIONS = 3
"""A voxel of a structure made by rule holds so many samples along each axis."""


@dataclass(frozen=True)
class Samples:
    """Small volumes of a structure with their doses.

    Attributes
    ----------
    name, role
        Of the structure.
    dose_Gy, volume_cc : float32, float64 arrays of the same length
        A volume outside the dose grid has the dose 0, and counts: a DVH is of the whole structure.
    points_zyx : tuple of arrays
        Index of each sample along z, y, x of the lattice.
    lattice : Grid
        The lattice of the samples.
    outside_cc : float
        Volume without a known dose.
    """

    name: str
    role: Role
    dose_Gy: NDArray[np.float32]
    volume_cc: NDArray[np.float64]
    points_zyx: tuple[NDArray[np.int64], ...]
    lattice: Grid
    outside_cc: float

    @property
    def total_cc(self) -> float:
        """Volume of the whole structure."""
        return float(self.volume_cc.sum())

    def of(self, dose: Dose) -> Samples:
        """The same samples in another dose."""
        values, outside = _values(dose, self.lattice, self.points_zyx)
        return Samples(
            self.name,
            self.role,
            values,
            self.volume_cc,
            self.points_zyx,
            self.lattice,
            float(self.volume_cc[outside].sum()),
        )


def sample(
    dose: Dose, of: Roi | Structure, grid: Grid | None = None, *, continued: tuple[bool, bool] = (False, False)
) -> Samples:
    """Samples of a drawn structure, or of one on a grid.

    Parameters
    ----------
    dose : Dose
    of : Roi or Structure
    grid : Grid, optional
        Of a :class:`Structure`.
    continued : tuple of bool
        Whether an :class:`Roi` goes on below its first and above its last contour (to half a slice: the body).

    Raises
    ------
    ValueError
        When the structure is empty.
    """
    if isinstance(of, Roi):
        lattice = lattice_of(of)
        inside = occupancy(of, lattice, continued=continued)
    else:
        if grid is None or of.occupancy.shape != grid.shape_zyx:
            raise ValueError(f"{of.name} is not on the grid given")
        lattice, inside = _divided(of.occupancy, grid)
    points = np.nonzero(inside > 0)
    volume = inside[points].astype(np.float64) * lattice.voxel_cc
    if not volume.sum() > 0:
        raise ValueError(f"{of.name} is empty")
    values, outside = _values(dose, lattice, points)
    return Samples(of.name, of.role, values, volume, points, lattice, float(volume[outside].sum()))


def lattice_of(roi: Roi) -> Grid:
    """A fine grid about a drawn structure; along z its layers divide the slabs of the contours evenly."""
    low, high = roi.extent_xy_mm()
    half = roi.slice_spacing_mm / 2
    planes = [contour.z_mm for contour in roi.contours]
    lower, upper = (*low, min(planes) - half), (*high, max(planes) + half)
    size = np.array(upper) - np.array(lower)
    across = float(np.clip(min(size[:2]) / ACROSS, FINEST_mm, COARSEST_mm))
    layer = roi.slice_spacing_mm / max(1, round(roi.slice_spacing_mm / min(COARSEST_mm, 2 * across, size[2] / 20)))
    count = size[0] * size[1] / across**2 * size[2] / layer
    if count > MOST_SAMPLES:
        across *= float(np.sqrt(count / MOST_SAMPLES))
    return Grid.covering(lower, upper, (float(layer), across, across))


def value_of(
    samples: Samples,
    wanted: Metric,
    *,
    prescription_Gy: float | None = None,
    isodoses_cc: Sequence[float] | None = None,
    air: NDArray[np.bool_] | None = None,
) -> float:
    """Value of a metric on samples, by the same definitions as :func:`mrlinac.dose.metrics.metric`.

    Parameters
    ----------
    samples : Samples
    wanted : Metric
    prescription_Gy : float, optional
        Needed by the forms relative to the prescription.
    isodoses_cc : sequence of float, optional
        Needed by ``CI``, ``GI`` and ``R50``: volumes of the metric's isodoses (:func:`isodose_volume_cc`).
    air : bool array, optional
        Of the samples; left out of a search for hot spots of the body and of normal tissue.

    Raises
    ------
    ValueError
        When the structure is smaller than the volume asked for.
    """
    if wanted.of_isodose:
        if isodoses_cc is None or prescription_Gy is None:
            raise ValueError(f"{wanted.text} needs the prescription and the volume of the isodose")
        hot = samples.dose_Gy >= wanted.level / 100 * prescription_Gy
        return metrics.isodose_value(wanted, samples.total_cc, float(samples.volume_cc[hot].sum()), isodoses_cc)
    dose_Gy = samples.dose_Gy.astype(np.float64)
    if air is not None and wanted.hot_spot and samples.role in metrics.HOT_SPOT_ROLES:
        dose_Gy = np.where(air, -np.inf, dose_Gy)
    value = metrics.value_of(dose_Gy, samples.volume_cc, wanted, prescription_Gy)
    if not np.isfinite(value):
        raise ValueError(f"{samples.name} has less than the volume asked for that is not air")
    return value


def isodose_volume_cc(dose: Dose, isodose_Gy: float, external: Samples | None = None) -> float:
    """Volume with at least a dose: within the body where its samples are given, else in the whole grid."""
    if external is not None:
        return float(external.volume_cc[external.dose_Gy >= isodose_Gy].sum())
    total = 0.0
    grid = dose.grid
    dz, dy, dx = grid.spacing_zyx_mm
    parts = (np.arange(SUBDIVISIONS) + 0.5) / SUBDIVISIONS - 0.5
    x = (grid.x_mm[:, None] + dx * parts).ravel()
    y = (grid.y_mm[:, None] + dy * parts).ravel()
    for z_mm in grid.z_mm:  # slice by slice: the whole grid refined may not fit the memory
        hot = dose_on(dose, x, y, z_mm + dz * parts) >= isodose_Gy
        total += float(hot.sum()) * grid.voxel_cc / SUBDIVISIONS**3
    return total


def _divided(inside: NDArray[np.float32], grid: Grid) -> tuple[Grid, NDArray[np.float32]]:
    """The part of the grid that holds the structure, each voxel divided; a part's share is its voxel's."""
    reach = [np.flatnonzero(inside.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    if any(not len(r) for r in reach):
        return grid, inside
    part = tuple(slice(int(r[0]), int(r[-1]) + 1) for r in reach)
    shape = tuple(s.stop - s.start for s in part)
    n = SUBDIVISIONS if np.prod(shape) * SUBDIVISIONS**3 <= 4 * MOST_SAMPLES else 1
    fine = inside[part].repeat(n, 0).repeat(n, 1).repeat(n, 2)
    spacing = tuple(d / n for d in grid.spacing_zyx_mm)
    first = grid.position_xyz_mm(np.array([s.start for s in part], float))
    origin = first - (np.array(grid.spacing_zyx_mm) / 2 * (1 - 1 / n))[::-1]
    return Grid(fine.shape, _triple(spacing), _triple(origin)), fine


def _triple(values: NDArray[np.float64] | tuple[float, ...]) -> Triple:
    a, b, c = (float(v) for v in values)
    return (a, b, c)


def _values(
    dose: Dose, lattice: Grid, points: tuple[NDArray[np.int64], ...]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Doses of points of a lattice, 0 where unknown, and where that is; a few layers at a time.

    Each point stands somewhere in its cell instead of at its centre, by the dose's slope there: in a gradient along the
    lattice whole layers would otherwise have one dose, and the DVH steps as high as a layer's volume.
    """
    values = np.empty(len(points[0]), np.float32)
    layers = max(1, int(MOST_SAMPLES / (lattice.shape_zyx[1] * lattice.shape_zyx[2])))
    starts = np.arange(0, lattice.shape_zyx[0], layers)
    edges = np.searchsorted(points[0], [*starts, lattice.shape_zyx[0]])  # np.nonzero sorts by the first index
    wide = lattice.padded((1, 1, 1), (1, 1, 1))
    for first, start, stop in zip(starts, edges[:-1], edges[1:], strict=True):
        if start == stop:
            continue
        block = dose_on(dose, wide.x_mm, wide.y_mm, wide.z_mm[first : first + layers + 2])
        at = [points[0][start:stop] - first + 1, points[1][start:stop] + 1, points[2][start:stop] + 1]
        here = block[at[0], at[1], at[2]]
        moved = here.copy()
        for axis in range(3):
            before, after = list(at), list(at)
            before[axis], after[axis] = at[axis] - 1, at[axis] + 1
            change = (block[after[0], after[1], after[2]] - block[before[0], before[1], before[2]]) / 2
            moved += np.nan_to_num(change) * (_spread(start, stop, axis) - np.float32(0.5))
        # The slope of a neighbour must not make a dose of less than nothing.
        values[start:stop] = np.maximum(moved, np.minimum(here, 0))
    outside = np.isnan(values)
    values[outside] = 0.0
    return values, outside


def _spread(start: int, stop: int, axis: int) -> NDArray[np.float32]:
    """Evenly spread numbers in 0…1: Roberts' additive sequence in three dimensions, the same on every machine."""
    root = 1.2207440846057596  # of x⁴ = x + 1
    number = np.arange(start + 1, stop + 1, dtype=np.float64)
    return np.asarray(np.mod(0.5 + number / root ** (axis + 1), 1.0), np.float32)
