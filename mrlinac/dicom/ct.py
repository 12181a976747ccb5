"""A CT series: from slices as files to an image in HU on an axis-aligned grid.

Head-first supine, even spacing, no tilt. Whatever else comes is refused with the tag and the remedy; nothing is
interpolated or guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.dicom.pixels import stored_values
from mrlinac.dicom.problems import Findings, integer, numbers, read_dataset, text
from mrlinac.dicom.scan import Found

AXIAL = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
"""Image Orientation (Patient) of an axial slice of a head-first supine patient: rows run to +x, columns to +y."""

TILT_TOLERANCE = 1e-3
"""Direction cosines may be rounded; 1e-3 moves the corner of a 500 mm slice by half a millimetre."""

POSITION_TOLERANCE_mm = 0.05
"""Slice positions may be rounded by this much before a spacing counts as uneven or a slice as shifted."""

AIR_FLOOR_HU = -1024.0
"""The least HU of a 12-bit CT with the usual intercept; less is padding outside the reconstruction circle."""


@dataclass(frozen=True)
class Slice:
    """One slice's geometry, checked."""

    found: Found
    position_xyz_mm: NDArray[np.float64]
    spacing_yx_mm: tuple[float, float]
    shape_yx: tuple[int, int]
    frame_uid: str
    sop_uid: str


@dataclass(frozen=True)
class Series:
    """A CT series read."""

    image: Image
    frame_uid: str
    study_uid: str
    series_uid: str
    slice_uids: tuple[str, ...]
    header: Dataset


def read_series(files: Sequence[Found], findings: Findings, *, position: str | None = None) -> Series | None:
    """Read one CT series.

    Parameters
    ----------
    files : sequence of Found
        CT slices of one Series Instance UID, in any order.
    findings : Findings
        Gets problems and notes.
    position : str, optional
        The patient position as stated by the user, where the files lack it.

    Returns
    -------
    Series or None
        None when there were problems; they are in ``findings``.
    """
    before = findings.count
    files = _without_localisers(files, findings)
    _check_position(files, position, findings)
    slices = [s for s in (_geometry(found, findings) for found in files) if s is not None]
    _check_uniform(slices, findings)
    if findings.count > before:
        return None
    slices = _distinct(slices, findings)
    spacing_z_mm = _spacing_mm(slices, findings)
    if findings.count > before or spacing_z_mm is None:
        return None
    _note_header(slices, spacing_z_mm, findings)

    first = slices[0]
    grid = Grid(
        (len(slices), *first.shape_yx),
        (spacing_z_mm, *first.spacing_yx_mm),
        (float(first.position_xyz_mm[0]), float(first.position_xyz_mm[1]), float(first.position_xyz_mm[2])),
    )
    values = _hounsfield(slices, grid, findings)
    if findings.count > before:
        return None
    header = first.found.header
    return Series(
        Image(grid, values, "HU"),
        first.frame_uid,
        text(header, "StudyInstanceUID"),
        first.found.series_uid,
        tuple(s.sop_uid for s in slices),
        header,
    )


def _without_localisers(files: Sequence[Found], findings: Findings) -> list[Found]:
    kept = [f for f in files if "LOCALIZER" not in text(f.header, "ImageType").upper()]
    if len(kept) < len(files):
        findings.note("done", f"{len(files) - len(kept)} localiser(s) among the slices left out.")
    return kept


def _check_position(files: Sequence[Found], stated: str | None, findings: Findings) -> None:
    for found in files:
        tagged = text(found.header, "PatientPosition").upper()
        if not tagged and stated is None:
            findings.problem(
                "missing",
                'If the patient lies head-first supine, say so: position="HFS"',
                file=found.name,
                keyword="PatientPosition",
            )
        elif tagged and stated is not None and tagged != stated:
            findings.problem(
                f"is {tagged}, but {stated} was stated",
                "Leave out the statement or check the export",
                file=found.name,
                keyword="PatientPosition",
            )
        elif (tagged or stated) != "HFS":
            findings.problem(
                f"is {tagged or stated}; only HFS (head-first supine) is read so far",
                "Export a head-first supine series",
                file=found.name,
                keyword="PatientPosition",
            )


def _geometry(found: Found, findings: Findings) -> Slice | None:
    """Geometry of one slice; None, with its problems noted, where it is missing or not axial."""
    header, name = found.header, found.name
    before = findings.count

    def wanted(keyword: str, count: int, *, positive: bool = False) -> NDArray[np.float64]:
        values = numbers(header, keyword)
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
    wanted("RescaleSlope", 1)
    wanted("RescaleIntercept", 1)
    if np.all(np.isfinite(axes)) and np.max(np.abs(axes - AXIAL)) > TILT_TOLERANCE:
        shown = "\\".join(f"{a:.4g}" for a in axes)
        findings.problem(
            f"is {shown}: not an axial slice of a head-first supine patient (tilted, oblique or another position)",
            "Resample to untilted axial slices where it was made; resampling here would hide the tilt",
            file=name,
            keyword="ImageOrientationPatient",
        )
    for keyword in ("FrameOfReferenceUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not text(header, keyword):
            findings.problem("missing", "Export the series again", file=name, keyword=keyword)
    if findings.count > before:
        return None
    return Slice(
        found,
        where,
        (float(spacing[0]), float(spacing[1])),
        (int(rows[0]), int(columns[0])),
        text(header, "FrameOfReferenceUID"),
        text(header, "SOPInstanceUID"),
    )


def _check_uniform(slices: Sequence[Slice], findings: Findings) -> None:
    """All slices must lie on one lattice in one frame; compared with the first in name order."""
    for one in slices[1:]:
        first = slices[0]
        name = one.found.name
        same = f"differs from {first.found.name}"
        if one.shape_yx != first.shape_yx:
            findings.problem(
                f"{same}", "A series has one matrix: remove what is not part of it", file=name, keyword="Rows"
            )
        if not np.allclose(one.spacing_yx_mm, first.spacing_yx_mm, rtol=1e-4):
            findings.problem(
                f"{same}",
                "A series has one pixel spacing: remove what is not part of it",
                file=name,
                keyword="PixelSpacing",
            )
        if np.max(np.abs(one.position_xyz_mm[:2] - first.position_xyz_mm[:2])) > POSITION_TOLERANCE_mm:
            findings.problem(
                f"x or y {same}: the slices are shifted against each other",
                "Export untilted slices of one reconstruction",
                file=name,
                keyword="ImagePositionPatient",
            )
        if one.frame_uid != first.frame_uid:
            findings.problem(
                f"{same}",
                "Slices of two frames of reference cannot be one image",
                file=name,
                keyword="FrameOfReferenceUID",
            )


def _distinct(slices: Sequence[Slice], findings: Findings) -> list[Slice]:
    """Slices by increasing z, each once. The same object twice is dropped; two objects in one place are a problem."""
    ordered = sorted(slices, key=lambda s: (s.position_xyz_mm[2], s.found.name))
    kept: list[Slice] = []
    dropped = 0
    for one in ordered:
        if kept and abs(one.position_xyz_mm[2] - kept[-1].position_xyz_mm[2]) < POSITION_TOLERANCE_mm:
            if one.sop_uid == kept[-1].sop_uid:
                dropped += 1
                continue
            findings.problem(
                f"the same position as {kept[-1].found.name} (z {one.position_xyz_mm[2]:g} mm)",
                "Remove the slice that does not belong to the reconstruction",
                file=one.found.name,
                keyword="ImagePositionPatient",
            )
            continue
        kept.append(one)
    if dropped:
        findings.note("done", f"{dropped} slice file(s) present twice (same SOP Instance UID) read once.")
    return kept


def _spacing_mm(slices: Sequence[Slice], findings: Findings) -> float | None:
    """Distance of slices from their positions; uneven spacing and missing slices are problems."""
    if len(slices) < 2:
        files = ", ".join(s.found.name for s in slices) or "none"
        findings.problem(
            f"the CT series has {len(slices)} usable slice(s) ({files}); a volume needs at least two",
            "Give the folder of the whole series",
        )
        return None
    z = np.array([s.position_xyz_mm[2] for s in slices])
    steps = np.diff(z)
    usual = float(np.median(steps))
    uneven = np.abs(steps - usual) > max(POSITION_TOLERANCE_mm, 0.01 * usual)
    for index in np.flatnonzero(uneven).tolist():
        below, above = slices[index], slices[index + 1]
        missing = steps[index] / usual - 1
        guess = f": {missing:.0f} slice(s) missing" if missing > 0.5 and abs(missing - round(missing)) < 0.1 else ""
        findings.problem(
            f"{steps[index]:g} mm from {below.found.name}, elsewhere {usual:g} mm{guess}",
            "Add the missing slices or export a series of even spacing",
            file=above.found.name,
            keyword="ImagePositionPatient",
        )
    return float(z[-1] - z[0]) / (len(z) - 1)


def _note_header(slices: Sequence[Slice], spacing_z_mm: float, findings: Findings) -> None:
    """Notes on geometry and on what the header says, lies about or lacks."""
    first, last = slices[0], slices[-1]
    (rows, columns), (dy, dx) = first.shape_yx, first.spacing_yx_mm
    findings.note(
        "info",
        f"CT: {len(slices)} axial slices of {columns}×{rows}, spacing {dx:g}×{dy:g}×{spacing_z_mm:g} mm (x, y, z; z"
        f" from the slice positions), z {first.position_xyz_mm[2]:g} to {last.position_xyz_mm[2]:g} mm,"
        " head-first supine.",
    )
    thickness = numbers(first.found.header, "SliceThickness")
    if thickness is not None and abs(float(thickness[0]) - spacing_z_mm) > 0.01 * spacing_z_mm:
        findings.note(
            "done", f"Slice Thickness says {thickness[0]:g} mm, the positions {spacing_z_mm:g} mm: positions used."
        )
    if numbers(first.found.header, "KVP") is None:
        findings.note(
            "decide",
            "No tube voltage (KVP (0018,0060)): the CT-to-density curve cannot be checked against it; it is for you"
            " to say whether the curve fits the scanner.",
        )


def _hounsfield(slices: Sequence[Slice], grid: Grid, findings: Findings) -> NDArray[np.float32]:
    """Pixels of all slices in HU, padding set to the air floor, saturation noted."""
    values = np.empty(grid.shape_zyx, np.float32)
    padded = 0
    for index, one in enumerate(slices):
        plane = _slice_hounsfield(one, findings)
        if plane is not None:
            values[index], count = plane
            padded += count
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


def _slice_hounsfield(one: Slice, findings: Findings) -> tuple[NDArray[np.float32], int] | None:
    """HU of one slice and the number of padded voxels; None with a problem noted."""
    name = one.found.name
    try:
        dataset = read_dataset(one.found.path)
    except Exception as error:
        findings.problem(
            f"damaged ({type(error).__name__} while reading pixels)",
            "Export it again",
            file=name,
            keyword="PixelData",
        )
        return None
    kind = text(dataset, "RescaleType").upper()
    if kind not in ("", "HU", "HU_MOD", "US"):
        findings.problem(f"is {kind}, not HU", "Give a CT in Hounsfield units", file=name, keyword="RescaleType")
        return None
    raw = stored_values(dataset, name, findings)
    if raw is None:
        return None
    if raw.shape != one.shape_yx:
        findings.problem(
            f"{raw.shape} pixels instead of {one.shape_yx}", "Export it again", file=name, keyword="PixelData"
        )
        return None
    slope, intercept = numbers(dataset, "RescaleSlope"), numbers(dataset, "RescaleIntercept")
    if slope is None or intercept is None:
        return None  # already a problem
    padding = _padding(dataset, raw)
    plane = raw.astype(np.float32) * np.float32(slope[0]) + np.float32(intercept[0])
    # A padding value inside the range of tissue would punch holes; only what stands for nothing is taken out.
    padding &= plane < AIR_FLOOR_HU
    plane[padding] = AIR_FLOOR_HU
    return plane, int(padding.sum())


def _padding(dataset: Dataset, raw: NDArray[np.integer]) -> NDArray[np.bool_]:
    value = integer(dataset, "PixelPaddingValue")
    if value is None:
        return np.zeros(raw.shape, bool)
    limit = integer(dataset, "PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return np.asarray((raw >= low) & (raw <= high))
