"""The published order of interface doses in lung of three densities at 1.5 T."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.machine import model
from mrlinac.transport import simulate, source
from mrlinac.transport.source import Emission

DENSITY = (0.1, 0.3, 0.6)
SSD_mm, HALF_mm = 1000.0, 25.0


def at_interface(density: float, field_T: float, voxel_mm: float) -> tuple[float, float]:
    """Dose in the last water voxel before 12 cm of lung behind 3 cm of water, 5 × 5 cm² of 6 MV; and its σ."""
    layers = np.array([round(d / voxel_mm) for d in (30, 30, 120, 50, 30)])  # air, water, lung, water, air
    material = np.repeat([1, 0, 2, 0, 1], layers)
    column = np.repeat(np.array([1.2e-3, 1.0, density, 1.0, 1.2e-3], np.float32), layers)
    shape = (len(column), 16, 16)
    grid = Grid(shape, (voxel_mm, 10.0, 10.0), (-75.0, -75.0, -30.0 + voxel_mm / 2))
    medium = Medium(
        grid,
        np.broadcast_to(column[:, None, None], shape).copy(),
        np.broadcast_to(material[:, None, None], shape).astype(np.uint8),
        ("water", "air-dry", "lung-icru"),
    )
    rows = np.zeros((1, source.COLUMNS))
    rows[0, :3] = np.array([0, 0, -SSD_mm]) - np.array(grid.lower_xyz_mm)
    rows[0, 3:12] = [1, 0, 0, 0, -1, 0, 0, 0, -1]
    rows[0, source.SAD] = rows[0, source.COLLIMATOR] = SSD_mm
    rows[0, source.U0 : source.V1 + 1] = [-HALF_mm, HALF_mm, -HALF_mm, HALF_mm]
    rows[0, source.INVERSE_FLUENCE] = 1
    last = int(layers[0] + layers[1]) - 1
    out = simulate.simulate(
        medium, rows, np.ones(1), Emission.of_machine(model.load("agility")), field_xyz_T=(0.0, field_T, 0.0),
        photons=3_000_000, reduce=lambda energy: energy[last, 6:10, 6:10].sum(), seed=12,
    )  # fmt: skip
    batches = out.batch_MeV
    return float(batches.mean()), float(batches.std(ddof=1) / np.sqrt(len(batches)))


@pytest.mark.validation
@pytest.mark.parametrize("voxel_mm", [1.0, 2.0])
def test_thinner_lung_has_the_larger_interface_dose(voxel_mm, claim):
    """Water 3 cm, lung 12 cm, water 5 cm, 6 MV, SSD 100: Geant4 found +58, +51, +22 % for 0.1, 0.3, 0.6 g/cm³.

    Field size, voxel and baseline are not published: only the order is compared.
    """
    rise, sigma = {}, {}
    for density in DENSITY:
        (with_field, a), (without, b) = (at_interface(density, field, voxel_mm) for field in (1.5, 0.0))
        rise[density] = with_field / without - 1
        sigma[density] = with_field / without * np.hypot(a / with_field, b / without)
        claim(
            f"lung-{voxel_mm:g}mm-{density:g}",
            f"Rise of the dose by 1.5 T in the last {voxel_mm:g} mm of water before lung of {density:g} g/cm³ "
            "(5 × 5 cm², 6 MV, SSD 100 cm)",
            "Geant4: +58, +51, +22 % (voxel, field, baseline not stated)",
            "order 0.1 > 0.3 > 0.6 g/cm³",
            100 * rise[density],
            100 * sigma[density],
            "%",
        )
    for thin, dense in itertools.pairwise(DENSITY):
        assert rise[thin] - rise[dense] > 3 * np.hypot(sigma[thin], sigma[dense]), (rise, sigma)
    assert rise[0.6] > 3 * sigma[0.6]
