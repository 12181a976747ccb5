"""A protocol on rows, stated for cvxpy, and solved by a solver that cvxpy knows.

The independent statement of what `canonical` writes by hand: small problems are solved both ways and must agree.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import cvxpy
import numpy as np

from mrlinac.errors import SolverError
from mrlinac.optimise.canonical import Programme
from mrlinac.optimise.interior import Outcome
from mrlinac.protocol import kinds

cp: Any = cvxpy  # its functions are not typed


@singledispatch
def expression(of: object, dose: Any, weights: np.ndarray, prescription_Gy: float) -> Any:
    """The cvxpy expression of a kind over the dose of its structure's rows."""
    raise TypeError(f"no cvxpy expression is registered for {type(of).__name__}")


def _mean(weights: np.ndarray, expression: Any) -> Any:
    return (weights / weights.sum()) @ expression


@expression.register
def _(of: kinds.SquaredOverdose, dose: Any, weights: np.ndarray, prescription_Gy: float) -> Any:
    return _mean(weights, cp.square(cp.pos(dose - of.level_Gy(prescription_Gy))))


@expression.register
def _(of: kinds.SquaredUnderdose, dose: Any, weights: np.ndarray, prescription_Gy: float) -> Any:
    return _mean(weights, cp.square(cp.pos(of.level_Gy(prescription_Gy) - dose)))


@expression.register
def _(of: kinds.SquaredDeviation, dose: Any, weights: np.ndarray, prescription_Gy: float) -> Any:
    return _mean(weights, cp.square(dose - of.level_Gy(prescription_Gy)))


@expression.register
def _(of: kinds.MeanDose, dose: Any, weights: np.ndarray, prescription_Gy: float) -> Any:
    return _mean(weights, dose)


@expression.register
def _(of: kinds.UpperTail, dose: Any, weights: np.ndarray, prescription_Gy: float) -> Any:
    share = of.share(weights)
    if share >= 1:
        return _mean(weights, dose)
    level = cp.Variable()
    return level + _mean(weights, cp.pos(dose - level)) / share


@expression.register
def _(of: kinds.LowerTail, dose: Any, weights: np.ndarray, prescription_Gy: float) -> Any:
    share = of.share(weights)
    if share >= 1:
        return _mean(weights, dose)
    level = cp.Variable()
    return level - _mean(weights, cp.pos(level - dose)) / share


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
    x = cp.Variable(rows.beamlets, nonneg=True)
    d = cp.Variable(rows.full.shape[0])  # the dose is stated once: repeated, it costs every solver dearly
    matrix = rows.cut.astype(np.float64) * programme.unit_mu
    statements = [d == matrix @ x + programme.offset] if d.size else []

    def function(of: kinds.DoseKind) -> Any:
        if isinstance(of, kinds.MeanDose):
            return (programme.unit_mu * rows.mean[of.structure]) @ x + programme.mean_offset[of.structure]
        mine = rows.of[of.structure]
        return expression(of, d[mine.rows], mine.weights, programme.prescription_Gy)

    cost: Any = 0.0
    for objective in protocol.objectives:
        if isinstance(objective.of, kinds.DoseKind):
            sign = -1.0 if objective.of.curvature == "concave" else 1.0
            cost = cost + sign * objective.weight * function(objective.of)
        elif len(rows.pairs):
            cost = cost + objective.weight * fluence_expression(objective.of, x, rows.pairs, 1.0)
    excess = cp.Variable(max(len(programme.names), 1), nonneg=True)
    held = []
    used = [c for c in protocol.constraints if c.of.structure in rows.mean]
    for k, (constraint, limit_Gy) in enumerate(zip(used, programme.limits_Gy, strict=True)):
        value = function(constraint.of)
        held.append(value <= limit_Gy + excess[k] if constraint.upper else value >= limit_Gy - excess[k])
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
        np.zeros(0),
        np.asarray(excess.value)[: len(held)],
        dual,
        float(problem.value),
        float(problem.value),
        int(stats.num_iters or 0),
        True,
    )
