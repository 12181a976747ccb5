"""How fast the transport is: photons per CPU-second, beamlets, compilation. One run prints all.

python benchmarks/transport.py [--photons 2e6] [--threads 1 2]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import page

import mrlinac as mr
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.machine.delivery import Openings
from mrlinac.transport import columns, cpu, run, simulate, source, tables
from mrlinac.transport.source import Emission

MATERIALS = ("water", "air-dry", "lung-icru")
EDGE = np.arange(0.0, 6.25, 0.25)
ISOCENTRE_MM = 100.0


def slab(lung: bool, spacing: float = 3.0) -> Medium:
    """30 cm of water with 5 cm of air around it in depth; with ``lung``, 10 cm of it (from 5 cm) are lung."""
    across, deep = round(300 / spacing), round(400 / spacing)
    grid = Grid((deep, across, across), (spacing,) * 3, (-150 + spacing / 2, -150 + spacing / 2, -50 + spacing / 2))
    density, material = np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8)
    z = grid.z_mm
    air, lungs = (z < 0) | (z > 300), (z > 50) & (z < 150) & lung
    density[air], material[air] = 1.2e-3, 1
    density[lungs], material[lungs] = 0.26, 2
    return Medium(grid, density, material, MATERIALS)


def beam(medium: Medium, half_mm: float, size_mm: float) -> tuple[np.ndarray, Emission]:
    """A square field along +z cut into beamlets; a spectrum with the mean of 6 MV."""
    emission = Emission.of(EDGE, EDGE[1:] * np.exp(-EDGE[1:] / 0.95), np.array([0.0, 300.0]), np.ones(2))
    edges = np.arange(-half_mm, half_mm, size_mm)
    rows = np.zeros((len(edges) ** 2, source.COLUMNS))
    rows[:, :3] = np.array([0, 0, ISOCENTRE_MM - 1435]) - np.array(medium.grid.lower_xyz_mm)
    rows[:, 3:12] = [1, 0, 0, 0, -1, 0, 0, 0, -1]
    rows[:, source.SAD] = rows[:, source.COLLIMATOR] = 1435
    rows[:, source.U0], rows[:, source.V0] = np.repeat(edges, len(edges)), np.tile(edges, len(edges))
    rows[:, source.U1], rows[:, source.V1] = rows[:, source.U0] + size_mm, rows[:, source.V0] + size_mm
    rows[:, source.INVERSE_FLUENCE] = 1
    return rows, emission


@dataclass(frozen=True)
class Scene:
    """What photons are followed through."""

    medium: Medium
    rows: np.ndarray
    share: np.ndarray
    emission: Emission
    field_xyz_T: tuple[float, float, float]

    @classmethod
    def of_slab(cls, lung: bool, field_T: float, spacing: float = 3.0) -> Scene:
        """A 10 × 10 cm² field on :func:`slab`."""
        medium = slab(lung, spacing)
        rows, emission = beam(medium, 50.0, 5.0)
        return cls(medium, rows, np.ones(len(rows)), emission, (0.0, field_T, 0.0))

    @classmethod
    def of_thorax(cls) -> Scene:
        """The digital patient on Unity, nine even beams, 3 mm."""
        spec = mr.load_plan("unity-66in33")
        found = mr.check(spec, mr.patient_of(spec))
        case = found.case
        assert case is not None, found.problems
        emission = Emission.of_machine(spec.machine)
        lower = np.array(case.medium.grid.lower_xyz_mm)
        rows = np.concatenate(
            [source.source_rows(Openings.of_beamlets(m), spec.machine, emission, lower, False) for m in case.maps]
        )
        share = run.photons_of([Openings.of_beamlets(m) for m in case.maps], spec.machine, emission)
        return cls(case.medium, rows, share, emission, case.field_xyz_T)

    def run(self, photons: int, threads: int) -> tuple[float, float, simulate.Outcome]:
        """CPU-seconds, seconds of the wall, outcome."""
        wall, cpu_s = time.perf_counter(), time.process_time()
        out = simulate.simulate(
            self.medium, self.rows, self.share, self.emission, field_xyz_T=self.field_xyz_T, photons=photons,
            threads=threads, batches=10,
        )  # fmt: skip
        return time.process_time() - cpu_s, time.perf_counter() - wall, out


def rate(scene: Scene, photons: int, threads: int) -> list[str]:
    """Photons per CPU-second and per second of the wall, without what a run costs once; efficiency.

    Efficiency is 1/(relative variance × CPU time) of one voxel, the mean over those above half of the maximum dose.
    """
    scene.run(1000, threads)  # compiles what is not yet
    few_cpu_s, few_wall_s, _ = scene.run(photons // 10, threads)
    cpu_s, wall_s, out = scene.run(photons, threads)
    more, cpu_s, wall_s = photons - photons // 10, cpu_s - few_cpu_s, wall_s - few_wall_s
    mass = simulate.mass_g(scene.medium).reshape(out.energy_MeV.shape)
    dose = np.divide(out.energy_MeV, mass, out=np.zeros_like(mass), where=mass > 0.1 * scene.medium.grid.voxel_cc)
    high = dose > 0.5 * dose.max()
    variance = (out.sigma_MeV[high] ** 2).sum() / (out.energy_MeV[high] ** 2).sum()
    return [
        f"{more / cpu_s / 1e6:.2f}", f"{more / wall_s / 1e6:.2f}", f"{out.steps / out.primaries:.1f}",
        f"{out.flights / out.primaries:.1f}", f"{more / photons / (variance * cpu_s):.1f}",
    ]  # fmt: skip


def influence_rate(medium: Medium, photons: int) -> str:
    """Columns per CPU-second and their length."""
    rows, emission = beam(medium, 25.0, 5.0)
    table = tables.load(medium.materials)
    geometry, code = cpu.pack(medium, table, (0.0, 1.5, 0.0))
    mass = simulate.mass_g(medium)
    names = cpu.stream_names(1, simulate.INFLUENCE, np.stack([np.arange(len(rows))] * 3, 1))
    gray = (1.602e-10 / mass).astype(np.float32)
    maker = columns.Maker(
        rows, np.ones(len(rows)), photons, cpu.beamline(emission), table, geometry, gray,
        mass > 0.1 * medium.grid.voxel_cc, None, 0.003,
        names, names + np.uint64(1), names + np.uint64(2),
    )  # fmt: skip
    maker.run(code, 1, None, None)
    used = time.process_time()
    matrix, sigma, *_ = maker.run(code, 1, None, None)
    used = time.process_time() - used
    entries = matrix.nnz / len(rows)
    return f"{len(rows)} beamlets of {photons}: {used:.1f} CPU-s, {entries:.0f} entries each, σ {100 * sigma:.1f} %"


def compile_seconds(folder: str) -> float:
    """Seconds of a process that runs a few photons, less those of importing."""
    code = (
        "import time; from benchmarks import transport as b; import numpy as np; t = time.perf_counter();"
        "b.Scene.of_slab(False, 1.5, 10.0).run(1000, 1); print(time.perf_counter() - t)"
    )
    environment = {**os.environ, "MRLINAC_CACHE_DIR": folder}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=page.ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photons", type=float, default=2e6)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    page.begin("Rate of the Monte Carlo", "Voxels of 3 mm.")
    with tempfile.TemporaryDirectory() as folder:
        print(f"Compilation: cold {compile_seconds(folder):.1f} s, warm {compile_seconds(folder):.1f} s.\n")
    scenes = {
        "water, 0 T": Scene.of_slab(False, 0.0),
        "water, 1.5 T": Scene.of_slab(False, 1.5),
        "lung slab, 0 T": Scene.of_slab(True, 0.0),
        "lung slab, 1.5 T": Scene.of_slab(True, 1.5),
        "thorax, 1.5 T": Scene.of_thorax(),
    }
    print(
        page.columns(
            ["", "threads", "M photons per CPU-s", "M per s of wall", "steps", "flights", "efficiency per CPU-s"]
        )
    )
    for name, scene in scenes.items():
        for threads in options.threads:
            print(page.row([name, threads, *rate(scene, int(options.photons), threads)]), flush=True)
    print(f"\nInfluence at 1.5 T: {influence_rate(slab(False), 20_000)}.")


if __name__ == "__main__":
    main()
