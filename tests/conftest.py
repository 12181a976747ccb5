"""What all tests share: claim records."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

Claim = Callable[..., None]


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
