"""Closed forms: attenuation, gyration, the range of electrons, an end in vacuum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.jit import kernel
from mrlinac.transport import cpu, history, materials, rng, stack, tables, voxels


@kernel
def follow_one(particle, repeats, name, table, geometry, tally):
    """Follow the same particle ``repeats`` times, each in its own stream."""
    for i in range(repeats):
        rng.start(tally.rng, i, name)
        for k in range(8):
            tally.stack[0, k] = particle[k]
        tally.stack[0, 8] = 1.0
        history.extinguish(1, table, geometry, tally)


def box(shape_zyx, spacing_mm, density, material=0, names=("water", "air-dry", "lung-icru")) -> Medium:
    """A box of one material with its lower corner at the origin."""
    grid = Grid(shape_zyx, (spacing_mm,) * 3, (spacing_mm / 2,) * 3)
    whole = np.ones(shape_zyx)
    return Medium(grid, (whole * density).astype(np.float32), (whole * material).astype(np.uint8), names)


def shoot(medium, particle, repeats, field=(0.0, 0.0, 0.0), settings=None):
    """Energy per voxel [z, y, x] and the tally of identical particles (x, y, z, u, v, w, energy, kind)."""
    table = tables.load(medium.materials, settings or tables.Settings())
    geometry, code = cpu.pack(medium, table, field)
    tally = cpu.new_tally(code, False)
    follow_one(np.array(particle, float), repeats, rng.words(1, 9, 0, 0, 0), table, geometry, tally)
    return voxels.from_bricks(cpu.deposits(tally), medium.grid.shape_zyx).astype(float), tally


def test_steps_in_vacuum_are_not_remembered():
    """They leave nothing; listed step by step they would run over the end of the list of touched voxels."""
    medium = box((6, 6, 6), 3.0, 0.0)
    table = tables.load(medium.materials)
    geometry, code = cpu.pack(medium, table, (0.0, 0.0, 1.5))
    tally = cpu.new_tally(code, True)._replace(touched=np.zeros(10_000, np.int32))  # long enough for either outcome
    electron = np.array((9.0, 9.0, 0.1, 1.0, 0.0, 0.05, 2.0, 1))
    follow_one(electron, 20, rng.words(1, 9, 0, 0, 0), table, geometry, tally)
    assert tally.energy[stack.ESCAPED] == pytest.approx(20 * 2.0)
    assert tally.counter[stack.N_TOUCHED] == 0


def test_no_voxel_attenuates_more_than_the_majorant():
    """At every energy, across tungsten's K edge (69.5 keV) and inside and outside a dense box."""
    names = ("water", "titanium-alloy", "tungsten", "schneider-24")
    density, material = np.ones((12, 12, 12), np.float32), np.zeros((12, 12, 12), np.uint8)
    density[4:7, 4:7, 4:7], material[4:7, 4:7, 4:7] = 4.43, 1
    density[5, 5, 5], material[5, 5, 5] = 19.3, 2
    density[1, 1, 1], material[1, 1, 1] = 1.9, 3
    medium = Medium(Grid(density.shape, (3.0,) * 3, (0.0,) * 3), density, material, names)
    table = tables.load(names)
    geometry, _ = cpu.pack(medium, table, (0.0, 0.0, 0.0))
    _, rounded = cpu.codes(medium)
    _, dense = cpu.dense_box(rounded)
    assert dense.any()
    grid = tables.energy_grid_MeV()
    row = np.repeat(np.arange(len(grid) - 1), 20)
    part = np.tile(np.linspace(0, 1, 20, endpoint=False), len(grid) - 1)
    for inverse, mask in zip(geometry.inverse_majorant, (~dense, np.ones_like(dense)), strict=True):
        flight = inverse[row] * (1 - part) + inverse[row + 1] * part
        for m in np.unique(material[mask]):
            total = table.photon[m, row, 0] * (1 - part) + table.photon[m, row + 1, 0] * part
            assert np.max(total * flight) * rounded[mask & (material == m)].max() <= 1


def test_a_cut_at_the_lowest_energy_reads_no_row_below_the_table():
    """Electrons of 22 keV, cut at 15.6: each of two steps takes a quarter of the energy, the second ends below it."""
    settings = tables.Settings(electron_cut_MeV=tables.LOWEST_MeV, rest_voxels=0.0)
    deposit, tally = shoot(box((5, 5, 5), 10.0, 1.0), (25, 25, 25, 0, 0, 1, 0.022, 1), 500, settings=settings)
    assert deposit.sum() == pytest.approx(500 * 0.022, rel=1e-4)
    assert tally.counter[stack.N_STEPS] == 2 * 500


@pytest.mark.parametrize("energy", [0.08, 1.0, 6.0])
def test_first_interactions_by_depth(energy):
    """A grid one 2 µm column wide: a photon's first event ends it there, its flights are exp(−µ z)."""
    grid = Grid((50, 1, 1), (4.0, 2e-3, 2e-3), (0.0, 0.0, 2.0))
    medium = Medium(grid, np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8), ("water",))
    repeats = 100_000
    # Electrons deposit where they start: what remains in the column is the first event's kinetic energy.
    settings = tables.Settings(electron_cut_MeV=1.0, photon_cut_MeV=0.05)
    energy_by_depth, _ = shoot(medium, (1e-3, 1e-3, 1e-9, 0, 0, 1, energy, 0), repeats, settings=settings)
    depth = energy_by_depth[:, 0, 0]
    mu = float(materials.photon("water", energy).total) * 0.1
    centre = np.arange(50) * 4.0 + 2
    wanted = np.exp(-mu * centre)
    mean = np.sum(centre * depth) / depth.sum()
    expected = np.sum(centre * wanted) / wanted.sum()
    assert mean == pytest.approx(expected, abs=5 * 60 / math.sqrt(repeats * (1 - math.exp(-mu * 200)) * 0.3))


@pytest.mark.parametrize("kind", [1.0, 2.0])
@pytest.mark.parametrize("field_T", [0.35, 1.5, 3.0])
def test_gyration_radius_and_helix(kind, field_T):
    """In thin gas a charge marks a circle of r = p/(0.2998 B) on the side its sign says, drifting along B."""
    kinetic = 1.0
    momentum = math.sqrt(kinetic * (kinetic + 2 * 0.51099895))
    radius = momentum / (0.299792458 * field_T)
    spacing = radius / 20
    medium = box((60, 60, 60), spacing, 1e-6, material=1)
    middle = 30 * spacing
    start = middle - radius if kind == 1.0 else middle + radius
    along = 0.05
    particle = (start, middle, middle, 0, along, math.sqrt(1 - along**2), kinetic, kind)
    energy, tally = shoot(medium, particle, 200, (0, field_T, 0))
    projected = energy.sum(1)
    z, x = np.nonzero(projected)
    # Electrons that go along +z turn to +x: the circle's centre lies one radius beside the start.
    distance = np.hypot((x + 0.5) * spacing - middle, (z + 0.5) * spacing - middle)
    inside = np.abs(distance - radius * math.sqrt(1 - along**2)) < 0.03 * radius + spacing
    assert np.average(inside, weights=projected[z, x]) > 0.97
    assert tally.counter[stack.N_TRUNCATED] == 0


def test_electrons_stop_within_their_range():
    medium = box((40, 40, 40), 1.0, 1.0)
    kinetic, repeats = 4.0, 2000
    energy, tally = shoot(medium, (20, 20, 1e-6, 0, 0, 1, kinetic, 1), repeats)
    depth = energy.sum((1, 2))
    assert depth.sum() + tally.energy[stack.ESCAPED :].sum() == pytest.approx(kinetic * repeats, rel=1e-5)
    # CSDA range of 4 MeV electrons in water 20.4 mm (ESTAR); half of the dose lies near half of the practical range.
    deep = np.cumsum(depth) / depth.sum()
    assert deep[20] > 0.985
    assert 7 < np.searchsorted(deep, 0.5) < 12


def test_no_end_in_vacuum_is_counted():
    medium = box((20, 20, 20), 5.0, 0.0)
    energy, tally = shoot(medium, (50, 50, 50, 1, 0, 0, 1.0, 1), 3, (0, 1.5, 0))
    assert tally.counter[stack.N_TRUNCATED] == 3
    assert energy.sum() == pytest.approx(3.0)
    _, free = shoot(medium, (50, 50, 50, 1, 0, 0, 1.0, 1), 3)
    assert free.energy[stack.ESCAPED] == pytest.approx(3.0)


def test_positron_rest_energy_is_accounted_for():
    medium = box((10, 10, 10), 2.0, 1.0)
    for energy in (0.1, 1.0, 5.0):
        deposit, tally = shoot(medium, (10, 10, 10, 1, 0, 0, energy, 2), 2000)
        assert deposit.sum() + tally.energy[stack.ESCAPED :].sum() == pytest.approx(
            2000 * (energy + 1.0219979), rel=1e-5
        )


def test_the_sieve_lets_every_real_collision_through():
    """At every energy, in any material and density, inside and outside a dense box; and it stops most in air."""
    names = ("water", "air-dry", "schneider-24", "titanium-alloy")
    draw = np.random.default_rng(5)
    density = draw.uniform(0.9, 1.9, (10, 10, 10)).astype(np.float32)
    material = draw.choice([0, 2], density.shape).astype(np.uint8)
    density[:3], material[:3] = 1.2e-3, 1
    density[5:7, 5:7, 5:7], material[5:7, 5:7, 5:7] = 4.43, 3
    medium = Medium(Grid(density.shape, (3.0,) * 3, (0.0,) * 3), density, material, names)
    table = tables.load(names)
    geometry, _ = cpu.pack(medium, table, (0.0, 0.0, 0.0))
    _, rounded = cpu.codes(medium)
    _, dense = cpu.dense_box(rounded)
    assert dense.any()
    sieve = voxels.from_bricks(geometry.sieve, density.shape)
    for row, part in draw.uniform(0, 1, (300, 2)):
        row = int(row * (tables.ROWS - 1))
        total = table.photon[:, row, 0] * (1 - part) + table.photon[:, row + 1, 0] * part
        free = geometry.inverse_majorant[:, row] * (1 - part) + geometry.inverse_majorant[:, row + 1] * part
        chance = total[material].astype(float) * rounded * free[dense.astype(int)]
        assert np.all(255 * chance <= sieve)
    assert sieve[:3].max() <= 2


def test_voxel_codes():
    draw = np.random.default_rng(1)
    grid = Grid((6, 7, 8), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    density = np.exp(draw.uniform(np.log(1e-3), np.log(8), grid.shape_zyx)).astype(np.float32)
    material = draw.integers(0, 3, grid.shape_zyx).astype(np.uint8)
    medium = Medium(grid, density, material, ("water", "air-dry", "lung-icru"))
    code = cpu.codes(medium)[0].reshape(-1)
    for i in range(grid.size):
        assert voxels.material_of.py_func(code[i]) == material.reshape(-1)[i]
        assert voxels.density_of.py_func(code[i]) == pytest.approx(density.reshape(-1)[i], rel=1e-4)
    around = density[2:5, 2:5, 2:5]
    assert not voxels.even_near.py_func(code[(3 * 7 + 3) * 8 + 3])
    assert around.max() > cpu.ALIKE * density[3, 3, 3] or around.min() * cpu.ALIKE < density[3, 3, 3]


@pytest.mark.parametrize(("other", "even"), [(1.45, True), (0.7, True), (1.55, False), (0.65, False)])
def test_a_neighbourhood_is_even_up_to_its_bound(other, even):
    """One neighbour at a corner decides, denser or thinner."""
    density = np.ones((5, 5, 5), np.float32)
    density[1, 1, 1] = other
    uniform = box((5, 5, 5), 2.0, 1.0)
    medium = Medium(uniform.grid, density, uniform.material, uniform.materials)
    code, _ = cpu.codes(medium)
    assert voxels.even_near.py_func(code[2, 2, 2]) == even


def fine(density, spacing_mm=1.0):
    medium = box(density.shape, spacing_mm, 1.0)
    code, _ = cpu.codes(Medium(medium.grid, density, medium.material, medium.materials))
    return np.vectorize(lambda c: voxels.is_fine.py_func(np.uint32(c)))(code)


@pytest.mark.parametrize(("other", "expected"), [(0.001, True), (0.09, True), (0.11, False), (1.0, False)])
def test_voxels_are_fine_beside_a_step_of_density_by_ten(other, expected):
    density = np.ones((1, 1, 12), np.float32)
    density[..., 6:] = other
    found = fine(density)[0, 0]
    assert np.array_equal(found[:6], [False] * 4 + [expected] * 2)  # two voxels of 1 mm
    assert np.array_equal(found[6:], [expected] * 6)  # gas everywhere


@pytest.mark.parametrize(("spacing_mm", "voxels_deep"), [(0.5, 4), (1.0, 2), (2.0, 1), (3.0, 1), (5.0, 1)])
def test_fine_voxels_reach_two_millimetres_and_one_voxel_at_least(spacing_mm, voxels_deep):
    density = np.ones((1, 1, 20), np.float32)
    density[..., 10:] = 0.001
    assert fine(density, spacing_mm)[0, 0, :10].sum() == voxels_deep


def test_fine_steps_are_shorter_and_lose_what_collisions_below_their_threshold_take():
    table = tables.load(("water",))
    energy = tables.energy_grid_MeV()
    for which, cut in ((0, 0.2), (1, 0.05)):
        electron = table.electron[0, which].astype(float)
        for row in (int(np.searchsorted(energy, e)) for e in (0.6, 1.0, 2.0, 5.0)):
            loss, step = electron[row, tables.LOSS], electron[row, tables.STEP]
            middle = energy[row] - loss / 2
            stopping = materials.restricted_collision_stopping("water", middle, cut) / 10
            # Photons below 50 keV take up to 0.3 % more; the two thresholds differ by 7 to 10 %.
            assert loss / step == pytest.approx(float(stopping), rel=0.01)
            assert step < 0.5 * table.electron[0, 0, row, tables.STEP] or which == 0
    coarse, finer = table.electron[0, 0], table.electron[0, 1]
    # Below 200 keV they are those of other voxels.
    low = energy < 0.09
    np.testing.assert_allclose(finer[low], coarse[low], rtol=1e-5)
