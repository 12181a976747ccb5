"""Write a patient, digital or read, as a CT series and a structure set."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from mrlinac.anatomy.contours import planes_of
from mrlinac.anatomy.keyholes import without_holes
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.dicom.scan import CT_IMAGE, RT_STRUCT
from mrlinac.dicom.write.common import DETACHED_STUDY, decimal, decimals, new_object, save, source_of, with_uids
from mrlinac.errors import DataError
from mrlinac.provenance import dicom_uid
from mrlinac.provenance import fingerprint as content_hash


def write_patient(patient: Patient, folder: str | Path, *, identify: bool = False) -> Patient:
    """Write a CT series (``CT_0001.dcm`` ... by increasing z) and ``RTSTRUCT.dcm``.

    Parameters
    ----------
    patient : Patient
        CT in HU; values are rounded to whole HU.
    folder : path
        Must not exist or be empty. It is made under a temporary name and renamed when complete.
    identify : bool
        Copy name, ID and dates of the source; default: anonymous, with frame of reference and study of its own.

    Returns
    -------
    Patient
        With the UIDs as written.

    Raises
    ------
    DataError
        When the folder is not empty, the image is no CT, or HU do not fit into 16 bits.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: not empty. Give a new folder; slices of two patients must not mix.")
    if patient.image.quantity != "HU":
        raise DataError(f"the image holds {patient.image.quantity} values, not HU: it cannot be written as CT.")
    if not np.all(np.isfinite(patient.image.values)) or np.abs(patient.image.values).max() > 32767:
        raise DataError("HU outside -32767...32767 or not finite do not fit into 16-bit CT: check the image.")
    written = _copy_uids(with_uids(patient), identify=identify)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".mrlinac-", dir=folder.parent))
    try:
        temporary.chmod(0o777 & ~_umask())
        for index in range(len(written.slice_uids)):
            save(_ct_slice(written, index, identify=identify), temporary / f"CT_{index + 1:04d}.dcm")
        if written.rois:
            content = content_hash(written.image.grid, *written.rois.values())
            write_structures(written, written.rois, temporary / "RTSTRUCT.dcm", content, identify=identify)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return written


def _umask() -> int:
    """The process's umask, which Python can read only by setting it; mkdtemp ignores it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _copy_uids(patient: Patient, *, identify: bool) -> Patient:
    """UIDs for the copy. A phantom keeps its own; a copy of a real series is new objects and needs new UIDs."""
    if not patient.identifiers:
        return patient
    renamed = replace(
        patient,
        series_uid=dicom_uid("copy", patient.series_uid),
        # The place too: interpolated planes bear the UID of their nearest slice, and a copy makes objects of them.
        slice_uids=tuple(dicom_uid("copy", uid, place) for place, uid in enumerate(patient.slice_uids)),
    )
    if identify:
        return renamed
    return replace(
        renamed,
        frame_uid=dicom_uid("anonymous", patient.frame_uid),
        study_uid=dicom_uid("anonymous", patient.study_uid),
        identifiers={},
    )


def _ct_slice(patient: Patient, index: int, *, identify: bool) -> Dataset:
    """One axial slice after the CT Image IOD (PS3.3 A.3)."""
    grid = patient.image.grid
    dz, dy, dx = grid.spacing_zyx_mm
    _, rows, columns = grid.shape_zyx
    position_xyz_mm = (grid.origin_xyz_mm[0], grid.origin_xyz_mm[1], float(grid.z_mm[index]))
    ds = new_object(CT_IMAGE, "CT", patient.slice_uids[index], patient.series_uid, patient, identify=identify)
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    ds.SeriesDescription = "mrlinac research CT"
    ds.PatientPosition = patient.position
    ds.Laterality = ""
    ds.AcquisitionNumber = None
    ds.InstanceNumber = index + 1
    ds.ImageComments = RESEARCH_ONLY
    ds.KVP = None
    ds.SliceThickness = decimal(dz)
    ds.ImagePositionPatient = decimals(position_xyz_mm)
    ds.ImageOrientationPatient = decimals((1, 0, 0, 0, 1, 0))
    ds.SliceLocation = decimal(position_xyz_mm[2])
    ds.PixelSpacing = decimals((dy, dx))
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    ds.PixelData = np.rint(patient.image.values[index]).astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def write_structures(
    patient: Patient,
    rois: Mapping[str, Roi],
    path: str | Path,
    fingerprint: str,
    *,
    label: str = "MRLINAC",
    identify: bool = False,
) -> str:
    """Write an RTSTRUCT in the patient's frame of reference that refers to its CT slices.

    Parameters
    ----------
    patient : Patient
    rois : mapping of name to Roi
        Drawn and derived ones; coordinates are rounded to 0.001 mm. Holes are written as keyholes: a loop inside
        another is a hole to some readers and nothing to others.
    path : path
        File to write; replaced if it exists.
    fingerprint : str
        Fingerprint of what made the structures; goes into the UIDs.
    label : str
        Structure Set Label, 16 characters at most.
    identify : bool
        See :func:`~mrlinac.dicom.write.common.new_object`.

    Returns
    -------
    str
        SOP Instance UID.
    """
    patient = with_uids(patient)
    if not rois:
        raise DataError("no structures to write: an RTSTRUCT needs at least one.")
    source = source_of(patient, identify=identify)
    sop_uid = dicom_uid(fingerprint, source, "RTSTRUCT", content_hash(dict(rois), label))
    series_uid = dicom_uid(fingerprint, source, "series", "RTSTRUCT")
    ds = new_object(RT_STRUCT, "RTSTRUCT", sop_uid, series_uid, patient, identify=identify)
    ds.SeriesDescription = "mrlinac research structures"
    ds.InstanceNumber = 1
    ds.StructureSetLabel = label[:16]
    ds.StructureSetDescription = RESEARCH_ONLY
    ds.StructureSetDate = ds.StudyDate
    ds.StructureSetTime = ds.StudyTime
    ds.ReferencedFrameOfReferenceSequence = Sequence([_frame_item(patient)])
    named = list(enumerate(rois.values(), start=1))
    ds.StructureSetROISequence = Sequence([_roi_item(number, roi, patient) for number, roi in named])
    ds.ROIContourSequence = Sequence([_contours_item(number, roi, patient) for number, roi in named])
    ds.RTROIObservationsSequence = Sequence([_observation_item(number, roi) for number, roi in named])
    ds.ApprovalStatus = "UNAPPROVED"
    # Implicit VR: an explicit "DS" holds 64 KiB at most, and a contour of 3000 points is longer.
    save(ds, Path(path), implicit=True)
    return sop_uid


def _frame_item(patient: Patient) -> Dataset:
    images = []
    for uid in patient.slice_uids:
        image = Dataset()
        image.ReferencedSOPClassUID = CT_IMAGE
        image.ReferencedSOPInstanceUID = uid
        images.append(image)
    series = Dataset()
    series.SeriesInstanceUID = patient.series_uid
    series.ContourImageSequence = Sequence(images)
    study = Dataset()
    study.ReferencedSOPClassUID = DETACHED_STUDY
    study.ReferencedSOPInstanceUID = patient.study_uid
    study.RTReferencedSeriesSequence = Sequence([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = patient.frame_uid
    frame.RTReferencedStudySequence = Sequence([study])
    return frame


def _roi_item(number: int, roi: Roi, patient: Patient) -> Dataset:
    item = Dataset()
    item.ROINumber = number
    item.ReferencedFrameOfReferenceUID = patient.frame_uid
    item.ROIName = roi.name[:64]
    item.ROIGenerationAlgorithm = "AUTOMATIC" if roi.derived else "MANUAL"
    return item


def _contours_item(number: int, roi: Roi, patient: Patient) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = [int(channel) for channel in roi.color_rgb]
    item.ReferencedROINumber = number
    item.ContourSequence = Sequence(
        [
            _contour_item(Contour(z_mm, loop), patient)
            for z_mm, loops in planes_of(roi.contours)
            for loop in without_holes(loops)
        ]
    )
    return item


def _contour_item(contour: Contour, patient: Patient) -> Dataset:
    grid = patient.image.grid
    item = Dataset()
    nearest = int(np.argmin(np.abs(grid.z_mm - contour.z_mm)))
    if abs(grid.z_mm[nearest] - contour.z_mm) <= grid.spacing_zyx_mm[0] / 2:
        image = Dataset()
        image.ReferencedSOPClassUID = CT_IMAGE
        image.ReferencedSOPInstanceUID = patient.slice_uids[nearest]
        item.ContourImageSequence = Sequence([image])
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(contour.points_xy_mm)
    data = _contour_data(contour.points_xy_mm, contour.z_mm)
    # The text as it goes to the file ("already converted"): pydicom would make an object of each number.
    item.add(DataElement(Tag(0x3006, 0x0050), "DS", data, already_converted=True))
    return item


def _contour_data(points_xy_mm: NDArray[np.float64], z_mm: float) -> str:
    # Adding zero turns "-0.000" into "0.000".
    rounded = np.round(points_xy_mm, 3) + 0.0
    return "\\".join(f"{x:.3f}\\{y:.3f}\\{z_mm:.3f}" for x, y in rounded.tolist())


def _observation_item(number: int, roi: Roi) -> Dataset:
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.RTROIInterpretedType = interpreted_type(roi)
    item.ROIInterpreter = ""
    return item


def interpreted_type(roi: Roi) -> str:
    """RT ROI Interpreted Type (3006,00A4) of a role; empty where DICOM has no fitting term. An ITV goes as CTV."""
    if roi.role == "target":
        name = roi.name.upper().lstrip("IZ")
        if name.startswith("TV"):  # ITV without its I
            return "CTV"
        return next((kind for kind in ("PTV", "CTV", "GTV") if name.startswith(kind)), "")
    return {"external": "EXTERNAL", "oar": "ORGAN", "support": "SUPPORT"}.get(roi.role, "")
