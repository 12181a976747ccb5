"""What every object we write has in common: identity, study, equipment, numbers as decimal strings, safe saving."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from mrlinac.anatomy.patient import Patient
from mrlinac.errors import DataError, writing
from mrlinac.provenance import dicom_uid, fingerprint, versions

ANONYMOUS_NAME = "MRLINAC^RESEARCH"
IMPLEMENTATION_UID = UID(dicom_uid("mrlinac", "implementation"))

DETACHED_STUDY = "1.2.840.10008.3.1.2.3.1"
"""RT Referenced Study Sequence wants a SOP class; the retired study management class is what exporters use."""


SERIES_NUMBER = {"CT": 1, "RTSTRUCT": 2, "RTDOSE": 3, "RTPLAN": 4}


@cache
def software_version() -> str:
    """Our own version, as installed."""
    return versions()["mrlinac"]


def with_uids(patient: Patient) -> Patient:
    """The patient with every UID that is missing filled in: a function of the image, the same on every machine.

    A digital phantom has no UIDs of its own; objects written for it at different times must still belong together.

    Parameters
    ----------
    patient : Patient

    Returns
    -------
    Patient
    """
    count = patient.image.grid.shape_zyx[0]
    complete = patient.frame_uid and patient.study_uid and patient.series_uid and len(patient.slice_uids) == count
    if complete:
        return patient
    content = fingerprint(patient.image.grid, patient.image.values)
    return replace(
        patient,
        frame_uid=patient.frame_uid or dicom_uid(content, "frame"),
        study_uid=patient.study_uid or dicom_uid(content, "study"),
        series_uid=patient.series_uid or dicom_uid(content, "series", "CT"),
        slice_uids=patient.slice_uids
        if len(patient.slice_uids) == count
        else tuple(dicom_uid(content, "CT", index) for index in range(count)),
    )


def new_object(
    sop_class: str, modality: str, sop_uid: str, series_uid: str, patient: Patient, *, identify: bool
) -> Dataset:
    """A data set with the patient, study, series, equipment and SOP common modules filled in.

    Type 1 attributes have values, type 2 are present and may be empty. Dates are those of the source study or empty:
    the same input gives the same bytes.

    Parameters
    ----------
    identify : bool
        True: name, ID and study are the source patient's, so that the object files into the same patient. False: an
        anonymous name, the label as ID, and a study of its own (one study cannot have two patients).
    """
    known = dict(patient.identifiers) if identify else {}
    if identify and not known.get("PatientID"):
        raise DataError(
            "identify: this patient carries no Patient ID, so nothing can be filed under it. Write without identify."
        )
    own_study = bool(patient.identifiers) and not identify
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = sop_uid
    ds.StudyDate = known.get("StudyDate", "")
    ds.StudyTime = known.get("StudyTime", "")
    ds.AccessionNumber = known.get("AccessionNumber", "")
    ds.Modality = modality
    ds.Manufacturer = "mrlinac"
    ds.ReferringPhysicianName = known.get("ReferringPhysicianName", "")
    ds.ManufacturerModelName = "research simulator"
    ds.SoftwareVersions = software_version()
    ds.PatientName = known.get("PatientName", "") if identify else ANONYMOUS_NAME
    ds.PatientID = known.get("PatientID", "") if identify else patient.label[:64]
    ds.PatientBirthDate = known.get("PatientBirthDate", "")
    ds.PatientSex = known.get("PatientSex", "")
    if not identify:
        ds.PatientIdentityRemoved = "YES"
        ds.DeidentificationMethod = "Name, ID, dates not copied; references to images kept"
    ds.StudyInstanceUID = dicom_uid("anonymous", patient.study_uid) if own_study else patient.study_uid
    ds.StudyID = known.get("StudyID", "")
    ds.SeriesInstanceUID = series_uid
    ds.SeriesNumber = SERIES_NUMBER[modality]
    ds.OperatorsName = ""
    ds.FrameOfReferenceUID = patient.frame_uid
    ds.PositionReferenceIndicator = ""
    return ds


def source_of(patient: Patient, *, identify: bool) -> tuple[str, ...]:
    """What the UIDs of an object depend on besides its content: its frame of reference and its patient and study."""
    return (patient.frame_uid, patient.series_uid, "identified" if identify else f"anonymous:{patient.label}")


def decimal(value: float) -> str:
    """A number as DICOM decimal string: 16 characters at most, as exact as they allow."""
    return str(format_number_as_ds(float(value)))


def decimals(values: Iterable[float]) -> list[str]:
    """Numbers as decimal strings."""
    return [decimal(value) for value in values]


def save(ds: Dataset, path: Path, *, implicit: bool = False) -> None:
    """Write a DICOM file under a temporary name, then move it into place: no half-written file is ever seen."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = f"MRLINAC_{software_version()}"[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".mrlinac-", suffix=".part", dir=path.parent)
    try:
        with writing(path), os.fdopen(handle, "wb") as file:
            FileDataset(str(path), ds, preamble=b"\0" * 128, file_meta=meta).save_as(file, enforce_file_format=True)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
