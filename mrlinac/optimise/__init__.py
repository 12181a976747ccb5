"""Convex planning: the best fluence for a protocol, with a certificate."""

from __future__ import annotations

from mrlinac.optimise.planner import LimitState, ObjectiveState, Planner, Solution, solve

__all__ = ["LimitState", "ObjectiveState", "Planner", "Solution", "solve"]
