"""Protocols: prescription, objectives, constraints, goals and models as data; what each kind means as numbers."""

from __future__ import annotations

from mrlinac.protocol.estimates import Estimate, estimate
from mrlinac.protocol.model import Constraint, Goal, Objective, Prescription, Protocol, from_values, load
from mrlinac.protocol.verdicts import Verdict, judge

__all__ = [
    "Constraint",
    "Estimate",
    "Goal",
    "Objective",
    "Prescription",
    "Protocol",
    "Verdict",
    "estimate",
    "from_values",
    "judge",
    "load",
]
