"""Contours to occupancy and back: the even–odd rule, slabs along z, cut ends."""

from dataclasses import replace

import numpy as np
import pytest

from mrlinac.anatomy.contours import contours_of, occupancy, polygon_volume_cc, rasterise
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.errors import DataError

GRID = Grid((6, 20, 24), (3.0, 2.0, 2.5), (-20.0, -15.0, 0.0))


def rectangle(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def roi(*loops, name="Box", role="oar", spacing=3.0):
    return Roi(name, role, tuple(Contour(z, np.asarray(points, float)) for z, points in loops), spacing)


def volume(inside, grid=GRID):
    return float(inside.sum(dtype=float)) * grid.voxel_cc


def test_a_rectangle_fills_each_voxel_by_its_overlap():
    box = roi((6.0, rectangle(-10.0, -7.0, 4.0, 9.0)))
    inside = occupancy(box, GRID)

    def share(centres, step, low, high):
        overlap = np.minimum(centres + step / 2, high) - np.maximum(centres - step / 2, low)
        return np.clip(overlap / step, 0, 1)

    expected = share(GRID.y_mm, 2.0, -7.0, 9.0)[:, None] * share(GRID.x_mm, 2.5, -10.0, 4.0)
    np.testing.assert_allclose(inside[2], expected, atol=0.02)
    assert not inside[[0, 1, 3, 4, 5]].any()


def test_along_x_the_coverage_is_exact():
    inside = occupancy(roi((6.0, rectangle(-10.3, -8.0, 4.1, 8.0))), GRID)
    assert inside[2].sum(dtype=float) * 2.0 * 2.5 == pytest.approx(14.4 * 16.0, rel=1e-6)


def test_loops_combine_by_the_even_odd_rule_whatever_their_orientation():
    outer, hole = rectangle(-15, -12, 15, 12), rectangle(-5, -4, 5, 4)
    island = rectangle(-2, -2, 2, 2)
    for order in (hole, hole[::-1]):
        ring = roi((6.0, outer), (6.0, order), (6.0, island))
        area = 30 * 24 - 10 * 8 + 4 * 4
        assert volume(occupancy(ring, GRID)) == pytest.approx(area * 3 / 1000, rel=1e-3)
        assert polygon_volume_cc(ring) == pytest.approx(area * 3 / 1000)


def test_a_keyhole_is_a_hole():
    keyhole = [[-15, -12], [15, -12], [15, 12], [-15, 12], [-15, 0], [-5, 0], [-5, 4], [5, 4]]
    keyhole += [[5, -4], [-5, -4], [-5, 0], [-15, 0]]
    ring = roi((6.0, keyhole))
    assert volume(occupancy(ring, GRID)) == pytest.approx((30 * 24 - 10 * 8) * 3 / 1000, rel=1e-3)
    assert polygon_volume_cc(ring) == pytest.approx((30 * 24 - 10 * 8) * 3 / 1000)


def test_a_loop_that_crosses_itself_keeps_both_halves():
    bow = roi((6.0, [[-10, -8], [10, 8], [10, -8], [-10, 8]]))
    assert volume(occupancy(bow, GRID)) == pytest.approx(2 * 0.5 * 16 * 10 * 3 / 1000, rel=2e-3)
    assert polygon_volume_cc(bow) == pytest.approx(2 * 0.5 * 16 * 10 * 3 / 1000)


def test_planes_between_the_grids_are_shared_by_overlap():
    box = roi((4.0, rectangle(-10, -8, 10, 8)))
    inside = occupancy(box, GRID)
    profile = inside.sum(axis=(1, 2)) / inside.sum()
    np.testing.assert_allclose(profile, [0, 2 / 3, 1 / 3, 0, 0, 0], atol=1e-6)


def test_missing_planes_are_filled_between_overlapping_neighbours_only():
    square = rectangle(-10, -8, 10, 8)
    assert polygon_volume_cc(roi((0.0, square), (9.0, square))) == pytest.approx(320 * 12 / 1000)
    assert polygon_volume_cc(roi((0.0, square), (15.0, square))) == pytest.approx(320 * 6 / 1000)
    aside = rectangle(11, -8, 14, 8)
    assert polygon_volume_cc(roi((0.0, square), (9.0, aside))) == pytest.approx((320 + 48) * 3 / 1000)
    inside = occupancy(roi((0.0, square), (9.0, square)), GRID)
    np.testing.assert_allclose(inside.sum(axis=(1, 2))[:4] / inside[0].sum(), 1.0, rtol=1e-5)


def test_only_the_external_is_continued_to_the_ends_of_the_grid():
    square = rectangle(-10, -8, 10, 8)
    rois = {
        "External": roi((6.0, square), (9.0, square), name="External", role="external"),
        "Lung_L": roi((6.0, square), (9.0, square), name="Lung_L"),
    }
    placed = rasterise(rois, GRID)
    assert (placed["External"].occupancy.sum(axis=(1, 2)) > 60).all()
    assert np.flatnonzero(placed["Lung_L"].occupancy.sum(axis=(1, 2))).tolist() == [2, 3]
    assert placed["External"].drawn_volume_cc == pytest.approx(320 * 6 / 1000)
    assert placed["External"].continued_cc == pytest.approx(320 * 12 / 1000)  # 18 mm of grid, 6 mm of patient
    assert placed.volume_cc("External") == pytest.approx(320 * 6 / 1000)
    assert placed["Lung_L"].continued_cc == 0
    ended = rasterise(rois, GRID, continue_external=(False, True))
    assert np.flatnonzero(ended["External"].occupancy.sum(axis=(1, 2))).tolist() == [2, 3, 4, 5]


def test_what_cannot_be_placed_is_said_all_at_once():
    rois = {"Heart": roi((6.0, rectangle(500, 500, 510, 510)), name="Heart"), "Liver": roi(name="Liver")}
    with pytest.raises(DataError, match=r"(?s)'Heart' lies outside the grid.*'Liver' has no contours"):
        rasterise(rois, GRID)


def test_parts_outside_the_grid_are_cut_off():
    inside = occupancy(roi((6.0, rectangle(-100, -100, 0.25, 100))), GRID)
    width = 0.25 - GRID.lower_xyz_mm[0]
    assert volume(inside) == pytest.approx(width * 40 * 3 / 1000, rel=1e-6)


def sphere(grid, radius, centre=(0.0, 0.0, 0.0), fine=5):
    """Occupancy of a ball, by points within each voxel."""
    steps = (np.arange(fine) + 0.5) / fine - 0.5
    z, y, x = (
        (c[:, None] + s * steps - m).ravel()
        for c, s, m in zip((grid.z_mm, grid.y_mm, grid.x_mm), grid.spacing_zyx_mm, centre[::-1], strict=True)
    )
    inside = (z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2 <= radius**2).astype(np.float32)
    nz, ny, nx = grid.shape_zyx
    return inside.reshape(nz, fine, ny, fine, nx, fine).mean(axis=(1, 3, 5), dtype=np.float32)


@pytest.mark.parametrize("radius", [8.0, 15.0, 25.0])
def test_contours_drawn_from_an_occupancy_have_its_volume_and_place(radius):
    grid = Grid.covering((-35, -35, -35), (35, 35, 35), (3, 3, 3))
    inside = sphere(grid, radius, (1.0, -2.0, 0.5))
    drawn = contours_of(inside, grid, "PTV", "target")
    assert drawn.derived
    assert drawn.slice_spacing_mm == 3.0
    assert polygon_volume_cc(drawn) == pytest.approx(volume(inside, grid), rel=0.01)
    again = occupancy(drawn, grid)
    dice = float(2 * np.minimum(again, inside).sum() / (again.sum() + inside.sum()))
    assert dice > 0.95


def test_contours_can_be_drawn_in_the_planes_of_another_image():
    grid = Grid.covering((-35, -35, -35), (35, 35, 35), (2, 2, 2))
    inside = sphere(grid, 20.0)
    planes = -30.0 + 3.0 * np.arange(21)
    drawn = contours_of(inside, grid, "PTV", "target", planes_z_mm=planes)
    assert {c.z_mm for c in drawn.contours} <= set(planes)
    assert polygon_volume_cc(drawn) == pytest.approx(volume(inside, grid), rel=0.01)


def test_a_structure_at_the_edge_of_the_grid_still_has_closed_contours():
    inside = np.ones(GRID.shape_zyx, np.float32)
    drawn = contours_of(inside, GRID, "External", "external")
    assert len(drawn.contours) == 6
    assert polygon_volume_cc(drawn) == pytest.approx(volume(inside), rel=0.02)


def test_structures_that_end_at_their_contours_lose_half_a_slice_at_each_end_of_each_part():
    square = rectangle(-10, -8, 10, 8)
    planes = [0.0, 3.0, 6.0, 30.0, 33.0, 60.0]
    box = replace(roi(*((z, square) for z in planes)), ends="at-contour")
    assert polygon_volume_cc(box) == pytest.approx(320 * (6 + 3 + 3) / 1000)  # the one alone keeps its slice
    filled = replace(roi((0.0, square), (9.0, square)), ends="at-contour")
    assert polygon_volume_cc(filled) == pytest.approx(320 * 9 / 1000)
    inside = occupancy(filled, GRID)
    np.testing.assert_allclose(inside.sum(axis=(1, 2)) / inside[1].sum(), [0.5, 1, 1, 0.5, 0, 0], atol=1e-5)


def test_a_contour_alone_stands_for_the_images_slice_however_thick_the_others_are():
    square = rectangle(-10, -8, 10, 8)
    box = replace(roi((0.0, square), (6.0, square), (60.0, square), spacing=6.0), lone_slice_mm=3.0)
    assert polygon_volume_cc(box) == pytest.approx(320 * (12 + 3) / 1000)


def test_markers_do_not_go_on_through_gaps_that_organs_go_on_through():
    marker, organ = rectangle(-2, -2, 2, 2), rectangle(-3, -3, 3, 3)
    assert polygon_volume_cc(roi((0.0, marker), (9.0, marker))) == pytest.approx(16 * 6 / 1000)
    assert polygon_volume_cc(roi((0.0, organ), (9.0, organ))) == pytest.approx(36 * 12 / 1000)
    assert polygon_volume_cc(roi((0.0, marker), (6.0, marker))) == pytest.approx(16 * 9 / 1000)


def test_no_gap_of_more_than_two_centimetres_is_filled_however_thick_the_slices():
    square = rectangle(-40, -40, 40, 40)
    assert polygon_volume_cc(roi((0.0, square), (24.0, square), spacing=8.0)) == pytest.approx(6400 * 16 / 1000)
    assert polygon_volume_cc(roi((0.0, square), (16.0, square), spacing=8.0)) == pytest.approx(6400 * 24 / 1000)
