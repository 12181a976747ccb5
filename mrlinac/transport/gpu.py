"""The GPU's side: :mod:`mrlinac.transport.history` and what it calls, compiled for CUDA, and a driver for batches.

Only two things differ from the processor: a deposit is an atomic addition, because all threads share one tally, and a
thread's scratch is its own local memory. Streams have the same names, so a history is the same on both.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlinac import jit
from mrlinac.errors import DeviceError
from mrlinac.transport import history, rng
from mrlinac.transport.history import GROUP
from mrlinac.transport.stack import PARTICLE
from mrlinac.transport.tables import Tables
from mrlinac.transport.voxels import Geometry

Array = NDArray[np.float64]
cuda = jit.load_cuda()

STACK = 32  # particles: 8 were never exceeded in 8 million histories of up to 10 MeV; a full stack is counted
COUNTERS, ENERGIES = 8, 3  # lengths of a thread's scratch arrays
THREADS = 128  # of a block
BLOCKS = 8  # per multiprocessor
REGISTERS = 168  # of a thread at most: 65 536 of a multiprocessor are then enough for three blocks
LAUNCH = 1 << 20  # histories of one kernel call: short enough for a display's time limit, and for Ctrl-C
SPILL_bytes = 1024  # of local memory per thread, beside the stack


class Tally(NamedTuple):
    """What a thread writes to, under the names that :mod:`mrlinac.transport.stack` uses."""

    cell: NDArray[np.uint32]  # by voxel: its code
    deposit: NDArray[np.float64]  # MeV by voxel: shared by all threads
    counter: NDArray[np.int64]  # the thread's own, from here on
    energy: NDArray[np.float64]
    stack: NDArray[np.float64]
    rng: NDArray[np.uint64]


def code_at(tally, index):
    """A voxel's code."""
    return tally.cell[index]


def deposit(tally, index, energy):
    """Add energy to a voxel that other threads may be adding to."""
    cuda.atomic.add(tally.deposit, index, energy)


BUILD = jit.CudaBuild(
    "mrlinac.transport",
    {
        "mrlinac.transport.stack.code_at": code_at,
        "mrlinac.transport.stack.deposit": deposit,
        "mrlinac.transport.stack.STACK": STACK,
    },
)
on_gpu = BUILD.twin(history)
start = BUILD.twin(rng).start


def follow(rows, number, first, names, beamline, table, geometry, code, deposits, counts, energies, begin, end):
    """Follow histories ``begin`` … ``end`` − 1 of a batch; source row i has ``number[i]`` primaries from ``first[i]`` on.

    The loop goes over particles, not over histories: the threads of a warp wait for each other at its end, and a
    long history would hold up 31 short ones.
    """
    tally = Tally(
        code,
        deposits,
        cuda.local.array(COUNTERS, np.int64),
        cuda.local.array(ENERGIES, np.float64),
        cuda.local.array((STACK, PARTICLE), np.float64),
        cuda.local.array(2, np.uint64),
    )
    for i in range(COUNTERS):
        tally.counter[i] = 0
    for i in range(ENERGIES):
        tally.energy[i] = 0.0
    following = begin + cuda.grid(1)
    top = 0
    while top > 0 or following < end:
        if top == 0:
            low, high = 0, rows.shape[0]
            while high - low > 1:
                middle = (low + high) // 2
                if first[middle] <= following:
                    low = middle
                else:
                    high = middle
            nth = following - first[low]
            start(tally.rng, nth, names[low])
            top = on_gpu.emit(rows[low], min(GROUP, number[low] - nth * GROUP), beamline, geometry, tally)
            following += cuda.gridsize(1)
        if top > 0:
            top = on_gpu.follow_last(top, table, geometry, tally)
    for i in range(COUNTERS):
        cuda.atomic.add(counts, i, tally.counter[i])
    for i in range(ENERGIES):
        cuda.atomic.add(energies, i, tally.energy[i])


KERNEL = cuda.jit(follow) if jit.cuda_is_simulated() else cuda.jit(max_registers=REGISTERS)(follow)


class Worker:
    """A device with everything a simulation needs in its memory.

    Raises
    ------
    DeviceError
        Where there is no device, or its memory is too small.
    """

    def __init__(
        self,
        rows: Array,
        shared: history.Beamline,
        table: Tables,
        geometry: Geometry,
        code: NDArray[np.uint32],
    ) -> None:
        self.device = jit.cuda_device()
        simulated = jit.cuda_is_simulated()
        if simulated:
            self._grid, resident = (1, 4), 4
        else:
            card = cuda.get_current_device()
            self._grid = (BLOCKS * card.MULTIPROCESSOR_COUNT, THREADS)
            resident = card.MULTIPROCESSOR_COUNT * card.MAX_THREADS_PER_MULTIPROCESSOR
        small = sum(array.nbytes for array in (rows, *shared, *table, *geometry))
        check_memory(
            bytes_needed(len(code), len(rows), resident) + small,
            cuda.current_context().get_memory_info().free,
            len(code),
        )

        def sent(arrays: Any) -> Any:
            return type(arrays)(*(cuda.to_device(np.array(array)) for array in arrays))

        self._rows = cuda.to_device(rows)
        self._shared, self._table, self._geometry = sent(shared), sent(table), sent(geometry)
        self._code = cuda.to_device(code)
        self._deposits = cuda.to_device(np.zeros(len(code)))

    def batch(self, number: NDArray[np.int64], names: NDArray[np.uint64]) -> tuple[Array, NDArray[np.int64], Array]:
        """Follow ``number[i]`` primaries of each source row: deposits in MeV by voxel, counters, energies."""
        edges = np.concatenate([[0], np.cumsum([history.groups(n) for n in number])])
        # A row without primaries shares its first number with the next; the search then finds the last of them.
        first, names = cuda.to_device(edges[:-1]), cuda.to_device(np.ascontiguousarray(names))
        primaries = cuda.to_device(np.ascontiguousarray(number))
        counts, energies = cuda.to_device(np.zeros(COUNTERS, np.int64)), cuda.to_device(np.zeros(ENERGIES))
        self._deposits.copy_to_device(np.zeros(self._deposits.shape))
        total = int(edges[-1])
        for begin in range(0, total, LAUNCH):
            KERNEL[self._grid](
                self._rows, primaries, first, names, self._shared, self._table, self._geometry, self._code, self._deposits,
                counts, energies, begin, min(begin + LAUNCH, total),
            )  # fmt: skip
            cuda.synchronize()
        return self._deposits.copy_to_host(), counts.copy_to_host(), energies.copy_to_host()


def bytes_needed(voxels: int, sources: int, resident_threads: int) -> int:
    """Memory of the device: codes and deposits, the sources' streams, and the scratch of all resident threads."""
    scratch = STACK * PARTICLE * 8 + SPILL_bytes
    return voxels * (4 + 8) + sources * 7 * 8 + resident_threads * scratch


def check_memory(needed: float, free: float, voxels: int) -> None:
    """Refuse what does not fit, before anything is allocated."""
    if needed > 0.9 * free:
        raise DeviceError(
            f"The GPU has {free / 1e9:.1f} GB free; {voxels} voxels and the scratch of its threads take "
            f"{needed / 1e9:.1f} GB. Take a coarser or smaller grid, or run on the processor: device 'cpu'."
        )
