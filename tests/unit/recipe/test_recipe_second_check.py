"""A second check: which machine, what is refused, and the dose of a plan of ours from its own file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import mrlinac as mr
from mrlinac import dicom, transport
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.cli.app import app
from mrlinac.dicom import PrescribedTo
from mrlinac.errors import DataError
from mrlinac.machine import model
from mrlinac.machine.beams import Beam
from mrlinac.machine.delivery import Segment, Segments
from mrlinac.recipe.second_check import machine_for


@pytest.fixture(scope="module")
def tank():
    return mr.water_tank(60.0, size_mm=160.0)


def plan_file(folder, patient, name: str = "agility"):
    machine = model.load(name)
    leaf_mm = np.zeros((80, 2))
    edges_mm = machine.mlc.leaf_edges_mm
    leaf_mm[(edges_mm[:-1] > -1) & (edges_mm[1:] < 31)] = -40.0, -10.0
    one = Segment(Beam(0.0, (0.0, 0.0, 0.0), machine.sad_mm), leaf_mm, (0.0, 30.0), 100.0)
    path = folder / f"{name}.dcm"
    dicom.write_plan(Segments((one,), machine.mlc), machine, patient, path, "made", prescribed=PrescribedTo(2.0, 2, "PTV"),
                     structure_set_uid="1.2.3")  # fmt: skip
    return path


@pytest.mark.parametrize("name", ["agility", "unity"])
def test_the_machine_is_found_by_what_the_plan_says(name, tank, tmp_path):
    plan = mr.read_plan(plan_file(tmp_path, tank, name))
    assert machine_for(plan).name == name
    assert machine_for(plan, name).name == name


def test_a_plan_that_no_machine_can_give_is_refused_with_each_reason(tank, tmp_path):
    plan = mr.read_plan(plan_file(tmp_path, tank))
    with pytest.raises(DataError) as error:
        machine_for(plan, "unity")
    for reason in (
        "1000 mm apart in the plan, 1435 mm",
        "6 MV, the machine file is of 7 MV",
        "with a flattening filter",
    ):
        assert reason in str(error.value)
    other = replace(plan, energies_MV=(10.0,))
    with pytest.raises(DataError, match=r"no machine file fits the plan(.|\n)*agility: the plan has beams of 10 MV"):
        machine_for(other)


def test_position_and_frame_have_to_be_the_patients(tank, tmp_path):
    plan = mr.read_plan(plan_file(tmp_path, tank))
    wrong = replace(plan, position="FFS", frame_uid="1.2.3")
    with pytest.raises(DataError) as error:
        mr.recalculate_plan(wrong, tank)
    assert "lies FFS, the image is HFS" in str(error.value)
    assert "--same-frame" in str(error.value)


def test_the_dose_of_the_file_is_that_of_its_segments(tank, tmp_path):
    """The same aperture transported without files, in a box of water on the same voxels; on the side that IEC says."""
    path = plan_file(tmp_path, tank)
    check = mr.recalculate_plan(path, tank, couch=False, grid_mm=8.0, rel_sigma=0.04)
    assert check.dose.fractions == 2
    dose, grid = check.dose.dose_Gy, check.dose.grid
    high = np.argwhere(dose > 0.5 * dose.max())
    assert grid.x_mm[high[:, 2]].mean() == pytest.approx(-25, abs=6)  # X1 is the right of a supine patient
    assert grid.z_mm[high[:, 0]].mean() == pytest.approx(15, abs=6)  # Y2 is the head
    inside = np.abs(grid.z_mm) < 76, (grid.y_mm > -60) & (grid.y_mm < 92), np.abs(grid.x_mm) < 76
    z_mm, y_mm, x_mm = (axis[own] for axis, own in zip((grid.z_mm, grid.y_mm, grid.x_mm), inside, strict=True))
    box = Grid((len(z_mm), len(y_mm), len(x_mm)), (8.0,) * 3, (float(x_mm[0]), float(y_mm[0]), float(z_mm[0])))
    medium = Medium(box, np.ones(box.shape_zyx, np.float32), np.zeros(box.shape_zyx, np.uint8), ("water",))
    leaf_mm = mr.read_plan(path).beams[0].points[0].leaf_mm
    machine = model.load("agility")
    segments = Segments((Segment(Beam(0.0, (0.0, 0.0, 0.0), 1000.0), leaf_mm, (0.0, 30.0), 100.0),), machine.mlc)
    alone = transport.dose(medium, segments, machine, field_xyz_T=(0, 0, 0), target_rel_sigma=0.04).course(2)
    inner = np.s_[3:-3, 1:-3, 3:-3]
    expected = alone.dose_Gy[inner].mean()
    assert dose[np.ix_(*inside)][inner].mean() == pytest.approx(expected, rel=0.02)


def test_the_command_writes_dose_and_page_and_compares_with_a_given_dose(tank, tmp_path):
    path = plan_file(tmp_path, tank)
    given = mr.recalculate_plan(path, tank, couch=False, grid_mm=8.0, rel_sigma=0.05, seed=7)
    given.write_dose(tmp_path / "given.dcm")
    words = ["recalculate", "--plan", str(path), "--water", "60", "--grid-mm", "8", "--sigma", "5", "--json", "--dose",
             str(tmp_path / "given.dcm"), "--gamma", "10%/5mm", "--out", str(tmp_path / "out")]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    for name in ("report.html", "rtdose.dcm", "evaluation.json"):
        assert (tmp_path / "out" / name).is_file()
    assert '"MU": 100.0' in done.stdout
    assert "gamma" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "integrated in 1 steps" in page
    assert mr.RESEARCH_ONLY in page


@pytest.mark.parametrize(
    "words",
    [["recalculate"], ["recalculate", "--plan", "x.dcm"], ["recalculate", "folder", "--plan", "x", "--water", "9"]],
)
def test_the_command_says_what_to_give(words):
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
