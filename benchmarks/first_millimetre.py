"""The first millimetres of tissue at faces to air and lung, against the same engine with fine settings.

    python benchmarks/first_millimetre.py [--photons 1e7] [--field 0 1.5] [--layer 1.0] [--set name=value …]

Water, 3 cm of air, water, lung, water, air: whole-layer doses of a 10 × 10 cm² field, first and last 1, 2 and 3 mm of
each slab. The reference follows electrons down to 50 keV, in steps of a tenth, in layers of 0.5 mm.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.transport import simulate
from mrlinac.transport.tables import Settings

sys.path.insert(0, str(Path(__file__).resolve().parent))
import page

spec = importlib.util.spec_from_file_location("benchmark_egs", Path(__file__).with_name("egs.py"))
egs = importlib.util.module_from_spec(spec)
sys.modules["benchmark_egs"] = egs
spec.loader.exec_module(egs)

SLABS = (("air", 48), ("water", 42), ("air", 30), ("water", 42), ("lung", 48), ("water", 42), ("air", 30))
"""Materials and thicknesses in mm, along the beam; all are whole layers of 0.5, 1, 2 and 3 mm."""
DENSITY = {"water": 1.0, "air": 1.2048e-3, "lung": 0.26}
PLACE = {"water": 0, "air": 1, "lung": 2}
FACES = {
    "entrance": (48, 1),
    "before the gap": (90, -1),
    "behind the gap": (120, 1),
    "before lung": (162, -1),
    "lung, first": (162, 1),
    "lung, last": (210, -1),
    "behind lung": (210, 1),
    "exit": (252, -1),
}
DEPTHS_mm = (1, 2, 3)
REFERENCE = Settings(
    electron_cut_MeV=0.05, delta_cut_MeV=0.05, max_loss=0.1, max_q1=0.1, max_turn_rad=0.1, rest_voxels=0.0
)
REFERENCE_LAYER_mm = 0.5


def phantom(layer_mm: float) -> Medium:
    """The slabs in layers, one voxel of 300 mm across."""
    total = sum(t for _, t in SLABS)
    grid = Grid((round(total / layer_mm), 1, 1), (layer_mm, 300.0, 300.0), (0.0, 0.0, -48 + layer_mm / 2))
    kinds = np.concatenate([np.repeat(name, round(t / layer_mm)) for name, t in SLABS])
    density = np.array([DENSITY[k] for k in kinds], np.float32)[:, None, None]
    material = np.array([PLACE[k] for k in kinds], np.uint8)[:, None, None]
    return Medium(grid, density, material, egs.MATERIALS)


def boxes(depths: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """Where along the beam each region begins and ends, mm from the first layer's face."""
    found = {}
    for name, (face, side) in FACES.items():
        for depth in depths:
            found[f"{name} {depth} mm"] = (face, face + depth) if side > 0 else (face - depth, face)
    found["middle of the second slab"] = (138, 144)
    return found


def layer_doses(
    layer_mm: float, field_T: float, photons: int, settings: Settings, seed: int, depths: tuple[int, ...] = DEPTHS_mm
) -> tuple[dict[str, tuple[float, float]], float]:
    """Dose of each region in pGy cm² per photon with its σ; photons per CPU-second."""
    medium = phantom(layer_mm)
    rows, emission = egs.beam("10x10", medium.grid)
    edges = np.arange(medium.grid.shape_zyx[0] + 1) * layer_mm
    shares = np.stack([egs.overlap(edges, *box) for box in boxes(depths).values()])
    mass = (shares * medium.density_g_cm3[:, 0, 0]).sum(1) * layer_mm * 90
    begun = time.process_time()
    out = simulate.simulate(
        medium, rows, np.ones(1), emission, field_xyz_T=(0.0, field_T, 0.0), photons=photons, seed=seed, batches=20,
        threads=1, settings=settings, reduce=lambda energy: shares @ energy[:, 0, 0] / mass,
    )  # fmt: skip
    used = time.process_time() - begun
    values = out.batch_MeV * egs.PGY_PER_MEV_G * 900
    sigma = values.std(0, ddof=1) / np.sqrt(len(values))
    return dict(zip(boxes(depths), zip(values.mean(0), sigma, strict=True), strict=True)), photons / used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photons", type=float, default=1e7)
    parser.add_argument("--reference", type=Path, help="a .npz to keep the reference in, or to read it from")
    parser.add_argument("--field", type=float, nargs="*", default=[0.0, 1.5])
    parser.add_argument("--layer", type=float, nargs="*", default=[1.0])
    parser.add_argument(
        "--set", nargs="*", default=[], help="settings of the compared run, e.g. electron_cut_MeV=0.1"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(**{k: float(v) for k, v in (s.split("=") for s in options.set)})
    photons = int(options.photons)
    page.begin("The first millimetres at faces", "Dose above the reference, per cent of the local dose.")
    print(page.columns(["field", "layers", "region", "of the maximum", "above the reference", "M photons per CPU-s"]))
    for field in options.field:
        path = options.reference.with_suffix(f".{field:g}T.npz") if options.reference else None
        if path is not None and path.is_file():
            with np.load(path) as file:
                reference = {name: tuple(file[name]) for name in file.files}
        else:
            reference, rate = layer_doses(REFERENCE_LAYER_mm, field, photons, REFERENCE, 1000 + options.seed)
            print(page.row([f"{field:g} T", "reference", "", "", "", f"{rate / 1e6:.2f}"]), flush=True)
            if path is not None:
                np.savez(path, **reference)
        top = max(value for value, _ in reference.values())
        for layer in options.layer:
            depths = tuple(d for d in DEPTHS_mm if d % layer == 0)
            found, rate = layer_doses(layer, field, photons, settings, options.seed, depths)
            for name, (value, sigma) in found.items():
                base, other = reference[name]
                local = 100 * (value / base - 1)
                error = 100 * np.hypot(sigma / value, other / base)
                cells = [f"{field:g} T", f"{layer:g} mm", name, f"{base / top:.3f}", f"{local:+.2f} ± {error:.2f} %"]
                print(page.row([*cells, f"{rate / 1e6:.2f}"]), flush=True)


if __name__ == "__main__":
    main()
