"""Products with a tall sparse matrix, and its weighted Gram matrix.

A row of the influence sees a few beamlets of each beam, about one in twenty in all. Dense blocks of neighbouring *rows*
waste on zeros what BLAS saves. Blocks of eight neighbouring beamlets of *one row* are half full, and a processor works on
eight numbers at once: rows are kept as such blocks, in the influence's single precision, and summed in double. The Gram
matrix is summed eight columns at a time, whose sums stay in the processor's nearest caches. Rows that lie close together
in space see the same beamlets; they are kept next to each other so that a column's rows are not strewn over the memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.jit import kernel
from mrlinac.vectors import EIGHT, add_blocks, dot_blocks

TILE = 2**19
"""Blocks of rows that the Gram matrix takes at a time, about 16 MB: they stay in the processor's last cache."""
HANDS = 2
"""Columns are dealt out to so many threads; each sum is one thread's, so the result does not depend on it."""


class RowMatrix:
    """A sparse matrix D (rows, columns) of float32 times a factor; products and sums in float64.

    Parameters
    ----------
    matrix : csr
    key : int array (rows,)
        Rows are kept in the order of this key, for instance a position along a space-filling curve.
    column_scale : float
        Multiplies the whole matrix.
    column_key : int array (columns,), optional
        The order in which eight columns make a block: neighbours first. Nobody outside sees it.
    """

    def __init__(
        self,
        matrix: sp.csr_array,
        key: NDArray[np.int64],
        column_scale: float = 1.0,
        column_key: NDArray[np.int64] | None = None,
    ) -> None:
        rows, columns = self.shape = matrix.shape
        self.order = np.argsort(key, kind="stable")
        self.column = np.argsort(np.arange(columns) if column_key is None else column_key, kind="stable")
        self._scale = column_scale
        place_of = np.empty(columns, np.int32)
        place_of[self.column] = np.arange(columns)
        sorted_rows = matrix[self.order]
        csr = sp.csr_array(
            (sorted_rows.data.astype(np.float32), place_of[sorted_rows.indices], sorted_rows.indptr), self.shape
        )
        csr.sort_indices()
        # Entries of one block follow each other.
        row = np.repeat(np.arange(rows, dtype=np.int32), np.diff(csr.indptr))
        block = csr.indices // EIGHT
        new = np.ones(csr.nnz, bool)
        new[1:] = (row[1:] != row[:-1]) | (block[1:] != block[:-1])
        number, first = np.cumsum(new) - 1, np.flatnonzero(new)
        self._data = np.zeros((len(first), EIGHT), np.float32)
        self._data[number, csr.indices % EIGHT] = csr.data
        self._blocks = -(-columns // EIGHT)
        small = np.uint16 if self._blocks * EIGHT < 2**16 else np.uint32
        self._place = (block[first] * EIGHT).astype(small)
        self._row_start = np.searchsorted(row[first], np.arange(rows + 1))
        # And by column: which rows have a block there, and which of all blocks that is.
        by_column = np.argsort(block[first], kind="stable")
        self._row_of, self._block_of = row[first][by_column], by_column.astype(np.int32)
        # Where each column's part in each tile of rows begins; the last tile's end is the next column's beginning.
        tiles = max(1, -(-len(first) // TILE))
        edges = np.searchsorted(self._row_start, TILE * np.arange(tiles))
        self._tile_start = np.searchsorted(
            block[first][by_column].astype(np.int64) * rows + self._row_of,
            (np.arange(self._blocks + 1, dtype=np.int64)[:, None] * rows + edges).ravel(),
        )
        self._tiles = tiles

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        arrays = (self._data, self._place, self._row_start, self._tile_start, self._row_of, self._block_of)
        return sum(a.nbytes for a in arrays)

    def times(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """D @ x."""
        padded, sums, out = np.zeros(self._blocks * EIGHT), np.empty(self.shape[0]), np.empty(self.shape[0])
        padded[: self.shape[1]] = x[self.column] * self._scale
        _times(self._row_start, self._place, self._data, padded, sums)
        out[self.order] = sums
        return out

    def transposed_times(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Dᵀ @ y, for y (rows,) or (rows, k)."""
        if y.ndim == 2:
            return np.stack([self.transposed_times(column) for column in y.T], axis=1)
        padded, out = np.zeros(self._blocks * EIGHT), np.empty(self.shape[1])
        _transposed_times(self._row_start, self._place, self._data, y[self.order] * self._scale, padded)
        out[self.column] = padded[: self.shape[1]]
        return out

    def gram(self, weight: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Write the lower triangle of Dᵀ diag(weight) D into a larger or equal matrix's first columns."""
        ordered = weight[self.order] * self._scale**2

        def work(hand: int) -> None:
            _gram(
                self._row_start, self._place, self._data, self._tile_start, self._tiles, self._row_of, self._block_of,
                ordered, np.zeros((EIGHT, self._blocks * EIGHT)), self.column, hand, HANDS, out,
            )  # fmt: skip

        with ThreadPoolExecutor(HANDS) as pool:
            list(pool.map(work, range(HANDS)))


class KeptGram:
    """The Gram matrix of weights that change little from one call to the next: rows of the same weight cost nothing."""

    def __init__(self, matrix: RowMatrix) -> None:
        self._matrix = matrix
        self._weight, self._gram = np.zeros(matrix.shape[0]), np.zeros((0, 0))

    def of(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """The lower triangle of Dᵀ diag(weight) D, not to be written to."""
        n = self._matrix.shape[1]
        change = weight - self._weight
        if not self._gram.size or 2 * np.count_nonzero(change) > np.count_nonzero(weight):
            self._gram = np.zeros((n, n))
            self._matrix.gram(weight, self._gram)
        elif change.any():
            more = np.zeros((n, n))
            self._matrix.gram(change, more)
            self._gram += more
        self._weight = weight.copy()
        return self._gram


@kernel
def _times(row_start: Any, place: Any, data: Any, x: Any, out: Any) -> None:
    for row in range(row_start.shape[0] - 1):
        out[row] = dot_blocks(x, place, data, row_start[row], row_start[row + 1])


@kernel
def _transposed_times(row_start: Any, place: Any, data: Any, y: Any, out: Any) -> None:
    for row in range(row_start.shape[0] - 1):
        if y[row] != 0.0:
            add_blocks(out, place, data, row_start[row], row_start[row + 1], y[row])


@kernel
def _gram(
    row_start: Any, place: Any, data: Any, tile_start: Any, tiles: int, row_of: Any, block_of: Any, weight: Any,
    total: Any, column: Any, hand: int, stride: int, out: Any,
) -> None:  # fmt: skip
    """Every ``stride``-th block's sums: over its rows, the products with the blocks up to it."""
    blocks = tile_start.shape[0] // tiles - 1
    for tile in range(tiles):
        for mine in range(hand, blocks, stride):
            first, last = EIGHT * mine, min(EIGHT * (mine + 1), column.shape[0])
            for i in range(first, last):
                for j in range(EIGHT * (mine + 1)):
                    total[i - first, j] = 0.0
                    if tile > 0 and j <= i:
                        total[i - first, j] = out[max(column[i], column[j]), min(column[i], column[j])]
            for q in range(tile_start[mine * tiles + tile], tile_start[mine * tiles + tile + 1]):
                row, block = row_of[q], block_of[q]
                if weight[row] != 0.0:
                    for k in range(EIGHT):
                        entry = data[block, k]
                        if entry != 0.0:
                            add_blocks(total[k], place, data, row_start[row], block + 1, weight[row] * entry)
            for i in range(first, last):
                for j in range(i + 1):
                    out[max(column[i], column[j]), min(column[i], column[j])] = total[i - first, j]


def morton(index_zyx: NDArray[np.floating]) -> NDArray[np.int64]:
    """Position along the Morton curve of indices (n, 3), each below 1024."""
    key = np.zeros(len(index_zyx), np.int64)
    whole = np.clip(np.round(index_zyx), 0, 1023).astype(np.int64)
    for bit in range(10):
        for axis in range(3):
            key |= ((whole[:, axis] >> bit) & 1) << (3 * bit + axis)
    return key
