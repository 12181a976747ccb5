"""What we write: reads back equal, is legal DICOM, names nobody unless asked, and is the same every time."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import edit

from mrlinac.anatomy.contours import polygon_volume_cc
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import read_dose, read_patient, with_uids, write_dose, write_patient, write_structures
from mrlinac.dicom.dicompyler import modules
from mrlinac.dicom.write.patient import interpreted_type
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError
from mrlinac.provenance import Provenance

GRID = Grid((9, 40, 48), (2.5, 3.0, 3.0), (-70.5, -58.5, -10.0))


@pytest.fixture
def gradient() -> Dose:
    """Dose that rises along x: 30 Gy at x = 0, 0.3 Gy/mm."""
    dose = np.broadcast_to(30 + 0.3 * GRID.x_mm, GRID.shape_zyx)
    return Dose(GRID, dose.astype(np.float32), None, 33, Provenance("abc", "test"))


def test_patient_reads_back(cylinder: Patient, tmp_path: Path) -> None:
    written = write_patient(cylinder, tmp_path / "a")
    back = read_patient(tmp_path / "a")
    assert back.image.grid == cylinder.image.grid
    assert np.array_equal(back.image.values, cylinder.image.values)
    assert back.frame_uid == written.frame_uid
    assert back.slice_uids == written.slice_uids
    for name, roi in cylinder.rois.items():
        again = back.rois[name]
        assert (again.role, again.derived, again.color_rgb) == (roi.role, roi.derived, again.color_rgb)
        assert polygon_volume_cc(again) == pytest.approx(polygon_volume_cc(roi), rel=1e-4)
        if name == "Heart":  # a ring, written as one loop with a channel
            assert [c.z_mm for c in again.contours] == [c.z_mm for c in roi.contours[::2]]
            continue
        for one, other in zip(roi.contours, again.contours, strict=True):
            assert one.z_mm == other.z_mm
            assert np.abs(one.points_xy_mm - other.points_xy_mm).max() <= 0.0005001


def test_phantom_objects_belong_together_without_files(cylinder: Patient, gradient: Dose, tmp_path: Path) -> None:
    """A dose written for the phantom object lies on the CT that is written from it later."""
    write_dose(gradient, cylinder, tmp_path / "dose.dcm", "f")
    write_patient(cylinder, tmp_path / "a")
    patient = read_patient(tmp_path / "a")
    assert read_dose(tmp_path / "dose.dcm", patient=patient).grid == GRID
    assert with_uids(with_uids(cylinder)) == with_uids(cylinder)


def test_same_input_same_bytes(cylinder: Patient, gradient: Dose, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_patient(cylinder, tmp_path / name)
        write_dose(gradient, cylinder, tmp_path / name / "dose.dcm", "f")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_uids_follow_content_and_fingerprint(cylinder: Patient, gradient: Dose, tmp_path: Path) -> None:
    path = tmp_path / "d.dcm"
    uids = [
        write_dose(gradient, cylinder, path, "f"),
        write_dose(gradient, cylinder, path, "g"),
        write_dose(gradient.times(1.01), cylinder, path, "f"),
        write_dose(gradient.times(1, fractions=1), cylinder, path, "f"),
        write_structures(cylinder, cylinder.rois, path, "f"),
        write_structures(cylinder, {"CTV": cylinder.rois["CTV"]}, path, "f"),
    ]
    assert len(set(uids)) == len(uids)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
    assert write_dose(gradient, cylinder, path, "f") == uids[0]


def test_anonymous_unless_asked(folder: Path, gradient: Dose, tmp_path: Path) -> None:
    patient = read_patient(folder)
    for identify in (False, True):
        out = tmp_path / str(identify)
        write_patient(patient, out / "copy", identify=identify)
        write_dose(gradient, patient, out / "dose.dcm", "f", identify=identify)
        write_structures(patient, patient.rois, out / "rs.dcm", "f", identify=identify)
        for path in out.rglob("*.dcm"):
            ds = pydicom.dcmread(path)
            assert (b"SECRET" in path.read_bytes()) == identify
            assert (b"ID4711" in path.read_bytes()) == identify
            assert ds.PatientID == ("ID4711" if identify else patient.label)
            if path.parent == out:  # written into the patient's own frame, onto its slices
                assert ds.FrameOfReferenceUID == patient.frame_uid
                assert (ds.StudyInstanceUID == patient.study_uid) == identify
            else:
                assert (ds.FrameOfReferenceUID == patient.frame_uid) == identify
        assert not set(patient.slice_uids) & {pydicom.dcmread(p).SOPInstanceUID for p in out.rglob("CT*")}
    with pytest.raises(DataError, match="no Patient ID"):
        write_dose(gradient, replace(patient, identifiers={}), tmp_path / "x.dcm", "f", identify=True)


def test_structures_can_be_added_to_the_source_folder(folder: Path) -> None:
    patient = read_patient(folder)
    more = {**patient.rois, "PTV": replace(patient.rois["CTV"], name="PTV", derived=True)}
    write_structures(patient, more, folder / "with PTV.dcm", "f")
    again = read_patient(folder)
    assert "PTV" in again.rois
    assert again.rois["PTV"].derived
    assert any("Patient ID of the image and of the structure set differ" in note for note in again.notes.of("decide"))


def test_a_folder_with_something_in_it_is_refused(cylinder: Patient, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_patient(cylinder, tmp_path / "a")
    before = sorted(p.name for p in (tmp_path / "a").iterdir())
    with pytest.raises(DataError, match="not empty"):
        write_patient(cylinder, tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_failed_writing_leaves_nothing(cylinder: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("mrlinac.dicom.write.patient.write_structures", broken)
    with pytest.raises(OSError, match="disk full"):
        write_patient(cylinder, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_what_is_no_ct_is_refused(cylinder: Patient, tmp_path: Path) -> None:
    image = cylinder.image
    with pytest.raises(DataError, match="MR"):
        write_patient(replace(cylinder, image=replace(image, quantity="MR")), tmp_path / "a")
    with pytest.raises(DataError, match="16-bit"):
        write_patient(replace(cylinder, image=replace(image, values=image.values * 1e4)), tmp_path / "a")


# --- dose -----------------------------------------------------------------------------------------------------------


def test_dose_reads_back(cylinder: Patient, gradient: Dose, tmp_path: Path) -> None:
    write_dose(gradient, cylinder, tmp_path / "d.dcm", "f")
    back = read_dose(tmp_path / "d.dcm")
    assert back.grid == gradient.grid
    assert back.fractions == 33
    assert np.abs(back.dose_Gy - gradient.dose_Gy).max() < 1e-5 * gradient.dose_Gy.max()


def test_dose_of_nothing(cylinder: Patient, gradient: Dose, tmp_path: Path) -> None:
    write_dose(gradient.times(0), cylinder, tmp_path / "d.dcm", "f")
    assert not read_dose(tmp_path / "d.dcm").dose_Gy.any()
    with pytest.raises(DataError, match="negative"):
        write_dose(gradient.times(-1), cylinder, tmp_path / "d.dcm", "f")


def test_dose_is_plan_only_with_a_plan(cylinder: Patient, gradient: Dose, tmp_path: Path) -> None:
    write_dose(gradient, cylinder, tmp_path / "d.dcm", "f")
    ds = pydicom.dcmread(tmp_path / "d.dcm")
    assert ds.DoseSummationType == "PLAN_OVERVIEW"
    assert "ReferencedRTPlanSequence" not in ds
    assert "not for treatment" in ds.DoseComment
    write_dose(gradient, cylinder, tmp_path / "d.dcm", "f", plan_uid="2.25.1")
    ds = pydicom.dcmread(tmp_path / "d.dcm")
    assert ds.DoseSummationType == "PLAN"
    assert ds.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == "2.25.1"
    with pytest.raises(DataError, match="how many fractions"):
        read_dose(tmp_path / "d.dcm")
    assert read_dose(tmp_path / "d.dcm", fractions=20).fractions == 20


def test_frames_downwards_and_absolute_offsets(cylinder: Patient, gradient: Dose, tmp_path: Path) -> None:
    path = tmp_path / "d.dcm"
    rising = replace(gradient, dose_Gy=gradient.dose_Gy + np.arange(9, dtype=np.float32)[:, None, None])
    write_dose(rising, cylinder, path, "f")
    expected = read_dose(path)
    edit(path, GridFrameOffsetVector=[float(z) for z in GRID.z_mm])
    assert np.array_equal(read_dose(path).dose_Gy, expected.dose_Gy)
    assert read_dose(path).grid == expected.grid

    def downwards(ds: pydicom.Dataset) -> None:
        frames = np.frombuffer(ds.PixelData, "<u2").reshape(9, -1)[::-1]
        ds.PixelData = frames.tobytes()
        ds.GridFrameOffsetVector = [-2.5 * n for n in range(9)]
        ds.ImagePositionPatient = [-70.5, -58.5, 10.0]

    edit(path, downwards)
    assert np.array_equal(read_dose(path).dose_Gy, expected.dose_Gy)
    assert read_dose(path).grid == expected.grid


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"DoseUnits": "RELATIVE"}, "Dose Units (3004,0002): is RELATIVE, not GY"),
        ({"DoseGridScaling": None}, "Dose Grid Scaling (3004,000E): missing"),
        (
            {"GridFrameOffsetVector": [0, 1, 2, 3, 4, 5, 6, 6, 9]},
            "Grid Frame Offset Vector (3004,000C): does not run",
        ),
        ({"GridFrameOffsetVector": [0, 1]}, "Grid Frame Offset Vector (3004,000C): missing"),
        ({"ImageOrientationPatient": [0.8, 0.6, 0, 0, 0, 1]}, "Image Orientation (Patient) (0020,0037): is oblique"),
        ({"PixelData": b"\0\0"}, "Pixel Data (7FE0,0010): 2 bytes instead of 34560"),
        ({"FrameOfReferenceUID": "1.2"}, "Frame of Reference UID (0020,0052): is not the patient's"),
    ],
)
def test_wrong_dose(
    cylinder: Patient, gradient: Dose, tmp_path: Path, values: dict[str, object], expected: str
) -> None:
    write_dose(gradient, cylinder, tmp_path / "d.dcm", "f")
    edit(tmp_path / "d.dcm", **values)
    with pytest.raises(DataError) as caught:
        read_dose(tmp_path / "d.dcm", patient=with_uids(cylinder))
    assert expected in str(caught.value)


def test_not_a_dose(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("hello")
    with pytest.raises(DataError, match="x: "):
        read_dose(tmp_path / "x")


def test_no_loop_of_a_plane_lies_in_another(cylinder: Patient, tmp_path: Path) -> None:
    """Readers unite the loops of a plane, or take their exclusive or, or count windings: all get the ring."""
    write_structures(cylinder, cylinder.rois, tmp_path / "rs.dcm", "f")
    heart = pydicom.dcmread(tmp_path / "rs.dcm").ROIContourSequence[1]
    assert {contour.ContourGeometricType for contour in heart.ContourSequence} == {"CLOSED_PLANAR"}
    wanted = 45 * np.sin(4 * np.pi / 180) * (30**2 - 20**2)  # two regular 90-gons
    for contour in heart.ContourSequence:
        x, y, _ = np.array(contour.ContourData, float).reshape(-1, 3).T
        assert len(x) == contour.NumberOfContourPoints
        assert abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2 == pytest.approx(wanted, rel=1e-4)
    assert len(heart.ContourSequence) == len({contour.ContourData[2] for contour in heart.ContourSequence})


# --- others read it -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pydicom")
def test_dicompyler_agrees(cylinder: Patient, gradient: Dose, tmp_path: Path) -> None:
    """dicompyler-core finds the structures we wrote, their volume, and the dose we put there."""
    write_structures(cylinder, cylinder.rois, tmp_path / "rs.dcm", "f")
    write_dose(gradient, cylinder, tmp_path / "rd.dcm", "f")
    dicomparser, dvhcalc = modules()
    found = dicomparser.DicomParser(str(tmp_path / "rs.dcm")).GetStructures()
    assert {item["name"]: item["type"] for item in found.values()} == {
        "External": "EXTERNAL",
        "Heart": "ORGAN",
        "CTV": "CTV",
    }
    for number, item in found.items():
        dvh = dvhcalc.get_dvh(str(tmp_path / "rs.dcm"), str(tmp_path / "rd.dcm"), number)
        roi = cylinder.rois[item["name"]]
        # Its volume counts whole voxels of 3 mm, and treats nested loops by its own rule; ours is exact.
        assert dvh.volume == pytest.approx(polygon_volume_cc(roi), rel=0.08)
        centre = np.mean([c.points_xy_mm[:, 0].mean() for c in roi.contours])
        assert dvh.mean == pytest.approx(30 + 0.3 * centre, abs=0.3)  # half a voxel of gradient


def test_interpreted_types(cylinder: Patient) -> None:
    roi = cylinder.rois["CTV"]
    names = {"GTVp": "GTV", "IGTV": "GTV", "CTV_66": "CTV", "ITV": "CTV", "PTV": "PTV", "zPTV": "PTV", "Target": ""}
    assert {name: interpreted_type(replace(roi, name=name)) for name in names} == names


@pytest.mark.external
@pytest.mark.parametrize("tool", ["dciodvfy", "dcmdump"])
def test_validators_find_no_error(folder: Path, gradient: Dose, tmp_path: Path, tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (Debian: dicom3tools, dcmtk)")
    patient = read_patient(folder)
    for identify in (False, True):
        out = tmp_path / str(identify)
        write_patient(patient, out, identify=identify)
        write_dose(gradient, patient, out / "dose.dcm", "f", identify=identify)
        write_dose(gradient, patient, out / "dose of plan.dcm", "f", plan_uid="2.25.1", identify=identify)
        for name in ("CT_0001.dcm", "CT_0009.dcm", "RTSTRUCT.dcm", "dose.dcm", "dose of plan.dcm"):
            ran = subprocess.run([tool, str(out / name)], capture_output=True, text=True, timeout=60)
            assert ran.returncode == 0, ran.stderr
            assert "Error" not in ran.stderr
            assert tool != "dcmdump" or ("E:" not in ran.stderr and "W:" not in ran.stderr)
