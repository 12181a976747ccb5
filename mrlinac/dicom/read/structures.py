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
from mrlinac.dicom.names import Naming, folded, known, naming
from mrlinac.dicom.problems import Findings, numbers, tag_name, text
from mrlinac.dicom.read import registration
from mrlinac.dicom.read.drawn import Drawn, PLANE_TOLERANCE_mm, drawn_contours, note_unusable
from mrlinac.dicom.read.structure_set import (
    ListedRoi,
    contour_items,
    frame_of,
    frames,
    listed_rois,
    observed_types,
    referenced_slices,
    roi_name,
    rois_of,
)
from mrlinac.dicom.read.thickness import note_gaps, thickness_mm
from mrlinac.dicom.read.tilted import in_axial_planes
from mrlinac.dicom.scan import Found

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
    imaged: bool = True,
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
    imaged : bool
        Whether there is an image. Without one ``grid`` says how thick a slice is, and nothing else.
    """
    here = _reachable(rtstruct, moves, findings)
    missing = len(referenced_slices(rtstruct) - set(slice_uids))
    if missing and slice_uids:  # an image that was turned or resampled has no slices to refer to
        findings.note(
            "warning",
            f"The structure set refers to {missing} image(s) that are not among the {len(set(slice_uids))} slices read.",
        )
    wanted = _wanted(listed_rois(rtstruct, findings), choices or {}, findings)
    items = contour_items(rtstruct, wanted, findings)
    reading = _Reading(rtstruct, grid, imaged, findings)
    drawn = reading.usable(wanted, items, here)
    types = observed_types(rtstruct)
    with_contours = [roi for roi in wanted if roi.number in drawn]
    chosen = _chosen_names(with_contours, types, names, choices or {}, findings)
    rois: dict[str, Roi] = {}
    for listed in with_contours:
        as_named, contours_drawn = chosen[listed.number], drawn[listed.number]
        slice_mm = grid.spacing_zyx_mm[0]
        thickness = thickness_mm(listed.label, contours_drawn.contours, slice_mm, findings)
        roi = Roi(
            as_named.name,
            as_named.role,
            tuple(sorted(contours_drawn.contours, key=lambda c: c.z_mm)),
            thickness,
            listed.label,
            derived=text(listed.item, "ROIGenerationAlgorithm").upper() == "AUTOMATIC",
            color_rgb=_color(items[listed.number], as_named),
            lone_slice_mm=min(slice_mm, thickness),
        )
        note_gaps(roi, findings)
        decided = _choice(listed, choices or {}) is not None
        _note_roi(roi, types.get(listed.number, []), as_named, findings, decided=decided)
        rois[roi.name] = roi
    _say_tilted(reading.tilted, len(rois), rtstruct, findings)
    if imaged:
        _note_external(rois, grid, unseen, findings)
    return rois


def _choice(listed: ListedRoi, choices: Mapping[str, StructureChoice]) -> StructureChoice | None:
    """What ``patient.toml`` says of a structure, by its label or else by the clinic's name."""
    return choices.get(listed.label, choices.get(listed.name))


def _wanted(rois: Sequence[ListedRoi], choices: Mapping[str, StructureChoice], findings: Findings) -> list[ListedRoi]:
    """The ROIs without those that ``patient.toml`` leaves out."""
    wanted = []
    for roi in rois:
        choice = _choice(roi, choices)
        if choice is None or choice.use:
            wanted.append(roi)
        else:
            findings.note("info", f"'{roi.label}' left out, as patient.toml says.")
    return wanted


class _Reading:
    """The contours of a structure set, as they become usable; ``tilted`` lists what lies in no common plane."""

    def __init__(self, rtstruct: Found, grid: Grid, imaged: bool, findings: Findings) -> None:
        self.rtstruct, self.grid, self.imaged, self.findings = rtstruct, grid, imaged, findings
        self.tilted: list[str] = []

    def usable(
        self,
        rois: Sequence[ListedRoi],
        items: Mapping[int, Sequence[Dataset]],
        here: Mapping[str, NDArray[np.float64]],
    ) -> dict[int, Drawn]:
        """Contours by ROI number, of all ROIs that have any and lie in a frame that leads to the image's."""
        contours_by_number: dict[int, Drawn] = {}
        empty: dict[str, list[str]] = {}
        for roi in rois:
            frame = frame_of(roi.item, self.rtstruct)
            if frame not in here:
                continue
            drawn = self._drawn(roi, items.get(roi.number, ()), here[frame])
            if drawn is None:
                continue
            if drawn.contours:
                note_unusable(roi.label, drawn, self.findings)
                contours_by_number[roi.number] = drawn
            else:
                empty.setdefault(_held(drawn), []).append(roi.label)
        for held, labels in empty.items():
            listed = ", ".join(f"'{label}'" for label in labels)
            self.findings.note("warning", f"{len(labels)} structure(s) {held}, left out: {listed}.")
        return contours_by_number

    def _drawn(self, roi: ListedRoi, items: Sequence[Dataset], move: NDArray[np.float64]) -> Drawn | None:
        """Contours of one ROI in the image's frame; None where it is left out and that has been said."""
        own = None if np.array_equal(move, np.eye(4)) else move
        drawn = drawn_contours(items, self.grid, imaged=self.imaged, move=own)
        if drawn.damage:
            # Part of a structure would pass for all of it: none of it is taken.
            more = f", and {len(drawn.damage) - 1} more" if len(drawn.damage) > 1 else ""
            self.findings.note(
                "warning",
                f"'{roi.label}' is damaged and left out whole: {tag_name('ContourData')}: {drawn.damage[0]}{more}."
                " Export it again.",
            )
            return None
        leaves_planes = own is not None and not registration.keeps_planes(own)
        # Small loops of slightly tilted planes pass for axial ones: what most of the loops are decides for all.
        if drawn.loops and (leaves_planes or drawn.off_axial > len(drawn.contours)):
            redrawn = _redrawn(drawn, roi.label, self.grid, self.findings)
            if redrawn is None:
                self.tilted.append(roi.label)
            return redrawn
        return drawn


def _held(drawn: Drawn) -> str:
    """What a structure without a usable contour holds instead, in words."""
    kinds = [kind for kind, count in sorted(drawn.other_kinds.items()) if count]
    if kinds and not drawn.too_few and not drawn.pointless and not drawn.off_axial:
        return f"of contours that enclose nothing ({', '.join(kinds)})"
    return "without a closed contour"


def _redrawn(drawn: Drawn, label: str, grid: Grid, findings: Findings) -> Drawn | None:
    """A structure of tilted planes, drawn in the image's; None where it cannot be."""
    made = in_axial_planes(drawn.loops, grid, label)
    if made is None:
        return None
    findings.note(
        "decide",
        f"'{label}' lies in {made.planes} plane(s) at {made.tilt_deg:.1f}° to the axial ones"
        f" ({made.as_drawn_cc:.1f} cc): redrawn in the image's axial planes. Look at it.",
    )
    low, high = grid.lower_xyz_mm[2], grid.upper_xyz_mm[2]
    outside = sum(not low < contour.z_mm < high for contour in made.contours)
    return Drawn(
        contours=list(made.contours),
        other_kinds=drawn.other_kinds,
        pointless=drawn.pointless,
        too_few=drawn.too_few,
        doubled=made.doubled,
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
    frames_stated = frames(rtstruct) | (
        {""} & set(moves)
    )  # the empty one: a person says where a set without any lies
    if not frames_stated:
        findings.problem(
            "missing, so its place in space is unknown",
            "Export the structure set together with its CT",
            file=rtstruct.name,
            keyword="ReferencedFrameOfReferenceUID",
        )
        return {}
    here = {}
    for frame in sorted(frames_stated & set(moves)):
        move = moves[frame]
        here[frame] = move
        if not np.array_equal(move, np.eye(4)):
            findings.note(
                "decide",
                f"Structures were moved into the image's frame of reference by the registration object"
                f" ({registration.described(move)}). Check that they lie where they should.",
            )
    if not frames_stated & set(moves):
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
    rois: Sequence[ListedRoi],
    types: Mapping[int, Sequence[str]],
    names: Mapping[str, str] | None,
    choices: Mapping[str, StructureChoice],
    findings: Findings,
) -> dict[int, Naming]:
    """A distinct name for every ROI number; the surest go first (exact spellings, then what the table knows)."""
    wanted: dict[int, Naming] = {}
    labels = {roi.number: roi.label for roi in rois}
    plain = {roi.number: roi.name for roi in rois}
    for roi in rois:
        choice = _choice(roi, choices)
        if choice is None:
            wanted[roi.number] = naming(roi.name, next(iter(types.get(roi.number, [])), ""), names)
        else:
            entry = known(choice.name)
            color = None if entry is None else entry.color
            wanted[roi.number] = Naming(name=choice.name, role=choice.role, color=color, matched="exact")
    taken: dict[str, str] = {}
    settled: dict[int, Naming] = {}
    for number in sorted(wanted, key=lambda n: SURENESS.index(wanted[n].matched)):
        as_named, label = wanted[number], labels[number]
        if as_named.name in taken:
            other, name = as_named.name, plain[number]
            if folded(name) in {folded(used) for used in taken}:  # 'ctv' beside 'CTV' would be taken for it
                name = as_named.name
            base, count = name, 1
            while name in taken:
                count += 1
                name = f"{base}_{count}"
            role: Role = as_named.role if as_named.role != "external" else "other"
            as_named = Naming(name=name, role=role, color=None, matched="none")
            findings.note(
                "decide",
                f"'{label}' would be {other}, which is already '{taken[other]}': kept as '{name}'. Rename"
                " one of them if this is not meant.",
            )
        taken[as_named.name] = label
        settled[number] = as_named
    return settled


def _color(items: Sequence[Dataset], as_named: Naming) -> tuple[int, int, int]:
    """The table's colour, so that reports look alike; else the clinic's; else grey."""
    if as_named.color is not None:
        return as_named.color
    values = next((stated for item in items if (stated := numbers(item, "ROIDisplayColor")) is not None), None)
    if values is None or values.size != 3 or values.min() < 0 or values.max() > 255:
        return DEFAULT_COLOR
    return int(values[0]), int(values[1]), int(values[2])


def _note_roi(roi: Roi, types: Sequence[str], as_named: Naming, findings: Findings, *, decided: bool) -> None:
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
    interpreted = types[0] if types else ""
    if len(types) > 1:
        text = f"'{roi.original_name}' is typed {' and '.join(types)} by several observations: the first is taken."
        findings.note("decide", text)
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
