"""`mrlinac recalculate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import mrlinac
from mrlinac.cli import console
from mrlinac.cli.app import app
from mrlinac.cli.options import (
    AsJson,
    Derive,
    Device,
    Lying,
    NoFigures,
    On,
    Out,
    Overwrite,
    Rtstruct,
    SameFrame,
    Series,
    Threads,
)
from mrlinac.cli.show import (
    escaped,
    exit_status,
    print_result,
    progress,
    say,
    summary,
)


@app.command()
def recalculate(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[RESULT]", help="Folder of a plan's result; or give --plan.")
    ] = None,
    field_T: Annotated[
        float | None,
        typer.Option(
            "--field-T", help="Field along the machine's direction; negative turns it. Default: the plan's own."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Other random numbers than the plan's; none are those of the plan's own doses.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="An RTPLAN of any system, in place of a result.")
    ] = None,
    patient: Annotated[
        Path | None, typer.Option("--patient", help="Folder of CT and structures that --plan is recalculated in.")
    ] = None,
    water_mm: Annotated[
        float | None, typer.Option("--water", metavar="DEPTH", help="A water tank instead, isocentre DEPTH mm deep.")
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", help="Machine file or name; by default the one that the plan fits.")
    ] = None,
    dose: Annotated[
        Path | None, typer.Option("--dose", help="RTDOSE that came with --plan, to compare with.")
    ] = None,
    gamma: Annotated[str, typer.Option("--gamma", help="Criteria against --dose.")] = "3%/2mm",
    grid_mm: Annotated[float, typer.Option("--grid-mm", min=1.0, help="Voxel size of --plan's dose.")] = 3.0,
    sigma_percent: Annotated[
        float,
        typer.Option("--sigma", min=0.1, help="Mean σ above half of the maximum of --plan's dose, in per cent."),
    ] = 2.0,
    no_couch: Annotated[bool, typer.Option("--no-couch", help="No couch beneath --patient.")] = False,
    group: Annotated[int | None, typer.Option("--group", help="Fraction group of --plan.")] = None,
    rtstruct: Rtstruct = None,
    series: Series = None,
    position: Lying = None,
    same_frame: SameFrame = False,
    derive: Derive = False,
    out_: Out = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    device: Device = On.cpu,
    no_figures: NoFigures = False,
    as_json: AsJson = False,
) -> None:
    """The dose of the same MU in another field or with another seed, or the Monte Carlo dose of any system's RTPLAN."""
    mrlinac.check_device(device.value)
    if plan is not None:
        if folder is not None:
            raise typer.BadParameter("give a result's folder or --plan, not both")
        if (patient is None) == (water_mm is None):
            raise typer.BadParameter("--plan needs --patient FOLDER or --water DEPTH")
        read = mrlinac.read_plan(plan, group=group)
        if water_mm is not None:
            read, person = read.at_isocentre((0.0, 0.0, 0.0)), mrlinac.water_tank(water_mm)
        else:
            assert patient is not None  # as checked above
            person = mrlinac.load_patient(
                patient, rtstruct=rtstruct, series=series, position=position, same_frame=same_frame, derive=derive
            )
        target = out_ or Path("results") / f"recalculated-{read.label or plan.stem}".replace("/", "-")
        mrlinac.check_evaluation_output(target, overwrite=overwrite)
        with progress(as_json) as tell:
            check = mrlinac.recalculate_plan(
                read,
                person,
                machine,
                field_T=field_T,
                couch=not (no_couch or water_mm is not None),
                grid_mm=grid_mm,
                rel_sigma=sigma_percent / 100,
                seed=1 if seed is None else seed,
                same_frame=same_frame or water_mm is not None,
                progress=tell,
                threads=threads,
                device=device.value,
            )
        page = mrlinac.write_second_check(check, target, dose=dose, gamma=gamma, overwrite=overwrite)
        record: dict[str, Any] = {
            **check.as_dict(), "report": str(page), "research only": mrlinac.RESEARCH_ONLY,
        }  # fmt: skip

        def show() -> None:
            for sentence in (*check.statements, *check.notes.of("warning")):
                console.out.print(escaped(sentence))
            console.out.print(f"report: {page}")
            console.out.print(mrlinac.RESEARCH_ONLY)

        say(record, as_json, show)
        return
    if folder is None:
        raise typer.BadParameter("give the folder of a result, or --plan RTPLAN")
    if field_T is None and seed is None:
        raise typer.BadParameter("give --field-T, --seed, or both")
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
