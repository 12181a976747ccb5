"""Electron and positron interactions: hard collisions, bremsstrahlung, annihilation, the field. Energies in MeV."""

from __future__ import annotations

import math

from mrlinac.jit import device
from mrlinac.transport.photon import MEC2
from mrlinac.transport.rng import uniform


@device
def moller(kinetic, cut, rng):
    """Energy of the slower electron after a collision that gives it more than ``cut`` (≤ kinetic/2).

    Møller (Ann. Phys. 406:531, 1932): dσ/dε ∝ 1/ε² + 1/(1−ε)² + (γ−1)²/γ² − (2γ−1)/γ² /(ε(1−ε)), ε = T'/T.
    """
    gamma = 1.0 + kinetic / MEC2
    g2 = gamma * gamma
    low = cut / kinetic
    c1 = (gamma - 1.0) * (gamma - 1.0) / g2
    c2 = (2.0 * gamma - 1.0) / g2
    top = 2.0 + 0.25 * c1  # an upper bound of ε² times the bracket, on ε ≤ 1/2
    while True:
        u = uniform(rng)
        eps = low * 0.5 / (0.5 - (0.5 - low) * u)  # ∝ 1/ε² between low and 1/2
        ratio = eps / (1.0 - eps)
        if uniform(rng) * top < 1.0 + ratio * ratio + c1 * eps * eps - c2 * ratio:
            return eps * kinetic


@device
def moller_cos(kinetic, transfer):
    """Cosines of the faster and the slower electron's angles after a transfer, by kinematics."""
    left = kinetic - transfer
    fast = math.sqrt(left * (kinetic + 2.0 * MEC2) / (kinetic * (left + 2.0 * MEC2)))
    slow = math.sqrt(transfer * (kinetic + 2.0 * MEC2) / (kinetic * (transfer + 2.0 * MEC2)))
    return min(1.0, fast), min(1.0, slow)


@device
def bhabha(kinetic, cut, rng):
    """Energy given to the electron by a positron, more than ``cut``; up to all of it.

    Bhabha (Proc. R. Soc. A 154:195, 1936) in the form of ICRU 37: dσ/dε ∝ 1/(β² ε²) − B1/ε + B2 − B3 ε + B4 ε².
    """
    gamma = 1.0 + kinetic / MEC2
    y = 1.0 / (gamma + 1.0)
    beta2 = 1.0 - 1.0 / (gamma * gamma)
    one = 1.0 - 2.0 * y
    b1, b2 = 2.0 - y * y, one * (3.0 + y * y)
    b4 = one * one * one
    b3 = one * one + b4
    low = cut / kinetic
    while True:
        u = uniform(rng)
        eps = low / (1.0 - (1.0 - low) * u)
        if uniform(rng) < 1.0 + beta2 * (-b1 * eps + eps * eps * (b2 - b3 * eps + b4 * eps * eps)):
            return eps * kinetic


@device
def brems_energy(position, quantile, cut, kinetic, rng):
    """Photon energy between ``cut`` and ``kinetic``; quantiles of ln(k/cut)/ln(T/cut) by row of the energy grid."""
    row = int(position)
    if uniform(rng) < position - row:
        row += 1
    count = quantile.shape[1] - 1
    x = uniform(rng) * count
    k = int(x)
    x -= k
    share = quantile[row, k] * (1.0 - x) + quantile[row, k + 1] * x
    return min(kinetic, cut * math.exp(share * math.log(kinetic / cut)))


@device
def annihilation(kinetic, rng):
    """Share of the available energy T + 2mc² that one photon gets when a positron annihilates in flight.

    Heitler (The Quantum Theory of Radiation, 1954, §27): dσ/dζ ∝ S(ζ) + S(1−ζ),
    S(ζ) = −(γ+1)² + (γ²+4γ+1)/ζ − 1/ζ².
    """
    gamma = 1.0 + kinetic / MEC2
    g1 = gamma + 1.0
    c = gamma * gamma + 4.0 * gamma + 1.0
    low = 1.0 / (g1 + math.sqrt(gamma * gamma - 1.0))
    ratio = (1.0 - low) / low
    while True:
        zeta = low * ratio ** uniform(rng)  # ∝ 1/ζ; the other photon has 1 − ζ, so that S(ζ) alone will do
        if uniform(rng) * (gamma * gamma + 2.0 * gamma - 1.0) <= c - g1 * g1 * zeta - 1.0 / zeta:
            return zeta


@device
def rotate(u, v, w, bx, by, bz, angle):
    """Direction turned about the unit vector b by an angle: Rodrigues' formula, in parts of less than 1 rad.

    Seldom more than one part: an electron that lost most of its energy on its chord turns far. A call of the C library
    would make the compiler save all registers at every turn.
    """
    parts = 1 + int(abs(angle))
    if parts > 1:
        angle /= parts
    a2 = angle * angle
    sin = angle * (1.0 - a2 / 6.0 * (1.0 - a2 / 20.0 * (1.0 - a2 / 42.0)))
    versine = 0.5 * a2 * (1.0 - a2 / 12.0 * (1.0 - a2 / 30.0 * (1.0 - a2 / 56.0)))
    cos = 1.0 - versine
    for _ in range(parts):
        dot = (bx * u + by * v + bz * w) * versine
        u, v, w = (
            u * cos + (by * w - bz * v) * sin + bx * dot,
            v * cos + (bz * u - bx * w) * sin + by * dot,
            w * cos + (bx * v - by * u) * sin + bz * dot,
        )
    return u, v, w
