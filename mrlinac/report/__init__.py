"""Figures, tables and the page a person looks at; made from results only."""

from mrlinac.report.content import ReportContent
from mrlinac.report.evaluation import RECORD as EVALUATION_RECORD
from mrlinac.report.evaluation import as_dict as evaluation_as_dict
from mrlinac.report.evaluation import write_evaluation
from mrlinac.report.from_result import (
    constraints_side_by_side,
    goals_side_by_side,
    models_side_by_side,
    skin_side_by_side,
    write_comparison_of,
    write_result,
)
from mrlinac.report.html import write, write_comparison

__all__ = [
    "EVALUATION_RECORD",
    "ReportContent",
    "constraints_side_by_side",
    "evaluation_as_dict",
    "goals_side_by_side",
    "models_side_by_side",
    "skin_side_by_side",
    "write",
    "write_comparison",
    "write_comparison_of",
    "write_evaluation",
    "write_result",
]
