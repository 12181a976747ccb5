"""Mixing, limits and identities of the material data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate

from mrlinac.constants import AVOGADRO_per_mol, CLASSICAL_ELECTRON_RADIUS_cm, ELECTRON_REST_ENERGY_MeV
from mrlinac.errors import PhysicsError
from mrlinac.transport import materials

Array = NDArray[np.float64]
ENERGY_MeV = np.geomspace(0.011, 20, 60)


def _over_angle(integrand: Callable[[Array], Array]) -> float:
    """Integral over the cosine, in s = sin(θ/2) to resolve the forward peak: dμ = 4 s ds."""
    s = np.geomspace(1e-5, 1, 20001)
    return float(integrate.trapezoid(integrand(1 - 2 * s**2) * 4 * s, s))


def test_every_material_has_data_and_fractions_that_sum_to_one() -> None:
    loaded = materials.load()
    assert {"water", "air-dry", "lung-icru", "titanium-alloy", "carbon-fibre", "foam-pmi"} <= set(loaded)
    assert sum(name.startswith("schneider-") for name in loaded) == 24
    for name, material in loaded.items():
        assert material.weight.sum() == pytest.approx(1)
        assert np.all(materials.photon(name, ENERGY_MeV).total > 0)
        assert np.all(materials.collision_stopping(name, ENERGY_MeV) > 0)


def test_unknown_material_names_the_known_ones() -> None:
    with pytest.raises(PhysicsError, match=r"known: .*water"):
        materials.photon("watr", 1.0)


@pytest.mark.parametrize("energy_MeV", [5e-4, 60.0, np.nan])
def test_energies_outside_the_tables_are_refused(energy_MeV: float) -> None:
    with pytest.raises(PhysicsError, match="tables cover no more"):
        materials.photon("water", energy_MeV)


def test_pair_production_starts_at_its_thresholds_and_rises_smoothly() -> None:
    rest = ELECTRON_REST_ENERGY_MeV
    data = materials.photon("water", [2 * rest, 2 * rest + 1e-4, 4 * rest, 4 * rest + 1e-3])
    assert data.pair[0] == 0
    assert data.pair[1] > 0
    assert data.triplet[2] == 0
    assert data.triplet[3] > 0
    # A fine grid shows no ripple between the tabulated energies: the logarithmic slope falls monotonically.
    energy = np.geomspace(3.0, 20.0, 120)
    slope = np.gradient(np.log(materials.photon("water", energy).pair), np.log(energy))
    assert np.all(np.diff(slope)[2:-2] < 0.02)


def test_incoherent_cross_section_is_klein_nishina_with_binding() -> None:
    """XCOM's incoherent total equals Klein–Nishina times our S(x), integrated over angle."""
    for energy in (0.03, 0.1, 0.5):
        k = energy / ELECTRON_REST_ENERGY_MeV

        def integrand(mu: Array, k: float = k, energy: float = energy) -> Array:
            ratio = 1 / (1 + k * (1 - mu))
            kn = ratio**2 * (ratio + 1 / ratio - (1 - mu**2))
            x = energy / 0.0123984 * np.sqrt((1 - mu) / 2)
            return kn * materials.incoherent_function("water", x)

        per_electron = np.pi * CLASSICAL_ELECTRON_RADIUS_cm**2 * _over_angle(integrand)
        expected = per_electron * AVOGADRO_per_mol * materials.material("water").z_over_a
        # XCOM adds radiative corrections of a few tenths of a per cent.
        assert float(materials.photon("water", energy).incoherent) == pytest.approx(expected, rel=6e-3)


def test_coherent_cross_section_is_thomson_with_form_factor() -> None:
    mat = materials.material("water")
    for energy in (0.03, 0.1):

        def integrand(mu: Array, energy: float = energy) -> Array:
            x = energy / 0.0123984 * np.sqrt((1 - mu) / 2)
            return (1 + mu**2) * materials.form_factor_squared("water", x)

        z2 = np.sum(mat.weight / mat.atomic_weight * mat.atomic_number**2) * AVOGADRO_per_mol
        total = np.pi * CLASSICAL_ELECTRON_RADIUS_cm**2 * _over_angle(integrand) * z2
        assert float(materials.photon("water", energy).coherent) == pytest.approx(total, rel=1e-2)


def test_restricted_stopping_meets_the_unrestricted_one() -> None:
    """At the largest possible transfer nothing is left out: half the energy, all of it for positrons."""
    for positron in (False, True):
        whole = materials.collision_stopping("water", ENERGY_MeV, positron)
        cut = materials.restricted_collision_stopping("water", ENERGY_MeV, 100.0, positron)
        np.testing.assert_allclose(cut, whole, rtol=1e-12)


def test_restricted_stopping_leaves_out_the_moller_losses() -> None:
    """Unrestricted minus restricted = ∫ T' dσ_Møller over transfers above the cut."""
    energy, cut = 3.0, 0.2
    tau = energy / ELECTRON_REST_ENERGY_MeV
    beta2 = tau * (tau + 2) / (tau + 1) ** 2

    def loss(eta: float) -> float:  # Møller: ICRU 37, equation 2.9, times the transferred fraction η
        bracket = (
            1 / eta**2
            + 1 / (1 - eta) ** 2
            + (tau / (tau + 1)) ** 2
            - (2 * tau + 1) / (tau + 1) ** 2 / (eta * (1 - eta))
        )
        return eta * bracket

    integral = integrate.quad(loss, cut / energy, 0.5)[0]
    factor = materials.STOPPING_CONSTANT_MeV_cm2_mol * materials.material("water").z_over_a / beta2
    difference = materials.collision_stopping("water", energy) - materials.restricted_collision_stopping(
        "water", energy, cut
    )
    assert float(difference) == pytest.approx(factor * integral, rel=1e-9)


def test_restricted_stopping_of_positrons_leaves_out_the_bhabha_losses() -> None:
    energy, cut = 3.0, 0.2
    tau = energy / ELECTRON_REST_ENERGY_MeV
    gamma = tau + 1
    beta2 = 1 - 1 / gamma**2
    y = 1 / (gamma + 1)
    b1, b2, b4 = 2 - y**2, (1 - 2 * y) * (3 + y**2), (1 - 2 * y) ** 3
    b3 = b4 + (1 - 2 * y) ** 2

    def loss(eta: float) -> float:  # Bhabha, in Nelson, Hirayama, Rogers: EGS4 (SLAC-265), equation 2.13.9
        return eta * (1 / (beta2 * eta**2) - b1 / eta + b2 - b3 * eta + b4 * eta**2)

    integral = integrate.quad(loss, cut / energy, 1.0)[0]
    factor = materials.STOPPING_CONSTANT_MeV_cm2_mol * materials.material("water").z_over_a
    difference = materials.collision_stopping("water", energy, True) - materials.restricted_collision_stopping(
        "water", energy, cut, True
    )
    assert float(difference) == pytest.approx(factor * integral, rel=1e-6)


def test_density_effect_grows_with_energy_and_is_largest_in_the_dense_phase() -> None:
    water, air = (materials.density_effect(name, ENERGY_MeV) for name in ("water", "air-dry"))
    assert np.all(np.diff(water) >= 0)
    assert np.all(water >= air)
    assert np.all((water > air + 0.15)[ENERGY_MeV > 1.0])  # air's begins far higher, by its density
    assert water[-1] > 3
    # Sternheimer, Berger, Seltzer 1984: the limit 2 ln(p/mc) + 2 ln(hν_p/I) − 1 at high energy.
    energy = 90.0
    momentum2 = (energy / ELECTRON_REST_ENERGY_MeV) * (energy / ELECTRON_REST_ENERGY_MeV + 2)
    limit = np.log(momentum2) + 2 * np.log(28.81593 * np.sqrt(materials.material("water").z_over_a) / 75.0) - 1
    assert float(materials.density_effect("water", energy)) == pytest.approx(limit, rel=4e-3)


def test_scattering_functions_have_their_limits() -> None:
    assert float(materials.form_factor_squared("water", 0.0)) == pytest.approx(1)
    assert float(materials.incoherent_function("water", 0.0)) == 0
    assert float(materials.incoherent_function("water", 100.0)) == pytest.approx(1, abs=1e-6)
    x = np.geomspace(1e-4, 500, 300)
    assert np.all(np.diff(materials.form_factor_squared("water", x)) <= 0)
