"""A copy without who it is about: nothing identifies, everything fits together, geometry is the same bit for bit."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import edit
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import anonymise, read_dose, read_patient, write_dose, write_patient
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError, SpecError
from mrlinac.provenance import Provenance

PERSON, NUMBER, PLACE, DOCTOR = "Quillfeather", "QX4711-9", "Nowhere General", "Hawthornthwaite"
DATE, BIRTH, TIME = "20190523", "19511103", "173739"
PRIVATE = "vendor secret 8841"


def person_into(ds: Dataset) -> None:
    """Identifiers wherever a clinic, or a vendor, may put them; in sequences too."""
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.PatientID = f"{PERSON}^Ada", NUMBER
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = BIRTH, "F", "067Y"
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = DATE
    ds.StudyTime = TIME
    ds.InstanceCreationDate = DATE
    ds.AcquisitionDateTime = f"{DATE}{TIME}"
    ds.AccessionNumber, ds.StudyID = "ACC-998877", "ST-5566"
    ds.InstitutionName, ds.ReferringPhysicianName = PLACE, f"{DOCTOR}^Bo"
    ds.StudyDescription = ds.SeriesDescription = f"thorax of {PERSON}"
    ds.DoseComment = f"for {PERSON}"  # the profile's table does not name it
    ds.ManufacturerModelName = f"scanner bought by {PLACE}"
    request = Dataset()
    request.RequestedProcedureDescription = f"{PERSON}, {NUMBER}"
    request.ScheduledProcedureStepID = NUMBER
    ds.RequestAttributesSequence = Sequence([request])
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = ds.SOPInstanceUID
    inner.ReferencedSOPClassUID = ds.SOPClassUID
    inner.PersonName = PERSON
    ds.ReferencedStudySequence = Sequence([inner])
    block = ds.private_block(0x0099, "VENDOR X", create=True)
    block.add_new(0x10, "LO", PRIVATE)
    if ds.Modality == "RTSTRUCT":
        ds.StructureSetLabel = PERSON
        ds.StructureSetDate = DATE
        ds.StructureSetROISequence[1].ROIName = f"Heart {PERSON.upper()}"
        ds.StructureSetROISequence[1].ROIDescription = PERSON
        ds.RTROIObservationsSequence[0].ROIInterpreter = DOCTOR


@pytest.fixture
def export(folder: Path, cylinder: Patient) -> Path:
    """The cylinder with its dose, full of identifiers, in files named after the person."""
    grid = Grid((9, 12, 14), (2.5, 9.0, 9.0), (-58.5, -49.5, -10.0))
    values = np.arange(grid.size, dtype=np.float32).reshape(grid.shape_zyx)
    patient = read_patient(folder)
    write_dose(Dose(grid, values, None, 30, Provenance("t", "t")), patient, folder / "dose.dcm", "f", identify=True)
    for path in list(folder.iterdir()):
        edit(path, person_into)
        path.rename(path.with_name(f"{PERSON}_{path.name}"))
    return folder


def everything_of(folder: Path) -> bytes:
    """All bytes of all files, and their names."""
    return b"".join(
        str(p.relative_to(folder)).encode() + p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    )


SAID = (PERSON, "Ada", NUMBER, PLACE, DOCTOR, DATE, BIRTH, TIME, "ACC-998877", "ST-5566", PRIVATE, "VENDOR X", "067Y")


def test_nothing_that_identifies_is_left(export: Path, tmp_path: Path) -> None:
    before = everything_of(export).lower()
    report = anonymise(export, tmp_path / "out", seed=5)
    after = everything_of(tmp_path / "out").lower()
    for word in SAID:
        assert word.lower().encode() in before, word  # the test would see it
        # "Ada" is in "metadata" and chance bytes: three letters are looked for as words.
        if len(word) > 3:
            assert word.lower().encode() not in after, word
    for path in export.iterdir():
        ds = pydicom.dcmread(path)
        for uid in (ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID):
            assert uid.encode() in before
            assert uid.encode() not in after
    assert report.files == len(list(export.iterdir())) == 11
    assert report.kinds == {"CT": 9, "RTSTRUCT": 1, "RTDOSE": 1}
    assert report.cleaned >= 1
    assert all(word.lower() not in str(report).lower() for word in SAID if len(word) > 3)
    for path in (tmp_path / "out").rglob("*.dcm"):
        ds = pydicom.dcmread(path)
        assert str(ds.PatientName) == ds.PatientID == report.patients[0]
        assert ds.PatientIdentityRemoved == "YES"
        assert [item.CodeValue for item in ds.DeidentificationMethodCodeSequence] == ["113100", "113105", "113107"]
        assert not any(element.tag.is_private for element in ds.iterall())
        assert "PatientAge" not in ds
        assert ds.PatientSex == ""


def test_structures_and_dose_load_identically(export: Path, tmp_path: Path) -> None:
    report = anonymise(export, tmp_path / "out", seed=5)
    before, after = read_patient(export), read_patient(tmp_path / "out")
    assert after.image.grid == before.image.grid
    assert np.array_equal(after.image.values, before.image.values)
    assert after.label == before.label  # a hash of the image
    (cleaned,) = set(after.rois) - {"External", "CTV"}
    assert list(after.rois) == ["External", cleaned, "CTV"]
    assert cleaned.startswith("Heart")  # of "Heart QUILLFEATHER" without the name
    assert PERSON.lower() not in cleaned.lower()
    for one, other in zip(before.rois.values(), after.rois.values(), strict=True):
        assert len(one.contours) == len(other.contours)
        for a, b in zip(one.contours, other.contours, strict=True):
            assert a.z_mm == b.z_mm
            assert np.array_equal(a.points_xy_mm, b.points_xy_mm)
    paths = {p.name: p for p in (tmp_path / "out" / report.patients[0]).iterdir()}
    first, second = read_dose(export / f"{PERSON}_dose.dcm"), read_dose(paths["RTDOSE_0001.dcm"], patient=after)
    assert second.grid == first.grid
    assert np.array_equal(second.dose_Gy, first.dose_Gy)
    assert second.fractions == 30
    # Geometry bit for bit: the stored values, not only what they are read as.
    old = {pydicom.dcmread(p).InstanceNumber: p for p in export.iterdir() if pydicom.dcmread(p).Modality == "CT"}
    new = {pydicom.dcmread(p).InstanceNumber: p for n, p in paths.items() if n.startswith("CT")}
    assert old.keys() == new.keys()
    for number in old:
        a, b = pydicom.dcmread(old[number]), pydicom.dcmread(new[number])
        assert a.PixelData == b.PixelData
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleIntercept"):
            assert a.get_item(keyword).value == b.get_item(keyword).value
        assert a.file_meta.TransferSyntaxUID == b.file_meta.TransferSyntaxUID


def test_references_hold_and_dates_keep_their_distance(export: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(export.iterdir())):
        edit(path, SeriesDate=f"2019060{number % 9 + 1}")
    report = anonymise(export, tmp_path / "out", seed=5)
    sets = [pydicom.dcmread(p) for p in (tmp_path / "out" / report.patients[0]).iterdir()]
    uids = {ds.SOPInstanceUID for ds in sets}
    assert len(uids) == 11
    assert len({ds.StudyInstanceUID for ds in sets}) == 1
    assert len({ds.FrameOfReferenceUID for ds in sets}) == 1
    (structures,) = [ds for ds in sets if ds.Modality == "RTSTRUCT"]
    referred = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    images = {i.ReferencedSOPInstanceUID for i in referred.RTReferencedSeriesSequence[0].ContourImageSequence}
    assert images == {ds.SOPInstanceUID for ds in sets if ds.Modality == "CT"}
    assert all(ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID for ds in sets)
    from datetime import date, timedelta

    def day(value: str) -> date:
        return date(int(value[:4]), int(value[4:6]), int(value[6:]))

    moved = {day(DATE) - day(ds.StudyDate) for ds in sets}
    assert len(moved) == 1
    assert timedelta(365) <= moved.pop() < timedelta(3650)
    spans = {day(ds.SeriesDate) - day(ds.StudyDate) for ds in sets}
    assert spans == {timedelta(days=9 + n) for n in range(9)}


def test_a_seed_repeats_and_no_seed_does_not(export: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6), ("d", None), ("e", None)):
        anonymise(export, tmp_path / name, seed=seed)
    assert everything_of(tmp_path / "a") == everything_of(tmp_path / "b")
    # Each of the three that a secret decides differs by itself: nobody may be known again by one of them.
    held = {name: [pydicom.dcmread(path) for path in sorted((tmp_path / name).rglob("*.dcm"))] for name in "acde"}
    assert [len(objects) for objects in held.values()] == [11] * 4
    assert len({objects[0].PatientID for objects in held.values()}) == 4
    uids = [{ds.SOPInstanceUID for ds in objects} for objects in held.values()]
    assert len(set.union(*uids)) == 44
    for tag in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({objects[0][tag].value for objects in held.values()}) == 4, tag
    assert len({objects[0].StudyDate for objects in held.values()}) > 1


def test_what_is_not_copied(export: Path, tmp_path: Path) -> None:
    (export / "letter.txt").write_text(PERSON)
    capture = pydicom.dcmread(next(p for p in export.iterdir() if "CT" in p.name or p.suffix == ".dcm"))
    capture.SOPClassUID = capture.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    capture.Modality = "OT"
    capture.save_as(export / "screen.dcm")
    report = anonymise(export, tmp_path / "out")
    assert report.left_out == {"OT": 1}
    assert len(list((tmp_path / "out").rglob("*.*"))) == 11
    assert any("may show names" in note for note in report.notes.of("done"))


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        ("ISO_IR 100", "latin-1", "Müllerström"),
        ("ISO_IR 192", "utf-8", "山田太郎"),
        ("ISO_IR 144", "iso8859_5", "Иванов"),
    ],
)
def test_names_in_other_letters(export: Path, tmp_path: Path, charset: str, codec: str, name: str) -> None:
    for path in list(export.iterdir()):
        ds = pydicom.dcmread(path)
        ds.decode()  # else what is in it would be written in the old character set
        ds.SpecificCharacterSet = charset
        ds.PatientName = ds.ManufacturerModelName = name
        if ds.Modality == "RTSTRUCT":
            ds.StructureSetROISequence[1].ROIName = f"Heart {name}"
        ds.save_as(path)
    assert name.encode(codec) in everything_of(export)
    anonymise(export, tmp_path / "out")
    assert name.encode(codec) not in everything_of(tmp_path / "out")
    assert name.upper().encode(codec) not in everything_of(tmp_path / "out")
    rois = read_patient(tmp_path / "out").rois
    assert len(rois) == 3
    # The check of the bytes finds it too, where nothing has cleaned it.
    path = next(p for p in export.iterdir() if pydicom.dcmread(p).Modality == "CT")
    ds = pydicom.dcmread(path)
    ds.add_new(0x00181271, "OB", name.encode(codec))
    ds.save_as(path)
    with pytest.raises(DataError, match="still hold an identifier"):
        anonymise(export, tmp_path / "again")


def test_terms_of_the_standard_stay(export: Path, tmp_path: Path) -> None:
    """A phantom is often called what it is."""
    for path in export.iterdir():
        edit(path, PatientName="LUNG^ISO", BodyPartExamined="LUNG", SpecificCharacterSet="ISO_IR 192")
    report = anonymise(export, tmp_path / "out")
    assert report.files == 11
    ds = pydicom.dcmread(next((tmp_path / "out").rglob("CT_0001.dcm")))
    assert (ds.SpecificCharacterSet, ds.BodyPartExamined) == ("ISO_IR 192", "LUNG")
    assert "LUNG" not in str(ds.PatientName)


def test_refusals_write_nothing(export: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="lie in the folder"):
        anonymise(export, export / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    with pytest.raises(SpecError, match="not empty"):
        anonymise(export, tmp_path / "full")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "x").write_text("x")
    with pytest.raises(DataError):
        anonymise(tmp_path / "text", tmp_path / "out")
    # An identifier in a place that is kept: a code that somebody made of the name.
    path = next(p for p in export.iterdir() if pydicom.dcmread(p).Modality == "CT")
    ds = pydicom.dcmread(path)
    ds.add_new(0x00181271, "OB", PERSON.encode())
    ds.save_as(path)
    with pytest.raises(
        DataError, match=r"Water Equivalent Diameter \(0018,1271\) would still .*, the Patient's Name"
    ):
        anonymise(export, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".mrlinac")]


VENDOR = "1.2.840.10008.5.1.4.1.1.2.19991231.235959.4711"
"""A UID as a vendor makes it: date, time and serial number behind a SOP Class UID."""


def test_uids_under_the_root_of_the_standard_go_unless_it_lists_them(export: Path, tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = VENDOR, f"{VENDOR}.1", f"{VENDOR}.2"
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = VENDOR, "1.2.840.10008.1.4.1.1"
        item.ContextUID, item.CodingSchemeUID = "1.2.840.10008.6.1.19", "2.16.840.1.113883.6.96"
        ds.SourceImageSequence = Sequence([item])
        ds.ManufacturerModelName = f"{VENDOR}.1"  # a UID written as a text

    for path in export.iterdir():
        edit(path, change)
    anonymise(export, tmp_path / "out", seed=5)
    assert b"4711" not in everything_of(tmp_path / "out")
    ds = pydicom.dcmread(next((tmp_path / "out").rglob("CT_0001.dcm")))
    assert ds.ManufacturerModelName == ds.StudyInstanceUID
    assert len({ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID}) == 3
    (item,) = ds.SourceImageSequence
    assert item.ReferencedSOPInstanceUID == "1.2.840.10008.1.4.1.1"  # the standard lists it
    assert (item.ContextUID, item.CodingSchemeUID) == ("1.2.840.10008.6.1.19", "2.16.840.1.113883.6.96")
    assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("Anonymous^Patient", "ANON01"),
        ("ANONYMOUS", "ANONYMOUS"),
        ("Basic^Profile", "MODIFIED"),
        ("Option^Clean Dates", "113100"),
        ("Mrlinac", "mrlinac"),
        ("", ""),
    ],
)
def test_people_who_are_called_like_our_own_texts_pass(folder: Path, tmp_path: Path, name: str, number: str) -> None:
    for path in folder.iterdir():
        edit(path, PatientName=name, PatientID=number, ReferringPhysicianName="Physician^Anonymous")
    report = anonymise(folder, tmp_path / "out")
    assert report.files == 10
    assert all(str(pydicom.dcmread(p).PatientName) == report.patients[0] for p in (tmp_path / "out").rglob("*.dcm"))


def test_a_copy_can_be_copied_again(export: Path, tmp_path: Path) -> None:
    first = anonymise(export, tmp_path / "once", seed=5)
    again = anonymise(tmp_path / "once", tmp_path / "twice", seed=5)
    assert again.files == first.files
    assert again.patients != first.patients


def test_our_own_export_passes(cylinder: Patient, tmp_path: Path) -> None:
    write_patient(cylinder, tmp_path / "own")
    assert anonymise(tmp_path / "own", tmp_path / "out").files == 10


def test_two_patients_get_two_pseudonyms_and_two_spans_of_days(export: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(export.iterdir())):
        edit(path, PatientID=f"NUMBER{number % 2}", PatientName="Same^Name")
    report = anonymise(export, tmp_path / "out", seed=5)
    assert len(set(report.patients)) == 2
    dates = {p: {pydicom.dcmread(f).StudyDate for f in (tmp_path / "out" / p).iterdir()} for p in report.patients}
    assert len(set.union(*dates.values())) == 2


def test_uids_and_pseudonyms_under_another_secret_differ(export: Path, tmp_path: Path) -> None:
    held = {}
    for name, seed in (("a", 5), ("b", 5), ("c", 6), ("d", None), ("e", None)):
        report = anonymise(export, tmp_path / name, seed=seed)
        ds = pydicom.dcmread(next((tmp_path / name).rglob("CT_0001.dcm")))
        held[name] = (ds.SOPInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID, report.patients[0])
    assert held.pop("b") == held["a"]
    assert all(len(set(values)) == 4 for values in zip(*held.values(), strict=True))


def test_an_identifier_left_in_many_files_is_one_kind_of_problem(export: Path, tmp_path: Path) -> None:
    for path in export.glob("*CT_0*"):
        ds = pydicom.dcmread(path)
        ds.add_new(0x00181271, "OB", PERSON.encode())
        ds.save_as(path)
    with pytest.raises(DataError) as caught:
        anonymise(export, tmp_path / "out")
    assert "of this kind" in str(caught.value)
    assert str(caught.value).count("\n") < 9
