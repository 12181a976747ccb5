"""The rows of the influences that a solver sees: all voxels, or blocks of voxels, of each structure, scenario by scenario.

Structures that only ask for a mean dose become one exact row. Others keep every voxel, unless that is more than a
number of rows asked for: then neighbouring voxels *of the same structure* are merged into cubes, each row being the
occupancy-weighted mean of its voxels. Merging keeps every mean exactly, needs no random numbers, and underestimates a
convex penalty by the variation of dose inside a cube only; what was merged is stated in the result. Voxels that turn
out to be a structure's hot spot can be given rows of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose.scenarios import Scenario
from mrlinac.errors import DataError
from mrlinac.machine.delivery import Columns
from mrlinac.protocol.kinds import DoseKind, MeanDose
from mrlinac.protocol.model import Protocol

CUT = 0.01
"""Share of a column's maximum below which an entry leaves the solver's matrix (its dose returns as an offset)."""


@dataclass(frozen=True)
class Thinning:
    """How one structure is represented by rows; ``str`` of it is a sentence.

    Attributes
    ----------
    structure : str
    voxels, rows : int
    block : int
        Merged voxels are in cubes of this many a side; 1 where no voxel is merged.
    mean_only : bool
        Only the structure's mean is asked for: one exact row.
    alone : int
        Voxels with rows of their own beside merged ones.
    """

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
        sentence = f"{self.structure}: {merged} voxels merged into {into} of up to {self.block}³ voxels"
        themselves = "itself" if self.alone == 1 else "themselves"
        return sentence + (f", and {self.alone} by {themselves}, in the tail of a limit" if self.alone else "")


@dataclass(frozen=True)
class StructureRows:
    """The rows of a structure.

    Attributes
    ----------
    index : int64 array, shape (rows of the structure,)
    weights : float64 array, shape (rows of the structure,)
        Volume that each stands for, in cc.
    """

    index: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class ScenarioRows:
    """The rows of one scenario: one after another in the matrices of :class:`Rows`, from ``first`` on.

    Attributes
    ----------
    name : str
    share : float
        Of the objectives; the shares of all scenarios sum to 1.
    number, first : int
        Place among the scenarios, and of the first row among all rows.
    grid : Grid
    pick : csr (rows, voxels)
        Takes a flat dose on the grid to these rows.
    of : dict of StructureRows
        By structure that has rows; numbered from 0 within the scenario.
    mean : dict of float64 arrays (columns,)
        Exact mean of every structure named, Gy of the course per MU.
    occupancy : dict of (flat index, share of the structure)
        To take the mean of a dose on the grid.
    thinning : tuple of Thinning
    """

    name: str
    share: float
    number: int
    first: int
    grid: Grid
    pick: sp.csr_array
    of: dict[str, StructureRows]
    mean: dict[str, NDArray[np.float64]]
    occupancy: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]
    thinning: tuple[Thinning, ...]

    @property
    def part(self) -> slice:
        """Where its rows are among all rows."""
        return slice(self.first, self.first + int(self.pick.shape[0]))

    def stacked(self, structure: str) -> StructureRows:
        """A structure's rows, numbered among the rows of all scenarios.

        Parameters
        ----------
        structure : str

        Returns
        -------
        StructureRows
        """
        rows = self.of[structure]
        return StructureRows(rows.index + self.first, rows.weights)

    def on_rows(self, dose_Gy: NDArray[np.floating]) -> NDArray[np.float64]:
        """A dose on these rows.

        Parameters
        ----------
        dose_Gy : float array [z, y, x]

        Returns
        -------
        float64 array, shape (rows of the scenario,)
            Gy.
        """
        return np.asarray(self.pick @ np.asarray(dose_Gy, dtype=np.float64).ravel())

    def mean_of(self, name: str, dose_Gy: NDArray[np.floating]) -> float:
        """Mean of a dose over a structure.

        Parameters
        ----------
        name : str
            Of the structure.
        dose_Gy : float array [z, y, x]

        Returns
        -------
        float
            Gy.
        """
        voxel, share = self.occupancy[name]
        return float(np.asarray(dose_Gy, dtype=np.float64).ravel()[voxel] @ share)


@dataclass(frozen=True)
class Rows:
    """The dose of the course on the rows of all scenarios: ``full @ mu``; the solver works on ``cut`` plus an offset.

    Attributes
    ----------
    scenarios : tuple of ScenarioRows
        The first is the nominal one: forward doses are of it.
    full, cut : csr float32 (rows, columns)
        Gy of the course per MU of one fraction.
    reference_mu : float
        MU of every column that gives the prescription to the target on average.
    pairs : int array (p, 2)
        Columns whose MU should differ little.
    """

    scenarios: tuple[ScenarioRows, ...]
    full: sp.csr_array
    cut: sp.csr_array
    reference_mu: float
    pairs: NDArray[np.int64]

    @property
    def columns(self) -> int:
        """Number of columns."""
        return int(self.full.shape[1])

    @property
    def nominal(self) -> ScenarioRows:
        """The first scenario's."""
        return self.scenarios[0]

    def combination(self, columns: Columns, combined: sp.csc_array, protocol: Protocol) -> Rows:
        """The same rows of columns that are combinations of these; no entry is cut away.

        Parameters
        ----------
        columns : Columns
        combined : csc_array, shape (columns of these rows, columns)
        protocol : Protocol
            Whose prescription sets the reference MU.

        Returns
        -------
        Rows
        """
        full = sp.csr_array((self.full @ combined).astype(np.float32))
        scenarios = tuple(
            replace(scenario, mean={name: combined.T @ mean for name, mean in scenario.mean.items()})
            for scenario in self.scenarios
        )
        even_Gy = float(scenarios[0].mean[protocol.prescription.target].sum())
        return Rows(scenarios, full, full, protocol.prescription.dose_Gy / even_Gy, columns.neighbours())


@dataclass(frozen=True)
class RowChoice:
    """How voxels become rows.

    Attributes
    ----------
    oar_rows, target_rows : int or None
        Most rows of one structure that is not, or is, a target; None keeps every voxel.
    cut : float
        See :data:`CUT`.
    alone : mapping of int arrays
        By structure: flat indices of voxels of the nominal scenario that are not merged with others.
    """

    oar_rows: int | None = 5000
    target_rows: int | None = None
    cut: float = CUT
    alone: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)


def select(scenarios: Sequence[Scenario], protocol: Protocol, choice: RowChoice | None = None) -> Rows:
    """Choose the rows for a protocol and take them out of the influences.

    Parameters
    ----------
    scenarios : sequence of Scenario
        At least one; their structures include the protocol's derived ones.
    protocol : Protocol
    choice : RowChoice, optional

    Returns
    -------
    Rows

    Raises
    ------
    DataError
        A structure is missing or empty, the target receives no dose at all, or the scenarios have other columns.
    """
    choice = choice or RowChoice()
    columns = {len(scenario.influence.columns) for scenario in scenarios}
    if len(columns) != 1:
        raise DataError(f"the influences of the scenarios have different numbers of columns: {sorted(columns)}")
    total = sum(scenario.weight for scenario in scenarios)
    parts: list[ScenarioRows] = []
    matrices = []
    for number, scenario in enumerate(scenarios):
        first = parts[-1].part.stop if parts else 0
        own = choice if number == 0 else replace(choice, alone={})
        rows, matrix = _rows_of(scenario, protocol, own, number, first, scenario.weight / total)
        parts.append(rows)
        matrices.append(matrix)
    full = matrices[0] if len(matrices) == 1 else sp.csr_array(sp.vstack(matrices, format="csr"))
    target = protocol.prescription.target
    even_Gy = float(parts[0].mean[target].sum())
    if not even_Gy > 0:
        raise DataError(f"the influence gives no dose to the target '{target}'")
    return Rows(
        tuple(parts),
        full,
        _without_small(full, choice.cut),
        protocol.prescription.dose_Gy / even_Gy,
        scenarios[0].influence.columns.neighbours(),
    )


def _rows_of(
    scenario: Scenario, protocol: Protocol, choice: RowChoice, number: int, first: int, share: float
) -> tuple[ScenarioRows, sp.csr_array]:
    """One scenario's rows, and their matrix: Gy of the course per MU of one fraction."""
    influence, structures = scenario.influence, scenario.structures
    if structures.grid != influence.grid:
        raise DataError("the structures are not on the influence's grid; rasterise them on the calculation grid")
    terms = terms_of(protocol, structures)
    named = list(dict.fromkeys([protocol.prescription.target, *(t.structure for t in terms)]))
    need_rows = {t.structure for t in terms if not isinstance(t, MeanDose)}
    blocks = [
        _blocks(
            structures[name],
            structures.grid,
            choice.target_rows if structures[name].role == "target" else choice.oar_rows,
            choice.alone.get(name),
        )
        for name in named
        if name in need_rows
    ]
    pick, of, thinning = _merged(blocks, influence.grid)

    course = protocol.prescription.fractions
    matrix = sp.csr_array(influence.matrix)
    full = sp.csr_array(pick.astype(np.float32) @ matrix)
    if influence.combined is not None:
        full = sp.csr_array((full @ influence.combined).astype(np.float32))
    full.data *= np.float32(course)
    occupancy, mean = {}, {}
    for name in named:
        flat = structures[name].occupancy.ravel()
        voxel = np.flatnonzero(flat).astype(np.int64)
        if not len(voxel):
            raise DataError(f"structure '{name}' is empty on the calculation grid")
        occupied = flat[voxel].astype(np.float64)
        occupancy[name] = voxel, occupied / occupied.sum()
        of_matrix = np.asarray(occupancy[name][1] @ matrix[voxel]) * course
        mean[name] = of_matrix if influence.combined is None else influence.combined.T @ of_matrix
        if name not in need_rows:
            thinning.append(Thinning(name, len(voxel), 1, 1, mean_only=True))
    rows = ScenarioRows(
        scenario.name, share, number, first, influence.grid, pick, of, mean, occupancy, tuple(thinning)
    )
    return rows, full


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
