"""What a plan's model promised and what its forward dose kept, within the forward dose's own noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.optimise.cut import CUT_ERROR_Gy
from mrlinac.optimise.planner import Planner
from mrlinac.optimise.solution import Solution, TOLERANCE_Gy

FIGURES = {"D98%": -1, "D50%": 0, "D2%": 1}
"""Of the prescription's target, with the direction that is worse; 0: both."""


@dataclass(frozen=True)
class Promise:
    """One figure of a plan, in Gy, on the solver's rows.

    Attributes
    ----------
    name : str
        A metric of the prescription's target, or a limit.
    promised, forward : float
        By the model and by the forward dose; limits as the dose would be normalised.
    noise_bias, sigma : float
        What the forward dose's noise does to it, from its two half-runs; nan where it has none.
    kept : bool
        Whether the forward value, less the bias, is not worse than promised by more than sigma. A limit that the model
        stayed under may be used up.
    """

    name: str
    promised: float
    forward: float
    noise_bias: float
    sigma: float
    kept: bool


def promises(planner: Planner, solution: Solution, dose: Dose, scale: float = 1.0) -> tuple[Promise, ...]:
    """The target's D98, D50 and D2 and every limit, promised and forward.

    Parameters
    ----------
    planner, solution
        The solve and what it was made with.
    dose : Dose
        Forward dose of the course.
    scale : float
        By which the dose will be normalised; limits are judged with that in view.
    """
    forward = _values(planner, solution, dose.dose_Gy, scale)
    halves = [_values(planner, solution, half.dose_Gy, scale) for half in dose.half_doses or ()]
    promised = _figures(planner, solution.row_dose_Gy)
    for limit in solution.limits:
        promised[limit.name] = limit.value_Gy
    limits = {limit.name: limit for limit in solution.limits}
    found = []
    for name, value in forward.items():
        sigma = bias = float("nan")
        if halves:
            first, second = (half[name] for half in halves)
            sigma, bias = abs(first - second) / 2, (first + second) / 2 - value
        beyond = value - (bias if halves else 0.0) - promised[name]
        if name in limits:
            limit = limits[name]
            room = limit.limit_Gy - limit.value_Gy
            worse = beyond - max(room, 0.0) if limit.upper else -beyond + min(room, 0.0)
        else:
            direction = FIGURES[name.removeprefix(planner.protocol.prescription.target + " ")]
            worse = abs(beyond) if direction == 0 else direction * beyond
        within = worse <= max(sigma if halves else 0.0, TOLERANCE_Gy)
        found.append(Promise(name, promised[name], value, bias, sigma, bool(within)))
    return tuple(found)


def kept(solution: Solution, found: tuple[Promise, ...]) -> bool:
    """Whether nothing is left for another round to mend: all is as promised, and the model knew what it promised."""
    return solution.cut_error_Gy <= CUT_ERROR_Gy and all(one.kept for one in found)


def _figures(planner: Planner, row_dose_Gy: NDArray[np.float64]) -> dict[str, float]:
    target = planner.protocol.prescription.target
    mine = planner.rows.of.get(target)
    if mine is None:
        return {}
    return {f"{target} {form}": metrics.value_of(row_dose_Gy[mine.rows], mine.weights, form) for form in FIGURES}


def _values(planner: Planner, solution: Solution, dose_Gy: NDArray[np.floating], scale: float) -> dict[str, float]:
    rows = planner.rows
    on_rows = rows.on_rows(dose_Gy)
    means = {name: scale * rows.mean_of(name, dose_Gy) for name in rows.mean}
    judged = planner.judge(solution.fluence.vector, scale * on_rows, means)
    return _figures(planner, on_rows) | {limit.name: limit.value_Gy for limit in judged.limits}
