"""Who wins where a plan file, its table [overrides], the command line and the patient's own file speak of one thing."""

from dataclasses import replace

import numpy as np
import pytest

from mrlinac import spec as specs
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.recipe import case
from mrlinac.recipe.spec import load_plan


@pytest.fixture
def plan(tmp_path):
    """Writes a plan: the shipped one, with a table [overrides] of its own."""

    def written(**overrides):
        text = specs.find("plans", "unity-66in33").read_text(encoding="utf-8")
        lines = [f'"{key}" = {value}' for key, value in overrides.items()]
        path = tmp_path / "mine.toml"
        path.write_text("\n".join([text, "[overrides]", *lines]), encoding="utf-8")
        return path

    return written


SEED, MARGIN = "numerics.seed", "protocol.structures.PTV.margin_mm"


def test_the_command_line_goes_before_the_files_own_overrides(plan):
    path = plan(**{SEED: 11, MARGIN: 4.5})
    own = load_plan(path)
    assert (own.numerics.seed, own.protocol.structures["PTV"].margin_mm) == (11, 4.5)
    typed = load_plan(path, {SEED: 12})
    assert (typed.numerics.seed, typed.protocol.structures["PTV"].margin_mm) == (12, 4.5)
    assert typed.applied == {SEED: 12, MARGIN: 4.5}
    assert typed.fingerprint != own.fingerprint
    assert typed.fingerprint == load_plan(plan(**{SEED: 12, MARGIN: 4.5})).fingerprint


@pytest.mark.parametrize("order", [("numerics", SEED), (SEED, "numerics")])
def test_a_name_comes_before_the_keys_that_change_what_it_brings_in(order):
    changes = {"numerics": "draft", SEED: 77}
    found = load_plan("unity-66in33", {key: changes[key] for key in order})
    assert (found.numerics.name, found.numerics.seed) == ("draft", 77)


def test_a_name_on_the_command_line_leaves_the_files_finer_keys_in_force(plan):
    found = load_plan(plan(**{SEED: 11}), {"numerics": "draft", "machine": "agility"})
    assert (found.numerics.name, found.numerics.seed, found.machine.name) == ("draft", 11, "agility")


def test_a_table_on_the_command_line_replaces_a_key_in_it(plan):
    path = plan(**{MARGIN: 4.5})
    rule = {"from": "CTV", "margin_mm": 9.0, "role": "target"}
    assert load_plan(path, {"protocol.structures.PTV": rule}).protocol.structures["PTV"].margin_mm == 9.0


def test_overrides_of_overrides_are_kept_and_the_last_is_in_force():
    first = load_plan("unity-66in33", {SEED: 5, MARGIN: 4.0})
    second = first.override({SEED: 6})
    assert second.numerics.seed == 6
    assert second.protocol.structures["PTV"].margin_mm == 4.0
    assert second.applied == {SEED: 6, MARGIN: 4.0}
    assert first.applied[SEED] == 5
    assert first.numerics.seed == 5


def test_an_override_may_hold_an_equals_sign_and_the_last_of_two_wins():
    assert specs.parse_set("patient.folder=/a=b") == ("patient.folder", "/a=b")
    assert specs.override({"a": {"b": 1}}, {"a.b": 2, "a": {"b": 3}}) == {"a": {"b": 3}}
    assert specs.override({"a": {"b": 1}}, {"a": {"b": 3}, "a.b": 2}) == {"a": {"b": 2}}


def test_overriding_leaves_the_callers_tables_alone():
    table, values = {"b": 1, "list": [1]}, {"x": 0}
    found = specs.override(values, {"a": table, "a.b": 2, "a.list.0": 3})
    assert found == {"x": 0, "a": {"b": 2, "list": [3]}}
    assert table == {"b": 1, "list": [1]}
    assert values == {"x": 0}


# -- densities: the plan's table, the patient's file, the command line ------------------------------------------------

WATER, GAS = ({"density_g_cm3": d, "material": m} for d, m in ((1.0, "water"), (0.3, "lung-icru")))


def person(**told):
    grid = Grid((2, 4, 4), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    square = np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0]])
    rois = {"External": Roi("External", "external", (Contour(0.0, square),), 3.0)}
    told = None if not told else PatientFile.model_validate(told)
    return Patient("x", Image(grid, np.zeros(grid.shape_zyx, np.float32)), rois, decisions=told)


def densities(changes, **told):
    found = case.source_of(load_plan("unity-66in33", changes), person(**told))
    return {name: one.density_g_cm3 for name, one in found.density_overrides.items()}


def test_a_name_that_another_begins_with_is_not_that_name():
    """``--set … .Gastric`` says nothing of ``Gas``."""
    typed = {"patient.density_overrides.Gastric": GAS}
    assert densities(typed, density_overrides={"Gas": WATER}) == {"Gas": 1.0, "Gastric": 0.3}
    assert densities(typed, density_overrides={"Gastric": WATER}) == {"Gastric": 0.3}
    # A plan file holds both, the command line only one of them.
    spec = load_plan("unity-66in33", typed)
    both = spec.patient.model_copy(
        update={
            "density_overrides": {**spec.patient.density_overrides, "Gas": spec.patient.density_overrides["Gastric"]}
        }
    )
    found = case.source_of(spec.model_copy(update={"patient": both}), person(density_overrides={"Gas": WATER}))
    assert found.density_overrides["Gas"].density_g_cm3 == 1.0


@pytest.mark.parametrize(
    ("typed", "density"),
    [
        ({}, 1.0),  # the patient's file before the plan's table
        ({"patient.density_overrides.Gas": GAS}, 0.3),
        ({"patient.density_overrides": {"Gas": GAS}}, 0.3),  # the whole table is said as well
        ({"patient.density_overrides.Gas": WATER, "patient.density_overrides.Gas.density_g_cm3": 0.7}, 0.7),
        ({"patient.identify": True}, 1.0),
    ],
)
def test_the_command_line_goes_before_the_patients_file(typed, density):
    assert densities(typed, density_overrides={"Gas": WATER})["Gas"] == density


@pytest.mark.parametrize(
    ("typed", "density"),
    [
        ({}, 7.9),
        ({"patient.metal.density_g_cm3": 5.0}, 5.0),
        ({"patient.metal": {"density_g_cm3": 6.0, "material": "titanium-alloy"}}, 6.0),
        ({"patient.density_overrides.metallic": WATER}, 7.9),
    ],
)
def test_metal_of_the_command_line_goes_before_the_patients_file(typed, density):
    steel = {"density_g_cm3": 7.9, "material": "steel-316l"}
    assert case.source_of(load_plan("unity-66in33", typed), person(metal=steel)).metal.density_g_cm3 == density


def test_single_structures_go_before_bands_and_the_body_comes_last():
    told = {"density_overrides": {"Gas": GAS}, "density_bands": {"External": WATER, "Lungs": GAS}}
    typed = {"patient.density_overrides.Rod": {"density_g_cm3": 4.4, "material": "titanium-alloy"}}
    found = case.source_of(load_plan("unity-66in33", typed), person(**told))
    assert list(found.density_overrides) == ["Gas", "Rod", "Lungs", "External"]


def test_an_mr_has_no_metal_whoever_says_so():
    steel = {"density_g_cm3": 7.9, "material": "steel-316l"}
    someone = person(metal=steel)
    on_mr = replace(someone, image=replace(someone.image, quantity="MR"))
    typed = load_plan("unity-66in33", {"patient.metal.density_g_cm3": 5.0})
    assert case.source_of(typed, on_mr).metal is None
