"""A body that the scan cuts at its sides has no skin there, and no skin metric where that touches it."""

import numpy as np
import pytest

from mrlinac.anatomy.calculation_grid import calculation_grid
from mrlinac.anatomy.contours import rasterise
from mrlinac.anatomy.field_of_view import (
    beyond_circle,
    cut_planes_mm,
    cut_planes_of,
    described,
    mark_cut_skin,
    rinds,
)
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.rules import StructureRule, derive
from mrlinac.anatomy.structures import Contour, Roi

CT = Grid((30, 40, 50), (3.0, 2.0, 2.0), (-49.0, -39.0, 0.0))  # x ±50, y ±40, z −1.5 … 88.5 mm
RULES = {
    "Core": StructureRule(from_="External", margin_mm=-5),
    "Skin": StructureRule(from_="External", rind_mm=5, trim_ends_mm=15),
    "Layer": StructureRule(from_="External", minus={"structure": "External", "margin_mm": -3}, trim_ends_mm=15),
    "Skin_anterior": StructureRule(from_="Skin", side="anterior"),
    "Around": StructureRule(from_="External", ring={"inner_mm": 0, "outer_mm": 4}),
}


def patient(cut_z_mm=(), side="x"):
    """A box of 80 × 60 mm; in the cut slices it reaches the right edge of the image, or the posterior one."""
    contours = []
    for z in CT.z_mm:
        x0, y1 = -40.0, 30.0
        if cut_z_mm and cut_z_mm[0] <= z <= cut_z_mm[1]:
            x0, y1 = (-49.5, y1) if side == "x" else (x0, 39.9)
        contours.append(Contour(float(z), np.array([[x0, -30.0], [40.0, -30.0], [40.0, y1], [x0, y1]])))
    external = Roi("External", "external", tuple(contours), 3.0)
    return Patient("box", Image(CT, np.zeros(CT.shape_zyx, np.float32)), {"External": external})


def marked(person):
    grid = calculation_grid(person, None, 3.0)
    drawn = rasterise(person.rois, grid)
    structures, _ = derive(drawn, RULES, imaged_z_mm=(CT.lower_xyz_mm[2], CT.upper_xyz_mm[2]))
    structures, notes = mark_cut_skin(structures, RULES, person)
    return {name for name in structures if structures[name].flaw}, notes


def test_a_whole_body_is_not_cut():
    assert cut_planes_mm(patient().external, CT) == ()
    assert marked(patient()) == (set(), ())


def test_layers_under_the_skin_are_told_from_other_rules():
    assert rinds(RULES, "External") == {"Skin", "Layer", "Skin_anterior"}


@pytest.mark.parametrize(
    ("cut_z_mm", "side", "flawed"),
    [
        ((30, 60), "x", {"Skin", "Layer", "Skin_anterior"}),
        ((45, 45), "x", {"Skin", "Layer", "Skin_anterior"}),
        ((30, 60), "y", {"Skin", "Layer"}),  # cut behind: the anterior skin is whole
        ((0, 6), "x", set()),  # where the ends are trimmed no skin touches the cut
    ],
)
def test_skin_that_touches_the_cut_is_flawed(cut_z_mm, side, flawed):
    person = patient(cut_z_mm, side)
    planes = cut_planes_mm(person.external, CT)
    assert (planes[0], planes[-1]) == cut_z_mm
    found, notes = marked(person)
    assert found == flawed
    assert len(notes) == bool(flawed)
    if flawed:
        assert described(planes) in notes[0].text
        assert "not evaluable" in notes[0].text


def circular(radius_mm: float, noise_HU: float = 12.0) -> Patient:
    """A round body of 40 mm radius in a scan of 100 × 100 mm that shows a circle only, with padding about it."""
    grid = Grid((8, 100, 100), (3.0, 1.0, 1.0), (-49.5, -49.5, 0.0))
    y, x = np.meshgrid(grid.y_mm, grid.x_mm, indexing="ij")
    r = np.hypot(x, y)
    values = np.random.default_rng(1).normal(-1000.0, noise_HU, grid.shape_zyx).astype(np.float32)
    values[:, np.hypot(x - 6, y) < 40] = 20.0
    values[:, r > radius_mm] = -1024.0
    beyond = beyond_circle(values)
    unseen = None if beyond is None else np.broadcast_to(beyond, grid.shape_zyx)
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    points = np.column_stack([6 + 40 * np.cos(angle), 40 * np.sin(angle)])
    # A clinic's outline follows the circle where that cuts the body.
    far = np.maximum(np.hypot(*points.T) / radius_mm, 1.0)
    external = Roi(
        "External", "external", tuple(Contour(float(z), points / far[:, None]) for z in grid.z_mm[1:7]), 3.0
    )
    return Patient("round", Image(grid, values, unseen=unseen), {"External": external})


def test_a_body_that_touches_the_circle_of_reconstruction_is_cut():
    cut, whole = circular(45.5), circular(49.0)
    assert cut.image.unseen is not None
    y, x = np.meshgrid(cut.image.grid.y_mm, cut.image.grid.x_mm, indexing="ij")
    assert np.mean(cut.image.unseen[0] != (np.hypot(x, y) > 45.5)) < 0.01
    assert cut_planes_of(cut.external, cut.image) == (3.0, 6.0, 9.0, 12.0, 15.0, 18.0)
    assert cut_planes_mm(cut.external, cut.image.grid) == ()  # the rectangle alone does not show it
    assert cut_planes_of(whole.external, whole.image) == ()
    rules = {"Skin": StructureRule(from_="External", rind_mm=5), "Back": StructureRule(from_="Skin", side="right")}
    for person, flawed in ((cut, {"Skin"}), (whole, set())):
        drawn = rasterise(person.rois, calculation_grid(person, None, 3.0))
        structures, _ = derive(drawn, rules, imaged_z_mm=(-1.5, 22.5))
        structures, _ = mark_cut_skin(structures, rules, person)
        assert {name for name in structures if structures[name].flaw} == flawed


def test_round_things_in_constant_air_are_no_circle_of_reconstruction():
    y, x = np.indices((100, 100)) - 49.5
    for inside in (np.hypot(x, y) < 35, np.hypot(x / 48, y / 35) < 1, np.maximum(abs(x), abs(y)) < 47):
        values = np.full((4, 100, 100), -1000.0, np.float32)
        values[:, inside] = 0.0
        assert beyond_circle(values) is None
    assert beyond_circle(np.zeros((4, 100, 100), np.float32)) is None
    assert beyond_circle(np.random.default_rng(1).normal(size=(4, 50, 50)).astype(np.float32)) is None
