"""Columns of the influence: one beamlet into a thread's scratch, then out of it as a sparse column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.jit import kernel
from mrlinac.transport import cpu, history, rng, stack, voxels
from mrlinac.transport.stack import Tally
from mrlinac.transport.tables import Tables
from mrlinac.transport.voxels import Geometry

Array = NDArray[np.float64]

ENTRIES_AT_10K = 11000.0  # kept entries of a column, 10 000 photons, 3 mm voxels, keep_above 0.003: for estimates
PARTS = 10  # into which a beamlet is split where its noise is measured


@kernel
def harvest(tally, gray_per_MeV, factor, solid, score, keep_above, name, index, value):
    """Empty the scratch into a sparse column: dose per MU, small entries by Russian roulette; its length."""
    touched = tally.counter[stack.N_TOUCHED]
    largest = 0.0
    for n in range(touched):
        i = tally.touched[n]
        if solid[i]:
            largest = max(largest, stack.deposit_at(tally, i) * gray_per_MeV[i])
    floor = keep_above * largest
    rng.start(tally.rng, 0, name)
    kept = 0
    for n in range(touched):
        i = tally.touched[n]
        x = stack.deposit_at(tally, i) * gray_per_MeV[i]
        stack.forget(tally, i)
        if x < floor:
            x = floor if rng.uniform(tally.rng) * floor < x else 0.0
        if x > 0.0 and (score.shape[0] == 0 or score[i]):
            index[kept] = i
            value[kept] = x * factor
            kept += 1
    tally.counter[stack.N_TOUCHED] = 0
    return kept


@dataclass(frozen=True)
class Maker:
    """What every column needs; arrays by beamlet where the first axis is theirs, by flat voxel [z, y, x] otherwise."""

    rows: Array
    per_MU: Array
    photons: int
    shared: history.Beamline
    table: Tables
    geometry: Geometry
    gray_per_MeV: NDArray[np.float32]
    solid: NDArray[np.bool_]
    score: NDArray[np.bool_] | None
    keep_above: float
    names: NDArray[np.uint64]
    roulette_names: NDArray[np.uint64]
    spread_names: NDArray[np.uint64]
    noise_beamlets: int = 8
    flat: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))  # flat index by place

    def run(
        self,
        code: NDArray[np.uint32],
        threads: int | None,
        progress: Callable[[float, float, str], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> tuple[sp.csc_array, float, int, int]:
        """All columns as one matrix, the typical relative σ of large entries, electrons cut short, particles lost."""
        maker = self._by_place()
        beamlets = len(self.rows)
        workers = max(1, min(cpu.threads_or_default(threads), beamlets))
        index: list[NDArray[np.int32]] = []
        value: list[NDArray[np.float32]] = []
        truncated, overflow = [0], [0]
        tallies = [cpu.new_tally(code, True) for _ in range(workers + 1)]

        def add(_: int, tally: Tally, result: object) -> None:
            column: Any = result
            index.append(column[0])
            value.append(column[1])
            truncated[0] += int(tally.counter[stack.N_TRUNCATED])
            overflow[0] += int(tally.counter[stack.N_OVERFLOW])
            tally.counter[:] = 0

        with cpu.Pool(workers, tallies) as pool:
            for done in pool.ordered(lambda j, tally: maker.column(j, tally, pool), beamlets, add):
                if progress is not None:
                    progress(done + 1, beamlets, "influence")
                if cancelled is not None and cancelled():
                    raise KeyboardInterrupt
            sample = np.unique(np.linspace(0, max(beamlets - 1, 0), min(self.noise_beamlets, beamlets)).astype(int))
            spreads: list[float] = []
            for _ in pool.ordered(
                lambda n, tally: maker.spread(int(sample[n]), tally, pool),
                len(sample),
                lambda n, tally, result: spreads.append(float(result)),  # type: ignore[arg-type]
            ):
                pass
        known = [s for s in spreads if np.isfinite(s)]
        typical = float(np.mean(known)) if known else 1.0
        return _assembled(index, value, len(self.solid)), typical, truncated[0], overflow[0]

    def _by_place(self) -> Maker:
        """The same with the voxels' arrays as kernels have them (:mod:`mrlinac.transport.voxels`)."""
        shape_zyx = self.geometry.shape[::-1]

        def placed(values: NDArray[Any]) -> NDArray[Any]:
            return voxels.to_bricks(values.reshape(shape_zyx))

        return replace(
            self,
            gray_per_MeV=placed(self.gray_per_MeV),
            solid=placed(self.solid),
            score=None if self.score is None else placed(self.score),
            flat=voxels.flat_index(shape_zyx.tolist()),
        )

    def column(self, j: int, tally: Tally, pool: cpu.Pool) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Beamlet ``j``: indices (increasing) and Gy per MU."""
        counts = np.array([self.photons], np.int64)
        cpu.follow(
            self.rows[j : j + 1],
            counts,
            self.names[j : j + 1],
            self.shared,
            self.table,
            self.geometry,
            tally,
            pool.stop,
        )
        touched = int(tally.counter[stack.N_TOUCHED])
        index, value = np.empty(touched, np.int32), np.empty(touched, np.float32)
        score = self.score if self.score is not None else np.zeros(0, bool)
        factor = self.per_MU[j] / self.photons
        kept = harvest(
            tally, self.gray_per_MeV, factor, self.solid, score, self.keep_above, self.roulette_names[j], index, value
        )
        index, value = self.flat[index[:kept]], value[:kept]
        order = np.argsort(index)
        return index[order], value[order]

    def spread(self, j: int, tally: Tally, pool: cpu.Pool) -> float:
        """Mean relative σ of beamlet ``j``'s entries above half of its maximum, from parts with their own streams."""
        number = max(1, self.photons // PARTS)
        parts = []
        for part in range(PARTS):
            name = self.spread_names[j : j + 1].copy()
            name[:, 1] ^= np.uint64(part)
            counts = np.array([number], np.int64)
            cpu.follow(self.rows[j : j + 1], counts, name, self.shared, self.table, self.geometry, tally, pool.stop)
            used = tally.touched[: tally.counter[stack.N_TOUCHED]].copy()
            deposits = cpu.deposits(tally)
            parts.append((used, deposits[used].astype(float)))
            deposits[used] = 0
            tally.counter[:] = 0
        everywhere = np.unique(np.concatenate([used for used, _ in parts]))
        if not len(everywhere):
            return float("nan")
        values = np.zeros((PARTS, len(everywhere)))
        for row, (used, deposit) in zip(values, parts, strict=True):
            row[np.searchsorted(everywhere, used)] = deposit * self.gray_per_MeV[used]
        values = values[:, self.solid[everywhere]]
        if not values.size or values.max() <= 0:
            return float("nan")
        mean = values.mean(0)
        high = mean > 0.5 * mean.max()
        sigma = values[:, high].std(0, ddof=1) / np.sqrt(PARTS)
        return float((sigma / mean[high]).mean() * np.sqrt(number * PARTS / self.photons))


def _assembled(index: list[NDArray[np.int32]], value: list[NDArray[np.float32]], voxels: int) -> sp.csc_array:
    """One matrix from the columns, each freed as it is copied."""
    lengths = np.array([len(i) for i in index], np.int64)
    pointer = np.concatenate([[0], np.cumsum(lengths)])
    kind = np.int32 if pointer[-1] < 2**31 else np.int64
    indices, data = np.empty(pointer[-1], kind), np.empty(pointer[-1], np.float32)
    for j in range(len(index)):
        indices[pointer[j] : pointer[j + 1]], data[pointer[j] : pointer[j + 1]] = index[j], value[j]
        index[j], value[j] = np.empty(0, np.int32), np.empty(0, np.float32)
    return sp.csc_array((data, indices, pointer.astype(kind)), shape=(voxels, len(lengths)))
