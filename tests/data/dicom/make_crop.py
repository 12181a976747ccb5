"""Make tests/data/dicom/lung-crop from the real lung CT. Kept so that the test data can be understood and remade.

    python tests/data/dicom/make_crop.py FOLDER_OF_UNPACKED_CT rtstruct-planning.dcm

Every fifth slice, 8×8 pixels averaged to one; the planning structures on those slices, thinned to 1 mm. The headers
stay as the planning system wrote them (implicit VR, unsigned pixels, no tube voltage) but for what the crop changes
and for elements that nothing reads.
"""

import sys
from pathlib import Path

import numpy as np
import pydicom
import shapely
from pydicom.sequence import Sequence

from mrlinac.provenance import dicom_uid

STEP_z, STEP_xy = 5, 8
OUT = Path(__file__).parent / "lung-crop"
CREDIT = "Coarse crop of TCIA 4D-Lung 113_HM10395, doi 10.7937/K9/TCIA.2016.ELN8YGLE, CC BY 3.0"


def new_uid(uid: str) -> str:
    return dicom_uid("lung-crop", str(uid))


def crop_slice(ds: pydicom.Dataset) -> None:
    pixels = ds.pixel_array.astype(float)
    n = pixels.shape[0] // STEP_xy
    coarse = pixels.reshape(n, STEP_xy, n, STEP_xy).mean(axis=(1, 3))
    ds.PixelData = np.rint(coarse).astype("<u2").tobytes()
    ds.Rows = ds.Columns = n
    spacing = float(ds.PixelSpacing[0])
    x, y, z = (float(v) for v in ds.ImagePositionPatient)
    shift = spacing * (STEP_xy - 1) / 2
    ds.ImagePositionPatient = [f"{x + shift:.4f}", f"{y + shift:.4f}", f"{z:g}"]
    ds.PixelSpacing = [f"{spacing * STEP_xy:.4f}"] * 2
    ds.DerivationDescription = CREDIT


def trim(ds: pydicom.Dataset) -> None:
    ds.remove_private_tags()
    for keyword in ("DeidentificationMethodCodeSequence", "SeriesDescription", "StudyDescription", "AccessionNumber"):
        if keyword in ds:
            del ds[keyword]
    ds.AccessionNumber = ""
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        if keyword in ds:
            ds[keyword].value = new_uid(ds[keyword].value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID


def main(ct: Path, rtstruct: Path) -> None:
    OUT.mkdir(exist_ok=True)
    slices = sorted((pydicom.dcmread(p) for p in ct.iterdir()), key=lambda d: float(d.ImagePositionPatient[2]))
    kept = slices[2::STEP_z]
    planes = {round(float(d.ImagePositionPatient[2]), 1): new_uid(d.SOPInstanceUID) for d in kept}
    for number, ds in enumerate(kept):
        crop_slice(ds)
        trim(ds)
        # File names in no order, as exports have them.
        ds.save_as(OUT / f"image{(number * 7) % len(kept):02d}.dcm")
    crop_structures(pydicom.dcmread(rtstruct), planes)


def crop_structures(ds: pydicom.Dataset, planes: dict[float, str]) -> None:
    for frame in ds.ReferencedFrameOfReferenceSequence:
        frame.FrameOfReferenceUID = new_uid(frame.FrameOfReferenceUID)
        study = frame.RTReferencedStudySequence[0]
        study.ReferencedSOPInstanceUID = new_uid(study.ReferencedSOPInstanceUID)
        series = study.RTReferencedSeriesSequence[0]
        series.SeriesInstanceUID = new_uid(series.SeriesInstanceUID)
        images = {new_uid(image.ReferencedSOPInstanceUID): image for image in series.ContourImageSequence}
        for uid, image in images.items():
            image.ReferencedSOPInstanceUID = uid
        series.ContourImageSequence = Sequence([images[uid] for uid in planes.values()])
    for roi in ds.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = new_uid(roi.ReferencedFrameOfReferenceUID)
    for item in ds.ROIContourSequence:
        kept = []
        for contour in item.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            z = round(float(points[0, 2]), 1)
            if z not in planes or len(points) < 3:
                continue
            thin = np.array(shapely.Polygon(points[:, :2]).simplify(1.0).exterior.coords)[:-1]
            contour.ContourData = [f"{v:.2f}" for x, y in thin for v in (x, y, z)]
            contour.NumberOfContourPoints = len(thin)
            if "ContourImageSequence" in contour:
                contour.ContourImageSequence[0].ReferencedSOPInstanceUID = planes[z]
            kept.append(contour)
        item.ContourSequence = Sequence(kept)
    ds.StructureSetDescription = CREDIT
    trim(ds)
    ds.save_as(OUT / "structures.dcm")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
