"""`mrlinac plan` and `mrlinac check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

import mrlinac
from mrlinac.cli.app import app
from mrlinac.cli.options import (
    AsJson,
    Densities,
    Derive,
    Device,
    DryRun,
    Lying,
    NoFigures,
    On,
    Out,
    Overwrite,
    PatientFolder,
    PlanName,
    Rtstruct,
    SameFrame,
    Series,
    Set,
    Threads,
    changes,
    how_to_read,
)
from mrlinac.cli.show import (
    exit_status,
    print_check,
    print_result,
    progress,
    say,
    summary,
)


def checked(spec: Any) -> tuple[Any, Any]:
    """The plan's patient and what stands in the way; the patient is not read where a mistake in the plan is found first."""
    early = mrlinac.check_early(spec)
    if early.problems:
        return None, early
    person = mrlinac.patient_of(spec)
    return person, mrlinac.check(spec, person)


@app.command()
def plan(
    name: PlanName,
    set_: Set = None,
    patient: PatientFolder = None,
    rtstruct: Rtstruct = None,
    series: Series = None,
    position: Lying = None,
    same_frame: SameFrame = False,
    densities: Densities = False,
    derive: Derive = False,
    out_: Out = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    device: Device = On.cpu,
    no_figures: NoFigures = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Plan a patient: Monte Carlo influence, convex optimisation, forward Monte Carlo dose, report."""
    mrlinac.check_device(device.value)
    how = how_to_read(rtstruct, series, position, same_frame, densities, derive)
    spec = mrlinac.load_plan(name, changes(set_, patient, how))
    folder = out_ or Path("results") / spec.name
    if not dry_run:
        mrlinac.check_output_early(spec, folder, overwrite=overwrite)
    person, outcome = checked(spec)
    if dry_run:
        say(outcome.as_dict(), as_json, lambda: print_check(outcome))
        raise typer.Exit(0 if not outcome.problems else 1)
    outcome.raise_problems()
    mrlinac.check_output(spec, person, folder, overwrite=overwrite)
    with progress(as_json) as tell:
        result = mrlinac.make_plan(
            spec, person, case=outcome.case, progress=tell, threads=threads, device=device.value
        )
        result.save(folder, overwrite=overwrite, figures=not no_figures)
    say(summary(result, folder), as_json, lambda: print_result(result, folder))
    raise typer.Exit(exit_status(result))


@app.command()
def check(
    name: PlanName,
    set_: Set = None,
    patient: PatientFolder = None,
    rtstruct: Rtstruct = None,
    series: Series = None,
    position: Lying = None,
    same_frame: SameFrame = False,
    densities: Densities = False,
    derive: Derive = False,
    as_json: AsJson = False,
) -> None:
    """Say what stands in the way of a plan, and what memory and time it will take."""
    how = how_to_read(rtstruct, series, position, same_frame, densities, derive)
    _, outcome = checked(mrlinac.load_plan(name, changes(set_, patient, how)))
    say(outcome.as_dict(), as_json, lambda: print_check(outcome))
    raise typer.Exit(1 if outcome.problems else 0)
