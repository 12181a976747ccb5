"""DVHs of real structure sets against dicompyler-core's own calculation."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import frames_of_structure_set, read_dose, read_structure_set, write_dose
from mrlinac.dicom.dicompyler import modules
from mrlinac.dose.dose import Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.provenance import Provenance

pytestmark = [pytest.mark.data, pytest.mark.filterwarnings("ignore")]

TOP_Gy = 60.0
LARGE_cc = 100.0
"""dicompyler counts voxels of the dose grid whole: below this its own error decides (GTVn: 2.7 % of 6.4 cc)."""


@pytest.mark.parametrize(
    "file", ["lung-4d-113/rtstruct-planning.dcm", "dicom-from-tps/eclipse-breast/rtss.dcm"], ids=["lung", "breast"]
)
def test_dicompyler_agrees(real_data: Path, tmp_path: Path, file: str) -> None:
    path = real_data / file
    rois, _ = read_structure_set(path)
    points = np.concatenate(
        [
            np.column_stack([c.points_xy_mm, np.full(len(c.points_xy_mm), c.z_mm)])
            for r in rois.values()
            for c in r.contours
        ]
    )
    grid = Grid.covering(points.min(axis=0) - 6, points.max(axis=0) + 6, (3.0, 3.0, 3.0))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    at = points.mean(axis=0)
    bell = ((x - at[0]) / 90) ** 2 + ((y - at[1]) / 60) ** 2 + ((z - at[2]) / 80) ** 2
    image = Image(Grid((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), np.zeros((1, 1, 1), np.float32))
    frame = min(frames_of_structure_set(path))
    uids = {"frame_uid": frame, "study_uid": "2.25.2", "series_uid": "2.25.3", "slice_uids": ("2.25.4",)}
    owner = Patient("x", image, rois, **uids)  # type: ignore[arg-type]
    made = Dose(grid, TOP_Gy * np.exp(-bell / 2), None, 30, Provenance("t", "t"))
    write_dose(made, owner, tmp_path / "d.dcm", "f")
    dose = read_dose(tmp_path / "d.dcm")
    _, calculation = modules()
    numbers = {str(i.ROIName): int(i.ROINumber) for i in pydicom.dcmread(path, force=True).StructureSetROISequence}
    compared = 0
    for roi in rois.values():
        sampled = Sampled(dose, rois={"it": roi})
        found = sampled.samples("it")
        if roi.role == "external" or found.total_cc < LARGE_cc:
            continue
        theirs = calculation.get_dvh(str(path), str(tmp_path / "d.dcm"), numbers[roi.original_name])
        assert theirs.volume == pytest.approx(found.total_cc, rel=0.005), roi.name
        assert theirs.mean == pytest.approx(sampled.metric("it", "mean").value, abs=0.005 * TOP_Gy), roi.name
        for percent in (2, 50, 95):
            ours = sampled.metric("it", f"D{percent}%").value
            assert theirs.dose_constraint(percent).value == pytest.approx(ours, abs=0.005 * TOP_Gy), roi.name
        compared += 1
    assert compared >= 3
