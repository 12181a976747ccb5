import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlinac.anatomy.grid import Grid

GRID = Grid((4, 5, 6), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0))


def test_axes_and_corners():
    assert GRID.size == 120
    assert GRID.voxel_cc == pytest.approx(0.006)
    np.testing.assert_allclose(GRID.x_mm, [10, 11, 12, 13, 14, 15])
    np.testing.assert_allclose(GRID.z_mm, [30, 33, 36, 39])
    assert GRID.lower_xyz_mm == (9.5, 19.0, 28.5)
    assert GRID.upper_xyz_mm == (15.5, 29.0, 40.5)


def test_index_order_never_leaks():
    np.testing.assert_allclose(GRID.position_xyz_mm(np.array([1, 2, 3])), [13.0, 24.0, 33.0])
    np.testing.assert_allclose(GRID.index_zyx(np.array([13.0, 24.0, 33.0])), [1, 2, 3])


@given(st.lists(st.floats(-500, 500), min_size=3, max_size=3))
def test_position_and_index_are_inverse(point):
    np.testing.assert_allclose(GRID.position_xyz_mm(GRID.index_zyx(np.array(point))), point, atol=1e-9)


def test_padding_keeps_the_lattice():
    padded = GRID.padded((1, 2, 3), (0, 1, 2))
    assert padded.shape_zyx == (5, 8, 11)
    np.testing.assert_allclose(padded.position_xyz_mm(np.array([1, 2, 3])), GRID.origin_xyz_mm)


@given(st.lists(st.floats(-300, 300), min_size=3, max_size=3), st.lists(st.floats(0.5, 400), min_size=3, max_size=3))
def test_covering_encloses_and_is_smallest(lower, size):
    upper = np.add(lower, size)
    grid = Grid.covering(lower, upper, (3.0, 2.0, 2.5))
    assert np.all(np.array(grid.lower_xyz_mm) <= np.array(lower) + 1e-6)
    assert np.all(np.array(grid.upper_xyz_mm) >= upper - 1e-6)
    excess = (np.array(grid.upper_xyz_mm) - grid.lower_xyz_mm) - size
    assert np.all(excess < np.array([2.5, 2.0, 3.0]) + 1e-6)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((0, 1, 1), (1, 1, 1)), ((1, 1, 1), (1, 0, 1)), ((1, 1, 1), (1, float("nan"), 1))]
)
def test_nonsense_is_refused(shape, spacing):
    with pytest.raises(ValueError, match="grid needs"):
        Grid(shape, spacing, (0, 0, 0))
