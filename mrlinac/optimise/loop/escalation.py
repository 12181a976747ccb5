"""Isotoxic planning: the highest prescription that the organs' limits allow, and a good plan there.

Each round asks three convex questions. How high may the prescription be, DVH statements replaced by the mean tails that
imply them (the convex bound)? How high, once the voxels with least room are freed (the second pass)? What is the best
plan a stated slip below that? The forward dose of that plan decides what may be prescribed (`allowed_prescription`). Its
difference from the influence's dose enters the next round as an offset.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.errors import SpecError
from mrlinac.machine.delivery import Delivery
from mrlinac.optimise import hidden
from mrlinac.optimise.loop.allowed_prescription import MOST_SCALING, AllowedPrescription, prescribe_allowed
from mrlinac.optimise.loop.correction import running_mean
from mrlinac.optimise.loop.planned import Finished, Forward
from mrlinac.optimise.loop.predicted_vs_forward import PredictedVsForward, compared_with_forward, nothing_left
from mrlinac.optimise.planner import Planner
from mrlinac.optimise.problem import Held, Problem, SolverOptions
from mrlinac.optimise.row_dose import RowDose
from mrlinac.optimise.solution import COLD, Solution, WarmStart
from mrlinac.protocol import kinds
from mrlinac.protocol.escalation import Escalation
from mrlinac.protocol.model import Constraint, Prescription, Protocol

SAME_Gy = 0.02
"""The number of fractions is found when the prescription moves by less."""
FAIR = 2e-2
"""Gap to which a solution is fair enough to see where it would be hot."""
ROOM = 0.98
"""Of the volume of a condition at the floor that a plan is made for: it is all or nothing, and rows are not voxels."""
HIGHEST_GAP = 2e-3
"""Relative gap to which the highest prescription is found, at best."""
REFINEMENTS = 2
"""How often the convex bound's problem is solved again, at most, until its bound is near for the whole matrix."""
FINER = 2
"""How often in a round rows are made finer, at most."""
FREE = 1e-2
"""A price below this (Gy of prescription per Gy of a limit) counts as none: at the gap that the highest prescription is
known to, a limit with a Gy of room can have a thousandth."""


@dataclass(frozen=True)
class Highest:
    """How high the prescription may be, by the model.

    Attributes
    ----------
    bound_Gy : float
        No plan that keeps the mean tails reaches more: a dual bound for the rows and the whole influence. By ``clarabel``
        for the entries that are not cut away only.
    restricted_Gy : float
        A plan that keeps them reaches this.
    second_pass_Gy : float
        A plan that keeps the DVH statements themselves reaches this.
    prices : dict
        By limit: Gy of prescription that a Gy more of it would allow, all else held.
    solution : Solution
        Of the second pass.
    """

    bound_Gy: float
    restricted_Gy: float
    second_pass_Gy: float
    prices: dict[str, float]
    solution: Solution


@dataclass(frozen=True)
class EscalationRound:
    """One round: what the model allows, what was aimed at, and what the forward dose allows.

    Attributes
    ----------
    highest : Highest
    aimed_Gy, aimed_fractions : float, int
        The prescription that the plan was made for.
    allowed : AllowedPrescription
        By the forward dose.
    target_met : bool
        Whether the forward dose keeps the limits that move with the prescription.
    comparisons : tuple of PredictedVsForward
    """

    highest: Highest
    aimed_Gy: float
    aimed_fractions: int
    allowed: AllowedPrescription
    target_met: bool
    comparisons: tuple[PredictedVsForward, ...] = ()


@dataclass(frozen=True)
class Escalated:
    """The result of the loop.

    Attributes
    ----------
    delivery : Delivery
        Of one fraction, scaled to the prescription.
    sampled : Sampled
        Forward dose of the course, in the structures.
    unscaled : Delivery
        As it was planned, for another forward dose.
    solution : Solution
        The solve that the delivery came from.
    history : tuple of EscalationRound
    chosen : int
    planner : Planner
        Of the chosen round, at the prescription aimed at.
    """

    delivery: Delivery
    sampled: Sampled
    unscaled: Delivery
    solution: Solution
    history: tuple[EscalationRound, ...]
    chosen: int
    planner: Planner = field(repr=False, compare=False)

    @property
    def dose(self) -> Dose:
        """Forward dose of the course."""
        return self.sampled.dose

    @property
    def round(self) -> EscalationRound:
        """The round that the result is of."""
        return self.history[self.chosen]

    @property
    def comparisons(self) -> tuple[tuple[PredictedVsForward, ...], ...]:
        """Of each round."""
        return tuple(round_done.comparisons for round_done in self.history)

    def finish(self, protocol: Protocol, fraction: Sampled | None = None) -> Finished:
        """At the prescription that the loop's dose allows, or another of one fraction.

        Parameters
        ----------
        protocol : Protocol
            At the floor.
        fraction : Sampled, optional
            Another forward dose of one fraction of :attr:`unscaled`.

        Returns
        -------
        Finished
        """
        delivery, course, allowed = self.delivery, self.sampled, self.round.allowed
        if fraction is not None:
            delivery, course, allowed = prescribe_allowed(protocol, self.unscaled, fraction, self.round.aimed_Gy)
        at = protocol.at(allowed.dose_Gy, allowed.fractions)
        return Finished(delivery, course, at, allowed=allowed, anew=fraction is not None)


def highest(
    planner: Planner,
    *,
    shift_Gy: Mapping[str, float] | None = None,
    options: SolverOptions | None = None,
    warm: WarmStart = COLD,
) -> Highest:
    """The highest prescription by the model, in both passes.

    Where fractions are added, EQD2 depends on their number n too, D²/n being convex in both. For a given n the problem
    is the same as with fixed fractions; where the n found is the n put in, its multipliers, divided by 1 - dp/dn over the
    dose of a fraction, are those of the joint problem, which is thereby solved.

    Parameters
    ----------
    planner : Planner
        At the floor of a protocol with a table ``escalation``.
    shift_Gy : mapping, optional
        See :class:`~mrlinac.optimise.problem.Problem`.
    options : SolverOptions, optional
        ``solver``, ``relative_gap`` and ``progress`` count.
    warm : WarmStart

    Returns
    -------
    Highest

    Raises
    ------
    SpecError
        The protocol does not escalate.
    """
    options = options or SolverOptions()
    protocol = planner.protocol
    rx, escalation = protocol.prescription, protocol.escalation
    if escalation is None:
        raise SpecError(f"protocol {protocol.name} has no table 'escalation'")
    depends = escalation.by == "fractions" and any(isinstance(c.of, kinds.MeanEQD2) for c in protocol.constraints)

    def at(count: float, held: Held | None, near: WarmStart) -> Solution:
        there = planner.at(count * rx.fraction_Gy, count) if depends else planner
        first_pass = held is None
        problem = Problem(escalate=True, held=held, shift_Gy=shift_Gy or {})
        refinements = REFINEMENTS if first_pass else 0
        return there.once(problem, replace(options, relax=True, refinements=refinements, ceiling=first_pass), near)

    def joint(held: Held | None, count: float, near: WarmStart) -> _Joint:
        solution, slope = at(count, held, near), 0.0
        for _ in range(8 if depends else 0):
            p_Gy = float(solution.prescription_Gy or 0)
            if abs(p_Gy - count * rx.fraction_Gy) < SAME_Gy:
                break
            # Newton's step with the slope of the last two, which is small: more fractions allow a little more dose.
            next_count = (p_Gy / rx.fraction_Gy - slope * count) / (1 - slope)
            before, before_Gy = count, p_Gy
            count = float(np.clip(next_count, 1.0, 1.2 * escalation.cap_Gy / rx.fraction_Gy))
            solution = at(count, held, WarmStart(solution))
            if abs(count - before) > 1e-6:
                slope = (float(solution.prescription_Gy or 0) - before_Gy) / (count - before) / rx.fraction_Gy
                slope = float(np.clip(slope, 0.0, 0.9))
        return _Joint(solution, count, slope)

    first = second = joint(None, rx.fractions, warm)
    slope = first.slope
    if held := planner.held_by(first.solution.row_dose_Gy):
        second = joint(held, first.fractions, WarmStart(first.solution))
        slope = second.slope or slope  # where the number was right at once, the first pass knows it
    restricted_Gy, second_pass_Gy = (float(pass_.solution.prescription_Gy or 0) for pass_ in (first, second))
    ceiling_Gy = first.solution.ceiling_Gy
    bound_Gy = -first.solution.certificate.dual_bound if ceiling_Gy is None else ceiling_Gy
    return Highest(
        min(bound_Gy, escalation.cap_Gy),
        restricted_Gy,
        max(second_pass_Gy, restricted_Gy),
        {limit.name: limit.dual_per_Gy / (1 - slope) for limit in second.solution.limits},
        second.solution,
    )


@dataclass(frozen=True)
class _Joint:
    """A solution, its number of fractions, and dp/dn over the dose of a fraction."""

    solution: Solution
    fractions: float
    slope: float


def escalate(
    planner: Planner, forward: Forward, *, rounds: int = 1, options: SolverOptions | None = None
) -> Escalated:
    """Find the isotoxic prescription and a plan for it, with forward doses in the loop.

    Parameters
    ----------
    planner : Planner
        Influence, structures and a protocol with a table ``escalation``.
    forward : callable
        The dose of one fraction of a delivery.
    rounds : int
        Most corrections after the first plan; one more if the forward dose then allows less than 99 % of what was aimed
        at. None after a forward dose that is as predicted and allows as much as the predicted dose, within its noise,
        and hardly more.
    options : SolverOptions, optional
        ``solver``, ``relative_gap`` and ``progress`` count.

    Returns
    -------
    Escalated
        Of the round with the highest prescription, among those whose target is as asked for.

    Raises
    ------
    SpecError
        The protocol does not escalate.
    SolverError
        The solver failed.
    """
    options = replace(options or SolverOptions(), relax=True)
    protocol = planner.protocol
    escalation, rx = protocol.escalation, protocol.prescription
    if escalation is None:
        raise SpecError(f"protocol {protocol.name} has no table 'escalation'")
    offset_Gy: NDArray[np.float32] | None = None
    shift_Gy: dict[str, float] = {}
    best: Highest | None = None
    forwarded: list[_Forwarded] = []
    fraction: Sampled | None = None
    most_Gy, most_rounds = np.inf, rounds + 1
    while len(forwarded) < most_rounds:
        planner = planner.with_offset(offset_Gy)
        if best is None:
            planner, near = _finer_at_the_highest(planner, options)
            warm = WarmStart(near)
        else:
            warm = WarmStart(best.solution, forwarded[-1].solution.mu)
        coarse = replace(options, relative_gap=max(options.relative_gap, HIGHEST_GAP))
        best = highest(planner, shift_Gy=shift_Gy, options=coarse, warm=warm)
        plan = _planned(protocol, planner, best, _rounded_aim(best, escalation, rx, most_Gy), options)
        planner = plan.planner.at(rx.dose_Gy, rx.fractions).asking(protocol)
        fraction = Sampled(forward(plan.delivery), planner.nominal.structures, like=fraction)
        forwarded.append(_forwarded(protocol, best, plan, fraction))
        if _as_predicted(protocol, plan, fraction, forwarded[-1].round):
            break
        course = fraction.course(plan.fractions)
        difference_Gy = course.dose.dose_Gy - planner.influence_Gy(plan.solution.delivery)
        offset_Gy = running_mean(offset_Gy, difference_Gy, len(forwarded))
        shift_Gy = hidden.beyond_rows(plan.planner.rows, plan.planner.protocol, course)
        allowed_Gy = forwarded[-1].round.allowed.allowed_Gy
        too_high = plan.aimed_Gy > rx.dose_Gy and allowed_Gy < (1 - MOST_SCALING) * plan.aimed_Gy
        if too_high and len(forwarded) == rounds + 1:
            most_Gy, most_rounds = allowed_Gy, rounds + 2
    chosen = max(range(len(forwarded)), key=lambda i: _rank(forwarded[i].round))
    best_round, history = forwarded[chosen], tuple(forwarded_round.round for forwarded_round in forwarded)
    return Escalated(
        best_round.delivery,
        best_round.sampled,
        best_round.unscaled,
        best_round.solution,
        history,
        chosen,
        best_round.planner,
    )


@dataclass(frozen=True)
class _Plan:
    """A plan by the model for one fraction of a prescription; the planner is at this prescription."""

    planner: Planner
    aimed_Gy: float
    fractions: int
    solution: Solution

    @property
    def delivery(self) -> Delivery:
        """The rows are of the floor's fractions: so many more of them share the course's MU."""
        floor = self.planner.rows_fractions
        return self.solution.delivery.times(floor / self.fractions)


@dataclass(frozen=True)
class _Forwarded:
    """What is kept of a round: its plan as it was planned, and at the prescription that its forward dose allows."""

    planner: Planner
    solution: Solution
    unscaled: Delivery
    delivery: Delivery
    sampled: Sampled
    round: EscalationRound


def _planned(
    protocol: Protocol, planner: Planner, best: Highest, aim: tuple[float, int], options: SolverOptions
) -> _Plan:
    """The best plan for a prescription (Gy, fractions), on rows that are made finer where it is too hot between them."""
    highest_Gy = planner.predicted_Gy(best.solution.delivery)
    predicted = planner.sampled(best.solution.delivery)
    there, start = planner.at(*aim).asking(with_conditions(protocol, planner)), best.solution
    plan: _Plan | None = None
    for again in range(1 + FINER):
        problem = Problem(
            shift_Gy=hidden.beyond_rows(there.rows, there.protocol, predicted),
            held=there.held_by(there.rows.nominal.on_rows(highest_Gy)),
        )
        solution = there.solve(problem, replace(options, refinements=1), WarmStart(start))
        if plan is not None and plan.solution.feasible and not solution.feasible:
            break  # such rows make it infeasible: back to the cubes
        plan = _Plan(there, *aim, solution)
        finer = there if again == FINER else there.finer_where(there.predicted_Gy(solution.delivery))
        if finer is there:
            break
        there, start = finer, solution
    assert plan is not None
    return plan


def _forwarded(protocol: Protocol, best: Highest, plan: _Plan, fraction: Sampled) -> _Forwarded:
    """The prescription that a plan's forward dose allows, and how that dose compares with the predicted one."""
    course = fraction.dose.course(plan.fractions)
    delivery, sampled, allowed = prescribe_allowed(protocol, plan.delivery, fraction, plan.aimed_Gy)
    median_Gy = fraction.metric(protocol.prescription.target, "D50%", scatter=False).value
    factor = plan.aimed_Gy / plan.fractions / median_Gy
    scale = factor if abs(factor - 1) <= MOST_SCALING else 1.0
    compared = compared_with_forward(plan.planner, plan.solution, course, scale)
    met = _target_met(plan.planner, sampled.dose)
    done = EscalationRound(best, plan.aimed_Gy, plan.fractions, allowed, met, compared)
    return _Forwarded(plan.planner, plan.solution, plan.delivery, delivery, sampled, done)


def _as_predicted(protocol: Protocol, plan: _Plan, fraction: Sampled, done: EscalationRound) -> bool:
    """Whether a forward dose is as predicted and allows as much as the predicted dose of the same plan."""
    if not nothing_left(plan.solution, done.comparisons):
        return False
    course = plan.planner.sampled(plan.solution.delivery, like=fraction)
    model = course.times(1 / plan.fractions, fractions=1)
    by_model = prescribe_allowed(protocol, plan.delivery, model, plan.aimed_Gy)[2]
    sigma_Gy = done.allowed.limits[0].sigma_Gy if done.allowed.limits else math.nan
    return _as_much(by_model.allowed_Gy, done.allowed.allowed_Gy, sigma_Gy)


def _finer_at_the_highest(planner: Planner, options: SolverOptions) -> tuple[Planner, Solution]:
    """Rows that know the hot spots of a fair solution for the highest prescription, and that solution."""
    rx = planner.protocol.prescription
    fair = replace(options, relative_gap=FAIR, refinements=0)
    warm = COLD
    coarser: tuple[Planner, Solution] | None = None
    for _ in range(1 + FINER):
        solution = planner.once(Problem(escalate=True), fair, warm)
        warm = WarmStart(solution)
        p_Gy = float(solution.prescription_Gy or rx.dose_Gy)
        if coarser is not None and p_Gy < rx.dose_Gy <= float(coarser[1].prescription_Gy or 0):
            return coarser  # what single voxels of a noisy influence cannot keep is not worth the floor
        coarser = planner, solution
        there = planner.at(p_Gy, planner.fractions_of(p_Gy))
        finer = there.finer_where(planner.predicted_Gy(solution.delivery))
        if finer is there:
            break
        planner = finer.at(rx.dose_Gy, rx.fractions)
    return planner, solution


def with_conditions(protocol: Protocol, planner: Planner) -> Protocol:
    """The protocol with its conditions at the floor as limits, where they are a point of the DVH of a structure with rows.

    V20 of at most 35 % at 63 Gy is D35 % of at most 20/63 of the prescription, whatever that is.
    """
    floor_Gy, added = protocol.prescription.dose_Gy, []
    for goal in protocol.goals:
        wanted = metrics.parse(goal.metric)
        point = wanted.form == "volume_at" and wanted.unit == "%" and wanted.level_unit == "Gy"
        if not (point and goal.at_floor and goal.structure in planner.rows.nominal.of):
            continue
        if goal.at_most is not None and 0 < goal.at_most < 100:
            level_Gy = goal.for_prescription(wanted.level, protocol.prescription)
            added.append(
                Constraint(
                    of=kinds.DoseAtVolume(structure=goal.structure, volume_percent=ROOM * goal.at_most),
                    at_most_percent=100 * level_Gy / floor_Gy,
                    source=goal.source,
                    optional=goal.optional,
                )
            )
    return protocol.model_copy(update={"constraints": (*protocol.constraints, *added)})


def _aim(best: Highest, escalation: Escalation) -> float:
    """What to plan for: a slip below the highest prescription, or the cap itself where no limit asks for a price there.

    The slip buys freedom where an organ's limit has used it up; at a free cap there is enough.
    """
    at_cap = best.second_pass_Gy >= escalation.cap_Gy - SAME_Gy
    if at_cap and max(best.prices.values(), default=0.0) < FREE:
        return escalation.cap_Gy
    return (1 - escalation.slip_percent / 100) * best.second_pass_Gy


def _rounded_aim(best: Highest, escalation: Escalation, rx: Prescription, most_Gy: float) -> tuple[float, int]:
    """Dose and fractions to plan for: the aim rounded down, at least the floor."""
    aimed_Gy, fractions = escalation.rounded_down(min(_aim(best, escalation), most_Gy), rx.dose_Gy, rx.fractions)
    return (aimed_Gy, fractions) if aimed_Gy >= rx.dose_Gy else (rx.dose_Gy, rx.fractions)


def _as_much(model_Gy: float, forward_Gy: float, sigma_Gy: float) -> bool:
    """Whether the forward dose allows what the model's does: neither less than its noise explains nor more than scaling
    can use."""
    if not np.isfinite([model_Gy, forward_Gy]).all():  # no limit that the dose comes near
        return model_Gy == forward_Gy
    spread_Gy = sigma_Gy if np.isfinite(sigma_Gy) else 0.0
    return -max(spread_Gy, SAME_Gy) <= forward_Gy - model_Gy <= max(spread_Gy, MOST_SCALING * model_Gy)


def _rank(round_done: EscalationRound) -> tuple[bool, bool, bool, float, float]:
    scaled = round_done.allowed.dose_Gy / round_done.aimed_Gy
    allowed = round_done.allowed
    return allowed.eligible, round_done.target_met, scaled >= 1 - MOST_SCALING, allowed.dose_Gy, allowed.allowed_Gy


def _target_met(planner: Planner, dose: Dose) -> bool:
    """Whether the forward dose, less the bias of its noise, keeps the limits that move with the prescription, within a
    hundredth of it."""
    rx, on_rows = planner.protocol.prescription, RowDose(planner.rows.nominal, dose)
    for constraint in planner.protocol.constraints:
        of = constraint.of
        if not constraint.relative or of.structure not in planner.rows.nominal.of:
            continue
        value = partial(of.limit_value, prescription_Gy=rx.dose_Gy, fractions=rx.fractions)
        value_Gy = on_rows.figure(of.structure, value).value
        limit_Gy = constraint.limit_Gy(rx)
        if (value_Gy - limit_Gy) * (1 if constraint.upper else -1) > MOST_SCALING * rx.dose_Gy:
            return False
    return True
