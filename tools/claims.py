"""Make ``docs/validation.md`` from the claim records in ``docs/claims``.

    MRLINAC_CLAIMS=docs/claims python3 make.py test -m validation    # measures, and writes the records
    python tools/claims.py                                           # renders the page

A record is one JSON file: claim, source, bar, measured value and its standard deviation, command. The first word of
its name is its chapter.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDS, PAGE = ROOT / "docs" / "claims", ROOT / "docs" / "validation.md"

CHAPTERS = {
    "fano": "Fano's theorem: the stepping alone",
    "egs": "EGSnrc: absolute dose per photon, 0 T and 1.5 T",
    "energy": "Energy balance",
    "beam": "Beams against published figures",
    "lung": "Interfaces in the magnetic field",
    "uncertainty": "The uncertainty itself",
}

HEAD = """# Validation: what was checked against what

This page is made from the records in `docs/claims` by `python tools/claims.py`. Each record is written by the test that its
command runs, if `MRLINAC_CLAIMS=docs/claims` is set. ± is one standard deviation of the Monte Carlo run. Where a bar says
"and 2σ", a value may lie that much beyond it. The whole comparison with EGSnrc is in [benchmarks.md](benchmarks.md), the
equations are in [theory/transport.md](theory/transport.md).
"""


def render(folder: Path = RECORDS) -> str:
    """The page as text.

    Raises
    ------
    SystemExit
        For a record whose name begins with no known chapter.
    """
    records = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    strays = [name for name in records if name.split("-")[0] not in CHAPTERS]
    if strays:
        raise SystemExit(f"{', '.join(strays)}: the first word must be one of {', '.join(CHAPTERS)}")
    page = [HEAD]
    for chapter, title in CHAPTERS.items():
        mine = [record for name, record in records.items() if name.split("-")[0] == chapter]
        if not mine:
            continue
        page.append(f"\n## {title}\n\n| claim | measured | bar | source |\n|---|---|---|---|\n")
        page += [f"| {r['claim']} | {_value(r)} | {r['bar']} | {r['source']} |\n" for r in mine]
        page += [f"\n`{command}`\n" for command in sorted({r["command"] for r in mine})]
    return "".join(page)


def _value(record: dict) -> str:
    """Measured value and σ, both to σ's second digit."""
    unit = f" {record['unit']}" if record["unit"] else ""
    if not record["sigma"]:
        return f"{record['measured']:.2g}{unit}"
    digits = max(0, 1 - math.floor(math.log10(record["sigma"])))
    return f"{record['measured']:.{digits}f} ± {record['sigma']:.{digits}f}{unit}"


if __name__ == "__main__":
    PAGE.write_text(render())
    print(PAGE)
