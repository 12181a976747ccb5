"""What a machine is told to do: a fluence or segments. Every engine and every forward dose takes a delivery.

Planning chooses the MU of *columns*: beamlets, or segments whose dose is known. :class:`Columns` says what the planner
asks of them, and turns their MU into a delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import frozen
from mrlinac.machine.beams import Beam, BeamletMap, tile_keys
from mrlinac.machine.model import Mlc

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Openings:
    """Rectangles of the isocentre plane through which one beam is given.

    Attributes
    ----------
    beam : Beam
    low_uv_mm, high_uv_mm, centre_uv_mm : float64 arrays, shape (n, 2), read-only
    area_mm2 : float64 array, shape (n,), read-only
    mu : float64 array, shape (n,), read-only
        MU of one fraction through each.
    """

    beam: Beam
    low_uv_mm: Array
    high_uv_mm: Array
    centre_uv_mm: Array
    area_mm2: Array
    mu: Array

    def __post_init__(self) -> None:
        count = len(self.mu)
        for name in ("low_uv_mm", "high_uv_mm", "centre_uv_mm"):
            object.__setattr__(self, name, frozen(np.asarray(getattr(self, name)), np.float64, name, (count, 2)))
        for name in ("area_mm2", "mu"):
            object.__setattr__(self, name, frozen(np.asarray(getattr(self, name)), np.float64, name, (count,)))

    def __len__(self) -> int:
        return len(self.mu)

    @classmethod
    def of_beamlets(cls, beamlets: BeamletMap, mu: Array | None = None) -> Openings:
        """The beamlets of a map, each with its MU (default: one).

        Parameters
        ----------
        beamlets : BeamletMap
        mu : float64 array, shape (n,), optional
            Of one fraction.

        Returns
        -------
        Openings
        """
        size = np.asarray(beamlets.size_uv_mm)
        return cls(
            beamlets.beam,
            beamlets.lattice_uv * size,
            (beamlets.lattice_uv + 1) * size,
            beamlets.centre_uv_mm,
            np.full(len(beamlets), size[0] * size[1]),
            np.ones(len(beamlets)) if mu is None else mu,
        )


class Delivery(Protocol):
    """What engines ask of a fluence or of segments."""

    @property
    def beams(self) -> tuple[Beam, ...]:
        """The beams, in order; a beam of several segments once."""
        ...

    @property
    def total_mu(self) -> float:
        """Sum of the MU of one fraction; of a fluence, of its beamlets."""
        ...

    @property
    def vector(self) -> Array:
        """MU of one fraction of each column, shape (columns,)."""
        ...

    @property
    def certificate(self) -> Certificate | None:
        """What a solver proved about it, if one made it."""
        ...

    def openings(self) -> tuple[Openings, ...]:
        """The rectangles that transport starts photons in, beam by beam."""
        ...

    @property
    def exposed_mm2(self) -> float:
        """Area on the isocentre plane that is open at some time, summed over the beams."""
        ...

    def times(self, factor: float) -> Self:
        """The same with all MU scaled.

        Parameters
        ----------
        factor : float

        Returns
        -------
        Delivery
        """
        ...


class Columns(Protocol):
    """What the planner asks of the columns of an influence: each is something whose dose per MU is known."""

    def __len__(self) -> int:
        """Number of columns."""
        ...

    def neighbours(self) -> Index:
        """Pairs of columns whose MU should differ little, shape (pairs, 2).

        Returns
        -------
        int64 array, shape (pairs, 2)
        """
        ...

    def tile_keys(self) -> Index:
        """A key of each column, shape (columns,): sorted by it, columns that reach the same voxels follow each other.

        Returns
        -------
        int64 array, shape (columns,)
        """
        ...

    def delivery(self, mu: Array, certificate: Certificate | None = None) -> Delivery:
        """The delivery of an MU of each column, shape (columns,).

        Parameters
        ----------
        mu : float64 array, shape (columns,)
        certificate : Certificate, optional

        Returns
        -------
        Delivery
        """
        ...


@dataclass(frozen=True)
class Certificate:
    """What a solver proved about a fluence.

    Attributes
    ----------
    solver, status : str
        An inexact status is never called solved.
    objective, dual_bound : float
        Value reached and the proven lower bound; equal within ``relative_gap`` when optimal.
    worst_violation : float
        Largest violation of a constraint, in the constraint's unit.
    iterations : int
    """

    solver: str
    status: str
    objective: float
    dual_bound: float
    worst_violation: float
    iterations: int = 0

    @property
    def relative_gap(self) -> float:
        """(objective − bound) / max(|objective|, 1e-12)."""
        return (self.objective - self.dual_bound) / max(abs(self.objective), 1e-12)


@dataclass(frozen=True)
class Beamlets:
    """Columns that are beamlets: the maps' rows one after another.

    Attributes
    ----------
    maps : tuple of BeamletMap
    """

    maps: tuple[BeamletMap, ...]

    def __len__(self) -> int:
        return sum(len(beamlets) for beamlets in self.maps)

    def neighbours(self) -> Index:
        """Pairs of beamlets that share an edge, along u and along v, within each beam.

        Returns
        -------
        int64 array, shape (pairs, 2)
        """
        pairs = [np.zeros((0, 2), np.int64)]
        first = 0
        for beamlets in self.maps:
            column_at = {(int(u), int(v)): first + i for i, (u, v) in enumerate(beamlets.lattice_uv)}
            adjacent = [
                (column, other)
                for (u, v), column in column_at.items()
                for other in (column_at.get((u + 1, v)), column_at.get((u, v + 1)))
                if other is not None
            ]
            pairs.append(np.array(adjacent, np.int64).reshape(-1, 2))
            first += len(beamlets)
        return np.concatenate(pairs)

    def tile_keys(self) -> Index:
        """A key by which beamlets follow each other in tiles of four by two, beam after beam.

        Returns
        -------
        int64 array, shape (beamlets,)
        """
        return tile_keys([beamlets.lattice_uv for beamlets in self.maps])

    def delivery(self, mu: Array, certificate: Certificate | None = None) -> Fluence:
        """The fluence of an MU of each beamlet.

        Parameters
        ----------
        mu : float64 array, shape (beamlets,)
        certificate : Certificate, optional

        Returns
        -------
        Fluence
        """
        return Fluence.from_vector(self.maps, mu, certificate)


@dataclass(frozen=True)
class Fluence:
    """MU per beamlet, of one fraction. Relative until it is segmented.

    Attributes
    ----------
    maps : tuple of BeamletMap
    mu : tuple of float64 arrays, one (n,) per map, read-only, not negative
    certificate : Certificate or None
    """

    maps: tuple[BeamletMap, ...]
    mu: tuple[Array, ...]
    certificate: Certificate | None = None

    def __post_init__(self) -> None:
        if len(self.maps) != len(self.mu):
            raise ValueError("one array of MU per beamlet map")
        arrays = tuple(
            frozen(np.asarray(a), np.float64, "mu", (len(m),)) for m, a in zip(self.maps, self.mu, strict=True)
        )
        if any(not np.all(a >= 0) for a in arrays):
            raise ValueError("MU must be numbers not below zero")
        object.__setattr__(self, "mu", arrays)

    @classmethod
    def from_vector(
        cls, maps: tuple[BeamletMap, ...], vector: Array, certificate: Certificate | None = None
    ) -> Fluence:
        """Split one vector, in the influence's column order, into the maps' arrays.

        Parameters
        ----------
        maps : tuple of BeamletMap
        vector : float64 array, shape (beamlets,)
            MU.
        certificate : Certificate, optional

        Returns
        -------
        Fluence
        """
        edges = np.cumsum([len(m) for m in maps])[:-1]
        return cls(maps, tuple(np.split(np.asarray(vector, float), edges)), certificate)

    @property
    def vector(self) -> Array:
        """All MU in the influence's column order."""
        return np.concatenate(self.mu) if self.mu else np.zeros(0)

    @property
    def beams(self) -> tuple[Beam, ...]:
        """The beams, in order."""
        return tuple(m.beam for m in self.maps)

    @property
    def total_mu(self) -> float:
        """Sum over all beamlets."""
        return float(self.vector.sum())

    def openings(self) -> tuple[Openings, ...]:
        """Each beamlet's rectangle.

        Returns
        -------
        tuple of Openings
            One a beam.
        """
        return tuple(Openings.of_beamlets(m, mu) for m, mu in zip(self.maps, self.mu, strict=True))

    @property
    def exposed_mm2(self) -> float:
        """Area on the isocentre plane of the beamlets that have MU, summed over the beams."""
        return sum(float(openings.area_mm2[openings.mu > 0].sum()) for openings in self.openings())

    def times(self, factor: float) -> Fluence:
        """The fluence scaled.

        Parameters
        ----------
        factor : float

        Returns
        -------
        Fluence
        """
        return Fluence(self.maps, tuple(a * factor for a in self.mu), self.certificate)


@dataclass(frozen=True)
class Segment:
    """One step of a step-and-shoot beam.

    Attributes
    ----------
    beam : Beam
    leaf_mm : float64 array, shape (pairs, 2), read-only
        Positions of the two banks on the isocentre plane, along leaf travel; a closed pair has equal ones.
    diaphragm_mm : tuple of float
        Edges across leaf travel.
    mu : float
        Of one fraction.
    jaw_mm : tuple of float, or None
        Edges of jaws along leaf travel, on machines that have them.
    """

    beam: Beam
    leaf_mm: Array
    diaphragm_mm: tuple[float, float]
    mu: float
    jaw_mm: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        leaves = np.asarray(self.leaf_mm)
        object.__setattr__(self, "leaf_mm", frozen(leaves, np.float64, "leaf_mm", (len(leaves), 2)))


@dataclass(frozen=True)
class Segments:
    """Segments of a plan, as the leaves of one machine form them; columns of an influence, too.

    Attributes
    ----------
    segments : tuple of Segment
        In the order of delivery.
    mlc : Mlc
        Whose leaves they are.
    certificate : Certificate or None
    """

    segments: tuple[Segment, ...]
    mlc: Mlc
    certificate: Certificate | None = None

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def beams(self) -> tuple[Beam, ...]:
        """The beams, each once, in order."""
        return tuple(dict.fromkeys(segment.beam for segment in self.segments))

    @property
    def total_mu(self) -> float:
        """MU of one fraction."""
        return float(sum(segment.mu for segment in self.segments))

    def times(self, factor: float) -> Segments:
        """The segments with their MU scaled.

        Parameters
        ----------
        factor : float

        Returns
        -------
        Segments
        """
        return self.delivery(self.vector * factor, self.certificate)

    def in_order(self) -> Segments:
        """The same, beam after beam, as a machine gives them.

        Returns
        -------
        Segments
        """
        beams = self.beams
        return replace(self, segments=tuple(sorted(self.segments, key=lambda segment: beams.index(segment.beam))))

    @property
    def vector(self) -> Array:
        """MU of one fraction of each segment."""
        return np.array([segment.mu for segment in self.segments], np.float64)

    def neighbours(self) -> Index:
        """No pairs: segments have no neighbours.

        Returns
        -------
        int64 array, shape (0, 2)
        """
        return np.zeros((0, 2), np.int64)

    def tile_keys(self) -> Index:
        """In the order of delivery.

        Returns
        -------
        int64 array, shape (segments,)
        """
        return np.arange(len(self.segments), dtype=np.int64)

    def delivery(self, mu: Array, certificate: Certificate | None = None) -> Segments:
        """The same segments with other MU.

        Parameters
        ----------
        mu : float64 array, shape (segments,)
        certificate : Certificate, optional

        Returns
        -------
        Segments
        """
        pairs = zip(self.segments, np.asarray(mu, float), strict=True)
        segments = tuple(replace(segment, mu=float(segment_mu)) for segment, segment_mu in pairs)
        return Segments(segments, self.mlc, certificate)

    def openings(self) -> tuple[Openings, ...]:
        """What passes leaves and diaphragms, as rectangles.

        Leaves end straight. Closed leaves between the diaphragms let the mean transmission of the collimator pass, with the
        spectrum of the open field; diaphragms and jaws let nothing pass.

        Returns
        -------
        tuple of Openings
            One a segment.
        """
        return tuple(_open_part(segment, self.mlc) for segment in self.segments)

    @property
    def exposed_mm2(self) -> float:
        """Area on the isocentre plane that is open in some segment, summed over the beams; behind leaves does not count."""
        by_beam: dict[Beam, list[Segment]] = {}
        for segment in self.segments:
            if segment.mu > 0:
                by_beam.setdefault(segment.beam, []).append(segment)
        return sum(_union_mm2(segments, self.mlc) for segments in by_beam.values())


PIECE_mm, TRANSMITTED_PIECE_mm = 10.0, 40.0
"""Longest piece of an opening, and of what leaves cover: over it the fluence of the source is nearly that of its centre."""


def _union_mm2(segments: Sequence[Segment], mlc: Mlc) -> float:
    """Area between the leaves of any of a beam's segments, each pair as wide as its widest opening across the leaves."""
    edges_mm = mlc.leaf_edges_mm
    low, high = (np.array([segment.diaphragm_mm[side] for segment in segments]) for side in (0, 1))
    width = np.minimum(edges_mm[1:], high.max()) - np.maximum(edges_mm[:-1], low.min())
    area = 0.0
    for pair in np.flatnonzero(width > 0):
        covered, reached = 0.0, -np.inf
        for left, right in sorted(tuple(segment.leaf_mm[pair]) for segment in segments):
            covered += max(0.0, right - max(left, reached))
            reached = max(reached, right)
        area += covered * float(width[pair])
    return area


def _open_part(segment: Segment, mlc: Mlc) -> Openings:
    """The rectangles between open leaf pairs and diaphragms, and those behind leaves with the transmitted MU."""
    edges_mm = mlc.leaf_edges_mm
    bottom = np.maximum(edges_mm[:-1], segment.diaphragm_mm[0])
    top = np.minimum(edges_mm[1:], segment.diaphragm_mm[1])
    along = 0 if mlc.travel == "u" else 1
    half_mm = mlc.half_field_uv_mm[along]
    low, high, mu = [], [], []
    for (left, right), across in zip(segment.leaf_mm, zip(bottom, top, strict=True), strict=True):
        if across[1] <= across[0]:
            continue
        covered = ((-half_mm, left), (right, half_mm)) if mlc.transmission > 0 else ()
        parts = [(left, right, 1.0, PIECE_mm)]
        parts += [(start, end, mlc.transmission, TRANSMITTED_PIECE_mm) for start, end in covered]
        for start, end, share, piece_mm in parts:
            if segment.jaw_mm is not None:
                start, end = max(start, segment.jaw_mm[0]), min(end, segment.jaw_mm[1])
            if end <= start:
                continue
            cuts = np.linspace(start, end, int(np.ceil((end - start) / piece_mm)) + 1)
            low += [(cut, across[0]) for cut in cuts[:-1]]
            high += [(cut, across[1]) for cut in cuts[1:]]
            mu += [segment.mu * share] * (len(cuts) - 1)
    order = [along, 1 - along]  # (travel, across) to (u, v) is its own inverse
    low_uv, high_uv = (np.array(corner, float).reshape(-1, 2)[:, order] for corner in (low, high))
    return Openings(
        segment.beam,
        low_uv,
        high_uv,
        (low_uv + high_uv) / 2,
        np.prod(high_uv - low_uv, axis=1),
        np.array(mu, np.float64),
    )
