"""What a thread writes to: deposits by voxel, counters, energies, and the stack of particles still to follow.

Energies are in MeV. A particle on the stack is a row (x, y, z, u, v, w, energy, kind, weight, mean free paths to its
first collision or 0 where they are still to be drawn). Nothing is allocated here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlinac.jit import device
from mrlinac.transport import tables
from mrlinac.transport.rng import uniform

PHOTON, ELECTRON, POSITRON = 0.0, 1.0, 2.0
STACK = 256
PARTICLE = 10  # numbers of a particle
PATHS = 9  # the last of them

# tally.counter
N_TOUCHED, N_TRUNCATED, N_OVERFLOW, N_STEPS, N_FLIGHTS, N_ENTERED = range(6)
# tally.energy
EMITTED, ESCAPED, PLAYED = range(3)


class Tally(NamedTuple):
    """Where a thread writes."""

    cell: NDArray[np.uint32]  # voxel after voxel: its code, then the bits of its deposit in MeV as float32
    touched: NDArray[np.int32]  # voxels with a deposit, or empty where it is not wanted
    counter: NDArray[np.int64]
    energy: NDArray[np.float64]
    stack: NDArray[np.float64]
    rng: NDArray[np.uint64]


@device
def code_at(tally, index):
    """A voxel's code."""
    return tally.cell[2 * index]


@device
def deposit_at(tally, index):
    """A voxel's deposit in MeV."""
    return np.float64(np.uint32(tally.cell[2 * index + 1]).view(np.float32))


@device
def deposit(tally, index, energy):
    """Add energy to a voxel, and remember the voxel when asked to."""
    bits = tally.cell[2 * index + 1]
    total = np.float32(np.uint32(bits).view(np.float32) + np.float32(energy)).view(np.uint32)
    # Nothing (a step in vacuum) leaves the voxel as it was: remembered at every step, it would overflow the list.
    if bits == 0 and total != 0 and tally.touched.shape[0] > 0:
        tally.touched[tally.counter[N_TOUCHED]] = index
        tally.counter[N_TOUCHED] += 1
    tally.cell[2 * index + 1] = total


@device
def forget(tally, index):
    """Take a voxel's deposit away."""
    tally.cell[2 * index + 1] = 0


@device
def push(tally, top, x, y, z, u, v, w, energy, kind, weight):
    """Add a particle; the stack's size after it. A full stack (never seen) loses it and counts it."""
    if top >= STACK:
        tally.counter[N_OVERFLOW] += 1
        return top
    p = tally.stack[top]
    p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8] = x, y, z, u, v, w, energy, kind, weight
    p[PATHS] = 0.0
    return top + 1


@device
def roulette(weight, energy, table, tally):
    """Weight of a secondary photon after Russian roulette, 0 for one that is lost.

    A photon of low energy reaches far and leaves little anywhere: few are followed, with more weight. The energy that
    the game takes or gives is booked.
    """
    wanted = min(table.cuts[tables.ROULETTE_WEIGHT], table.cuts[tables.ROULETTE] / energy)
    if weight >= wanted:
        return weight
    after = wanted if uniform(tally.rng) * wanted < weight else 0.0
    tally.energy[PLAYED] += (weight - after) * energy
    return after


@device
def radiate(tally, top, x, y, z, u, v, w, energy, weight, table):
    """Add a photon that an electron or positron makes, if it survives the roulette."""
    weight = roulette(weight, energy, table, tally)
    if weight == 0.0:
        return top
    return push(tally, top, x, y, z, u, v, w, energy, PHOTON, weight)
