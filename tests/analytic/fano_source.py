"""Electrons that start everywhere: isotropic, uniform per unit mass. Where Fano's theorem holds, dose is uniform.

Fano (Radiat. Res. 1:237, 1954): where every cross section per gram is the same, particles that start uniformly per
gram give a fluence that does not notice the density. In a magnetic field it still holds if the source is isotropic:
the field only turns directions of which all are equally likely (Bouchard, Bielajew, PMB 60:4963, 2015; de Pooter,
de Prez, Bouchard, PMB 60:6997, 2015). Here restricted losses, scattering and hard collisions are per gram by
construction, and bremsstrahlung is taken out of the tables, so that nothing but the stepping is tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.jit import kernel
from mrlinac.transport import cpu, history, rng, stack, tables, voxels
from mrlinac.transport.photon import azimuth
from mrlinac.transport.rng import uniform

Array = NDArray[np.float64]


@kernel
def emit_per_mass(number, highest_MeV, name, table, geometry, tally):
    """Follow ``number[voxel]`` electrons from random points of each voxel, in all directions."""
    shape, rng_ = geometry.shape, tally.rng
    history_ = 0
    for voxel in range(number.shape[0]):
        i, j, k = voxel % shape[0], voxel // shape[0] % shape[1], voxel // (shape[0] * shape[1])
        for _ in range(number[voxel]):
            rng.start(rng_, history_, name)
            history_ += 1
            x = (i + uniform(rng_)) / geometry.inverse_spacing[0]
            y = (j + uniform(rng_)) / geometry.inverse_spacing[1]
            z = (k + uniform(rng_)) / geometry.inverse_spacing[2]
            energy = highest_MeV * uniform(rng_)
            w = 2.0 * uniform(rng_) - 1.0
            sin = np.sqrt(1.0 - w * w)
            c, s = azimuth(rng_)
            top = stack.push(tally, 0, x, y, z, sin * c, sin * s, w, energy, stack.ELECTRON, 1.0)
            tally.energy[stack.EMITTED] += energy
            history.extinguish(top, table, geometry, tally)


def without_bremsstrahlung(table: tables.Tables) -> tables.Tables:
    """The tables with no hard photon from electrons: what they radiate below the photon cut stays where it is."""
    electron = table.electron.copy()
    electron[..., tables.HARD] *= 1 - electron[..., tables.BREMS_SHARE]
    electron[..., tables.BREMS_SHARE] = 0
    return table._replace(electron=electron)


@dataclass(frozen=True)
class Uniformity:
    """Dose over its theoretical value by class of voxels, with the standard deviation of the batches' mean."""

    ratio: Array
    sigma: Array
    truncated: int
    steps: float


def uniformity(
    density: Array,
    spacing_xyz_mm: tuple[float, float, float],
    group: NDArray[np.int64],
    *,
    highest_MeV: float,
    field_xyz_T: tuple[float, float, float],
    electrons: int,
    batches: int = 20,
    seed: int = 1,
    material: str = "water",
    settings: tables.Settings = tables.Settings(),
) -> Uniformity:
    """Ratio of dose to the emitted energy per mass, in groups of voxels (−1: not scored)."""
    shape = density.shape
    dx, dy, dz = spacing_xyz_mm
    grid = Grid(shape, (dz, dy, dx), (dx / 2, dy / 2, dz / 2))
    medium = Medium(grid, density.astype(np.float32), np.zeros(shape, np.uint8), (material,))
    table = without_bremsstrahlung(tables.load((material,), settings))
    geometry, code = cpu.pack(medium, table, field_xyz_T)
    _, exact = cpu.codes(medium)  # the density the kernel sees
    mass = exact.astype(float).ravel()
    tally = cpu.new_tally(code, False)
    label, count = group.ravel(), int(group.max()) + 1
    used = label >= 0
    group_mass = np.bincount(label[used], mass[used], count)
    share = np.concatenate([[0], np.cumsum(mass)]) / mass.sum()
    offset = np.random.default_rng(seed)
    per_batch = electrons // batches
    ratio = np.empty((batches, count))
    for batch in range(batches):
        tally.cell[1::2] = 0
        tally.energy[:] = 0
        # Systematic sampling of the mass: every voxel gets the floor or ceiling of its share.
        number = np.diff(np.floor(share * per_batch + offset.random())).astype(np.int64)
        emit_per_mass(number, highest_MeV, rng.words(seed, 11, batch, 0, 0), table, geometry, tally)
        energy = voxels.from_bricks(cpu.deposits(tally), shape).reshape(-1).astype(float)
        ratio[batch] = (
            np.bincount(label[used], energy[used], count) / group_mass * mass.sum() / tally.energy[stack.EMITTED]
        )
    return Uniformity(
        ratio.mean(0),
        ratio.std(0, ddof=1) / np.sqrt(batches),
        int(tally.counter[stack.N_TRUNCATED]),
        float(tally.counter[stack.N_STEPS]) / (per_batch * batches),
    )


LAYER_mm, GUARD_mm = 5.0, 7.0
"""Thickness of a layer; of the ends, more than the range of 2 MeV electrons in 1.85 g/cm³ (5.3 mm)."""


def layers(
    density: list[float], voxel_mm: float = 1.0
) -> tuple[Array, NDArray[np.int64], tuple[float, float, float]]:
    """Layers across z, endless sideways (one voxel of 100 m): density, group by layer, spacing."""
    per, ends = round(LAYER_mm / voxel_mm), int(np.ceil(GUARD_mm / voxel_mm))
    column = np.concatenate([np.full(ends, 1.85), np.repeat(density, per), np.full(ends, 1.85)])
    group = np.concatenate([np.full(ends, -1), np.repeat(np.arange(len(density)), per), np.full(ends, -1)])
    return column[:, None, None], group[:, None, None].astype(np.int64), (1e5, 1e5, voxel_mm)


def checkered(density: list[float], side: int = 10, voxel_mm: float = 2.0) -> tuple[Array, NDArray[np.int64]]:
    """A block whose neighbouring voxels take turns among densities, in a shell of 1.85 g/cm³; groups by density."""
    shell = int(np.ceil(GUARD_mm / voxel_mm))
    at = np.indices((side,) * 3)
    which = (at[0] + 2 * at[1] + 3 * at[2]) % len(density)
    whole = np.pad(np.asarray(density)[which], shell, constant_values=1.85)
    return whole, np.pad(which, shell, constant_values=-1)
