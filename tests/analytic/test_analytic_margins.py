"""Margins against closed forms: Steiner's formula for convex bodies, ellipsoid octants, cut ends."""

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.margins import SixMargins, expand


def filled(grid, inside, fine=6):
    """Occupancy of a body given as a function of z, y, x, by points within each voxel."""
    steps = (np.arange(fine) + 0.5) / fine - 0.5
    z, y, x = (
        (c[:, None] + s * steps).ravel()
        for c, s in zip((grid.z_mm, grid.y_mm, grid.x_mm), grid.spacing_zyx_mm, strict=True)
    )
    points = np.broadcast_to(inside(z[:, None, None], y[None, :, None], x[None, None, :]), (len(z), len(y), len(x)))
    nz, ny, nx = grid.shape_zyx
    return points.reshape(nz, fine, ny, fine, nx, fine).mean(axis=(1, 3, 5), dtype=np.float32)


def volume_mm3(inside, grid):
    return float(inside.sum(dtype=float)) * grid.voxel_cc * 1000


def cube(half, spacing):
    return Grid.covering((-half,) * 3, (half,) * 3, spacing)


@pytest.mark.parametrize("spacing", [(3, 3, 3), (3, 1.5, 1.5), (2, 2, 2)])
@pytest.mark.parametrize("margin_mm", [1, 3, 7, 15, -3, -5])
def test_a_ball_stays_a_ball(spacing, margin_mm):
    grid, radius = cube(38, spacing), 18.0
    ball = filled(grid, lambda z, y, x: (x - 0.7) ** 2 + (y + 0.4) ** 2 + (z - 1.1) ** 2 <= radius**2)
    expected = 4 / 3 * np.pi * (radius + margin_mm) ** 3
    assert volume_mm3(expand(ball, grid, margin_mm), grid) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("radius", [7.5, 10.0])
def test_a_node_of_a_centimetre_or_two_grows_right_on_the_coarse_grid(radius):
    grid = cube(30, (3, 3, 3))
    ball = filled(grid, lambda z, y, x: (x - 0.7) ** 2 + (y + 0.4) ** 2 + (z - 1.1) ** 2 <= radius**2)
    for margin_mm in (3, 5, 7):
        grown_radius = np.cbrt(volume_mm3(expand(ball, grid, margin_mm), grid) * 3 / 4 / np.pi)
        assert grown_radius - radius == pytest.approx(margin_mm, abs=0.1)


@pytest.mark.parametrize("spacing", [(3, 3, 3), (3, 1, 1)])
@pytest.mark.parametrize("margin_mm", [3, 7, 15])
def test_a_box_grows_by_steiners_formula(spacing, margin_mm):
    # V + S m + π m² (a + b + c) + 4/3 π m³. The box's edges come out blunt inside one voxel: hence 1.5 %.
    grid, size = cube(42, spacing), np.array([20.0, 31.0, 24.0])
    low = np.array([-9.3, -14.2, -10.0])
    box = filled(
        grid,
        lambda z, y, x: (
            (x > low[0]) & (x < low[0] + size[0]) & (y > low[1]) & (y < low[1] + size[1])
            & (z > low[2]) & (z < low[2] + size[2])
        ),
        fine=10,
    )  # fmt: skip
    a, b, c = size
    m = margin_mm
    expected = a * b * c + 2 * m * (a * b + b * c + a * c) + np.pi * m**2 * (a + b + c) + 4 / 3 * np.pi * m**3
    assert volume_mm3(expand(box, grid, m), grid) == pytest.approx(expected, rel=0.015)


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.8, 1.5, 2.2])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("margin_mm", [0.7, 3.0, 7.4, -2.0, -5.0])
def test_a_flat_face_moves_by_the_margin_to_a_hundredth_of_a_millimetre(offset, axis, margin_mm):
    grid = Grid((16, 16, 16), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    face_mm = 21.0 + offset
    lower = 3.0 * np.arange(16) - 1.5
    profile = np.clip((face_mm - lower) / 3.0, 0, 1).astype(np.float32)
    shape = [1, 1, 1]
    shape[axis] = 16
    half_space = np.broadcast_to(profile.reshape(shape), (16, 16, 16)).copy()
    moved = expand(half_space, grid, margin_mm)
    thickness = moved.sum(axis=axis, dtype=float) * 3.0 - 1.5
    np.testing.assert_allclose(thickness, face_mm + margin_mm, atol=0.01)


@pytest.mark.parametrize("normal", [(5, 3, 0), (1, 2, 3), (0, 1, -2)])
def test_a_slanted_face_moves_by_the_margin(normal):
    grid = cube(30, (3, 2, 2))
    n = np.array(normal) / np.linalg.norm(normal)

    def half_space(extra):
        return filled(grid, lambda z, y, x: x * n[0] + y * n[1] + z * n[2] <= extra)

    inner = (slice(4, -4), slice(8, -8), slice(8, -8))
    wanted = half_space(0.4 + 6.0)[inner]
    got = expand(half_space(0.4), grid, 6.0)[inner]
    area = int(((wanted > 0) & (wanted < 1)).sum())
    assert abs(float((got - wanted).sum(dtype=float))) / area < 0.02  # mean shift, in voxels
    assert np.abs(got - wanted).max() < 0.15


def test_a_cylinder_through_the_ends_of_the_grid_counts_as_continuing():
    grid, radius = cube(39, (3, 3, 3)), 25.0
    body = filled(grid, lambda z, y, x: x**2 + y**2 + 0 * z <= radius**2)
    length = 78.0
    for margin_mm in (5, -5, -3):
        expected = np.pi * (radius + margin_mm) ** 2 * length
        assert volume_mm3(expand(body, grid, margin_mm), grid) == pytest.approx(expected, rel=0.005)
    shrunk = expand(body, grid, -5)
    np.testing.assert_allclose(shrunk[0], shrunk[13], atol=1e-6)


MARGINS = SixMargins(left=5, right=9, anterior=3, posterior=12, superior=10, inferior=6)


def test_six_directions_reach_as_far_as_they_say():
    grid = cube(36, (3, 3, 3))
    ball = filled(grid, lambda z, y, x: x**2 + y**2 + z**2 <= 8.0**2)
    grown = expand(ball, grid, MARGINS)
    middle = [n // 2 for n in grid.shape_zyx]

    def reach(axis, sign):
        # The line through the middle lies half a voxel off the ball's centre at most: under 0.15 mm of its radius.
        index = [slice(i - 1, i + 1) for i in middle]
        index[axis] = slice(middle[axis], None) if sign > 0 else slice(0, middle[axis])
        return float(grown[tuple(index)].sum(dtype=float)) / 4 * 3.0 - 8.0

    found = {
        "left": reach(2, 1), "right": reach(2, -1), "posterior": reach(1, 1), "anterior": reach(1, -1),
        "superior": reach(0, 1), "inferior": reach(0, -1),
    }  # fmt: skip
    for direction, value in found.items():
        assert value == pytest.approx(getattr(MARGINS, direction), abs=0.4), direction


def test_six_directions_agree_with_brute_force_over_all_points():
    grid = cube(24, (3, 2, 2))
    body = filled(grid, lambda z, y, x: (x / 8) ** 2 + (y / 5) ** 2 + (z / 9) ** 2 <= 1)
    grown = expand(body, grid, MARGINS)
    rng = np.random.default_rng(4)
    surface = rng.normal(size=(20_000, 3))
    surface /= np.linalg.norm(surface, axis=1, keepdims=True)
    surface *= (8.0, 5.0, 9.0)
    points = rng.uniform(-23, 23, size=(3000, 3))
    positive, negative = np.array([5.0, 12.0, 10.0]), np.array([9.0, 3.0, 6.0])
    inside = np.sum((points / (8.0, 5.0, 9.0)) ** 2, axis=1) <= 1
    for i, point in enumerate(points):
        if not inside[i]:
            v = point - surface
            inside[i] = np.min(np.sum((v / np.where(v >= 0, positive, negative)) ** 2, axis=1)) <= 1
    z, y, x = np.rint(grid.index_zyx(points)).astype(int).T
    ours = grown[z, y, x]
    clear = (ours < 0.01) | (ours > 0.99)
    assert np.mean(inside[clear] != (ours[clear] > 0.5)) < 0.002
    sigma = float(np.std(inside - ours)) / np.sqrt(len(points))
    assert abs(float(np.mean(inside - ours))) < 3 * sigma + 0.002


def test_shrinking_by_six_directions_undoes_growing_on_a_box():
    grid = cube(45, (3, 3, 3))
    box = filled(grid, lambda z, y, x: (abs(x) < 15) & (abs(y) < 15) & (abs(z) < 15))
    inward = MARGINS.model_copy(update={"inward": True})
    shrunk = expand(box, grid, inward)
    expected = (30 - 5 - 9) * (30 - 3 - 12) * (30 - 10 - 6)
    assert volume_mm3(shrunk, grid) == pytest.approx(expected, rel=0.02)
    # The left side lost 5 mm, the right side 9 mm.
    profile = shrunk.sum(axis=(0, 1)) / shrunk.sum(axis=(0, 1)).max()
    assert profile[grid.x_mm > 0].sum() * 3 == pytest.approx(10, abs=0.2)
    assert profile[grid.x_mm < 0].sum() * 3 == pytest.approx(6, abs=0.2)
