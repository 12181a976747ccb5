"""The commands as a person types them, on the small patient."""

import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import numpy as np
import pytest
import tomli_w
from conftest import COARSE, MARKER, where_marked
from rich.console import Console

import mrlinac
from mrlinac import cli, jit, spec
from mrlinac.store import Entry, Store


def run(*arguments, cwd, store=None, code=0):
    """A command in this process, as :func:`typed` runs it in its own: one start of Python is two seconds."""
    said, complained = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(said), redirect_stderr(complained):
        patched.chdir(cwd)
        patched.setattr(sys, "argv", ["mrlinac", *map(str, arguments)])
        patched.setattr(cli.console, "out", Console(width=200, no_color=True))
        patched.setattr(cli.console, "err", Console(width=200, no_color=True, stderr=True))
        if store is not None:
            patched.setenv("MRLINAC_CACHE_DIR", str(store.folder.parent))
        with pytest.raises(SystemExit) as ended:
            cli.main()
    done = subprocess.CompletedProcess(arguments, ended.value.code or 0, said.getvalue(), complained.getvalue())
    assert done.returncode == code, done.stdout + done.stderr
    return done


def typed(*arguments, cwd, store=None, code=0):
    """A command in a process of its own."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    if store is not None:
        environment["MRLINAC_CACHE_DIR"] = str(store.folder.parent)
    done = subprocess.run(
        [sys.executable, "-m", "mrlinac", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def coarse(**more):
    changes = {**COARSE, **more}
    return [word for key, value in changes.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def test_plan_from_dicom_to_a_folder(dicom_folder, tmp_path):
    cache = Store(tmp_path / "cache" / "store")
    cache.folder.parent.mkdir()
    (cache.folder.parent / "kernels").symlink_to(jit.cache_folder().parent)  # compiled once for all tests
    words = ("plan", "demo", "--patient", dicom_folder, *coarse(), "--out", "out", "--json")
    done = typed(*words, cwd=tmp_path, code=3, store=cache)
    said = json.loads(done.stdout)
    assert said["folder"] == "out"
    assert said["constraints_met"] is False  # so few photons leave the near-maximum above 107 %
    assert (tmp_path / "out" / "report.html").is_file()
    assert (tmp_path / "out" / "dicom" / "rtdose.dcm").is_file()
    # Nothing that is kept says who the patient is, though the export said it everywhere.
    assert where_marked(tmp_path) == []
    assert MARKER not in done.stdout + done.stderr
    record = (tmp_path / "out" / "result.json").read_text()
    assert "2 structure sets" in record
    assert "not kept" in (tmp_path / "out" / "plan.resolved.toml").read_text()
    asks = run("check", "out/plan.resolved.toml", cwd=tmp_path, code=1)
    assert "--patient FOLDER" in asks.stderr
    run("check", "out/plan.resolved.toml", "--patient", dicom_folder, "--set", "numerics.grid_mm=15", cwd=tmp_path)
    again = run("report", "out", "--out", "again", "--no-figures", cwd=tmp_path)
    assert "report" in again.stdout
    refused = run(
        "plan",
        "demo",
        "--patient",
        dicom_folder,
        *coarse(**{"numerics.seed": 2}),
        "--out",
        "out",
        cwd=tmp_path,
        code=1,
    )
    assert "another plan" in refused.stderr


def test_dry_run_and_check(dicom_folder, tmp_path):
    wide = coarse(**{"numerics.grid_mm": 15})
    done = run("plan", "demo", "--patient", dicom_folder, *wide, "--dry-run", cwd=tmp_path)
    assert "beamlets" in done.stdout
    assert not (tmp_path / "results").exists()
    blocked = run(
        "check",
        "demo",
        "--patient",
        dicom_folder,
        *coarse(**{"technique.gantry_deg": [13, 140]}),
        cwd=tmp_path,
        code=1,
    )
    assert "gantry 13°" in blocked.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["plan", "no-such-plan"], 1, "no plan file"),
        (["plan", "demo", "--set", "protocol.structures.PTV.margin=3"], 1, "unknown key"),
        (["plan", "demo", "--set", "numerics=coarse"], 1, "known: demo, draft, final"),
        (["plan", "demo", "--patient", "nowhere"], 1, "nowhere"),
        (["plan"], 2, "Missing argument"),
        (["import", "empty"], 1, "empty"),
        (["report", "empty"], 1, "no result"),
    ],
)
def test_what_is_wrong_is_said(arguments, code, words, tmp_path):
    (tmp_path / "empty").mkdir()
    done = run(*arguments, cwd=tmp_path, code=code)
    assert words in done.stderr + done.stdout


def test_import_says_what_was_found(dicom_folder, tmp_path):
    done = run("import", dicom_folder, "--file", "case.toml", cwd=tmp_path)
    assert "External" in done.stdout
    assert MARKER not in done.stdout + done.stderr
    told = json.loads(run("import", "case.toml", "--no-file", "--json", cwd=tmp_path).stdout)
    assert {"severity", "text"} == set(told["notes"][0])
    assert {"CT", "RTSTRUCT"} == {row["kind"] for row in told["objects"]}
    assert "External" in {row["name"] for row in told["structures"]}
    done = run("check", "demo", "--patient", "case.toml", *coarse(**{"numerics.grid_mm": 15}), cwd=tmp_path)
    assert done.stdout.startswith("nothing stands in the way")


def test_a_folder_with_faults_is_an_error_and_nothing_is_written(dicom_folder, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(dicom_folder, folder)
    for path in list(folder.rglob("*"))[:40]:
        if path.is_file() and path.stat().st_size < 200_000:
            path.write_bytes(path.read_bytes()[:700])
    before = sorted(folder.rglob("*"))
    done = run("import", folder, cwd=tmp_path, code=1)
    assert "What stands in the way" in done.stdout
    assert "nothing was written" in done.stderr
    told = json.loads(run("import", folder, "--json", cwd=tmp_path, code=1).stdout)
    assert told["problems"]
    assert sorted(folder.rglob("*")) == before


def test_list_and_cache(tmp_path, store):
    names = json.loads(run("list", "--json", cwd=tmp_path).stdout)
    assert "unity-66in33" in names["plans"]
    assert "agility" in names["machines"]
    info = json.loads(run("cache", "info", "--json", cwd=tmp_path, store=store).stdout)
    assert info["cap_GB"] == 20


def test_the_cache_is_listed_and_cleared(tmp_path):
    cache = Store(tmp_path / "cache" / "store")
    cache.put("influence", "ab" * 16, Entry({"a": np.zeros(1000)}, {}))
    old = tmp_path / "cache" / "kernels" / "old"
    old.mkdir(parents=True)
    (old / "one.nbc").write_bytes(bytes(500))
    rows = json.loads(run("cache", "list", "--json", cwd=tmp_path, store=cache).stdout)
    assert {(row["kind"], row["current"]) for row in rows} == {("influence", None), ("kernels", False)}
    shown = run("cache", "list", cwd=tmp_path, store=cache).stdout
    assert "of another version" in shown
    freed = json.loads(run("cache", "clear", "--old-kernels", "--json", cwd=tmp_path, store=cache).stdout)
    assert freed["freed_bytes"] == 500
    assert cache.count() == 1
    run("cache", "clear", cwd=tmp_path, store=cache)
    assert json.loads(run("cache", "list", "--json", cwd=tmp_path, store=cache).stdout) == []


def test_the_version_is_that_of_the_package(tmp_path):
    assert run("--version", cwd=tmp_path).stdout == f"mrlinac {mrlinac.__version__}\n"


@pytest.mark.parametrize(("word", "names"), [("mrlinac plan uni", ["unity-66in33", "unity-isotoxic"])])
def test_a_shell_completes_names_of_plans(word, names, tmp_path):
    asked = {"_MRLINAC_COMPLETE": "complete_bash", "COMP_WORDS": word, "COMP_CWORD": "2"}
    code = "import sys; sys.argv = ['mrlinac']; from mrlinac.cli import app; app(prog_name='mrlinac')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, cwd=tmp_path, capture_output=True, text=True
    )
    assert set(names) <= set(done.stdout.split())
    assert "demo" not in done.stdout.split()


def never(*_, **__):
    raise AssertionError("too late: what takes long has begun")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol.goals.0.structure": "Hart"}, "did you mean 'Heart'?"),
        ({"protocol.constraints.0.of.structure": "cord"}, "'cord' is needed and missing"),
        ({"protocol.structures.PTV.first_of": ["ITW"]}, "'ITW'; did you mean 'ITV'?"),
        (
            {"patient.density_overrides.Trachae": {"density_g_cm3": 1.0, "material": "water"}},
            "no structure 'Trachae'",
        ),
        ({"technique.gantry_deg": [13]}, "gantry 13°"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "check"])
def test_a_slip_is_said_before_the_patient_is_made(command, changes, words, tmp_path, monkeypatch):
    monkeypatch.setattr(mrlinac, "patient_of", never)
    # A plan's own table, because an inline table is no value of --set.
    lines = [f"{json.dumps(key)} = {toml(value)}" for key, value in changes.items()]
    text = (spec.find("plans", "demo")).read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(f"{text}\n[overrides]\n" + "\n".join(lines), encoding="utf-8")
    done = run(command, "mine.toml", cwd=tmp_path, code=1)
    assert words in done.stdout + done.stderr


def toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {json.dumps(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: (folder / "thesis.tex").write_text("years of work"), "holds no result"),
        (lambda folder: another_plan(folder), "holds the result of another plan"),
    ],
)
def test_a_folder_of_something_else_is_refused_before_the_patient_is_made(prepare, words, tmp_path, monkeypatch):
    monkeypatch.setattr(mrlinac, "patient_of", never)
    (tmp_path / "out").mkdir()
    prepare(tmp_path / "out")
    assert words in run("plan", "demo", "--out", "out", cwd=tmp_path, code=1).stderr


def another_plan(folder):
    other = mrlinac.load_plan("demo", {"numerics.seed": 12})
    (folder / "plan.resolved.toml").write_text(tomli_w.dumps(other.model_dump(mode="json", exclude_none=True)))
    (folder / "result.json").write_text(json.dumps({"made_from": {"fingerprint": "f" * 32}}))


def test_a_disk_without_room_is_said_before_the_patient_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(mrlinac, "patient_of", never)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3e6))
    said = " ".join(run("plan", "demo", "--out", "out", cwd=tmp_path, code=1).stderr.split())
    assert "3 MB free, and 150 MB may be needed" in said


@pytest.mark.parametrize("command", [["phantom", "out"], ["import", "in", "--anonymise", "out"], ["report", "in"]])
def test_a_place_that_may_not_be_written_to_is_said_first(command, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for long in ("write_phantom", "anonymise", "load_result"):
        monkeypatch.setattr(mrlinac, long, never)
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    assert "may not be written to" in " ".join(run(*command, cwd=tmp_path, code=1).stderr.split())


@pytest.mark.parametrize(
    ("command", "kept"), [(["plan", "demo"], "kept in the cache"), (["phantom", "out"], "Nothing is half-written")]
)
def test_ctrl_c_says_what_is_kept(command, kept, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(mrlinac, "patient_of", stop)
    monkeypatch.setattr(mrlinac, "write_phantom", stop)
    said = run(*command, cwd=tmp_path, code=130).stderr
    assert said.startswith("stopped.")
    assert kept in said


def test_presets_are_listed_with_what_they_stand_for(tmp_path):
    said = json.loads(run("list", "--json", cwd=tmp_path).stdout)["numerics"]
    assert list(said) == ["demo", "draft", "final"]
    shown = run("list", cwd=tmp_path).stdout
    for name, statement in said.items():
        assert "standard deviation" in statement
        assert f"{name}: {statement[:40]}" in shown


def test_importing_the_package_loads_nothing_heavy(tmp_path):
    code = (
        "import sys, mrlinac; "
        "heavy = {'numba', 'cvxpy', 'pandas', 'matplotlib', 'pydicom', 'numpy', 'scipy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
