"""Dose between voxels, sums of doses."""

from dataclasses import replace

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.dose.dose import Batches, Dose
from mrlinac.dose.interpolate import batches_at, dose_on, resampled
from mrlinac.dose.sampling import isodose_volume_cc
from mrlinac.dose.summation import difference, total
from mrlinac.provenance import Provenance

GRID = Grid((9, 10, 11), (3.0, 2.5, 2.0), (40.0, 5.0, -10.0))


def made(function, grid=GRID, fractions=1):
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    return Dose(grid, function(x, y, z).astype(np.float32), None, fractions, Provenance("t", "t"))


def quadratic(x, y, z):
    return 50 + 0.05 * (x - 48) ** 2 - 0.1 * (y - 15) ** 2 + 0.02 * z**2 + 0.3 * x * 0.1 * z


def test_a_quadratic_dose_comes_out_exactly():
    x, y, z = np.linspace(42, 58, 13), np.linspace(7.5, 25, 9), np.linspace(-7, 11, 7)
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    assert dose_on(made(quadratic), x, y, z) == pytest.approx(quadratic(xx, yy, zz), abs=2e-4)


def test_voxels_keep_their_own_dose_and_outside_nothing_is_known():
    dose = made(quadratic)
    assert np.array_equal(resampled(dose, GRID), dose.dose_Gy)
    assert dose_on(dose, GRID.x_mm, GRID.y_mm, GRID.z_mm) == pytest.approx(dose.dose_Gy, rel=1e-6)
    edge = dose_on(dose, np.array([39.1, 38.9, 60.9, 61.1]), GRID.y_mm[:1], GRID.z_mm[:1])[0, 0]
    assert np.isnan(edge).tolist() == [False, True, False, True]


def test_beside_a_jump_nothing_overshoots():
    dose = made(lambda x, y, z: np.where(x > 49, 60.0, 1.0))
    fine = dose_on(dose, np.linspace(40, 60, 81), np.linspace(5, 27, 61), GRID.z_mm)
    assert fine.min() >= 1 - 1e-4
    assert fine.max() <= 60 + 1e-4


def test_a_small_step_is_as_smooth_as_noise():
    """5 Gy of 60 overshoot by less than a thirteenth of the step, as any cubic through four points."""
    fine = dose_on(made(lambda x, y, z: np.where(y > 14, 60.0, 55.0)), GRID.x_mm, np.linspace(5, 27, 61), GRID.z_mm)
    assert 60.1 < fine.max() < 60 + 5 / 13


def test_each_batch_is_as_much_above_the_dose_as_it_deviates():
    """In voxels each by its own deviation; between them, where a whole batch is a tenth off, by that."""
    dose = made(quadratic)
    deviation = np.random.default_rng(2).uniform(-0.1, 0.1, (3, *GRID.shape_zyx)).astype(np.float16)
    index = np.array([(0, 0, 0), (4, 5, 6), (8, 9, 10), (3, 0, 7)])
    found = batches_at(
        replace(dose, batches=Batches(deviation, (1, 1, 1))), GRID.position_xyz_mm(index.astype(float))
    )
    expected = (dose.dose_Gy * (1 + deviation.astype(np.float32)))[:, *index.T]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    level = np.broadcast_to(np.array([0.1, -0.1, 0.0], np.float16)[:, None, None, None], deviation.shape)
    points = np.array([(43.3, 9.1, -4.2), (57.7, 22.0, 10.5)])
    found = batches_at(replace(dose, batches=Batches(level, (1, 1, 1))), points)
    between = [dose_on(dose, *(np.array([c]) for c in point))[0, 0, 0] for point in points]
    np.testing.assert_allclose(found, np.outer([1.1, 0.9, 1.0], between), rtol=1e-4)  # 0.1 in half precision


def test_noise_has_no_bias_in_what_is_linear():
    """The dose between voxels is linear in that of the voxels, but beside a jump: noise of 3 % leaves every mean."""
    rng, x, y, z = (
        np.random.default_rng(1),
        np.linspace(42, 58, 50),
        np.linspace(7.5, 25, 50),
        np.linspace(-7, 11, 40),
    )
    true = made(quadratic)
    parts = [true.dose_Gy * (1 + 0.03 * rng.standard_normal(GRID.shape_zyx)) for _ in range(2)]
    first, second = (made(lambda *_, part=part: part) for part in parts)
    mean = made(lambda *_: (parts[0] + parts[1]) / 2)
    both = (dose_on(first, x, y, z) + dose_on(second, x, y, z)) / 2
    assert np.mean(dose_on(mean, x, y, z) - both) == pytest.approx(0, abs=1e-3)


def test_sums_lie_on_the_finest_grid_and_hold_everything():
    coarse = Grid((6, 6, 6), (5.0, 5.0, 5.0), (38.0, 2.0, -12.0))
    first = made(lambda x, y, z: 2 + 0 * x, fractions=20)
    second = made(lambda x, y, z: 1 + 0 * x, coarse, fractions=5)
    found = total([second, first])
    assert found.fractions == 25
    assert found.grid.spacing_zyx_mm == GRID.spacing_zyx_mm
    assert np.all(np.array(found.grid.lower_xyz_mm) <= np.minimum(GRID.lower_xyz_mm, coarse.lower_xyz_mm) + 1e-9)
    assert np.all(np.array(found.grid.upper_xyz_mm) >= np.maximum(GRID.upper_xyz_mm, coarse.upper_xyz_mm) - 1e-9)
    assert set(np.unique(np.round(found.dose_Gy, 4))) <= {0, 1, 2, 3}
    assert (np.round(found.dose_Gy) == 3).sum() > 500
    assert total([first]) is first
    gap = difference(made(lambda x, y, z: 3 + 0.1 * x), made(lambda x, y, z: 1 + 0.1 * x))
    assert gap == pytest.approx(np.full(GRID.shape_zyx, 2.0), abs=1e-5)


def test_isodose_volume_of_a_ball():
    grid = Grid.covering((-30,) * 3, (30,) * 3, (3.0,) * 3)
    dose = made(lambda x, y, z: 60 * np.exp(-(x**2 + y**2 + z**2) / 2 / 15**2), grid)
    radius = 15 * np.sqrt(2 * np.log(2))
    assert isodose_volume_cc(dose, 30.0) == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.01)
