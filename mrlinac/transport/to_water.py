"""Dose to water from dose to medium: a factor per material, the mean ratio of collision stopping powers.

What a small volume of water at the place would get (Bragg and Gray; Siebers et al., PMB 45:983, 2000). An electron
that slows down from T gives equal shares of its energy at all energies below T, each worth the ratio there: the mean
is the ratio's mean over energy. Over the beam's electrons it is weighted with the energy they bring. Electrons are
those of Compton scattering of the machine's photons, unattenuated; the ratio changes by 2 % between 0.1 and 6 MeV in
bone and by less in tissue, so that this spectrum need not be exact.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrlinac.constants import ELECTRON_REST_ENERGY_MeV
from mrlinac.transport import materials
from mrlinac.transport.source import Emission

Array = NDArray[np.float64]
LOWEST_MeV = 0.001  # of the slowing down that counts


def ratio(name: str, energy_MeV: ArrayLike) -> Array:
    """Unrestricted collision stopping power of water over that of a material, each at its nominal density."""
    return np.asarray(
        materials.collision_stopping("water", energy_MeV) / materials.collision_stopping(name, energy_MeV)
    )


def slowing_down(name: str, start_MeV: ArrayLike) -> Array:
    """Energy-mean of the ratio between an electron's start and its end."""
    grid, integral = _integral(name)
    start = np.maximum(np.asarray(start_MeV, float), grid[0] * 1.001)
    return np.asarray(np.interp(start, grid, integral) / (start - grid[0]))


@lru_cache(maxsize=64)
def _integral(name: str) -> tuple[Array, Array]:
    grid = np.geomspace(LOWEST_MeV, 20.0, 1500)
    value = ratio(name, grid)
    return grid, np.concatenate([[0.0], np.cumsum(0.5 * (value[1:] + value[:-1]) * np.diff(grid))])


def compton_electrons(emission: Emission, bins: int = 60) -> tuple[Array, Array]:
    """Energies of Compton electrons of a machine's photons, and the energy they bring (not normalised)."""
    edge = emission.edge_MeV
    chance = emission.accept.copy()  # from the alias table back to the bins' shares
    np.add.at(chance, emission.other, 1 - emission.accept)
    kinetic, brought = [], []
    share = (np.arange(bins) + 0.5) / bins
    for low, high, weight in zip(edge[:-1], edge[1:], chance, strict=True):
        energy = 0.5 * (low + high)
        alpha = energy / ELECTRON_REST_ENERGY_MeV
        lowest = 1 / (1 + 2 * alpha)
        eps = lowest + (1 - lowest) * share  # E'/E; Klein-Nishina (Z. Phys. 52:853, 1929) below
        one = (1 / eps - 1) / alpha
        density = (1 / eps + eps - one * (2 - one)) * (1 - lowest) / alpha
        kinetic.append(energy * (1 - eps))
        brought.append(weight * density * energy * (1 - eps))
    return np.concatenate(kinetic), np.concatenate(brought)


def factors(names: tuple[str, ...], emission: Emission) -> Array:
    """Dose to water over dose to medium of each material, for a machine's beam."""
    kinetic, brought = compton_electrons(emission)
    return np.array([np.average(slowing_down(name, kinetic), weights=brought) for name in names])
