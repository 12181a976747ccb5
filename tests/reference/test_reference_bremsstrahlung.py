"""Bremsstrahlung spectra against Seltzer and Berger's tables and NIST's radiative stopping powers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from mrlinac.constants import AVOGADRO_per_mol
from mrlinac.errors import PhysicsError
from mrlinac.transport import brems, materials
from mrlinac.transport.tables import MEC2

# Seltzer's tables as a second hand has them, on 32 ratios k/T (those of brems.npz and 0.025 and 0.075), from the files
# nist_brems_13 and nist_brems_74 of the repository MontyCarlo: (beta2/Z2) k dsigma/dk in mb.
RATIO = [
    0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9,
    0.925, 0.95, 0.97, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99995, 0.99999, 1,
]  # fmt: skip
SECOND_HAND_mb = {
    ("aluminium", 1.0): [
        14.0278, 12.8172, 11.7381, 10.8807, 10.1698, 8.90506, 7.87843, 7.02387, 6.29607, 5.66087, 5.09213, 4.57801,
        4.11104, 3.68355, 3.28691, 2.91468, 2.5637, 2.23058, 1.91292, 1.61, 1.31227, 1.15919, 1.00135, 0.87022, 0.73474,
        0.70013, 0.67222, 0.66858, 0.66588, 0.66551, 0.66526, 0.66519,
    ],
    ("aluminium", 6.0): [
        16.1997, 14.8074, 13.6452, 12.8632, 12.2917, 11.1815, 10.2211, 9.36627, 8.60434, 7.92091, 7.30603, 6.74972,
        6.24205, 5.77169, 5.3247, 4.8894, 4.45881, 4.02267, 3.56306, 3.04573, 2.42627, 2.06067, 1.64294, 1.26417,
        0.80831, 0.67068, 0.5614, 0.5489, 0.54059, 0.539555, 0.537445, 0.533203,
    ],
    ("tungsten", 6.0): [
        11.7518, 11.1905, 10.6774, 10.2448, 9.86225, 9.13666, 8.48133, 7.88552, 7.34396, 6.85112, 6.40219, 5.99215,
        5.6155, 5.26556, 4.93347, 4.61166, 4.29588, 3.9791, 3.6476, 3.27178, 2.81129, 2.53273, 2.20572, 1.89931,
        1.54683, 1.45775, 1.4312, 1.43046, 1.41553, 1.41157, 1.41663, 1.427,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "kinetic"), SECOND_HAND_mb)
def test_shape_is_the_published_one(name: str, kinetic: float) -> None:
    """At the common ratios to the digit (the two differ by 10⁻⁴ at the very tip); 0.025 and 0.075 by interpolation."""
    got, expected = brems.scaled_mb(name, kinetic, RATIO), np.array(SECOND_HAND_mb[name, kinetic])
    between = np.isin(RATIO, [0.025, 0.075])
    tip = np.array(RATIO) > 0.9995
    np.testing.assert_allclose(got[~between & ~tip], expected[~between & ~tip], rtol=1e-5)
    np.testing.assert_allclose(got[tip], expected[tip], rtol=1e-3)
    np.testing.assert_allclose(got[between], expected[between], rtol=8e-3)


@pytest.mark.parametrize(("name", "kinetic"), SECOND_HAND_mb)
def test_mean_photon_energy_and_soft_share_are_the_published_ones(name: str, kinetic: float) -> None:
    cut = 0.05
    chi = PchipInterpolator(RATIO, SECOND_HAND_mb[name, kinetic])
    log_k = np.linspace(np.log(cut), np.log(kinetic), 4001)
    ratio = np.exp(log_k) / kinetic
    photons, energy = np.trapezoid(chi(ratio), log_k), np.trapezoid(chi(ratio) * np.exp(log_k), log_k)
    spectrum = brems.spectrum(name, np.array([kinetic]), cut)
    whole = kinetic * chi.integrate(0, 1)
    assert 1 - energy / whole == pytest.approx(spectrum.soft_share[0], rel=3e-3)
    mean = (1 - spectrum.soft_share[0]) / spectrum.number_per_MeV[0]
    assert energy / photons == pytest.approx(mean, rel=3e-3)


@pytest.mark.parametrize("name", materials.load())
def test_integral_is_the_radiative_stopping_power(name: str) -> None:
    """S_rad = T Σ n Z²/β² ∫ χ dk/T: two tables of NIST, of 1986 and of ESTAR, meet within 1 %."""
    material = materials.load()[name]
    n_z2 = AVOGADRO_per_mol * np.sum(
        material.weight / material.atomic_weight * material.atomic_number.astype(float) ** 2
    )
    for kinetic in (0.2, 1.0, 6.0, 10.0):
        beta2 = kinetic * (kinetic + 2 * MEC2) / (kinetic + MEC2) ** 2
        ratio = np.linspace(0, 1, 4001)
        area = np.trapezoid(brems.scaled_mb(name, kinetic, ratio), ratio) * 1e-27
        expected = float(materials.radiative_stopping(name, kinetic))
        assert kinetic * n_z2 / beta2 * area == pytest.approx(expected, rel=1e-2)


def test_shape_depends_on_the_material() -> None:
    """Screening: tungsten radiates fewer soft photons for its energy than water, and more of them hard."""
    water, tungsten = (brems.spectrum(n, np.array([6.0]), 0.05) for n in ("water", "tungsten"))
    assert tungsten.soft_share[0] < 0.8 * water.soft_share[0]
    assert tungsten.quantile[0, brems.NODES // 2] > water.quantile[0, brems.NODES // 2] + 0.01


def test_at_the_cut_all_is_soft() -> None:
    spectrum = brems.spectrum("water", np.array([0.02, 0.05, 0.0505, 0.2]), 0.05)
    assert list(spectrum.soft_share[:3]) == [1, 1, 1]
    assert list(spectrum.number_per_MeV[:3]) == [0, 0, 0]
    assert 0 < spectrum.soft_share[3] < 1


def test_energies_outside_the_tables_are_refused() -> None:
    with pytest.raises(PhysicsError, match="bremsstrahlung cover no more"):
        brems.scaled_mb("water", 60.0, 0.5)
