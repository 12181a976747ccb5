"""Small files as commercial systems wrote them."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mrlinac.dicom import import_folder, read_dose, read_patient

VENDORS = Path(__file__).parents[2] / "data" / "dicom" / "vendors"


def test_every_file_is_described() -> None:
    report = import_folder(VENDORS)
    told = {row["text"] for row in report.objects}
    assert sum("ASYMY and MLCX of 80 pairs, HFS" in text for text in told) == 1  # two plans of one make-up
    assert any("21×21×11 voxels of 10×10×20 mm, 32 bits" in text for text in told)
    assert any(text.startswith("10 ROIs (4 of known name)") for text in told)
    assert report.patient is None
    assert any("1 usable slice(s)" in problem for problem in report.problems)


def test_feet_first_dose_of_eclipse() -> None:
    """The same voxels, however the file orders them: x falls along its rows, z along its frames."""
    path = VENDORS / "eclipse_rtdose_feet_first.dcm"
    dose = read_dose(path, fractions=1)
    ds = pydicom.dcmread(path)
    raw = np.frombuffer(ds.PixelData, "<u4").reshape(11, 21, 21) * float(ds.DoseGridScaling)
    x, y, z = (float(v) for v in ds.ImagePositionPatient)
    for frame, row, column in ((0, 0, 0), (3, 7, 12), (10, 20, 20)):
        place = np.array([x - 10 * column, y + 10 * row, z - 20 * frame])
        index = tuple(np.rint(dose.grid.index_zyx(place)).astype(int))
        assert np.allclose(dose.grid.position_xyz_mm(np.array(index, float)), place)
        assert dose.dose_Gy[index] == pytest.approx(raw[frame, row, column], rel=1e-6)


def test_structures_of_eclipse(tmp_path: Path) -> None:
    """The CT slice repeated at the structure set's planes: names, roles and every contour on a slice."""
    ct = pydicom.dcmread(VENDORS / "eclipse_ct.dcm")
    for number in range(9):
        one = deepcopy(ct)
        one.SOPInstanceUID = f"1.9.{number}"
        one.ImagePositionPatient[2] = -20.4407 + 3 * number
        one.save_as(tmp_path / f"{number}")
    pydicom.dcmread(VENDORS / "eclipse_rtstruct.dcm").save_as(tmp_path / "set")
    patient = read_patient(tmp_path)
    assert {"External", "Heart", "Lung_L"} <= set(patient.rois)
    assert {contour.z_mm for contour in patient.rois["Heart"].contours} <= set(patient.image.grid.z_mm)
    assert not any("between the image's slices" in note for note in patient.notes.texts())
    assert any(
        "without a closed contour, left out: " in note and "'Areola'" in note for note in patient.notes.of("warning")
    )
    assert any("refers to" in note and "not among" in note for note in patient.notes.of("warning"))
