"""Convex planning: the best fluence for a protocol, with a certificate, and the rounds with its forward dose.

Comes in: an influence, structures, a protocol, and a function that gives the forward dose. Goes out: a fluence at its
prescription, and what was proven of it.
"""

from __future__ import annotations

from mrlinac.optimise.aperture.column_generation import Segmented, SegmentLimits, generate, polished
from mrlinac.optimise.loop.allowed_prescription import MOST_SCALING, AllowedPrescription, prescribe_allowed
from mrlinac.optimise.loop.correction import Correction, Round, correct, normalise
from mrlinac.optimise.loop.escalation import Escalated, EscalationRound, Highest, escalate, highest
from mrlinac.optimise.loop.planned import Finished, Forward, Normalisation, Planned
from mrlinac.optimise.loop.predicted_vs_forward import PredictedVsForward
from mrlinac.optimise.planner import Planner
from mrlinac.optimise.problem import Problem, SolverOptions
from mrlinac.optimise.solution import Judgement, LimitState, ObjectiveState, Solution, WarmStart, priority_sentences

__all__ = [
    "MOST_SCALING",
    "AllowedPrescription",
    "Correction",
    "Escalated",
    "EscalationRound",
    "Finished",
    "Forward",
    "Highest",
    "Judgement",
    "LimitState",
    "Normalisation",
    "ObjectiveState",
    "Planned",
    "Planner",
    "PredictedVsForward",
    "Problem",
    "Round",
    "SegmentLimits",
    "Segmented",
    "Solution",
    "SolverOptions",
    "WarmStart",
    "correct",
    "escalate",
    "generate",
    "highest",
    "normalise",
    "polished",
    "prescribe_allowed",
    "priority_sentences",
]
