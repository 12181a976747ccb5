"""A plan on an MR with density bands, from its files to its result: no HU curve, no metal, the bands' densities."""

import json

import numpy as np
import pydicom
import pytest

import mrlinac as mr
from mrlinac import cli, dicom

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture(scope="module")
def mr_folder(patient, tmp_path_factory):
    """The digital patient as a clinic's MR: other values, no rescale, outlines on it."""
    folder = tmp_path_factory.mktemp("mr") / "export"
    dicom.write_patient(patient, folder)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        if data.Modality == "CT":
            values = np.clip(
                (data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept) + 1000) / 2, 0, 4000
            )
            data.PixelData, data.PixelRepresentation = values.astype("<u2").tobytes(), 0
            data.Modality, data.SOPClassUID, data.file_meta.MediaStorageSOPClassUID = "MR", MR_IMAGE, MR_IMAGE
            del data.RescaleSlope, data.RescaleIntercept, data.RescaleType
            data.save_as(path)
    return folder


def test_an_mr_is_planned_on_its_bands_only(mr_folder, spec, store, tmp_path, monkeypatch, capsys):
    plan = spec.override({"patient.folder": str(mr_folder)})
    mr.import_folder(mr_folder, write=True)
    coarse = plan.override({"numerics.grid_mm": 15})
    (problem,) = mr.check(coarse, mr.patient_of(coarse)).problems
    assert "it has no HU" in problem
    # What the import proposes, uncommented: airways, lungs, and water for all the rest of the body.
    path = mr_folder / "patient.toml"
    before, tables = path.read_text(encoding="utf-8").split("# [density_bands", 1)
    bands = "\n".join(line.removeprefix("# ").removeprefix("#") for line in f"# [density_bands{tables}".splitlines())
    path.write_text(before + bands, encoding="utf-8")

    words = ["check", "demo", "--patient", str(mr_folder), "--set", "numerics.grid_mm=15", "--json"]
    monkeypatch.setattr("sys.argv", ["mrlinac", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["problems"] == []
    assert any("MR: density and material are those of the bands" in note for note in said["notes"])

    person = mr.patient_of(plan)
    assert not any("An MR holds no density" in text for text in person.notes.texts())  # it has been decided
    result = mr.make_plan(plan, person, store=store, threads=2)
    density = result.medium.density_g_cm3
    deep = {name: result.structures[name].occupancy > 0.999 for name in ("Lung_L", "Heart")}
    # Image voxels that straddle a surface share their content out evenly: next to it voxels hold a little of both.
    assert np.quantile(density[deep["Lung_L"]], (0.0, 0.5)) == pytest.approx(0.26, abs=1e-3)
    assert np.quantile(density[deep["Heart"]], (0.5, 1.0)) == pytest.approx(1.0, abs=1e-3)
    assert not any("curve" in text for text in result.notes.texts() if "never go" not in text)
    assert np.isfinite(result.dose.dose_Gy).all()
    # 12 % noise in some 400 voxels is 0.8 % of the median, and a miss beyond 1 % is not scaled away (rule 7).
    median_Gy = result.goals.set_index(["structure", "metric"]).loc[("PTV_eval", "D50%"), "value"]
    assert median_Gy == pytest.approx(66, rel=0.025)
    saved = result.save(tmp_path / "plan", figures=False)
    assert (saved / "report.html").is_file()
    written = dicom.read_dose(saved / "dicom" / "rtdose.dcm", patient=person)
    assert (written.fractions, written.dose_Gy.max() > 60) == (result.dose.fractions, True)
    assert mr.load_result(saved).ct.quantity == "MR"
