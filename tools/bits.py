"""Whether the numbers stayed the same, bit for bit: four coarse plans and one evaluation, each as short hashes.

    python tools/bits.py              # prints a line a plan: dose, fluence, goals
    python tools/bits.py > before.txt # then change the structure, run again, and compare the two

For changes that should move no number: a file renamed, a function split. The hashes hold on one model of processor with one
set of package versions (docs/architecture.md, "Reproducible").
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import mrlinac as mr
from mrlinac.store import Store

COARSE = {
    "patient.phantom_seed": 3,
    "technique.gantry_deg": [20, 100, 180, 260, 340],
    "technique.travel_step_mm": 15,
    "protocol.structures.PTV.margin_mm": 3,
    "protocol.structures.PTV.source": "as the shipped plan with 3 mm",
    "numerics.grid_mm": 8,
    "numerics.photons_per_beamlet": 10000,
    "numerics.correction_rel_sigma": 0.15,
    "numerics.final_rel_sigma": 0.12,
    "numerics.oar_rows": 300,
    "numerics.target_rows": 400,
}
PLANS = ("agility-66in33", "unity-66in33", "agility-isotoxic", "unity-isotoxic")


def main() -> None:
    """Make the plans in a folder of their own, evaluate one from its DICOM, print the hashes."""
    patient = mr.phantom(3, spacing_zyx_mm=(6.0, 4.0, 4.0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for plan in PLANS:
            rounds = 0 if "isotoxic" in plan else 1  # a further round of an escalation costs minutes
            spec = mr.load_plan(plan, {**COARSE, "numerics.correction_rounds": rounds})
            result = mr.make_plan(spec, patient, store=Store(folder / "store"))
            fluence = np.concatenate([np.ravel(mu) for mu in result.fluence.mu])
            print(f"{plan:18} dose {bits(result.dose.dose_Gy)}  fluence {bits(fluence)}  goals {table(result.goals)}")
        result.save(folder / "plan", figures=False)
        written = folder / "plan" / "dicom"
        evaluation = mr.evaluate([written / "rtdose.dcm"], written / "rtstruct.dcm", protocol="isotoxic-ideal-30")
        print(f"{'evaluation':18} goals {table(pd.concat(evaluation.goals.values()))}")


def bits(values: np.ndarray) -> str:
    """Twelve digits of the hash of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:12]


def table(values: pd.DataFrame) -> str:
    """Twelve digits of the hash of a table with all digits of its numbers; order of rows and sources do not count."""
    rows = values.drop(columns="source").sort_values(["structure", "metric"])
    return hashlib.sha256(rows.to_csv(index=False, float_format="%.17g").encode()).hexdigest()[:12]


if __name__ == "__main__":
    main()
