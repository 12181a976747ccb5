"""A photon to its end: Woodcock flights and what happens between them."""

from __future__ import annotations

import math

import numpy as np

from mrlinac.jit import device
from mrlinac.transport import photon as ph
from mrlinac.transport import rng as random
from mrlinac.transport import tables
from mrlinac.transport.elementary import exp, ln
from mrlinac.transport.photon import MEC2, azimuth, turn
from mrlinac.transport.rng import uniform
from mrlinac.transport.settle import electron_cut_at
from mrlinac.transport.stack import ELECTRON, ESCAPED, N_FLIGHTS, PATHS, POSITRON, code_at, deposit, push, roulette
from mrlinac.transport.tables import row_of
from mrlinac.transport.voxels import density_of, material_of, voxel_at


@device
def photon(top, table, geometry, tally):
    """Follow the photon at stack[top] until it is absorbed or leaves: Woodcock tracking."""
    rng = tally.rng
    p = tally.stack[top]
    x, y, z, u, v, w, energy, weight = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[8]
    drawn = p[PATHS]
    photon_cut = table.cuts[tables.PHOTON_CUT]
    while True:
        if energy < photon_cut:
            index = voxel_at(x, y, z, geometry)
            if index < 0:
                tally.energy[ESCAPED] += weight * energy
            else:
                deposit(tally, index, weight * energy)
            return top
        row, f = row_of(energy)
        outside = geometry.inverse_majorant[0, row] * (1.0 - f) + geometry.inverse_majorant[0, row + 1] * f
        inside = geometry.inverse_majorant[1, row] * (1.0 - f) + geometry.inverse_majorant[1, row + 1] * f
        enter, leave = box_ahead(x, y, z, u, v, w, geometry.dense_box)
        while True:  # virtual collisions
            tally.counter[N_FLIGHTS] += 1
            paths = drawn if drawn > 0.0 else random.exponential(rng)
            drawn = 0.0
            flight = outside
            s = paths * outside
            if s > enter and leave > enter:  # the way reaches the dense box
                paths -= enter / outside
                s = enter + paths * inside
                flight = inside
                if s > leave:
                    s = leave + (paths - (leave - enter) / inside) * outside
                    flight = outside
            enter = max(0.0, enter - s)
            leave -= s
            x += s * u
            y += s * v
            z += s * w
            index = voxel_at(x, y, z, geometry)
            if index < 0:
                tally.energy[ESCAPED] += weight * energy
                return top
            chance = uniform(rng)
            if chance * 255.0 >= geometry.sieve[index]:  # in air and lung most are settled here, by one small array
                continue
            code = code_at(tally, index)
            m = material_of(code)
            total = table.photon[m, row, 0] * (1.0 - f) + table.photon[m, row + 1, 0] * f
            if chance < total * density_of(code) * flight:
                break
        r = uniform(rng)
        if r < table.photon[m, row, 1] * (1.0 - f) + table.photon[m, row + 1, 1] * f:
            eps, cos = ph.klein_nishina(energy, rng)
            if table.cuts[tables.BINDING] > 0.0:
                while not bound_compton(energy, cos, m, table, rng):
                    eps, cos = ph.klein_nishina(energy, rng)
            kinetic = energy * (1.0 - eps)
            c, s = azimuth(rng)
            if kinetic > electron_cut_at(code, table):
                a, b, d = turn(u, v, w, ph.compton_electron_cos(energy, eps), -c, -s)
                top = push(tally, top, x, y, z, a, b, d, kinetic, ELECTRON, weight)
            else:
                deposit(tally, index, weight * kinetic)
            u, v, w = turn(u, v, w, cos, c, s)
            energy *= eps
            if energy >= photon_cut:  # below it, it is absorbed here and now
                weight = roulette(weight, energy, table, tally)
                if weight == 0.0:
                    return top
        elif r < table.photon[m, row, 2] * (1.0 - f) + table.photon[m, row + 1, 2] * f:
            return pair(top, x, y, z, u, v, w, energy, index, code, weight, table, tally)
        elif r < table.photon[m, row, 3] * (1.0 - f) + table.photon[m, row + 1, 3] * f:
            if energy > electron_cut_at(code, table):
                c, s = azimuth(rng)
                u, v, w = turn(u, v, w, ph.photoelectron_cos(energy, rng), c, s)
                return push(tally, top, x, y, z, u, v, w, energy, ELECTRON, weight)
            deposit(tally, index, weight * energy)
            return top
        else:
            cos = coherent_cos(energy, table.form[m], rng)
            c, s = azimuth(rng)
            u, v, w = turn(u, v, w, cos, c, s)


@device
def box_ahead(x, y, z, u, v, w, box):
    """Distances at which a ray enters and leaves a box (leave <= enter: it misses it)."""
    if box[3] <= box[0]:
        return 0.0, -1.0
    along = 1.0 / u if abs(u) > 1e-12 else 1e12
    low, high = (box[0] - x) * along, (box[3] - x) * along
    enter, leave = max(0.0, min(low, high)), max(low, high)
    along = 1.0 / v if abs(v) > 1e-12 else 1e12
    low, high = (box[1] - y) * along, (box[4] - y) * along
    enter, leave = max(enter, min(low, high)), min(leave, max(low, high))
    along = 1.0 / w if abs(w) > 1e-12 else 1e12
    low, high = (box[2] - z) * along, (box[5] - z) * along
    return max(enter, min(low, high)), min(leave, max(low, high))


@device
def bound_compton(energy, cos, m, table, rng):
    """Whether binding lets a Compton scattering by this angle happen: with probability S(x)."""
    x = energy / tables.HC_MeV_ANGSTROM * math.sqrt(max(0.0, 0.5 * (1.0 - cos))) * tables.BINDING_PER_X
    if x >= tables.BINDING_NODES:
        return True
    k = int(x)
    x -= k
    return uniform(rng) < table.binding[m, k] * (1.0 - x) + table.binding[m, k + 1] * x


@device
def coherent_cos(energy, form, rng):
    """Cosine of a coherent scattering angle: F²(x) by its cumulative table, Thomson's factor by rejection."""
    step = math.log(tables.X_HIGH / tables.X_LOW) / tables.FORM_NODES
    top = energy / tables.HC_MeV_ANGSTROM
    position = ln(max(top, tables.X_LOW * 1.001) / tables.X_LOW) / step
    k = min(int(position), tables.FORM_NODES - 1)
    whole = form[k] + (form[k + 1] - form[k]) * min(position - k, 1.0)
    while True:
        wanted = uniform(rng) * whole
        low, high = -1, tables.FORM_NODES
        while high - low > 1:
            middle = (low + high) // 2
            if form[middle] <= wanted:
                low = middle
            else:
                high = middle
        a2 = 0.0 if low < 0 else (tables.X_LOW * exp(step * low)) ** 2
        a = 0.0 if low < 0 else np.float64(form[low])
        b2 = (tables.X_LOW * exp(step * high)) ** 2
        x2 = a2 + (b2 - a2) * (wanted - a) / (form[high] - a)
        cos = max(-1.0, 1.0 - 2.0 * x2 / (top * top))
        if 2.0 * uniform(rng) <= 1.0 + cos * cos:
            return cos


@device
def pair(top, x, y, z, u, v, w, energy, index, code, weight, table, tally):
    """Electron and positron of a pair on the stack (triplets count as pairs; the third electron is at rest)."""
    rng = tally.rng
    available = energy - 2.0 * MEC2
    if available <= 0.0:  # the table's straight lines begin a little below the threshold
        deposit(tally, index, weight * energy)
        return top
    first = available * ph.pair_fraction(energy, np.float64(table.z_mean[material_of(code)]), rng)
    for kind in (ELECTRON, POSITRON):
        kinetic = first if kind == ELECTRON else available - first
        beta = math.sqrt(kinetic * (kinetic + 2.0 * MEC2)) / (kinetic + MEC2)
        c, s = azimuth(rng)
        a, b, d = turn(u, v, w, ph.dipole_cos(beta, uniform(rng)), c, s)
        if kind == ELECTRON and kinetic <= electron_cut_at(code, table):
            deposit(tally, index, weight * kinetic)
        else:
            top = push(tally, top, x, y, z, a, b, d, kinetic, kind, weight)
    return top
