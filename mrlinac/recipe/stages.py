"""What each stage of a recipe cost, and telling the caller how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pandas as pd

Progress = Callable[[str, float, float, str], None]
"""Called with stage, done, total and a few words; ``total`` 0 where it is not known."""


def silent(stage: str, done: float, total: float, text: str) -> None:
    """The progress that shows nothing.

    Parameters
    ----------
    stage : str
    done, total : float
    text : str
    """


def peak_memory_MB() -> float:
    """Largest resident memory of this process so far; not a number where the platform does not tell."""
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


@dataclass
class Stages:
    """A ledger of stages: CPU seconds (all threads), wall seconds, peak memory so far.

    Attributes
    ----------
    progress : callable
        Of (stage, done, total, text).
    rows : list of dict
        One a stage that has ended.
    open : list of list of float
        CPU and wall seconds of stages inside the open ones.
    """

    progress: Progress = silent
    rows: list[dict[str, float | str]] = field(default_factory=list)
    open: list[list[float]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float, float, str], None]]:
        """Time a stage.

        Parameters
        ----------
        name : str

        Yields
        ------
        callable
            The progress function that an engine takes.
        """
        inner = [0.0, 0.0]  # what stages within this one take, counted there and not here
        self.open.append(inner)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        self.progress(name, 0, 0, "")

        def tell(done: float, total: float, text: str) -> None:
            self.progress(name, done, total, text)

        yield tell
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        self.open.pop()
        if self.open:
            self.open[-1][0] += cpu_s
            self.open[-1][1] += wall_s
        self.rows.append(
            {
                "stage": name,
                "cpu_s": round(cpu_s - inner[0], 3),
                "wall_s": round(wall_s - inner[1], 3),
                "peak_MB": round(peak_memory_MB(), 1),
            }
        )

    def cost(self, name: str) -> dict[str, float]:
        """What a stage cost, to be kept with what it made.

        Parameters
        ----------
        name : str

        Returns
        -------
        dict of float
            CPU and wall seconds, peak memory.
        """
        return {
            key: float(value)
            for row in self.rows
            if row["stage"] == name
            for key, value in row.items()
            if key != "stage"
        }

    def spent(self, name: str, cost: Mapping[str, float]) -> None:
        """Enter a stage that ended before this ledger was opened.

        Parameters
        ----------
        name : str
        cost : mapping
            As :meth:`cost` gives it; empty where it is not known, and then nothing is entered.
        """
        if cost:
            self.rows.append({"stage": name, **cost})

    def table(self) -> pd.DataFrame:
        """All stages, in order; a stage that ran several times is summed.

        Returns
        -------
        DataFrame
            One row a stage.
        """
        columns = ["stage", "cpu_s", "wall_s", "peak_MB"]
        frame = pd.DataFrame(self.rows, columns=columns)
        summed = frame.groupby("stage", sort=False, as_index=False).agg(
            {"cpu_s": "sum", "wall_s": "sum", "peak_MB": "max"}
        )
        return summed[columns]
