"""The commands as a person types them, on the small patient."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import COARSE, MARKER, where_marked

from mrlinac.store import Entry, Store


def run(*arguments, cwd, store=None, code=0):
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
    typed = ("plan", "demo", "--patient", dicom_folder, *coarse(), "--out", "out", "--json")
    done = run(*typed, cwd=tmp_path, code=3, store=cache)
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
    run("check", "out/plan.resolved.toml", "--patient", dicom_folder, cwd=tmp_path)
    again = run("report", "out", "--out", "again", cwd=tmp_path)
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
    done = run("plan", "demo", "--patient", dicom_folder, *coarse(), "--dry-run", cwd=tmp_path)
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
    done = run("check", "demo", "--patient", "case.toml", *coarse(), cwd=tmp_path)
    assert "nothing stands in the way" in done.stdout


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


def test_importing_the_package_loads_nothing_heavy(tmp_path):
    code = (
        "import sys, mrlinac; "
        "heavy = {'numba', 'cvxpy', 'pandas', 'matplotlib', 'pydicom', 'numpy', 'scipy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
