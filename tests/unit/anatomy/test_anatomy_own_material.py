"""A material that a file defines: checked, named by its figures, and the same physics as a packaged one."""

from __future__ import annotations

import numpy as np
import pytest

from mrlinac import spec
from mrlinac.anatomy import materials as names
from mrlinac.anatomy.overrides import Override
from mrlinac.errors import PhysicsError, SpecError
from mrlinac.recipe.spec import load_plan
from mrlinac.transport import materials, tables

WATER = {"name": "my-water", "weight": {"H": 0.111894, "O": 0.888106}, "density_g_cm3": 1.0, "I_eV": 75.0}


def override(material) -> Override:
    return spec.validate(Override, {"density_g_cm3": 1.1, "material": material}, "test")


def test_a_table_becomes_a_definition_that_reads_back():
    definition = override(WATER).material
    own = names.defined(definition)
    assert own is not None
    assert own.model_dump() == {**WATER, "conductor": False}
    assert own.definition == definition
    assert override(definition).material == definition
    assert names.short_name(definition) == "my-water"
    metal = override({**WATER, "conductor": True}).material
    assert names.defined(metal).conductor


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"weight": {"H": 0.12, "O": 0.88}},
        {"weight": {"H": 0.111894, "C": 0.888106}},
        {"density_g_cm3": 1.01},
        {"I_eV": 75.1},
        {"conductor": True},
    ],
)
def test_every_figure_is_in_the_definition(change):
    assert override({**WATER, **change}).material != override(WATER).material


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weight": {"H": 0.1, "Xx": 0.9}}, "no data for Xx"),
        ({"weight": {"H": 0.1, "O": 0.5}}, "add up to 0.6"),
        ({"weight": {"H": -0.1, "O": 1.1}}, "greater than 0"),
        ({"weight": {}}, "weight"),
        ({"I_eV": 0.075}, "I_eV"),
        ({"density_g_cm3": 0}, "density_g_cm3"),
        ({"name": "two words"}, "name"),
        ({"desity": 1}, "desity"),
    ],
)
def test_figures_that_cannot_be_are_refused_by_name(change, says):
    with pytest.raises(SpecError, match=says):
        override({**WATER, **change})


def test_an_unknown_name_says_how_to_define_one():
    assert "did you mean 'water'" in names.material_problem("watr")
    assert "I_eV" in names.material_problem("watr")
    assert names.material_problem("water") is None
    assert names.material_problem(override(WATER).material) is None
    assert "defines no material" in names.material_problem("mine{1;2}")
    with pytest.raises(PhysicsError, match="defines no material"):
        materials.material("mine{1.0 g/cm3;I 75.0 eV;H:0.5}")


def test_water_defined_by_hand_has_waters_tables():
    both = tables.load(("water", override(WATER).material))
    for array in (both.photon, both.range_mm, both.brems, both.binding, both.form, both.z_mean):
        np.testing.assert_allclose(array[1], array[0], rtol=1e-6)
    np.testing.assert_allclose(both.electron[:, 1], both.electron[:, 0], rtol=1e-6)


def test_composition_density_and_excitation_energy_reach_the_tables():
    lighter = override({**WATER, "weight": {"H": 0.3, "O": 0.7}}).material
    softer = override({**WATER, "I_eV": 60.0}).material
    denser = override({**WATER, "density_g_cm3": 2.0}).material
    data = tables.load((override(WATER).material, lighter, softer, denser))
    row = tables.row_of.py_func(2.0)[0]
    # Compton scattering goes with the electrons per gram
    per_g = materials.material(lighter).z_over_a / materials.material("water").z_over_a
    assert per_g > 1.1
    assert data.photon[1, row, tables.TOTAL] / data.photon[0, row, tables.TOTAL] == pytest.approx(per_g, rel=0.01)
    range_mm = data.range_mm[:, row] / data.range_mm[0, row]
    assert range_mm[2] == pytest.approx(1 - np.log(75 / 60) / np.log(2e6 / 75), abs=0.012)
    assert range_mm[3] > 1.003  # the density effect of twice the density
    assert names.relative_electrons_per_mass(lighter) == pytest.approx(per_g, rel=1e-6)


def test_a_plan_takes_a_material_and_its_fingerprint_sees_it():
    def plan(**change):
        metal = {"density_g_cm3": 1.2, "material": {**WATER, **change}, "threshold_HU": 2900.0}
        return load_plan("unity-66in33", {"patient.metal": metal})

    assert plan().patient.metal.material == override(WATER).material
    assert plan().fingerprint != plan(I_eV=80.0).fingerprint
    assert plan().override({"numerics.seed": 7}).patient.metal.material == override(WATER).material
