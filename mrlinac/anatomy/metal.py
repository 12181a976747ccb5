"""Saturated CT voxels: metal, where a plan or a patient says what they stand for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy import materials
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.imaged_body import ImagedBody
from mrlinac.anatomy.mixture import Mixture, total_cc
from mrlinac.anatomy.overrides import MetalOverride
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.resample import Resampler
from mrlinac.anatomy.structures import Structure
from mrlinac.errors import DataError
from mrlinac.notes import Note

Floats = NDArray[np.float32]

METAL = "Metal"
"""Name of the structure of saturated voxels."""

PLATEAU_VOXELS = 20
"""This many voxels at exactly the image's largest value are a detector's or a file format's ceiling, not tissue."""

UNEXPLAINED_METAL_cc = 0.1
"""Saturated volume without a density above which planning is refused."""


def saturation_HU(patient: Patient, hu_curve: str = "schneider2000") -> float:
    """HU from which this image says nothing: the curve's end, or the image's own ceiling where that is lower.

    Parameters
    ----------
    patient : Patient
        With a CT.
    hu_curve : str
        Which ``mrlinac/data/hu_NAME.toml``.

    Returns
    -------
    float
        HU.
    """
    table = materials.hu_curve(hu_curve)
    values = patient.image.values
    ceiling = float(values.max())
    plateau = int(np.count_nonzero(values == ceiling)) >= PLATEAU_VOXELS
    if plateau and ceiling > table.published_to_HU:
        return min(ceiling, table.saturated_from_HU)
    return table.saturated_from_HU


def metal_in(
    patient: Patient, grid: Grid, threshold_HU: float | None = None, *, name: str = METAL
) -> Structure | None:
    """Voxels inside the body at or above a threshold, as a structure.

    Parameters
    ----------
    patient : Patient
        With a CT.
    grid : Grid
        The calculation grid.
    threshold_HU : float, optional
        By default that of saturation, see :func:`saturation_HU`.
    name : str
        Of the structure.

    Returns
    -------
    Structure or None
        On ``grid``; None where no voxel reaches the threshold.
    """
    limit = saturation_HU(patient) if threshold_HU is None else threshold_HU
    body = ImagedBody.under(grid, patient)
    dense = np.where(body.values >= limit, body.inside, 0.0).astype(np.float32)
    if not dense.any():
        return None
    return Structure(name, "metal", np.clip(Resampler(body.grid, grid)(dense), 0.0, 1.0))


def add_metal(
    mixture: Mixture,
    metal: MetalOverride | None,
    patient: Patient,
    body: ImagedBody,
    claimed: Floats,
    resample: Resampler,
) -> tuple[Floats, list[Note]]:
    """Fill saturated voxels that no override has taken; refuse to guess.

    Parameters
    ----------
    mixture : Mixture
        Takes the metal.
    metal : MetalOverride or None
    patient : Patient
    body : ImagedBody
    claimed : float32 array [z, y, x]
        Part of each CT voxel that an override has taken.
    resample : Resampler
        From the CT to the calculation grid.

    Returns
    -------
    float32 array [z, y, x]
        Part of each CT voxel that is taken now.
    list of Note

    Raises
    ------
    DataError
        Saturated voxels for which no density is given.
    """
    saturated = saturation_HU(patient)
    limit = saturated if metal is None or metal.threshold_HU is None else metal.threshold_HU
    taken = np.where(body.values >= limit, np.clip(body.inside - claimed, 0.0, None), 0.0).astype(np.float32)
    count, volume_cc = int(np.count_nonzero(taken)), total_cc(taken, resample.source)
    if count == 0:
        return np.zeros_like(claimed), []
    saturation = f"{count} CT voxels ({volume_cc:.2f} cc) inside the external are at or above {limit:g} HU"
    if metal is not None:
        mixture.add(resample(taken), metal.density_g_cm3, metal.material)
        return taken, [
            Note("warning", f"metal: {saturation}; set to {metal.described}. List the beams that cross it")
        ]
    if volume_cc > UNEXPLAINED_METAL_cc:
        raise DataError(
            f"{saturation}, where CT numbers are saturated and no density is given. Give one: an override for a structure "
            "that covers them, or a metal override (titanium alloy, steel) for all saturated voxels"
        )
    return np.zeros_like(claimed), [Note("warning", f"{saturation}: saturated; the end of the HU curve was used")]
