"""Control points: what moves between them is integrated, and jaws, leaves and angles keep their sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mrlinac.machine import model
from mrlinac.machine.control_points import ControlPoint, TreatmentBeam, in_segments, leaves_of

ISO = (0.0, 0.0, 0.0)
EDGES_mm = np.array([-20.0, -5.0, 5.0, 10.0])  # three pairs of different width


def point(share: float, leaf_mm, **more) -> ControlPoint:
    state = {"gantry_deg": 0.0, "collimator_deg": 0.0, "couch_deg": 0.0, "isocentre_xyz_mm": ISO,
             "jaw_u_mm": None, "jaw_v_mm": None, **more}  # fmt: skip
    return ControlPoint(share, leaf_mm=None if leaf_mm is None else np.array(leaf_mm, float), **state)


def beam(*points: ControlPoint, mu: float = 100.0, travel: str = "u", edges_mm=EDGES_mm) -> TreatmentBeam:
    return TreatmentBeam(1, "one", mu, 1000.0, travel, edges_mm, points)


def fluence_at(beams, uv_mm, transmission: float = 0.0) -> float:
    """MU through a place of the isocentre plane."""
    mlc = leaves_of(beams, model.load("agility").mlc).model_copy(update={"transmission": transmission})
    total = 0.0
    for openings in in_segments(beams, mlc, "HFS").openings():
        inside = np.all((openings.low_uv_mm <= uv_mm) & (uv_mm < openings.high_uv_mm), axis=1)
        total += float(openings.mu[inside].sum())
    return total


def test_a_sliding_window_gives_each_place_the_time_that_it_is_open():
    """A gap of 10 mm sweeps over 100 mm: inside, each place is open for a tenth of the MU; at a sum at the points for none.

    Control points alone would open two gaps at the ends and nothing between them.
    """
    closed = [(0.0, 0.0)]
    before = [*closed, (-50.0, -40.0), *closed]
    after = [*closed, (50.0, 60.0), *closed]
    window = beam(point(0.0, before), point(1.0, after))
    for u_mm in (-30.05, 0.05, 37.3):
        assert fluence_at([window], (u_mm, 0.0)) == pytest.approx(10.0, abs=2.1)  # steps of 2 mm
    mean = np.mean([fluence_at([window], (u_mm, 0.0)) for u_mm in np.arange(-30, 40, 0.37)])
    assert mean == pytest.approx(10.0, rel=0.01)
    assert fluence_at([window], (0.0, -10.0)) == 0.0  # a closed pair


def test_leaves_of_unequal_speed_give_a_ramp():
    """The leading leaf crosses 40 mm, the trailing one waits: the fluence falls linearly to nothing."""
    closed = (0.0, 0.0)
    ramp = beam(point(0.0, [closed, (0.0, 0.0), closed]), point(1.0, [closed, (0.0, 40.0), closed]))
    for u_mm in (1.0, 11.0, 21.0, 39.0):
        assert fluence_at([ramp], (u_mm, 0.0)) == pytest.approx(100 * (1 - u_mm / 40), abs=2.6)


def test_jaws_limit_leaves_and_what_passes_them():
    opened = [(-30.0, 30.0)] * 3
    jawed = beam(*(point(share, opened, jaw_u_mm=(-10.0, 30.0), jaw_v_mm=(-20.0, 3.0)) for share in (0, 1)))
    assert fluence_at([jawed], (0.0, 0.0), 0.02) == 100
    assert fluence_at([jawed], (-11.0, 0.0), 0.02) == 0  # behind a jaw along travel
    assert fluence_at([jawed], (0.0, 4.0), 0.02) == 0  # behind a jaw across it
    shut = beam(*(point(share, [(0.0, 0.0)] * 3, jaw_u_mm=(-10.0, 30.0), jaw_v_mm=(-20.0, 3.0)) for share in (0, 1)))
    assert fluence_at([shut], (5.0, 0.0), 0.02) == pytest.approx(2.0)
    assert fluence_at([shut], (-11.0, 0.0), 0.02) == 0


def test_jaws_alone_open_a_rectangle():
    jaws = [point(share, None, jaw_u_mm=(-10.0, 30.0), jaw_v_mm=(-7.0, 3.0)) for share in (0, 1)]
    alone = beam(*jaws, edges_mm=None)
    assert fluence_at([alone], (29.0, -6.9)) == 100
    assert fluence_at([alone], (29.0, 3.1)) == 0
    assert fluence_at([alone], (-11.0, 0.0)) == 0


@pytest.mark.parametrize("travel", ["u", "v"])
def test_leaves_along_either_axis_open_their_own_side(travel):
    """Open at -30 to -10 along travel, in the last pair (5 to 10 across it)."""
    opened = [(0.0, 0.0), (0.0, 0.0), (-30.0, -10.0)]
    one = beam(point(0, opened), point(1, opened), travel=travel)
    there = (-20.0, 7.0) if travel == "u" else (7.0, -20.0)
    assert fluence_at([one], there) == 100
    for mirrored in ((20.0, 7.0), (-20.0, -7.0), (7.0, 20.0), (-7.0, -20.0), there[::-1]):
        assert fluence_at([one], mirrored) == 0


def test_an_arc_is_cut_into_steps_of_a_degree_with_the_MU_shared_evenly():
    opened = [(-5.0, 5.0)] * 3
    arc = beam(point(0, opened, gantry_deg=350.0), point(1, opened, gantry_deg=370.0), mu=40)
    segments = in_segments([arc], leaves_of([arc], model.load("agility").mlc), "HFS").segments
    angles_deg = [segment.beam.gantry_deg for segment in segments]
    assert len(segments) == 20
    assert angles_deg[0] == pytest.approx(350.5)
    assert angles_deg[-1] == pytest.approx(9.5)
    assert [segment.mu for segment in segments] == pytest.approx([2.0] * 20)


def test_nothing_is_given_while_the_weight_stands_still():
    first, second = [(-20.0, -10.0)] * 3, [(10.0, 20.0)] * 3
    steps = beam(point(0, first), point(0.25, first), point(0.25, second), point(1, second))
    segments = in_segments([steps], leaves_of([steps], model.load("agility").mlc), "HFS").segments
    assert [(segment.leaf_mm[0, 0], segment.mu) for segment in segments] == [(-20.0, 25.0), (10.0, 75.0)]


def test_beams_of_different_leaves_are_refused():
    opened = [(-5.0, 5.0)] * 3
    one = beam(point(0, opened), point(1, opened))
    for other in (replace(one, number=2, travel="v"), replace(one, number=2, leaf_edges_mm=EDGES_mm + 1)):
        with pytest.raises(ValueError, match="beams 1 and 2 have different leaves"):
            leaves_of([one, other], model.load("agility").mlc)
