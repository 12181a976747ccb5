"""From a plan's result to its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mrlinac.recipe import isotoxic, judge
from mrlinac.recipe.result import PlanResult
from mrlinac.report import html, tables
from mrlinac.report.content import MODEL_COLUMNS, ReportContent


def content_of(result: PlanResult) -> ReportContent:
    """What the report of a result shows."""
    spec, rx = result.spec, result.protocol.prescription
    standing = result.standing
    first = list(standing.sentences)
    flaws: dict[str, list[str]] = {}
    for structure in result.structures.structures.values():
        if structure.flaw:
            flaws.setdefault(structure.flaw, []).append(structure.name)
    first += [f"{', '.join(names)}: not evaluable: {flaw}." for flaw, names in flaws.items()]
    derived = [structure.name for structure in result.structures.structures.values() if structure.derived]
    if derived:
        first.append(f"Derived by software, not drawn: {', '.join(derived)}.")
    record = result.escalation
    return ReportContent(
        title=spec.title,
        machine_title=f"{spec.machine.title}, dose in {result.field_T:g} T",
        protocol_title=spec.protocol.title,
        citation=spec.protocol.citation,
        patient_label=result.label,
        ct=result.ct,
        structures=result.structures,
        dose=result.dose,
        prescription_Gy=rx.dose_Gy,
        fractions=rx.fractions,
        target=rx.target,
        fluence=result.fluence,
        segments=result.segments,
        leaf_travel=spec.machine.mlc.travel,
        leaf_width_mm=spec.machine.mlc.leaf_width_mm,
        dvhs=result.dvh,
        goals=result.goals,
        constraints=result.constraints,
        skin=result.skin,
        models=result.models if len(result.models) else pd.DataFrame(columns=list(MODEL_COLUMNS)),
        convergence=result.history,
        timing=result.timing,
        notes=result.notes,
        thinning=result.statements,
        neglected=spec.machine.neglected,
        warnings=tuple(first),
        headline=standing.headline,
        level=standing.level,
        escalation={} if record is None else record.as_dict(),
        escalation_says="" if record is None else isotoxic.sentence(record),
        provenance=result.made_from,
        certificate=result.delivery.certificate,
        rois={} if result.patient is None else result.patient.rois,
        skin_note=_skin_note(result),
    )


def _skin_note(result: PlanResult) -> str:
    """How the protocol makes its skin structures, and which metric is the primary one; empty without any."""
    made = []
    for name, rule in result.spec.protocol.structures.items():
        if not name.startswith("Skin") or name not in result.structures:
            continue
        words = [f"the outer {rule.rind_mm:g} mm of the body"] if rule.rind_mm is not None else []
        words += [f"made from {', '.join(map(str, rule.from_))}"] if rule.rind_mm is None and rule.from_ else []
        words += [f"{rule.side.towards} {rule.side.share:.0%} of the body"] if rule.side is not None else []
        words += [f"without the end {rule.trim_ends_mm:g} mm of the imaged range"] if rule.trim_ends_mm else []
        if words:
            made.append(f"{name} is {', '.join(words)}.")
    return " ".join([*made, f"The primary metric is {judge.SKIN_METRICS[0]}."]) if made else ""


def write_result(result: PlanResult, folder: Path, /, *, figures: bool = True) -> None:
    """Write a result's page, and its figures where wanted, into its folder.

    Parameters
    ----------
    result : PlanResult
    folder : Path
    figures : bool
        Whether to draw.
    """
    html.write(content_of(result), folder, figures=figures)


def write_comparison_of(results: Mapping[str, PlanResult], folder: Path, *, figures: bool = True) -> Path:
    """Write the page that sets results side by side, and its tables as CSV; returns the page.

    Parameters
    ----------
    results : mapping of label to PlanResult
        The first is the reference.
    folder : Path
    figures : bool
        Whether to draw.

    Returns
    -------
    Path
        Of the page.
    """
    contents = {label: content_of(result) for label, result in results.items()}
    page = html.write_comparison(contents, folder, figures=figures)
    written = {
        "goals": goals_side_by_side(results),
        "constraints": constraints_side_by_side(results),
        "skin": skin_side_by_side(results),
        "models": models_side_by_side(results),
        "dvh": pd.concat(
            [tables.dvh_frame(content.dvhs).assign(plan=label) for label, content in contents.items()],
            ignore_index=True,
        ),
    }
    for name, frame in written.items():
        tables.write_csv(frame, folder / f"{name}.csv")
    return page


def goals_side_by_side(results: Mapping[str, PlanResult]) -> pd.DataFrame:
    """Goals of several results: structure, metric, unit, limit, then value, verdict, σ and raw value of each result.

    Parameters
    ----------
    results : mapping of label to PlanResult

    Returns
    -------
    DataFrame
    """
    key = ["structure", "metric", "unit", "direction", "limit"]
    return _side_by_side({label: result.goals for label, result in results.items()}, key)


def constraints_side_by_side(results: Mapping[str, PlanResult]) -> pd.DataFrame:
    """Hard limits of several results: name and limit, then value, whether it is met, σ and raw value of each.

    Parameters
    ----------
    results : mapping of label to PlanResult

    Returns
    -------
    DataFrame
    """
    columns = {"name": object, "limit": float, "value": float, "met": object, "sigma": float, "raw": float}
    made = {
        label: result.constraints.reindex(columns=list(columns)).astype(columns) for label, result in results.items()
    }
    return _side_by_side(made, ["name", "limit"], ("met", "sigma", "raw"))


def skin_side_by_side(results: Mapping[str, PlanResult]) -> pd.DataFrame:
    """Skin metrics of several results: metric, region, unit, then value, σ and raw value of each.

    Parameters
    ----------
    results : mapping of label to PlanResult

    Returns
    -------
    DataFrame
    """
    columns = {"metric": object, "region": object, "unit": object, "value": float, "sigma": float, "raw": float}
    made = {label: result.skin.reindex(columns=list(columns)).astype(columns) for label, result in results.items()}
    return _side_by_side(made, ["metric", "region", "unit"], ("sigma", "raw"))


def models_side_by_side(results: Mapping[str, PlanResult]) -> pd.DataFrame:
    """Models of several results: what they are and their numbers, then value, verdict, σ and raw value of each.

    Parameters
    ----------
    results : mapping of label to PlanResult

    Returns
    -------
    DataFrame
    """
    key = ["model", "quantity", "endpoint", "structure", "unit", "doses", "parameters"]
    # A result without models keeps its columns, empty: nothing is dropped.
    columns = dict.fromkeys(key, object) | {"value": float, "verdict": object, "sigma": float, "raw": float}
    made = {label: result.models.reindex(columns=list(columns)).astype(columns) for label, result in results.items()}
    return _side_by_side(made, key)


def _side_by_side(
    frames: Mapping[str, pd.DataFrame], key: list[str], beside: tuple[str, ...] = ("verdict", "sigma", "raw")
) -> pd.DataFrame:
    """Tables joined by key, in the order in which the keys first appear; a row that one lacks stays, empty there."""
    if not frames:
        return pd.DataFrame()
    joined = pd.concat([frame[key] for frame in frames.values()], ignore_index=True).drop_duplicates()
    for label, frame in frames.items():
        own = {"value": label, **{name: f"{label} {name}" for name in beside}}
        own_table = frame.reindex(columns=[*key, *own]).rename(columns=own)
        joined = joined.merge(own_table, on=key, how="left")
    return joined
