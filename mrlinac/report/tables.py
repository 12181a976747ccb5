"""Tables of a plan: CSV files that round-trip, and cells for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dicompylercore.dvh import DVH

from mrlinac.errors import writing
from mrlinac.report.content import ReportContent, is_upper

VERDICT_MARKS = {
    "pass": "✓ pass",
    "near": "≈ near",
    "fail": "✗ fail",
    "report": "· reported",
    "absent": "– not drawn",
    "void": "∅ not evaluable",
}
"""Sign and word of each verdict: colour only repeats what they say."""


@dataclass(frozen=True)
class Cell:
    """One table cell: text, a CSS class and whether it heads its row."""

    text: str
    css: str = ""
    head: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the page: caption, column heads, rows of cells."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


# ------------------------------------------------------------------------------------------------------ CSV files


def write_csv(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as UTF-8 CSV with full precision and ``\\n`` line ends everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path):
        path.write_text(frame.to_csv(index=False, lineterminator="\n"), encoding="utf-8", newline="\n")
    return path


def write_goals_csv(goals: pd.DataFrame, path: Path) -> Path:
    """Write ``goals.csv``: one goal a row."""
    return write_csv(goals, path)


def write_timing_csv(timing: pd.DataFrame, path: Path) -> Path:
    """Write ``timing.csv``: one stage a row."""
    return write_csv(timing, path)


def dvh_frame(dvhs: Mapping[str, DVH]) -> pd.DataFrame:
    """Cumulative DVHs as one long table: structure, dose_Gy, volume_cc, volume_percent.

    A row says which volume receives at least that dose.
    """
    parts = []
    for name, dvh in dvhs.items():
        cumulative = dvh.cumulative
        volume = np.append(np.asarray(cumulative.counts, float), 0.0)[: len(cumulative.bins)]
        whole = volume[0] if len(volume) and volume[0] > 0 else math.nan
        parts.append(
            pd.DataFrame(
                {
                    "structure": name,
                    "dose_Gy": np.asarray(cumulative.bins, float),
                    "volume_cc": volume,
                    "volume_percent": 100 * volume / whole,
                }
            )
        )
    columns = ["structure", "dose_Gy", "volume_cc", "volume_percent"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def write_dvh_csv(dvhs: Mapping[str, DVH], path: Path) -> Path:
    """Write ``dvh.csv``: :func:`dvh_frame` with six significant digits."""
    frame = dvh_frame(dvhs)
    for column in ("dose_Gy", "volume_cc", "volume_percent"):
        frame[column] = [float(f"{value:.6g}") for value in frame[column]]
    return write_csv(frame, path)


# --------------------------------------------------------------------------------------------------- page tables


def number(value: Any, digits: int = 3) -> str:
    """A value as text: numbers with about three significant digits, an en dash for what is not there."""
    if value is None or (isinstance(value, (float, np.floating)) and math.isnan(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{int(value):,}".replace(",", "\u202f")
    if isinstance(value, (float, np.floating)):
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        size = abs(float(value))
        if size != 0 and (size < 1e-3 or size >= 1e6):
            return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")
        places = max(0, digits - 1 - math.floor(math.log10(size))) if size >= 1e-3 else 0
        return f"{value:.{min(places, 4)}f}".replace("-", "−")
    return "–" if value is pd.NA else str(value)


VALUE, RAW = "Value (± σ)", "Raw"
VALUES_NOTE = (
    "Values are without the bias of Monte Carlo noise, and are what is judged; ± one standard deviation. Raw is as read "
    "off the dose with its noise."
)
"""Printed under tables of figures."""


def value_text(row: Mapping[str, Any], unit: str | None = None) -> str:
    """``49.9 ± 0.5 Gy``: a value with its standard deviation, where that is known, and its unit."""
    value, sigma = number(row["value"]), number(row.get("sigma"), 2)
    if value == "–":
        return value
    spread = "" if sigma == "–" else f" ± {sigma}"
    return f"{value}{spread} {row['unit'] if unit is None else unit}".strip()


def value_cells(row: Mapping[str, Any], unit: str | None = None) -> tuple[Cell, Cell]:
    """A value with its standard deviation, and what it was with the bias of noise."""
    return Cell(value_text(row, unit), "number"), Cell(number(row.get("raw")), "number")


def compared_text(row: Mapping[str, Any]) -> str:
    """The same in one cell: ``49.9 ± 0.5 Gy, raw 50.4``; the raw value where it reads otherwise."""
    raw = number(row.get("raw"))
    return value_text(row) + ("" if raw in ("–", number(row["value"])) else f", raw {raw}")


def verdict_cell(verdict: str) -> Cell:
    """A verdict as sign, word and colour."""
    return Cell(VERDICT_MARKS[verdict], f"verdict {verdict}")


def limit_text(goal: Mapping[str, Any]) -> str:
    """A goal's limit with its direction and unit, e.g. "≤ 20 Gy"."""
    if number(goal["limit"]) == "–":
        return "–"
    sign = ("≤ " if is_upper(goal["direction"]) else "≥ ") if str(goal["direction"]).strip() else ""
    return f"{sign}{number(goal['limit'])} {goal['unit']}"


def goals_table(content: ReportContent) -> Table:
    """Goals with their verdicts."""
    rows = tuple(
        (
            Cell(str(goal["structure"]), head=True),
            Cell(str(goal["metric"])),
            *value_cells(goal),
            Cell(limit_text(goal), "number"),
            verdict_cell(str(goal["verdict"])),
            Cell(number(goal["margin"]), "number"),
            Cell(str(goal["source"]), "source"),
        )
        for goal in content.goals.to_dict("records")
    )
    return Table(
        "Goals, judged on the dose shown here",
        ("Structure", "Metric", VALUE, RAW, "Goal", "Verdict", "Margin", "Source"),
        rows,
    )


MODELS_NOTE = (
    "Models are population estimates: fitted to groups of patients of their time and technique, none of them treated in a "
    "magnetic field, and blind to this patient's own risks. They help to compare plans; they do not tell what will happen "
    "to a patient. ± is of the dose's statistics alone; the uncertainty of a model's own numbers is far larger."
)
"""Printed under every table of models."""


SMALL_percent = 0.1
"""Probabilities are not told apart below this; ``models.csv`` holds them in full."""


def models_table(content: ReportContent) -> Table:
    """Complication and control probabilities and doses in biological terms, with the citation of each."""
    rows = tuple(
        (
            Cell(str(row["model"]), head=True),
            Cell(f"{row['quantity']}: {row['endpoint']}"),
            Cell(str(row["structure"])),
            _model_cell(row),
            _raw_model_cell(row),
            Cell("; ".join(str(row[k]) for k in ("parameters", "doses") if row[k])),
            Cell(str(row["source"]), "source"),
        )
        for row in content.models.to_dict("records")
    )
    heads = ("Model", "Of", "Structure", VALUE, RAW, "Numbers, and doses that enter", "Source")
    return Table("Models, on the dose shown here", heads, rows)


def _model_cell(row: Mapping[str, Any]) -> Cell:
    """A model's value with the dose's noise, or why there is none."""
    if row["verdict"] != "report":
        return Cell(f"{VERDICT_MARKS[str(row['verdict'])]}: {row['reason']}", "absent")
    if row["unit"] == "%" and row["value"] < SMALL_percent:
        return Cell(f"< {SMALL_percent:g} %", "number")
    return Cell(value_text(row), "number")


def _raw_model_cell(row: Mapping[str, Any]) -> Cell:
    """A model's value with the bias of noise."""
    raw = row.get("raw")
    if row["unit"] == "%" and raw is not None and raw < SMALL_percent:
        return Cell(f"< {SMALL_percent:g}", "number")
    return Cell(number(raw), "number")


def constraints_table(content: ReportContent) -> Table:
    """Hard constraints of the optimiser and what each of them cost."""
    rows = tuple(
        (
            Cell(str(row["name"]), head=True),
            *value_cells(row, "Gy"),
            Cell(f"{number(row['limit'])} Gy", "number"),
            verdict_cell("pass" if bool(row["met"]) else "fail"),
            Cell(number(row["dual"]), "number"),
        )
        for row in content.constraints.to_dict("records")
    )
    return Table("Hard constraints", ("Constraint", VALUE, RAW, "Limit", "Met", "Dual price"), rows)


def escalation_table(content: ReportContent) -> Table:
    """Which prescription each limit allows, and what moving it is worth; empty for a plan that does not escalate."""
    rows = tuple(
        (
            Cell(str(limit["name"]), head=True),
            Cell(number(limit["limit_Gy"]), "number"),
            Cell(number(limit["allows_Gy"]), "number"),
            Cell(number(limit["gain_Gy_per_Gy"]), "number"),
            Cell(number(limit["cost_Gy_per_Gy"]), "number"),
        )
        for limit in content.escalation.get("limits", ())
    )
    heads = (
        "Limit",
        "Value (Gy)",
        "This dose could be prescribed up to (Gy)",
        "Gy of prescription per Gy more of the limit",
        "Gy of the limit per further Gy of prescription",
    )
    return Table("What stands in the way of a higher prescription", heads, rows)


def skin_table(content: ReportContent) -> Table:
    """Skin metrics with their uncertainty."""
    rows = []
    for row in content.skin.to_dict("records"):
        cells = (Cell(str(row["metric"]), head=True), Cell(str(row["region"])), *value_cells(row))
        rows.append(cells)
    return Table("Skin dose, course", ("Metric", "Region", VALUE, RAW), tuple(rows))


def _on_grid(volume_cc: float, continued_cc: float) -> str:
    """A volume, and apart from it what the grid adds beyond the images."""
    more = f" (and {number(continued_cc)} continued beyond the images)" if continued_cc > 0 else ""
    return number(volume_cc) + more


def structures_table(content: ReportContent) -> Table:
    """Structures: volume on the grid and as drawn, the clinic's name, who drew it."""
    rows = []
    for name, structure in content.structures.structures.items():
        roi = content.rois.get(name)
        if structure.derived or (roi is not None and roi.derived):
            made = "derived by software"
        else:
            drawn = roi is not None or structure.drawn_volume_cc is not None
            made = "drawn" if drawn else "derived by rule"
        rows.append(
            (
                Cell(name, head=True),
                Cell(structure.role),
                Cell(_on_grid(content.structures.volume_cc(name), structure.continued_cc), "number"),
                Cell(number(structure.drawn_volume_cc), "number"),
                Cell(roi.original_name if roi is not None else ""),
                Cell(made),
            )
        )
    heads = (
        "Structure",
        "Role",
        "Volume on the grid (cc)",
        "Volume of the polygons (cc)",
        "Name in the file",
        "Origin",
    )
    return Table("Structures", heads, tuple(rows))


def frame_table(frame: pd.DataFrame, caption: str) -> Table:
    """Any table, its first column heading the rows."""
    rows = []
    for record in frame.itertuples(index=False):
        cells = [Cell(number(record[0]), head=True)]
        cells += [Cell(number(v), "number" if isinstance(v, (int, float, np.number)) else "") for v in record[1:]]
        rows.append(tuple(cells))
    heads = tuple(str(c).replace("_", " ") for c in frame.columns)
    return Table(caption, heads, tuple(rows))


def timing_table(timing: pd.DataFrame) -> Table:
    """Stages with a row of sums; the peak is the highest one, not a sum."""
    named = {"cpu_s": "CPU (s)", "wall_s": "wall clock (s)", "peak_MB": "peak memory (MB)"}
    if timing.empty:
        return frame_table(timing.rename(columns=named), "Time and memory")
    total = {
        "stage": "all stages",
        "cpu_s": timing["cpu_s"].sum(),
        "wall_s": timing["wall_s"].sum(),
        "peak_MB": timing["peak_MB"].max(),
    }
    whole = pd.concat([timing[list(total)], pd.DataFrame([total])], ignore_index=True)
    return frame_table(whole.rename(columns=named), "Time and memory by stage")


# ---------------------------------------------------------------------------------------------------- comparisons


def side_by_side(
    contents: Mapping[str, ReportContent], table: str, keys: tuple[str, ...]
) -> list[tuple[tuple[Any, ...], dict[str, dict[str, Any]]]]:
    """Rows of one table of several plans joined by key, in the order in which they first appear.

    Returns
    -------
    list of (key, {plan's label: row})
        A plan that lacks a row is absent from that row's mapping; nothing is dropped.
    """
    joined: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for label, content in contents.items():
        for row in getattr(content, table).to_dict("records"):
            joined.setdefault(tuple(row[k] for k in keys), {})[label] = row
    return list(joined.items())


def compared_goals(contents: Mapping[str, ReportContent]) -> Table:
    """Goals of several plans: value and verdict of each beside one another."""
    rows = []
    for (structure, metric), plans in side_by_side(contents, "goals", ("structure", "metric")):
        limits = {limit_text(goal) for goal in plans.values()}
        cells = [Cell(str(structure), head=True), Cell(str(metric)), Cell(" / ".join(sorted(limits)), "number")]
        for label in contents:
            goal = plans.get(label)
            if goal is None:
                cells.append(Cell("not in this plan", "absent"))
                continue
            mark = VERDICT_MARKS[goal["verdict"]]
            cells.append(Cell(f"{compared_text(goal)}  {mark}", f"number verdict {goal['verdict']}"))
        rows.append(tuple(cells))
    return Table("Goals side by side", ("Structure", "Metric", "Goal", *contents), tuple(rows))


def compared_models(contents: Mapping[str, ReportContent]) -> Table:
    """Models of several plans beside one another, a row for every set of numbers."""
    rows = []
    keys = ("model", "quantity", "endpoint", "structure", "doses", "parameters", "source")
    for (model, quantity, endpoint, structure, doses, _, source), plans in side_by_side(contents, "models", keys):
        cells = [Cell(str(model), head=True), Cell(f"{quantity}: {endpoint}"), Cell(str(structure))]
        cells += [
            _compared_model_cell(plans[p]) if p in plans else Cell("not in this plan", "absent") for p in contents
        ]
        cells += [Cell(str(doses)), Cell(str(source), "source")]
        rows.append(tuple(cells))
    heads = ("Model", "Of", "Structure", *contents, "Doses that enter", "Source")
    return Table("Models side by side", heads, tuple(rows))


def _compared_model_cell(row: Mapping[str, Any]) -> Cell:
    """A model's value, and what it was with the bias of noise."""
    cell, raw = _model_cell(row), _raw_model_cell(row)
    differs = (
        row["verdict"] == "report" and raw.text not in ("–", number(row["value"])) and not cell.text.startswith("<")
    )
    return Cell(f"{cell.text}, raw {raw.text}", cell.css) if differs else cell


def compared_skin(contents: Mapping[str, ReportContent]) -> Table:
    """Skin metrics of several plans, and the difference of each plan from the first."""
    labels = list(contents)
    rows = []
    for (metric, region), plans in side_by_side(contents, "skin", ("metric", "region")):
        cells = [Cell(str(metric), head=True), Cell(str(region))]
        cells += [Cell(compared_text(plans[p]) if p in plans else "–", "number") for p in labels]
        for label in labels[1:]:
            known = labels[0] in plans and label in plans
            cells.append(Cell(_gap_text(plans[label], plans[labels[0]]) if known else "–", "number"))
        rows.append(tuple(cells))
    heads = ("Metric", "Region", *labels, *(f"{label} − {labels[0]}" for label in labels[1:]))
    return Table("Skin dose side by side", heads, tuple(rows))


def _gap_text(row: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """Difference of two values with the standard deviation of their independent noise."""
    gap = float(row["value"]) - float(base["value"])
    sigma = number(math.hypot(float(row.get("sigma", math.nan)), float(base.get("sigma", math.nan))), 2)
    return ("" if gap < 0 else "+") + number(gap) + ("" if sigma == "–" else f" ± {sigma}")
