"""`mrlinac phantom`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mrlinac
from mrlinac.cli import console
from mrlinac.cli.app import app
from mrlinac.cli.options import (
    AsJson,
)
from mrlinac.cli.show import (
    check_new,
    say,
)


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(help="Folder to write CT and structure set into.")],
    seed: Annotated[int, typer.Option(min=0, help="Which patient.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Write the built-in digital thorax patient as DICOM."""
    check_new(folder)
    written = mrlinac.write_phantom(folder, seed=seed)
    say(
        {"folder": str(folder), "label": written.label, "structures": list(written.rois)},
        as_json,
        lambda: console.out.print(f"{written!r} written to {folder}. {mrlinac.RESEARCH_ONLY}"),
    )
