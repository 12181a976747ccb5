"""Booleans of partly filled voxels, where the surfaces say how the parts lie to one another."""

import numpy as np
import pytest

from mrlinac.anatomy import booleans
from mrlinac.anatomy.grid import Grid

GRID = Grid((5, 7, 9), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))


def slab(low, high, axis=2):
    """What lies between two coordinates along an axis."""
    centres = (GRID.z_mm, GRID.y_mm, GRID.x_mm)[axis]
    share = np.clip(np.minimum(centres + 1.5, high) - np.maximum(centres - 1.5, low), 0, None) / 3
    shape = [1, 1, 1]
    shape[axis] = -1
    return np.broadcast_to(share.reshape(shape), GRID.shape_zyx).astype(np.float32)


def cc(inside):
    return float(inside.sum(dtype=float)) * GRID.voxel_cc


def length(inside):
    return float(inside.sum(dtype=float)) * 3.0 / (5 * 7)


def test_one_within_the_other():
    both = booleans.intersection(slab(2, 13), slab(2, 13.8), GRID)
    assert length(both) == pytest.approx(11, abs=1e-5)
    assert length(booleans.difference(slab(2, 13.8), slab(2, 13), GRID)) == pytest.approx(0.8, abs=1e-5)


def test_side_by_side():
    left, right = slab(4, 13), slab(13, 20)
    assert length(booleans.intersection(left, right, GRID)) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(booleans.union(left, right, GRID), slab(4, 20), atol=1e-6)
    np.testing.assert_allclose(booleans.difference(left, right, GRID), left, atol=1e-6)


def test_across():
    both = booleans.intersection(slab(4, 13), slab(5, 14, axis=1), GRID)
    np.testing.assert_allclose(both, slab(4, 13) * slab(5, 14, axis=1), atol=1e-6)
    assert cc(both) == pytest.approx(9 * 9 * 15 / 1000, rel=1e-5)


def test_of_a_structure_with_itself():
    a = slab(4, 13) * slab(5, 14, axis=1)
    inside = a > 0.3  # the edges of the bar, where one normal cannot be right, are faint
    np.testing.assert_allclose(booleans.intersection(a, a, GRID)[inside], a[inside], atol=1e-6)
    assert cc(booleans.difference(a, a, GRID)) == pytest.approx(0, abs=1e-5)
