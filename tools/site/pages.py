"""A hook of mkdocs: the README, CONTRIBUTING and CHANGELOG of the tree are pages of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages.

    Parameters
    ----------
    files : Files
        The pages under ``docs/``.
    config : Config
        The site's.

    Returns
    -------
    Files
        The same, with these pages.
    """
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=as_page((ROOT / name).read_text("utf-8"))))
    return files


def as_page(text: str) -> str:
    """A file's Markdown with its links as from within ``docs/``.

    Parameters
    ----------
    text : str
        Of a file at the top of the tree.

    Returns
    -------
    str
        Its text as a page.
    """
    for name, page in PAGES.items():
        text = text.replace(f"]({name})", f"]({page})")
    return re.sub(r"\]\(docs/", "](", text)
