"""Nasty contours, names and doses; volumes against closed forms."""

from pathlib import Path

import numpy as np
import pytest
from nasty import AXIAL, Export, body, dose, save, series, square, structure_set
from pydicom.dataset import Dataset

from mrlinac.anatomy.contours import occupancy, polygon_volume_cc
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import read_dose, read_dose_object, read_patient
from mrlinac.errors import DataError

PLANES = (-4.0, 0.0, 4.0, 8.0)


def export_with(rois: dict, **options: object) -> Export:
    export = series()
    export.others.append(structure_set({"External": body(), **rois}, export, **options))
    return export


def read(rois: dict, folder: Path, **options: object) -> Patient:
    return read_patient(export_with(rois, **options).write(folder))


def said(patient: Patient, text: str) -> bool:
    return any(text in note.text for note in patient.notes.entries)


def volumes_cc(patient: Patient, name: str) -> tuple[float, float]:
    """Volume of the polygons, and by occupancy on a fine grid."""
    grid = Grid.covering((-20, -20, -12), (20, 20, 16), (1.0, 0.5, 0.5))
    inside = float(occupancy(patient.rois[name], grid).sum(dtype=float)) * grid.voxel_cc
    return polygon_volume_cc(patient.rois[name]), inside


# A keyhole: the outer square, then the channel from its first corner to the hole's, round the hole the other way, and back.
OUTER, HOLE = square(10), square(5)
CHANNEL = [*OUTER, OUTER[0], HOLE[0], *HOLE[:0:-1], HOLE[0], OUTER[0]]


@pytest.mark.parametrize(
    ("loops", "area_mm2"),
    [
        ([square(10), square(5)], 300),  # a hole
        ([square(10), square(5), square(2)], 316),  # an island in the hole
        ([CHANNEL], 300),  # a keyhole
        ([square(4, -6), square(4, 6)], 128),  # two parts
        ([square(10)[::-1], square(5)], 300),  # directions do not matter
        ([[(-5, -5), (5, 5), (5, -5), (-5, 5)]], 50),  # crosses itself: two triangles
    ],
)
def test_loops_of_a_plane(tmp_path: Path, loops: list, area_mm2: float) -> None:
    patient = read({"Heart": [(z, loop) for z in PLANES for loop in loops]}, tmp_path)
    wanted = area_mm2 * 4 * len(PLANES) / 1000
    polygons, inside = volumes_cc(patient, "Heart")
    assert polygons == pytest.approx(wanted, rel=1e-6)
    assert inside == pytest.approx(wanted, rel=5e-3)
    assert said(patient, "cross themselves") == (area_mm2 == 50)


def test_a_loop_present_twice_does_not_cancel(tmp_path: Path) -> None:
    turned = square(10)[2:] + square(10)[:2]
    patient = read({"Heart": [(z, loop) for z in PLANES for loop in (square(10), turned[::-1])]}, tmp_path)
    assert volumes_cc(patient, "Heart")[0] == pytest.approx(400 * 16 / 1000)
    assert said(patient, "'Heart': 4 contour(s) present twice taken once.")


def test_loops_that_overlap_in_part_are_for_a_person(tmp_path: Path) -> None:
    patient = read({"Heart": [(z, square(6, x)) for z in PLANES for x in (-3, 3)]}, tmp_path)
    assert said(patient, "'Heart': 4 pair(s) of contours of one plane overlap in part")


def test_loops_that_touch_do_not_overlap(tmp_path: Path) -> None:
    patient = read({"Heart": [(z, square(5, x)) for z in PLANES for x in (-5, 5)]}, tmp_path)
    assert not said(patient, "overlap in part")
    assert volumes_cc(patient, "Heart")[0] == pytest.approx(200 * 16 / 1000)


def test_xor_type_and_points(tmp_path: Path) -> None:
    rois = {"Heart": [(z, square(5)) for z in PLANES], "Isocenter": [(0.0, [(1.0, 2.0)])]}
    patient = read(rois, tmp_path, kinds={"Heart": "CLOSEDPLANAR_XOR", "Isocenter": "POINT"})
    assert "Heart" in patient.rois
    assert "Isocenter" not in patient.rois
    assert said(patient, "1 structure(s) of contours that enclose nothing (POINT), left out: 'Isocenter'.")


def test_contours_off_the_planes_keep_their_place(tmp_path: Path) -> None:
    patient = read({"Heart": [(z + 1.3, square(5)) for z in PLANES]}, tmp_path)
    assert [c.z_mm for c in patient.rois["Heart"].contours] == pytest.approx([z + 1.3 for z in PLANES])
    assert said(patient, "'Heart': 4 contour(s) between the image's slices")
    assert volumes_cc(patient, "Heart")[1] == pytest.approx(100 * 16 / 1000, rel=5e-3)


def test_contours_missing_on_a_slice(tmp_path: Path) -> None:
    patient = read({"Heart": [(z, square(5)) for z in (-8, -4, 0, 8, 12)]}, tmp_path)
    assert volumes_cc(patient, "Heart")[0] == pytest.approx(100 * 24 / 1000)
    assert said(patient, "'Heart' has no contour on 1 plane(s) between others")


def test_coordinates_that_are_absurd(tmp_path: Path) -> None:
    """Part of a structure would pass for all of it: the structure is left out whole, the others are read."""
    loops = [*[(z, square(5)) for z in PLANES], (12.0, [(0, 0), (1e6, 0), (0, 5)])]
    patient = read({"Heart": loops, "Liver": [(z, square(5)) for z in PLANES]}, tmp_path)
    assert set(patient.rois) == {"External", "Liver"}
    assert said(
        patient, "'Heart' is damaged and left out whole: Contour Data (3006,0050): contour 5 has a point farther"
    )


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charset", "name", "wanted"),
    [
        ("ISO_IR 100", "Rückenmark", "SpinalCord"),
        ("ISO_IR 192", "Спинной мозг", "SpinalCord"),
        ("ISO_IR 144", "Сердце", "Heart"),
        ("GB18030", "左肺", "Lung_L"),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", "脊髄", "SpinalCord"),
        ("ISO_IR 192", "CŒUR", "Heart"),
    ],
)
def test_names_in_any_character_set(tmp_path: Path, charset: str, name: str, wanted: str) -> None:
    export = series()
    made = structure_set({"External": body(), name: [(z, square(5)) for z in PLANES]}, export)
    made.SpecificCharacterSet = charset.split("\\") if "\\" in charset else charset
    export.others.append(made)
    assert read_patient(export.write(tmp_path)).rois[wanted].original_name == name


@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_names_without_a_character_set(tmp_path: Path, coding: str) -> None:
    """Files that name none hold UTF-8 or Latin-1 all the same."""
    export = series()
    made = structure_set({"External": body(), "PLACEHOLDER": [(z, square(5)) for z in PLANES]}, export)
    made.SpecificCharacterSet = None
    export.write(tmp_path)
    save(made, tmp_path / "set")
    wanted = "Rückenmark".encode(coding)
    data = (tmp_path / "set").read_bytes()
    padded = wanted + b" " * (12 - len(wanted))
    changed = data.replace(b"\x0c\0\0\0PLACEHOLDER ", b"\x0c\0\0\0" + padded)
    assert changed != data
    (tmp_path / "set").write_bytes(changed)
    assert read_patient(tmp_path).rois["SpinalCord"].original_name == "Rückenmark"


# --- doses ----------------------------------------------------------------------------------------------------------

TURNS = [
    AXIAL,
    (-1, 0, 0, 0, 1, 0),
    (-1, 0, 0, 0, -1, 0),
    (1, 0, 0, 0, -1, 0),
    (0, 1, 0, -1, 0, 0),
    (0, -1, 0, -1, 0, 0),
    (1, 0, 0, 0, 0, -1),
    (0, 1, 0, 0, 0, -1),
]


def checked(ds: Dataset, path: Path) -> object:
    """A dose whose every voxel has the value of the place it lies in."""
    save(ds, path)
    read_back = read_dose(path)
    grid = read_back.grid
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    assert np.max(np.abs(read_back.dose_Gy - (10 + 0.1 * x + 0.2 * y + 0.3 * z))) < 0.0051
    return read_back


@pytest.mark.parametrize("axes", TURNS)
@pytest.mark.parametrize("bits", [16, 32])
def test_dose_of_any_orientation(tmp_path: Path, axes: tuple[int, ...], bits: int) -> None:
    checked(dose(axes=axes, bits=bits, scaling="0.01" if bits == 16 else "0.0001"), tmp_path / "d")


def test_dose_offsets_that_fall(tmp_path: Path) -> None:
    checked(dose(offsets=(0, -4, -8, -12)), tmp_path / "d")


def test_dose_offsets_that_are_coordinates(tmp_path: Path) -> None:
    checked(dose(absolute=True), tmp_path / "d")


def test_uneven_dose_planes_are_interpolated_and_said(tmp_path: Path) -> None:
    found = checked(dose(offsets=(0, 2, 4, 8, 12, 14)), tmp_path / "d")
    assert found.grid.spacing_zyx_mm[0] == pytest.approx(2)
    assert found.grid.shape_zyx[0] == 8
    (told,) = read_dose_object(tmp_path / "d").notes.of("done")
    assert told.startswith("The frames are 2 to 4 mm apart: put on even 2 mm, linear between neighbours.")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"GridFrameOffsetVector": ["0", "4", "2", "12"]}, "does not run in one direction"),
        ({"GridFrameOffsetVector": ["3", "7", "11", "15"]}, "starts at 3: neither zero nor the z"),
        ({"DoseGridScaling": "1000"}, "Dose Grid Scaling (3004,000E): makes doses up to"),
        ({"PixelSpacing": ["1e-5", "2"]}, "Pixel Spacing (0028,0030): absurd"),
        ({"ImagePositionPatient": ["1e8", "0", "0"]}, "missing or not 3 sensible numbers"),
        ({"Rows": 60000, "Columns": 60000}, "absurd"),
    ],
)
def test_nonsense_doses_are_refused(tmp_path: Path, change: dict, expected: str) -> None:
    ds = dose()
    for keyword, value in change.items():
        setattr(ds, keyword, value)
    save(ds, tmp_path / "d")
    with pytest.raises(DataError) as caught:
        read_dose(tmp_path / "d")
    assert expected in str(caught.value)


def test_dose_beside_the_patient_is_refused(tmp_path: Path) -> None:
    patient = read({"Heart": [(0.0, square(5))]}, tmp_path / "p")
    ds = dose()
    save(ds, tmp_path / "d")
    assert read_dose(tmp_path / "d", patient=patient).fractions == 1
    ds.ImagePositionPatient = ["500", "0", "0"]
    save(ds, tmp_path / "far")
    with pytest.raises(DataError, match="places the whole dose outside the patient's image"):
        read_dose(tmp_path / "far", patient=patient)
