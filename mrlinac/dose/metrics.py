"""Numbers read off a dose in a structure, exact on occupancy-weighted voxels.

The volume is always the whole structure's, by occupancy. Single-voxel maxima and minima are noise in a Monte Carlo
dose and are refused. A search for hot spots in the body or in normal tissue leaves air out: see :func:`metric`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.structures import Structure
from mrlinac.constants import AIR_LIKE_g_cm3
from mrlinac.dose.dose import Dose
from mrlinac.dose.grammar import FORMS, Metric, parse
from mrlinac.errors import SpecError

__all__ = [
    "FORMS",
    "Metric",
    "air_like",
    "dose_at_volume",
    "metric",
    "parse",
    "value_of",
    "voxels",
]

HOT_SPOT_ROLES = ("external", "other")
"""Roles of structures whose air is left out of a search for hot spots: the body, normal tissue, rinds and rings."""


def metric(
    dose: Dose,
    structure: Structure,
    text: str | Metric,
    *,
    prescription_Gy: float | None = None,
    external: Structure | None = None,
    air: NDArray[np.bool_] | None = None,
) -> float:
    """Value of a metric, in the unit that the form names.

    Parameters
    ----------
    dose : Dose
        Of as many fractions as the metric's doses are meant for: nothing is converted here.
    structure : Structure
        On the dose's grid.
    text : str or Metric
        See :data:`FORMS`.
    prescription_Gy : float, optional
        Needed by the forms relative to the prescription.
    external : Structure, optional
        Restricts the isodose volumes of ``CI``, ``GI`` and ``R50`` to the body.
    air : bool array [z, y, x], optional
        Air-like voxels (:func:`air_like`). A hot-spot metric of a structure of a role in :data:`HOT_SPOT_ROLES`
        leaves them out; the volume it refers to stays the whole structure's. Organs and targets stay whole.

    Returns
    -------
    float

    Raises
    ------
    SpecError
        Unknown form, or a prescription that is needed and missing.
    ValueError
        When the structure is empty or smaller than the volume asked for, or lies on another grid.
    """
    wanted = parse(text) if isinstance(text, str) else text
    if structure.occupancy.shape != dose.grid.shape_zyx:
        raise ValueError(f"{structure.name} is not on the dose's grid")
    if wanted.needs_prescription and prescription_Gy is None:
        raise SpecError(f"metric '{wanted.text}' is relative to the prescription, which is not given")
    dose_Gy, volume_cc = voxels(dose, structure)
    if wanted.of_isodose:
        isodose_Gy = wanted.level / 100 * float(prescription_Gy or 0)
        return _of_isodose(wanted, dose, structure, isodose_Gy, external)
    if air is not None and wanted.hot_spot and structure.role in HOT_SPOT_ROLES:
        # Air moves to the cold end instead of going away, so that the volume stays the whole structure's.
        dose_Gy = np.where(air[structure.occupancy > 0], -np.inf, dose_Gy)
        value = value_of(dose_Gy, volume_cc, wanted, prescription_Gy)
        if not np.isfinite(value):
            raise ValueError(f"{structure.name} has less than the volume asked for that is not air")
        return value
    return value_of(dose_Gy, volume_cc, wanted, prescription_Gy)


def air_like(density_g_cm3: NDArray[np.float32], external: Structure) -> NDArray[np.bool_]:
    """Voxels [z, y, x] whose part inside the body is thinner than :data:`AIR_LIKE_g_cm3`.

    A voxel that the skin cuts holds air outside the body: its own density would make the outermost sliver of skin
    air-like. The density is therefore asked of the body's part alone.

    Parameters
    ----------
    density_g_cm3 : float32 array [z, y, x]
    external : Structure
        The body.

    Returns
    -------
    bool array [z, y, x]
    """
    inside = external.occupancy
    thin: NDArray[np.bool_] = (inside > 0) & (density_g_cm3 < AIR_LIKE_g_cm3 * inside)
    return thin


def voxels(dose: Dose, structure: Structure) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dose (Gy) and volume (cc) of the structure's voxels.

    Parameters
    ----------
    dose : Dose
    structure : Structure
        On the dose's grid.

    Returns
    -------
    dose_Gy, volume_cc : float64 arrays, shape (n,)
    """
    inside = structure.occupancy > 0
    return (
        dose.dose_Gy[inside].astype(np.float64),
        structure.occupancy[inside].astype(np.float64) * dose.grid.voxel_cc,
    )


def value_of(
    dose_Gy: NDArray[np.float64],
    volume_cc: NDArray[np.float64],
    text: str | Metric,
    prescription_Gy: float | None = None,
) -> float:
    """As :func:`metric`, from plain arrays of voxel doses and volumes; all forms but those of an isodose.

    Parameters
    ----------
    dose_Gy, volume_cc : float64 arrays, shape (n,)
    text : str or Metric
    prescription_Gy : float, optional

    Returns
    -------
    float
    """
    wanted = parse(text) if isinstance(text, str) else text
    total_cc = float(volume_cc.sum())
    if total_cc <= 0:
        raise ValueError(f"metric '{wanted.text}': the structure is empty on this grid")
    if wanted.form == "volume":
        return total_cc
    if wanted.form == "mean":
        mean_Gy = float(dose_Gy @ volume_cc) / total_cc
        return mean_Gy if wanted.unit == "Gy" else 100 * mean_Gy / float(prescription_Gy or np.nan)
    if wanted.form == "dose_at":
        volume = wanted.level if wanted.level_unit == "cc" else wanted.level / 100 * total_cc
        value_Gy = float(dose_at_volume(dose_Gy, volume_cc, np.array([volume]))[0])
        return value_Gy if wanted.unit == "Gy" else 100 * value_Gy / float(prescription_Gy or np.nan)
    if wanted.form == "volume_at":
        level_Gy = wanted.level
        if wanted.level_unit == "%":
            level_Gy *= float(prescription_Gy or np.nan) / 100
        inside_cc = float(volume_cc[dose_Gy >= level_Gy].sum())
        return inside_cc if wanted.unit == "cc" else 100 * inside_cc / total_cc
    if wanted.form == "homogeneity":
        d2, d50, d98 = dose_at_volume(dose_Gy, volume_cc, np.array([0.02, 0.5, 0.98]) * total_cc)
        return float((d2 - d98) / d50)
    raise SpecError(f"metric '{wanted.text}' needs a dose on a grid")


def dose_at_volume(
    dose_Gy: NDArray[np.float64], volume_cc: NDArray[np.float64], wanted_cc: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Lowest dose of the hottest ``wanted_cc``, for each volume asked for.

    Parameters
    ----------
    dose_Gy, volume_cc : float64 arrays, shape (n,)
    wanted_cc : float64 array, shape (m,)

    Returns
    -------
    float64 array, shape (m,)
        Gy.
    """
    total_cc = float(volume_cc.sum())
    if np.any(wanted_cc > total_cc * (1 + 1e-9)):
        raise ValueError(
            f"the structure has {total_cc:.3g} cc, less than the {float(wanted_cc.max()):.3g} cc asked for"
        )
    if np.any(dose_Gy[1:] > dose_Gy[:-1]):  # samples mostly come sorted
        order = np.argsort(-dose_Gy, kind="stable")
        dose_Gy, volume_cc = dose_Gy[order], volume_cc[order]
    place = np.searchsorted(np.cumsum(volume_cc), wanted_cc * (1 - 1e-12))
    return dose_Gy[np.minimum(place, len(dose_Gy) - 1)]


def _of_isodose(
    wanted: Metric, dose: Dose, target: Structure, isodose_Gy: float, external: Structure | None
) -> float:
    """Conformity or gradient of a target on the dose's grid."""
    target_cc = float(target.occupancy.sum(dtype=np.float64))
    covered_cc = float(target.occupancy[dose.dose_Gy >= isodose_Gy].sum(dtype=np.float64))
    volumes = tuple(
        _volume_at_least(dose, isodose_Gy * at / wanted.level, external) for at in wanted.isodoses_percent
    )
    return isodose_value(wanted, target_cc, covered_cc, volumes)


def _volume_at_least(dose: Dose, level_Gy: float, external: Structure | None) -> float:
    """Volume with at least a dose, in voxels; inside the body where that is given."""
    hot = dose.dose_Gy >= level_Gy
    return float(hot.sum()) if external is None else float(external.occupancy[hot].sum(dtype=np.float64))


def isodose_value(wanted: Metric, target_cc: float, covered_cc: float, isodoses_cc: Sequence[float]) -> float:
    """Conformity and gradient: how an isodose fits the target, and how fast the dose falls outside it.

    ``conformity``: (target in isodose)² / (target × isodose volume), 1 is perfect (Paddick 2000, J Neurosurg 93 suppl
    3:219). ``gradient``: isodose volume / target (RTOG: Shaw 1993, Int J Radiat Oncol Biol Phys 27:1231; R50 as the
    RTOG 0813 and 0915 protocols have it). ``gradient_index``: volume of half the isodose / isodose volume (Paddick and
    Lippitz 2006, J Neurosurg 105 suppl:194).

    Parameters
    ----------
    wanted : Metric
    target_cc, covered_cc : float
        Volume of the target, and of its part in the isodose.
    isodoses_cc : sequence of float
        Volumes of the isodoses of :attr:`Metric.isodoses_percent`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        For a gradient index of an isodose that nothing reaches, or an empty target.
    """
    isodose_cc = isodoses_cc[0]
    if wanted.form == "gradient_index":
        if isodose_cc == 0:
            raise ValueError(f"no voxel reaches the isodose of {wanted.level:g} %, so the dose has no gradient index")
        return isodoses_cc[1] / isodose_cc
    if target_cc == 0:
        raise ValueError("the target is empty on this grid")
    if wanted.form == "gradient":
        return isodose_cc / target_cc
    return covered_cc**2 / (target_cc * isodose_cc) if isodose_cc > 0 else 0.0
