"""How fast the transport is: photons per CPU-second, beamlets, compilation. One run prints all.

python benchmarks/transport.py [--photons 2e6]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.transport import columns, cpu, run, source, tables
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


def rate(medium: Medium, field_T: float, photons: int, threads: int) -> str:
    """Photons per CPU-second and per second of the wall."""
    rows, emission = beam(medium, 50.0, 5.0)
    wall, cpu_s = time.perf_counter(), time.process_time()
    out = run.simulate(
        medium, rows, np.ones(len(rows)), emission, field_xyz_T=(0.0, field_T, 0.0), photons=photons, threads=threads,
        batches=10,
    )  # fmt: skip
    wall, cpu_s = time.perf_counter() - wall, time.process_time() - cpu_s
    steps = out.steps / out.primaries
    return f"{photons / cpu_s / 1e6:5.2f} M per CPU-s, {photons / wall / 1e6:5.2f} M per s of wall, {steps:.1f} steps"


def influence_rate(medium: Medium, photons: int) -> str:
    """Columns per CPU-second and their length."""
    rows, emission = beam(medium, 25.0, 5.0)
    table = tables.load(medium.materials)
    geometry, code = cpu.pack(medium, table, (0.0, 1.5, 0.0))
    mass = run.mass_g(medium)
    names = cpu.stream_names(1, run.INFLUENCE, np.stack([np.arange(len(rows))] * 3, 1))
    gray = (1.602e-10 / mass).astype(np.float32)
    maker = columns.Maker(
        rows, np.ones(len(rows)), photons, cpu.beamline(emission), table, geometry, gray,
        mass > 0.1 * medium.grid.voxel_cc, None, 0.003,
        names, names + np.uint64(1), names + np.uint64(2),
    )  # fmt: skip
    maker.run(code, 1, None, None)
    used = time.process_time()
    matrix, sigma, _ = maker.run(code, 1, None, None)
    used = time.process_time() - used
    entries = matrix.nnz / len(rows)
    return f"{len(rows)} beamlets of {photons}: {used:.1f} CPU-s, {entries:.0f} entries each, σ {100 * sigma:.1f} %"


def compile_seconds(folder: str) -> float:
    """Seconds of a process that runs a few photons, less those of importing."""
    code = (
        "import time; from benchmarks import transport as b; import numpy as np; t = time.perf_counter();"
        "m = b.slab(False, 10.0); b.rate(m, 1.5, 1000, 1); print(time.perf_counter() - t)"
    )
    environment = {**os.environ, "MRLINAC_CACHE_DIR": folder}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photons", type=float, default=2e6)
    photons = int(parser.parse_args().photons)
    with tempfile.TemporaryDirectory() as folder:
        print(f"compilation: cold {compile_seconds(folder):.1f} s, warm {compile_seconds(folder):.1f} s")
    for name, lung in (("water", False), ("lung slab", True)):
        medium = slab(lung)
        for field in (0.0, 1.5):
            rate(medium, field, 1000, 1)
            print(f"{name:10} {field} T, 1 thread:  {rate(medium, field, photons, 1)}")
        print(f"{name:10} 1.5 T, 2 threads: {rate(medium, 1.5, photons, 2)}")
    print(f"influence  1.5 T: {influence_rate(slab(False), 20_000)}")


if __name__ == "__main__":
    main()
