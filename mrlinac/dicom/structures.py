"""A structure set: from an RTSTRUCT's contour items to named ROIs, with a sentence for everything unusual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrlinac.anatomy.contours import polygon_volume_cc
from mrlinac.anatomy.field_of_view import cut_planes_mm, described
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient_file import StructureChoice
from mrlinac.anatomy.structures import Roi, Role
from mrlinac.dicom import registration
from mrlinac.dicom.drawn import Drawn, PLANE_TOLERANCE_mm, drawn_contours, note_unusable, slice_spacing_mm
from mrlinac.dicom.names import Naming, known, naming
from mrlinac.dicom.problems import Findings, integer, numbers, text
from mrlinac.dicom.scan import Found
from mrlinac.dicom.structure_set import frame_of, frames, interpreted_types, referenced_slices, roi_name, rois_of
from mrlinac.dicom.tilted import in_axial_planes

SURENESS = ("exact", "alias", "pattern", "type", "none")

DEFAULT_COLOR = (128, 128, 128)


def read_structures(
    rtstruct: Found,
    grid: Grid,
    moves: Mapping[str, NDArray[np.float64]],
    slice_uids: Sequence[str],
    findings: Findings,
    *,
    names: Mapping[str, str] | None = None,
    choices: Mapping[str, StructureChoice] | None = None,
    unseen: NDArray[np.bool_] | None = None,
) -> dict[str, Roi]:
    """ROIs of a structure set under their TG-263 names, in file order.

    Parameters
    ----------
    rtstruct : Found
    grid : Grid
        Of the image the set belongs to.
    moves : mapping from frame UID to matrix (4, 4)
        Frames of reference that can be moved into the image's, that one included (see ``registration.moves_to``).
    slice_uids : sequence of str
        SOP Instance UIDs of the image's slices, to see what the set refers to.
    findings : Findings
    names : mapping, optional
        Clinic name to TG-263 name, before the alias table.
    choices : mapping, optional
        Clinic name to what ``patient.toml`` says of it; goes before everything.
    unseen : bool array [z, y, x], optional
        Voxels of the image that the scanner did not image.
    """
    here = _reachable(rtstruct, moves, findings)
    missing = len(referenced_slices(rtstruct) - set(slice_uids))
    if missing and slice_uids:  # an image that was turned or resampled has no slices to refer to
        findings.note(
            "warning",
            f"The structure set refers to {missing} image(s) that are not among the {len(set(slice_uids))} slices read.",
        )
    items = {integer(i, "ReferencedROINumber"): i for i in rtstruct.header.get("ROIContourSequence") or []}
    types = interpreted_types(rtstruct)
    described_rois = {integer(i, "ROINumber"): i for i in rois_of(rtstruct)}
    rois: dict[str, Roi] = {}
    tilted: list[str] = []
    chosen = _chosen_names(rtstruct, types, names, choices or {}, findings)
    for number, (clinic_name, as_named) in chosen.items():
        about = described_rois[number]
        frame = frame_of(about, rtstruct)
        if frame not in here:
            continue
        item, move = items.get(number), here[frame]
        own = None if np.array_equal(move, np.eye(4)) else move
        drawn = Drawn()
        if item is not None:
            drawn = drawn_contours(item, clinic_name, grid, rtstruct.name, findings, own)
        leaves_planes = own is not None and not registration.keeps_planes(own)
        # Small loops of slightly tilted planes pass for axial ones: what most of the loops are decides for all.
        if drawn.loops and (leaves_planes or drawn.off_axial > len(drawn.contours)):
            redrawn = _redrawn(drawn, clinic_name, as_named, grid, findings)
            if redrawn is None:
                tilted.append(clinic_name)
                continue
            drawn = redrawn
        note_unusable(clinic_name, drawn, findings)
        if not drawn.contours:
            findings.note("warning", f"'{clinic_name}' has no closed contour: left out.")
            continue
        roi = Roi(
            as_named.name,
            as_named.role,
            tuple(sorted(drawn.contours, key=lambda c: c.z_mm)),
            slice_spacing_mm(clinic_name, drawn.contours, grid, findings),
            clinic_name,
            derived=text(about, "ROIGenerationAlgorithm").upper() == "AUTOMATIC",
            color_rgb=_color(item, as_named),
        )
        decided = clinic_name in (choices or {})
        _note_roi(roi, types.get(number, ""), as_named, findings, decided=decided)
        rois[roi.name] = roi
    _say_tilted(tilted, len(rois), rtstruct, findings)
    _note_external(rois, grid, unseen, findings)
    return rois


def _redrawn(drawn: Drawn, clinic_name: str, as_named: Naming, grid: Grid, findings: Findings) -> Drawn | None:
    """A structure of tilted planes, drawn in the image's; None where it cannot be."""
    made = in_axial_planes(drawn.loops, grid, as_named.name, as_named.role)
    if made is None:
        return None
    findings.note(
        "decide",
        f"'{clinic_name}' lies in {made.planes} plane(s) at {made.tilt_deg:.1f}° to the axial ones"
        f" ({made.as_drawn_cc:.1f} cc): redrawn in the image's axial planes. Look at it.",
    )
    low, high = grid.lower_xyz_mm[2], grid.upper_xyz_mm[2]
    outside = sum(not low < contour.z_mm < high for contour in made.contours)
    return Drawn(
        contours=list(made.contours),
        other_kinds=drawn.other_kinds,
        too_few=drawn.too_few,
        doubled=drawn.doubled,
        outside=outside,
    )


def _say_tilted(tilted: Sequence[str], kept: int, rtstruct: Found, findings: Findings) -> None:
    """Structures whose loops are neither axial nor of flat, parallel planes; most of a set so drawn is a problem."""
    if not tilted:
        return
    listed = ", ".join(f"'{name}'" for name in tilted)
    if len(tilted) > kept:
        findings.problem(
            f"{len(tilted)} of {len(tilted) + kept} structures are drawn neither in axial planes nor in flat planes"
            f" parallel to one another ({listed})",
            "Copy them onto an axial image of the same frame of reference where they were drawn, and export again",
            file=rtstruct.name,
            keyword="ContourData",
        )
    else:
        text = f"Drawn neither in axial planes nor in flat planes parallel to one another, left out: {listed}."
        findings.note("decide", f"{text} Redraw what is needed.")


def _reachable(
    rtstruct: Found, moves: Mapping[str, NDArray[np.float64]], findings: Findings
) -> dict[str, NDArray[np.float64]]:
    """The set's frames of reference that can be moved into the image's; none at all is a problem."""
    found = frames(rtstruct) | ({""} & set(moves))  # the empty one: a person says where a set without any lies
    if not found:
        findings.problem(
            "missing, so its place in space is unknown",
            "Export the structure set together with its CT",
            file=rtstruct.name,
            keyword="ReferencedFrameOfReferenceUID",
        )
        return {}
    here = {}
    for frame in sorted(found & set(moves)):
        move = moves[frame]
        here[frame] = move
        if not np.array_equal(move, np.eye(4)):
            findings.note(
                "decide",
                f"Structures were moved into the image's frame of reference by the registration object"
                f" ({registration.described(move)}). Check that they lie where they should.",
            )
    if not found & set(moves):
        findings.problem(
            "is not the image's frame of reference, and no registration object leads there: the contours would lie in"
            " another space",
            "Give the structure set drawn on this image, or add the registration object",
            file=rtstruct.name,
            keyword="ReferencedFrameOfReferenceUID",
        )
    elif lost := [i for i in rois_of(rtstruct) if frame_of(i, rtstruct) not in moves]:
        names = ", ".join(f"'{roi_name(i, rtstruct)}'" for i in lost)
        findings.note("warning", f"In another frame of reference, without a registration: left out: {names}.")
    return here


def _chosen_names(
    rtstruct: Found,
    types: Mapping[int, str],
    names: Mapping[str, str] | None,
    choices: Mapping[str, StructureChoice],
    findings: Findings,
) -> dict[int, tuple[str, Naming]]:
    """A distinct name for every ROI number; the surest go first (exact spellings, then what the table knows)."""
    wanted: dict[int, tuple[str, Naming]] = {}
    for item in rois_of(rtstruct):
        number, clinic_name = integer(item, "ROINumber"), roi_name(item, rtstruct)
        if number is None or not clinic_name:
            keyword = "ROINumber" if number is None else "ROIName"
            findings.problem("missing", "Export the structure set again", file=rtstruct.name, keyword=keyword)
        elif number in wanted:
            findings.problem(
                f"{number} is used twice", "Export the structure set again", file=rtstruct.name, keyword="ROINumber"
            )
        elif (choice := choices.get(clinic_name)) is None:
            wanted[number] = (clinic_name, naming(clinic_name, types.get(number, ""), names))
        elif choice.use:
            entry = known(choice.name)
            color = None if entry is None else entry.color
            decided = Naming(name=choice.name, role=choice.role, color=color, matched="exact")
            wanted[number] = (clinic_name, decided)
        else:
            findings.note("info", f"'{clinic_name}' left out, as patient.toml says.")
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


def _color(item: Dataset | None, as_named: Naming) -> tuple[int, int, int]:
    """The table's colour, so that reports look alike; else the clinic's; else grey."""
    if as_named.color is not None:
        return as_named.color
    values = numbers(item, "ROIDisplayColor") if item is not None else None
    if values is None or values.size != 3 or values.min() < 0 or values.max() > 255:
        return DEFAULT_COLOR
    return int(values[0]), int(values[1]), int(values[2])


def _note_roi(roi: Roi, interpreted: str, as_named: Naming, findings: Findings, *, decided: bool) -> None:
    planes = len({c.z_mm for c in roi.contours})
    volume_cc = polygon_volume_cc(roi)
    as_what = "" if roi.name == roi.original_name else f" (here '{roi.original_name}')"
    findings.note(
        "info",
        f"{roi.name}{as_what}: {roi.role}, {volume_cc:.{0 if volume_cc >= 100 else 1}f} cc on {planes} plane(s)"
        f"{', drawn by software' if roi.derived else ''}.",
    )
    if decided:
        return
    if as_named.matched == "type" and roi.role == "external":
        findings.note("decide", f"'{roi.original_name}' is taken for External because it is typed EXTERNAL.")
    elif as_named.matched in ("type", "none") and known(roi.name) is None:
        findings.note("decide", f"'{roi.original_name}' is not in the name table: kept as it is, as {roi.role}.")
    elif interpreted == "EXTERNAL" and roi.role != "external":
        findings.note("decide", f"'{roi.original_name}' is typed EXTERNAL but its name says {roi.role}: {roi.role}.")


def _note_external(rois: Mapping[str, Roi], grid: Grid, unseen: NDArray[np.bool_] | None, findings: Findings) -> None:
    """Say whether there is one External and whether the image holds all of it."""
    outer = [roi for roi in rois.values() if roi.role == "external"]
    if len(outer) > 1:
        listed = ", ".join(f"'{roi.original_name}'" for roi in outer)
        findings.note(
            "decide", f"One External is needed for planning; found: {listed}. Give one the role in patient.toml."
        )
    for roi in outer:
        if cut := cut_planes_mm(roi, grid, unseen):
            edge = "image" if unseen is None else "imaged part"
            findings.note(
                "warning",
                f"{roi.name} reaches the edge of the {edge} ({described(cut)}): the field of view cuts the body.",
            )
        else:
            findings.note("info", f"{roi.name} lies within the field of view in every slice.")
        planes, half = np.array(sorted({c.z_mm for c in roi.contours})), grid.spacing_zyx_mm[0] / 2
        empty = [z for z in grid.z_mm if np.min(np.abs(planes - z)) > half + PLANE_TOLERANCE_mm]
        if empty:
            findings.note("warning", f"{roi.name} is missing on {len(empty)} of {grid.shape_zyx[0]} slices.")
