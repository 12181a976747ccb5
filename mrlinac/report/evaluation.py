"""The page, the tables and the record of an evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mrlinac.constants import RESEARCH_ONLY
from mrlinac.errors import DataError, writing
from mrlinac.provenance import versions
from mrlinac.recipe.evaluate import OUTSIDE, Evaluation, outside_column
from mrlinac.recipe.measuring import OUTSIDE_percent
from mrlinac.report import compare, evaluation_figures, html, style, tables
from mrlinac.report.html import Picture
from mrlinac.report.tables import Cell, Table

MAX_DOSES = len(compare.LINES)
RECORD = "evaluation.json"


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """All numbers of an evaluation, for ``--json``; what has no value is null.

    Parameters
    ----------
    evaluation : Evaluation

    Returns
    -------
    dict
    """
    gamma = evaluation.gamma_table
    return {
        "fingerprint": evaluation.fingerprint,
        "label": evaluation.subject.label,
        "doses": list(evaluation.doses),
        "fractions": evaluation.fractions,
        "prescription_Gy": evaluation.prescription_Gy,
        "structures": _records(evaluation.structures),
        "metrics": _records(evaluation.metrics),
        "goals": {label: _records(table) for label, table in evaluation.goals.items()},
        "goals_met": evaluation.goals_met,
        "differences": _records(evaluation.differences),
        "gamma": _records(gamma),
        "notes": [{"severity": note.severity, "text": note.text} for note in evaluation.notes.entries],
        "versions": versions(),
        "statement": RESEARCH_ONLY,
    }


def write_evaluation(evaluation: Evaluation, folder: Path) -> Path:
    """Write ``report.html``, ``figures/``, the tables as CSV, and ``evaluation.json`` last.

    Parameters
    ----------
    evaluation : Evaluation
    folder : Path

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    DataError
        For more doses than line styles can tell apart.
    """
    if len(evaluation.doses) > MAX_DOSES:
        raise DataError(f"a report shows up to {MAX_DOSES} doses side by side, not {len(evaluation.doses)}")
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_csv(evaluation.metrics, folder / "metrics.csv")
    tables.write_csv(evaluation.structures, folder / "structures.csv")
    for label, curves in evaluation.dvh.items():
        tables.write_dvh_csv(curves, folder / f"dvh{_suffix(evaluation, label)}.csv")
    for label, goals in evaluation.goals.items():
        tables.write_goals_csv(goals, folder / f"goals{_suffix(evaluation, label)}.csv")
    if len(evaluation.doses) > 1:
        tables.write_csv(evaluation.differences, folder / "differences.csv")
    page = (
        html.environment()
        .get_template("evaluation.html.j2")
        .render(
            title=f"Evaluation: {', '.join(evaluation.doses)}",
            statement=RESEARCH_ONLY,
            facts=_facts(evaluation),
            pictures=_pictures(evaluation, folder / "figures"),
            goals=_goals_table(evaluation),
            metrics=_metrics_table(evaluation),
            structures=tables.frame_table(evaluation.structures, "Structures and who made them"),
            differences=tables.frame_table(evaluation.differences, "Dose minus reference, structure by structure"),
            gamma=tables.frame_table(evaluation.gamma_table, "Gamma against the first dose"),
            notes=evaluation.notes,
            derived=derived_sentence(evaluation),
        )
    )
    path = html.save_page(page, folder / "report.html")
    record = json.dumps(as_dict(evaluation), indent=1, ensure_ascii=False)
    with writing(folder / RECORD):
        (folder / RECORD).write_text(record + "\n", encoding="utf-8", newline="\n")
    return path


def derived_sentence(evaluation: Evaluation) -> str:
    """Which structures no person drew; empty where all are drawn."""
    subject = evaluation.subject
    made = [name for name in subject.names if subject.origin(name) == "derived by software"]
    return f"Derived by software, not drawn: {', '.join(made)}." if made else ""


def _suffix(evaluation: Evaluation, label: str) -> str:
    return "" if len(evaluation.doses) == 1 else f"-{html.slug(label)}"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of plain values; JSON has no NaN."""

    def plain(value: Any) -> Any:
        value = value.item() if hasattr(value, "item") else value
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{str(key): plain(value) for key, value in row.items()} for row in frame.to_dict("records")]


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    rx, count = evaluation.prescription_Gy, evaluation.fractions
    facts = [
        ("Patient", evaluation.subject.label),
        ("Prescription", "not given" if rx is None else f"{rx:g} Gy"),
        ("Fractions", "not stated" if count is None else f"{count}"),
        ("Protocol", evaluation.protocol_title or "none"),
    ]
    for label, dose in evaluation.doses.items():
        spacing = " × ".join(f"{d:.3g}" for d in dose.grid.spacing_zyx_mm[::-1])
        facts.append((label, f"{dose.provenance.engine}, {spacing} mm"))
    facts.append(("Fingerprint", evaluation.fingerprint))
    return facts


def _metrics_table(evaluation: Evaluation) -> Table:
    labels = list(evaluation.doses)
    outside = [outside_column(label) for label in labels if is_outside(evaluation.metrics[outside_column(label)])]
    rows = []
    for row in evaluation.metrics.to_dict("records"):
        cells = [Cell(str(row["structure"]), head=True), Cell(str(row["metric"]))]
        cells += [Cell(_metric_text(row, label), "number") for label in labels]
        for label in labels[1:]:
            gap = row[label] - row[labels[0]]
            cells.append(Cell(("+" if gap > 0 else "") + tables.number(gap), "number"))
        cells += [Cell(tables.number(row[column], 1), "number") for column in outside]
        rows.append((*cells, Cell(str(row["remark"]), "source")))
    gaps = [f"{label} − {labels[0]}" for label in labels[1:]]
    heads = ("Structure", "Metric", *labels, *gaps, *outside, "Remark")
    return Table("Metrics", heads, tuple(rows))


def _metric_text(row: Mapping[Any, Any], label: str) -> str:
    """``62.71 ± 0.2 Gy, raw 62.3``; σ and raw value only where the dose carries its noise."""
    value, sigma = tables.number(row[label], 4), tables.number(row.get(f"{label} sigma"), 2)
    raw = tables.number(row.get(f"{label} raw"), 4)
    spread = "" if sigma == "–" else f" ± {sigma}"
    return f"{value}{spread} {row['unit']}".strip() + ("" if raw in ("–", value) else f", raw {raw}")


def is_outside(shares: pd.Series) -> bool:
    """Whether so much of any structure lies outside a dose's grid that it is worth a column."""
    return bool((shares > OUTSIDE_percent).any())


def _goals_table(evaluation: Evaluation) -> Table:
    """Goals of all doses side by side."""
    rows: list[list[Cell]] = []
    for goals in evaluation.goals.values():
        for number, goal in enumerate(goals.to_dict("records")):
            if number == len(rows):
                limit = Cell(tables.limit_text(goal), "number")
                rows.append([Cell(goal["structure"], head=True), Cell(goal["metric"]), limit])
            text = f"{tables.compared_text(goal)}  {tables.VERDICT_MARKS[goal['verdict']]}"
            if goal[OUTSIDE] > OUTSIDE_percent:
                text += f" ({goal[OUTSIDE]:.1f} % of it outside the dose grid)"
            rows[number].append(Cell(text, f"number verdict {goal['verdict']}"))
    sources = next(iter(evaluation.goals.values()), pd.DataFrame({"source": []}))["source"]
    for cells, source in zip(rows, sources, strict=True):
        cells.append(Cell(str(source), "source"))
    heads = ("Structure", "Metric", "Goal", *evaluation.goals, "Source")
    return Table(f"Goals: {evaluation.protocol_title}", heads, tuple(tuple(cells) for cells in rows))


def _pictures(evaluation: Evaluation, folder: Path) -> dict[str, Picture]:
    reference, *others = evaluation.doses
    structures = evaluation_figures.structures_of(evaluation)
    pictures = []
    with style.styled():
        pictures.append(
            html.picture(
                evaluation_figures.dvhs(evaluation),
                folder,
                "dvh",
                "Cumulative DVHs of targets and organs; dvh.csv has all structures.",
                f"Cumulative dose-volume histograms of {', '.join(evaluation.doses)}.",
            )
        )
        for label in evaluation.doses:
            pictures.append(
                html.picture(
                    evaluation_figures.isodoses(evaluation, label, structures),
                    folder,
                    f"isodoses_{html.slug(label)}",
                    f"Isodoses of {label} in three planes.",
                    f"Axial, coronal and sagittal isodose lines of {label} with outlines of {', '.join(structures)}.",
                )
            )
        for label in others:
            pictures.append(
                html.picture(
                    evaluation_figures.difference(evaluation, label, structures),
                    folder,
                    f"difference_{html.slug(label)}",
                    f"Dose of {label} minus {reference}; orange is more, purple less.",
                    f"Dose difference {label} minus {reference} in three planes.",
                )
            )
            if label in evaluation.gamma:
                pictures.append(
                    html.picture(
                        evaluation_figures.gamma(evaluation, label, structures),
                        folder,
                        f"gamma_{html.slug(label)}",
                        f"Gamma of {label} against {reference}; red is above 1, blue below.",
                        f"Gamma map of {label} in three planes; pass rates stand in the table.",
                    )
                )
    return {picture.name: picture for picture in pictures if picture is not None}
