"""No key and no fingerprint ignores an input: every field of every noun that goes in is changed, one at a time."""

from __future__ import annotations

import ast
import inspect
import itertools
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from variants import changed, differing, variants

import mrlinac
from mrlinac import api, code_hash, jit, provenance, transport
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.overrides import Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.anatomy.structures import Contour, Roi, Structure, StructureSet
from mrlinac.dicom import write_dose, write_structures
from mrlinac.dicom.write.common import with_uids
from mrlinac.dose.dose import Dose
from mrlinac.dose.gamma import Criteria, Gamma
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Fluence
from mrlinac.notes import Note, Notes
from mrlinac.provenance import Provenance, dicom_uid, fingerprint
from mrlinac.recipe import evaluation_inputs, influence, made_from, plan, recalculate
from mrlinac.recipe.case import Case
from mrlinac.recipe.evaluate import Evaluation
from mrlinac.recipe.measuring import Subject
from mrlinac.recipe.spec import PlanSpec, load_plan
from mrlinac.store import Store
from mrlinac.transport import run
from mrlinac.transport.run import Settings

PACKAGE = Path(mrlinac.__file__).parent
GRID = Grid((2, 3, 4), (3.0, 2.0, 1.0), (5.0, 6.0, 7.0))
WATER = {"density_g_cm3": 1.0, "material": "water"}
GAS = {"density_g_cm3": 0.5, "material": "air-dry"}


# -- the fingerprint itself -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noun:
    """For the test."""

    first: object = 1
    second: object = None


@dataclass(frozen=True)
class Namesake:
    """The same fields, another meaning."""

    first: object = 1
    second: object = None


DIFFERENT = [
    None, True, False, 0, 1, -1, 10, 0.0, -0.0, 1.0, 0.1, float(np.nextafter(0.1, 1)), float("nan"), float("inf"),
    "", "0", "1", "None", "null", "true", "a", "b", "ab", b"", b"a", b"ab", "a;", '"a"',
    (), ((),), (None,), (1,), (1, 2), (2, 1), (12,), ((1,), 2), (1, (2,)), (1, 2, None), ("a", "b"), (b"a", b"b"),
    (b"ab", b""), (b"", b"ab"), ("1;2",), ((1, 2),), (((1,), 2),), (1, (2, 3)), (1, (2,), 3), ((), 1), ((1,),), ((1,), ()),
    {"a": ({"b": 1}, 2)}, {"a": ({"b": 1},), "b": 2}, ({}, 1), ({"a": 1},), (np.zeros(1), 0.0), (np.zeros(1),),
    ((np.zeros(1),), 0.0),
    {}, {"a": None}, {"a": 1}, {"b": 1}, {"a": 2}, {"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": {"b": 1}}, {"a b": 1},
    {"1": 1}, {1: 1}, {"a": 1, "b=2;c": 3}, {"a=1;b": 2, "c": 3}, {"a": "1", "b": 2},
    np.zeros(2), np.zeros(3), np.zeros(2, np.float32), np.zeros(2, np.int64), np.zeros((1, 2)), np.zeros((2, 1)),
    np.array([0.0, -0.0]), np.array([0.0, np.nan]), np.array(0.0), np.zeros((0, 3)), np.zeros((3, 0)), np.array([1, 2]),
    np.array([2, 1]), np.array([True, False]), np.array([1, 0], np.uint8), np.array([[1, 2], [3, 4]]),
    np.array([[1, 3], [2, 4]]),
    Noun(), Noun(2), Noun(1, 1), Noun(None, 1), Namesake(), {"first": 1, "second": None},
    GRID, replace(GRID, shape_zyx=(2, 4, 3)), replace(GRID, origin_xyz_mm=(5.0, 6.0, 8.0)),
]  # fmt: skip


def test_no_two_different_values_have_one_fingerprint():
    made = [fingerprint(value) for value in DIFFERENT]
    for (one, a), (other, b) in itertools.combinations(zip(made, DIFFERENT, strict=True), 2):
        assert one != other, f"{a!r} and {b!r}"
    assert len({dicom_uid(value) for value in DIFFERENT}) == len(DIFFERENT)
    assert fingerprint("a", "b") != fingerprint("ab")
    assert fingerprint("a", "b") != fingerprint("b", "a")
    assert fingerprint("a", None) != fingerprint("a")
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in made)


def test_what_is_one_value_has_one_fingerprint():
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert fingerprint([1, (2, 3)]) == fingerprint((1, [2, 3]))  # a tuple comes back from a file as a list
    assert fingerprint(np.float64(0.1)) == fingerprint(0.1)
    assert fingerprint(np.int32(3)) == fingerprint(3)
    table = np.arange(24.0).reshape(2, 3, 4)
    assert fingerprint(table.transpose(2, 1, 0)) == fingerprint(table.transpose(2, 1, 0).copy())  # however it lies
    assert fingerprint(table[:, ::2]) == fingerprint(np.ascontiguousarray(table[:, ::2]))
    assert fingerprint(Grid((2, 3, 4), (3, 2, 1), (5, 6, 7))) == fingerprint(GRID)


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, Path("a"), 1j, np.array([object()]), [1, {"a": object()}], np.datetime64("2020-01-01")],
)
def test_what_has_no_value_of_its_own_is_refused(value):
    with pytest.raises(TypeError, match="cannot fingerprint"):
        fingerprint(value)


# -- the influence's key --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec() -> PlanSpec:
    """A plan of a machine with contaminant electrons, and in a field."""
    return load_plan("agility-66in33", {"patient.metal": {**WATER, "threshold_HU": 3000.0}})


def medium() -> Medium:
    density = np.linspace(0.2, 1.2, GRID.size, dtype=np.float32).reshape(GRID.shape_zyx)
    return Medium(GRID, density, (np.arange(GRID.size) % 2).reshape(GRID.shape_zyx), ("water", "lung-icru"))


def beamlets() -> BeamletMap:
    return BeamletMap(Beam(40.0, (1.0, 2.0, 3.0), 1000.0, 5.0, "FFS"), np.array([[0, 1], [2, 3]]), (5.0, 7.0))


@dataclass(frozen=True)
class Making:
    """All that :func:`mrlinac.transport.influence` is given when a stored beam is made."""

    spec: PlanSpec
    medium: Medium
    field_xyz_T: tuple[float, float, float]
    beamlets: BeamletMap

    @property
    def key(self) -> str:
        none = StructureSet(GRID)
        case = Case(None, GRID, none, self.medium, (0.0, 0.0, 0.0), self.field_xyz_T, (self.beamlets,), Notes())
        return influence._key_of(self.spec, case, self.beamlets)


def test_the_influences_key_holds_all_that_decides_a_column(spec):
    """What the rest of a plan decides reaches a column through the medium, the beamlets and the field only."""
    differing(
        lambda making: making.key,
        Making(spec, medium(), (0.0, 0.3, 1.5), beamlets()),
        without=(
            ".beamlets.lattice_uv",  # kept with the beam: what is missing is made and added
            ".spec.name", ".spec.title", ".spec.applied*", ".spec.origins*",
            ".spec.patient.*", ".spec.protocol.*", ".spec.technique.*",
            *(f".spec.machine.{key}" for key in (
                "name", "title", "sad_mm", "field_iec_T.*", "field_source", "couch.*", "isocentre.*", "blocked.*",
                "references.*", "neglected.*")),
            *(f".spec.numerics.{key}" for key in (
                "name", "grid_mm", "correction_rounds", "correction_rel_sigma", "final_rel_sigma",
                "oar_rows", "target_rows")),
        ),
    )  # fmt: skip


def test_what_an_influence_is_made_with_is_in_its_key(monkeypatch, spec):
    """Every argument of the engine is one that the key knows, or decides nothing; the noise's beamlets are a constant."""
    known = {"medium", "maps", "machine", "field_xyz_T", "photons_per_beamlet", "seed", "noise_beamlets"}
    of_the_sources = {"keep_above", "settings"}  # never given by a recipe: their defaults are in the engine's hash
    decides_nothing = {
        "threads",
        "score",
        "progress",
        "cancelled",
        "device",
    }  # score: rows kept, which the entry says
    assert set(inspect.signature(transport.influence).parameters) == known | of_the_sources | decides_nothing
    making = Making(spec, medium(), (0.0, 0.3, 1.5), beamlets())
    before = making.key
    monkeypatch.setattr(influence, "NOISE_BEAMLETS", influence.NOISE_BEAMLETS + 1)
    assert making.key != before
    monkeypatch.undo()
    monkeypatch.setattr(influence, "engine_hash", lambda: "another engine")
    assert making.key != before


def columns(lattice_uv, voxels, rel_sigma=0.1):
    """A beam whose entries say which beamlet and voxel they are of."""
    dense = 1 + lattice_uv @ (1, 10) + 100 * np.arange(len(voxels))[:, None]
    matrix = sp.csc_array((dense * voxels[:, None]).astype(np.float32))
    return influence.BeamColumns(lattice_uv, voxels, matrix, rel_sigma, Provenance("made", "t"))


def test_a_stored_beam_is_served_grown_and_cut_as_if_it_were_made_anew(tmp_path):
    store, followed = Store(tmp_path), []

    def make(lattice_uv, voxels):
        followed.append(len(lattice_uv))
        return columns(lattice_uv, voxels)

    first, all_, turned = (
        np.array(uv, np.int32) for uv in ([[0, 0], [1, 0]], [[0, 0], [1, 0], [0, 1]], [[1, 0], [0, 0]])
    )
    low, high = np.arange(6) < 3, np.arange(6) > 1
    asked = (
        (first, low, 2),
        (first, low, 0),
        (turned, low, 0),
        (all_, low, 1),
        (first, high, 3),
        (turned, low & high, 0),
    )
    for lattice_uv, wanted, needed in asked:
        followed.clear()
        found = influence._beam_of(store, "ab12", lattice_uv, wanted, make)
        np.testing.assert_array_equal(found.matrix.toarray(), columns(lattice_uv, wanted).matrix.toarray())
        assert sum(followed) == needed
    assert influence._beam_of(store, "cd34", first, low, make).rel_sigma == 0.1
    assert sum(followed) == 2  # another key is another beam


def test_rows_are_wanted_of_what_is_planned_and_two_voxels_about_it(spec):
    """A limit is judged between voxels, by the cubic through the two on either side."""
    grid, target = Grid((9, 9, 9), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0)), spec.protocol.prescription.target
    inside, unasked = (np.zeros(grid.shape_zyx, np.float32) for _ in range(2))
    inside[4, 4, 4] = unasked[0, 0, 0] = 0.01
    names = {target: Structure(target, "target", inside), "Nobody": Structure("Nobody", "oar", unasked)}
    wanted = influence.rows_wanted(spec.protocol, StructureSet(grid, names))
    for line in (wanted[:, 4, 4], wanted[4, :, 4], wanted[4, 4, :]):
        assert np.flatnonzero(line).tolist() == [2, 3, 4, 5, 6]
    assert not wanted[0, 0, 0]


def test_beams_together_keep_their_order_and_the_mean_of_their_noise_by_beamlets():
    wanted, uv = np.ones(GRID.size, bool), np.array([[0, 0], [1, 0], [2, 0]], np.int32)
    maps = tuple(replace(beamlets(), lattice_uv=uv[:count]) for count in (3, 1))
    case = Case(None, GRID, StructureSet(GRID), medium(), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), maps, Notes())
    beams = [columns(uv[:count], wanted, sigma) for count, sigma in ((3, 0.1), (1, 0.3))]
    together = influence._together(list(beams), case, 1, 70)
    np.testing.assert_array_equal(together.matrix.toarray(), np.hstack([one.matrix.toarray() for one in beams]))
    assert together.rel_sigma == pytest.approx(0.15)
    assert together.provenance.histories == 70
    assert "3 of 4 beamlets taken from the cache" in together.provenance.notes


# -- the sources behind a key ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of the package, to edit."""
    place = tmp_path_factory.mktemp("copy") / "mrlinac"
    shutil.copytree(PACKAGE, place, ignore=shutil.ignore_patterns("__pycache__", "templates", "viewer"))
    return place


def edited(path: Path, hashed, old: str = "", new: str = "\n") -> bool:
    """Whether a hash notices an edit of a file; the file is as it was afterwards."""
    before, raw = hashed(), path.read_bytes()
    assert old.encode() in raw
    path.write_bytes(raw.replace(old.encode(), new.encode(), 1) if old else raw + new.encode())
    try:
        return hashed() != before
    finally:
        path.write_bytes(raw)


def imported(path: Path) -> dict[str, set[str]]:
    """Files of the package that a file imports from, with the names it takes (none: the module itself)."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mrlinac":
            for name in (alias.name for alias in node.names):
                module = PACKAGE.parent / node.module.replace(".", "/")
                inner = module / f"{name}.py"
                file = inner if inner.is_file() else module.with_suffix(".py")
                file = file if file.is_file() else module / "__init__.py"
                found.setdefault(file.relative_to(PACKAGE).as_posix(), set()).add(name)
    return found


@pytest.fixture
def engine(monkeypatch, sources):
    """The engine's hash, of the copy of the package."""
    monkeypatch.setattr(code_hash, "PACKAGE", sources)
    monkeypatch.setattr(influence, "DATA", sources / "data")

    def hashed() -> str:
        code_hash._module.cache_clear()
        return influence.engine_hash.__wrapped__()

    yield hashed
    code_hash._module.cache_clear()


DECIDES = {
    "transport/photon.py": ("def klein_nishina(", "def klein_nishina(k"),  # a sampler
    "transport/electron.py": ("return ", "return 1 * "),
    "transport/stack.py": ("STACK = ", "STACK = 1 + "),
    "transport/source.py": ("AIR_TURN_rad, AIR_CHORD_mm = 0.1", "AIR_TURN_rad, AIR_CHORD_mm = 0.2"),
    "transport/columns.py": ("PARTS = ", "PARTS = 1 + "),
    "transport/tables.py": ("PER_OCTAVE = ", "PER_OCTAVE = 2 * "),
    "machine/beams.py": ("cos * x + sin * y", "cos * x - sin * y"),
    "machine/delivery.py": ("size[0] * size[1]", "size[0] * size[0]"),
    "anatomy/grid.py": ("self.origin_xyz_mm", "self.lower_xyz_mm"),
    "constants.py": ("ELECTRON_REST_ENERGY_MeV = ", "ELECTRON_REST_ENERGY_MeV = 2 * "),
    "provenance.py": ('"array:', '"ar:'),  # names the streams of random numbers
    "anatomy/materials.py": ("WHOLE_WITHIN = ", "WHOLE_WITHIN = 2 * "),
}
DECIDES_NOT = {
    "transport/run.py": ("need = 1e6", "need = 2e6"),  # how many photons a forward dose is given
    "transport/gpu.py": ("class Worker", "class Labourer"),
    "transport/to_water.py": ("def factors(", "def ratios("),
    "transport/photon.py": ('"""', '"""In other words: '),
    "machine/mlc_rules.py": ("1e-6", "1e-7"),
    "machine/aperture.py": ("0.5", "0.6"),  # which beamlets there are; a column does not depend on that
    "dose/gamma.py": ("def ", "def  "),
    "errors.py": ("Error", "Mistake"),
}


@pytest.mark.parametrize("file", DECIDES)
def test_an_influence_is_gone_when_the_code_that_made_it_changes(engine, sources, file):
    assert edited(sources / file, engine, *DECIDES[file])


@pytest.mark.parametrize("file", DECIDES_NOT)
def test_an_influence_stays_when_other_code_changes(engine, sources, file):
    assert not edited(sources / file, engine, *DECIDES_NOT[file])


def test_an_influence_is_gone_when_a_table_changes(engine, sources):
    tables = [*(sources / "data").glob("*.npz"), sources / "data" / "materials.toml"]
    assert len(tables) > 2
    for path in tables:
        assert edited(path, engine)


def test_every_function_that_is_compiled_for_the_processor_is_in_the_engines_hash():
    reached = {name for _, name in code_hash.reached("transport.run:influence")}
    for path in (PACKAGE / "transport").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            marks = {ast.unparse(mark) for mark in getattr(node, "decorator_list", [])}
            if marks & {"device", "kernel", "jit.device", "jit.kernel"}:
                assert node.name in reached or node.name in NOT_OF_AN_INFLUENCE, f"{path.name}: {node.name}"


NOT_OF_AN_INFLUENCE: set[str] = set()
"""Compiled functions that only forward doses use."""


@pytest.mark.parametrize("package", ["numba", "llvmlite", "numpy"])
def test_the_engines_hash_notices_another_compiler(monkeypatch, package):
    before = influence.engine_hash.__wrapped__()
    assert influence.engine_hash.__wrapped__() == before
    really = influence.metadata.version
    monkeypatch.setattr(influence.metadata, "version", lambda name: "0" if name == package else really(name))
    assert influence.engine_hash.__wrapped__() != before
    monkeypatch.undo()
    monkeypatch.setattr(influence.platform, "machine", lambda: "abacus")
    assert influence.engine_hash.__wrapped__() != before


def test_the_kernels_cache_notices_an_edit_of_every_file_that_machine_code_is_made_of(monkeypatch, sources):
    """A kernel's code holds the constants and functions of other files: all that its file imports by name, too."""
    monkeypatch.setattr(jit, "__file__", str(sources / "jit.py"))
    hashed = jit.sources_hash.__wrapped__
    wanted = {"jit.py", "vectors.py"}
    for path in PACKAGE.rglob("*.py"):
        if names := _compiled_names(path):
            wanted.add(path.relative_to(PACKAGE).as_posix())
            wanted |= {file for file, taken in imported(path).items() if taken & names}
    of_transport = {f"transport/{name}.py" for name in ("photon", "electron", "history", "rng", "scatter", "tables")}
    assert {*of_transport, "dose/gamma.py", "optimise/solver/matrix.py"} <= wanted
    for name in sorted(wanted):
        assert edited(sources / name, hashed), f"{name} may be edited unnoticed"
    untouched = "dicom/anonymise.py"
    assert not edited(sources / untouched, hashed)  # else every edit would compile anew


def _compiled_names(path: Path) -> set[str]:
    """Names that the functions of a file that are compiled speak of."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        marks = {getattr(mark, "id", getattr(mark, "attr", "")) for mark in getattr(node, "decorator_list", ())}
        if marks & {"device", "kernel"}:
            found |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return found


def test_the_kernels_cache_notices_another_numba_or_python(monkeypatch):
    before = jit.sources_hash.__wrapped__()
    assert jit.sources_hash.__wrapped__() == before
    monkeypatch.setattr(jit.numba, "__version__", "0")
    assert jit.sources_hash.__wrapped__() != before
    monkeypatch.undo()
    monkeypatch.setattr(jit.platform, "python_version", lambda: "0")
    assert jit.sources_hash.__wrapped__() != before


# -- plans ----------------------------------------------------------------------------------------------------------


def square(size_mm: float, z_mm: float) -> Contour:
    return Contour(z_mm, size_mm * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]))


def person() -> Patient:
    image = Image(GRID, np.arange(24, dtype=np.float32).reshape(GRID.shape_zyx), "HU", np.zeros(GRID.shape_zyx, bool))
    rois = {
        "External": Roi("External", "external", (square(9, 0), square(8, 3)), 3.0, "skin"),
        "Gas": Roi("Gas", "oar", (square(2, 0),), 3.0),
    }
    told = PatientFile.model_validate(
        {"metal": WATER, "density_overrides": {"Gas": GAS}, "density_bands": {"External": WATER}}
    )
    return Patient(
        "somebody", image, rois, "HFS", "1.2.3", "1.2.4", "1.2.5", ("1.2.6", "1.2.7"), Notes((Note("info", "x"),)),
        {"PatientName": "Doe"}, told,
    )  # fmt: skip


def test_the_plans_fingerprint_holds_all_that_decides_a_plan(spec):
    overridden = spec.patient.model_copy(update={"density_overrides": {"Gas": Override(**GAS)}})
    differing(
        lambda plan: plan.fingerprint,
        spec.model_copy(update={"patient": overridden}),
        without=(
            ".name", ".title", ".applied*", ".origins*",  # words; overrides are in force already
            ".patient.folder", ".patient.rtstruct", ".patient.identify",  # where the files lie, and whose they are
            # How the files are read: what that makes of them is hashed with the patient.
            *(f".patient.{key}" for key in ("series", "position", "same_frame", "densities", "derive")),
        ),
    )  # fmt: skip


def test_with_a_patient_it_holds_all_of_the_patient_but_who_it_is(spec):
    untouched = spec.model_copy(update={"applied": {}})  # else the command line goes before the patient's file
    differing(
        lambda patient: made_from.fingerprint_of(untouched, patient),
        person(),
        without=(
            ".label", ".frame_uid", ".study_uid", ".series_uid", ".slice_uids*", ".notes*", ".identifiers*",
            ".rois.*.name", ".rois.*.original_name", ".rois.*.color_rgb*", ".loading*",
            # What the patient's file says of files and names made the patient what it is.
            *(f".decisions.{key}" for key in (
                "folder", "label", "series", "rtstruct", "position", "structures*", "derive*", "ends", "same_frame")),
        ),
    )  # fmt: skip


def test_the_order_in_which_overrides_have_a_voxel_is_an_input(spec):
    both = {"Gas": WATER, "Bowel": GAS}
    turned = dict(reversed(both.items()))
    plans = [load_plan("unity-66in33", {"patient.density_overrides": table}) for table in (both, turned)]
    assert plans[0].fingerprint != plans[1].fingerprint
    for field in ("density_overrides", "density_bands"):
        told = [PatientFile.model_validate({field: table}) for table in (both, turned)]
        one, other = (made_from.fingerprint_of(spec, replace(person(), decisions=file)) for file in told)
        assert one != other, field


def test_who_wins_between_file_and_command_line_is_an_input(spec):
    """The same table in force, but once said on the command line, which goes before the patient's own file."""
    table = {"patient.density_overrides.Gas": WATER}
    typed = load_plan("unity-66in33", table)
    written = typed.model_copy(update={"applied": {}})
    assert typed.fingerprint == written.fingerprint  # the same plan …
    assert made_from.fingerprint_of(typed, person()) != made_from.fingerprint_of(
        written, person()
    )  # … not for everybody


def test_a_file_that_says_nothing_is_as_none(spec):
    silent = replace(person(), decisions=PatientFile(label="x", series="0123abcd"))
    assert made_from.fingerprint_of(spec, silent) == made_from.fingerprint_of(spec, replace(person(), decisions=None))


def test_a_copy_of_a_plan_does_not_keep_the_fingerprint_of_the_original(spec):
    before = spec.fingerprint
    other = spec.model_copy(update={"technique": spec.technique.model_copy(update={"travel_step_mm": 3.25})})
    assert other.fingerprint != before
    assert spec.fingerprint == before


def test_what_a_plan_is_made_with_is_in_its_fingerprint_or_decides_nothing():
    """A new argument of a recipe has to be thought of here."""
    of_plans = {"spec", "patient"} | {"case", "progress", "threads", "device", "store"}
    assert set(inspect.signature(plan.make_plan).parameters) == of_plans
    assert set(inspect.signature(made_from.fingerprint_of).parameters) == {"spec", "patient"}
    asked = set(inspect.signature(recalculate.recalculate).parameters) - {"progress", "threads", "device"}
    assert asked == set(inspect.signature(recalculate.recalculation_fingerprint).parameters)


# -- recalculations, evaluations, doses, files ----------------------------------------------------------------------


def result_of(machine: str, fingerprint_: str = "f", position: str = "HFS"):
    """As much of a plan's result as a recalculation's fingerprint asks for."""
    beamlet_map = replace(beamlets(), beam=replace(beamlets().beam, position=position))
    fluence = Fluence((beamlet_map,), (np.ones(2),))
    spec = load_plan(f"{machine}-66in33")
    return SimpleNamespace(spec=spec, fingerprint=fingerprint_, fluence=fluence, delivery=fluence)


def test_recalculations_in_other_fields_or_of_other_plans_are_told_apart():
    one, other = result_of("unity"), result_of("unity", "g")
    fields_T = (0.0, 0.35, -0.35, 1.0, 1.5, -1.5, 3.0)
    made = [recalculate.recalculation_fingerprint(result, field_T) for result in (one, other) for field_T in fields_T]
    assert len(set(made)) == len(made)
    assert not {one.fingerprint, other.fingerprint} & set(made)  # nor is one the plan itself
    assert recalculate.recalculation_fingerprint(one, 0.0) == recalculate.recalculation_fingerprint(one, -0.0)


def test_recalculations_with_other_seeds_are_told_apart_and_follow_other_photons(monkeypatch):
    """Zero is a seed; none given is the plan's own, which is 1."""
    result, asked = result_of("unity"), []

    def dose(*_, seed, **__):
        asked.append(seed)
        raise InterruptedError  # nothing after it is looked at

    monkeypatch.setattr(plan.transport, "dose", dose)
    result.medium = result.field_xyz_T = None
    for seed in (None, 1, 0, 2):
        with pytest.raises(InterruptedError):
            recalculate.recalculate(result, field_T=1.0, seed=seed)
    made = [recalculate.recalculation_fingerprint(result, 1.0, seed) for seed in (None, 1, 0, 2)]
    for keys in (asked, made):
        assert keys[0] == keys[1]
        assert len(set(keys)) == 3


def test_no_two_doses_of_plans_share_their_random_numbers():
    """Seeds, purposes and rounds that a plan and its recalculation ask for."""
    asked = [(s, p, n) for s in (0, 1, 12) for p in ("round", "final", "recalculate") for n in (0, 1, 2)]
    assert len({made_from.stream_seed(*one) for one in asked}) == len(asked)


@pytest.mark.parametrize(("rounds", "sigmas"), [(2, [0.03, 0.03, 0.03, 0.01]), (0, [0.01])])
def test_every_forward_dose_of_a_plan_follows_other_photons(monkeypatch, rounds, sigmas):
    """What is planned on the noise of one dose is not judged on the same noise; the engines are replaced."""
    asked = []
    small = {"numerics.correction_rel_sigma": 0.03, "numerics.final_rel_sigma": 0.01}
    wanted = load_plan("unity-66in33", {**small, "numerics.correction_rounds": rounds})
    beside = SimpleNamespace(medium=None, field_xyz_T=None, structures=None, making={})

    def correct(_, forward, **__):
        for _ in range(rounds + 1):
            forward(None)
        return SimpleNamespace(unscaled=None)

    def air_in(*_):
        raise InterruptedError  # nothing after it is looked at

    beside.medium = SimpleNamespace(density_g_cm3=None)
    monkeypatch.setattr(plan, "influence_of", lambda *_, **__: None)
    monkeypatch.setattr(plan.optimise, "Planner", lambda *_, **__: None)
    monkeypatch.setattr(plan.optimise, "correct", correct)
    monkeypatch.setattr(plan.judge, "air_in", air_in)
    monkeypatch.setattr(
        plan.transport, "dose", lambda *_, seed, target_rel_sigma, **__: asked.append((seed, target_rel_sigma))
    )
    with pytest.raises(InterruptedError):
        plan.make_plan(wanted, SimpleNamespace(loading={}), case=beside)
    assert [sigma for _, sigma in asked] == sigmas
    assert len({seed for seed, _ in asked}) == len(asked)


def test_a_beamlets_random_numbers_are_those_of_its_direction_place_and_size():
    """Where isocentre and source lie makes no other stream: the same beamlet of another patient may have it."""
    differing(
        lambda map_: run.beamlet_words(map_).tobytes().hex(),
        beamlets(),
        without=(".beam.isocentre_xyz_mm.*", ".beam.sad_mm"),
    )


@pytest.mark.parametrize(
    ("machine", "position", "towards_z"), [("unity", "HFS", 1), ("agility", "HFS", 1), ("unity", "FFS", -1)]
)
def test_the_field_of_a_recalculation_has_the_size_asked_for_and_the_machines_direction(machine, position, towards_z):
    for field_T in (0.35, 1.5, 3.0, -1.0):
        found = recalculate._field_of(result_of(machine, position=position), field_T)
        assert found == pytest.approx((0.0, 0.0, towards_z * field_T))


def evaluation() -> Evaluation:
    lung = Structure("PTV", "target", np.ones(GRID.shape_zyx, np.float32))
    subject = Subject(
        "x", person().rois, StructureSet(GRID, {"PTV": lung}), person().image, Notes((Note("info", "x"),))
    )
    dose = Dose(GRID, np.ones(GRID.shape_zyx, np.float32), None, 3, Provenance("made", "t"))
    asked = pd.DataFrame({"structure": ["PTV", "Gas"], "metric": ["D2%", "mean"], "unit": "Gy", "a": 1.0})
    judged = pd.DataFrame(
        {"structure": ["PTV"], "metric": ["D2%"], "limit": [3.0], "direction": ["<="], "value": [1.0]}
    )
    table = pd.DataFrame()
    gamma = Gamma(GRID, dose.dose_Gy, Criteria(3.0, 2.0))
    return Evaluation(
        subject, {"a": dose, "b": replace(dose, provenance=Provenance("other", "t"))}, 3, 60.0, "title", table, asked,
        {"a": judged}, {}, table, {"b": gamma}, Notes(),
    )  # fmt: skip


def test_an_evaluations_fingerprint_holds_doses_structures_and_questions():
    whole = evaluation()
    made = {whole.fingerprint}

    def another(what, **changes):
        other = replace(whole, **changes).fingerprint
        assert other not in made, f"{what} is ignored"
        made.add(other)

    doses = whole.doses
    another("a dose", doses={**doses, "b": replace(doses["b"], provenance=Provenance("third", "t"))})
    another("which dose is the reference", doses=dict(reversed(doses.items())))
    another("the fractions", fractions=5)
    another("fractions that nobody states", fractions=None)
    another("the prescription", prescription_Gy=61.0)
    for column, value in (("structure", "Heart"), ("metric", "D3%")):
        another(f"{column} asked for", metrics=whole.metrics.assign(**{column: value}))
    for column, value in (("structure", "Heart"), ("metric", "D3%"), ("limit", 4.0), ("direction", ">=")):
        another(f"{column} of a goal", goals={"a": whole.goals["a"].assign(**{column: value})})
    another("the protocol", goals={})
    for field in ("dose_percent", "distance_mm", "local", "cutoff_percent"):
        criteria = replace(whole.gamma["b"].criteria, **{field: changed(getattr(whole.gamma["b"].criteria, field))})
        another(f"gamma's {field}", gamma={"b": replace(whole.gamma["b"], criteria=criteria)})
    another("whether there is a gamma", gamma={})
    # Names and titles say how it is called, measured values follow from the rest.
    assert replace(whole, protocol_title="other", notes=Notes((Note("info", "y"),))).fingerprint == whole.fingerprint
    assert replace(whole, metrics=whole.metrics.rename(columns={"a": "x"})).fingerprint == whole.fingerprint
    differing(
        lambda subject: replace(whole, subject=subject).fingerprint,
        whole.subject,
        without=(".label", ".notes*", ".rois.*.name", ".rois.*.original_name", ".rois.*.color_rgb*"),
    )


def test_uids_of_what_is_written_differ_where_its_content_does(tmp_path):
    patient = person()
    dose = Dose(GRID, np.ones(GRID.shape_zyx, np.float32), None, 3, Provenance("made", "t"))
    path = tmp_path / "x.dcm"
    wrote = [
        write_dose(*what, path, made_by, **how)
        for what in ((dose, patient), (replace(dose, fractions=4), patient), (dose.times(2.0), patient))
        for made_by in ("f", "g")
        for how in ({}, {"plan_uid": "2.25.1"}, {"plan_uid": "2.25.2"}, {"label": "other"}, {"identify": True})
        if not how.get("identify") or "PatientID" in patient.identifiers
    ]
    for field in ("frame_uid", "series_uid", "label"):
        wrote.append(write_dose(dose, replace(patient, **{field: getattr(patient, field) + ".9"}), path, "f"))
    wrote += [write_structures(patient, patient.rois, path, "f", label=label) for label in ("one", "two")]
    for where, other in variants(patient.rois["Gas"]):
        if where not in (
            ".slice_spacing_mm",
            ".role",
        ):  # no part of an RTSTRUCT by itself; a role may be no term of DICOM
            wrote.append(write_structures(patient, {**patient.rois, "Gas": other}, path, "f"))
    assert len(set(wrote)) == len(wrote)


def test_a_dose_moved_on_its_grid_is_another_object(tmp_path):
    dose = Dose(GRID, np.ones(GRID.shape_zyx, np.float32), None, 3, Provenance("made", "t"))
    grids = [GRID, replace(GRID, origin_xyz_mm=(5.0, 6.0, 8.0)), replace(GRID, spacing_zyx_mm=(3.0, 2.0, 1.5))]
    wrote = {write_dose(replace(dose, grid=grid), person(), tmp_path / "x.dcm", "f") for grid in grids}
    assert len(wrote) == len(grids)


def test_a_phantoms_own_uids_follow_every_voxel_and_no_two_slices_share_one():
    bare = replace(person(), frame_uid="", study_uid="", series_uid="", slice_uids=())
    images = [bare.image, *(other for path, other in variants(bare.image) if path.startswith((".grid", ".values")))]
    made = []
    for image in images:
        known = with_uids(replace(bare, image=image))
        made += [known.frame_uid, known.study_uid, known.series_uid, *known.slice_uids]
    assert len(images) > 5
    assert len(set(made)) == len(made)


def test_the_label_of_structures_without_a_patient_follows_every_point():
    roi = person().rois["Gas"]
    contours = [roi.contours, *(other for _, other in variants(roi.contours))]
    made = [evaluation_inputs._key({"Gas": replace(roi, contours=one)}) for one in contours]
    assert len(made) > 3
    assert len(set(made)) == len(made)


FORWARD = {
    "medium", "delivery", "machine", "field_xyz_T", "photons", "target_rel_sigma", "seed", "batches", "settings", "to",
    "device",
}  # fmt: skip


def test_the_provenance_of_a_dose_tells_apart_what_gives_another_dose():
    """A few photons: only the record is looked at."""
    machine = load_plan("agility-66in33").machine
    fluence = Fluence((beamlets(),), (np.array([1.0, 2.0]),))
    settings = Settings()
    given = {
        "medium": medium(), "delivery": fluence, "machine": machine, "field_xyz_T": (0.0, 0.0, 1.5), "photons": 200,
        "target_rel_sigma": None, "seed": 1, "batches": 12, "settings": settings, "to": "medium", "device": "cpu",
    }  # fmt: skip
    others = {
        "medium": replace(given["medium"], materials=("water", "air-dry")),
        "delivery": fluence.times(1.5),
        "machine": machine.model_copy(update={"name": "another"}),
        "field_xyz_T": (0.0, 0.0, -1.5),
        "photons": 300,
        "seed": 2,
        "batches": 20,
        "settings": replace(settings, max_loss=0.2),
        "to": "water",
    }
    assert set(given) == set(others) | {"target_rel_sigma", "device"} == FORWARD
    parameters = set(inspect.signature(transport.dose).parameters)
    assert parameters == FORWARD | {"threads", "progress", "cancelled"}, "decide: does it give another dose?"

    def made(**changes):
        now = {**given, **changes}
        return transport.dose(
            now.pop("medium"), now.pop("delivery"), now.pop("machine"), **now
        ).provenance.fingerprint

    assert made() == made(threads=1)
    found = {name: made(**{name: value}) for name, value in others.items()}
    assert len({made(), *found.values()}) == 1 + len(found), found


def test_the_version_that_made_a_result_is_kept():
    said = provenance.versions()
    assert set(said) == {"python", "machine", *provenance.PACKAGES}
    assert said["mrlinac"] != "absent"
    assert all(isinstance(text, str) and text for text in said.values())
    assert api.make_plan is not plan.make_plan  # with a report
