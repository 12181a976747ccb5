"""`mrlinac report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mrlinac
from mrlinac.cli import console
from mrlinac.cli.app import app
from mrlinac.cli.options import (
    AsJson,
    NoFigures,
)
from mrlinac.cli.show import (
    say,
)
from mrlinac.errors import SpecError


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RESULT…", help="Folders of results; several are compared.")
    ],
    out_: Annotated[Path, typer.Option("--out", help="Folder of the comparison, or of the one report.")] = Path(
        "report"
    ),
    no_figures: NoFigures = False,
    as_json: AsJson = False,
) -> None:
    """Write the report of a result again, or one that sets several results side by side."""
    mrlinac.check_place(out_)
    results = {folder.resolve().name: mrlinac.load_result(folder) for folder in folders}
    if len(results) != len(folders):
        raise SpecError("the results need folders of different names: the names label the columns")
    page = mrlinac.write_report(results, out_, figures=not no_figures)
    say({"report": str(page)}, as_json, lambda: console.out.print(f"report: {page}"))
