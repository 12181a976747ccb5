"""Which image series and which structure set belong together: by reference, by frame, by registration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mrlinac.dicom.problems import SAME_FRAME, Findings, text
from mrlinac.dicom.read.planes import ImageSeries
from mrlinac.dicom.read.registration import frames_named
from mrlinac.dicom.read.structure_set import frames, mapped_count, referenced_series, referenced_slices, rois_of
from mrlinac.dicom.scan import Found


def choose(
    all_series: Sequence[ImageSeries],
    sets: Sequence[Found],
    wanted: str | None,
    registrations: Sequence[Found],
    findings: Findings,
    *,
    named: bool = False,
    same_frame: bool = False,
) -> tuple[ImageSeries | None, Found | None]:
    """The image series and the structure set that belong together.

    Parameters
    ----------
    all_series : sequence of ImageSeries
        Not empty.
    sets : sequence of Found
        Structure sets to choose from.
    wanted : str or None
        UID or key of the series that a person chose.
    registrations : sequence of Found
    findings : Findings
        Gets a problem where a person has to choose, and a note on whatever was chosen.
    named : bool
        Whether a person named the one structure set.
    same_frame : bool
        A person says that image and structures lie in one space whatever their frames of reference.

    Returns
    -------
    ImageSeries or None
    Found or None
        None where there is no structure set.
    """
    candidates = list(all_series)
    if wanted is not None:
        candidates = [
            structure_set
            for structure_set in all_series
            if wanted in (structure_set.uid, structure_set.key, structure_set.key.split(".")[0])
        ]
        if not candidates:
            findings.problem(f"series: no image series '{wanted}'", f"Image series here: {_listed(all_series)}")
            return None, None
    drawn_on = {
        id(structure_set): _series_of(structure_set, candidates, registrations, findings) for structure_set in sets
    }
    if same_frame:
        drawn_on = {id(structure_set): drawn_on[id(structure_set)] or candidates for structure_set in sets}
    usable = [structure_set for structure_set in sets if drawn_on[id(structure_set)]]
    if not usable:
        if sets:
            _problem_unrelated(sets, candidates, findings)
        elif len(candidates) > 1:
            findings.problem(
                f"{len(candidates)} image series and no structure set to tell which is meant: {_listed(candidates)}",
                "Choose one: --series KEY",
            )
        return candidates[0], None
    targets = [
        structure_set for structure_set in candidates if any(structure_set in drawn_on[id(each)] for each in usable)
    ]
    if len(targets) > 1:
        findings.problem(
            f"structure sets belong to {len(targets)} image series: {_listed(targets, usable)}",
            "Choose one: --series KEY, or --rtstruct KEY or FILE",
        )
        return targets[0], None
    left = [structure_set for structure_set in all_series if structure_set is not targets[0]]
    if left:
        keys = ", ".join(
            f"{structure_set.key} ({structure_set.kind}, {len(structure_set.frames)} slices)"
            for structure_set in left
        )
        findings.note("done", f"{len(left)} other image series of the folder not used: {keys}.")
    return targets[0], _best(usable, findings, named=named)


def _series_of(
    rtstruct: Found, candidates: Sequence[ImageSeries], registrations: Sequence[Found], findings: Findings
) -> list[ImageSeries]:
    """Series a set was drawn on: those it refers to, else those in its frame of reference, else registered ones."""
    uids, slices = referenced_series(rtstruct), referenced_slices(rtstruct)
    referred = [series for series in candidates if series.uid in uids]
    if len(referred) > 1:  # parts of one series: the slices tell
        named = [
            series for series in referred if slices & {text(f.found.header, "SOPInstanceUID") for f in series.frames}
        ]
        referred = named or referred
    if referred:
        return referred
    of_set = frames(rtstruct)
    same_frame = [series for series in candidates if series.frame_uid in of_set]
    if len(same_frame) == 1:
        findings.note(
            "decide",
            f"Structure set {rtstruct.key} refers to no image series that is here; taken with the only one in its frame"
            " of reference. Check that it was drawn on it.",
        )
    if same_frame:
        return same_frame
    linked = [frames_named(series) for series in registrations]
    return [series for series in candidates if any(series.frame_uid in link and of_set & link for link in linked)]


def _problem_unrelated(sets: Sequence[Found], candidates: Sequence[ImageSeries], findings: Findings) -> None:
    for structure_set in sets:
        findings.problem(
            "refers to no image series that is here, and neither shares a frame of reference with one nor is"
            f" registered to one ({_listed(candidates)})",
            "Add the image it was drawn on or the registration object, or give another structure set; if a person has made"
            f" sure that it lies in an image's space, say so: {SAME_FRAME}",
            file=structure_set.name,
            keyword="ReferencedFrameOfReferenceUID",
        )


def _best(usable: Sequence[Found], findings: Findings, *, named: bool) -> Found:
    """Of several sets the one with the most known names, then the newest; never without a note.

    The note tells them apart by key and counts alone: names of files, labels and dates identify.
    """

    def rank(structure_set: Found) -> tuple[int, str, str]:
        return (
            mapped_count(structure_set),
            text(structure_set.header, "StructureSetDate"),
            text(structure_set.header, "StructureSetTime"),
        )

    best = max(usable, key=rank)
    if len(usable) > 1:
        others = ", ".join(_handle(structure_set) for structure_set in usable if structure_set is not best)
        tie = any(rank(structure_set)[0] == rank(best)[0] for structure_set in usable if structure_set is not best)
        findings.note(
            "decide",
            f"{len(usable)} structure sets: taken is {_handle(best)}, with"
            f" {'as many known names as another, the newest' if tie else 'the most known names'}; not used: {others}."
            " To take another: --rtstruct KEY or FILE.",
        )
    elif named:
        findings.note("info", f"Structures from the set that was named: {_handle(best)}.")
    else:
        findings.note("info", "Structures from the one structure set.")
    return best


def _handle(structure_set: Found) -> str:
    """A structure set as a report may name it: ``3fa1c07b (18 ROIs, 15 known)``."""
    return f"{structure_set.key} ({len(rois_of(structure_set))} ROIs, {mapped_count(structure_set)} known)"


def _listed(all_series: Sequence[ImageSeries], sets: Sequence[Found] = ()) -> str:
    """Series as the person who gave the folder tells them apart, for errors; descriptions often hold names."""
    parts = []
    for series in all_series:
        where = Path(series.frames[0].found.name).parent.as_posix()
        drawn = [each.name for each in sets if series.uid in referenced_series(each)]
        kind = "" if series.kind == "CT" else f"{series.kind}, "
        shown = f"{series.key} ({kind}{len(series.frames)} slices in {'the folder' if where == '.' else where}"
        parts.append(shown + (f", drawn on by {', '.join(drawn)})" if drawn else ")"))
    return "; ".join(parts)
