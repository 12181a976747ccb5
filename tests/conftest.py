"""What all tests share: claim records, and what is made once for all workers."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy: the workers have the cores, and small products need no threads

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402

from mrlinac.anatomy.grid import Grid  # noqa: E402
from mrlinac.anatomy.structures import StructureSet  # noqa: E402
from mrlinac.dose.dose import Batches, Dose  # noqa: E402
from mrlinac.dose.sampled import Sampled  # noqa: E402
from mrlinac.dose.sampling import Piece, Samples  # noqa: E402
from mrlinac.provenance import Provenance  # noqa: E402

Claim = Callable[..., None]
Shared = Callable[[str, Callable[[], Any]], Any]


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of a run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shared(shared_folder: Path) -> Shared:
    """Make something once in a run: ``shared(name, make)``; the worker that asks first makes it, the others wait.

    Everyone reads it back from the file, the maker too, so that no test depends on who came first.
    """

    def once(name: str, make: Callable[[], Any]) -> Any:
        path = shared_folder / f"{name}.pickle"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                whole = path.with_suffix(".partial")
                whole.write_bytes(pickle.dumps(make(), protocol=pickle.HIGHEST_PROTOCOL))
                whole.replace(path)
        return pickle.loads(path.read_bytes())

    return once


@pytest.fixture
def claim(request: pytest.FixtureRequest) -> Claim:
    """Write down what a test measured, before it judges: ``claim(name, text, source, bar, measured, sigma)``.

    With ``MRLINAC_CLAIMS=docs/claims`` in the environment the record becomes a file there, from which
    ``python tools/claims.py`` makes ``docs/validation.md``. Without it nothing is written.
    """

    def write(name: str, text: str, source: str, bar: str, measured: float, sigma: float, unit: str = "") -> None:
        folder = os.environ.get("MRLINAC_CLAIMS")
        if not folder:
            return
        mark = " -m validation" if request.node.get_closest_marker("validation") else ""
        path = Path(request.node.path).relative_to(request.config.rootpath).as_posix()
        record = {
            "claim": text,
            "source": source,
            "bar": bar,
            "measured": float(f"{measured:.5g}"),
            "sigma": float(f"{sigma:.2g}"),
            "unit": unit,
            "command": f"python3 make.py test{mark} {path}",
        }
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    return write


@pytest.fixture(scope="session")
def noisy() -> Callable[..., Dose]:
    """A dose as a run of twelve batches gives it: ``noisy(grid, dose_Gy, sigma_Gy, seed, fractions=1)``.

    ``sigma_Gy`` is the standard deviation of a voxel of the whole run, or of each; voxels are independent.
    """

    def make(grid: Grid, dose_Gy: Any, sigma_Gy: Any, seed: int, fractions: int = 1) -> Dose:
        rng = np.random.default_rng(seed)
        true = np.broadcast_to(np.asarray(dose_Gy, np.float32), grid.shape_zyx)
        parts = true + np.asarray(sigma_Gy * np.sqrt(12), np.float32) * rng.standard_normal(
            (12, *grid.shape_zyx), np.float32
        )
        mean = parts.mean(0)
        deviation = (
            np.divide(parts, mean, out=np.ones_like(parts), where=mean > 0.01 * true.max()) - 1
        )  # as a run keeps it
        batches = Batches(deviation.astype(np.float16), (1000,) * 12)
        return Dose(grid, mean, None, fractions, Provenance("x", "test"), batches)

    return make


@pytest.fixture(scope="session")
def by_voxel() -> Callable[[Dose, StructureSet], Sampled]:
    """A dose in structures with a sample for each voxel, for tests whose numbers are worked out by hand.

    How a structure is sampled between voxels has tests of its own.
    """

    def make(dose: Dose, structures: StructureSet) -> Sampled:
        grid = structures.grid
        samples = {}
        for name, structure in structures.structures.items():
            inside = np.nonzero(structure.occupancy)
            volume_cc = structure.occupancy[inside].astype(float) * grid.voxel_cc
            if len(volume_cc):
                piece = Piece(grid, inside)
                samples[name] = Samples(name, structure.role, dose.dose_Gy[inside], volume_cc, (piece,), 0.0)
        return Sampled(dose, structures, _samples=samples)

    return make
