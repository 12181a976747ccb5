"""Kernel tables: the materials' data on one energy grid, packed for the processor's cache.

The grid is fixed: 32 straight pieces per octave of energy from 2^-6 MeV, so that the row of an energy is read from
the bits of the number. Photon columns are per mm and g/cm³; electron columns likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlinac.constants import FINE_STRUCTURE, AVOGADRO_per_mol, CLASSICAL_ELECTRON_RADIUS_cm, ELECTRON_REST_ENERGY_MeV
from mrlinac.errors import PhysicsError
from mrlinac.jit import device
from mrlinac.transport import materials, scatter
from mrlinac.transport.brems import Spectrum, spectrum

Array = NDArray[np.float64]
MEC2 = ELECTRON_REST_ENERGY_MeV

LOW_EXPONENT, OCTAVES, PER_OCTAVE = -6, 10, 32
ROWS = OCTAVES * PER_OCTAVE + 1
SHIFT = 52 - 5
FIRST = (1023 + LOW_EXPONENT) * PER_OCTAVE
LOWEST_MeV, HIGHEST_MeV = 2.0**LOW_EXPONENT, 2.0 ** (LOW_EXPONENT + OCTAVES)

# photon columns
TOTAL, COMPTON, PAIR, PHOTO = range(4)  # COMPTON, PAIR, PHOTO: cumulative shares; the rest is coherent
# electron columns
STEP, LOSS, HARD, BREMS_SHARE, BHABHA_SHARE, Q1, COLLISIONS, ETA = range(8)

REST_SHARE = 0.39
"""Mean depth of the energy that an electron of 100 to 200 keV leaves in water, in units of its CSDA range: 0.389 by
this code with a cut of 20 keV and fine steps."""

ANGLE_NODES = 128
FORM_NODES = 96
X_LOW, X_HIGH = 5e-3, 1e3  # of the form factor's table, per angstrom
HC_MeV_ANGSTROM = 0.01239842
BINDING_NODES = 256
BINDING_PER_X = 32.0  # rows per 1/Å; beyond 8/Å electrons of tissue count as free


@dataclass(frozen=True)
class Settings:
    """Where the transport stops and how finely it steps: numerics, not data.

    Attributes
    ----------
    photon_cut_MeV
        Photons below it are absorbed where they are; also the production threshold of bremsstrahlung.
    electron_cut_MeV
        Electrons below it deposit their energy where they are.
    delta_cut_MeV
        Secondary electrons above it are followed; below it their energy is a continuous loss.
    max_loss
        Share of the kinetic energy that a step may lose at the rate of its start; what it loses is up to a quarter more.
    max_q1
        The same for the first moment <1 − cosθ> of its scattering.
    max_turn_rad
        Angle turned by the field along one chord of the track, at the energy of its start; a chord is no longer than a
        voxel.
    coherent
        Whether photons scatter coherently (Rayleigh).
    binding
        Whether bound electrons suppress small Compton angles.
    roulette_MeV, roulette_weight
        Secondary photons of energy E with less than the weight ``min(roulette_weight, roulette_MeV/E)`` are followed
        with it or lost, by Russian roulette; a weight of 0 turns it off.
    rest_voxels
        Where the densities of a voxel and its neighbours are alike, an electron whose range is shorter than this share
        of the voxel's shortest side deposits what it has left at one point.
    fine_cut_MeV
        ``electron_cut_MeV`` and ``delta_cut_MeV`` in fine voxels, within some mm of air and big steps of density, where
        it is the smaller (:func:`mrlinac.transport.cpu.fine_voxels`).
    fine_loss, fine_q1
        ``max_loss`` and ``max_q1`` in fine voxels, where they are the smaller.
    """

    photon_cut_MeV: float = 0.05
    electron_cut_MeV: float = 0.2
    delta_cut_MeV: float = 0.2
    max_loss: float = 0.25
    max_q1: float = 0.4
    max_turn_rad: float = 0.5
    coherent: bool = True
    binding: bool = True
    roulette_MeV: float = 1.0
    roulette_weight: float = 4.0
    rest_voxels: float = 0.3
    fine_cut_MeV: float = 0.05
    fine_loss: float = 0.1
    fine_q1: float = 0.15

    def __post_init__(self) -> None:
        if not LOWEST_MeV <= self.photon_cut_MeV <= 0.5:
            raise PhysicsError(f"photon_cut_MeV must lie from {LOWEST_MeV:.4f} to 0.5")
        if not LOWEST_MeV <= self.electron_cut_MeV <= 1.0 or not 0.02 <= self.delta_cut_MeV <= 1.0:
            raise PhysicsError(f"electron_cut_MeV must lie from {LOWEST_MeV:.4f} to 1, delta_cut_MeV from 0.02 to 1")
        if not 0 < self.max_turn_rad <= 1 or not 0 < self.max_loss <= 0.5 or not 0 < self.max_q1 <= 0.5:
            raise PhysicsError("max_turn_rad must lie above 0 and up to 1, max_loss and max_q1 up to 0.5")
        if not 0.02 <= self.fine_cut_MeV <= 1 or not 0 < self.fine_loss <= 0.5 or not 0 < self.fine_q1 <= 0.5:
            raise PhysicsError("fine_cut_MeV must lie from 0.02 to 1, fine_loss and fine_q1 above 0 and up to 0.5")
        if not 0 <= self.rest_voxels <= 1 or self.roulette_MeV < 0 or self.roulette_weight < 0:
            raise PhysicsError("rest_voxels must lie from 0 to 1, roulette_MeV and roulette_weight not below 0")

    @property
    def finely(self) -> Settings:
        """What holds in fine voxels."""
        return replace(
            self,
            electron_cut_MeV=min(self.fine_cut_MeV, self.electron_cut_MeV),
            delta_cut_MeV=min(self.fine_cut_MeV, self.delta_cut_MeV),
            max_loss=min(self.fine_loss, self.max_loss),
            max_q1=min(self.fine_q1, self.max_q1),
        )


# Places in Tables.cuts
(
    PHOTON_CUT, ELECTRON_CUT, DELTA_CUT, MAX_TURN, COHERENT, BINDING, ROULETTE, ROULETTE_WEIGHT, REST,
    FINE_ELECTRON_CUT, FINE_DELTA_CUT,
) = range(11)  # fmt: skip


class Tables(NamedTuple):
    """Arrays the kernels read; all float32 but ``cuts``."""

    photon: NDArray[np.float32]  # [material, row, 4]
    electron: NDArray[np.float32]  # [charge, material, then material in fine voxels, row, 8]
    range_mm: NDArray[np.float32]  # [material, row] at 1 g/cm³
    brems: NDArray[np.float32]  # [material, row, node] quantiles of ln(k/cut)/ln(T/cut)
    w: NDArray[np.float32]  # Goudsmit-Saunderson
    scale: NDArray[np.float32]
    binding: NDArray[np.float32]  # [material, node] S(x)
    form: NDArray[np.float32]  # [material, node] cumulative F² over x²
    z_mean: NDArray[np.float32]  # [material]
    cuts: NDArray[np.float64]  # Settings, at the places named above


@device
def row_of(energy):
    """Row of an energy and the position in it, from the number's bits."""
    bits = np.float64(energy).view(np.int64)
    row = (bits >> SHIFT) - FIRST
    low = np.int64((row + FIRST) << SHIFT).view(np.float64)
    high = np.int64((row + FIRST + 1) << SHIFT).view(np.float64)
    return row, (energy - low) / (high - low)


def energy_grid_MeV() -> Array:
    """Energies of the rows."""
    row = np.arange(ROWS)
    return 2.0 ** (row // PER_OCTAVE + LOW_EXPONENT) * (1 + (row % PER_OCTAVE) / PER_OCTAVE)


def load(names: Sequence[str], settings: Settings = Settings()) -> Tables:
    """Tables of the named materials, in this order.

    Raises
    ------
    PhysicsError
        For an unknown material.
    """
    return _load(tuple(names), settings)


@lru_cache(maxsize=8)
def _load(names: tuple[str, ...], settings: Settings) -> Tables:
    energy = energy_grid_MeV()
    spectra = [spectrum(n, energy, settings.photon_cut_MeV) for n in names]
    electron = np.stack(
        [
            np.stack(
                [
                    electron_columns(n, energy, s, settings, positron, fine)
                    for fine in (False, True)
                    for n, s in zip(names, spectra, strict=True)
                ]
            )
            for positron in (False, True)
        ]
    )
    w, scale = scatter.load()
    x = np.arange(BINDING_NODES + 1) / BINDING_PER_X
    binding = np.stack([materials.incoherent_function(n, x) for n in names])
    tables = Tables(
        photon=np.stack([photon_columns(n, energy, settings) for n in names]).astype(np.float32),
        electron=electron.astype(np.float32),
        range_mm=np.stack([csda_range_mm(n, energy) for n in names]).astype(np.float32),
        brems=np.stack([s.quantile for s in spectra]).astype(np.float32),
        w=w,
        scale=scale,
        binding=binding.astype(np.float32),
        form=np.stack([form_quantiles(n) for n in names]).astype(np.float32),
        z_mean=np.array([mean_z(materials.material(n)) for n in names], np.float32),
        cuts=np.array(
            [
                settings.photon_cut_MeV,
                settings.electron_cut_MeV,
                settings.delta_cut_MeV,
                settings.max_turn_rad,
                float(settings.coherent),
                float(settings.binding),
                settings.roulette_MeV,
                settings.roulette_weight,
                settings.rest_voxels,
                settings.finely.electron_cut_MeV,
                settings.finely.delta_cut_MeV,
            ]
        ),
    )
    for array in tables:
        array.setflags(write=False)
    return tables


# -- photons -----------------------------------------------------------------------------------------


def photon_columns(name: str, energy: Array, settings: Settings) -> Array:
    """Attenuation per mm and g/cm³, and the cumulative shares of the processes; columns as named above."""
    data = materials.photon(name, energy)
    coherent = data.coherent if settings.coherent else np.zeros_like(energy)
    pair = data.pair + data.triplet
    total = data.incoherent + pair + data.photoelectric + coherent
    shares = np.cumsum([data.incoherent, pair, data.photoelectric], axis=0) / total
    return np.stack([total * 0.1, *shares], -1)


def form_quantiles(name: str) -> Array:
    """Cumulative ∫ F² d(x²) on a logarithmic grid of x, with the grid's logarithm left to the kernel."""
    x = np.geomspace(X_LOW, X_HIGH, FORM_NODES + 1)
    fine = np.geomspace(1e-4, X_HIGH, 4001)
    f2 = materials.form_factor_squared(name, np.minimum(fine, 1e9))
    area = np.concatenate([[0], np.cumsum(0.5 * (f2[1:] + f2[:-1]) * np.diff(fine**2))])
    return np.interp(x, fine, area)


def mean_z(material: materials.Material) -> float:
    """Mean atomic number as pair production sees it: weighted by Z² atoms."""
    atoms = material.weight / material.atomic_weight
    z = material.atomic_number.astype(float)
    return float(np.sum(atoms * z**3) / np.sum(atoms * z**2))


# -- electrons ---------------------------------------------------------------------------------------


FINE_FROM_g_cm2 = 0.018
"""Fine steps are not shorter than this, a step of 200 keV elsewhere: shorter ones are short enough whatever they lose."""


def electron_columns(
    name: str, energy: Array, radiated: Spectrum, settings: Settings, positron: bool, fine: bool = False
) -> Array:
    """The eight columns of one material and charge, in fine voxels or elsewhere; per mm and g/cm³."""
    material = materials.material(name)
    delta = (settings.finely if fine else settings).delta_cut_MeV
    radiative = materials.radiative_stopping(name, energy)
    stopping = (
        materials.restricted_collision_stopping(name, energy, delta, positron) + radiative * radiated.soft_share
    )
    brems = radiative * radiated.number_per_MeV
    collisions = bhabha_per_electron_cm2(energy, delta) if positron else moller_per_electron_cm2(energy, delta)
    flight = annihilation_per_electron_cm2(energy) if positron else np.zeros_like(energy)
    collisions, flight = collisions * material.electrons_per_g, flight * material.electrons_per_g
    hard = brems + collisions + flight
    safe = np.maximum(hard, 1e-300)
    q1, number, eta = scattering(material, energy, delta)
    # The step at 1 g/cm³: by loss, by scattering, and so that two hard events in one stay rare.
    path = np.minimum(settings.max_loss * energy / stopping, settings.max_q1 / q1)
    if fine:
        finer = np.minimum(settings.finely.max_loss * energy / stopping, settings.finely.max_q1 / q1)
        path = np.minimum(path, np.maximum(finer, FINE_FROM_g_cm2))
    path = np.minimum(path, 0.3 / np.maximum(hard, 1e-3))
    loss = loss_over(energy, stopping, path)
    q1, number, hard = (share_over(energy, each / stopping, loss) for each in (q1, number, hard))
    return np.stack([path * 10, loss, hard, brems / safe, (brems + collisions) / safe, q1, number, eta], -1)


FINE = 8  # points of a row where steps are integrated


def loss_over(energy: Array, stopping: Array, path: Array) -> Array:
    """Energy lost over a path from each energy, in the continuous slowing down of a restricted stopping power."""
    fine = np.geomspace(energy[0] / 4, energy[-1], FINE * len(energy))
    inverse = 1 / _extended(fine, energy, stopping)
    way = np.concatenate([[0], np.cumsum(0.5 * (inverse[1:] + inverse[:-1]) * np.diff(fine))])
    return energy - np.interp(np.interp(energy, fine, way) - path, way, fine)


def share_over(energy: Array, per_MeV: Array, loss: Array) -> Array:
    """What happens per lost MeV, summed over the loss of a step."""
    fine = np.geomspace(energy[0] / 4, energy[-1], FINE * len(energy))
    value = _extended(fine, energy, per_MeV)
    total = np.concatenate([[0], np.cumsum(0.5 * (value[1:] + value[:-1]) * np.diff(fine))])
    return np.interp(energy, fine, total) - np.interp(energy - loss, fine, total)


def _extended(fine: Array, energy: Array, value: Array) -> Array:
    """Values on a finer and deeper grid; below the first energy by the power law of the first rows."""
    low, high = np.log(np.maximum(value[[0, 4]], 1e-300))
    slope = (high - low) / np.log(energy[4] / energy[0])
    return np.where(
        fine < energy[0], value[0] * np.minimum(fine / energy[0], 1.0) ** slope, np.interp(fine, energy, value)
    )


def moller_per_electron_cm2(energy: Array, cut: float) -> Array:
    """Møller cross section for transfers from ``cut`` to T/2; zero below T = 2 cut."""
    gamma = 1 + energy / MEC2
    beta2 = 1 - 1 / gamma**2
    x = np.minimum(cut / energy, 0.5)
    shape = (
        1 / x
        - 1 / (1 - x)
        + ((gamma - 1) / gamma) ** 2 * (0.5 - x)
        + (2 * gamma - 1) / gamma**2 * np.log(x / (1 - x))
    )
    return _two_pi_re2() * MEC2 / (beta2 * energy) * np.maximum(shape, 0.0)


def bhabha_per_electron_cm2(energy: Array, cut: float) -> Array:
    """Bhabha cross section for transfers from ``cut`` to T."""
    gamma = 1 + energy / MEC2
    beta2 = 1 - 1 / gamma**2
    y = 1 / (gamma + 1)
    one = 1 - 2 * y
    b1, b2, b4 = 2 - y**2, one * (3 + y**2), one**3
    b3 = one**2 + b4
    x = np.minimum(cut / energy, 1.0)
    shape = (1 / x - 1) / beta2 + b1 * np.log(x) + b2 * (1 - x) - b3 / 2 * (1 - x**2) + b4 / 3 * (1 - x**3)
    return _two_pi_re2() * MEC2 / energy * np.maximum(shape, 0.0)


def annihilation_per_electron_cm2(energy: Array) -> Array:
    """Two-photon annihilation in flight: Heitler, The Quantum Theory of Radiation (1954), §27."""
    gamma = 1 + energy / MEC2
    root = np.sqrt(gamma**2 - 1)
    bracket = (gamma**2 + 4 * gamma + 1) * np.log(gamma + root) - (3 + gamma) * root
    return 0.5 * _two_pi_re2() / ((gamma + 1) * root**2) * bracket


def _two_pi_re2() -> float:
    return 2 * np.pi * CLASSICAL_ELECTRON_RADIUS_cm**2


def scattering(material: materials.Material, energy: Array, delta_cut: float) -> tuple[Array, Array, Array]:
    """First moment and number of elastic collisions per g/cm², and the effective screening parameter.

    Per element: screened Rutherford with Molière's screening angle, times McKinley and Feshbach's spin factor
    (Phys. Rev. 74:1759, 1948) for the nucleus; Z electrons more, up to the angle of a transfer of ``delta_cut``
    (beyond it collisions are hard events of their own). The strength of the tail stays Rutherford's; the effective
    screening reproduces the first moment.
    """
    p2 = energy * (energy + 2 * MEC2)
    beta2 = p2 / (energy + MEC2) ** 2
    transfer = np.minimum(delta_cut, energy / 2)
    left = energy - transfer
    cut_angle = 1 - np.sqrt(left * (energy + 2 * MEC2) / (energy * (left + 2 * MEC2)))
    q1, strength = np.zeros_like(energy), np.zeros_like(energy)
    for z, a, weight in zip(material.atomic_number, material.atomic_weight, material.weight, strict=True):
        atoms = AVOGADRO_per_mol * weight / a
        unit = atoms * _two_pi_re2() * MEC2**2 / (p2 * beta2)
        eta = moliere_screening(float(z), p2, beta2)
        q1 += unit * (z**2 * nuclear_moment(eta, beta2, float(z)) + z * electron_moment(eta, cut_angle))
        strength += unit * z * (z + 1)
    eta = _effective_screening(q1 / strength)
    return q1, strength * scatter.total(eta), eta


def moliere_screening(z: float, p2: Array, beta2: Array) -> Array:
    """η = χ_a²/4 with Molière's screening angle (Z. Naturforsch. 2a:133, 1947)."""
    alpha_z = FINE_STRUCTURE * z
    chi0 = FINE_STRUCTURE * MEC2 * z ** (1 / 3) / 0.88534
    return chi0**2 / p2 * (1.13 + 3.76 * alpha_z**2 / beta2) / 4


def nuclear_moment(eta: Array, beta2: Array, z: float) -> Array:
    """∫ t R(t)/(t+2η)² dt over 0 … 2, R = 1 − β² s² + π α β Z s(1 − s), s² = t/2."""
    log = np.log1p(1 / eta)
    rutherford = log - 1 / (1 + eta)
    square = 2 - 4 * eta * log + 2 * eta / (1 + eta)
    # ∫ s(1 − s)/t dt with s² = t/2, screening neglected: ∫ 2 (1 − s) ds = 1.
    return rutherford - beta2 / 2 * square + np.pi * FINE_STRUCTURE * np.sqrt(beta2) * z


def electron_moment(eta: Array, cut_angle: Array) -> Array:
    """∫ t/(t+2η)² dt over 0 … the largest soft deflection."""
    x = cut_angle / (2 * eta)
    return np.log1p(x) - x / (1 + x)


def _effective_screening(moment: Array) -> Array:
    """η whose first moment for unit strength is the given one (bisection)."""
    low, high = np.full(moment.shape, np.log(1e-14)), np.full(moment.shape, np.log(10.0))
    for _ in range(80):
        middle = (low + high) / 2
        larger = scatter.first_moment(np.exp(middle)) > moment
        low, high = np.where(larger, middle, low), np.where(larger, high, middle)
    return np.asarray(np.exp((low + high) / 2))


def csda_range_mm(name: str, energy: Array) -> Array:
    """Range by continuous slowing down at 1 g/cm³, from 10 keV up."""
    fine = np.geomspace(0.0101, HIGHEST_MeV, 3000)
    total = materials.collision_stopping(name, fine) + materials.radiative_stopping(name, fine)
    integral = np.concatenate([[0], np.cumsum(0.5 * (1 / total[1:] + 1 / total[:-1]) * np.diff(fine))])
    start = 0.5 * fine[0] / total[0]
    return np.interp(energy, fine, integral + start) * 10
