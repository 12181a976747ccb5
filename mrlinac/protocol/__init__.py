"""Protocols: prescription, objectives, constraints and goals as data; what each kind means as numbers."""

from __future__ import annotations

from mrlinac.protocol.model import Constraint, Goal, Objective, Prescription, Protocol, from_values, load
from mrlinac.protocol.verdicts import Verdict, judge

__all__ = [
    "Constraint",
    "Goal",
    "Objective",
    "Prescription",
    "Protocol",
    "Verdict",
    "from_values",
    "judge",
    "load",
]
