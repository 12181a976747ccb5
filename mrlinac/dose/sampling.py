"""A structure's volume and its dose, sampled finely enough that neither grid shows in a DVH.

A voxel of 3 mm in a gradient of 5 % per mm spans 15 % of the dose: one value for the whole voxel is too coarse, and in
a small structure its outline is too. Drawn structures are put on a fine lattice of their own, structures made by rule
are divided within their voxels; the dose is interpolated at every point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.contours import occupancy, polygon_volume_cc
from mrlinac.anatomy.grid import Grid, Triple
from mrlinac.anatomy.structures import Roi, Role, Structure
from mrlinac.dose.dose import Dose
from mrlinac.dose.interpolate import dose_on

COARSEST_mm = 0.5
"""Distance of samples in a structure of moderate size."""
ACROSS = 60
"""Smaller structures get at least so many samples along each axis ..."""
FINEST_mm = 0.1
MOST_SAMPLES = 2_000_000
"""... and large ones no more than about so many in their bounding box."""
SUBDIVISIONS = 3
"""A voxel of a structure made by rule holds so many samples along each axis ..."""
MOST_DIVIDED = 60_000_000
"""... unless its bounding box then had more of them than this: large structures are as well known by whole voxels."""


MOST_PARTS = 32
"""A structure of parts far apart is cut into so many boxes at most, each with a lattice of its own."""
SAVED = 0.2
"""A cut between parts is made where it takes away so much of the box."""
SAME_VOLUME = 1e-3
"""Parts read by themselves must have the volume of the whole to this share."""


@dataclass(frozen=True)
class Piece:
    """Points of one lattice: the index of each along z, y, x."""

    lattice: Grid
    points_zyx: tuple[NDArray[np.int64], ...]

    def __len__(self) -> int:
        return len(self.points_zyx[0])


@dataclass(frozen=True)
class Samples:
    """Small volumes of a structure with their doses.

    Attributes
    ----------
    name, role
        Of the structure.
    dose_Gy, volume_cc : float32, float64 arrays of the same length
        A volume outside the dose grid has the dose 0, and counts: a DVH is of the whole structure.
    pieces : tuple of Piece
        Where the samples lie, in order; one piece for each part of a structure that lies far from the others.
    outside_cc : float
        Volume without a known dose.
    """

    name: str
    role: Role
    dose_Gy: NDArray[np.float32]
    volume_cc: NDArray[np.float64]
    pieces: tuple[Piece, ...]
    outside_cc: float

    @property
    def total_cc(self) -> float:
        """Volume of the whole structure."""
        return float(self.volume_cc.sum())

    def of(self, dose: Dose) -> Samples:
        """The same samples in another dose."""
        values, outside = _values(dose, self.pieces)
        return replace(self, dose_Gy=values, outside_cc=float(self.volume_cc[outside].sum()))

    def places_xyz_mm(self, index: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Where samples stand in LPS (n, 3), all of them or those of an index."""
        numbers = np.arange(len(self.dose_Gy)) if index is None else index
        places = np.empty((len(numbers), 3))
        first = 0
        for piece in self.pieces:
            of_piece = np.flatnonzero((numbers >= first) & (numbers < first + len(piece)))
            within = numbers[of_piece] - first
            points = np.stack([axis_points[within] for axis_points in piece.points_zyx], axis=-1).astype(float)
            points += np.stack([_spread(within, axis) for axis in range(3)], axis=-1) - 0.5
            places[of_piece] = piece.lattice.position_xyz_mm(points)
            first += len(piece)
        return places


def sample(
    dose: Dose, of: Roi | Structure, grid: Grid | None = None, *, continued: tuple[bool, bool] = (False, False)
) -> Samples:
    """Samples of a drawn structure, or of one on a grid.

    Parameters
    ----------
    dose : Dose
    of : Roi or Structure
        A structure on a grid that was drawn is sampled as drawn.
    grid : Grid, optional
        Of a :class:`Structure`.
    continued : tuple of bool
        Whether an :class:`Roi` goes on below its first and above its last contour (to half a slice: the body).

    Raises
    ------
    ValueError
        When the structure is empty.
    """
    drawn = of if isinstance(of, Roi) else of.drawn
    if drawn is not None:
        lattices = [(box.lattice, occupancy(box.roi, box.lattice, continued=continued)) for box in _boxes(drawn)]
    else:
        assert isinstance(of, Structure)
        if grid is None or of.occupancy.shape != grid.shape_zyx:
            raise ValueError(f"{of.name} is not on the grid given")
        lattices = [_divided(of.occupancy, grid, box) for box in _occupied(of.occupancy)]
    pieces = tuple(Piece(lattice, np.nonzero(inside > 0)) for lattice, inside in lattices)
    if not any(map(len, pieces)):
        raise ValueError(f"{of.name} is empty")
    volume = np.concatenate(
        [
            inside[piece.points_zyx].astype(np.float64) * lattice.voxel_cc
            for piece, (lattice, inside) in zip(pieces, lattices, strict=True)
        ]
    )
    if not volume.sum() > 0:
        raise ValueError(f"{of.name} is empty")
    values, outside = _values(dose, pieces)
    return Samples(of.name, of.role, values, volume, pieces, float(volume[outside].sum()))


@dataclass(frozen=True)
class _Box:
    """A part of a drawn structure, what is read there, and its lattice."""

    roi: Roi
    lattice: Grid


def _boxes(roi: Roi) -> list[_Box]:
    """A drawn structure in boxes that hold its parts: lattices suit the parts, not the space between them."""
    parts = [replace(roi, contours=tuple(roi.contours[k] for k in part)) for part in _parts(roi)]
    if len(parts) == 1:
        return [_Box(roi, lattice_of(roi))]
    whole_cc = polygon_volume_cc(roi)
    alone = abs(sum(map(polygon_volume_cc, parts)) - whole_cc) <= SAME_VOLUME * whole_cc
    most = max(MOST_SAMPLES // len(parts), MOST_SAMPLES // 8)
    # A plane between those of another part may end a slab: then each box is read with all loops at hand.
    return [_Box(part if alone else roi, lattice_of(part, most)) for part in parts]


def _parts(roi: Roi) -> list[NDArray[np.int64]]:
    """Contours by box: cut by planes through empty space for as long as that takes away much of a box."""
    half = roi.slice_spacing_mm / 2
    low = np.array([[*c.points_xy_mm.min(axis=0), c.z_mm - half] for c in roi.contours])
    high = np.array([[*c.points_xy_mm.max(axis=0), c.z_mm + half] for c in roi.contours])

    def size(part: NDArray[np.int64]) -> float:
        return float(np.prod(high[part].max(axis=0) - low[part].min(axis=0)))

    def cut(part: NDArray[np.int64]) -> tuple[float, list[NDArray[np.int64]]]:
        """The best cut of a box, and the volume it saves."""
        best: tuple[float, list[NDArray[np.int64]]] = (0.0, [])
        for axis in range(3):
            order = part[np.argsort(low[part, axis], kind="stable")]
            gaps = low[order[1:], axis] - np.maximum.accumulate(high[order, axis])[:-1]
            if len(gaps) and (k := int(np.argmax(gaps))) >= 0 and gaps[k] > 0:
                sides = [order[: k + 1], order[k + 1 :]]
                best = max(best, (size(part) - sum(map(size, sides)), sides), key=lambda split: split[0])
        return best

    boxes = [np.arange(len(roi.contours))]
    done: list[NDArray[np.int64]] = []
    while boxes and len(boxes) + len(done) < MOST_PARTS:
        part = boxes.pop(0)
        saved, sides = cut(part)
        if sides and saved > SAVED * size(part):
            boxes += sides
        else:
            done.append(part)
    return [np.sort(part) for part in done + boxes]


def lattice_of(roi: Roi, most: int = MOST_SAMPLES) -> Grid:
    """A fine grid about a drawn structure; along z its layers divide the slabs of the contours evenly."""
    low, high = roi.extent_xy_mm()
    half = roi.slice_spacing_mm / 2
    planes = [contour.z_mm for contour in roi.contours]
    lower, upper = (*low, min(planes) - half), (*high, max(planes) + half)
    size = np.array(upper) - np.array(lower)
    across = float(np.clip(min(size[:2]) / ACROSS, FINEST_mm, COARSEST_mm))
    layer = roi.slice_spacing_mm / max(1, round(roi.slice_spacing_mm / min(COARSEST_mm, 2 * across, size[2] / 20)))
    count = size[0] * size[1] / across**2 * size[2] / layer
    if count > most:
        across *= float(np.sqrt(count / most))
    return Grid.covering(lower, upper, (float(layer), across, across))


def isodose_volume_cc(dose: Dose, isodose_Gy: float) -> float:
    """Volume (cc) of the whole grid with at least a dose."""
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


Box = tuple[slice, slice, slice]


def _occupied(inside: NDArray[np.float32]) -> list[Box]:
    """Boxes that hold a structure on a grid, cut through empty space for as long as that takes away much of a box."""
    filled = inside > 0
    boxes, done = [_tight(filled, tuple(slice(0, n) for n in filled.shape))], list[Box]()
    while boxes and len(boxes) + len(done) < MOST_PARTS:
        box = boxes.pop(0)
        if box is None:
            continue
        sides = [_tight(filled, side) for side in _sides(filled, box)]
        if sides and _voxels(box) - sum(map(_voxels, sides)) > SAVED * _voxels(box):
            boxes += sides
        else:
            done.append(box)
    return done + [box for box in boxes if box is not None]


def _voxels(box: Box | None) -> int:
    return 0 if box is None else int(np.prod([side.stop - side.start for side in box]))


def _tight(filled: NDArray[np.bool_], box: tuple[slice, ...]) -> Box | None:
    """The part of a box that is filled; None where nothing is."""
    reach = [np.flatnonzero(_along(filled[box], axis)) for axis in range(3)]
    if not len(reach[0]):
        return None
    z, y, x = (slice(s.start + int(r[0]), s.start + int(r[-1]) + 1) for s, r in zip(box, reach, strict=True))
    return z, y, x


def _along(filled: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Which planes across an axis hold something."""
    return np.asarray(filled.any(axis=tuple(other for other in range(3) if other != axis)))


def _sides(filled: NDArray[np.bool_], box: Box) -> list[tuple[slice, ...]]:
    """Both sides of the widest empty gap between a box's parts; nothing where there is none."""
    widest, sides = 1, list[tuple[slice, ...]]()
    for axis in range(3):
        reach = np.flatnonzero(_along(filled[box], axis)) + box[axis].start
        steps = np.diff(reach)
        if len(steps) and steps.max() > widest:
            k = int(np.argmax(steps))
            widest = int(steps[k])
            low, high = list(box), list(box)
            low[axis], high[axis] = (
                slice(box[axis].start, int(reach[k]) + 1),
                slice(int(reach[k + 1]), box[axis].stop),
            )
            sides = [tuple(low), tuple(high)]
    return sides


def _divided(inside: NDArray[np.float32], grid: Grid, part: Box) -> tuple[Grid, NDArray[np.float32]]:
    """A part of the grid that holds a structure, each voxel divided; a part's share is its voxel's."""
    voxels = np.count_nonzero(inside[part]) * SUBDIVISIONS**3
    fits = voxels <= 4 * MOST_SAMPLES and _voxels(part) * SUBDIVISIONS**3 <= MOST_DIVIDED
    n = SUBDIVISIONS if fits else 1
    fine = inside[part].repeat(n, 0).repeat(n, 1).repeat(n, 2)
    spacing = tuple(d / n for d in grid.spacing_zyx_mm)
    first = grid.position_xyz_mm(np.array([s.start for s in part], float))
    origin = first - (np.array(grid.spacing_zyx_mm) / 2 * (1 - 1 / n))[::-1]
    return Grid(fine.shape, _triple(spacing), _triple(origin)), fine


def _triple(values: NDArray[np.float64] | tuple[float, ...]) -> Triple:
    a, b, c = (float(v) for v in values)
    return (a, b, c)


def _values(dose: Dose, pieces: tuple[Piece, ...]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Doses of points of lattices, 0 where unknown, and where that is."""
    values = np.concatenate([_values_in(dose, piece.lattice, piece.points_zyx) for piece in pieces])
    outside = np.isnan(values)
    values[outside] = 0.0
    return values, outside


def _values_in(dose: Dose, lattice: Grid, points: tuple[NDArray[np.int64], ...]) -> NDArray[np.float32]:
    """Doses of points of a lattice, NaN where unknown; a few layers at a time.

    Each point stands somewhere in its cell instead of at its centre, by the dose's slope there: in a gradient along the
    lattice whole layers would otherwise have one dose, and the DVH steps as high as a layer's volume.
    """
    values = np.empty(len(points[0]), np.float32)
    layers = max(1, int(MOST_SAMPLES / (lattice.shape_zyx[1] * lattice.shape_zyx[2])))
    starts = np.arange(0, lattice.shape_zyx[0], layers)
    edges = np.searchsorted(points[0], [*starts, lattice.shape_zyx[0]])  # np.nonzero sorts by the first index
    wide = lattice.padded((1, 1, 1), (1, 1, 1))
    # Neither a cubic nor the slope of a neighbour must make a dose of less than nothing.
    least = min(0.0, float(dose.dose_Gy.min(initial=0.0)))
    for first, start, stop in zip(starts, edges[:-1], edges[1:], strict=True):
        if start == stop:
            continue
        block = dose_on(dose, wide.x_mm, wide.y_mm, wide.z_mm[first : first + layers + 2])
        inside = (points[0][start:stop] - first + 1, points[1][start:stop] + 1, points[2][start:stop] + 1)
        at, flat = np.ravel_multi_index(inside, block.shape), block.ravel()
        moved = flat[at]
        for axis, step in enumerate((block.shape[1] * block.shape[2], block.shape[2], 1)):
            change = (flat[at + step] - flat[at - step]) / 2
            change[np.isnan(change)] = 0.0
            moved += change * (_spread(np.arange(start, stop), axis) - np.float32(0.5))
        values[start:stop] = np.maximum(moved, least)
    return values


def _spread(numbers: NDArray[np.int64], axis: int) -> NDArray[np.float32]:
    """Evenly spread numbers in 0…1: Roberts' additive sequence in three dimensions, the same on every machine."""
    root = 1.2207440846057596  # of x⁴ = x + 1
    reached = 0.5 + (numbers + 1.0) / root ** (axis + 1)
    return np.asarray(reached - np.floor(reached), np.float32)
