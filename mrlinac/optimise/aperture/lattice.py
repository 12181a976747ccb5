"""Beamlets of a beam as rows of leaves and steps along their travel, and apertures as segments of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.machine.beams import BeamletMap
from mrlinac.machine.delivery import Segment
from mrlinac.machine.model import Mlc
from mrlinac.optimise.aperture.pricing import Aperture

RESOLUTION_mm = 0.1
"""Leaf positions of a segment are multiples of it, at the isocentre: what a leaf can be told."""


@dataclass(frozen=True)
class LeafLattice:
    """One beam's beamlets by leaf row and step along leaf travel.

    Attributes
    ----------
    beamlets : BeamletMap
    mlc : Mlc
    first : int
        Number of the beam's first column among all columns.
    column : int64 array, shape (rows, steps)
        Column of each place; -1 where there is no beamlet.
    row0, step0 : int
        Lattice coordinates, across and along leaf travel, of the first row and step.
    """

    beamlets: BeamletMap
    mlc: Mlc
    first: int
    column: NDArray[np.int64]
    row0: int
    step0: int

    @classmethod
    def of(cls, beamlets: BeamletMap, mlc: Mlc, first: int) -> LeafLattice:
        """The lattice of a map whose columns begin at a number."""
        along = 0 if mlc.travel == "u" else 1
        steps, rows = beamlets.lattice_uv[:, along], beamlets.lattice_uv[:, 1 - along]
        step0, row0 = int(steps.min()), int(rows.min())
        column = np.full((int(rows.max()) - row0 + 1, int(steps.max()) - step0 + 1), -1, np.int64)
        column[rows - row0, steps - step0] = first + np.arange(len(beamlets))
        return cls(beamlets, mlc, first, column, row0, step0)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Where there is a beamlet, shape (rows, steps)."""
        return self.column >= 0

    def costs(self, reduced_cost: NDArray[np.float64]) -> NDArray[np.float64]:
        """Costs by place, from those by column; zero where there is no beamlet."""
        return np.where(self.usable, reduced_cost[np.maximum(self.column, 0)], 0.0)

    def parts(self, aperture: Aperture, transmission: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Columns that an aperture lets through, and how much of each: 1 where it is open, ``transmission`` behind leaves.

        Rows beyond the diaphragms, which stand at the outermost open rows, let nothing through.
        """
        opened = self.open_share(aperture)
        rows = np.flatnonzero(opened.any(axis=1))
        share = opened + transmission * (1 - opened)
        share[: rows[0]], share[rows[-1] + 1 :] = 0.0, 0.0
        used = self.usable & (share > 0)
        return self.column[used], share[used]

    def open_share(self, aperture: Aperture) -> NDArray[np.float64]:
        """How much of each place an aperture opens, shape (rows, steps)."""
        step = np.arange(self.column.shape[1])
        first, last = aperture.edges[:, :1], aperture.edges[:, 1:]
        share: NDArray[np.float64] = np.clip(np.minimum(last, step + 1) - np.maximum(first, step), 0.0, 1.0)
        return share

    def whole(self) -> Aperture | None:
        """Everything that one interval in each row can open, or None: the conformal aperture."""
        usable = self.usable
        edges = np.zeros((len(usable), 2))
        for row, places in enumerate(usable):
            steps = np.flatnonzero(places)
            if len(steps):
                # The longest run: a row may have gaps where the target's shadow has.
                runs = np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1)
                longest = max(runs, key=len)
                edges[row] = longest[0], longest[-1] + 1
        return Aperture(edges, 0.0) if (edges[:, 1] > edges[:, 0]).any() else None

    def snapped(self, aperture: Aperture) -> Aperture:
        """The aperture with leaves at multiples of :data:`RESOLUTION_mm`; a gap does not become too narrow by it."""
        along = 0 if self.mlc.travel == "u" else 1
        step_mm = self.beamlets.size_uv_mm[along]
        at_mm = (aperture.edges + self.step0) * step_mm
        opened = aperture.edges[:, 1] > aperture.edges[:, 0]
        first_mm = np.ceil(at_mm[:, 0] / RESOLUTION_mm - 1e-6) * RESOLUTION_mm
        last_mm = np.floor(at_mm[:, 1] / RESOLUTION_mm + 1e-6) * RESOLUTION_mm
        narrow = last_mm - first_mm < self.mlc.min_gap_mm - 1e-6
        first_mm = np.where(narrow, np.floor(at_mm[:, 0] / RESOLUTION_mm + 1e-6) * RESOLUTION_mm, first_mm)
        last_mm = np.where(narrow, np.ceil(at_mm[:, 1] / RESOLUTION_mm - 1e-6) * RESOLUTION_mm, last_mm)
        snapped = np.stack([first_mm, last_mm], axis=1) / step_mm - self.step0
        return Aperture(np.where(opened[:, None], snapped, aperture.edges), aperture.cost)

    def segment(self, aperture: Aperture, mu: float) -> Segment:
        """The aperture as leaf and diaphragm positions of the machine."""
        along = 0 if self.mlc.travel == "u" else 1
        step_mm = self.beamlets.size_uv_mm[along]
        opened = np.flatnonzero(aperture.edges[:, 1] > aperture.edges[:, 0])
        edges_mm = np.round((aperture.edges + self.step0) * step_mm / RESOLUTION_mm) * RESOLUTION_mm
        narrow = (edges_mm[:, 1] - edges_mm[:, 0] < self.mlc.min_gap_mm) & (
            aperture.edges[:, 1] > aperture.edges[:, 0]
        )
        edges_mm[narrow, 1] = edges_mm[narrow, 0] + self.mlc.min_gap_mm
        edges_mm = np.round(edges_mm, 6)  # 12.3, not 12.300000000000001
        pair_of_row = np.arange(len(aperture.edges)) + self.row0 + self.mlc.pairs // 2
        # Closed pairs stand where the nearest open pair has its middle: a short way for the next segment.
        nearest = opened[
            np.argmin(np.abs(opened[None, :] - (np.arange(self.mlc.pairs) - pair_of_row[0])[:, None]), axis=1)
        ]
        middle_mm = np.round(edges_mm[nearest].mean(axis=1, keepdims=True) / RESOLUTION_mm) * RESOLUTION_mm
        leaf_mm = np.repeat(np.round(middle_mm, 6), 2, axis=1)
        leaf_mm[pair_of_row[opened]] = edges_mm[opened]
        width_mm = self.mlc.leaf_width_mm
        low, high = (opened[0] + self.row0) * width_mm, (opened[-1] + 1 + self.row0) * width_mm
        return Segment(self.beamlets.beam, leaf_mm, (float(low), float(high)), mu)
