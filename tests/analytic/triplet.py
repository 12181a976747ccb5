"""Triplet production γ + e⁻ → e⁻ + e⁻ + e⁺ at the tree level: its eight Feynman diagrams, added up as numbers.

For one free electron at rest, which is what XCOM's triplet cross section per electron is of, but for radiative corrections
and screening (about 1 %). The invariant amplitude is computed with Dirac spinors and summed over all spins: the photon
is absorbed on either fermion line, before or after the exchanged photon, and the two electrons are exchanged
(Haug, Z. Naturforsch. 30a:1099, 1975, has the same sum in closed form). Energies in MeV, ħ = c = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.constants import FINE_STRUCTURE
from mrlinac.constants import ELECTRON_REST_ENERGY_MeV as M

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

HBARC_MeV_cm = 197.3269804e-13
METRIC = np.array([1.0, -1.0, -1.0, -1.0])
PAULI = np.array([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
_ZERO, _ONE = np.zeros((2, 2)), np.eye(2)
GAMMA = np.array(
    [np.block([[_ONE, _ZERO], [_ZERO, -_ONE]])] + [np.block([[_ZERO, s], [-s, _ZERO]]) for s in PAULI]
)  # contravariant, Dirac's representation


@dataclass(frozen=True)
class Events:
    """Weighted events in the frame of the electron at rest.

    Attributes
    ----------
    slow_MeV, fast_MeV, positron_MeV
        Kinetic energies; of the two electrons the slower one is called the recoil.
    sigma_cm2
        Weights: their mean is the cross section of one electron.
    """

    slow_MeV: Array
    fast_MeV: Array
    positron_MeV: Array
    sigma_cm2: Array

    @property
    def total_cm2(self) -> tuple[float, float]:
        """Cross section and its standard error."""
        w = self.sigma_cm2
        return float(w.mean()), float(w.std() / np.sqrt(len(w)))

    def mean(self, of: Array) -> float:
        """Mean of a quantity over events."""
        return float(np.average(of, weights=self.sigma_cm2))


def events(photon_MeV: float, number: int, seed: int) -> Events:
    """Random events; the weight of those where the electron meant as recoil is not the slower one is zero."""
    rng = np.random.default_rng(seed)
    recoil, other, positron, phase_space = _final_states(photon_MeV, number, rng)
    keep = recoil[:, 0] <= other[:, 0]  # each pair of electrons once: no factor ½ for equal particles
    square = np.zeros(number)
    for part in np.array_split(np.flatnonzero(keep), max(1, number // 2000)):
        square[part] = _spin_sum(photon_MeV, recoil[part], other[part], positron[part])
    flux = 4 * M * photon_MeV
    sigma = (4 * np.pi * FINE_STRUCTURE) ** 3 * square * phase_space / flux * HBARC_MeV_cm**2
    return Events(recoil[:, 0] - M, other[:, 0] - M, positron[:, 0] - M, sigma)


# -- phase space -------------------------------------------------------------------------------------


def _final_states(photon_MeV: float, number: int, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Momenta of recoil, other electron and positron, and the volume of phase space that each event stands for.

    Two decays in turn: recoil and pair in the centre of momentum, then the pair. The pair's mass is drawn from ds/s, the
    recoil's angle from 1/(a + 1 + cos): most recoils go backwards.
    """
    s = M * M + 2 * photon_MeV * M
    root, beta = np.sqrt(s), photon_MeV / (photon_MeV + M)
    x = rng.random((number, 5))
    low, high = 4 * M * M, (root - M) ** 2
    mass2 = low * (high / low) ** x[:, 0]
    a = 0.5 * M / photon_MeV
    grown = a * ((2 + a) / a) ** x[:, 1]
    direction_weight = grown * np.log((2 + a) / a) / 2  # over a uniform cosine
    cos_1, cos_2 = grown - a - 1, 2 * x[:, 3] - 1
    p1, mass = _decay_momentum(s, M * M, mass2), np.sqrt(mass2)
    p2 = np.sqrt(np.maximum(mass2 / 4 - M * M, 0))
    v1, v2 = p1[:, None] * _unit(cos_1, x[:, 2]), p2[:, None] * _unit(cos_2, x[:, 4])
    recoil = _four(np.sqrt(p1**2 + M * M), v1)
    pair = _four(np.sqrt(p1**2 + mass2), -v1)
    other, positron = (_out_of_rest(_four(mass / 2, sign * v2), pair, mass) for sign in (1, -1))
    volume = mass2 * np.log(high / low) / (2 * np.pi) * p1 / (4 * np.pi * root) * p2 / (4 * np.pi * mass)
    lab = [_boost_z(p, beta) for p in (recoil, other, positron)]
    return lab[0], lab[1], lab[2], volume * direction_weight


def _decay_momentum(s: float, a2: float, b2: Array) -> Array:
    """Momentum of two particles of squared masses a2 and b2 that s decays to."""
    return np.sqrt(np.maximum((s - a2 - b2) ** 2 - 4 * a2 * b2, 0)) / (2 * np.sqrt(s))


def _unit(cos: Array, turn: Array) -> Array:
    sin = np.sqrt(np.maximum(1 - cos**2, 0))
    return np.stack([sin * np.cos(2 * np.pi * turn), sin * np.sin(2 * np.pi * turn), cos], -1)


def _four(energy: Array, vector: Array) -> Array:
    return np.concatenate([energy[:, None], vector], -1)


def _out_of_rest(p: Array, moving: Array, mass: Array) -> Array:
    """Momentum p, given where ``moving`` is at rest, as seen where it moves."""
    dot = np.sum(p[:, 1:] * moving[:, 1:], -1)
    energy = (moving[:, 0] * p[:, 0] + dot) / mass
    return _four(energy, p[:, 1:] + moving[:, 1:] * ((dot / (moving[:, 0] + mass) + p[:, 0]) / mass)[:, None])


def _boost_z(p: Array, beta: float) -> Array:
    gamma = 1 / np.sqrt(1 - beta**2)
    energy, z = gamma * (p[:, 0] + beta * p[:, 3]), gamma * (p[:, 3] + beta * p[:, 0])
    return np.stack([energy, p[:, 1], p[:, 2], z], -1)


# -- amplitude ---------------------------------------------------------------------------------------


def _spin_sum(photon_MeV: float, one: Array, two: Array, positron: Array) -> Array:
    """|amplitude|² without e⁶, mean over the spins of photon and electron at rest, sum over the others'."""
    k = np.tile([photon_MeV, 0.0, 0.0, photon_MeV], (len(one), 1))
    rest = np.tile([M, 0.0, 0.0, 0.0], (len(one), 1))
    direct = _two_lines(k, rest, one, two, positron)
    exchanged = _two_lines(k, rest, two, one, positron)
    square = np.abs(direct - np.swapaxes(exchanged, 2, 4)) ** 2
    return np.asarray(square.sum(axis=(1, 2, 3, 4, 5)) / 4)


def _two_lines(k: Array, rest: Array, knocked: Array, made: Array, positron: Array) -> Complex:
    """Four diagrams: the electron at rest becomes ``knocked``, the other line is the pair ``made`` and positron.

    Axes: event, polarisation, spins of knocked, rest, made, positron.
    """
    bar_knocked, bar_made = _bar(_spinor(knocked)), _bar(_spinor(made))
    start, end = _spinor(rest), _spinor(positron, lower=True)
    pair, knock = made + positron, rest - knocked  # the exchanged photon without, and with, the real one on the pair
    on_first = _with_photon(bar_knocked, start, knocked, rest, k)
    on_second = _with_photon(bar_made, end, made, -positron, k)
    first = np.einsum("npabm,ncdm,m,n->npabcd", on_first, _current(bar_made, end), METRIC, 1 / _square(pair))
    second = np.einsum("nabm,npcdm,m,n->npabcd", _current(bar_knocked, start), on_second, METRIC, 1 / _square(knock))
    return np.asarray(first + second)


def _with_photon(bar: Complex, spinor: Complex, after: Array, before: Array, k: Array) -> Complex:
    """Current of a line that also absorbs the real photon, before or after: [event, polarisation, out, in, μ]."""
    photon = _slash(np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]))
    first = np.einsum("mab,nbc,pcd->npmad", GAMMA, _propagator(before + k), photon, optimize=True)
    last = np.einsum("pab,nbc,mcd->npmad", photon, _propagator(after - k), GAMMA, optimize=True)
    return np.asarray(np.einsum("nsa,npmad,ntd->npstm", bar, first + last, spinor, optimize=True))


def _current(bar: Complex, spinor: Complex) -> Complex:
    return np.asarray(np.einsum("nsa,mab,ntb->nstm", bar, GAMMA, spinor, optimize=True))


def _propagator(p: Array) -> Complex:
    return np.asarray((_slash(p) + M * np.eye(4)) / (_square(p) - M * M)[:, None, None])


def _slash(p: Array) -> Complex:
    return np.asarray(np.einsum("nm,mab->nab", p * METRIC, GAMMA))


def _square(p: Array) -> Array:
    return np.asarray(np.sum(p * p * METRIC, -1))


def _bar(spinor: Complex) -> Complex:
    return np.asarray(np.conj(spinor) @ GAMMA[0])


def _spinor(p: Array, lower: bool = False) -> Complex:
    """u(p), or v(p), for two spins: [event, spin, component]; ūu = 2m."""
    root = np.sqrt(p[:, 0] + M)[:, None]
    turned = np.einsum("ni,iab->nab", p[:, 1:], PAULI)
    out = np.zeros((len(p), 2, 4), complex)
    large, small = (slice(2, 4), slice(0, 2)) if lower else (slice(0, 2), slice(2, 4))
    for spin in range(2):
        out[:, spin, large][:, spin] = root[:, 0]
        out[:, spin, small] = turned[:, :, spin] / root
    return out
