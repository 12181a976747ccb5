"""Two people in one folder, two secrets, no secret: who is told from whom, and what can be repeated."""

from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import edit

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import anonymise, read_patient, write_dose, write_patient
from mrlinac.dicom.scan import series_key
from mrlinac.dose.dose import Dose
from mrlinac.provenance import Provenance

PEOPLE = {"ada": ("QUILL^ADA", "QX4711"), "bo": ("HAWTHORN^BO", "QX4712")}
STUDY = "20190523"


@pytest.fixture
def ward(cylinder: Patient, tmp_path: Path) -> Path:
    """The same pictures of two people, each with a dose, under UIDs of their own; each is named in the other's files."""
    grid = Grid((4, 5, 6), (2.5, 9.0, 9.0), (-20.0, -20.0, -5.0))
    dose = Dose(grid, np.arange(120, dtype=np.float32).reshape(4, 5, 6), None, 30, Provenance("t", "t"))
    for number, (folder, (name, code)) in enumerate(PEOPLE.items()):
        place = tmp_path / "ward" / folder
        write_patient(cylinder, place)
        write_dose(dose, read_patient(place), place / "dose.dcm", "f")
        friend = list(PEOPLE.values())[1 - number][0].split("^")[0]

        def person(ds, name=name, code=code, number=number, friend=friend):
            ds.PatientName, ds.PatientID, ds.StudyDate = name, code, STUDY
            ds.ManufacturerModelName = f"scanner of {friend}"
            if number:
                for tag in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
                    setattr(ds, tag, "1.2.3." + str(int(series_key(getattr(ds, tag)), 16)))
                ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID

        for path in place.iterdir():
            edit(path, person)
    return tmp_path / "ward"


def copied(ward: Path, out: Path, seed: int | None) -> dict[str, list[pydicom.Dataset]]:
    """Objects of the copy by the folder they lie in."""
    anonymise(ward, out, seed=seed)
    found: dict[str, list[pydicom.Dataset]] = {}
    for path in sorted(out.rglob("*.dcm")):
        found.setdefault(path.parent.name, []).append(pydicom.dcmread(path))
    return found


def uids(objects: list[pydicom.Dataset]) -> set[str]:
    tags = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    return {str(ds[tag].value) for ds in objects for tag in tags if tag in ds}


def test_two_people_get_two_names_and_stay_apart(ward: Path, tmp_path: Path) -> None:
    report = anonymise(ward, tmp_path / "out", seed=5)
    assert len(set(report.patients)) == 2
    folders = {folder.name: list(folder.iterdir()) for folder in (tmp_path / "out").iterdir()}
    assert folders.keys() == set(report.patients)
    assert [len(files) for files in folders.values()] == [11, 11]
    for pseudonym, files in folders.items():
        for path in files:
            ds = pydicom.dcmread(path)
            assert str(ds.PatientName) == ds.PatientID == pseudonym
    first, second = (
        uids([pydicom.dcmread(path) for path in files if "CT" in path.name]) for files in folders.values()
    )
    assert not first & second


def test_a_name_of_one_is_taken_out_of_the_files_of_the_other(ward: Path, tmp_path: Path) -> None:
    anonymise(ward, tmp_path / "out", seed=5)
    held = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")).upper()
    assert b"SCANNER OF" in held  # the text stays
    for name, code in PEOPLE.values():
        assert name.split("^")[0].encode() not in held
        assert code.encode() not in held


def test_dates_of_two_people_move_by_two_spans(ward: Path, tmp_path: Path) -> None:
    found = copied(ward, tmp_path / "out", 5)
    dates = [{ds.StudyDate for ds in objects if ds.get("StudyDate")} for objects in found.values()]
    assert [len(one) for one in dates] == [1, 1]  # one span a person …
    (first,), (second,) = dates
    assert first != second  # … and not the same for both
    for value in (first, second):
        moved = date(2019, 5, 23) - date(int(value[:4]), int(value[4:6]), int(value[6:]))
        assert 365 <= moved.days < 3650


@pytest.mark.parametrize("seeds", [(5, 6), (None, None), (0, 1)])
def test_another_secret_shares_no_uid_and_no_name(ward: Path, tmp_path: Path, seeds) -> None:
    one, other = (copied(ward, tmp_path / str(number), seed) for number, seed in enumerate(seeds))
    assert not one.keys() & other.keys()
    first, second = (uids([ds for objects in found.values() for ds in objects]) for found in (one, other))
    assert len(first) == len(second) > 20
    assert not first & second


def test_the_same_secret_repeats_names_uids_and_dates(ward: Path, tmp_path: Path) -> None:
    one, other = (copied(ward, tmp_path / name, 0) for name in "ab")
    assert one.keys() == other.keys()
    for name, objects in one.items():
        assert uids(objects) == uids(other[name])
        assert [ds.get("StudyDate") for ds in objects] == [ds.get("StudyDate") for ds in other[name]]


def test_what_comes_later_fits_what_went_before(ward: Path, tmp_path: Path) -> None:
    """A dose copied by itself under the same secret refers to the CT that was copied with all the rest."""
    whole = copied(ward, tmp_path / "whole", 5)
    late = tmp_path / "late" / "ada"
    late.mkdir(parents=True)
    (ward / "ada" / "dose.dcm").rename(late / "dose.dcm")
    (name,) = alone = copied(tmp_path / "late", tmp_path / "alone", 5)
    (dose,) = alone[name]
    assert name in whole
    same = next(ds for ds in whole[name] if ds.Modality == "RTDOSE")
    for tag in ("SOPInstanceUID", "FrameOfReferenceUID", "StudyInstanceUID", "StudyDate"):
        assert dose[tag].value == same[tag].value
