"""Figures, tables and the page a person looks at; made from results only."""

from mrlinac.report.content import ReportContent
from mrlinac.report.html import write, write_comparison

__all__ = ["ReportContent", "write", "write_comparison"]
