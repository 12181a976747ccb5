"""RTDOSE out and in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.dicom.ct import AXIAL, TILT_TOLERANCE, POSITION_TOLERANCE_mm
from mrlinac.dicom.pixels import stored_values
from mrlinac.dicom.problems import Findings, integer, numbers, open_sequences, quiet_pydicom, read_dataset, text
from mrlinac.dicom.scan import RT_DOSE, RT_PLAN
from mrlinac.dicom.write_common import decimal, decimals, new_object, save, source_of, with_uids
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError
from mrlinac.provenance import Provenance, dicom_uid
from mrlinac.provenance import fingerprint as content_hash

FULL_SCALE = 65535
"""16 bits: rounding is at most 0.0008 % of the maximum, far below any Monte Carlo noise, at half the size of 32."""


def write_dose(
    dose: Dose,
    patient: Patient,
    path: str | Path,
    fingerprint: str,
    *,
    plan_uid: str = "",
    label: str = "research",
    identify: bool = False,
) -> str:
    """Write a dose as RTDOSE (16 bits, Gy, dose to medium) in the patient's frame of reference.

    DICOM lets a dose be called PLAN only with a reference to its RTPLAN. Without ``plan_uid`` the dose is a
    PLAN_OVERVIEW: it then describes the plan itself (label, number of fractions) and refers to none.

    Parameters
    ----------
    dose : Dose
        Cropped to what shall be written: a transport grid reaches beyond the image.
    patient : Patient
    path : path
        File to write; replaced if it exists.
    fingerprint : str
        Fingerprint of what made the dose; goes into the UIDs.
    plan_uid : str, optional
        SOP Instance UID of the RTPLAN the dose belongs to.
    label : str
        RT Plan Label of the overview, 16 characters at most.
    identify : bool
        See :func:`~mrlinac.dicom.write_common.new_object`.

    Returns
    -------
    str
        SOP Instance UID.

    Raises
    ------
    DataError
        For negative or non-finite doses.
    """
    patient = with_uids(patient)
    values = dose.dose_Gy
    top = float(values.max())
    if not np.all(np.isfinite(values)) or float(values.min()) < 0:
        raise DataError("RTDOSE: the dose has negative or non-finite voxels; a dose to write has none.")
    source = source_of(patient, identify=identify)
    sop_uid = dicom_uid(fingerprint, source, "RTDOSE", content_hash(dose.grid, values, dose.fractions))
    series_uid = dicom_uid(fingerprint, source, "series", "RTDOSE")
    ds = new_object(RT_DOSE, "RTDOSE", sop_uid, series_uid, patient, identify=identify)
    ds.SeriesDescription = "mrlinac research dose"
    ds.InstanceNumber = 1
    _put_geometry(ds, dose.grid)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 0
    ds.DoseUnits = "GY"
    ds.DoseType = "PHYSICAL"
    ds.DoseComment = RESEARCH_ONLY
    ds.TissueHeterogeneityCorrection = "IMAGE"
    if plan_uid:
        plan = Dataset()
        plan.ReferencedSOPClassUID = RT_PLAN
        plan.ReferencedSOPInstanceUID = plan_uid
        ds.DoseSummationType = "PLAN"
        ds.ReferencedRTPlanSequence = Sequence([plan])
    else:
        ds.DoseSummationType = "PLAN_OVERVIEW"
        ds.PlanOverviewSequence = Sequence([_overview(dose, label)])
    scaling = decimal(top / FULL_SCALE if top > 0 else 1.0)
    ds.DoseGridScaling = scaling
    ds.PixelData = np.rint(values.astype(np.float64) / float(scaling)).clip(0, FULL_SCALE).astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    save(ds, Path(path))
    return sop_uid


def _put_geometry(ds: Dataset, grid: Grid) -> None:
    dz, dy, dx = grid.spacing_zyx_mm
    frames, rows, columns = grid.shape_zyx
    ds.SliceThickness = decimal(dz)
    ds.ImagePositionPatient = decimals(grid.origin_xyz_mm)
    ds.ImageOrientationPatient = decimals((1, 0, 0, 0, 1, 0))
    ds.PixelSpacing = decimals((dy, dx))
    ds.Rows, ds.Columns, ds.NumberOfFrames = rows, columns, frames
    ds.FrameIncrementPointer = Tag(0x3004, 0x000C)
    ds.GridFrameOffsetVector = decimals(dz * np.arange(frames))


def _overview(dose: Dose, label: str) -> Dataset:
    overview = Dataset()
    overview.PlanOverviewIndex = 1
    overview.RTPlanLabel = label[:16]
    overview.NumberOfFractionsIncluded = dose.fractions
    overview.TreatmentSite = ""
    overview.PrescriptionOverviewSequence = Sequence([])
    return overview


@quiet_pydicom()
def read_dose(path: str | Path, *, fractions: int | None = None, patient: Patient | None = None) -> Dose:
    """Read an RTDOSE: axial, head-first supine axes, even frame offsets, Gy, 16 or 32 bits.

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
    if patient is not None and text(ds, "FrameOfReferenceUID") != patient.frame_uid:
        findings.problem(
            "is not the patient's frame of reference",
            "Give the dose computed on this patient's CT",
            file=path.name,
            keyword="FrameOfReferenceUID",
        )
    scaling = numbers(ds, "DoseGridScaling")
    if scaling is None or scaling.size != 1 or not scaling[0] > 0:
        findings.problem("missing or not above zero", "Export it again", file=path.name, keyword="DoseGridScaling")
    grid, flipped = _grid(ds, path.name, findings)
    raw = stored_values(ds, path.name, findings)
    findings.raise_problems(heading)
    assert grid is not None  # each None came with a problem
    assert raw is not None
    assert scaling is not None
    assert count is not None
    values = raw.reshape(grid.shape_zyx) * float(scaling[0])
    values = (values[::-1] if flipped else values).astype(np.float32)
    made = content_hash(grid, values, count)
    return Dose(grid, values, None, count, Provenance(made, f"RTDOSE of {text(ds, 'Manufacturer') or 'unknown'}"))


def _stated_fractions(ds: Dataset) -> int | None:
    overview = ds.get("PlanOverviewSequence") or []
    if len(overview) == 1:
        return integer(overview[0], "NumberOfFractionsIncluded")
    return 1 if text(ds, "DoseSummationType").upper() == "FRACTION" else None


def _grid(ds: Dataset, name: str, findings: Findings) -> tuple[Grid | None, bool]:
    """Grid with increasing coordinates, and whether the frames run downwards in the file."""
    before = findings.count
    values = {}
    for keyword, size in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        found = numbers(ds, keyword)
        if found is None or found.size != size:
            findings.problem(f"missing or not {size} finite numbers", "Export it again", file=name, keyword=keyword)
        else:
            values[keyword] = found
    frames = max(1, integer(ds, "NumberOfFrames") or 1)
    rows, columns = integer(ds, "Rows") or 0, integer(ds, "Columns") or 0
    offsets = numbers(ds, "GridFrameOffsetVector")
    if offsets is None or offsets.size != frames or frames < 2:
        findings.problem(
            f"missing, or not one offset for each of {frames} frame(s); at least two are needed",
            "Export a 3D dose",
            file=name,
            keyword="GridFrameOffsetVector",
        )
    if findings.count > before or offsets is None:
        return None, False
    if np.max(np.abs(values["ImageOrientationPatient"] - AXIAL)) > TILT_TOLERANCE:
        findings.problem(
            "not axial head-first supine axes; others are not read so far",
            "Export along the axes of an HFS patient",
            file=name,
            keyword="ImageOrientationPatient",
        )
    x, y, z = values["ImagePositionPatient"]
    # PS3.3 C.8.8.3.2: offsets start at zero, or are the z coordinates themselves.
    heights = offsets if abs(offsets[0] - z) < 1e-6 and offsets[0] != 0 else z + offsets
    steps = np.diff(heights)
    step = float(heights[-1] - heights[0]) / (frames - 1)
    if step == 0 or np.max(np.abs(steps - step)) > POSITION_TOLERANCE_mm:
        findings.problem("unevenly spaced", "Export on a regular grid", file=name, keyword="GridFrameOffsetVector")
    spacing = values["PixelSpacing"]
    if not np.all(spacing > 0) or rows < 1 or columns < 1:
        findings.problem(
            "not above zero, or no rows or columns", "Export it again", file=name, keyword="PixelSpacing"
        )
    if findings.count > before:
        return None, False
    origin = (float(x), float(y), float(min(heights[0], heights[-1])))
    return Grid((frames, rows, columns), (abs(step), float(spacing[0]), float(spacing[1])), origin), step < 0
