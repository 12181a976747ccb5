"""What may happen to a plan: a scenario is an anatomy with the doses that the columns give it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose.influence import Influence


@dataclass(frozen=True)
class Scenario:
    """An anatomy that a plan is made for, beside others: another position, another day, another breathing phase.

    Attributes
    ----------
    influence : Influence
        Of the same columns as those of every other scenario.
    structures : StructureSet
        On the influence's grid, derived structures included.
    offset_Gy : float array [z, y, x] or None
        Course dose added to what the influence predicts.
    name : str
        How messages call it.
    weight : float
        Its share in objectives, relative to the other scenarios' weights.
    """

    influence: Influence
    structures: StructureSet
    offset_Gy: NDArray[np.floating] | None = None
    name: str = "nominal"
    weight: float = 1.0
