"""A structure set: from an RTSTRUCT's contour items to named ROIs, with a sentence for everything unusual."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset

from mrlinac.anatomy.contours import FILLED_GAP_SLICES, polygon_volume_cc
from mrlinac.anatomy.field_of_view import cut_planes_mm, described
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Roi, Role
from mrlinac.dicom.names import Naming, known, naming
from mrlinac.dicom.problems import Findings, integer, numbers, text
from mrlinac.dicom.scan import Found

PLANE_TOLERANCE_mm = 0.1
"""Contours this near a slice are taken to lie on it (decimal strings are rounded); farther ones keep their own z."""

FILLED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contour Geometric Types that enclose area; loops of one plane combine by the even–odd rule."""

SURENESS = ("exact", "alias", "pattern", "type", "none")

DEFAULT_COLOR = (128, 128, 128)


def rois_of(rtstruct: Found) -> list[Dataset]:
    """Items of the Structure Set ROI Sequence."""
    return list(rtstruct.header.get("StructureSetROISequence") or [])


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
        naming(text(item, "ROIName"), types.get(integer(item, "ROINumber") or -1, "")) for item in rois_of(rtstruct)
    )
    return sum(n.matched in ("exact", "alias", "pattern") for n in found)


def referenced_series(rtstruct: Found) -> set[str]:
    """Series Instance UIDs of the images it was drawn on."""
    return {
        text(series, "SeriesInstanceUID")
        for frame in rtstruct.header.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
    } - {""}


def referenced_slices(rtstruct: Found) -> set[str]:
    """SOP Instance UIDs of the images it was drawn on."""
    return {
        text(image, "ReferencedSOPInstanceUID")
        for frame in rtstruct.header.get("ReferencedFrameOfReferenceSequence") or []
        for study in frame.get("RTReferencedStudySequence") or []
        for series in study.get("RTReferencedSeriesSequence") or []
        for image in series.get("ContourImageSequence") or []
    } - {""}


def frames(rtstruct: Found) -> set[str]:
    """Frame of Reference UIDs its ROIs live in: per ROI where stated, else those of the set."""
    of_rois = {text(item, "ReferencedFrameOfReferenceUID") for item in rois_of(rtstruct)} - {""}
    if of_rois:
        return of_rois
    listed = rtstruct.header.get("ReferencedFrameOfReferenceSequence") or []
    return (
        {text(item, "FrameOfReferenceUID") for item in listed} | {text(rtstruct.header, "FrameOfReferenceUID")}
    ) - {""}


@dataclass
class _Drawn:
    """Contours of one ROI as found, with counts of what could not be used."""

    contours: list[Contour] = field(default_factory=list)
    other_kinds: Counter[str] = field(default_factory=Counter)
    too_few: int = 0
    off_axial: int = 0
    off_plane: int = 0
    outside: int = 0


def read_structures(
    rtstruct: Found,
    grid: Grid,
    frame_uid: str,
    slice_uids: Sequence[str],
    findings: Findings,
    *,
    names: Mapping[str, str] | None = None,
) -> dict[str, Roi]:
    """ROIs of a structure set under their TG-263 names, in file order.

    Parameters
    ----------
    rtstruct : Found
    grid : Grid
        Of the CT the set belongs to.
    frame_uid : str
        The CT's frame of reference; a set in another frame is a problem.
    slice_uids : sequence of str
        SOP Instance UIDs of the CT slices, to see what the set refers to.
    findings : Findings
    names : mapping, optional
        Clinic name to TG-263 name, before the alias table.
    """
    _check_frame(rtstruct, frame_uid, findings)
    missing = len(referenced_slices(rtstruct) - set(slice_uids))
    if missing:
        findings.note(
            "warning",
            f"The structure set refers to {missing} image(s) that are not among the {len(slice_uids)} slices read.",
        )
    items = {integer(i, "ReferencedROINumber"): i for i in rtstruct.header.get("ROIContourSequence") or []}
    types = interpreted_types(rtstruct)
    rois: dict[str, Roi] = {}
    chosen = _chosen_names(rtstruct, types, names, findings)
    for number, (clinic_name, as_named) in chosen.items():
        item = items.get(number)
        drawn = _drawn(item, clinic_name, grid, rtstruct.name, findings) if item is not None else _Drawn()
        _note_unusable(clinic_name, drawn, findings)
        if not drawn.contours:
            findings.note("warning", f"'{clinic_name}' has no closed contour: left out.")
            continue
        algorithm = next(
            text(i, "ROIGenerationAlgorithm") for i in rois_of(rtstruct) if integer(i, "ROINumber") == number
        )
        roi = Roi(
            as_named.name,
            as_named.role,
            tuple(sorted(drawn.contours, key=lambda c: c.z_mm)),
            _slice_spacing_mm(clinic_name, drawn.contours, grid, findings),
            clinic_name,
            derived=algorithm.upper() == "AUTOMATIC",
            color_rgb=_color(item, as_named),
        )
        _note_roi(roi, types.get(number, ""), as_named, findings)
        rois[roi.name] = roi
    _note_external(rois, grid, findings)
    return rois


def _check_frame(rtstruct: Found, frame_uid: str, findings: Findings) -> None:
    found = frames(rtstruct)
    if not found:
        findings.problem(
            "missing, so its place in space is unknown",
            "Export the structure set together with its CT",
            file=rtstruct.name,
            keyword="ReferencedFrameOfReferenceUID",
        )
    elif found != {frame_uid}:
        findings.problem(
            "is not the CT's frame of reference: the contours would lie in another space",
            "Give the structure set drawn on this CT (a registration would be needed otherwise)",
            file=rtstruct.name,
            keyword="ReferencedFrameOfReferenceUID",
        )


def _chosen_names(
    rtstruct: Found, types: Mapping[int, str], names: Mapping[str, str] | None, findings: Findings
) -> dict[int, tuple[str, Naming]]:
    """A distinct name for every ROI number; the surest go first (exact spellings, then what the table knows)."""
    wanted: dict[int, tuple[str, Naming]] = {}
    for item in rois_of(rtstruct):
        number, clinic_name = integer(item, "ROINumber"), text(item, "ROIName")
        if number is None or not clinic_name:
            keyword = "ROINumber" if number is None else "ROIName"
            findings.problem("missing", "Export the structure set again", file=rtstruct.name, keyword=keyword)
        elif number in wanted:
            findings.problem(
                f"{number} is used twice", "Export the structure set again", file=rtstruct.name, keyword="ROINumber"
            )
        else:
            wanted[number] = (clinic_name, naming(clinic_name, types.get(number, ""), names))
    taken: dict[str, str] = {}
    settled: dict[int, tuple[str, Naming]] = {}
    for number in sorted(wanted, key=lambda n: SURENESS.index(wanted[n][1].matched)):
        clinic_name, as_named = wanted[number]
        if as_named.name in taken:
            other, name = as_named.name, clinic_name
            while name in taken:
                name += "_2"
            role: Role = as_named.role if as_named.role != "external" else "other"
            as_named = Naming(name=name, role=role, color=None, matched="none")
            findings.note(
                "decide",
                f"'{clinic_name}' would be {other}, which is already '{taken[other]}': kept as '{name}'. Rename"
                " one of them if this is not meant.",
            )
        taken[as_named.name] = clinic_name
        settled[number] = (clinic_name, as_named)
    return {number: settled[number] for number in wanted}


def _drawn(item: Dataset, name: str, grid: Grid, file: str, findings: Findings) -> _Drawn:
    """All contours of one ROI that can be used, and counts of those that cannot."""
    drawn = _Drawn()
    planes = grid.z_mm
    half = grid.spacing_zyx_mm[0] / 2
    for number, contour in enumerate(item.get("ContourSequence") or [], start=1):
        kind = text(contour, "ContourGeometricType").upper()
        if kind not in FILLED:
            drawn.other_kinds[kind or "no type"] += 1
            continue
        values = numbers(contour, "ContourData")
        stated = integer(contour, "NumberOfContourPoints")
        if values is None or values.size % 3 or (stated is not None and 3 * stated != values.size):
            size = "no numbers" if values is None else f"{values.size} numbers"
            findings.problem(
                f"contour {number} of '{name}': {size}, {stated} points stated",
                "Export the structure set again",
                file=file,
                keyword="ContourData",
            )
            continue
        points = values.reshape(-1, 3)
        if len(np.unique(points[:, :2], axis=0)) < 3:
            drawn.too_few += 1
        elif np.ptp(points[:, 2]) > PLANE_TOLERANCE_mm:
            drawn.off_axial += 1
        else:
            z = float(np.mean(points[:, 2]))
            nearest = float(planes[np.argmin(np.abs(planes - z))])
            if abs(nearest - z) <= PLANE_TOLERANCE_mm:
                z = nearest
            elif abs(nearest - z) <= half + PLANE_TOLERANCE_mm:
                drawn.off_plane += 1
            else:
                drawn.outside += 1
            drawn.contours.append(Contour(z, points[:, :2]))
    return drawn


def _note_unusable(name: str, drawn: _Drawn, findings: Findings) -> None:
    for kind, count in sorted(drawn.other_kinds.items()):
        findings.note("info", f"'{name}': {count} contour(s) of type {kind} enclose nothing: left out.")
    if drawn.too_few:
        findings.note("done", f"'{name}': {drawn.too_few} contour(s) of fewer than three distinct points left out.")
    if drawn.off_axial:
        findings.note("warning", f"'{name}': {drawn.off_axial} contour(s) not in an axial plane left out.")
    if drawn.off_plane:
        findings.note(
            "warning", f"'{name}': {drawn.off_plane} contour(s) between the CT slices, kept at their own z."
        )
    if drawn.outside:
        findings.note("warning", f"'{name}': {drawn.outside} contour(s) above or below the CT, kept at their own z.")


def _slice_spacing_mm(name: str, contours: Sequence[Contour], grid: Grid, findings: Findings) -> float:
    """Thickness a contour stands for: the CT's spacing, unless the planes themselves are spaced otherwise.

    The most frequent step between neighbouring planes decides (single planes: the CT's spacing); larger steps are
    gaps, which are reported (what happens to them is for ``anatomy.contours``).
    """
    spacing = grid.spacing_zyx_mm[0]
    steps = np.diff(np.unique(np.round([c.z_mm for c in contours], 2)))
    if not steps.size:
        return spacing
    values, counts = np.unique(np.round(steps, 1), return_counts=True)
    usual = float(values[np.argmax(counts)])
    if abs(usual - spacing) <= 2 * PLANE_TOLERANCE_mm:
        usual = spacing
    else:
        findings.note(
            "decide",
            f"'{name}' is drawn every {usual:g} mm on slices {spacing:g} mm apart: each contour stands for"
            f" {usual:g} mm.",
        )
    missing = np.round(steps / usual).astype(int) - 1
    filled = (missing > 0) & (steps <= FILLED_GAP_SLICES * usual)
    if filled.any():
        findings.note(
            "warning",
            f"'{name}' has no contour on {missing[filled].sum()} plane(s) between others: where the neighbouring"
            " contours overlap, the nearer one stands for them.",
        )
    if (missing[~filled] > 0).any():
        findings.note("info", f"'{name}' has {(missing[~filled] > 0).sum() + 1} parts along z, with nothing between.")
    return usual


def _color(item: Dataset | None, as_named: Naming) -> tuple[int, int, int]:
    """The table's colour, so that reports look alike; else the clinic's; else grey."""
    if as_named.color is not None:
        return as_named.color
    values = numbers(item, "ROIDisplayColor") if item is not None else None
    if values is None or values.size != 3 or values.min() < 0 or values.max() > 255:
        return DEFAULT_COLOR
    return int(values[0]), int(values[1]), int(values[2])


def _note_roi(roi: Roi, interpreted: str, as_named: Naming, findings: Findings) -> None:
    planes = len({c.z_mm for c in roi.contours})
    volume_cc = polygon_volume_cc(roi)
    as_what = "" if roi.name == roi.original_name else f" (here '{roi.original_name}')"
    findings.note(
        "info",
        f"{roi.name}{as_what}: {roi.role}, {volume_cc:.{0 if volume_cc >= 100 else 1}f} cc on {planes} plane(s)"
        f"{', drawn by software' if roi.derived else ''}.",
    )
    if as_named.matched == "type" and roi.role == "external":
        findings.note("decide", f"'{roi.original_name}' is taken for External because it is typed EXTERNAL.")
    elif as_named.matched in ("type", "none") and known(roi.name) is None:
        findings.note("decide", f"'{roi.original_name}' is not in the name table: kept as it is, as {roi.role}.")
    elif interpreted == "EXTERNAL" and roi.role != "external":
        findings.note("decide", f"'{roi.original_name}' is typed EXTERNAL but its name says {roi.role}: {roi.role}.")


def _note_external(rois: Mapping[str, Roi], grid: Grid, findings: Findings) -> None:
    """Say whether there is one External and whether the image holds all of it."""
    outer = [roi for roi in rois.values() if roi.role == "external"]
    if len(outer) != 1:
        listed = ", ".join(f"'{roi.original_name}'" for roi in outer) or "none"
        findings.note("decide", f"One External is needed for planning; found: {listed}.")
    for roi in outer:
        if cut := cut_planes_mm(roi, grid):
            findings.note(
                "warning",
                f"{roi.name} reaches the edge of the image ({described(cut)}): the field of view cuts the body.",
            )
        else:
            findings.note("info", f"{roi.name} lies within the field of view in every slice.")
        planes = {round(c.z_mm, 2) for c in roi.contours}
        empty = [z for z in grid.z_mm if round(float(z), 2) not in planes]
        if empty:
            findings.note("warning", f"{roi.name} is missing on {len(empty)} of {grid.shape_zyx[0]} slices.")
