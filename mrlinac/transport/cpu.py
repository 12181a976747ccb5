"""The processor's side: the medium packed for kernels, threads with scratch of their own, batches in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrlinac.anatomy.medium import Medium
from mrlinac.constants import MOMENTUM_MeV_PER_T_mm
from mrlinac.errors import PhysicsError
from mrlinac.transport import history, rng, voxels
from mrlinac.transport.source import Emission
from mrlinac.transport.stack import PARTICLE, STACK, Tally
from mrlinac.transport.tables import TOTAL, Tables
from mrlinac.transport.voxels import Geometry

Array = NDArray[np.float64]
Progress = Callable[[float, float, str], None]

ALIKE = 1.5  # densities of an even neighbourhood lie within this factor

FINE_STEP = 10.0
"""A step of density by this factor has fine voxels beside it: skin, airways, gas; not lung beside soft tissue."""

FINE_mm = 2.0
"""Distance from such a step within which voxels are fine: the range in water of some 0.5 MeV; one voxel at least."""

GAS_g_cm3 = 0.1
"""Voxels thinner than this are always fine: an electron of 100 keV that leaves the skin must not end in the air for it."""

CACHE_LINE_bytes = 64
CHUNK = 20_000  # primaries between two looks at the stop flag


def pack(medium: Medium, table: Tables, field_xyz_T: Sequence[float]) -> tuple[Geometry, NDArray[np.uint32]]:
    """The medium as kernels read it: what all share, and a code by place (see :func:`codes`, :mod:`voxels`).

    Raises
    ------
    PhysicsError
        For more materials than fit, or a field that is not three finite numbers.
    """
    if len(medium.materials) > voxels.MATERIAL_BITS + 1:
        raise PhysicsError(f"{len(medium.materials)} materials: at most {voxels.MATERIAL_BITS + 1} fit a medium")
    field = np.asarray(field_xyz_T, float)
    if field.shape != (3,) or not np.all(np.isfinite(field)):
        raise PhysicsError(f"field_xyz_T must be three finite numbers, not {field_xyz_T!r}")
    spacing = np.array(medium.grid.spacing_zyx_mm[::-1])
    shape = np.array(medium.grid.shape_zyx[::-1], np.int64)
    size = float(np.linalg.norm(field))
    code, density = codes(medium)
    box, dense = dense_box(density)
    edges = box * spacing
    edges[1] += 1e-6 * dense.any()  # a point on its face may count as inside
    inverse_majorant = np.stack(
        [
            _inverse_majorant(np.where(dense, 0, density), medium.material, table),
            _inverse_majorant(density, medium.material, table),
        ]
    )
    return Geometry(
        shape=shape,
        size=shape * spacing,
        spacing=spacing,
        inverse_spacing=1 / spacing,
        bricks=(shape + 1) // 2,
        inverse_majorant=inverse_majorant,
        sieve=voxels.to_bricks(_sieve(density, medium.material, dense, table, inverse_majorant)),
        dense_box=edges.reshape(-1),
        field=np.array([*(field / size if size > 0 else (0.0, 0.0, 1.0)), MOMENTUM_MeV_PER_T_mm * size]),
        shortest_mm=np.array([spacing.min()]),
    ), voxels.to_bricks(code)


def codes(medium: Medium) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """One number per voxel, and the density it stands for, both [z, y, x].

    Bits 0 … 5 are the material; bit 6 says that the voxel is fine (:func:`fine_voxels`); bit 7 that the 3 × 3 × 3
    neighbourhood is nowhere denser or thinner than by ALIKE; the others are the upper bits of the float32 density,
    rounded to 8e-6.
    """
    exact = np.ascontiguousarray(medium.density_g_cm3, np.float32)
    low = np.uint32(voxels.DENSITY_SHIFT)
    bits = (exact.view(np.uint32) + (np.uint32(1) << (low - np.uint32(1)))) >> low
    density = (bits << low).view(np.float32)
    most = ndimage.maximum_filter(density, size=3, mode="nearest")
    least = ndimage.minimum_filter(density, size=3, mode="nearest")
    even = (most <= np.float32(ALIKE) * density) & (density <= np.float32(ALIKE) * least)
    fine = fine_voxels(density, medium.grid.spacing_zyx_mm)
    flags = even.astype(np.uint32) * voxels.EVEN_BIT | fine.astype(np.uint32) * voxels.FINE_BIT
    code = (bits << np.uint32(voxels.CODE_SHIFT)) | flags | medium.material
    return code.astype(np.uint32), density


def fine_voxels(density: NDArray[np.float32], spacing_zyx_mm: Sequence[float]) -> NDArray[np.bool_]:
    """Voxels [z, y, x] within FINE_mm of a face across which the density changes by FINE_STEP, and all gas.

    At least the voxels at the face itself. It depends on the medium alone, so that a beamlet is followed in the same way
    whichever others are.
    """
    reach = [max(1, round(FINE_mm / spacing)) for spacing in spacing_zyx_mm]
    size = tuple(2 * n + 1 for n in reach)
    most = ndimage.maximum_filter(density, size=size, mode="nearest")
    least = ndimage.minimum_filter(density, size=size, mode="nearest")
    step = np.float32(FINE_STEP)
    return (density < GAS_g_cm3) | (most > step * density) | (density > step * least)


def dense_box(density: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The box of voxels [lower and upper edge; x, y, z] worth a majorant of its own, and a mask of it [z, y, x].

    One dense thing (spinal rods, a hip) would shorten every flight in the grid. Of the boxes around all voxels above
    a density, that with the smallest expected number of flights is taken, or none where it saves less than a
    tenth.
    """
    none = np.zeros((2, 3), np.int64), np.zeros(density.shape, bool)
    flat = density.reshape(-1)
    top = float(flat.max(initial=0.0))
    best, cheapest = none, 0.9 * flat.size * top
    for limit in np.linspace(0.25, 0.95, 15) * top if top > 0 else ():
        above = density > limit
        edges = []
        for axis in (2, 1, 0):
            there = np.flatnonzero(above.any(tuple(a for a in range(3) if a != axis)))
            edges.append((int(there[0]), int(there[-1]) + 1))
        (i0, i1), (j0, j1), (k0, k1) = edges
        inside = (i1 - i0) * (j1 - j0) * (k1 - k0)
        mask = np.zeros(density.shape, bool)
        mask[k0:k1, j0:j1, i0:i1] = True
        cost = inside * top + (flat.size - inside) * float(density[~mask].max(initial=0.0))
        if cost < cheapest:
            best, cheapest = (np.array([[i0, j0, k0], [i1, j1, k1]], np.int64), mask), cost
    return best


def _inverse_majorant(
    density: NDArray[np.float32], material: NDArray[np.uint8], table: Tables
) -> NDArray[np.float32]:
    """Woodcock's mean free path by row, in mm: never longer than any voxel's, between the rows too."""
    count = len(table.photon)
    densest = np.zeros(count)
    np.maximum.at(densest, material.reshape(-1), density.reshape(-1))
    majorant = (np.asarray(table.photon)[:, :, TOTAL].astype(float) * densest[:, None]).max(0)
    inverse = 1 / np.maximum(majorant, 1e-12)
    # Between two rows 1/µ is interpolated, and a straight line lies above the hyperbola 1/µ by less than
    # (Δµ/µ)²/4, µ the smaller of the two (a K edge rises); the factor pays for that and for rounding.
    step = np.abs(np.diff(majorant)) / np.maximum(np.minimum(majorant[1:], majorant[:-1]), 1e-12)
    excess = np.concatenate([step, step[-1:]]) ** 2 / 4
    excess[1:] = np.maximum(excess[1:], excess[:-1])
    return (inverse / (1 + excess + 1e-5)).astype(np.float32)


def _sieve(
    density: NDArray[np.float32],
    material: NDArray[np.uint8],
    dense: NDArray[np.bool_],
    table: Tables,
    inverse_majorant: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """An upper bound, in 255ths, of the chance that a collision in a voxel is real, over all energies."""
    attenuation = np.asarray(table.photon)[:, :, TOTAL].astype(float)
    # Between two rows both factors are straight lines: their product is nowhere above the largest at either end of each.
    mu, free = (np.maximum(v[..., 1:], v[..., :-1]) for v in (attenuation, inverse_majorant.astype(float)))
    per_density = (mu[None] * free[:, None]).max(-1)  # [place, material]
    chance = per_density[dense.astype(np.intp), material] * density
    return np.ceil(255 * np.minimum(chance * (1 + 1e-6), 1)).astype(np.uint8)


def new_tally(code: NDArray[np.uint32], touched: bool) -> Tally:
    """A thread's scratch: the voxels' codes beside their deposits, each brick on one cache line."""
    cell = _on_cache_lines(2 * len(code))
    cell[::2] = code
    return Tally(
        cell=cell,
        touched=np.zeros(len(code) if touched else 0, np.int32),
        counter=np.zeros(8, np.int64),
        energy=np.zeros(3),
        stack=np.zeros((STACK, PARTICLE)),
        rng=np.zeros(2, np.uint64),
    )


def _on_cache_lines(count: int) -> NDArray[np.uint32]:
    """Zeros that begin where a line of the cache does."""
    raw = np.zeros(count + CACHE_LINE_bytes // 4, np.uint32)
    begin = -raw.ctypes.data % CACHE_LINE_bytes // 4
    return raw[begin : begin + count]


def deposits(tally: Tally) -> NDArray[np.float32]:
    """The deposits in MeV by place, as a view into a tally."""
    return tally.cell.view(np.float32)[1::2]


def beamline(emission: Emission) -> history.Beamline:
    """The shared source arrays for the kernels."""
    return history.Beamline(emission.edge_MeV, emission.accept, emission.other, emission.fluence)


def threads_or_default(threads: int | None) -> int:
    """The number of threads asked for, or one per processor this process may use."""
    if threads is not None:
        if threads < 1:
            raise PhysicsError(f"threads must be at least 1, not {threads}")
        return threads
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


class Pool:
    """Tasks on threads, each with a tally of its own; results in the order of submission.

    Leaving the ``with`` block early (an error, Ctrl-C) tells running tasks to stop at their next chunk.
    """

    def __init__(self, threads: int, tallies: Sequence[Tally]) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="transport")
        self._free: SimpleQueue[Tally] = SimpleQueue()
        for tally in tallies:
            self._free.put(tally)
        self._window = len(tallies)
        self.stop = threading.Event()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *unused: object) -> None:
        self.stop.set()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def ordered(
        self,
        task: Callable[[int, Tally], object],
        count: int,
        use: Callable[[int, Tally, object], None],
    ) -> Iterator[int]:
        """Run ``task(i, tally)`` for i < count; in order of i call ``use(i, tally, result)`` here and yield i."""
        waiting: deque[tuple[int, Tally, Future[object]]] = deque()
        following = 0
        while following < count or waiting:
            while following < count and len(waiting) < self._window:
                tally = self._free.get()
                waiting.append((following, tally, self._executor.submit(task, following, tally)))
                following += 1
            index, tally, future = waiting.popleft()
            result = future.result()
            use(index, tally, result)
            self._free.put(tally)
            yield index


def follow(
    rows: Array,
    counts: NDArray[np.int64],
    names: NDArray[np.uint64],
    shared: history.Beamline,
    table: Tables,
    geometry: Geometry,
    tally: Tally,
    stop: threading.Event,
) -> None:
    """Follow the primaries of source rows, in chunks of whole rows, until done or told to stop."""
    edges = np.searchsorted(np.cumsum(counts), np.arange(CHUNK, counts.sum() + CHUNK, CHUNK), side="left") + 1
    begin = 0
    for end in [*np.unique(np.minimum(edges, len(rows))), len(rows)]:
        if stop.is_set():
            return
        if end > begin:
            history.run(rows[begin:end], counts[begin:end], names[begin:end], shared, table, geometry, tally)
        begin = end


def stream_names(seed: int, purpose: int, words: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Names of streams (n, 5) from rows of three integers."""
    key = rng.words(seed, purpose, 0, 0, 0)[:2]
    names = np.empty((len(words), 5), np.uint64)
    names[:, :2] = key
    names[:, 2:] = words.astype(np.int64) & 0xFFFFFFFF
    return names
