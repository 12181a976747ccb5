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

import pytest  # noqa: E402
from filelock import FileLock  # noqa: E402

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
