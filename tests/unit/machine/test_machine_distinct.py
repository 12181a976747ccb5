"""Machines and beams where no two numbers are equal, and rules at their edges."""

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.machine import model
from mrlinac.machine.aperture import beamlets_around
from mrlinac.machine.beams import Beam, BeamletMap, field_xyz_T
from mrlinac.machine.delivery import Certificate, Fluence
from mrlinac.machine.model import BlockedSector, Mlc


def with_blocked(*sectors):
    blocked = tuple(BlockedSector(from_deg=a, to_deg=b, reason=why) for a, b, why in sectors)
    return model.load("unity").model_copy(update={"blocked": blocked})


@pytest.mark.parametrize(
    ("sector", "blocked", "free"),
    [
        ((350, 10), (350, 355, 359.9, 0, 360, 5, 10, -5, 365, -10, 370), (349.9, 10.1, 180, 340, -10.1)),  # across 0°
        ((-10, 10), (350, 0, 10, -10), (349.9, 10.1, 180)),
        ((350, 370), (350, 0, 10), (349.9, 10.1, 180)),
        ((170, 190), (170, 180, 190, -180, -170, 540), (169.9, 190.1, 0, 350)),
        ((300, 20), (300, 0, 20, 359), (299, 21, 160)),
        ((20, 300), (20, 160, 300), (19, 301, 0)),  # clockwise from … to …: the long way round
        ((0, 0), (0, 360, -360), (0.1, 359.9, 180)),
        ((0, 360), (0, 90, 180, 359.9), ()),
        ((90, 450), (0, 90, 270), ()),
    ],
)
def test_a_blocked_sector_runs_clockwise_across_zero_too(sector, blocked, free):
    machine = with_blocked((*sector, "the pipe"))
    assert [machine.blocked_reason(angle) for angle in blocked] == ["the pipe"] * len(blocked)
    assert [machine.blocked_reason(angle) for angle in free] == [None] * len(free)


def test_each_sector_names_its_own_reason():
    machine = with_blocked((350, 10, "pipe"), (100, 120, "couch edge"))
    assert [machine.blocked_reason(angle) for angle in (5, 110, 60)] == ["pipe", "couch edge", None]


def test_a_beamlet_is_a_step_along_travel_and_a_leaf_across():
    for travel, size in (("u", (3.0, 7.0)), ("v", (7.0, 3.0))):
        mlc = Mlc(
            pairs=40,
            leaf_width_mm=7.0,
            travel=travel,
            half_field_uv_mm=(70, 140),
            min_gap_mm=0,
            interdigitation=True,
            transmission=0,
            source="test",
        )
        assert mlc.beamlet_size_uv_mm(3.0) == size


def test_centres_and_area_of_beamlets_that_are_not_square():
    beamlets = BeamletMap(Beam(0, (0, 0, 0), 1435.0), np.array([[0, 0], [-1, 2]]), (4.0, 7.0))
    np.testing.assert_allclose(beamlets.centre_uv_mm, [[2.0, 3.5], [-2.0, 17.5]])
    assert beamlets.area_cm2 == pytest.approx(0.28)


def test_a_gap_is_relative_to_what_was_reached():
    assert Certificate("s", "optimal", 8.0, 6.0, 0.0).relative_gap == pytest.approx(0.25)
    assert Certificate("s", "optimal", -8.0, -10.0, 0.0).relative_gap == pytest.approx(0.25)
    assert Certificate("s", "optimal", 0.0, -1e-13, 0.0).relative_gap == pytest.approx(0.1)


def test_axes_at_an_oblique_gantry_and_collimator():
    """IEC 61217 by hand, head first supine: gantry 30° moves the source to the patient's left, collimator 20° on top."""
    beam = Beam(30.0, (1.0, 2.0, 3.0), 1200.0, collimator_deg=20.0)
    sin, cos = np.sin(np.pi / 6), np.cos(np.pi / 6)
    x, y, z = np.array([cos, sin, 0]), np.array([0, 0, 1.0]), np.array([sin, -cos, 0])  # LPS: up is −y
    s, c = np.sin(np.pi / 9), np.cos(np.pi / 9)
    np.testing.assert_allclose(beam.axes_xyz(), [c * x + s * y, -s * x + c * y, z], atol=1e-12)
    np.testing.assert_allclose(beam.source_xyz_mm(), np.array([1.0, 2.0, 3.0]) + 1200 * z)
    point = np.array([1.0, 2.0, 3.0]) + 12.0 * x + 18.0 * y - 300.0 * z  # beyond the isocentre: made smaller
    shrunk = 1200 / 1500
    np.testing.assert_allclose(
        beam.project_uv_mm(point), shrunk * np.array([c * 12 + s * 18, -s * 12 + c * 18]), atol=1e-9
    )
    np.testing.assert_allclose(beam.to_patient_xyz_mm(np.array([c * 12 + s * 18, -s * 12 + c * 18, -300])), point)


def test_a_field_with_three_components_in_every_position():
    """Fixed X to the right of who faces the gantry, Y to the gantry, Z up."""
    expected = {
        "HFS": (0.1, -0.3, 0.2), "HFP": (-0.1, 0.3, 0.2), "FFS": (-0.1, -0.3, -0.2), "FFP": (0.1, 0.3, -0.2),
        "HFDR": (0.3, 0.1, 0.2), "HFDL": (-0.3, -0.1, 0.2), "FFDR": (0.3, -0.1, -0.2), "FFDL": (-0.3, 0.1, -0.2),
    }  # fmt: skip
    for position, field in expected.items():
        assert field_xyz_T((0.1, 0.2, 0.3), position) == pytest.approx(field), position


def test_an_aperture_is_as_wide_as_shadow_and_margin_on_every_side():
    """A block off the axis, 20 × 12 × 8 mm, near the source: its shadow is larger than itself, and lies farther out."""
    grid = Grid((4, 6, 10), (2.0, 2.0, 2.0), (31.0, -211.0, 21.0))  # x 30…50, y −212…−200, z 20…28
    beam = Beam(0.0, (0.0, 0.0, 0.0), 1000.0)
    mlc = Mlc(
        pairs=80,
        leaf_width_mm=1.0,
        travel="u",
        half_field_uv_mm=(200.0, 200.0),
        min_gap_mm=0,
        interdigitation=True,
        transmission=0,
        source="test",
    )
    near, far = 1000 / 788, 1000 / 800
    for margin in (0.0, 4.0):
        beamlets = beamlets_around(np.ones(grid.shape_zyx, np.float32), grid, beam, mlc, 1.0, margin)
        low, high = beamlets.lattice_uv.min(0), beamlets.lattice_uv.max(0) + 1
        np.testing.assert_allclose(low, np.array([30 * far, 20 * far]) - margin, atol=1.0)
        np.testing.assert_allclose(high, np.array([50 * near, 28 * near]) + margin, atol=1.0)


def test_a_target_partly_beyond_the_field_is_covered_as_far_as_the_field_goes():
    grid = Grid((4, 4, 60), (2.0, 2.0, 2.0), (-59.0, -3.0, -3.0))  # x ±60
    mlc = Mlc(
        pairs=80,
        leaf_width_mm=4.0,
        travel="u",
        half_field_uv_mm=(40.0, 200.0),
        min_gap_mm=0,
        interdigitation=True,
        transmission=0,
        source="test",
    )
    beamlets = beamlets_around(
        np.ones(grid.shape_zyx, np.float32), grid, Beam(0, (15.0, 0, 0), 1000.0), mlc, 5.0, 0.0
    )
    u = beamlets.lattice_uv[:, 0]
    assert (u.min(), u.max() + 1) == (-8, 8)  # −75…45 mm of shadow in a field of ±40


def test_a_scaled_fluence_keeps_maps_and_certificate():
    maps = (BeamletMap(Beam(0, (0, 0, 0), 1000.0), np.array([[0, 0], [1, 0]]), (5, 5)),)
    certificate = Certificate("s", "optimal", 1.0, 1.0, 0.0)
    scaled = Fluence.from_vector(maps, np.array([1.0, 3.0]), certificate).times(1.5)
    np.testing.assert_array_equal(scaled.vector, [1.5, 4.5])
    assert scaled.maps is maps
    assert scaled.certificate is certificate
