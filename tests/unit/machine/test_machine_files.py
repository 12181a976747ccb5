"""The shipped machine files: they load, and say what the rules ask."""

from __future__ import annotations

import pytest

from mrlinac import spec
from mrlinac.machine import model
from mrlinac.transport import materials

NAMES = sorted(p.stem for p in spec.packaged_folder("machines").glob("*.toml"))


def test_both_machines_are_shipped() -> None:
    assert {"unity", "agility"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_file_loads_and_names_known_materials(name: str) -> None:
    machine = model.load(name)
    assert machine.name == name
    for layer in machine.couch.layers:
        assert layer.material in materials.load()
    assert all(figure.source for figure in machine.references)
    # The fluence reaches the corner of the largest field.
    corner = (machine.mlc.half_field_uv_mm[0] ** 2 + machine.mlc.half_field_uv_mm[1] ** 2) ** 0.5
    assert machine.photons.fluence.radius_mm[-1] >= corner
    assert machine.photons.fluence.relative[0] == 1
    assert machine.photons.spectrum.edge_MeV[0] >= 0.01  # the tables start at 1 keV, transport later


def test_unity_is_what_the_rules_say() -> None:
    unity = model.load("unity")
    assert unity.field_iec_T == (0.0, 1.5, 0.0)
    assert "unverified" in unity.field_source
    assert unity.mlc.travel == "v"
    assert unity.mlc.pairs * unity.mlc.leaf_width_mm == pytest.approx(2 * unity.mlc.half_field_uv_mm[0])
    assert (unity.isocentre.rule, unity.isocentre.height_above_table_mm) == ("fixed-table", 140.0)
    assert unity.photons.spectrum.edge_MeV[-1] <= 7.5  # rule 12
    assert unity.electrons is None
    assert any("coil" in item for item in unity.neglected)
    # Nine beams at 20 + 40 k degrees are clear (rule 8); the blocked angles are not.
    assert all(unity.blocked_reason(20 + 40 * k) is None for k in range(9))
    assert all(unity.blocked_reason(angle) for angle in (8, 13, 18, 105, 115, 245, 255))


def test_agility_is_what_the_rules_say() -> None:
    agility = model.load("agility")
    assert not agility.has_field
    assert agility.electrons is not None
    assert agility.mlc.travel == "u"
    assert agility.mlc.pairs * agility.mlc.leaf_width_mm == pytest.approx(2 * agility.mlc.half_field_uv_mm[1])
    assert agility.isocentre.rule == "ctv-centroid"
    assert agility.blocked == ()
