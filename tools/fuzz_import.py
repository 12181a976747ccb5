"""Thousands of damaged exports through the import; prints what became of them, the slowest, and the memory.

    python tools/fuzz_import.py --bytes 4000 --made 2000

Each block runs in a process of its own, so that a crash of a decoder would show as one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE), str(HERE / "tests" / "unit" / "dicom")]


def block(first: int, count: int, way: str) -> dict[str, object]:
    """Outcomes of a block, in this process."""
    import fuzz
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st

    from mrlinac.dicom import import_folder

    kinds: Counter[str] = Counter()
    slowest_s, slowest = 0.0, {"is": ""}
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        clean = fuzz.exports(Path(scratch) / "clean")
        reports = {name: import_folder(folder) for name, folder in clean.items()}

        def note(name: str, made: object) -> None:
            nonlocal slowest_s
            if made is None:
                kinds["not written"] += 1
            else:
                kinds[made.kind] += 1
                if made.seconds > slowest_s:
                    slowest_s, slowest["is"] = made.seconds, name

        if way == "bytes":
            for number in range(first, first + count):
                try:
                    note(str(number), fuzz.batter(clean, reports, Path(scratch) / "export", number))
                except Exception as error:
                    faults.append(f"seed {number}: {type(error).__name__}: {error}"[:300])
        else:
            places = iter(range(10**9))

            @seed(first)
            @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(done=fuzz.changes(), index=st.integers(0, 30))
            def made(done: list, index: int) -> None:
                try:
                    note("made", fuzz.made_up(done, index, Path(scratch) / f"m{next(places)}"))
                except Exception as error:
                    faults.append(f"{done} in object {index}: {type(error).__name__}: {error}"[:300])

            made()
    return {
        "kinds": kinds,
        "slowest_s": slowest_s,
        "slowest": slowest["is"],
        "peak_MB": fuzz.peak_MB(),
        "faults": faults,
    }


def main() -> None:
    """Run the blocks and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=4000, help="exports with damaged bytes")
    parser.add_argument("--made", type=int, default=2000, help="exports with made-up values")
    parser.add_argument("--size", type=int, default=500, help="exports in a process")
    parser.add_argument("--block", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.block:
        print(json.dumps(block(int(given.block[0]), int(given.block[1]), given.block[2])))
        return
    failed = 0
    for way, total in (("bytes", given.bytes), ("made", given.made)):
        kinds: Counter[str] = Counter()
        slowest_s, peak_MB, faults, crashes = 0.0, 0.0, [], 0
        for first in range(1000, 1000 + total, given.size):
            count = min(given.size, 1000 + total - first)
            done = subprocess.run(
                [sys.executable, __file__, "--block", str(first), str(count), way],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                crashes += 1
                faults.append(f"block {first}: ended with {done.returncode}: {done.stderr[-300:]}")
                continue
            told = json.loads(done.stdout.splitlines()[-1])
            kinds.update(told["kinds"])
            slowest_s, peak_MB = max(slowest_s, told["slowest_s"]), max(peak_MB, told["peak_MB"])
            faults += told["faults"]
        listed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        print(f"{way}: {sum(kinds.values())} exports: {listed}; slowest {slowest_s:.2f} s; memory {peak_MB:.0f} MB")
        print(f"{way}: {len(faults)} fault(s), {crashes} crash(es)")
        for fault in faults[:20]:
            print("  ", fault)
        failed += len(faults)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
