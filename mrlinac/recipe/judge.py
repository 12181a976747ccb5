"""Goals, constraints and models on the forward dose, as the tables a person reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose import metrics
from mrlinac.dose.sampled import Air, Sampled
from mrlinac.protocol import estimates, kinds, verdicts
from mrlinac.protocol.model import Prescription, Protocol

SKIN_METRICS = ("D2cc", "mean", "D0.1cc")
"""D2cc is the primary metric, fixed beforehand; the others are secondary."""
SKIN_SAYS = "Skin D2cc"
"""How :func:`skin_sentence` begins."""
SKIN_SIGMA_percent = 0.3
"""Standard deviation of a skin metric, in per cent of the prescription, with which arms may be compared."""


def tables(
    protocol: Protocol, sampled: Sampled, structures: StructureSet, duals: Mapping[str, float]
) -> dict[str, pd.DataFrame]:
    """Goals, constraints, models and skin of a course dose.

    Hot-spot metrics of the body and of normal tissue leave out what ``sampled`` knows to be air; constraints are judged on
    all of a structure, as the optimiser holds them. In every table ``value`` is without the bias of noise and is what is
    judged, ``raw`` is as read off the dose, ``sigma`` is the standard deviation of ``value``.

    Parameters
    ----------
    protocol : Protocol
        At the prescription.
    sampled : Sampled
        Dose of the course.
    structures : StructureSet
    duals : mapping of str to float
        By name of the constraint: its multiplier in the optimisation.

    Returns
    -------
    dict of DataFrame
        ``goals``, ``constraints``, ``models``, ``skin``.
    """
    asked = {one.structure for one in (*protocol.goals, *protocol.models.values())}
    asked |= {constraint.of.structure for constraint in protocol.constraints}
    asked |= {name for name in structures if name.startswith("Skin")} | set(structures.of_role("external"))
    sampled.prepare(
        name for name, one in structures.structures.items() if name in asked and one.occupancy.any() and not one.flaw
    )
    return {
        "goals": goals_table(protocol, sampled, structures),
        "constraints": constraints_table(protocol, sampled, structures, duals),
        "models": models_table(protocol, sampled, structures),
        "skin": skin_table(sampled, structures),
    }


def air_in(structures: StructureSet, density_g_cm3: NDArray[np.float32]) -> Air | None:
    """Tells places in air by the density of the voxel they lie in.

    Parameters
    ----------
    structures : StructureSet
    density_g_cm3 : float32 array [z, y, x]

    Returns
    -------
    Air or None
        None without a body.
    """
    body = structures.of_role("external")
    if not body:
        return None
    return AirVoxels(structures.grid, metrics.air_like(density_g_cm3, structures[body[0]]))


@dataclass(frozen=True)
class AirVoxels:
    """Tells which places lie in voxels of air.

    Attributes
    ----------
    grid : Grid
    air : bool array [z, y, x]
    """

    grid: Grid
    air: NDArray[np.bool_]

    def __call__(self, places_xyz_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        index = np.rint(self.grid.index_zyx(places_xyz_mm)).astype(np.int64)
        z, y, x = np.clip(index, 0, np.array(self.grid.shape_zyx) - 1).T
        return np.asarray(self.air[z, y, x])


GOAL_COLUMNS = (
    *("structure", "metric", "value", "unit", "limit", "direction", "verdict", "margin", "scaled", "raw", "sigma"),
    "source",
)


def goals_table(protocol: Protocol, sampled: Sampled, structures: StructureSet) -> pd.DataFrame:
    """The goals of a protocol.

    Nothing is skipped silently: an optional structure that the patient lacks has the verdict ``absent``, one that cannot
    be evaluated ``void``.

    Parameters
    ----------
    protocol : Protocol
    sampled : Sampled
        Dose of the course.
    structures : StructureSet

    Returns
    -------
    DataFrame
        One row a goal: :data:`GOAL_COLUMNS`.
    """
    rows = [asdict(verdict) for verdict in verdicts.judge(protocol, sampled, structures)]
    table = pd.DataFrame(rows).rename(columns={"outcome": "verdict"}).reindex(columns=list(GOAL_COLUMNS))
    return table.astype(dict.fromkeys(("value", "limit", "margin", "raw", "sigma"), float))


MODEL_COLUMNS = (
    *("model", "quantity", "endpoint", "structure", "kind", "value", "unit", "raw", "sigma", "verdict"),
    *("reason", "doses", "parameters", "source"),
)


def models_table(protocol: Protocol, sampled: Sampled, structures: StructureSet) -> pd.DataFrame:
    """The complication and control models of a protocol.

    Parameters
    ----------
    protocol : Protocol
    sampled : Sampled
        Dose of the course.
    structures : StructureSet

    Returns
    -------
    DataFrame
        One row a model: :data:`MODEL_COLUMNS`. The verdict is never a judgement: ``report``, or with its reason
        ``absent`` or ``void``. Nothing is skipped.
    """
    rows = [asdict(estimate) for estimate in estimates.estimate(protocol, sampled, structures)]
    table = pd.DataFrame(rows).rename(columns={"outcome": "verdict"}).reindex(columns=list(MODEL_COLUMNS))
    return table.astype(dict.fromkeys(("value", "raw", "sigma"), float))


def constraints_table(
    protocol: Protocol, sampled: Sampled, structures: StructureSet, duals: Mapping[str, float]
) -> pd.DataFrame:
    """The hard constraints of a protocol.

    Parameters
    ----------
    protocol : Protocol
    sampled : Sampled
        Dose of the course.
    structures : StructureSet
    duals : mapping of str to float
        By name of the constraint: its multiplier in the optimisation.

    Returns
    -------
    DataFrame
        One row a constraint: name, value, raw, sigma and limit in Gy, met, dual, source.
    """
    rx, rows = protocol.prescription, []
    for constraint in protocol.constraints:
        of = constraint.of
        if of.structure not in structures:
            continue  # optional: Protocol.problems() has refused a missing structure that is not
        figure = sampled.number(of.structure, _limit_value(of, rx), linear=isinstance(of, kinds.MeanDose))
        limit = constraint.limit_Gy(rx)
        rows.append(
            {
                "name": constraint.name,
                "value": figure.value,
                "raw": figure.raw,
                "sigma": figure.sigma,
                "limit": limit,
                "met": bool(figure.value <= limit if constraint.upper else figure.value >= limit),
                "dual": duals.get(constraint.name, np.nan),
                "source": constraint.source,
            }
        )
    return pd.DataFrame(rows, columns=["name", "value", "raw", "sigma", "limit", "met", "dual", "source"])


def _limit_value(
    of: kinds.DoseKind, rx: Prescription
) -> Callable[[NDArray[np.floating], NDArray[np.float64]], float]:
    """What a limit is compared with, of doses (Gy) and volumes (cc)."""
    return lambda dose_Gy, volume_cc: of.limit_value(
        np.asarray(dose_Gy, np.float64), volume_cc, rx.dose_Gy, rx.fractions
    )


def skin_table(sampled: Sampled, structures: StructureSet) -> pd.DataFrame:
    """The skin metrics of every structure whose name begins with ``Skin`` and that can be evaluated.

    Parameters
    ----------
    sampled : Sampled
        Dose of the course.
    structures : StructureSet

    Returns
    -------
    DataFrame
        Columns metric, region, value, unit, raw, sigma.
    """
    rows = []
    for name, structure in structures.structures.items():
        if not name.startswith("Skin") or not structure.occupancy.any() or structure.flaw:
            continue
        for text in SKIN_METRICS:
            try:
                figure = sampled.metric(name, text)
            except ValueError:
                continue  # a piece of skin too small for this metric, the air in it left out
            row = {"value": figure.value, "unit": "Gy", "raw": figure.raw, "sigma": figure.sigma}
            rows.append({"metric": text, "region": name, **row})
    return pd.DataFrame(rows, columns=["metric", "region", "value", "unit", "raw", "sigma"])


def skin_sentence(skin: pd.DataFrame, prescription_Gy: float, structures: StructureSet) -> str:
    """Whether the primary skin metric is known well enough to compare arms (0.3 % of the prescription).

    Parameters
    ----------
    skin : DataFrame
        Of :func:`skin_table`.
    prescription_Gy : float
    structures : StructureSet

    Returns
    -------
    str
    """
    if "Skin" in structures and structures["Skin"].flaw:
        return f"{SKIN_SAYS} is not evaluable: {structures['Skin'].flaw}."
    primary = skin[(skin["region"] == "Skin") & (skin["metric"] == "D2cc")]
    if primary.empty or not np.isfinite(primary["sigma"].iloc[0]):
        return f"{SKIN_SAYS} has no known statistical uncertainty."
    percent = 100 * float(primary["sigma"].iloc[0]) / prescription_Gy
    verdict = "enough" if percent <= SKIN_SIGMA_percent else "not enough"
    return (
        f"{SKIN_SAYS} has a standard deviation of {percent:.2f} % of the prescription: {verdict} to compare arms "
        f"({SKIN_SIGMA_percent:g} % is asked for)."
    )
