"""Photon interactions: each sampler in scalars, with its formula's source. Energies in MeV."""

from __future__ import annotations

import math

from mrlinac.jit import device
from mrlinac.transport.elementary import exp, ln
from mrlinac.transport.rng import uniform

MEC2 = 0.51099895
TWO_PI = 6.283185307179586


@device
def turn(u, v, w, cos_theta, cos_phi, sin_phi):
    """Direction (u, v, w) turned by a polar angle and an azimuth; normalised."""
    sin_theta = math.sqrt(max(0.0, 1.0 - cos_theta * cos_theta))
    perp2 = u * u + v * v
    if perp2 > 1e-12:
        perp = math.sqrt(perp2)
        a = sin_theta / perp
        x = u * cos_theta + a * (u * w * cos_phi - v * sin_phi)
        y = v * cos_theta + a * (v * w * cos_phi + u * sin_phi)
        z = w * cos_theta - sin_theta * perp * cos_phi
    else:
        sign = 1.0 if w > 0.0 else -1.0
        x = sin_theta * cos_phi
        y = sin_theta * sin_phi * sign
        z = cos_theta * sign
    norm = 1.5 - 0.5 * (x * x + y * y + z * z)  # one Newton step of 1/sqrt: drift stays at rounding
    return x * norm, y * norm, z * norm


@device
def azimuth(rng):
    """Cosine and sine of a uniform angle, without trigonometric functions (von Neumann)."""
    while True:
        x = 2.0 * uniform(rng) - 1.0
        y = uniform(rng)
        x2 = x * x
        y2 = y * y
        r2 = x2 + y2
        if 1e-20 < r2 <= 1.0:
            inverse = 1.0 / r2
            return (x2 - y2) * inverse, 2.0 * x * y * inverse


@device
def klein_nishina(energy, rng):
    """Scattered fraction E'/E and cosine of the angle, for a free electron at rest.

    Klein-Nishina in ε = E'/E: dσ/dε ∝ (1/ε + ε)(1 − ε sin²θ/(1+ε²)); composition and rejection as by Butcher and
    Messel (Nucl. Phys. 20:15, 1960).
    """
    alpha = energy / MEC2
    eps0 = 1.0 / (1.0 + 2.0 * alpha)
    a1 = ln(1.0 + 2.0 * alpha)
    a2 = 0.5 * (1.0 - eps0 * eps0)
    while True:
        if uniform(rng) * (a1 + a2) < a1:
            eps = exp(-a1 * uniform(rng))
        else:
            eps = math.sqrt(eps0 * eps0 + (1.0 - eps0 * eps0) * uniform(rng))
        one_minus_cos = (1.0 - eps) / (alpha * eps)
        sin2 = one_minus_cos * (2.0 - one_minus_cos)
        if uniform(rng) * (1.0 + eps * eps) < 1.0 + eps * eps - eps * sin2:
            return eps, max(-1.0, 1.0 - one_minus_cos)


@device
def compton_electron_cos(energy, eps):
    """Cosine of the recoil electron's angle, from the kinematics of a free electron at rest."""
    alpha = energy / MEC2
    kinetic = energy * (1.0 - eps)
    if kinetic <= 0.0:
        return 0.0
    return min(1.0, (1.0 + alpha) * math.sqrt(kinetic / (kinetic + 2.0 * MEC2)) / alpha)


@device
def photoelectron_cos(kinetic, rng):
    """Cosine of a photoelectron's angle: Sauter's distribution for the K shell (Ann. Phys. 403:454, 1931).

    Sampled in ν = 1 − cosθ as in PENELOPE-2018 (NEA/MBDAV/R(2019)1, eq. 2.15 ff.).
    """
    gamma = 1.0 + kinetic / MEC2
    beta = math.sqrt(kinetic * (kinetic + 2.0 * MEC2)) / (kinetic + MEC2)
    a = 1.0 / beta - 1.0
    b = 0.5 * beta * gamma * (gamma - 1.0) * (gamma - 2.0)
    ceiling = 2.0 * (1.0 / a + b)
    while True:
        r = uniform(rng)
        nu = 2.0 * a / ((a + 2.0) * (a + 2.0) - 4.0 * r) * (2.0 * r + (a + 2.0) * math.sqrt(r))
        if uniform(rng) * ceiling <= (2.0 - nu) * (1.0 / (a + nu) + b):
            return 1.0 - nu


@device
def dipole_cos(beta, r):
    """Cosine of an angle with density ∝ 1/(1 − β cosθ)²: the leading term of pair and bremsstrahlung angles."""
    c = 2.0 * r - 1.0
    return (beta + c) / (1.0 + beta * c)


@device
def pair_fraction(energy, z_mean, rng):
    """Share of the kinetic energy E − 2 mc² that one particle of a pair gets.

    Bethe-Heitler with Thomas-Fermi screening (Motz, Olsen, Koch, Rev. Mod. Phys. 41:581, 1969, 3D-1003) in the
    fraction x of the total energy, sampled by rejection from a uniform x; it is uniform below 2.1 MeV, where the
    Born formula without screening is flat within a few per cent.
    """
    if energy < 2.1:
        return uniform(rng)
    x0 = MEC2 / energy
    screen = 136.0 * x0 / z_mean ** (1.0 / 3.0)
    fz = 4.0 / 3.0 * math.log(z_mean)
    low1, low2 = _screening(4.0 * screen)
    top = max(low1 - fz, low2 - fz, 1e-3)
    while True:
        x = x0 + (1.0 - 2.0 * x0) * uniform(rng)
        f1, f2 = _screening(screen / (x * (1.0 - x)))
        density = (x * x + (1.0 - x) * (1.0 - x)) * (f1 - fz) + 2.0 / 3.0 * x * (1.0 - x) * (f2 - fz)
        if uniform(rng) * top < density:
            return (x - x0) / (1.0 - 2.0 * x0)


@device
def _screening(delta):
    """Screening functions φ1 and φ2 of δ (Butcher and Messel 1960), for δ = 136 Z^(-1/3) mc² k/(E E')."""
    if delta <= 1.0:
        return 20.867 - 3.242 * delta + 0.625 * delta * delta, 20.209 - 1.930 * delta - 0.086 * delta * delta
    common = 21.12 - 4.184 * math.log(delta + 0.952)
    return common, common
