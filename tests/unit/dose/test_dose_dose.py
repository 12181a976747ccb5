from dataclasses import replace

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.dose.dose import Batches, Dose
from mrlinac.provenance import Provenance

GRID = Grid((3, 4, 5), (3.0, 2.0, 1.0), (0.0, 0.0, 0.0))


def dose(fractions=1):
    values = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    return Dose(GRID, values, np.full(values.shape, 0.02), fractions, Provenance("x", "test"))


def test_a_course_is_made_of_one_fraction_once():
    course = dose().course(33)
    assert course.fractions == 33
    assert course.dose_Gy[2, 3, 4] == pytest.approx(59 * 33)
    with pytest.raises(ValueError, match="33 fractions"):
        course.course(2)


def test_arrays_are_read_only_and_their_shape_checked():
    with pytest.raises(ValueError, match="read-only"):
        dose().dose_Gy[0, 0, 0] = 1
    with pytest.raises(ValueError, match="shape"):
        Dose(GRID, np.zeros((1, 2, 3)), None, 1, Provenance("x", "test"))


def test_cropping_keeps_positions():
    part = dose().cropped((1.2, 2.0, 2.0), (2.6, 5.2, 5.9))
    assert part.grid.shape_zyx == (2, 3, 3)
    assert part.grid.origin_xyz_mm == (1.0, 2.0, 3.0)
    np.testing.assert_array_equal(part.dose_Gy, dose().dose_Gy[1:3, 1:4, 1:4])
    assert part.rel_sigma.shape == (2, 3, 3)
    with pytest.raises(ValueError, match="touches"):
        dose().cropped((100, 0, 0), (200, 1, 1))


def test_cropping_keeps_each_batch_and_its_primaries():
    whole = dose()
    deviation = np.random.default_rng(1).uniform(-0.1, 0.1, (3, *whole.grid.shape_zyx)).astype(np.float16)
    part = replace(whole, batches=Batches(deviation, (1, 2, 3))).cropped((1.2, 2.0, 2.0), (2.6, 5.2, 5.9))
    np.testing.assert_array_equal(part.batches.deviation, deviation[:, 1:3, 1:4, 1:4])
    assert part.batches.primaries == (1, 2, 3)


def test_mean_sigma_looks_at_the_high_dose_only():
    assert dose().mean_rel_sigma() == pytest.approx(0.02)
