"""The HU data file against the published relations of Schneider et al., PMB 45:459 (2000)."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from mrlinac.transport import materials

with (materials.FOLDER / "hu_schneider2000.toml").open("rb") as file:
    DATA = tomllib.load(file)


@pytest.mark.parametrize(
    ("hu", "density_g_cm3"),
    [
        (-1000, 1.21e-3),
        (-98, 1.018 - 0.893e-3 * 98),
        (0, 1.018),
        (20, 1.03),
        (60, 1.003 + 1.169e-3 * 60),
        (500, 1.017 + 0.592e-3 * 500),
        (1600, 1.017 + 0.592e-3 * 1600),
    ],
)
def test_density_is_the_published_one(hu: float, density_g_cm3: float) -> None:
    points = DATA["density"]
    assert np.interp(hu, points["HU"], points["density_g_cm3"]) == pytest.approx(density_g_cm3, abs=6e-5)


def test_bins_name_known_materials_whose_density_lies_on_the_curve() -> None:
    edges, names = DATA["material"]["edge_HU"], DATA["material"]["name"]
    assert len(edges) == len(names) + 1 == 25
    assert np.all(np.diff(edges) > 0)
    assert edges[-1] == DATA["saturated_from_HU"]
    points = DATA["density"]
    for low, high, name in zip(edges[2:-2], edges[3:-1], names[2:-1], strict=True):
        on_curve = np.interp((low + high) / 2, points["HU"], points["density_g_cm3"])
        assert materials.material(name).density_g_cm3 == pytest.approx(on_curve, rel=0.015)


def test_calcium_and_phosphorus_rise_and_hydrogen_falls_through_the_bone_bins() -> None:
    bones = [materials.material(name) for name in DATA["material"]["name"][9:]]
    for number, sign in ((20, 1), (15, 1), (1, -1)):
        fraction = [float(m.weight[list(m.atomic_number).index(number)]) for m in bones]
        assert np.all(sign * np.diff(fraction) > 0)
