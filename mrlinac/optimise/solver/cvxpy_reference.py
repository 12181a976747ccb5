"""A protocol on rows, stated for cvxpy, and solved by a solver that cvxpy knows.

The independent statement of what `canonical` writes by hand: small problems are solved both ways and must agree.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import cvxpy
import numpy as np

from mrlinac.errors import SolverError
from mrlinac.optimise.canonical import Limit, Programme
from mrlinac.optimise.rows import ScenarioRows
from mrlinac.optimise.solver.interior import Outcome
from mrlinac.protocol import kinds
from mrlinac.protocol.model import Objective

cp: Any = cvxpy  # its functions are not typed


@singledispatch
def expression(of: object, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0) -> Any:
    """The cvxpy expression of a kind over the dose of its structure's rows."""
    raise TypeError(f"no cvxpy expression is registered for {type(of).__name__}")


def _mean(weights: np.ndarray, expression: Any) -> Any:
    return (weights / weights.sum()) @ expression


@expression.register
def _(of: kinds.SquaredOverdose, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0) -> Any:
    return _mean(weights, cp.square(cp.pos(dose - of.level_Gy(prescription_Gy))))


@expression.register
def _(
    of: kinds.SquaredUnderdose, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0
) -> Any:
    return _mean(weights, cp.square(cp.pos(of.level_Gy(prescription_Gy) - dose)))


@expression.register
def _(
    of: kinds.SquaredDeviation, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0
) -> Any:
    return _mean(weights, cp.square(dose - of.level_Gy(prescription_Gy)))


@expression.register
def _(of: kinds.MeanDose, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0) -> Any:
    return _mean(weights, dose)


@expression.register
def _(of: kinds.UpperTail, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0) -> Any:
    share = of.share(weights)
    if share >= 1:
        return _mean(weights, dose)
    level = cp.Variable()
    return level + _mean(weights, cp.pos(dose - level)) / share


@expression.register
def _(of: kinds.LowerTail, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0) -> Any:
    share = of.share(weights)
    if share >= 1:
        return _mean(weights, dose)
    level = cp.Variable()
    return level - _mean(weights, cp.pos(level - dose)) / share


@expression.register
def _(of: kinds.DoseAtVolume, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0) -> Any:
    return expression(of.restriction(upper=True), dose, weights, prescription_Gy)


@expression.register
def _(of: kinds.Geud, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0) -> Any:
    part = (weights / weights.sum()) ** (1 / of.exponent)
    return cp.pnorm(cp.multiply(part, cp.pos(dose)), of.exponent)


@expression.register
def _(of: kinds.MeanEQD2, dose: Any, weights: np.ndarray, prescription_Gy: float, fractions: float = 0) -> Any:
    above = cp.pos(dose)
    return _mean(weights, cp.square(above) / fractions + of.alpha_beta_Gy * above) / (2 + of.alpha_beta_Gy)


def root_mean_square(of: kinds.SquaredKind, dose: Any, weights: np.ndarray, level: Any) -> Any:
    """The cvxpy expression of a squared kind as a limit has it, in Gy; the level may be an expression, too."""
    away = {
        kinds.SquaredOverdose: lambda: cp.pos(dose - level),
        kinds.SquaredUnderdose: lambda: cp.pos(level - dose),
        kinds.SquaredDeviation: lambda: dose - level,
    }[type(of)]()
    return cp.norm(cp.multiply(np.sqrt(weights / weights.sum()), away))


@singledispatch
def fluence_expression(of: object, mu: Any, pairs: np.ndarray, reference_mu: float) -> Any:
    """The cvxpy expression of a kind over the fluence."""
    raise TypeError(f"no cvxpy expression is registered for {type(of).__name__}")


@fluence_expression.register
def _(of: kinds.FluenceSmoothness, mu: Any, pairs: np.ndarray, reference_mu: float) -> Any:
    return cp.sum_squares(mu[pairs[:, 0]] - mu[pairs[:, 1]]) / (len(pairs) * reference_mu**2)


def solve(programme: Programme, solver: str = "CLARABEL", **options: Any) -> Outcome:
    """Solve through cvxpy; the same elastic programme, hence the same optimum as `interior`.

    Raises
    ------
    SolverError
        With the solver's status, unless it is ``optimal``.
    """
    rows, protocol = programme.rows, programme.protocol
    x = cp.Variable(rows.columns, nonneg=True)
    fluence = x + programme.least_x
    prescription = cp.Variable(nonneg=True)
    d = cp.Variable(rows.full.shape[0])  # the dose is stated once: repeated, it costs every solver dearly
    matrix = rows.cut.astype(np.float64) * programme.unit_mu
    statements = [d == matrix @ x + programme.offset_Gy] if d.size else []

    def function(of: kinds.DoseKind, scenario: ScenarioRows, limit: bool = False) -> Any:
        if isinstance(of, kinds.MeanDose):
            offset_Gy = programme.mean_offset_Gy[scenario.number][of.structure]
            return (programme.unit_mu * scenario.mean[of.structure]) @ fluence + offset_Gy
        structure_rows = scenario.stacked(of.structure)
        fractions = protocol.prescription.fractions
        if limit and isinstance(of, kinds.SquaredKind):
            return root_mean_square(of, d[structure_rows.index], structure_rows.weights, level_of(of))
        return expression(of, d[structure_rows.index], structure_rows.weights, programme.prescription_Gy, fractions)

    def level_of(of: kinds.SquaredKind) -> Any:
        if programme.escalates and of.dose_percent is not None:
            return of.dose_percent / 100 * prescription
        return of.level_Gy(protocol.prescription.dose_Gy) / programme.problem.scaled_later

    def weighted(objectives: tuple[Objective, ...]) -> Any:
        total: Any = 0.0
        for objective in objectives:
            if isinstance(objective.of, kinds.DoseKind):
                sign = -1.0 if objective.of.curvature == "concave" else 1.0
                for scenario in rows.scenarios:
                    weight = sign * objective.weight * scenario.share
                    total = total + weight * function(objective.of, scenario)
        return total

    cost = weighted(programme.objectives)
    for objective in programme.objectives:
        if isinstance(objective.of, kinds.FluenceSmoothness) and len(rows.pairs):
            cost = cost + objective.weight * fluence_expression(objective.of, fluence, rows.pairs, 1.0)
    if programme.escalates:
        cost = cost - prescription
    excess = cp.Variable(max(len(programme.bounds), 1), nonneg=True)
    held = []
    limit_of: Limit
    for k, (limit_of, bound) in enumerate(zip(programme.limits, programme.bounds, strict=False)):
        of: kinds.DoseKind = limit_of.constraint.of
        scenario = limit_of.scenario
        limit = bound.fixed_Gy + bound.of_prescription * prescription if bound.of_prescription else bound.fixed_Gy
        if isinstance(of, kinds.DoseAtVolume):
            if bound.by_voxel:
                structure_rows, those = scenario.stacked(of.structure), (programme.problem.held or {})[k]
                over = (
                    (d[structure_rows.index[those]] - limit)
                    if bound.upper
                    else (limit - d[structure_rows.index[those]])
                )
                share = of.share(structure_rows.weights) if bound.upper else 1 - of.share(structure_rows.weights)
                part = structure_rows.weights[those] / (share * structure_rows.weights.sum())
                held.append(part @ cp.pos(over) <= programme.right(k) + excess[k])
                continue
            of = of.restriction(bound.upper)
        value = function(of, scenario, limit=True)
        held.append(value <= limit + excess[k] if bound.upper else value >= limit - excess[k])
    for held_sum in programme.held_sums:
        held.append(weighted(held_sum.objectives) <= held_sum.at_most + excess[len(held)])
    if programme.escalates:
        held.append(prescription <= float(programme.cap_Gy or 0) + excess[len(held)])
    problem = cp.Problem(cp.Minimize(cost + programme.price * cp.sum(excess)), statements + held)
    try:
        problem.solve(solver=solver, **options)
    except cp.error.SolverError as error:
        raise SolverError(f"{solver}: {error}") from error
    if problem.status != cp.OPTIMAL:
        raise SolverError(f"{solver} ended with status '{problem.status}': not a solution")
    dual = np.array([float(np.squeeze(h.dual_value)) for h in held])
    stats = problem.solver_stats
    return Outcome(
        np.maximum(np.asarray(x.value), 0),
        np.array([float(prescription.value)]) if programme.escalates else np.zeros(0),
        np.asarray(excess.value)[: len(held)],
        dual,
        float(problem.value),
        float(problem.value),
        int(stats.num_iters or 0),
        True,
    )
