"""What each object of a folder is, in rows: image series, structure sets, doses, plans, registrations.

Rows hold geometry, counts and keys; nothing that identifies the patient. Frames of reference, studies and patients
are letters, given in the order in which they turn up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from mrlinac.dicom.problems import Findings, integer, numbers, read_dataset, text
from mrlinac.dicom.read.dose import on_axes, stored_frames
from mrlinac.dicom.read.pixels import stored_values
from mrlinac.dicom.read.plan_facts import facts_of
from mrlinac.dicom.read.planes import ImageSeries, described_axes, image_series, plane_of, without_localisers
from mrlinac.dicom.read.registration import described as described_move
from mrlinac.dicom.read.registration import frames_named, moves_to
from mrlinac.dicom.read.stack import stack
from mrlinac.dicom.read.structure_set import frames, mapped_count, referenced_series, rois_of
from mrlinac.dicom.scan import KNOWN, REGISTRATION, RT_DOSE, RT_PLAN, RT_STRUCT, Catalogue, Found

Row = dict[str, Any]

MOST_FLAWS = 6
"""Number of kinds of flaw listed for one object; the problems name them all."""


class Letters:
    """A letter for each UID, in the order of appearance: A … Z, then A1 …"""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, uid: str) -> str:
        if not uid:
            return "?"
        number = self._known.setdefault(uid, f"{chr(65 + len(self._known) % 26)}{len(self._known) // 26 or ''}")
        return number

    def __len__(self) -> int:
        return len(self._known)


def survey(catalogue: Catalogue) -> list[Row]:
    """A row for every image series and every RT object of a folder.

    Parameters
    ----------
    catalogue : Catalogue

    Returns
    -------
    list of dict
        Each with ``kind``, ``key``, ``patient`` and ``frame`` (letters), ``text`` (one sentence), ``flaws`` (what
        keeps it from being used, or is unusual), and further values of its kind.
    """
    people, places = Letters(), Letters()
    # Names of files may hold the patient's; rows travel, so their sentences name keys.
    catalogue = Catalogue(tuple(replace(found, name=found.key) for found in catalogue.files))
    all_series = image_series(catalogue.images())
    rows = [
        _row(series.header, series.kind, series.key, people, places, _series_row, series) for series in all_series
    ]
    makers: dict[str, Callable[..., Row]] = {
        RT_STRUCT: _set_row,
        RT_DOSE: _dose_row,
        RT_PLAN: _plan_row,
        REGISTRATION: _registration_row,
    }
    for found in catalogue.files:
        if found.kind in makers:
            given = (found, all_series) if found.kind == RT_STRUCT else (found,)
            rows.append(_row(found.header, KNOWN[found.kind], found.key, people, places, makers[found.kind], *given))
    names = {series.uid: series.key for series in all_series}
    for row in rows:
        row["drawn_on"] = [names.get(uid, "a series that is not here") for uid in row.pop("_series", ())]
        row["frames"] = [places(uid) for uid in sorted(row.pop("_frames", ()))]
    return rows


def _row(
    header: Dataset, kind: str, key: str, people: Letters, places: Letters, make: Callable[..., Row], *sources: Any
) -> Row:
    row = {"kind": kind, "key": key, "patient": people(text(header, "PatientID") or "no ID"), "flaws": []}
    row["frame"] = places(text(header, "FrameOfReferenceUID"))
    try:
        row.update(make(*sources))
    except Exception as error:  # a damaged object must not keep the others from being listed
        row |= {"text": "cannot be described", "flaws": [f"damaged ({type(error).__name__})"]}
    return row


def _series_row(series: ImageSeries) -> Row:
    findings = Findings()
    frames_kept = without_localisers(series.frames, findings)
    planes = [plane for plane in (plane_of(frame, findings) for frame in frames_kept) if plane is not None]
    stacked = stack(planes, findings, lost=len(frames_kept) - len(planes)) if planes else None
    lying = text(series.header, "PatientPosition") or "no position"
    made = text(series.header, "Manufacturer")
    row: Row = {
        "slices": len(series.frames),
        "position": lying,
        "flaws": findings.reasons()[:MOST_FLAWS],
        "manufacturer": made,
    }
    if stacked is None:
        return {**row, "text": f"{len(series.frames)} slice(s), {lying}; no volume"}
    grid = stacked.grid
    (dz, dy, dx), (nz, ny, nx) = grid.spacing_zyx_mm, grid.shape_zyx
    size = [round(top - low, 1) for low, top in zip(grid.lower_xyz_mm, grid.upper_xyz_mm, strict=True)]
    tilted = f", tilted by {stacked.tilt_deg:.1f}°" if stacked.tilt is not None else ""
    words = (
        f"{len(series.frames)} slices, {described_axes(stacked.planes[0])}{tilted}, {nx}×{ny}×{nz} voxels of"
        f" {dx:.4g}×{dy:.4g}×{dz:.4g} mm, {size[0]:g}×{size[1]:g}×{size[2]:g} mm, {lying}"
    )
    values = {
        "shape_xyz": [nx, ny, nz],
        "spacing_xyz_mm": [dx, dy, dz],
        "origin_xyz_mm": list(grid.origin_xyz_mm),
        "field_of_view_mm": size,
        "tilt_deg": round(stacked.tilt_deg, 2),
    }
    return {**row, **values, "text": words, "remarks": findings.notes().texts()}


def _set_row(file: Found, all_series: Sequence[ImageSeries]) -> Row:
    items = file.header.get("ROIContourSequence") or []
    contours = sum(len(item.get("ContourSequence") or []) for item in items)
    uids = sorted(referenced_series(file))
    here = {series.uid for series in all_series}
    count = len(rois_of(file))
    flaws = [] if not uids or set(uids) & here else ["refers to an image series that is not here"]
    return {
        "rois": count,
        "known": mapped_count(file),
        "contours": contours,
        "flaws": flaws,
        "manufacturer": text(file.header, "Manufacturer"),
        "_series": uids,
        "_frames": frames(file),
        "text": f"{count} ROIs ({mapped_count(file)} of known name), {contours} contours",
    }


def _dose_row(file: Found) -> Row:
    findings = Findings()
    dataset = read_dataset(file.path)
    frames_stored = stored_frames(dataset, file.name, findings)
    raw = stored_values(dataset, file.name, findings) if frames_stored is not None else None
    units, kind = text(dataset, "DoseUnits") or "no unit", text(dataset, "DoseSummationType") or "no summation type"
    row: Row = {"flaws": findings.reasons(), "units": units, "summation": kind}
    row["manufacturer"] = text(dataset, "Manufacturer")
    scaling = numbers(dataset, "DoseGridScaling")
    if frames_stored is None or raw is None or scaling is None:
        return {**row, "flaws": findings.reasons(), "text": f"{kind}, {units}; cannot be read"}
    grid, _ = on_axes(raw.reshape(frames_stored.shape).astype(np.float32), frames_stored, findings)
    (dz, dy, dx), (nz, ny, nx) = grid.spacing_zyx_mm, grid.shape_zyx
    top = float(raw.max()) * float(scaling[0])
    return {
        **row,
        "shape_xyz": [nx, ny, nz],
        "spacing_xyz_mm": [dx, dy, dz],
        "origin_xyz_mm": list(grid.origin_xyz_mm),
        "largest": top,
        "bits": integer(dataset, "BitsAllocated"),
        "text": f"{kind}, {nx}×{ny}×{nz} voxels of {dx:.4g}×{dy:.4g}×{dz:.4g} mm, {integer(dataset, 'BitsAllocated')}"
        f" bits, up to {top:.4g} {units}",
        "remarks": findings.notes().texts(),
    }


def _plan_row(file: Found) -> Row:
    facts = facts_of(file.header)
    treating = [beam for beam in facts.beams if beam.treats]
    return {
        "beams": len(treating),
        "other_beams": len(facts.beams) - len(treating),
        "fractions": [group.fractions for group in facts.groups],
        "metersets": [facts.meterset(group) for group in facts.groups],
        "brachytherapy": facts.brachytherapy is not None,
        "positions": list(facts.positions),
        "manufacturer": text(file.header, "Manufacturer"),
        "text": str(facts),
    }


def _registration_row(file: Found) -> Row:
    findings = Findings()
    moves = moves_to(text(file.header, "FrameOfReferenceUID"), [file], findings)
    told = [described_move(move) for uid, move in moves.items() if uid != text(file.header, "FrameOfReferenceUID")]
    return {
        "_frames": frames_named(file),
        "flaws": findings.notes().texts(),
        "text": f"connects {len(frames_named(file))} frame(s) of reference: {'; '.join(told) or 'no rigid move'}",
    }
