"""What a dose of segments costs beside one of the fluence that they were made from, in turns in one process.

    python benchmarks/segments_dose.py RESULT [--sigma 0.02] [--turns 2]

RESULT is the folder of a plan in segments.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import page

import mrlinac as mr
from mrlinac import transport


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--sigma", type=float, default=0.02, help="mean relative sigma above half of the maximum")
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    result = mr.load_result(options.result)
    if result.segments is None:
        parser.error(f"{options.result} is a plan of a fluence; give one of segments")
    print(page.head() + "\n")
    print("| | photons, millions | CPU-s | photons per CPU-second, millions |\n|---|---|---|---|")
    for turn in range(options.turns):
        for name, delivery in (("fluence", result.fluence), ("segments", result.segments)):
            start = time.process_time()
            dose = transport.dose(
                result.medium, delivery, result.spec.machine, field_xyz_T=result.field_xyz_T,
                target_rel_sigma=options.sigma, seed=9 + turn,
            )  # fmt: skip
            spent, photons = time.process_time() - start, dose.provenance.histories / 1e6
            print(f"| {name} | {photons:.0f} | {spent:.0f} | {photons / spent:.3f} |", flush=True)


if __name__ == "__main__":
    main()
