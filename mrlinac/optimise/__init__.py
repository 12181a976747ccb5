"""Convex planning: the best fluence for a protocol, with a certificate."""

from __future__ import annotations

from mrlinac.optimise.correction import Correction, Normalisation, Round, correct, normalise
from mrlinac.optimise.planner import Planner, solve
from mrlinac.optimise.solution import Judgement, LimitState, ObjectiveState, Solution

__all__ = [
    "Correction",
    "Judgement",
    "LimitState",
    "Normalisation",
    "ObjectiveState",
    "Planner",
    "Round",
    "Solution",
    "correct",
    "normalise",
    "solve",
]
