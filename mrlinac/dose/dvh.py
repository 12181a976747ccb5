"""Dose-volume histograms, as dicompyler-core's own type."""

from __future__ import annotations

import math

import numpy as np
from dicompylercore.dvh import DVH
from numpy.typing import NDArray

from mrlinac.anatomy.structures import Structure
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.dose.metrics import metric

__all__ = ["DVH", "dvh", "metric"]

BIN_Gy = 0.02
"""Width of a bin: far below what a DVH is read to, and a course of 80 Gy stays at 4 000 bins."""


def dvh(
    dose: Dose,
    structure: Structure,
    name: str | None = None,
    *,
    bin_Gy: float = BIN_Gy,
    prescription_Gy: float | None = None,
    color_rgb: tuple[int, int, int] | None = None,
) -> DVH:
    """Cumulative histogram in absolute dose (Gy) and volume (cc), weighted by occupancy.

    Parameters
    ----------
    dose : Dose
    structure : Structure
        On the dose's grid.
    name : str, optional
        Shown in reports; the structure's by default.
    bin_Gy : float
        Width of the bins.
    prescription_Gy : float, optional
        Lets dicompyler's relative metrics (``V95``) work.
    color_rgb : tuple of int, optional

    Returns
    -------
    dicompylercore.dvh.DVH
        ``counts[i]`` is the volume with at least ``bins[i]``; ``bins`` has one edge more than ``counts``.

    Raises
    ------
    ValueError
        When the structure is empty or lies on another grid.
    """
    if structure.occupancy.shape != dose.grid.shape_zyx:
        raise ValueError(f"{structure.name} is not on the dose's grid")
    dose_Gy, volume_cc = metrics.voxels(dose, structure)
    if not volume_cc.sum() > 0:
        raise ValueError(f"{structure.name} is empty on the dose's grid")
    return histogram(
        dose_Gy,
        volume_cc,
        name or structure.name,
        bin_Gy=bin_Gy,
        prescription_Gy=prescription_Gy,
        color_rgb=color_rgb,
    )


def histogram(
    dose_Gy: NDArray[np.floating],
    volume_cc: NDArray[np.float64],
    name: str,
    *,
    bin_Gy: float = BIN_Gy,
    prescription_Gy: float | None = None,
    color_rgb: tuple[int, int, int] | None = None,
) -> DVH:
    """Cumulative histogram of doses (Gy) with their volumes (cc); as :func:`dvh`.

    Parameters
    ----------
    dose_Gy, volume_cc : arrays, shape (n,)
    name : str
        Of the structure.
    bin_Gy : float
        Width of a bin.
    prescription_Gy : float, optional
    color_rgb : tuple of int, optional

    Returns
    -------
    DVH
        The type of dicompyler-core.
    """
    bins = math.floor(max(float(dose_Gy.max()), 0.0) / bin_Gy) + 1
    edge_Gy = bin_Gy * np.arange(bins + 1)
    # Digitise against the edges themselves: a quotient may round a dose on an edge into the bin below it.
    place = np.clip(np.searchsorted(edge_Gy, dose_Gy, side="right") - 1, 0, bins - 1)
    per_bin_cc = np.bincount(place, weights=volume_cc, minlength=bins)
    at_least_cc = per_bin_cc[::-1].cumsum()[::-1]
    return DVH(
        at_least_cc,
        edge_Gy,
        dvh_type="cumulative",
        dose_units="Gy",
        volume_units="cm3",
        rx_dose=prescription_Gy,
        name=name,
        color=None if color_rgb is None else np.array(color_rgb),
    )
