"""Whether σ of a metric is the scatter of replicates: one fluence, its dose again and again with other seeds.

    python benchmarks/replicates.py results/113-unity --count 40 --rel-sigma 0.04 0.02

For every goal of the plan: scatter of the value without noise's bias over the replicates, mean σ shown, how many of the
replicates lie within one and two σ of their mean, and the means of corrected and raw values at each noise.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import page
import pandas as pd

import mrlinac as mr


def values_of(plan: mr.PlanResult, rel_sigma: float, count: int, threads: int | None) -> pd.DataFrame:
    """Value, raw and sigma of every goal, one replicate after the other."""
    spec = plan.spec.override({"numerics.final_rel_sigma": rel_sigma})
    rows = []
    for seed in range(1, count + 1):
        goals = mr.recalculate(replace(plan, spec=spec), seed=seed, threads=threads).goals
        rows.append(goals.assign(seed=seed))
        print(f"σ {rel_sigma:g}: {seed} of {count}", flush=True)
    return pd.concat(rows)


def table_of(found: pd.DataFrame) -> pd.DataFrame:
    """A row a goal."""
    rows = []
    for (structure, metric), one in found.groupby(["structure", "metric"], sort=False):
        value, sigma = one["value"].to_numpy(float), one["sigma"].to_numpy(float)
        if not np.isfinite(value).all():
            continue
        off = np.abs(value - value.mean()) * np.sqrt(len(value) / (len(value) - 1))
        row = {"goal": f"{structure} {metric}", "value": value.mean(), "raw": one["raw"].mean()}
        row |= {"scatter": value.std(ddof=1), "sigma": np.sqrt((sigma**2).mean())}
        rows.append({**row, "within 1σ": (off <= sigma).mean(), "within 2σ": (off <= 2 * sigma).mean()})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="folder of a plan's result")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--rel-sigma", type=float, nargs="+", default=[0.04], help="mean σ of voxels above half")
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    plan = mr.load_result(asked.result)
    for rel_sigma in asked.rel_sigma:
        table = table_of(values_of(plan, rel_sigma, asked.count, asked.threads))
        within = [f"{table[key].mean():.2f}" for key in ("within 1σ", "within 2σ")]
        page.begin(
            "σ against the scatter of replicates",
            f"{asked.count} replicates, mean σ of voxels {100 * rel_sigma:g} %. All goals: within 1σ {within[0]} "
            f"(0.68 of a normal distribution), within 2σ {within[1]} (0.95).",
        )
        print(page.columns(list(table.columns)))
        for goal, *values in table.itertuples(index=False):
            print(page.row([goal, *(f"{value:.3g}" for value in values)]))


if __name__ == "__main__":
    main()
