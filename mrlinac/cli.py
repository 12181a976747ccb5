"""The commands; the only place that prints."""

from __future__ import annotations


def main() -> None:
    """Entry point of ``mrlinac``."""
    raise SystemExit(2)
