"""Dose in 2 Gy fractions that does the same by the linear-quadratic model (Withers 1983, Cancer 51:91)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REFERENCE_Gy = 2.0


def eqd2_Gy(dose_Gy: NDArray[np.floating], fractions: float, alpha_beta_Gy: float) -> NDArray[np.float64]:
    """EQD2 of a course dose given in equal fractions: D (D/n + α/β) / (2 + α/β).

    Parameters
    ----------
    dose_Gy : array
        Of the course.
    fractions : float
        Of the course; need not be whole, so that a number of fractions may be searched for.
    alpha_beta_Gy : float
    """
    if not fractions > 0 or not alpha_beta_Gy > 0:
        raise ValueError(f"EQD2 needs positive fractions and α/β, not {fractions} and {alpha_beta_Gy}")
    dose = np.asarray(dose_Gy, dtype=np.float64)
    return dose * (dose / fractions + alpha_beta_Gy) / (REFERENCE_Gy + alpha_beta_Gy)
