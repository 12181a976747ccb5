"""The real lung CT and files of commercial systems."""

from pathlib import Path

import numpy as np
import pytest

from mrlinac.anatomy.contours import polygon_volume_cc
from mrlinac.dicom import read_dose, read_patient
from mrlinac.errors import DataError

pytestmark = pytest.mark.data

# Volumes as shared with the data set (cc), from voxel counts.
STATED_cc = {
    "External": 22516,
    "Lung_L": 846,
    "Lung_R": 1413,
    "Lungs-GTV": 2259,
    "Heart": 744,
    "SpinalCord": 28,
    "SpinalCanal": 76,
    "Esophagus": 52,
    "Trachea": 29,
    "GreatVes": 292,
    "GTVp": 67.6,
    "GTVn": 6.4,
    "CTV": 172.7,
}


def test_planning_structures(real_ct: Path, real_data: Path) -> None:
    patient = read_patient(real_ct, rtstruct=real_data / "lung-4d-113" / "rtstruct-planning.dcm")
    grid = patient.image.grid
    assert grid.shape_zyx == (99, 512, 512)
    assert grid.spacing_zyx_mm == pytest.approx((3.0, 0.9766, 0.9766))
    assert grid.origin_xyz_mm == (-250.0, -163.019, -1132.0)
    assert len(patient.rois) == 15
    for name, stated in STATED_cc.items():
        assert polygon_volume_cc(patient.rois[name]) == pytest.approx(stated, rel=0.02), name
    assert float(patient.image.values.min()) == -1000
    assert any("6878 voxels are saturated at 2976 HU" in note for note in patient.notes.of("decide"))
    assert any("No tube voltage" in note for note in patient.notes.of("decide"))


def test_original_structures(real_ct: Path, real_data: Path) -> None:
    patient = read_patient(real_ct, rtstruct=real_data / "lung-4d-113" / "rtstruct-original.dcm")
    assert {name: (roi.original_name, roi.role) for name, roi in patient.rois.items()} == {
        "GTVp": ("Tumor_c40", "target"),
        "GTVn": ("LN_c40", "target"),
        "Carina": ("Carina_c40", "oar"),
        "Vertebra": ("Vertebra_c40", "oar"),
    }
    assert polygon_volume_cc(patient.rois["GTVp"]) == pytest.approx(67.6, rel=0.005)
    assert any("One External is needed" in note for note in patient.notes.of("decide"))


def test_archive_is_not_a_folder(real_data: Path) -> None:
    with pytest.raises(DataError, match="no CT or MR slices found"):
        read_patient(real_data / "lung-4d-113")
    with pytest.raises(DataError, match="Unpack it first"):
        read_patient(real_data / "lung-4d-113" / "ct.tar.xz")


def test_files_of_other_systems(real_data: Path) -> None:
    others = real_data / "dicom-from-tps"
    with pytest.raises(DataError, match=r"1 usable slice"):
        read_patient(others / "eclipse-breast")
    dose = read_dose(others / "raystation" / "rtdose.dcm", fractions=1)
    assert dose.grid.shape_zyx == (5, 44, 32)
    assert 0 < float(dose.dose_Gy.max()) < 100
    turned = read_dose(others / "eclipse-dose" / "RD.TBB_feet_in_supine.dcm", fractions=1)
    assert turned.grid.shape_zyx == (81, 101, 101)
    # Its first voxel is the patient's leftmost, most anterior and (feet first) highest one.
    assert turned.grid.origin_xyz_mm == pytest.approx((99.904 - 200, -99.383, 100 - 200), abs=0.01)
    y_mm = turned.grid.position_xyz_mm(np.argwhere(turned.dose_Gy > 0.9 * turned.dose_Gy.max()))[:, 1]
    assert y_mm.max() < 20  # the beam comes from anterior: the hottest part lies towards it
    with pytest.raises(DataError, match="no CT or MR slices found"):
        read_patient(others / "monaco")
