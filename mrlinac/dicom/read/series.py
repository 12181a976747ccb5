"""A CT or MR series as an image on an axis-aligned grid.

CT becomes HU; MR keeps its own units and never meets an HU curve. What cannot be read rightly is refused with the
tag and the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrlinac.anatomy.field_of_view import beyond_circle
from mrlinac.anatomy.image import Image, Quantity
from mrlinac.anatomy.position import Position
from mrlinac.dicom.problems import Findings, integer, read_dataset, text
from mrlinac.dicom.read.pixels import stored_values
from mrlinac.dicom.read.planes import Frame, ImageSeries, Plane, described_axes, plane_of, without_localisers
from mrlinac.dicom.read.stack import Stack, stack

AIR_FLOOR_HU = -1024.0
"""The least HU of a 12-bit CT with the usual intercept; less is padding outside the reconstruction circle."""

MOST_UNREADABLE = 4
"""After this many slices with unreadable pixels the rest is not tried: a decoder may take seconds for each."""

LARGEST_HU = 1e5
"""Extended CT scales end below 65536 HU; more is a damaged rescale slope."""

POSITIONS: tuple[Position, ...] = get_args(Position)

LYING = {
    "HFS": "head-first supine",
    "HFP": "head-first prone",
    "HFDL": "head-first on the left side",
    "HFDR": "head-first on the right side",
    "FFS": "feet-first supine",
    "FFP": "feet-first prone",
    "FFDL": "feet-first on the left side",
    "FFDR": "feet-first on the right side",
}


@dataclass(frozen=True)
class Series:
    """An image series read."""

    image: Image
    position: Position
    frame_uid: str
    study_uid: str
    series_uid: str
    slice_uids: tuple[str, ...]
    header: Dataset


def read_series(
    series: ImageSeries, findings: Findings, *, position: str | None = None, same_frame: bool = False
) -> Series | None:
    """Read one series.

    Parameters
    ----------
    series : ImageSeries
        Slices of one series in any order, or the frames of multi-frame objects.
    findings : Findings
        Gets problems and notes.
    position : str, optional
        The patient position as stated by the user, where the files lack it.
    same_frame : bool
        A person says that slices of several frames of reference, or of none, lie in one space.

    Returns
    -------
    Series or None
        None when there were problems; they are in ``findings``.
    """
    before = findings.count
    quantity: Quantity = "MR" if series.kind == "MR" else "HU"
    frames = without_localisers(series.frames, findings)
    lying = _position(frames, position, findings)
    _check_frame_counts(frames, findings)
    planes = [p for p in (plane_of(frame, findings, same_frame=same_frame) for frame in frames) if p is not None]
    if quantity == "HU":
        _check_rescale(frames, findings)
    pixels = Pixels(findings)
    stacked = stack(planes, findings, pixels.same, lost=len(frames) - len(planes), same_frame=same_frame)
    if findings.count > before or stacked is None or lying is None:
        return None
    _note_geometry(stacked, series.kind, lying, findings)
    values = pixels.values(stacked, quantity)
    if findings.count > before or values is None:
        return None
    if quantity == "HU":
        values = _floored(values, pixels.padded, findings)
        _note_tube(stacked, findings)
    else:
        _note_mr(stacked, values, findings)
    header = stacked.planes[0].frame.found.header
    # Planes that are not axial were turned: the image is no longer that series, and its slices are not to be referred to.
    same = stacked.axis == 2 and stacked.tilt is None
    volume = stacked.volume(values)
    unseen = _beyond_circle(volume, findings) if quantity == "HU" else None
    if stacked.tilt is not None:
        volume, unseen = _untilted(stacked, volume, unseen, quantity, findings)
    return Series(
        Image(stacked.grid, volume, quantity, unseen),
        lying,
        stacked.planes[0].frame_uid,
        text(header, "StudyInstanceUID"),
        series.uid if same else "",
        stacked.slice_uids(),
        header,
    )


def _beyond_circle(volume: NDArray[np.float32], findings: Findings) -> NDArray[np.bool_] | None:
    """What lies outside a CT's circle of reconstruction, in every slice."""
    outside = beyond_circle(volume)
    if outside is None or not outside.any():
        return None
    findings.note(
        "info", f"The scanner imaged a circle: the {outside.mean():.0%} of each slice outside it show nothing."
    )
    return np.broadcast_to(outside, volume.shape)


def _untilted(
    stacked: Stack,
    volume: NDArray[np.float32],
    unseen: NDArray[np.bool_] | None,
    quantity: Quantity,
    findings: Findings,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Tilted slices resampled along the patient's axes, and what they do not reach."""
    result = stacked.resampled(volume)
    beside = np.isnan(result)
    result[beside] = AIR_FLOOR_HU if quantity == "HU" else 0.0
    findings.note(
        "done",
        f"Slices are tilted by {stacked.tilt_deg:.1f}° against the patient's axes: resampled linearly onto these;"
        f" {beside.mean():.0%} of the box are corners that the slices do not reach"
        f" ({'air' if quantity == 'HU' else 'zero'} there). Small things and edges are blurred by up to a slice.",
    )
    if unseen is not None:
        beside |= ~(stacked.resampled((~unseen).astype(np.float32)) > 0.5)
    beside.setflags(write=False)
    return result, beside


def _position(frames: Sequence[Frame], stated: str | None, findings: Findings) -> Position | None:
    """The one patient position of all slices, tagged or stated."""
    positions: dict[str, str] = {}
    for frame in {f.found.path: f for f in frames}.values():
        tagged = text(frame.found.header, "PatientPosition").upper()
        if not tagged and stated is None:
            findings.problem(
                "missing",
                'Say how the patient lies, for instance --position HFS, or position = "HFS" in patient.toml',
                file=frame.name,
                keyword="PatientPosition",
            )
        elif tagged and stated is not None and tagged != stated:
            findings.problem(
                f"is {tagged}, but {stated} was stated",
                "Leave out the statement or check the export",
                file=frame.name,
                keyword="PatientPosition",
            )
        elif (tagged or stated) not in POSITIONS:
            findings.problem(
                f"is {tagged or stated}; known: {', '.join(POSITIONS)}",
                "Export a series of a lying patient",
                file=frame.name,
                keyword="PatientPosition",
            )
        elif positions and (tagged or stated) not in positions:
            findings.problem(
                f"is {tagged}, elsewhere {next(iter(positions))}",
                "A series has one patient position: remove what is not part of it",
                file=frame.name,
                keyword="PatientPosition",
            )
        positions.setdefault(tagged or stated or "", frame.name)
    return next((known for known in POSITIONS if known in positions), None)


def _check_frame_counts(frames: Sequence[Frame], findings: Findings) -> None:
    """A multi-frame object must have a place for each of its frames."""
    for file in {f.found.path: f.found for f in frames if f.index is not None}.values():
        stated = integer(file.header, "NumberOfFrames") or 0
        held = len(file.header.get("PerFrameFunctionalGroupsSequence") or [])
        if stated != held or stated < 1:
            findings.problem(
                f"says {stated}, but {held} frame(s) have a place (Per-Frame Functional Groups)",
                "Export the object again, or as single slices",
                file=file.name,
                keyword="NumberOfFrames",
            )


def _check_rescale(frames: Sequence[Frame], findings: Findings) -> None:
    for frame in frames:
        for keyword in ("RescaleSlope", "RescaleIntercept"):
            value = frame.numbers(keyword)
            if value is None or value.size != 1 or (keyword == "RescaleSlope" and value[0] == 0):
                findings.problem(
                    "missing or not a finite number", "Export the series again", file=frame.name, keyword=keyword
                )
        kind = frame.text("RescaleType").upper()
        if kind not in ("", "HU", "HU_MOD", "US"):
            findings.problem(
                f"is {kind}, not HU", "Give a CT in Hounsfield units", file=frame.name, keyword="RescaleType"
            )


class Pixels:
    """Reads pixels, each file once, and counts what was padding."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.padded = 0
        self._path: object = None
        self._dataset: Dataset | None = None
        self._raw: NDArray[np.integer] | None = None

    def same(self, this: Plane, other: Plane) -> bool:
        """Whether two planes hold the same stored pixels."""
        quiet = Findings()
        first, second = (self._stored(plane, quiet) for plane in (this, other))
        return first is not None and second is not None and np.array_equal(first, second)

    def values(self, stacked: Stack, quantity: Quantity) -> NDArray[np.float32] | None:
        """Rescaled values [plane, row, column] of all planes; None with a problem noted."""
        before = self.findings.count
        values = np.empty((len(stacked.planes), *stacked.planes[0].shape_yx), np.float32)
        for index, plane in enumerate(stacked.planes):
            raw = self._stored(plane, self.findings)
            if raw is not None:
                values[index] = self._rescaled(plane, raw, quantity)
            elif self.findings.count - before >= MOST_UNREADABLE and index + 1 < len(stacked.planes):
                self.findings.problem(
                    f"after {MOST_UNREADABLE} slices without pixels the other {len(stacked.planes) - index - 1} were not"
                    " tried",
                    "Mend these first",
                )
                break
        return values if self.findings.count == before else None

    def _stored(self, plane: Plane, findings: Findings) -> NDArray[np.integer] | None:
        file, index = plane.frame.found, plane.frame.index
        if self._path != file.path:
            self._path, self._raw, self._dataset = file.path, None, None
            try:
                self._dataset = read_dataset(file.path)
            except Exception as error:
                findings.problem(
                    f"damaged ({type(error).__name__} while reading pixels)",
                    "Export it again",
                    file=file.name,
                    keyword="PixelData",
                )
                return None
            self._raw = stored_values(self._dataset, file.name, findings)
        if self._raw is None:
            return None
        wanted: NDArray[np.integer] | None
        if self._raw.ndim == 3:
            wanted = self._raw[index] if index is not None and index < len(self._raw) else None
        else:
            wanted = self._raw if index in (None, 0) else None
        if wanted is None or wanted.shape != plane.shape_yx:
            findings.problem(
                f"{self._raw.shape} pixels instead of {plane.shape_yx} a frame",
                "Export it again",
                file=plane.name,
                keyword="PixelData",
            )
            return None
        return wanted

    def _rescaled(self, plane: Plane, raw: NDArray[np.integer], quantity: Quantity) -> NDArray[np.float32]:
        slope, intercept = plane.frame.numbers("RescaleSlope"), plane.frame.numbers("RescaleIntercept")
        values = raw.astype(np.float32)
        if slope is not None and intercept is not None:
            values = values * np.float32(slope[0]) + np.float32(intercept[0])
        if quantity == "HU":
            # A padding value inside the range of tissue would punch holes; only what stands for nothing is taken out.
            padding = _padding(self._dataset, raw) & (values < AIR_FLOOR_HU)
            values[padding] = AIR_FLOOR_HU
            self.padded += int(padding.sum())
        limit = LARGEST_HU if quantity == "HU" else np.inf
        top = float(np.abs(values).max())
        if not np.isfinite(top) or top > limit:
            self.findings.problem(
                f"values up to {top:g}: absurd",
                "Check the export",
                file=plane.name,
                keyword="RescaleSlope",
            )
        return values


def _padding(dataset: Dataset | None, raw: NDArray[np.integer]) -> NDArray[np.bool_]:
    value = None if dataset is None else integer(dataset, "PixelPaddingValue")
    if value is None or dataset is None:
        return np.zeros(raw.shape, bool)
    limit = integer(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return np.asarray((raw >= low) & (raw <= high))


def _note_geometry(stacked: Stack, kind: str, lying: Position, findings: Findings) -> None:
    """What the geometry is, and what the header says otherwise."""
    first, grid = stacked.planes[0], stacked.grid
    (rows, columns), (dz, dy, dx) = first.shape_yx, grid.spacing_zyx_mm
    step = (dx, dy, dz)[stacked.axis]
    low, high = grid.lower_xyz_mm, grid.upper_xyz_mm
    size = "×".join(f"{top - bottom:.0f}" for bottom, top in zip(low, high, strict=True))
    findings.note(
        "info",
        f"{kind}: {len(stacked.planes)} {described_axes(first).split(',')[0]} slices of {columns}×{rows}, spacing"
        f" {dx:g}×{dy:g}×{dz:g} mm (x, y, z; {'xyz'[stacked.axis]} from the slice positions), z"
        f" {grid.z_mm[0]:g} to {grid.z_mm[-1]:g} mm, field of view {size} mm, {LYING[lying]}.",
    )
    turned = described_axes(first)
    if turned != "axial, rows to the left, columns to the back":
        findings.note("done", f"Slices are {turned}: turned onto x to the left, y to the back, z to the head.")
    thickness = first.frame.numbers("SliceThickness")
    if thickness is not None and abs(float(thickness[0]) - step) > 0.01 * step:
        findings.note("done", f"Slice Thickness says {thickness[0]:g} mm, the positions {step:g} mm: positions used.")
    _note_rescale(stacked, findings)
    if text(first.frame.found.header, "LossyImageCompression") == "01":
        findings.note("decide", "The pixels were compressed with loss: values differ from what was scanned.")


def _note_rescale(stacked: Stack, findings: Findings) -> None:
    scales = {
        tuple(
            float(v[0]) if (v := plane.frame.numbers(k)) is not None else 0.0
            for k in ("RescaleSlope", "RescaleIntercept")
        )
        for plane in stacked.planes
    }
    if len(scales) > 1:
        findings.note("info", f"Rescale slope and intercept differ between slices ({len(scales)} pairs): each used.")


def _note_tube(stacked: Stack, findings: Findings) -> None:
    if stacked.planes[0].frame.numbers("KVP") is None:
        findings.note(
            "decide",
            "No tube voltage (KVP (0018,0060)): the CT-to-density curve cannot be checked against it; it is for you"
            " to say whether the curve fits the scanner.",
        )


def _note_mr(stacked: Stack, values: NDArray[np.float32], findings: Findings) -> None:
    header = stacked.planes[0].frame.found.header
    findings.note(
        "info",
        f"MR values lie between {values.min():g} and {values.max():g} in the scanner's own units; they never go"
        " through an HU curve.",
    )
    kinds = set(text(header, "ImageType").upper().replace("'", " ").replace("[", " ").replace(",", " ").split())
    if kinds & {"DIS2D", "DIS3D"}:
        corrected = "in three dimensions" if "DIS3D" in kinds else "in the slices' planes only"
        findings.note("info", f"The scanner corrected gradient distortion {corrected} (Image Type).")
    else:
        findings.note(
            "decide",
            "Nothing says that gradient distortion was corrected: towards the edge of the field of view the geometry"
            " may be off by millimetres.",
        )


def _floored(values: NDArray[np.float32], padded: int, findings: Findings) -> NDArray[np.float32]:
    """HU not below air, with notes on padding and on saturation."""
    if padded:
        findings.note(
            "done", f"{padded} voxels of padding outside the reconstruction circle set to {AIR_FLOOR_HU:g} HU."
        )
    below = values < AIR_FLOOR_HU
    if below.any():
        findings.note(
            "done",
            f"{int(below.sum())} voxels below {AIR_FLOOR_HU:g} HU without a padding tag (least {values.min():g} HU)"
            f" set to {AIR_FLOOR_HU:g} HU.",
        )
        values[below] = AIR_FLOOR_HU
    _note_saturation(values, findings)
    return values


def _note_saturation(values: NDArray[np.float32], findings: Findings) -> None:
    """Say where the CT numbers ran into the end of their scale: many voxels at exactly the largest value."""
    top = float(values.max())
    at_top = int((values == top).sum())
    if top > 2000 and at_top >= 10:
        findings.note(
            "decide",
            f"{at_top} voxels are saturated at {top:g} HU (metal): their density is unknown. Outline the metal and"
            " override its density, and see which beams cross it.",
        )
    elif top > 3000:
        findings.note("decide", f"HU up to {top:g}: metal? Where it is, outline it and override its density.")
