"""Doses of different fraction sizes made comparable: the linear-quadratic model without a time factor."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def bed(dose_Gy: ArrayLike, fractions: float, alpha_beta_Gy: float) -> NDArray[np.float64]:
    """Biologically effective dose, D (1 + D / (n α/β)) (Barendsen 1982, Int J Radiat Oncol Biol Phys 8:1981).

    Parameters
    ----------
    dose_Gy : array
        Of the course, of each voxel: each has a fraction size of its own, its dose over ``fractions``.
    fractions : float
        Equal ones.
    alpha_beta_Gy : float
        Of the tissue and the effect.
    """
    dose = np.asarray(dose_Gy, np.float64)
    if not (fractions > 0 and alpha_beta_Gy > 0):
        raise ValueError(f"fractions and α/β must be positive, not {fractions:g} and {alpha_beta_Gy:g} Gy")
    return dose * (1 + dose / (fractions * alpha_beta_Gy))


def eqd2(dose_Gy: ArrayLike, fractions: float, alpha_beta_Gy: float) -> NDArray[np.float64]:
    """Dose with the same effect in fractions of 2 Gy: BED / (1 + 2 Gy / (α/β)) (Withers 1983, Cancer 51:91)."""
    return bed(dose_Gy, fractions, alpha_beta_Gy) / (1 + 2 / alpha_beta_Gy)
