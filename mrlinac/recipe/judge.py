"""Goals, constraints and models on the forward dose, as the tables a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mrlinac import optimise
from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.protocol import estimates, verdicts
from mrlinac.protocol.model import Protocol

SKIN_METRICS = ("D2cc", "mean", "D0.1cc")
"""D2cc is the primary metric, fixed beforehand; the others are secondary."""
SKIN_SAYS = "Skin D2cc"
"""How :func:`skin_sentence` begins."""
SKIN_SIGMA_percent = 0.3
"""Standard deviation of a skin metric, in per cent of the prescription, with which arms may be compared."""


def tables(
    protocol: Protocol,
    dose: Dose,
    structures: StructureSet,
    duals: Mapping[str, float],
    density_g_cm3: NDArray[np.float32] | None = None,
) -> dict[str, pd.DataFrame]:
    """Goals, constraints, models and skin of a course dose.

    With ``density_g_cm3`` hot-spot metrics of the body and of normal tissue leave air-like voxels out; constraints are
    judged on all voxels, as the optimiser holds them.
    """
    body = structures.of_role("external")
    air = metrics.air_like(density_g_cm3, structures[body[0]]) if density_g_cm3 is not None and body else None
    return {
        "goals": goals_table(protocol, dose, structures, air),
        "constraints": constraints_table(protocol, dose, structures, duals),
        "models": models_table(protocol, dose, structures),
        "skin": skin_table(dose, structures, air),
    }


def rounds_table(history: Sequence[optimise.Round], chosen: int) -> pd.DataFrame:
    """One row a figure of a round of planning and forward dose: what the model promised and what the dose kept.

    ``noise_bias`` and ``sigma`` as in :func:`noise_of`, of the forward value; ``kept`` by
    :class:`mrlinac.optimise.Promise`, empty where nothing is promised.
    """
    rows: list[dict[str, object]] = []
    for number, one in enumerate(history):
        head = {"round": number, "chosen": number == chosen}
        unit = {"unit": "Gy"}
        for said in one.promises:
            values = {"promised": said.promised, "forward": said.forward, "noise_bias": said.noise_bias}
            rows.append({**head, "figure": said.name, **values, "sigma": said.sigma, **unit, "kept": said.kept})
        hi = {"promised": one.predicted.get("HI", np.nan), "forward": one.forward.get("HI", np.nan), "unit": ""}
        rows.append({**head, "figure": "HI of the target", **hi})
        rows.append({**head, "figure": "target, rms difference", "forward": one.rms_difference_Gy, **unit})
        sums = {"promised": one.promised.objective, "forward": one.kept.objective, "unit": ""}
        rows.append({**head, "figure": "objective", **sums})
    columns = ["round", "chosen", "figure", "promised", "forward", "noise_bias", "sigma", "unit", "kept"]
    return pd.DataFrame(rows, columns=columns)


def rounds_sentence(history: Sequence[tuple[optimise.Promise, ...]], most: int) -> str:
    """How many forward doses the corrections took, and what the last one did not keep."""
    last = history[-1]
    broken = [f"{p.name} {p.forward:.2f} for {p.promised:.2f} Gy (σ {p.sigma:.2f})" for p in last if not p.kept]
    done = f"Corrections: {len(history) - 1} of at most {most}"
    if not broken:
        return f"{done}; the last round's forward dose keeps the model's promise within its noise."
    return f"{done}; the last round's forward dose does not keep {'; '.join(broken)}."


def normalisation_sentence(normalisation: optimise.Normalisation, protocol: Protocol) -> str:
    """What was done about D50 = prescription."""
    target, percent = protocol.prescription.target, 100 * (normalisation.factor - 1)
    if normalisation.applied:
        return f"Normalised: fluence and dose scaled by {percent:+.2f} % so that D50 of {target} is the prescription."
    return (
        f"Not normalised: D50 of {target} would need {percent:+.2f} %, more than the 1 % that scaling may make good."
    )


def goals_table(
    protocol: Protocol, dose: Dose, structures: StructureSet, air: NDArray[np.bool_] | None = None
) -> pd.DataFrame:
    """One row a goal: structure, metric, value, unit, limit, direction, verdict, margin, scaled, sigma, noise_bias, source.

    ``sigma`` and ``noise_bias`` are what the noise of the dose does to the value (:func:`noise_of`). An optional
    structure that the patient lacks has the verdict ``absent``, one that cannot be evaluated ``void``: nothing is
    skipped silently.
    """
    rows = [asdict(verdict) for verdict in verdicts.judge(protocol, dose, structures, air=air)]
    halves = [
        [v.value for v in verdicts.judge(protocol, half, structures, air=air)] for half in dose.half_doses or ()
    ]
    for number, row in enumerate(rows):
        row["sigma"], row["noise_bias"] = noise_of(row["value"], *(half[number] for half in halves))
    columns = ["structure", "metric", "value", "unit", "limit", "direction", "outcome", "margin", "scaled"]
    table = pd.DataFrame(rows, columns=[*columns, "sigma", "noise_bias", "source"]).rename(
        columns={"outcome": "verdict"}
    )
    return table.astype(dict.fromkeys(("value", "limit", "margin", "sigma", "noise_bias"), float))


MODEL_COLUMNS = (
    *("model", "quantity", "endpoint", "structure", "kind", "value", "unit", "sigma", "noise_bias", "verdict"),
    *("reason", "doses", "parameters", "source"),
)


def models_table(protocol: Protocol, dose: Dose, structures: StructureSet) -> pd.DataFrame:
    """One row a model: :data:`MODEL_COLUMNS`.

    The verdict is never a judgement: ``report``, or with its reason ``absent`` or ``void``. Nothing is skipped.
    """
    rows = [asdict(one) for one in estimates.estimate(protocol, dose, structures)]
    halves = [[one.value for one in estimates.estimate(protocol, half, structures)] for half in dose.half_doses or ()]
    for number, row in enumerate(rows):
        row["sigma"], row["noise_bias"] = noise_of(row["value"], *(half[number] for half in halves))
        row["verdict"] = row.pop("outcome")
    table = pd.DataFrame(rows, columns=list(MODEL_COLUMNS))
    return table.astype(dict.fromkeys(("value", "sigma", "noise_bias"), float))


def noise_of(value: float | None, *halves: float | None) -> tuple[float, float]:
    """Standard deviation and bias of a metric, from its values in two independent half-runs.

    A half-run has twice the variance. Where the dose varies more than its noise, what noise adds to a tail grows with the
    variance, so the mean of the halves lies as far from the value as the value from the truth: bias ≈ mean of halves −
    value. In a dose that is flat against its noise the tail grows with σ, and this is a lower bound of the bias.
    """
    if value is None or len(halves) != 2 or halves[0] is None or halves[1] is None:
        return float("nan"), float("nan")
    return abs(halves[0] - halves[1]) / 2, (halves[0] + halves[1]) / 2 - value


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
        rx = protocol.prescription
        value = constraint.of.limit_value(dose_Gy, volume_cc, rx.dose_Gy, rx.fractions)
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


def skin_table(dose: Dose, structures: StructureSet, air: NDArray[np.bool_] | None = None) -> pd.DataFrame:
    """The skin metrics of every structure whose name begins with ``Skin`` and that can be evaluated.

    Columns metric, region, value, unit, sigma, noise_bias; see :func:`noise_of`.
    """
    rows = []
    for name, structure in structures.structures.items():
        if not name.startswith("Skin") or not structure.occupancy.any() or structure.flaw:
            continue
        for text in SKIN_METRICS:
            try:
                value = metrics.metric(dose, structure, text, air=air)
            except ValueError:
                continue  # a piece of skin too small for this metric, the air in it left out
            halves = [metrics.metric(half, structure, text, air=air) for half in dose.half_doses or ()]
            sigma, bias = noise_of(value, *halves)
            rows.append(
                {"metric": text, "region": name, "value": value, "unit": "Gy", "sigma": sigma, "noise_bias": bias}
            )
    return pd.DataFrame(rows, columns=["metric", "region", "value", "unit", "sigma", "noise_bias"])


def skin_sentence(skin: pd.DataFrame, prescription_Gy: float, structures: StructureSet) -> str:
    """Whether the primary skin metric is known well enough to compare arms (0.3 % of the prescription)."""
    if "Skin" in structures and structures["Skin"].flaw:
        return f"{SKIN_SAYS} is not evaluable: {structures['Skin'].flaw}."
    primary = skin[(skin["region"] == "Skin") & (skin["metric"] == "D2cc")]
    if primary.empty or not np.isfinite(primary["sigma"].iloc[0]):
        return f"{SKIN_SAYS} has no known statistical uncertainty."
    percent = 100 * float(primary["sigma"].iloc[0]) / prescription_Gy
    verdict = "enough" if percent <= SKIN_SIGMA_percent else "not enough"
    return (
        f"{SKIN_SAYS} has a standard deviation of about {percent:.2f} % of the prescription (one pair of half-runs, so "
        f"known to a factor of two): {verdict} to compare arms ({SKIN_SIGMA_percent:g} % is asked for)."
    )
