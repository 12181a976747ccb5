"""A body that the scan cuts at its sides has no skin there, and no skin metric where that touches it."""

import numpy as np
import pytest

from mrlinac.anatomy.contours import rasterise
from mrlinac.anatomy.field_of_view import cut_planes_mm, described, mark_cut_skin, rinds
from mrlinac.anatomy.from_ct import calculation_grid
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
