"""Run by test_transport_gpu.py in a process of its own, with NUMBA_ENABLE_CUDASIM=1: the GPU's kernel in Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import test_transport_run as small

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Fluence, Openings
from mrlinac.transport import run, simulate
from mrlinac.transport.source import Emission


def box() -> Medium:
    """Water, air, lung and something dense."""
    grid = Grid((20, 24, 24), (5.0, 5.0, 5.0), (-57.5, -57.5, -47.5))
    density = np.full(grid.shape_zyx, 1.0, np.float32)
    material = np.zeros(grid.shape_zyx, np.uint8)
    density[:, :5], material[:, :5] = 0.0012, 1
    density[:, 12:16], material[:, 12:16] = 0.26, 2
    density[8:12, 18:20, 10:14], material[8:12, 18:20, 10:14] = 4.4, 3
    return Medium(grid, density, material, ("water", "air-dry", "lung-icru", "titanium-alloy"))


def main(batches: int) -> None:
    medium, machine = box(), small.machine(electrons=True)
    lattice = np.array([(i, j) for i in (-1, 0) for j in (0,)], np.int32)
    maps = tuple(BeamletMap(Beam(g, (0.0, 0.0, 0.0), 1000.0), lattice, (5.0, 10.0)) for g in (0.0, 90.0))
    emission = Emission.of_machine(machine)
    said: dict[str, object] = {}
    for name, field in (("1.5 T", (0.0, 0.0, 1.5)), ("0 T", (0.0, 0.0, 0.0))):
        rows = run._rows([Openings.of_beamlets(m) for m in maps], machine, emission, medium)
        share = np.linspace(0, 1, len(rows))  # of 12 primaries the beamlets get 0, 2, 4 and 4 + 2
        cpu, gpu = (
            simulate.simulate(
                medium, rows, share, emission, field_xyz_T=field, photons=12 * batches, batches=batches, threads=1,
                reduce=lambda deposit: deposit, device=device,
            )
            for device in ("cpu", "gpu")
        )  # fmt: skip
        assert cpu.batch_MeV is not None
        assert gpu.batch_MeV is not None
        scale = np.maximum(cpu.batch_MeV.sum((1, 2, 3)), 1e-6)
        said[name] = {
            "largest difference of a batch": float(
                (np.abs(cpu.batch_MeV - gpu.batch_MeV).sum((1, 2, 3)) / scale).max()
            ),
            "sums": [float(one.batch_MeV.sum()) for one in (cpu, gpu) if one.batch_MeV is not None],
            "counters": [[one.steps, one.flights, one.truncated, one.overflow] for one in (cpu, gpu)],
            "energies": [[one.emitted_MeV, one.escaped_MeV, one.played_MeV] for one in (cpu, gpu)],
        }
    fluence = Fluence(maps, tuple(np.ones(len(m)) for m in maps))
    cpu_dose, gpu_dose = (
        run.dose(
            medium, fluence, small.machine(), field_xyz_T=(0.0, 0.0, 1.5), photons=15 * 20, batches=15, threads=1,
            target_rel_sigma=5.0, device=device,
        )
        for device in ("cpu", "gpu")
    )  # fmt: skip
    said["dose"] = {
        "devices": [cpu_dose.provenance.device, gpu_dose.provenance.device],
        "histories": [cpu_dose.provenance.histories, gpu_dose.provenance.histories],
        "fingerprints differ": cpu_dose.provenance.fingerprint != gpu_dose.provenance.fingerprint,
        "difference": float(np.abs(cpu_dose.dose_Gy - gpu_dose.dose_Gy).max() / cpu_dose.dose_Gy.max()),
    }
    print(json.dumps(said))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]))
