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
"""The voxels of a limit's tail get rows of their own when the value on all voxels is further beyond the limit than that on
the rows by more than this."""
BAND = 0.05
"""These voxels are those beyond the limit, and those within this share of it."""
MOST = 3000
"""At most this many voxels at a time; larger tails are left as they are."""


def beyond_rows(rows: Rows, protocol: Protocol, course: Sampled) -> dict[str, float]:
    """By organ limit: its value as it is judged (:mod:`mrlinac.dose.sampled`) less that on the nominal scenario's rows.

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
    nominal, rx, beyond_Gy = rows.nominal, protocol.prescription, {}
    on_rows = RowDose(nominal, course.dose)
    limits = [
        constraint
        for constraint in organ_limits(protocol, course)
        if constraint.of.structure in nominal.of and not isinstance(constraint.of, kinds.MeanDose)
    ]
    course.prepare(dict.fromkeys(constraint.of.structure for constraint in limits), scatter=False)
    for constraint in limits:
        of = constraint.of
        value = partial(of.limit_value, prescription_Gy=rx.dose_Gy, fractions=rx.fractions)
        judged = course.number(of.structure, value, scatter=False).value
        beyond_Gy[constraint.name] = judged - on_rows.figure(of.structure, value, scatter=False).value
    return beyond_Gy


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
        These and the voxels of the tails.
    """
    nominal, tails = rows.nominal, dict(alone)
    on_rows, flat = nominal.on_rows(dose_Gy), _flat(dose_Gy)
    for constraint, limit_Gy in _small_tails(rows, protocol):
        of, rx = constraint.of, protocol.prescription
        structure_rows, (voxel, share) = nominal.of[of.structure], nominal.occupancy[of.structure]
        sign = 1 if constraint.upper else -1
        whole, known = (
            sign * of.value(dose, volume_cc, rx.dose_Gy, rx.fractions)
            for dose, volume_cc in (
                (flat[voxel], share * structure_rows.weights.sum()),
                (on_rows[structure_rows.index], structure_rows.weights),
            )
        )
        if whole - max(known, sign * limit_Gy) <= HIDDEN_Gy:
            continue
        beyond_Gy = sign * (flat[voxel] - limit_Gy) + BAND * limit_Gy
        worst = np.argsort(-beyond_Gy, kind="stable")[:MOST]
        of_tail = voxel[worst[beyond_Gy[worst] > 0]]
        tails[of.structure] = np.union1d(tails.get(of.structure, np.zeros(0, np.int64)), of_tail)
    return tails


def _small_tails(rows: Rows, protocol: Protocol) -> Iterator[tuple[Constraint, float]]:
    """Limits on tails of at most MOST voxels of merged structures, each in Gy of the course."""
    nominal = rows.nominal
    merged = {thinning.structure for thinning in nominal.thinning if thinning.block > 1}
    for limit in canonical.limits_of(protocol, rows):
        constraint, of = limit.constraint, limit.constraint.of
        if limit.scenario is not nominal or of.structure not in merged:
            continue
        if not isinstance(of, kinds.UpperTail | kinds.LowerTail | kinds.DoseAtVolume):
            continue
        volume_cc = nominal.occupancy[of.structure][1] * nominal.of[of.structure].weights.sum()
        share = of.share(volume_cc)
        if isinstance(of, kinds.DoseAtVolume) and not constraint.upper:
            share = 1 - share  # what the volume that is to be covered leaves
        if share * volume_cc.sum() <= MOST * nominal.grid.voxel_cc:
            yield constraint, limit.limit_Gy


def _flat(dose_Gy: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(dose_Gy, dtype=np.float64).ravel()


def organ_limits(protocol: Protocol, structures: Container[str]) -> list[Constraint]:
    """The constraints that do not move with the prescription, of structures that are there.

    Parameters
    ----------
    protocol : Protocol
    structures : container of str
        Names of the structures that are there.

    Returns
    -------
    list of Constraint
    """
    return [c for c in protocol.constraints if c.upper and not c.relative and c.of.structure in structures]
