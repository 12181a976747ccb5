"""Electrons below the cut: what they have left is deposited at one point."""

from __future__ import annotations

from mrlinac.jit import device
from mrlinac.transport import tables
from mrlinac.transport.stack import code_at, deposit
from mrlinac.transport.tables import row_of
from mrlinac.transport.voxels import density_of, is_fine, material_of, place_of


@device
def electron_cut_at(code, table):
    """Kinetic energy in MeV below which an electron is not followed in a voxel."""
    return table.cuts[tables.FINE_ELECTRON_CUT] if is_fine(code) else table.cuts[tables.ELECTRON_CUT]


@device
def face(x, u, i, side):
    """Way along a direction to the face of voxel i of an axis that it runs towards; not below 0."""
    if u > 1e-12:
        return max(0.0, ((i + 1) * side - x) / u)
    if u < -1e-12:
        return max(0.0, (i * side - x) / u)
    return 1e30


@device
def settle(x, y, z, u, v, w, i, j, k, kinetic, weight, table, geometry, tally):
    """Deposit what an electron has left at one point, its mean mass path straight on.

    In gas, and at the border of gas and matter, it stays: the point would lie beyond the next wall.
    """
    nx, ny, nz = geometry.shape[0], geometry.shape[1], geometry.shape[2]
    sx, sy, sz = geometry.spacing[0], geometry.spacing[1], geometry.spacing[2]
    index = place_of(i, j, k, geometry)
    code = code_at(tally, index)
    first = density_of(code)
    row, f = row_of(max(kinetic, tables.LOWEST_MeV))
    m = material_of(code)
    units = tables.REST_SHARE
    far = table.range_mm[m, row] * (1.0 - f) + table.range_mm[m, row + 1] * f
    if units * far > 2.0 * geometry.shortest_mm[0] * first:
        deposit(tally, index, weight * kinetic)
        return
    per_mm = first / far
    fx, fy, fz = face(x, u, i, sx), face(y, v, j, sy), face(z, w, k, sz)
    while True:
        d = max(0.0, min(fx, min(fy, fz)))
        if d * per_mm >= units:
            break
        units -= d * per_mm
        fx -= d
        fy -= d
        fz -= d
        if fx <= fy and fx <= fz:
            i += 1 if u > 0.0 else -1
            fx = sx / abs(u)
        elif fy <= fz:
            j += 1 if v > 0.0 else -1
            fy = sy / abs(v)
        else:
            k += 1 if w > 0.0 else -1
            fz = sz / abs(w)
        if i < 0 or j < 0 or k < 0 or i >= nx or j >= ny or k >= nz:
            break
        there = place_of(i, j, k, geometry)
        code = code_at(tally, there)
        density = density_of(code)
        if density < 0.1 * first or density > 10.0 * first:
            break
        m = material_of(code)
        far = table.range_mm[m, row] * (1.0 - f) + table.range_mm[m, row + 1] * f
        per_mm = density / far
        index = there
    deposit(tally, index, weight * kinetic)
