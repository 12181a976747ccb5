"""What every command tells the shell: 0 done, 1 error, 2 usage, 3 done with constraints or goals unmet.

The engines are replaced: only what is made of their answer is asked for here.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import mrlinac
from mrlinac import cli
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose.dose import Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.errors import DataError, SolverError
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Fluence
from mrlinac.notes import Notes
from mrlinac.provenance import Provenance
from mrlinac.recipe import judge
from mrlinac.recipe.check import Check
from mrlinac.recipe.result import PlanResult
from mrlinac.recipe.spec import load_plan

GRID = Grid((2, 2, 2), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))


def planned(constraints_met: bool, gray: float = 66) -> PlanResult:
    """A whole result, of eight voxels."""
    spec, ones = load_plan("demo"), np.ones(GRID.shape_zyx, np.float32)
    structures = StructureSet(GRID, {"PTV_eval": Structure("PTV_eval", "target", ones)})
    dose = Dose(GRID, gray * ones, None, 33, Provenance("made", "test"))
    beamlets = BeamletMap(Beam(0.0, (0.0, 0.0, 0.0), 1000.0), np.zeros((1, 2), np.int32), (5.0, 5.0))
    bare = spec.protocol.model_copy(update={"goals": (), "models": {}, "constraints": ()})
    tables = judge.tables(bare, Sampled(dose, structures), structures, {})
    limits = pd.DataFrame(
        {"name": ["a", "b"], "value": [9.0, 9.0], "limit": [10.0, 10.0], "met": [True, constraints_met]}
    )
    tables["constraints"] = limits.assign(dual=0.0, source="")
    return PlanResult(
        spec=spec, label="x", patient=None, ct=Image(GRID, 0 * ones), structures=structures,
        medium=Medium(GRID, ones, np.zeros(GRID.shape_zyx, np.uint8), ("water",)), isocentre_xyz_mm=(0.0, 0.0, 0.0),
        field_xyz_T=(0.0, 0.0, 1.5), fluence=Fluence((beamlets,), (np.ones(1),)), dose=dose, history=pd.DataFrame(),
        timing=pd.DataFrame(), notes=Notes(), statements=(), made_from={"fingerprint": "f"}, **tables,
    )  # fmt: skip


def raising(error):
    def function(*_, **__):
        raise error

    return function


def giving(value):
    return lambda *_, **__: value


FINE, PROBLEM = Check((), (), (), None), Check(("no CTV",), (), (), None)
MET, UNMET, USELESS = planned(True), planned(False), planned(True, gray=5.3)
TYPED = ("plan", "demo", "--out", "new")
PERSON = {"patient_of": giving(None), "check_output": giving(None)}
JUDGED = {
    met: {"evaluate": giving(SimpleNamespace(goals_met=met)), "evaluation_as_dict": giving({})}
    for met in (True, False)
}
FOUND = SimpleNamespace(as_dict=dict, problems=(), file=None, patient=None)
FAULTY = SimpleNamespace(as_dict=dict, problems=("no CTV",), file=None, patient=None)
COPY = SimpleNamespace(notes=Notes(), files=1, kinds={}, left_out={}, folder="x", patients=("ANON",))
RESULT = {"load_result": giving(MET), "check_recalculation": giving(None)}

CASES = [
    ("plan", 0, TYPED, {**PERSON, "check": giving(FINE), "make_plan": giving(MET)}),
    ("plan", 3, TYPED, {**PERSON, "check": giving(FINE), "make_plan": giving(UNMET)}),
    ("plan", 3, TYPED, {**PERSON, "check": giving(FINE), "make_plan": giving(USELESS)}),
    ("plan", 1, TYPED, {**PERSON, "check": giving(PROBLEM), "make_plan": giving(MET)}),
    ("plan", 1, TYPED, {**PERSON, "check": giving(FINE), "make_plan": raising(SolverError("stalled"))}),
    ("plan", 1, TYPED, {**PERSON, "check": giving(FINE), "make_plan": raising(OSError(28, "full", "x"))}),
    ("plan", 130, TYPED, {**PERSON, "check": giving(FINE), "make_plan": raising(KeyboardInterrupt())}),
    ("plan", 0, (*TYPED, "--dry-run"), {**PERSON, "check": giving(FINE), "make_plan": raising(SolverError("ran"))}),
    ("plan", 1, (*TYPED, "--dry-run"), {**PERSON, "check": giving(PROBLEM)}),
    ("plan", 1, ("plan", "no-such-plan"), {}),
    ("plan", 2, ("plan",), {}),
    ("plan", 2, (*TYPED, "--threads", "0"), {}),
    ("plan", 2, (*TYPED, "--device", "abacus"), {}),
    ("check", 0, ("check", "demo"), {**PERSON, "check": giving(FINE)}),
    ("check", 1, ("check", "demo"), {**PERSON, "check": giving(PROBLEM)}),
    ("check", 1, ("check", "demo", "--set", "technique.gantry=3"), {}),
    ("check", 2, ("check",), {}),
    ("recalculate", 0, ("recalculate", "r", "--field-T", "0"), {**RESULT, "recalculate": giving(MET)}),
    ("recalculate", 3, ("recalculate", "r", "--field-T", "0"), {**RESULT, "recalculate": giving(UNMET)}),
    ("recalculate", 1, ("recalculate", "nowhere", "--field-T", "0"), {}),
    ("recalculate", 2, ("recalculate", "r"), {}),
    ("recalculate", 2, ("recalculate", "r", "--field-T", "strong"), {}),
    ("report", 0, ("report", "r"), {**RESULT, "write_report": giving("page")}),
    ("report", 1, ("report", "nowhere"), {}),
    ("report", 2, ("report",), {}),
    ("evaluate", 0, ("evaluate", "d", "--json"), JUDGED[True]),
    ("evaluate", 3, ("evaluate", "d", "--json"), JUDGED[False]),
    ("evaluate", 1, ("evaluate", "nowhere.dcm"), {}),
    ("evaluate", 2, ("evaluate",), {}),
    ("evaluate", 2, ("evaluate", "d", "--fractions", "0"), {}),
    ("import", 0, ("import", "f", "--json"), {"import_folder": giving(FOUND)}),
    ("import", 1, ("import", "f", "--json"), {"import_folder": giving(FAULTY)}),
    ("import", 1, ("import", "nowhere"), {}),
    ("import", 0, ("import", "f", "--anonymise", "x"), {"anonymise": giving(COPY)}),
    ("import", 1, ("import", "f", "--anonymise", "x"), {"anonymise": raising(DataError("would still hold"))}),
    ("import", 2, ("import",), {}),
    ("phantom", 0, ("phantom", "p"), {"write_phantom": giving(SimpleNamespace(label="t", rois={}))}),
    ("phantom", 1, ("phantom", "p"), {"write_phantom": raising(DataError("not empty"))}),
    ("phantom", 2, ("phantom", "p", "--seed", "-1"), {}),
    ("list", 0, ("list",), {}),
    ("cache info", 0, ("cache", "info"), {}),
    ("cache list", 0, ("cache", "list"), {}),
    ("cache clear", 0, ("cache", "clear"), {}),
    ("cache clear", 2, ("cache", "clear", "--everything"), {}),
]  # fmt: skip


def shell(arguments, monkeypatch) -> int:
    """Exit status of the program."""
    monkeypatch.setattr("sys.argv", ["mrlinac", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "code", "instead"),
    [(arguments, code, instead) for _, code, arguments, instead in CASES],
    ids=[f"{name} {code} {number}" for number, (name, code, *_) in enumerate(CASES)],
)
def test_the_exit_status_says_how_it_went(arguments, code, instead, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MRLINAC_CACHE_DIR", str(tmp_path / "cache"))
    for name, function in instead.items():
        monkeypatch.setattr(mrlinac, name, function)
    assert shell(arguments, monkeypatch) == code


def test_every_command_is_asked():
    own = {one.name or one.callback.__name__ for one in cli.app.registered_commands}
    inner = {f"cache {one.name}" for one in cli.cache.cache.registered_commands}
    assert own | inner == {name for name, *_ in CASES}
    assert {"plan", "recalculate", "evaluate"} == {name for name, code, *_ in CASES if code == 3}
    for name in own - {"list"}:
        assert {0, 1, 2} <= {code for one, code, *_ in CASES if one == name}, name


@pytest.mark.parametrize("arguments", [("fly",), ("plan", "demo", "--sett", "a=1"), ("cache", "burn")])
def test_what_no_command_or_option_is_called_is_wrong_usage(arguments, monkeypatch):
    assert shell(arguments, monkeypatch) == 2


def test_a_result_whose_limits_are_all_met_is_met():
    assert MET.constraints_met
    assert not UNMET.constraints_met
    assert replace(MET, constraints=MET.constraints.iloc[:0]).constraints_met


def test_patient_on_the_command_line_goes_before_the_same_key_set(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(mrlinac, "load_plan", lambda name, changes: asked.update(changes) or load_plan("demo"))
    for name, function in {**PERSON, "check": giving(FINE)}.items():
        monkeypatch.setattr(mrlinac, name, function)
    words = ("check", "demo", "--set", "patient.folder=elsewhere", "--set", "numerics.seed=7", "--patient", "here")
    assert shell(words, monkeypatch) == 0
    assert asked == {"patient.folder": "here", "numerics.seed": 7}
    asked.clear()
    assert shell((*words, "--set", "patient.series=one", "--series", "two"), monkeypatch) == 0
    assert asked["patient.series"] == "two"
