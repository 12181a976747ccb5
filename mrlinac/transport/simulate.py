"""One Monte Carlo run: primaries of any sources, followed batch by batch, to the energy in each voxel."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.medium import Medium
from mrlinac.dose.dose import mean_rel_sigma
from mrlinac.errors import PhysicsError
from mrlinac.jit import cuda_device
from mrlinac.transport import cpu, stack, tables, voxels
from mrlinac.transport.source import Emission
from mrlinac.transport.stack import Tally
from mrlinac.transport.tables import Settings

Array = NDArray[np.float64]
Progress = Callable[[float, float, str], None]
Device = Literal["cpu", "gpu"]

DOSE, INFLUENCE, SPREAD, ROULETTE, FREE = range(1, 6)  # purposes of random streams
NEGLIGIBLE_g_cm3 = 1e-6  # voxels below it hold no matter to give a dose to
MIN_BATCHES = 12
PARTS = MIN_BATCHES
"""Into so many parts the batches of a run are gathered: they tell the noise of a metric (:mod:`mrlinac.dose.noise`)."""


@dataclass(frozen=True)
class Outcome:
    """Energy per voxel from :func:`simulate`, per primary.

    Attributes
    ----------
    energy_MeV, sigma_MeV : float64 arrays [z, y, x]
        Mean deposit per primary (of weight 1) and its standard deviation, from batches.
    emitted_MeV, escaped_MeV, played_MeV : float
        Per primary: energy that entered the grid, that left it, and that Russian roulette took (0 on average).
    primaries : int
    steps, flights, truncated, overflow : int
        Electron steps, photon flights, electrons ended by the step limit, particles lost by a full stack.
    part_MeV : float32 array [part, z, y, x]
        As ``energy_MeV``, from :data:`PARTS` independent parts of the run (fewer where there were fewer batches).
    part_primaries : tuple of int
        Of each part.
    batch_MeV : float64 array [batch, …] or None
        What ``reduce`` made of each batch's deposit per primary.
    device : str
        What it ran on.
    """

    energy_MeV: Array
    sigma_MeV: Array
    emitted_MeV: float
    escaped_MeV: float
    played_MeV: float
    primaries: int
    steps: int
    flights: int
    truncated: int
    overflow: int
    part_MeV: NDArray[np.float32]
    part_primaries: tuple[int, ...]
    batch_MeV: Array | None = None
    device: str = "cpu"


def check_device(device: str) -> None:
    """Find out early whether a device is there.

    Parameters
    ----------
    device : {"cpu", "gpu"}

    Raises
    ------
    PhysicsError
        For another word than ``"cpu"`` or ``"gpu"``.
    MissingExtraError
        For ``"gpu"`` where numba-cuda is not installed.
    DeviceError
        For ``"gpu"`` where there is no CUDA device.
    """
    if device not in ("cpu", "gpu"):
        raise PhysicsError(f"device = {device!r}: transport runs on 'cpu' or 'gpu'")
    if device == "gpu":
        cuda_device()


def simulate(
    medium: Medium,
    rows: Array,
    share: Array,
    emission: Emission,
    *,
    field_xyz_T: Sequence[float],
    photons: int,
    seed: int = 1,
    threads: int | None = None,
    batches: int = 20,
    settings: Settings = Settings(),
    target_rel_sigma: float | None = None,
    reduce: Callable[[Array], Array] | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    device: Device = "cpu",
) -> Outcome:
    """Transport primaries of any sources and give the energy per voxel and primary.

    Parameters
    ----------
    rows : array (n, source.COLUMNS)
        Sources, in coordinates from the grid's lower corner (:func:`mrlinac.transport.source.source_rows`).
    share : array (n,)
        Share of the primaries that each source gets; normalised here.
    photons : int
        Primaries; split evenly over ``batches``.
    target_rel_sigma : float, optional
        Stop at the end of the first batch (from the twelfth on) at which the mean relative standard deviation of the
        voxels above half of the maximum dose is at most this.
    reduce : callable, optional
        Applied to each batch's deposit per primary [z, y, x]; collected in ``batch_MeV``.
    cancelled : callable, optional
        Asked at batch ends; True raises KeyboardInterrupt.
    device : str
        ``"cpu"``, or ``"gpu"``: a CUDA device, which needs the extra ``gpu``. Nothing falls back by itself.

    Notes
    -----
    The result is the same bit for bit for any number of threads: a batch is followed by one thread, in an order of
    its own, and batches are added in their order. A GPU follows the same histories, but adds in any order and rounds
    a little differently.
    """
    check_device(device)
    if photons < batches or batches < 2:
        raise PhysicsError(f"{photons} photons in {batches} batches: at least two batches of one photon are needed")
    share = np.asarray(share, float)
    if not share.sum() > 0:
        raise PhysicsError("the fluence is zero everywhere: there is nothing to transport")
    used = np.flatnonzero(share > 0)
    rows = np.ascontiguousarray(rows[used])
    edges = np.concatenate([[0], np.cumsum(share[used] / share.sum())])
    edges[-1] = 1.0
    table = tables.load(medium.materials, settings)
    geometry, code = cpu.pack(medium, table, field_xyz_T)
    shared = cpu.beamline(emission)
    per_batch = photons // batches
    shape = medium.grid.shape_zyx
    mass = mass_g(medium)
    total, square = (np.zeros(medium.grid.size) for _ in range(2))
    parts = np.zeros((min(PARTS, batches), medium.grid.size), np.float32)
    kept: list[Array] = []
    counts, energies = np.zeros(8, np.int64), np.zeros(3)

    def sources(batch: int) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        # Systematic sampling: each source gets the floor or ceiling of its share, right on average.
        offset = np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), batch])).random()
        number = np.diff(np.floor(edges * per_batch + offset)).astype(np.int64)
        words = np.stack([np.full(len(used), batch), used, np.zeros(len(used), np.int64)], 1)
        return number, cpu.stream_names(seed, DOSE, words)

    def add(batch: int, deposits: NDArray[np.floating], counter: NDArray[np.int64], energy: Array) -> None:
        mean = voxels.from_bricks(deposits, shape).reshape(-1).astype(float) / per_batch
        np.add(total, mean, out=total)
        np.add(square, mean * mean, out=square)
        parts[batch % len(parts)] += mean
        if reduce is not None:
            kept.append(reduce(mean.reshape(shape)))
        counts[:] += counter
        energies[:] += energy

    def on_cpu() -> Generator[int]:
        workers = min(cpu.threads_or_default(threads), batches)

        def task(batch: int, tally: Tally) -> None:
            cpu.follow(rows, *sources(batch), shared, table, geometry, tally, pool.stop)

        def use(batch: int, tally: Tally, _: object) -> None:
            add(batch, cpu.deposits(tally), tally.counter, tally.energy)
            cpu.deposits(tally)[:] = 0
            tally.counter[:] = 0
            tally.energy[:] = 0

        with cpu.Pool(workers, [cpu.new_tally(code, False) for _ in range(workers + 1)]) as pool:
            yield from pool.ordered(task, batches, use)

    def on_gpu() -> Generator[int]:
        from mrlinac.transport import gpu  # needs numba-cuda: imported where it is asked for

        worker = gpu.Worker(rows, shared, table, geometry, code)
        for batch in range(batches):
            add(batch, *worker.batch(*sources(batch)))
            yield batch

    done = 0
    with closing(on_gpu() if device == "gpu" else on_cpu()) as following:
        for batch in following:
            done = batch + 1
            if progress is not None:
                progress(done * per_batch, photons, "transport")
            if cancelled is not None and cancelled():
                raise KeyboardInterrupt
            if target_rel_sigma is not None and done >= MIN_BATCHES:
                mean, sigma = _mean_sigma(total, square, done)
                if mean_rel_sigma(*_dose_and_rel_sigma(mean, sigma, mass)) <= target_rel_sigma:
                    break
    mean, sigma = _mean_sigma(total, square, done)
    primaries = done * per_batch
    number = [len(range(first, done, len(parts))) for first in range(min(len(parts), done))]
    parts = parts[: len(number)] / np.array(number, np.float32)[:, None]
    return Outcome(
        mean.reshape(shape),
        sigma.reshape(shape),
        float(energies[stack.EMITTED]) / primaries,
        float(energies[stack.ESCAPED]) / primaries,
        float(energies[stack.PLAYED]) / primaries,
        primaries,
        int(counts[stack.N_STEPS]),
        int(counts[stack.N_FLIGHTS]),
        int(counts[stack.N_TRUNCATED]),
        int(counts[stack.N_OVERFLOW]),
        parts.reshape(-1, *shape),
        tuple(n * per_batch for n in number),
        np.array(kept) if reduce is not None else None,
        f"gpu: {cuda_device()}" if device == "gpu" else "cpu",
    )


def _mean_sigma(total: Array, square: Array, batches: int) -> tuple[Array, Array]:
    """Mean over batches and the standard deviation of that mean."""
    mean = total / batches
    variance = np.maximum(square / batches - mean * mean, 0) / (batches - 1)
    return mean, np.sqrt(variance)


def _dose_and_rel_sigma(mean: Array, sigma: Array, mass: Array) -> tuple[Array, Array]:
    """Dose in arbitrary units, and its relative standard deviation."""
    dose = np.divide(mean, mass, out=np.zeros_like(mean), where=mass > 0)
    return dose, np.divide(sigma, mean, out=np.ones_like(mean), where=mean > 0)


def mass_g(medium: Medium) -> Array:
    """Mass of each voxel, flat; 0 where the density is negligible."""
    density = medium.density_g_cm3.astype(float).reshape(-1)
    return np.where(density >= NEGLIGIBLE_g_cm3, density, 0.0) * medium.grid.voxel_cc
