"""The documentation builds without a warning, shows every public call, and needs no network."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -e .[docs]")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install -e .[docs]")
pytest.importorskip("material", reason="mkdocs-material is not installed: pip install -e .[docs]")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("mrlinac", "mrlinac"),
        ("transport", "mrlinac.transport"),
        ("optimise", "mrlinac.optimise"),
        ("dicom", "mrlinac.dicom"),
        ("protocol", "mrlinac.protocol"),
        ("phantoms", "mrlinac.phantoms"),
        ("report", "mrlinac.report"),
    ],
)
def test_every_public_call_stands_in_the_api(site, page, module):
    anchors = re.findall(r'id="([\w.]+)"', (site / "api" / f"{page}.html").read_text("utf-8"))
    shown = {anchor.rpartition(".")[2] for anchor in anchors}
    offered = importlib.import_module(module)
    missing = [name for name in offered.__all__ if callable(getattr(offered, name)) and name not in shown]
    assert not missing, "objects without a docstring are not shown"


def test_no_page_loads_anything_from_elsewhere(site):
    loaded = re.compile(r'<(?:link|script|img|iframe)\b[^>]*(?:src|href)="((?:https?:)?//[^"]*)"')
    pages = list(site.rglob("*.html"))
    assert pages
    assert {url for page in pages for url in loaded.findall(page.read_text("utf-8"))} == set()


def test_no_role_of_restructuredtext_is_left(site):
    for page in (site / "api").glob("*.html"):
        assert not re.search(r":(?:func|class|meth|data|attr):", page.read_text("utf-8")), page.name


def test_the_start_page_is_the_readme(site):
    text = (site / "index.html").read_text("utf-8")
    assert "Plan a patient" in text
    assert 'href="docs/' not in text


def test_no_page_shows_markdown_that_was_not_rendered(site):
    marks = re.compile(r"^(?:\||[-*] |```)|\|---|\*\*", re.MULTILINE)
    for page in sorted(site.rglob("*.html")):
        article = re.search(r"<article.*?</article>", page.read_text("utf-8"), re.DOTALL)
        text = (
            re.sub(r"<pre.*?</pre>", "", article[0], flags=re.DOTALL) if article and "api" not in page.parts else ""
        )
        plain = re.sub(r"<code.*?</code>|<[^>]+>", "", text, flags=re.DOTALL)
        assert not marks.search(plain), page.name
