"""The import report: what a folder holds, what was done, what a person has to decide."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mrlinac.anatomy.autosegment import DERIVABLE, Deriver, with_derived
from mrlinac.anatomy.contours import polygon_volume_cc
from mrlinac.anatomy.field_of_view import leaving
from mrlinac.anatomy.overrides import Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import decisions
from mrlinac.dicom.problems import Findings, quiet_pydicom
from mrlinac.dicom.read.patient import HEADING, assemble
from mrlinac.dicom.read.survey import Row, survey
from mrlinac.dicom.scan import scan
from mrlinac.errors import DataError, SpecError, raise_all
from mrlinac.notes import Notes

TITLES = {
    "info": "What was found",
    "done": "What was done about it",
    "warning": "What to look at",
    "decide": "What is for you to decide",
}


@dataclass(frozen=True)
class ImportReport:
    """What the import has to say of a folder: readable as text and in a notebook.

    Attributes
    ----------
    objects : tuple of dict
        A row for each image series, structure set, dose, plan and registration (see ``survey``).
    notes : Notes
        Sentences on what was used.
    problems : tuple of str
        What keeps a patient from being made of it; they name files, so they are for the person who gave the folder.
    patient : Patient or None
        None where there are problems.
    used : mapping
        Keys of the ``series`` and the ``rtstruct`` that the patient was made from.
    derived : tuple of str
        Structures of the patient that software derived.
    densities : mapping from name to Override
        Densities taken over from the structure set, because a person asked for it.
    file : Path or None
        The ``patient.toml`` that was written, or was there.
    """

    objects: tuple[Row, ...]
    notes: Notes
    problems: tuple[str, ...]
    patient: Patient | None
    used: Mapping[str, str | None] = field(default_factory=dict)
    derived: tuple[str, ...] = ()
    densities: Mapping[str, Override] = field(default_factory=dict)
    file: Path | None = None

    def raise_problems(self) -> None:
        """Raise one DataError with every problem; do nothing when there is none."""
        raise_all(DataError, HEADING, self.problems)

    def __str__(self) -> str:
        lines = ["Objects"] if self.objects else []
        for row in self.objects:
            lines.append(f"  {_called(row)}: {row['text']}")
            lines += [f"      unusual: {flaw}" for flaw in (*row.get("remarks", ()), *row["flaws"])]
        for severity, title in TITLES.items():
            told = [note.text for note in self.notes.entries if note.severity == severity]
            lines += [title, *(f"  - {text}" for text in told)] if told else []
        if self.problems:
            lines += ["What stands in the way", *(f"  - {problem}" for problem in self.problems)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = ["<h4>Import report</h4>"]
        if self.objects:
            rows = "".join(
                f"<tr><td>{_text(_called(row))}</td><td>{_text(row['text'])}</td>"
                f"<td>{_text('; '.join([*row.get('remarks', ()), *row['flaws']]))}</td></tr>"
                for row in self.objects
            )
            parts.append(f"<table><tr><th>object</th><th>what it is</th><th>unusual</th></tr>{rows}</table>")
        for severity, title in TITLES.items():
            told = [note.text for note in self.notes.entries if note.severity == severity]
            if told:
                parts.append(f"<p><b>{title}</b></p><ul>{''.join(f'<li>{_text(t)}</li>' for t in told)}</ul>")
        if self.problems:
            parts.append("<p><b>What stands in the way</b></p>")
            parts.append(f"<ul>{''.join(f'<li>{_text(p)}</li>' for p in self.problems)}</ul>")
        return "".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON.

        Returns
        -------
        dict
        """
        patient = self.patient
        return {
            "label": None if patient is None else patient.label,
            "used": dict(self.used),
            "derived": list(self.derived),
            "densities": {name: override.model_dump() for name, override in self.densities.items()},
            "image": None if patient is None else _image(patient),
            "structures": [] if patient is None else _structures(patient),
            "objects": [dict(row) for row in self.objects],
            "notes": [{"severity": note.severity, "text": note.text} for note in self.notes.entries],
            "problems": list(self.problems),
        }


def _called(row: Mapping[str, Any]) -> str:
    where = f", frame {row['frame']}" if row["frame"] != "?" else ""
    if row.get("frames") and row["frames"] != [row["frame"]]:
        where = f", frame(s) {', '.join(row['frames'])}"
    drawn = f", on {', '.join(row['drawn_on'])}" if row.get("drawn_on") else ""
    return f"{row['kind']} {row['key']} (patient {row['patient']}{where}{drawn})"


def _text(value: str) -> str:
    return html.escape(value)


def _image(patient: Patient) -> dict[str, Any]:
    grid = patient.image.grid
    return {
        "quantity": patient.image.quantity,
        "position": patient.position,
        "shape_zyx": list(grid.shape_zyx),
        "spacing_zyx_mm": list(grid.spacing_zyx_mm),
        "origin_xyz_mm": list(grid.origin_xyz_mm),
    }


def _structures(patient: Patient) -> list[dict[str, Any]]:
    return [
        {
            "name": roi.name,
            "original_name": roi.original_name,
            "role": roi.role,
            "volume_cc": round(polygon_volume_cc(roi), 3),
            "planes": len({contour.z_mm for contour in roi.contours}),
            "derived": roi.derived,
        }
        for roi in patient.rois.values()
    ]


@quiet_pydicom()
def import_folder(
    path: str | Path,
    *,
    rtstruct: str | Path | None = None,
    series: str | None = None,
    position: str | None = None,
    same_frame: bool = False,
    densities: bool = False,
    derive: bool | Sequence[str] = False,
    deriver: Deriver = with_derived,
) -> ImportReport:
    """Examine a folder of DICOM files and report everything found.

    Parameters
    ----------
    path : path
        The folder, or its ``patient.toml``.
    rtstruct, series, position, same_frame, densities, deriver
        As in :func:`~mrlinac.dicom.read.patient.read_patient`.
    derive : bool or sequence of str
        Derive from the CT what was not drawn, all that can be or these, beside what ``patient.toml`` says.

    Returns
    -------
    ImportReport
        With the patient, or with every problem that keeps one from being made.

    Raises
    ------
    DataError
        When there is no such folder or no DICOM file in it.
    SpecError
        When ``patient.toml`` says something wrong.
    """
    folder, decided, _ = decisions(Path(path))
    choices: dict[str, Any] = {"series": series, "position": position, "same_frame": same_frame or None}
    decided = decided.model_copy(update={key: value for key, value in choices.items() if value is not None})
    findings = Findings()
    catalogue = scan(folder, findings)
    objects = survey(catalogue)
    count = len({row["patient"] for row in objects})
    if count > 1:
        findings.note("decide", f"The objects belong to {count} patients (by Patient ID): see the letters above.")
    chosen = rtstruct if rtstruct is not None else decided.rtstruct
    if derive:
        decided = decided.model_copy(update={"derive": DERIVABLE if derive is True else _known(derive)})
    read = assemble(folder, catalogue, decided, findings, rtstruct=chosen, densities=densities, deriver=deriver)
    if read is not None and not _has_body(read.patient):
        _say_of_body(read.patient, findings, deriver)
        read = read if not findings.problems else None
    used = {} if read is None else {"series": read.series_key, "rtstruct": read.rtstruct_key}
    return ImportReport(
        tuple(objects),
        findings.notes(),
        tuple(findings.listed()),
        None if read is None else replace(read.patient, notes=findings.notes()),
        used,
        () if read is None else read.derived,
        {} if read is None else read.densities,
    )


def _known(wanted: Sequence[str]) -> tuple[str, ...]:
    if unknown := sorted(set(wanted) - set(DERIVABLE)):
        raise SpecError(f"{', '.join(unknown)} cannot be derived from a CT; what can: {', '.join(DERIVABLE)}")
    return tuple(wanted)


def _has_body(patient: Patient) -> bool:
    return any(roi.role == "external" for roi in patient.rois.values())


def _say_of_body(patient: Patient, findings: Findings, deriver: Deriver) -> None:
    """Where the body has no outline: try to derive one; a person decides whether to use it."""
    if patient.image.quantity != "HU":
        findings.problem(
            "no External, and none can be derived from an MR",
            "Draw the body's outline, or give it the role external in patient.toml",
        )
        return
    made = deriver(patient, ("External",)).rois.get("External")
    if made is None:
        findings.problem(
            "no External, and none could be derived from the CT",
            "Draw the body's outline, or give it the role external in patient.toml",
        )
        return
    findings.note(
        "decide",
        f"No External was drawn, which planning needs. One can be derived from the CT ({polygon_volume_cc(made):.0f} cc on"
        f" {len({c.z_mm for c in made.contours})} planes) and is not used unless you say so: --derive, or"
        ' derive = ["External"] in patient.toml; every report then calls it derived.',
    )
    if told := leaving(made, patient.image):
        findings.note("warning", f"Derived so, {told}")
