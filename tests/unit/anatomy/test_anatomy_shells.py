"""Rinds and rings drawn as contours: whole, where they should be, with the volume of their occupancy."""

import numpy as np
import pytest
import shapely

from mrlinac.anatomy.contours import contours_of, even_odd, occupancy, planes_of, polygon_volume_cc
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.rules import StructureRule, derive
from mrlinac.anatomy.shells import Drawing
from mrlinac.anatomy.structures import Contour, Roi, Structure, StructureSet

PLANES = [float(z) for z in np.arange(0, 31, 3)]
GRID = Grid.covering((-75, -55, -1.5), (75, 55, 31.5), (3.0, 3.0, 3.0))


def body(a: float = 61.3, b: float = 43.7, x: float = 0.0) -> Roi:
    angle = np.arange(180) * 2 * np.pi / 180
    loop = np.stack([x + a * np.cos(angle), b * np.sin(angle)], axis=1)
    return Roi("External", "external", tuple(Contour(z, loop) for z in PLANES), 3.0)


def made(rules: dict[str, dict], grid: Grid = GRID) -> StructureSet:
    drawn = {
        "External": Structure("External", "external", occupancy(body(), grid, continued=(True, True))),
        "CTV": Structure("CTV", "target", occupancy(body(20.0, 15.0, 38.0), grid)),
    }
    rules_made = {name: StructureRule.model_validate(rule) for name, rule in rules.items()}
    return derive(StructureSet(grid, drawn), rules_made, imaged_z_mm=(-1.5, 31.5))[0]


def pieces(roi: Roi) -> dict[float, list[shapely.Polygon]]:
    return {z: list(shapely.get_parts(even_odd(loops))) for z, loops in planes_of(roi.contours)}


@pytest.mark.parametrize("spacing", [2.5, 3.0, 4.0, 5.0])
@pytest.mark.parametrize("rind_mm", [3.0, 5.0])
def test_a_rind_is_one_piece_with_one_hole_in_every_plane(rind_mm: float, spacing: float) -> None:
    grid = Grid.covering((-75, -55, -1.5), (75, 55, 31.5), (3.0, spacing, spacing))
    skin = made({"Skin": {"from": "External", "rind_mm": rind_mm}}, grid)["Skin"]
    roi = Drawing(grid, PLANES).contours(skin)
    found = pieces(roi)
    assert list(found) == PLANES
    outline = shapely.Polygon(body().contours[0].points_xy_mm)
    wanted = outline.area - outline.buffer(-rind_mm).area
    for parts in found.values():
        assert [len(part.interiors) for part in parts] == [1]
        assert parts[0].area == pytest.approx(wanted, rel=0.03)
        # The borders lie where they should: the outline, and the rind's depth inside it.
        assert parts[0].exterior.hausdorff_distance(outline.exterior) < 0.25 * spacing
        assert (
            shapely.LinearRing(parts[0].interiors[0]).hausdorff_distance(outline.buffer(-rind_mm).exterior)
            < 0.3 * spacing
        )
    assert polygon_volume_cc(roi) == pytest.approx(float(skin.occupancy.sum(dtype=float)) * grid.voxel_cc, rel=0.03)
    assert roi.derived


def test_the_iso_line_of_a_thin_rind_breaks() -> None:
    """What the two borders are for: on 5 mm the iso-line of a rind of 3 mm is in pieces."""
    grid = Grid.covering((-75, -55, -1.5), (75, 55, 31.5), (3.0, 5.0, 5.0))
    skin = made({"Skin": {"from": "External", "rind_mm": 3}}, grid)["Skin"]
    broken = contours_of(skin.occupancy, grid, "Skin", "other", planes_z_mm=PLANES)
    assert max(len(parts) for parts in pieces(broken).values()) > 4


def test_sides_trims_and_terms_cut_a_rind_into_few_pieces() -> None:
    structures = made(
        {
            "Skin": {"from": "External", "rind_mm": 5, "trim_ends_mm": 9},
            "Skin_post": {"from": "Skin", "side": "posterior"},
            "Skin_near": {"from": "Skin", "within": [{"structure": "CTV", "margin_mm": 8}]},
            "Skin_far": {"from": "Skin", "minus": [{"structure": "CTV", "margin_mm": 8}]},
            "Ring": {"from": "CTV", "ring": {"inner_mm": 2, "outer_mm": 6}, "within": "External"},
        }
    )
    drawing = Drawing(GRID, PLANES)
    rois = {
        name: drawing.contours(structures[name]) for name in ("Skin", "Skin_post", "Skin_near", "Skin_far", "Ring")
    }
    assert {c.z_mm for c in rois["Skin"].contours} == set(PLANES[3:-3])
    for name, roi in rois.items():
        assert max(len(parts) for parts in pieces(roi).values()) == 1, name
        volume = float(structures[name].occupancy.sum(dtype=float)) * GRID.voxel_cc
        assert polygon_volume_cc(roi) == pytest.approx(volume, rel=0.04), name
    y = np.concatenate([c.points_xy_mm[:, 1] for c in rois["Skin_post"].contours])
    assert y.min() == pytest.approx(0.0, abs=0.3)
    both = polygon_volume_cc(rois["Skin_near"]) + polygon_volume_cc(rois["Skin_far"])
    assert both == pytest.approx(polygon_volume_cc(rois["Skin"]), rel=0.01)


def test_what_is_no_rind_is_drawn_as_before() -> None:
    ctv = made({"PTV": {"from": "CTV", "margin_mm": 4}})["PTV"]
    one, other = (
        Drawing(GRID, PLANES).contours(ctv),
        contours_of(ctv.occupancy, GRID, "PTV", "other", planes_z_mm=PLANES),
    )
    assert ctv.shell is None
    assert all(
        np.array_equal(a.points_xy_mm, b.points_xy_mm) for a, b in zip(one.contours, other.contours, strict=True)
    )
