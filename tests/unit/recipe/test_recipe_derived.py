"""Structures derived from the CT are made once and kept by what decides them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrlinac.anatomy import autosegment
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.recipe import derived
from mrlinac.store import Store


@pytest.fixture(scope="module")
def patient() -> Patient:
    """A cylinder of water that the left edge of the image cuts."""
    grid = Grid((4, 40, 40), (3.0, 4.0, 4.0), (-78.0, -78.0, 0.0))
    y, x = np.meshgrid(grid.y_mm, grid.x_mm, indexing="ij")
    values = np.full(grid.shape_zyx, -1000, np.float32)
    values[:, np.hypot(x + 40, y) < 60] = 0
    return Patient("cut", Image(grid, values), {})


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often something was derived."""
    made: list[int] = []
    whole = autosegment.with_derived

    def counted(patient: Patient, wanted: object = True) -> Patient:
        made.append(1)
        return whole(patient, wanted)

    monkeypatch.setattr(autosegment, "with_derived", counted)
    return made


def test_what_was_derived_comes_back_bit_for_bit(patient: Patient, tmp_path: Path, times: list[int]) -> None:
    store = Store(tmp_path)
    first = derived.with_derived(patient, ("External",), store=store)
    again = derived.with_derived(patient, ("External",), store=store)
    assert len(times) == 1
    assert again.notes == first.notes
    one, other = first.rois["External"], again.rois["External"]
    assert replace(other, contours=()) == replace(one, contours=())
    for a, b in zip(one.contours, other.contours, strict=True):
        assert a.z_mm == b.z_mm
        assert np.array_equal(a.points_xy_mm, b.points_xy_mm)


def test_anything_that_decides_it_derives_anew(patient: Patient, tmp_path: Path, times: list[int]) -> None:
    store = Store(tmp_path)
    values = patient.image.values.copy()
    values[0, 0, 0] += 1
    unseen = np.zeros(values.shape, bool)
    grid = replace(patient.image.grid, origin_xyz_mm=(-77.0, -78.0, 0.0))
    heart = Roi("Heart", "oar", (Contour(0.0, np.array([(0, 0), (9, 0), (0, 9)], float)),), 3.0)
    others = [
        patient,
        replace(patient, image=Image(patient.image.grid, values)),
        replace(patient, image=Image(grid, patient.image.values)),
        replace(patient, image=Image(patient.image.grid, patient.image.values, "HU", unseen)),
        replace(patient, position="HFP"),
        replace(patient, rois={"Heart": heart}),
    ]
    for other in others:
        derived.with_derived(other, ("External",), store=store)
    derived.with_derived(patient, ("External", "Airway"), store=store)
    assert len(times) == len(others) + 1


def test_a_derived_body_that_the_image_cuts_is_said(patient: Patient, tmp_path: Path) -> None:
    found = derived.with_derived(patient, ("External",), store=Store(tmp_path))
    (told,) = found.notes.of("warning")
    assert told.startswith("External reaches the edge of the image (4 slices, z 0 … 9 mm)")
    whole = replace(patient, image=Image(patient.image.grid, np.roll(patient.image.values, 10, axis=2)))
    assert not derived.with_derived(whole, ("External",), store=Store(tmp_path)).notes.of("warning")


def test_nothing_is_kept_of_nothing(patient: Patient, tmp_path: Path) -> None:
    assert derived.with_derived(patient, False, store=Store(tmp_path)) is patient
    assert Store(tmp_path).count() == 0
