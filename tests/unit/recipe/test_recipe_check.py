"""What stands in the way of a plan is said before anything is computed."""

from dataclasses import replace

import numpy as np
import pytest

import mrlinac as mr
from mrlinac.anatomy.phantom import thorax
from mrlinac.dose.dose import Dose
from mrlinac.protocol.model import Objective
from mrlinac.provenance import Provenance
from mrlinac.recipe import case, check, judge


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
