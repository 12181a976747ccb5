"""What the sign of the field changes: one plan, its dose in the field and in the field turned round.

    python benchmarks/field_sign.py                             # the digital patient on Unity, preset demo
    python benchmarks/field_sign.py --patient FOLDER --set numerics=draft

Which way Unity's field points is not in our sources (`machines/unity.toml`). The plan is made in the direction assumed and
recalculated, same MU, in the other. Writes both results, their comparison, and `field_sign.md`: goals side by side with
the difference and its standard deviation.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import page as pages
import pandas as pd

import mrlinac as mr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patient", help="folder of DICOM files (default: the digital patient)")
    parser.add_argument("--seed", type=int, default=1, help="digital patient")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/field-sign"))
    options = parser.parse_args()

    source = {"patient.folder": options.patient} if options.patient else {"patient.phantom_seed": options.seed}
    changes = {"numerics": "demo", **source, **dict(mr.parse_set(text) for text in options.set)}
    spec = mr.load_plan("unity-66in33", changes)
    planned = mr.make_plan(spec, mr.patient_of(spec), threads=options.threads)
    turned = mr.recalculate(planned, field_T=-planned.field_T, threads=options.threads)
    planned.save(options.out / "planned", overwrite=True)
    turned.save(options.out / "turned", overwrite=True)
    text = page(planned, turned)
    (options.out / "field_sign.md").write_text(text, encoding="utf-8")
    print(text)


def page(planned: mr.PlanResult, turned: mr.PlanResult) -> str:
    """The table as Markdown."""
    rows = ["| | unit | goal | field as planned | field turned | difference |", "|---|---|---|---|---|---|"]
    for row in side_by_side(planned.goals, turned.goals).to_dict("records"):
        limit = (
            f"{row['direction'].replace('<=', '≤').replace('>=', '≥')} {row['limit']:g}" if row["direction"] else ""
        )
        verdicts = [f" ({row[key]})" if row[key] in ("near", "fail") else "" for key in ("verdict", "verdict_turned")]
        rows.append(
            f"| {row['structure']} {row['metric']} | {row['unit']} | {limit} "
            f"| {row['value']:.2f} ± {row['sigma']:.2f}{verdicts[0]} "
            f"| {row['value_turned']:.2f} ± {row['sigma_turned']:.2f}{verdicts[1]} "
            f"| {row['difference']:+.2f} ± {row['difference_sigma']:.2f} |"
        )
    made = [f"- {key}: {value}" for key, value in turned.made_from.items() if key not in ("versions", "influence")]
    return (
        "\n".join(
            [
                "## The sign of the field",
                "",
                pages.head(),
                "",
                f"{planned!r}, recalculated with the field turned round.",
                "",
                *rows,
                "",
                *made,
            ]
        )
        + "\n"
    )


def side_by_side(planned: pd.DataFrame, turned: pd.DataFrame) -> pd.DataFrame:
    """Goals that have a value in both, with the difference; the noise of the two doses is taken as independent."""
    key = ["structure", "metric"]
    both = planned.merge(turned[[*key, "value", "sigma", "verdict"]], on=key, suffixes=("", "_turned"))
    both["difference"] = both["value_turned"] - both["value"]
    both["difference_sigma"] = np.hypot(both["sigma"], both["sigma_turned"])
    return both[both["difference"].notna()]


if __name__ == "__main__":
    main()
