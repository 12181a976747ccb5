"""Norms of hinges: w (Σ m s^a)^(1/a), the generalised EUD in the objective or in a limit.

A norm joins its hinges: its second derivative is diag(bend) - c g gᵀ, g its slope. Newton's step keeps the diagonal with
the hinges, which are eliminated one by one, and pays for the rest with one more line beside the limits. The dual norm
bounds the hinges' multipliers together, so that the certificate needs no tolerance here either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.optimise.canonical import Hinges

Array = NDArray[np.float64]
SMALL = 1e-12
SMALLEST_Gy = 1e-3
"""Least norm from which a start is taken."""


@dataclass(frozen=True)
class Norm:
    """One norm: its hinges, their parts m (sum 1), exponent a > 1, weight w, and the limit it is part of (-1: none)."""

    hinges: NDArray[np.int64]
    part: Array
    exponent: float
    weight: float
    limit: int

    def size(self, s: Array) -> float:
        """(Σ m sᵃ)^(1/a), without overflow."""
        above = np.maximum(s[self.hinges], 0)
        high = max(float(above.max()), SMALL)
        return high * float(np.power(self.part @ (above / high) ** self.exponent, 1 / self.exponent))

    def price(self, mu: Array) -> float:
        """Of the norm: its limit's multiplier, or one."""
        return float(mu[self.limit]) if self.limit >= 0 else 1.0


class Norms:
    """All norms of a programme; false where there are none."""

    def __init__(self, h: Hinges, weights: list[float]) -> None:
        members = [np.flatnonzero(h.norm == k) for k in range(len(weights))]
        self.all = [
            Norm(i, h.part[i], float(h.exponent[i[0]]), w, int(h.limit[i[0]]))
            for i, w in zip(members, weights, strict=True)
        ]
        self.of = h.norm
        self.members = np.flatnonzero(h.norm >= 0)

    def __len__(self) -> int:
        return len(self.all)

    def cost(self, s: Array) -> float:
        """Of the norms that are part of the objective."""
        return sum(n.weight * n.size(s) for n in self.all if n.limit < 0)

    def in_limits(self, s: Array, count: int) -> Array:
        """Value of the norms in each of so many limits."""
        total = np.zeros(count)
        for n in self.all:
            if n.limit >= 0:
                total[n.limit] += n.weight * n.size(s)
        return total

    def slope(self, s: Array) -> Array:
        """Derivative by every hinge's slack."""
        slope = np.zeros(len(s))
        for n in self.all:
            ratio = np.maximum(s[n.hinges], 0) / max(n.size(s), SMALL)
            slope[n.hinges] = n.weight * n.part * ratio ** (n.exponent - 1)
        return slope

    def bend(self, s: Array) -> Array:
        """Diagonal of the second derivative, but for c g²."""
        bend = np.zeros(len(s))
        for n in self.all:
            size = max(n.size(s), SMALL)
            ratio = np.maximum(s[n.hinges], SMALL) / size
            bend[n.hinges] = n.weight * (n.exponent - 1) / size * n.part * ratio ** (n.exponent - 2)
        return bend

    def pull(self, s: Array, mu: Array) -> Array:
        """c of each norm, at its price."""
        return np.array([n.price(mu) * (n.exponent - 1) / (n.weight * max(n.size(s), SMALL)) for n in self.all])

    def sums(self, value: Array) -> Array:
        """Sums over each norm's hinges."""
        totals = np.bincount(self.of[self.members], weights=value[self.members], minlength=len(self.all))
        return totals.astype(np.float64, copy=False)

    def bounded(self, y: Array, mu: Array) -> Array:
        """Multipliers for which each norm's share of the Lagrangian has its least value, zero, at no slack."""
        y = y.copy()
        for n in self.all:
            dual, own = n.exponent / (n.exponent - 1), np.maximum(y[n.hinges], 0)
            shares = own / n.part ** (1 / n.exponent)
            most = max(float(shares.max(initial=0.0)), SMALL)  # near an exponent of 1 its dual's is in the hundreds
            size = most * float(np.sum((shares / most) ** dual)) ** (1 / dual)
            y[n.hinges] = own * min(1.0, n.weight * n.price(mu) / max(size, SMALL))
        return y

    def centred(self, s: Array, r: Array, mu: Array, centre: float) -> Array:
        """Slacks above r on the central path: w m (s / size)^(a - 1) = centre / s + centre / (s - r)."""
        s, about = s.copy(), np.maximum(r, 0)
        for n in self.all:
            members = n.hinges
            for slacks in (about, s, s):  # the size is of all slacks together
                size = max(n.size(slacks), SMALLEST_Gy)
                force = np.log(n.price(mu) * n.weight * n.part)
                low, high = (
                    np.full(len(members), -30.0),
                    np.full(len(members), np.log(1e3 * (size + about[members].max()))),
                )
                for _ in range(50):  # it grows steeply: by bisection
                    middle = 0.5 * (low + high)
                    tried = about[members] + np.exp(middle)
                    asked = centre / tried + centre / (tried - r[members])
                    enough = force + (n.exponent - 1) * np.log(tried / size) > np.log(asked)
                    low, high = np.where(enough, low, middle), np.where(enough, middle, high)
                s[members] = about[members] + np.exp(high)
        return s
