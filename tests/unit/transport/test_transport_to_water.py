"""Dose to water: the ratio of collision stopping powers, averaged over an electron's slowing down."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate
from test_transport_run import FIELD, machine

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.errors import PhysicsError
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Fluence
from mrlinac.transport import materials, run, to_water
from mrlinac.transport.source import Emission

BONE = "bone-cortical-icru"


@pytest.mark.parametrize("start", [0.05, 1.0, 6.0])
def test_mean_over_the_slowing_down_of_one_energy(start):
    """∫ Φ S_water / ∫ Φ S_medium with the continuous slowing-down fluence Φ = 1/S_medium."""
    low = to_water.LOWEST_MeV

    def integrand(energy):
        return float(materials.collision_stopping("water", energy) / materials.collision_stopping(BONE, energy))

    wanted = integrate.quad(integrand, low, start, limit=200)[0] / (start - low)
    assert float(to_water.slowing_down(BONE, start)) == pytest.approx(wanted, rel=1e-4)


def test_factors_of_a_beam():
    emission = Emission.of(np.array([0.2, 2.0, 6.0]), np.array([0.7, 0.3]), np.array([0.0, 9.0]), np.ones(2))
    water, lung, bone = to_water.factors(("water", "lung-icru", BONE), emission)
    assert water == pytest.approx(1, abs=1e-12)
    # Siebers et al., PMB 45:983 (2000), 6 MV: lung 0.999 or so, cortical bone 1.116; theirs is ICRP's, 1.85 g/cm³.
    assert lung == pytest.approx(1.0, abs=0.01)
    assert bone == pytest.approx(1.116, abs=0.02)
    kinetic, brought = to_water.compton_electrons(emission)
    # A bin is taken at its middle, 1.1 and 4 MeV: Klein-Nishina's mean fractions are 0.452 and 0.613 (µtr/µ).
    assert kinetic[:60].max() < 1.1 * 2 * 1.1 / (2 * 1.1 + 0.511)
    assert brought.min() >= 0


def test_dose_to_water_is_dose_to_medium_times_the_factor():
    grid = Grid((8, 8, 8), (6.0, 6.0, 6.0), (-21.0, -21.0, -21.0))
    material = np.zeros(grid.shape_zyx, np.uint8)
    material[:, 4:] = 1
    density = np.where(material == 1, 1.85, 1.0).astype(np.float32)
    medium = Medium(grid, density, material, ("water", BONE))
    maps = BeamletMap(Beam(0.0, (0.0, 0.0, 0.0), 1000.0), np.array([[0, 0], [-1, 0]], np.int32), (10.0, 10.0))
    fluence = Fluence((maps,), (np.ones(2),))
    dose = {
        to: run.dose(medium, fluence, machine(), field_xyz_T=FIELD, photons=4000, batches=12, to=to)
        for to in ("medium", "water")
    }
    factor = to_water.factors(medium.materials, Emission.of_machine(machine()))[material]
    assert dose["water"].dose_Gy == pytest.approx(dose["medium"].dose_Gy * factor, rel=1e-6)
    assert np.array_equal(dose["water"].rel_sigma, dose["medium"].rel_sigma)
    assert (dose["water"].to, dose["medium"].to) == ("water", "medium")
    assert dose["water"].times(2.0).to == "water"
    assert any("to water" in note for note in dose["water"].provenance.notes)
    assert dose["water"].provenance.fingerprint != dose["medium"].provenance.fingerprint
    with pytest.raises(PhysicsError, match="'medium' or to 'water'"):
        run.dose(medium, fluence, machine(), field_xyz_T=FIELD, photons=4000, to="air")
