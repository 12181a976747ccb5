"""The rounds of planning and forward dose as tables and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import numpy as np
import pandas as pd

from mrlinac import optimise
from mrlinac.protocol.model import Protocol
from mrlinac.recipe import isotoxic


@singledispatch
def rounds_table(planned: optimise.Planned) -> pd.DataFrame:
    """Predicted dose and forward dose, round by round.

    Parameters
    ----------
    planned : Planned

    Returns
    -------
    DataFrame
        One row a figure of a round; of an isotoxic plan, one row a round.
    """
    raise TypeError(f"no table of the rounds of a {type(planned).__name__}")


@rounds_table.register
def _of_correction(planned: optimise.Correction) -> pd.DataFrame:
    """One row a figure of a round of planning and forward dose, predicted and forward.

    ``noise_bias`` is what noise adds to the forward value, ``sigma`` its standard deviation; ``within_noise`` by
    :class:`mrlinac.optimise.PredictedVsForward`, empty where nothing is predicted.
    """
    rows: list[dict[str, object]] = []
    for number, round_done in enumerate(planned.history):
        head = {"round": number, "chosen": number == planned.chosen}
        unit = {"unit": "Gy"}
        for figure in round_done.comparisons:
            values = {"predicted": figure.predicted, "forward": figure.forward, "noise_bias": figure.noise_bias}
            noise = {"sigma": figure.sigma, "within_noise": figure.within_noise}
            rows.append({**head, "figure": figure.name, **values, **unit, **noise})
        hi = {
            "predicted": round_done.predicted.get("HI", np.nan),
            "forward": round_done.forward.get("HI", np.nan),
            "unit": "",
        }
        rows.append({**head, "figure": "HI of the target", **hi})
        rows.append({**head, "figure": "target, rms difference", "forward": round_done.rms_difference_Gy, **unit})
        sums = {
            "predicted": round_done.predicted_judgement.objective,
            "forward": round_done.forward_judgement.objective,
            "unit": "",
        }
        rows.append({**head, "figure": "objective", **sums})
    columns = ["round", "chosen", "figure", "predicted", "forward", "noise_bias", "sigma", "unit", "within_noise"]
    return pd.DataFrame(rows, columns=columns)


@rounds_table.register
def _of_escalation(planned: optimise.Escalated) -> pd.DataFrame:
    """One row a round: what the model allowed, what was aimed at, what the forward dose allowed."""
    rows = [
        {
            "round": number,
            "chosen": number == planned.chosen,
            "convex bound_Gy": round_done.highest.bound_Gy,
            "mean tails_Gy": round_done.highest.restricted_Gy,
            "second pass_Gy": round_done.highest.second_pass_Gy,
            "aimed_Gy": round_done.aimed_Gy,
            "forward allows_Gy": round_done.allowed.allowed_Gy,
            "prescription_Gy": round_done.allowed.dose_Gy,
            "driver": round_done.allowed.driver,
            "target as asked": round_done.target_met,
            "as predicted": all(figure.within_noise for figure in round_done.comparisons),
        }
        for number, round_done in enumerate(planned.history)
    ]
    return pd.DataFrame(rows)


def rounds_sentence(history: Sequence[tuple[optimise.PredictedVsForward, ...]], most: int) -> str:
    """How many forward doses the corrections took, and where the last one is not as predicted.

    Parameters
    ----------
    history : sequence of tuples of PredictedVsForward
        Of each round.
    most : int
        Corrections asked for.

    Returns
    -------
    str
    """
    last = history[-1]
    missed = [
        f"{figure.name}: {figure.forward:.2f} instead of {figure.predicted:.2f} Gy (σ {figure.sigma:.2f})"
        for figure in last
        if not figure.within_noise
    ]
    count = len(history) - 1
    if count == 0 and most == 0:
        done, dose = "No correction was asked for", "the forward dose"
    elif count > most:
        done, dose = f"Corrections: {count}, one beyond the {most} asked for", "the last round's forward dose"
        done += " because the prescription was still missed"
    else:
        done, dose = f"Corrections: {count} of at most {most}", "the last round's forward dose"
    if not missed:
        return f"{done}; {dose} is as predicted, within its noise."
    return f"{done}; {dose} is not as predicted: {'; '.join(missed)}."


def prescription_sentence(finished: optimise.Finished, record: isotoxic.EscalationRecord | None) -> str:
    """How the plan came to its prescription.

    Parameters
    ----------
    finished : Finished
    record : EscalationRecord or None

    Returns
    -------
    str
    """
    if record is not None:
        return isotoxic.sentence(record)
    assert finished.normalisation is not None  # what did not escalate was normalised, or could not be
    return normalisation_sentence(finished.normalisation, finished.protocol)


def normalisation_sentence(normalisation: optimise.Normalisation, protocol: Protocol) -> str:
    """What was done about D50 = prescription."""
    target, percent = protocol.prescription.target, 100 * (normalisation.factor - 1)
    if normalisation.applied:
        return f"Normalised: fluence and dose scaled by {percent:+.2f} % so that D50 of {target} is the prescription."
    return (
        f"Not normalised: D50 of {target} would need {percent:+.2f} %, more than the {100 * optimise.MOST_SCALING:g} % "
        "that scaling may make good."
    )
