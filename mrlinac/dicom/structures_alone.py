"""A structure set without its images: what a dose is evaluated in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Notes
from mrlinac.anatomy.structures import Roi
from mrlinac.dicom.problems import Findings, numbers, quiet_pydicom
from mrlinac.dicom.scan import RT_STRUCT, examine, scan
from mrlinac.dicom.structure_set import frames
from mrlinac.dicom.structures import read_structures
from mrlinac.errors import DataError

FAR_mm, PIXELS = 5000.0, 100
"""Half-width and matrix of the images that are not there: nothing is cut by a field of view that is not known."""

ABOUT_IMAGES = ("slices read", "field of view")
"""Notes with these words speak of images that nobody has seen."""


@quiet_pydicom()
def read_structure_set(
    path: str | Path, *, frame_uid: str | None = None, names: Mapping[str, str] | None = None
) -> tuple[dict[str, Roi], Notes]:
    """ROIs of an RTSTRUCT under their TG-263 names, without the CT.

    Parameters
    ----------
    path : path
        The file, or a folder that holds exactly one RTSTRUCT.
    frame_uid : str, optional
        The frame of reference in which the set must lie; None: whatever it is.
    names : mapping, optional
        Clinic name to TG-263 name, before the alias table.

    Raises
    ------
    DataError
        With every problem: file, tag, reason, remedy.
    """
    findings = Findings()
    path = _only_one(Path(path), RT_STRUCT, "RTSTRUCT")
    found = examine(path, path.name, findings)
    findings.raise_problems("this structure set cannot be read:")
    if found is None or found.kind != RT_STRUCT:
        raise DataError(f"{path.name}: not an RTSTRUCT. Give the structure set's file.")
    own = frames(found)
    used = frame_uid if frame_uid is not None else next(iter(sorted(own)), "")
    planes = [
        float(points[2])
        for item in found.header.get("ROIContourSequence") or []
        for contour in item.get("ContourSequence") or []
        if (points := numbers(contour, "ContourData")) is not None and points.size >= 3
    ]
    rois = read_structures(found, _plane_grid(planes), {used: np.eye(4)}, (), findings, names=names)
    findings.raise_problems("this structure set cannot be read:")
    if not rois:
        raise DataError(f"{path.name}: no structure with a closed contour. Export the structures again.")
    return rois, Notes(tuple(n for n in findings.notes().entries if not any(word in n.text for word in ABOUT_IMAGES)))


def frames_of_structure_set(path: str | Path) -> set[str]:
    """Frames of reference that an RTSTRUCT's ROIs live in."""
    path = _only_one(Path(path), RT_STRUCT, "RTSTRUCT")
    found = examine(path, path.name, Findings())
    return set() if found is None else frames(found)


def _only_one(path: Path, kind: str, what: str) -> Path:
    """The file itself, or the one of its kind in a folder."""
    if not path.is_dir():
        return path
    found = scan(path, Findings()).of_kind(kind)
    if len(found) != 1:
        listed = ", ".join(one.name for one in found) or "none"
        raise DataError(f"{path}: exactly one {what} is needed there, found: {listed}. Name the file.")
    return found[0].path


def _plane_grid(planes_mm: list[float]) -> Grid:
    """A lattice of planes as the images would have had: the most frequent step between drawn planes, no edge in x, y.

    Slices are known only by what was drawn on them, so that a structure on every second slice is taken for one drawn
    on all slices of a coarser scan wherever nothing else is drawn between.
    """
    drawn = np.unique(np.round(planes_mm, 2))
    if not drawn.size:
        return Grid((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    values, counts = np.unique(np.round(np.diff(drawn), 1), return_counts=True)
    usable = values > 0.05
    step = float(values[usable][np.argmax(counts[usable])]) if usable.any() else 3.0
    count = round((drawn[-1] - drawn[0]) / step) + 1
    pixel = 2 * FAR_mm / PIXELS
    return Grid(
        (count, PIXELS, PIXELS), (step, pixel, pixel), (pixel / 2 - FAR_mm, pixel / 2 - FAR_mm, float(drawn[0]))
    )
