"""From planes to a volume: order, spacing, gaps, and the turn onto the patient's axes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrlinac.anatomy.grid import Grid
from mrlinac.dicom.problems import SAME_FRAME, Findings, tag_name
from mrlinac.dicom.read.planes import TILT_TOLERANCE, Plane, POSITION_TOLERANCE_mm

MOST_VOXELS = 600_000_000
"""2.4 GB of values; more is damage or a mistake."""

JITTER = 0.2
"""Spacings that differ by up to this share are resampled with a notice; more is no single reconstruction."""

MOST_SHARED = 3
"""Up to this many positions with two images are duplicate slices; more are a second volume."""

TELLING = (
    "SeriesDescription",
    "ImageComments",
    "ProtocolName",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "ContentTime",
    "SeriesTime",
    "SeriesNumber",
    "ConvolutionKernel",
    "TemporalPositionIdentifier",
    "ReconstructionDiameter",
)
"""Tags that may tell the volumes of one series apart without being made for it."""

MOST_MISSING = 2
"""So many slices in a row may be missing ..."""

LARGEST_GAP_mm = 15.0
"""... and largest distance of neighbours that are interpolated with a notice."""


@dataclass(frozen=True)
class Stack:
    """Planes in order and the grid they make.

    Attributes
    ----------
    planes : tuple of Plane
        By increasing coordinate along ``axis``, each place once; tilted ones in coordinates of their own.
    axis : int
        The axis across the planes: 0 x, 1 y, 2 z.
    grid : Grid
        Along the patient's axes, with increasing coordinates.
    even_mm : array or None
        Where resampling is needed: coordinates along ``axis`` of even planes.
    tilt : array (3, 3) or None
        Of tilted planes: turns patient coordinates into those in which the planes are straight.
    own : Grid or None
        Of tilted planes: their grid, in those coordinates.
    """

    planes: tuple[Plane, ...]
    axis: int
    grid: Grid
    even_mm: NDArray[np.float64] | None
    tilt: NDArray[np.float64] | None = None
    own: Grid | None = None

    @property
    def tilt_deg(self) -> float:
        """Angle of the turn that takes the planes' axes to the patient's; 0 where they are straight."""
        if self.tilt is None:
            return 0.0
        return float(np.degrees(np.arccos(np.clip((np.trace(self.tilt) - 1) / 2, -1, 1))))

    def slice_uids(self) -> tuple[str, ...]:
        """SOP Instance UID for every plane along z (the nearest, where planes were interpolated); none if not axial."""
        if self.axis != 2 or self.tilt is not None:
            return ()
        where = self._along_mm()
        nearest = np.argmin(np.abs(where[:, None] - self.grid.z_mm[None, :]), axis=0)
        return tuple(self.planes[int(index)].sop_uid for index in nearest)

    def volume(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values [plane, row, column] as [z, y, x] on the grid."""
        if self.even_mm is not None:
            planes = interpolated(planes, self._along_mm(), self.even_mm)
        row, column = self.planes[0].axes
        axes = (self.axis, int(np.argmax(np.abs(column))), int(np.argmax(np.abs(row))))
        if column.sum() < 0:
            planes = planes[:, ::-1]
        if row.sum() < 0:
            planes = planes[:, :, ::-1]
        return np.ascontiguousarray(np.transpose(planes, [axes.index(axis) for axis in (2, 1, 0)]))

    def resampled(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values of tilted planes [z, y, x] on their own grid, linear on the patient's axes; NaN beside them."""
        assert self.tilt is not None
        assert self.own is not None
        to, of = np.array(self.grid.spacing_zyx_mm), np.array(self.own.spacing_zyx_mm)
        turn = self.tilt[::-1, ::-1]  # of z, y, x
        start = (self.tilt @ np.array(self.grid.origin_xyz_mm) - np.array(self.own.origin_xyz_mm))[::-1]
        result: NDArray[np.float32] = ndimage.affine_transform(
            values, turn * to / of[:, None], start / of, self.grid.shape_zyx, order=1, cval=np.nan
        )
        return result

    def _along_mm(self) -> NDArray[np.float64]:
        return np.array([plane.position_xyz_mm[self.axis] for plane in self.planes])


def stack(
    planes: Sequence[Plane],
    findings: Findings,
    same_pixels: Callable[[Plane, Plane], bool] | None = None,
    *,
    lost: int = 0,
    same_frame: bool = False,
) -> Stack | None:
    """Order planes of one series and find their grid; None, with problems noted.

    Parameters
    ----------
    planes : sequence of Plane
    findings : Findings
    same_pixels : function, optional
        Whether two planes in one place hold the same pixels, and one of them can go. Without it pixels are not looked
        at: places with more than one image are counted.
    lost : int
        Slices that are missing because of problems noted before.
    same_frame : bool
        A person says that slices of different frames of reference lie in one space.
    """
    before = findings.count
    tilt = _tilt(planes)
    if tilt is not None:
        planes = [_straightened(plane, tilt) for plane in planes]
    _check_uniform(planes, findings, tilted=tilt is not None)
    _check_frames(planes, findings, same_frame=same_frame)
    if findings.count > before:
        return None
    axis = int(np.argmax(np.abs(np.cross(*planes[0].axes)))) if planes else 2
    ordered = _distinct(planes, axis, findings, same_pixels)
    if len(ordered) < 2 and findings.count == before and not lost:
        files = ", ".join(plane.name for plane in ordered) or "none"
        findings.problem(
            f"the image series has {len(ordered)} usable slice(s) ({files}); a volume needs at least two",
            "Give the folder of the whole series",
        )
    if findings.count > before or len(ordered) < 2:
        return None
    where = np.array([plane.position_xyz_mm[axis] for plane in ordered])
    spacing_mm, even_mm = _spacing(ordered, where, findings)
    first = ordered[0]
    rows, columns = first.shape_yx
    count = len(ordered) if even_mm is None else len(even_mm)
    own = grid_of(
        first.axes, first.position_xyz_mm, first.shape_yx, first.spacing_yx_mm, axis, where[0], spacing_mm, count
    )
    grid = own if tilt is None else _around(own, tilt)
    if max(count * rows * columns, int(np.prod(grid.shape_zyx))) > MOST_VOXELS:
        findings.problem(
            f"{count} slices of {columns}×{rows} pixels would take {count * rows * columns * 4 / 1e9:.0f} GB",
            "Give a series of an ordinary size",
            file=first.name,
            keyword="Rows",
        )
    if findings.count > before:
        return None
    return Stack(tuple(ordered), axis, grid, even_mm, tilt, None if tilt is None else own)


def _tilt(planes: Sequence[Plane]) -> NDArray[np.float64] | None:
    """Turns patient coordinates into those of tilted planes, each axis the nearest; None where planes are straight."""
    if not planes or set(np.abs(planes[0].axes).ravel().tolist()) == {0.0, 1.0}:
        return None
    row, column = planes[0].axes
    own = np.stack([row, column, np.cross(row, column)])
    nearest = max(itertools.permutations(range(3)), key=lambda order: float(np.abs(np.diag(own[list(order)])).sum()))
    chosen = own[list(nearest)]
    return np.asarray(chosen * np.sign(np.diag(chosen))[:, None], np.float64)


def _straightened(plane: Plane, tilt: NDArray[np.float64]) -> Plane:
    """The plane in coordinates in which the first is straight; what is tilted otherwise stays tilted there."""
    axes = plane.axes @ tilt.T
    rounded = np.round(axes)
    straight = np.max(np.abs(axes - rounded)) < TILT_TOLERANCE
    return replace(plane, axes=rounded + 0.0 if straight else axes, position_xyz_mm=tilt @ plane.position_xyz_mm)


def _around(own: Grid, tilt: NDArray[np.float64]) -> Grid:
    """The grid along the patient's axes, of the same spacing, in one in tilted coordinates; on whole multiples of it."""
    last = np.array(own.shape_zyx) - 1.0
    index = np.array([[a, b, c] for a in (0.0, last[0]) for b in (0.0, last[1]) for c in (0.0, last[2])])
    corners = own.position_xyz_mm(index) @ tilt
    step = np.round(np.array(own.spacing_zyx_mm)[::-1], 4)  # positions are rounded, and spacings come from them
    first, last_of = np.ceil(corners.min(axis=0) / step - 1e-6), np.floor(corners.max(axis=0) / step + 1e-6)
    nx, ny, nz = (max(1, int(n)) for n in last_of - first + 1)
    (x, y, z), (dx, dy, dz) = (first * step).tolist(), step.tolist()
    return Grid((nz, ny, nx), (dz, dy, dx), (x, y, z))


def grid_of(
    axes: NDArray[np.float64],
    corner_xyz_mm: NDArray[np.float64],
    shape_yx: tuple[int, int],
    spacing_yx_mm: tuple[float, float],
    across: int,
    lowest_mm: float,
    step_mm: float,
    count: int,
) -> Grid:
    """The axis-aligned grid of even planes: their first pixel's place, and where along ``across`` the lowest lies."""
    shape, step, origin = [0, 0, 0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    shape[across], step[across], origin[across] = count, step_mm, float(lowest_mm)
    for direction, number, pixel in zip(axes, shape_yx[::-1], spacing_yx_mm[::-1], strict=True):
        along = int(np.argmax(np.abs(direction)))
        start = float(corner_xyz_mm[along])
        shape[along], step[along] = number, pixel
        origin[along] = start if direction[along] > 0 else start - (number - 1) * pixel
    return Grid((shape[2], shape[1], shape[0]), (step[2], step[1], step[0]), (origin[0], origin[1], origin[2]))


def _check_uniform(planes: Sequence[Plane], findings: Findings, *, tilted: bool) -> None:
    """All planes must lie on one lattice; compared with the first in name order."""
    if not planes:
        return
    first = planes[0]
    across = int(np.argmax(np.abs(np.cross(*first.axes))))
    within = [axis for axis in (0, 1, 2) if axis != across]
    same = f"differs from {first.name}"
    for plane in planes[1:]:
        differences = {
            "Rows": plane.shape_yx != first.shape_yx,
            "PixelSpacing": not np.allclose(plane.spacing_yx_mm, first.spacing_yx_mm, rtol=1e-4),
            "ImageOrientationPatient": not np.array_equal(plane.axes, first.axes),
        }
        remedies = {
            "Rows": "A series has one matrix: remove what is not part of it",
            "PixelSpacing": "A series has one pixel spacing: remove what is not part of it",
            "ImageOrientationPatient": "A series has one orientation: remove what is not part of it",
        }
        for keyword, differs in differences.items():
            if differs:
                findings.problem(same, remedies[keyword], file=plane.name, keyword=keyword)
        shifted = np.max(np.abs(plane.position_xyz_mm[within] - first.position_xyz_mm[within]))
        if not differences["ImageOrientationPatient"] and shifted > POSITION_TOLERANCE_mm:
            axes = " or ".join("xyz"[axis] for axis in within)
            findings.problem(
                f"tilted, and not stacked at right angles to its plane like {first.name} (a tilted gantry)"
                if tilted
                else f"{axes} {same}: the slices are shifted against each other",
                "Resample to untilted axial slices where it was made"
                if tilted
                else "Export untilted slices of one reconstruction",
                file=plane.name,
                keyword="ImagePositionPatient",
            )


def _check_frames(planes: Sequence[Plane], findings: Findings, *, same_frame: bool) -> None:
    """All planes must lie in one frame of reference, by their tags or by a person's word."""
    frames = Counter(plane.frame_uid for plane in planes)
    if len(frames) < 2:
        return
    if same_frame:
        findings.note(
            "decide", f"The slices state {len(frames)} frames of reference: taken for one because a person says so."
        )
        return
    usual = frames.most_common(1)[0][0]
    odd = [plane.name for plane in planes if plane.frame_uid != usual]
    each = f"{len(odd)} of them state(s) another than the others"
    if len(frames) == len(planes):
        each = "each states one of its own, as an anonymiser leaves it that gives every file new UIDs"
    findings.problem(
        f"{len(frames)} frames of reference among {len(planes)} slices: {each}",
        f"Export the series again; if a person has made sure that the slices lie in one space, say so: {SAME_FRAME}",
        file="" if len(frames) == len(planes) else odd[0],
        keyword="FrameOfReferenceUID",
    )


def _distinct(
    planes: Sequence[Plane], axis: int, findings: Findings, same_pixels: Callable[[Plane, Plane], bool] | None
) -> list[Plane]:
    """Planes by position, each place once. The same image twice is dropped; two images in one place are a problem."""
    ordered = sorted(planes, key=lambda p: (p.position_xyz_mm[axis], p.name))
    places: list[list[Plane]] = []
    for plane in ordered:
        if places and plane.position_xyz_mm[axis] - places[-1][0].position_xyz_mm[axis] < POSITION_TOLERANCE_mm:
            places[-1].append(plane)
        else:
            places.append([plane])
    kept = [_images(place) for place in places]
    if dropped := len(ordered) - sum(map(len, kept)):
        findings.note("done", f"{dropped} slice file(s) present twice (same SOP Instance UID) read once.")
    shared = [place for place in kept if len(place) > 1]
    if shared and same_pixels is None:
        findings.note("warning", f"{len(shared)} of {len(kept)} places hold more than one image.")
    elif shared and same_pixels is not None:
        differing = (place for place in shared if not all(same_pixels(place[0], other) for other in place[1:]))
        first = next(differing, None)
        if first is None:
            copied = sum(len(place) - 1 for place in shared)
            findings.note(
                "done", f"{copied} slice(s) present twice under different UIDs with equal pixels read once."
            )
        elif len(shared) > MOST_SHARED:  # the first that differs decides: reading the pixels of all would take long
            _problem_of_volumes(shared, len(kept), findings)
        else:
            _problem_of_places([first, *differing], axis, findings)
    return [place[0] for place in kept]


def _images(place: Sequence[Plane]) -> list[Plane]:
    """The different objects of one place."""
    return list({(plane.sop_uid, plane.frame.index): plane for plane in reversed(place)}.values())[::-1]


def _problem_of_places(differing: Sequence[Sequence[Plane]], axis: int, findings: Findings) -> None:
    """Single places that hold two different images."""
    for first, *others in differing:
        for series in others:
            findings.problem(
                f"the same position as {first.name} ({'xyz'[axis]} {series.position_xyz_mm[axis]:g} mm), another image",
                "Remove the slice that does not belong to the reconstruction",
                file=series.name,
                keyword="ImagePositionPatient",
                than=first.name,
            )


def _problem_of_volumes(shared: Sequence[Sequence[Plane]], count: int, findings: Findings) -> None:
    """A series that holds several volumes, which none of the usual tags tells apart."""
    sizes = sorted({len(place) for place in shared})
    images = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    telling = [
        tag_name(keyword)
        for keyword in TELLING
        if all(len({plane.frame.text(keyword) for plane in place}) == len(place) for place in shared)
        and len({plane.frame.text(keyword) for place in shared for plane in place}) == sizes[-1]
    ]
    by = f" {' and '.join(telling)} tell(s) them apart." if telling else ""
    findings.problem(
        f"{len(shared)} of {count} places of the image series hold {images} images each: several volumes in one"
        " series, such as breathing phases, repetitions or reconstructions",
        "Put the files of one volume into a folder of its own and give that, or export each volume as a series of its"
        f" own.{by}",
        keyword="ImagePositionPatient",
    )


def _spacing(
    planes: Sequence[Plane], where: NDArray[np.float64], findings: Findings
) -> tuple[float, NDArray[np.float64] | None]:
    """Distance of slices from their positions; the coordinates of even planes where they must be interpolated."""
    steps = np.diff(where)
    usual = float(np.median(steps))
    off = np.abs(steps - usual) > max(POSITION_TOLERANCE_mm, 0.01 * usual)
    if not off.any():
        return float(where[-1] - where[0]) / (len(where) - 1), None
    missing = np.rint(steps / usual).astype(int) - 1
    whole = np.abs(steps / usual - 1 - missing) <= 0.1
    gap = off & (missing >= 1) & whole & (missing <= MOST_MISSING) & (steps <= LARGEST_GAP_mm)
    jitter = off & (np.abs(steps / usual - 1) <= JITTER)
    # As many wide steps as these are another spacing, not a slice lost here and there.
    if missing[gap].sum() > max(1, len(planes) // 10):
        gap[:] = False
    for index in np.flatnonzero(off & ~gap & ~jitter).tolist():
        guess = f": {missing[index]} slice(s) missing" if missing[index] > 0 and whole[index] else ""
        findings.problem(
            f"{steps[index]:g} mm from {planes[index].name}, elsewhere {usual:g} mm{guess}",
            "Add the missing slices or export a series of even spacing",
            file=planes[index + 1].name,
            keyword="ImagePositionPatient",
            than=planes[index].name,
        )
    count = round(float(where[-1] - where[0]) / usual) + 1
    even = np.linspace(where[0], where[-1], count)
    if gap.any():
        places = ", ".join(f"{where[i]:g} to {where[i + 1]:g}" for i in np.flatnonzero(gap).tolist())
        findings.note(
            "warning",
            f"{missing[gap].sum()} slice(s) missing (between {places} mm) were interpolated linearly from their"
            " neighbours. Add the slices if they exist.",
        )
    if jitter.any():
        findings.note(
            "warning",
            f"Slices are spaced unevenly ({steps[~gap].min():g} to {steps[~gap].max():g} mm): resampled linearly to"
            f" {even[1] - even[0]:g} mm.",
        )
    return float(even[1] - even[0]), even


def interpolated(
    planes: NDArray[np.float32], where: NDArray[np.float64], even: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Planes at even places, linear between the two neighbours."""
    above = np.clip(np.searchsorted(where, even), 1, len(where) - 1)
    share = np.clip((even - where[above - 1]) / (where[above] - where[above - 1]), 0.0, 1.0).astype(np.float32)
    result = np.empty((len(even), *planes.shape[1:]), np.float32)
    for index, (upper, part) in enumerate(zip(above.tolist(), share.tolist(), strict=True)):
        result[index] = planes[upper - 1] * np.float32(1 - part) + planes[upper] * np.float32(part)
    return result
