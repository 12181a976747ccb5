"""Fano's theorem at 0 T and 1.5 T: a source uniform per gram gives a dose that does not see density steps."""

from __future__ import annotations

import fano_source as fano
import numpy as np
import pytest

SOLID = [1.0, 0.26, 1.85, 0.5, 1.0]
GAS = [1.0, 0.26, 1.0, 0.001, 1.0]
FIELDS = {
    "0 T": (0.0, 0.0, 0.0),
    "1.5 T along the layers": (1.5, 0.0, 0.0),
    "1.5 T across them": (0.0, 0.0, 1.5),
    "3 T along the layers": (3.0, 0.0, 0.0),
}
SOURCE = "Fano, Radiat. Res. 1:237 (1954); in a field Bouchard, Bielajew, PMB 60:4963 (2015)"
HIGHEST_MeV = 2.0


def layered(density: list[float], field, electrons: float, seed: int = 1) -> fano.Uniformity:
    column, group, spacing = fano.layers(density)
    return fano.uniformity(
        column, spacing, group, highest_MeV=HIGHEST_MeV, field_xyz_T=field, electrons=int(electrons), seed=seed
    )


def worst(found: fano.Uniformity, groups) -> int:
    return max(groups, key=lambda i: abs(found.ratio[i] - 1))


@pytest.mark.parametrize("field", list(FIELDS.values())[:2])
def test_uniform_quick(field):
    """The same with a wide bar: 0.2 % and four standard deviations of 0.3 %; a step wrong by 2 % would be seen."""
    found = layered(SOLID, field, 6e5)
    assert np.all(found.sigma < 0.0068)
    assert np.all(np.abs(found.ratio - 1) < 0.002 + 4 * found.sigma)


@pytest.mark.validation
@pytest.mark.parametrize("name", FIELDS)
def test_uniform_in_layers(name, claim):
    found = layered(SOLID, FIELDS[name], 2e7)
    i = worst(found, range(len(SOLID)))
    claim(
        f"fano-layers-{list(FIELDS).index(name)}",
        f"{name}: dose in layers of 1, 0.26, 1.85, 0.5, 1 g/cm³, 5 mm thick, voxels of 1 mm, over emitted energy per "
        f"mass; the layer farthest from 1 ({SOLID[i]:g} g/cm³)",
        SOURCE,
        "1 ± 0.002 and 2σ",
        found.ratio[i],
        found.sigma[i],
    )
    assert np.all(found.sigma < 0.0015)
    assert np.all(np.abs(found.ratio - 1) < 0.002 + 2 * found.sigma), (found.ratio, found.sigma)
    assert found.truncated == 0


@pytest.mark.validation
@pytest.mark.parametrize("field", ["0 T", "1.5 T"])
def test_uniform_in_a_checkered_block(field, claim):
    """Every voxel of 2 mm beside others of unlike density; the field lies along no axis."""
    magnet = (0.0, 0.0, 0.0) if field == "0 T" else (0.9, -0.6, 1.04)
    density = [1.0, 0.26, 1.85]
    whole, group = fano.checkered(density)
    found = fano.uniformity(
        whole, (2.0, 2.0, 2.0), group, highest_MeV=HIGHEST_MeV, field_xyz_T=magnet, electrons=int(2e7)
    )
    i = worst(found, range(3))
    claim(
        f"fano-checkered-{'0' if field == '0 T' else '1'}",
        f"{field}: dose over emitted energy per mass in voxels of 2 mm of 1, 0.26, 1.85 g/cm³ by turns; "
        f"the density farthest from 1 ({density[i]:g} g/cm³)",
        SOURCE,
        "1 ± 0.003 and 2σ",
        found.ratio[i],
        found.sigma[i],
    )
    assert np.all(np.abs(found.ratio - 1) < 0.003 + 2 * found.sigma), (found.ratio, found.sigma)


@pytest.mark.validation
@pytest.mark.parametrize("name", ["0 T", "1.5 T along the layers"])
def test_uniform_with_a_layer_of_gas(name, claim):
    """A layer of 0.001 g/cm³ leaves its neighbours alone, and they it: few electrons end in it, so it is noisy."""
    found = layered(GAS, FIELDS[name], 2e7)
    i = worst(found, (0, 1, 2, 4))
    key = list(FIELDS).index(name)
    claim(
        f"fano-gas-{key}",
        f"{name}: layers of 1, 0.26, 1 g/cm³ with one of 0.001 between them; the farthest from 1",
        SOURCE,
        "1 ± 0.002 and 2σ",
        found.ratio[i],
        found.sigma[i],
    )
    claim(
        f"fano-gas-{key}-itself",
        f"{name}: the layer of 0.001 g/cm³ itself",
        SOURCE,
        "1 ± 0.05 and 2σ",
        found.ratio[3],
        found.sigma[3],
    )
    assert np.all(np.abs(np.delete(found.ratio, 3) - 1) < 0.002 + 2 * np.delete(found.sigma, 3)), found.ratio
    assert found.ratio[3] == pytest.approx(1, abs=0.05 + 2 * found.sigma[3])
