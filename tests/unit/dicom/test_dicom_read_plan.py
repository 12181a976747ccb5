"""RTPLANs of any system: what is carried over, what is refused, and the files of commercial systems."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from mrlinac import dicom
from mrlinac.dicom import PrescribedTo
from mrlinac.errors import DataError
from mrlinac.machine import model
from mrlinac.machine.beams import Beam
from mrlinac.machine.control_points import in_segments, leaves_of
from mrlinac.machine.delivery import Segment, Segments
from mrlinac.phantoms import thorax


@pytest.fixture(scope="module")
def patient():
    return thorax(3, spacing_zyx_mm=(12.0, 8.0, 8.0))


def segments_of(name: str) -> Segments:
    machine, rng = model.load(name), np.random.default_rng(3)
    parts = []
    for gantry_deg, mu in ((20.0, 1 / 3), (20.0, 11.0), (260.0, 7.25)):
        first_mm = np.round(rng.uniform(-60, 10, machine.mlc.pairs), 1)
        leaf_mm = np.stack([first_mm, first_mm + np.round(rng.uniform(0, 40, machine.mlc.pairs), 1)], axis=1)
        beam = Beam(gantry_deg, (1.0, -2.5, 33.25), machine.sad_mm)
        parts.append(Segment(beam, np.round(leaf_mm, 1), (-28.7, 35.875), mu))
    return Segments(tuple(parts), machine.mlc)


@pytest.fixture
def written(patient, tmp_path):
    """An RTPLAN of ours as a data set to change, and a function that saves and reads it."""

    def write(name: str = "agility") -> tuple[Segments, pydicom.Dataset, object]:
        plan, path = segments_of(name), tmp_path / "plan.dcm"
        dicom.write_plan(plan, model.load(name), patient, path, "made", prescribed=PrescribedTo(60.0, 30, "PTV"),
                         structure_set_uid="1.2.3")  # fmt: skip
        ds = pydicom.dcmread(path)

        def again(**how):
            ds.save_as(path)
            return dicom.read_plan(path, **how)

        return plan, ds, again

    return write


@pytest.mark.parametrize("name", ["agility", "unity"])
def test_a_plan_of_ours_comes_back_as_its_segments(written, name):
    plan, _, again = written(name)
    read = again()
    assert read.fractions == 30
    assert read.position == "HFS"
    assert read.flattening_filter == (name == "agility")
    assert read.energies_MV == (6.0 if name == "agility" else 7.0,)
    back = in_segments(read.beams, leaves_of(read.beams, model.load(name).mlc), "HFS")
    assert len(back) == len(plan)
    for one, other in zip(back.segments, plan.segments, strict=True):
        assert one.beam == other.beam
        np.testing.assert_array_equal(one.leaf_mm, other.leaf_mm)
        assert one.diaphragm_mm == other.diaphragm_mm
        assert one.jaw_mm is None
        assert one.mu == pytest.approx(other.mu, rel=1e-12)
    assert [o.mu.sum() for o in back.openings()] == pytest.approx([o.mu.sum() for o in plan.openings()])


def test_what_a_control_point_does_not_repeat_stays_as_it_was(written):
    _, ds, again = written()
    beam = ds.BeamSequence[0]
    del beam.ControlPointSequence[1].BeamLimitingDevicePositionSequence  # the first segment's end
    del beam.ControlPointSequence[3].BeamLimitingDevicePositionSequence[0]  # the second's end, its diaphragms
    first, second, third, fourth = again().beams[0].points
    assert first.leaf_mm.tolist() == second.leaf_mm.tolist() != third.leaf_mm.tolist()
    assert fourth.jaw_v_mm == third.jaw_v_mm == (-28.7, 35.875)
    assert fourth.gantry_deg == first.gantry_deg == 20
    assert fourth.isocentre_xyz_mm == (1.0, -2.5, 33.25)


@pytest.mark.parametrize(
    ("way", "first", "second", "third"),
    [("CW", 350, 10, 20), ("CC", 10, 350, 340), ("NONE", 10, 350, 340), ("CW", 179, 181, 270), ("CC", 181, 179, 90)],
)
def test_an_arc_goes_the_way_that_the_plan_says(written, way, first, second, third):
    _, ds, again = written()
    points = ds.BeamSequence[0].ControlPointSequence
    for at, angle in zip(points, (first, second, third, third), strict=True):
        at.GantryAngle, at.GantryRotationDirection = angle, way
    points[-1].GantryRotationDirection = "NONE"
    angles_deg = [point.gantry_deg for point in again().beams[0].points]
    up = (np.diff(angles_deg) >= 0).all()
    assert up == (way == "CW")
    assert np.mod(angles_deg, 360).tolist() == [first, second, third, third]
    assert max(abs(np.diff(angles_deg))) < 100


def change(keyword, value, where=lambda ds: ds.BeamSequence[0]):
    return lambda ds: setattr(where(ds), keyword, value)


def first_point(ds):
    return ds.BeamSequence[0].ControlPointSequence[0]


def positions(ds):
    return first_point(ds).BeamLimitingDevicePositionSequence[1]


def leaves(ds):
    return ds.BeamSequence[0].BeamLimitingDeviceSequence[1]


def referred(ds):
    return ds.FractionGroupSequence[0].ReferencedBeamSequence[0]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (change("NumberOfWedges", 1), "beam 1 has a wedge"),
        (change("NumberOfBlocks", 2), "beam 1 has a block"),
        (change("NumberOfBoli", 1), "beam 1 has a bolus"),
        (change("NumberOfCompensators", 1), "beam 1 has a compensator"),
        (change("RadiationType", "ELECTRON"), "beam 1 is of electrons"),
        (change("ApplicatorSequence", [Dataset()]), "beam 1 has an applicator"),
        (change("PrimaryDosimeterUnit", "MINUTE"), "beam 1 has its meterset in minutes"),
        (change("RTBeamLimitingDeviceType", "MLCX1", leaves), "type MLCX1"),
        (change("TableTopRollAngle", 2.0, first_point), "beam 1 is tilted by 2 degrees"),
        (change("FinalCumulativeMetersetWeight", 50), "weights that do not grow"),
        (lambda ds: delattr(referred(ds), "BeamMeterset"), "beam 1 has no meterset"),
        (lambda ds: delattr(first_point(ds), "IsocenterPosition"), "beam 1 states no isocentre"),
        (lambda ds: delattr(first_point(ds), "GantryAngle"), "beam 1 states no gantry angle"),
        (lambda ds: positions(ds).LeafJawPositions.pop(), "159 leaf positions for 80 pairs"),
        (lambda ds: ds.FractionGroupSequence.append(ds.FractionGroupSequence[0]), "Choose one with --group"),
    ],
)  # fmt: skip
def test_what_is_not_modelled_is_refused_in_words(written, spoil, says):
    _, ds, again = written()
    spoil(ds)
    with pytest.raises(DataError, match=r"plan\.dcm") as error:
        again()
    assert says in str(error.value)


def test_all_problems_come_at_once(written):
    _, ds, again = written()
    ds.BeamSequence[0].NumberOfWedges = 1
    ds.BeamSequence[1].RadiationType = "ELECTRON"
    with pytest.raises(DataError) as error:
        again()
    assert "beam 1 has a wedge" in str(error.value)
    assert "beam 2 is of electrons" in str(error.value)


def test_beams_that_set_up_are_left_out_and_said(written):
    _, ds, again = written()
    ds.BeamSequence[1].TreatmentDeliveryType = "SETUP"
    read = again()
    assert [beam.number for beam in read.beams] == [1]
    assert any("beam 2 is of type setup" in note.text for note in read.notes.entries)


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"no plan")
    with pytest.raises(DataError, match="RTPLAN"):
        dicom.read_plan(tmp_path / "x.dcm")


@pytest.mark.data
@pytest.mark.skipif("MRLINAC_DATA" not in os.environ, reason="MRLINAC_DATA names no folder")
def test_plans_of_commercial_systems_are_read():
    """Static, FFF and VMAT plans of Monaco, a sliding window of Eclipse: MU, leaves and arcs as their files say."""
    folder = Path(os.environ["MRLINAC_DATA"]) / "dicom-from-tps"
    static = dicom.read_plan(folder / "monaco" / "06MV_plan.dcm")
    assert len(static.beams) == 10
    assert static.total_mu == 10000
    first = static.beams[0].points[0]
    assert first.jaw_v_mm == (-10, 10)
    opened = (
        np.diff(first.leaf_mm, axis=1)[:, 0] == 20
    )  # 20 x 20 mm: the four pairs at the axis, and two behind each jaw
    assert np.flatnonzero(opened).tolist() == list(range(36, 44))
    assert not dicom.read_plan(folder / "monaco" / "FFF_example.dcm").flattening_filter
    arcs = dicom.read_plan(folder / "monaco" / "vmat_example.dcm").beams
    assert [(arc.points[0].gantry_deg, arc.points[-1].gantry_deg) for arc in arcs] == [(90, 150), (270, 210)]
    sliding = dicom.read_plan(folder / "eclipse-breast" / "rtplan.dcm")
    assert {(beam.travel, len(beam.leaf_edges_mm)) for beam in sliding.beams} == {("u", 61)}
    segments = in_segments(sliding.beams, leaves_of(sliding.beams, model.load("agility").mlc), sliding.position)
    assert segments.total_mu == pytest.approx(sliding.total_mu)
    assert len(segments) > sum(len(beam.points) for beam in sliding.beams)
