"""The two streams that commands print to."""

from __future__ import annotations

from rich.console import Console

out = Console()


err = Console(stderr=True)
