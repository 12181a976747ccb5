"""The kinds of things one may ask of a dose or a fluence: what each means, as numbers.

Every kind is convex (or, where marked, concave) in the dose. A kind has a schema and a numpy value here; `optimise`
registers how a solver states it. A new kind is one short class in this file, a line in :data:`KINDS`, and its
registrations.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mrlinac.spec import Spec

Positive = Annotated[float, Field(gt=0)]
Percent = Annotated[float, Field(gt=0, lt=100)]
Array = NDArray[np.float64]


class DoseKind(Spec):
    """Base: a function of the doses of one structure's voxels."""

    structure: str
    unit: ClassVar[str] = "Gy"
    curvature: ClassVar[Literal["convex", "concave", "affine"]] = "convex"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float) -> float:
        """The function's value.

        Parameters
        ----------
        dose_Gy : array (n,)
            Course dose of the structure's voxels.
        weights : array (n,)
            Their volumes in cc: means are over volume, so that the value does not depend on the grid.
        prescription_Gy : float
            Of the course; what ``dose_percent`` refers to.
        """
        raise NotImplementedError


class _Level(DoseKind):
    """A kind with a dose level, absolute or relative to the prescription; exactly one of the two."""

    dose_Gy: Positive | None = None
    dose_percent: Positive | None = None

    @model_validator(mode="after")
    def _one_level(self) -> _Level:
        if (self.dose_Gy is None) == (self.dose_percent is None):
            raise ValueError("give exactly one of dose_Gy and dose_percent (of the prescription)")
        return self

    def level_Gy(self, prescription_Gy: float) -> float:
        """The dose level of the course."""
        return self.dose_Gy if self.dose_Gy is not None else float(self.dose_percent or 0) / 100 * prescription_Gy


class SquaredOverdose(_Level):
    """Mean over the volume of the squared dose above a level."""

    kind: Literal["squared_overdose"] = "squared_overdose"
    unit: ClassVar[str] = "Gy²"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float) -> float:
        over = np.maximum(dose_Gy - self.level_Gy(prescription_Gy), 0)
        return float(np.average(over**2, weights=weights))


class SquaredUnderdose(_Level):
    """Mean over the volume of the squared dose below a level."""

    kind: Literal["squared_underdose"] = "squared_underdose"
    unit: ClassVar[str] = "Gy²"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float) -> float:
        under = np.maximum(self.level_Gy(prescription_Gy) - dose_Gy, 0)
        return float(np.average(under**2, weights=weights))


class SquaredDeviation(_Level):
    """Mean over the volume of the squared distance to a level."""

    kind: Literal["squared_deviation"] = "squared_deviation"
    unit: ClassVar[str] = "Gy²"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float) -> float:
        return float(np.average((dose_Gy - self.level_Gy(prescription_Gy)) ** 2, weights=weights))


class MeanDose(DoseKind):
    """Mean dose."""

    kind: Literal["mean_dose"] = "mean_dose"
    curvature: ClassVar[Literal["convex", "concave", "affine"]] = "affine"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float) -> float:
        return float(np.average(dose_Gy, weights=weights))


class _Tail(DoseKind):
    """A kind over a part of the volume, relative or absolute; exactly one of the two."""

    volume_percent: Percent | None = None
    volume_cc: Positive | None = None

    @model_validator(mode="after")
    def _one_volume(self) -> _Tail:
        if (self.volume_percent is None) == (self.volume_cc is None):
            raise ValueError("give exactly one of volume_percent and volume_cc")
        return self

    def share(self, weights: Array) -> float:
        """The part as a fraction of the structure's volume; 1 where the structure is smaller than ``volume_cc``."""
        if self.volume_percent is not None:
            return self.volume_percent / 100
        return min(1.0, float(self.volume_cc or 0) / float(weights.sum()))


class UpperTail(_Tail):
    """Mean dose of the hottest part of the volume (conditional value at risk).

    Never below the dose-at-volume of the same part: a limit on it implies the DVH limit (Rockafellar and Uryasev
    2000, J Risk 2:21; Romeijn 2003, Phys Med Biol 48:3521). With a small ``volume_cc`` it is the hot spot.
    """

    kind: Literal["upper_tail"] = "upper_tail"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float) -> float:
        return tail_mean(dose_Gy, weights, self.share(weights))


class LowerTail(_Tail):
    """Mean dose of the coldest part of the volume; concave, so an objective raises it and a limit is a floor."""

    kind: Literal["lower_tail"] = "lower_tail"
    curvature: ClassVar[Literal["convex", "concave", "affine"]] = "concave"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float) -> float:
        return -tail_mean(-dose_Gy, weights, self.share(weights))


class FluenceSmoothness(Spec):
    """Mean squared difference of neighbouring beamlets' fluence, relative to the even fluence that would give the
    prescription to the target on average. Keeps the noise of an influence from becoming spikes of fluence."""

    kind: Literal["fluence_smoothness"] = "fluence_smoothness"
    unit: ClassVar[str] = ""
    curvature: ClassVar[Literal["convex", "concave", "affine"]] = "convex"

    def fluence_value(self, mu: Array, pairs: NDArray[np.int64], reference_mu: float) -> float:
        """The value for MU per beamlet (n,), pairs (p, 2) of neighbours' indices, and the even fluence in MU."""
        if not len(pairs):
            return 0.0
        return float(np.mean((mu[pairs[:, 0]] - mu[pairs[:, 1]]) ** 2)) / reference_mu**2


def tail_mean(dose_Gy: Array, weights: Array, share: float) -> float:
    """Mean of the hottest ``share`` of the volume; the voxel at the edge counts with the part that lies inside."""
    order = np.argsort(-dose_Gy, kind="stable")
    wanted = share * float(weights.sum())
    reached = np.cumsum(weights[order])
    taken = np.clip(wanted - (reached - weights[order]), 0, weights[order])
    return float(taken @ dose_Gy[order] / wanted)


DOSE_KINDS: tuple[type[DoseKind], ...] = (
    SquaredOverdose,
    SquaredUnderdose,
    SquaredDeviation,
    MeanDose,
    UpperTail,
    LowerTail,
)
KINDS: tuple[type[Spec], ...] = (*DOSE_KINDS, FluenceSmoothness)
LIMIT_KINDS: tuple[type[DoseKind], ...] = (MeanDose, UpperTail, LowerTail)
"""Kinds in Gy, which a constraint may limit."""

AnyObjectiveKind = Annotated[
    SquaredOverdose | SquaredUnderdose | SquaredDeviation | MeanDose | UpperTail | LowerTail | FluenceSmoothness,
    Field(discriminator="kind"),
]
AnyLimitKind = Annotated[MeanDose | UpperTail | LowerTail, Field(discriminator="kind")]
