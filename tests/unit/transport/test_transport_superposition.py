"""Two beams together are the sum of both: exactly by column, within statistics as a forward dose."""

from __future__ import annotations

import numpy as np
import pytest
from test_transport_run import FIELD, machine

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Fluence
from mrlinac.transport import run

LATTICE = np.array([(i, j) for i in range(-1, 1) for j in range(-1, 1)], np.int32)


def beam(gantry_deg: float) -> BeamletMap:
    return BeamletMap(Beam(gantry_deg, (0.0, 0.0, 0.0), 1000.0), LATTICE, (10.0, 10.0))


@pytest.fixture(scope="module")
def medium() -> Medium:
    grid = Grid((14, 14, 14), (6.0, 6.0, 6.0), (-39.0, -39.0, -39.0))
    density, material = np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8)
    density[:, 6:9], material[:, 6:9] = 0.26, 1
    return Medium(grid, density, material, ("water", "lung-icru"))


def test_columns_of_two_beams_are_those_of_each(medium):
    maps = (beam(0.0), beam(120.0))
    together = run.influence(medium, maps, machine(), field_xyz_T=FIELD, photons_per_beamlet=500).matrix
    for i, one in enumerate(maps):
        alone = run.influence(medium, [one], machine(), field_xyz_T=FIELD, photons_per_beamlet=500).matrix
        assert (together[:, 4 * i : 4 * i + 4] != alone).nnz == 0


def test_forward_doses_add_up(medium):
    maps, mu = (beam(0.0), beam(120.0)), (np.full(4, 1.0), np.full(4, 2.0))

    def dose(use: list[int], photons: int, seed: int):
        return run.dose(
            medium,
            Fluence(tuple(maps[i] for i in use), tuple(mu[i] for i in use)),
            machine(),
            field_xyz_T=FIELD,
            photons=photons,
            seed=seed,
        )

    both, first, second = dose([0, 1], 60_000, 1), dose([0], 60_000, 2), dose([1], 60_000, 3)
    total = first.dose_Gy.astype(float) + second.dose_Gy
    variance = sum((d.dose_Gy.astype(float) * d.rel_sigma) ** 2 for d in (both, first, second))
    inside = np.s_[6:8, 1:13, 1:13]
    difference = (both.dose_Gy - total)[inside]
    used = total[inside] > 0.1 * total.max()
    pull = difference[used] / np.sqrt(variance[inside][used])
    assert used.sum() > 60
    assert pull.std() == pytest.approx(1, abs=0.25)
    assert abs(pull.mean()) < 5 / np.sqrt(used.sum())  # neighbours share tracks
    energy = (difference * medium.density_g_cm3[inside]).sum()
    assert abs(energy) < 0.02 * (total * medium.density_g_cm3)[inside].sum()
