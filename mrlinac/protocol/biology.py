"""What a dose is expected to do: complication and control probabilities, and doses in biological terms.

A model is data: its numbers stand in a protocol with their source. A kind says here what the numbers mean. A new kind is
one short class, and its name in :data:`AnyModel`.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.special import expit, ndtr

from mrlinac.protocol.eqd2 import bed, eqd2
from mrlinac.spec import Spec

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Array = NDArray[np.float64]


# ------------------------------------------------------------------------------------------------------ formulas


def geud(dose_Gy: Array, weights: Array, n: float) -> float:
    """Generalised equivalent uniform dose (Σ v D^(1/n))^n of the volumes' shares v; n = 1 is the mean.

    Niemierko 1999 (Med Phys 26:1100); the same reduction of a DVH is Kutcher and Burman's (1989, Int J Radiat Oncol
    Biol Phys 16:1623).
    """
    largest = float(dose_Gy.max(initial=0.0))
    if largest <= 0:
        return 0.0
    # Relative to the largest dose, so that no power overflows.
    return largest * float(np.average((dose_Gy / largest) ** (1 / n), weights=weights)) ** n


def probit(dose_Gy: float, td50_Gy: float, m: float) -> float:
    """Lyman's dose response, Φ((D − TD50) / (m TD50)) (1985, Radiat Res 104:S13)."""
    return float(ndtr((dose_Gy - td50_Gy) / (m * td50_Gy)))


def logistic(dose_Gy: float, intercept: float, slope_per_Gy: float) -> float:
    """1 / (1 + exp(−(intercept + slope · D)))."""
    return float(expit(intercept + slope_per_Gy * dose_Gy))


def logistic_control(dose_Gy: Array, weights: Array, d50_Gy: float, gamma50: float) -> float:
    """Π (1 / (1 + (D50/D)^(4 γ50)))^v over the volumes' shares v: control of a tumour whose parts act alone.

    γ50 is the rise of the probability at D50 per relative rise of a uniform dose.
    """
    with np.errstate(divide="ignore"):  # a part without dose: control is zero
        minus_log = np.logaddexp(0, 4 * gamma50 * (math.log(d50_Gy) - np.log(dose_Gy)))
    return math.exp(-float(np.average(minus_log, weights=weights)))


def poisson_control(
    bed_Gy: Array,
    volume_cc: Array,
    *,
    alpha_per_Gy: float,
    alpha_sigma_per_Gy: float,
    clonogens_per_cc: float,
    growth: float = 0.0,
) -> float:
    """Probability that no clonogen survives, averaged over a population's radiosensitivity.

    ⟨exp(−Σ ρ V exp(−α BED + growth))⟩ over α normal about its mean, cut at zero (Webb and Nahum 1993, Phys Med Biol
    38:653). ``growth`` is the logarithm of what repopulation multiplies.
    """
    steps = np.linspace(-6, 6, 241) if alpha_sigma_per_Gy > 0 else np.zeros(1)
    alphas = alpha_per_Gy + alpha_sigma_per_Gy * steps
    alphas, steps = alphas[alphas > 0], steps[alphas > 0]
    surviving = clonogens_per_cc * math.exp(growth) * volume_cc * np.exp(-alphas[0] * bed_Gy)
    # The alphas are evenly spaced: each survival is the one before times the same factor, which is cheaper than its own.
    factor = np.exp(-(alphas[1] - alphas[0]) * bed_Gy) if len(alphas) > 1 else np.ones(1)
    survivors = np.empty(len(alphas))
    for k in range(len(alphas)):
        survivors[k] = surviving.sum()
        surviving *= factor
    return float(np.average(np.exp(-survivors), weights=np.exp(-(steps**2) / 2)))


def overall_days(fractions: int, fractions_per_day: int, days_per_week: int) -> int:
    """Days from the first to the last fraction of a course that begins with a week and has no gaps."""
    days = math.ceil(fractions / fractions_per_day) - 1
    return 7 * (days // days_per_week) + days % days_per_week


# --------------------------------------------------------------------------------------------------------- kinds


class Model(Spec):
    """Base: a number read off the dose of one structure.

    ``endpoint`` says of what; ``source`` is the citation of every number in the table.

    Attributes
    ----------
    structure : str
        Whose dose is read.
    endpoint : str
        What happens.
    source : str
        Citation of every number in the table.
    optional : bool
        The structure may be missing.
    """

    structure: str
    endpoint: str
    source: str
    optional: bool = False
    quantity: ClassVar[str]
    unit: ClassVar[str] = "%"

    def value(self, dose_Gy: Array, weights_cc: Array, fractions: int) -> float:
        """The number, in :attr:`unit`.

        Parameters
        ----------
        dose_Gy : array (n,)
            Course dose of the structure's voxels, or of the bins of its differential DVH.
        weights_cc : array (n,)
            Their volumes.
        fractions : int
            In how many equal fractions the dose is given.
        """
        raise NotImplementedError

    def doses(self, fractions: int) -> str:
        """Which doses enter, in words."""
        raise NotImplementedError


class _Response(Model):
    """A model of doses of one fraction size.

    With ``alpha_beta_Gy`` every voxel's dose is turned into EQD2 before anything is averaged. With ``fraction_Gy``
    doses count as they are, and the model holds at that fraction size only.

    Attributes
    ----------
    alpha_beta_Gy : float or None
        α/β by which doses are converted to ``fraction_Gy``.
    fraction_Gy : float or None
        Fraction size of the doses that the model is of.
    """

    alpha_beta_Gy: Positive | None = None
    fraction_Gy: Positive | None = None

    @model_validator(mode="after")
    def _one_basis(self) -> _Response:
        if (self.alpha_beta_Gy is None) == (self.fraction_Gy is None):
            raise ValueError(
                "give exactly one of alpha_beta_Gy (doses become EQD2, voxel by voxel) and fraction_Gy (doses count as "
                "they are; the model holds at this fraction size)"
            )
        return self

    def effective_Gy(self, dose_Gy: Array, fractions: int) -> Array:
        """The doses that the model is about."""
        return dose_Gy if self.alpha_beta_Gy is None else eqd2(dose_Gy, fractions, self.alpha_beta_Gy)

    def doses(self, fractions: int) -> str:
        """Which doses enter, in words."""
        if self.alpha_beta_Gy is None:
            return f"as given, at {self.fraction_Gy:g} Gy a fraction"
        return f"EQD2 of each voxel, α/β {self.alpha_beta_Gy:g} Gy"


class NtcpLkb(_Response):
    """Complication probability after Lyman, Kutcher and Burman: probit of the gEUD with volume exponent ``n``.

    Attributes
    ----------
    td50_Gy : float
        Uniform dose at which half of the patients have the complication.
    m : float
        Slope.
    n : float
        Volume exponent; 1 is the mean dose.
    """

    kind: Literal["ntcp_lkb"] = "ntcp_lkb"
    td50_Gy: Positive
    m: Positive
    n: Positive
    quantity: ClassVar[str] = "NTCP"

    def value(self, dose_Gy: Array, weights_cc: Array, fractions: int) -> float:
        return 100 * probit(geud(self.effective_Gy(dose_Gy, fractions), weights_cc, self.n), self.td50_Gy, self.m)


class NtcpLogistic(_Response):
    """Complication probability, logistic in the mean dose.

    Attributes
    ----------
    intercept : float
        Of the logit, at no dose.
    slope_per_Gy : float
        Of the logit, per Gy of the mean dose.
    """

    kind: Literal["ntcp_logistic"] = "ntcp_logistic"
    intercept: float
    slope_per_Gy: Positive
    quantity: ClassVar[str] = "NTCP"

    def value(self, dose_Gy: Array, weights_cc: Array, fractions: int) -> float:
        mean_Gy = float(np.average(self.effective_Gy(dose_Gy, fractions), weights=weights_cc))
        return 100 * logistic(mean_Gy, self.intercept, self.slope_per_Gy)


class TcpLogistic(_Response):
    """Control probability, log-logistic in the dose of each part of the tumour.

    Attributes
    ----------
    d50_Gy : float
        Uniform dose that controls half of the tumours.
    gamma50 : float
        Rise of the probability at D50 per relative rise of dose.
    """

    kind: Literal["tcp_logistic"] = "tcp_logistic"
    d50_Gy: Positive
    gamma50: Positive
    quantity: ClassVar[str] = "TCP"

    def value(self, dose_Gy: Array, weights_cc: Array, fractions: int) -> float:
        effective_Gy = self.effective_Gy(dose_Gy, fractions)
        return 100 * logistic_control(effective_Gy, weights_cc, self.d50_Gy, self.gamma50)


class Repopulation(Spec):
    """Growth of a tumour during treatment, from ``kick_off_days`` after the first fraction to the last one.

    Attributes
    ----------
    doubling_days : float
        Time in which clonogens double.
    kick_off_days : float
        Days after the first fraction when growth begins.
    fractions_per_day : int
        Of the course.
    days_per_week : int
        Of the course.
    """

    doubling_days: Positive
    kick_off_days: NotNegative
    fractions_per_day: Annotated[int, Field(ge=1)]
    days_per_week: Annotated[int, Field(ge=1, le=7)]

    def days(self, fractions: int) -> int:
        """Overall time of the course."""
        return overall_days(fractions, self.fractions_per_day, self.days_per_week)

    def growth(self, fractions: int) -> float:
        """Logarithm of the factor by which clonogens grow."""
        return math.log(2) / self.doubling_days * max(0.0, self.days(fractions) - self.kick_off_days)


class TcpPoisson(Model):
    """Control probability: that no clonogen survives, over a population's α, with repopulation if it is given.

    Attributes
    ----------
    alpha_per_Gy : float
        Mean radiosensitivity.
    alpha_sigma_per_Gy : float
        Its standard deviation over the population.
    alpha_beta_Gy : float
        α/β of the tumour.
    clonogens_per_cc : float
        Density.
    repopulation : Repopulation or None
        Growth during treatment.
    """

    kind: Literal["tcp_poisson"] = "tcp_poisson"
    alpha_per_Gy: Positive
    alpha_sigma_per_Gy: NotNegative
    alpha_beta_Gy: Positive
    clonogens_per_cc: Positive
    repopulation: Repopulation | None = None
    quantity: ClassVar[str] = "TCP"

    def value(self, dose_Gy: Array, weights_cc: Array, fractions: int) -> float:
        return 100 * poisson_control(
            bed(dose_Gy, fractions, self.alpha_beta_Gy),
            weights_cc,
            alpha_per_Gy=self.alpha_per_Gy,
            alpha_sigma_per_Gy=self.alpha_sigma_per_Gy,
            clonogens_per_cc=self.clonogens_per_cc,
            growth=0.0 if self.repopulation is None else self.repopulation.growth(fractions),
        )

    def doses(self, fractions: int) -> str:
        """Which doses enter, in words."""
        text = f"BED of each voxel, α/β {self.alpha_beta_Gy:g} Gy"
        if self.repopulation is None:
            return f"{text}, without repopulation"
        return f"{text}; {self.repopulation.days(fractions)} days from first to last fraction"


class _MeanOf(Model):
    """A mean dose in biological terms.

    Attributes
    ----------
    alpha_beta_Gy : float
        α/β of the structure.
    """

    alpha_beta_Gy: Positive
    unit: ClassVar[str] = "Gy"

    def doses(self, fractions: int) -> str:
        """Which doses enter, in words."""
        return f"each voxel with α/β {self.alpha_beta_Gy:g} Gy"


class MeanEqd2(_MeanOf):
    """Mean over the volume of each voxel's EQD2."""

    kind: Literal["mean_eqd2"] = "mean_eqd2"
    quantity: ClassVar[str] = "mean EQD2"

    def value(self, dose_Gy: Array, weights_cc: Array, fractions: int) -> float:
        return float(np.average(eqd2(dose_Gy, fractions, self.alpha_beta_Gy), weights=weights_cc))


class MeanBed(_MeanOf):
    """Mean over the volume of each voxel's BED."""

    kind: Literal["mean_bed"] = "mean_bed"
    quantity: ClassVar[str] = "mean BED"

    def value(self, dose_Gy: Array, weights_cc: Array, fractions: int) -> float:
        return float(np.average(bed(dose_Gy, fractions, self.alpha_beta_Gy), weights=weights_cc))


MODEL_KINDS: tuple[type[Model], ...] = (NtcpLkb, NtcpLogistic, TcpLogistic, TcpPoisson, MeanEqd2, MeanBed)

AnyModel = Annotated[
    NtcpLkb | NtcpLogistic | TcpLogistic | TcpPoisson | MeanEqd2 | MeanBed,
    Field(discriminator="kind"),
]
