"""What a report shows: one plain, frozen object, filled by whoever has a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from dicompylercore.dvh import DVH
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Triple
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.structures import Roi, StructureSet
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.dose.dose import Dose
from mrlinac.errors import DataError, raise_all
from mrlinac.machine.delivery import Certificate, Fluence, Segments
from mrlinac.notes import Notes

GOAL_COLUMNS = ("structure", "metric", "value", "unit", "limit", "direction", "verdict", "margin", "source")
CONSTRAINT_COLUMNS = ("name", "value", "limit", "met", "dual")
SKIN_COLUMNS = ("metric", "region", "value", "unit")
MODEL_COLUMNS = (
    *("model", "quantity", "endpoint", "structure", "value", "unit", "verdict", "reason"),
    *("doses", "parameters", "source"),
)
TIMING_COLUMNS = ("stage", "cpu_s", "wall_s", "peak_MB")
VERDICTS = ("pass", "near", "fail", "report", "absent", "void")


@dataclass(frozen=True)
class ReportContent:
    """Everything one plan's report is made from.

    Attributes
    ----------
    title, machine_title, protocol_title, citation, patient_label : str
        Words for the head of the page; none may identify a person.
    ct : Image
        The planning image on its own grid.
    structures : StructureSet
        On the dose grid; must hold ``target``. ``External`` and ``Skin`` are used where present.
    dose : Dose
        Course dose on the calculation grid; ``rel_sigma`` may be None.
    prescription_Gy : float
        Of the course.
    fractions : int
    target : str
        Name of the structure that the prescription refers to; the planes are laid through its centroid.
    fluence : Fluence
    segments : Segments or None
        What is delivered, where the plan is segmented.
        MU per beamlet of one fraction; its beams hold the isocentre.
    leaf_travel : {"u", "v"}
        Beam-limiting-device axis along which the leaves move.
    leaf_width_mm : float
        At the isocentre.
    dvhs : mapping of structure name to DVH
    goals : DataFrame
        Columns :data:`GOAL_COLUMNS`; ``verdict`` is one of :data:`VERDICTS`, ``direction`` is "at most", "at least",
        "<=", ">=" or empty. As in all tables of figures ``sigma`` and ``raw`` where known: the standard deviation of
        ``value``, and what it was with the bias of noise.
    constraints : DataFrame
        Columns :data:`CONSTRAINT_COLUMNS`; ``met`` is boolean.
    skin : DataFrame
        Columns :data:`SKIN_COLUMNS`, and ``sigma`` where known: the metrics of the skin, one row each.
    models : DataFrame
        Columns :data:`MODEL_COLUMNS`, and ``sigma`` and ``raw`` where known: one model a row; ``verdict`` is
        "report", "absent" or "void", the last two with a ``reason``.
    convergence : DataFrame
        History of the correction or the solver, any columns.
    timing : DataFrame
        Columns :data:`TIMING_COLUMNS`: stage, CPU and wall seconds, peak resident memory in MB (10⁶ bytes).
    notes : Notes
        The import report.
    thinning, neglected, warnings : tuple of str
        Whole sentences: what the optimiser left out, what the physics leaves out, what was not met.
    headline : str
        What the plan is worth, in a sentence; stands first.
    level : {"useless", "missed", "met"}
        How the headline is drawn.
    provenance : mapping
        Fingerprint, seed, histories, versions …; plain values or one level of mappings.
    certificate : Certificate or None
    escalation : mapping
        Of an isotoxic plan: ``limits`` and how the prescription was found; empty otherwise.
    escalation_says : str
        The same in a sentence.
    rois : mapping of str to Roi
        As drawn; gives the clinic's names and what software made.
    window : {"thorax", "lung", "mediastinum"}
        Grey levels of the CT.
    skin_note : str
        How the skin metrics were made, printed under them.
    research_statement : str
    """

    title: str
    machine_title: str
    protocol_title: str
    citation: str
    patient_label: str
    ct: Image
    structures: StructureSet
    dose: Dose
    prescription_Gy: float
    fractions: int
    target: str
    fluence: Fluence
    leaf_travel: Literal["u", "v"]
    leaf_width_mm: float
    dvhs: Mapping[str, DVH]
    goals: pd.DataFrame
    constraints: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(CONSTRAINT_COLUMNS)))
    skin: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SKIN_COLUMNS)))
    models: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(MODEL_COLUMNS)))
    convergence: pd.DataFrame = field(default_factory=pd.DataFrame)
    timing: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(TIMING_COLUMNS)))
    notes: Notes = field(default_factory=Notes)
    thinning: tuple[str, ...] = ()
    neglected: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    headline: str = ""
    level: Literal["useless", "missed", "met"] = "missed"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    certificate: Certificate | None = None
    escalation: Mapping[str, Any] = field(default_factory=dict)
    escalation_says: str = ""
    rois: Mapping[str, Roi] = field(default_factory=dict)
    segments: Segments | None = None
    window: Literal["thorax", "lung", "mediastinum"] = "thorax"
    skin_note: str = ""
    research_statement: str = RESEARCH_ONLY

    def __post_init__(self) -> None:
        raise_all(DataError, f"the report '{self.title}' cannot be written:", self.problems())

    def problems(self) -> list[str]:
        """Sentences about what is missing or inconsistent; empty when all is well.

        Returns
        -------
        list of str
        """
        problems = []
        for name, columns in (
            ("goals", GOAL_COLUMNS),
            ("constraints", CONSTRAINT_COLUMNS),
            ("skin", SKIN_COLUMNS),
            ("models", MODEL_COLUMNS),
            ("timing", TIMING_COLUMNS),
        ):
            missing = [c for c in columns if c not in getattr(self, name).columns]
            if missing:
                problems.append(f"the table '{name}' lacks the columns {', '.join(missing)}")
        if "verdict" in self.goals.columns:
            unknown = sorted({str(v) for v in self.goals["verdict"]} - set(VERDICTS))
            if unknown:
                problems.append(f"unknown verdicts {', '.join(unknown)}; known: {', '.join(VERDICTS)}")
        if "verdict" in self.models.columns and (
            judged := sorted({str(v) for v in self.models["verdict"]} - {"report", "absent", "void"})
        ):
            problems.append(f"models are reported, not judged: {', '.join(judged)} cannot be their verdict")
        if self.target not in self.structures:
            known = ", ".join(self.structures)
            problems.append(f"the target '{self.target}' is not among the structures; known: {known}")
        elif not self.structures[self.target].occupancy.any():
            problems.append(f"the target '{self.target}' is empty on the dose grid")
        if self.structures.grid != self.dose.grid:
            problems.append("structures and dose must lie on one grid")
        if self.dose.fractions != self.fractions:
            problems.append(
                f"the dose stands for {self.dose.fractions} fractions, the course has {self.fractions}: "
                "use Dose.course()"
            )
        if not self.prescription_Gy > 0:
            problems.append(f"the prescription must be positive, not {self.prescription_Gy} Gy")
        if not self.fluence.maps:
            problems.append("the fluence has no beams")
        return problems

    @property
    def isocentre_xyz_mm(self) -> Triple:
        """The isocentre of the first beam, in LPS."""
        return self.fluence.maps[0].beam.isocentre_xyz_mm

    @property
    def centre_xyz_mm(self) -> Triple:
        """Centroid of the target, in LPS: where the planes are laid.

        Not the isocentre: on a machine with a fixed couch the isocentre may lie outside the target.
        """
        return centroid_xyz_mm(self.structures, self.target)


def centroid_xyz_mm(structures: StructureSet, name: str) -> Triple:
    """Centroid of a structure by occupancy, in LPS."""
    grid, weight = structures.grid, structures[name].occupancy
    total = weight.sum(dtype=np.float64)

    def along(axes: tuple[int, int], centres_mm: NDArray[np.float64]) -> float:
        return float(weight.sum(axis=axes, dtype=np.float64) @ centres_mm / total)

    return (along((0, 1), grid.x_mm), along((0, 2), grid.y_mm), along((1, 2), grid.z_mm))


def is_upper(direction: object) -> bool:
    """Whether a goal's direction says that less is better."""
    return str(direction).strip().lower() in {"at most", "<=", "≤", "<", "max", "below", "upper"}
