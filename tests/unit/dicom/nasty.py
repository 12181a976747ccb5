"""A generator of nasty exports: made by hand with pydicom alone, so that our own writers cannot hide our readers' faults.

The image is linear in space, HU = x + 2 y + 3 z, so that a plane turned, flipped or interpolated wrongly shows, and
linear interpolation is exact but for the rounding of stored values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLossless, JPEGLosslessSV1

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}
RTPLAN = "1.2.840.10008.5.1.4.1.1.481.5"
RTSTRUCT, RTDOSE = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.481.2"
REG = "1.2.840.10008.5.1.4.1.1.66.1"

AXIAL = (1, 0, 0, 0, 1, 0)
ORIGIN, STEP, SHAPE = (-33.0, -21.0, -8.0), (3.0, 2.0, 4.0), (36, 33, 6)
"""x, y, z of the first voxel, spacing and number along x, y, z of the usual scene."""

Loop = tuple[float, Sequence[tuple[float, float]]]


def hu(x: NDArray, y: NDArray, z: NDArray) -> NDArray:
    """The scene."""
    return x + 2 * y + 3 * z


@dataclass
class Export:
    """An export in the making: every object a data set, changed at will before it is written."""

    images: list[Dataset] = field(default_factory=list)
    others: list[Dataset] = field(default_factory=list)

    def edit(self, change: Callable[[Dataset], object], *indices: int) -> Export:
        """Apply a change to all images, or to some."""
        for index in indices or range(len(self.images)):
            change(self.images[index])
        return self

    def set(self, *indices: int, **values: object) -> Export:
        """Set keywords of all images, or of some; None deletes."""

        def change(ds: Dataset) -> None:
            for keyword, value in values.items():
                if value is None:
                    del ds[keyword]
                else:
                    setattr(ds, keyword, value)

        return self.edit(change, *indices)

    def write(self, folder: Path, *, syntax: str = ExplicitVRLittleEndian, bare: bool = False, seed: int = 1) -> Path:
        """Write everything in a shuffled order under names that say nothing; ``bare`` drops preamble and meta."""
        objects = [*self.images, *self.others]
        order = np.random.default_rng(seed).permutation(len(objects))
        for place, index in enumerate(order.tolist()):
            path = folder / f"d{place % 3}" / f"{place:05d}"
            path.parent.mkdir(parents=True, exist_ok=True)
            save(objects[index], path, syntax=syntax, bare=bare)
        return folder


def save(ds: Dataset, path: Path, *, syntax: str = ExplicitVRLittleEndian, bare: bool = False) -> None:
    """Write one object. Structure sets go as implicit VR where contours are too long for an explicit one."""
    if bare:
        pydicom.dcmwrite(path, ds, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return
    meta = getattr(ds, "file_meta", None) or FileMetaDataset()
    if "TransferSyntaxUID" not in meta:
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if ds.SOPClassUID == RTSTRUCT else syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    ds.file_meta = meta
    ds.save_as(path, enforce_file_format=True)


def jpeg_lossless(values: NDArray, *, bits: int = 16, predictor: int = 1, restart_lines: int = 0) -> bytes:
    """A lossless JPEG stream (ITU-T T.81 annex H) of unsigned samples, all Huffman codes five bits long."""
    rows, columns = values.shape
    frame = bytes([bits]) + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + b"\x01\x01\x11\x00"
    table = b"\x00" + bytes(4) + bytes([17]) + bytes(11) + bytes(range(17))
    scan = b"\x01\x01\x00" + bytes([predictor]) + b"\x00\x00"
    stream = b"\xff\xd8" + _segment(0xC3, frame) + _segment(0xC4, table)
    if restart_lines:
        stream += _segment(0xDD, (restart_lines * columns).to_bytes(2, "big"))
    stream += _segment(0xDA, scan)
    step = restart_lines or rows
    for part, first in enumerate(range(0, rows, step)):
        if part:
            stream += bytes([0xFF, 0xD0 + (part - 1) % 8])
        stream += _entropy_coded(values[first : first + step].astype(int), bits, predictor)
    return stream + b"\xff\xd9"


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def _entropy_coded(lines: NDArray, bits: int, predictor: int) -> bytes:
    coded = ""
    for (row, column), value in np.ndenumerate(lines):
        if row == 0:
            guess = 1 << (bits - 1) if column == 0 else lines[0, column - 1]
        elif column == 0:
            guess = lines[row - 1, 0]
        else:
            a, b, c = lines[row, column - 1], lines[row - 1, column], lines[row - 1, column - 1]
            guess = (a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)[predictor - 1]
        difference = (int(value) - int(guess) + 0x8000) % 0x10000 - 0x8000
        if difference == -0x8000:
            coded += f"{16:05b}"
            continue
        size = abs(difference).bit_length()
        extra = difference if difference > 0 else difference + (1 << size) - 1
        coded += f"{size:05b}" + (f"{extra:0{size}b}" if size else "")
    coded += "1" * (-len(coded) % 8)
    data = bytes(int(coded[i : i + 8], 2) for i in range(0, len(coded), 8))
    return data.replace(b"\xff", b"\xff\x00")


def compress_jpeg_lossless(ds: Dataset, **options: int) -> None:
    """Turn one image's pixels into lossless JPEG."""
    values = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
    ds.PixelData = encapsulate([jpeg_lossless(values, **options)])
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1 if options.get("predictor", 1) == 1 else JPEGLossless


def compressed(export: Export, syntax: str) -> Export:
    """The export with its pixels compressed by pydicom."""
    for ds in export.images:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax, generate_instance_uid=False)
    return export


def common(sop_class: str, modality: str, uid: str, *, frame: str = "1.9.1", series: str = "1.9.2") -> Dataset:
    """What every object has."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, uid, modality
    ds.PatientName, ds.PatientID, ds.StudyInstanceUID = "SECRET^PERSON", "ID4711", "1.9.0"
    ds.SeriesInstanceUID, ds.FrameOfReferenceUID = series, frame
    ds.SpecificCharacterSet = "ISO_IR 192"
    return ds


def series(
    *,
    modality: str = "CT",
    axes: Sequence[float] = AXIAL,
    position: str = "HFS",
    where_mm: Sequence[float] | None = None,
    uid: str = "1.9.2",
    frame: str = "1.9.1",
    add: float = 0.0,
) -> Export:
    """The scene cut into planes of any orientation, at even or given places along their normal.

    Parameters
    ----------
    where_mm : sequence of float, optional
        World coordinates of the planes along their normal, instead of the scene's own.
    add : float
        Added to every value, to tell series apart.
    """
    row, column = np.array(axes[:3], float), np.array(axes[3:], float)
    rows_axis, columns_axis = (int(np.argmax(np.abs(v))) for v in (row, column))
    across = 3 - rows_axis - columns_axis
    centres = [ORIGIN[a] + STEP[a] * np.arange(SHAPE[a]) for a in range(3)]
    along = {
        rows_axis: centres[rows_axis][:: int(row.sum())],
        columns_axis: centres[columns_axis][:: int(column.sum())],
    }
    planes = centres[across] if where_mm is None else np.asarray(where_mm, float)
    export = Export()
    for number, place in enumerate(planes, start=1):
        ds = common(CT if modality == "CT" else MR, modality, f"{uid}.{number}", frame=frame, series=uid)
        corner = [0.0, 0.0, 0.0]
        corner[across] = float(place)
        corner[rows_axis], corner[columns_axis] = float(along[rows_axis][0]), float(along[columns_axis][0])
        grid = [np.array(0.0)] * 3
        grid[across] = np.array(place)
        grid[columns_axis], grid[rows_axis] = np.meshgrid(along[columns_axis], along[rows_axis], indexing="ij")
        values = np.rint(hu(*grid) + add).astype("<i2")
        ds.PatientPosition, ds.ImageType = position, ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [f"{v:g}" for v in corner], [f"{v:g}" for v in axes]
        ds.PixelSpacing = [f"{STEP[columns_axis]:g}", f"{STEP[rows_axis]:g}"]
        ds.SliceThickness = f"{STEP[across]:g}"
        put_pixels(ds, values)
        if modality == "CT":
            ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType, ds.KVP = "1", "0", "HU", "120"
        export.images.append(ds)
    return export


def tilted(turn: NDArray, *, modality: str = "MR", shear_mm: float = 0.0, count: int = 6) -> Export:
    """The scene on planes turned by a rotation matrix; ``shear_mm`` shifts each against the one before (tilted gantry)."""
    export = series(modality=modality)
    export.images = export.images[:count]
    row, column, normal = turn.T
    columns, rows = SHAPE[0], SHAPE[1]
    for number, ds in enumerate(export.images):
        corner = turn @ np.array(ORIGIN) + number * (STEP[2] * normal + shear_mm * column)
        c, r = np.meshgrid(np.arange(columns) * STEP[0], np.arange(rows) * STEP[1])
        points = corner + c[..., None] * row + r[..., None] * column
        put_pixels(ds, np.rint(hu(*np.moveaxis(points, -1, 0))).astype("<i2"))
        ds.ImagePositionPatient = [f"{v:.6f}" for v in corner]
        ds.ImageOrientationPatient = [f"{v:.9f}" for v in (*row, *column)]
    return export


def put_pixels(ds: Dataset, values: NDArray) -> None:
    """Pixels of 16 bits, signed as the array is."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = values.shape[-2:]
    ds.BitsAllocated = ds.BitsStored = 8 * values.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(values.dtype.kind == "i")
    ds.PixelData = values.tobytes()
    ds["PixelData"].VR = "OW"


def multi_frame(export: Export, modality: str = "MR", *, seed: int = 3, times: int = 1) -> Export:
    """The slices of an export as frames of one enhanced object, shuffled; ``times`` repeats them as time points."""
    slices = [(ds, time) for time in range(times) for ds in export.images]
    order = np.random.default_rng(seed).permutation(len(slices)).tolist()
    first = export.images[0]
    ds = common(
        ENHANCED[modality], modality, "1.9.77", series=first.SeriesInstanceUID, frame=first.FrameOfReferenceUID
    )
    ds.ImageType, ds.PatientPosition = ["ORIGINAL", "PRIMARY", "VOLUME"], first.PatientPosition
    shared = Dataset()
    measures, orientation, scale = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = "1", "0", "HU" if modality == "CT" else "US"
    shared.PixelMeasuresSequence = Items([measures])
    shared.PlaneOrientationSequence = Items([orientation])
    shared.PixelValueTransformationSequence = Items([scale])
    ds.SharedFunctionalGroupsSequence = Items([shared])
    groups, planes = [], []
    for index in order:
        one, time = slices[index]
        group, place, content = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = one.ImagePositionPatient
        content.TemporalPositionIndex = time + 1
        group.PlanePositionSequence, group.FrameContentSequence = Items([place]), Items([content])
        groups.append(group)
        planes.append(np.frombuffer(one.PixelData, "<i2").reshape(one.Rows, one.Columns) + time)
    ds.PerFrameFunctionalGroupsSequence = Items(groups)
    put_pixels(ds, np.array(planes, "<i2"))
    ds.NumberOfFrames = len(planes)
    return Export([ds], list(export.others))


def structure_set(
    rois: dict[str, Sequence[Loop]],
    export: Export | None = None,
    *,
    types: dict[str, str] | None = None,
    kinds: dict[str, str] | None = None,
    frame: str = "1.9.1",
    uid: str = "1.9.50",
    refer: bool = True,
) -> Dataset:
    """A structure set of loops in axial planes; with an export it refers to its images."""
    ds = common(RTSTRUCT, "RTSTRUCT", uid, frame=frame, series="1.9.3")
    ds.StructureSetLabel = "SECRET"
    reference = Dataset()
    reference.FrameOfReferenceUID = frame
    if export is not None and refer:
        item, study = Dataset(), Dataset()
        item.SeriesInstanceUID = export.images[0].SeriesInstanceUID
        item.ContourImageSequence = Items([_image_reference(image) for image in export.images])
        study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", "1.9.0"
        study.RTReferencedSeriesSequence = Items([item])
        reference.RTReferencedStudySequence = Items([study])
    ds.ReferencedFrameOfReferenceSequence = Items([reference])
    names, contours, observations = [], [], []
    for number, (name, loops) in enumerate(rois.items(), start=1):
        roi, drawn, seen = Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        roi.ROIGenerationAlgorithm = "MANUAL"
        drawn.ReferencedROINumber, drawn.ROIDisplayColor = number, [255, 0, 0]
        drawn.ContourSequence = Items([_loop(loop, (kinds or {}).get(name, "CLOSED_PLANAR")) for loop in loops])
        seen.ObservationNumber = seen.ReferencedROINumber = number
        seen.RTROIInterpretedType = (types or {}).get(name, "")
        names.append(roi)
        contours.append(drawn)
        observations.append(seen)
    ds.StructureSetROISequence = Items(names)
    ds.ROIContourSequence = Items(contours)
    ds.RTROIObservationsSequence = Items(observations)
    return ds


def _image_reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _loop(loop: Loop, kind: str) -> Dataset:
    z, points = loop
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{v:.4f}" for x, y in points for v in (x, y, z)]
    return item


def square(half_mm: float, x_mm: float = 0.0, y_mm: float = 0.0) -> list[tuple[float, float]]:
    """Corners of a square."""
    return [(x_mm + a * half_mm, y_mm + b * half_mm) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


def body(half_mm: float = 18.0, planes: Sequence[float] = (-8, -4, 0, 4, 8, 12)) -> list[Loop]:
    """An outline in every plane of the usual scene."""
    return [(z, square(half_mm)) for z in planes]


def registration(source: str, target: str, *matrices: NDArray) -> Dataset:
    """A registration object that moves one frame of reference into another by matrices applied in order."""
    ds = common(REG, "REG", "1.9.60", frame=target, series="1.9.4")
    items = []
    for frame, moves in ((target, [np.eye(4)]), (source, list(matrices))):
        item, step = Dataset(), Dataset()
        steps = []
        for move in moves:
            one = Dataset()
            one.FrameOfReferenceTransformationMatrixType = "RIGID"
            one.FrameOfReferenceTransformationMatrix = [f"{v:.9g}" for v in np.asarray(move).ravel()]
            steps.append(one)
        step.MatrixSequence = Items(steps)
        item.FrameOfReferenceUID, item.MatrixRegistrationSequence = frame, Items([step])
        items.append(item)
    ds.RegistrationSequence = Items(items)
    return ds


def shift(x: float = 0, y: float = 0, z: float = 0, about_z_deg: float = 0, about_x_deg: float = 0) -> NDArray:
    """A rigid matrix: rotation, then shift."""
    a, b = np.deg2rad(about_z_deg), np.deg2rad(about_x_deg)
    turn_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn_z @ turn_x, (x, y, z)
    return matrix


def dose(
    *,
    axes: Sequence[float] = AXIAL,
    offsets: Sequence[float] = (0, 4, 8, 12),
    bits: int = 16,
    absolute: bool = False,
    scaling: str = "0.01",
) -> Dataset:
    """A dose linear in space, 10 + 0.1 x + 0.2 y + 0.3 z Gy, on planes along the normal of any orientation."""
    row, column = np.array(axes[:3], float), np.array(axes[3:], float)
    normal = np.cross(row, column)
    rows, columns = 6, 8
    corner = np.array([-9.0, 6.0, -5.0])
    r, c, k = np.meshgrid(np.arange(rows), np.arange(columns), np.asarray(offsets, float), indexing="ij")
    points = corner + c[..., None] * 2.5 * row + r[..., None] * 1.5 * column + k[..., None] * normal
    gray = (10 + points @ np.array([0.1, 0.2, 0.3])) / float(scaling)
    ds = common(RTDOSE, "RTDOSE", "1.9.70", series="1.9.5")
    put_pixels(ds, np.rint(np.moveaxis(gray, -1, 0)).astype(f"<u{bits // 8}"))
    ds.ImagePositionPatient = [f"{v:g}" for v in corner]
    ds.ImageOrientationPatient = [f"{v:g}" for v in axes]
    ds.PixelSpacing, ds.NumberOfFrames = ["1.5", "2.5"], len(offsets)
    ds.FrameIncrementPointer = pydicom.tag.Tag(0x3004, 0x000C)
    ds.GridFrameOffsetVector = [f"{v + (corner[2] if absolute else 0):g}" for v in offsets]
    ds.DoseGridScaling, ds.DoseUnits, ds.DoseType, ds.DoseSummationType = (
        scaling,
        "GY",
        "PHYSICAL",
        "FRACTION_SESSION",
    )
    return ds


def plan(
    *groups: tuple[int | None, dict[int, float | None]],
    uid: str = "1.9.80",
    deliveries: dict[int, str] | None = None,
    setups: int = 0,
) -> Dataset:
    """An RTPLAN of fraction groups: fractions, and the meterset of each beam by number (None: not stated)."""
    ds = common(RTPLAN, "RTPLAN", uid, series="1.9.6")
    ds.FractionGroupSequence, numbers = Items(), {}
    for group_number, (fractions, metersets) in enumerate(groups, start=1):
        group = Dataset()
        group.FractionGroupNumber, group.ReferencedBeamSequence = group_number, Items()
        if fractions is not None:
            group.NumberOfFractionsPlanned = fractions
        group.NumberOfBeams, group.NumberOfBrachyApplicationSetups = len(metersets), setups
        for number, value in metersets.items():
            item = Dataset()
            item.ReferencedBeamNumber = number
            if value is not None:
                item.BeamMeterset = value
            group.ReferencedBeamSequence.append(item)
            numbers[number] = value
        ds.FractionGroupSequence.append(group)
    ds.BeamSequence = Items()
    for number in numbers:
        beam = Dataset()
        beam.BeamNumber, beam.BeamName, beam.BeamType, beam.PrimaryDosimeterUnit = number, "B", "DYNAMIC", "MU"
        if deliveries is None or number in deliveries:
            beam.TreatmentDeliveryType = (deliveries or {}).get(number, "TREATMENT")
        ds.BeamSequence.append(beam)
    return ds


def of_plan(ds: Dataset, summation: str, *uids: str, group: int | None = None, beams: Sequence[int] = ()) -> Dataset:
    """Make a dose one of a plan (or of several), of a fraction group, of beams."""
    ds.DoseSummationType, ds.ReferencedRTPlanSequence = summation, Items()
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = RTPLAN, uid
        if group is not None:
            of_group = Dataset()
            of_group.ReferencedFractionGroupNumber, of_group.ReferencedBeamSequence = group, Items()
            for number in beams:
                beam = Dataset()
                beam.ReferencedBeamNumber = number
                of_group.ReferencedBeamSequence.append(beam)
            item.ReferencedFractionGroupSequence = Items([of_group])
        ds.ReferencedRTPlanSequence.append(item)
    return ds
