"""The rows of the influence that a solver sees: all voxels, or blocks of voxels, of each structure.

Structures that only ask for a mean dose become one exact row. Others keep every voxel, unless that is more than a
number of rows asked for: then neighbouring voxels *of the same structure* are merged into cubes, each row being the
occupancy-weighted mean of its voxels. Merging keeps every mean exactly, needs no random numbers, and underestimates a
convex penalty by the variation of dose inside a cube only; what was merged is stated in the result. Voxels that turn
out to be a structure's hot spot can be given rows of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose.influence import Influence
from mrlinac.errors import DataError
from mrlinac.protocol.kinds import DoseKind, MeanDose
from mrlinac.protocol.model import Protocol

CUT = 0.01
"""Share of a column's maximum below which an entry leaves the solver's matrix (its dose returns as an offset)."""


@dataclass(frozen=True)
class Thinning:
    """How one structure is represented: ``rows`` for ``voxels``, merged in cubes of ``block`` voxels a side, but for
    ``alone`` of them; where no voxel is merged ``block`` is 1 and ``alone`` 0."""

    structure: str
    voxels: int
    rows: int
    block: int
    mean_only: bool = False
    alone: int = 0

    def __str__(self) -> str:
        if self.mean_only:
            return f"{self.structure}: {self.voxels} voxels in one exact row of their mean"
        if self.block == 1:
            return f"{self.structure}: all {self.voxels} voxels"
        merged, blocks = self.voxels - self.alone, self.rows - self.alone
        into = "1 block" if blocks == 1 else f"{blocks} blocks"
        said = f"{self.structure}: {merged} voxels merged into {into} of up to {self.block}³ voxels"
        themselves = "itself" if self.alone == 1 else "themselves"
        return said + (f", and {self.alone} by {themselves}, in the tail of a limit" if self.alone else "")


@dataclass(frozen=True)
class StructureRows:
    """Which dose rows belong to a structure, and the volume (cc) each stands for."""

    rows: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """The dose of the course on the rows: ``full @ mu``; the solver works on ``cut`` plus an offset.

    Attributes
    ----------
    pick : csr (rows, voxels)
        Takes a flat dose on the grid to the rows.
    full, cut : csr float32 (rows, beamlets)
        Gy of the course per MU of one fraction.
    of : dict
        By structure that has rows.
    mean : dict of float64 (beamlets,)
        Exact mean of every structure named, Gy of the course per MU.
    occupancy : dict of (flat index, share of the structure)
        To take the mean of a dose on the grid.
    thinning : tuple of Thinning
    reference_mu : float
        Even fluence that gives the prescription to the target on average.
    pairs : int array (p, 2)
        Columns of neighbouring beamlets.
    """

    grid: Grid
    pick: sp.csr_array
    full: sp.csr_array
    cut: sp.csr_array
    of: dict[str, StructureRows]
    mean: dict[str, NDArray[np.float64]]
    occupancy: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
    thinning: tuple[Thinning, ...]
    reference_mu: float
    pairs: NDArray[np.int64]

    @property
    def beamlets(self) -> int:
        """Number of columns."""
        return int(self.full.shape[1])

    def on_rows(self, dose_Gy: NDArray[np.floating]) -> NDArray[np.float64]:
        """A dose on the grid [z, y, x], on the rows."""
        return np.asarray(self.pick @ np.asarray(dose_Gy, dtype=np.float64).ravel())

    def mean_of(self, name: str, dose_Gy: NDArray[np.floating]) -> float:
        """Mean of a dose on the grid over a structure."""
        voxel, share = self.occupancy[name]
        return float(np.asarray(dose_Gy, dtype=np.float64).ravel()[voxel] @ share)


def select(
    influence: Influence,
    structures: StructureSet,
    protocol: Protocol,
    *,
    oar_rows: int = 5000,
    target_rows: int | None = None,
    cut: float = CUT,
    alone: Mapping[str, NDArray[np.int64]] | None = None,
) -> Rows:
    """Choose the rows for a protocol and take them out of the influence.

    Parameters
    ----------
    influence : Influence
    structures : StructureSet
        On the influence's grid, with the protocol's derived structures.
    protocol : Protocol
    oar_rows, target_rows : int or None
        Most rows of one structure that is not, or is, a target; None keeps every voxel.
    cut : float
        See :data:`CUT`.
    alone : mapping of int arrays, optional
        By structure: flat indices of voxels that are not merged with others.

    Raises
    ------
    DataError
        A structure is missing or empty, or the target receives no dose at all.
    """
    if structures.grid != influence.grid:
        raise DataError("the structures are not on the influence's grid; rasterise them on the calculation grid")
    terms = terms_of(protocol, structures)
    named = list(dict.fromkeys([protocol.prescription.target, *(t.structure for t in terms)]))
    need_rows = {t.structure for t in terms if not isinstance(t, MeanDose)}
    blocks = [
        _blocks(
            structures[name],
            structures.grid,
            target_rows if structures[name].role == "target" else oar_rows,
            (alone or {}).get(name),
        )
        for name in named
        if name in need_rows
    ]
    pick, of, thinning = _merged(blocks, influence.grid)

    course = protocol.prescription.fractions
    matrix = sp.csr_array(influence.matrix)
    full = sp.csr_array(pick.astype(np.float32) @ matrix)
    full.data *= np.float32(course)
    occupancy, mean = {}, {}
    for name in named:
        flat = structures[name].occupancy.ravel()
        voxel = np.flatnonzero(flat).astype(np.int64)
        if not len(voxel):
            raise DataError(f"structure '{name}' is empty on the calculation grid")
        share = flat[voxel].astype(np.float64)
        occupancy[name] = voxel, share / share.sum()
        mean[name] = np.asarray(occupancy[name][1] @ matrix[voxel]) * course
        if name not in need_rows:
            thinning.append(Thinning(name, len(voxel), 1, 1, mean_only=True))
    even_Gy = float(mean[protocol.prescription.target].sum())
    if not even_Gy > 0:
        raise DataError(f"the influence gives no dose to the target '{protocol.prescription.target}'")
    return Rows(
        influence.grid,
        pick,
        full,
        _without_small(full, cut),
        of,
        mean,
        occupancy,
        tuple(thinning),
        protocol.prescription.dose_Gy / even_Gy,
        neighbours(influence),
    )


def terms_of(protocol: Protocol, structures: StructureSet) -> list[DoseKind]:
    """The kinds of all objectives and constraints on doses whose structure is there.

    Raises
    ------
    DataError
        Names the structures that are missing and not optional.
    """
    terms: list[DoseKind] = [o.of for o in protocol.objectives if isinstance(o.of, DoseKind)]
    terms += [c.of for c in protocol.constraints if c.of.structure in structures or not c.optional]
    missing = sorted({t.structure for t in terms if t.structure not in structures})
    if missing:
        raise DataError(
            f"protocol {protocol.name} needs the structure(s) {', '.join(missing)}: draw them, derive them, "
            f"or mark the constraint optional. Present: {', '.join(structures)}"
        )
    return terms


@dataclass(frozen=True)
class _Blocks:
    name: str
    voxel: NDArray[np.int64]
    share: NDArray[np.float64]  # occupancy
    block: NDArray[np.int64]  # which cube each voxel belongs to, 0…cubes-1; -1: it is kept whole
    edge: int


def _blocks(structure: Structure, grid: Grid, most: int | None, alone: NDArray[np.int64] | None) -> _Blocks:
    flat = structure.occupancy.ravel()
    voxel = np.flatnonzero(flat).astype(np.int64)
    share = flat[voxel].astype(np.float64)
    edge, block = 1, np.full(len(voxel), -1)
    merged = np.flatnonzero(~np.isin(voxel, [] if alone is None else alone))
    if most is not None and len(voxel) > most and len(merged):
        z, y, x = np.unravel_index(voxel[merged], grid.shape_zyx)
        cubes = most + 1
        while cubes > most:
            edge += 1
            key = np.ravel_multi_index((z // edge, y // edge, x // edge), grid.shape_zyx)
            block[merged] = np.unique(key, return_inverse=True)[1]
            cubes = int(block.max(initial=-1)) + 1
    return _Blocks(structure.name, voxel, share, block, edge)


def _merged(blocks: Sequence[_Blocks], grid: Grid) -> tuple[sp.csr_array, dict[str, StructureRows], list[Thinning]]:
    """One list of rows for all structures; a voxel that several structures keep whole is one row."""
    of: dict[str, StructureRows] = {}
    thinning = []
    single = np.unique(np.concatenate([b.voxel[b.block < 0] for b in blocks])) if blocks else np.zeros(0, np.int64)
    parts = [sp.csr_array((np.ones(len(single)), (np.arange(len(single)), single)), shape=(len(single), grid.size))]
    first = len(single)
    for b in blocks:
        whole, cube = b.block < 0, b.block >= 0
        count = int(b.block.max(initial=-1)) + 1
        volume = np.bincount(b.block[cube], weights=b.share[cube], minlength=count)
        rows = np.concatenate([np.searchsorted(single, b.voxel[whole]), first + np.arange(count)])
        if count:
            part = b.share[cube] / volume[b.block[cube]]
            parts.append(sp.csr_array((part, (b.block[cube], b.voxel[cube])), shape=(count, grid.size)))
            first += count
        volume_cc = np.concatenate([b.share[whole], volume]) * grid.voxel_cc
        of[b.name] = StructureRows(rows.astype(np.int64), np.asarray(volume_cc, np.float64))
        alone = int(whole.sum()) if count else 0
        thinning.append(Thinning(b.name, len(b.voxel), len(rows), b.edge, alone=alone))
    return sp.csr_array(sp.vstack(parts, format="csr")), of, thinning


def _without_small(matrix: sp.csr_array, cut: float) -> sp.csr_array:
    if cut <= 0:
        return matrix
    highest = np.zeros(matrix.shape[1], matrix.dtype)
    np.maximum.at(highest, matrix.indices, matrix.data)
    kept = sp.csr_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape, copy=True)
    kept.data[kept.data < cut * highest[kept.indices]] = 0
    kept.eliminate_zeros()
    return kept


def neighbours(influence: Influence) -> NDArray[np.int64]:
    """Pairs (p, 2) of columns whose beamlets share an edge, along u and along v, within each beam."""
    pairs = [np.zeros((0, 2), np.int64)]
    first = 0
    for beam in influence.maps:
        place = {(int(u), int(v)): first + i for i, (u, v) in enumerate(beam.lattice_uv)}
        near = [
            (column, other)
            for (u, v), column in place.items()
            for other in (place.get((u + 1, v)), place.get((u, v + 1)))
            if other is not None
        ]
        pairs.append(np.array(near, np.int64).reshape(-1, 2))
        first += len(beam)
    return np.concatenate(pairs)
