"""Loops with channels enclose what the loops of a plane enclosed, however a reader combines them."""

import matplotlib.path
import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mrlinac.anatomy.contours import area_of, even_odd
from mrlinac.anatomy.keyholes import without_holes


def square(half: float, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    return np.array([[x - half, y - half], [x + half, y - half], [x + half, y + half], [x - half, y + half]])


def winding_area(loop: np.ndarray) -> float:
    x, y = loop.T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


def checked(loops: list[np.ndarray]) -> list[np.ndarray]:
    """United, exclusive-or and by winding the made loops have the area that the even–odd rule gave the drawn ones."""
    wanted = even_odd(loops)
    made = without_holes(loops)
    areas = [area_of(loop) for loop in made]
    assert shapely.union_all(areas).area == pytest.approx(wanted.area, rel=1e-9)
    assert even_odd(made).area == pytest.approx(wanted.area, rel=1e-9)
    assert sum(abs(winding_area(loop)) for loop in made) == pytest.approx(wanted.area, rel=1e-9)
    assert shapely.union_all(areas).symmetric_difference(wanted).area == pytest.approx(0, abs=1e-6 * wanted.area)
    # Points by the crossing rule, the loops united: what a reader without any geometry library does.
    low, high = np.concatenate(loops).min(axis=0), np.concatenate(loops).max(axis=0)
    points = np.random.default_rng(1).uniform(low, high, (500, 2))
    inside = np.any([matplotlib.path.Path(loop).contains_points(points) for loop in made], axis=0)
    assert np.mean(inside != shapely.contains_xy(wanted, points)) < 0.004
    return made


def test_a_ring_is_one_loop() -> None:
    (loop,) = checked([square(10), square(6)])
    assert len(loop) == 4 + 4 + 3  # the first point of the hole twice, the channel's end twice


def test_a_loop_apart_stays_as_it_is() -> None:
    loops = [square(3, -10), square(10, 20), square(6, 20)]
    made = checked(loops)
    assert len(made) == 2
    assert made[0] is loops[0]


def test_an_island_in_a_hole_is_a_loop_of_its_own() -> None:
    assert len(checked([square(10), square(6), square(2), square(1)])) == 2


def test_holes_behind_one_another_hang_on_one_another() -> None:
    holes = [square(1, x, y) for x in (-8, -4, 0, 4, 8) for y in (-8, -4, 0, 4, 8)]
    assert len(checked([square(12), *holes])) == 1


def test_loops_that_overlap_are_taken_apart() -> None:
    checked([square(5, -2), square(5, 2), square(1, 0)])


def test_holes_that_touch_the_border_or_one_another() -> None:
    corner = np.array([[-10.0, 0.0], [-6.0, 4.0], [-6.0, -4.0]])
    checked([square(10), corner, square(2, 0), np.array([[2.0, 0.0], [5.0, 1.0], [5.0, -1.0]])])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
@example(99)  # a part between two channels was lost
@example(245)
@example(473)
def test_any_holes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    loops = [square(30)]
    for _ in range(int(rng.integers(1, 12))):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radius = rng.uniform(0.5, 5, 9)
        centre = rng.uniform(-24, 24, 2)
        loops.append(centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    checked(loops)


def test_hundreds_of_holes_are_quick() -> None:
    holes = [square(0.4, x, y) for x in range(-15, 16) for y in range(-10, 10)]
    (loop,) = without_holes([square(20), *holes])
    assert area_of(loop).area == pytest.approx(1600 - 620 * 0.64, rel=1e-9)
