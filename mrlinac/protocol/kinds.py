"""The kinds of things one may ask of a dose or a fluence: what each means, as numbers.

Every kind is convex (or, where marked, concave) in the dose. A kind has a schema and a numpy value here; `optimise`
registers how a solver states it. A new kind is one short class in this file, a line in :data:`KINDS`, and its
registrations.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mrlinac.protocol.eqd2 import eqd2
from mrlinac.spec import Spec

Positive = Annotated[float, Field(gt=0)]
Percent = Annotated[float, Field(gt=0, lt=100)]
Array = NDArray[np.float64]


class DoseKind(Spec):
    """Base: a function of the doses of one structure's voxels."""

    structure: str
    unit: ClassVar[str] = "Gy"
    curvature: ClassVar[Literal["convex", "concave", "affine", "none"]] = "convex"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        """The function's value.

        Parameters
        ----------
        dose_Gy : array (n,)
            Course dose of the structure's voxels.
        weights : array (n,)
            Their volumes in cc: means are over volume, so that the value does not depend on the grid.
        prescription_Gy : float
            Of the course; what ``dose_percent`` refers to.
        fractions : float
            Of the course; needed by kinds that depend on the size of a fraction.
        """
        raise NotImplementedError

    def limit_value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        """What a limit is compared with, in Gy (parameters as of :meth:`value`)."""
        return self.value(dose_Gy, weights, prescription_Gy, fractions)


class SquaredKind(DoseKind):
    """A mean square about a dose level, absolute or relative to the prescription; exactly one of the two.

    As an objective in Gy², as a limit by its root, in Gy.

    Attributes
    ----------
    dose_Gy : float or None
        The level, of the course.
    dose_percent : float or None
        The level, of the prescription.
    """

    dose_Gy: Positive | None = None
    dose_percent: Positive | None = None

    @model_validator(mode="after")
    def _one_level(self) -> SquaredKind:
        if (self.dose_Gy is None) == (self.dose_percent is None):
            raise ValueError("give exactly one of dose_Gy and dose_percent (of the prescription)")
        return self

    def level_Gy(self, prescription_Gy: float) -> float:
        """The dose level of the course."""
        return self.dose_Gy if self.dose_Gy is not None else float(self.dose_percent or 0) / 100 * prescription_Gy

    def limit_value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        return math.sqrt(self.value(dose_Gy, weights, prescription_Gy, fractions))


class SquaredOverdose(SquaredKind):
    """Mean over the volume of the squared dose above a level."""

    kind: Literal["squared_overdose"] = "squared_overdose"
    unit: ClassVar[str] = "Gy²"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        over = np.maximum(dose_Gy - self.level_Gy(prescription_Gy), 0)
        return float(np.average(over**2, weights=weights))


class SquaredUnderdose(SquaredKind):
    """Mean over the volume of the squared dose below a level."""

    kind: Literal["squared_underdose"] = "squared_underdose"
    unit: ClassVar[str] = "Gy²"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        under = np.maximum(self.level_Gy(prescription_Gy) - dose_Gy, 0)
        return float(np.average(under**2, weights=weights))


class SquaredDeviation(SquaredKind):
    """Mean over the volume of the squared distance to a level."""

    kind: Literal["squared_deviation"] = "squared_deviation"
    unit: ClassVar[str] = "Gy²"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        return float(np.average((dose_Gy - self.level_Gy(prescription_Gy)) ** 2, weights=weights))


class MeanDose(DoseKind):
    """Mean dose."""

    kind: Literal["mean_dose"] = "mean_dose"
    curvature: ClassVar[Literal["convex", "concave", "affine", "none"]] = "affine"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        return float(np.average(dose_Gy, weights=weights))


class _Tail(DoseKind):
    """A kind over a part of the volume, relative or absolute; exactly one of the two.

    Attributes
    ----------
    volume_percent : float or None
        The part, of the structure's volume.
    volume_cc : float or None
        The part, absolute.
    """

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

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        return tail_mean(dose_Gy, weights, self.share(weights))


class LowerTail(_Tail):
    """Mean dose of the coldest part of the volume; concave, so an objective raises it and a limit is a floor."""

    kind: Literal["lower_tail"] = "lower_tail"
    curvature: ClassVar[Literal["convex", "concave", "affine", "none"]] = "concave"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        return -tail_mean(-dose_Gy, weights, self.share(weights))


class DoseAtVolume(_Tail):
    """The DVH statement itself: the least dose of the hottest part of the volume (D1cc, D33 %).

    Not convex. A solver first takes the mean tail, which implies it; then it frees the hottest part of what it found
    and holds every other voxel (two passes). As a floor (``at_least``) the part is the volume that must be covered:
    98 % of volume with ``at_least_percent = 90`` says D98 % ≥ 90 %.
    """

    kind: Literal["dose_at_volume"] = "dose_at_volume"
    curvature: ClassVar[Literal["convex", "concave", "affine", "none"]] = "none"

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        order = np.argsort(-dose_Gy, kind="stable")
        wanted = self.share(weights) * float(weights.sum())
        reached = np.cumsum(weights[order])
        return float(dose_Gy[order[min(int(np.searchsorted(reached, wanted * (1 - 1e-9))), len(order) - 1)]])

    def restriction(self, upper: bool) -> UpperTail | LowerTail:
        """The mean tail that implies the statement as a ceiling or as a floor."""
        if upper:
            return UpperTail(structure=self.structure, volume_percent=self.volume_percent, volume_cc=self.volume_cc)
        if self.volume_percent is None:
            raise ValueError("a floor on dose_at_volume needs volume_percent")
        return LowerTail(structure=self.structure, volume_percent=100 - self.volume_percent)

    def held(self, dose_Gy: Array, weights: Array, upper: bool) -> NDArray[np.bool_]:
        """The voxels to hold, given a dose near the optimum: all but the part that has least room."""
        order = np.argsort(-dose_Gy if upper else dose_Gy, kind="stable")
        share = self.share(weights) if upper else 1 - self.share(weights)
        held = np.ones(len(dose_Gy), bool)
        held[order[np.cumsum(weights[order]) <= share * float(weights.sum()) * (1 + 1e-9)]] = False
        return held


class Geud(DoseKind):
    """Generalised equivalent uniform dose (mean of d^a)^(1/a); convex for a ≥ 1 (Niemierko 1999, Med Phys 26:1100).

    Attributes
    ----------
    exponent : float
        The exponent a.
    """

    kind: Literal["geud"] = "geud"
    exponent: Annotated[float, Field(le=50)]

    @model_validator(mode="after")
    def _convex(self) -> Geud:
        if self.exponent < 1:
            raise ValueError(
                f"exponent {self.exponent:g}: geud is convex from 1 on. Against a target's cold spots take lower_tail "
                "(objective or floor) or squared_underdose (objective)"
            )
        return self

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        dose = np.maximum(dose_Gy, 0)
        highest = float(dose.max(initial=0.0))
        if highest == 0:
            return 0.0
        return highest * float(np.average((dose / highest) ** self.exponent, weights=weights) ** (1 / self.exponent))


class MeanEQD2(DoseKind):
    """Mean of the dose in 2 Gy fractions by the linear-quadratic model; a convex quadratic of the dose.

    Attributes
    ----------
    alpha_beta_Gy : float
        α/β of the structure.
    """

    kind: Literal["mean_eqd2"] = "mean_eqd2"
    alpha_beta_Gy: Positive

    def value(self, dose_Gy: Array, weights: Array, prescription_Gy: float, fractions: float = 0) -> float:
        # A correction's offset may leave a row slightly below zero; the model starts at none.
        return float(np.average(eqd2(np.maximum(dose_Gy, 0), fractions, self.alpha_beta_Gy), weights=weights))


class FluenceSmoothness(Spec):
    """Mean squared difference of neighbouring beamlets' fluence, relative to the even fluence that would give the
    prescription to the target on average. Keeps the noise of an influence from becoming spikes of fluence."""

    kind: Literal["fluence_smoothness"] = "fluence_smoothness"
    unit: ClassVar[str] = ""
    curvature: ClassVar[Literal["convex", "concave", "affine", "none"]] = "convex"

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
    DoseAtVolume,
    Geud,
    MeanEQD2,
)
KINDS: tuple[type[Spec], ...] = (*DOSE_KINDS, FluenceSmoothness)
LIMIT_KINDS: tuple[type[DoseKind], ...] = DOSE_KINDS
"""Kinds that a constraint may limit, in Gy."""
OBJECTIVE_KINDS: tuple[type[Spec], ...] = tuple(k for k in KINDS if k is not DoseAtVolume)
"""Kinds that an objective may lower or raise: a DVH statement is not convex."""

NOT_AN_OBJECTIVE = {
    "dose_at_volume": "is not convex; upper_tail or lower_tail of the same volume is its convex form",
}
NOT_A_LIMIT = {
    "fluence_smoothness": "is no dose; it is an objective with a weight",
}
"""Kinds that stand in one of the two tables only, and what to use in the other."""

_Convex = SquaredOverdose | SquaredUnderdose | SquaredDeviation | MeanDose | UpperTail | LowerTail | Geud | MeanEQD2
AnyObjectiveKind = Annotated[_Convex | FluenceSmoothness, Field(discriminator="kind")]
AnyLimitKind = Annotated[_Convex | DoseAtVolume, Field(discriminator="kind")]
