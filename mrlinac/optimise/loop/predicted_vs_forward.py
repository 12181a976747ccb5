"""What a plan's model promised and what its forward dose kept, within the forward dose's own noise."""

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
class Promise:
    """One figure of a plan, in Gy, on the solver's rows.

    Attributes
    ----------
    name : str
        A metric of the prescription's target, or a limit.
    promised, forward : float
        By the model and by the forward dose; limits as the dose would be normalised, and the model's lower ones with it.
    noise_bias, sigma : float
        What the forward dose's noise adds to it, and its standard deviation (:mod:`mrlinac.dose.noise`).
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
    plain, normalised = RowDose(planner.rows.nominal, dose), RowDose(planner.rows.nominal, dose, scale)
    target, rx = planner.protocol.prescription.target, planner.protocol.prescription
    promised = _figures(planner, solution.row_dose_Gy)
    found = []
    for form, direction in FIGURES.items() if target in planner.rows.nominal.of else ():
        name = f"{target} {form}"
        figure = plain.figure(target, partial(metrics.value_of, text=form))
        beyond = figure.value - promised[name]
        worse = abs(beyond) if direction == 0 else direction * beyond
        found.append(_promise(name, promised[name], figure, worse))
    nominal = [limit for limit in limits_of(planner.protocol, planner.rows) if limit.scenario is planner.rows.nominal]
    for stated, limit in zip(nominal, solution.limits, strict=False):  # the nominal scenario's come first
        of = stated.constraint.of
        if isinstance(of, kinds.MeanDose):
            figure = normalised.mean(of.structure)
        else:
            value = partial(of.limit_value, prescription_Gy=rx.dose_Gy, fractions=rx.fractions)
            figure = normalised.figure(of.structure, value)
        # A target that is scaled down to its prescription gets less than the model gave it, whatever the forward dose is.
        promised_Gy = limit.value_Gy if limit.upper else min(scale, 1.0) * limit.value_Gy
        beyond, room = figure.value - promised_Gy, limit.limit_Gy - promised_Gy
        worse = beyond - max(room, 0.0) if limit.upper else -beyond + min(room, 0.0)
        found.append(_promise(limit.name, promised_Gy, figure, worse))
    return tuple(found)


def _promise(name: str, promised: float, figure: Figure, worse: float) -> Promise:
    """Kept where it is not worse than promised by more than its noise explains."""
    sigma = figure.sigma if np.isfinite(figure.sigma) else 0.0
    within = bool(worse <= max(sigma, TOLERANCE_Gy))
    return Promise(name, promised, figure.raw, figure.raw - figure.value, figure.sigma, within)


def kept(solution: Solution, found: tuple[Promise, ...]) -> bool:
    """Whether nothing is left for another round to mend: all is as promised, and the model knew what it promised."""
    return solution.cut_error_Gy <= CUT_ERROR_Gy and all(one.kept for one in found)


def _figures(planner: Planner, row_dose_Gy: NDArray[np.float64]) -> dict[str, float]:
    target = planner.protocol.prescription.target
    rows = planner.rows.nominal.of.get(target)
    if rows is None:
        return {}
    return {f"{target} {form}": metrics.value_of(row_dose_Gy[rows.index], rows.weights, form) for form in FIGURES}
