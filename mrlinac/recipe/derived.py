"""Structures derived from the CT, made once: the engine stays pure, the recipe asks the store first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy import autosegment, contours, field_of_view, regions
from mrlinac.anatomy.autosegment import DERIVABLE
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.notes import Note, Notes
from mrlinac.provenance import fingerprint
from mrlinac.store import Entry, Store

KIND = "derived"


def with_derived(patient: Patient, wanted: Sequence[str] | bool = True, *, store: Store | None = None) -> Patient:
    """As :func:`mrlinac.anatomy.autosegment.with_derived`, from the store where it was made before.

    Parameters
    ----------
    patient : Patient
    wanted : sequence of str, or bool
    store : Store, optional
        By default the user's cache.

    Returns
    -------
    Patient
    """
    asked = DERIVABLE if wanted is True else () if wanted is False else tuple(wanted)
    if not asked or patient.image.quantity != "HU":
        return autosegment.with_derived(patient, wanted)
    place = store or Store.default()
    made: list[Patient] = []

    def make(_: Entry | None) -> Entry:
        made.append(autosegment.with_derived(patient, asked))
        new = [roi for name, roi in made[0].rois.items() if name not in patient.rois]
        notes = made[0].notes.entries[len(patient.notes.entries) :]
        return _entry(new, notes)

    entry = place.get_or_grow(KIND, _key(patient, asked), lambda _: True, make)
    if made:
        return made[0]
    rois, notes = _from_entry(entry)
    return replace(patient, rois={**patient.rois, **rois}, notes=Notes((*patient.notes.entries, *notes)))


def _key(patient: Patient, asked: Sequence[str]) -> str:
    """Hash of all that decides what is derived: the image, what was drawn, how the patient lies, the code."""
    drawn = {
        name: (roi.role, roi.slice_spacing_mm, [(c.z_mm, c.points_xy_mm) for c in roi.contours])
        for name, roi in patient.rois.items()
    }
    unseen = () if patient.image.unseen is None else (patient.image.unseen,)
    return fingerprint(
        patient.image.grid, patient.image.values, unseen, patient.position, drawn, list(asked), _sources()
    )


@cache
def _sources() -> str:
    """Hash of the code that derives: another version makes its own."""
    return fingerprint(
        [Path(str(module.__file__)).read_bytes().hex() for module in (contours, autosegment, field_of_view, regions)]
    )


def _entry(rois: Sequence[Roi], notes: Sequence[Note]) -> Entry:
    arrays: dict[str, NDArray[np.float64]] = {}
    told = []
    for number, roi in enumerate(rois):
        points = [contour.points_xy_mm for contour in roi.contours]
        arrays[f"points{number}"] = np.concatenate(points)
        arrays[f"counts{number}"] = np.array([len(part) for part in points])
        arrays[f"planes{number}"] = np.array([contour.z_mm for contour in roi.contours])
        told.append(
            {
                attribute.name: getattr(roi, attribute.name)
                for attribute in fields(Roi)
                if attribute.name != "contours"
            }
        )
    notes_kept = [{"severity": note.severity, "text": note.text} for note in notes]
    return Entry(arrays or {"none": np.zeros(0)}, {"rois": told, "notes": notes_kept})


def _from_entry(entry: Entry) -> tuple[dict[str, Roi], list[Note]]:
    rois: dict[str, Roi] = {}
    for number, about in enumerate(entry.meta["rois"]):
        ends = np.cumsum(entry.arrays[f"counts{number}"])[:-1]
        loops = np.split(entry.arrays[f"points{number}"], ends)
        planes = entry.arrays[f"planes{number}"].tolist()
        drawn = tuple(Contour(z, points) for z, points in zip(planes, loops, strict=True))
        rois[about["name"]] = Roi(**{**about, "color_rgb": tuple(about["color_rgb"])}, contours=drawn)
    return rois, [Note(note["severity"], note["text"]) for note in entry.meta["notes"]]
