"""What objects show of themselves in a notebook: plain HTML, every word of it escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

MOST_ROWS = 60
"""A longer table is cut, and says so: a notebook is for a look."""


def heading(text: str) -> str:
    """A line in bold."""
    return f"<p><strong>{escape(text)}</strong></p>"


def line(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def bullets(texts: Iterable[str]) -> str:
    """A list; nothing for none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words; nothing for no rows."""
    if not rows:
        return ""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[:MOST_ROWS])
    more = line(f"… and {len(rows) - MOST_ROWS} more rows") if len(rows) > MOST_ROWS else ""
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>{more}"


def figure(value: float | None, sigma: float | None = None, unit: str = "") -> str:
    """``49.9 ± 0.5 Gy``; a dash where there is no value."""
    if value is None or value != value:
        return "–"
    spread = "" if sigma is None or sigma != sigma else f" ± {sigma:.2g}"
    return f"{value:.4g}{spread} {unit}".strip()
