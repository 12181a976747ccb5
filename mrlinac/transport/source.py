"""Where photons start: a Gaussian spot, and the head's scatter around it, seen through a rectangle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.errors import PhysicsError
from mrlinac.jit import device
from mrlinac.machine.delivery import Openings
from mrlinac.machine.model import Machine
from mrlinac.transport.electron import rotate
from mrlinac.transport.photon import MEC2, azimuth
from mrlinac.transport.rng import exponential, uniform
from mrlinac.transport.tables import HIGHEST_MeV

Array = NDArray[np.float64]

# columns of a source row
SOURCE, AXIS_U, AXIS_V, AXIS_W = 0, 3, 6, 9  # xyz triples
SAD, COLLIMATOR, SPOT_U, SPOT_V, U0, U1, V0, V1, SOFTENING, INVERSE_FLUENCE = range(12, 22)
ELECTRONS, ELECTRON_MEAN, ELECTRON_MAX, ELECTRON_SPREAD = range(22, 26)
EXTRA_SHARE, EXTRA_DECAY, EXTRA_DISTANCE = range(26, 29)
COLUMNS = 29

TOLD_BELOW_CUT = 0.001  # share of the photons' energy below the cut from which a result says so

AIR_TURN_rad, AIR_CHORD_mm = 0.1, (0.5, 20.0)  # of a contaminant electron's way through the air, at once
FARTHEST_SAD = 3.0  # below the collimator, in distances of source and axis, nothing of a patient is met
AIR_CHORDS = 20_000  # of one electron: reached by none that moves along the field at all


@dataclass(frozen=True)
class Emission:
    """What all beamlets of a machine share: alias table of the spectrum, fluence against radius in steps of 1 mm."""

    edge_MeV: Array
    accept: Array
    other: NDArray[np.int64]
    fluence: Array

    @classmethod
    def of(cls, edge_MeV: Array, weight: Array, radius_mm: Array, relative: Array) -> Emission:
        """Prepare a spectrum (uniform within each bin) and a radial fluence (straight between its points).

        Raises
        ------
        PhysicsError
            For energies beyond the tables.
        """
        if not edge_MeV[-1] < HIGHEST_MeV:
            raise PhysicsError(f"a spectrum up to {edge_MeV[-1]:g} MeV: the tables end at {HIGHEST_MeV:g} MeV")
        accept, other = alias(np.asarray(weight, float))
        steps = np.arange(int(np.ceil(radius_mm[-1])) + 2, dtype=float)
        fluence = np.interp(steps, radius_mm, relative)
        return cls(np.ascontiguousarray(edge_MeV, float), accept, other, fluence)

    @classmethod
    def of_machine(cls, machine: Machine) -> Emission:
        """The photon source of a machine."""
        photons = machine.photons
        return cls.of(
            np.array(photons.spectrum.edge_MeV),
            np.array(photons.spectrum.weight),
            np.array(photons.fluence.radius_mm),
            np.array(photons.fluence.relative),
        )

    @property
    def weight(self) -> Array:
        """Share of the photons in each bin of the spectrum, from the alias table."""
        share = self.accept.copy()
        np.add.at(share, self.other, 1 - self.accept)
        return share / len(share)

    def energy_below(self, cut_MeV: float) -> float:
        """Share of the photons' energy that lies below a cut, on the axis."""
        low, high = self.edge_MeV[:-1], self.edge_MeV[1:]
        top = np.clip(cut_MeV, low, high)
        below = self.weight * (top**2 - low**2) / (high - low)
        return float(below.sum() / (self.weight * (high + low)).sum())

    def problem(self, cut_MeV: float) -> str | None:
        """Energies that the transport would not transport; None where there are none.

        A bin that lies below the photon cut as a whole is a mistake in the spectrum, or asks for another cut.
        """
        lost = np.flatnonzero((self.edge_MeV[1:] <= cut_MeV) & (self.weight > 0))
        if not len(lost):
            return None
        return (
            f"the spectrum has photons up to {self.edge_MeV[lost[-1] + 1]:g} MeV in bins below the photon cut of "
            f"{cut_MeV:g} MeV: they would be absorbed where they enter the grid. Leave these bins out, or lower "
            "photon_cut_MeV in the transport's settings"
        )

    def note(self, cut_MeV: float) -> tuple[str, ...]:
        """What to say of a spectrum that reaches below the photon cut."""
        share = self.energy_below(cut_MeV)
        if share < TOLD_BELOW_CUT:
            return ()
        return (
            f"{100 * share:.2g} % of the photons' energy lies below the photon cut of {cut_MeV:g} MeV and is absorbed"
            " where it enters the grid",
        )

    def fluence_at(self, uv_mm: Array) -> Array:
        """Relative fluence at points (…, 2) of the isocentre plane."""
        radius = np.hypot(uv_mm[..., 0], uv_mm[..., 1])
        return np.interp(radius, np.arange(len(self.fluence), dtype=float), self.fluence)


def alias(weight: Array) -> tuple[Array, NDArray[np.int64]]:
    """Walker's alias table (ACM TOMS 3:253, 1977): share kept in a bin, and where the rest goes."""
    count = len(weight)
    scaled = weight / weight.sum() * count
    accept, other = np.ones(count), np.arange(count, dtype=np.int64)
    small = [i for i in range(count) if scaled[i] < 1]
    large = [i for i in range(count) if scaled[i] >= 1]
    while small and large:
        i, j = small.pop(), large.pop()
        accept[i], other[i] = scaled[i], j
        scaled[j] -= 1 - scaled[i]
        (small if scaled[j] < 1 else large).append(j)
    return accept, other


def source_rows(
    openings: Openings, machine: Machine, emission: Emission, lower_xyz_mm: Array, electrons: bool
) -> Array:
    """Source rows of a beam's openings, in coordinates from the grid's lower corner; shape (n, COLUMNS)."""
    beam, photons = openings.beam, machine.photons
    rows = np.zeros((len(openings), COLUMNS))
    rows[:, SOURCE : SOURCE + 3] = beam.source_xyz_mm() - lower_xyz_mm
    rows[:, AXIS_U : AXIS_W + 3] = beam.axes_xyz().reshape(-1)
    rows[:, SAD], rows[:, COLLIMATOR] = beam.sad_mm, photons.collimator_mm
    rows[:, SPOT_U], rows[:, SPOT_V] = photons.spot_sigma_uv_mm
    low, high = openings.low_uv_mm, openings.high_uv_mm
    rows[:, U0], rows[:, V0], rows[:, U1], rows[:, V1] = low[:, 0], low[:, 1], high[:, 0], high[:, 1]
    rows[:, SOFTENING] = photons.softening_per_100mm / 100
    if photons.extra_focal is not None:
        extra = photons.extra_focal
        rows[:, EXTRA_SHARE], rows[:, EXTRA_DECAY] = extra.share, extra.decay_mm
        rows[:, EXTRA_DISTANCE] = extra.distance_mm
    rows[:, INVERSE_FLUENCE] = 1 / np.maximum(emission.fluence_at(openings.centre_uv_mm), 1e-9)
    if electrons and machine.electrons is not None:
        e = machine.electrons
        if not e.max_energy_MeV < HIGHEST_MeV:
            raise PhysicsError(f"electrons up to {e.max_energy_MeV:g} MeV: the tables end at {HIGHEST_MeV:g} MeV")
        rows[:, ELECTRONS], rows[:, ELECTRON_MEAN] = e.per_photon, e.mean_energy_MeV
        rows[:, ELECTRON_MAX], rows[:, ELECTRON_SPREAD] = e.max_energy_MeV, e.spread_sigma_mm
    return rows


@device
def normal_pair(rng):
    """Two independent standard normal numbers (Box and Muller 1958; the angle after von Neumann)."""
    radius = math.sqrt(2.0 * exponential(rng))
    c, s = azimuth(rng)
    return radius * c, radius * s


@device
def start_point(row, aim_u, aim_v, rng):
    """Where the line of a photon, drawn back if it comes from the head's scatter, crosses the target's plane.

    Without an extra-focal share no random number is drawn for it.
    """
    if row[EXTRA_SHARE] > 0.0 and uniform(rng) < row[EXTRA_SHARE]:
        # The radius of a density exp(-r/decay) in the plane is the sum of two exponentially distributed lengths.
        radius = row[EXTRA_DECAY] * (exponential(rng) + exponential(rng))
        c, s = azimuth(rng)
        u, v = radius * c, radius * s
        edge_u, edge_v = aim_u * row[COLLIMATOR] / row[SAD], aim_v * row[COLLIMATOR] / row[SAD]
        back = row[COLLIMATOR] / (row[COLLIMATOR] - row[EXTRA_DISTANCE])
        return edge_u + (u - edge_u) * back, edge_v + (v - edge_v) * back
    if row[SPOT_U] > 0.0 or row[SPOT_V] > 0.0:
        a, b = normal_pair(rng)
        return a * row[SPOT_U], b * row[SPOT_V]
    return 0.0, 0.0


@device
def photon_energy(edge, accept, other, rng):
    """Energy from the alias table, uniform within its bin."""
    x = uniform(rng) * accept.shape[0]
    i = int(x)
    if x - i >= accept[i]:
        i = other[i]
    return edge[i] + (edge[i + 1] - edge[i]) * uniform(rng)


@device
def line_through(row, aim_u, aim_v, plane, start_u, start_v):
    """Start point and unit direction of a line from the target plane through an aim point of the isocentre plane.

    ``plane`` is the distance from the source at which the aim is seen (the collimator's); a shifted start point
    therefore tilts the line about the aim point in that plane.
    """
    share = plane / row[SAD]
    du, dv, dw = aim_u * share - start_u, aim_v * share - start_v, -plane
    inverse = 1.0 / math.sqrt(du * du + dv * dv + dw * dw)
    du, dv, dw = du * inverse, dv * inverse, dw * inverse
    x = row[SOURCE] + start_u * row[AXIS_U] + start_v * row[AXIS_V]
    y = row[SOURCE + 1] + start_u * row[AXIS_U + 1] + start_v * row[AXIS_V + 1]
    z = row[SOURCE + 2] + start_u * row[AXIS_U + 2] + start_v * row[AXIS_V + 2]
    u = du * row[AXIS_U] + dv * row[AXIS_V] + dw * row[AXIS_W]
    v = du * row[AXIS_U + 1] + dv * row[AXIS_V + 1] + dw * row[AXIS_W + 1]
    w = du * row[AXIS_U + 2] + dv * row[AXIS_V + 2] + dw * row[AXIS_W + 2]
    return x, y, z, u, v, w


@device
def enter(x, y, z, u, v, w, size):
    """Distance along a line to where it enters the box 0 … size (0 from inside); negative when it misses."""
    near, far = 0.0, 1e30
    if abs(u) > 1e-14:
        a, b = -x / u, (size[0] - x) / u
        near, far = max(near, min(a, b)), min(far, max(a, b))
    elif x < 0.0 or x > size[0]:
        return -1.0
    if abs(v) > 1e-14:
        a, b = -y / v, (size[1] - y) / v
        near, far = max(near, min(a, b)), min(far, max(a, b))
    elif y < 0.0 or y > size[1]:
        return -1.0
    if abs(w) > 1e-14:
        a, b = -z / w, (size[2] - z) / w
        near, far = max(near, min(a, b)), min(far, max(a, b))
    elif z < 0.0 or z > size[2]:
        return -1.0
    return near if near < far else -1.0


@device
def through_field(row, x, y, z, u, v, w, kinetic, geometry):
    """Where an electron that leaves the collimator on a line meets the grid, on its helix through the air.

    Gives a point and a direction whose line enters the grid there. An electron that the field turns back to the
    collimator's plane is lost in the head, and one that passes by the grid goes on for ever: they are put beyond the
    source, on a line that leads away. Air neither slows nor scatters it: the source's spectrum and blur are those at the
    patient.
    """
    momentum = math.sqrt(kinetic * (kinetic + 2.0 * MEC2))
    along = -(u * row[AXIS_W] + v * row[AXIS_W + 1] + w * row[AXIS_W + 2])
    begin = row[COLLIMATOR] / along
    x, y, z = x + begin * u, y + begin * v, z + begin * w
    magnet = geometry.field[3]
    bx, by, bz = geometry.field[0], geometry.field[1], geometry.field[2]
    chord = min(max(AIR_TURN_rad * momentum / abs(magnet), AIR_CHORD_mm[0]), AIR_CHORD_mm[1])
    half = 0.5 * chord * magnet / momentum
    depth = 0.0  # below the collimator
    for _ in range(AIR_CHORDS):
        u, v, w = rotate(u, v, w, bx, by, bz, half)
        distance = enter(x, y, z, u, v, w, geometry.size)
        if 0.0 <= distance <= chord:
            return x, y, z, u, v, w
        x, y, z = x + chord * u, y + chord * v, z + chord * w
        depth -= chord * (u * row[AXIS_W] + v * row[AXIS_W + 1] + w * row[AXIS_W + 2])
        u, v, w = rotate(u, v, w, bx, by, bz, half)
        if depth <= 0.0 or depth > FARTHEST_SAD * row[SAD]:
            break
    return -1e6, -1e6, -1e6, -0.6, -0.6, -0.5291502622129182
