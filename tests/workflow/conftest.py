"""One small plan, made once: the digital patient at coarse spacing, three beams, wide beamlets, few photons."""

from __future__ import annotations

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
def patient():
    from mrlinac.anatomy.phantom import thorax

    return thorax(3, spacing_zyx_mm=(6.0, 4.0, 4.0))


@pytest.fixture(scope="session")
def spec():
    return mr.load_plan("demo", COARSE)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def result(spec, patient, store):
    return mr.make_plan(spec, patient, store=store, threads=2)


@pytest.fixture(scope="session")
def saved(result, tmp_path_factory):
    return result.save(tmp_path_factory.mktemp("results") / "plan")


@pytest.fixture(scope="session")
def dicom_folder(patient, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom") / "case"
    dicom.write_patient(patient, folder)
    return folder
