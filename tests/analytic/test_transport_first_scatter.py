"""Energy that the first collision of a photon leaves, against Klein and Nishina's mean by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate
from test_transport_closed_forms import shoot

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.transport import materials, tables

MEC2 = 0.51099895


def mean_transfer(energy: float) -> float:
    """Mean share of a photon's energy that a free electron gets."""
    alpha = energy / MEC2

    def density(eps: float) -> float:
        one = (1 / eps - 1) / alpha
        return 1 / eps + eps - one * (2 - one)

    low = 1 / (1 + 2 * alpha)
    return integrate.quad(lambda e: (1 - e) * density(e), low, 1)[0] / integrate.quad(density, low, 1)[0]


@pytest.mark.parametrize("energy", [0.1, 0.4, 1.0])
def test_energy_of_the_first_collision(energy):
    """A column 2 µm wide: whatever scatters leaves it, and electrons below the cut of 1 MeV stay where they start."""
    depth, cells = 200.0, 20
    grid = Grid((cells, 1, 1), (depth / cells, 2e-3, 2e-3), (0.0, 0.0, depth / cells / 2))
    medium = Medium(grid, np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8), ("water",))
    settings = tables.Settings(electron_cut_MeV=1.0, coherent=False, binding=False)
    repeats = 200_000
    deposit, _ = shoot(medium, (1e-3, 1e-3, 1e-9, 0, 0, 1, energy, 0), repeats, settings=settings)
    data = materials.photon("water", energy)
    total = float(data.incoherent + data.photoelectric + data.pair + data.triplet)
    leaves = float(data.incoherent) * mean_transfer(energy) + float(data.photoelectric)
    # A photon scattered below the photon cut of 50 keV would stay, too: none here has so little (0.1 MeV: 72 keV).
    wanted = repeats * energy * (1 - math.exp(-total * depth * 0.1)) * leaves / total
    # The share transferred has a standard deviation below 0.3; so the sum's is below this.
    sigma = energy * math.sqrt(repeats * 0.25)
    assert abs(deposit.sum() - wanted) < 4 * sigma
    assert abs(1.02 * deposit.sum() - wanted) > 4 * sigma or energy < 0.2
    # By depth: exp(−µ z) integrated over each layer.
    edge = np.arange(cells + 1) * depth / cells
    share = np.exp(-total * 0.1 * edge[:-1]) - np.exp(-total * 0.1 * edge[1:])
    found = deposit[:, 0, 0]
    expected = share * repeats * energy * leaves / total
    assert np.all(np.abs(found - expected) < 5 * energy * np.sqrt(share * repeats) * 0.45)
