"""Single image planes: slices of a classic series, frames of a multi-frame object, in one form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrlinac.dicom.problems import SAME_FRAME, Findings, integer, numbers, text
from mrlinac.dicom.scan import Found, series_key

TILT_TOLERANCE = 1e-3
"""Direction cosines may be rounded; 1e-3 moves the corner of a 500 mm slice by half a millimetre."""

LARGEST_COSINE = 2.0
"""A larger value is no direction cosine, and its square may overflow."""

POSITION_TOLERANCE_mm = 0.05
"""Slice positions may be rounded by this much before a spacing counts as uneven or a slice as shifted."""

LARGEST_mm = 10_000.0
"""No patient coordinate lies farther out than this: a larger one is damage."""

SPACING_mm = (0.02, 50.0)
"""No pixel of a clinical scanner is smaller or larger than this."""

MACROS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "StackID": "FrameContentSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "KVP": "CTXRayDetailsSequence",
}
"""Functional group that holds a value in a multi-frame object (PS3.3 C.7.6.16)."""

SPLITTING = (
    "StackID",
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "EffectiveEchoTime",
    "EchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "AcquisitionNumber",
    "ImageType",
    "TriggerTime",
    "NominalPercentageOfCardiacPhase",
)
"""What tells the volumes of one series apart (echoes, phases, repetitions), in the order tried."""


@dataclass(frozen=True)
class Frame:
    """A slice, or one frame of a multi-frame object; ``index`` is None for a slice."""

    found: Found
    index: int | None = None

    @property
    def name(self) -> str:
        """As errors name it."""
        return self.found.name if self.index is None else f"{self.found.name}, frame {self.index + 1}"

    def holder(self, keyword: str) -> Dataset:
        """The data set that holds a value: of the frame, shared by all frames, or the object itself."""
        if self.index is not None and keyword in MACROS:
            per_frame = self.found.header.get("PerFrameFunctionalGroupsSequence") or []
            shared = self.found.header.get("SharedFunctionalGroupsSequence") or []
            own = [per_frame[self.index]] if self.index < len(per_frame) else []
            for group in (*own, *shared):
                items = group.get(MACROS[keyword])
                if items and keyword in items[0]:
                    item: Dataset = items[0]
                    return item
        return self.found.header

    def numbers(self, keyword: str) -> NDArray[np.float64] | None:
        """Finite numbers of a tag, wherever the object keeps them."""
        return numbers(self.holder(keyword), keyword)

    def text(self, keyword: str) -> str:
        """Text of a tag, wherever the object keeps it."""
        return text(self.holder(keyword), keyword)


@dataclass(frozen=True)
class ImageSeries:
    """The frames of one volume: a series, or the part of one that an echo, a phase or the like makes."""

    uid: str
    part: str
    frames: tuple[Frame, ...]

    @property
    def key(self) -> str:
        """Eight digits; a part of a series has its number behind them."""
        return series_key(self.uid) + (f".{self.part}" if self.part else "")

    @property
    def header(self) -> Dataset:
        """Header of the first file."""
        return self.frames[0].found.header

    @property
    def kind(self) -> str:
        """CT or MR."""
        return "MR" if text(self.header, "Modality").upper() == "MR" or self.frames[0].found.is_mr else "CT"

    @property
    def frame_uid(self) -> str:
        """Frame of reference of the first slice."""
        return text(self.header, "FrameOfReferenceUID")


@dataclass(frozen=True)
class Plane:
    """One plane's geometry, checked."""

    frame: Frame
    position_xyz_mm: NDArray[np.float64]
    axes: NDArray[np.float64]
    spacing_yx_mm: tuple[float, float]
    shape_yx: tuple[int, int]
    frame_uid: str
    sop_uid: str

    @property
    def name(self) -> str:
        """As errors name it."""
        return self.frame.name


def frames_of(file: Found) -> list[Frame]:
    """The frames of an object: one for a slice."""
    if not file.is_multi_frame:
        return [Frame(file)]
    stated = max(1, integer(file.header, "NumberOfFrames") or 1)
    held = len(file.header.get("PerFrameFunctionalGroupsSequence") or [])
    # The frames that have a place; where the numbers differ, reading says so.
    return [Frame(file, index) for index in range(min(stated, held) or 1)]


def image_series(files: Sequence[Found]) -> list[ImageSeries]:
    """Volumes of a folder, localisers among them still; series that hold several volumes are split.

    A series is split where two different images lie in one place, and one tag tells the images apart so that each
    part has every place once.
    """
    by_uid: dict[str, list[Frame]] = {}
    for file in files:
        by_uid.setdefault(file.series_uid, []).extend(frames_of(file))
    return [part for uid, frames in by_uid.items() for part in _volumes(uid, frames)]


def _volumes(uid: str, frames: list[Frame]) -> list[ImageSeries]:
    whole = [ImageSeries(uid, "", tuple(frames))]
    distinct = list({(text(f.found.header, "SOPInstanceUID"), f.index): f for f in frames}.values())
    if 2 * _places(distinct) > len(distinct) + 1:
        return whole  # at most a few doubles: those are dealt with, or refused, one by one
    for keyword in SPLITTING:
        parts: dict[str, list[Frame]] = {}
        for frame in frames:
            parts.setdefault(frame.text(keyword), []).append(frame)
        if len(parts) > 1 and all(_places(part) == len(part) > 1 for part in parts.values()):
            return [ImageSeries(uid, f"{number}", tuple(parts[v])) for number, v in enumerate(sorted(parts), start=1)]
    return whole


def _places(frames: Sequence[Frame]) -> int:
    """How many different places the frames lie in."""
    places = set()
    for frame in frames:
        where = frame.numbers("ImagePositionPatient")
        # Rounded to 0.01 mm; what is absurdly far away is one place.
        places.add(None if where is None else tuple(np.round(np.clip(where, -2 * LARGEST_mm, 2 * LARGEST_mm), 2)))
    return len(places)


def without_localisers(frames: Sequence[Frame], findings: Findings) -> list[Frame]:
    """The frames without localisers: those that say so, and single images across the plane of all others."""
    kept = [f for f in frames if "LOCALIZER" not in text(f.found.header, "ImageType").upper()]
    if len(kept) < len(frames):
        findings.note("done", f"{len(frames) - len(kept)} localiser(s) among the slices left out.")
    across = [_normal_axis(frame) for frame in kept]
    count = Counter(axis for axis in across if axis is not None)
    usual = count.most_common(1)[0][0] if count else None
    odd = [f for f, axis in zip(kept, across, strict=True) if axis is not None and axis != usual]
    if odd and 4 * len(odd) <= len(kept):
        findings.note("done", f"{len(odd)} image(s) in another plane than all others (localisers) left out.")
        kept = [f for f, axis in zip(kept, across, strict=True) if axis in (None, usual)]
    return kept


def _normal_axis(frame: Frame) -> int | None:
    """The world axis nearest to a plane's normal."""
    axes = frame.numbers("ImageOrientationPatient")
    straight = None if axes is None or axes.size != 6 else perpendicular(axes)
    if straight is None:
        return None  # damage, which is said when the plane is read: it must not pass for a localiser
    return int(np.argmax(np.abs(np.cross(*straight))))


def aligned(axes: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Direction cosines rounded to axis-aligned ones (rows: rows' and columns' direction); None where tilted."""
    if np.max(np.abs(axes)) > LARGEST_COSINE:
        return None
    directions = np.round(axes).reshape(2, 3)
    right = np.abs(directions).sum(axis=1).tolist() == [1, 1] and not np.any(np.abs(directions).prod(axis=0))
    if not right or np.max(np.abs(axes.reshape(2, 3) - directions)) > TILT_TOLERANCE:
        return None
    return np.asarray(directions, np.float64)


def perpendicular(axes: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Direction cosines of tilted planes made exactly orthonormal (rows: rows' and columns' direction); None if not."""
    if np.max(np.abs(axes)) > LARGEST_COSINE:
        return None
    row, column = axes.reshape(2, 3)
    lengths = np.linalg.norm(axes.reshape(2, 3), axis=1)
    if np.max(np.abs(lengths - 1)) > TILT_TOLERANCE or abs(float(row @ column)) > TILT_TOLERANCE:
        return None
    row = row / lengths[0]
    column = column - (column @ row) * row
    return np.stack([row, column / np.linalg.norm(column)])


def plane_of(frame: Frame, findings: Findings, *, same_frame: bool = False) -> Plane | None:
    """Geometry of one frame; None, with its problems noted, where it is missing or absurd.

    ``same_frame``: a person says in which space the image lies; it need not say so itself.
    """
    header, name = frame.found.header, frame.name
    before = findings.count

    def wanted(keyword: str, count: int, *, positive: bool = False) -> NDArray[np.float64]:
        values = frame.numbers(keyword)
        if values is None or values.size != count or (positive and not np.all(values > 0)):
            reason = "missing or not " + (f"{count} finite numbers" if count > 1 else "a finite number")
            reason += " above zero" if positive else ""
            findings.problem(reason, "Export the series again", file=name, keyword=keyword)
            return np.full(count, np.nan)
        return values

    where = wanted("ImagePositionPatient", 3)
    axes = wanted("ImageOrientationPatient", 6)
    spacing = wanted("PixelSpacing", 2, positive=True)
    rows, columns = wanted("Rows", 1, positive=True), wanted("Columns", 1, positive=True)
    if np.any(np.abs(where) > LARGEST_mm):
        findings.problem(
            "farther than 10 m from the origin", "Export the series again", file=name, keyword="ImagePositionPatient"
        )
    if np.any(spacing < SPACING_mm[0]) or np.any(spacing > SPACING_mm[1]):
        findings.problem(
            f"is {spacing[0]:g}\\{spacing[1]:g} mm: absurd", "Check the export", file=name, keyword="PixelSpacing"
        )
    straight: NDArray[np.float64] | None = axes
    if np.all(np.isfinite(axes)):
        straight = aligned(axes)
        straight = perpendicular(axes) if straight is None else straight
    if straight is None:
        shown = "\\".join(f"{a:.4g}" for a in axes)
        findings.problem(
            f"is {shown}: not two directions at right angles",
            "Export the series again",
            file=name,
            keyword="ImageOrientationPatient",
        )
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not text(header, keyword):
            findings.problem("missing", "Export the series again", file=name, keyword=keyword)
    if not text(header, "FrameOfReferenceUID") and not same_frame:
        remedy = (
            "Export the series again; if a person has made sure that image and structures lie in one space, say so"
        )
        findings.problem("missing", f"{remedy}: {SAME_FRAME}", file=name, keyword="FrameOfReferenceUID")
    if findings.count > before or straight is None:
        return None
    return Plane(
        frame,
        where,
        straight,
        (float(spacing[0]), float(spacing[1])),
        (int(rows[0]), int(columns[0])),
        text(header, "FrameOfReferenceUID"),
        text(header, "SOPInstanceUID"),
    )


def described_axes(plane: Plane) -> str:
    """Plane and directions in words: ``axial, rows to the left, columns to the back``; the nearest, where tilted."""
    towards = {(0, 1): "left", (0, -1): "right", (1, 1): "back", (1, -1): "front", (2, 1): "head", (2, -1): "feet"}
    along = []
    for direction in plane.axes:
        axis = int(np.argmax(np.abs(direction)))
        along.append(towards[axis, 1 if direction[axis] > 0 else -1])
    across = int(np.argmax(np.abs(np.cross(plane.axes[0], plane.axes[1]))))
    return f"{('sagittal', 'coronal', 'axial')[across]}, rows to the {along[0]}, columns to the {along[1]}"


__all__ = [
    "Frame",
    "ImageSeries",
    "POSITION_TOLERANCE_mm",
    "Plane",
    "aligned",
    "described_axes",
    "image_series",
    "perpendicular",
    "plane_of",
    "without_localisers",
]
