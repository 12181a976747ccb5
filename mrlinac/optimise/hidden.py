"""What merged rows hide of a dose on all voxels: how far it is beyond a limit, and which voxels need rows of their own.

A cube of merged voxels is one row, their mean. Of a large tail it hides little, of a small one the hot spot itself.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mrlinac.dose.sampled import Sampled
from mrlinac.optimise import canonical
from mrlinac.optimise.row_dose import RowDose
from mrlinac.optimise.rows import Rows
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Constraint, Protocol

HIDDEN_Gy = 0.1
"""By so much more may all voxels exceed a limit than the rows do, before its tail's voxels get rows of their own."""
BAND = 0.05
"""They are the voxels beyond the limit, and those nearer to it than this share of it."""
MOST = 3000
"""So many at a time at most, and no tail that is larger."""


def beyond_rows(rows: Rows, protocol: Protocol, course: Sampled) -> dict[str, float]:
    """By organ limit: its value as it is judged (:mod:`mrlinac.dose.sampled`) less that on the rows.

    Rows are voxels or cubes of them; a limit is judged between voxels too, where a steep dose is hotter than any voxel of
    an organ's edge.

    Parameters
    ----------
    rows : Rows
    protocol : Protocol
    course : Sampled
        The dose of the course. Limits whose structure is missing are left out.

    Returns
    -------
    dict
        Gy by name of the limit; without those on means, which are exact.
    """
    rx, on_rows, found = protocol.prescription, RowDose(rows, course.dose), {}
    limits = [
        constraint
        for constraint in organ_limits(protocol, course)
        if constraint.of.structure in rows.of and not isinstance(constraint.of, kinds.MeanDose)
    ]
    course.prepare(dict.fromkeys(constraint.of.structure for constraint in limits), scatter=False)
    for constraint in limits:
        of = constraint.of
        value = partial(of.limit_value, prescription_Gy=rx.dose_Gy, fractions=rx.fractions)
        judged = course.number(of.structure, value, scatter=False).value
        found[constraint.name] = judged - on_rows.figure(of.structure, value, scatter=False).value
    return found


def in_tails(
    rows: Rows, protocol: Protocol, dose_Gy: NDArray[np.floating], alone: Mapping[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.int64]]:
    """Voxels of merged structures that make a dose break a limit on a small tail.

    Parameters
    ----------
    rows : Rows
    protocol : Protocol
        At the prescription that its relative limits refer to.
    dose_Gy : array [z, y, x]
        Of the course.
    alone : mapping of int arrays
        By structure: flat indices of voxels that have rows of their own already.

    Returns
    -------
    dict of int arrays
        These and what was found.
    """
    found, on_rows, flat = dict(alone), rows.on_rows(dose_Gy), _flat(dose_Gy)
    for constraint, limit_Gy in _small_tails(rows, protocol):
        of, rx = constraint.of, protocol.prescription
        mine, (voxel, share) = rows.of[of.structure], rows.occupancy[of.structure]
        sign = 1 if constraint.upper else -1
        whole, known = (
            sign * of.value(dose, volume_cc, rx.dose_Gy, rx.fractions)
            for dose, volume_cc in (
                (flat[voxel], share * mine.weights.sum()),
                (on_rows[mine.rows], mine.weights),
            )
        )
        if whole - max(known, sign * limit_Gy) <= HIDDEN_Gy:
            continue
        beyond_Gy = sign * (flat[voxel] - limit_Gy) + BAND * limit_Gy
        worst = np.argsort(-beyond_Gy, kind="stable")[:MOST]
        of_tail = voxel[worst[beyond_Gy[worst] > 0]]
        found[of.structure] = np.union1d(found.get(of.structure, np.zeros(0, np.int64)), of_tail)
    return found


def _small_tails(rows: Rows, protocol: Protocol) -> Iterator[tuple[Constraint, float]]:
    """Limits on tails of at most MOST voxels of merged structures, each in Gy of the course."""
    merged = {thinning.structure for thinning in rows.thinning if thinning.block > 1}
    for constraint, limit_Gy in canonical.limits_of(protocol, rows):
        of = constraint.of
        if not isinstance(of, kinds.UpperTail | kinds.LowerTail | kinds.DoseAtVolume) or of.structure not in merged:
            continue
        volume_cc = rows.occupancy[of.structure][1] * rows.of[of.structure].weights.sum()
        share = of.share(volume_cc)
        if isinstance(of, kinds.DoseAtVolume) and not constraint.upper:
            share = 1 - share  # what the volume that is to be covered leaves
        if share * volume_cc.sum() <= MOST * rows.grid.voxel_cc:
            yield constraint, limit_Gy


def _flat(dose_Gy: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(dose_Gy, dtype=np.float64).ravel()


def organ_limits(protocol: Protocol, structures: Container[str]) -> list[Constraint]:
    """The constraints that do not move with the prescription, of structures that are there."""
    return [c for c in protocol.constraints if c.upper and not c.relative and c.of.structure in structures]
