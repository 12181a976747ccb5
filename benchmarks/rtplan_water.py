"""Recalculate each beam of an RTPLAN on water, and set it beside the BeamDose in the file.

    python benchmarks/rtplan_water.py PLAN.dcm --depth 100
    python benchmarks/rtplan_water.py PLAN.dcm --depth 100 --sigma 0.008 --grid 4

The isocentre lies at the given depth in a large tank. The dose is the mean over a cube of 12 mm about it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import page as pages
import pydicom

import mrlinac as mr

HALF_mm = 6.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--depth", type=float, default=100.0, help="mm of water above the isocentre")
    parser.add_argument("--machine")
    parser.add_argument("--grid", type=float, default=4.0, help="mm")
    parser.add_argument("--sigma", type=float, default=0.01)
    options = parser.parse_args()

    print(pages.head() + "\n")
    plan, tank = mr.read_plan(options.plan).at_isocentre((0.0, 0.0, 0.0)), mr.water_tank(options.depth)
    stated = stated_Gy(options.plan)
    print(
        "| beam | MU | field, mm | BeamDose, cGy/MU | Monte Carlo, cGy/MU | difference, % |\n|---|---|---|---|---|---|"
    )
    for beam in plan.beams:
        check = mr.recalculate_plan(
            replace(plan, beams=(beam,), fractions=1), tank, machine=options.machine, grid_mm=options.grid,
            rel_sigma=options.sigma, couch=False,
        )  # fmt: skip
        grid, dose = check.dose.grid, check.dose.dose_Gy
        near = [np.abs(axis) < HALF_mm for axis in (grid.z_mm, grid.y_mm, grid.x_mm)]
        cube = np.ix_(*near)
        value = 100 * float(dose[cube].mean()) / beam.mu
        batches = (
            100 * np.array([dose[cube] * (1 + part[cube]) for part in relative(check.dose)]).mean((1, 2, 3)) / beam.mu
        )
        sigma = float(batches.std(ddof=1) / np.sqrt(len(batches)))
        own = stated.get(beam.number)
        text = (
            ("", "")
            if own is None
            else (f"{100 * own / beam.mu:.4f}", f"{100 * (value / (100 * own / beam.mu) - 1):+.1f}")
        )
        print(
            f"| {beam.name} | {beam.mu:.0f} | {size_of(beam)} | {text[0]} | {value:.4f} ± {sigma:.4f} | {text[1]} |",
            flush=True,
        )


def relative(dose: mr.Dose) -> np.ndarray:
    """Relative deviations of the parts of the run from its mean, [part, z, y, x]."""
    return np.asarray(dose.batches.deviation, float).reshape(-1, *dose.grid.shape_zyx)


def size_of(beam: object) -> str:
    """Sides of the jaws' opening of the first control point."""
    point = beam.points[0]
    pairs = [pair for pair in (point.jaw_u_mm, point.jaw_v_mm) if pair is not None]
    return " x ".join(f"{pair[1] - pair[0]:.0f}" for pair in pairs)


def stated_Gy(path: Path) -> dict[int, float]:
    """BeamDose of one fraction by beam number."""
    data = pydicom.dcmread(path, force=True)
    beams = data.FractionGroupSequence[0].ReferencedBeamSequence
    return {int(b.ReferencedBeamNumber): float(b.BeamDose) for b in beams if getattr(b, "BeamDose", None) is not None}


if __name__ == "__main__":
    main()
