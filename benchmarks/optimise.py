"""CPU-seconds of the planner on thorax problems: ``python benchmarks/optimise.py [mini|small|real] [clarabel]``.

Analytic pencil beams, not Monte Carlo; one BLAS thread. ``real`` has about the beamlets and target voxels of the real
lung patient (7 mm margin). Clarabel (through cvxpy) is run beside where asked for.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit" / "optimise"))

import numpy as np
from synthetic import thorax

from mrlinac import optimise
from mrlinac import protocol as protocols
from mrlinac.dose import metrics

SIZES = {
    "mini": {"spacing_mm": 6.0, "target_mm": 20.0, "half_length_mm": 40.0},
    "small": {"spacing_mm": 5.0, "target_mm": 30.0, "half_length_mm": 60.0, "noise": 0.03},
    "real": {"spacing_mm": 3.0, "target_mm": 49.0, "half_length_mm": 85.0, "noise": 0.05, "scatter": 0.001},
}
SRC = {"source": "benchmark"}


def protocol() -> protocols.Protocol:
    """Quadratic objectives with hard limits on cord, lungs, oesophagus and hot spot."""
    objectives = [
        {"kind": "squared_deviation", "structure": "PTV_eval", "dose_percent": 100, "weight": 60},
        {"kind": "squared_underdose", "structure": "PTV_eval", "dose_percent": 97, "weight": 600},
        {"kind": "squared_overdose", "structure": "PTV_eval", "dose_percent": 103, "weight": 200},
        {"kind": "squared_overdose", "structure": "Ring", "dose_percent": 80, "weight": 10},
        {"kind": "squared_overdose", "structure": "Normal", "dose_percent": 50, "weight": 30},
        {"kind": "mean_dose", "structure": "Normal", "weight": 1},
        {"kind": "squared_overdose", "structure": "Lungs-GTV", "dose_Gy": 20, "weight": 0.5},
        {"kind": "mean_dose", "structure": "Heart", "weight": 0.5},
        {"kind": "fluence_smoothness", "weight": 3},
    ]
    constraints = [
        {"kind": "upper_tail", "structure": "SpinalCord", "volume_cc": 0.1, "at_most_Gy": 35},
        {"kind": "mean_dose", "structure": "Lungs-GTV", "at_most_Gy": 16},
        {"kind": "upper_tail", "structure": "Esophagus", "volume_cc": 1, "at_most_Gy": 55},
        {"kind": "upper_tail", "structure": "PTV_eval", "volume_percent": 2, "at_most_percent": 107},
    ]
    rx = {"dose_Gy": 66, "fractions": 33, "target": "PTV_eval", "rule": "median", **SRC}
    return protocols.from_values(
        {
            "name": "benchmark",
            "title": "benchmark",
            "citation": "benchmark",
            "prescription": rx,
            "objectives": [o | SRC for o in objectives],
            "constraints": [c | SRC | {"fraction_Gy": 2} for c in constraints],
        }
    )


def main(words: list[str]) -> None:
    """Print one block per size."""
    solvers: list[optimise.planner.Solver] = ["interior"]
    if "clarabel" in words:
        solvers.append("clarabel")
    for size in [w for w in words if w in SIZES] or ["mini", "small"]:
        influence, structures = thorax(**SIZES[size])
        before_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        start = time.process_time()
        planner = optimise.Planner(influence, structures, protocol())
        rows = planner.rows
        print(
            f"{size}: {influence.matrix.shape[1]} beamlets, {influence.matrix.nnz / 1e6:.1f} M entries, "
            f"{rows.full.shape[0]} rows ({rows.full.nnz / 1e6:.1f} M, {rows.cut.nnz / 1e6:.1f} M kept), "
            f"rows in {time.process_time() - start:.1f} CPU-s"
        )
        print("   " + "\n   ".join(str(t) for t in rows.thinning))
        for solver in solvers:
            solution = planner.solve(solver=solver, relax=True, refinements=0)
            certificate = solution.fluence.certificate
            assert certificate is not None
            dose_Gy, weights = solution.structure_dose_Gy("PTV_eval")
            figures = {m: round(metrics.value_of(dose_Gy, weights, m, 66.0), 2) for m in ("D98%", "D50%", "D2%")}
            print(
                f"   {solver}: {solution.cpu_s:.1f} CPU-s, {certificate.iterations} iterations, "
                f"{certificate.status}, objective {certificate.objective:.4f}, gap {certificate.relative_gap:.1e}, "
                f"cut entries wrong by {solution.cut_error_Gy:.2f} Gy, PTV {figures}"
            )
            for limit in solution.limits:
                reached = f"{limit.value_Gy:.2f} of {limit.limit_Gy:.2f} Gy"
                print(f"      {limit.name}: {reached}, dual {limit.dual_per_Gy:.3f}")
            if solver == "interior":
                # What a correction round does: another offset, the last fluence as guess and start.
                offset_Gy = np.random.default_rng(1).normal(0.3, 0.5, influence.grid.shape_zyx)
                guess = solution.fluence.vector
                for name, near in (("anew", None), ("from the last plan", solution)):
                    again = planner.solve(offset_Gy=offset_Gy, relax=True, refinements=0, guess_mu=guess, start=near)
                    assert again.fluence.certificate is not None
                    print(
                        f"   another offset, {name}: {again.cpu_s:.1f} CPU-s, "
                        f"{again.fluence.certificate.iterations} iterations, {again.fluence.certificate.status}"
                    )
        after_MB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"   peak {after_MB:.0f} MB, {before_MB:.0f} MB of it reached while the problem was made")


if __name__ == "__main__":
    main(sys.argv[1:])
