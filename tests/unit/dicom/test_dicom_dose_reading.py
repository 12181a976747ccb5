"""RTDOSE as other systems store it: turned, uneven, of 32 bits; structure sets without their CT."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import edit

from mrlinac.anatomy.contours import polygon_volume_cc
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import (
    frames_of_structure_set,
    read_dose,
    read_dose_object,
    read_patient,
    read_structure_set,
    with_uids,
    write_dose,
)
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError
from mrlinac.provenance import Provenance

GRID = Grid((5, 6, 7), (4.0, 3.0, 2.0), (-6.0, -7.5, -8.0))


@pytest.fixture
def stored(cylinder: Patient, tmp_path: Path) -> tuple[Dose, Path]:
    values = np.arange(GRID.size, dtype=np.float32).reshape(GRID.shape_zyx)
    write_dose(Dose(GRID, values, None, 33, Provenance("t", "t")), cylinder, tmp_path / "d.dcm", "f")
    return read_dose(tmp_path / "d.dcm"), tmp_path / "d.dcm"


TURNS = {
    "feet first supine": ([-1, 0, 0, 0, 1, 0], (2, 1, 0)),
    "head first prone": ([-1, 0, 0, 0, -1, 0], (2, 1, 0)),
    "feet first prone": ([1, 0, 0, 0, -1, 0], (2, 1, 0)),
    "decubitus": ([0, 1, 0, -1, 0, 0], (2, 0, 1)),
    "sagittal frames": ([0, 1, 0, 0, 0, -1], (0, 2, 1)),
    "coronal frames": ([1, 0, 0, 0, 0, -1], (1, 2, 0)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_a_dose_stored_along_other_axes_is_the_same_dose(stored, turn: str) -> None:
    """Each is written by the definition of the tags: stored voxel (f, r, c) lies at IPP + c·row + r·column + f·normal."""
    expected, path = stored
    cosines, axes = TURNS[turn]
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    directions = (np.cross(row, column), column, row)
    spacing = np.array(GRID.spacing_zyx_mm)[::-1]
    values = expected.dose_Gy
    stored_values = np.transpose(values, [2 - axis for axis in axes])
    first = np.array(GRID.origin_xyz_mm)
    last = np.array([GRID.x_mm[-1], GRID.y_mm[-1], GRID.z_mm[-1]])
    corner = first.copy()
    for stored_axis, (axis, direction) in enumerate(zip(axes, directions, strict=True)):
        if direction[axis] < 0:
            stored_values = np.flip(stored_values, stored_axis)
            corner[axis] = last[axis]

    def rewrite(ds: pydicom.Dataset) -> None:
        scaling = float(ds.DoseGridScaling)
        ds.Rows, ds.Columns, ds.NumberOfFrames = stored_values.shape[1], stored_values.shape[2], len(stored_values)
        ds.PixelSpacing = [float(spacing[axes[1]]), float(spacing[axes[2]])]
        ds.GridFrameOffsetVector = [float(spacing[axes[0]]) * n for n in range(len(stored_values))]
        ds.ImageOrientationPatient = cosines
        ds.ImagePositionPatient = [float(v) for v in corner]
        ds.PixelData = np.rint(stored_values / scaling).astype("<u2").tobytes()

    edit(path, rewrite)
    found = read_dose_object(path)
    assert found.dose.grid == expected.grid
    assert found.dose.dose_Gy == pytest.approx(values, rel=1e-6)
    assert any("turned" in note for note in found.notes.of("done"))


def test_absolute_offsets_of_a_feet_first_dose(stored) -> None:
    expected, path = stored
    top = float(GRID.z_mm[-1])

    def feet_first(ds: pydicom.Dataset) -> None:
        values = np.frombuffer(ds.PixelData, "<u2").reshape(GRID.shape_zyx)[::-1, :, ::-1]
        ds.PixelData = values.tobytes()
        ds.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [float(GRID.x_mm[-1]), float(GRID.y_mm[0]), top]
        ds.GridFrameOffsetVector = [float(z) for z in GRID.z_mm[::-1]]

    edit(path, feet_first)
    found = read_dose(path)
    assert found.grid == expected.grid
    assert np.array_equal(found.dose_Gy, expected.dose_Gy)


def test_uneven_frames_are_put_on_even_ones(stored) -> None:
    _, path = stored
    places = np.array([0.0, 2.0, 4.0, 8.0, 12.0])

    def rewrite(ds: pydicom.Dataset) -> None:
        ds.GridFrameOffsetVector = [float(p) for p in places]
        values = np.broadcast_to((1000 * places).reshape(-1, 1, 1), GRID.shape_zyx)
        ds.PixelData = values.astype("<u2").tobytes()
        ds.DoseGridScaling = "0.001"

    edit(path, rewrite)
    found = read_dose_object(path)
    assert found.dose.grid.shape_zyx == (7, 6, 7)
    assert found.dose.grid.spacing_zyx_mm[0] == 2.0
    assert found.dose.dose_Gy[:, 0, 0] == pytest.approx(2.0 * np.arange(7))
    assert any("2 to 4 mm apart" in note for note in found.notes.of("done"))


def test_32_bits(stored) -> None:
    expected, path = stored

    def rewrite(ds: pydicom.Dataset) -> None:
        values = np.frombuffer(ds.PixelData, "<u2").astype("<u4")
        ds.PixelData = (values * 60000).tobytes()
        ds.BitsAllocated = ds.BitsStored = 32
        ds.HighBit = 31
        ds.DoseGridScaling = f"{float(ds.DoseGridScaling) / 60000:.10g}"

    edit(path, rewrite)
    assert read_dose(path).dose_Gy == pytest.approx(expected.dose_Gy, rel=1e-6)


def test_what_kind_of_dose(stored) -> None:
    _, path = stored
    edit(path, DoseType="EFFECTIVE", DoseSummationType="BEAM", PlanOverviewSequence=None)
    found = read_dose_object(path)
    assert found.summation == "BEAM"
    assert found.fractions is None
    assert found.dose.fractions == 1
    assert any("EFFECTIVE" in note for note in found.notes.of("warning"))
    with pytest.raises(DataError, match="how many fractions"):
        read_dose(path)
    edit(path, DoseType="ERROR")
    with pytest.raises(DataError, match="is ERROR"):
        read_dose_object(path)


def test_structures_without_their_ct(cylinder: Patient, folder: Path) -> None:
    whole = read_patient(folder)
    path = next(p for p in folder.iterdir() if pydicom.dcmread(p).Modality == "RTSTRUCT")
    rois, notes = read_structure_set(path)
    assert list(rois) == list(whole.rois)
    for name, roi in rois.items():
        assert polygon_volume_cc(roi) == pytest.approx(polygon_volume_cc(whole.rois[name]))
        assert roi.slice_spacing_mm == 2.5
    assert not any("field of view cuts" in note for note in notes.of("warning"))
    assert read_structure_set(folder)[0].keys() == rois.keys()
    assert frames_of_structure_set(path) == {with_uids(replace(cylinder)).frame_uid}
    with pytest.raises(DataError, match="frame of reference"):
        read_structure_set(path, frame_uid="1.2.3")
    with pytest.raises(DataError, match="not an RTSTRUCT"):
        read_structure_set(next(p for p in folder.iterdir() if pydicom.dcmread(p).Modality == "CT"))
