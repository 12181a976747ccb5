"""What a structure set says about itself: its ROIs, what they were drawn on, where they lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from mrlinac.dicom.names import naming
from mrlinac.dicom.problems import Findings, integer, text
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


def label_of_unnamed(number: int) -> str:
    """What a structure without a name is called here."""
    return f"ROI {number}"


def plain_name(label: str) -> str:
    """The clinic's name in a label (see :func:`listed_rois`)."""
    return re.sub(r" \[ROI -?\d+\]$", "", label)


@dataclass(frozen=True)
class ListedRoi:
    """A ROI of the Structure Set ROI Sequence.

    Attributes
    ----------
    number : int
    name : str
        The clinic's; ``ROI 3`` where there is none.
    label : str
        The name, with the number behind it where several ROIs have the same: ``GTV [ROI 3]``.
    item : Dataset
    """

    number: int
    name: str
    label: str
    item: Dataset


def listed_rois(rtstruct: Found, findings: Findings) -> list[ListedRoi]:
    """ROIs in file order, each with a label of its own; those that cannot be told apart are left out, with a note."""
    of_number: dict[int, list[Dataset]] = {}
    for item in rois_of(rtstruct):
        number = integer(item, "ROINumber")
        if number is None:
            text = f"'{roi_name(item, rtstruct)}' has no ROI Number, so that no contours are known to be its own: left out."
            findings.note("warning", text)
        else:
            of_number.setdefault(number, []).append(item)
    names: dict[int, str] = {}
    for number, items in of_number.items():
        several = list(dict.fromkeys(roi_name(item, rtstruct) for item in items))
        if len(several) > 1:
            listed = ", ".join(f"'{name}'" for name in several)
            findings.note(
                "warning",
                f"{listed} share ROI Number {number}, so that their contours cannot be told apart: left out. Export"
                " the structure set again.",
            )
            continue
        names[number] = several[0]
        if len(items) > 1:
            findings.note("done", f"'{several[0]}' is listed {len(items)} times under one ROI Number: taken once.")
        if not several[0]:
            names[number] = label_of_unnamed(number)
            findings.note("decide", f"The structure of ROI Number {number} has no name: called '{names[number]}'.")
    times = Counter(names.values())
    numbered = {f"{name} [ROI {number}]" for number, name in names.items() if times[name] > 1}
    times.update(
        name for name in names.values() if name in numbered
    )  # a name in the file may equal another's with a number
    return [
        ListedRoi(number, name, f"{name} [ROI {number}]" if times[name] > 1 else name, of_number[number][0])
        for number, name in names.items()
    ]


def contour_items(rtstruct: Found, rois: Sequence[ListedRoi], findings: Findings) -> dict[int, list[Dataset]]:
    """Items of the ROI Contour Sequence by ROI number, all of them; contours of no listed ROI are left out, with a note."""
    items: dict[int, list[Dataset]] = {}
    orphans: Counter[str] = Counter()
    listed = {integer(item, "ROINumber") for item in rois_of(rtstruct)}
    known = {roi.number for roi in rois}
    for item in rtstruct.header.get("ROIContourSequence") or []:
        number = integer(item, "ReferencedROINumber")
        if number in known:
            items.setdefault(number, []).append(item)
        elif number is None or number not in listed:
            orphans["without a number" if number is None else str(number)] += len(item.get("ContourSequence") or [])
    if count := sum(orphans.values()):
        findings.note(
            "warning",
            f"{count} contour(s) of ROI Number(s) that the structure set does not list ({', '.join(orphans)}): left out."
            " Whose they are is not known.",
        )
    shared = [f"'{roi.label}' ({len(items[roi.number])})" for roi in rois if len(items.get(roi.number, ())) > 1]
    if shared:
        findings.note("done", f"Contours spread over several items of the ROI Contour Sequence: {', '.join(shared)}.")
    return items


def observed_types(rtstruct: Found) -> dict[int, list[str]]:
    """RT ROI Interpreted Types by ROI number: what any observation says, each once, in file order."""
    types: dict[int, list[str]] = {}
    for item in rtstruct.header.get("RTROIObservationsSequence") or []:
        number, stated = integer(item, "ReferencedROINumber"), text(item, "RTROIInterpretedType").upper()
        if number is not None and stated and stated not in types.setdefault(number, []):
            types[number].append(stated)
    return types


def interpreted_types(rtstruct: Found) -> dict[int, str]:
    """RT ROI Interpreted Type by ROI number: the first that an observation states."""
    return {number: stated[0] for number, stated in observed_types(rtstruct).items() if stated}


def mapped_count(rtstruct: Found) -> int:
    """How many of its ROI names the alias table knows."""
    types = interpreted_types(rtstruct)
    names = (
        naming(roi_name(item, rtstruct), types.get(integer(item, "ROINumber") or -1, ""))
        for item in rois_of(rtstruct)
    )
    return sum(n.matched in ("exact", "alias", "pattern") for n in names)


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
