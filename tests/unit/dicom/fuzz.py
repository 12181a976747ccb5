"""Damaged exports: bytes changed at random, elements made up by hypothesis; and what a reader may make of them."""

from __future__ import annotations

import resource
import shutil
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from nasty import (
    Export,
    body,
    compress_jpeg_lossless,
    compressed,
    dose,
    multi_frame,
    registration,
    series,
    shift,
    square,
    structure_set,
    tilted,
)
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from mrlinac.dicom import ImportReport, import_folder, read_dose
from mrlinac.errors import MrlinacError

SECRETS = ("SECRET", "PERSON", "ID4711")
MOST_SECONDS = 120.0
"""The small exports take tens of milliseconds, a damaged JPEG-LS stream may take CharLS 8 s: a hang takes longer."""


@dataclass
class Outcome:
    """What became of one damaged export."""

    kind: str
    seconds: float


def outcome(folder: Path, clean: ImportReport | None = None) -> Outcome:
    """Import a folder; raises AssertionError where the outcome is neither a sound patient nor a sentence.

    No exception but ours may leave, nothing may take long, a patient must be sound, and neither the report nor the
    error may say who it is. A report without a patient must name a problem. A patient whose image lies elsewhere, or
    that has other structures, than that of the ``clean`` export must come with another report.
    """
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nobody wants numpy's on the screen
            report = import_folder(folder)
        told = f"{report}{report._repr_html_()}{report.as_dict()}"
        if report.patient is None:
            assert report.problems, "no patient and no problem"
            kind = "problem"
        else:
            assert not report.problems, "a patient in spite of problems"
            check_sound(report.patient)
            if clean is not None and placed(report) != placed(clean):
                assert str(report.notes) != str(clean.notes), "changed without a word"
            kind = "patient"
    except MrlinacError as error:
        told, kind = str(error), "error"
    assert not any(secret in told for secret in SECRETS), "an identifier was said"
    seconds = time.perf_counter() - start
    assert seconds < MOST_SECONDS, f"took {seconds:.0f} s"
    return Outcome(kind, seconds)


def placed(report: ImportReport) -> tuple[object, ...]:
    """Where the patient's image lies, and which structures there are with how many contours."""
    patient = report.patient
    assert patient is not None
    rois = [(roi.name, roi.role, len(roi.contours), roi.slice_spacing_mm) for roi in patient.rois.values()]
    return patient.image.grid, patient.image.quantity, patient.position, rois


def dose_outcome(path: Path) -> Outcome:
    """Read a damaged dose alone."""
    start = time.perf_counter()
    try:
        dose = read_dose(path, fractions=1)
        assert np.all(np.isfinite(dose.dose_Gy))
        assert float(dose.dose_Gy.min()) >= 0
        assert float(dose.dose_Gy.max()) <= 1e4
        check_grid(dose.grid)
        kind = "dose"
        told = ""
    except MrlinacError as error:
        told, kind = str(error), "error"
    assert not any(secret in told for secret in SECRETS)
    return Outcome(kind, time.perf_counter() - start)


def check_grid(grid: object) -> None:
    """A grid that a patient may lie on."""
    assert all(0.02 <= step <= 60 for step in grid.spacing_zyx_mm), grid
    assert np.all(np.abs(np.array([grid.lower_xyz_mm, grid.upper_xyz_mm])) < 2.1e5), grid
    assert grid.size < 1e9


def check_sound(patient: object) -> None:
    """No value that is not finite, no HU beyond the scale, no point out of this world, no structure without a name."""
    values = patient.image.values
    check_grid(patient.image.grid)
    assert values.shape == patient.image.grid.shape_zyx
    assert np.all(np.isfinite(values))
    if patient.image.quantity == "HU":
        assert float(values.min()) >= -1024
        assert float(values.max()) <= 1e5
    for name, roi in patient.rois.items():
        assert name
        assert name == roi.name
        assert roi.contours
        assert 0 < roi.slice_spacing_mm < 2e4
        for contour in roi.contours:
            assert np.all(np.isfinite(contour.points_xy_mm))
            assert np.max(np.abs(contour.points_xy_mm)) < 2.1e4


def peak_MB() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One file's bytes with something wrong: flipped bits, new bytes, a piece cut, doubled, moved, or zeroed."""
    if not data:
        return data
    changed = bytearray(data)
    # Most damage to headers lies in the first kilobytes; pixels stand any change.
    reach = len(changed) if rng.random() < 0.4 else min(len(changed), 1600)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(max(1, min(reach, len(changed)))))
        length = int(rng.integers(1, 40))
        way = int(rng.integers(8))
        if way == 0:
            changed[place] ^= 1 << int(rng.integers(8))
        elif way == 1:
            changed[place : place + length] = rng.bytes(length)
        elif way == 2:
            del changed[place:]
        elif way == 3:
            del changed[place : place + length]
        elif way == 4:
            changed[place:place] = changed[place : place + length]
        elif way == 5:
            changed[place : place + 4] = int(rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFF])).to_bytes(4, "little")
        elif way == 6:
            changed[place : place + length] = bytes(length)
        else:
            text = rng.choice([b"1e308", b"-1e400", b"nan", b"inf", b"\\\\\\", b"0", b"99999999999", b"\xff\xfe"])
            changed[place : place + len(text)] = bytes(text)
        if not changed:
            break
    return bytes(changed)


# --- what is damaged ------------------------------------------------------------------------------------------------


def whole() -> Export:
    """A CT, a registered multi-frame MR, structures, a dose and a registration."""
    export = series()
    planes = (-4.0, 0.0, 4.0, 8.0)
    rois = {"External": body(), "Heart": [(z, square(5)) for z in planes], "CTV": [(z, square(3)) for z in planes]}
    export.others += [structure_set(rois, export, types={"External": "EXTERNAL"}), dose()]
    export.others += [registration("1.9.200", "1.9.1", shift(5, -3, 4))]
    export.images += multi_frame(series(modality="MR", uid="1.9.300", frame="1.9.200")).images
    return export


def exports(folder: Path) -> dict[str, Path]:
    """Folders to damage: as it is, without preambles, compressed in four ways, and tilted."""
    folders = {"plain": whole().write(folder / "plain"), "bare": whole().write(folder / "bare", bare=True)}
    for name, syntax in (("rle", RLELossless), ("jpeg-ls", JPEGLSLossless), ("jpeg2000", JPEG2000Lossless)):
        export = compressed(series(), syntax)
        export.others.append(structure_set({"External": body()}, export))
        folders[name] = export.write(folder / name)
    export = series().edit(compress_jpeg_lossless)
    export.others.append(structure_set({"External": body()}, export))
    folders["jpeg"] = export.write(folder / "jpeg")
    export = tilted(shift(about_x_deg=8.0)[:3, :3])
    export.others.append(structure_set({"External": body(12.0, (-4, 0, 4))}, export))
    folders["tilted"] = export.write(folder / "tilted")
    return folders


def batter(clean: dict[str, Path], reports: dict[str, ImportReport], folder: Path, seed: int) -> Outcome:
    """Damage up to three files of one of the clean exports and import the folder."""
    rng = np.random.default_rng(seed)
    shutil.rmtree(folder, ignore_errors=True)
    name = str(rng.choice(sorted(clean)))
    shutil.copytree(clean[name], folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in rng.choice(np.array(files, object), int(rng.integers(1, 4)), replace=False):
        path.write_bytes(damaged(path.read_bytes(), rng))
    return outcome(folder, reports[name])


# --- made by hypothesis ---------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.sampled_from(["0", "1", "-1", "0.5", "3", "1e308", "-1e30", "1e-320", "99999", "1000", "-70"]),
    st.integers(-(2**31), 2**31 - 1).map(str),
    st.floats(-1000, 1000).map(lambda v: f"{v:.6g}"),
)
CODES = st.sampled_from(
    ["", "HFS", "FFP", "HFDR", "SITTING", "CT", "MR", "GY", "HU", "MONOCHROME1", "X" * 16, "PLAN"]
)
BY_VR = {
    "DS": st.lists(NUMBERS, max_size=17),
    "IS": st.lists(st.integers(-(2**31), 2**31 - 1).map(str), max_size=4),
    "US": st.integers(0, 65535),
    "UI": st.sampled_from(["", "1.2", "1.9.1", "1.9.2", "1.9.200", "not a uid", "1.2.840.10008.5.1.4.1.1.2"]),
    "CS": CODES,
    "LO": CODES,
    "OW": st.binary(max_size=300),
}
KEYWORDS = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "RescaleSlope",
    "RescaleIntercept",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelData",
    "NumberOfFrames",
    "PatientPosition",
    "SliceThickness",
    "ImageType",
    "RescaleType",
    "FrameOfReferenceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "SOPClassUID",
    "Modality",
    "ContourData",
    "NumberOfContourPoints",
    "ContourGeometricType",
    "ROINumber",
    "ReferencedROINumber",
    "ReferencedFrameOfReferenceUID",
    "GridFrameOffsetVector",
    "DoseGridScaling",
    "DoseUnits",
    "FrameOfReferenceTransformationMatrix",
)
SEQUENCES = (
    "StructureSetROISequence",
    "ROIContourSequence",
    "ContourSequence",
    "RTROIObservationsSequence",
    "ReferencedFrameOfReferenceSequence",
    "RTReferencedStudySequence",
    "RTReferencedSeriesSequence",
    "ContourImageSequence",
    "RegistrationSequence",
    "MatrixRegistrationSequence",
    "MatrixSequence",
    "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence",
    "PlanePositionSequence",
    "BeamSequence",
    "FractionGroupSequence",
)


@st.composite
def changes(draw: st.DrawFn) -> list[tuple[str, str, object]]:
    """What to do to an object: put a value, drop an element, empty or repeat a sequence; by keyword, at any depth."""
    done: list[tuple[str, str, object]] = []
    for _ in range(draw(st.integers(1, 4))):
        way = draw(st.sampled_from(["put", "put", "put", "drop", "empty", "repeat"]))
        keyword = draw(st.sampled_from(KEYWORDS if way in ("put", "drop") else SEQUENCES))
        value = draw(BY_VR[kind(keyword)]) if way == "put" else None
        done.append((way, keyword, value))
    return done


def kind(keyword: str) -> str:
    """VR of a keyword, of those that have a strategy."""
    found = dictionary_VR(tag_for_keyword(keyword))
    return {"OB or OW": "OW", "US or SS": "US"}.get(found, found)


def apply(ds: Dataset, done: list[tuple[str, str, object]]) -> None:
    """Make the changes wherever the object, or an item in it, has the element; a put makes it where nothing has it."""
    for way, keyword, value in done:
        holders = [holder for holder in _all(ds) if keyword in holder]
        if way == "put" and not holders:
            holders = [ds]
        for holder in holders[:3]:
            if way == "put":
                setattr(holder, keyword, value)
            elif way == "drop":
                del holder[keyword]
            elif way == "empty":
                setattr(holder, keyword, Items([]))
            else:
                setattr(holder, keyword, Items(list(getattr(holder, keyword)) * 2))


def _all(ds: Dataset) -> list[Dataset]:
    found = [ds]
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                found += _all(item)
    return found


def made_up(done: list[tuple[str, str, object]], index: int, folder: Path) -> Outcome | None:
    """Import an export with made-up values in one of its objects; None where pydicom does not write such a thing."""
    export = whole()
    objects: list[Dataset] = [*export.images, *export.others]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            apply(objects[index % len(objects)], done)
            export.write(folder)
    except Exception:
        return None
    return outcome(folder)
