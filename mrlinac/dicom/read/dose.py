"""RTDOSE in: any system's, in any of the right-angled orientations, on the patient's axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom.problems import (
    Findings,
    integer,
    numbers,
    open_sequences,
    quiet_pydicom,
    read_dataset,
    tag_name,
    text,
)
from mrlinac.dicom.read.dose_meaning import Meaning, parts_of, stated_fractions
from mrlinac.dicom.read.pixels import stored_values
from mrlinac.dicom.read.planes import LARGEST_mm, SPACING_mm
from mrlinac.dicom.read.stack import LARGEST_GAP_mm
from mrlinac.dicom.scan import RT_DOSE
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError
from mrlinac.notes import Notes
from mrlinac.provenance import Provenance
from mrlinac.provenance import fingerprint as content_hash

RIGHT_ANGLE = 1e-3
"""Largest difference of direction cosines from 0 and ±1: 0.1 mm over 10 cm."""

EVEN_mm = 0.01
"""Frame steps that differ by less are even; decimal strings are rounded."""

LARGEST_Gy = 1e4
"""A larger dose is the result of a damaged scaling."""

MOST_PLANES = 2000
"""Largest number of even planes that replace uneven ones."""


@dataclass(frozen=True)
class DoseObject:
    """One RTDOSE file.

    Attributes
    ----------
    dose : Dose
        On the patient's axes. Where the file does not say how many fractions it stands for, ``dose.fractions`` is 1
        and ``fractions`` None.
    fractions : int or None
        What the file or the caller states.
    frame_uid : str
        Frame of reference.
    meaning : Meaning
        Its Dose Summation Type (PLAN, BEAM, FRACTION …) and of which parts of which plans it is.
    notes : Notes
        What was found and what was done about it.
    """

    dose: Dose
    fractions: int | None
    frame_uid: str
    meaning: Meaning
    notes: Notes

    @property
    def summation(self) -> str:
        """Dose Summation Type."""
        return self.meaning.summation


def read_dose(path: str | Path, *, fractions: int | None = None, patient: Patient | None = None) -> Dose:
    """Read an RTDOSE: 16 or 32 bits, Gy, any orientation along the patient's axes, uneven frames resampled.

    Parameters
    ----------
    path : path
    fractions : int, optional
        How many fractions the dose stands for, where the file does not say (only overviews and single sessions do).
    patient : Patient, optional
        The dose must lie in this patient's frame of reference, and not beside the image.

    Returns
    -------
    Dose

    Raises
    ------
    DataError
        With every problem of the file: tag, reason, remedy.
    """
    frame_uid = None if patient is None else patient.frame_uid
    dose = _read(Path(path), fractions, frame_uid, must_state=True).dose
    if patient is not None:
        image = patient.image.grid
        apart = np.array(dose.grid.lower_xyz_mm) >= np.array(image.upper_xyz_mm)
        apart |= np.array(dose.grid.upper_xyz_mm) <= np.array(image.lower_xyz_mm)
        if apart.any():
            raise DataError(
                f"{Path(path).name}: {tag_name('ImagePositionPatient')}: places the whole dose outside the patient's"
                " image. Check that the dose belongs to this patient"
            )
    return dose


def read_dose_object(path: str | Path, *, fractions: int | None = None, frame_uid: str | None = None) -> DoseObject:
    """As :func:`read_dose`, with what else the file says; the number of fractions may stay unknown.

    Parameters
    ----------
    path : path
    fractions : int, optional
        How many fractions the dose stands for, where the file does not say.
    frame_uid : str, optional
        Frame of reference in which the dose must lie; None: whatever it is.

    Returns
    -------
    DoseObject

    Raises
    ------
    DataError
        With every problem of the file.
    """
    return _read(Path(path), fractions, frame_uid, must_state=False)


@quiet_pydicom()
def _read(path: Path, fractions: int | None, frame_uid: str | None, *, must_state: bool) -> DoseObject:
    findings = Findings()
    try:
        ds = read_dataset(path)
        kind = text(ds, "SOPClassUID")
        open_sequences(ds)
    except Exception as error:
        raise DataError(f"{path.name}: cannot be read ({type(error).__name__}). Give an RTDOSE file.") from None
    if kind != RT_DOSE:
        raise DataError(f"{path.name}: not an RTDOSE. Give an RTDOSE file.")
    count = _fractions(ds, path.name, fractions, findings, must_state=must_state)
    _check_meaning(ds, path.name, findings)
    if frame_uid is not None and text(ds, "FrameOfReferenceUID") != frame_uid:
        findings.problem(
            "is not the patient's frame of reference",
            "Give the dose computed on this patient's CT",
            file=path.name,
            keyword="FrameOfReferenceUID",
        )
    scaling = numbers(ds, "DoseGridScaling")
    if scaling is None or scaling.size != 1 or not scaling[0] > 0:
        findings.problem("missing or not above zero", "Export it again", file=path.name, keyword="DoseGridScaling")
    frames = stored_frames(ds, path.name, findings)
    raw = stored_values(ds, path.name, findings)
    if raw is not None and scaling is not None and float(np.abs(raw).max()) * float(scaling[0]) > LARGEST_Gy:
        findings.problem(
            f"makes doses up to {float(np.abs(raw).max()) * float(scaling[0]):g} Gy: absurd",
            "Check the export",
            file=path.name,
            keyword="DoseGridScaling",
        )
    findings.raise_problems("this dose cannot be read:")
    assert frames is not None  # each None came with a problem
    assert raw is not None
    assert scaling is not None
    grid, values = on_axes(np.asarray(raw, np.float64).reshape(frames.shape) * float(scaling[0]), frames, findings)
    if float(values.min()) < 0:
        findings.note(
            "warning", f"The dose has negative voxels, down to {values.min():.3g} Gy: a difference of doses?"
        )
    maker = text(ds, "Manufacturer") or "unknown"
    made = Provenance(content_hash(grid, values, count or 1), f"RTDOSE of {maker}")
    meaning = Meaning(text(ds, "DoseSummationType").upper(), parts_of(ds), count, text(ds, "SOPInstanceUID"))
    frame = text(ds, "FrameOfReferenceUID")
    return DoseObject(Dose(grid, values, None, count or 1, made), count, frame, meaning, findings.notes())


def _fractions(ds: Dataset, name: str, asked: int | None, findings: Findings, *, must_state: bool) -> int | None:
    stated = stated_fractions(ds)
    kind = text(ds, "DoseSummationType").upper()
    keyword = "DoseSummationType" if kind.endswith("SESSION") else "NumberOfFractionsIncluded"
    if asked is not None and stated is not None and asked != stated:
        says = (
            f"says {stated}" if keyword == "NumberOfFractionsIncluded" else f"is {kind}, which is {stated} fraction"
        )
        findings.problem(f"{says}, but {asked} was stated", "Leave out --fractions", file=name, keyword=keyword)
    count = asked if asked is not None else stated
    if (count is None and must_state) or (count is not None and count < 1):
        findings.problem(
            "missing: the file does not say how many fractions the dose is for",
            "State it: --fractions N (in Python fractions=N)",
            file=name,
            keyword=keyword,
        )
    return count


def _check_meaning(ds: Dataset, name: str, findings: Findings) -> None:
    """Refuse objects that hold no absorbed dose; note absorbed doses of another kind."""
    units = text(ds, "DoseUnits").upper()
    if units != "GY":
        findings.problem(f"is {units or 'missing'}, not GY", "Export absolute dose", file=name, keyword="DoseUnits")
    kind = text(ds, "DoseType").upper()
    if kind == "ERROR":
        findings.problem("is ERROR: a difference, no dose", "Export the dose", file=name, keyword="DoseType")
    elif kind == "EFFECTIVE":
        findings.note("warning", "Dose Type is EFFECTIVE: corrected for biological effect, not absorbed dose.")


@dataclass(frozen=True)
class StoredFrames:
    """Where the stored values lie: direction of each stored axis, as (patient axis x0 y1 z2, sign)."""

    shape: tuple[int, int, int]
    axes: tuple[tuple[int, int], ...]
    first_xyz_mm: NDArray[np.float64]
    offsets_mm: NDArray[np.float64]
    spacing_mm: tuple[float, float]


def stored_frames(ds: Dataset, name: str, findings: Findings) -> StoredFrames | None:
    """Geometry of a dose's frames; None with problems noted."""
    before = findings.count
    values = {}
    for keyword, size in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        numbers_of_tag = numbers(ds, keyword)
        if numbers_of_tag is None or numbers_of_tag.size != size or np.max(np.abs(numbers_of_tag)) > LARGEST_mm:
            findings.problem(f"missing or not {size} sensible numbers", "Export it again", file=name, keyword=keyword)
        else:
            values[keyword] = numbers_of_tag
    count = max(1, integer(ds, "NumberOfFrames") or 1)
    rows, columns = integer(ds, "Rows") or 0, integer(ds, "Columns") or 0
    offsets = numbers(ds, "GridFrameOffsetVector")
    if offsets is None or offsets.size != count or count < 2 or np.max(np.abs(offsets)) > LARGEST_mm:
        findings.problem(
            f"missing, or not one offset for each of {count} frame(s); at least two are needed",
            "Export a 3D dose",
            file=name,
            keyword="GridFrameOffsetVector",
        )
    if findings.count > before or offsets is None:
        return None
    row, column = np.split(values["ImageOrientationPatient"], 2)
    normal = np.cross(row, column)
    axes = [_axis(direction) for direction in (normal, column, row)]
    if any(axis is None for axis in axes):
        findings.problem(
            "is oblique: the dose does not lie along the patient's axes",
            "Export it on a grid along the patient's axes",
            file=name,
            keyword="ImageOrientationPatient",
        )
        return None
    first = values["ImagePositionPatient"]
    # PS3.3 C.8.8.3.2: offsets along the normal start at zero; or, for axial frames, are the z coordinates themselves.
    if abs(offsets[0]) > EVEN_mm and axes[0] is not None and axes[0][0] == 2 and abs(offsets[0] - first[2]) < EVEN_mm:
        offsets = (offsets - first[2]) * axes[0][1]
    elif abs(offsets[0]) > EVEN_mm:
        findings.problem(
            f"starts at {offsets[0]:g}: neither zero nor the z of Image Position (Patient), {first[2]:g}",
            "Export it again",
            file=name,
            keyword="GridFrameOffsetVector",
        )
    steps = np.diff(offsets)
    if not (np.all(steps > EVEN_mm) or np.all(steps < -EVEN_mm)):
        findings.problem(
            "does not run in one direction", "Export on a regular grid", file=name, keyword="GridFrameOffsetVector"
        )
    elif np.ptp(steps) > EVEN_mm:
        _check_uneven(np.abs(steps), name, findings)
    spacing = values["PixelSpacing"]
    if np.any(spacing < SPACING_mm[0]) or np.any(spacing > SPACING_mm[1]) or rows < 1 or columns < 1:
        findings.problem("absurd, or no rows or columns", "Export it again", file=name, keyword="PixelSpacing")
    if findings.count > before:
        return None
    known = tuple(axis for axis in axes if axis is not None)
    return StoredFrames((count, rows, columns), known, first, offsets, (float(spacing[0]), float(spacing[1])))


def _check_uneven(steps: NDArray[np.float64], name: str, findings: Findings) -> None:
    """Frames that are too far apart, or too close to some, to be put on even ones."""
    if steps.max() > LARGEST_GAP_mm or steps.sum() / steps.min() > MOST_PLANES:
        findings.problem(
            f"unevenly spaced, {steps.min():g} to {steps.max():g} mm: too far apart to interpolate",
            "Export on a regular grid",
            file=name,
            keyword="GridFrameOffsetVector",
        )


def _axis(direction: NDArray[np.float64]) -> tuple[int, int] | None:
    """Patient axis and sign of a direction; None where it is oblique."""
    axis = int(np.argmax(np.abs(direction)))
    exact = np.zeros(3)
    exact[axis] = np.sign(direction[axis])
    if np.max(np.abs(direction - exact)) > RIGHT_ANGLE:
        return None
    return axis, int(exact[axis])


def on_axes(
    stored: NDArray[np.float64], frames: StoredFrames, findings: Findings
) -> tuple[Grid, NDArray[np.float32]]:
    """Values [z, y, x] with increasing coordinates, and their grid."""
    offsets: list[NDArray[np.float64]] = [frames.offsets_mm]
    for size, step in zip(frames.shape[1:], frames.spacing_mm, strict=True):
        offsets.append(step * np.arange(size, dtype=np.float64))
    origin, spacing = np.zeros(3), np.zeros(3)
    for stored_axis, ((axis, sign), along) in enumerate(zip(frames.axes, offsets, strict=True)):
        places = frames.first_xyz_mm[axis] + sign * along
        if places[-1] < places[0]:
            stored, places = np.flip(stored, stored_axis), places[::-1]
        stored, places = _even(stored, places, stored_axis, findings)
        origin[axis] = places[0]
        spacing[axis] = (places[-1] - places[0]) / (len(places) - 1) if len(places) > 1 else frames.spacing_mm[0]
    if any(sign < 0 for _, sign in frames.axes[1:]) or [axis for axis, _ in frames.axes] != [2, 1, 0]:
        findings.note("done", "The dose is stored along other axes than a head-first supine patient's: turned.")
    order = [next(i for i, (axis, _) in enumerate(frames.axes) if axis == wanted) for wanted in (2, 1, 0)]
    values = np.ascontiguousarray(stored.transpose(order), np.float32)
    nz, ny, nx = values.shape
    x, y, z = (float(v) for v in origin)
    dx, dy, dz = (float(v) for v in spacing)
    return Grid((nz, ny, nx), (dz, dy, dx), (x, y, z)), values


def _even(
    stored: NDArray[np.float64], places: NDArray[np.float64], axis: int, findings: Findings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same values on evenly spaced frames: linear between neighbours, at the smallest step."""
    steps = np.diff(places)
    if len(steps) == 0 or np.ptp(steps) <= EVEN_mm:
        return stored, places
    count = int(np.ceil((places[-1] - places[0]) / steps.min() - 1e-6)) + 1
    even = np.linspace(places[0], places[-1], count)
    low = np.clip(np.searchsorted(places, even, side="right") - 1, 0, len(places) - 2)
    share = ((even - places[low]) / steps[low]).reshape([-1 if a == axis else 1 for a in range(3)])
    values = np.take(stored, low, axis) * (1 - share) + np.take(stored, low + 1, axis) * share
    findings.note(
        "done",
        f"The frames are {steps.min():g} to {steps.max():g} mm apart: put on even {even[1] - even[0]:.3g} mm,"
        " linear between neighbours.",
    )
    return values, even
