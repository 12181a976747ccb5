"""The commands, a file each; the only place that prints.

Comes in: what a person typed. Goes out: lines, tables or JSON, and an exit status.
"""

from mrlinac.cli.app import app, main  # isort: skip
from mrlinac.cli import console, plan, recalculate, report, evaluate, import_folder, phantom, list_names, cache  # isort: skip

__all__ = [
    "app",
    "cache",
    "console",
    "evaluate",
    "import_folder",
    "list_names",
    "main",
    "phantom",
    "plan",
    "recalculate",
    "report",
]
