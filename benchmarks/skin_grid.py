"""What the grid does to the skin metrics: one fluence, its forward dose on grids of 3, 2 and 1.5 mm.

    python benchmarks/skin_grid.py                              # the digital patient on Unity
    python benchmarks/skin_grid.py --result results/unity-7     # the fluence of a plan that was saved
    python benchmarks/skin_grid.py --sigma 0.02 --grids 3 2 1.5

The rind of 5 mm is 1.7 voxels of 3 mm. Beams, MU and anatomy are the same on every grid; structures and medium are made
anew on each. Every grid is computed to the same `--sigma`, the mean relative standard deviation of a voxel above half of
the maximum: noise raises the hottest cubic centimetres, and with the same number of photons it would raise them more the
finer the grid. Halving the voxel therefore takes eight times the photons. Values are without the bias of noise; raw values
stand beside them. `--photons` sets a number instead, for a quick look. Writes `skin_grid.md` and `skin_grid.csv`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import page as pages
import pandas as pd

import mrlinac as mr
from mrlinac import transport
from mrlinac.dose.sampled import Sampled
from mrlinac.recipe import judge
from mrlinac.recipe.case import prepare

SHOWN = ("Skin", "Skin_3mm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--result", type=Path, help="folder of a plan's result (default: plan now)")
    parser.add_argument("--patient", help="folder of DICOM files (default: the digital patient of the plan)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--grids", type=float, nargs="+", default=[3.0, 2.0, 1.5], metavar="MM")
    parser.add_argument("--sigma", type=float, default=0.02)
    parser.add_argument("--photons", type=lambda text: int(float(text)))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=Path("results/skin-grid"))
    options = parser.parse_args()

    source = {"patient.folder": options.patient} if options.patient else {}
    if options.result is not None:
        planned = mr.load_result(options.result)
        patient = mr.patient_of(planned.spec.override(source))
    else:
        changes = {"numerics": "demo", **source, **dict(mr.parse_set(text) for text in options.set)}
        spec = mr.load_plan("unity-66in33", changes)
        patient = mr.patient_of(spec)
        planned = mr.make_plan(spec, patient, threads=options.threads)

    tables = []
    for grid_mm in options.grids:
        table = skin_on(planned, patient, grid_mm, options.sigma, options.photons, options.threads)
        print(table.to_string(index=False), flush=True)
        tables.append(table)
    found = pd.concat(tables, ignore_index=True)
    options.out.mkdir(parents=True, exist_ok=True)
    found.to_csv(options.out / "skin_grid.csv", index=False)
    text = page(found)
    (options.out / "skin_grid.md").write_text(text, encoding="utf-8")
    print(text)


def skin_on(
    planned: mr.PlanResult,
    patient: mr.Patient,
    grid_mm: float,
    sigma: float,
    photons: int | None,
    threads: int | None,
) -> pd.DataFrame:
    """Skin metrics of a plan's fluence on another grid, and what they took."""
    spec = planned.spec.override({"numerics.grid_mm": grid_mm})
    case = prepare(spec, patient)
    cpu_s = time.process_time()
    dose = transport.dose(
        case.medium,
        planned.fluence,  # with its own beams: what a grid's rounding does to the beamlets must not come in
        spec.machine,
        field_xyz_T=planned.field_xyz_T,
        target_rel_sigma=None if photons else sigma,
        photons=photons,
        seed=spec.numerics.seed,
        threads=threads,
    )
    air = judge.air_in(case.structures, case.medium.density_g_cm3)
    course = Sampled(dose.course(spec.protocol.prescription.fractions), case.structures, air=air)
    table = judge.skin_table(course, case.structures)
    table = table[table["region"].isin(SHOWN)]
    volume_cc = {name: case.structures.volume_cc(name) for name in SHOWN}
    return table.assign(
        grid_mm=grid_mm,
        volume_cc=table["region"].map(volume_cc),
        rel_sigma=dose.mean_rel_sigma(),
        photons=dose.provenance.histories,
        cpu_s=round(time.process_time() - cpu_s, 1),
    )


def page(found: pd.DataFrame) -> str:
    """One row a metric, one column a grid."""
    grids = list(dict.fromkeys(found["grid_mm"]))
    lines = ["## The grid and the skin", "", pages.head(), ""]
    lines.append(pages.columns(["Gy", *(f"{g:g} mm" for g in grids)]))
    for (region, metric), rows in found.groupby(["region", "metric"], sort=False):
        by_grid = rows.set_index("grid_mm")
        parts = ((by_grid.value[g], by_grid.sigma[g], by_grid.raw[g]) for g in grids)
        values = (f"{value:.2f} ± {sigma:.2f}, raw {raw:.2f}" for value, sigma, raw in parts)
        lines.append(pages.row([f"{region} {metric}", *values]))
    for region, rows in found.groupby("region", sort=False):
        by_grid = rows.drop_duplicates("grid_mm").set_index("grid_mm")
        lines.append(pages.row([f"{region} volume, cc", *(f"{by_grid.volume_cc[g]:.0f}" for g in grids)]))
    cost = found.drop_duplicates("grid_mm")
    lines += [
        "",
        *(f"- {r.grid_mm:g} mm: {r.photons / 1e6:.1f} M photons, {r.cpu_s:g} CPU-s" for r in cost.itertuples()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
