"""RTDOSE out; :mod:`mrlinac.dicom.read.dose` reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.dicom.scan import RT_DOSE, RT_PLAN
from mrlinac.dicom.write.common import decimal, decimals, new_object, save, source_of, with_uids
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError
from mrlinac.provenance import dicom_uid
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
        See :func:`~mrlinac.dicom.write.common.new_object`.

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
    sop_uid = dicom_uid(
        fingerprint, source, "RTDOSE", content_hash(dose.grid, values, dose.fractions, plan_uid, label)
    )
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
