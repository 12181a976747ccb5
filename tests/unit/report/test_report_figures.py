"""What the pictures are made of: curves, fluence maps, the unfolded skin, colours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.dose.dose import Dose
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.report import compare, diagrams, figures, skin, style


def test_planes_go_through_the_target_not_the_isocentre(content):
    assert content.centre_xyz_mm == pytest.approx((-55, 0, 12), abs=0.6)
    assert content.isocentre_xyz_mm == (-40.0, 5.0, 12.0)
    title = figures.plane_title("sagittal", content.centre_xyz_mm[0], content.isocentre_xyz_mm)
    assert title == "Sagittal  x = −55 mm (isocentre at +15 mm)"


def test_dvh_curve_starts_whole_and_ends_empty(content):
    dose, volume = diagrams.dvh_curve(content.dvhs["PTV"])
    assert dose[0] == 0
    assert volume[0] == pytest.approx(100, abs=1e-4)
    assert volume[-1] == 0
    # volume at a bin's lower edge: at least that dose
    ptv, gray = content.structures["PTV"].occupancy, content.dose.dose_Gy
    k = 300
    assert volume[k] == pytest.approx(100 * ptv[gray >= dose[k]].sum() / ptv.sum(), abs=0.2)


def test_a_goal_judged_on_a_scaled_dose_is_marked_where_this_dose_meets_it(content):
    """V20 at nine tenths of the dose is V22.2 of the dose: there the mark stands, on the right side of the curve."""
    goals = content.goals[content.goals["metric"] == "V20Gy[%]"].assign(scaled=0.9)
    figure = diagrams.dvh(replace(content, goals=goals))
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "X"]
    assert [tuple(mark.get_xydata()[0]) for mark in marks] == [(pytest.approx(20 / 0.9), 35.0)]


def test_fluence_map_puts_beamlets_in_their_rectangles():
    lattice = np.array([[-2, 1], [0, 1], [0, -1]], np.int32)
    beamlets = BeamletMap(Beam(0, (0, 0, 0), 1000.0), lattice, (5.0, 7.0))
    u, v, values = diagrams.fluence_edges(beamlets, np.array([1.0, 2.0, 3.0]))
    assert (u[0], u[-1], v[0], v[-1]) == (-10, 5, -7, 14)
    assert values.shape == (3, 3)
    for (i, j), mu in zip(lattice, (1.0, 2.0, 3.0), strict=True):
        row, column = np.searchsorted(v, j * 7.0), np.searchsorted(u, i * 5.0)
        assert values[row, column] == mu
    assert np.isnan(values).sum() == 6


@pytest.mark.parametrize(
    ("offset", "angle"), [((0, -1), 0), ((1, 0), 90), ((-1, 0), -90), ((1e-9, 1), 180), ((1, -1), 45)]
)
def test_angles_around_the_body(offset, angle):
    assert skin.angle_deg(np.array(offset[0]), np.array(offset[1])) == pytest.approx(angle)


def test_unfolded_skin_keeps_dose_and_side(content):
    _, y, x = np.meshgrid(content.dose.grid.z_mm, content.dose.grid.y_mm, content.dose.grid.x_mm, indexing="ij")
    left_only = np.where((x > 0) & (np.abs(y) < 60), 10.0, 0.0).astype(np.float32)
    unfolded = skin.unfold(replace(content, dose=replace(content.dose, dose_Gy=left_only)))
    middle = (unfolded.angle_edge_deg[1:] + unfolded.angle_edge_deg[:-1]) / 2
    row = unfolded.dose_Gy[len(unfolded.dose_Gy) // 2]
    assert np.nanmax(row[np.abs(middle - 90) < 20]) == pytest.approx(10)
    assert np.nanmin(row[np.abs(middle - 90) < 20]) == pytest.approx(10)
    assert np.nanmax(row[middle < -5]) == 0
    flat = replace(content, dose=replace(content.dose, dose_Gy=np.full_like(left_only, 7.0)))
    constant = skin.unfold(flat).dose_Gy
    np.testing.assert_allclose(constant[np.isfinite(constant)], 7.0)


@pytest.mark.parametrize(("gantry", "entry", "leave"), [(0, 0, 180), (90, 90, -90), (270, -90, 90)])
def test_beam_axes_cross_the_skin_where_they_should(content, gantry, entry, leave):
    unfolded = skin.unfold(content)
    found = skin.crossings_deg(content, unfolded, Beam(gantry, (0.0, 0.0, 12.0), 1435.0))
    gaps = (np.array(found) - np.array([entry, leave]) + 180) % 360 - 180
    assert np.abs(gaps).max() < 3


def test_a_beam_beside_the_body_crosses_nothing(content):
    assert skin.crossings_deg(content, skin.unfold(content), Beam(0, (160.0, 0.0, 12.0), 1435.0)) is None


def test_dose_of_another_grid_is_interpolated(content):
    fine = Grid.covering((-120.0, -90.0, -40.0), (120.0, 90.0, 60.0), (4.0, 4.0, 4.0))
    z, y, x = np.meshgrid(fine.z_mm, fine.y_mm, fine.x_mm, indexing="ij")
    linear = (20 + 0.05 * x - 0.03 * y + 0.1 * z).astype(np.float32)
    from types import SimpleNamespace

    dose = Dose(fine, linear, None, 33, content.dose.provenance)
    moved = compare.dose_on(SimpleNamespace(dose=dose), content)
    k, j, i = 12, 20, 30
    grid = content.dose.grid
    expected = 20 + 0.05 * grid.x_mm[i] - 0.03 * grid.y_mm[j] + 0.1 * grid.z_mm[k]
    assert moved[k, j, i] == pytest.approx(expected, rel=1e-5)
    assert moved[0, 0, 0] == 0
    assert compare.dose_on(content, content) is content.dose.dose_Gy


def test_colours_of_structures_are_known_or_told_apart():
    assert style.structure_color("PTV_eval") == style.structure_color("PTV")
    names = ["PTV", "PTV_eval", "PTV_lung", "Lungs", "Lungs-GTV", "SpinalCord", "SpinalCord_PRV05", "Bowel"]
    colors = style.structure_colors(names)
    assert len(set(colors.values())) == len(names)
    assert colors["PTV"] == style.structure_color("PTV")


def test_every_figure_carries_the_statement(content):
    with style.styled():
        for figure in (
            figures.isodoses(content),
            diagrams.dvh(content),
            diagrams.fluences(content),
            figures.uncertainty(content),
            skin.skin_map(content),
        ):
            assert content.research_statement in {text.get_text() for text in figure.texts}
