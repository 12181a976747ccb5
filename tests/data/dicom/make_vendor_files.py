"""Small files of commercial systems for the tests, from larger ones of open projects.

    python tests/data/dicom/make_vendor_files.py SOURCE

SOURCE holds ``monaco``, ``eclipse-breast`` and ``eclipse-dose`` (see README.md for where they come from).
Headers stay as the systems wrote them, but for names of patients and people; grids and contours are thinned.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

HERE = Path(__file__).resolve().parent / "vendors"
LOWEST_mm, HIGHEST_mm = -18.0, 1.0
"""The planes of the structure set that are kept: seven, through heart, lung and tumour bed."""

PEOPLE = ("ReferringPhysicianName", "OperatorsName", "ReviewerName", "InstitutionName", "StationName")


def nameless(ds: Dataset, name: str) -> Dataset:
    """Without names, whether of people or of test patients."""
    ds.PatientName, ds.PatientID = name, name
    for keyword in PEOPLE:
        if keyword in ds:
            setattr(ds, keyword, "")
    return ds


def main(source: Path) -> None:
    """Write the files."""
    HERE.mkdir(exist_ok=True)
    for name in ("FFF_example", "24mm_x_20mm_rectangle"):  # as they are: no preamble, no file meta
        shutil.copyfile(source / "monaco" / f"{name}.dcm", HERE / f"monaco_{name}.dcm")

    dose = nameless(pydicom.dcmread(source / "eclipse-dose" / "RD.TBB_feet_in_supine.dcm"), "ECLIPSE")
    values = np.frombuffer(dose.PixelData, "<u4").reshape(dose.NumberOfFrames, dose.Rows, dose.Columns)[::8, ::5, ::5]
    dose.GridFrameOffsetVector = dose.GridFrameOffsetVector[::8]
    dose.NumberOfFrames, dose.Rows, dose.Columns = values.shape
    dose.PixelSpacing = [10, 10]
    dose.PixelData = values.tobytes()
    dose.save_as(HERE / "eclipse_rtdose_feet_first.dcm")

    ct = nameless(pydicom.dcmread(source / "eclipse-breast" / "ct.0.dcm"), "ECLIPSE")
    values = ct.pixel_array[::8, ::8]
    ct.PixelSpacing = [float(step) * 8 for step in ct.PixelSpacing]
    ct.Rows, ct.Columns = values.shape
    ct.PixelData = values.astype("<i2").tobytes()
    ct.save_as(HERE / "eclipse_ct.dcm")

    rtss = nameless(pydicom.dcmread(source / "eclipse-breast" / "rtss.dcm"), "ECLIPSE")
    for item in rtss.ROIContourSequence:
        kept = [c for c in item.get("ContourSequence", []) if LOWEST_mm < float(c.ContourData[2]) < HIGHEST_mm]
        for contour in kept:
            points = np.array(contour.ContourData, float).reshape(-1, 3)[::5]
            contour.ContourData = [f"{value:.2f}" for value in points.ravel()]
            contour.NumberOfContourPoints = len(points)
        item.ContourSequence = Sequence([c for c in kept if c.NumberOfContourPoints >= 3])
    rtss.save_as(HERE / "eclipse_rtstruct.dcm")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
