"""The dose-difference loop: plan, compute the real dose, give the difference back to the planner, plan again.

What an influence leaves out (its noise, small entries cut away, beamlets that add up a little differently) is added
to the prediction as a fixed dose. The offset is the running average over the rounds, so that the noise of one forward
dose is not chased. The loop ends where the forward dose is as predicted, within its own noise (`predicted_vs_forward`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.delivery import Delivery
from mrlinac.optimise import hidden
from mrlinac.optimise.canonical import PRICE_PER_Gy
from mrlinac.optimise.loop.allowed_prescription import MOST_SCALING
from mrlinac.optimise.loop.planned import Finished, Forward, Normalisation
from mrlinac.optimise.loop.predicted_vs_forward import PredictedVsForward, compared_with_forward, nothing_left
from mrlinac.optimise.planner import Planner
from mrlinac.optimise.problem import Problem, SolverOptions
from mrlinac.optimise.solution import COLD, Judgement, Solution, TOLERANCE_Gy, WarmStart
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Protocol

MOST_BELOW = 0.03
"""Of a tail's limit by which a round may aim below it: more is not the plan's fault, but a rough dose's."""


@dataclass(frozen=True)
class Round:
    """One round: predicted and forward dose, on the target and by the protocol.

    Attributes
    ----------
    predicted, forward : dict
        D98, D50, D2 (Gy) and HI of the prescription's target, on the solver's rows.
    rms_difference_Gy : float
        Over the target's rows.
    predicted_judgement, forward_judgement : Judgement
        Objective and limits for the predicted and for the forward dose.
    level_factor : float
        The prescription the round aimed at, over the protocol's.
    comparisons : tuple of PredictedVsForward
        The target's metrics and every limit, each with its noise and whether it was kept.
    """

    predicted: dict[str, float]
    forward: dict[str, float]
    rms_difference_Gy: float
    predicted_judgement: Judgement
    forward_judgement: Judgement
    level_factor: float
    comparisons: tuple[PredictedVsForward, ...] = ()


@dataclass(frozen=True)
class Correction:
    """The result of the loop.

    Attributes
    ----------
    delivery : Delivery
        Normalised where rule 7 allows.
    sampled : Sampled
        Forward dose of the course, normalised likewise, in the structures.
    solution : Solution
        The solve that the fluence came from.
    history : tuple of Round
    chosen : int
        Which round the result is.
    normalisation : Normalisation
    offset_Gy : array [z, y, x]
        The last offset of the course.
    planner : Planner
        With that offset.
    """

    delivery: Delivery
    sampled: Sampled
    solution: Solution
    history: tuple[Round, ...]
    chosen: int
    normalisation: Normalisation
    offset_Gy: NDArray[np.float32]
    planner: Planner = field(repr=False, compare=False)

    @property
    def dose(self) -> Dose:
        """Forward dose of the course."""
        return self.sampled.dose

    @property
    def unscaled(self) -> Delivery:
        """As it was planned."""
        return self.solution.delivery

    @property
    def comparisons(self) -> tuple[tuple[PredictedVsForward, ...], ...]:
        """Of each round."""
        return tuple(round_done.comparisons for round_done in self.history)

    def finish(self, protocol: Protocol, fraction: Sampled | None = None) -> Finished:
        """Normalised to the prescription, by the loop's dose or by another of one fraction.

        Parameters
        ----------
        protocol : Protocol
        fraction : Sampled, optional
            Another forward dose of one fraction of :attr:`unscaled`.

        Returns
        -------
        Finished
        """
        if fraction is None:
            return Finished(self.delivery, self.sampled, protocol, self.normalisation)
        course = fraction.course(protocol.prescription.fractions)
        delivery, course, normalisation = normalise(self.unscaled, course, protocol)
        return Finished(delivery, course, protocol, normalisation, anew=True)


def correct(
    planner: Planner, forward: Forward, *, rounds: int = 2, options: SolverOptions | None = None
) -> Correction:
    """Plan with forward doses in the loop, and normalise.

    Parameters
    ----------
    planner : Planner
        Influence, structures and protocol.
    forward : callable
        The dose of one fraction of a delivery.
    rounds : int
        Most corrections after the first plan; one more if the prescription is then missed by more than scaling may make
        good. None after a forward dose that is as predicted within its noise.
    options : SolverOptions, optional
        With ``relax`` the loop goes on with the least relaxation where limits cannot be met.

    Returns
    -------
    Correction
        Of the round whose *forward* dose does best by the protocol: limits first, then the objective.

    Raises
    ------
    SolverError
        See :meth:`mrlinac.optimise.Planner.solve`.
    """
    options = options or SolverOptions()
    protocol, structures = planner.protocol, planner.nominal.structures
    rx = protocol.prescription
    offset_Gy: NDArray[np.float32] | None = None
    problem, warm = Problem(), COLD
    history: list[Round] = []
    solutions: list[Solution] = []
    courses: list[Sampled] = []
    most = rounds + 1
    while len(history) < most:
        # The entries cut away are taken at the last round's fluence, so that only the first round needs to find it.
        again = options if not history else replace(options, refinements=0)
        solution = planner.with_offset(offset_Gy).solve(problem, again, warm)
        if not history:
            solution, problem = _between_rows(planner, problem, solution, options)
        warm = WarmStart(solution)
        dose = forward(solution.delivery).course(rx.fractions)
        course = Sampled(dose, structures, like=courses[-1] if courses else None)
        factor = _factor(course, protocol)
        history.append(_round(planner, solution, dose, problem.level_factor, factor))
        solutions.append(solution)
        courses.append(course)
        difference_Gy = dose.dose_Gy - planner.influence_Gy(solution.delivery)
        offset_Gy = running_mean(offset_Gy, difference_Gy, len(history))
        if abs(factor - 1) <= MOST_SCALING and nothing_left(solution, history[-1].comparisons):
            break
        beyond_Gy = hidden.beyond_rows(planner.rows, protocol, course)
        problem = replace(
            problem,
            shift_Gy=beyond_Gy | _below(protocol, history[-1].comparisons, beyond_Gy),
            # Upwards only: a limit that a smaller dose would leave room under is not loosened.
            scaled_later=min(max(factor, 1.0), 1.0 + MOST_SCALING),
        )
        if len(history) == rounds + 1 and abs(factor - 1) > MOST_SCALING:
            # The offset takes care of what the model got wrong; the aim of what the optimum itself leaves.
            predicted_Gy = history[-1].predicted.get("D50_Gy", rx.dose_Gy)
            most = rounds + 2
            problem = replace(problem, level_factor=problem.level_factor * rx.dose_Gy / predicted_Gy)
    chosen = _best(history, [_factor(course, protocol) for course in courses])
    delivery, course, normalisation = normalise(solutions[chosen].delivery, courses[chosen], protocol)
    assert offset_Gy is not None  # at least one round has run
    last = planner.with_offset(offset_Gy)
    return Correction(delivery, course, solutions[chosen], tuple(history), chosen, normalisation, offset_Gy, last)


def running_mean(mean_Gy: NDArray[np.float32] | None, new_Gy: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Mean of doses, from that of all but the last.

    Parameters
    ----------
    mean_Gy : float32 array [z, y, x] or None
        Mean of ``count - 1`` doses; None before the first.
    new_Gy : float32 array [z, y, x]
    count : int

    Returns
    -------
    float32 array [z, y, x]
    """
    return new_Gy if mean_Gy is None else mean_Gy + (new_Gy - mean_Gy) / np.float32(count)


def _between_rows(
    planner: Planner, problem: Problem, solution: Solution, options: SolverOptions
) -> tuple[Solution, Problem]:
    """A first plan whose limits hold between the rows too, and the problem with these limits lowered by as much."""
    shift_Gy = hidden.beyond_rows(planner.rows, planner.protocol, planner.sampled(solution.delivery))
    lowered = replace(problem, shift_Gy=shift_Gy)
    known = (limit for limit in solution.limits if limit.upper and limit.name in shift_Gy)
    if all(limit.value_Gy + shift_Gy[limit.name] <= limit.limit_Gy + hidden.HIDDEN_Gy for limit in known):
        return solution, lowered
    return planner.solve(lowered, replace(options, refinements=0), WarmStart(solution)), lowered


def _below(
    protocol: Protocol, comparisons: tuple[PredictedVsForward, ...], between_Gy: Mapping[str, float]
) -> dict[str, float]:
    """By organ limit that the forward dose does not keep by its standard deviation: how far below to aim.

    By that standard deviation, because the noise of the next dose is another; and, of a tail, by what the dose has beyond
    the model, and between the rows. An offset puts each voxel right; the hottest of the next plan are others, and those of
    a noisy dose always too hot.
    """
    kinds_meant = kinds.UpperTail | kinds.DoseAtVolume | kinds.MeanDose
    limits = {
        c.name: (c.limit_Gy(protocol.prescription), isinstance(c.of, kinds.MeanDose))
        for c in protocol.constraints
        if c.upper and not c.relative and isinstance(c.of, kinds_meant)
    }
    below_Gy = {}
    for figure in comparisons:
        if figure.name not in limits:
            continue
        (limit_Gy, is_mean), between = limits[figure.name], between_Gy.get(figure.name, 0.0)
        forward, sigma = figure.forward - figure.noise_bias, figure.sigma if np.isfinite(figure.sigma) else 0.0
        if forward + between + sigma > limit_Gy + TOLERANCE_Gy:
            beyond = 0.0 if is_mean else max(forward - figure.predicted, 0.0)
            below_Gy[figure.name] = between + min(beyond + sigma, MOST_BELOW * limit_Gy)
    return below_Gy


def normalise(delivery: Delivery, course: Sampled, protocol: Protocol) -> tuple[Delivery, Sampled, Normalisation]:
    """Scale MU and course dose so that D50 of the target is the prescription, if that takes at most 1 %.

    Parameters
    ----------
    delivery : Delivery
        Of one fraction.
    course : Sampled
        Its dose of the course.
    protocol : Protocol

    Returns
    -------
    delivery, course
        Scaled, or as given where the factor is further from 1 than rule 7 allows.
    Normalisation
        The factor, and whether it was applied.

    Raises
    ------
    ValueError
        The dose stands for another number of fractions than the prescription, or gives the target nothing.
    """
    factor = _factor(course, protocol)
    if abs(factor - 1) > MOST_SCALING:
        return delivery, course, Normalisation(factor, False)
    return delivery.times(factor), course.times(factor), Normalisation(factor, True)


def _factor(course: Sampled, protocol: Protocol) -> float:
    rx, fractions = protocol.prescription, course.dose.fractions
    if fractions != rx.fractions:
        raise ValueError(f"the dose stands for {fractions} fraction(s), the prescription for {rx.fractions}")
    median_Gy = course.metric(rx.target, "D50%", scatter=False).value
    if not median_Gy > 0:
        raise ValueError(f"the forward dose gives nothing to {rx.target}")
    return rx.dose_Gy / median_Gy


def _best(history: list[Round], factors: list[float]) -> int:
    """Rounds that rule 7 lets stand go first; among them the best forward dose by the protocol."""
    allowed = [i for i, f in enumerate(factors) if abs(f - 1) <= MOST_SCALING] or [len(factors) - 1]
    return min(allowed, key=lambda i: _penalised(history[i]))


def _penalised(round_done: Round) -> float:
    """A round's objective with the price of every limit exceeded, less what noise alone adds to it (rule 15)."""
    bias_Gy = {p.name: p.noise_bias for p in round_done.comparisons if np.isfinite(p.noise_bias)}
    limits = round_done.forward_judgement.limits
    beyond = ((limit.value_Gy - bias_Gy.get(limit.name, 0.0) - limit.limit_Gy, limit.upper) for limit in limits)
    excess_Gy = (over if upper else -over for over, upper in beyond)
    return round_done.forward_judgement.objective + PRICE_PER_Gy * sum(e for e in excess_Gy if e > TOLERANCE_Gy)


def _round(planner: Planner, solution: Solution, dose: Dose, level_factor: float, factor: float) -> Round:
    """Predicted and forward dose of a round; the forward dose is judged as it would be normalised (rule 7)."""
    nominal, target = planner.rows.nominal, planner.protocol.prescription.target
    forward_Gy, predicted_Gy = nominal.on_rows(dose.dose_Gy), solution.row_dose_Gy[nominal.part]
    rows = nominal.of.get(target)
    predicted, forward, rms_Gy = {}, {}, 0.0
    if rows is not None:
        predicted = _figures(predicted_Gy[rows.index], rows.weights)
        forward = _figures(forward_Gy[rows.index], rows.weights)
        square = (forward_Gy - predicted_Gy)[rows.index] ** 2
        rms_Gy = float(np.sqrt(np.average(square, weights=rows.weights)))
    scale = factor if abs(factor - 1) <= MOST_SCALING else 1.0
    means_Gy = {name: scale * nominal.mean_of(name, dose.dose_Gy) for name in nominal.mean}
    by_protocol = planner.judge(scale * solution.mu, scale * forward_Gy, [means_Gy], level_factor)
    compared = compared_with_forward(planner, solution, dose, scale)
    return Round(predicted, forward, rms_Gy, solution.judgement, by_protocol, level_factor, compared)


def _figures(dose_Gy: NDArray[np.float64], volume_cc: NDArray[np.float64]) -> dict[str, float]:
    return {
        name: metrics.value_of(dose_Gy, volume_cc, form)
        for name, form in (("D98_Gy", "D98%"), ("D50_Gy", "D50%"), ("D2_Gy", "D2%"), ("HI", "HI"))
    }
