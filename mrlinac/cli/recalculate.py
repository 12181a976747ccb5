"""`mrlinac recalculate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mrlinac
from mrlinac.cli.app import app
from mrlinac.cli.options import (
    AsJson,
    Device,
    NoFigures,
    On,
    Out,
    Overwrite,
    Threads,
)
from mrlinac.cli.show import (
    exit_status,
    print_result,
    progress,
    say,
    summary,
)


@app.command()
def recalculate(
    folder: Annotated[Path, typer.Argument(metavar="RESULT", help="Folder of a plan's result.")],
    field_T: Annotated[
        float | None,
        typer.Option(
            "--field-T", help="Field along the machine's direction; negative turns it. Default: the result's."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Other random numbers than the plan's; none are those of the plan's own doses.")
    ] = None,
    out_: Out = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    device: Device = On.cpu,
    no_figures: NoFigures = False,
    as_json: AsJson = False,
) -> None:
    """The dose of the same MU in another field, or with another seed: the effect of the field, or of noise, on a plan."""
    if field_T is None and seed is None:
        raise typer.BadParameter("give --field-T, --seed, or both")
    mrlinac.check_device(device.value)
    before = mrlinac.load_result(folder)
    size_T = before.field_T if field_T is None else field_T
    target = out_ or folder.with_name(f"{folder.name}-{size_T:g}T" + ("" if seed is None else f"-seed{seed}"))
    mrlinac.check_recalculation(before, field_T, target, seed=seed, overwrite=overwrite)
    mrlinac.check_place(target)
    with progress(as_json) as tell:
        after = mrlinac.recalculate(
            before, field_T=field_T, seed=seed, progress=tell, threads=threads, device=device.value
        )
        after.save(target, overwrite=overwrite, figures=not no_figures)
    say(summary(after, target), as_json, lambda: print_result(after, target))
    raise typer.Exit(exit_status(after))
