"""Our dose against EGSnrc's, absolute per photon, nothing fitted: tables and figures.

    python benchmarks/egs.py [--photons 4e6] [--case R3_B1p5 …] [--figures docs/figures]

The phantom, the source and the regions are those of tests/data/egs/README.md. A deviation counts where it exceeds
the bar (1 % of the maximum and 1 mm) by two standard deviations of both codes over three neighbouring bins.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import page

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.transport import simulate, source
from mrlinac.transport.source import Emission
from mrlinac.transport.tables import Settings

DATA = Path(__file__).resolve().parent.parent / "tests" / "data" / "egs"
CASES = ("R2_10x10_B0", "R2_10x10_B1p5", "R2_5x5_B0", "R2_5x5_B1p5", "R3_B0", "R3_B1p5")
SAD_MM, ISOCENTRE_MM = 1435.0, 100.0
PGY_PER_MEV_G = 160.2176634
MATERIALS = ("water", "air-dry", "lung-icru")


def phantom(case: str, dx: float, dy: float, dz: float, start: float = -50.0) -> Medium:
    """The slabs of a case between z = −50 and 360 mm, ±150 mm across."""
    nx, ny = round(300 / dx), round(300 / dy)
    nz = int((360 - start) / dz)
    grid = Grid((nz, ny, nx), (dz, dy, dx), (-150 + dx / 2, -150 + dy / 2, start + dz / 2))
    z = grid.z_mm
    material = np.zeros(nz, np.uint8)
    density = np.ones(nz, np.float32)
    air = (z < 0) | (z > 300)
    material[air], density[air] = 1, 1.2048e-3
    if case.startswith("R3"):
        lung = (z > 50) & (z < 150)
        material[lung], density[lung] = 2, 0.26
    shape = grid.shape_zyx
    whole = np.ones(shape, np.float32)
    return Medium(
        grid, whole * density[:, None, None], np.broadcast_to(material[:, None, None], shape).copy(), MATERIALS
    )


def beam(case: str, grid: Grid) -> tuple[np.ndarray, Emission]:
    """The point source: isotropic, so cos³ on the isocentre plane, with a mean of 1 over the field."""
    half = 50.0 if "10x10" in case else 25.0
    spectrum = np.loadtxt(DATA / "spectrum.csv", delimiter=",", skiprows=2)
    radius = np.arange(0.0, 120.0)
    relative = (1 + (radius / SAD_MM) ** 2) ** -1.5
    u = (np.arange(400) + 0.5) / 400 * half
    mean = np.interp(np.hypot(u[:, None], u), radius, relative).mean()
    edges = np.append(spectrum[:, 0], spectrum[-1, 1])
    emission = Emission.of(edges, spectrum[:, 2], radius, relative / mean)
    row = np.zeros((1, source.COLUMNS))
    row[0, :3] = np.array([0, 0, ISOCENTRE_MM - SAD_MM]) - np.array(grid.lower_xyz_mm)
    row[0, 3:12] = [1, 0, 0, 0, -1, 0, 0, 0, -1]
    row[0, source.SAD] = row[0, source.COLLIMATOR] = SAD_MM
    row[0, source.U0 : source.V1 + 1] = [-half, half, -half, half]
    row[0, source.INVERSE_FLUENCE] = 1
    return row, emission


def field_of(case: str) -> tuple[float, float, float]:
    """Along +y."""
    return (0.0, 1.5, 0.0) if case.endswith("1p5") else (0.0, 0.0, 0.0)


def overlap(edges: np.ndarray, low: float, high: float) -> np.ndarray:
    """Share of each interval between edges that lies in (low, high)."""
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None) / np.diff(edges)


@dataclass
class Curve:
    """One curve of both codes, pGy per photon; positions in mm."""

    name: str
    low: np.ndarray
    high: np.ndarray
    ours: np.ndarray
    ours_sigma: np.ndarray
    egs: np.ndarray
    egs_sigma: np.ndarray
    counts: np.ndarray  # whether the bin is compared

    @property
    def middle(self) -> np.ndarray:
        return (self.low + self.high) / 2

    @property
    def sigma(self) -> np.ndarray:
        return np.hypot(self.ours_sigma, self.egs_sigma)

    def scale(self) -> tuple[float, float]:
        """Weighted least squares of ours = scale · EGS over bins above half of the maximum, and its σ."""
        use = self.counts & (self.egs > 0.5 * self.egs[self.counts].max())
        w = 1 / self.sigma[use] ** 2
        norm = np.sum(w * self.egs[use] ** 2)
        return float(np.sum(w * self.egs[use] * self.ours[use]) / norm), float(1 / np.sqrt(norm))

    def worst(self, percent: float = 1.0, mm: float = 1.0) -> tuple[float, float, int]:
        """Largest deviation in % of the maximum (three-bin means), where it is, and bins beyond the bar."""
        top = self.egs[self.counts].max()
        deviation = (self.ours - self.egs) / top * 100
        sigma = self.sigma / top * 100
        slope = np.abs(np.gradient(self.egs, self.middle)) / top * 100
        bar = np.maximum(percent, slope * mm)
        runs, worst = 0, (0.0, 0.0)
        for i in range(1, len(self.egs) - 1):
            if not self.counts[i - 1 : i + 2].all():
                continue
            three = deviation[i - 1 : i + 2]
            beyond = np.abs(three) - bar[i - 1 : i + 2] > 2 * sigma[i - 1 : i + 2]
            runs += int(beyond.all() and (np.sign(three) == np.sign(three[0])).all())
            if abs(three.mean()) > abs(worst[0]):
                worst = (float(three.mean()), float(self.middle[i]))
        return worst[0], worst[1], runs


def weights(grid: Grid, z: tuple, y: tuple, x: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of the grid's layers in a box."""
    lower, upper = grid.lower_xyz_mm, grid.upper_xyz_mm
    edges = [np.linspace(lower[i], upper[i], grid.shape_zyx[2 - i] + 1) for i in range(3)]
    return overlap(edges[2], *z), overlap(edges[1], *y), overlap(edges[0], *x)


def averages(medium: Medium, boxes: list, energy: np.ndarray) -> np.ndarray:
    """Dose in pGy in each box (z, y, x ranges in mm) from energy per primary."""
    grid = medium.grid
    result = np.empty(len(boxes))
    density = medium.density_g_cm3
    for n, (z, y, x) in enumerate(boxes):
        wz, wy, wx = weights(grid, z, y, x)
        i, j, k = (np.flatnonzero(w) for w in (wz, wy, wx))
        block = np.ix_(i, j, k)
        share = wz[i][:, None, None] * wy[j][:, None] * wx[k]
        result[n] = (energy[block] * share).sum() / ((density[block] * share).sum() * grid.voxel_cc)
    return result * PGY_PER_MEV_G


def compute(case: str, medium: Medium, boxes: list, photons: int, seed: int, settings: Settings, threads: int | None):
    """Mean and σ of the boxes' dose, and the outcome."""
    rows, emission = beam(case, medium.grid)
    out = simulate.simulate(
        medium, rows, np.ones(1), emission, field_xyz_T=field_of(case), photons=photons, seed=seed, batches=20,
        threads=threads, settings=settings, reduce=lambda energy: averages(medium, boxes, energy),
    )  # fmt: skip
    values = out.batch_MeV
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values)), out


def read(path: Path) -> list[list[str]]:
    """Rows of a reference file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [line.split(",") for line in lines[1:]]


def depth_curves(
    case: str,
    photons: int,
    *,
    seed: int = 1,
    settings: Settings = Settings(),
    threads: int | None = None,
    dz: float = 1.0,
) -> tuple[list[Curve], simulate.Outcome]:
    """Depth dose in the axis region and in the wide one."""
    rows = read(DATA / f"{case}_depthdose.csv")
    low, high = (np.array([float(r[i]) for r in rows]) * 10 for i in (0, 1))
    header = (DATA / f"{case}_depthdose.csv").read_text()
    wide = 10 * float(header.split("wider |x|,|y|<")[1].split(" ")[0])
    half = 10 * float(header.split("ROI = |x|,|y|<")[1].split(" ")[0])
    across = 2.0 if wide % 5 else 5.0
    medium = phantom(case, across, across, 1.0)
    boxes = [((a, b), (-h, h), (-h, h)) for h in (half, wide) for a, b in zip(low, high, strict=True)]
    mean, sigma, out = compute(case, medium, boxes, photons, seed, settings, threads)
    use = np.array([r[2] != "air" for r in rows])
    n = len(rows)
    curves = []
    for name, part, column in (("depth", slice(0, n), 3), ("depth, wide", slice(n, 2 * n), 7)):
        egs, egs_sigma = (np.array([float(r[c]) for r in rows]) for c in (column, column + 1))
        curves.append(Curve(f"{case} {name}", low, high, mean[part], sigma[part], egs, egs_sigma, use))
    return curves, out


def profile_curves(
    case: str, photons: int, *, seed: int = 2, settings: Settings = Settings(), threads: int | None = None
) -> list[Curve]:
    """Profiles along x and y."""
    rows = read(DATA / f"{case}_profiles.csv")
    curves = []
    half = 20.0 if "10x10" in case else 10.0
    for axis in "xy":
        dx, dy = (2.0, 10.0) if axis == "x" else (10.0, 2.0)
        medium = phantom(case, dx, dy, 2.5)  # layer faces on the interfaces
        mine = [r for r in rows if r[0] == axis]
        boxes = []
        for r in mine:
            z, h, a, b = (10 * float(c) for c in r[1:5])
            across = ((-half, half), (a, b)) if axis == "x" else ((a, b), (-half, half))
            boxes.append(((z - h, z + h), *across))
        mean, sigma, _ = compute(case, medium, boxes, photons, seed, settings, threads)
        for depth in dict.fromkeys(r[1] for r in mine):
            at = [i for i, r in enumerate(mine) if r[1] == depth]
            low, high = (np.array([float(mine[i][c]) * 10 for i in at]) for c in (3, 4))
            egs, egs_sigma = (np.array([float(mine[i][c]) for i in at]) for c in (7, 8))
            use = np.ones(len(at), bool)
            curves.append(
                Curve(
                    f"{case} {axis} at {float(depth) * 10:g} mm", low, high, mean[at], sigma[at], egs, egs_sigma, use
                )
            )
    return curves


def edges_at_half(curve: Curve, values: np.ndarray) -> tuple[float, float]:
    """Positions of the left and right 50 % of the value on the axis."""
    x, half = curve.middle, 0.5 * float(np.interp(0.0, curve.middle, values))
    above = np.flatnonzero(values > half)
    i, j = above[0], above[-1]
    left = np.interp(half, values[i - 1 : i + 1], x[i - 1 : i + 1])
    right = np.interp(-half, -values[j : j + 2], x[j : j + 2])
    return float(left), float(right)


def interface_ratios(depth: dict[str, Curve], which: str) -> dict[str, tuple[float, float]]:
    """Dose at 1.5 T over 0 T on both sides of R3's interfaces, and its σ."""
    result = {}
    spans = {
        "water, last 1 mm": (49, 50),
        "lung, first 2 mm": (50, 52),
        "lung, last 2 mm": (148, 150),
        "water, next 2 mm": (150, 152),
    }
    for name, (a, b) in spans.items():
        value, variance = [], 0.0
        for case in ("R3_B1p5", "R3_B0"):
            c = depth[case]
            use = (c.low > a - 0.01) & (c.high < b + 0.01)
            w = (c.high - c.low)[use]
            dose = float(np.average(getattr(c, which)[use], weights=w))
            sigma = float(np.sqrt(np.sum((w * getattr(c, which + "_sigma")[use]) ** 2)) / w.sum())
            value.append(dose)
            variance += (sigma / dose) ** 2
        result[name] = (value[0] / value[1], value[0] / value[1] * variance**0.5)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photons", type=float, default=4e6)
    parser.add_argument("--case", nargs="*", default=list(CASES))
    parser.add_argument("--no-profiles", action="store_true")
    parser.add_argument("--bins", action="store_true", help="print every depth bin")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--set", nargs="*", default=[], help="settings, e.g. electron_cut_MeV=0.1")
    options = parser.parse_args()
    settings = Settings(**{k: float(v) for k, v in (s.split("=") for s in options.set)})
    depth, everything, profiles, bins = {}, [], [], []
    page.begin("Accuracy against EGSnrc", "Depth doses of the wide region around the axis.")
    print(page.columns(["case", "photons", "scale", "worst % at mm", "beyond", "rms %", "steps, flights", "CPU-s"]))
    for case in options.case:
        begun = time.process_time()
        curves, out = depth_curves(case, int(options.photons), settings=settings, threads=options.threads)
        used = time.process_time() - begun
        if not options.no_profiles:
            profiles += profile_curves(case, int(options.photons), settings=settings, threads=options.threads)
        depth[case] = curves[1]
        everything += curves
        per = f"{out.steps / out.primaries:.2f}, {out.flights / out.primaries:.2f}"
        print(page.row([case, f"{options.photons:.1e}", *figures_of(curves[1]), per, f"{used:.0f}"]), flush=True)
        bins += [bin_of(case, curves[1], i) for i in np.flatnonzero(curves[1].counts)] if options.bins else []
    everything += profiles
    if profiles:
        beyond = sum(curve.worst()[2] > 0 for curve in profiles)
        print(f"\nProfiles: {len(profiles)}, of them {beyond} with a place beyond the bar.\n")
        print(page.columns(["profile", "scale", "worst % at mm", "beyond", "rms %", "50 % edges mm", "EGSnrc's"]))
    for curve in profiles:
        edges = [
            f"{left:.2f}, {right:.2f}" for left, right in (edges_at_half(curve, v) for v in (curve.ours, curve.egs))
        ]
        print(page.row([curve.name, *figures_of(curve), *edges]))
    if {"R3_B0", "R3_B1p5"} <= set(depth):
        ours, egs = interface_ratios(depth, "ours"), interface_ratios(depth, "egs")
        print("\nInterfaces, dose at 1.5 T over 0 T:\n")
        print(page.columns(["place", "mrlinac", "EGSnrc", "difference"]))
        for name, (ratio, error) in ours.items():
            theirs, their_error = egs[name]
            difference = f"{100 * (ratio / theirs - 1):+.1f} %"
            print(page.row([name, f"{ratio:.3f} ± {error:.3f}", f"{theirs:.3f} ± {their_error:.3f}", difference]))
    if bins:
        print("\n" + page.columns(["case", "from mm", "to mm", "mrlinac pGy", "EGSnrc pGy", "ratio"]))
        print("\n".join(bins))
    if options.figures:
        draw(everything, options.figures)


def figures_of(curve: Curve) -> list[str]:
    """Scale, worst place, places beyond the bar and root mean square of a curve, as cells."""
    scale, error = curve.scale()
    worst, at, runs = curve.worst()
    top = curve.egs[curve.counts].max()
    rms = np.sqrt(np.mean(((curve.ours - curve.egs)[curve.counts] / top * 100) ** 2))
    return [f"{scale:.4f} ± {error:.4f}", f"{worst:.2f} at {at:.1f}", f"{runs}", f"{rms:.2f}"]


def bin_of(case: str, curve: Curve, i: int) -> str:
    """One depth bin as a row."""
    ours, egs = curve.ours[i], curve.egs[i]
    ratio = f"{ours / egs:.4f} ± {curve.sigma[i] / egs:.4f}"
    return page.row([case, f"{curve.low[i]:.1f}", f"{curve.high[i]:.1f}", f"{ours:.5f}", f"{egs:.5f}", ratio])


WIDE = 4
"""Diagrams side by side in a figure."""


def draw(curves: list[Curve], folder: Path) -> None:
    """One figure per case: both codes and their difference."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for case in dict.fromkeys(c.name.split(" ")[0] for c in curves):
        mine = [c for c in curves if c.name.split(" ")[0] == case and ("wide" in c.name or " at " in c.name)]
        lines = -(-len(mine) // WIDE)
        figure = plt.figure(figsize=(4.2 * WIDE, 4.6 * lines), layout="constrained")
        parts = figure.subfigures(lines, WIDE, squeeze=False).ravel()
        for part, c in zip(parts, mine, strict=False):
            upper, lower = part.subplots(2, 1, sharex=True, height_ratios=(3, 1))
            use, top = c.counts, c.egs[c.counts].max()
            upper.errorbar(c.middle[use], c.egs[use], c.egs_sigma[use], fmt="k.", ms=3, lw=0.6, label="EGSnrc")
            upper.step(c.middle[use], c.ours[use], where="mid", color="C3", lw=1, label="mrlinac")
            upper.set_title(c.name, fontsize=9)
            upper.set_ylabel("pGy per photon")
            upper.legend(fontsize=7)
            difference, error = (c.ours - c.egs)[use] / top * 100, c.sigma[use] / top * 100
            lower.errorbar(c.middle[use], difference, error, fmt="C3.", ms=3, lw=0.6)
            lower.axhspan(-2, 2, color="0.9")
            lower.set_ylim(-5, 5)
            lower.set_xlabel("mm")
            lower.set_ylabel("% of max")
        figure.savefig(folder / f"egs_{case}.png", dpi=70)
        plt.close(figure)


if __name__ == "__main__":
    main()
