"""Figures, tables and the page a person looks at; made from results only."""

from mrlinac.report.content import ReportContent
from mrlinac.report.from_result import goals_side_by_side, models_side_by_side, write_comparison_of, write_result
from mrlinac.report.html import write, write_comparison

__all__ = [
    "ReportContent",
    "goals_side_by_side",
    "models_side_by_side",
    "write",
    "write_comparison",
    "write_comparison_of",
    "write_result",
]
