"""Gantry to patient: a table of cardinal angles and positions, worked out by hand from IEC 61217."""

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.machine.aperture import beamlets_around
from mrlinac.machine.beams import Beam, BeamletMap, field_xyz_T, fixed_to_patient
from mrlinac.machine.delivery import Fluence
from mrlinac.machine.model import Mlc

ISO = (10.0, -20.0, 30.0)

# Where the source stands (LPS direction from the isocentre), for gantry 0, 90, 180, 270.
SOURCE_SIDE = {
    "HFS": ["anterior", "left", "posterior", "right"],
    "HFP": ["posterior", "right", "anterior", "left"],
    "FFS": ["anterior", "right", "posterior", "left"],
    "FFP": ["posterior", "left", "anterior", "right"],
    "HFDR": ["left", "posterior", "right", "anterior"],
    "HFDL": ["right", "anterior", "left", "posterior"],
    "FFDR": ["left", "anterior", "right", "posterior"],
    "FFDL": ["right", "posterior", "left", "anterior"],
}
DIRECTION = {
    "left": (1, 0, 0),
    "right": (-1, 0, 0),
    "posterior": (0, 1, 0),
    "anterior": (0, -1, 0),
    "head": (0, 0, 1),
    "feet": (0, 0, -1),
}


@pytest.mark.parametrize("position", SOURCE_SIDE)
@pytest.mark.parametrize("quarter", range(4))
def test_source_side(position, quarter):
    beam = Beam(90.0 * quarter, ISO, 1000.0, position=position)
    expected = np.array(ISO) + 1000.0 * np.array(DIRECTION[SOURCE_SIDE[position][quarter]])
    np.testing.assert_allclose(beam.source_xyz_mm(), expected, atol=1e-9)


@pytest.mark.parametrize("position", SOURCE_SIDE)
def test_axes_are_right_handed_and_v_points_to_the_gantry(position):
    towards_gantry = DIRECTION["head" if position.startswith("HF") else "feet"]
    for gantry_deg in (0, 37, 90, 211):
        axes = Beam(gantry_deg, ISO, 1000.0, position=position).axes_xyz()
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1.0)
        np.testing.assert_allclose(axes[1], towards_gantry, atol=1e-12)


def test_collimator_turns_the_axes():
    axes = Beam(0, ISO, 1000.0, collimator_deg=90).axes_xyz()
    np.testing.assert_allclose(axes[0], DIRECTION["head"], atol=1e-12)
    np.testing.assert_allclose(axes[1], DIRECTION["right"], atol=1e-12)


def test_field_along_iec_y_points_to_the_head_of_a_head_first_patient():
    assert field_xyz_T((0, 1.5, 0), "HFS") == (0.0, 0.0, 1.5)
    assert field_xyz_T((0, 1.5, 0), "FFS") == (0.0, 0.0, -1.5)


def test_electrons_turn_to_patient_right():
    """RULES 10: head-first supine, gantry 0, B = +z: the force −e v × B on an electron points to −x."""
    beam = Beam(0, ISO, 1435.0)
    velocity = -beam.axes_xyz()[2]
    force = -np.cross(velocity, field_xyz_T((0, 1.5, 0)))
    np.testing.assert_allclose(force / np.linalg.norm(force), DIRECTION["right"], atol=1e-12)


def test_unknown_position_lists_the_known():
    with pytest.raises(ValueError, match="HFS"):
        fixed_to_patient("upright")


def test_projection_of_a_point_off_the_isocentre_plane():
    beam = Beam(0, (0, 0, 0), 1000.0)
    # 100 mm anterior of the isocentre is 100 mm nearer to the source: magnified by 1000/900.
    np.testing.assert_allclose(beam.project_uv_mm(np.array([9.0, -100.0, 18.0])), [10.0, 20.0])
    np.testing.assert_allclose(beam.project_uv_mm(beam.to_patient_xyz_mm(np.array([3.0, 4.0, 0.0]))), [3.0, 4.0])


MLC = Mlc(
    pairs=80,
    leaf_width_mm=7.175,
    travel="v",
    half_field_uv_mm=(287.0, 110.0),
    min_gap_mm=0,
    interdigitation=True,
    transmission=0,
    source="test",
)


def sphere(radius_mm):
    grid = Grid((61, 61, 61), (2, 2, 2), (-60, -60, -60))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    return (x**2 + y**2 + z**2 <= radius_mm**2).astype(np.float32), grid


def test_aperture_covers_the_shadow_of_a_sphere_and_little_more():
    target, grid = sphere(30)
    beam = Beam(40, (0, 0, 0), 1435.0)
    beamlets = beamlets_around(target, grid, beam, MLC, 5.0, 0.0)
    assert beamlets.size_uv_mm == (7.175, 5.0)
    area = len(beamlets) * beamlets.area_cm2
    assert np.pi * 3.0**2 < area < np.pi * 3.9**2
    distance = np.hypot(*(np.maximum(np.abs(beamlets.centre_uv_mm) - np.array(beamlets.size_uv_mm) / 2, 0)).T)
    assert distance.max() < 33.0


def test_larger_margin_contains_the_smaller():
    target, grid = sphere(30)
    beam = Beam(40, (1.3, 2.7, 3.1), 1435.0)
    small = beamlets_around(target, grid, beam, MLC, 5.0, 0.0)
    large = beamlets_around(target, grid, beam, MLC, 5.0, 6.0)
    assert set(map(tuple, small.lattice_uv)) < set(map(tuple, large.lattice_uv))


def test_aperture_is_clipped_to_the_field():
    target, grid = sphere(58)
    narrow = Mlc(
        pairs=80,
        leaf_width_mm=5,
        travel="u",
        half_field_uv_mm=(40.0, 200.0),
        min_gap_mm=0,
        interdigitation=True,
        transmission=0,
        source="test",
    )
    beamlets = beamlets_around(target, grid, Beam(0, (0, 0, 0), 1000.0), narrow, 5.0, 0.0)
    assert beamlets.size_uv_mm == (5.0, 5.0)
    assert np.abs(beamlets.centre_uv_mm[:, 0]).max() == 37.5
    assert np.abs(beamlets.centre_uv_mm[:, 1]).max() > 50


def test_aperture_of_nothing_is_an_error():
    target, grid = sphere(30)
    with pytest.raises(ValueError, match="empty"):
        beamlets_around(target * 0, grid, Beam(0, (0, 0, 0), 1000.0), MLC, 5.0, 0.0)
    with pytest.raises(ValueError, match="outside the field"):
        beamlets_around(target, grid, Beam(0, (0, 0, 500), 1000.0), MLC, 5.0, 0.0)


def test_fluence_splits_and_joins():
    beam = Beam(0, (0, 0, 0), 1000.0)
    maps = (
        BeamletMap(beam, np.array([[0, 0], [0, 1]]), (5, 5)),
        BeamletMap(beam, np.array([[2, 2]]), (5, 5)),
    )
    fluence = Fluence.from_vector(maps, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(fluence.mu[1], [3.0])
    np.testing.assert_array_equal(fluence.times(2).vector, [2.0, 4.0, 6.0])
    with pytest.raises(ValueError, match="below zero"):
        Fluence.from_vector(maps, np.array([1.0, -2.0, 3.0]))
