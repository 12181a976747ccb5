"""Nothing a structure set says twice is lost: items, observations, numbers, names, loops and planes."""

from pathlib import Path

import numpy as np
import pytest
from nasty import Export, body, save, series, square, structure_set
from pydicom.dataset import Dataset

from mrlinac.anatomy.contours import occupancy, polygon_volume_cc
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import read_patient, read_structure_set
from mrlinac.dicom.patient_toml import write_patient_file
from mrlinac.dicom.problems import Findings
from mrlinac.dicom.read.import_report import import_folder
from mrlinac.dicom.read.structures import read_structures
from mrlinac.dicom.scan import examine
from mrlinac.errors import DataError

PLANES = (-4.0, 0.0, 4.0, 8.0)
STEP_mm = 4.0


def set_of(rois: dict, **options: object) -> tuple[Export, Dataset]:
    export = series()
    made = structure_set({"External": body(), **rois}, export, **options)
    export.others.append(made)
    return export, made


def slabs(half: float, planes: tuple[float, ...] = PLANES, x: float = 0.0) -> list:
    return [(z, square(half, x)) for z in planes]


def cc(patient: Patient, name: str) -> float:
    return polygon_volume_cc(patient.rois[name])


def said(patient: Patient, text: str) -> bool:
    return any(text in note.text for note in patient.notes.entries)


def item_of(contours: list, number: int) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber, item.ROIDisplayColor, item.ContourSequence = number, [0, 0, 255], contours
    return item


# --- items of the ROI Contour Sequence --------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 2, 3])
def test_contours_spread_over_several_items_are_one_structure(tmp_path: Path, first: int) -> None:
    export, made = set_of({"CTV": slabs(5)})
    contours = list(made.ROIContourSequence[1].ContourSequence)
    made.ROIContourSequence[1].ContourSequence = contours[:first]
    made.ROIContourSequence.append(item_of(contours[first:], 2))
    patient = read_patient(export.write(tmp_path))
    assert cc(patient, "CTV") == pytest.approx(100 * STEP_mm * len(PLANES) / 1000)
    assert said(patient, "spread over several items of the ROI Contour Sequence: 'CTV' (2).")


def test_contours_of_no_listed_structure_are_said(tmp_path: Path) -> None:
    export, made = set_of({"CTV": slabs(5), "Heart": slabs(3)})
    made.ROIContourSequence[2].ReferencedROINumber = 9
    patient = read_patient(export.write(tmp_path))
    assert set(patient.rois) == {"External", "CTV"}
    assert said(patient, "4 contour(s) of ROI Number(s) that the structure set does not list (9): left out.")
    assert said(patient, "1 structure(s) without a closed contour, left out: 'Heart'.")


# --- observations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("types", [("ORGAN", ""), ("", "ORGAN"), ("ORGAN", "ORGAN")])
def test_an_observation_that_says_nothing_takes_no_type_away(tmp_path: Path, types: tuple[str, str]) -> None:
    export, made = set_of({"Xyz": slabs(5)}, types={"Xyz": types[0]})
    more = Dataset()
    more.ObservationNumber, more.ReferencedROINumber, more.RTROIInterpretedType = 9, 2, types[1]
    made.RTROIObservationsSequence.append(more)
    patient = read_patient(export.write(tmp_path))
    assert patient.rois["Xyz"].role == "oar"
    assert not said(patient, "several observations")


def test_observations_that_contradict_one_another_are_for_a_person(tmp_path: Path) -> None:
    export, made = set_of({"Xyz": slabs(5)}, types={"Xyz": "ORGAN"})
    more = Dataset()
    more.ObservationNumber, more.ReferencedROINumber, more.RTROIInterpretedType = 9, 2, "PTV"
    made.RTROIObservationsSequence.append(more)
    patient = read_patient(export.write(tmp_path))
    assert patient.rois["Xyz"].role == "oar"
    assert said(patient, "'Xyz' is typed ORGAN and PTV by several observations: the first is taken.")


# --- numbers and names ------------------------------------------------------------------------------------------------


def test_two_structures_of_one_number_are_left_out_and_the_rest_is_read(tmp_path: Path) -> None:
    export, made = set_of({"CTV": slabs(5), "Heart": slabs(4), "Liver": slabs(3)})
    made.StructureSetROISequence[3].ROINumber = 3
    made.ROIContourSequence[3].ReferencedROINumber = 3
    patient = read_patient(export.write(tmp_path))
    assert set(patient.rois) == {"External", "CTV"}
    assert said(
        patient, "'Heart', 'Liver' share ROI Number 3, so that their contours cannot be told apart: left out."
    )
    assert not said(patient, "does not list")


def test_a_structure_listed_twice_is_one(tmp_path: Path) -> None:
    export, made = set_of({"CTV": slabs(5)})
    made.StructureSetROISequence.append(made.StructureSetROISequence[1])
    patient = read_patient(export.write(tmp_path))
    assert cc(patient, "CTV") == pytest.approx(100 * STEP_mm * len(PLANES) / 1000)
    assert said(patient, "'CTV' is listed 2 times under one ROI Number: taken once.")


def test_a_structure_without_a_name_gets_one(tmp_path: Path) -> None:
    export, made = set_of({"CTV": slabs(5), "PLACE": slabs(3)})
    made.StructureSetROISequence[2].ROIName = ""
    patient = read_patient(export.write(tmp_path))
    assert cc(patient, "ROI 3") == pytest.approx(36 * STEP_mm * len(PLANES) / 1000)
    assert said(patient, "The structure of ROI Number 3 has no name: called 'ROI 3'.")


def test_a_structure_without_a_number_is_left_out(tmp_path: Path) -> None:
    export, made = set_of({"CTV": slabs(5), "Heart": slabs(3)})
    made.StructureSetROISequence[2].ROINumber = None
    patient = read_patient(export.write(tmp_path))
    assert set(patient.rois) == {"External", "CTV"}
    assert said(patient, "'Heart' has no ROI Number")


@pytest.mark.parametrize("empty_first", [True, False])
def test_an_empty_twin_takes_no_name(tmp_path: Path, empty_first: bool) -> None:
    rois = {"CTV": [], "ctv": slabs(5)} if empty_first else {"ctv": slabs(5), "CTV": []}
    export, _ = set_of(rois)
    patient = read_patient(export.write(tmp_path))
    assert set(patient.rois) == {"External", "CTV"}
    assert cc(patient, "CTV") == pytest.approx(100 * STEP_mm * len(PLANES) / 1000)
    assert said(patient, "1 structure(s) without a closed contour, left out: 'CTV'.")
    assert not said(patient, "is already")


def test_one_sentence_counts_and_names_empty_structures(tmp_path: Path) -> None:
    export, _ = set_of({"CTV": slabs(5), **{f"template_{k}": [] for k in range(40)}})
    patient = read_patient(export.write(tmp_path))
    about = [note.text for note in patient.notes.entries if "template_" in note.text]
    assert len(about) == 1
    assert about[0].startswith("40 structure(s) without a closed contour, left out: 'template_0', ")
    assert "'template_39'" in about[0]


@pytest.mark.parametrize("names", [("GTV", "GTV"), ("GTV", "gtv"), ("GTV", "GTV_"), ("gtv ", "G T V")])
def test_names_that_are_one_are_told_apart_through_patient_toml_too(tmp_path: Path, names: tuple[str, str]) -> None:
    export, made = set_of({"CTV": slabs(9), "one": slabs(6), "two": slabs(2)})
    made.StructureSetROISequence[2].ROIName, made.StructureSetROISequence[3].ROIName = names
    folder = export.write(tmp_path / "files")
    first = read_patient(folder)
    volumes = {name: cc(first, name) for name in first.rois if name.upper().startswith("GTV")}
    wanted = [half**2 * 4 * STEP_mm * len(PLANES) / 1000 for half in (6, 2)]
    assert sorted(volumes.values(), reverse=True) == pytest.approx(wanted)
    report = import_folder(folder)
    assert report.patient is not None
    used = report.used
    write_patient_file(
        report.patient, folder / "patient.toml", folder, series_key=str(used["series"]), rtstruct=used["rtstruct"]
    )
    again = read_patient(folder)
    assert {name: cc(again, name) for name in volumes} == pytest.approx(volumes)
    assert set(again.rois) == set(first.rois)
    assert not said(again, "is already")
    assert not said(again, "patient.toml speaks of")


def test_patient_toml_can_rename_one_of_two_of_a_name(tmp_path: Path) -> None:
    export, made = set_of({"one": slabs(6), "two": slabs(2)})
    for roi in list(made.StructureSetROISequence)[1:]:
        roi.ROIName = "GTV"
    folder = export.write(tmp_path)
    text = '[structures]\n"GTV [ROI 3]" = { name = "GTVn", role = "target" }\n"GTV" = { name = "GTVp", role = "target" }\n'
    (folder / "patient.toml").write_text(text)
    patient = read_patient(folder)
    assert cc(patient, "GTVp") > cc(patient, "GTVn") == pytest.approx(16 * STEP_mm * len(PLANES) / 1000)


def test_two_structure_sets_of_one_uid_are_for_a_person(tmp_path: Path) -> None:
    export, _ = set_of({"CTV": slabs(5)})
    other = structure_set({"External": body(), "CTV": slabs(2)}, export)
    save(other, tmp_path / "other")
    export.write(tmp_path)
    with pytest.raises(DataError, match="is there twice, with one SOP Instance UID and different contents"):
        read_patient(tmp_path)
    patient = read_patient(tmp_path, rtstruct="other")
    assert cc(patient, "CTV") == pytest.approx(16 * STEP_mm * len(PLANES) / 1000)


# --- contours of no use -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", [0, None])
def test_a_contour_without_points_is_left_out(tmp_path: Path, stated: int | None) -> None:
    export, made = set_of({"CTV": slabs(5)})
    bad = Dataset()
    bad.ContourGeometricType, bad.NumberOfContourPoints, bad.ContourData = "CLOSED_PLANAR", stated, None
    made.ROIContourSequence[1].ContourSequence.append(bad)
    patient = read_patient(export.write(tmp_path))
    assert cc(patient, "CTV") == pytest.approx(100 * STEP_mm * len(PLANES) / 1000)
    assert said(patient, "'CTV': 1 contour(s) without any point left out.")


# --- geometry with a tolerance ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift_mm", [0.0, 0.01, 0.05, 0.09])
@pytest.mark.parametrize("turned", [False, True])
def test_a_loop_drawn_twice_and_shifted_does_not_cancel(tmp_path: Path, shift_mm: float, turned: bool) -> None:
    again = [(x + shift_mm, y - shift_mm / 2) for x, y in square(5)]
    again = again[::-1] if turned else again
    export, _ = set_of({"CTV": [(z, loop) for z in PLANES for loop in (square(5), again)]})
    patient = read_patient(export.write(tmp_path))
    assert cc(patient, "CTV") == pytest.approx(100 * STEP_mm * len(PLANES) / 1000, rel=1e-6)
    assert said(patient, "'CTV': 4 contour(s) present twice taken once.")


def test_a_thin_wall_is_no_loop_drawn_twice(tmp_path: Path) -> None:
    export, _ = set_of({"CTV": [(z, loop) for z in PLANES for loop in (square(5), square(4.5))]})
    patient = read_patient(export.write(tmp_path))
    assert cc(patient, "CTV") == pytest.approx(19 * STEP_mm * len(PLANES) / 1000, rel=1e-6)


@pytest.mark.parametrize("off_mm", [0.0, 0.01, 0.05, 0.11, 0.2, 0.3, -0.05, -0.3])
@pytest.mark.parametrize("hole_first", [True, False])
def test_a_hole_a_little_off_its_plane_is_a_hole_with_and_without_the_image(
    tmp_path: Path, off_mm: float, hole_first: bool
) -> None:
    pair = [(0.0, square(8)), (off_mm, square(4))]
    loops = [(z + off, loop) for z in PLANES for off, loop in (pair[::-1] if hole_first else pair)]
    export, made = set_of({"CTV": loops})
    save(made, tmp_path / "set")
    wanted = (256 - 64) * STEP_mm * len(PLANES) / 1000
    assert cc(read_patient(export.write(tmp_path / "files")), "CTV") == pytest.approx(wanted, rel=1e-6)
    alone, notes = read_structure_set(tmp_path / "set")
    assert polygon_volume_cc(alone["CTV"]) == pytest.approx(wanted, rel=1e-6)
    assert not any("image's slices" in text for text in notes.texts())


def test_many_loops_of_a_plane_take_no_square_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Islands, and as many holes in one loop: pairs looked at grow with the number of loops, not with its square."""
    from mrlinac.dicom.read import loops

    count = 20
    at = [(4.0 * i - 40, 4.0 * j - 40) for i in range(count) for j in range(count)]
    small = [[(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)] for x, y in at]
    pairs: list[int] = []
    touching = loops._touching
    monkeypatch.setattr(loops, "_touching", lambda areas: [pairs.append(len(found := touching(areas))), found][1])
    export, _ = set_of(
        {"Islands": [(0.0, loop) for loop in small], "Holes": [(0.0, square(60)), *[(0.0, s) for s in small]]}
    )
    patient = read_patient(export.write(tmp_path))
    assert cc(patient, "Islands") == pytest.approx(400 * STEP_mm / 1000)
    assert cc(patient, "Holes") == pytest.approx((120**2 - 400) * STEP_mm / 1000)
    assert max(pairs) <= len(small)


# --- slices without an image ------------------------------------------------------------------------------------------


def test_slices_of_any_spacing_without_the_image(tmp_path: Path) -> None:
    planes = tuple(1.25 * k for k in range(-10, 11))
    made = structure_set({"External": slabs(30, planes), "CTV": slabs(5, planes[4:15])}, None)
    save(made, tmp_path / "set")
    rois, notes = read_structure_set(tmp_path / "set")
    assert polygon_volume_cc(rois["CTV"]) == pytest.approx(100 * 1.25 * 11 / 1000, rel=1e-6)
    assert not notes.of("warning")
    assert not notes.of("decide")


def test_a_single_contour_without_the_image_says_what_it_stands_for(tmp_path: Path) -> None:
    save(structure_set({"PTV": [(0.0, square(5))]}, None), tmp_path / "set")
    rois, notes = read_structure_set(tmp_path / "set")
    assert polygon_volume_cc(rois["PTV"]) == pytest.approx(0.3)
    assert any("a contour without a near neighbour stands for 3 mm" in text for text in notes.of("decide"))


def test_planes_far_apart_are_no_slices(tmp_path: Path) -> None:
    save(structure_set({"PTV": [(-30.0, square(5)), (30.0, square(5))]}, None), tmp_path / "set")
    rois, notes = read_structure_set(tmp_path / "set")
    assert polygon_volume_cc(rois["PTV"]) == pytest.approx(2 * 0.3)
    (told,) = notes.of("decide")[:1]
    assert "drawn planes lie 60 mm apart, more than slices do (5 mm at most)" in told


# --- what a contour stands for ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loops", "thickness_mm"),
    [
        (slabs(2, (-24.0, 0.0, 27.0)), 3.0),  # seeds, each on one slice
        (slabs(2, (0.0,)), 1.0),
        (slabs(6, (-30.0, 30.0)), 2.0),  # nodes far apart
        (slabs(6, (-24.0, -16.0, -8.0, 0.0, 8.0)), 5.0),  # and regularly so
        (slabs(1, (-9.0, -6.0, -3.0, 0.0, 3.0)), 15.0),  # on every third slice
        (slabs(0.5, (-9.0, -6.0, -3.0, 0.0, 3.0)), 5.0),  # markers of 1 mm, 3 mm apart
        (slabs(5, (-8.0, -6.0, -4.0, -2.0)), 8.0),  # on every second slice
        (slabs(5, (-10.0, -5.0, 0.0, 5.0)), 20.0),  # every 5 mm
        (slabs(5, (-2.0, -1.0, 1.0, 2.0)), 5.0),  # one slice missing
        (slabs(5, (-2.0, -1.0, 2.0, 3.0)), 6.0),  # two
        (slabs(5, (-2.0, -1.0, 5.0, 6.0)), 4.0),  # two parts
        (slabs(5, (-8.0, -6.0, -4.0, -2.0, 20.0)), 9.0),  # every second slice, and one alone far away
    ],
)
def test_what_contours_stand_for(tmp_path: Path, loops: list, thickness_mm: float) -> None:
    area = float(np.ptp(np.array(loops[0][1])[:, 0])) ** 2
    save(structure_set({"Nodes": loops}, None), tmp_path / "set")
    findings = Findings()
    found = examine(tmp_path / "set", "set", findings)
    assert found is not None
    slices = Grid((61, 30, 30), (1.0, 2.0, 2.0), (-30.0, -30.0, -30.0))
    (roi,) = read_structures(found, slices, {"1.9.1": np.eye(4)}, (), findings).values()
    assert polygon_volume_cc(roi) == pytest.approx(area * thickness_mm / 1000, rel=1e-6)
    grid = Grid.covering((-10, -10, -32), (10, 10, 32), (0.5, 0.5, 0.5))
    assert occupancy(roi, grid).sum(dtype=float) * grid.voxel_cc == pytest.approx(
        area * thickness_mm / 1000, rel=1e-3
    )
