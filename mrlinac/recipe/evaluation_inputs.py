"""From files to what an evaluation needs: doses added up, structures drawn and made by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrlinac import dicom
from mrlinac.anatomy.autosegment import Deriver, with_derived
from mrlinac.anatomy.contours import rasterise
from mrlinac.anatomy.field_of_view import mark_cut_skin
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.rules import StructureRule, made_by_rule
from mrlinac.anatomy.rules import derive as derive_by_rule
from mrlinac.anatomy.structures import Ends, Roi, StructureSet
from mrlinac.dose import summation
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError, SpecError, raise_all
from mrlinac.notes import Note, Notes
from mrlinac.protocol.model import Protocol
from mrlinac.provenance import fingerprint
from mrlinac.recipe.measuring import Subject
from mrlinac.recipe.result_folder import noise_beside

RULES_GRID_mm = (2.0, 3.0)
"""Structures made by rule lie on cubes as large as the dose's smallest step, within these bounds ..."""
CUBES_mm = (1.0, 6.0)
"""... or on the dose's own voxels, if they are cubes within these."""
SAME_mm = 1e-3
ROUND_THEM_mm = 10.0
"""Room about the drawn structures for margins."""
MOST_MARGIN_mm = 60.0
ENDING: Mapping[Ends, str] = {
    "half-slice": "half a slice beyond their end contours",
    "at-contour": "at their end contours",
}


def read_doses(
    files: Mapping[str, Sequence[Path]], *, fractions: int | None, course: int | None, same_frame: bool = False
) -> tuple[dict[str, Dose], int | None, str, Notes]:
    """Doses by label, each the sum of its files; the number of fractions; the frame of reference; what was found.

    Parameters
    ----------
    files : mapping of label to paths
    fractions : int, optional
        Stated by the caller, for all.
    course : int, optional
        What to assume where neither the file, nor the caller, nor an RTPLAN beside the file says it.
    same_frame : bool
        Take all doses for lying in one frame of reference whatever the files say.

    Returns
    -------
    doses : dict of Dose
        By label.
    fractions : int or None
    frame_uid : str
    notes : Notes

    Raises
    ------
    DataError
        Unreadable files, or doses in different frames of reference, or of different fractionation.
    """
    doses: dict[str, Dose] = {}
    stated: dict[str, int | None] = {}
    frames: dict[str, str] = {}
    notes: list[Note] = []
    problems: list[str] = []
    plans = _plans_beside(files)
    for label, paths in files.items():
        # Of one file the caller's number must be the file's; a sum has as many as all its files together.
        asked = fractions if len(paths) == 1 else None
        objects = [dicom.read_dose_object(path, fractions=asked) for path in paths]
        notes += [Note(note.severity, f"{label}: {note.text}") for one in objects for note in one.notes.entries]
        frames |= {f"{label}, file {n + 1}": one.frame_uid for n, one in enumerate(objects)}
        meaning = dicom.added([one.meaning for one in objects], plans)
        problems += [f"{label}: {problem}" for problem in meaning.problems]
        if len(objects) > 1:
            kinds = sorted({one.summation for one in objects if one.summation})
            notes.append(
                Note("done", f"{label}: {len(objects)} doses ({', '.join(kinds) or 'kind unknown'}) added up.")
            )
        notes += [Note(note.severity, f"{label}: {note.text}") for note in meaning.notes]
        if not meaning.problems:
            whole = summation.total([one.dose for one in objects])
            doses[label] = whole if len(objects) > 1 else noise_beside(paths[0], whole)
        stated[label] = meaning.fractions if fractions is None else fractions
    raise_all(DataError, "these doses cannot be added up:", problems)
    if len(set(frames.values())) > 1:
        if not same_frame:
            raise DataError(
                "the doses lie in different frames of reference, so that no voxel of one is that of another: "
                "give doses of one planning CT; if a person has made sure that they lie in one space, say so: "
                "--same-frame"
            )
        notes.append(
            Note("decide", "The doses state different frames of reference: taken for one because you say so.")
        )
    known = {count for count in stated.values() if count is not None}
    if len(known) > 1:
        listed = ", ".join(f"{label}: {count} fractions" for label, count in stated.items() if count is not None)
        raise DataError(
            f"doses of different fractionation do not compare ({listed}); convert them through EQD2 first, "
            "or state --fractions if a file is wrong"
        )
    count = next(iter(known), None)
    if count is None and course is not None:
        text = f"No file says how many fractions its dose stands for: taken for the course of {course}."
        notes.append(Note("decide", text))
        count = course
    if count is None:
        notes.append(Note("info", "No file says how many fractions its dose stands for: taken as it stands."))
    return (
        {label: replace(dose, fractions=count or 1) for label, dose in doses.items()},
        count,
        next(iter(frames.values())),
        Notes(tuple(notes)),
    )


def _plans_beside(files: Mapping[str, Sequence[Path]]) -> dict[str, dicom.PlanFacts]:
    """The RTPLANs in the folders of the doses, each folder looked at once."""
    plans: dict[str, dicom.PlanFacts] = {}
    for folder in dict.fromkeys(path.parent for paths in files.values() for path in paths):
        plans |= dicom.plans_in(folder)
    return plans


def read_subject(
    structures: Path | None,
    frame_uid: str,
    *,
    ct: Path | None = None,
    names: Mapping[str, str] | None = None,
    series: str | None = None,
    position: str | None = None,
    same_frame: bool = False,
    derive: bool | Sequence[str] = False,
    ends: Ends | None = None,
    deriver: Deriver = with_derived,
) -> tuple[dict[str, Roi], Patient | None, Notes]:
    """Drawn structures, with the CT where it is given.

    Parameters
    ----------
    structures : path, optional
        The RTSTRUCT, or a folder that holds one; with ``ct`` it may be left out.
    frame_uid : str
        Frame of reference of the doses.
    ct : path, optional
        Folder of the CT.
    names : mapping, optional
        Clinic name to TG-263 name.
    series, position
        Which image series of the CT's folder, and how the patient lies, where the files do not say it.
    same_frame : bool
        Take image, dose and structures for lying in one frame of reference whatever the files say.
    derive : bool or sequence of str
        Derive from the CT what was not drawn: all that can be, or these.
    ends : {"half-slice", "at-contour"}, optional
        Where structures end along z; by default as ``patient.toml`` says, else half a slice beyond their end contours.
    deriver : function
        Derives them, or has them from before.

    Returns
    -------
    rois : dict of Roi
    patient : Patient or None
        None without a CT.
    notes : Notes

    Raises
    ------
    DataError
        When there is no structure set, or it lies in another frame of reference.
    """
    if derive and ct is None:
        raise SpecError("structures are derived from the CT, which is not given: --ct FOLDER")
    if ct is None and structures is None:
        raise SpecError(
            "no structures: give the RTSTRUCT (--structures FILE), or a folder with CT and RTSTRUCT (--ct)"
        )
    patient: Patient | None = None
    notes: tuple[Note, ...]
    if ct is not None:
        patient = dicom.read_patient(
            ct,
            rtstruct=structures,
            names=names,
            structures=not derive,
            series=series,
            position=position,
            same_frame=same_frame,
            deriver=deriver,
        )
        patient = deriver(patient, derive)
        if not patient.rois:
            raise DataError("no structure set, and nothing could be derived from the CT: give --structures FILE")
        rois, own = dict(patient.rois), {patient.frame_uid}
        notes = tuple(note for note in patient.notes.entries if not dicom.concerns_planning_alone(note))
        if not any(roi.role == "external" for roi in rois.values()):
            text = "No outline of the body was drawn: --derive makes one from the CT."
            notes = (*notes, Note("decide", text))
    else:
        assert structures is not None
        own = dicom.frames_of_structure_set(structures)
        rois, notes_of_set = dicom.read_structure_set(structures, names=names, frame_uid=min(own, default=""))
        notes = notes_of_set.entries
    if ends is not None:
        rois = {name: replace(roi, ends=ends) for name, roi in rois.items()}
        text = f"Structures end {ENDING[ends]} along z, because that was asked for."
        notes = (*notes, Note("info", text))
    if own != {frame_uid}:
        states = (
            "the dose and the structures lie in different frames of reference" if own else "the structures state none"
        )
        if not same_frame:
            raise DataError(
                f"Frame of Reference UID (0020,0052): {states}. Give the structures drawn on the dose's CT; if a person "
                "has made sure that they lie in one space, say so: --same-frame"
            )
        text = f"Frame of Reference UID (0020,0052): {states}; taken for one because that was asked for."
        notes = (*notes, Note("decide", text))
    return rois, patient, Notes(notes)


def subject_of(
    rois: Mapping[str, Roi],
    patient: Patient | None,
    protocol: Protocol | None,
    doses: Mapping[str, Dose],
    notes: Sequence[Note],
) -> Subject:
    """Drawn structures with those that the protocol's rules make of them; what cannot be made is noted.

    Parameters
    ----------
    rois : mapping of name to Roi
    patient : Patient or None
    protocol : Protocol or None
    doses : mapping of label to Dose
        Their voxels decide the grid of structures made by rule.
    notes : sequence of Note
        Of reading.

    Returns
    -------
    Subject
    """
    label = patient.label if patient is not None else "case-" + _key(rois)
    ruled: StructureSet | None = None
    more: tuple[Note, ...] = ()
    if protocol is not None and protocol.structures:
        grid = _rules_grid(rois, min((dose.grid for dose in doses.values()), key=lambda g: min(g.spacing_zyx_mm)))
        ruled, more = _by_rule(rois, protocol.structures, grid, patient)
    image = patient.image if patient is not None else None
    return Subject(label, rois, ruled, image, Notes((*notes, *more)))


def subject_names(rois: Mapping[str, Roi], protocol: Protocol | None) -> tuple[str, ...]:
    """Names of the structures of :func:`subject_of`, before any is made.

    Parameters
    ----------
    rois : mapping of name to Roi
    protocol : Protocol or None

    Returns
    -------
    tuple of str
    """
    made = [] if protocol is None else made_by_rule(rois, _all_optional(protocol.structures))
    return tuple(dict.fromkeys((*rois, *made)))


def _all_optional(rules: Mapping[str, StructureRule]) -> dict[str, StructureRule]:
    """The rules of a protocol for a foreign plan, which was made by others: what cannot be made is left out."""
    return {name: rule.model_copy(update={"optional": True}) for name, rule in rules.items()}


def _key(rois: Mapping[str, Roi]) -> str:
    """A label made from the contours; it does not identify a person."""
    return fingerprint([[(c.z_mm, c.points_xy_mm) for c in roi.contours] for roi in rois.values()])[:8]


def _rules_grid(rois: Mapping[str, Roi], finest: Grid) -> Grid:
    """Cubes about all drawn structures, with room for margins where there is no body to end them.

    They are the dose's own voxels where those are cubes: a plan of ours is then judged in the structures that it had.
    """
    own = max(finest.spacing_zyx_mm) - min(finest.spacing_zyx_mm) < SAME_mm
    spacing_mm = float(np.clip(min(finest.spacing_zyx_mm), *(CUBES_mm if own else RULES_GRID_mm)))
    lower, upper = [], []
    for roi in rois.values():
        low, high = roi.extent_xy_mm()
        planes = [contour.z_mm for contour in roi.contours]
        half = roi.slice_spacing_mm / 2
        lower.append([*low, min(planes) - half])
        upper.append([*high, max(planes) + half])
    bodies = any(roi.role == "external" for roi in rois.values())
    room = np.array([ROUND_THEM_mm, ROUND_THEM_mm, 0.0]) if bodies else np.full(3, MOST_MARGIN_mm)
    first, last = np.min(lower, axis=0) - room, np.max(upper, axis=0) + room
    if own and spacing_mm == min(finest.spacing_zyx_mm):
        corner = np.array(finest.lower_xyz_mm)
        before = np.ceil((corner - first) / spacing_mm).astype(int)
        after = np.ceil((last - np.array(finest.upper_xyz_mm)) / spacing_mm).astype(int)
        return finest.padded(before[::-1].tolist(), after[::-1].tolist())
    return Grid.covering(first, last, (spacing_mm,) * 3)


def _by_rule(
    rois: Mapping[str, Roi], rules: Mapping[str, StructureRule], grid: Grid, patient: Patient | None
) -> tuple[StructureSet, tuple[Note, ...]]:
    """Structures that the rules make; all are optional here."""
    bodies = [roi for roi in rois.values() if roi.role == "external"]
    kept = _all_optional(rules)
    notes: list[Note] = []
    if len(bodies) != 1:
        sided = [name for name, rule in kept.items() if rule.side is not None]
        kept = {name: rule for name, rule in kept.items() if rule.side is None}
        if sided:
            text = f"{', '.join(sided)} left out: a side needs exactly one structure of role external"
            notes.append(Note("warning", text))
    drawn = rasterise(rois, grid)
    planes = [c.z_mm for roi in (bodies or list(rois.values())) for c in roi.contours]
    half = (bodies or list(rois.values()))[0].slice_spacing_mm / 2
    made, told = derive_by_rule(drawn, kept, imaged_z_mm=(min(planes) - half, max(planes) + half))
    notes += told.entries
    if patient is not None and bodies:
        made, cut = mark_cut_skin(made, kept, patient)
        notes += cut
    elif patient is None:
        notes.append(Note("info", "Without the CT it is not known whether the field of view cuts the body."))
    replaced = [name for name, rule in kept.items() if name in made and not (rule.keep_drawn and name in rois)]
    return StructureSet(grid, {name: made[name] for name in replaced}), tuple(notes)


def dose_files(words: Sequence[str]) -> dict[str, list[Path]]:
    """Doses as a person types them: ``plan.dcm``, ``a.dcm+b.dcm`` (a sum), ``final=plan.dcm`` (with a label).

    A dose without a label is called ``dose A``, ``dose B`` …: the names of files may be those of people.

    Parameters
    ----------
    words : sequence of str

    Returns
    -------
    dict of list of Path
        By label.

    Raises
    ------
    DataError
        For every file that is not there.
    SpecError
        When a label is used twice.
    """
    files_by_label: dict[str, list[Path]] = {}
    problems: list[str] = []
    for number, word in enumerate(words):
        label, rest = f"dose {chr(ord('A') + number)}" if len(words) > 1 else "dose", word
        if not Path(word).exists() and "=" in word:
            label, _, rest = word.partition("=")
        paths = [Path(rest)] if Path(rest).exists() else [Path(part) for part in rest.split("+")]
        problems += [f"{path}: no such file" for path in paths if not path.is_file()]
        if label in files_by_label:
            raise SpecError(f"two doses are called '{label}': give each a label of its own, label=FILE")
        files_by_label[label] = paths
    raise_all(DataError, "these doses cannot be read:", problems)
    return files_by_label
