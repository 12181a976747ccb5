"""What a structure set says about itself: its ROIs, what they were drawn on, where they lie."""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from mrlinac.dicom.names import naming
from mrlinac.dicom.problems import integer, text
from mrlinac.dicom.scan import Found


def rois_of(rtstruct: Found) -> list[Dataset]:
    """Items of the Structure Set ROI Sequence."""
    return list(rtstruct.header.get("StructureSetROISequence") or [])


def roi_name(item: Dataset, rtstruct: Found) -> str:
    """Name of a ROI. Bytes beyond ASCII in a file that names no character set are UTF-8 if they can be, else Latin-1."""
    tag = tag_for_keyword("ROIName")
    try:
        raw = item.get_item(tag) if tag is not None else None
    except Exception:
        raw = None
    stated = text(rtstruct.header, "SpecificCharacterSet")
    if (
        stated in ("", "ISO_IR 6", "ISO 2022 IR 6")
        and isinstance(raw, RawDataElement)
        and isinstance(raw.value, bytes)
    ):
        written = raw.value.strip(b" \0")
        try:
            return written.decode("utf-8")
        except UnicodeDecodeError:
            return written.decode("latin-1")
    return text(item, "ROIName")


def interpreted_types(rtstruct: Found) -> dict[int, str]:
    """RT ROI Interpreted Type by ROI number."""
    types: dict[int, str] = {}
    for item in rtstruct.header.get("RTROIObservationsSequence") or []:
        number = integer(item, "ReferencedROINumber")
        if number is not None:
            types[number] = text(item, "RTROIInterpretedType").upper()
    return types


def mapped_count(rtstruct: Found) -> int:
    """How many of its ROI names the alias table knows."""
    types = interpreted_types(rtstruct)
    found = (
        naming(roi_name(item, rtstruct), types.get(integer(item, "ROINumber") or -1, ""))
        for item in rois_of(rtstruct)
    )
    return sum(n.matched in ("exact", "alias", "pattern") for n in found)


def _referenced_series_items(rtstruct: Found) -> list[Dataset]:
    return [
        series
        for frame in rtstruct.header.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
    ]


def referenced_series(rtstruct: Found) -> set[str]:
    """Series Instance UIDs of the images it was drawn on."""
    return {text(series, "SeriesInstanceUID") for series in _referenced_series_items(rtstruct)} - {""}


def referenced_slices(rtstruct: Found) -> set[str]:
    """SOP Instance UIDs of the images it was drawn on."""
    return {
        text(image, "ReferencedSOPInstanceUID")
        for series in _referenced_series_items(rtstruct)
        for image in series.get("ContourImageSequence") or []
    } - {""}


def frames(rtstruct: Found) -> set[str]:
    """Frame of Reference UIDs its ROIs live in."""
    listed = {frame_of(item, rtstruct) for item in rois_of(rtstruct)} - {""}
    return listed or _stated_frames(rtstruct)


def frame_of(item: Dataset, rtstruct: Found) -> str:
    """Frame of reference of one ROI: its own where stated, else the only one of the set."""
    own = text(item, "ReferencedFrameOfReferenceUID")
    if own:
        return own
    stated = _stated_frames(rtstruct)
    return next(iter(stated)) if len(stated) == 1 else ""


def _stated_frames(rtstruct: Found) -> set[str]:
    listed = rtstruct.header.get("ReferencedFrameOfReferenceSequence") or []
    of_set = {text(item, "FrameOfReferenceUID") for item in listed} - {""}
    return of_set or {text(rtstruct.header, "FrameOfReferenceUID")} - {""}
