"""Plan one patient by several plans and set them side by side: machine × PTV margin, conventional or isotoxic.

    python benchmarks/arms.py                                    # the digital patient, seed 1
    python benchmarks/arms.py --patient FOLDER [--rtstruct FILE] # a patient's DICOM
    python benchmarks/arms.py --set numerics=demo --arms unity-66in33 # fewer and coarser
    python benchmarks/arms.py --arms agility-isotoxic unity-isotoxic unity-3mm-isotoxic

An arm is a plan file, by name or path. Writes a folder a plan, a comparison, and `arms.md` with goals, skin, limits, rounds
and cost by stage; prints what matters of it as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import page as pages
import pandas as pd

import mrlinac as mr

CONVENTIONAL = ("unity-66in33", "unity-3mm-66in33", "agility-66in33")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patient", help="folder of DICOM files")
    parser.add_argument("--rtstruct", help="structure set to use")
    parser.add_argument("--seed", type=int, default=1, help="digital patient")
    parser.add_argument("--arms", nargs="+", metavar="PLAN", default=list(CONVENTIONAL))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("results/arms"))
    options = parser.parse_args()

    source = {"patient.folder": options.patient, "patient.rtstruct": options.rtstruct}
    source = {key: value for key, value in source.items() if value} or {"patient.phantom_seed": options.seed}
    results = {}
    patient = None
    for arm in options.arms:
        spec = mr.load_plan(arm, {**source, **dict(mr.parse_set(text) for text in options.set)})
        patient = patient or mr.patient_of(spec)
        print(f"{arm}: planning {patient.label} …", flush=True)
        results[arm] = mr.make_plan(spec, patient)
        results[arm].save(options.out / arm, overwrite=True)
    # Doses of different fractionation do not subtract.
    one_course = len({result.protocol.prescription.fractions for result in results.values()}) == 1
    if len(results) > 1 and one_course:
        mr.compare(results).save(options.out / "comparison")
    text = page(results)
    (options.out / "arms.md").write_text(text, encoding="utf-8")
    print(summary(results))


def summary(results: dict[str, mr.PlanResult]) -> str:
    """One column an arm: goals and skin with their standard deviations, the isotoxic prescription, limits, cost."""
    rows: dict[str, dict[str, str]] = {}

    def put(row: str, arm: str, text: str) -> None:
        rows.setdefault(row, dict.fromkeys(results, ""))[arm] = text

    for arm, result in results.items():
        if (record := result.escalation) is not None:
            put("**prescription** (Gy)", arm, f"**{record.dose_Gy:g}** in {record.fractions}")
            put("stopped by", arm, record.driver)
            first = "; ".join(f"{limit.name} {limit.allows_Gy:.1f}" for limit in record.limits[:3])
            put("first limits allow (Gy)", arm, first)
            put("convex bound, second pass, aimed at (Gy)", arm,
                f"{record.bound_Gy:.1f}, {record.second_pass_Gy:.1f}, {record.aimed_Gy:.1f}")  # fmt: skip
        for row in result.goals.to_dict("records"):
            if row["verdict"] in ("absent", "void"):
                continue
            limit = f", {row['direction']} {row['limit']:.4g}" if row["direction"] else ""
            verdict = f" ({row['verdict']})" if row["verdict"] in ("near", "fail") else ""
            put(f"{row['structure']} {row['metric']}{limit}", arm, figure(row) + verdict)
        for row in result.skin.to_dict("records"):
            if row["metric"] == "D2cc" or row["region"] == "Skin":
                put(f"{row['region']} {row['metric']} (Gy)", arm, figure(row))
        missed = result.constraints[~result.constraints["met"].astype(bool)]
        put("hard limits missed", arm, "; ".join(missed["name"]) or "none")
        certificate = result.fluence.certificate
        if certificate is not None:
            put("certificate", arm, f"{certificate.status}, gap {100 * certificate.relative_gap:.2g} %")
        for row in result.timing.to_dict("records"):
            put(f"{row['stage']}: CPU-s (wall-s)", arm, f"{row['cpu_s']:.0f} ({row['wall_s']:.0f})")
        put("all: CPU-s (wall-s)", arm, f"{result.timing['cpu_s'].sum():.0f} ({result.timing['wall_s'].sum():.0f})")
        put("peak memory (GB)", arm, f"{result.timing['peak_MB'].max() / 1e3:.1f}")
    table = pd.DataFrame({"": list(rows), **{arm: [row[arm] for row in rows.values()] for arm in results}})
    return markdown(table)


def figure(row: Mapping[Any, Any]) -> str:
    """Value and standard deviation."""
    sigma = f" ± {row['sigma']:.2g}" if row["sigma"] == row["sigma"] else ""
    return f"{row['value']:.4g}{sigma}"


def page(results: dict[str, mr.PlanResult]) -> str:
    """The tables as Markdown."""
    parts = ["## Plans side by side", pages.head(), "### Goals", markdown(mr.compare(results).goals)]
    escalated = {arm: result.escalation for arm, result in results.items() if result.escalation}
    if escalated:
        parts += ["### Isotoxic prescription", markdown(isotoxic(escalated))]
    for arm, result in results.items():
        parts += [
            f"## {arm}",
            f"{result!r}",
            "### Cost",
            markdown(result.timing),
            "### Rounds",
            markdown(result.history),
        ]
        parts += ["### Constraints", markdown(result.constraints), "### Skin", markdown(result.skin)]
        parts += [f"- {key}: {value}" for key, value in result.made_from.items() if key != "versions"]
    return "\n\n".join(parts) + "\n"


def isotoxic(escalated: Mapping[str, Any]) -> pd.DataFrame:
    """One column an arm: the prescription, what stopped it, the model's bounds, and what stands next in the way."""
    rows = ("dose_Gy", "fractions", "eligible", "driver", "allowed_Gy", "second_pass_Gy", "bound_Gy", "reasons")
    table = {"": [*rows, "limits in order: allows, Gy of prescription per Gy of limit"]}
    for arm, record in escalated.items():
        first = "; ".join(
            f"{limit.name} {limit.allows_Gy:.1f}, {limit.gain_Gy_per_Gy:.2g}" for limit in record.limits[:3]
        )
        table[arm] = [getattr(record, row) for row in rows] + [first]
    return pd.DataFrame(table)


def markdown(frame: pd.DataFrame) -> str:
    """A DataFrame as a Markdown table, numbers to four digits."""
    cells = ([f"{v:.4g}" if isinstance(v, float) else str(v) for v in values] for values in frame.values)
    return "\n".join([pages.columns([str(name) for name in frame.columns]), *map(pages.row, cells)])


if __name__ == "__main__":
    main()
