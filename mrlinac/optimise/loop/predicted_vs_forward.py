"""A plan's predicted dose against its forward dose, within the forward dose's own noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.dose.noise import Figure
from mrlinac.optimise.canonical import limits_of
from mrlinac.optimise.planner import Planner
from mrlinac.optimise.row_dose import RowDose
from mrlinac.optimise.solution import Solution, TOLERANCE_Gy
from mrlinac.optimise.solver.cut import CUT_ERROR_Gy
from mrlinac.protocol import kinds

FIGURES = {"D98%": -1, "D50%": 0, "D2%": 1}
"""Of the prescription's target, with the direction that is worse; 0: both."""


@dataclass(frozen=True)
class PredictedVsForward:
    """One figure of a plan, in Gy, on the solver's rows.

    Attributes
    ----------
    name : str
        A metric of the prescription's target, or a limit.
    predicted, forward : float
        By the model and by the forward dose; limits as the dose would be normalised, and the model's lower ones with it.
    noise_bias, sigma : float
        What the forward dose's noise adds to it, and its standard deviation (:mod:`mrlinac.dose.noise`).
    within_noise : bool
        Whether the forward value, less the bias, is not worse than the predicted one by more than sigma. A limit that the
        model stayed under may be used up.
    """

    name: str
    predicted: float
    forward: float
    noise_bias: float
    sigma: float
    within_noise: bool


def compared_with_forward(
    planner: Planner, solution: Solution, dose: Dose, scale: float = 1.0
) -> tuple[PredictedVsForward, ...]:
    """The target's D98, D50 and D2 and every limit, predicted and forward.

    Parameters
    ----------
    planner, solution
        The solve and what it was made with.
    dose : Dose
        Forward dose of the course, of the nominal scenario.
    scale : float
        By which the dose will be normalised; limits are judged with that in view.

    Returns
    -------
    tuple of PredictedVsForward
    """
    nominal = planner.rows.nominal
    plain, normalised = RowDose(nominal, dose), RowDose(nominal, dose, scale)
    target, rx = planner.protocol.prescription.target, planner.protocol.prescription
    predicted = _figures(planner, solution.row_dose_Gy)
    compared = []
    for form, direction in FIGURES.items() if target in nominal.of else ():
        name = f"{target} {form}"
        figure = plain.figure(target, partial(metrics.value_of, text=form))
        beyond = figure.value - predicted[name]
        worse = abs(beyond) if direction == 0 else direction * beyond
        compared.append(_compared(name, predicted[name], figure, worse))
    limits = [limit for limit in limits_of(planner.protocol, planner.rows) if limit.scenario is nominal]
    for limit, state in zip(limits, solution.limits, strict=False):  # the nominal scenario's come first
        of = limit.constraint.of
        if isinstance(of, kinds.MeanDose):
            figure = normalised.mean(of.structure)
        else:
            value = partial(of.limit_value, prescription_Gy=rx.dose_Gy, fractions=rx.fractions)
            figure = normalised.figure(of.structure, value)
        # A target that is scaled down to its prescription gets less than the model gave it, whatever the forward dose is.
        predicted_Gy = state.value_Gy if state.upper else min(scale, 1.0) * state.value_Gy
        beyond, room = figure.value - predicted_Gy, state.limit_Gy - predicted_Gy
        worse = beyond - max(room, 0.0) if state.upper else -beyond + min(room, 0.0)
        compared.append(_compared(state.name, predicted_Gy, figure, worse))
    return tuple(compared)


def _compared(name: str, predicted: float, figure: Figure, worse: float) -> PredictedVsForward:
    """Within noise where the forward value is not worse than predicted by more than its noise explains."""
    sigma = figure.sigma if np.isfinite(figure.sigma) else 0.0
    within = bool(worse <= max(sigma, TOLERANCE_Gy))
    return PredictedVsForward(name, predicted, figure.raw, figure.raw - figure.value, figure.sigma, within)


def nothing_left(solution: Solution, compared: tuple[PredictedVsForward, ...]) -> bool:
    """Whether nothing is left for another round to mend.

    Parameters
    ----------
    solution : Solution
    compared : tuple of PredictedVsForward

    Returns
    -------
    bool
        True where every figure is as predicted, and the model knew the dose of the entries cut away.
    """
    return solution.cut_error_Gy <= CUT_ERROR_Gy and all(figure.within_noise for figure in compared)


def _figures(planner: Planner, row_dose_Gy: NDArray[np.float64]) -> dict[str, float]:
    target = planner.protocol.prescription.target
    rows = planner.rows.nominal.of.get(target)
    if rows is None:
        return {}
    return {f"{target} {form}": metrics.value_of(row_dose_Gy[rows.index], rows.weights, form) for form in FIGURES}
