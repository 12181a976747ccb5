"""A history: a group of primaries on one line to extinction.

The primaries of a group share the line and the energy, which saves about a tenth of the time; each has its share
of the first collision's depths, so that together they have no more variance than apart
(``docs/theory/transport.md``). Coordinates are in mm from the grid's lower corner, energies in MeV. Nothing is
allocated here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlinac.jit import device, kernel
from mrlinac.transport import rng as random
from mrlinac.transport import source
from mrlinac.transport.elementary import ln
from mrlinac.transport.flight import photon
from mrlinac.transport.rng import uniform
from mrlinac.transport.stack import ELECTRON, EMITTED, N_ENTERED, PATHS, PHOTON, push
from mrlinac.transport.steps import charged

GROUP = 4  # primaries of a history, or those that are left


class Beamline(NamedTuple):
    """What the beamlets share."""

    edge: NDArray[np.float64]
    accept: NDArray[np.float64]
    other: NDArray[np.int64]
    fluence: NDArray[np.float64]


@kernel
def run(rows, counts, names, beamline, table, geometry, tally):
    """Follow ``counts[i]`` primaries of source row ``i``, each group in the stream of ``names[i]`` and its number."""
    for i in range(rows.shape[0]):
        row = rows[i]
        for history in range(groups(counts[i])):
            random.start(tally.rng, history, names[i])
            primaries = min(GROUP, counts[i] - history * GROUP)
            extinguish(emit(row, primaries, beamline, geometry, tally), table, geometry, tally)


@device
def groups(primaries):
    """How many histories a number of primaries takes."""
    return (primaries + GROUP - 1) // GROUP


@device
def extinguish(top, table, geometry, tally):
    """Follow every particle on the stack, and those they make, to the end."""
    while top > 0:
        top = follow_last(top, table, geometry, tally)


@device
def follow_last(top, table, geometry, tally):
    """Follow the particle on top of the stack; the stack's size after it."""
    top -= 1
    if tally.stack[top, 7] == PHOTON:
        return photon(top, table, geometry, tally)
    return charged(top, table, geometry, tally)


@device
def emit(row, primaries, beamline, geometry, tally):
    """Put a group of primaries (and their contaminant electrons) on the stack; how many particles lie there."""
    rng = tally.rng
    aim_u = row[source.U0] + (row[source.U1] - row[source.U0]) * uniform(rng)
    aim_v = row[source.V0] + (row[source.V1] - row[source.V0]) * uniform(rng)
    radius = math.sqrt(aim_u * aim_u + aim_v * aim_v)
    k = min(int(radius), beamline.fluence.shape[0] - 2)
    part = min(radius - k, 1.0)
    fluence = beamline.fluence[k] * (1.0 - part) + beamline.fluence[k + 1] * part
    weight = fluence * row[source.INVERSE_FLUENCE]
    start_u, start_v = source.start_point(row, aim_u, aim_v, rng)
    energy = source.photon_energy(beamline.edge, beamline.accept, beamline.other, rng)
    energy *= 1.0 - row[source.SOFTENING] * radius
    x, y, z, u, v, w = source.line_through(row, aim_u, aim_v, row[source.COLLIMATOR], start_u, start_v)
    top = put(0, primaries, x, y, z, u, v, w, energy, PHOTON, weight, geometry, tally)
    # Each has an equal share of the chances to get as far as it does, and a random place in it.
    place = uniform(rng)
    for k in range(top):
        tally.stack[k, PATHS] = -ln(1.0 - (k + place) / primaries)
    if row[source.ELECTRONS] > 0.0:
        for _ in range(primaries):
            if uniform(rng) < row[source.ELECTRONS]:
                a, b = source.normal_pair(rng)
                electron_u = aim_u + a * row[source.ELECTRON_SPREAD]
                electron_v = aim_v + b * row[source.ELECTRON_SPREAD]
                mean, limit = row[source.ELECTRON_MEAN], row[source.ELECTRON_MAX]
                kinetic = -mean * math.log(1.0 - uniform(rng) * (1.0 - math.exp(-limit / mean)))
                x, y, z, u, v, w = source.line_through(row, electron_u, electron_v, row[source.SAD], 0.0, 0.0)
                if geometry.field[3] != 0.0:
                    x, y, z, u, v, w = source.through_field(row, x, y, z, u, v, w, kinetic, geometry)
                top = put(top, 1, x, y, z, u, v, w, kinetic, ELECTRON, weight, geometry, tally)
    return top


@device
def put(top, number, x, y, z, u, v, w, energy, kind, weight, geometry, tally):
    """Put equal primaries where their line enters the grid, if it does."""
    distance = source.enter(x, y, z, u, v, w, geometry.size)
    if distance < 0.0:
        return top
    distance += 1e-7
    x, y, z = x + distance * u, y + distance * v, z + distance * w
    tally.energy[EMITTED] += number * weight * energy
    tally.counter[N_ENTERED] += number
    for _ in range(number):
        top = push(tally, top, x, y, z, u, v, w, energy, kind, weight)
    return top
