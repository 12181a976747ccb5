"""What stands in the way of a plan is said before anything is computed."""

from dataclasses import replace

import numpy as np
import pytest

import mrlinac as mr
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.anatomy.phantom import thorax
from mrlinac.dose.dose import Dose
from mrlinac.protocol.model import Objective
from mrlinac.provenance import Provenance
from mrlinac.recipe import case, check, judge, planning


@pytest.fixture(scope="module")
def patient():
    return thorax(3, spacing_zyx_mm=(10.0, 5.0, 5.0))


def test_a_whole_patient_has_no_problems(patient):
    assert check.patient_problems(patient) == []


def test_a_gap_in_the_outline_is_a_problem(patient):
    external = patient.rois["External"]
    kept = tuple(c for c in external.contours if not -20 < c.z_mm < 20)
    rois = {**patient.rois, "External": replace(external, contours=kept)}
    (problem,) = check.patient_problems(replace(patient, rois=rois))
    assert "no contour between" in problem


def test_a_patient_without_outline_or_target_hears_of_both(patient):
    rois = {name: roi for name, roi in patient.rois.items() if name not in ("External", "CTV")}
    problems = check.patient_problems(replace(patient, rois=rois))
    assert len(problems) == 2


def test_an_outline_that_ends_early_ends_the_imaged_range(patient):
    external = patient.rois["External"]
    kept = tuple(c for c in external.contours if c.z_mm < 50)
    rois = {**patient.rois, "External": replace(external, contours=kept)}
    whole, short = case.imaged_z_mm(patient), case.imaged_z_mm(replace(patient, rois=rois))
    assert short[0] == whole[0]
    assert short[1] == pytest.approx(max(c.z_mm for c in kept) + 5)


@pytest.fixture(scope="module")
def cut():
    """A case whose body is wider than the image."""
    narrow = thorax(3, spacing_zyx_mm=(10.0, 5.0, 5.0), fov_mm=360.0)
    spec = mr.load_plan("unity-66in33", {"numerics.grid_mm": 8})
    found = mr.check(spec, narrow)
    assert found.problems == ()
    return spec, found


def test_a_body_cut_by_the_field_of_view_is_planned_without_skin_metrics(cut):
    spec, found = cut
    assert any("Skin, Skin_3mm" in note and "not evaluable" in note for note in found.notes)
    structures, shape = found.case.structures, found.case.grid.shape_zyx
    dose = Dose(found.case.grid, np.ones(shape, np.float32), None, 33, Provenance("x", "test"))
    tables = judge.tables(spec.protocol, dose, structures, {})
    verdicts = tables["goals"].set_index(["structure", "metric"])
    assert (verdicts.loc["Skin", "verdict"] == "void").all()
    assert verdicts.loc["Skin", "value"].isna().all()
    assert "cut by the field of view" in verdicts.loc[("Skin", "D2cc"), "source"]
    assert verdicts.loc[("External", "D1cc[%]"), "verdict"] == "pass"
    assert tables["skin"].empty
    assert "not evaluable" in judge.skin_sentence(tables["skin"], 66.0, structures)


def test_skin_that_cannot_be_evaluated_may_not_steer_the_plan(cut):
    spec, found = cut
    wanted = Objective(kind="squared_overdose", structure="Skin", dose_Gy=30, weight=1, source="test")
    protocol = spec.protocol.model_copy(update={"objectives": (*spec.protocol.objectives, wanted)})
    (problem,) = check.flawed_structure_problems(protocol, found.case.structures)
    assert "objective Skin squared_overdose" in problem


def test_blocked_angles_name_their_reason():
    spec = mr.load_plan("unity-66in33", {"technique.gantry_deg": [13, 120, 200]})
    problems = check.gantry_problems(spec)
    assert len(problems) == 2
    assert problems[0].startswith("gantry 13°")


def test_the_fixed_table_leaves_only_the_length_free(patient):
    unity, agility = mr.load_plan("unity-66in33"), mr.load_plan("agility-66in33")
    prepared = {
        plan.machine.name: case.prepare(plan.override({"numerics.grid_mm": 8}), patient) for plan in (unity, agility)
    }
    couch = case.couch_of(unity.machine, patient)
    x, y, _ = prepared["unity"].isocentre_xyz_mm
    assert (x, y) == (couch.midline_x_mm, couch.top_y_mm - 140)
    centre = prepared["agility"].structures.centroid_xyz_mm("CTV")
    assert prepared["agility"].isocentre_xyz_mm == pytest.approx(centre, abs=0.51)
    assert prepared["unity"].field_xyz_T == (0.0, 0.0, 1.5)
    assert prepared["agility"].field_xyz_T == (0.0, 0.0, 0.0)


def decided(patient, **told):
    return replace(patient, decisions=PatientFile.model_validate(told))


def test_a_prone_patient_is_not_planned_on_a_couch_at_the_back(patient):
    (problem,) = check.patient_problems(replace(patient, position="HFP"))
    assert "HFP" in problem


def test_the_patients_file_goes_before_the_plan_and_the_command_line_before_both(patient):
    steel = {"density_g_cm3": 7.9, "material": "steel-316l"}
    gas = {"density_g_cm3": 1.0, "material": "water"}
    with_file = decided(patient, metal=steel, density_overrides={"Gas": gas})
    spec = mr.load_plan("unity-66in33")
    assert spec.patient.metal.density_g_cm3 == 4.43
    source = case.source_of(spec, with_file)
    assert source.metal.density_g_cm3 == 7.9
    assert list(source.density_overrides) == ["Gas"]
    typed = mr.load_plan("unity-66in33", {"patient.metal.density_g_cm3": 5.0})
    assert case.source_of(typed, with_file).metal.density_g_cm3 == 5.0
    typed = mr.load_plan("unity-66in33", {"patient.density_overrides.Gas": {**gas, "density_g_cm3": 0.9}})
    assert case.source_of(typed, with_file).density_overrides["Gas"].density_g_cm3 == 0.9
    assert case.source_of(spec, patient) == spec.patient
    on_mr = replace(with_file, image=replace(patient.image, quantity="MR"))
    assert case.source_of(spec, on_mr).metal is None


def test_the_patients_file_says_what_the_ptv_is_made_of(patient):
    spec = mr.load_plan("unity-66in33")
    assert case.rules_of(spec, patient)["PTV"].first_of == ("ITV", "CTV")
    assert case.rules_of(spec, decided(patient, target_base="CTV"))["PTV"].first_of == ("CTV",)


def test_the_patients_file_says_where_the_couch_is(patient):
    machine = mr.load_plan("unity-66in33").machine
    assert case.couch_of(machine, decided(patient, couch_top_y_mm=133.0)).top_y_mm == 133.0
    assert case.couch_of(machine, patient).top_y_mm == pytest.approx(patient.external.extent_xy_mm()[1][1])


def test_what_the_patients_file_says_changes_the_fingerprint(patient):
    spec = mr.load_plan("unity-66in33")
    plain = planning.fingerprint_of(spec, patient)
    assert planning.fingerprint_of(spec, decided(patient, couch_top_y_mm=133.0)) != plain
