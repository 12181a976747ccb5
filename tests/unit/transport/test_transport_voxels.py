"""Voxels by place: bricks there and back, and the step from a voxel to its neighbour."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.transport import cpu, tables, voxels
from mrlinac.transport.elementary import exp, ln


@pytest.mark.parametrize("shape", [(2, 4, 6), (3, 5, 7), (1, 1, 9), (4, 1, 3)])
def test_bricks_there_and_back(shape):
    values = np.arange(1, math.prod(shape) + 1).reshape(shape)
    bricks = voxels.to_bricks(values)
    assert np.array_equal(voxels.from_bricks(bricks, shape), values)
    filled = bricks > 0
    assert np.array_equal(voxels.flat_index(shape)[filled], bricks[filled] - 1)


def test_a_point_finds_its_voxel_among_bricks():
    grid = Grid((5, 4, 7), (3.0, 2.0, 1.0), (0.5, 1.0, 1.5))
    draw = np.random.default_rng(3)
    density = draw.uniform(0.1, 2.0, grid.shape_zyx).astype(np.float32)
    medium = Medium(grid, density, np.zeros(grid.shape_zyx, np.uint8), ("water",))
    geometry, code = cpu.pack(medium, tables.load(medium.materials), (0, 0, 0))
    for k, j, i in np.ndindex(*grid.shape_zyx):
        place = voxels.voxel_at.py_func((i + 0.3) * 1.0, (j + 0.6) * 2.0, (k + 0.9) * 3.0, geometry)
        assert voxels.density_of.py_func(code[place]) == pytest.approx(density[k, j, i], rel=1e-5)
    assert voxels.voxel_at.py_func(7.01, 1.0, 1.0, geometry) == -1  # in the padding of an odd row


def test_a_brick_is_one_line_of_the_cache():
    tally = cpu.new_tally(np.zeros(64, np.uint32), False)
    assert tally.cell.ctypes.data % cpu.CACHE_LINE_bytes == 0
    assert tally.cell[:16].nbytes == cpu.CACHE_LINE_bytes


@pytest.mark.parametrize("value", [1e-300, 2.0**-53, 0.3, 1 - 1e-12, 1.0, math.sqrt(2), 1.5, 2.0, 1e5])
def test_logarithm(value):
    assert ln(value) == pytest.approx(math.log(value), rel=1e-13, abs=1e-13)


@pytest.mark.parametrize("value", [-690.0, -38.0, -1.0, -0.35, -1e-9, 0.0, 0.34, 0.7, 5.0, 690.0])
def test_exponential_function(value):
    assert exp(value) == pytest.approx(math.exp(value), rel=2e-12)
