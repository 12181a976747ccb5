"""What a solve hands back: a fluence, and what it reached on the solver's rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mrlinac.machine.beams import Fluence
from mrlinac.optimise.canonical import Held
from mrlinac.optimise.rows import Thinning


@dataclass(frozen=True)
class LimitState:
    """One hard limit at the solution, on the solver's rows.

    Attributes
    ----------
    name : str
    value_Gy, limit_Gy : float
    upper : bool
    met : bool
    excess_Gy : float
        By how much the limit had to be relaxed.
    dual_per_Gy : float
        What 1 Gy more room would take off the objective.
    source : str
    """

    name: str
    value_Gy: float
    limit_Gy: float
    upper: bool
    met: bool
    excess_Gy: float
    dual_per_Gy: float
    source: str


@dataclass(frozen=True)
class ObjectiveState:
    """One objective at the solution, on the solver's rows."""

    name: str
    weight: float
    value: float
    unit: str


@dataclass(frozen=True)
class Judgement:
    """A dose on the rows, by the protocol.

    Attributes
    ----------
    objectives, limits : tuples
    objective : float
        The weighted sum.
    penalised : float
        With the price of every limit exceeded.
    """

    objectives: tuple[ObjectiveState, ...]
    limits: tuple[LimitState, ...]
    objective: float
    penalised: float


@dataclass(frozen=True)
class Solution:
    """A fluence and all that was found out on the way.

    Attributes
    ----------
    fluence : Fluence
        With its certificate.
    judgement : Judgement
        Objectives and limits for the predicted dose; ``limits`` and ``objectives`` for short.
    thinning : tuple of Thinning
        How each structure was represented; ``str`` of each is a sentence.
    row_dose_Gy : array
        Predicted course dose on the rows, from the uncut influence and the offset.
    cut_error_Gy : float
        Largest mean difference, over the structures, between that and what the solver worked with.
    history : list of (objective, bound)
        By iteration.
    cpu_s : float
    held : mapping
        Which rows the second pass of each DVH statement held.
    prescription_Gy : float or None
        The highest one, where that was the question.
    wishes : tuple of (priority, reached, held at)
        Weighted sums in order of priority.
    ceiling_Gy : float or None
        No plan has a higher prescription, by the whole matrix; where that was asked for and entries are cut away.
    cut_cost : array or None
        What an MU of each beamlet costs by the entries cut away; None where a solver does not say.
    """

    fluence: Fluence
    judgement: Judgement
    thinning: tuple[Thinning, ...]
    row_dose_Gy: NDArray[np.float64]
    cut_error_Gy: float
    history: tuple[tuple[float, float], ...]
    cpu_s: float
    held: Held = field(default_factory=dict)
    prescription_Gy: float | None = None
    wishes: tuple[tuple[int, float, float], ...] = ()
    cut_cost: NDArray[np.float64] | None = None
    ceiling_Gy: float | None = None

    @property
    def limits(self) -> tuple[LimitState, ...]:
        """Every hard limit."""
        return self.judgement.limits

    @property
    def objectives(self) -> tuple[ObjectiveState, ...]:
        """Every objective."""
        return self.judgement.objectives

    @property
    def feasible(self) -> bool:
        """Whether every limit is met."""
        return all(limit.met for limit in self.limits)

    @property
    def relaxed(self) -> tuple[LimitState, ...]:
        """The limits that could not be met."""
        return tuple(limit for limit in self.limits if not limit.met)
