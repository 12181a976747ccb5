"""Numbers read off a dose in a structure, exact on occupancy-weighted voxels.

The volume is always the whole structure's, by occupancy. Single-voxel maxima and minima are noise in a Monte Carlo
dose and are refused. A search for hot spots in the body or in normal tissue leaves air out: see :func:`metric`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.structures import Structure
from mrlinac.constants import AIR_LIKE_g_cm3
from mrlinac.dose.dose import Dose
from mrlinac.errors import SpecError

FORMS = {
    "D95%": "Gy to the hottest 95 % of the volume",
    "D98%[%]": "the same in per cent of the prescription",
    "D0.1cc": "Gy: the lowest dose of the hottest 0.1 cc",
    "V20Gy[%]": "per cent of the volume with at least 20 Gy",
    "V20Gy[cc]": "cc with at least 20 Gy",
    "V95%[%]": "per cent of the volume with at least 95 % of the prescription",
    "V95%[cc]": "cc with at least 95 % of the prescription",
    "mean": "Gy",
    "HI": "homogeneity (D2% - D98%) / D50% (ICRU 83)",
    "CI_Paddick": "conformity after Paddick of the 95 % isodose; CI_Paddick90% takes another; CI is short for it",
    "CI_RTOG": "conformity after RTOG, isodose volume over target volume; CI_RTOG90% takes another isodose than 95 %",
    "GI": "gradient index: volume of half the 95 % isodose over that of the 95 % isodose; GI90% takes another",
    "R50": "volume of the 50 % isodose over the target volume; R25 takes another isodose",
}
"""Every known form of a metric, by example, and what it says."""

HOT_SPOT_percent = 2.0
"""D of at most so much of a volume, and D of any number of cc, asks for a hot spot."""
HOT_SPOT_ROLES = ("external", "other")
"""Roles of structures whose air is left out of a search for hot spots: the body, normal tissue, rinds and rings."""

_NUMBER = r"(\d+(?:\.\d+)?)"
_DOSE_AT = re.compile(rf"D{_NUMBER}(%|cc)(\[%\])?")
_VOLUME_AT = re.compile(rf"V{_NUMBER}(Gy|%)\[(%|cc)\]")
_ISODOSE = re.compile(rf"(?P<name>CI_Paddick|CI_RTOG|CI|GI)(?:{_NUMBER}%)?|(?P<ratio>R){_NUMBER}")
_OF_ISODOSE = {
    "CI": "conformity",
    "CI_Paddick": "conformity",
    "CI_RTOG": "gradient",  # the same ratio as R95
    "R": "gradient",
    "GI": "gradient_index",
}
_NOISY = {"max", "min", "dmax", "dmin", "maximum", "minimum", "d100%", "d0%", "d0cc"}


@dataclass(frozen=True)
class Metric:
    """One metric, parsed.

    Attributes
    ----------
    text : str
        As written.
    form : {"dose_at", "volume_at", "mean", "homogeneity", "conformity", "gradient", "gradient_index"}
    level : float
        The number in the text: a volume for ``dose_at``, a dose for ``volume_at``, an isodose for the last three.
    level_unit : str
        ``%``, ``cc`` or ``Gy``.
    unit : str
        Of the value: ``Gy``, ``%``, ``cc`` or the empty string.
    """

    text: str
    form: str
    level: float = 0.0
    level_unit: str = ""
    unit: str = ""

    @property
    def needs_prescription(self) -> bool:
        """Whether the value depends on the prescribed dose."""
        relative = self.level_unit if self.form == "volume_at" else self.unit
        return self.of_isodose or relative == "%"

    @property
    def of_isodose(self) -> bool:
        """Whether the value depends on the dose outside the structure too."""
        return self.form in _OF_ISODOSE.values()

    @property
    def hot_spot(self) -> bool:
        """Whether the metric looks for the hottest part of a structure."""
        return self.form == "dose_at" and (self.level_unit == "cc" or self.level <= HOT_SPOT_percent)


def parse(text: str) -> Metric:
    """Read a metric such as ``D95%``, ``D2cc``, ``V20Gy[%]``, ``mean``, ``CI_RTOG`` or ``HI``.

    Raises
    ------
    SpecError
        For an unknown form (all known forms are listed), and for maxima and minima of single voxels.
    """
    bare = text.strip()
    if bare.lower() in _NOISY:
        raise SpecError(
            f"metric '{text}': the dose of a single voxel is noise in a Monte Carlo dose; "
            "ask for D0.03cc or D2% instead of a maximum, D98% instead of a minimum"
        )
    if match := _DOSE_AT.fullmatch(bare):
        level = float(match[1])
        if match[2] == "%" and not 0 < level < 100:
            raise SpecError(f"metric '{text}': the volume must lie between 0 and 100 %")
        return Metric(bare, "dose_at", level, match[2], "%" if match[3] else "Gy")
    if match := _VOLUME_AT.fullmatch(bare):
        return Metric(bare, "volume_at", float(match[1]), match[2], match[3])
    if bare == "mean":
        return Metric(bare, "mean", unit="Gy")
    if bare == "HI":
        return Metric(bare, "homogeneity")
    if match := _ISODOSE.fullmatch(bare):
        form = _OF_ISODOSE[match["name"] or match["ratio"]]
        return Metric(bare, form, float(match[2] or match[4] or 95.0), "%")
    known = "; ".join(f"{form} ({meaning})" for form, meaning in FORMS.items())
    raise SpecError(f"unknown metric '{text}'. Known forms, with any number: {known}")


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
        return _of_isodose(wanted.form, dose, structure, isodose_Gy, external)
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
    """
    inside = external.occupancy
    found: NDArray[np.bool_] = (inside > 0) & (density_g_cm3 < AIR_LIKE_g_cm3 * inside)
    return found


def voxels(dose: Dose, structure: Structure) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dose (Gy) and volume (cc) of the structure's voxels."""
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
    """As :func:`metric`, from plain arrays of voxel doses and volumes; all forms but those of an isodose."""
    wanted = parse(text) if isinstance(text, str) else text
    total_cc = float(volume_cc.sum())
    if total_cc <= 0:
        raise ValueError(f"metric '{wanted.text}': the structure is empty on this grid")
    if wanted.form == "mean":
        return float(dose_Gy @ volume_cc) / total_cc
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
    """Lowest dose of the hottest ``wanted_cc``, for each volume asked for."""
    total_cc = float(volume_cc.sum())
    if np.any(wanted_cc > total_cc * (1 + 1e-9)):
        raise ValueError(
            f"the structure has {total_cc:.3g} cc, less than the {float(wanted_cc.max()):.3g} cc asked for"
        )
    order = np.argsort(-dose_Gy, kind="stable")
    reached_cc = np.cumsum(volume_cc[order])
    place = np.searchsorted(reached_cc, wanted_cc * (1 - 1e-12))
    return dose_Gy[order[np.minimum(place, len(order) - 1)]]


def _of_isodose(form: str, dose: Dose, target: Structure, isodose_Gy: float, external: Structure | None) -> float:
    """Conformity and gradient: how an isodose fits the target, and how fast the dose falls outside it.

    ``conformity``: (target in isodose)² / (target × isodose volume), 1 is perfect (Paddick 2000, J Neurosurg 93 suppl
    3:219). ``gradient``: isodose volume / target (RTOG: Shaw 1993, Int J Radiat Oncol Biol Phys 27:1231).
    ``gradient_index``: volume of half the isodose / isodose volume (Paddick and Lippitz 2006, J Neurosurg 105 suppl:194).
    """
    isodose = _volume_at_least(dose, isodose_Gy, external)
    if form == "gradient_index":
        if isodose == 0:
            raise ValueError(f"no voxel reaches {isodose_Gy:.4g} Gy, so the dose has no gradient index")
        return _volume_at_least(dose, isodose_Gy / 2, external) / isodose
    target_volume = float(target.occupancy.sum(dtype=np.float64))
    if target_volume == 0:
        raise ValueError(f"{target.name} is empty on this grid")
    if form == "gradient":
        return isodose / target_volume
    covered = float(target.occupancy[dose.dose_Gy >= isodose_Gy].sum(dtype=np.float64))
    return 0.0 if isodose == 0 else covered**2 / (target_volume * isodose)


def _volume_at_least(dose: Dose, level_Gy: float, external: Structure | None) -> float:
    """Volume with at least a dose, in voxels; inside the body where that is given."""
    hot = dose.dose_Gy >= level_Gy
    return float(hot.sum()) if external is None else float(external.occupancy[hot].sum(dtype=np.float64))
