"""A small water cylinder as a patient, its files, and the real data where they are."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from dicom_files import circle, edit

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.structures import Roi
from mrlinac.dicom import write_patient

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def cylinder() -> Patient:
    """A water cylinder of 60 mm radius with a ring-shaped organ and a target, on 40×48 pixels of 3 mm, 9 slices."""
    grid = Grid((9, 40, 48), (2.5, 3.0, 3.0), (-70.5, -58.5, -10.0))
    y, x = np.meshgrid(grid.y_mm, grid.x_mm, indexing="ij")
    values = np.full(grid.shape_zyx, -1000, np.float32)
    values[:, np.hypot(x, y) < 50] = np.arange(9)[:, None]
    planes = [float(z) for z in grid.z_mm]
    rois = {
        "External": Roi("External", "external", tuple(circle(50, z) for z in planes), 2.5),
        "Heart": Roi("Heart", "oar", tuple(circle(r, z) for z in planes[2:7] for r in (30, 20)), 2.5),
        "CTV": Roi("CTV", "target", tuple(circle(12, z, x_mm=5) for z in planes[3:6]), 2.5, derived=True),
    }
    return Patient("cylinder", Image(grid, values), rois)


@pytest.fixture
def folder(cylinder: Patient, tmp_path: Path) -> Path:
    """The cylinder written as files, as if a clinic had exported it."""
    write_patient(cylinder, tmp_path / "export")
    for path in (tmp_path / "export").iterdir():
        edit(path, PatientName="SECRET^PERSON", PatientID="ID4711", AccessionNumber="ACC99")
    return tmp_path / "export"


@pytest.fixture(scope="session")
def crop() -> Path:
    """The coarse crop of the real lung CT."""
    return ROOT / "tests" / "data" / "dicom" / "lung-crop"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data."""
    folder = Path(os.environ.get("MRLINAC_DATA") or ROOT / "data")
    if not (folder / "lung-4d-113").is_dir() and "MRLINAC_DATA" not in os.environ:
        folder = ROOT.parent / "shared" / "data"
    if not (folder / "lung-4d-113").is_dir():
        pytest.skip("the real data are not here: set MRLINAC_DATA")
    return folder


@pytest.fixture(scope="session")
def real_ct(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real CT, unpacked."""
    folder = tmp_path_factory.mktemp("lung-4d-113")
    with tarfile.open(real_data / "lung-4d-113" / "ct.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder
