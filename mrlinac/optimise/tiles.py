"""Products with a tall sparse matrix by dense tiles of neighbouring rows.

Rows that lie close together in space see the same beamlets, so a tile keeps only the columns that it touches as one
dense block; the Gram matrix is then a sum of BLAS-3 products. A tile that touches most columns keeps them all: adding
a part to the whole by index costs more than the product saves.

The tiles are dealt out to a fixed number of hands, each with a sum of its own; the sums are added in order. So the
result does not depend on how many of the hands work at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

TILE_ROWS = 768
KEEP_ALL_ABOVE = 0.5
"""Share of the columns above which a tile keeps all of them."""
HANDS = 2


@dataclass(frozen=True)
class _Tile:
    rows: NDArray[np.int64]
    columns: NDArray[np.int64] | slice
    block: NDArray[np.float64]


class Tiled:
    """A matrix D (rows, columns), float64, held as dense tiles.

    Parameters
    ----------
    matrix : csr
    key : int array (rows,)
        Rows are grouped in the order of this key, for instance a position along a space-filling curve.
    column_scale : float
        Multiplies the whole matrix.
    """

    def __init__(self, matrix: sp.csr_array, key: NDArray[np.int64], column_scale: float = 1.0) -> None:
        self.shape = matrix.shape
        order = np.argsort(key, kind="stable")
        self.tiles = []
        for first in range(0, len(order), TILE_ROWS):
            rows = order[first : first + TILE_ROWS]
            part = matrix[rows]
            touched = np.unique(part.indices)
            columns = slice(None) if len(touched) > KEEP_ALL_ABOVE * matrix.shape[1] else touched
            block = np.asarray(part[:, columns].toarray(), dtype=np.float64) * column_scale
            self.tiles.append(_Tile(rows, columns, block))

    @property
    def bytes(self) -> int:
        """Memory of the blocks."""
        return sum(t.block.nbytes for t in self.tiles)

    def times(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """D @ x."""
        out = np.zeros(self.shape[0])
        for t in self.tiles:
            out[t.rows] = t.block @ x[t.columns]
        return out

    def transposed_times(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Dᵀ @ y, for y (rows,) or (rows, k)."""
        out = np.zeros((self.shape[1], *y.shape[1:]))
        for t in self.tiles:
            mine = y[t.rows]
            if mine.any():
                out[t.columns] += t.block.T @ mine
        return out

    def gram(self, weight: NDArray[np.float64], *, single: bool = False) -> NDArray[np.float64]:
        """Dᵀ diag(weight) D, weight >= 0; with ``single`` each tile's product is of single precision."""
        with ThreadPoolExecutor(HANDS) as pool:
            parts = list(pool.map(lambda hand: self._gram_of(self.tiles[hand::HANDS], weight, single), range(HANDS)))
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total

    def _gram_of(self, tiles: Sequence[_Tile], weight: NDArray[np.float64], single: bool) -> NDArray[np.float64]:
        out = np.zeros((self.shape[1], self.shape[1]))
        for t in tiles:
            root = np.sqrt(weight[t.rows])
            if not root.any():
                continue
            if single:
                scaled: NDArray[Any] = t.block.astype(np.float32) * root[:, None].astype(np.float32)
            else:
                scaled = t.block * root[:, None]
            part = scaled.T @ scaled  # numpy sees one array twice and calls syrk
            if isinstance(t.columns, slice):
                out += part
            else:
                out[np.ix_(t.columns, t.columns)] += part
        return out


def morton(index_zyx: NDArray[np.floating]) -> NDArray[np.int64]:
    """Position along the Morton curve of indices (n, 3), each below 1024."""
    key = np.zeros(len(index_zyx), np.int64)
    whole = np.clip(np.round(index_zyx), 0, 1023).astype(np.int64)
    for bit in range(10):
        for axis in range(3):
            key |= ((whole[:, axis] >> bit) & 1) << (3 * bit + axis)
    return key
