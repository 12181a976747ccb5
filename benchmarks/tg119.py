"""TG119 C-shape on another planner's influence matrix: whose objective is lower, and in what time?

Two steps, since pyRadPlan (BSD-3, not a dependency) need not live in one environment with mrlinac:

    python benchmarks/tg119.py export tg119.npz     # where pyRadPlan is installed: its matrix, its plan, its time
    python benchmarks/tg119.py solve tg119.npz      # where mrlinac is

Both fluences are valued by one numpy function, from the objectives that came with the phantom.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import scipy.sparse as sp

GOAL_D95_Gy, GOAL_CORE_MEAN_Gy = 49.1, 15.7
"""What matRad's plan of 8 beams reaches, as shipped with pyRadPlan: target D95 at least, core mean at most."""
ROOM_Gy = 0.02
"""A limit exceeded by less counts as met: the goals are asked for with so much to spare."""
KINDS = {"Squared Deviation": "squared_deviation", "Squared Overdosing": "squared_overdose",
         "Squared Underdosing": "squared_underdose"}  # fmt: skip


# -- where pyRadPlan is ---------------------------------------------------------------------------------------------
def export(path: Path, beams: int, bixel_mm: float, solver: str) -> None:
    """pyRadPlan's influence matrix and plan, its own defaults otherwise, in one file."""
    from pyRadPlan import PhotonPlan, calc_dose_influence, generate_stf, load_tg119
    from pyRadPlan.optimization.problems import get_problem_from_pln

    ct, cst = load_tg119()
    plan = PhotonPlan(machine="Generic")
    plan.prop_stf = {"gantry_angles": np.arange(beams) * 360.0 / beams, "couch_angles": np.zeros(beams),
                     "bixel_width": bixel_mm}  # fmt: skip
    plan.prop_opt = {"solver": solver}
    began = time.process_time()
    stf = generate_stf(ct, cst, plan)
    dij = calc_dose_influence(ct, cst, stf, plan)
    matrix_s, began, wall = time.process_time() - began, time.process_time(), time.perf_counter()
    problem = get_problem_from_pln(plan)
    problem.obj_history = []
    fluence, info = problem.solve(ct, cst, stf, dij)
    solve_s, wall_s = time.process_time() - began, time.perf_counter() - wall
    grid, matrix = dij.dose_grid, sp.csc_array(dij.physical_dose.flat[0])
    objectives, members = [], {}
    names = [voi.name for voi in problem._cst.vois if voi.objectives]
    for name, (mask, wanted) in zip(names, problem._objective_list, strict=True):
        members[f"voxels of {name}"] = np.flatnonzero(mask)
        for one in wanted:
            level_Gy = next(getattr(one, k) for k in ("d_ref", "d_max", "d_min") if hasattr(one, k))
            objectives.append({"structure": name, "kind": one.name, "dose_Gy": float(level_Gy),
                               "weight": float(one.priority)})  # fmt: skip
    whole = cst.resample_on_new_ct(ct.resample_to_grid(grid))  # plans are judged on structures as drawn
    drawn = {f"drawn {voi.name}": voi.indices_numpy for voi in whole.vois}
    about = {
        "objectives": objectives, "matrix_cpu_s": matrix_s, "solve_cpu_s": solve_s, "solve_wall_s": wall_s,
        "solver": solver, "evaluations": len(problem.obj_history), "their_objective": float(problem.obj_history[-1]),
        "info": {k: str(v) for k, v in dict(info).items() if k != "x"}, "beams": beams, "bixel_mm": bixel_mm,
    }  # fmt: skip
    np.savez_compressed(
        path, data=matrix.data, indices=matrix.indices, indptr=matrix.indptr, matrix_shape=matrix.shape,
        fluence=np.asarray(fluence, float), beam=np.asarray(dij.beam_num), ray=np.asarray(dij.ray_num),
        spacing_mm=[grid.resolution[k] for k in "xyz"], dimensions=grid.dimensions, about=json.dumps(about), **members,
        **drawn,
    )  # fmt: skip
    print(f"{matrix.shape[1]} bixels x {matrix.shape[0]} voxels, {matrix.nnz / 1e6:.1f} M entries; "
          f"matrix {matrix_s:.1f} CPU-s, {solver} {solve_s:.1f} CPU-s ({wall_s:.1f} s)")  # fmt: skip
    print(json.dumps(about, indent=1))


# -- where mrlinac is -----------------------------------------------------------------------------------------------
def value(objectives: list[dict], members: dict[str, np.ndarray], dose_Gy: np.ndarray) -> float:
    """The phantom's objective for a dose, the judge of both plans: weighted means over each structure's voxels."""
    total = 0.0
    for one in objectives:
        off = dose_Gy[members[one["structure"]]] - one["dose_Gy"]
        if one["kind"] == "Squared Overdosing":
            off = np.maximum(off, 0)
        elif one["kind"] == "Squared Underdosing":
            off = np.minimum(off, 0)
        total += one["weight"] * float(np.mean(off**2))
    return total


METRICS = ("target D95, Gy", "D98", "D5", "core mean, Gy", "D5")


def figures(dose_Gy: np.ndarray, drawn: dict[str, np.ndarray]) -> list[str]:
    """The goals' metrics on the structures as drawn; voxels count whole."""
    target, core = dose_Gy[drawn["OuterTarget"]], dose_Gy[drawn["Core"]]
    values = (*np.percentile(target, (5, 2, 95)), core.mean(), np.percentile(core, 95))
    return [f"{value:.2f}" for value in values]


def solve(path: Path, gap: float, oar_rows: int | None, cut: float, refinements: int, what_for: str) -> None:
    """Our plans on the same matrix: with the same objectives, and with the goals as limits."""
    from mrlinac import optimise
    from mrlinac import protocol as protocols
    from mrlinac.anatomy.grid import Grid
    from mrlinac.anatomy.structures import Structure, StructureSet
    from mrlinac.dose.influence import Influence
    from mrlinac.machine.beams import Beam, BeamletMap
    from mrlinac.machine.delivery import Beamlets
    from mrlinac.optimise import SolverOptions
    from mrlinac.provenance import Provenance

    with np.load(path) as file:
        matrix = sp.csc_array((file["data"], file["indices"], file["indptr"]), shape=tuple(file["matrix_shape"]))
        about = json.loads(str(file["about"]))
        members = {k.removeprefix("voxels of "): file[k] for k in file.files if k.startswith("voxels of ")}
        drawn = {k.removeprefix("drawn "): file[k] for k in file.files if k.startswith("drawn ")}
        theirs, spacing_xyz, dimensions_xyz = file["fluence"], file["spacing_mm"], file["dimensions"]
    grid = Grid(
        tuple(int(n) for n in dimensions_xyz[::-1]), tuple(float(s) for s in spacing_xyz[::-1]), (0.0, 0.0, 0.0)
    )
    objectives = about["objectives"]
    lattice = np.stack([2 * np.arange(matrix.shape[1]), np.zeros(matrix.shape[1], int)], 1).astype(np.int32)
    maps = (
        BeamletMap(Beam(0.0, (0.0, 0.0, 0.0), 1000.0), lattice, (5.0, 5.0)),
    )  # no neighbours: nothing is smoothed
    influence = Influence(
        grid, sp.csc_array(matrix, dtype=np.float32), Beamlets(maps), 0.0, Provenance("pyRadPlan", "pencil")
    )

    def structure(name: str, voxels: np.ndarray, role: str) -> Structure:
        occupancy = np.zeros(grid.size, np.float32)
        occupancy[voxels] = 1
        return Structure(name, role, occupancy.reshape(grid.shape_zyx))

    structures = StructureSet(
        grid,
        {name: structure(name, mine, "target" if name == "OuterTarget" else "oar") for name, mine in members.items()},
    )
    source = {"source": "TG119.mat of pyRadPlan"}
    wanted = [
        {"kind": KINDS[o["kind"]], "structure": o["structure"], "dose_Gy": o["dose_Gy"], "weight": o["weight"]}
        | source
        for o in objectives
    ]
    held = [
        {
            "kind": "dose_at_volume",
            "structure": "OuterTarget",
            "volume_percent": 95,
            "at_least_Gy": GOAL_D95_Gy + ROOM_Gy,
        },
        {"kind": "mean_dose", "structure": "Core", "at_most_Gy": GOAL_CORE_MEAN_Gy - ROOM_Gy},
    ]

    def protocol(constraints: list[dict]) -> protocols.Protocol:
        return protocols.from_values(
            {
                "name": "tg119", "title": "TG119 C-shape", "citation": "Ezzell 2009, Med Phys 36:5359",
                "prescription": {"dose_Gy": 50, "fractions": 1, "target": "OuterTarget", "rule": "median"} | source,
                "objectives": wanted, "constraints": [c | source | {"fractions": 1} for c in constraints],
            }
        )  # fmt: skip

    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import page

    their_dose = matrix @ theirs
    page.begin("TG119", f"{matrix.shape[1]} bixels, {matrix.nnz / 1e6:.1f} M entries, voxels of " + ", ".join(
        f"{k} {len(v)}" for k, v in members.items()) + ".")  # fmt: skip
    print(page.columns(["", "objective", "proven bound", "iterations", "CPU-s", "status", *METRICS]))
    print(page.row([f"pyRadPlan, {about['solver']}", f"{value(objectives, members, their_dose):.2f}", "",
                    f"{about['evaluations']} evaluations", f"{about['solve_cpu_s']:.1f}", "",
                    *figures(their_dose, drawn)]))  # fmt: skip
    asked = {"same": (f"mrlinac, cut {cut:g}", []), "goals": (f"mrlinac, cut {cut:g}, goals as limits", held)}
    prices = []
    for what, constraints in asked.values() if what_for == "both" else [asked[what_for]]:
        began = time.process_time()
        planner = optimise.Planner(influence, structures, protocol(constraints), oar_rows=oar_rows, cut=cut)
        solution = planner.solve(options=SolverOptions(relative_gap=gap, relax=True, refinements=refinements))
        taken = time.process_time() - began
        dose_Gy, certificate = matrix @ solution.delivery.vector, solution.delivery.certificate
        assert certificate is not None
        print(page.row([what, f"{value(objectives, members, dose_Gy):.2f}", f"{certificate.dual_bound:.2f}",
                        certificate.iterations, f"{taken:.1f}", certificate.status,
                        *figures(dose_Gy, drawn)]), flush=True)  # fmt: skip
        prices += [page.row([limit.name, f"{limit.value_Gy:.2f}", f"{limit.limit_Gy:g}", f"{limit.dual_per_Gy:.1f}"])
                   for limit in solution.limits]  # fmt: skip
    if prices:
        print("\n" + "\n".join([page.columns(["limit", "Gy", "limit, Gy", "price per Gy"]), *prices]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("export")
    make.add_argument("path", type=Path)
    make.add_argument("--beams", type=int, default=8)
    make.add_argument("--bixel-mm", type=float, default=5.0)
    make.add_argument("--solver", default="scipy", help="one of pyRadPlan's: scipy (L-BFGS-B), ipopt")
    ours = commands.add_parser("solve")
    ours.add_argument("path", type=Path)
    ours.add_argument("--gap", type=float, default=1e-4)
    ours.add_argument("--oar-rows", type=int, default=None, help="most rows of an organ (default: every voxel)")
    ours.add_argument("--cut", type=float, default=0.01, help="entries below it, of a column, are cut")
    ours.add_argument("--refinements", type=int, default=3, help="most guesses at the dose of the entries cut")
    ours.add_argument("--plans", choices=("same", "goals", "both"), default="both")
    given = parser.parse_args()
    if given.command == "export":
        export(given.path, given.beams, given.bixel_mm, given.solver)
    else:
        solve(given.path, given.gap, given.oar_rows, given.cut, given.refinements, given.plans)
