"""A patient from a folder of DICOM files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom.dataset import Dataset

from mrlinac.anatomy.patient import Patient, Position
from mrlinac.anatomy.structures import Roi
from mrlinac.dicom.ct import Series, read_series
from mrlinac.dicom.problems import Findings, quiet_pydicom, text
from mrlinac.dicom.scan import ENHANCED_CT, RT_STRUCT, Catalogue, Found, examine, scan, series_key
from mrlinac.dicom.structures import frames, mapped_count, read_structures, referenced_series, rois_of
from mrlinac.errors import DataError
from mrlinac.provenance import fingerprint

IDENTIFIERS = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""What is needed to write objects back into the same patient and study."""


@quiet_pydicom()
def read_patient(
    folder: str | Path,
    *,
    rtstruct: str | Path | None = None,
    series: str | None = None,
    position: Position | None = None,
    names: Mapping[str, str] | None = None,
    label: str | None = None,
    structures: bool = True,
) -> Patient:
    """Read one patient: a CT series and the structure set drawn on it, from anywhere in a folder tree.

    Parameters
    ----------
    folder : path
        Folder of an unpacked export; files may have any names and lie in any subfolders.
    rtstruct : path, optional
        The structure set to use: a path, in the folder or outside it, or the eight-digit key that the report shows.
        Without it, the one that refers to a CT series of the folder; of several the one with the most names in the
        table, then the newest; the report says so.
    series : str, optional
        The CT series to use, where there are several: Series Instance UID or the key that the error shows.
    position : {"HFS"}, optional
        Patient position, stated where the files lack it.
    names : mapping, optional
        Clinic structure name to TG-263 name; goes before the alias table.
    label : str, optional
        What to call the patient in results. Default: "case-" and a hash of the image, which identifies nobody.
    structures : bool
        False: read the CT alone where there is no structure set.

    Returns
    -------
    Patient
        With the import report in ``notes``.

    Raises
    ------
    DataError
        With every problem of the folder: file, tag, reason, remedy. It never quotes a value that identifies; it does
        name files, which the notes do not.
    """
    folder = Path(folder)
    findings = Findings()
    catalogue = scan(folder, findings)
    heading = "this folder cannot be imported:"
    all_series = catalogue.ct_series()
    if not all_series:
        enhanced = len(catalogue.of_kind(ENHANCED_CT))
        hint = f" {enhanced} enhanced (multi-frame) CT(s) are there; export single slices instead" if enhanced else ""
        findings.problem(f"no CT slices found.{hint}", "Give the folder that holds the planning CT")
        findings.raise_problems(heading)
    sets = _structure_sets(folder, catalogue, rtstruct, findings)
    if not sets and structures and not findings.problems:
        findings.problem(
            "no RTSTRUCT found", 'Export the structures too, or name the file: rtstruct="path/to/file.dcm"'
        )
    findings.raise_problems(heading)

    uid, chosen = _choose(all_series, sets, series, findings)
    findings.raise_problems(heading)
    ct = read_series(all_series[uid], findings, position=position)
    rois: dict[str, Roi] = {}
    if chosen is not None and ct is not None:
        rois = read_structures(chosen, ct.image.grid, ct.frame_uid, ct.slice_uids, findings, names=names)
    findings.raise_problems(heading)
    assert ct is not None  # None always comes with a problem
    if chosen is not None and text(chosen.header, "PatientID") != text(ct.header, "PatientID"):
        findings.note(
            "decide", "Patient ID of the CT and of the structure set differ: make sure it is the same patient."
        )
    findings.note("info", "Couch: removed by the outline; its top is taken from the posterior edge of External.")
    return Patient(
        label=label or _neutral_label(ct),
        image=ct.image,
        rois=rois,
        position=position or "HFS",
        frame_uid=ct.frame_uid,
        study_uid=ct.study_uid,
        series_uid=ct.series_uid,
        slice_uids=ct.slice_uids,
        notes=findings.notes(),
        identifiers=_identifiers(ct.header),
    )


def _structure_sets(
    folder: Path, catalogue: Catalogue, rtstruct: str | Path | None, findings: Findings
) -> list[Found]:
    """All structure sets of the folder, or the one named."""
    if rtstruct is None:
        return catalogue.of_kind(RT_STRUCT)
    if keyed := [one for one in catalogue.of_kind(RT_STRUCT) if one.key == str(rtstruct)]:
        return keyed[:1]
    path = Path(rtstruct)
    if not path.is_file() and (folder / path).is_file():
        path = folder / path
    if not path.is_file():
        listed = ", ".join(f"{found.name} ({found.key})" for found in catalogue.of_kind(RT_STRUCT)) or "none"
        findings.problem(f"rtstruct: no such file or key: {rtstruct}", f"Structure sets in the folder: {listed}")
        return []
    found = examine(path, path.name, findings)
    if found is None or found.kind != RT_STRUCT:
        findings.problem("is not an RTSTRUCT", "Name the structure set's file", file=path.name)
        return []
    return [found]


def _choose(
    all_series: Mapping[str, Sequence[Found]], sets: Sequence[Found], wanted: str | None, findings: Findings
) -> tuple[str, Found | None]:
    """The CT series and the structure set that belong together."""
    candidates = dict(all_series)
    if wanted is not None:
        candidates = {uid: files for uid, files in all_series.items() if wanted in (uid, series_key(uid))}
        if not candidates:
            findings.problem(f"series: no CT series '{wanted}'", f"CT series here: {_listed(all_series)}")
            return "", None
    drawn_on = {id(one): _series_of(one, candidates, findings) for one in sets}
    usable = [one for one in sets if drawn_on[id(one)]]
    if not usable:
        if sets:
            _problem_unrelated(sets, candidates, findings)
        elif len(candidates) > 1:
            findings.problem(
                f"{len(candidates)} CT series and no structure set to tell which is meant: {_listed(candidates)}",
                "Choose one: series=KEY",
            )
        return next(iter(candidates)), None
    targets = sorted({uid for one in usable for uid in drawn_on[id(one)]})
    if len(targets) > 1:
        choices = _listed({uid: candidates[uid] for uid in targets}, usable)
        findings.problem(
            f"structure sets belong to {len(targets)} CT series: {choices}",
            "Choose one: series=KEY, or rtstruct=FILE",
        )
        return targets[0], None
    left = sorted({uid for uid in all_series if uid != targets[0]})
    if left:
        keys = ", ".join(f"{series_key(uid)} ({len(all_series[uid])} slices)" for uid in left)
        findings.note("done", f"{len(left)} other CT series of the folder not used: {keys}.")
    return targets[0], _best(usable, findings)


def _series_of(rtstruct: Found, candidates: Mapping[str, Sequence[Found]], findings: Findings) -> set[str]:
    """Series a set was drawn on: those it refers to, else the only one in its frame of reference."""
    referred = referenced_series(rtstruct) & set(candidates)
    if referred:
        return referred
    same_frame = {
        uid for uid, files in candidates.items() if text(files[0].header, "FrameOfReferenceUID") in frames(rtstruct)
    }
    if len(same_frame) == 1:
        findings.note(
            "decide",
            f"Structure set {rtstruct.key} refers to no CT series that is here; taken with the only one in its frame of"
            " reference."
            " Check that it was drawn on it.",
        )
    return same_frame


def _problem_unrelated(sets: Sequence[Found], candidates: Mapping[str, Sequence[Found]], findings: Findings) -> None:
    for one in sets:
        findings.problem(
            f"refers to no CT series that is here and shares no frame of reference with one ({_listed(candidates)})",
            "Add the CT it was drawn on, or give another structure set",
            file=one.name,
            keyword="ReferencedFrameOfReferenceUID",
        )


def _best(usable: Sequence[Found], findings: Findings) -> Found:
    """Of several sets the one with the most known names, then the newest; never without a note.

    The note tells them apart by key and counts alone: names of files, labels and dates identify.
    """

    def rank(one: Found) -> tuple[int, str, str]:
        return mapped_count(one), text(one.header, "StructureSetDate"), text(one.header, "StructureSetTime")

    best = max(usable, key=rank)
    if len(usable) > 1:
        others = ", ".join(_handle(one) for one in usable if one is not best)
        tie = any(rank(one)[0] == rank(best)[0] for one in usable if one is not best)
        findings.note(
            "decide",
            f"{len(usable)} structure sets: taken is {_handle(best)}, with"
            f" {'as many known names as another, the newest' if tie else 'the most known names'}; not used: {others}."
            " To take another: rtstruct=KEY or FILE.",
        )
    else:
        findings.note("info", "Structures from the one structure set.")
    return best


def _handle(one: Found) -> str:
    """A structure set as a report may name it: ``3fa1c07b (18 ROIs, 15 known)``."""
    return f"{one.key} ({len(rois_of(one))} ROIs, {mapped_count(one)} known)"


def _listed(all_series: Mapping[str, Sequence[Found]], sets: Sequence[Found] = ()) -> str:
    """Series as the person who gave the folder tells them apart, for errors; descriptions often hold names."""
    parts = []
    for uid, files in all_series.items():
        where = Path(files[0].name).parent.as_posix()
        drawn = [one.name for one in sets if uid in referenced_series(one)]
        shown = f"{series_key(uid)} ({len(files)} slices in {'the folder' if where == '.' else where}"
        parts.append(shown + (f", drawn on by {', '.join(drawn)})" if drawn else ")"))
    return "; ".join(parts)


def _neutral_label(ct: Series) -> str:
    """A label made from the image: the same patient gets the same label, and it leads back to nobody."""
    values = ct.image.values
    return "case-" + fingerprint(ct.image.grid, values[len(values) // 2])[:8]


def _identifiers(header: Dataset) -> dict[str, str]:
    return {keyword: value for keyword in IDENTIFIERS if (value := text(header, keyword))}


__all__ = ["DataError", "read_patient"]
