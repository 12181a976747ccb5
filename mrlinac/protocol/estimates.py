"""A protocol's models evaluated on a dose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose.sampled import Sampled
from mrlinac.errors import DataError
from mrlinac.protocol.biology import Model
from mrlinac.protocol.model import Prescription, Protocol, SAME_FRACTION_Gy

_COMMON = {"structure", "endpoint", "source", "optional", "kind", "alpha_beta_Gy", "fraction_Gy"}
_UNITS = {"_per_Gy": "/Gy", "_per_cc": "/cc", "_Gy": " Gy", "_days": " d"}


@dataclass(frozen=True)
class Estimate:
    """One model evaluated.

    Attributes
    ----------
    model : str
        Its name in the protocol.
    quantity : str
        ``NTCP``, ``TCP``, ``mean EQD2`` or ``mean BED``.
    endpoint, structure, kind, unit : str
    value : float or None
        Without the bias of noise; None where there is none: ``reason`` then says why.
    outcome : {"report", "absent", "void"}
        A model is never judged: it has no limit. ``absent``: the structure is not there. ``void``: a number would mean
        nothing.
    reason : str
    doses, parameters, source : str
        Which doses enter; the numbers of the model; where they come from.
    raw, sigma : float
        The value as the dose with its noise has it, and the standard deviation of ``value``; nan where unknown.
    """

    model: str
    quantity: str
    endpoint: str
    structure: str
    kind: str
    value: float | None
    unit: str
    outcome: Literal["report", "absent", "void"]
    reason: str
    doses: str
    parameters: str
    source: str
    raw: float = math.nan
    sigma: float = math.nan


def estimate(protocol: Protocol, sampled: Sampled, structures: StructureSet) -> tuple[Estimate, ...]:
    """Evaluate every model on a course dose, without the bias of noise.

    Parameters
    ----------
    protocol : Protocol
    sampled : Sampled
        Dose of the course.
    structures : StructureSet

    Returns
    -------
    tuple of Estimate

    Raises
    ------
    DataError
        When a structure is missing that is not optional.
    ValueError
        When the dose does not stand for the protocol's course.
    """
    rx = protocol.prescription
    fractions = sampled.dose.fractions
    if fractions != rx.fractions:
        raise ValueError(f"the dose stands for {fractions} fraction(s), the prescription for {rx.fractions}")
    return tuple(_one(name, model, rx, sampled, structures) for name, model in protocol.models.items())


def _one(name: str, model: Model, rx: Prescription, sampled: Sampled, structures: StructureSet) -> Estimate:
    if model.structure not in structures and not model.optional:
        raise DataError(
            f"model {name}: the structure {model.structure} is missing; draw it or mark the model optional"
        )
    outcome, reason = _why_not(model, rx, structures)
    figure = None
    if outcome == "report":
        figure = sampled.number(
            model.structure,
            lambda dose_Gy, volume_cc: model.value(np.asarray(dose_Gy, np.float64), volume_cc, rx.fractions),
        )
    return Estimate(
        model=name,
        quantity=model.quantity,
        endpoint=model.endpoint,
        structure=model.structure,
        kind=str(getattr(model, "kind", "")),
        value=None if figure is None else figure.value,
        unit=model.unit,
        outcome=outcome,
        reason=reason,
        doses=model.doses(rx.fractions),
        parameters=parameters(model),
        source=model.source,
        raw=math.nan if figure is None else figure.raw,
        sigma=math.nan if figure is None else figure.sigma,
    )


def _why_not(
    model: Model, rx: Prescription, structures: StructureSet
) -> tuple[Literal["report", "absent", "void"], str]:
    """What keeps a model from being evaluated, if anything."""
    if model.structure not in structures:
        return "absent", f"{model.structure} is not drawn"
    structure = structures[model.structure]
    if not structure.occupancy.any():
        return "absent", f"{model.structure} is empty on this grid"
    if structure.flaw:
        return "void", structure.flaw
    given_Gy = getattr(model, "fraction_Gy", None)
    if given_Gy is not None and abs(given_Gy - rx.fraction_Gy) >= SAME_FRACTION_Gy:
        return "void", (
            f"holds at {given_Gy:g} Gy a fraction, not at {rx.fraction_Gy:.3g} Gy; alpha_beta_Gy instead of "
            "fraction_Gy would convert through EQD2"
        )
    return "report", ""


def parameters(model: Model) -> str:
    """The numbers of a model, in words: ``td50 30.8 Gy, m 0.37, n 0.99``."""
    return ", ".join(_words(model.model_dump(exclude=_COMMON, exclude_none=True)))


def _words(numbers: dict[str, Any]) -> list[str]:
    parts: list[str] = []
    for key, number in numbers.items():
        if isinstance(number, dict):
            parts += _words(number)
            continue
        unit = next((suffix for suffix in _UNITS if key.endswith(suffix)), "")
        parts.append(f"{key.removesuffix(unit).replace('_', ' ')} {number:g}{_UNITS.get(unit, '')}")
    return parts
