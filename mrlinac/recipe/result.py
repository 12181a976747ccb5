"""All that a plan produced, in memory; :mod:`mrlinac.recipe.result_folder` has its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from typing import Protocol as TypedAs

import numpy as np
import pandas as pd
from dicompylercore.dvh import DVH

from mrlinac import notebook
from mrlinac.anatomy.grid import Triple
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.structures import StructureSet
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.dose.dose import Dose
from mrlinac.dose.dvh import histogram
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.delivery import Fluence, Segments
from mrlinac.notes import Notes
from mrlinac.protocol.model import Protocol
from mrlinac.recipe.isotoxic import EscalationRecord
from mrlinac.recipe.judge import air_in
from mrlinac.recipe.spec import PlanSpec
from mrlinac.recipe.standing import Standing, standing_of


class Writer(TypedAs):
    """Writes more files (a report, its figures where wanted) into a result's folder before it appears under its name."""

    def __call__(self, result: PlanResult, folder: Path, /, *, figures: bool) -> None:
        """Write them."""


@dataclass(frozen=True)
class PlanResult:
    """All that was produced for one plan.

    Attributes
    ----------
    spec : PlanSpec
    label : str
        The patient's label; identifies no person.
    patient : Patient or None
        For DICOM output; None for a result loaded from a folder.
    ct : Image
        The patient's image, cropped to the calculation grid, for display.
    structures : StructureSet
        Drawn and derived, on the calculation grid.
    medium : Medium
    isocentre_xyz_mm : tuple of float
    field_xyz_T : tuple of float
        The field the dose was computed in.
    fluence : Fluence
        MU per beamlet of one fraction: after normalisation where the plan is a fluence, else as it was before segmentation.
    segments : Segments or None
        What is delivered, of one fraction, where the technique asks for segments; the dose is of them.
    dose : Dose
        Forward Monte Carlo dose of the course.
    goals, constraints, skin, history, timing : DataFrame
        Goals and constraints judged on the forward dose; skin metrics; correction rounds; cost by stage.
    notes : Notes
        What import, structures and medium had to say.
    statements : tuple of str
        What was thinned or neglected; every report prints it.
    made_from : mapping
        Fingerprint, seed, versions, histories, device.
    models : DataFrame
        Complication and control probabilities and doses in biological terms, by the protocol's models; none for a result
        that was made before there were models.
    escalation : EscalationRecord or None
        Of an isotoxic plan: the prescription found, the convex bound, what drove it.
    fluence_goals : DataFrame
        Of a plan in segments: the goals of the fluence that it was made from, on the last forward dose of that fluence.
    writers : tuple of functions
        Called by :meth:`save` with the result and the folder.
    sampled_dose : Sampled or None
        The dose as it was judged, to save its sampling.
    """

    spec: PlanSpec
    label: str
    patient: Patient | None
    ct: Image
    structures: StructureSet
    medium: Medium
    isocentre_xyz_mm: Triple
    field_xyz_T: Triple
    fluence: Fluence
    dose: Dose
    goals: pd.DataFrame
    constraints: pd.DataFrame
    skin: pd.DataFrame
    history: pd.DataFrame
    timing: pd.DataFrame
    notes: Notes
    statements: tuple[str, ...]
    made_from: Mapping[str, Any]
    models: pd.DataFrame = field(default_factory=pd.DataFrame)
    escalation: EscalationRecord | None = None
    segments: Segments | None = None
    fluence_goals: pd.DataFrame = field(default_factory=pd.DataFrame)
    writers: tuple[Writer, ...] = field(default=(), repr=False)
    sampled_dose: Sampled | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        verdict = "constraints met" if self.constraints_met else "constraints unmet"
        return f"PlanResult({self.spec.name!r}, {self.label!r}, {self.field_T:g} T, {verdict})"

    def _repr_html_(self) -> str:
        """What the plan is worth, its goals and its hard limits."""
        standing = self.standing
        goals = [
            (
                str(row["structure"]),
                str(row["metric"]),
                notebook.figure(row["value"], row.get("sigma"), str(row["unit"])),
                f"{ {'<=': '≤ ', '>=': '≥ '}.get(str(row['direction']), '') }{notebook.figure(row['limit'])}",
                str(row["verdict"]),
            )
            for row in self.goals.to_dict("records")
        ]
        return (
            notebook.heading(f"{self.spec.title}, {self.label}, {self.field_T:g} T")
            + notebook.line(standing.headline)
            + notebook.bullets(standing.sentences)
            + notebook.table(("structure", "metric", "value", "goal", "verdict"), goals)
            + notebook.line(RESEARCH_ONLY)
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the resolved plan and the patient's images and structures."""
        return str(self.made_from["fingerprint"])

    @cached_property
    def protocol(self) -> Protocol:
        """The plan's protocol, at the prescription that an escalation found."""
        record = self.escalation
        return self.spec.protocol if record is None else self.spec.protocol.at(record.dose_Gy, record.fractions)

    @property
    def delivery(self) -> Fluence | Segments:
        """What the dose is of."""
        return self.fluence if self.segments is None else self.segments

    @property
    def field_T(self) -> float:
        """Magnitude of the field the dose was computed in."""
        return float(np.linalg.norm(self.field_xyz_T))

    @property
    def constraints_met(self) -> bool:
        """Whether the forward dose keeps every constraint."""
        return bool(self.constraints["met"].all()) if len(self.constraints) else True

    @cached_property
    def standing(self) -> Standing:
        """What the plan is worth, in words that come before its figures."""
        return standing_of(self)

    @cached_property
    def dvh(self) -> Mapping[str, DVH]:
        """Cumulative DVHs of the course without the bias of noise, dicompyler-core's own type.

        Of every structure that has one; not of empty ones, of couches, and of those that cannot be evaluated.
        """
        names = [
            name
            for name, structure in self.structures.structures.items()
            if structure.role != "support" and structure.occupancy.any() and not structure.flaw
        ]
        self.sampled.prepare(names, scatter=False)
        judged = {name: self.sampled.views(name).judged for name in names}
        return {name: histogram(view.dose_Gy, view.volume_cc, name) for name, view in judged.items()}

    @cached_property
    def sampled(self) -> Sampled:
        """The dose in its structures: what DVHs and metrics are read off."""
        if self.sampled_dose is not None and self.sampled_dose.dose is self.dose:
            return self.sampled_dose
        air = air_in(self.structures, self.medium.density_g_cm3)
        return Sampled(self.dose, self.structures, air=air)

    def save(self, folder: str | Path, *, overwrite: bool = False, figures: bool = True) -> Path:
        """Write the result's folder: whole or not at all.

        Parameters
        ----------
        folder : str or Path
            Must be new or empty, or hold a result with the same fingerprint, unless ``overwrite``.
        overwrite : bool
        figures : bool
            Whether to draw the report's figures, which takes most of the time of writing.

        Returns
        -------
        Path
            Of the folder.

        Raises
        ------
        DataError
            When the folder holds something else.
        """
        from mrlinac.recipe.result_folder import save  # it reads and writes this noun

        return save(self, Path(folder), overwrite=overwrite, figures=figures)


def with_patient(result: PlanResult, patient: Patient) -> PlanResult:
    """The result with its patient at hand again, for DICOM output.

    Parameters
    ----------
    result : PlanResult
    patient : Patient

    Returns
    -------
    PlanResult
    """
    return replace(result, patient=patient)
