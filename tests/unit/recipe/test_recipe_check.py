"""What stands in the way of a plan is said before anything is computed."""

from dataclasses import replace

import numpy as np
import pytest

import mrlinac as mr
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.anatomy.position import lies_on, side_below
from mrlinac.anatomy.structures import Contour
from mrlinac.dose.dose import Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.beams import fixed_to_patient
from mrlinac.phantoms import structure_names, thorax
from mrlinac.protocol.model import Objective
from mrlinac.protocol.model import load as load_protocol
from mrlinac.provenance import Provenance
from mrlinac.recipe import case, check, judge, made_from


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
    tables = judge.tables(spec.protocol, Sampled(dose, structures), structures, {})
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


def test_names_are_known_before_the_digital_patient_is_made(patient):
    assert set(structure_names()) == set(patient.rois)


def test_a_structure_that_nobody_has_is_a_problem_of_names_alone(patient):
    plan = mr.load_plan("unity-66in33")
    assert check.structure_name_problems(plan, patient.rois) == []
    wrong = plan.override({"protocol.goals.0.structure": "Hart"})
    (problem,) = check.structure_name_problems(wrong, patient.rois)
    assert problem.endswith("structure 'Hart' is needed and missing; did you mean 'Heart'?")
    problems = check.structure_name_problems(plan, set(patient.rois) - {"Lung_L"})
    assert any("structures.Lungs: there is no structure 'Lung_L'" in problem for problem in problems)
    assert check.check(wrong, patient).case is None


def test_what_planning_will_lack_is_said_with_its_remedy(patient):
    protocols = [load_protocol(name) for name in ("conventional-66in33", "conventional-60in30")]
    assert check.planning_lacks(patient, protocols) == []

    def without(*names):
        rois = {name: roi for name, roi in patient.rois.items() if name not in names}
        return check.planning_lacks(replace(patient, rois=rois), protocols)

    (no_target,) = (text for text in without("CTV", "ITV") if "CTV" in text)
    assert "draw CTV or map its name" in no_target
    (no_motion,) = without("ITV")
    assert "made from the CTV" in no_motion
    (no_body,) = without("External")
    assert "draw External" in no_body
    (no_lungs,) = without("Lung_L", "Lung_R")
    assert no_lungs.startswith("no Lung_L, no Lung_R: needed by conventional-66in33, conventional-60in30; draw")
    assert "Lung_L, Lung_R derived from the CT (--derive)" in no_lungs
    (no_heart,) = without("Heart")
    assert "derive" not in no_heart  # the heart is not seen in the CT's numbers


def test_the_time_is_estimated_from_rates_that_are_stated():
    """By hand: 0.9 million photons a CPU-second; σ² × time is 1/15.8 in 3 mm and falls with the voxel's volume."""
    plan = mr.load_plan("unity-66in33", {"numerics.grid_mm": 6, "numerics.correction_rounds": 2})
    plan = plan.override({"numerics.correction_rel_sigma": 0.02, "numerics.final_rel_sigma": 0.01})
    parts = check.cpu_s_of(plan, 45e6)
    assert parts["influence"] == pytest.approx(50)
    assert parts["forward doses"] == pytest.approx((2 / 0.02**2 + 1 / 0.01**2) / 15.8 / 8)
    said = check.time_sentence(plan, 45e6)
    assert "estimated" in said
    assert "about 210 CPU-seconds" in said


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
    assert (x, y) == (couch.midline_mm, couch.top_mm - 140)
    centre = prepared["agility"].structures.centroid_xyz_mm("CTV")
    assert prepared["agility"].isocentre_xyz_mm == pytest.approx(centre, abs=0.51)
    assert prepared["unity"].field_xyz_T == (0.0, 0.0, 1.5)
    assert prepared["agility"].field_xyz_T == (0.0, 0.0, 0.0)


def decided(patient, **told):
    return replace(patient, decisions=PatientFile.model_validate(told))


def turned(patient, position):
    """The patient's anatomy turned so that, lying in another position, it is to the room as it was head-first supine."""
    turn = fixed_to_patient(position) @ fixed_to_patient("HFS").T
    axes = [int(np.argmax(np.abs(row))) for row in turn]  # the old axis along each new one
    signs = [int(row[axis]) for row, axis in zip(turn, axes, strict=True)]
    grid = patient.image.grid
    values = np.transpose(patient.image.values, [2 - axes[a] for a in (2, 1, 0)])[
        tuple(np.s_[::s] for s in signs[::-1])
    ]
    corners = (
        turn @ np.array([grid.position_xyz_mm(np.array(i)) for i in ((0, 0, 0), np.array(grid.shape_zyx) - 1.0)]).T
    )
    steps = np.array(grid.spacing_zyx_mm)[::-1][axes]
    new = Grid(values.shape, tuple(steps[::-1].tolist()), tuple(corners.min(axis=1).tolist()))

    def moved(contour):
        points = np.column_stack([contour.points_xy_mm, np.full(len(contour.points_xy_mm), contour.z_mm)]) @ turn.T
        return Contour(float(points[0, 2]), points[:, :2])

    rois = {name: replace(roi, contours=tuple(map(moved, roi.contours))) for name, roi in patient.rois.items()}
    image = Image(new, np.ascontiguousarray(values))
    return replace(patient, image=image, rois=rois, position=position), turn


@pytest.fixture(scope="module")
def lying_supine(patient):
    """A plan without the many structures of the protocol, and its case for the patient on the back."""
    spec = mr.load_plan("unity-66in33", {"numerics.grid_mm": 10, "technique.gantry_deg": [20, 300]})
    rules = {"PTV": spec.protocol.structures["PTV"]}
    prescription = spec.protocol.prescription.model_copy(update={"target": "PTV"})
    bare = spec.protocol.model_copy(update={"structures": rules, "prescription": prescription})
    spec = spec.model_copy(update={"protocol": bare})
    return spec, case.prepare(spec, patient)


@pytest.mark.parametrize("position", ["HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL"])
def test_a_patient_turned_in_the_room_has_the_same_plan_turned(patient, lying_supine, position):
    spec, here = lying_supine
    person, turn = turned(patient, position)
    assert check.patient_problems(person) == []
    there = case.prepare(spec, person)
    assert there.isocentre_xyz_mm == pytest.approx(turn @ here.isocentre_xyz_mm, abs=1e-6)
    assert there.field_xyz_T == pytest.approx(turn @ here.field_xyz_T)
    for one, other in zip(here.maps, there.maps, strict=True):
        np.testing.assert_allclose(other.beam.source_xyz_mm(), turn @ one.beam.source_xyz_mm(), atol=1e-6)
        np.testing.assert_allclose(other.beam.axes_xyz(), one.beam.axes_xyz() @ turn.T, atol=1e-9)
        assert len(set(map(tuple, one.lattice_uv)) ^ set(map(tuple, other.lattice_uv))) <= 0.02 * len(one)
    # The medium, couch included, at the same points of the room; rasterising along other axes rounds a little.
    index = np.argwhere(np.ones(there.grid.shape_zyx, bool)).astype(float)
    back = np.rint(here.grid.index_zyx(there.grid.position_xyz_mm(index) @ turn)).astype(int)
    held = np.all((back >= 0) & (back < np.array(here.grid.shape_zyx)), axis=1)
    assert held.mean() > 0.95
    density = here.medium.density_g_cm3[tuple(back[held].T)]
    off = np.abs(there.medium.density_g_cm3.ravel()[held] - density)
    assert off.max() < 0.05
    assert off.mean() < 1e-3
    assert there.medium.density_g_cm3.sum() == pytest.approx(here.medium.density_g_cm3.sum(), rel=1e-3)


def test_the_side_a_patient_lies_on_is_where_gravity_points():
    for position, matrix in (
        (p, fixed_to_patient(p)) for p in ("HFS", "FFS", "HFP", "FFP", "HFDL", "HFDR", "FFDL", "FFDR")
    ):
        axis, sign = lies_on(position)
        assert (matrix @ (0, 0, -1))[axis] == sign
    assert side_below("HFDR") == "right"


def test_a_couch_height_is_given_on_the_axis_that_gravity_follows(patient):
    (problem,) = check.patient_problems(decided(replace(patient, position="HFDL"), couch_top_y_mm=100.0))
    assert "give couch_top_x_mm" in problem
    machine = mr.load_plan("unity-66in33").machine
    prone = case.couch_of(machine, decided(replace(patient, position="HFP"), couch_top_y_mm=-140.0))
    assert (prone.top_mm, prone.below) == (-140.0, (1, -1))
    low, high = prone.extent_xy_mm()
    assert (low[1], high[1]) == (-140.0 - prone.thickness_mm, -140.0)


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
    assert case.couch_of(machine, decided(patient, couch_top_y_mm=133.0)).top_mm == 133.0
    assert case.couch_of(machine, patient).top_mm == pytest.approx(patient.external.extent_xy_mm()[1][1])


def test_what_the_patients_file_says_changes_the_fingerprint(patient):
    spec = mr.load_plan("unity-66in33")
    plain = made_from.fingerprint_of(spec, patient)
    assert made_from.fingerprint_of(spec, decided(patient, couch_top_y_mm=133.0)) != plain


def at_isocentre(patient, plan, shift_xyz_mm):
    """The check of a plan whose isocentre is given: the machine's own, shifted."""
    few = {"numerics.grid_mm": 10, "technique.gantry_deg": [20], "technique.travel_step_mm": 20}
    by_rule = mr.check(mr.load_plan(plan, few), patient).case.isocentre_xyz_mm
    wanted = [a + b for a, b in zip(by_rule, shift_xyz_mm, strict=True)]
    return wanted, mr.check(mr.load_plan(plan, {**few, "patient.isocentre_xyz_mm": wanted}), patient)


@pytest.mark.parametrize(
    ("plan", "shift_xyz_mm", "says"),
    [
        ("agility-66in33", (7.0, -5.0, 12.0), None),
        ("unity-66in33", (0.0, 0.0, 12.0), None),
        ("unity-66in33", (2.0, 0.0, 0.0), "moves along the bore only"),
        ("unity-66in33", (0.0, 3.0, 0.0), "any z"),
        ("agility-66in33", (0.0, 0.0, 2000.0), "outside"),
    ],
)
def test_an_isocentre_can_be_given_where_the_machines_table_reaches_it(patient, plan, shift_xyz_mm, says):
    wanted, found = at_isocentre(patient, plan, shift_xyz_mm)
    if says is None:
        assert found.problems == ()
        assert list(found.case.isocentre_xyz_mm) == wanted
        assert {beam.beam.isocentre_xyz_mm for beam in found.case.maps} == {tuple(wanted)}
    else:
        assert any(says in problem for problem in found.problems)
