"""Logarithm and exponential written out.

A call of the C library would make the compiler save all registers around it, in loops that have no other call.
"""

from __future__ import annotations

import math

import numpy as np

from mrlinac.jit import device

LN2 = 0.6931471805599453
INVERSE_LN2 = 1.4426950408889634
ROOT_HALF_BITS = 0x3FE6A09E667F3BCD


@device
def ln(value):
    """Natural logarithm of a positive normal number, to 1e-13: its exponent, and ln m = 2 artanh((m − 1)/(m + 1))."""
    bits = np.float64(value).view(np.int64)
    exponent = (bits - ROOT_HALF_BITS) >> 52
    m = np.int64(bits - (exponent << 52)).view(np.float64)  # from √½ to √2
    r = (m - 1.0) / (m + 1.0)
    q = r * r
    q2 = q * q
    series = (1.0 + q / 3) + (1 / 5 + q / 7) * q2 + ((1 / 9 + q / 11) + (1 / 13 + q / 15) * q2) * (q2 * q2)
    return exponent * LN2 + 2.0 * r * series


@device
def exp(value):
    """e to a power between −700 and 700, to 1e-12: 2ⁿ e^r with |r| ≤ ln 2 / 2, by Taylor's series."""
    n = np.int64(math.floor(value * INVERSE_LN2 + 0.5))
    r = value - n * LN2
    s = 1.0 + r / 7 * (1.0 + r / 8 * (1.0 + r / 9 * (1.0 + r / 10)))
    s = 1.0 + r * (1.0 + r / 2 * (1.0 + r / 3 * (1.0 + r / 4 * (1.0 + r / 5 * (1.0 + r / 6 * s)))))
    return s * np.int64((n + 1023) << 52).view(np.float64)
