"""Nasty exports: images of any orientation, order, spacing, coding; made by ``nasty.py``."""

import os
import re
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from nasty import (
    AXIAL,
    ORIGIN,
    SHAPE,
    STEP,
    Export,
    body,
    compress_jpeg_lossless,
    compressed,
    hu,
    multi_frame,
    series,
    shift,
    square,
    structure_set,
    tilted,
)
from nasty import jpeg_lossless as lossless_stream
from nasty import registration as reg
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mrlinac.anatomy.contours import occupancy, polygon_volume_cc
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import read_patient
from mrlinac.dicom.read import jpeg_lossless
from mrlinac.errors import DataError

DATA = Path(__file__).parents[2] / "data" / "dicom"
SECRETS = ("SECRET", "PERSON", "ID4711")


def image(export: Export, folder: Path, **options: object) -> Patient:
    """The image of an export without structures, its values checked against the scene at every voxel."""
    options.setdefault("structures", False)
    patient = read_patient(export.write(folder), **options)
    grid = patient.image.grid
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    assert np.max(np.abs(patient.image.values - hu(x, y, z))) <= 0.5001
    assert not any(secret in str(patient.notes) for secret in SECRETS)
    return patient


def drawn(rois: dict, folder: Path, **options: object) -> Patient:
    """A patient with structures on the usual scene."""
    export = series()
    export.others.append(structure_set({"External": body(), **rois}, export, **options))
    return read_patient(export.write(folder))


def said(patient: Patient, text: str) -> bool:
    return any(text in note.text for note in patient.notes.entries)


def refused(export: Export, folder: Path, **options: object) -> str:
    options.setdefault("structures", False)
    with pytest.raises(DataError) as caught:
        read_patient(export.write(folder), **options)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    return str(caught.value)


# --- positions and orientations -------------------------------------------------------------------------------------

# As scanners write them: rows and columns follow the table, the patient lies on it in eight ways.
AS_SCANNED = {
    "HFS": (1, 0, 0, 0, 1, 0),
    "HFP": (-1, 0, 0, 0, -1, 0),
    "HFDR": (0, -1, 0, 1, 0, 0),
    "HFDL": (0, 1, 0, -1, 0, 0),
    "FFS": (-1, 0, 0, 0, 1, 0),
    "FFP": (1, 0, 0, 0, -1, 0),
    "FFDR": (0, -1, 0, -1, 0, 0),
    "FFDL": (0, 1, 0, 1, 0, 0),
}


@pytest.mark.parametrize(("position", "axes"), AS_SCANNED.items())
def test_every_patient_position(tmp_path: Path, position: str, axes: tuple[int, ...]) -> None:
    patient = image(series(axes=axes, position=position), tmp_path)
    assert patient.position == position
    assert patient.image.grid.shape_zyx == (6, 33, 36)
    assert patient.image.grid.spacing_zyx_mm == pytest.approx((4, 2, 3))
    assert patient.image.grid.origin_xyz_mm == pytest.approx((-33, -21, -8))
    assert said(patient, "turned onto") == (axes != AXIAL)
    assert patient.slice_uids == tuple(f"1.9.2.{n}" for n in range(1, 7))


@pytest.mark.parametrize("axes", [(0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (0, -1, 0, 0, 0, 1)])
def test_sagittal_and_coronal_slices_are_turned(tmp_path: Path, axes: tuple[int, ...]) -> None:
    patient = image(series(axes=axes, modality="MR"), tmp_path)
    assert patient.image.grid.shape_zyx == (6, 33, 36)
    assert not patient.slice_uids  # what is written for it must not refer to slices that do not exist
    assert not patient.series_uid


def test_rounded_direction_cosines_are_straight(tmp_path: Path) -> None:
    image(series().set(ImageOrientationPatient=[1, 0, "-1.224647e-16", 0, "0.99999", "0.0001"]), tmp_path)


def turn(about_x_deg: float, about_y_deg: float = 0.0) -> np.ndarray:
    a, b = np.deg2rad(about_x_deg), np.deg2rad(about_y_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    return np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]) @ about_x


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("angles", [(6.0, 0.0), (3.0, -9.0), (40.0, 0.0)])
def test_oblique_slices_are_resampled_onto_the_axes(tmp_path: Path, modality: str, angles: tuple) -> None:
    patient = read_patient(tilted(turn(*angles), modality=modality).write(tmp_path), structures=False)
    grid, unseen = patient.image.grid, patient.image.unseen
    assert grid.spacing_zyx_mm == pytest.approx((4, 2, 3))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    # Linear interpolation is exact in this scene but for the rounding of stored values.
    assert np.max(np.abs(patient.image.values - hu(x, y, z))[~unseen]) <= 0.51
    # What is imaged is the tilted box, and nothing else.
    own = (np.column_stack([x.ravel(), y.ravel(), z.ravel()]) @ turn(*angles) - ORIGIN) / STEP
    inside = np.all((own > -1e-6) & (own < np.array(SHAPE) - 1 + 1e-6), axis=1).reshape(x.shape)
    assert np.mean(inside != ~unseen) < 1e-3
    assert inside.sum() > 0.4 * np.prod(SHAPE)
    assert not patient.slice_uids
    assert not patient.series_uid
    assert said(patient, "resampled linearly onto these")


def test_unevenly_spaced_oblique_slices_are_resampled_too(tmp_path: Path) -> None:
    export = tilted(turn(7.0))
    del export.images[2]
    patient = read_patient(export.write(tmp_path), structures=False)
    grid = patient.image.grid
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    assert np.max(np.abs(patient.image.values - hu(x, y, z))[~patient.image.unseen]) <= 0.51
    assert said(patient, "interpolated linearly from their")


def test_tilted_gantry_is_refused(tmp_path: Path) -> None:
    """Planes tilted, the table moved along z: they are not stacked at right angles to themselves."""
    gantry = tilted(turn(5.0), modality="CT", shear_mm=4 * np.tan(np.deg2rad(5.0)))
    text = refused(gantry, tmp_path)
    assert "tilted, and not stacked at right angles to its plane" in text
    assert "Resample to untilted axial slices where it was made" in text


def test_directions_that_are_not_at_right_angles_are_refused(tmp_path: Path) -> None:
    skewed = series().set(ImageOrientationPatient=[1, 0, 0, "0.1", "0.9949874", 0])
    assert "is 1\\0\\0\\0.1\\0.995\\0: not two directions at right angles" in refused(skewed, tmp_path)


def turn_contours(dataset: Dataset, matrix: np.ndarray) -> None:
    for roi in dataset.ROIContourSequence:
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3) @ matrix.T
            contour.ContourData = [f"{v:.4f}" for v in points.ravel()]


@pytest.mark.parametrize("axes", [["0"] * 6, ["1.9"] * 6, ["1e308"] * 6, ["3", "-7", "1", "1e308", "-1e30", "-1"]])
def test_damaged_directions_do_not_pass_for_a_localiser(tmp_path: Path, axes: list[str]) -> None:
    assert "not two directions at right angles" in refused(series().set(0, ImageOrientationPatient=axes), tmp_path)


def test_a_body_is_cut_where_tilted_slices_end(tmp_path: Path) -> None:
    export = tilted(turn(20.0))
    export.others.append(structure_set({"External": body(15.0, [-4, 0, 4])}, export))
    patient = read_patient(export.write(tmp_path))
    assert said(patient, "External reaches the edge of the imaged part (1 slice, z -4 mm)")
    assert not said(patient, "refers to")


SAGITTAL = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("matrix", [turn(6.0), turn(-20.0, 15.0), SAGITTAL], ids=["6°", "25°", "sagittal"])
def test_structures_drawn_on_other_planes_are_redrawn_on_axial_ones(tmp_path: Path, matrix: np.ndarray) -> None:
    """A ball of 14 mm radius about a point, and a box with a hole, on planes turned about the origin."""
    centre, radius = np.array([3.0, 2.0, -1.0]), 14.0
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    ball = []
    for z in np.arange(-14.0, 13.0, 2.0):
        r = np.sqrt(max(radius**2 - (z - centre[2]) ** 2, 0.0))
        if r > 1:
            ball.append((z, np.column_stack([centre[0] + r * np.cos(angle), centre[1] + r * np.sin(angle)]).tolist()))
    holed = [(z, square(h)) for z in (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0) for h in (13.0, 7.0)]
    export = series(where_mm=np.arange(-24.0, 25.0, 2.0))
    sets = structure_set({"External": [*ball, ball[5]], "CTV": holed}, export)  # a loop twice: it must not cancel
    turn_contours(sets, matrix)
    export.others.append(sets)
    patient = read_patient(export.write(tmp_path))
    assert said(patient, "'External' lies in 14 plane(s) at")
    assert said(patient, "'External': 1 contour(s) present twice taken once.")
    found = patient.external
    assert {c.z_mm for c in found.contours} <= set(np.round(patient.image.grid.z_mm, 3).tolist())
    assert polygon_volume_cc(found) == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.02)
    fine = Grid.covering((-30.0, -30.0, -30.0), (30.0, 30.0, 30.0), (1.0, 1.0, 1.0))
    inside = occupancy(found, fine)
    z, y, x = np.meshgrid(fine.z_mm, fine.y_mm, fine.x_mm, indexing="ij")
    middle = [float((inside * along).sum() / inside.sum()) for along in (x, y, z)]
    assert middle == pytest.approx(matrix @ centre, abs=0.3)
    away = np.sqrt(sum((a - c) ** 2 for a, c in zip((x, y, z), matrix @ centre, strict=True)))
    assert inside[away < radius - 2].min() > 0.9
    assert inside[away > radius + 2.5].max() < 0.1
    box, own = patient.rois["CTV"], np.stack([x, y, z], -1) @ matrix
    assert polygon_volume_cc(box) == pytest.approx((26.0**2 - 14.0**2) * 14.0 / 1000, rel=0.02)
    assert occupancy(box, fine)[np.all(np.abs(own) < (4, 4, 20), axis=-1)].max() < 0.1


def test_loops_of_no_common_plane_are_left_out_or_refused(tmp_path: Path) -> None:
    export = series()
    sets = structure_set({"External": body(15.0), "CTV": body(5.0), "Heart": body(6.0)}, export)
    for roi in sets.ROIContourSequence[1:]:  # every loop turned otherwise
        for number, contour in enumerate(roi.ContourSequence):
            points = np.array(contour.ContourData, float).reshape(-1, 3) @ turn(5.0 * (number + 1)).T
            contour.ContourData = [f"{v:.4f}" for v in points.ravel()]
    export.others.append(sets)
    text = refused(export, tmp_path, structures=True)
    assert "2 of 3 structures are drawn neither in axial planes nor in flat planes parallel" in text
    del sets.ROIContourSequence[2], sets.StructureSetROISequence[2]
    patient = read_patient(export.write(tmp_path))
    assert list(patient.rois) == ["External"]
    assert said(patient, "left out: 'CTV'. Redraw what is needed.")


def test_sheared_slices_are_refused(tmp_path: Path) -> None:
    export = series()
    for number, ds in enumerate(export.images):
        ds.ImagePositionPatient = [
            ds.ImagePositionPatient[0],
            float(ds.ImagePositionPatient[1]) + number,
            -8 + 4 * number,
        ]
    assert "the slices are shifted against each other" in refused(export, tmp_path)


# --- slices ---------------------------------------------------------------------------------------------------------


def test_thickness_that_lies(tmp_path: Path) -> None:
    patient = image(series().set(SliceThickness="2"), tmp_path)
    assert patient.image.grid.spacing_zyx_mm[0] == 4
    assert said(patient, "Slice Thickness says 2 mm, the positions 4 mm: positions used.")


def test_one_missing_slice_is_interpolated_and_said(tmp_path: Path) -> None:
    patient = image(series(where_mm=[-8, -4, 0, 8, 12, 16, 20]), tmp_path)
    assert patient.image.grid.z_mm.tolist() == [-8, -4, 0, 4, 8, 12, 16, 20]
    assert said(patient, "1 slice(s) missing (between 0 to 8 mm) were interpolated linearly")
    assert len(patient.slice_uids) == 8


@pytest.mark.parametrize(
    ("where_mm", "reason"),
    [
        ([-8, -4, 0, 16, 20, 24, 28], "3 slice(s) missing"),
        ([0, 3, 6, 9, 14, 19, 24], "5 mm from"),
        ([0, 6, 12, 18, 36, 42, 48, 54], "2 slice(s) missing"),
        ([0, 2, 4, 6, 10, 14, 18, 22], "missing"),
    ],
)
def test_what_interpolation_would_hide_is_refused(tmp_path: Path, where_mm: list[float], reason: str) -> None:
    """Three slices gone; two spacings; two slices gone that leave 18 mm; a spacing that doubles halfway."""
    text = refused(series(where_mm=where_mm), tmp_path)
    assert reason in text
    assert "Image Position (Patient) (0020,0032)" in text


def test_uneven_slices_are_resampled_and_said(tmp_path: Path) -> None:
    patient = image(series(where_mm=[-8, -4.3, 0.2, 4, 7.8, 12.1, 16]), tmp_path)
    assert np.ptp(np.diff(patient.image.grid.z_mm)) < 1e-9
    assert said(patient, "Slices are spaced unevenly (3.7 to 4.5 mm): resampled linearly to 4 mm.")


def test_rounded_positions_are_even(tmp_path: Path) -> None:
    patient = image(series(where_mm=[0, 1.667, 3.333, 5, 6.667, 8.333]), tmp_path)
    assert not said(patient, "unevenly")
    assert patient.image.grid.spacing_zyx_mm[0] == pytest.approx(5 / 3, abs=1e-3)


def test_duplicate_slices(tmp_path: Path) -> None:
    export = series()
    export.images += [deepcopy(export.images[2]), deepcopy(export.images[3])]
    export.images[-1].SOPInstanceUID = "1.9.2.99"  # sent again under another UID
    patient = image(export, tmp_path)
    assert said(patient, "1 slice file(s) present twice (same SOP Instance UID)")
    assert said(patient, "1 slice(s) present twice under different UIDs with equal pixels read once.")


def test_two_different_slices_in_one_place(tmp_path: Path) -> None:
    export = series()
    export.images.append(series(add=7).images[2])
    export.images[-1].SOPInstanceUID = "1.9.2.99"
    assert "the same position as" in refused(export, tmp_path)


def test_localisers(tmp_path: Path) -> None:
    export = series()
    for axes, said_so in (((1, 0, 0, 0, 0, -1), True), ((0, 1, 0, 0, 0, -1), False)):
        scout = series(axes=axes).images[0]
        scout.SOPInstanceUID = f"1.9.8.{len(export.images)}"
        scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"] if said_so else ["ORIGINAL", "PRIMARY", "AXIAL"]
        export.images.append(scout)
    patient = image(export, tmp_path)
    assert patient.image.grid.shape_zyx[0] == 6
    assert said(patient, "1 localiser(s) among the slices left out")
    assert said(patient, "1 image(s) in another plane than all others (localisers) left out")


def test_two_echoes_in_one_series_are_two_volumes(tmp_path: Path) -> None:
    export = series(modality="MR").set(EchoTime="10")
    second = series(modality="MR", add=100).set(EchoTime="90")
    for ds in second.images:
        ds.SOPInstanceUID += ".9"
    export.images += second.images
    text = refused(export, tmp_path)
    keys = re.findall(r"([0-9a-f]{8}\.\d) \(MR, 6 slices", text)
    assert len(keys) == 2
    low = read_patient(tmp_path, structures=False, series=keys[0])
    high = read_patient(tmp_path, structures=False, series=keys[1])
    assert float((high.image.values - low.image.values).mean()) == pytest.approx(100)


# --- coding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes(tmp_path: Path, syntax: str) -> None:
    export = series()
    if syntax == ExplicitVRBigEndian:
        export.edit(lambda ds: setattr(ds, "PixelData", np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()))
    export.write(tmp_path, syntax=syntax)
    grid = (patient := read_patient(tmp_path, structures=False)).image.grid
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    assert np.array_equal(patient.image.values, hu(x, y, z))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_syntaxes(tmp_path: Path, syntax: str) -> None:
    image(compressed(series(), syntax), tmp_path)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("restart_lines", [0, 4])
def test_jpeg_lossless(tmp_path: Path, predictor: int, restart_lines: int) -> None:
    image(
        series().edit(lambda ds: compress_jpeg_lossless(ds, predictor=predictor, restart_lines=restart_lines)),
        tmp_path,
    )


def test_jpeg_lossless_of_another_encoder() -> None:
    """Both lossless syntaxes as GDCM writes them, of the same scene."""
    patient = read_patient(DATA / "jpeg-lossless", structures=False)
    grid = patient.image.grid
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    assert np.array_equal(patient.image.values, hu(x, y, z))


def test_jpeg_lossless_with_the_largest_difference() -> None:
    values = np.array([[0x8000, 0, 0x8000, 0xFFFF], [0, 0x8000, 0, 1]], np.uint16)
    assert np.array_equal(jpeg_lossless.decode(lossless_stream(values), (2, 4)), values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-20], "damaged Huffman codes"),
        (lambda data: data.replace(b"\xff\xc3", b"\xff\xc0"), "not a lossless"),
        (lambda data: data.replace(b"\xff\xc4\x00", b"\xff\xc4\x7f"), "longer than the file"),
        (lambda data: b"", "no start of image"),
    ],
)
def test_damaged_jpeg_lossless(change: Callable[[bytes], bytes], reason: str) -> None:
    values = np.random.default_rng(1).integers(0, 4000, (16, 12)).astype(np.uint16)
    with pytest.raises(ValueError, match=reason):
        jpeg_lossless.decode(change(lossless_stream(values)), (16, 12))
    with pytest.raises(ValueError, match="instead of"):
        jpeg_lossless.decode(lossless_stream(values), (12, 16))


def test_no_preamble_and_no_meta(tmp_path: Path) -> None:
    export = series()
    export.others.append(structure_set({"External": body()}, export))
    patient = read_patient(export.write(tmp_path, bare=True))
    assert patient.image.grid.shape_zyx == (6, 33, 36)
    assert list(patient.rois) == ["External"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_pipe_in_the_folder_does_not_hang(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    assert said(image(series(), tmp_path), "1 file(s) that are not DICOM were left alone.")


# --- MR and multi-frame ---------------------------------------------------------------------------------------------


def test_mr_keeps_its_own_units(tmp_path: Path) -> None:
    export = series(modality="MR", add=2000)
    patient = read_patient(export.write(tmp_path), structures=False)
    assert patient.image.quantity == "MR"
    assert float(patient.image.values.max()) > 1500
    assert said(patient, "never go through an HU curve")
    assert said(patient, "Nothing says that gradient distortion was corrected")


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_multi_frame(tmp_path: Path, modality: str) -> None:
    patient = image(multi_frame(series(modality=modality), modality), tmp_path)
    assert patient.image.quantity == {"CT": "HU", "MR": "MR"}[modality]
    assert patient.image.grid.shape_zyx == (6, 33, 36)


def test_multi_frame_of_two_times(tmp_path: Path) -> None:
    export = multi_frame(series(modality="MR"), times=2)
    keys = re.findall(r"([0-9a-f]{8}\.\d)", refused(export, tmp_path))
    first, second = (read_patient(tmp_path, structures=False, series=key).image.values for key in sorted(set(keys)))
    assert np.all(second - first == 1)


def test_multi_frame_with_missing_groups(tmp_path: Path) -> None:
    export = multi_frame(series(modality="MR"))
    export.images[0].NumberOfFrames = 7
    assert "Number of Frames (0028,0008): says 7, but 6 frame(s) have a place" in refused(export, tmp_path)


# --- frames of reference --------------------------------------------------------------------------------------------


def registered(tmp_path: Path, *matrices: np.ndarray) -> Export:
    """Structures drawn on an MR, which a registration object moves onto the CT; the CT is asked for."""
    export = series()
    target = {"External": body(), "CTV": [(z, square(4, 2, 1)) for z in (0, 4)]}
    export.others += [structure_set(target, frame="1.9.200"), reg("1.9.200", "1.9.1", *matrices)]
    return export


def test_structures_moved_by_registration(tmp_path: Path) -> None:
    export = registered(tmp_path, shift(5, -3, 4))
    patient = read_patient(export.write(tmp_path))
    ctv = patient.rois["CTV"]
    assert [contour.z_mm for contour in ctv.contours] == [4, 8]
    assert ctv.contours[0].points_xy_mm.mean(axis=0) == pytest.approx([7, -2])
    assert polygon_volume_cc(ctv) == pytest.approx(64 * 8 / 1000)
    assert said(
        patient, "moved into the image's frame of reference by the registration object (shift (5.0, -3.0, 4.0)"
    )


def test_matrices_apply_in_their_order(tmp_path: Path) -> None:
    """A turn by 90° about z, then a shift: the other order would put the target elsewhere."""
    patient = read_patient(registered(tmp_path, shift(about_z_deg=90), shift(x=6)).write(tmp_path))
    assert patient.rois["CTV"].contours[0].points_xy_mm.mean(axis=0) == pytest.approx([-1 + 6, 2])


def test_registration_with_a_tilt_redraws_what_it_moves(tmp_path: Path) -> None:
    move = shift(0, 0, -1, about_x_deg=8)
    patient = read_patient(registered(tmp_path, move).write(tmp_path))
    assert said(patient, "'External' lies in 6 plane(s) at 8.0° to the axial ones")
    own = read_patient(registered(tmp_path / "other", np.eye(4)).write(tmp_path / "other"))
    for name, roi in own.rois.items():
        moved = patient.rois[name]
        assert polygon_volume_cc(moved) == pytest.approx(polygon_volume_cc(roi), rel=0.03)
        fine = Grid.covering((-40.0, -40.0, -40.0), (40.0, 40.0, 40.0), (1.0, 1.0, 1.0))
        points = np.stack(np.meshgrid(fine.z_mm, fine.y_mm, fine.x_mm, indexing="ij")[::-1], -1)
        middles = [
            (occupancy(one, fine)[..., None] * points).sum((0, 1, 2)) / occupancy(one, fine).sum()
            for one in (roi, moved)
        ]
        # Flat ends move to whole slices, which are 4 mm thick here.
        assert middles[1] == pytest.approx(move[:3, :3] @ middles[0] + move[:3, 3], abs=1.0)


def test_registration_that_is_not_rigid_is_not_used(tmp_path: Path) -> None:
    text = refused(registered(tmp_path, np.diag([1.1, 1, 1, 1])), tmp_path, structures=True)
    assert "no registration object leads there" in text


def test_registrations_that_contradict(tmp_path: Path) -> None:
    export = registered(tmp_path, shift(5))
    other = reg("1.9.200", "1.9.1", shift(9))
    other.SOPInstanceUID = "1.9.61"
    export.others.append(other)
    assert "moves a frame of reference elsewhere than" in refused(export, tmp_path, structures=True)


def test_frame_mismatch_without_registration(tmp_path: Path) -> None:
    export = series()
    export.others.append(structure_set({"External": body()}, frame="1.9.200"))
    text = refused(export, tmp_path, structures=True)
    assert "Referenced Frame of Reference UID (3006,0024): refers to no image series that is here" in text


def test_structures_of_a_missing_series_go_by_frame(tmp_path: Path) -> None:
    export, elsewhere = series(), series(uid="1.9.300")
    export.others.append(structure_set({"External": body()}, elsewhere))
    patient = read_patient(export.write(tmp_path))
    assert said(patient, "refers to no image series that is here; taken with the only one in its frame of reference")
    assert said(patient, "refers to 6 image(s) that are not among the 6 slices read")


def test_ct_and_mr_in_one_folder(tmp_path: Path) -> None:
    export, mr = series(), series(modality="MR", uid="1.9.300", add=500)
    export.others.append(structure_set({"External": body()}, export))
    export.images += mr.images
    patient = read_patient(export.write(tmp_path))
    assert patient.image.quantity == "HU"
    assert said(patient, "1 other image series of the folder not used")
    key = re.search(r"([0-9a-f]{8}) \(MR, 6 slices\)", str(patient.notes))
    assert key is not None
    # On demand the same structures on the MR, which shares the frame of reference.
    assert read_patient(tmp_path, series=key[1]).image.quantity == "MR"


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_a_stream_of_another_size_is_not_decoded(tmp_path: Path, syntax: str) -> None:
    """The stream says 65 000 rows where the header says 33; a decoder would take gigabytes for them."""
    export = series()
    if syntax == JPEGLosslessSV1:
        export.edit(compress_jpeg_lossless)
    else:
        export = compressed(export, syntax)
    ds = export.images[2]
    digits = 4 if syntax == JPEG2000Lossless else 2
    width, height, tall = (number.to_bytes(digits, "big") for number in (36, 33, 65000))
    old, new = (width + height, width + tall) if syntax == JPEG2000Lossless else (height + width, tall + width)
    assert old in ds.PixelData
    ds.PixelData = ds.PixelData.replace(old, new, 1)
    assert "which could not be decoded here (ValueError)" in refused(export, tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").write_bytes(b"")
    opened = Path.open

    def refusing(path: Path, *given: object, **more: object) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *given, **more)

    monkeypatch.setattr(Path, "open", refusing)
    assert "locked: cannot be read (Permission denied). Check its permissions" in refused(series(), tmp_path)


def test_after_some_slices_without_pixels_the_rest_is_not_tried(tmp_path: Path) -> None:
    text = refused(series().set(PixelData=b"\0\0"), tmp_path)
    assert text.count("2 bytes instead of 2376: the file is cut off") == 4
    assert "after 4 slices without pixels the other 2 were not tried" in text


# --- things beside the files ----------------------------------------------------------------------------------------


def whole() -> Export:
    export = series()
    export.others.append(structure_set({"External": body(), "CTV": body(5.0)}, export))
    return export


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_archives_and_links_are_named(tmp_path: Path) -> None:
    for name, stuff in (("zipped", "export.ZIP"), ("linked", "inner")):
        (tmp_path / name).mkdir()
        if stuff == "inner":
            (tmp_path / name / stuff).symlink_to(whole().write(tmp_path / "real"), target_is_directory=True)
        else:
            (tmp_path / name / stuff).write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="1 of them are archives: unpack them first"):
        read_patient(tmp_path / "zipped")
    with pytest.raises(DataError, match="1 linked folder"):
        read_patient(tmp_path / "linked")
    (tmp_path / "real" / "later.tar.gz").write_bytes(b"\x1f\x8b")
    assert said(read_patient(tmp_path / "real"), "1 of them are archives, which were not looked into")
    (tmp_path / "real" / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="gone: is a link to a file that is not there"):
        read_patient(tmp_path / "real")


def test_an_image_cut_off_in_its_header_is_an_error(tmp_path: Path) -> None:
    """It must not pass for a missing slice, which would be interpolated."""
    path = next(p for p in whole().write(tmp_path).rglob("00*") if b"RTSTRUCT" not in p.read_bytes())
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"ID4711") + 6])
    with pytest.raises(DataError) as caught:
        read_patient(tmp_path)
    assert "Series Instance UID (0020,000E): missing" in str(caught.value)
    assert "the file is cut off or damaged" in str(caught.value)
