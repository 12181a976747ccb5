"""The wheel in an empty folder: files found by name and data files travel with it."""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def run(site, cwd, code):
    """What a few lines of Python print, as JSON, with the wheel's package."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    lines = f"import json, mrlinac as mr\nassert mr.__file__.startswith({str(site)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_names_are_found_in_an_empty_folder(unpacked, tmp_path):
    names = run(unpacked, tmp_path, "print(json.dumps(mr.known_names()))")
    for kind, own in names.items():
        assert own == sorted(path.stem for path in (ROOT / kind).glob("*.toml"))


def test_the_demonstration_can_begin_in_an_empty_folder(unpacked, tmp_path):
    """Plan, protocol, machine, presets, phantom, HU curve and materials; the page's template lies beside them."""
    code = """
from mrlinac.phantoms import thorax
found = mr.check(mr.load_plan("demo", {"numerics.grid_mm": 16}), thorax(3, spacing_zyx_mm=(30.0, 8.0, 8.0)))
print(json.dumps(found.as_dict()))
"""
    assert run(unpacked, tmp_path, code)["problems"] == []
    assert list(tmp_path.iterdir()) == []
    assert (unpacked / "mrlinac" / "report" / "templates" / "report.html.j2").is_file()
