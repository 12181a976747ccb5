"""What must hold for margins of any body, and for occupancies of any polygon."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from mrlinac.anatomy import booleans
from mrlinac.anatomy.contours import contours_of, occupancy, polygon_volume_cc
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.margins import SixMargins, expand
from mrlinac.anatomy.structures import Contour, Roi

GRID = Grid.covering((-30, -30, -30), (30, 30, 30), (3.0, 2.5, 2.5))
EXAMPLES = settings(max_examples=12, deadline=None, derandomize=True)


SEEDS = st.integers(0, 10_000)


def blob(seed):
    """A star-shaped body of smooth random radius, in 10 planes."""
    rng = np.random.default_rng(seed)
    contours = []
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    waves = [(k, rng.normal() / k, rng.uniform(0, 2 * np.pi)) for k in range(1, 5)]
    for i in range(10):
        radius = 12 + 2 * sum(a * np.cos(k * angle + p + 0.2 * i) for k, a, p in waves)
        radius = np.maximum(radius, 3.0) * np.sin(np.pi * (i + 0.7) / 10.4)
        points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        contours.append(Contour(-13.5 + 3.0 * i, points))
    return Roi("Blob", "oar", tuple(contours), 3.0)


def cc(inside):
    return float(inside.sum(dtype=float)) * GRID.voxel_cc


@EXAMPLES
@given(SEEDS)
def test_occupancy_has_the_polygons_volume(seed):
    assert abs(cc(occupancy(blob(seed), GRID)) / polygon_volume_cc(blob(seed)) - 1) < 0.002


@EXAMPLES
@given(SEEDS, st.integers(3, 30))
def test_any_tangle_of_points_is_filled_by_the_even_odd_rule(seed, count):
    points = np.random.default_rng(seed).uniform(-25, 25, (count, 2))
    inside = occupancy(Roi("Tangle", "oar", (Contour(0.0, points),), 3.0), GRID)
    area = shapely.make_valid(shapely.Polygon(points)).area
    assert abs(cc(inside) * 1000 / 3 - area) < 0.002 * area + 1.0
    assert inside.min() >= 0
    assert inside.max() <= 1


@EXAMPLES
@given(SEEDS, st.floats(0.2, 12), st.floats(0.2, 12))
def test_margins_are_monotone_and_contain_what_they_grow_from(seed, a_mm, b_mm):
    inside = occupancy(blob(seed), GRID)
    less, more = (expand(inside, GRID, m) for m in sorted((a_mm, b_mm)))
    assert np.all(inside <= less)
    assert np.all(less <= more + 1e-5)
    small, large = (expand(inside, GRID, -m) for m in sorted((a_mm, b_mm), reverse=True))
    assert np.all(large <= inside)
    assert np.all(small <= large + 1e-5)


@EXAMPLES
@given(SEEDS)
def test_no_margin_changes_nothing(seed):
    inside = occupancy(blob(seed), GRID)
    np.testing.assert_array_equal(expand(inside, GRID, 0.0), inside)


@settings(max_examples=4, deadline=None, derandomize=True)
@given(SEEDS, st.floats(1, 10))
def test_six_equal_directions_are_one_margin(seed, margin_mm):
    inside = occupancy(blob(seed), GRID)
    names = ("left", "right", "anterior", "posterior", "superior", "inferior")
    six = SixMargins(**dict.fromkeys(names, margin_mm))
    np.testing.assert_allclose(expand(inside, GRID, six), expand(inside, GRID, margin_mm), atol=1e-5)
    nearly = SixMargins(**{**dict.fromkeys(names, margin_mm), "left": margin_mm + 1e-4})
    difference = expand(inside, GRID, nearly) - expand(inside, GRID, margin_mm)
    assert abs(cc(difference)) < 0.002 * cc(expand(inside, GRID, margin_mm))


@EXAMPLES
@given(SEEDS, SEEDS)
def test_booleans_keep_to_the_bounds_and_volumes_add_up(first, second):
    a, b = occupancy(blob(first), GRID), occupancy(blob(second), GRID)
    both, either = booleans.intersection(a, b, GRID), booleans.union(a, b, GRID)
    rest = booleans.difference(a, b, GRID)
    assert np.all(both <= np.minimum(a, b) + 1e-6)
    assert np.all(both >= np.maximum(0, a + b - 1) - 1e-6)
    # Traces of up to a thousandth of a voxel are taken away from each result (mrlinac.anatomy.trace).
    np.testing.assert_allclose(cc(both) + cc(either), cc(a) + cc(b), rtol=5e-4)
    np.testing.assert_allclose(cc(rest) + cc(both), cc(a), rtol=5e-4)


@EXAMPLES
@given(SEEDS)
def test_contours_drawn_again_keep_the_volume(seed):
    inside = occupancy(blob(seed), GRID)
    again = contours_of(inside, GRID, "Blob", "oar")
    assert abs(polygon_volume_cc(again) / cc(inside) - 1) < 0.02
