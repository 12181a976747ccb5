"""What several commands print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import mrlinac
from mrlinac.cli import console
from mrlinac.errors import SpecError

UNMET = 3


def say(value: Any, as_json: bool, human: Callable[[], Any]) -> None:
    if as_json:
        console.out.print_json(json.dumps(value, default=str))
    else:
        human()


def print_pairs(pairs: dict[str, Any]) -> None:
    for key, value in pairs.items():
        console.out.print(f"[bold]{key}[/bold]: {escaped(str(value))}")


def limit_text(goal: dict[str, Any]) -> str:
    """``≤ 20``; empty for a goal that is only reported."""
    signs = {"<=": "≤", ">=": "≥"}
    return f"{signs[goal['direction']]} {goal['limit']:g}" if goal["direction"] in signs else ""


def with_sigma(row: dict[str, Any]) -> str:
    """``49.87 ± 0.51 Gy``; a sigma that is not known is left out."""
    sigma = row.get("sigma")
    spread = "" if sigma is None or sigma != sigma else f" ± {sigma:.2f}"
    return f"{row['value']:.2f}{spread} {row['unit']}".strip()


def escaped(text: str) -> str:
    return text.replace("[", r"\[")


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, float, float, str], None]]:
    """A line a stage, on the standard error stream."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console.err, disable=quiet) as bar:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: float, total: float, text: str) -> None:
            if stage not in tasks:
                for task in tasks.values():
                    bar.update(task, total=1, completed=1)
                tasks[stage] = bar.add_task(stage, total=None, text="")
            bar.update(tasks[stage], completed=done, total=total or None, text=text)

        yield tell
        for task in tasks.values():
            bar.update(task, total=1, completed=1)


def summary(result: Any, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "standing": result.standing.as_dict(),
        "report": str(folder / "report.html"),
        "constraints_met": result.constraints_met,
        "escalation": None if result.escalation is None else result.escalation.as_dict(),
        "goals": json.loads(result.goals.to_json(orient="records", double_precision=15)),
        "skin": json.loads(result.skin.to_json(orient="records", double_precision=15)),
        "models": json.loads(result.models.to_json(orient="records", double_precision=15)),
        "fingerprint": result.fingerprint,
        "statement": mrlinac.RESEARCH_ONLY,
    }


def verdict_text(verdict: str) -> str:
    colours = {"pass": "green", "near": "yellow", "fail": "red"}
    colour = colours.get(verdict, "default")
    return f"[{colour}]{'not evaluable' if verdict == 'void' else verdict}[/{colour}]"


def exit_status(result: Any) -> int:
    return 0 if result.constraints_met and not result.standing.useless else UNMET


def print_standing(standing: Any) -> None:
    """What a plan is worth, before any figure of it."""
    colour = {"useless": "red", "missed": "yellow", "met": "green"}[standing.level]
    console.out.print(f"[bold {colour}]{escaped(standing.headline)}[/bold {colour}]", highlight=False, soft_wrap=True)
    for sentence in standing.sentences:
        console.out.print(f"  - {escaped(sentence)}", highlight=False, soft_wrap=True)


def print_result(result: Any, folder: Path) -> None:
    print_standing(result.standing)
    table = Table("structure", "metric", "value", "goal", "verdict", title=result.spec.title)
    for row in result.goals.to_dict("records"):
        verdict = str(row["verdict"])
        table.add_row(
            str(row["structure"]),
            str(row["metric"]),
            "–" if verdict in ("absent", "void") else with_sigma(row),
            limit_text(row),
            verdict_text(verdict),
        )
    console.out.print(table)
    if (record := result.escalation) is not None:
        course = f"{record.dose_Gy:g} Gy in {record.fractions} fractions"
        says = f"isotoxic prescription {course}, driver {record.driver}" if record.eligible else "ineligible"
        console.out.print(escaped(f"{says}; convex bound {record.bound_Gy:.1f} Gy, floor {record.floor_Gy:g} Gy"))
    console.out.print(f"report: {folder / 'report.html'}")
    console.out.print(mrlinac.RESEARCH_ONLY)


def print_check(outcome: Any) -> None:
    """The verdict first, then what to know."""
    count = len(outcome.problems)
    verdict = (
        f"[red]{count} problem(s) stand in the way[/red]" if count else "[green]nothing stands in the way[/green]"
    )
    console.out.print(verdict)
    for problem in outcome.problems:
        console.out.print(f"[red]problem:[/red] {escaped(problem)}")
    for line in outcome.estimates:
        console.out.print(f"  {escaped(line)}")
    for note in outcome.notes:
        console.out.print(f"  {escaped(note)}")


def check_new(folder: Path) -> None:
    """Refuse a folder that is not new or empty, before anything is made for it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(f"{folder}: not empty; give a new folder")
    mrlinac.check_place(folder)
