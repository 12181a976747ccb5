"""Margins of both signs of one structure, sides, contours beyond the grid, isocentres off the lattice."""

from dataclasses import replace

import numpy as np
import pytest

from mrlinac.anatomy.calculation_grid import calculation_grid
from mrlinac.anatomy.contours import occupancy, rasterise
from mrlinac.anatomy.couch import CouchGeometry
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.medium_from_image import medium_of
from mrlinac.anatomy.overrides import Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.rules import StructureRule, derive
from mrlinac.anatomy.structures import Contour, Roi, Structure, StructureSet
from mrlinac.errors import DataError
from mrlinac.machine import model
from mrlinac.recipe import case

GRID = Grid((12, 20, 24), (3.0, 2.0, 2.5), (-28.75, -19.0, -16.5))  # x −30…30, y −20…20, z −18…18


def box(x0, x1, y0, y1, z0, z1):
    """Occupancy of a box."""
    parts = [
        np.clip(np.minimum(c + s / 2, high) - np.maximum(c - s / 2, low), 0, None) / s
        for c, s, low, high in zip(
            (GRID.z_mm, GRID.y_mm, GRID.x_mm), GRID.spacing_zyx_mm, (z0, y0, x0), (z1, y1, x1), strict=True
        )
    ]
    return np.einsum("i,j,k->ijk", *parts).astype(np.float32)


def volume_mm3(inside):
    return float(inside.sum(dtype=float)) * GRID.voxel_cc * 1000


def drawn(**boxes):
    roles = {"External": "external"}
    return StructureSet(GRID, {n: Structure(n, roles.get(n, "oar"), box(*b)) for n, b in boxes.items()})


def made(structures, **rules):
    return derive(structures, {name: StructureRule(**rule) for name, rule in rules.items()})[0]


# -- margins ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("Larger", "Smaller"), ("Smaller", "Larger")])
def test_the_same_margin_outwards_and_inwards_of_one_structure_are_two(order):
    rules = {"Larger": {"from_": "A", "margin_mm": 4.0}, "Smaller": {"from_": "A", "margin_mm": -4.0}}
    found = made(drawn(A=(-12, 12, -10, 10, -9, 9)), **{name: rules[name] for name in order})
    inner = 16 * 12 * 10
    outer = 24 * 20 * 18 + 2 * 4 * (24 * 20 + 24 * 18 + 20 * 18) + np.pi * 16 * (24 + 20 + 18) + 4 / 3 * np.pi * 64
    assert volume_mm3(found["Smaller"].occupancy) == pytest.approx(inner, rel=0.02)
    assert volume_mm3(found["Larger"].occupancy) == pytest.approx(outer, rel=0.03)  # edges come out blunt


@pytest.mark.parametrize("margin_mm", [-3.0, -0.6, -0.05, 0.0, 0.05, 0.6, 3.0])
def test_a_margin_however_small_keeps_its_sign(margin_mm):
    found = made(drawn(A=(-12, 12, -10, 10, -9, 9)), B={"from_": "A", "margin_mm": margin_mm})["B"].occupancy
    faces = 2 * (24 * 20 + 24 * 18 + 20 * 18)
    # At 3 mm edges and corners add a fifth to the faces' share, or take a third of it.
    assert volume_mm3(found) - 24 * 20 * 18 == pytest.approx(faces * margin_mm, rel=0.5, abs=1e-3)


@pytest.mark.parametrize("first", [True, False])
def test_six_margins_outwards_and_inwards_of_one_structure_are_two(first):
    size = {"left": 2, "right": 3, "anterior": 4, "posterior": 5, "superior": 3, "inferior": 6}
    rules = {
        "Larger": {"from_": "A", "margin_mm": size},
        "Smaller": {"from_": "A", "margin_mm": {**size, "inward": True}},
    }
    order = list(rules) if first else list(rules)[::-1]
    found = made(drawn(A=(-12, 12, -10, 10, -9, 9)), **{name: rules[name] for name in order})
    assert volume_mm3(found["Smaller"].occupancy) == pytest.approx((24 - 5) * (20 - 9) * (18 - 9), rel=0.03)
    assert volume_mm3(found["Larger"].occupancy) > (24 + 5) * 20 * 18
    # Inwards every side loses its own margin: +x is left, +y posterior, +z superior.
    half = found["Smaller"].occupancy > 0.5
    z, y, x = (np.flatnonzero(half.any(other)) for other in ((1, 2), (0, 2), (0, 1)))
    edges = [c[i] for c, i in ((GRID.x_mm, x), (GRID.y_mm, y), (GRID.z_mm, z)) for i in (i[[0, -1]],)]
    np.testing.assert_allclose(np.ravel(edges), [-9, 10, -6, 5, -3, 6], atol=2.0)


def test_a_ring_may_be_as_wide_inside_as_outside():
    found = made(drawn(A=(-12, 12, -10, 10, -9, 9)), Rim={"from_": "A", "ring": {"inner_mm": -3.0, "outer_mm": 3.0}})
    outer = 24 * 20 * 18 + 6 * (24 * 20 + 24 * 18 + 20 * 18) + np.pi * 9 * 62 + 4 / 3 * np.pi * 27
    assert volume_mm3(found["Rim"].occupancy) == pytest.approx(outer - 18 * 14 * 12, rel=0.03)


def test_terms_take_margins_of_their_own_sign():
    body = (-25, 25, -15, 15, -30, 30)
    found = made(
        drawn(External=body, A=(-20, 28, -5, 5, -6, 6)),
        Inside={"from_": "A", "within": {"structure": "External", "margin_mm": -5.0}},
        Outside={"from_": "A", "minus": {"structure": "External", "margin_mm": 2.0}},
        Past={"from_": "A", "minus": {"structure": "External", "margin_mm": -2.0}},
    )
    for name, length in (("Inside", 40), ("Outside", 1), ("Past", 5)):
        assert volume_mm3(found[name].occupancy) == pytest.approx(length * 10 * 12, rel=0.05), name


# -- sides ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "edges"),
    [
        # The body is x −25…20 and y −16…12: LPS, left is +x, posterior +y.
        ({"towards": "left", "share": 0.25}, (8.75, 20, -16, 12)),
        ({"towards": "right", "share": 0.25}, (-25, -13.75, -16, 12)),
        ({"towards": "anterior", "share": 0.25}, (-25, 20, -16, -9)),
        ({"towards": "posterior", "share": 0.25}, (-25, 20, 5, 12)),
        ("left", (-2.5, 20, -16, 12)),
        ("right", (-25, -2.5, -16, 12)),
        ({"towards": "left", "share": 0.75}, (-13.75, 20, -16, 12)),
        ({"towards": "anterior", "share": 0.75}, (-25, 20, -16, 5)),
    ],
)
def test_a_side_is_counted_from_the_side_that_is_kept(side, edges):
    structures = drawn(External=(-25, 20, -16, 12, -30, 30))
    found = made(structures, Part={"from_": "External", "side": side})["Part"].occupancy
    x0, x1, y0, y1 = edges
    assert volume_mm3(found) == pytest.approx((x1 - x0) * (y1 - y0) * 36, rel=1e-4)
    _, y, x = np.argwhere(found > 0.5).T
    assert (GRID.x_mm[x.min()], GRID.x_mm[x.max()]) == pytest.approx((x0, x1), abs=2.6)
    assert (GRID.y_mm[y.min()], GRID.y_mm[y.max()]) == pytest.approx((y0, y1), abs=2.1)


# -- contours beyond the grid -----------------------------------------------------------------------------------------


def slab(x0, x1, y0, y1, planes, role="oar"):
    points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)
    return Roi("A", role, tuple(Contour(float(z), points) for z in planes), 3.0)


INSIDE = np.arange(-15.0, 16.0, 3.0)  # eleven planes, −16.5…16.5 mm


@pytest.mark.parametrize(
    ("edges", "planes", "left"),
    [
        ((-50, 10, -10, 10), INSIDE, (-30, 10, -10, 10, 33)),  # over the right edge
        ((-10, 70, -10, 10), INSIDE, (-10, 30, -10, 10, 33)),  # the left
        ((-10, 10, -90, 10), INSIDE, (-10, 10, -20, 10, 33)),  # the front
        ((-10, 10, -10, 25), INSIDE, (-10, 10, -10, 20, 33)),  # the back
        ((-99, 99, -99, 99), INSIDE, (-30, 30, -20, 20, 33)),  # all four
        ((-10, 10, -10, 10), np.arange(0.0, 61.0, 3.0), (-10, 10, -10, 10, 19.5)),  # the head: −1.5…18
        ((-10, 10, -10, 10), np.arange(-60.0, 1.0, 3.0), (-10, 10, -10, 10, 19.5)),
    ],
)
def test_what_lies_beyond_the_grid_is_cut_off_and_nothing_else(edges, planes, left):
    found = occupancy(slab(*edges, planes), GRID)
    x0, x1, y0, y1, length = left
    assert volume_mm3(found) == pytest.approx((x1 - x0) * (y1 - y0) * length, rel=5e-3)
    _, y, x = np.argwhere(found > 0.5).T
    assert (GRID.x_mm[x.min()], GRID.x_mm[x.max()]) == pytest.approx((x0 + 1.25, x1 - 1.25), abs=1.3)
    assert (GRID.y_mm[y.min()], GRID.y_mm[y.max()]) == pytest.approx((y0 + 1, y1 - 1), abs=1.1)


@pytest.mark.parametrize(
    "edges", [(-80, -35, -10, 10), (35, 80, -10, 10), (-10, 10, -80, -25), (-10, 10, 25, 80), (40, 80, 40, 80)]
)
def test_what_lies_wholly_beside_the_grid_fills_nothing_and_is_refused(edges):
    beside = slab(*edges, INSIDE)
    assert not occupancy(beside, GRID).any()
    with pytest.raises(DataError, match="'A' lies outside the grid"):
        rasterise({"A": beside}, GRID)
    above = slab(-5, 5, -5, 5, (30.0, 33.0))
    assert not occupancy(above, GRID).any()


def test_a_ring_that_reaches_beyond_the_grid_keeps_its_hole():
    """Even–odd along scanlines whose first crossings lie beyond the edge, on either side."""
    loops = []
    for z in INSIDE:
        for x0, x1, y0, y1 in ((-90, 90, -15, 15), (-70, 10, -5, 5)):
            loops.append(Contour(float(z), np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)))
    found = occupancy(Roi("A", "oar", tuple(loops), 3.0), GRID)
    assert volume_mm3(found) == pytest.approx((60 * 30 - 40 * 10) * 33, rel=5e-3)
    assert not found[:, np.abs(GRID.y_mm) < 4][:, :, GRID.x_mm < 8].any()


@pytest.mark.parametrize("continued", [(True, False), (False, True), (True, True), (False, False)])
def test_each_end_is_continued_by_itself_to_the_grids_outer_edge(continued):
    found = occupancy(slab(-10, 10, -10, 10, (-3.0, 0.0, 3.0)), GRID, continued=continued)
    low, high = (-18.0 if continued[0] else -4.5), (18.0 if continued[1] else 4.5)
    assert volume_mm3(found) == pytest.approx(400 * (high - low), rel=5e-3)
    assert found[0].any() == continued[0]
    assert found[-1].any() == continued[1]


# -- isocentre --------------------------------------------------------------------------------------------------------


def test_isocentres_by_both_rules_of_a_target_off_the_lattice():
    """Centroid (11.3, 4.6, 2.25): rounded to 1 mm where it is the rule; else midline, height, middle of the extent."""
    ctv = drawn(CTV=(7.3, 15.3, 0.6, 8.6, -6.0, 10.5))
    couch = CouchGeometry(((2.0, 1.0, "water"),), 500.0, midline_mm=-7.0, top_mm=131.0)
    agility, unity = model.load("agility"), model.load("unity")
    assert case.isocentre_of(agility, ctv, couch) == (11.0, 5.0, 2.0)
    assert case.isocentre_of(unity, ctv, couch)[:2] == (-7.0, 131.0 - 140.0)
    lying = {"below": (1, -1), "top_mm": -131.0}  # prone: the couch lies in front
    assert case.isocentre_of(unity, ctv, replace(couch, **lying))[:2] == (-7.0, -131.0 + 140.0)
    for below, x in (((0, 1), 131.0 - 140.0), ((0, -1), -131.0 + 140.0)):
        couch_there = replace(couch, below=below, top_mm=below[1] * 131.0)
        assert case.isocentre_of(unity, ctv, couch_there)[:2] == (x, -7.0)


def test_the_fixed_tables_isocentre_lies_in_the_middle_of_the_targets_length_not_at_its_centroid():
    """A target that is thick at its head: the centroid lies off the middle."""
    shape = np.maximum(box(7.3, 15.3, 0.6, 8.6, -15, 15), box(-20, 20, -10, 10, 9, 15))
    structures = StructureSet(GRID, {"CTV": Structure("CTV", "target", shape)})
    assert structures.centroid_xyz_mm("CTV")[2] > 8
    couch = CouchGeometry(((2.0, 1.0, "water"),), 500.0, top_mm=131.0)
    assert case.isocentre_of(model.load("unity"), structures, couch)[2] == pytest.approx(0.0, abs=0.5)
    assert case.isocentre_of(model.load("agility"), structures, couch)[2] == 8


def test_the_imaged_range_ends_with_images_or_outline_whichever_ends_first():
    image = Image(GRID, np.zeros(GRID.shape_zyx, np.float32))  # z −18…18
    for planes, expected in (
        (np.arange(-9.0, 7.0, 3.0), (-10.5, 7.5)),
        (np.arange(-30.0, 7.0, 3.0), (-18.0, 7.5)),
        (np.arange(-9.0, 40.0, 3.0), (-10.5, 18.0)),
        (np.arange(-60.0, 60.0, 3.0), (-18.0, 18.0)),
    ):
        rois = {"External": replace(slab(-9, 9, -9, 9, planes, "external"), name="External")}
        assert case.imaged_z_mm(Patient("x", image, rois)) == pytest.approx(expected)


# -- overrides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("Gas", "Rod"), ("Rod", "Gas")])
def test_where_two_overrides_overlap_the_first_named_has_the_voxel(order):
    """Water of 20 × 20 mm with 10 × 20 mm of gas and, half over it, 10 × 20 mm of titanium."""
    image = Image(GRID, np.zeros(GRID.shape_zyx, np.float32))
    planes = GRID.z_mm
    rois = {
        "External": replace(slab(-10, 10, -10, 10, planes, "external"), name="External"),
        "Gas": replace(slab(-10, 0, -10, 10, planes), name="Gas"),
        "Rod": replace(slab(-5, 5, -10, 10, planes), name="Rod"),
    }
    person = Patient("x", image, rois)
    table = {
        "Gas": Override(density_g_cm3=0.3, material="lung-icru"),
        "Rod": Override(density_g_cm3=4.43, material="titanium-alloy"),
    }
    grid = calculation_grid(person, None, 5.0)
    placed = rasterise(rois, grid)
    medium, _ = medium_of(person, grid, placed, couch=None, overrides={name: table[name] for name in order})
    area = float(medium.density_g_cm3[len(grid.z_mm) // 2].sum(dtype=float)) * 25  # g/cm³ mm²
    air = 0.00121 * (grid.shape_zyx[1] * grid.shape_zyx[2] * 25 - 400)
    gas, rod = (200, 100) if order[0] == "Gas" else (100, 200)
    assert area == pytest.approx(0.3 * gas + 4.43 * rod + 1.018 * 100 + air, rel=5e-3)
