"""The dose-difference loop: plan, compute the real dose, give the difference back to the planner, plan again.

What an influence leaves out (its noise, small entries cut away, beamlets that add up a little differently) is added
to the prediction as a fixed dose. The offset is the running average over the rounds, so that the noise of one forward
dose is not chased. The loop ends where the forward dose keeps what the model promised, within its own noise (`promise`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.dose.influence import Influence
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.delivery import Fluence
from mrlinac.optimise import hidden
from mrlinac.optimise.canonical import PRICE_PER_Gy
from mrlinac.optimise.loop.allowed_prescription import MOST_SCALING
from mrlinac.optimise.loop.planned import Finished, Normalisation
from mrlinac.optimise.loop.predicted_vs_forward import Promise, kept, promises
from mrlinac.optimise.planner import Planner, Progress, Solver
from mrlinac.optimise.solution import Judgement, Solution, TOLERANCE_Gy
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Protocol

MOST_BELOW = 0.03
"""Of a tail's limit by which a round may aim below it: more is not the plan's fault, but a rough dose's."""


@dataclass(frozen=True)
class Round:
    """One round: what the model promised and what the forward dose kept, on the target and for the protocol.

    Attributes
    ----------
    predicted, forward : dict
        D98, D50, D2 (Gy) and HI of the prescription's target, on the solver's rows.
    rms_difference_Gy : float
        Over the target's rows.
    promised, kept : Judgement
        Objective and limits for the predicted and for the forward dose.
    level_factor : float
        The prescription the round aimed at, over the protocol's.
    promises : tuple of Promise
        The target's metrics and every limit, each with its noise and whether it was kept.
    """

    predicted: dict[str, float]
    forward: dict[str, float]
    rms_difference_Gy: float
    promised: Judgement
    kept: Judgement
    level_factor: float
    promises: tuple[Promise, ...] = ()


@dataclass(frozen=True)
class Correction:
    """The result of the loop.

    Attributes
    ----------
    fluence : Fluence
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
    """

    fluence: Fluence
    sampled: Sampled
    solution: Solution
    history: tuple[Round, ...]
    chosen: int
    normalisation: Normalisation
    offset_Gy: NDArray[np.float32]

    @property
    def dose(self) -> Dose:
        """Forward dose of the course."""
        return self.sampled.dose

    @property
    def unscaled(self) -> Fluence:
        """As it was planned."""
        return self.solution.fluence

    @property
    def promises(self) -> tuple[tuple[Promise, ...], ...]:
        """Of each round."""
        return tuple(one.promises for one in self.history)

    def finish(self, protocol: Protocol, one: Sampled | None = None) -> Finished:
        """Normalised to the prescription, by the loop's dose or by another of one fraction."""
        if one is None:
            return Finished(self.fluence, self.sampled, protocol, self.normalisation)
        course = one.course(protocol.prescription.fractions)
        fluence, course, normalisation = normalise(self.solution.fluence, course, protocol)
        return Finished(fluence, course, protocol, normalisation, anew=True)


def correct(
    influence: Influence,
    structures: StructureSet,
    protocol: Protocol,
    forward: Callable[[Fluence], Dose],
    *,
    rounds: int = 2,
    planner: Planner | None = None,
    solver: Solver = "interior",
    relative_gap: float = 1e-3,
    relax: bool = False,
    progress: Progress | None = None,
) -> Correction:
    """Plan with forward doses in the loop, and normalise.

    Parameters
    ----------
    influence, structures, protocol
        As for :func:`mrlinac.optimise.solve`.
    forward : callable
        The dose of one fraction of a fluence.
    rounds : int
        Most corrections after the first plan: up to ``rounds + 1`` plans and forward doses, one more if the target's
        median dose is then still further than 1 % from the prescription. None after a forward dose that keeps the
        model's promise.
    planner : Planner, optional
        Prepared rows, to save their preparation or to choose them otherwise.
    relax : bool
        Go on with the least relaxation where limits cannot be met.

    Returns
    -------
    Correction
        Of the round whose *forward* dose does best by the protocol: limits first, then the objective.

    Raises
    ------
    SolverError
        See :func:`mrlinac.optimise.solve`.
    """
    planner = planner or Planner(influence, structures, protocol)
    rx = protocol.prescription
    offset: NDArray[np.float32] | None = None
    guess: NDArray[np.float64] | None = None
    level_factor = scaled_later = 1.0
    shift: dict[str, float] = {}
    history: list[Round] = []
    found: list[tuple[Solution, Sampled]] = []
    extra = 0
    while len(found) < rounds + 1 + extra:
        solution = planner.solve(
            offset_Gy=offset,
            level_factor=level_factor,
            scaled_later=scaled_later,
            shift_Gy=shift,
            solver=solver,
            relative_gap=relative_gap,  # any round may be the last
            relax=relax,
            guess_mu=guess,  # the entries cut away are taken at the last round's fluence …
            refinements=0 if found else 1,  # … so that only the first needs to find it
            start=found[-1][0] if found else None,
            progress=progress,
        )
        if not found:
            solution, shift = _between_rows(planner, structures, solution, solver, relative_gap, relax, progress)
        guess = solution.fluence.vector
        dose = forward(solution.fluence).course(rx.fractions)
        sampled = Sampled(dose, structures, like=found[-1][1] if found else None)
        factor = _factor(sampled, protocol)
        history.append(_round(planner, solution, dose, level_factor, factor))
        found.append((solution, sampled))
        difference = dose.dose_Gy - planner.model_Gy(solution.fluence)
        offset = difference if offset is None else offset + (difference - offset) / np.float32(len(found))
        if abs(factor - 1) <= MOST_SCALING and kept(solution, history[-1].promises):
            break
        beyond = hidden.beyond_rows(planner.rows, protocol, sampled)
        shift = beyond | _below(protocol, history[-1].promises, beyond)
        last = len(found) == rounds + 1 + extra
        # Upwards only: a limit that a smaller dose would leave room under is not loosened.
        scaled_later = min(max(factor, 1.0), 1.0 + MOST_SCALING)
        if last and abs(factor - 1) > MOST_SCALING and extra == 0:
            # The offset takes care of what the model got wrong; the aim of what the optimum itself leaves.
            promised_Gy = history[-1].predicted.get("D50_Gy", rx.dose_Gy)
            extra, level_factor = 1, level_factor * rx.dose_Gy / promised_Gy
    chosen = _best(history, [_factor(sampled, protocol) for _, sampled in found])
    solution, sampled = found[chosen]
    fluence, sampled, normalisation = normalise(solution.fluence, sampled, protocol)
    assert offset is not None  # at least one round has run
    return Correction(fluence, sampled, solution, tuple(history), chosen, normalisation, offset)


def _between_rows(
    planner: Planner,
    structures: StructureSet,
    solution: Solution,
    solver: Solver,
    relative_gap: float,
    relax: bool,
    progress: Progress | None,
) -> tuple[Solution, dict[str, float]]:
    """A first plan whose limits hold between the rows too, and by how much they are beyond them there."""
    shift = hidden.beyond_rows(planner.rows, planner.protocol, planner.sampled(solution.fluence, structures))
    known = (limit for limit in solution.limits if limit.upper and limit.name in shift)
    if all(limit.value_Gy + shift[limit.name] <= limit.limit_Gy + hidden.HIDDEN_Gy for limit in known):
        return solution, shift
    again = planner.solve(
        shift_Gy=shift,
        solver=solver,
        relative_gap=relative_gap,
        relax=relax,
        guess_mu=solution.fluence.vector,
        refinements=0,
        start=solution,
        progress=progress,
    )
    return again, shift


def _below(protocol: Protocol, said: tuple[Promise, ...], between_Gy: Mapping[str, float]) -> dict[str, float]:
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
    found = {}
    for one in said:
        if one.name not in limits:
            continue
        (limit_Gy, is_mean), between = limits[one.name], between_Gy.get(one.name, 0.0)
        forward, sigma = one.forward - one.noise_bias, one.sigma if np.isfinite(one.sigma) else 0.0
        if forward + between + sigma > limit_Gy + TOLERANCE_Gy:
            beyond = 0.0 if is_mean else max(forward - one.promised, 0.0)
            found[one.name] = between + min(beyond + sigma, MOST_BELOW * limit_Gy)
    return found


def normalise(fluence: Fluence, course: Sampled, protocol: Protocol) -> tuple[Fluence, Sampled, Normalisation]:
    """Scale fluence and course dose so that D50 of the target is the prescription, if that takes at most 1 %.

    Returns
    -------
    fluence, course
        Scaled, or as given where the factor is further from 1 than rule 7 allows.
    Normalisation
        The factor, and whether it was applied.
    """
    factor = _factor(course, protocol)
    if abs(factor - 1) > MOST_SCALING:
        return fluence, course, Normalisation(factor, False)
    return fluence.times(factor), course.times(factor), Normalisation(factor, True)


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


def _penalised(one: Round) -> float:
    """A round's objective with the price of every limit exceeded, less what noise alone adds to it (rule 15)."""
    bias_Gy = {p.name: p.noise_bias for p in one.promises if np.isfinite(p.noise_bias)}
    beyond = (
        (limit.value_Gy - bias_Gy.get(limit.name, 0.0) - limit.limit_Gy, limit.upper) for limit in one.kept.limits
    )
    excess_Gy = (over if upper else -over for over, upper in beyond)
    return one.kept.objective + PRICE_PER_Gy * sum(e for e in excess_Gy if e > TOLERANCE_Gy)


def _round(planner: Planner, solution: Solution, dose: Dose, level_factor: float, factor: float) -> Round:
    """What was promised and kept; the forward dose is judged as it would be normalised (rule 7)."""
    rows, target = planner.rows, planner.protocol.prescription.target
    mu = solution.fluence.vector
    forward_Gy = rows.on_rows(dose.dose_Gy)
    mine = rows.of.get(target)
    predicted, forward, rms = {}, {}, 0.0
    if mine is not None:
        predicted = _figures(solution.row_dose_Gy[mine.rows], mine.weights)
        forward = _figures(forward_Gy[mine.rows], mine.weights)
        square = (forward_Gy - solution.row_dose_Gy)[mine.rows] ** 2
        rms = float(np.sqrt(np.average(square, weights=mine.weights)))
    scale = factor if abs(factor - 1) <= MOST_SCALING else 1.0
    means = {name: scale * rows.mean_of(name, dose.dose_Gy) for name in rows.mean}
    by_protocol = planner.judge(scale * mu, scale * forward_Gy, means, level_factor)
    said = promises(planner, solution, dose, scale)
    return Round(predicted, forward, rms, solution.judgement, by_protocol, level_factor, said)


def _figures(dose_Gy: NDArray[np.float64], volume_cc: NDArray[np.float64]) -> dict[str, float]:
    return {
        name: metrics.value_of(dose_Gy, volume_cc, form)
        for name, form in (("D98_Gy", "D98%"), ("D50_Gy", "D50%"), ("D2_Gy", "D2%"), ("HI", "HI"))
    }
