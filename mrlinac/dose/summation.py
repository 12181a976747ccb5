"""Doses added up, and one dose set against another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.dose.dose import Dose
from mrlinac.dose.interpolate import resampled
from mrlinac.provenance import Provenance, fingerprint


def total(doses: Sequence[Dose]) -> Dose:
    """The sum of doses, of as many fractions as all together, on the finest grid, extended to hold all of them.

    Where one of them says nothing, it adds nothing. The voxels' uncertainties are not kept.
    """
    if len(doses) == 1:
        return doses[0]
    grid = _common(doses)
    values = np.zeros(grid.shape_zyx, np.float64)
    for dose in doses:
        values += np.nan_to_num(resampled(dose, grid))
    fractions = sum(dose.fractions for dose in doses)
    made = fingerprint([dose.provenance.fingerprint for dose in doses])
    engine = " + ".join(dict.fromkeys(dose.provenance.engine for dose in doses))
    return Dose(grid, values.astype(np.float32), None, fractions, Provenance(made, engine))


def difference(dose: Dose, reference: Dose) -> NDArray[np.float32]:
    """Dose minus reference [z, y, x] in Gy on the reference's grid; NaN where the dose says nothing."""
    gap: NDArray[np.float32] = resampled(dose, reference.grid) - reference.dose_Gy
    return gap


def _common(doses: Sequence[Dose]) -> Grid:
    finest = min((dose.grid for dose in doses), key=lambda grid: grid.voxel_cc)
    lower = np.min([dose.grid.lower_xyz_mm for dose in doses], axis=0)
    upper = np.max([dose.grid.upper_xyz_mm for dose in doses], axis=0)
    spacing = np.array(finest.spacing_zyx_mm[::-1])
    before = np.ceil((np.array(finest.lower_xyz_mm) - lower) / spacing - 1e-6).astype(int)
    after = np.ceil((upper - np.array(finest.upper_xyz_mm)) / spacing - 1e-6).astype(int)
    return finest.padded(before[::-1].tolist(), after[::-1].tolist())
