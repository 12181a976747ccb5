"""The import report and patient.toml: what they say, what they keep to themselves, what they decide."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from nasty import body, dose, multi_frame, registration, save, series, shift, square, structure_set

import mrlinac as mr
from mrlinac.anatomy.patient_file import PatientFile, decisions
from mrlinac.dicom import change_patient_file, import_folder, read_patient, write_patient
from mrlinac.errors import DataError, SpecError
from mrlinac.phantoms import thorax
from mrlinac.recipe.check import patient_problems as check_patient

PLANES = (-4.0, 0.0, 4.0, 8.0)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A CT, an MR registered to it, a dose, two structure sets, and a folder and files that name somebody."""
    folder = tmp_path / "PERSON SECRET"
    ct, mri = series(), series(modality="MR", uid="1.9.300", frame="1.9.200", add=500)
    rois = {"KÖRPER": body(), "Herz": [(z, square(5)) for z in PLANES], "Tumor_c40": [(z, square(3)) for z in PLANES]}
    ct.others += [structure_set(rois, ct, types={"KÖRPER": "EXTERNAL"})]
    ct.others += [structure_set({"BODY": body()}, ct, uid="1.9.51")]
    ct.others += [dose(), registration("1.9.200", "1.9.1", shift(5, -3, 4))]
    ct.images += multi_frame(mri).images
    ct.write(folder)
    for path in list(folder.rglob("0000?")):
        path.rename(path.with_name(f"SECRET^PERSON {path.name}"))
    return folder


def test_report_lists_everything_and_names_nobody(export: Path) -> None:
    report = import_folder(export)
    kinds = sorted(row["kind"] for row in report.objects)
    assert kinds == ["CT", "MR", "RTDOSE", "RTSTRUCT", "RTSTRUCT", "registration"]
    for shown in (str(report), report._repr_html_(), json.dumps(report.as_dict())):
        assert "Herz" in shown
        assert "36×33×6 voxels of 3×2×4 mm" in shown or "36\\u00d733" in shown
        for secret in ("SECRET", "PERSON", "ID4711", "1.9.2.1", "1.9.200"):
            assert secret not in shown
    by_kind = {row["kind"]: row for row in report.objects}
    assert by_kind["RTDOSE"]["largest"] == pytest.approx(10 + 0.1 * 8.5 + 0.2 * 13.5 + 0.3 * 7, abs=0.01)
    assert by_kind["registration"]["frames"] == ["A", "B"]
    assert by_kind["MR"]["frame"] == "B"
    assert by_kind["RTSTRUCT"]["drawn_on"] == [by_kind["CT"]["key"]]
    assert {row["patient"] for row in report.objects} == {"A"}
    assert report.patient is not None
    assert not report.problems


def test_two_patients_in_one_folder_are_said(export: Path) -> None:
    other = series(uid="1.9.400", frame="1.9.401").set(PatientID="ID4712")
    other.write(export / "other")
    report = import_folder(export)
    assert {row["patient"] for row in report.objects} == {"A", "B"}
    assert any("belong to 2 patients" in text for text in report.notes.of("decide"))


def test_problems_come_all_at_once_with_what_was_found(tmp_path: Path) -> None:
    made = series().set(1, PixelSpacing=None).set(2, RescaleSlope=None).set(3, PatientPosition=None)
    made.others.append(structure_set({"External": body()}, made))
    made.write(tmp_path)
    report = import_folder(tmp_path)
    assert report.patient is None
    for tag in ("Pixel Spacing (0028,0030)", "Rescale Slope (0028,1053)", "Patient Position (0018,5100)"):
        assert any(tag in problem for problem in report.problems)
    assert len(report.objects) == 2
    with pytest.raises(DataError, match="this folder cannot be imported"):
        report.raise_problems()
    with pytest.raises(DataError) as caught:
        read_patient(tmp_path)
    assert all(problem in str(caught.value) for problem in report.problems)


# --- patient.toml ---------------------------------------------------------------------------------------------------


def test_written_once_and_the_same_patient_comes_of_it(export: Path) -> None:
    found = mr.import_folder(export, write=True)
    path = export / "patient.toml"
    assert found.file == path
    text = path.read_text(encoding="utf-8")
    assert not any(secret in text for secret in ("SECRET", "PERSON", "ID4711", "1.9."))
    again, told = mr.load_patient(path), mr.load_patient(export)
    assert list(again.rois) == list(told.rois) == ["External", "Heart", "GTVp"]
    assert np.array_equal(again.image.values, found.patient.image.values)
    assert again.decisions is None  # it says nothing yet that changes a plan
    stamp = path.stat().st_mtime_ns
    mr.import_folder(export, write=True)
    assert path.stat().st_mtime_ns == stamp
    assert path.read_text(encoding="utf-8") == text


def test_what_is_commented_out_is_valid_when_uncommented(export: Path) -> None:
    mr.import_folder(export, write=True)
    path = export / "patient.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    table = re.compile(r"# (\[|[a-z_]+\w* = )")
    path.write_text("\n".join(line[2:] if table.match(line) else line for line in lines), encoding="utf-8")
    _, told, _ = decisions(export)
    assert told.target_base == "CTV"
    assert told.couch_top_y_mm == 120.0
    assert told.derive == ("External",)
    assert told.metal is not None
    assert list(told.overrides("External", {})) == ["Stomach_gas"]


def test_a_persons_edits_and_comments_stay(export: Path) -> None:
    mr.import_folder(export, write=True)
    path = export / "patient.toml"
    edited = path.read_text(encoding="utf-8").replace('name = "GTVp"', 'name = "GTV_boost"')
    edited = edited.replace("[structures]", "# seen by the physicist\n[structures]")
    path.write_text(edited, encoding="utf-8")
    assert "GTV_boost" in mr.load_patient(export).rois
    other = next(row["key"] for row in import_folder(export).objects if row.get("rois") == 1)
    found = mr.import_folder(export, rtstruct=other, write=True)
    after = path.read_text(encoding="utf-8")
    assert "# seen by the physicist" in after
    assert f'rtstruct = "{other}"' in after
    assert 'name = "GTV_boost"' in after
    before_lines, after_lines = edited.splitlines(), after.splitlines()
    assert sum(a != b for a, b in zip(before_lines, after_lines, strict=True)) == 1
    assert list(found.patient.rois) == ["External"]


def test_roles_and_left_out_structures(export: Path) -> None:
    mr.import_folder(export, write=True)
    path = export / "patient.toml"
    text = path.read_text(encoding="utf-8")
    text = text.replace('{name = "Heart", role = "oar"}', '{name = "Heart", role = "other"}')
    text = text.replace('{name = "GTVp", role = "target"}', '{name = "GTVp", role = "target", use = false}')
    path.write_text(text, encoding="utf-8")
    patient = mr.load_patient(export)
    assert patient.rois["Heart"].role == "other"
    assert "GTVp" not in patient.rois
    assert any("'Tumor_c40' left out, as patient.toml says" in text for text in patient.notes.of("info"))


def test_wrong_file_is_refused_and_left_alone(export: Path) -> None:
    path = export / "patient.toml"
    path.write_text('serie = "01234567"\nposition = "XYZ"\n')
    with pytest.raises(SpecError) as caught:
        read_patient(export)
    assert "did you mean 'series'" in str(caught.value)
    assert "position" in str(caught.value)
    path.write_text('position = "HFS"  # sure\n')
    with pytest.raises(SpecError):
        change_patient_file(path, {"position": "XYZ"})
    assert path.read_text() == 'position = "HFS"  # sure\n'
    with pytest.raises(DataError, match="no such file"):
        read_patient(export / "nowhere.toml")


def test_file_beside_a_folder_that_cannot_be_written(export: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "case7.toml"
    path.parent.mkdir()
    mr.import_folder(export, write=True, file=path)
    assert not (export / "patient.toml").exists()
    assert list(mr.load_patient(path).rois) == ["External", "Heart", "GTVp"]


def test_structure_set_elsewhere_is_remembered(export: Path, tmp_path: Path) -> None:
    outside = tmp_path / "drawn later.dcm"
    save(
        structure_set({"External": body(), "CTV": [(z, square(4)) for z in PLANES]}, series(), uid="1.9.52"), outside
    )
    mr.import_folder(export, rtstruct=str(outside), write=True)
    assert list(mr.load_patient(export / "patient.toml").rois) == ["External", "CTV"]


def test_nothing_is_written_where_there_are_problems(tmp_path: Path) -> None:
    series().set(1, PixelSpacing=None).write(tmp_path)
    found = mr.import_folder(tmp_path, write=True)
    assert found.problems
    assert found.file is None
    assert not list(tmp_path.rglob("*.toml"))


def test_overrides_have_an_order() -> None:
    water = {"density_g_cm3": 1.0, "material": "water"}
    file = PatientFile.model_validate(
        {"density_overrides": {"Gas": water}, "density_bands": {"External": water, "Lungs": water}}
    )
    assert list(file.overrides("External", {"Heart": file.density_overrides["Gas"]})) == [
        "Gas",
        "Heart",
        "Lungs",
        "External",
    ]


def test_a_folder_that_cannot_be_written_is_still_reported(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    found = mr.import_folder(export, write=True)
    assert found.file is None
    assert any("say where: --file PATH" in text for text in found.notes.of("decide"))
    with pytest.raises(PermissionError):
        mr.import_folder(export, write=True, file=export.parent / "case.toml")


def test_loss_is_said(tmp_path: Path) -> None:
    made = series().set(LossyImageCompression="01")
    assert any(
        "compressed with loss" in text for text in read_patient(made.write(tmp_path), structures=False).notes.texts()
    )


# --- an outline that nobody drew --------------------------------------------------------------------------------------


@pytest.fixture
def without_outline(tmp_path: Path) -> Path:
    """The digital thorax, coarse, with a structure set that has a target only."""
    whole = thorax(3, spacing_zyx_mm=(8.0, 4.0, 4.0))
    write_patient(replace(whole, rois={"CTV": whole.rois["CTV"]}), tmp_path / "case")
    return tmp_path / "case"


def test_an_outline_is_derived_only_when_a_person_says_so(without_outline: Path) -> None:
    found = mr.import_folder(without_outline, write=True)
    assert list(found.patient.rois) == ["CTV"]
    assert any("No External was drawn" in text and "derive = " in text for text in found.notes.of("decide"))
    plan = mr.load_plan("unity-66in33")
    (problem,) = mr.check(plan, mr.load_patient(without_outline)).problems
    assert 'derive = ["External"] in patient.toml' in problem
    again = mr.import_folder(without_outline, derive=["External"], write=True)
    assert again.derived == ("External",)
    assert again.as_dict()["derived"] == ["External"]
    assert any("External: derived from the CT by software, not drawn" in text for text in again.notes.of("decide"))
    text = (without_outline / "patient.toml").read_text(encoding="utf-8")
    assert 'derive = ["External"]' in text.splitlines()
    person = mr.load_patient(without_outline)
    assert person.external.derived
    assert person.notes.entries == again.notes.entries
    assert check_patient(person) == []


def test_the_file_of_a_derived_outline_does_not_name_it_as_the_clinics(without_outline: Path) -> None:
    mr.import_folder(without_outline, derive=True, write=True)
    _, told, _ = decisions(without_outline)
    assert list(told.structures) == ["CTV"]
    assert "External" in told.derive
    assert mr.load_patient(without_outline).rois.keys() == {"CTV", *told.derive}


def test_a_drawn_outline_stays(without_outline: Path) -> None:
    (without_outline / "patient.toml").write_text('derive = ["External"]\n', encoding="utf-8")
    body_only = structure_set({"BODY": [(0.0, square(40)), (8.0, square(40))]}, uid="1.9.52")
    own = pydicom.dcmread(without_outline / "RTSTRUCT.dcm")
    body_only.ReferencedFrameOfReferenceSequence = own.ReferencedFrameOfReferenceSequence
    for roi in body_only.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = own.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
    save(body_only, without_outline.parent / "body.dcm")
    found = import_folder(without_outline, rtstruct=without_outline.parent / "body.dcm")
    assert found.problems == ()
    assert not found.patient.external.derived
    assert any("the drawn one stays (External)" in text for text in found.notes.texts())


def test_no_outline_and_none_to_be_derived_is_an_error(tmp_path: Path) -> None:
    for modality in ("CT", "MR"):
        export = series(modality=modality)
        export.others.append(structure_set({"Heart": body(5.0)}, export))
        found = mr.import_folder(export.write(tmp_path / modality), write=True)
        assert found.patient is None
        assert any("no External, and none c" in problem for problem in found.problems)
        assert not (tmp_path / modality / "patient.toml").exists()
    (tmp_path / "MR" / "patient.toml").write_text('derive = ["External"]\n', encoding="utf-8")
    assert any("from a CT in HU only" in problem for problem in import_folder(tmp_path / "MR").problems)
