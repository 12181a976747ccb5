"""Anatomy that plans of one patient have in common, made once in a process and found again by content.

Plans that differ in a margin share what was drawn, the medium, and every margin that did not change. The key of each piece
is the hash of all that decides it, values of arrays included, so that nothing stale is served.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy import contours, margins, medium_from_image, metal
from mrlinac.anatomy.couch import CouchGeometry
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.margins import Margin
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.overrides import MetalOverride, Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.structures import Roi, Structure, StructureSet
from mrlinac.notes import Notes
from mrlinac.provenance import fingerprint

Occupancy = NDArray[np.float32]
NOTHING = np.zeros((0, 0, 0), np.float32)
MOST_BYTES = 512e6
"""Enough for a few patients at 3 mm; the piece that was not asked for the longest goes first."""


@dataclass(frozen=True)
class _Cropped:
    """An occupancy without the empty space around it."""

    shape_zyx: tuple[int, ...]
    box: tuple[slice, ...]
    values: Occupancy

    @classmethod
    def of(cls, inside: Occupancy) -> _Cropped:
        """Crop it."""
        box = []
        for axis in range(3):
            full = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
            box.append(slice(int(full[0]), int(full[-1]) + 1) if full.size else slice(0, 0))
        return cls(inside.shape, tuple(box), inside[tuple(box)].copy())

    def whole(self) -> Occupancy:
        """The occupancy as it was, in an array of its own."""
        inside = np.zeros(self.shape_zyx, np.float32)
        inside[self.box] = self.values
        return inside


class Kept:
    """Pieces by key, the ones used last, up to a number of bytes."""

    def __init__(self, most_bytes: float = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.pieces: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self.lock = threading.Lock()

    def find(self, key: str) -> Any:
        """The piece of a key.

        Parameters
        ----------
        key : str

        Returns
        -------
        object or None
            None where it is not kept.
        """
        with self.lock:
            if key not in self.pieces:
                return None
            self.pieces.move_to_end(key)
            return self.pieces[key][0]

    def keep(self, key: str, piece: Any, size_bytes: float) -> None:
        """Keep a piece, and let go those that were not asked for the longest.

        Parameters
        ----------
        key : str
        piece : object
        size_bytes : float
        """
        with self.lock:
            self.pieces[key] = (piece, size_bytes)
            while len(self.pieces) > 1 and sum(size for _, size in self.pieces.values()) > self.most_bytes:
                self.pieces.popitem(last=False)


KEPT = Kept()


def expand(inside: Occupancy, grid: Grid, margin: Margin) -> Occupancy:
    """:func:`mrlinac.anatomy.margins.expand`, made once for the same occupancy, grid and margin.

    Parameters
    ----------
    inside, grid, margin
        As there.

    Returns
    -------
    float32 array [z, y, x]
    """

    key = fingerprint("expand", np.asarray(inside), grid, margin)
    piece: _Cropped | None = KEPT.find(key)
    if piece is None:
        piece = _Cropped.of(margins.expand(inside, grid, margin))
        KEPT.keep(key, piece, piece.values.nbytes)
    return piece.whole()


def rasterise(rois: Mapping[str, Roi], grid: Grid) -> StructureSet:
    """:func:`mrlinac.anatomy.contours.rasterise`, each structure made once.

    Parameters
    ----------
    rois, grid
        As there.

    Returns
    -------
    StructureSet
    """
    keys = {name: fingerprint("rasterise", name, roi, grid) for name, roi in rois.items()}
    known = {name: piece for name, key in keys.items() if (piece := KEPT.find(key)) is not None}
    new = {name: roi for name, roi in rois.items() if name not in known}
    for name, structure in contours.rasterise(
        new, grid
    ).structures.items():  # all together: all faults are said at once
        cropped = _Cropped.of(structure.occupancy)
        known[name] = cropped, replace(structure, occupancy=NOTHING, drawn=None)
        KEPT.keep(keys[name], known[name], cropped.values.nbytes)
    return StructureSet(
        grid,
        {
            name: replace(known[name][1], occupancy=known[name][0].whole(), drawn=roi)
            for name, roi in rois.items()
            if name in known
        },
    )


def metal_in(patient: Patient, grid: Grid, threshold_HU: float | None) -> Structure | None:
    """:func:`mrlinac.anatomy.metal.metal_in`, made once.

    Parameters
    ----------
    patient, grid, threshold_HU
        As there.

    Returns
    -------
    Structure or None
    """
    key = fingerprint("metal", *_imaged(patient), grid, threshold_HU)
    piece: tuple[Structure | None] | None = KEPT.find(key)
    if piece is None:
        piece = (metal.metal_in(patient, grid, threshold_HU),)
        KEPT.keep(key, piece, 0 if piece[0] is None else piece[0].occupancy.nbytes)
    return piece[0]


def medium_of(
    patient: Patient,
    grid: Grid,
    drawn: StructureSet,
    *,
    couch: CouchGeometry | None,
    overrides: Mapping[str, Override],
    metal: MetalOverride | None,
) -> tuple[Medium, Notes]:
    """:func:`mrlinac.anatomy.medium_from_image.medium_of`, made once.

    Parameters
    ----------
    patient, grid, drawn, couch, overrides, metal
        As there; ``drawn`` are its structures.

    Returns
    -------
    Medium
    Notes
    """

    # What is drawn follows from the contours and the grid; where two overrides overlap, the first named has the voxel.
    key = fingerprint("medium", *_imaged(patient), grid, list(drawn), couch, list(overrides.items()), metal)
    piece: tuple[Medium, Notes] | None = KEPT.find(key)
    if piece is None:
        piece = medium_from_image.medium_of(patient, grid, drawn, couch=couch, overrides=overrides, metal=metal)
        KEPT.keep(key, piece, piece[0].density_g_cm3.nbytes + piece[0].material.nbytes)
    return piece


def _imaged(patient: Patient) -> tuple[Any, ...]:
    """All that a medium takes from a patient: what is imaged, what is drawn, how the patient lies."""
    return patient.label, patient.image, patient.position, dict(patient.rois)
