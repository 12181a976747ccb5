"""Evaluating other systems' doses: from files to numbers and a page, and nothing that says who the patient is."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pydicom
import pytest
from conftest import MARKER, where_marked
from test_workflow_cli import run

import mrlinac as mr
from mrlinac import dicom
from mrlinac.anatomy.grid import Grid
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError, SpecError
from mrlinac.provenance import Provenance
from mrlinac.recipe import evaluation_inputs


@pytest.fixture(autouse=True)
def coarse_rules(monkeypatch):
    """Structures made by rule on the dose's own 6 mm: what is tested here is the way from files to a page."""
    monkeypatch.setattr(evaluation_inputs, "RULES_GRID_mm", (2.0, 6.0))


def made(patient, factor=1.0, shift_mm=0.0, fractions=33):
    lower, upper = patient.external.extent_xy_mm()
    image = patient.image.grid
    box = ((*lower, image.lower_xyz_mm[2]), (*upper, image.upper_xyz_mm[2]))
    grid = Grid.covering(*box, (6.0, 6.0, 6.0))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    at = np.mean([[*c.points_xy_mm.mean(axis=0), c.z_mm] for c in patient.rois["CTV"].contours], axis=0)
    far = np.sqrt((x - shift_mm - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2)
    values = factor * 68 / (1 + np.exp((far - 60) / 8))
    return Dose(grid, values.astype(np.float32), None, fractions, Provenance("t", "t"))


@pytest.fixture(scope="module")
def export(dicom_folder, tmp_path_factory):
    """Doses of two plans of the marked patient, as files that hold the marker in name and tags."""
    folder = tmp_path_factory.mktemp("doses")
    (sets,) = [path for path in dicom_folder.iterdir() if "old" not in path.name and "RTSTRUCT" in path.name]
    patient = dicom.read_patient(dicom_folder, rtstruct=sets)
    paths = []
    for number, dose in enumerate((made(patient), made(patient, 1.01, 3.0), made(patient, 0.5), made(patient, 0.5))):
        path = folder / f"{MARKER}_{number}.dcm"
        dicom.write_dose(dose, patient, path, f"f{number}", identify=True)
        data = pydicom.dcmread(path)
        for tag in ("PatientName", "PatientID", "AccessionNumber", "SeriesDescription", "DoseComment"):
            setattr(data, tag, MARKER)
        if number >= 2:  # halves of a plan that do not say their fractions
            del data.PlanOverviewSequence
            data.DoseSummationType = "BEAM"
        data.save_as(path)
        paths.append(path)
    return {"ct": dicom_folder, "sets": sets, "doses": paths}


def test_two_doses_side_by_side(export, tmp_path):
    first, second = export["doses"][:2]
    typed = ("evaluate", first, f"later={second}", "--ct", export["ct"], "--structures", export["sets"], "--protocol")
    done = run(*typed, "conventional-66in33", "--out", "out", "--json", cwd=tmp_path, code=3)  # goals fail
    said = json.loads(done.stdout)
    assert said["doses"] == ["dose A", "later"]
    assert said["fractions"] == 33
    values = {(row["structure"], row["metric"]): row for row in said["metrics"]}
    assert values["CTV", "D2%"]["dose A"] == pytest.approx(68, rel=0.02)
    assert values["CTV", "D2%"]["later"] == pytest.approx(68.7, rel=0.02)
    assert ("PTV_eval", "V95%[%]") in values
    judged = {(goal["structure"], goal["metric"]): goal for goal in said["goals"]["later"]}
    assert judged["BrachialPlex_L", "D0.1cc"]["verdict"] == "absent"
    # The goal and the table of metrics are one measurement.
    assert judged["PTV_eval", "HI"]["value"] == values["PTV_eval", "HI"]["later"]
    (gamma,) = said["gamma"]
    assert 20 < gamma["pass_percent"] < 100
    assert any(row["structure"] == "CTV" and row["dose"] == "later" for row in said["differences"])
    page = (tmp_path / "out" / "report.html").read_text()
    for words in ("not for treatment", "dose A", "later", "Gamma of later", "data:image/svg+xml"):
        assert words in page
    table = pd.read_csv(tmp_path / "out" / "dvh-later.csv")
    assert set(table["structure"]) >= {"CTV", "PTV", "Heart", "External"}
    # Nothing that is written or said tells who the patient is.
    assert where_marked(tmp_path) == []
    assert MARKER not in done.stdout + done.stderr
    refused = run(*typed, "conventional-66in33", "--out", "out", cwd=tmp_path, code=1)
    assert "--overwrite" in refused.stderr


def test_a_sum_without_the_ct(export):
    halves = "+".join(str(path) for path in export["doses"][2:])
    found = mr.evaluate(
        [f"plan={halves}"], export["sets"], metrics=["CTV:D95%,V60Gy[%],R50", "Heart: mean"], prescription_Gy=66
    )
    whole = mr.evaluate(
        [export["doses"][0]], export["sets"], metrics=["CTV:D95%,V60Gy[%],R50", "Heart: mean"], prescription_Gy=66
    )
    assert found.fractions is None
    assert whole.fractions == 33
    assert list(found.metrics["metric"]) == ["D95%", "V60Gy[%]", "R50", "mean"]
    # Equal but for the rounding of two files to 16 bits.
    assert found.metrics["plan"].to_numpy() == pytest.approx(whole.metrics["dose"].to_numpy(), rel=2e-4)
    assert any("2 doses (BEAM) added up" in note for note in found.notes.of("done"))
    assert any("Without the CT" in note for note in found.notes.of("info"))
    assert set(found.structures["origin"]) == {"drawn"}
    assert MARKER not in str(found.notes)


def test_what_is_refused(export, tmp_path):
    first, second = export["doses"][:2]
    sets = export["sets"]
    with pytest.raises(SpecError, match=r"D0\.03cc or D2%"):
        mr.evaluate([first], sets, metrics=["CTV:max"])
    with pytest.raises(SpecError, match="no structure Heert; did you mean"):
        mr.evaluate([first], sets, metrics=["Heert:mean"])
    with pytest.raises(SpecError, match="prescription"):
        mr.evaluate([first], sets, metrics=["CTV:CI"])
    with pytest.raises(SpecError, match="no structures"):
        mr.evaluate([first])
    with pytest.raises(DataError, match="no such file"):
        mr.evaluate(["nowhere.dcm"], sets)
    with pytest.raises(SpecError, match="two doses are called"):
        mr.evaluate([f"a={first}", f"a={second}"], sets)
    with pytest.raises(DataError, match="says"):
        mr.evaluate([first], sets, fractions=20)
    data = pydicom.dcmread(first)
    data.PlanOverviewSequence[0].NumberOfFractionsIncluded = 20
    data.save_as(tmp_path / "other.dcm")
    with pytest.raises(DataError, match="different fractionation"):
        mr.evaluate([first, tmp_path / "other.dcm"], sets)
    with pytest.raises(DataError, match=r"20 fraction\(s\).*33"):
        mr.evaluate([tmp_path / "other.dcm"], sets, protocol="conventional-66in33")
    data.FrameOfReferenceUID = "1.2.3"
    data.save_as(tmp_path / "far.dcm")
    with pytest.raises(DataError, match="--same-frame"):
        mr.evaluate([tmp_path / "far.dcm"], sets)
    asked = mr.evaluate([tmp_path / "far.dcm"], sets, same_frame=True, metrics=["CTV:mean"])
    assert any("that was asked for" in note for note in asked.notes.of("decide"))


def test_a_part_outside_the_dose_is_said(export, tmp_path):
    patient = dicom.read_patient(export["ct"], rtstruct=export["sets"])
    dose = made(patient)
    z = [c.z_mm for c in patient.rois["CTV"].contours]
    lower, upper = dose.grid.lower_xyz_mm, dose.grid.upper_xyz_mm
    half = dose.cropped((*lower[:2], lower[2]), (*upper[:2], (min(z) + max(z)) / 2))
    dicom.write_dose(half, patient, tmp_path / "half.dcm", "h")
    found = mr.evaluate([tmp_path / "half.dcm"], export["sets"], metrics=["CTV:volume,V1Gy[cc]"])
    row = found.structures.set_index("structure").loc["CTV"]
    outside = row["outside dose (%)"]
    assert 20 < outside < 80
    volume, above = found.metrics["dose"]
    assert above == pytest.approx(volume * (1 - outside / 100), rel=0.01)
    assert any("lies outside the grid of dose" in note for note in found.notes.of("warning"))
    slice_ = dose.cropped((*lower[:2], upper[2] - 13), (*upper[:2], upper[2] - 1))
    dicom.write_dose(slice_, patient, tmp_path / "top.dcm", "h")
    away = mr.evaluate([tmp_path / "top.dcm"], export["sets"], metrics=["CTV:mean"])
    assert np.isnan(away.metrics["dose"][0])  # nothing is known of it: that is not 0 Gy
    assert "CTV lies outside the grid of dose: not evaluated." in away.notes.of("warning")
    far = replace(slice_, grid=replace(slice_.grid, origin_xyz_mm=(5000.0, 0.0, 0.0)))
    dicom.write_dose(far, patient, tmp_path / "f.dcm", "h")
    with pytest.raises(DataError, match="do not belong together"):
        mr.evaluate([tmp_path / "f.dcm"], export["sets"])


def test_an_anonymous_copy(export, tmp_path):
    done = run("import", export["ct"], "--anonymise", "copy", "--seed", "7", "--json", cwd=tmp_path)
    said = json.loads(done.stdout)
    assert said["kinds"]["RTSTRUCT"] == 2
    assert said["kinds"]["CT"] == said["files"] - 2
    assert where_marked(tmp_path) == []
    assert MARKER not in done.stdout + done.stderr
    read = run("import", "copy", "--json", cwd=tmp_path)
    assert MARKER not in read.stdout + read.stderr
    assert run("import", export["ct"], "--anonymise", "copy", cwd=tmp_path, code=1).stderr.startswith("error:")


def test_organs_that_nobody_drew_are_said_everywhere(export, tmp_path):
    bare = tmp_path / "ct"
    bare.mkdir()
    for path in export["ct"].iterdir():
        if pydicom.dcmread(path, stop_before_pixels=True).Modality == "CT":
            (bare / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="no RTSTRUCT found"):
        mr.load_patient(bare)
    patient = mr.load_patient(bare, derive=True)
    assert {"External", "Lung_L", "Lung_R"} <= set(patient.rois)
    assert all(roi.derived for roi in patient.rois.values())
    asked = mr.load_patient(export["ct"], rtstruct=str(export["sets"]), derive=["External", "SpinalCanal"])
    assert not asked.rois["External"].derived
    found = mr.evaluate([export["doses"][0]], ct=bare, derive=("External", "Lung_L"), metrics=["Lung_L:mean"])
    assert set(found.structures["origin"]) == {"derived by software"}
    page = mr.write_evaluation(found, tmp_path / "out").read_text()
    assert "Derived by software, not drawn: External, Lung_L." in page
    with pytest.raises(SpecError, match="--ct FOLDER"):
        mr.evaluate([export["doses"][0]], export["sets"], derive=True)


def test_a_plans_report_and_its_own_files_evaluated_say_the_same(saved, result):
    """One definition of a DVH: RTDOSE and RTSTRUCT of a plan's folder, judged by its protocol."""
    found = mr.evaluate(
        [saved / "dicom" / "rtdose.dcm"], saved / "dicom" / "rtstruct.dcm", protocol="conventional-66in33"
    )
    (goals,) = found.goals.values()
    planned = result.goals.set_index(["structure", "metric"])
    evaluated = goals.set_index(["structure", "metric"]).loc[planned.index]
    assert (planned["verdict"] == evaluated["verdict"]).all()
    drawn = [name for name in result.structures if result.structures[name].drawn is not None]
    for (structure, metric), row in planned.iterrows():
        other = evaluated.loc[(structure, metric)]
        if row["verdict"] in ("absent", "void"):
            continue
        if structure in drawn and structure not in ("Cord", "External"):
            # The rounding of a dose of 16 bits; σ says that its batches were found beside it.
            assert other["raw"] == pytest.approx(row["raw"], rel=1e-3, abs=1e-3)
            assert other["sigma"] == pytest.approx(row["sigma"], rel=0.05, abs=1e-4)
        # A structure made by rule has its contours there, and voxels of 8 mm here.
        assert abs(other["value"] - row["value"]) <= 2.5 * row["sigma"] + 0.03 * abs(row["value"])
