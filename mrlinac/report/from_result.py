"""From a plan's result to its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from mrlinac.recipe import isotoxic
from mrlinac.recipe.result import PlanResult
from mrlinac.report import html
from mrlinac.report.content import ReportContent


def content_of(result: PlanResult) -> ReportContent:
    """What the report of a result shows."""
    spec, rx = result.spec, result.protocol.prescription
    first = [] if result.constraints_met else ["Not every hard constraint is met; see the table of constraints."]
    flaws: dict[str, list[str]] = {}
    for structure in result.structures.structures.values():
        if structure.flaw:
            flaws.setdefault(structure.flaw, []).append(structure.name)
    first += [f"{', '.join(names)}: not evaluable: {flaw}." for flaw, names in flaws.items()]
    found = result.escalation
    if found is not None and not found["eligible"]:
        first.insert(0, isotoxic.sentence(found))
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
        leaf_travel=spec.machine.mlc.travel,
        leaf_width_mm=spec.machine.mlc.leaf_width_mm,
        dvhs=result.dvh,
        goals=result.goals,
        constraints=result.constraints,
        skin=result.skin,
        convergence=result.history,
        timing=result.timing,
        notes=result.notes,
        thinning=result.statements,
        neglected=spec.machine.neglected,
        warnings=tuple(first),
        escalation={} if found is None else found,
        escalation_says="" if found is None else isotoxic.sentence(found),
        provenance=result.made_from,
        certificate=result.fluence.certificate,
        rois={} if result.patient is None else result.patient.rois,
        skin_note=(
            "Skin is the body minus the body shrunk by 5 mm (3 mm where the name says so), without the end 30 mm of the "
            "imaged range. The primary metric is D2cc."
        ),
    )


def write_result(result: PlanResult, folder: Path) -> None:
    """Write a result's figures and page into its folder."""
    html.write(content_of(result), folder)


def write_comparison_of(results: Mapping[str, PlanResult], folder: Path) -> Path:
    """Write the page that sets results side by side; returns it."""
    return html.write_comparison({label: content_of(result) for label, result in results.items()}, folder)


def goals_side_by_side(results: Mapping[str, PlanResult]) -> pd.DataFrame:
    """Goals of several results: structure, metric, unit, limit, then a value and a verdict a result."""
    key = ["structure", "metric", "unit", "direction", "limit"]
    table: pd.DataFrame | None = None
    for label, result in results.items():
        mine = result.goals[[*key, "value", "verdict"]]
        mine = mine.rename(columns={"value": label, "verdict": f"{label} verdict"})
        table = mine if table is None else table.merge(mine, on=key, how="outer", sort=False)
    return pd.DataFrame() if table is None else table
