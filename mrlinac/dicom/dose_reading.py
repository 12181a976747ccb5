"""RTDOSE in: any patient position, 8 to 32 bits, uneven planes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom.pixels import stored_values
from mrlinac.dicom.planes import LARGEST_mm, POSITION_TOLERANCE_mm, SPACING_mm, aligned
from mrlinac.dicom.problems import Findings, integer, numbers, open_sequences, quiet_pydicom, read_dataset, text
from mrlinac.dicom.scan import RT_DOSE
from mrlinac.dicom.stack import LARGEST_GAP_mm, grid_of, interpolated
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError
from mrlinac.provenance import Provenance
from mrlinac.provenance import fingerprint as content_hash

LARGEST_Gy = 1e4
"""No radiotherapy dose is larger; a larger one is a damaged scaling."""

MOST_PLANES = 2000
"""So many even planes at most replace uneven ones."""


@quiet_pydicom()
def read_dose(path: str | Path, *, fractions: int | None = None, patient: Patient | None = None) -> Dose:
    """Read an RTDOSE: axes along the patient's in any order and direction, Gy, 8 to 32 bits.

    Uneven planes are interpolated linearly to even ones, as close as the nearest two; the provenance says so.

    Parameters
    ----------
    path : path
    fractions : int, optional
        How many fractions the dose stands for, where the file does not say (only overviews and fractions do).
    patient : Patient, optional
        The dose must lie in this patient's frame of reference.

    Raises
    ------
    DataError
        With every problem of the file: tag, reason, remedy.
    """
    path = Path(path)
    findings = Findings()
    heading = "this dose cannot be read:"
    try:
        ds = read_dataset(path)
        kind = text(ds, "SOPClassUID")
        open_sequences(ds)
    except Exception as error:
        raise DataError(f"{path.name}: cannot be read ({type(error).__name__}). Give an RTDOSE file.") from None
    if kind != RT_DOSE:
        raise DataError(f"{path.name}: not an RTDOSE. Give an RTDOSE file.")
    stated = _stated_fractions(ds)
    if fractions is not None and stated is not None and fractions != stated:
        findings.problem(
            f"says {stated}, but {fractions} was stated",
            "Leave out fractions=",
            file=path.name,
            keyword="NumberOfFractionsIncluded",
        )
    count = fractions if fractions is not None else stated
    if count is None or count < 1:
        findings.problem(
            "missing: the file does not say how many fractions the dose is for",
            "State it: fractions=N",
            file=path.name,
            keyword="NumberOfFractionsIncluded",
        )
    if text(ds, "DoseUnits").upper() != "GY":
        findings.problem(
            f"is {text(ds, 'DoseUnits') or 'missing'}, not GY",
            "Export absolute dose",
            file=path.name,
            keyword="DoseUnits",
        )
    scaling = numbers(ds, "DoseGridScaling")
    if scaling is None or scaling.size != 1 or not scaling[0] > 0:
        findings.problem("missing or not above zero", "Export it again", file=path.name, keyword="DoseGridScaling")
    placed = placed_dose(ds, path.name, findings)
    if patient is not None:
        _check_patient(ds, placed, patient, path.name, findings)
    raw = stored_values(ds, path.name, findings)
    if raw is not None and scaling is not None and not 0 <= float(raw.max()) * float(scaling[0]) <= LARGEST_Gy:
        findings.problem(
            f"makes doses up to {float(raw.max()) * float(scaling[0]):g} Gy: absurd",
            "Check the export",
            file=path.name,
            keyword="DoseGridScaling",
        )
    findings.raise_problems(heading)
    assert placed is not None  # each None came with a problem
    assert raw is not None
    assert scaling is not None
    assert count is not None
    values = placed.volume((raw * float(scaling[0])).astype(np.float32))
    made = content_hash(placed.grid, values, count)
    notes = () if placed.even_mm is None else ("planes of uneven distance interpolated linearly to even ones",)
    engine = f"RTDOSE of {text(ds, 'Manufacturer') or 'unknown'}"
    return Dose(placed.grid, values, None, count, Provenance(made, engine, notes=notes))


def _stated_fractions(ds: Dataset) -> int | None:
    overview = ds.get("PlanOverviewSequence") or []
    if len(overview) == 1:
        return integer(overview[0], "NumberOfFractionsIncluded")
    return 1 if text(ds, "DoseSummationType").upper() == "FRACTION" else None


@dataclass(frozen=True)
class Placed:
    """Where the frames of a dose lie, and how they become [z, y, x] with increasing coordinates."""

    grid: Grid
    axes: tuple[int, int, int]
    """World axis (0 x, 1 y, 2 z) of frames, rows, columns."""
    reversed_: tuple[bool, bool, bool]
    where_mm: NDArray[np.float64]
    even_mm: NDArray[np.float64] | None

    def volume(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values [frame, row, column] on the grid."""
        values = values.reshape((len(self.where_mm), *values.shape[-2:]))
        values = values[tuple(slice(None, None, -1) if turned else slice(None) for turned in self.reversed_)]
        if self.even_mm is not None:
            values = interpolated(values, np.sort(self.where_mm), self.even_mm)
        return np.ascontiguousarray(np.transpose(values, [self.axes.index(axis) for axis in (2, 1, 0)]))


def placed_dose(ds: Dataset, name: str, findings: Findings) -> Placed | None:
    """Geometry of a dose; None with problems noted."""
    before = findings.count
    values: dict[str, NDArray[np.float64]] = {}
    for keyword, size in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        found = numbers(ds, keyword)
        if found is None or found.size != size or np.max(np.abs(found)) > LARGEST_mm:
            findings.problem(f"missing or not {size} sensible numbers", "Export it again", file=name, keyword=keyword)
        else:
            values[keyword] = found
    frames = max(1, integer(ds, "NumberOfFrames") or 1)
    rows, columns = integer(ds, "Rows") or 0, integer(ds, "Columns") or 0
    offsets = numbers(ds, "GridFrameOffsetVector")
    if offsets is None or offsets.size != frames or frames < 2 or np.max(np.abs(offsets)) > LARGEST_mm:
        findings.problem(
            f"missing, or not one offset for each of {frames} frame(s); at least two are needed",
            "Export a 3D dose",
            file=name,
            keyword="GridFrameOffsetVector",
        )
    if findings.count > before or offsets is None:
        return None
    spacing = values["PixelSpacing"]
    if np.any(spacing < SPACING_mm[0]) or np.any(spacing > SPACING_mm[1]) or rows < 1 or columns < 1:
        findings.problem("absurd, or no rows or columns", "Export it again", file=name, keyword="PixelSpacing")
    directions = aligned(values["ImageOrientationPatient"])
    steps = np.diff(offsets)
    if not (np.all(steps > 0) or np.all(steps < 0)):
        findings.problem(
            "neither rises nor falls throughout", "Export it again", file=name, keyword="GridFrameOffsetVector"
        )
    if directions is None:
        findings.problem(
            "not along the patient's axes: an oblique dose grid is not read",
            "Export the dose on a grid along the patient's axes",
            file=name,
            keyword="ImageOrientationPatient",
        )
    if findings.count > before or directions is None:
        return None
    return _on_axes(values["ImagePositionPatient"], directions, spacing, offsets, (rows, columns), name, findings)


def _on_axes(
    corner: NDArray[np.float64],
    directions: NDArray[np.float64],
    spacing: NDArray[np.float64],
    offsets: NDArray[np.float64],
    size: tuple[int, int],
    name: str,
    findings: Findings,
) -> Placed | None:
    row, column = directions
    normal = np.cross(row, column)
    axes = tuple(int(np.argmax(np.abs(direction))) for direction in (normal, column, row))
    across = axes[0]
    # PS3.3 C.8.8.3.2: offsets along the normal from the first frame, or, on unturned axes, z coordinates themselves.
    absolute = np.array_equal(directions, [[1, 0, 0], [0, 1, 0]]) and offsets[0] != 0
    if absolute and abs(offsets[0] - corner[2]) > POSITION_TOLERANCE_mm:
        findings.problem(
            f"starts at {offsets[0]:g}: neither zero nor the z of Image Position (Patient), {corner[2]:g}",
            "Export it again",
            file=name,
            keyword="GridFrameOffsetVector",
        )
        return None
    where = offsets if absolute else corner[across] + normal[across] * offsets
    ordered = np.sort(where)
    steps = np.diff(ordered)
    step = float(ordered[-1] - ordered[0]) / (len(ordered) - 1)
    even = None
    if np.max(np.abs(steps - step)) > POSITION_TOLERANCE_mm:
        count = round(float(ordered[-1] - ordered[0]) / float(steps.min())) + 1
        if count > MOST_PLANES or steps.max() > LARGEST_GAP_mm:
            findings.problem(
                f"unevenly spaced, {steps.min():g} to {steps.max():g} mm: too far apart to interpolate",
                "Export on a regular grid",
                file=name,
                keyword="GridFrameOffsetVector",
            )
            return None
        even = np.linspace(ordered[0], ordered[-1], count)
        step = float(even[1] - even[0])
    pixel = (float(spacing[0]), float(spacing[1]))
    count = len(ordered) if even is None else len(even)
    grid = grid_of(directions, corner, size, pixel, across, float(ordered[0]), step, count)
    reversed_ = (bool(where[-1] < where[0]), bool(column.sum() < 0), bool(row.sum() < 0))
    return Placed(grid, (axes[0], axes[1], axes[2]), reversed_, where, even)


def _check_patient(ds: Dataset, placed: Placed | None, patient: Patient, name: str, findings: Findings) -> None:
    """The dose must lie in the patient's frame of reference, and where the patient is."""
    if text(ds, "FrameOfReferenceUID") != patient.frame_uid:
        findings.problem(
            "is not the patient's frame of reference",
            "Give the dose computed on this patient's CT",
            file=name,
            keyword="FrameOfReferenceUID",
        )
    elif placed is not None:
        image = patient.image.grid
        apart = np.array(placed.grid.lower_xyz_mm) >= np.array(image.upper_xyz_mm)
        apart |= np.array(placed.grid.upper_xyz_mm) <= np.array(image.lower_xyz_mm)
        if apart.any():
            findings.problem(
                "places the whole dose outside the patient's image",
                "Check that the dose belongs to this patient",
                file=name,
                keyword="ImagePositionPatient",
            )
