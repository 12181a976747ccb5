"""Where patient's right, front and head land in the pictures: from the drawn axes, not from a table."""

from __future__ import annotations

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.report import figures, planes, style

GRID = Grid((4, 5, 6), (3.0, 2.0, 1.0), (-10.0, 20.0, 100.0))
CENTRE = (0.0, 0.0, 0.0)
LEFT, RIGHT = (50.0, 0.0, 0.0), (-50.0, 0.0, 0.0)  # LPS: +x is the patient's left
FRONT, BACK = (0.0, -50.0, 0.0), (0.0, 50.0, 0.0)
HEAD, FEET = (0.0, 0.0, 50.0), (0.0, 0.0, -50.0)


def pixel(view, point):
    """Picture coordinates (to the right, upwards) of a patient's point on a dressed axis."""
    with style.styled():
        figure = style.new_figure(4, 4)
        ax = figure.add_subplot()
        figures.dress(ax, view, ((-80.0, -80.0, -80.0), (80.0, 80.0, 80.0)))
        figure.canvas.draw()
        return ax.transData.transform(planes.in_plane_mm(view, point))


@pytest.mark.parametrize(
    ("view", "on_the_left", "on_the_right", "at_the_top", "at_the_bottom"),
    [
        ("axial", RIGHT, LEFT, FRONT, BACK),
        ("coronal", RIGHT, LEFT, HEAD, FEET),
        ("sagittal", FRONT, BACK, HEAD, FEET),
    ],
)
def test_orientation_follows_the_radiological_convention(view, on_the_left, on_the_right, at_the_top, at_the_bottom):
    middle = pixel(view, CENTRE)
    assert pixel(view, on_the_left)[0] < middle[0] < pixel(view, on_the_right)[0]
    assert pixel(view, at_the_bottom)[1] < middle[1] < pixel(view, at_the_top)[1]


@pytest.mark.parametrize(("view", "letters"), [("axial", "RLAP"), ("coronal", "RLSI"), ("sagittal", "APSI")])
def test_letters_stand_where_the_patient_is(view, letters):
    layout = planes.LAYOUTS[view]
    assert layout.left + layout.right + layout.top + layout.bottom == letters
    with style.styled():
        ax = style.new_figure(4, 4).add_subplot()
        figures.dress(ax, view, ((-80.0, -80.0, -80.0), (80.0, 80.0, 80.0)))
    written = {t.get_text(): t.get_position() for t in ax.texts}
    left, right, top, bottom = (written[letter] for letter in letters)
    assert left[0] < 0.1 < 0.9 < right[0]
    assert bottom[1] < 0.1 < 0.9 < top[1]


def test_a_marked_voxel_is_drawn_at_its_place():
    for index_zyx in ((2, 3, 4), (0, 4, 1)):
        values = np.zeros(GRID.shape_zyx, np.float32)
        values[index_zyx] = 1
        x, y, z = GRID.position_xyz_mm(np.array(index_zyx))
        for view, position, across, up in (("axial", z, x, y), ("coronal", y, x, z), ("sagittal", x, y, z)):
            cut = planes.cut(values, GRID, view, float(position))
            row, column = np.argwhere(cut.values == 1)[0]
            assert (cut.across_mm[column], cut.up_mm[row]) == (across, up)
            assert cut.values.sum() == 1


def test_a_plane_between_two_slices_is_linear():
    z, y, x = np.meshgrid(GRID.z_mm, GRID.y_mm, GRID.x_mm, indexing="ij")
    values = (2 * x - y + 3 * z).astype(np.float32)
    cut = planes.cut(values, GRID, "axial", 104.2)
    expected = 2 * cut.across_mm[None, :] - cut.up_mm[:, None] + 3 * 104.2
    np.testing.assert_allclose(cut.values, expected, rtol=1e-5)
    assert np.array_equal(planes.cut(values, GRID, "axial", 1e6).values, values[-1])


def test_extent_is_the_outer_edge():
    cut = planes.cut(np.zeros(GRID.shape_zyx, np.float32), GRID, "coronal", 22.0)
    assert cut.extent_mm == (-10.5, -4.5, 98.5, 110.5)


def test_one_millimetre_is_the_same_both_ways():
    origin, across = pixel("axial", CENTRE), pixel("axial", LEFT)
    up = pixel("axial", FRONT)
    assert across[0] - origin[0] == pytest.approx(up[1] - origin[1])
