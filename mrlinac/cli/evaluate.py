"""`mrlinac evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import mrlinac
from mrlinac.cli import console
from mrlinac.cli.app import app
from mrlinac.cli.options import (
    AsJson,
    Derive,
    Lying,
    Overwrite,
    SameFrame,
    Series,
    StructureEnds,
    protocol_names,
)
from mrlinac.cli.show import (
    UNMET,
    escaped,
    limit_text,
    say,
    verdict_text,
    with_sigma,
)
from mrlinac.errors import SpecError


@app.command()
def evaluate(
    doses: Annotated[
        list[str],
        typer.Argument(metavar="DOSE…", help="RTDOSE files: FILE, FILE+FILE (a sum), LABEL=FILE; several compare."),
    ],
    structures: Annotated[
        Path | None,
        typer.Option("--structures", "--rtstruct", help="RTSTRUCT, a folder that holds one, or with --ct its key."),
    ] = None,
    ct: Annotated[Path | None, typer.Option(help="Folder of the CT (and of the RTSTRUCT, unless given).")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Judge the goals of this protocol.", autocompletion=protocol_names)
    ] = None,
    prescription_Gy: Annotated[float | None, typer.Option("--prescription", help="Gy, for V95%[%], CI, R50.")] = None,
    fractions: Annotated[int | None, typer.Option(min=1, help="Of the course, where no file says it.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="PTV:D95%,V20Gy[%] or, of all structures, D2%; repeatable.")
    ] = None,
    gamma: Annotated[str | None, typer.Option(help="3%/2mm, or 2%/2mm local.")] = None,
    name: Annotated[list[str] | None, typer.Option("--name", metavar="CLINIC=TG263", help="Rename.")] = None,
    series: Series = None,
    position: Lying = None,
    same_frame: SameFrame = False,
    derive: Derive = False,
    ends: Annotated[
        StructureEnds | None,
        typer.Option(
            help="Structures end half a slice beyond their end contours (default), or at these, as in Eclipse."
        ),
    ] = None,
    out_: Annotated[Path | None, typer.Option("--out", help="Folder for the report and the tables.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """DVHs, metrics, goals, differences and gamma of any system's doses."""
    if out_ is not None:
        mrlinac.check_evaluation_output(out_, overwrite=overwrite)
        mrlinac.check_place(out_)
    evaluation = mrlinac.evaluate(
        doses,
        structures,
        ct=ct,
        protocol=protocol,
        prescription_Gy=prescription_Gy,
        fractions=fractions,
        metrics=metric or (),
        gamma=gamma,
        names=_renamed(name),
        series=series,
        position=position,
        same_frame=same_frame,
        derive=derive,
        ends=None if ends is None else ends.value,
    )
    page = None if out_ is None else mrlinac.write_evaluation(evaluation, out_, overwrite=overwrite)
    record = {**mrlinac.evaluation_as_dict(evaluation), **({} if page is None else {"report": str(page)})}
    say(record, as_json, lambda: _print_evaluation(record))
    raise typer.Exit(0 if evaluation.goals_met else UNMET)


def _renamed(pairs: list[str] | None) -> dict[str, str]:
    names = {}
    for pair in pairs or []:
        clinic, equals, wanted = pair.rpartition("=")
        if not (equals and clinic and wanted):
            raise SpecError(f"--name {pair}: write CLINIC=TG263, the name in the file and the name wanted")
        names[clinic] = wanted
    return names


def _print_evaluation(record: dict[str, Any]) -> None:
    labels = record["doses"]
    for note in record["notes"]:
        if note["severity"] in ("warning", "decide"):
            console.out.print(f"[yellow]{note['severity']}:[/yellow] {escaped(note['text'])}")
    beyond = [f"outside {label} (%)" for label in labels]
    beyond = [column for column in beyond if any((row[column] or 0) > 0.1 for row in record["metrics"])]
    table = Table("structure", "metric", *labels, "unit", *beyond, title="metrics")
    for row in record["metrics"]:
        values = ["–" if row[label] is None else f"{row[label]:.4g}" for label in labels]
        shares = ["–" if row[column] is None else f"{row[column]:.1f}" for column in beyond]
        table.add_row(row["structure"], escaped(row["metric"]), *values, row["unit"], *shares)
    console.out.print(table)
    for label, goals in record["goals"].items():
        table = Table("structure", "metric", "value", "goal", "verdict", title=f"goals, {label}")
        for row in goals:
            value = "–" if row["value"] is None else with_sigma(row)
            if (row["outside_percent"] or 0) > 0.1:
                value += f" ({row['outside_percent']:.1f} % outside the dose grid)"
            table.add_row(
                row["structure"], escaped(row["metric"]), value, limit_text(row), verdict_text(row["verdict"])
            )
        console.out.print(table)
    for row in record["gamma"]:
        percent = "–" if row["pass_percent"] is None else f"{row['pass_percent']:.1f} %"
        console.out.print(f"gamma {row['dose']}: {percent} of {row['points']} points pass ({row['criteria']})")
    derived = [row["structure"] for row in record["structures"] if row["origin"] == "derived by software"]
    if derived:
        console.out.print(f"derived by software, not drawn: {', '.join(derived)}")
    if "report" in record:
        console.out.print(f"report: {record['report']}")
    console.out.print(mrlinac.RESEARCH_ONLY)
