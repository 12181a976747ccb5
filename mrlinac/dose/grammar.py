"""The small language of metrics: ``D95%``, ``V20Gy[cc]``, ``mean``, ``CI``; one parser for protocols and commands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mrlinac.errors import SpecError, raise_all

Form = Literal["dose_at", "volume_at", "mean", "homogeneity", "conformity", "gradient", "gradient_index", "volume"]

FORMS = {
    "D95%": "Gy to the hottest 95 % of the volume; D95%[Gy] is the same",
    "D98%[%]": "the same in per cent of the prescription",
    "D0.1cc": "Gy: the lowest dose of the hottest 0.1 cc",
    "V20Gy[%]": "per cent of the volume with at least 20 Gy",
    "V20Gy[cc]": "cc with at least 20 Gy",
    "V95%[%]": "per cent of the volume with at least 95 % of the prescription",
    "V95%[cc]": "cc with at least 95 % of the prescription",
    "mean": "Gy; mean[%] in per cent of the prescription",
    "volume": "cc",
    "HI": "homogeneity (D2% - D98%) / D50% (ICRU 83)",
    "CI_Paddick": "conformity after Paddick of the 95 % isodose; CI_Paddick90% takes another; CI is short for it",
    "CI_RTOG": "conformity after RTOG, isodose volume over target volume; CI_RTOG90% takes another isodose than 95 %",
    "GI": "gradient index: volume of half the 95 % isodose over that of the 95 % isodose; GI90% takes another",
    "R50": "volume of the 50 % isodose over the volume of the structure; R25 takes another isodose",
}
"""Every known form of a metric, by example, and what it says."""

HOT_SPOT_percent = 2.0
"""D of at most so much of a volume, and D of any number of cc, asks for a hot spot."""

_NUMBER = r"(\d+(?:\.\d+)?)"
_DOSE_AT = re.compile(rf"D{_NUMBER}(%|cc)(?:\[(Gy|%)\])?")
_VOLUME_AT = re.compile(rf"V{_NUMBER}(Gy|%)\[(%|cc)\]")
_MEAN = re.compile(r"mean(?:\[(Gy|%)\])?")
_ISODOSE = re.compile(rf"(CI_Paddick|CI_RTOG|CI|GI)(?:{_NUMBER}%)?")
_OF_ISODOSE: dict[str, Form] = {
    "CI": "conformity",
    "CI_Paddick": "conformity",
    "CI_RTOG": "gradient",  # the same ratio as R95
    "GI": "gradient_index",
}
_GRADIENT = re.compile(rf"R{_NUMBER}")
_NOISY = {"max", "min", "dmax", "dmin", "maximum", "minimum", "d100%", "d0%", "d0cc"}


@dataclass(frozen=True)
class Metric:
    """One metric, parsed.

    Attributes
    ----------
    text : str
        As written.
    form : {"dose_at", "volume_at", "mean", "homogeneity", "conformity", "gradient", "gradient_index", "volume"}
    level : float
        The number in the text: a volume for ``dose_at``, a dose for ``volume_at``, an isodose for ``conformity``,
        ``gradient`` and ``gradient_index``.
    level_unit : str
        ``%``, ``cc`` or ``Gy``.
    unit : str
        Of the value: ``Gy``, ``%``, ``cc`` or the empty string.
    """

    text: str
    form: Form
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
        return self.form in ("conformity", "gradient", "gradient_index")

    @property
    def isodoses_percent(self) -> tuple[float, ...]:
        """The isodoses whose volumes the value is made from, of the prescription."""
        return (self.level, self.level / 2) if self.form == "gradient_index" else (self.level,)

    @property
    def hot_spot(self) -> bool:
        """Whether the metric looks for the hottest part of a structure."""
        return self.form == "dose_at" and (self.level_unit == "cc" or self.level <= HOT_SPOT_percent)


@dataclass(frozen=True)
class Request:
    """A metric of one structure (``PTV:D95%``), or of every structure (``D95%``: ``structure`` is empty)."""

    structure: str
    metric: Metric


def parse(text: str) -> Metric:
    """Read a metric such as ``D95%``, ``D2cc``, ``V20Gy[%]``, ``mean``, ``CI`` or ``HI``.

    Raises
    ------
    SpecError
        For an unknown form (all known forms are listed), and for maxima and minima of single voxels.
    """
    bare = text.strip()
    if bare.lower().partition("[")[0] in _NOISY:
        raise SpecError(
            f"metric '{text}': the dose of a single voxel is noise in a Monte Carlo dose; "
            "ask for D0.03cc or D2% instead of a maximum, D98% instead of a minimum"
        )
    if match := _DOSE_AT.fullmatch(bare):
        level = float(match[1])
        if match[2] == "%" and not 0 < level < 100:
            raise SpecError(f"metric '{text}': the volume must lie between 0 and 100 %")
        if level == 0:
            raise SpecError(f"metric '{text}': the volume must be above zero; ask for D0.03cc")
        return Metric(bare, "dose_at", level, match[2], match[3] or "Gy")
    if match := _VOLUME_AT.fullmatch(bare):
        return Metric(bare, "volume_at", float(match[1]), match[2], match[3])
    if match := _MEAN.fullmatch(bare):
        return Metric(bare, "mean", unit=match[1] or "Gy")
    if bare == "volume":
        return Metric(bare, "volume", unit="cc")
    if bare == "HI":
        return Metric(bare, "homogeneity")
    if (match := _ISODOSE.fullmatch(bare)) and float(match[2] or 95.0) > 0:
        return Metric(bare, _OF_ISODOSE[match[1]], float(match[2] or 95.0), "%")
    if (match := _GRADIENT.fullmatch(bare)) and float(match[1]) > 0:
        return Metric(bare, "gradient", float(match[1]), "%")
    known = "; ".join(f"{form} ({meaning})" for form, meaning in FORMS.items())
    raise SpecError(f"unknown metric '{text}'. Known forms, with any number: {known}")


def parse_requests(texts: Sequence[str]) -> tuple[Request, ...]:
    """Read ``PTV:D95%,V20Gy[%]`` (several metrics of a structure) and ``D2%`` (of every structure).

    The structure's name ends at the last colon, so that it may hold some itself.

    Raises
    ------
    SpecError
        Everything that is wrong with any of them.
    """
    requests: list[Request] = []
    problems: list[str] = []
    for text in texts:
        structure, _, listed = text.rpartition(":")
        for form in listed.split(","):
            try:
                requests.append(Request(structure.strip(), parse(form)))
            except SpecError as error:
                problems.append(str(error))
    raise_all(SpecError, "the metrics cannot be read:", list(dict.fromkeys(problems)))
    return tuple(requests)
