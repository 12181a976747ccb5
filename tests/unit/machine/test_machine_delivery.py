"""What a machine is told to do: openings of fluences and segments, the rules of the leaves, the couch angle."""

from __future__ import annotations

import numpy as np
import pytest

from mrlinac.machine import mlc_rules, model
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Fluence, Segment, Segments


def mlc(travel="u"):
    return model.Mlc(
        pairs=4,
        leaf_width_mm=7.0,
        travel=travel,
        half_field_uv_mm=(60.0, 14.0),
        min_gap_mm=0,
        interdigitation=True,
        transmission=0,
        source="made up",
    )


def segment(leaf_mm, diaphragm_mm=(-14.0, 14.0), mu=3.0):
    return Segment(Beam(20.0, (1.0, 2.0, 3.0), 1000.0), np.array(leaf_mm, float), diaphragm_mm, mu)


SHAPE = [[-25.0, 5.0], [0.0, 0.0], [-3.0, 4.0], [10.0, 10.0]]


@pytest.mark.parametrize("travel", ["u", "v"])
def test_a_segments_openings_are_what_leaves_and_diaphragms_leave_open(travel):
    (openings,) = Segments((segment(SHAPE, (-10.0, 5.0)),), mlc(travel)).openings()
    # Pair 1 lies from -14 to -7 mm, the diaphragm at -10 leaves 3 mm of it; pair 3 from 0 to 7, 5 mm of it.
    assert openings.area_mm2.sum() == pytest.approx(30 * 3 + 7 * 5)
    along, across = (0, 1) if travel == "u" else (1, 0)
    assert openings.low_uv_mm.min(0)[[along, across]].tolist() == [-25, -10]
    assert openings.high_uv_mm.max(0)[[along, across]].tolist() == [5, 5]
    assert (openings.high_uv_mm - openings.low_uv_mm)[:, along].max() <= 10  # long openings are cut in pieces
    assert (openings.mu == 3).all()


@pytest.mark.parametrize("travel", ["u", "v"])
def test_closed_leaves_between_the_diaphragms_let_their_transmission_pass(travel):
    """Of the two pairs that the diaphragms leave, the part of the field that is not open passes a hundredth of the MU."""
    leaky = mlc(travel).model_copy(update={"transmission": 0.01})
    (openings,) = Segments((segment(SHAPE, (-7.0, 7.0)),), leaky).openings()
    passed = (openings.mu * openings.area_mm2).sum()
    open_mm2, length_mm = 7 * 7, 120 if travel == "u" else 28  # pair 3 is open, pair 2 closed
    assert passed == pytest.approx(3 * (open_mm2 + 0.01 * (2 * length_mm * 7 - open_mm2)))
    assert set(openings.mu.round(9)) == {3, 0.03}


def test_leaf_rules_know_the_gap_and_the_next_pair():
    strict = mlc().model_copy(update={"min_gap_mm": 5.0, "interdigitation": False})
    shape = [[-25.0, 5.0], [5.0, 12.0], [0.0, 4.0], [0.0, 0.0]]
    gap, passed = mlc_rules.problems(segment(shape), strict)
    assert gap == "leaves of an open pair stand closer than 5 mm: pair 3"
    assert passed == "leaves pass the opposite ones of the next pair: pair 2"
    assert mlc_rules.problems(segment(shape), mlc()) == []


def test_a_fluences_openings_are_its_beamlets():
    beamlets = BeamletMap(Beam(20.0, (1.0, 2.0, 3.0), 1000.0), np.array([[0, 0], [-2, 1]], np.int32), (5.0, 7.0))
    fluence = Fluence((beamlets,), (np.array([2.0, 0.5]),))
    (openings,) = fluence.openings()
    assert openings.low_uv_mm.tolist() == [[0, 0], [-10, 7]]
    assert openings.high_uv_mm.tolist() == [[5, 7], [-5, 14]]
    assert openings.area_mm2.tolist() == [35, 35]
    assert fluence.times(2).openings()[0].mu.tolist() == [4, 1]
    assert fluence.total_mu == 2.5


def test_scaled_segments_keep_their_shapes_and_beams_are_named_once():
    two = Segments((segment(SHAPE), segment(SHAPE, mu=1.0)), mlc()).times(3)
    assert [part.mu for part in two.segments] == [9, 3]
    assert two.total_mu == 12
    assert len(two.beams) == 1


@pytest.mark.parametrize(
    ("shape", "diaphragm", "mu", "says"),
    [
        (SHAPE, (-14.0, 14.0), 1.0, None),
        ([[1, 0], *SHAPE[1:]], (-14.0, 14.0), 1.0, "overlap: pair 1"),
        ([*SHAPE[:3], [50, 61]], (-14.0, 14.0), 1.0, "beyond ±60 mm: pair 4"),
        (SHAPE, (-15.0, 14.0), 1.0, "beyond ±14 mm"),
        (SHAPE, (3.0, 2.0), 1.0, "diaphragms overlap"),
        (SHAPE, (-14.0, 14.0), -1.0, "MU of -1"),
        (SHAPE[:3], (-14.0, 14.0), 1.0, "3 leaf pairs are given; the collimator has 4"),
    ],
)
def test_leaves_and_diaphragms_form_a_segment_or_say_why_not(shape, diaphragm, mu, says):
    problems = mlc_rules.problems(segment(shape, diaphragm, mu), mlc())
    assert problems == [] if says is None else says in problems[0]


@pytest.mark.parametrize(
    ("gantry_deg", "couch_deg", "source_from"),
    [
        # IEC 61217: the support turns counter-clockwise seen from above. At 90° the head, first on the couch towards
        # the gantry, points to fixed -X: a beam from fixed +X (gantry 90) enters from the feet.
        (0, 90, (0, -1, 0)),
        (90, 0, (1, 0, 0)),
        (90, 90, (0, 0, -1)),
        (270, 90, (0, 0, 1)),
        (90, 270, (0, 0, 1)),
        (90, 180, (-1, 0, 0)),
    ],
)
def test_a_couch_angle_turns_the_patient_in_the_beam(gantry_deg, couch_deg, source_from):
    beam = Beam(gantry_deg, (0.0, 0.0, 0.0), 1000.0, couch_deg=couch_deg)
    np.testing.assert_allclose(beam.source_xyz_mm() / 1000, source_from, atol=1e-12)


def test_segments_in_order_are_given_beam_after_beam():
    first, other = segment(SHAPE), segment(SHAPE, mu=5.0)
    turned = Segment(Beam(80.0, (1.0, 2.0, 3.0), 1000.0), first.leaf_mm, first.diaphragm_mm, 2.0)
    ordered = Segments((first, turned, other), mlc()).in_order()
    assert ordered.segments == (first, other, turned)


def test_what_segments_expose_counts_once_a_beam():
    """Pair 1 opens from -25 to 5 and from 0 to 10: 35 mm; pair 3 once, 7 mm. What leaves pass does not count."""
    more = segment([[0.0, 10.0], *SHAPE[1:]])
    unused = segment([[-60.0, 60.0]] * 4, mu=0.0)
    leaky = mlc().model_copy(update={"transmission": 0.01})
    assert Segments((segment(SHAPE), more, unused), leaky).exposed_mm2 == pytest.approx((35 + 7) * 7)
    assert Segments((segment(SHAPE, (-10.0, 5.0)),), leaky).exposed_mm2 == pytest.approx(30 * 3 + 7 * 5)
