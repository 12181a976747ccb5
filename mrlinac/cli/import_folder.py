"""`mrlinac import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import mrlinac
from mrlinac.cli import console
from mrlinac.cli.app import app
from mrlinac.cli.options import (
    AsJson,
    Densities,
    Derive,
    Lying,
    Rtstruct,
    SameFrame,
    Series,
)
from mrlinac.cli.show import (
    escaped,
    say,
)


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Folder of DICOM files, or its patient.toml.")],
    rtstruct: Rtstruct = None,
    series: Series = None,
    position: Lying = None,
    same_frame: SameFrame = False,
    densities: Densities = False,
    derive: Derive = False,
    file: Annotated[
        Path | None, typer.Option("--file", help="Where to write patient.toml [default: FOLDER].")
    ] = None,
    no_file: Annotated[bool, typer.Option("--no-file", help="Write no patient.toml.")] = False,
    anonymise: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Instead: write a copy without the patient's identity.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of --anonymise: repeat its UIDs and dates; keep it secret.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a folder of DICOM files, say what was found, and write patient.toml for you to edit, or an anonymous copy."""
    if anonymise is not None:
        mrlinac.check_place(anonymise)
        written = mrlinac.anonymise(folder, anonymise, seed=seed)
        say(_of_copy(written), as_json, lambda: _print_copy(written))
        return
    report = mrlinac.import_folder(
        folder,
        rtstruct=rtstruct,
        series=series,
        position=position,
        same_frame=same_frame,
        densities=densities,
        derive=derive,
        write=not no_file,
        file=file,
    )
    lacks = [] if report.patient is None else mrlinac.planning_lacks(report.patient)
    told = {**report.as_dict(), "planning_lacks": lacks, "file": None if report.file is None else str(report.file)}
    say(told, as_json, lambda: _print_import(report, lacks))
    if report.problems:
        if not as_json:
            console.err.print("[red]error:[/red] nothing was written: see what stands in the way")
        raise typer.Exit(1)
    if report.file is not None and not as_json:
        console.out.print(f"decisions: {escaped(str(report.file))}")


def _print_import(report: Any, lacks: list[str]) -> None:
    lines = [str(report)]
    if report.patient is not None:
        lines += ["What planning will lack", *(f"  - {text}" for text in lacks or ["nothing"])]
    console.out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _of_copy(written: Any) -> dict[str, Any]:
    entries = [{"severity": note.severity, "text": note.text} for note in written.notes.entries]
    counts = {"files": written.files, "kinds": dict(written.kinds), "left_out": dict(written.left_out)}
    return {"folder": str(written.folder), "patients": list(written.patients), **counts, "notes": entries}


def _print_copy(written: Any) -> None:
    kinds = ", ".join(f"{count} {kind}" for kind, count in written.kinds.items())
    console.out.print(f"{written.folder}: {kinds}; patient ID {', '.join(written.patients)}", markup=False)
    console.out.print(str(written.notes), markup=False)
