"""A forward dose as the solver sees it: on its rows, with its noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mrlinac.dose import noise
from mrlinac.dose.dose import Dose
from mrlinac.dose.noise import Figure, Noise
from mrlinac.optimise.rows import ScenarioRows, StructureRows


class RowDose:
    """A forward dose on the rows of its scenario, with its noise, made structure by structure when asked for.

    Parameters
    ----------
    rows : ScenarioRows
    dose : Dose
        Of the course.
    scale : float
        By which the dose is multiplied first.
    """

    def __init__(self, rows: ScenarioRows, dose: Dose, scale: float = 1.0) -> None:
        self.rows, self.scale = rows, scale
        self.dose_Gy = scale * rows.on_rows(dose.dose_Gy)
        self._dose = dose
        self._known: dict[str, Noise | None] = {}

    def figure(
        self,
        structure: str,
        of: Callable[[NDArray[np.floating], NDArray[np.float64]], float],
        *,
        scatter: bool = True,
    ) -> Figure:
        """A number that is read off the doses and volumes of a structure's rows.

        Parameters
        ----------
        structure : str
        of : callable
            Of doses (Gy) and volumes (cc), arrays of shape (rows of the structure,).
        scatter : bool
            Whether its standard deviation is wanted, too.

        Returns
        -------
        Figure
        """
        rows = self.rows.of[structure]
        raw = of(self.dose_Gy[rows.index], rows.weights)
        if structure not in self._known:
            self._known[structure] = self._noise(rows)
        known = self._known[structure]
        if known is None:
            return Figure(raw, raw)
        value = of(known.without(self.dose_Gy[rows.index], rows.weights), rows.weights)
        if not scatter:
            return Figure(value, raw)
        pairs = known.halves(self._batches_on_rows[:, rows.index], rows.weights)
        halves = [[of(dose_Gy, rows.weights[order]) for dose_Gy, _, order in pair] for pair in pairs]
        first, second = zip(*halves, strict=True)
        return Figure(value, raw, noise.spread(first, second, known.shares))

    def mean(self, structure: str) -> Figure:
        """The exact mean of a structure.

        Parameters
        ----------
        structure : str

        Returns
        -------
        Figure
            Gy.
        """
        value = self.scale * self.rows.mean_of(structure, self._dose.dose_Gy)
        batches = self._dose.batches
        if batches is None:
            return Figure(value, value)
        parts = np.array([self.scale * self.rows.mean_of(structure, batch_Gy) for batch_Gy in self._batches_Gy()])
        share = np.array(batches.primaries) / sum(batches.primaries)
        halves = [share * half for half in noise.balanced_halves()] if len(parts) == noise.BATCHES else []
        pairs = [(part @ parts / part.sum(), (share - part) @ parts / (share - part).sum()) for part in halves]
        if not pairs:
            return Figure(value, value)
        first, second = zip(*pairs, strict=True)
        return Figure(value, value, noise.spread(first, second, [part.sum() for part in halves]))

    def _noise(self, rows: StructureRows) -> Noise | None:
        batches = self._dose.batches
        if batches is None:
            return None
        return noise.noise_in(self._batches_on_rows[:, rows.index], rows.weights, batches.primaries)

    @cached_property
    def _batches_on_rows(self) -> NDArray[np.float64]:
        return np.stack([self.scale * self.rows.on_rows(batch_Gy) for batch_Gy in self._batches_Gy()])

    def _batches_Gy(self) -> Iterator[NDArray[np.float32]]:
        assert self._dose.batches is not None
        return (self._dose.dose_Gy * (1 + own.astype(np.float32)) for own in self._dose.batches.deviation)
