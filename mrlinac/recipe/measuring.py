"""Structures to evaluate doses in, and their samples in every dose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from dicompylercore.dvh import DVH
from numpy.typing import NDArray

from mrlinac.anatomy import materials
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Note, Notes
from mrlinac.anatomy.structures import Roi, Role, StructureSet
from mrlinac.constants import AIR_LIKE_g_cm3
from mrlinac.dose import metrics, sampling
from mrlinac.dose.dose import Dose
from mrlinac.dose.dvh import histogram
from mrlinac.dose.grammar import Metric
from mrlinac.dose.sampling import Samples
from mrlinac.errors import DataError

OUTSIDE_percent = 0.1
"""A larger part of a structure outside the dose grid is worth a warning."""


@dataclass(frozen=True)
class Subject:
    """In what doses are evaluated.

    Attributes
    ----------
    label : str
        Identifies nobody.
    rois : mapping of name to Roi
        As drawn.
    ruled : StructureSet or None
        Structures that a protocol's rules made, on a grid of their own.
    image : Image or None
        The CT, for pictures and to tell air from tissue.
    notes : Notes
    """

    label: str
    rois: Mapping[str, Roi]
    ruled: StructureSet | None = None
    image: Image | None = None
    notes: Notes = field(default_factory=Notes)

    @property
    def names(self) -> list[str]:
        """Drawn structures, then those made by rule that were not drawn or that replace a drawn one."""
        return list(dict.fromkeys([*self.rois, *(self.ruled or ())]))

    @property
    def external(self) -> str | None:
        """Name of the body's outline."""
        return next((name for name, roi in self.rois.items() if roi.role == "external"), None)

    def origin(self, name: str) -> str:
        """Who made a structure: a person, software, or a rule of the protocol."""
        if self.ruled is not None and name in self.ruled:
            return "derived by rule"
        return "derived by software" if self.rois[name].derived else "drawn"

    def role(self, name: str) -> Role:
        """Role of a structure."""
        if self.ruled is not None and name in self.ruled:
            return self.ruled[name].role
        return self.rois[name].role

    def flaw(self, name: str) -> str:
        """Why no number of a structure means anything; empty where all is well."""
        return self.ruled[name].flaw if self.ruled is not None and name in self.ruled else ""


class Measuring:
    """Samples of every structure in every dose, made once."""

    def __init__(self, doses: Mapping[str, Dose], subject: Subject, prescription_Gy: float | None) -> None:
        self.doses, self.subject, self.prescription_Gy = doses, subject, prescription_Gy
        self.notes: list[Note] = []
        self.samples: dict[str, dict[str, Samples]] = {label: {} for label in doses}
        self._air: dict[str, NDArray[np.bool_]] = {}
        self._isodose: dict[tuple[str, float], float] = {}
        reference = next(iter(doses))
        for name in subject.names:
            try:
                first = self._sample(name, doses[reference])
            except ValueError as error:
                self.notes.append(Note("warning", f"{error}: not evaluated."))
                continue
            for label, dose in doses.items():
                self._keep(label, first if label == reference else first.of(dose))
        if not any(self.samples.values()):
            raise DataError(
                "no structure lies in the grid of any dose: they do not belong together, or one of them is misplaced"
            )
        if subject.external is None:
            text = "There is no External: isodose volumes (CI, R50) count the whole dose grid."
            self.notes.append(Note("warning", text))
        if subject.image is None:
            text = (
                "Without the CT air is not told from tissue: hot spots of the body and of normal tissue count both."
            )
            self.notes.append(Note("info", text))

    def _sample(self, name: str, dose: Dose) -> Samples:
        ruled = self.subject.ruled
        if ruled is not None and name in ruled:
            return sampling.sample(dose, ruled[name], ruled.grid)
        return sampling.sample(dose, self.subject.rois[name])

    def _keep(self, label: str, found: Samples) -> None:
        """Keep the samples, unless the dose knows none of them."""
        percent = 100 * found.outside_cc / found.total_cc
        if percent > 100 - OUTSIDE_percent:
            text = f"{found.name} lies outside the grid of {label}: not evaluated."
            self.notes.append(Note("warning", text))
            return
        self.samples[label][found.name] = found
        if percent > OUTSIDE_percent and found.role not in ("external", "support"):
            text = f"{found.name}: {percent:.1f} % of it lies outside the grid of {label} and counts with 0 Gy."
            self.notes.append(Note("warning", text))

    def value(self, label: str, name: str, wanted: Metric) -> float:
        """One metric; raises ValueError where it has no value."""
        if name not in self.samples[label]:
            raise ValueError(f"{name} is empty, or lies outside the dose grid")
        if flaw := self.subject.flaw(name):
            raise ValueError(f"not evaluable: {flaw}")
        found = self.samples[label][name]
        isodoses = self._isodoses_cc(label, wanted) if wanted.of_isodose else None
        air = self._air_of(name, found) if wanted.hot_spot and found.role in metrics.HOT_SPOT_ROLES else None
        return sampling.value_of(found, wanted, prescription_Gy=self.prescription_Gy, isodoses_cc=isodoses, air=air)

    def row(self, name: str, wanted: Metric) -> dict[str, object]:
        """One metric in every dose."""
        row: dict[str, object] = {"structure": name, "metric": wanted.text, "unit": wanted.unit, "remark": ""}
        for label in self.doses:
            try:
                row[label] = self.value(label, name, wanted)
            except ValueError as error:
                row[label], row["remark"] = float("nan"), str(error)
        return row

    def structures(self) -> pd.DataFrame:
        """One row a structure."""
        rows = []
        for name in self.subject.names:
            known = {label: found[name] for label, found in self.samples.items() if name in found}
            row: dict[str, object] = {
                "structure": name,
                "role": self.subject.role(name),
                "origin": self.subject.origin(name),
                "volume_cc": next((s.total_cc for s in known.values()), float("nan")),
            }
            for label, found in known.items():
                row[f"outside {label} (%)"] = 100 * found.outside_cc / found.total_cc
            rows.append(row)
        return pd.DataFrame(rows)

    def dvhs(self, label: str) -> dict[str, DVH]:
        """DVH of every structure."""
        return {
            name: histogram(
                found.dose_Gy,
                found.volume_cc,
                name,
                prescription_Gy=self.prescription_Gy,
                color_rgb=self.subject.rois[name].color_rgb if name in self.subject.rois else None,
            )
            for name, found in self.samples[label].items()
        }

    def _isodoses_cc(self, label: str, wanted: Metric) -> tuple[float, ...]:
        prescription_Gy = float(self.prescription_Gy or np.nan)
        return tuple(self._isodose_cc(label, at / 100 * prescription_Gy) for at in wanted.isodoses_percent)

    def _isodose_cc(self, label: str, level: float) -> float:
        if (label, level) not in self._isodose:
            body = self.samples[label].get(self.subject.external or "")
            self._isodose[label, level] = sampling.isodose_volume_cc(self.doses[label], level, body)
        return self._isodose[label, level]

    def _air_of(self, name: str, found: Samples) -> NDArray[np.bool_] | None:
        """Which samples lie in air by the CT; None without one."""
        image = self.subject.image
        if image is None or image.quantity != "HU":
            return None
        if name not in self._air:
            places = found.lattice.position_xyz_mm(np.stack(found.points_zyx, axis=-1).astype(float))
            index = np.rint(image.grid.index_zyx(places)).astype(int)
            index = np.clip(index, 0, np.array(image.grid.shape_zyx) - 1)
            density = materials.hu_curve("schneider2000").density_of(image.values[tuple(index.T)])
            self._air[name] = density < AIR_LIKE_g_cm3
        return self._air[name]
