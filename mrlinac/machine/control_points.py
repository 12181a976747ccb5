"""Beams as plans of other systems state them: control points, between which everything moves evenly with the meterset.

What a machine gives between two control points is an integral over their interpolation, not a sum at the points. It is
taken in steps, each at its middle, so small that no leaf and no angle moves far in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Triple, frozen
from mrlinac.machine.beams import Beam
from mrlinac.machine.delivery import Segment, Segments
from mrlinac.machine.model import Mlc

LEAF_STEP_mm, ANGLE_STEP_deg = 2.0, 1.0
"""Farthest that a leaf or jaw, and an angle, moves within one step of the integral."""
SAME_EDGES_mm = 0.01
"""Largest difference of leaf boundaries that count as the same."""


@dataclass(frozen=True)
class ControlPoint:
    """The state of a machine at a meterset.

    Attributes
    ----------
    share : float
        Of the beam's meterset that has been given, 0 to 1.
    gantry_deg, collimator_deg, couch_deg : float
        IEC 61217. Not wrapped: an arc from 350 to 10 degrees clockwise goes from 350 to 370.
    isocentre_xyz_mm : tuple of float
        LPS.
    jaw_u_mm, jaw_v_mm : tuple of float, or None
        X and Y jaws at the isocentre; None where there are none.
    leaf_mm : float64 array, shape (pairs, 2), read-only, or None
        The two banks along leaf travel; None for a beam without leaves.
    """

    share: float
    gantry_deg: float
    collimator_deg: float
    couch_deg: float
    isocentre_xyz_mm: Triple
    jaw_u_mm: tuple[float, float] | None
    jaw_v_mm: tuple[float, float] | None
    leaf_mm: NDArray[np.float64] | None

    def __post_init__(self) -> None:
        if self.leaf_mm is not None:
            leaves = np.asarray(self.leaf_mm)
            object.__setattr__(self, "leaf_mm", frozen(leaves, np.float64, "leaf_mm", (len(leaves), 2)))

    def between(self, other: ControlPoint, part: float) -> ControlPoint:
        """The state at a part of the way to another.

        Parameters
        ----------
        other : ControlPoint
        part : float
            0 to 1.

        Returns
        -------
        ControlPoint
        """

        def pair(a: tuple[float, float] | None, b: tuple[float, float] | None) -> tuple[float, float] | None:
            if a is None or b is None:
                return a
            return (a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1]))

        def number(a: float, b: float) -> float:
            return a + part * (b - a)

        x, y, z = (number(a, b) for a, b in zip(self.isocentre_xyz_mm, other.isocentre_xyz_mm, strict=True))
        leaves = self.leaf_mm
        if leaves is not None and other.leaf_mm is not None:
            leaves = leaves + part * (other.leaf_mm - leaves)
        return ControlPoint(
            number(self.share, other.share),
            number(self.gantry_deg, other.gantry_deg),
            number(self.collimator_deg, other.collimator_deg),
            number(self.couch_deg, other.couch_deg),
            (x, y, z),
            pair(self.jaw_u_mm, other.jaw_u_mm),
            pair(self.jaw_v_mm, other.jaw_v_mm),
            leaves,
        )

    def steps_to(self, other: ControlPoint) -> int:
        """Number of steps of the integral on the way to another.

        Parameters
        ----------
        other : ControlPoint

        Returns
        -------
        int
        """
        angles = ("gantry_deg", "collimator_deg", "couch_deg")
        turn_deg = max(abs(getattr(self, name) - getattr(other, name)) for name in angles)
        way_mm = 0.0
        for mine, theirs in (
            (self.jaw_u_mm, other.jaw_u_mm),
            (self.jaw_v_mm, other.jaw_v_mm),
            (self.leaf_mm, other.leaf_mm),
        ):
            if mine is not None and theirs is not None:
                way_mm = max(way_mm, float(np.abs(np.asarray(mine) - np.asarray(theirs)).max()))
        return max(1, int(np.ceil(way_mm / LEAF_STEP_mm - 1e-9)), int(np.ceil(turn_deg / ANGLE_STEP_deg - 1e-9)))


@dataclass(frozen=True)
class TreatmentBeam:
    """A beam of a plan.

    Attributes
    ----------
    number : int
    name : str
    mu : float
        Of one fraction.
    sad_mm : float
        Source to axis distance.
    travel : {"u", "v"}
        The axis that leaves move along: u is X, v is Y.
    leaf_edges_mm : float64 array, shape (pairs + 1,), or None
        Boundaries of the leaves at the isocentre; None for a beam without leaves.
    points : tuple of ControlPoint
        With shares that grow from 0 to 1.
    """

    number: int
    name: str
    mu: float
    sad_mm: float
    travel: str
    leaf_edges_mm: NDArray[np.float64] | None
    points: tuple[ControlPoint, ...]

    def steps(self) -> Iterator[tuple[float, ControlPoint]]:
        """MU of one fraction and state at the middle of each step of the integral.

        Yields
        ------
        mu : float
        state : ControlPoint
        """
        for before, after in zip(self.points, self.points[1:], strict=False):
            if after.share <= before.share:
                continue
            count = before.steps_to(after)
            for step in range(count):
                yield self.mu * (after.share - before.share) / count, before.between(after, (step + 0.5) / count)


def leaves_of(beams: Sequence[TreatmentBeam], mlc: Mlc) -> Mlc:
    """The leaves of a plan: its own boundaries and travel, and what its file does not state from a machine.

    Parameters
    ----------
    beams : sequence of TreatmentBeam
    mlc : Mlc
        Of the machine: transmission, largest field; and all, where the plan has no leaves.

    Returns
    -------
    Mlc

    Raises
    ------
    ValueError
        Beams of different leaves.
    """
    stated = [beam for beam in beams if beam.leaf_edges_mm is not None]
    if not stated:
        return mlc
    first = stated[0]
    assert first.leaf_edges_mm is not None
    for beam in stated[1:]:
        edges_mm = beam.leaf_edges_mm
        assert edges_mm is not None
        same = beam.travel == first.travel and len(edges_mm) == len(first.leaf_edges_mm)
        if not same or np.abs(edges_mm - first.leaf_edges_mm).max() > SAME_EDGES_mm:
            raise ValueError(f"beams {first.number} and {beam.number} have different leaves")
    edges_mm = first.leaf_edges_mm
    across_mm = max(abs(float(edges_mm[0])), abs(float(edges_mm[-1])))
    along_mm = max(mlc.half_field_uv_mm[0 if mlc.travel == "u" else 1], *(_farthest_mm(beam) for beam in stated))
    return mlc.model_copy(
        update={
            "pairs": len(edges_mm) - 1,
            "leaf_width_mm": float(np.mean(np.diff(edges_mm))),
            "boundaries_mm": tuple(float(edge) for edge in edges_mm),
            "travel": first.travel,
            "half_field_uv_mm": (along_mm, across_mm) if first.travel == "u" else (across_mm, along_mm),
        }
    )


def _farthest_mm(beam: TreatmentBeam) -> float:
    return max(
        (float(np.abs(point.leaf_mm).max()) for point in beam.points if point.leaf_mm is not None), default=0.0
    )


def in_segments(beams: Sequence[TreatmentBeam], mlc: Mlc, position: str) -> Segments:
    """The integral over beams as segments, one a step.

    Parameters
    ----------
    beams : sequence of TreatmentBeam
    mlc : Mlc
        From :func:`leaves_of`.
    position : str
        How the patient lies.

    Returns
    -------
    Segments
    """
    segments = []
    for beam in beams:
        for mu, state in beam.steps():
            geometry = Beam(
                state.gantry_deg % 360, state.isocentre_xyz_mm, beam.sad_mm, state.collimator_deg % 360, position,
                state.couch_deg % 360,
            )  # fmt: skip
            along, across = (state.jaw_u_mm, state.jaw_v_mm)[:: 1 if mlc.travel == "u" else -1]
            edges_mm = mlc.leaf_edges_mm
            leaf_mm = state.leaf_mm
            if leaf_mm is None:  # jaws alone: the leaves are out of the way
                half_mm = mlc.half_field_uv_mm[0 if mlc.travel == "u" else 1]
                leaf_mm = np.tile([-half_mm, half_mm], (mlc.pairs, 1)).astype(np.float64)
            whole = (float(edges_mm[0]), float(edges_mm[-1]))
            segments.append(Segment(geometry, leaf_mm, across or whole, mu, along))
    return Segments(tuple(segments), mlc)
