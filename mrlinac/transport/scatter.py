"""Elastic scattering of electrons: Goudsmit-Saunderson for a screened Rutherford cross section with exact moments.

The table is universal: quantiles of the deflection after a step of λ mean collisions and first moment
Q1 = <1 − cosθ> summed over them. Materials enter through λ and Q1 per path only (:mod:`mrlinac.transport.tables`).
Equations and sources: ``docs/theory/transport.md``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mrlinac.jit import device
from mrlinac.transport.rng import uniform

Array = NDArray[np.float64]

SPIN = 0.9
"""β² in the factor 1 − β² sin²(θ/2) of the table's cross section: its value between 0.9 and 1.5 MeV."""

LAMBDA_LOW, LAMBDA_ROWS = 3, 16  # rows at 2^3 … 2^18 collisions
Q1_LOW, Q1_ROWS = -11, 12  # rows at 2^-11 … 2^0
NODES = 128  # intervals in y = sqrt(1 − u), u the cumulative probability
FILE = Path(__file__).resolve().parent.parent / "data" / "scatter.npz"


# -- the table ---------------------------------------------------------------------------------------


def first_moment(eta: Array) -> Array:
    """∫ t (1 − b t/2)/(t + 2η)² dt over t = 1 − cosθ from 0 to 2: Q1 for unit strength."""
    log = np.log1p(1 / eta)
    return log - 1 / (1 + eta) - SPIN / 2 * (2 - 4 * eta * log + 2 * eta / (1 + eta))


def total(eta: Array) -> Array:
    """∫ (1 − b t/2)/(t + 2η)² dt: the number of collisions λ for unit strength."""
    return 1 / (2 * eta * (1 + eta)) - SPIN / 2 * (np.log1p(1 / eta) - 1 / (1 + eta))


def screening_of(mean_loss: Array) -> Array:
    """Screening parameter η whose cross section has the mean 1 − cosθ per collision Q1/λ (bisection)."""
    mean_loss = np.asarray(mean_loss, float)
    low, high = np.full(mean_loss.shape, np.log(1e-14)), np.full(mean_loss.shape, np.log(1e2))
    for _ in range(80):
        middle = (low + high) / 2
        above = first_moment(np.exp(middle)) / total(np.exp(middle)) > mean_loss
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return np.asarray(np.exp((low + high) / 2))


def legendre_moments(eta: Array, count: int) -> Array:
    """Legendre moments m_l, l = 0 … count−1, of one collision; shape (count, *eta.shape).

    ∫ P_l/(z − μ) dμ = 2 Q_l(z) and its derivative, z = 1 + 2η (Abramowitz and Stegun 8.8.3). Forward recurrence
    where it is stable (l ζ < 6, z = cosh ζ), the uniform asymptotic form with Bessel functions beyond.
    """
    eta = np.asarray(eta, float)
    z, norm = 1 + 2 * eta, total(eta)
    zeta = np.arccosh(z)
    sinh = np.sqrt(4 * eta * (1 + eta))
    q0, d0 = 0.5 * np.log1p(1 / eta), -1 / (4 * eta * (1 + eta))
    q1, d1 = z * q0 - 1, q0 + z * d0
    result = np.empty((count, *eta.shape))
    for order in range(count):
        reach = (order + 0.5) * zeta
        far = reach > 6
        root = np.sqrt(zeta / sinh)
        q = np.where(far, root * special.k0(np.minimum(reach, 600)), q0)
        d = np.where(far, -(order + 0.5) / sinh * root * special.k1(np.minimum(reach, 600)), d0)
        result[order] = (-2 * d - SPIN / 2 * (2 * q + 4 * eta * d)) / norm
        with np.errstate(over="ignore", invalid="ignore"):
            q2 = ((2 * order + 3) * z * q1 - (order + 1) * q0) / (order + 2)
            d2 = d0 + (2 * order + 3) * q1
        q0, q1, d0, d1 = q1, np.where(far, 0.0, q2), d1, np.where(far, 0.0, d2)
    return result


def build(count: int = 6000) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Quantiles w [λ row, Q1 row, node] and the scale a/Q1 [λ row, Q1 row].

    The distribution after a step is Σ (l + ½) exp(−λ(1 − m_l)) P_l(cosθ) (Goudsmit and Saunderson, Phys. Rev. 57:24,
    1940), here without its unscattered share exp(−λ). It is kept as quantiles of w, 1 − cosθ = 2 a w/(1 − w + a)
    (the transformation of Kawrakow and Bielajew, NIM B 134:325, 1998) with a such that the median lies at w = ½.
    """
    lam = 2.0 ** np.arange(LAMBDA_LOW, LAMBDA_LOW + LAMBDA_ROWS)
    q1 = 2.0 ** np.arange(Q1_LOW, Q1_LOW + Q1_ROWS)
    eta = screening_of(q1[None, :] / lam[:, None])
    moments = legendre_moments(eta, count)
    unscattered = np.exp(-lam)[:, None]
    coefficient = (np.exp(-lam[:, None] * (1 - moments)) - unscattered) / (1 - unscattered)
    t = np.concatenate([np.geomspace(1e-9, 1.9, 1400), np.linspace(1.9, 2.0, 40)[1:]])
    cumulative = _cumulative(coefficient.reshape(count, -1), t).reshape(len(t), *eta.shape)
    y = np.arange(NODES + 1) / NODES
    wanted = 1 - y**2
    w = np.empty((LAMBDA_ROWS, Q1_ROWS, NODES + 1), np.float32)
    scale = np.empty((LAMBDA_ROWS, Q1_ROWS), np.float32)
    for i in range(LAMBDA_ROWS):
        for j in range(Q1_ROWS):
            f = np.maximum.accumulate(np.clip(cumulative[:, i, j], 0, 1))
            keep = np.concatenate([[True], np.diff(f) > 1e-13])
            f, tt = np.concatenate([[0], f[keep]]), np.concatenate([[0], t[keep]])
            median = float(np.interp(0.5, f, tt))
            a = 0.5 * median / (1 - min(median, 0.95))
            ww = tt * (1 + a) / (2 * a + tt)
            w[i, j] = np.interp(wanted, f, ww)
            w[i, j, 0], w[i, j, NODES] = 1.0, 0.0
            scale[i, j] = a / q1[j]
    return w, scale


def _cumulative(coefficient: Array, t: Array) -> Array:
    """P(1 − cosθ < t): ½ Σ c_l (P_{l−1} − P_{l+1}), with the Legendre recurrence; shape (t, columns)."""
    mu = 1 - t
    before, now = np.ones_like(mu), mu.copy()
    result = 0.5 * coefficient[0][None, :] * t[:, None]
    block, columns = [], []
    for order in range(1, len(coefficient)):
        after = ((2 * order + 1) * mu * now - order * before) / (order + 1)
        block.append(before - after)
        columns.append(order)
        before, now = now, after
        if len(block) == 500 or order == len(coefficient) - 1:
            result += 0.5 * np.stack(block, 1) @ coefficient[columns]
            block, columns = [], []
    return result


@lru_cache(maxsize=1)
def load() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The table from ``mrlinac/data/scatter.npz`` (written by ``tools/build_scatter.py``)."""
    with np.load(FILE) as file:
        return np.ascontiguousarray(file["w"]), np.ascontiguousarray(file["scale"])


# -- sampling ----------------------------------------------------------------------------------------


@device
def octave(value):
    """Exponent and mantissa fraction of a positive float: value = 2^e (1 + f)."""
    bits = np.float64(value).view(np.int64)
    exponent = (bits >> 52) - 1023
    return exponent, value / np.int64((exponent + 1023) << 52).view(np.float64) - 1.0


@device
def multiple(lam, q1, w_table, scale, rng):
    """1 − cosθ after a step of λ ≥ 8 mean collisions and first moment Q1, from the table."""
    i, f = octave(lam)
    i -= LAMBDA_LOW
    if i >= LAMBDA_ROWS - 1:
        i, f = LAMBDA_ROWS - 2, 1.0
    j, g = octave(q1)
    j -= Q1_LOW
    if j < 0:  # weaker than the table: the shape no longer changes, only its scale
        j, g = 0, 0.0
    elif j >= Q1_ROWS - 1:
        j, g = Q1_ROWS - 2, 1.0
    a = q1 * (
        (1.0 - f) * ((1.0 - g) * scale[i, j] + g * scale[i, j + 1])
        + f * ((1.0 - g) * scale[i + 1, j] + g * scale[i + 1, j + 1])
    )
    r = uniform(rng)
    if r < f:
        i += 1
        r = r / f
    else:
        r = (r - f) / (1.0 - f)
    if r < g:
        j += 1
    u = uniform(rng) * (NODES * NODES)
    k = int(math.sqrt(u))  # nodes are even in sqrt(1 − cumulative): dense in the tail
    u = (u - k * k) / (2 * k + 1)  # straight lines in the cumulative probability itself: exact in a 1/t² tail
    w = w_table[i, j, k] * (1.0 - u) + w_table[i, j, k + 1] * u
    return min(2.0, 2.0 * a * w / (1.0 - w + a))


@device
def single(eta, rng):
    """1 − cosθ of one collision: screened Rutherford, with the factor 1 − b sin²(θ/2) by rejection."""
    while True:
        u = uniform(rng)
        t = 2.0 * eta * u / (1.0 - u + eta)
        if uniform(rng) >= 0.5 * SPIN * t:
            return t


@device
def poisson(mean, rng):
    """A Poisson number, by inversion; for means below about 10."""
    term = math.exp(-mean)
    u = uniform(rng) - term
    n = 0
    while u > 0.0 and n < 60:
        n += 1
        term *= mean / n
        u -= term
    return n
