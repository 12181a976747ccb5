"""One primary to extinction: photon flight, electron steps, the stack between them.

Coordinates are in mm from the grid's lower corner, energies in MeV. A particle on the stack is a row
(x, y, z, u, v, w, energy, kind, weight). Nothing is allocated here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlinac.jit import device, kernel
from mrlinac.transport import electron as el
from mrlinac.transport import photon as ph
from mrlinac.transport import rng as random
from mrlinac.transport import scatter, source, tables
from mrlinac.transport.photon import MEC2, azimuth, turn
from mrlinac.transport.rng import uniform
from mrlinac.transport.tables import row_of

PHOTON, ELECTRON, POSITRON = 0.0, 1.0, 2.0
STACK = 256
MAX_STEPS = 4000  # of one electron: reached only on a long spiral through air or vacuum
MATERIAL_BITS = 63
EVEN_CODES = 5  # the first codes of a voxel's neighbourhood: densities alike
HIGHEST_REST_MeV = 0.6  # electrons above it are never given up

# tally.counter
N_TOUCHED, N_TRUNCATED, N_OVERFLOW, N_STEPS, N_FLIGHTS, N_ENTERED = range(6)
# tally.energy
EMITTED, ESCAPED, PLAYED = range(3)


class Geometry(NamedTuple):
    """The medium as kernels see it."""

    shape: NDArray[np.int64]  # nx, ny, nz
    size: NDArray[np.float64]  # mm, x y z
    inverse_spacing: NDArray[np.float64]  # per mm, x y z
    inverse_majorant: NDArray[
        np.float32
    ]  # [place, row] in mm: Woodcock's mean free path outside and in the dense box
    dense_box: NDArray[np.float64]  # mm: lower corner, upper corner; empty where upper <= lower
    field: NDArray[np.float64]  # unit vector, then rad MeV per mm: 0.2998 B
    shortest_mm: NDArray[np.float64]  # shortest side of a voxel
    rise: NDArray[np.float64]  # by code: how much denser the voxels are that an electron's step can reach


class Tally(NamedTuple):
    """Where a thread writes."""

    cell: NDArray[np.uint32]  # by voxel: its code, and the bits of its deposit in MeV as float32, on one cache line
    touched: NDArray[np.int32]  # voxels with a deposit, or empty where nobody asks
    counter: NDArray[np.int64]
    energy: NDArray[np.float64]
    stack: NDArray[np.float64]
    rng: NDArray[np.uint64]


class Beamline(NamedTuple):
    """What the beamlets share."""

    edge: NDArray[np.float64]
    accept: NDArray[np.float64]
    other: NDArray[np.int64]
    fluence: NDArray[np.float64]


@kernel
def run(rows, counts, names, beamline, table, geometry, tally):
    """Follow ``counts[i]`` primaries of source row ``i``, each in the stream of ``names[i]`` and its number."""
    for i in range(rows.shape[0]):
        row = rows[i]
        for history in range(counts[i]):
            random.start(tally.rng, history, names[i])
            extinguish(emit(row, beamline, geometry, tally), table, geometry, tally)


@device
def emit(row, beamline, geometry, tally):
    """Put a primary (and its contaminant electron) on the stack; how many lie there."""
    rng = tally.rng
    aim_u = row[source.U0] + (row[source.U1] - row[source.U0]) * uniform(rng)
    aim_v = row[source.V0] + (row[source.V1] - row[source.V0]) * uniform(rng)
    radius = math.sqrt(aim_u * aim_u + aim_v * aim_v)
    k = min(int(radius), beamline.fluence.shape[0] - 2)
    part = min(radius - k, 1.0)
    fluence = beamline.fluence[k] * (1.0 - part) + beamline.fluence[k + 1] * part
    weight = fluence * row[source.INVERSE_FLUENCE]
    start_u = start_v = 0.0
    if row[source.SPOT_U] > 0.0 or row[source.SPOT_V] > 0.0:
        a, b = source.normal_pair(rng)
        start_u, start_v = a * row[source.SPOT_U], b * row[source.SPOT_V]
    energy = source.photon_energy(beamline.edge, beamline.accept, beamline.other, rng)
    energy *= 1.0 - row[source.SOFTENING] * radius
    x, y, z, u, v, w = source.line_through(row, aim_u, aim_v, row[source.COLLIMATOR], start_u, start_v)
    top = put(0, x, y, z, u, v, w, energy, PHOTON, weight, geometry, tally)
    if row[source.ELECTRONS] > 0.0 and uniform(rng) < row[source.ELECTRONS]:
        a, b = source.normal_pair(rng)
        aim_u += a * row[source.ELECTRON_SPREAD]
        aim_v += b * row[source.ELECTRON_SPREAD]
        mean, limit = row[source.ELECTRON_MEAN], row[source.ELECTRON_MAX]
        kinetic = -mean * math.log(1.0 - uniform(rng) * (1.0 - math.exp(-limit / mean)))
        x, y, z, u, v, w = source.line_through(row, aim_u, aim_v, row[source.SAD], 0.0, 0.0)
        top = put(top, x, y, z, u, v, w, kinetic, ELECTRON, weight, geometry, tally)
    return top


@device
def put(top, x, y, z, u, v, w, energy, kind, weight, geometry, tally):
    """Put a primary where its line enters the grid, if it does."""
    distance = source.enter(x, y, z, u, v, w, geometry.size)
    if distance < 0.0:
        return top
    distance += 1e-7
    tally.energy[EMITTED] += weight * energy
    tally.counter[N_ENTERED] += 1
    return push(tally, top, x + distance * u, y + distance * v, z + distance * w, u, v, w, energy, kind, weight)


@device
def push(tally, top, x, y, z, u, v, w, energy, kind, weight):
    """Add a particle; the stack's size after it. A full stack (never seen) loses it and counts it."""
    if top >= STACK:
        tally.counter[N_OVERFLOW] += 1
        return top
    p = tally.stack[top]
    p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8] = x, y, z, u, v, w, energy, kind, weight
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
def voxel_at(x, y, z, geometry):
    """Flat index of the voxel at a point, −1 outside."""
    if not (x >= 0.0 and y >= 0.0 and z >= 0.0):
        return -1
    i = int(x * geometry.inverse_spacing[0])
    j = int(y * geometry.inverse_spacing[1])
    k = int(z * geometry.inverse_spacing[2])
    if i >= geometry.shape[0] or j >= geometry.shape[1] or k >= geometry.shape[2]:
        return -1
    return (k * geometry.shape[1] + j) * geometry.shape[0] + i


@device
def material_of(code):
    """Material index of a voxel's code."""
    return np.int64(code & np.uint32(MATERIAL_BITS))


@device
def density_of(code):
    """Density of a voxel's code, to 6e-5 of it."""
    return np.float64(np.uint32((code >> np.uint32(11)) << np.uint32(10)).view(np.float32))


@device
def dense_near(code, geometry):
    """Bound of the density in the voxel's neighbourhood."""
    return density_of(code) * geometry.rise[np.int64((code >> np.uint32(6)) & np.uint32(31))]


@device
def even_near(code):
    """Whether the densities of the voxel's neighbourhood are alike."""
    return (code >> np.uint32(6)) & np.uint32(31) < np.uint32(EVEN_CODES)


@device
def deposit(tally, index, energy):
    """Add energy to a voxel, and remember the voxel when asked to."""
    bits = tally.cell[index, 1]
    total = np.float32(np.uint32(bits).view(np.float32) + np.float32(energy)).view(np.uint32)
    # Nothing (a step in vacuum) leaves the voxel as it was: remembered at every step, it would overflow the list.
    if bits == 0 and total != 0 and tally.touched.shape[0] > 0:
        tally.touched[tally.counter[N_TOUCHED]] = index
        tally.counter[N_TOUCHED] += 1
    tally.cell[index, 1] = total


# -- photons -----------------------------------------------------------------------------------------


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
def photon(top, table, geometry, tally):
    """Follow the photon at stack[top] until it is absorbed or leaves: Woodcock tracking."""
    rng = tally.rng
    p = tally.stack[top]
    x, y, z, u, v, w, energy, weight = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[8]
    photon_cut, electron_cut = table.cuts[tables.PHOTON_CUT], table.cuts[tables.ELECTRON_CUT]
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
            paths = random.exponential(rng)
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
            code = tally.cell[index, 0]
            m = material_of(code)
            total = table.photon[m, row, 0] * (1.0 - f) + table.photon[m, row + 1, 0] * f
            if uniform(rng) < total * density_of(code) * flight:
                break
        r = uniform(rng)
        if r < table.photon[m, row, 1] * (1.0 - f) + table.photon[m, row + 1, 1] * f:
            eps, cos = ph.klein_nishina(energy, rng)
            if table.cuts[tables.BINDING] > 0.0:
                while not bound_compton(energy, cos, m, table, rng):
                    eps, cos = ph.klein_nishina(energy, rng)
            kinetic = energy * (1.0 - eps)
            c, s = azimuth(rng)
            if kinetic > electron_cut:
                a, b, d = turn(u, v, w, ph.compton_electron_cos(energy, eps), -c, -s)
                top = push(tally, top, x, y, z, a, b, d, kinetic, ELECTRON, weight)
            else:
                deposit(tally, index, weight * kinetic)
            u, v, w = turn(u, v, w, cos, c, s)
            energy *= eps
            weight = roulette(weight, energy, table, tally)
            if weight == 0.0:
                return top
        elif r < table.photon[m, row, 2] * (1.0 - f) + table.photon[m, row + 1, 2] * f:
            return pair(top, x, y, z, u, v, w, energy, index, m, weight, table, tally)
        elif r < table.photon[m, row, 3] * (1.0 - f) + table.photon[m, row + 1, 3] * f:
            if energy > electron_cut:
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
    position = math.log(max(top, tables.X_LOW * 1.001) / tables.X_LOW) / step
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
        a2 = 0.0 if low < 0 else (tables.X_LOW * math.exp(step * low)) ** 2
        a = 0.0 if low < 0 else np.float64(form[low])
        b2 = (tables.X_LOW * math.exp(step * high)) ** 2
        x2 = a2 + (b2 - a2) * (wanted - a) / (form[high] - a)
        cos = max(-1.0, 1.0 - 2.0 * x2 / (top * top))
        if 2.0 * uniform(rng) <= 1.0 + cos * cos:
            return cos


@device
def pair(top, x, y, z, u, v, w, energy, index, m, weight, table, tally):
    """Electron and positron of a pair on the stack (triplets count as pairs; the third electron is at rest)."""
    rng = tally.rng
    available = max(0.0, energy - 2.0 * MEC2)
    first = available * ph.pair_fraction(energy, np.float64(table.z_mean[m]), rng)
    for kind in (ELECTRON, POSITRON):
        kinetic = first if kind == ELECTRON else available - first
        beta = math.sqrt(kinetic * (kinetic + 2.0 * MEC2)) / (kinetic + MEC2)
        c, s = azimuth(rng)
        a, b, d = turn(u, v, w, ph.dipole_cos(beta, uniform(rng)), c, s)
        if kind == ELECTRON and kinetic <= table.cuts[tables.ELECTRON_CUT]:
            deposit(tally, index, weight * kinetic)
        else:
            top = push(tally, top, x, y, z, a, b, d, kinetic, kind, weight)
    return top


# -- electrons and positrons -------------------------------------------------------------------------


@device
def charged(top, table, geometry, tally):
    """Follow the electron or positron at stack[top]: a random point to turn at and one to lose energy at per step."""
    rng = tally.rng
    p = tally.stack[top]
    x, y, z, u, v, w, kinetic, kind, weight = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8]
    positron = kind == POSITRON
    charge = 1 if positron else 0
    cut = table.cuts[tables.ELECTRON_CUT]
    magnet = geometry.field[3]
    if positron:
        magnet = -magnet
    bx, by, bz = geometry.field[0], geometry.field[1], geometry.field[2]
    longest = table.cuts[tables.MAX_STEP] * geometry.shortest_mm[0]
    brief = table.cuts[tables.BRIEF] * geometry.shortest_mm[0]
    sagitta = 8.0 * table.cuts[tables.SAGITTA] * geometry.shortest_mm[0]
    pending = 0.0  # angle of the field still to turn: half a step's
    rest = 2.0 * MEC2 if positron else 0.0
    here = voxel_at(x, y, z, geometry)
    if here >= 0 and ends_at(tally.cell[here, 0], kinetic, table, geometry):
        settle(x, y, z, u, v, w, kinetic, here, weight, table, geometry, tally)
        return rest_annihilation(top, x, y, z, positron, weight, table, tally)
    for _ in range(MAX_STEPS):
        if here < 0:
            tally.energy[ESCAPED] += weight * (kinetic + rest)
            return top
        tally.counter[N_STEPS] += 1
        code = tally.cell[here, 0]
        row, f = row_of(kinetic)
        start = table.electron[charge, material_of(code), row]
        s = start[tables.STEP] / max(dense_near(code, geometry), 1e-9)
        if even_near(code):
            s = max(s, min(2.0 * s, brief))
        s = min(longest, s)
        if magnet != 0.0:
            bend = magnet / math.sqrt(kinetic * (kinetic + 2.0 * MEC2))  # rad per mm
            radius = 1.0 / abs(bend)
            arc = table.cuts[tables.MAX_TURN] * radius
            # The chord is exact, what is left on the way lies off it by s²/(8 r): longer arcs where this is nothing to
            # a voxel, or where there is next to nothing to leave it in.
            if dense_near(code, geometry) < 0.05:
                arc *= 2.0
            else:
                arc = max(arc, min(2.0 * arc, math.sqrt(sagitta * radius)))
            s = min(s, arc)
            half = 0.5 * bend * s
            u, v, w = el.rotate(u, v, w, bx, by, bz, pending + half)
            pending = half
            chord = s * (1.0 - half * half / 6.0)  # sin(ω/2)/(ω/2)
        else:
            chord = s
        before = chord * uniform(rng)
        # The loss has a point of its own, uniform on the broken path: with the track bending, its mean then lies where
        # it should, Q1 s/6 nearer than the middle, and the step looks the same from either end.
        apart = chord * uniform(rng) - before
        lost_x, lost_y, lost_z = x + (before + apart) * u, y + (before + apart) * v, z + (before + apart) * w
        x += before * u
        y += before * v
        z += before * w
        hinge = voxel_at(x, y, z, geometry)
        if hinge < 0:
            here = -1
            continue
        code = tally.cell[hinge, 0]
        m = material_of(code)
        density = density_of(code)
        path = density * s
        # loss by the midpoint rule
        columns = table.electron[charge, m]
        loss = path * (columns[row, 0] * (1.0 - f) + columns[row + 1, 0] * f)
        middle = kinetic - 0.5 * loss
        lowest = max(0.5 * kinetic, tables.LOWEST_MeV)
        if middle < lowest:
            middle = lowest
        row, f = row_of(middle)
        loss = path * (columns[row, 0] * (1.0 - f) + columns[row + 1, 0] * f)
        if loss >= kinetic:
            deposit(tally, hinge, weight * kinetic)
            return rest_annihilation(top, x, y, z, positron, weight, table, tally)
        # scattering; Q1 ∝ E^-1.7 or so, hence the correction of the midpoint rule
        share = loss / middle
        q1 = (
            path
            * (columns[row, tables.Q1] * (1.0 - f) + columns[row + 1, tables.Q1] * f)
            * (1.0 + 0.19 * share * share)
        )
        collisions = path * (columns[row, tables.COLLISIONS] * (1.0 - f) + columns[row + 1, tables.COLLISIONS] * f)
        if collisions > 8.0:
            t = scatter.multiple(collisions, q1, table.w, table.scale, rng)
            c, sn = azimuth(rng)
            u, v, w = turn(u, v, w, 1.0 - t, c, sn)
        elif collisions > 0.0:
            for _k in range(scatter.poisson(collisions, rng)):
                t = scatter.single(np.float64(columns[row, tables.ETA]), rng)
                c, sn = azimuth(rng)
                u, v, w = turn(u, v, w, 1.0 - t, c, sn)
        if apart > 0.0:
            lost_x, lost_y, lost_z = x + apart * u, y + apart * v, z + apart * w
        lost = voxel_at(lost_x, lost_y, lost_z, geometry)
        if lost >= 0 and lost != hinge:
            code = tally.cell[lost, 0]
            there = table.electron[charge, material_of(code)]
            loss = density_of(code) * s * (there[row, 0] * (1.0 - f) + there[row + 1, 0] * f)
            if loss >= kinetic:
                deposit(tally, lost, weight * kinetic)
                return rest_annihilation(top, x, y, z, positron, weight, table, tally)
        else:
            lost = hinge
        deposit(tally, lost, weight * loss)
        kinetic -= loss
        ended = ends_at(tally.cell[lost, 0], kinetic, table, geometry)
        hard = path * (columns[row, tables.HARD] * (1.0 - f) + columns[row + 1, tables.HARD] * f)
        if uniform(rng) < hard:
            r = uniform(rng)
            if r < columns[row, tables.BREMS_SHARE]:
                if kinetic > table.cuts[tables.PHOTON_CUT]:
                    position = row + f
                    k = el.brems_energy(position, table.brems[m], table.cuts[tables.PHOTON_CUT], kinetic, rng)
                    beta = math.sqrt(kinetic * (kinetic + 2.0 * MEC2)) / (kinetic + MEC2)
                    c, sn = azimuth(rng)
                    a, b, d = turn(u, v, w, ph.dipole_cos(beta, uniform(rng)), c, sn)
                    top = radiate(tally, top, x, y, z, a, b, d, k, weight, table)
                    kinetic -= k
            elif positron and r >= columns[row, tables.BHABHA_SHARE]:
                return annihilate(top, x, y, z, u, v, w, kinetic, weight, table, tally)
            elif kinetic > (table.cuts[tables.DELTA_CUT] if positron else 2.0 * table.cuts[tables.DELTA_CUT]):
                if positron:
                    given = el.bhabha(kinetic, table.cuts[tables.DELTA_CUT], rng)
                else:
                    given = el.moller(kinetic, table.cuts[tables.DELTA_CUT], rng)
                cos_1, cos_2 = el.moller_cos(kinetic, given)
                c, sn = azimuth(rng)
                if given > cut:
                    a, b, d = turn(u, v, w, cos_2, -c, -sn)
                    top = push(tally, top, x, y, z, a, b, d, given, ELECTRON, weight)
                else:
                    deposit(tally, hinge, weight * given)
                u, v, w = turn(u, v, w, cos_1, c, sn)
                kinetic -= given
        after = chord - before
        x += after * u
        y += after * v
        z += after * w
        here = voxel_at(x, y, z, geometry)
        if ended:
            settle(lost_x, lost_y, lost_z, u, v, w, kinetic, lost, weight, table, geometry, tally)
            return rest_annihilation(top, x, y, z, positron, weight, table, tally)
        if kinetic <= cut:  # after a hard event
            settle(
                x - after * u, y - after * v, z - after * w, u, v, w, kinetic, hinge, weight, table, geometry, tally
            )
            return rest_annihilation(top, x, y, z, positron, weight, table, tally)
    tally.counter[N_TRUNCATED] += 1
    if here >= 0:
        deposit(tally, here, weight * kinetic)
        return rest_annihilation(top, x, y, z, positron, weight, table, tally)
    tally.energy[ESCAPED] += weight * (kinetic + rest)
    return top


@device
def ends_at(code, kinetic, table, geometry):
    """Whether an electron is given up here: below the cut, or too short of range to leave a place that is even."""
    if kinetic <= table.cuts[tables.ELECTRON_CUT]:
        return True
    if kinetic > HIGHEST_REST_MeV or not even_near(code):
        return False
    row, _ = row_of(kinetic)
    far = table.range_mm[material_of(code), row + 1]
    return far < table.cuts[tables.REST] * geometry.shortest_mm[0] * density_of(code)


@device
def settle(x, y, z, u, v, w, kinetic, at, weight, table, geometry, tally):
    """Deposit what an electron has left at one point.

    The rest goes a mean way on from the point of the last loss, in proportion to 1/density: what crosses an interface
    one way and the other then balances. Between tissue and air nothing crosses, neither way: in air the point would
    lie beyond the next wall.
    """
    code = tally.cell[at, 0]
    density = density_of(code)
    row, _ = row_of(max(kinetic, tables.LOWEST_MeV))
    on = tables.REST_SHARE * table.range_mm[material_of(code), row] / density
    there = voxel_at(x + on * u, y + on * v, z + on * w, geometry)
    if there >= 0:
        other = density_of(tally.cell[there, 0])
        if other < 0.1 * density or other > 10.0 * density:
            there = -1
    if there < 0:
        there = at
    deposit(tally, there, weight * kinetic)


@device
def rest_annihilation(top, x, y, z, positron, weight, table, tally):
    """A stopped positron's two photons of 511 keV, back to back; nothing for an electron."""
    if not positron:
        return top
    rng = tally.rng
    w = 2.0 * uniform(rng) - 1.0
    c, s = azimuth(rng)
    sin = math.sqrt(1.0 - w * w)
    top = radiate(tally, top, x, y, z, sin * c, sin * s, w, MEC2, weight, table)
    return radiate(tally, top, x, y, z, -sin * c, -sin * s, -w, MEC2, weight, table)


@device
def annihilate(top, x, y, z, u, v, w, kinetic, weight, table, tally):
    """Two photons of an annihilation in flight; angles by kinematics."""
    rng = tally.rng
    zeta = el.annihilation(kinetic, rng)
    gamma = 1.0 + kinetic / MEC2
    root = math.sqrt(gamma * gamma - 1.0)
    available = kinetic + 2.0 * MEC2
    cos_1 = min(1.0, max(-1.0, (gamma + 1.0 - 1.0 / zeta) / root))
    cos_2 = min(1.0, max(-1.0, (gamma + 1.0 - 1.0 / (1.0 - zeta)) / root))
    c, s = azimuth(rng)
    a, b, d = turn(u, v, w, cos_1, c, s)
    top = radiate(tally, top, x, y, z, a, b, d, zeta * available, weight, table)
    a, b, d = turn(u, v, w, cos_2, -c, -s)
    return radiate(tally, top, x, y, z, a, b, d, (1.0 - zeta) * available, weight, table)
