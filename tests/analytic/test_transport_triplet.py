"""Triplets: their number is XCOM's; following their recoil would move a hundredth of a per cent of a beam's energy."""

from __future__ import annotations

import numpy as np
import pytest
from test_transport_first_scatter import mean_transfer
from triplet import events

from mrlinac.constants import FINE_STRUCTURE, CLASSICAL_ELECTRON_RADIUS_cm, ELECTRON_REST_ENERGY_MeV
from mrlinac.machine import model
from mrlinac.transport import materials


def haug(photon_MeV: float) -> float:
    """Total cross section in cm²: the fit of Haug, Z. Naturforsch. 36a:413 (1981), for 4.6 to 14 mc²."""
    k = photon_MeV / ELECTRON_REST_ENERGY_MeV
    if k < 6:
        shape = 0.582814 - 0.29842 * k + 0.04354 * k**2 - 0.0012977 * k**3
    else:
        shape = (3.1247 - 1.3394 * k + 0.14612 * k**2) / (1 + 0.4648 * k + 0.016683 * k**2)
    return FINE_STRUCTURE * CLASSICAL_ELECTRON_RADIUS_cm**2 * shape


# Mean energy of the slower electron in MeV, and how many have more than 0.2 MeV: what docs/theory/transport.md says.
@pytest.mark.parametrize(("energy", "mean_MeV", "above"), [(3.0, 0.307, 0.70), (6.0, 0.36, 0.55), (10.0, 0.40, 0.48)])
def test_triplets_and_their_recoil(energy: float, mean_MeV: float, above: float) -> None:
    made = events(energy, 20_000, seed=1)
    total, sigma = made.total_cm2
    if energy < 14 * ELECTRON_REST_ENERGY_MeV:
        assert abs(total - haug(energy)) < 3 * sigma + 2e-3 * total
    # XCOM adds the radiative correction, 1 %.
    stored = float(materials.photon("water", energy).triplet) / materials.material("water").electrons_per_g
    assert abs(total - stored) < 3 * sigma + 0.013 * stored
    kinetic = made.slow_MeV + made.fast_MeV + made.positron_MeV
    np.testing.assert_allclose(kinetic, energy - 2 * ELECTRON_REST_ENERGY_MeV, rtol=1e-9)
    assert made.mean(made.slow_MeV) == pytest.approx(mean_MeV, abs=0.012)
    assert made.mean(made.slow_MeV > 0.2) == pytest.approx(above, abs=0.02)


@pytest.mark.parametrize(("name", "percent"), [("agility", 0.008), ("unity", 0.014)])
def test_recoil_carries_a_hundredth_of_a_per_cent_of_a_beams_energy(name: str, percent: float) -> None:
    """The recoil's energy, which the kernel leaves to the pair, over all that photons give to electrons in water."""
    spectrum = model.load(name).photons.spectrum
    edges, number = np.array(spectrum.edge_MeV), np.array(spectrum.weight)
    energy = (edges[1:] + edges[:-1]) / 2
    grid = np.linspace(2.1, 7.0, 5)
    recoil = np.interp(energy, grid, [_mean_recoil(e) for e in grid])
    data = materials.photon("water", energy)
    compton = np.array([mean_transfer(e) for e in energy]) * energy
    pair = (data.pair + data.triplet) * np.maximum(energy - 2 * ELECTRON_REST_ENERGY_MeV, 0)
    given = number @ (data.incoherent * compton + data.photoelectric * energy + pair)
    share = float(number @ (data.triplet * recoil) / given)
    assert share < 5e-4
    assert 100 * share == pytest.approx(percent, abs=1e-3)


def _mean_recoil(photon_MeV: float) -> float:
    made = events(photon_MeV, 4000, seed=2)
    return made.mean(made.slow_MeV)
