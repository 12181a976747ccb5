"""What is asked of the planner, and how it is to be solved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlinac.protocol.model import Objective

Solver = Literal["interior", "clarabel"]
Progress = Callable[[float, float, str], None]
Held = Mapping[int, NDArray[np.bool_]]
"""By number of a limit on a DVH point: which of its structure's rows the second pass holds."""


@dataclass(frozen=True)
class HeldSum:
    """A weighted sum of objectives that may not exceed a value.

    Attributes
    ----------
    objectives : tuple of Objective
    at_most : float
        In the objectives' own unit.
    """

    objectives: tuple[Objective, ...]
    at_most: float


@dataclass(frozen=True)
class Problem:
    """What is asked, beyond the protocol itself.

    Attributes
    ----------
    escalate : bool
        Maximise the prescription, up to the protocol's cap, instead of the objectives.
    level_factor : float
        Multiplies the prescription that relative dose levels of objectives refer to.
    scaled_later : float
        What the plan will be multiplied by when it is normalised: every limit must hold after that.
    shift_Gy : mapping
        By limit: what all voxels have beyond the rows, where rows stand for several; the limit is lowered by it.
    held : mapping or None
        The second pass of DVH points, by number of the limit; None in the first pass.
    held_sums : tuple of HeldSum
        Objectives of higher priority, each group at the value it reached.
    objectives : tuple of Objective or None
        Instead of the protocol's.
    price : float or None
        Of exceeding a limit, per Gy; by default :data:`mrlinac.optimise.canonical.PRICE_PER_Gy` or, where the
        prescription escalates, :data:`mrlinac.optimise.canonical.ESCALATION_PRICE`.
    constant : float
        Added to the objective.
    """

    escalate: bool = False
    level_factor: float = 1.0
    scaled_later: float = 1.0
    shift_Gy: Mapping[str, float] = field(default_factory=dict)
    held: Held | None = None
    held_sums: tuple[HeldSum, ...] = ()
    objectives: tuple[Objective, ...] | None = None
    price: float | None = None
    constant: float = 0.0


@dataclass(frozen=True)
class SolverOptions:
    """How a problem is solved.

    Attributes
    ----------
    solver : {"interior", "clarabel"}
        ``interior`` exploits the structure; ``clarabel`` states the same programme in cvxpy.
    relative_gap : float
        Proven relative distance to the optimum at which ``interior`` stops.
    relax : bool
        Where the limits cannot all be met: return the plan that exceeds them least (its ``limits`` and its certificate
        say so) instead of raising.
    refinements : int
        How often to solve again where the guess at the dose of the entries cut away was wrong by more than
        :data:`~mrlinac.optimise.solver.cut.CUT_ERROR_Gy`, or where their cost at their rows' prices was not known.
    least : bool
        Where limits are exceeded, find the smallest sum of excesses that any plan has, and plan with that.
    ceiling : bool
        Where the prescription escalates and entries are cut away: find a bound for the whole matrix, too, and refine
        until it is within :data:`~mrlinac.optimise.planner.CEILING_GAPS` gaps. ``clarabel`` finds none.
    progress : callable, optional
        ``progress(done, total, text)``.
    """

    solver: Solver = "interior"
    relative_gap: float = 1e-3
    relax: bool = False
    refinements: int = 1
    least: bool = False
    ceiling: bool = False
    progress: Progress | None = None
