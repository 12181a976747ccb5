"""Random numbers: one stream per history, found from its name alone.

A history's name — seed, purpose, beam, lattice indices or batch, number — goes through Philox4x32-10 (Salmon et al.,
Proc. SC11, 2011), a counter-based generator whose output for one counter needs no other. Its 128 bits start a
xoroshiro128+ generator (Blackman and Vigna, ACM TOMS 47:36, 2021) that serves the history. Streams are therefore
independent of threads, order and subset; two of 1e10 histories with 1e3 numbers each overlap with a chance of 1e-15.
"""

from __future__ import annotations

import numpy as np

from mrlinac.jit import device
from mrlinac.transport.elementary import ln

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
U32, U24, U37, U16, U48, U11 = (
    np.uint64(32),
    np.uint64(24),
    np.uint64(37),
    np.uint64(16),
    np.uint64(48),
    np.uint64(11),
)
TO_UNIT = 1.0 / 9007199254740992.0  # 2^-53


@device
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four 32-bit words (in uint64) from a counter of four words and a key of two."""
    for _ in range(10):
        p0 = M0 * c0
        p1 = M1 * c2
        c0, c1, c2, c3 = (p1 >> U32) ^ c1 ^ k0, p1 & LOW, (p0 >> U32) ^ c3 ^ k1, p0 & LOW
        k0 = (k0 + W0) & LOW
        k1 = (k1 + W1) & LOW
    return c0, c1, c2, c3


@device
def start(rng, history, name):
    """Start the stream of a history. ``name`` holds five words: key (2) and counter (3); ``rng`` is uint64[2]."""
    a, b, c, d = philox(np.uint64(history) & LOW, name[2], name[3], name[4], name[0], name[1])
    rng[0] = (a << U32) | b
    rng[1] = (c << U32) | d | np.uint64(1)  # the all-zero state is the generator's only bad one


@device
def uniform(rng):
    """Next number in [0, 1), 53 bits."""
    s0 = rng[0]
    s1 = rng[1]
    result = s0 + s1
    s1 ^= s0
    rng[0] = ((s0 << U24) | (s0 >> np.uint64(40))) ^ s1 ^ (s1 << U16)
    rng[1] = (s1 << U37) | (s1 >> np.uint64(27))
    return np.float64(np.int64(result >> U11)) * TO_UNIT


@device
def exponential(rng):
    """Exponential number with mean 1: −ln of a uniform one in (0, 1]."""
    return -ln(1.0 - uniform(rng))


def words(seed: int, purpose: int, first: int, second: int, third: int) -> np.ndarray:
    """The five words of a stream's name from plain integers (negative ones wrap)."""
    low = 0xFFFFFFFF
    key = (seed & low, ((seed >> 32) ^ (purpose * 0x632BE5AB)) & low)
    return np.array([*key, first & low, second & low, third & low], dtype=np.uint64)
