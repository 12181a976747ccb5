"""RTPLAN of segments: what the standard asks for, and the leaves, sides and MU that another reader gets back."""

from __future__ import annotations

import hashlib

import numpy as np
import pydicom
import pytest

from mrlinac import dicom
from mrlinac.dicom import PrescribedTo
from mrlinac.errors import DataError
from mrlinac.machine import model
from mrlinac.machine.beams import Beam
from mrlinac.machine.delivery import Segment, Segments
from mrlinac.phantoms import thorax

# Type 1 attributes of the modules that a plan has (PS3.3 C.8.8.9, C.8.8.12 to C.8.8.14), and type 2, which may be empty.
PLAN = ("RTPlanLabel", "RTPlanGeometry", "ReferencedStructureSetSequence", "DoseReferenceSequence",
        "PatientSetupSequence", "FractionGroupSequence", "BeamSequence", "ApprovalStatus")  # fmt: skip
PLAN_2 = ("RTPlanDate", "RTPlanTime", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate",
          "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber", "OperatorsName", "SeriesNumber")  # fmt: skip
BEAM = ("BeamNumber", "BeamType", "BeamLimitingDeviceSequence", "NumberOfWedges", "NumberOfCompensators", "NumberOfBoli",
        "NumberOfBlocks", "FinalCumulativeMetersetWeight", "NumberOfControlPoints", "ControlPointSequence")  # fmt: skip
FIRST_POINT = ("GantryAngle", "GantryRotationDirection", "BeamLimitingDeviceAngle", "BeamLimitingDeviceRotationDirection",
               "PatientSupportAngle", "PatientSupportRotationDirection", "TableTopEccentricAngle",
               "TableTopEccentricRotationDirection", "TableTopPitchAngle", "TableTopRollAngle", "IsocenterPosition",
               "BeamLimitingDevicePositionSequence")  # fmt: skip
FIRST_POINT_2 = ("TableTopVerticalPosition", "TableTopLongitudinalPosition", "TableTopLateralPosition")


@pytest.fixture(scope="module")
def patient():
    return thorax(3, spacing_zyx_mm=(12.0, 8.0, 8.0))


def asymmetric(machine: model.Machine, gantry_deg: float, mu: float) -> Segment:
    """Open from -35.3 to -10.1 along travel in the pairs between 7 and 50 mm across it."""
    edges_mm = machine.mlc.leaf_edges_mm
    leaf_mm = np.full((machine.mlc.pairs, 2), -20.0)
    leaf_mm[(edges_mm[:-1] > 7) & (edges_mm[1:] < 50)] = -35.3, -10.1
    return Segment(Beam(gantry_deg, (1.0, -2.5, 33.25), machine.sad_mm), leaf_mm, (7.175, 50.0), mu)


def written(name: str, patient, tmp_path, **more):
    machine = model.load(name)
    parts = tuple(asymmetric(machine, g, mu) for g, mu in ((20.0, 1 / 3), (20.0, 11.0), (260.0, 7.25)))
    plan = Segments(parts, machine.mlc)
    how = {"prescribed": PrescribedTo(66.0, 33, "PTV", 4), "structure_set_uid": "1.2.3", **more}
    uid = dicom.write_plan(plan, machine, patient, tmp_path / f"{name}.dcm", "made", **how)
    ds = pydicom.dcmread(tmp_path / f"{name}.dcm")
    assert ds.SOPInstanceUID == uid
    return plan, ds


@pytest.mark.parametrize("name", ["agility", "unity"])
def test_every_attribute_of_type_1_has_a_value_and_of_type_2_is_there(name, patient, tmp_path, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    _, ds = written(name, patient, tmp_path)
    for keys, item, empty in (
        (PLAN, ds, False), (PLAN_2, ds, True),
        *((BEAM, beam, False) for beam in ds.BeamSequence),
        *((FIRST_POINT, beam.ControlPointSequence[0], False) for beam in ds.BeamSequence),
        *((FIRST_POINT_2, beam.ControlPointSequence[0], True) for beam in ds.BeamSequence),
    ):  # fmt: skip
        for key in keys:
            assert key in item, key
            assert empty or item[key].value not in (None, ""), key
    for element in ds.iterall():  # every value is read under its own rule
        assert element.value is not None or element.VR == "DS"
    assert ds.Modality == "RTPLAN"
    assert ds.PlanIntent == "RESEARCH"
    assert ds.DoseReferenceSequence[0].ReferencedROINumber == 4
    assert [beam.BeamType for beam in ds.BeamSequence] == ["STATIC", "STATIC"]


@pytest.mark.parametrize("name", ["agility", "unity"])
def test_leaves_diaphragms_and_MU_are_read_back(name, patient, tmp_path):
    plan, ds = written(name, patient, tmp_path)
    group, read = ds.FractionGroupSequence[0], []
    assert group.NumberOfFractionsPlanned == 33
    for beam, reference in zip(ds.BeamSequence, group.ReferencedBeamSequence, strict=True):
        assert reference.ReferencedBeamNumber == beam.BeamNumber
        points = beam.ControlPointSequence
        assert [int(point.ControlPointIndex) for point in points] == list(range(beam.NumberOfControlPoints))
        weights = [float(point.CumulativeMetersetWeight) for point in points]
        assert weights[0] == 0
        assert weights[-1] == float(beam.FinalCumulativeMetersetWeight)
        mu = np.diff(weights) * float(reference.BeamMeterset) / weights[-1]
        assert not mu[1::2].any()  # leaves move while the weight stands still
        for k in range(0, len(points), 2):
            opened, closing = (
                {str(d.RTBeamLimitingDeviceType): list(map(float, d.LeafJawPositions)) for d in
                 point.BeamLimitingDevicePositionSequence} for point in points[k : k + 2]
            )  # fmt: skip
            assert opened == closing
            read.append((float(points[0].GantryAngle), opened, mu[k]))
    jaws, leaves = ("ASYMY", "MLCX") if name == "agility" else ("ASYMX", "MLCY")
    assert len(read) == 3
    for (gantry_deg, opened, mu), segment in zip(read, plan.segments, strict=True):
        assert gantry_deg == segment.beam.gantry_deg
        assert mu == pytest.approx(segment.mu, rel=1e-12)
        assert opened[jaws] == list(segment.diaphragm_mm)
        assert np.reshape(opened[leaves], (2, -1)).T.tolist() == segment.leaf_mm.tolist()


@pytest.mark.parametrize("name", ["agility", "unity"])
def test_the_bank_at_the_negative_side_comes_first_and_boundaries_ascend(name, patient, tmp_path):
    """An aperture at -35.3 to -10.1: the first bank stands at the lower value, the open pairs above the middle."""
    _, ds = written(name, patient, tmp_path)
    beam = ds.BeamSequence[0]
    device = beam.BeamLimitingDeviceSequence[1]
    boundaries_mm = np.array(device.LeafPositionBoundaries, float)
    assert device.NumberOfLeafJawPairs == 80
    assert len(boundaries_mm) == 81
    assert (np.diff(boundaries_mm) > 0).all()
    positions_mm = np.array(
        beam.ControlPointSequence[0].BeamLimitingDevicePositionSequence[1].LeafJawPositions, float
    )
    first, second = positions_mm[:80], positions_mm[80:]
    opened = second > first
    assert set(first[opened]) == {-35.3}
    assert set(second[opened]) == {-10.1}
    assert boundaries_mm[:-1][opened].min() > 7
    assert boundaries_mm[1:][opened].max() < 50


def test_a_beam_without_flattening_filter_says_so(patient, tmp_path):
    _, unity = written("unity", patient, tmp_path)
    _, agility = written("agility", patient, tmp_path)
    mode = unity.BeamSequence[0].PrimaryFluenceModeSequence[0]
    assert (mode.FluenceMode, mode.FluenceModeID) == ("NON_STANDARD", "FFF")
    assert "PrimaryFluenceModeSequence" not in agility.BeamSequence[0]
    assert float(unity.BeamSequence[0].SourceAxisDistance) == 1435
    assert [float(one.BeamSequence[0].ControlPointSequence[0].NominalBeamEnergy) for one in (unity, agility)] == [
        7,
        6,
    ]


def test_the_same_plan_is_the_same_file_and_another_has_another_uid(patient, tmp_path):
    _, first = written("unity", patient, tmp_path)
    before = hashlib.sha256((tmp_path / "unity.dcm").read_bytes()).hexdigest()
    written("unity", patient, tmp_path)
    assert hashlib.sha256((tmp_path / "unity.dcm").read_bytes()).hexdigest() == before
    _, other = written("unity", patient, tmp_path, structure_set_uid="1.2.4")
    assert other.SOPInstanceUID != first.SOPInstanceUID


def test_a_target_that_is_not_drawn_is_a_site(patient, tmp_path):
    _, ds = written("unity", patient, tmp_path, prescribed=PrescribedTo(66.0, 33, "PTV_eval"))
    reference = ds.DoseReferenceSequence[0]
    assert reference.DoseReferenceStructureType == "SITE"
    assert "ReferencedROINumber" not in reference


def test_a_plan_without_MU_is_refused(patient, tmp_path):
    machine = model.load("unity")
    nothing = Segments((asymmetric(machine, 20.0, 0.0),), machine.mlc)
    with pytest.raises(DataError, match="no segments with MU"):
        dicom.write_plan(
            nothing, machine, patient, tmp_path / "x.dcm", "f", prescribed=PrescribedTo(66.0, 33, "PTV"),
            structure_set_uid="1.2.3",
        )  # fmt: skip
    assert not (tmp_path / "x.dcm").exists()
