"""One small plan, made once: the digital patient at coarse spacing, three beams, wide beamlets, few photons."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

import mrlinac as mr
from mrlinac import dicom
from mrlinac.store import Store

COARSE = {
    "technique.gantry_deg": [20, 140, 260],
    "technique.travel_step_mm": 20,
    "numerics.grid_mm": 8,
    "numerics.photons_per_beamlet": 1000,
    "numerics.correction_rounds": 1,
    "numerics.correction_rel_sigma": 0.15,
    "numerics.final_rel_sigma": 0.12,
    "numerics.oar_rows": 400,
    "numerics.target_rows": 800,
}


@pytest.fixture(scope="session")
def patient(shared):
    from mrlinac.phantoms import thorax

    return shared("patient", lambda: thorax(3, spacing_zyx_mm=(6.0, 4.0, 4.0)))


@pytest.fixture(scope="session")
def spec():
    return mr.load_plan("demo", COARSE)


@pytest.fixture(scope="session")
def case(shared, spec, patient):
    """The checked case of the small plan."""
    return shared("case", lambda: checked(spec, patient))


def checked(spec, patient):
    found = mr.check(spec, patient)
    found.raise_problems()
    return found.case


@pytest.fixture(scope="session")
def store(shared_folder):
    return Store(shared_folder / "cache" / "store")


@pytest.fixture(scope="session")
def result(shared, spec, patient, case, store):
    return shared("result", lambda: mr.make_plan(spec, patient, case=case, store=store, threads=2))


@pytest.fixture(scope="session")
def saved(shared, shared_folder, result):
    return shared("saved", lambda: result.save(shared_folder / "results" / "plan"))


MARKER = "Quillfeather"
"""The name of somebody, in every place of the export where a clinic may put it."""


@pytest.fixture(scope="session")
def dicom_folder(shared, shared_folder, patient):
    """An export with two structure sets; folder, files and tags hold the marker."""
    return shared("dicom_folder", lambda: marked_export(patient, shared_folder / "dicom" / f"case-{MARKER}"))


def marked_export(patient, folder):
    dicom.write_patient(patient, folder)
    heart = {"Heart": patient.rois["Heart"], "External": patient.rois["External"]}
    dicom.write_structures(dicom.read_patient(folder), heart, folder / "RTSTRUCT_old.dcm", "old")
    tags = ("PatientName", "PatientID", "AccessionNumber", "StudyID", "StudyDescription", "SeriesDescription")
    for path in list(folder.iterdir()):
        data = pydicom.dcmread(path)
        for tag in (*tags, "PatientComments", "OperatorsName", "InstitutionName"):
            setattr(data, tag, MARKER)
        if data.Modality == "RTSTRUCT":
            data.StructureSetLabel = data.StructureSetName = MARKER
        data.save_as(folder / f"{MARKER}_{path.name}")
        path.unlink()
    return folder


def where_marked(folder):
    """Files whose name or content holds the marker; DICOM and arrays decoded."""
    found = []
    for path in folder.rglob("*"):
        words = [str(path.relative_to(folder))]
        if path.suffix == ".dcm":
            words.append(str(pydicom.dcmread(path)))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                words += [f"{name} {arrays[name]}" for name in arrays.files if arrays[name].dtype.kind in "US"]
        if path.is_file():
            words.append(path.read_bytes().decode("latin-1"))
        if any(MARKER.lower() in word.lower() for word in words):
            found.append(words[0])
    return found
