"""Plan one patient on several arms and set them side by side: machine × PTV margin.

    python benchmarks/arms.py                                    # the digital patient, seed 1
    python benchmarks/arms.py --patient FOLDER [--rtstruct FILE] # a patient's DICOM
    python benchmarks/arms.py --set numerics=demo --arms unity-7 # fewer and coarser

Writes a folder a plan, a comparison, and `arms.md` with goals, skin, cost by stage and photons per CPU-second.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import mrlinac as mr

ARMS = {"unity-7": ("unity-66in33", 7.0), "unity-3": ("unity-66in33", 3.0), "agility-7": ("agility-66in33", 7.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patient", help="folder of DICOM files")
    parser.add_argument("--rtstruct", help="structure set to use")
    parser.add_argument("--seed", type=int, default=1, help="digital patient")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("results/arms"))
    options = parser.parse_args()

    source = {"patient.folder": options.patient, "patient.rtstruct": options.rtstruct}
    source = {key: value for key, value in source.items() if value} or {"patient.phantom_seed": options.seed}
    results = {}
    patient = None
    for arm in options.arms:
        plan, margin_mm = ARMS[arm]
        changes = {**source, "protocol.structures.PTV.margin_mm": margin_mm}
        spec = mr.load_plan(plan, {**changes, **dict(mr.parse_set(text) for text in options.set)})
        patient = patient or mr.patient_of(spec)
        print(f"{arm}: planning {patient.label}", flush=True)
        results[arm] = mr.make_plan(spec, patient)
        results[arm].save(options.out / arm, overwrite=True)
    if len(results) > 1:
        mr.compare(results).save(options.out / "comparison")
    text = page(results)
    (options.out / "arms.md").write_text(text, encoding="utf-8")
    print(text)


def page(results: dict[str, mr.PlanResult]) -> str:
    """The tables as Markdown."""
    parts = ["## Goals", markdown(mr.compare(results).goals)]
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


def markdown(frame: pd.DataFrame) -> str:
    """A DataFrame as a Markdown table, numbers to four digits."""
    head = "| " + " | ".join(map(str, frame.columns)) + " |\n|" + "---|" * len(frame.columns)
    rows = [
        "| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |" for row in frame.values
    ]
    return "\n".join([head, *rows])


if __name__ == "__main__":
    main()
