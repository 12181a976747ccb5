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
from mrlinac.anatomy.structures import Roi, Role, StructureSet
from mrlinac.constants import AIR_LIKE_g_cm3
from mrlinac.dose.dose import Dose
from mrlinac.dose.dvh import histogram
from mrlinac.dose.grammar import Metric
from mrlinac.dose.noise import Figure
from mrlinac.dose.sampled import Air, Sampled
from mrlinac.dose.sampling import Samples
from mrlinac.errors import DataError
from mrlinac.notes import Note, Notes

OUTSIDE_percent = 0.1
"""A larger part of a structure outside the dose grid is worth a warning."""


@dataclass(frozen=True)
class Subject:
    """In what doses are evaluated.

    Attributes
    ----------
    label : str
        Identifies no person.
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
        """Who made a structure: a person, software, or a rule of the protocol.

        Parameters
        ----------
        name : str
            Of the structure.

        Returns
        -------
        str
        """
        if self.ruled is not None and name in self.ruled:
            return "derived by rule"
        return "derived by software" if self.rois[name].derived else "drawn"

    def role(self, name: str) -> Role:
        """Role of a structure.

        Parameters
        ----------
        name : str
            Of the structure.

        Returns
        -------
        Role
        """
        if self.ruled is not None and name in self.ruled:
            return self.ruled[name].role
        return self.rois[name].role

    def flaw(self, name: str) -> str:
        """Why no number of a structure means anything; empty where all is well.

        Parameters
        ----------
        name : str
            Of the structure.

        Returns
        -------
        str
        """
        return self.ruled[name].flaw if self.ruled is not None and name in self.ruled else ""


class Measuring:
    """Samples of every structure in every dose, made once."""

    def __init__(self, doses: Mapping[str, Dose], subject: Subject, prescription_Gy: float | None) -> None:
        self.doses, self.subject, self.prescription_Gy = doses, subject, prescription_Gy
        self.notes: list[Note] = []
        first: Sampled | None = None
        self.sampled: dict[str, Sampled] = {}
        for label, dose in doses.items():
            self.sampled[label] = Sampled(dose, subject.ruled, subject.rois, self._air(), like=first)
            first = first or self.sampled[label]
        assert first is not None
        usable = []
        for name in subject.names:
            try:
                first.samples(name)
            except ValueError as error:
                self.notes.append(Note("warning", f"{error}: not evaluated."))
                continue
            usable.append(name)
        self.known = {label: [name for name in usable if self._reached(label, name)] for label in doses}
        if not any(self.known.values()):
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

    def _reached(self, label: str, name: str) -> bool:
        """Whether a dose knows anything of a structure; what it does not know of it is noted."""
        samples = self.sampled[label].samples(name)
        percent = 100 * samples.outside_cc / samples.total_cc
        if percent > 100 - OUTSIDE_percent:
            text = f"{name} lies outside the grid of {label}: not evaluated."
            self.notes.append(Note("warning", text))
            return False
        if percent > OUTSIDE_percent and samples.role not in ("external", "support"):
            text = f"{name}: {percent:.1f} % of it lies outside the grid of {label} and counts with 0 Gy."
            self.notes.append(Note("warning", text))
        return True

    def samples(self, label: str, name: str) -> Samples:
        """Samples of a structure in a dose.

        Parameters
        ----------
        label : str
            Of the dose.
        name : str
            Of the structure.

        Returns
        -------
        Samples
        """
        return self.sampled[label].samples(name)

    def figure(self, label: str, name: str, wanted: Metric) -> Figure:
        """One metric of a structure in a dose.

        Parameters
        ----------
        label : str
            Of the dose.
        name : str
            Of the structure.
        wanted : Metric

        Returns
        -------
        Figure

        Raises
        ------
        ValueError
            The metric has no value.
        """
        if name not in self.known[label]:
            raise ValueError(f"{name} is empty, or lies outside the dose grid")
        if flaw := self.subject.flaw(name):
            raise ValueError(f"not evaluable: {flaw}")
        return self.sampled[label].metric(name, wanted, self.prescription_Gy)

    def row(self, name: str, wanted: Metric) -> dict[str, object]:
        """One metric of a structure in every dose.

        Parameters
        ----------
        name : str
            Of the structure.
        wanted : Metric

        Returns
        -------
        dict
            A row of the table of metrics; where a dose carries its noise, also the raw value and a standard deviation.
        """
        row: dict[str, object] = {"structure": name, "metric": wanted.text, "unit": wanted.unit, "remark": ""}
        for label in self.doses:
            try:
                figure = self.figure(label, name, wanted)
            except ValueError as error:
                figure, row["remark"] = Figure(np.nan, np.nan), str(error)
            row[label] = figure.value
            if self.doses[label].batches is not None:
                row[f"{label} raw"], row[f"{label} sigma"] = figure.raw, figure.sigma
        return row

    def structures(self) -> pd.DataFrame:
        """The structures that were measured.

        Returns
        -------
        DataFrame
            One row a structure.
        """
        rows = []
        for name in self.subject.names:
            known = {label: self.samples(label, name) for label in self.doses if name in self.known[label]}
            row: dict[str, object] = {
                "structure": name,
                "role": self.subject.role(name),
                "origin": self.subject.origin(name),
                "volume_cc": next((s.total_cc for s in known.values()), float("nan")),
            }
            for label, samples in known.items():
                row[f"outside {label} (%)"] = 100 * samples.outside_cc / samples.total_cc
            rows.append(row)
        return pd.DataFrame(rows)

    def dvhs(self, label: str) -> dict[str, DVH]:
        """DVH of every structure in a dose, without the bias of noise.

        Parameters
        ----------
        label : str
            Of the dose.

        Returns
        -------
        dict of DVH
        """
        histograms = {}
        for name in self.known[label]:
            judged = self.sampled[label].views(name).judged
            histograms[name] = histogram(
                judged.dose_Gy,
                judged.volume_cc,
                name,
                prescription_Gy=self.prescription_Gy,
                color_rgb=self.subject.rois[name].color_rgb if name in self.subject.rois else None,
            )
        return histograms

    def _air(self) -> Air | None:
        """Which places lie in air by the CT; None without one."""
        image = self.subject.image
        if image is None or image.quantity != "HU":
            return None
        return AirOfCT(image)


@dataclass(frozen=True)
class AirOfCT:
    """Tells which places lie in air by a CT's values.

    Attributes
    ----------
    image : Image
        In HU.
    """

    image: Image

    def __call__(self, places_xyz_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        grid = self.image.grid
        index = np.clip(np.rint(grid.index_zyx(places_xyz_mm)).astype(int), 0, np.array(grid.shape_zyx) - 1)
        density = materials.hu_curve("schneider2000").density_of(self.image.values[tuple(index.T)])
        return np.asarray(density < AIR_LIKE_g_cm3)
