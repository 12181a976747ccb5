"""The documentation builds, strictly and without the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mrlinac

ROOT = Path(mrlinac.__file__).parent.parent
pytest.importorskip("mkdocs", reason="extra docs")
pytestmark = pytest.mark.skipif(not (ROOT / "mkdocs.yml").is_file(), reason="no source tree")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # A proxy that is not there: whatever asked the network would fail.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_of_docs_stands_in_the_navigation(site):
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages == listed


def test_the_reference_describes_the_parameters_of_public_calls(site):
    text = (site / "api" / "transport.html").read_text(encoding="utf-8")
    assert "target_rel_sigma" in text
    assert "Magnetic field in patient coordinates." in text
    for name in mrlinac.__all__:
        page = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
        assert name in page


def test_no_page_loads_anything_from_elsewhere(site):
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=\"(https?:[^\"]+)\"", text)
        loaded += re.findall(r"<link[^>]+rel=\"stylesheet\"[^>]+href=\"(https?:[^\"]+)\"", text)
        assert not loaded, f"{path.name}: {loaded}"
