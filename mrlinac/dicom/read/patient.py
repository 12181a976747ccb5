"""A patient from a folder of DICOM files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from mrlinac.anatomy.autosegment import Deriver, with_derived
from mrlinac.anatomy.field_of_view import leaving
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.overrides import Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import PatientFile, decisions
from mrlinac.anatomy.position import side_below
from mrlinac.anatomy.structures import Roi
from mrlinac.dicom.problems import SAME_FRAME, Findings, quiet_pydicom, text
from mrlinac.dicom.read.choice import choose
from mrlinac.dicom.read.densities import HOW, densities_of
from mrlinac.dicom.read.planes import ImageSeries, image_series
from mrlinac.dicom.read.registration import Matrix, moves_to
from mrlinac.dicom.read.series import Series, read_series
from mrlinac.dicom.read.structure_set import frames, plain_name, referenced_series, referenced_slices
from mrlinac.dicom.read.structures import read_structures
from mrlinac.dicom.scan import REGISTRATION, RT_STRUCT, Catalogue, Found, examine, scan
from mrlinac.errors import DataError
from mrlinac.notes import Note, Notes
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

NO_BODY = "One External is needed for planning; none was drawn, and patient.toml does not want it derived."

HEADING = "this folder cannot be imported:"


def concerns_planning_alone(note: Note) -> bool:
    """Whether a note of the import concerns planning alone, and not the evaluation of a given dose.

    Parameters
    ----------
    note : Note

    Returns
    -------
    bool
    """
    return note.text == NO_BODY or note.text.endswith(f"{HOW}.")


@quiet_pydicom()
def read_patient(
    folder: str | Path,
    *,
    rtstruct: str | Path | None = None,
    series: str | None = None,
    position: str | None = None,
    names: Mapping[str, str] | None = None,
    label: str | None = None,
    structures: bool = True,
    same_frame: bool = False,
    densities: bool = False,
    deriver: Deriver = with_derived,
) -> Patient:
    """Read one patient: an image series and the structure set drawn on it, from anywhere in a folder tree.

    Parameters
    ----------
    folder : path
        Folder of an unpacked export, files of any names in any subfolders; or a ``patient.toml``. One that lies in the
        folder is used. What is given here goes before what it says.
    rtstruct : path, optional
        The structure set to use: a path, in the folder or outside it, or the eight-digit key that the report shows.
        Without it, the one that refers to an image series of the folder; of several the one with the most names in the
        table, then the newest; the report says so.
    series : str, optional
        The image series to use, where there are several: Series Instance UID or the key that the error shows.
    position : str, optional
        Patient position, stated where the files lack it.
    names : mapping, optional
        Clinic structure name to TG-263 name; goes before the alias table.
    label : str, optional
        What to call the patient in results. Default: "case-" and a hash of the image, which identifies no person.
    structures : bool
        False: read the image alone where there is no structure set.
    same_frame : bool
        A person says that image and structures lie in one space, whatever frames of reference they state.
    densities : bool
        Take over the densities that the structure set says the planning system had given structures.
    deriver : function
        Derives structures from the CT; :func:`~mrlinac.anatomy.autosegment.with_derived`, or one that keeps what it made.

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
    folder, decided, _ = decisions(Path(folder))
    decided = decided.model_copy(
        update={
            key: value
            for key, value in {"series": series, "position": position, "label": label}.items()
            if value is not None
        }
        | ({"same_frame": True} if same_frame else {})
    )
    findings = Findings()
    catalogue = scan(folder, findings)
    chosen_set = rtstruct if rtstruct is not None else decided.rtstruct
    read = assemble(
        folder,
        catalogue,
        decided,
        findings,
        rtstruct=chosen_set,
        names=names,
        structures=structures,
        densities=densities,
        deriver=deriver,
    )
    findings.raise_problems(HEADING)
    assert read is not None  # None always comes with a problem
    patient = read.patient
    if structures and not any(roi.role == "external" for roi in patient.rois.values()):
        patient = replace(patient, notes=Notes((*patient.notes.entries, Note("decide", NO_BODY))))
    return patient


@dataclass(frozen=True)
class Read:
    """A patient, the keys of what was used, the names of what was derived, densities taken from the structure set."""

    patient: Patient
    series_key: str
    rtstruct_key: str | None
    derived: tuple[str, ...] = ()
    densities: Mapping[str, Override] = field(default_factory=dict)


def assemble(
    folder: Path,
    catalogue: Catalogue,
    decided: PatientFile,
    findings: Findings,
    *,
    rtstruct: str | Path | None = None,
    names: Mapping[str, str] | None = None,
    structures: bool = True,
    densities: bool = False,
    deriver: Deriver = with_derived,
) -> Read | None:
    """The patient of a scanned folder; None, with its problems in ``findings``, where there is none.

    Parameters
    ----------
    folder : Path
    catalogue : Catalogue
        What the folder holds.
    decided : PatientFile
        What a person decided.
    findings : Findings
        Gets problems and notes.
    rtstruct, names, structures, densities, deriver
        As in :func:`read_patient`.
    """
    all_series = image_series(catalogue.images())
    if not all_series:
        findings.problem("no CT or MR slices found", "Give the folder that holds the planning image")
        return None
    sets = _structure_sets(folder, catalogue, rtstruct, findings)
    if not sets and structures and not decided.derive and not findings.problems:
        findings.problem(
            "no RTSTRUCT found",
            "Export the structures too, or name the file: --rtstruct FILE; what a CT shows by itself can be derived:"
            ' --derive, or derive = ["External"] in patient.toml',
        )
    registrations = catalogue.of_kind(REGISTRATION)
    if findings.problems:
        _look_at(all_series, findings, decided)
        return None
    image, chosen = choose(
        all_series,
        sets,
        decided.series,
        registrations,
        findings,
        named=rtstruct is not None,
        same_frame=decided.same_frame,
    )
    if image is None or findings.problems:
        return None
    read = read_series(image, findings, position=decided.position, same_frame=decided.same_frame)
    rois: dict[str, Roi] = {}
    stated: dict[str, Override] = {}
    if chosen is not None and read is not None:
        moves = moves_to(read.frame_uid, registrations, findings, wanted=frames(chosen))
        moves = _placed(chosen, image, moves, findings, same_frame=decided.same_frame)
        rois = read_structures(
            chosen,
            read.image.grid,
            moves,
            read.slice_uids,
            findings,
            names=names,
            choices=decided.structures,
            unseen=read.image.unseen,
        )
        _note_unused_choices(decided, rois, findings)
        if decided.ends is not None:
            rois = {name: replace(roi, ends=decided.ends) for name, roi in rois.items()}
            findings.note("info", f"patient.toml decides where drawn structures end along z: {decided.ends}.")
        stated = densities_of(chosen, rois, decided.density_overrides, findings, taken=densities)
        if stated:
            decided = decided.model_copy(update={"density_overrides": {**stated, **decided.density_overrides}})
        if text(chosen.header, "PatientID") != text(read.header, "PatientID"):
            findings.note(
                "decide", "Patient ID of the image and of the structure set differ: make sure it is the same patient."
            )
    elif chosen is not None:
        _look_at_structures(chosen, image, registrations, findings, same_frame=decided.same_frame)
    if findings.problems or read is None:
        return None
    for key, value in decided.says_of_planning.items():
        shown = ", ".join(value) if isinstance(value, dict) else value
        findings.note("info", f"patient.toml decides {key.replace('_', ' ')}: {shown}.")
    if read.image.quantity != "HU" and not decided.density_bands:
        findings.note(
            "decide",
            "An MR holds no density: planning on it needs density bands in patient.toml, or a synthetic CT.",
        )
    side = side_below(read.position)
    findings.note(
        "info", f"Couch: removed by the outline; the machine's goes to the {side} edge of External ({read.position})."
    )
    patient = Patient(
        label=decided.label or _neutral_label(read),
        image=read.image,
        rois=rois,
        position=read.position,
        frame_uid=read.frame_uid,
        study_uid=read.study_uid,
        series_uid=read.series_uid,
        slice_uids=read.slice_uids,
        identifiers=_identifiers(read.header),
        decisions=decided if decided.says_of_planning else None,
    )
    drawn = set(patient.rois)
    patient = _with_derived(patient, decided.derive, findings, deriver)
    for name in sorted(drawn):
        if patient.rois[name].role != "external" and (told := leaving(patient.rois[name], patient.image)):
            findings.note("warning", told)
    if findings.problems:
        return None
    patient = replace(patient, notes=findings.notes())
    derived = tuple(name for name in patient.rois if name not in drawn)
    return Read(patient, image.key, None if chosen is None else chosen.key, derived, stated)


def _with_derived(patient: Patient, wanted: Sequence[str], findings: Findings, deriver: Deriver) -> Patient:
    """The patient with what ``patient.toml`` wants derived; what was drawn stays."""
    if not wanted:
        return patient
    try:
        made = deriver(patient, wanted)
    except DataError as error:
        findings.problem(str(error), "Take derive out of patient.toml, or give the CT")
        return patient
    for note in made.notes.entries[len(patient.notes.entries) :]:
        findings.note(note.severity, note.text)
    kept = ", ".join(name for name in wanted if name in patient.rois)
    if kept:
        findings.note("info", f"patient.toml wants derived what was drawn: the drawn one stays ({kept}).")
    return made


def _placed(
    chosen: Found, image: ImageSeries, moves: dict[str, Matrix], findings: Findings, *, same_frame: bool
) -> dict[str, Matrix]:
    """The moves into the image's frame of reference, with those that a person has confirmed.

    A set none of whose frames leads to the image's is a problem, with what else it says of where it was drawn.
    """
    own = frames(chosen)
    strange = own - set(moves)
    if own and not strange:
        return moves
    drawn_there = len(referenced_slices(chosen) & {text(f.found.header, "SOPInstanceUID") for f in image.frames})
    named = image.uid in referenced_series(chosen)
    says = (
        f"It names this image's series{f' and {drawn_there} of its slices' if drawn_there else ''}" if named else ""
    )
    stand_in = {**{frame: np.eye(4) for frame in (*strange, "")}, **moves}
    if same_frame:
        states = "another frame of reference than the image" if own else "no frame of reference"
        word = f"The structure set states {states}: taken for the image's because a person says so."
        findings.note("decide", f"{word} {says}." if says else word)
        return stand_in
    if own and own & set(moves):
        return moves  # some of its structures lie elsewhere, which the reader reports
    what = "is not the image's, and no registration object leads there" if own else "missing"
    findings.problem(
        f"{what}: where the contours lie is not known for sure" + (f". {says}: it was drawn on it" if says else ""),
        "Give the structure set drawn on this image, or add the registration object; if a person has made sure that it"
        f" lies in the image's space, say so: {SAME_FRAME}",
        file=chosen.name,
        keyword="ReferencedFrameOfReferenceUID",
    )
    return stand_in


def _look_at(all_series: Sequence[ImageSeries], findings: Findings, decided: PatientFile) -> None:
    """Problems of the only image series too, where others keep it from being used: all of a folder at once."""
    if len(all_series) == 1:
        read_series(all_series[0], findings, position=decided.position, same_frame=decided.same_frame)


def _look_at_structures(
    chosen: Found, image: ImageSeries, registrations: Sequence[Found], findings: Findings, *, same_frame: bool
) -> None:
    """Problems of the structure set too, where the image keeps it from being used: all of a folder at once."""
    alone = Findings()
    anywhere = Grid((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    moves = moves_to(image.frame_uid, registrations, alone, wanted=frames(chosen))
    # Where the slices state many frames of reference, the set's cannot be told from the image's yet.
    own = {text(frame.found.header, "FrameOfReferenceUID") for frame in image.frames}
    moves = _placed(chosen, image, moves, alone, same_frame=same_frame or len(own) > 1)
    read_structures(chosen, anywhere, moves, (), alone)
    findings.absorb_problems(alone)


def _note_unused_choices(decided: PatientFile, rois: Mapping[str, Roi], findings: Findings) -> None:
    """A name in patient.toml that no structure has may be a spelling mistake."""
    known = {roi.original_name for roi in rois.values()}
    known |= {plain_name(label) for label in known}
    for name, choice in decided.structures.items():
        if name not in known and choice.use:
            findings.note(
                "decide", f"patient.toml speaks of '{name}', which no contoured structure of the set is called."
            )


def _structure_sets(
    folder: Path, catalogue: Catalogue, rtstruct: str | Path | None, findings: Findings
) -> list[Found]:
    """All structure sets of the folder, each object once, or the one named."""
    here: dict[str, Found] = {}
    twins: set[str] = set()
    for structure_set in catalogue.of_kind(RT_STRUCT):
        if here.setdefault(structure_set.key, structure_set).header != structure_set.header:
            twins.add(structure_set.key)
    chosen = [
        structure_set for structure_set in here.values() if rtstruct is None or structure_set.key == str(rtstruct)
    ]
    for structure_set in chosen:
        if structure_set.key in twins:
            findings.problem(
                f"the structure set {structure_set.key} is there twice, with one SOP Instance UID and different contents",
                'Name the file that is meant: rtstruct="path/to/file.dcm"',
                keyword="SOPInstanceUID",
            )
    if rtstruct is None or chosen:
        return chosen
    path = Path(rtstruct)
    if not path.is_file() and (folder / path).is_file():
        path = folder / path
    if not path.is_file():
        listed = ", ".join(f"{file.name} ({file.key})" for file in here.values()) or "none"
        findings.problem(f"rtstruct: no such file or key: {rtstruct}", f"Structure sets in the folder: {listed}")
        return []
    file = examine(path, path.name, findings)
    if file is None or file.kind != RT_STRUCT:
        findings.problem("is not an RTSTRUCT", "Name the structure set's file", file=path.name)
        return []
    return [file]


def _neutral_label(read: Series) -> str:
    """A label made from the image: the same image gives the same label, which identifies no person."""
    values = read.image.values
    return "case-" + fingerprint(read.image.grid, values[len(values) // 2])[:8]


def _identifiers(header: Dataset) -> dict[str, str]:
    return {keyword: value for keyword in IDENTIFIERS if (value := text(header, keyword))}


__all__ = ["DataError", "assemble", "read_patient"]
