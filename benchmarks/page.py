"""What every benchmark prints around its figures: a head line that says what made them, and Markdown tables."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DECIDES = ("mrlinac", "machines", "protocols", "techniques", "plans")
"""Folders whose last commit is a figure's: a commit of words alone does not change it."""
LOADED = 0.5
"""Load average of the last minute at the start from which other work ran beside."""
LOAD_AT_START = os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def head() -> str:
    """A line with command, commit, processor, cores, date, and whether other work ran beside.

    Returns
    -------
    str
        Markdown; no path of the machine stands in it.
    """
    words = [_without_folder(word) for word in sys.argv]
    words[0] = f"benchmarks/{Path(sys.argv[0]).name}"
    parts = [
        f"`python {' '.join(words)}`",
        f"commit {commit()}",
        f"{processor()}, {cores()} core{'s' * (cores() > 1)}",
    ]
    parts.append(datetime.date.today().isoformat())
    if LOAD_AT_START is not None and LOAD_AT_START >= LOADED:
        parts.append(f"loaded (load average {LOAD_AT_START:.1f} at the start)")
    return " · ".join(parts)


def _without_folder(word: str) -> str:
    """A word of the command line, an absolute path without its folders."""
    return Path(word).name if Path(word).is_absolute() else word


def commit() -> str:
    """The last commit of what decides a figure, and whether it was changed since.

    Returns
    -------
    str
        Its short hash, or ``unknown`` outside of a clone.
    """
    try:
        found = _git("log", "-1", "--format=%h", "--", *DECIDES)
        changed = _git("status", "--porcelain", "--", *DECIDES)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{found} with changes" if changed else found


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def processor() -> str:
    """The processor's model, as the system has it.

    Returns
    -------
    str
        For instance ``AMD EPYC 9555``.
    """
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip().replace("(R)", "")
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use.

    Returns
    -------
    int
        At least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def columns(names: Sequence[str]) -> str:
    """The two head lines of a table.

    Parameters
    ----------
    names : sequence of str
        A column each.

    Returns
    -------
    str
        Markdown.
    """
    return f"{row(names)}\n|{'---|' * len(names)}"


def row(cells: Iterable[object]) -> str:
    """One line of a table.

    Parameters
    ----------
    cells : iterable
        A value each.

    Returns
    -------
    str
        Markdown.
    """
    return "| " + " | ".join(map(str, cells)) + " |"


def begin(title: str, *words: str) -> None:
    """Print a title and the head line.

    Parameters
    ----------
    title : str
        Of the section.
    *words : str
        Further sentences, a paragraph each.
    """
    print("\n\n".join([f"## {title}", head(), *words]), end="\n\n", flush=True)
