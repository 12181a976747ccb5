"""Segments are transported like any other opening: one beamlet, many together, closed leaves, the side they lie on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_transport_run import FIELD, machine

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.machine import model
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Beamlets, Fluence, Segment, Segments
from mrlinac.transport import run

MLC = machine().mlc  # 40 pairs of 10 mm, travel along u
PAIRS, CENTRE = MLC.pairs, (0.0, 0.0, 0.0)


def water(spacing_mm: float = 6.0, voxels: int = 14) -> Medium:
    low_mm = -spacing_mm * (voxels - 1) / 2
    grid = Grid((voxels,) * 3, (spacing_mm,) * 3, (low_mm,) * 3)
    return Medium(grid, np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8), ("water",))


def leaves(openings: dict[int, tuple[float, float]], pairs: int = PAIRS) -> np.ndarray:
    """Leaf positions with all other pairs closed at the axis."""
    leaf_mm = np.zeros((pairs, 2))
    for pair, ends in openings.items():
        leaf_mm[pair] = ends
    return leaf_mm


def segments(*parts: tuple[dict[int, tuple[float, float]], float], transmission: float = 0.0) -> Segments:
    beam = Beam(30.0, CENTRE, 1000.0)
    made = tuple(Segment(beam, leaves(openings), (-200.0, 200.0), mu) for openings, mu in parts)
    return Segments(made, MLC.model_copy(update={"transmission": transmission}))


@pytest.mark.parametrize("field_xyz_T", [FIELD, (0.0, 0.0, 0.0)])
def test_a_segment_of_one_beamlet_is_that_beamlet_bit_for_bit(field_xyz_T):
    lattice = np.array([(2, -1)], np.int32)  # u from 20 to 30, v from -10 to 0
    one = Fluence((BeamletMap(Beam(30.0, CENTRE, 1000.0), lattice, (10.0, 10.0)),), (np.array([2.0]),))
    same = segments(({PAIRS // 2 - 1: (20.0, 30.0)}, 2.0))
    how = {"field_xyz_T": field_xyz_T, "photons": 20_000, "seed": 5}
    beamlet, segment = (run.dose(water(), delivery, machine(electrons=True), **how) for delivery in (one, same))
    assert beamlet.dose_Gy.max() > 0
    np.testing.assert_array_equal(segment.dose_Gy, beamlet.dose_Gy)


def test_segments_without_transmission_are_the_influence_times_their_fluence():
    """Overlapping apertures with different MU: their doses add up as the fluence of their sum, within noise."""
    medium, beam = water(), Beam(30.0, CENTRE, 1000.0)
    lattice = np.array([(i, j) for i in range(-2, 3) for j in range(-1, 1)], np.int32)
    maps = (BeamletMap(beam, lattice, (10.0, 10.0)),)
    first = {PAIRS // 2 - 1: (-20.0, 10.0), PAIRS // 2: (-10.0, 20.0)}
    second = {PAIRS // 2: (0.0, 30.0)}
    plan = segments((first, 1.0), (second, 2.5))
    mu = np.zeros(len(lattice))
    for openings, segment_mu in ((first, 1.0), (second, 2.5)):
        for pair, (start, end) in openings.items():
            u_mm, v_mm = (lattice * 10.0).T
            mu += segment_mu * ((v_mm == (pair - PAIRS // 2) * 10) & (u_mm >= start) & (u_mm < end))
    assert sorted(set(mu)) == [0.0, 1.0, 2.5, 3.5]
    influence = run.influence(medium, Beamlets(maps).maps, machine(), field_xyz_T=FIELD, photons_per_beamlet=200_000)
    forward = run.dose(medium, plan, machine(), field_xyz_T=FIELD, photons=2_000_000, seed=3)
    predicted_Gy = influence.dose_Gy(mu)
    high = forward.dose_Gy > 0.3 * forward.dose_Gy.max()
    ratio = forward.dose_Gy[high].sum() / predicted_Gy[high].sum()
    assert ratio == pytest.approx(1, abs=0.006)
    relative = forward.dose_Gy[high] / predicted_Gy[high] - 1
    assert np.abs(relative).mean() < 0.05  # single voxels carry the noise of both


def test_closed_leaves_pass_the_stated_transmission():
    shut = segments(({}, 1.0), transmission=0.02)
    whole = segments((dict.fromkeys(range(PAIRS), (-200.0, 200.0)), 1.0))
    how = {"field_xyz_T": (0.0, 0.0, 0.0), "photons": 150_000, "seed": 1}
    closed, opened = (run.dose(water(), delivery, machine(), **how) for delivery in (shut, whole))
    inner = np.s_[3:-3, 3:-3, 3:-3]
    ratio = closed.dose_Gy[inner].sum() / opened.dose_Gy[inner].sum()
    assert ratio == pytest.approx(0.02, rel=0.02)


def test_diaphragms_pass_nothing():
    narrow = segments(({}, 1.0), transmission=0.02)
    narrow = replace(narrow, segments=tuple(replace(one, diaphragm_mm=(30.0, 60.0)) for one in narrow.segments))
    (openings,) = narrow.openings()
    assert openings.low_uv_mm[:, 1].min() == 30.0
    assert openings.high_uv_mm[:, 1].max() == 60.0
    assert openings.mu.max() == pytest.approx(0.02)


SIDE_XYZ = {  # unit vectors of the beam-limiting-device axes X and Y of a beam from above (gantry 0), in LPS (IEC 61217)
    "HFS": ((1, 0, 0), (0, 0, 1)),
    "HFP": ((-1, 0, 0), (0, 0, 1)),
    "FFS": ((-1, 0, 0), (0, 0, -1)),
    "FFP": ((1, 0, 0), (0, 0, -1)),
}


@pytest.mark.parametrize("position", SIDE_XYZ)
@pytest.mark.parametrize("name", ["agility", "unity"])
def test_an_asymmetric_aperture_lies_on_the_side_of_iec_61217(name, position):
    """Gantry 0, seen from the source: X1 to X2 is the gantry's viewer's left to right, Y1 to Y2 towards the gantry.

    A head-first supine patient has the left side at X2 and the head at Y2.
    """
    linac = model.load(name)
    beam = Beam(0.0, CENTRE, linac.sad_mm, position=position)
    mlc = linac.mlc
    middle_mm = (mlc.leaf_edges_mm[:-1] + mlc.leaf_edges_mm[1:]) / 2
    chosen = np.flatnonzero((middle_mm > 10) & (middle_mm < 30))  # across travel on the positive side
    assert len(chosen)
    opened = Segment(beam, leaves({int(pair): (-35.0, -15.0) for pair in chosen}, mlc.pairs), (-200.0, 200.0), 1.0)
    plan = Segments((opened,), mlc.model_copy(update={"transmission": 0.0}))
    medium = water(8.0, 12)
    dose = run.dose(medium, plan, linac, field_xyz_T=(0.0, 0.0, 0.0), photons=20_000, seed=2)
    weight = dose.dose_Gy.astype(float)
    z, y, x = np.meshgrid(*(-44.0 + 8.0 * np.arange(12) for _ in range(3)), indexing="ij")
    centre_xyz_mm = np.array([(weight * axis).sum() / weight.sum() for axis in (x, y, z)])
    along, across = (0, 1) if mlc.travel == "u" else (1, 0)
    sides = [np.array(SIDE_XYZ[position][axis]) @ centre_xyz_mm for axis in (along, across)]
    assert sides[0] == pytest.approx(-25, abs=5)
    assert sides[1] == pytest.approx(20, abs=5)


def test_a_dose_of_many_segments_needs_no_more_photons_than_one_opening():
    """Forty segments of one shape, with what leaves pass: as many photons as the shape alone, to the same sigma."""
    shape = dict.fromkeys(range(PAIRS // 2 - 3, PAIRS // 2 + 3), (-30.0, 30.0))
    how = {"field_xyz_T": FIELD, "target_rel_sigma": 0.05, "seed": 5}
    alone, many = (
        run.dose(water(), segments(*[(shape, 1.0)] * count, transmission=0.01), machine(), **how) for count in (1, 40)
    )
    assert many.provenance.histories <= 1.5 * alone.provenance.histories
