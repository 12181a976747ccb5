"""A small plan in segments, from the patient to the RTPLAN and back: conventional on Unity, isotoxic on Agility."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest
from conftest import COARSE

import mrlinac as mr
from mrlinac.machine import mlc_rules
from mrlinac.machine.control_points import in_segments, leaves_of

SEGMENTS = {**COARSE, "technique": "nine-field-step-and-shoot", "technique.segments.most": 12}
SMALL_PTV = {
    "protocol.structures.PTV.margin_mm": 3,
    "protocol.structures.PTV.source": "as the shipped plan with 3 mm",
}


@pytest.fixture(scope="session")
def in_segments_result(shared, patient, store):
    spec = mr.load_plan("demo", SEGMENTS)
    return shared("segments", lambda: mr.make_plan(spec, patient, store=store, threads=2))


@pytest.fixture(scope="module")
def folder(in_segments_result, tmp_path_factory):
    return in_segments_result.save(tmp_path_factory.mktemp("segments") / "plan", figures=False)


def test_the_plan_is_segments_that_the_machine_can_form(in_segments_result):
    result = in_segments_result
    segments = result.segments
    assert 3 <= len(segments) <= 12
    assert result.delivery is segments
    for segment in segments.segments:
        assert mlc_rules.problems(segment, segments.mlc) == []
        assert segment.mu >= result.spec.technique.segments.min_mu * 0.98  # normalisation scales by 1 % at most
        np.testing.assert_allclose(segment.leaf_mm, np.round(segment.leaf_mm, 1), atol=1e-9)
    assert any(text.startswith(f"Segments: {len(segments)} (at most 12)") for text in result.statements)
    assert not any("relative until it is segmented" in text for text in result.statements)
    assert len(result.fluence_goals) == len(result.goals)
    assert {"segments", "final dose"} <= set(result.timing["stage"])


def test_the_result_is_loaded_as_it_was_saved(in_segments_result, folder):
    before, after = in_segments_result, mr.load_result(folder)
    assert len(after.segments) == len(before.segments)
    for one, other in zip(after.segments.segments, before.segments.segments, strict=True):
        assert replace(one.beam, isocentre_xyz_mm=other.beam.isocentre_xyz_mm) == other.beam
        np.testing.assert_allclose(one.beam.isocentre_xyz_mm, other.beam.isocentre_xyz_mm, atol=1e-9)
        assert one.mu == other.mu
        assert one.diaphragm_mm == other.diaphragm_mm
        np.testing.assert_array_equal(one.leaf_mm, other.leaf_mm)
    assert after.fluence_goals["metric"].tolist() == before.fluence_goals["metric"].tolist()
    np.testing.assert_allclose(after.fluence_goals["value"], before.fluence_goals["value"])


def test_the_files_are_one_study_and_the_plan_comes_back(in_segments_result, folder):
    plan, dose, structures = (
        pydicom.dcmread(folder / "dicom" / f"rt{kind}.dcm") for kind in ("plan", "dose", "struct")
    )
    assert len({one.StudyInstanceUID for one in (plan, dose, structures)}) == 1
    assert len({one.FrameOfReferenceUID for one in (plan, dose)}) == 1
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structures.SOPInstanceUID
    assert dose.DoseSummationType == "PLAN"
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID
    assert float(plan.DoseReferenceSequence[0].TargetPrescriptionDose) == 66
    read, segments = mr.read_plan(folder / "dicom" / "rtplan.dcm"), in_segments_result.segments
    back = in_segments(read.beams, leaves_of(read.beams, segments.mlc), read.position)
    assert len(back) == len(segments)
    written, reread = (sorted(those.segments, key=_angle_and_mu) for those in (segments, back))
    for one, other in zip(written, reread, strict=True):
        assert replace(one.beam, isocentre_xyz_mm=other.beam.isocentre_xyz_mm) == other.beam
        np.testing.assert_allclose(one.beam.isocentre_xyz_mm, other.beam.isocentre_xyz_mm, atol=1e-9)
        assert one.mu == pytest.approx(other.mu, rel=1e-12)
        np.testing.assert_allclose(one.leaf_mm, other.leaf_mm, atol=1e-9)


def _angle_and_mu(segment):
    return segment.beam.gantry_deg, segment.mu


def test_the_plan_recalculated_from_its_own_file_has_the_same_dose(in_segments_result, patient, folder):
    """Written, read back, recalculated: the doses of the target region agree within noise."""
    result = in_segments_result
    metal = result.spec.patient.metal
    assert metal is None or not any(text.startswith("metal") for text in result.notes.of("done"))
    check = mr.recalculate_plan(folder / "dicom" / "rtplan.dcm", patient, grid_mm=8.0, rel_sigma=0.06, seed=5)
    assert check.machine.name == result.spec.machine.name
    assert check.dose.grid == result.dose.grid
    # Chosen by place: voxels chosen by dose are those whose noise is high. No gas, whose few histories are noise only.
    high = (result.structures["PTV"].occupancy > 0.5) & (result.medium.density_g_cm3 > 0.15)
    one, other = check.dose.dose_Gy[high], result.dose.dose_Gy[high]
    sigma = np.hypot(*(_sigma_of_mean(dose, high) for dose in (check.dose, result.dose)))
    assert sigma < 0.02 * other.mean()
    assert one.mean() == pytest.approx(other.mean(), abs=4 * sigma)
    pull = (one - other) / np.hypot(check.dose.rel_sigma[high] * one, result.dose.rel_sigma[high] * other)
    assert pull.std() == pytest.approx(1, abs=0.25)


def _sigma_of_mean(dose, where):
    """Standard deviation of the mean dose of voxels, from the batches of the run."""
    means = (dose.dose_Gy[where] * (1 + dose.batches.deviation[:, where].astype(float))).mean(1)
    return means.std(ddof=1) / np.sqrt(len(means))


def test_an_isotoxic_plan_finds_its_prescription_for_segments(patient, store):
    spec = mr.load_plan("agility-isotoxic", {**SEGMENTS, **SMALL_PTV, "patient.phantom_seed": 3})
    result = mr.make_plan(spec, patient, store=store, threads=2)
    assert result.escalation is not None
    assert len(result.segments) <= 12
    prescription = result.protocol.prescription
    assert prescription.dose_Gy == result.escalation.dose_Gy
    median = result.goals.query("metric == 'D50%' and structure == @prescription.target")["value"]
    assert len(median) == 0 or float(median.iloc[0]) == pytest.approx(prescription.dose_Gy, rel=0.05)
