"""Names that nearly fit, and disks without room."""

import builtins
import errno
import io
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.figure import Figure
from pydicom.dataset import Dataset

from mrlinac.dicom import patient_toml
from mrlinac.dicom.write import common
from mrlinac.errors import DataError, DiskError, check_place, did_you_mean, writing
from mrlinac.report import style, tables


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Hart", "; did you mean 'Heart'?"), ("HEART", "; did you mean 'Heart'?"), ("Kidney", ""), (3, "")],
)
def test_the_nearest_name_is_suggested_whatever_its_case(name, hint):
    assert did_you_mean(name, ["Heart", "Lung_L"]) == hint


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "quota"), (errno.EFBIG, "larger")]
)
def test_no_room_names_the_file_and_a_remedy(number, words, tmp_path):
    with pytest.raises(DiskError) as caught, writing(tmp_path / "new" / "dose.npz"):
        raise OSError(number, "as the system says it")
    text = str(caught.value)
    assert str(tmp_path / "new" / "dose.npz") in text
    assert words in text
    assert "MB free" in text
    assert "elsewhere" in text


def test_other_errors_pass():
    with pytest.raises(PermissionError), writing("x"):
        raise PermissionError(errno.EACCES, "no")


def test_room_and_permission_are_found_out_before_anything_is_made(tmp_path, monkeypatch):
    wanted = tmp_path / "not" / "yet" / "there"
    check_place(wanted, 1.0)
    assert not wanted.parent.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2e6 if place == tmp_path else 0))
    check_place(wanted, 2e6)
    with pytest.raises(DiskError, match="2 MB free, and 3 MB"):
        check_place(wanted, 3e6)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(DataError, match=str(tmp_path)):
        check_place(wanted)


@pytest.fixture
def full_disk(monkeypatch):
    """Files of a name get no byte: they are opened on a device that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    names, really = set(), builtins.open

    def opened(file, *more, **options):
        full = isinstance(file, str | Path) and Path(file).name in names
        return really("/dev/full" if full else file, *more, **options)

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(io, "open", opened)
    return names


def test_tables_and_figures_name_their_file(full_disk, tmp_path):
    full_disk |= {"goals.csv", "dvh.svg", "map.png"}
    with pytest.raises(DiskError, match=r"goals\.csv: the disk is full"):
        tables.write_csv(pd.DataFrame({"a": range(10)}), tmp_path / "goals.csv")
    for name, suffix in (("dvh", "svg"), ("map", "png")):
        with pytest.raises(DiskError, match=rf"{name}\.{suffix}: the disk is full"):
            style.save(Figure(), tmp_path, name)


def test_dicom_objects_and_patient_toml_name_their_file_and_leave_nothing(tmp_path, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")

    def full(handle, mode, **options):
        os.close(handle)
        return open("/dev/full", mode, **options)

    monkeypatch.setattr(os, "fdopen", full)
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.PixelData = "1.2.3", "1.2.3.4", bytes(100_000)
    ds["PixelData"].VR = "OB"
    with pytest.raises(DiskError, match=r"dose\.dcm: the disk is full"):
        common.save(ds, tmp_path / "dose.dcm")
    with pytest.raises(DiskError, match=r"patient\.toml: the disk is full"):
        patient_toml._save("label = 'x'", tmp_path / "patient.toml")
    assert list(tmp_path.iterdir()) == []
