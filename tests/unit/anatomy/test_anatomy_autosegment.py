"""Organs derived from a CT: the digital thorax, whose organs are known, and the real lung CT."""

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrlinac.anatomy.autosegment import DERIVABLE, with_derived
from mrlinac.anatomy.contours import occupancy, rasterise
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Patient
from mrlinac.dicom import read_patient
from mrlinac.errors import DataError, SpecError
from mrlinac.phantoms import thorax

ROOT = Path(__file__).parents[3]


def dice(one, other):
    return 2 * float(np.minimum(one, other).sum()) / float(one.sum() + other.sum())


def bare(patient: Patient) -> Patient:
    return replace(patient, rois={n: r for n, r in patient.rois.items() if n.startswith("GTV")})


@pytest.fixture(scope="module")
def known() -> Patient:
    return thorax(3, spacing_zyx_mm=(4.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def derived(known: Patient) -> Patient:
    return with_derived(bare(known))


@pytest.mark.parametrize(
    ("name", "as_known", "least"),
    [
        ("External", ("External",), 0.985),
        ("Lung_L", ("Lung_L",), 0.96),
        ("Lung_R", ("Lung_R",), 0.95),
        ("Airway", ("Trachea", "Bronchus_Main"), 0.85),
        ("SpinalCanal", ("SpinalCanal",), 0.78),
    ],
)
def test_organs_of_the_digital_thorax(known: Patient, derived: Patient, name: str, as_known, least: float) -> None:
    grid = known.image.grid
    true = np.max([occupancy(known.rois[one], grid) for one in as_known], axis=0)
    assert dice(occupancy(derived.rois[name], grid), true) > least


@pytest.mark.parametrize("position", ["HFP", "FFDL", "HFDR"])
def test_body_and_couch_are_parted_in_every_position(known: Patient, position: str) -> None:
    """The thorax and its table turned about the long axis: what lies below is another side of the patient."""
    quarters = {"HFP": 2, "FFDL": 1, "HFDR": 3}[position]  # of a turn, in the plane of rows y and columns x
    edge = max(known.image.grid.shape_zyx[1:])
    square = np.full((known.image.grid.shape_zyx[0], edge, edge), -1000.0, np.float32)
    square[:, : known.image.grid.shape_zyx[1], : known.image.grid.shape_zyx[2]] = known.image.values
    grid = Grid(square.shape, known.image.grid.spacing_zyx_mm, known.image.grid.origin_xyz_mm)
    wanted = ("External", "CouchSurface")
    supine = with_derived(Patient("as it was", Image(grid, square), {}), wanted)
    turned = Image(grid, np.ascontiguousarray(np.rot90(square, quarters, axes=(1, 2))))
    found = with_derived(Patient("turned", turned, {}, position=position), wanted)
    for name in wanted:
        as_it_was = np.rot90(occupancy(supine.rois[name], grid), quarters, axes=(1, 2))
        assert dice(occupancy(found.rois[name], grid), as_it_was) > 0.99
    other = with_derived(Patient("turned", turned, {}), ("CouchSurface",)).rois  # as if on the back: no table there
    assert "CouchSurface" not in other or dice(occupancy(other["CouchSurface"], grid), as_it_was) < 0.5


def test_what_is_derived_says_so(derived: Patient) -> None:
    made = [name for name in derived.rois if not name.startswith("GTV")]
    assert set(made) <= set(DERIVABLE)
    assert {"External", "Airway", "Lung_L", "Lung_R", "SpinalCanal"} <= set(made)
    for name in made:
        assert derived.rois[name].derived
        assert any(
            f"{name}: derived from the CT by software, not drawn" in note for note in derived.notes.of("decide")
        )
    assert derived.external.role == "external"
    on_grid = rasterise(derived.rois, derived.image.grid)
    assert {name for name in on_grid if on_grid[name].derived} == set(made)


def test_a_lung_excludes_the_drawn_tumour(known: Patient, derived: Patient) -> None:
    grid = known.image.grid
    tumour = occupancy(known.rois["GTVp"], grid) >= 0.99
    assert tumour.sum() > 20
    lungs = sum(occupancy(derived.rois[name], grid) for name in ("Lung_L", "Lung_R"))
    assert float(lungs[tumour].mean()) < 0.02
    # It is the exclusion that does it: without the GTV the closed lung takes some of it in.
    free = with_derived(replace(known, rois={"External": known.external}), ("Lung_L", "Lung_R"))
    whole = sum(occupancy(free.rois[name], grid) for name in ("Lung_L", "Lung_R"))
    assert float(whole[tumour].mean()) > float(lungs[tumour].mean())


def test_nothing_drawn_is_replaced(known: Patient) -> None:
    assert with_derived(known, ("External", "Lung_L", "Airway", "SpinalCanal")) is known  # Trachea stands for Airway
    some = replace(known, rois={n: known.rois[n] for n in ("External", "Lung_L", "Trachea")})
    more = with_derived(some, ("External", "Lung_L", "Lung_R"))
    assert more.rois["Lung_L"] is known.rois["Lung_L"]
    assert more.rois["External"] is known.rois["External"]
    assert set(more.rois) == {"External", "Lung_L", "Trachea", "Lung_R"}
    assert with_derived(bare(known), False).rois.keys() == bare(known).rois.keys()


def test_the_couch_is_not_the_body(known: Patient) -> None:
    """A board of 20 mm in contact with the back."""
    image, grid = known.image, known.image.grid
    body = occupancy(known.external, grid)
    back = int(np.nonzero(body.any(axis=(0, 2)))[0].max())
    values = np.where(body > 0, image.values, np.float32(-1000))
    couch = np.zeros(grid.shape_zyx, bool)
    couch[:, back + 1 : back + 8, 20:-20] = True
    values[couch & (body == 0)] = -100
    values[:, back + 2 : back + 7, 21:-21] = -850  # foam between shells
    found = with_derived(replace(bare(known), image=Image(grid, values)), ("External", "CouchSurface"))
    outline = occupancy(found.external, grid)
    assert dice(outline, body) > 0.985
    assert float(outline[couch & (body == 0)].mean()) < 0.05
    board = found.rois["CouchSurface"]
    assert board.role == "support"
    assert dice(occupancy(board, grid), couch & (body == 0)) > 0.8


def test_what_is_not_there_is_left_out(known: Patient) -> None:
    grid = known.image.grid
    water = np.where(occupancy(known.external, grid) > 0.5, np.float32(0), np.float32(-1000))
    found = with_derived(replace(known, rois={}, image=Image(grid, water)))
    assert list(found.rois) == ["External"]
    for name in ("Airway", "Lung_L", "Lung_R", "SpinalCanal"):
        assert any(note.startswith(f"{name} could not be derived") for note in found.notes.of("warning"))


def test_wrong_requests(known: Patient) -> None:
    with pytest.raises(SpecError, match=r"Heart cannot be derived.*Lung_L"):
        with_derived(known, ("Heart",))
    with pytest.raises(DataError, match="CT in HU"):
        with_derived(replace(known, rois={}, image=Image(known.image.grid, known.image.values, "MR")))


@pytest.mark.data
def test_organs_of_the_real_patient(tmp_path: Path) -> None:
    import os

    data = Path(os.environ.get("MRLINAC_DATA") or ROOT.parent / "shared" / "data") / "lung-4d-113"
    if not data.is_dir():
        pytest.skip("the real data are not here: set MRLINAC_DATA")
    with tarfile.open(data / "ct.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    drawn = read_patient(tmp_path, rtstruct=data / "rtstruct-planning.dcm")
    found = with_derived(bare(drawn))
    grid = drawn.image.grid
    for name, other, least in (
        ("External", "External", 0.99),
        ("Lung_L", "Lung_L", 0.97),
        ("Lung_R", "Lung_R", 0.975),
        ("Airway", "Trachea", 0.85),
        ("SpinalCanal", "SpinalCanal", 0.75),
    ):
        assert dice(occupancy(found.rois[name], grid), occupancy(drawn.rois[other], grid)) > least, name
