"""How far segments are from the fluence they stand for, against their number: ``python benchmarks/segments.py [N …]``.

Column generation (``mrlinac.optimise.generate``) beside a plain sequencing of the same fluence with as many segments: the
unidirectional sweep of leaves (Bortfeld et al. 1994, Int J Radiat Oncol Biol Phys 28:723) of a fluence rounded to levels,
without and with the MU optimised again. The sweep knows no smallest area and no connected rows. All by the model: the
influence of a synthetic thorax of analytic pencil beams, or of a plan:

    python benchmarks/segments.py 20 40 80 --plan unity-66in33 [--patient FOLDER] [--set KEY=VALUE …]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit" / "optimise"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import page
import scipy.sparse as sp
from synthetic import thorax

from mrlinac import optimise
from mrlinac.machine import model
from mrlinac.machine.delivery import Beamlets, Segment, Segments
from mrlinac.machine.model import Mlc
from mrlinac.optimise import SegmentLimits, Solution, SolverOptions
from mrlinac.optimise.aperture.lattice import LeafLattice
from mrlinac.optimise.aperture.pricing import Aperture
from mrlinac.optimise.solution import Judgement

NUMBERS = (18, 36, 54, 80)
OPTIONS = SolverOptions(relax=True)


def swept(levels: np.ndarray) -> list[np.ndarray]:
    """Openings (rows, 2) whose sum is a matrix of whole levels (rows, steps), each of one level.

    The leading leaves stop where the fluence rises, the trailing ones where it falls: the k-th opening of a row reaches
    from its k-th rise to its k-th fall.
    """
    padded = np.pad(levels, ((0, 0), (1, 1)))
    change = np.diff(padded, axis=1)
    places = np.arange(change.shape[1])
    rises = [np.repeat(places, np.maximum(row, 0)) for row in change]
    falls = [np.repeat(places, np.maximum(-row, 0)) for row in change]
    openings = []
    for k in range(max(map(len, rises), default=0)):
        edges = np.zeros((len(levels), 2))
        for row, (rise, fall) in enumerate(zip(rises, falls, strict=True)):
            if k < len(rise):
                edges[row] = rise[k], fall[k]
        openings.append(edges)
    return openings


def sequenced(planner: optimise.Planner, mlc: Mlc, mu: np.ndarray, most: int) -> tuple[optimise.Planner, np.ndarray]:
    """The finest sweep with at most so many segments: a planner over its segments, and the MU of each."""
    columns = planner.nominal.influence.columns
    assert isinstance(columns, Beamlets)
    firsts = np.cumsum([0, *map(len, columns.maps)])
    lattices = [LeafLattice.of(one, mlc, int(first)) for one, first in zip(columns.maps, firsts[:-1], strict=True)]
    grids = [lattice.costs(mu) for lattice in lattices]
    low, high = float(mu.max()) / 64, float(mu.max())
    for _ in range(30):  # the level's MU, by bisection
        level = (low * high) ** 0.5
        count = sum(len(swept(np.rint(grid / level).astype(int))) for grid in grids)
        low, high = (level, high) if count > most else (low, level)
    chosen = [
        (lattice, Aperture(edges, 0.0))
        for lattice, grid in zip(lattices, grids, strict=True)
        for edges in swept(np.rint(grid / high).astype(int))
    ]
    parts = [lattice.parts(aperture, mlc.transmission) for lattice, aperture in chosen]
    pointers = np.concatenate([[0], np.cumsum([len(used) for used, _ in parts])])
    combined = sp.csc_array(
        (np.concatenate([share for _, share in parts]), np.concatenate([used for used, _ in parts]), pointers),
        shape=(len(mu), len(chosen)),
    )
    made: tuple[Segment, ...] = tuple(lattice.segment(aperture, high) for lattice, aperture in chosen)
    return planner.combination(Segments(made, mlc), combined), np.full(len(chosen), high)


def row(
    name: str, asked: int, segments: int, mu: float, objective: float, ideal: float, excess_Gy: float, cpu_s: float
) -> str:
    """One line of the table."""
    beyond = f"{100 * (objective / ideal - 1):.1f}"
    return page.row(
        [asked, name, segments, f"{mu:.0f}", f"{objective:.4g}", beyond, f"{excess_Gy:.2f}", f"{cpu_s:.0f}"]
    )


def compare(planner: optimise.Planner, mlc: Mlc, fluence: Solution, numbers: list[int]) -> None:
    """Print the table."""
    ideal = fluence.certificate.objective
    print(page.columns(["at most", "segments by", "segments", "MU", "objective", "beyond the fluence, %",
                        "limits exceeded by, Gy", "CPU-s"]))  # fmt: skip
    print(row("(the fluence)", 0, 0, fluence.delivery.total_mu, ideal, ideal, excess_of(fluence), 0), flush=True)
    for most in numbers:
        began = time.process_time()
        segmented = optimise.generate(planner, mlc, fluence, limits=SegmentLimits(most), options=OPTIONS)
        solution, cpu_s = segmented.solution, time.process_time() - began
        print(row("column generation", most, len(segmented.segments), segmented.segments.total_mu,
                  solution.certificate.objective, ideal, excess_of(solution), cpu_s), flush=True)  # fmt: skip
        began = time.process_time()
        swept_planner, mu = sequenced(planner, mlc, fluence.mu, most)
        judged, mu = scaled(swept_planner, mu)
        print(row("sweep", most, len(mu), float(mu.sum()), judged.objective, ideal, excess_of(judged),
                  time.process_time() - began), flush=True)  # fmt: skip
        anew = swept_planner.once(fluence.problem, OPTIONS)
        print(row("sweep, MU optimised", most, len(mu), anew.delivery.total_mu, anew.certificate.objective, ideal,
                  excess_of(anew), time.process_time() - began), flush=True)  # fmt: skip


def scaled(planner: optimise.Planner, mu: np.ndarray) -> tuple[Judgement, np.ndarray]:
    """What the protocol says of the MU as sequenced, scaled as a whole to their best."""
    rows = planner.rows.nominal
    dose_Gy = planner.predicted_Gy(planner.nominal.influence.columns.delivery(mu))
    on_rows, means_Gy = rows.on_rows(dose_Gy), {name: rows.mean_of(name, dose_Gy) for name in rows.mean}
    every = [
        (planner.judge(factor * mu, factor * on_rows, [{k: factor * v for k, v in means_Gy.items()}]), factor * mu)
        for factor in np.linspace(0.85, 1.15, 61)
    ]
    return min(every, key=lambda one: one[0].penalised)


def excess_of(judged: Solution | Judgement) -> float:
    """By how much the limits are exceeded in all, on the solver's rows."""
    return float(sum(max(0.0, (one.value_Gy - one.limit_Gy) * (1 if one.upper else -1)) for one in judged.limits))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("numbers", nargs="*", type=int, default=list(NUMBERS))
    parser.add_argument("--plan")
    parser.add_argument("--patient", help="folder of DICOM files; without it the digital patient")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if options.plan is None:
        from optimise import quadratic

        influence, structures = thorax(spacing_mm=5.0, target_mm=30.0, half_length_mm=60.0, beamlet_mm=(5.0, 5.0))
        planner = optimise.Planner(influence, structures, quadratic(), oar_rows=12000)
        mlc, title = model.load("agility").mlc, "Segments: synthetic thorax"
    else:
        planner, mlc, title = planner_of(options.plan, options.patient, options.set)
    fluence = planner.solve(options=OPTIONS)
    page.begin(title, f"{planner.rows.columns} beamlets, {planner.rows.full.shape[0]} rows; the fluence took "
               f"{fluence.cpu_s:.0f} CPU-s.")  # fmt: skip
    compare(planner, mlc, fluence, options.numbers)


def planner_of(plan: str, patient: str | None, settings: list[str]) -> tuple[optimise.Planner, Mlc, str]:
    """The planner of a plan, with its influence from the cache, else made now."""
    import mrlinac as mr
    from mrlinac.recipe.influence import influence_of
    from mrlinac.store import Store

    source = {"patient.folder": patient} if patient else {"patient.phantom_seed": 1}
    spec = mr.load_plan(plan, {**source, **dict(mr.parse_set(text) for text in settings)})
    checked = mr.check(spec, mr.patient_of(spec))
    checked.raise_problems()
    case, numerics = checked.case, spec.numerics
    assert case is not None
    influence = influence_of(spec, case, tell=lambda *_: None, store=Store.default(), threads=None)
    size = {"oar_rows": numerics.oar_rows, "target_rows": numerics.target_rows}
    planner = optimise.Planner(influence, case.structures, spec.protocol, **size)
    return planner, spec.machine.mlc, f"Segments: {plan}"


if __name__ == "__main__":
    main()
