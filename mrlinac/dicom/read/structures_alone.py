"""A structure set without its images: what a dose is evaluated in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Roi
from mrlinac.dicom.problems import Findings, numbers, quiet_pydicom
from mrlinac.dicom.read.structure_set import frames
from mrlinac.dicom.read.structures import read_structures
from mrlinac.dicom.read.thickness import slice_without_image_mm
from mrlinac.dicom.scan import RT_STRUCT, examine, scan
from mrlinac.errors import DataError
from mrlinac.notes import Notes

FAR_mm, PIXELS = 5000.0, 100
"""Half-width and matrix of the images that are not there: nothing is cut by a field of view that is not known."""


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

    Returns
    -------
    rois : dict of Roi
    notes : Notes

    Raises
    ------
    DataError
        With every problem: file, tag, reason, remedy.
    """
    findings = Findings()
    path = _only_one(Path(path), RT_STRUCT, "RTSTRUCT")
    file = examine(path, path.name, findings)
    findings.raise_problems("this structure set cannot be read:")
    if file is None or file.kind != RT_STRUCT:
        raise DataError(f"{path.name}: not an RTSTRUCT. Give the structure set's file.")
    own = frames(file)
    used = frame_uid if frame_uid is not None else next(iter(sorted(own)), "")
    planes = [
        float(points[2])
        for item in file.header.get("ROIContourSequence") or []
        for contour in item.get("ContourSequence") or []
        if (points := numbers(contour, "ContourData")) is not None and points.size >= 9
    ]
    slice_mm, assumed = slice_without_image_mm(planes)
    if assumed and planes:
        text = f"No image says how thick a slice is, and {assumed}: a contour without a near neighbour stands for"
        findings.note("decide", f"{text} {slice_mm:g} mm. Give the CT (--ct FOLDER) to have its slices counted.")
    grid = _plane_grid(planes, slice_mm)
    rois = read_structures(file, grid, {used: np.eye(4)}, (), findings, names=names, imaged=False)
    findings.raise_problems("this structure set cannot be read:")
    if not rois:
        raise DataError(f"{path.name}: no structure with a closed contour. Export the structures again.")
    return rois, findings.notes()


def frames_of_structure_set(path: str | Path) -> set[str]:
    """Frames of reference that an RTSTRUCT's ROIs live in.

    Parameters
    ----------
    path : path
        Of the RTSTRUCT.

    Returns
    -------
    set of str
    """
    path = _only_one(Path(path), RT_STRUCT, "RTSTRUCT")
    file = examine(path, path.name, Findings())
    return set() if file is None else frames(file)


def _only_one(path: Path, kind: str, what: str) -> Path:
    """The file itself, or the one of its kind in a folder."""
    if not path.is_dir():
        return path
    files = scan(path, Findings()).of_kind(kind)
    if len(files) != 1:
        listed = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{path}: exactly one {what} is needed there, found: {listed}. Name the file.")
    return files[0].path


def _plane_grid(planes_mm: list[float], slice_mm: float) -> Grid:
    """A lattice of slices as the images would have had, without an edge in x and y.

    Slices are known only by what was drawn on them, so that a structure on every second slice is taken for one drawn
    on all slices of a coarser scan wherever nothing else is drawn between.
    """
    low, high = (min(planes_mm), max(planes_mm)) if planes_mm else (0.0, 0.0)
    pixel = 2 * FAR_mm / PIXELS
    return Grid(
        (round((high - low) / slice_mm) + 1, PIXELS, PIXELS),
        (slice_mm, pixel, pixel),
        (pixel / 2 - FAR_mm, pixel / 2 - FAR_mm, low),
    )
