"""Goals and constraints judged on the forward dose, as the tables a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from mrlinac import optimise
from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.protocol import verdicts
from mrlinac.protocol.model import Protocol

SKIN_METRICS = ("D2cc", "mean", "D0.1cc")
"""D2cc is the primary metric, fixed beforehand; the others are secondary."""


def tables(
    protocol: Protocol, dose: Dose, structures: StructureSet, duals: Mapping[str, float]
) -> dict[str, pd.DataFrame]:
    """Goals, constraints and skin of a course dose."""
    return {
        "goals": goals_table(protocol, dose, structures),
        "constraints": constraints_table(protocol, dose, structures, duals),
        "skin": skin_table(dose, structures),
    }


def rounds_table(history: Sequence[optimise.Round], chosen: int) -> pd.DataFrame:
    """One row a round of planning and forward dose: what the model promised and what the dose kept."""
    rows = []
    for number, one in enumerate(history):
        row: dict[str, object] = {"round": number, "chosen": number == chosen}
        for metric in one.predicted:
            row[f"{metric} promised"], row[f"{metric} forward"] = one.predicted[metric], one.forward[metric]
        row["rms difference_Gy"] = one.rms_difference_Gy
        row["objective promised"], row["objective forward"] = one.promised.objective, one.kept.objective
        rows.append(row)
    return pd.DataFrame(rows)


def normalisation_sentence(normalisation: optimise.Normalisation, protocol: Protocol) -> str:
    """What was done about D50 = prescription."""
    target, percent = protocol.prescription.target, 100 * (normalisation.factor - 1)
    if normalisation.applied:
        return f"Normalised: fluence and dose scaled by {percent:+.2f} % so that D50 of {target} is the prescription."
    return (
        f"Not normalised: D50 of {target} would need {percent:+.2f} %, more than the 1 % that scaling may make good."
    )


def goals_table(protocol: Protocol, dose: Dose, structures: StructureSet) -> pd.DataFrame:
    """One row a goal: structure, metric, value, unit, limit, direction, verdict, margin, source.

    An optional structure that the patient lacks has the verdict ``absent``: nothing is skipped silently.
    """
    rows = [asdict(verdict) for verdict in verdicts.judge(protocol, dose, structures)]
    columns = ["structure", "metric", "value", "unit", "limit", "direction", "outcome", "margin", "source"]
    table = pd.DataFrame(rows, columns=columns).rename(columns={"outcome": "verdict"})
    return table.astype({"value": float, "limit": float, "margin": float})


def constraints_table(
    protocol: Protocol, dose: Dose, structures: StructureSet, duals: Mapping[str, float]
) -> pd.DataFrame:
    """One row a hard constraint: name, value and limit in Gy on all voxels, met, dual, source."""
    rows = []
    for constraint in protocol.constraints:
        name = constraint.of.structure
        if name not in structures:
            continue  # optional: Protocol.problems() has refused a missing structure that is not
        dose_Gy, volume_cc = metrics.voxels(dose, structures[name])
        value = constraint.of.value(dose_Gy, volume_cc, protocol.prescription.dose_Gy)
        limit = constraint.limit_Gy(protocol.prescription)
        rows.append(
            {
                "name": constraint.name,
                "value": value,
                "limit": limit,
                "met": bool(value <= limit if constraint.upper else value >= limit),
                "dual": duals.get(constraint.name, np.nan),
                "source": constraint.source,
            }
        )
    return pd.DataFrame(rows, columns=["name", "value", "limit", "met", "dual", "source"])


def skin_table(dose: Dose, structures: StructureSet) -> pd.DataFrame:
    """The skin metrics of every structure whose name begins with ``Skin``: metric, region, value, unit, sigma.

    ``sigma`` is the standard deviation of a dose-at-volume or mean, from the voxels that it is read from.
    """
    rows = []
    for name, structure in structures.structures.items():
        if not name.startswith("Skin") or not structure.occupancy.any():
            continue
        for text in SKIN_METRICS:
            rows.append(
                {
                    "metric": text,
                    "region": name,
                    "value": metrics.metric(dose, structure, text),
                    "unit": "Gy",
                    "sigma": _sigma_Gy(dose, structure.occupancy, text),
                }
            )
    return pd.DataFrame(rows, columns=["metric", "region", "value", "unit", "sigma"])


def _sigma_Gy(dose: Dose, occupancy: np.ndarray, text: str) -> float:
    """Statistical standard deviation of a mean, or of the dose of the hottest volume, voxels independent."""
    if dose.rel_sigma is None:
        return float("nan")
    inside = occupancy > 0
    weight = occupancy[inside].astype(float)
    dose_Gy = dose.dose_Gy[inside].astype(float)
    sigma_Gy = dose.rel_sigma[inside] * dose_Gy
    wanted = metrics.parse(text)
    if wanted.form == "dose_at":
        order = np.argsort(-dose_Gy, kind="stable")
        hottest = np.cumsum(weight[order]) * dose.grid.voxel_cc <= wanted.level
        kept = order[hottest] if hottest.any() else order[:1]
        weight, sigma_Gy = weight[kept], sigma_Gy[kept]
    return float(np.sqrt(np.sum((weight * sigma_Gy) ** 2)) / weight.sum())
