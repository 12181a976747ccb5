"""Anatomy shared between plans of one patient: the same bits, made less often, and never another's."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import mrlinac as mr
from mrlinac.anatomy import contours, margins, medium_from_image, metal
from mrlinac.anatomy.calculation_grid import calculation_grid
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour
from mrlinac.errors import DataError
from mrlinac.phantoms import thorax
from mrlinac.recipe import shared
from mrlinac.recipe.case import couch_of, prepare, source_of

MARGIN = "protocol.structures.PTV.margin_mm"


@pytest.fixture(scope="module")
def patient():
    return thorax(3, spacing_zyx_mm=(30.0, 8.0, 8.0))


@pytest.fixture(scope="module")
def spec():
    return mr.load_plan("unity-66in33", {"numerics.grid_mm": 16, "technique.gantry_deg": [20, 300]})


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(shared, "KEPT", shared.Kept())


def alone(spec, patient, monkeypatch):
    """The case with nothing kept."""
    with monkeypatch.context() as patch:
        patch.setattr(shared, "KEPT", shared.Kept())
        return prepare(spec, patient)


def same(one, other):
    """Bit for bit: structures, medium, beamlets, notes."""
    assert list(one.structures) == list(other.structures)
    for name, structure in one.structures.structures.items():
        twin = other.structures[name]
        assert structure.occupancy.tobytes() == twin.occupancy.tobytes(), name
        assert (structure.role, structure.drawn_volume_cc, structure.continued_cc) == (
            *(twin.role, twin.drawn_volume_cc, twin.continued_cc),
        )
        assert (structure.drawn is None) == (twin.drawn is None)
    assert one.medium.density_g_cm3.tobytes() == other.medium.density_g_cm3.tobytes()
    assert one.medium.material.tobytes() == other.medium.material.tobytes()
    assert [m.lattice_uv.tolist() for m in one.maps] == [m.lattice_uv.tolist() for m in other.maps]
    assert str(one.notes) == str(other.notes)


def test_a_plan_with_another_margin_is_what_it_would_be_alone(spec, patient, monkeypatch):
    other = spec.override({MARGIN: 3})
    prepare(spec, patient)
    same(prepare(other, patient), alone(other, patient, monkeypatch))


def test_only_what_the_margin_changes_is_made_again(spec, patient, monkeypatch):
    made = []
    whole = margins.expand
    monkeypatch.setattr(margins, "expand", lambda *given: made.append(given[2]) or whole(*given))
    monkeypatch.setattr(
        shared.contours,
        "rasterise",
        lambda rois, grid, w=shared.contours.rasterise: made.extend(rois) or w(rois, grid),
    )
    prepare(spec, patient)
    assert {-5.0, -3.0, 7.0} <= {m for m in made if not isinstance(m, str)}
    assert set(patient.rois) <= set(made)
    made.clear()
    prepare(spec.override({MARGIN: 3}), patient)
    assert -5.0 not in made  # of the body, whatever the margin
    assert 3.0 in made
    assert not set(patient.rois) & set(made)
    made.clear()
    prepare(spec, patient)
    assert made == []


def test_margins_of_one_structure_are_kept_apart_by_sign_and_side():
    grid = Grid((7, 9, 8), (3.0, 2.0, 2.5), (0.0, 0.0, 0.0))
    inside = np.zeros(grid.shape_zyx, np.float32)
    inside[2:5, 2:7, 2:6] = 1
    sides = {"left": 2, "right": 4, "anterior": 2, "posterior": 2, "superior": 3, "inferior": 3}
    six = [margins.SixMargins(**sides, inward=inward) for inward in (False, True)]
    wanted = (2.0, -2.0, *six, margins.SixMargins(**{**sides, "left": 4, "right": 2}), 0.0)
    found = [shared.expand(inside, grid, margin) for margin in wanted]
    assert len({one.tobytes() for one in found}) == len(wanted)
    for one, margin in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, margins.expand(inside, grid, margin))


def moved(patient):
    roi = patient.rois["CTV"]
    shifted = tuple(Contour(c.z_mm, c.points_xy_mm + 5) for c in roi.contours)
    return replace(patient, rois={**patient.rois, "CTV": replace(roi, contours=shifted)})


@pytest.mark.parametrize(
    ("change_spec", "change_patient"),
    [
        ({}, lambda p: replace(p, image=replace(p.image, values=p.image.values + np.float32(60)))),
        ({}, moved),
        ({}, lambda p: replace(p, rois={**p.rois, "CTV": replace(p.rois["CTV"], slice_spacing_mm=4.0)})),
        ({}, lambda p: replace(p, position="HFP")),
        ({"numerics.grid_mm": 18}, lambda p: p),
        ({"patient.density_overrides": {"CTV": {"density_g_cm3": 1.5, "material": "water"}}}, lambda p: p),
        ({"patient.metal.density_g_cm3": 8.0, "patient.metal.threshold_HU": 200}, lambda p: p),
        ({"machine": "agility"}, lambda p: p),
    ],
    ids=["image", "contours", "thickness", "position", "grid", "override", "metal", "couch"],
)
def test_nothing_stale_is_served(spec, patient, change_spec, change_patient):
    first = pieces(shared, spec, patient)
    spec, patient = spec.override(change_spec) if change_spec else spec, change_patient(patient)
    found = pieces(shared, spec, patient)
    assert found == pieces(ENGINES, spec, patient)
    assert found != first


ENGINES = SimpleNamespace(
    rasterise=contours.rasterise, metal_in=metal.metal_in, medium_of=medium_from_image.medium_of
)


def pieces(makers, spec, patient):
    """What is drawn, metal and medium, as bytes: as kept, or by the engines themselves."""
    source, couch = source_of(spec, patient), couch_of(spec.machine, patient)
    grid = calculation_grid(patient, couch, spec.numerics.grid_mm)
    drawn = makers.rasterise(patient.rois, grid)
    metal_structure = makers.metal_in(patient, grid, source.metal.threshold_HU)
    medium, notes = makers.medium_of(
        patient, grid, drawn, couch=couch, overrides=source.density_overrides, metal=source.metal
    )
    occupancies = [s.occupancy.tobytes() for s in drawn.structures.values()]
    metal_bytes = None if metal_structure is None else metal_structure.occupancy.tobytes()
    return occupancies, metal_bytes, medium.density_g_cm3.tobytes(), medium.material.tobytes(), str(notes)


def test_what_is_attached_to_a_structure_is_the_patients_own_contours(patient):
    grid = Grid((40, 60, 60), (16.0, 8.0, 8.0), (-236.0, -236.0, -300.0))
    for one in (patient, replace(patient)):
        assert shared.rasterise({"CTV": one.rois["CTV"]}, grid)["CTV"].drawn is one.rois["CTV"]


def test_every_structure_that_cannot_be_put_on_the_grid_is_named_at_once(patient):
    far = Grid((4, 4, 4), (5.0, 5.0, 5.0), (5000.0, 5000.0, 5000.0))
    rois = {name: patient.rois[name] for name in ("CTV", "Heart")}
    for _ in range(2):
        with pytest.raises(DataError, match=r"(?s)CTV.*Heart"):
            shared.rasterise(rois, far)


def test_what_was_not_asked_for_the_longest_goes_first():
    kept = shared.Kept(most_bytes=10)
    for key in "abc":
        kept.keep(key, key.upper(), 4)
        kept.find("a")
    assert (kept.find("a"), kept.find("b"), kept.find("c")) == ("A", None, "C")
    kept.keep("d", "D", 99)  # larger than all there may be: the last one stays
    assert list(kept.pieces) == ["d"]


def test_an_empty_occupancy_comes_back_empty():
    grid = Grid((3, 4, 5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    for _ in range(2):
        assert not shared.expand(np.zeros(grid.shape_zyx, np.float32), grid, 2.0).any()
