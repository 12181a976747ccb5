"""An electron or positron to its end, in steps of equal physics.

A step is a mass path that depends on the energy and the material alone, so that the density of the medium only
stretches it: Fano's theorem holds whatever the densities, at any length of step (``docs/theory/transport.md``).
"""

from __future__ import annotations

import math

import numpy as np

from mrlinac.jit import device
from mrlinac.transport import electron as el
from mrlinac.transport import photon as ph
from mrlinac.transport import scatter, tables
from mrlinac.transport.photon import MEC2, azimuth, turn
from mrlinac.transport.rng import uniform
from mrlinac.transport.settle import electron_cut_at, settle
from mrlinac.transport.stack import ELECTRON, ESCAPED, N_STEPS, N_TRUNCATED, POSITRON, code_at, deposit, push, radiate
from mrlinac.transport.tables import row_of
from mrlinac.transport.voxels import density_of, even_near, is_fine, kind_of, material_of, place_of, voxel_at

MAX_TURNS = 8000  # of one electron's direction: reached only on a long spiral through air or vacuum
HINGE_SLOPE = 0.18  # of the hinge's density along a step, 1 + slope (2t - 1): see the theory page
HIGHEST_REST_MeV = 0.6  # electrons above it are never given up


@device
def charged(top, table, geometry, tally):
    """Follow the electron or positron at stack[top] to its end, in steps of equal physics: see the theory page.

    A step is a mass path that depends on the energy and the material alone. At a uniformly random point of it the
    track turns (the hinge); its loss is left evenly along it, voxel by voxel. The field turns it between chords whose
    length depends on the energy alone.
    """
    rng = tally.rng
    p = tally.stack[top]
    x, y, z, u, v, w, kinetic, charged_as, weight = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8]
    positron = charged_as == POSITRON
    charge = 1 if positron else 0
    magnet = -geometry.field[3] if positron else geometry.field[3]
    bx, by, bz = geometry.field[0], geometry.field[1], geometry.field[2]
    sx, sy, sz = geometry.spacing[0], geometry.spacing[1], geometry.spacing[2]
    nx, ny, nz = geometry.shape[0], geometry.shape[1], geometry.shape[2]
    rest = 2.0 * MEC2 if positron else 0.0
    index = voxel_at(x, y, z, geometry)
    if index < 0:
        tally.energy[ESCAPED] += weight * (kinetic + rest)
        return top
    i = np.int64(x * geometry.inverse_spacing[0])
    j = np.int64(y * geometry.inverse_spacing[1])
    k = np.int64(z * geometry.inverse_spacing[2])
    code = code_at(tally, index)
    density, kind = density_of(code), kind_of(code)
    m = tables_of(code, table)
    if ends_at(code, kinetic, table, geometry):
        settle(x, y, z, u, v, w, i, j, k, kinetic, weight, table, geometry, tally)
        return rest_annihilation(top, x, y, z, positron, weight, table, tally)
    # The chords of the helix turn by one angle, so their lengths go with the momentum, up to one voxel's side. They are
    # as long as their arcs, which keeps the way along the field exact and the mean distance from the axis within ω²/24.
    # The first step has a random length up to that: equal first steps would leave a pattern at the points of birth.
    left = 1e30
    arc = longest = per_momentum = 0.0
    first = uniform(rng)
    if magnet != 0.0:
        longest = geometry.shortest_mm[0]
        per_momentum = table.cuts[tables.MAX_TURN] / abs(magnet)
        momentum = math.sqrt(kinetic * (kinetic + 2.0 * MEC2))
        left = arc = first * min(longest, per_momentum * momentum)
        u, v, w = el.rotate(u, v, w, bx, by, bz, 0.5 * arc * magnet / momentum)
    # what a whole step does
    row, f = row_of(kinetic)
    part = hinge(uniform(rng))  # of the step, to the hinge
    units = part
    hinged = False
    a0, a1 = table.electron[charge, m, row], table.electron[charge, m, row + 1]
    per_g = 1.0 / (a0[tables.STEP] * (1.0 - f) + a1[tables.STEP] * f)
    loss = a0[tables.LOSS] * (1.0 - f) + a1[tables.LOSS] * f
    per_mm = density * per_g
    held = 0.0  # to be left in this voxel
    # where in its voxel it is, mm from the lower faces
    px, py, pz = x - i * sx, y - j * sy, z - k * sz
    for _ in range(MAX_TURNS):
        # the direction is new
        # along a face nothing is crossed
        up_x, up_y, up_z = np.int64(u > -1e-12), np.int64(v > -1e-12), np.int64(w > -1e-12)
        au, av, aw = max(abs(u), 1e-12), max(abs(v), 1e-12), max(abs(w), 1e-12)
        tu, tv, tw = 1.0 / au, 1.0 / av, 1.0 / aw
        fx = max(0.0, sx - px if up_x else px) * tu
        fy = max(0.0, sy - py if up_y else py) * tv
        fz = max(0.0, sz - pz if up_z else pz) * tw
        tu *= sx
        tv *= sy
        tw *= sz
        while True:
            # from face to face
            while True:
                d = min(fx, min(fy, fz))
                used = d * per_mm
                if used >= units or d >= left:
                    break
                units -= used
                left -= d
                used *= loss
                kinetic -= used
                deposit(tally, index, weight * (held + used))
                held = 0.0
                # Which face comes next cannot be predicted, so this is written without branches.
                cx = np.int64(fx <= fy) & np.int64(fx <= fz)
                cy = np.int64(fy <= fz) & (1 - cx)
                cz = 1 - cx - cy
                fx = (fx - d) + cx * tu
                fy = (fy - d) + cy * tv
                fz = (fz - d) + cz * tw
                i += cx * (2 * up_x - 1)
                j += cy * (2 * up_y - 1)
                k += cz * (2 * up_z - 1)
                if np.uint64(i) >= np.uint64(nx) or np.uint64(j) >= np.uint64(ny) or np.uint64(k) >= np.uint64(nz):
                    tally.energy[ESCAPED] += weight * (kinetic + rest)
                    return top
                index = place_of(i, j, k, geometry)
                code = code_at(tally, index)
                density = density_of(code)
                if kind_of(code) != kind:
                    kind = kind_of(code)
                    m = tables_of(code, table)
                    a0, a1 = table.electron[charge, m, row], table.electron[charge, m, row + 1]
                    per_g = 1.0 / (a0[tables.STEP] * (1.0 - f) + a1[tables.STEP] * f)
                    loss = a0[tables.LOSS] * (1.0 - f) + a1[tables.LOSS] * f
                per_mm = density * per_g
            turns = left * per_mm < units
            if turns:
                d = left
                used = d * per_mm
                units -= used
            else:
                used = units
                d = used / per_mm if per_mm > 0.0 else 0.0
                left -= d
            fx -= d
            fy -= d
            fz -= d
            used *= loss
            kinetic -= used
            held += used
            if turns or not hinged:
                break
            # the step's end: the next goes straight on
            tally.counter[N_STEPS] += 1
            if ends_at(code, kinetic, table, geometry):
                deposit(tally, index, weight * held)
                x = i * sx + (sx - fx * au if up_x else fx * au)
                y = j * sy + (sy - fy * av if up_y else fy * av)
                z = k * sz + (sz - fz * aw if up_z else fz * aw)
                settle(x, y, z, u, v, w, i, j, k, kinetic, weight, table, geometry, tally)
                return rest_annihilation(top, x, y, z, positron, weight, table, tally)
            row, f = row_of(kinetic)
            part = hinge(uniform(rng))
            units = part
            hinged = False
            a0, a1 = table.electron[charge, m, row], table.electron[charge, m, row + 1]
            per_g = 1.0 / (a0[tables.STEP] * (1.0 - f) + a1[tables.STEP] * f)
            loss = a0[tables.LOSS] * (1.0 - f) + a1[tables.LOSS] * f
            per_mm = density * per_g
        px = sx - fx * au if up_x else fx * au
        py = sy - fy * av if up_y else fy * av
        pz = sz - fz * aw if up_z else fz * aw
        if turns:
            momentum = math.sqrt(kinetic * (kinetic + 2.0 * MEC2))
            left = min(longest, per_momentum * momentum)
            u, v, w = el.rotate(u, v, w, bx, by, bz, 0.5 * (arc + left) * magnet / momentum)
            arc = left
            continue
        hinged = True
        units = 1.0 - part
        collisions = a0[tables.COLLISIONS] * (1.0 - f) + a1[tables.COLLISIONS] * f
        if collisions > 8.0:
            q1 = a0[tables.Q1] * (1.0 - f) + a1[tables.Q1] * f
            t = scatter.multiple(collisions, q1, table.w, table.scale, rng)
            c, sn = azimuth(rng)
            u, v, w = turn(u, v, w, 1.0 - t, c, sn)
        else:
            for _k in range(scatter.poisson(collisions, rng)):
                t = scatter.single(np.float64(a0[tables.ETA]), rng)
                c, sn = azimuth(rng)
                u, v, w = turn(u, v, w, 1.0 - t, c, sn)
        x, y, z = i * sx + px, j * sy + py, k * sz + pz
        hard = a0[tables.HARD] * (1.0 - f) + a1[tables.HARD] * f
        if uniform(rng) < hard:
            r = uniform(rng)
            unhurt = kinetic
            cut = electron_cut_at(code, table)
            delta_cut = table.cuts[tables.FINE_DELTA_CUT] if is_fine(code) else table.cuts[tables.DELTA_CUT]
            if r < a0[tables.BREMS_SHARE]:
                if kinetic > table.cuts[tables.PHOTON_CUT]:
                    row, g = row_of(kinetic)
                    g = el.brems_energy(
                        row + g, table.brems[material_of(code)], table.cuts[tables.PHOTON_CUT], kinetic, rng
                    )
                    beta = math.sqrt(kinetic * (kinetic + 2.0 * MEC2)) / (kinetic + MEC2)
                    c, sn = azimuth(rng)
                    a, b, e = turn(u, v, w, ph.dipole_cos(beta, uniform(rng)), c, sn)
                    top = radiate(tally, top, x, y, z, a, b, e, g, weight, table)
                    kinetic -= g
            elif positron and r >= a0[tables.BHABHA_SHARE]:
                deposit(tally, index, weight * held)
                return annihilate(top, x, y, z, u, v, w, kinetic, weight, table, tally)
            elif kinetic > (delta_cut if positron else 2.0 * delta_cut):
                transferred = el.bhabha(kinetic, delta_cut, rng) if positron else el.moller(kinetic, delta_cut, rng)
                cos_1, cos_2 = el.moller_cos(kinetic, transferred)
                c, sn = azimuth(rng)
                if transferred > cut:
                    a, b, e = turn(u, v, w, cos_2, -c, -sn)
                    top = push(tally, top, x, y, z, a, b, e, transferred, ELECTRON, weight)
                else:
                    held += transferred
                u, v, w = turn(u, v, w, cos_1, c, sn)
                kinetic -= transferred
            if kinetic <= cut and kinetic != unhurt:
                deposit(tally, index, weight * held)
                settle(x, y, z, u, v, w, i, j, k, kinetic, weight, table, geometry, tally)
                return rest_annihilation(top, x, y, z, positron, weight, table, tally)
            if kinetic != unhurt:  # the way that is left, but at most one step of the new energy
                mass = units / per_g
                row, f = row_of(kinetic)
                a0, a1 = table.electron[charge, m, row], table.electron[charge, m, row + 1]
                per_g = 1.0 / (a0[tables.STEP] * (1.0 - f) + a1[tables.STEP] * f)
                loss = a0[tables.LOSS] * (1.0 - f) + a1[tables.LOSS] * f
                units = min(1.0, mass * per_g)
                per_mm = density * per_g
    tally.counter[N_TRUNCATED] += 1
    deposit(tally, index, weight * (held + kinetic))
    x, y, z = i * sx + px, j * sy + py, k * sz + pz
    return rest_annihilation(top, x, y, z, positron, weight, table, tally)


@device
def hinge(u):
    """Share of a step to its hinge: of density 1 + HINGE_SLOPE (2t − 1) on 0 … 1, from a uniform number."""
    level = 1.0 - HINGE_SLOPE
    return (math.sqrt(level * level + 4.0 * HINGE_SLOPE * u) - level) / (2.0 * HINGE_SLOPE)


@device
def tables_of(code, table):
    """Index of a voxel's electron tables: its material, those of fine voxels behind all others."""
    m = material_of(code)
    return m + table.photon.shape[0] if is_fine(code) else m


@device
def ends_at(code, kinetic, table, geometry):
    """Whether an electron is given up here: below the cut, or of too short a range to matter."""
    if kinetic <= electron_cut_at(code, table):
        return True
    if kinetic > HIGHEST_REST_MeV or not even_near(code) or is_fine(code):
        return False
    row, _ = row_of(kinetic)
    return table.range_mm[material_of(code), row + 1] < table.cuts[tables.REST] * geometry.shortest_mm[
        0
    ] * density_of(code)


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
