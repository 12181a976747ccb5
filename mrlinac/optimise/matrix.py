"""Products with a tall sparse matrix, and its weighted Gram matrix.

A row of the influence sees a few beamlets of each beam, about one in twenty in all. What dense blocks of neighbouring
rows save by BLAS they waste many times over on zeros, so the Gram matrix is summed here entry by entry, column after
column: the column's sums stay in the processor's first cache. Rows that lie close together in space see the same
beamlets; they are kept next to each other so that one column's rows are not strewn over the memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from mrlinac.jit import kernel

HANDS = 2
"""Columns are dealt out to so many threads; each sum is one thread's, so the result does not depend on it."""


class RowMatrix:
    """A sparse matrix D (rows, columns), float64.

    Parameters
    ----------
    matrix : csr
    key : int array (rows,)
        Rows are kept in the order of this key, for instance a position along a space-filling curve.
    column_scale : float
        Multiplies the whole matrix.
    """

    def __init__(self, matrix: sp.csr_array, key: NDArray[np.int64], column_scale: float = 1.0) -> None:
        self.shape = matrix.shape
        self.order = np.argsort(key, kind="stable")
        self.csr = sp.csr_array(matrix[self.order], dtype=np.float64)
        self.csr.data *= column_scale
        self.csr.sort_indices()
        entries = self.csr.nnz
        # What the Gram matrix reads: the influence's own single precision loses nothing and is half as long.
        self._scale = column_scale
        self._values = (self.csr.data / column_scale).astype(np.float32)
        self._columns = self.csr.indices.astype(np.uint16 if self.shape[1] < 2**16 else np.int32)
        # The transpose, with each entry's place in the rows instead of its value.
        places = sp.csr_array((np.arange(entries), self.csr.indices, self.csr.indptr), shape=self.shape).tocsc()
        self._row_of, self._place = places.indices.astype(np.int32), places.data.astype(np.int32)
        self._column_start = places.indptr.astype(np.int64)

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        arrays = (self.csr.data, self.csr.indices, self.csr.indptr, self._values, self._columns)
        return sum(a.nbytes for a in (*arrays, self._row_of, self._place))

    def times(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """D @ x."""
        out = np.empty(self.shape[0])
        out[self.order] = self.csr @ x
        return out

    def transposed_times(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Dᵀ @ y, for y (rows,) or (rows, k)."""
        return np.asarray(self.csr.T @ y[self.order])

    def gram(self, weight: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Write the lower triangle of Dᵀ diag(weight) D, weight >= 0, into a larger or equal matrix's first columns."""
        ordered = weight[self.order] * self._scale**2
        indptr = self.csr.indptr.astype(np.int64, copy=False)

        def work(hand: int) -> None:
            _gram(
                indptr, self._columns, self._values, self._column_start, self._row_of, self._place,
                ordered, np.zeros(self.shape[1]), hand, HANDS, out,
            )  # fmt: skip

        with ThreadPoolExecutor(HANDS) as pool:
            list(pool.map(work, range(HANDS)))


@kernel
def _gram(
    row_start: Any, indices: Any, data: Any, column_start: Any, row_of: Any, place: Any, weight: Any, total: Any,
    first: int, stride: int, out: Any,
) -> None:  # fmt: skip
    """Every ``stride``-th column's sums: over its rows, the products with what stands left of it in the row."""
    for i in range(first, column_start.shape[0] - 1, stride):
        for j in range(i + 1):
            total[j] = 0.0
        for q in range(column_start[i], column_start[i + 1]):
            row, last = row_of[q], place[q]
            if weight[row] > 0.0:
                scaled = weight[row] * data[last]
                for a in range(row_start[row], last + 1):
                    total[indices[a]] += scaled * data[a]
        for j in range(i + 1):
            out[i, j] = total[j]


def morton(index_zyx: NDArray[np.floating]) -> NDArray[np.int64]:
    """Position along the Morton curve of indices (n, 3), each below 1024."""
    key = np.zeros(len(index_zyx), np.int64)
    whole = np.clip(np.round(index_zyx), 0, 1023).astype(np.int64)
    for bit in range(10):
        for axis in range(3):
            key |= ((whole[:, axis] >> bit) & 1) << (3 * bit + axis)
    return key
