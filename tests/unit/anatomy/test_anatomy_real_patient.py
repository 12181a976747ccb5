"""The anatomy room on a real lung patient (TCIA 4D-Lung 113, CC BY 3.0): volumes, margins, medium."""

import os
from pathlib import Path

import numpy as np
import pytest

from mrlinac.anatomy.calculation_grid import calculation_grid
from mrlinac.anatomy.contours import contours_of, occupancy, polygon_volume_cc, rasterise
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.margins import expand
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.structures import Contour, Roi

pytestmark = pytest.mark.data

# Volumes that the data set's own description gives, to the digits it gives.
STATED_cc = {
    "External": (22516, 0.5), "Lung_L": (846, 0.5), "Lung_R": (1413, 0.5), "Lungs-GTV": (2259, 0.5),
    "Heart": (744, 0.5), "SpinalCord": (28, 0.5), "SpinalCanal": (76, 0.5), "Esophagus": (52, 0.5),
    "Trachea": (29, 0.5), "GreatVes": (292, 0.5), "GTVp": (67.6, 0.05), "GTVn": (6.4, 0.05), "CTV": (172.7, 0.05),
}  # fmt: skip


def folder():
    root = Path(__file__).parents[3]
    places = [Path(p) for p in (os.environ.get("MRLINAC_DATA"),) if p]
    places += [root / "data", root.parent / "shared" / "data"]
    return next((p / "lung-4d-113" for p in places if (p / "lung-4d-113").is_dir()), None)


@pytest.fixture(scope="module")
def rois():
    place = folder()
    if place is None:
        pytest.skip("the real patient is not here; set MRLINAC_DATA")
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(place / "rtstruct-planning.dcm")
    result = {}
    for item, drawn in zip(data.StructureSetROISequence, data.ROIContourSequence, strict=True):
        contours = [np.array(c.ContourData, float).reshape(-1, 3) for c in drawn.ContourSequence]
        planes = tuple(Contour(float(points[0, 2]), points[:, :2]) for points in contours)
        role = "external" if item.ROIName == "External" else "oar"
        result[item.ROIName] = Roi(item.ROIName, role, planes, 3.0)
    return result


@pytest.fixture(scope="module")
def placed(rois):
    ct = Grid((99, 512, 512), (3.0, 0.9766, 0.9766), (-250.0, -163.019, -1132.0))
    hollow = np.broadcast_to(np.float32(0), ct.shape_zyx)
    grid = calculation_grid(Patient("113", Image(ct, hollow), rois), None, 3.0)
    return rasterise(rois, grid)


def test_polygons_have_the_volumes_stated_with_the_data(rois):
    for name, (stated, rounding) in STATED_cc.items():
        assert abs(polygon_volume_cc(rois[name]) - stated) < 0.01 * stated + rounding, name


def test_occupancy_has_the_volume_of_the_polygons(rois, placed):
    for name, roi in rois.items():
        inside = placed[name].occupancy
        if name == "External":
            inside = inside[(placed.grid.z_mm > -1133) & (placed.grid.z_mm < -837)]
        volume = float(inside.sum(dtype=float)) * placed.grid.voxel_cc
        assert volume == pytest.approx(polygon_volume_cc(roi), rel=0.002), name


def test_a_grid_off_the_slices_keeps_the_volumes(rois):
    for name in ("GTVn", "GTVp", "Heart", "SpinalCord"):
        points = np.concatenate([c.points_xy_mm for c in rois[name].contours])
        z = [c.z_mm for c in rois[name].contours]
        low, high = np.array([*points.min(axis=0), min(z)]) - 7.3, np.array([*points.max(axis=0), max(z)]) + 8.1
        grid = Grid.covering(low, high, (2.0, 2.5, 2.5))
        volume = float(occupancy(rois[name], grid).sum(dtype=float)) * grid.voxel_cc
        assert volume == pytest.approx(polygon_volume_cc(rois[name]), rel=0.002), name


def test_contours_of_a_ptv_have_its_volume(placed):
    ptv = expand(placed["CTV"].occupancy, placed.grid, 7.0)
    volume = float(ptv.sum(dtype=float)) * placed.grid.voxel_cc
    # Counting CT voxels whose centre lies within 7 mm of a filled voxel's centre gives 393 cc: half a voxel short.
    assert 405 < volume < 432
    assert polygon_volume_cc(contours_of(ptv, placed.grid, "PTV", "target")) == pytest.approx(volume, rel=0.01)


def test_a_rind_of_a_real_body(placed):
    body = placed["External"].occupancy
    core = expand(body, placed.grid, -5.0)
    rind_cc = float((body - core).sum(dtype=float)) * placed.grid.voxel_cc
    length_mm = placed.grid.shape_zyx[0] * 3.0
    mean_rim_mm2 = rind_cc * 1000 / length_mm
    assert 5 * 900 < mean_rim_mm2 < 5 * 1150  # 5 mm times the girth of a chest
    np.testing.assert_allclose(core[0], core[5], atol=1e-5)  # the body goes on beyond the images
