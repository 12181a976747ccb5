"""Occupancies of rounding size are nothing, wherever they come from."""

import numpy as np
import pytest

from mrlinac.anatomy import booleans
from mrlinac.anatomy.contours import occupancy
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.margins import expand
from mrlinac.anatomy.rules import StructureRule, derive
from mrlinac.anatomy.structures import Contour, Roi, Structure, StructureSet
from mrlinac.anatomy.trace import TRACE, without_traces

GRID = Grid((8, 16, 16), (3.0, 3.0, 3.0), (-22.5, -22.5, 0.0))


def ball(radius: float, x: float = 0.3) -> np.ndarray:
    """A smooth occupancy with many partly filled voxels."""
    z, y, px = np.meshgrid(GRID.z_mm - 10.5, GRID.y_mm, GRID.x_mm - x, indexing="ij")
    depth = radius - np.sqrt(z**2 + y**2 + px**2)
    return np.clip(depth / 3 + 0.5, 0, 1).astype(np.float32)


def clean(inside: np.ndarray) -> bool:
    partly = (inside > 0) & (inside < 1)
    return bool(np.all((inside[partly] >= TRACE) & (inside[partly] <= 1 - TRACE)))


@pytest.mark.parametrize("size", [1e-17, 1e-9, 1e-6, 9e-4])
def test_a_structure_has_no_traces(size: float) -> None:
    values = np.zeros(GRID.shape_zyx, np.float32)
    values[2:5, 4:9, 4:9], values[6], values[3, 6, 6] = 1.0, size, 1 - size
    inside = Structure("Liver", "oar", values).occupancy
    assert np.count_nonzero(inside) == 3 * 5 * 5
    assert set(np.unique(inside)) == {0.0, 1.0}
    assert values[6].any()  # what was handed in stays as it is


def test_what_is_more_than_a_trace_stays() -> None:
    values = np.array([[[0.0, 2 * TRACE, 0.5, 1 - 2 * TRACE, 1.0]]], np.float32)
    assert without_traces(values) is values


@pytest.mark.parametrize("margin", [-4.0, -0.7, 0.0, 0.7, 5.0])
def test_margins_leave_no_traces(margin: float) -> None:
    noisy = np.where(ball(9.0) > 0, ball(9.0), np.float32(1e-7))
    assert clean(expand(noisy, GRID, margin))


def test_booleans_leave_no_traces() -> None:
    a, b = ball(9.0), ball(9.0, 4.0)
    noisy = np.where(b > 0, b, np.float32(1e-7))
    for made in (
        booleans.intersection(a, noisy, GRID),
        booleans.union(a, noisy, GRID),
        booleans.difference(a, noisy, GRID),
    ):
        assert clean(made)
    assert not booleans.difference(a, a, GRID)[(a == 0) | (a == 1)].any()


def test_rules_leave_no_traces() -> None:
    """A side, a trim and a shell are products and differences of shares."""
    drawn = StructureSet(
        GRID,
        {"External": Structure("External", "external", ball(20.0)), "CTV": Structure("CTV", "target", ball(6.0))},
    )
    rules = {
        "Skin": StructureRule.model_validate({"from": "External", "rind_mm": 5, "trim_ends_mm": 2.9999999}),
        "Back": StructureRule.model_validate({"from": "External", "side": {"towards": "posterior", "share": 1 / 3}}),
        "Ring": StructureRule.model_validate({"from": "CTV", "ring": {"inner_mm": 2, "outer_mm": 6}, "minus": "CTV"}),
    }
    made, _ = derive(drawn, rules, imaged_z_mm=(-1.5, 22.5))
    assert all(clean(made[name].occupancy) for name in made)


def test_a_drawn_edge_off_a_voxel_by_rounding_fills_no_more_voxels() -> None:
    half, off = 9.0, 1e-5
    loop = np.array([[-half, -half], [half + off, -half], [half + off, half], [-half, half]])
    roi = Roi("Box", "oar", tuple(Contour(z + off, loop) for z in (6.0, 9.0)), 3.0)
    inside = occupancy(roi, GRID)
    assert np.count_nonzero(inside) == 2 * 6 * 6
