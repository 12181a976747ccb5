"""CPU-seconds of the planner on thorax problems: ``python benchmarks/optimise.py [SIZE …] [PROBLEM] [clarabel] [penalty]``.

Two problems a size: the quadratic one with hard limits (``qp``) and the isotoxic one with mean tails (``isotoxic``), which
maximises the prescription. Analytic pencil beams, not Monte Carlo; one BLAS thread. Beside them where asked for: Clarabel
through cvxpy on the same programme, and L-BFGS-B on the penalised form (limits as quadratic penalties, ever dearer, until
they are met within 0.1 Gy). Each is followed by a re-solve after one limit has changed, begun at the first solution.

A real case instead, from the influence that planning it left in the cache (else it is made now):

    python benchmarks/optimise.py --plan unity-66in33 [--patient FOLDER] [--set KEY=VALUE …]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit" / "optimise"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import page
from scipy import optimize
from synthetic import thorax
from threadpoolctl import threadpool_limits

from mrlinac import optimise
from mrlinac import protocol as protocols
from mrlinac.optimise import Problem, SolverOptions, WarmStart, canonical
from mrlinac.optimise.solver import cut
from mrlinac.optimise.solver.maps import Maps

SIZES: dict[str, dict[str, float]] = {
    "mini": {"spacing_mm": 6.0, "target_mm": 20.0, "half_length_mm": 40.0, "noise": 0.03, "scatter": 0.03},
    "small": {"spacing_mm": 5.0, "target_mm": 30.0, "half_length_mm": 60.0, "noise": 0.03, "scatter": 0.03},
    "large": {"spacing_mm": 4.0, "target_mm": 54.0, "half_length_mm": 80.0, "noise": 0.03, "scatter": 0.03},
}
OAR_ROWS = {"mini": 4000, "small": 12000, "large": 32000}
"""Most rows of one structure: about 8, 20 and 60 thousand in all."""
SRC = {"source": "benchmark"}


def quadratic(lungs_Gy: float = 8) -> protocols.Protocol:
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
        {"kind": "upper_tail", "structure": "SpinalCord", "volume_cc": 0.1, "at_most_Gy": 28},
        {"kind": "mean_dose", "structure": "Lungs-GTV", "at_most_Gy": lungs_Gy},
        {"kind": "upper_tail", "structure": "Esophagus", "volume_cc": 1, "at_most_Gy": 36},
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


def isotoxic(lungs_Gy: float = 12) -> protocols.Protocol:
    """The highest prescription: cover and homogeneity relative to it, organs in Gy, as mean tails."""
    size = {"fractions": 30}
    constraints: list[dict[str, Any]] = [
        {"kind": "mean_dose", "structure": "PTV_eval", "at_least_percent": 100},
        {"kind": "lower_tail", "structure": "PTV_eval", "volume_percent": 2, "at_least_percent": 90},
        {"kind": "upper_tail", "structure": "PTV_eval", "volume_percent": 2, "at_most_percent": 107},
        {"kind": "upper_tail", "structure": "Normal", "volume_cc": 5, "at_most_percent": 100},
        {"kind": "upper_tail", "structure": "Lungs-GTV", "volume_percent": 20, "at_most_Gy": 3 * lungs_Gy, **size},
        {"kind": "mean_dose", "structure": "Lungs-GTV", "at_most_Gy": lungs_Gy, **size},
        {"kind": "mean_dose", "structure": "Heart", "at_most_Gy": 20, **size},
        {"kind": "upper_tail", "structure": "Esophagus", "volume_cc": 1, "at_most_Gy": 40, **size},
        {"kind": "upper_tail", "structure": "SpinalCord", "volume_cc": 0.1, "at_most_Gy": 20, **size},
    ]
    rx = {"dose_Gy": 50, "fractions": 30, "target": "PTV_eval", "rule": "median", **SRC}
    way = {"by": "dose", "cap_Gy": 200, "step_Gy": 0.1, "slip_percent": 1, **SRC}
    objective = {"kind": "squared_deviation", "structure": "PTV_eval", "dose_percent": 100, "weight": 1, **SRC}
    return protocols.from_values(
        {
            "name": "benchmark",
            "title": "benchmark",
            "citation": "benchmark",
            "prescription": rx,
            "escalation": way,
            "objectives": [objective],
            "constraints": [c | SRC for c in constraints],
        }
    )


def penalised(planner: optimise.Planner, escalate: bool) -> tuple[float, float, float]:
    """L-BFGS-B with limits as quadratic penalties: objective reached, worst excess, CPU-seconds."""
    began = time.process_time()
    programme = canonical.build(planner.rows, planner.protocol, Problem(escalate=escalate))
    # What was cut from the matrix comes back at the same guess as in `Planner.once`.
    guess_mu = np.full(planner.rows.columns, planner.rows.reference_mu)
    programme = programme.moved(cut.dose_Gy(planner.rows, guess_mu), np.zeros(planner.rows.columns), 0.0)
    maps = Maps(programme, planner._row_matrix())
    z, penalty, reached, over = np.ones(maps.n + maps.tails), 1.0, 0.0, np.zeros(maps.m)
    z[maps.n :] = programme.prescription_Gy

    def value(z: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal reached, over
        x, t = z[: maps.n], z[maps.n :]
        d = maps.dose.times(x)
        s = np.maximum(maps.residual(d, t), 0)
        over = np.maximum(maps.G @ z + maps.in_limits(s) - maps.h, 0)
        y = (s > 0) * (maps.square * s + maps.linear + maps.price_of(penalty * over) * maps.slope(s))
        reached = 0.5 * maps.square @ s**2 + maps.linear @ s + 0.5 * x @ (maps.smooth @ x) + maps.g @ z
        reached = float(reached + 0.5 * maps.row_weight @ (d - maps.row_level) ** 2 + maps.constant)
        gradient = maps.smooth_gradient(x, d) + maps.adjoint(y) + maps.G.T @ (penalty * over)
        return reached + 0.5 * penalty * float(over @ over), gradient

    for _ in range(8):
        z = optimize.minimize(
            value, z, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(z), options={"maxiter": 400, "maxcor": 20}
        ).x
        value(z)
        if over.max(initial=0.0) < 0.1:
            break
        penalty *= 5
    return reached, float(over.max(initial=0.0)), time.process_time() - began


COLUMNS = ("problem", "solve", "CPU-s", "iterations", "status", "objective", "bound", "worst violation, Gy")


def said(problem: str, name: str, solution: optimise.Solution) -> str:
    """One row about a solve."""
    proof = solution.delivery.certificate
    assert proof is not None
    figures = (f"{proof.objective:.4f}", f"{proof.dual_bound:.4f}", f"{proof.worst_violation:.1e}")
    return page.row([problem, name, f"{solution.cpu_s:.1f}", proof.iterations, proof.status, *figures])


def real(words: list[str]) -> None:
    """Print what the solver costs on a plan's own problem, and again after its dearest limit was tightened by 3 %."""
    import mrlinac as mr
    from mrlinac.recipe.influence import influence_of
    from mrlinac.store import Store

    parser = argparse.ArgumentParser()
    parser.add_argument("--plan", required=True)
    parser.add_argument(
        "--patient", help="folder of DICOM files; without it the plan's own, else the digital patient"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(words)
    source = {"patient.folder": options.patient} if options.patient else {"patient.phantom_seed": 1}
    spec = mr.load_plan(options.plan, {**source, **dict(mr.parse_set(text) for text in options.set)})
    checked = mr.check(spec, mr.patient_of(spec))
    checked.raise_problems()
    case, numerics = checked.case, spec.numerics
    assert case is not None
    influence = influence_of(spec, case, tell=lambda *_: None, store=Store.default(), threads=None)
    peak_before = peak_GB()
    began, escalate = time.process_time(), spec.protocol.escalation is not None
    size = {"oar_rows": numerics.oar_rows, "target_rows": numerics.target_rows}
    planner = optimise.Planner(influence, case.structures, spec.protocol, **size)
    rows = planner.rows
    voxels = sum(thinning.voxels for thinning in rows.nominal.thinning)
    page.begin(
        f"The solver on a plan: {options.plan}",
        f"{rows.columns} beamlets. {voxels} rows before merging, a voxel counted once for "
        f"each structure that it is in; {rows.full.shape[0]} after. {rows.cut.nnz / 1e6:.1f} of "
        f"{rows.full.nnz / 1e6:.1f} M entries after the cut. Rows in {time.process_time() - began:.1f} CPU-s. "
        f"Peak memory before the rows: {peak_before:.1f} GB.",
    )
    name = spec.protocol.name
    print(page.columns(COLUMNS))
    problem, options = Problem(escalate=escalate), SolverOptions(relax=True)
    planner.once(problem, replace(options, relative_gap=0.5))  # compiles, and prepares the rows
    solution = planner.once(problem, options)
    print(said(name, "gap 10⁻³", solution))
    print(said(name, "gap 10⁻²", planner.once(problem, replace(options, relative_gap=1e-2))))
    limits = spec.protocol.constraints
    absolute = {c.name: n for n, c in enumerate(limits) if c.at_most_Gy is not None}
    dearest = max(solution.limits, key=lambda limit: limit.dual_per_Gy if limit.name in absolute else -1.0)
    if dearest.name in absolute:
        number = absolute[dearest.name]
        tighter = limits[number].model_copy(update={"at_most_Gy": 0.97 * limits[number].at_most_Gy})
        other = optimise.Planner.__new__(optimise.Planner)
        constraints = (*limits[:number], tighter, *limits[number + 1 :])
        other.__dict__.update(
            planner.__dict__, protocol=spec.protocol.model_copy(update={"constraints": constraints})
        )
        print(said(name, f"{dearest.name} 3 % less, anew", other.once(problem, options)))
        # as correction rounds do: its fluence says what the entries cut away give, its prices what they cost
        again = other.once(problem, options, WarmStart(solution))
        print(said(name, f"{dearest.name} 3 % less, from the solution", again))
    print(f"\nPeak memory {peak_GB():.1f} GB.", flush=True)


def peak_GB() -> float:
    """Largest memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main(words: list[str]) -> None:
    """Print a table with a block of rows per size and problem."""
    page.begin("Solver", "Synthetic thoraces of analytic pencil beams with noise. One BLAS thread.")
    print(page.columns(COLUMNS))
    sizes = []
    for size in [w for w in words if w in SIZES] or ["mini", "small"]:
        influence, structures = thorax(**SIZES[size])  # type: ignore[arg-type]
        for name, first, changed in (
            ("qp", quadratic(), quadratic(7.7)),
            ("isotoxic", isotoxic(), isotoxic(11.5)),
        ):
            if {"qp", "isotoxic"} & set(words) and name not in words:
                continue
            began, escalate, title = time.process_time(), name == "isotoxic", f"{size} {name}"
            planner = optimise.Planner(influence, structures, first, oar_rows=OAR_ROWS[size])
            rows, rows_s = planner.rows, time.process_time() - began
            problem, options = Problem(escalate=escalate), SolverOptions(relax=True, refinements=0)
            planner.once(problem, replace(options, relative_gap=0.5))  # compiles, and prepares the rows
            solution = planner.once(problem, options)
            print(said(title, "gap 10⁻³", solution))
            print(said(title, "gap 10⁻²", planner.once(problem, replace(options, relative_gap=1e-2))))
            other = optimise.Planner.__new__(optimise.Planner)
            other.__dict__.update(planner.__dict__, protocol=changed)
            print(said(title, "a limit changed, anew", other.once(problem, options)))
            print(
                said(title, "a limit changed, from the solution", other.once(problem, options, WarmStart(solution))),
                flush=True,
            )
            if "penalty" in words:
                with threadpool_limits(limits=1, user_api="blas"):
                    reached, excess, cpu_s = penalised(planner, escalate)
                print(page.row([title, "L-BFGS-B", f"{cpu_s:.1f}", "", "", f"{reached:.4f}", "", f"{excess:.1e}"]))
            if "clarabel" in words:
                print(said(title, "Clarabel", planner.once(problem, replace(options, solver="clarabel"))), flush=True)
            beamlets, entries = influence.matrix.shape[1], f"{rows.cut.nnz / 1e6:.1f}"
            sizes.append(
                page.row([title, beamlets, rows.full.shape[0], entries, f"{rows_s:.1f}", f"{peak_GB():.1f}"])
            )
    print("\n" + page.columns(["problem", "beamlets", "rows", "M entries", "rows in CPU-s", "peak GB so far"]))
    print("\n".join(sizes))


if __name__ == "__main__":
    real(sys.argv[1:]) if "--plan" in sys.argv else main(sys.argv[1:])
