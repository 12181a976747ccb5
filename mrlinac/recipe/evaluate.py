"""Doses judged in structures: any system's, one or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from dicompylercore.dvh import DVH
from numpy.typing import NDArray

from mrlinac import notebook
from mrlinac.anatomy.contours import polygon_volume_cc
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Roi, Structure, StructureSet
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.dicom.names import folded, naming
from mrlinac.dicom.read.structure_set import plain_name
from mrlinac.dose import gamma as gammas
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.dose.gamma import Criteria, Gamma
from mrlinac.dose.grammar import Metric, Request, parse
from mrlinac.dose.summation import difference
from mrlinac.errors import DataError, SpecError, did_you_mean, raise_all
from mrlinac.notes import Notes
from mrlinac.protocol import verdicts
from mrlinac.protocol.model import Protocol
from mrlinac.provenance import fingerprint
from mrlinac.recipe.measuring import Measuring, Subject

TARGET_METRICS = ("D98%", "D95%", "D50%", "D2%", "mean", "HI")
RELATIVE_TARGET_METRICS = ("V95%[%]", "CI", "R50")
OTHER_METRICS = ("mean", "D2%", "D0.1cc")
"""What is measured where nothing is asked for; no single voxel's dose (rule 15)."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics, DVHs, goals and differences of doses in structures.

    Attributes
    ----------
    subject : Subject
    doses : mapping of label to Dose
        The first is the reference of all comparisons.
    fractions : int or None
        None: not stated.
    prescription_Gy : float or None
    protocol_title : str
    structures : DataFrame
        structure, role, origin, volume_cc, and the share of the volume outside each dose's grid in per cent.
    metrics : DataFrame
        structure, metric, unit, a column of values a dose, a column a dose of the share of the structure outside that
        dose's grid in per cent (it counts with 0 Gy), remark.
    goals : mapping of label to DataFrame
        As of a plan, with the share outside; empty without a protocol.
    dvh : mapping of label to mapping of structure to DVH
    differences : DataFrame
        Dose minus reference in every structure: mean, standard deviation, D2 % and D98 % of the difference (Gy), and the
        larger share of the structure outside one of the two grids.
    gamma : mapping of label to Gamma
    notes : Notes
    """

    subject: Subject
    doses: Mapping[str, Dose]
    fractions: int | None
    prescription_Gy: float | None
    protocol_title: str
    structures: pd.DataFrame
    metrics: pd.DataFrame
    goals: Mapping[str, pd.DataFrame]
    dvh: Mapping[str, Mapping[str, DVH]]
    differences: pd.DataFrame
    gamma: Mapping[str, Gamma]
    notes: Notes

    def __repr__(self) -> str:
        return f"Evaluation({', '.join(self.doses)} in {len(self.structures)} structures)"

    def _repr_html_(self) -> str:
        """Metrics of all doses, and verdicts where goals were asked for."""
        labels, to_know = list(self.doses), ("warning", "decide")
        rows = [
            (
                str(row["structure"]),
                str(row["metric"]),
                *(notebook.figure(row[label], row.get(f"{label} sigma"), str(row["unit"])) for label in labels),
            )
            for row in self.metrics.to_dict("records")
        ]
        goals = [
            (
                *(label, str(row["structure"]), str(row["metric"])),
                *(notebook.figure(row["value"], row["sigma"], str(row["unit"])), str(row["verdict"])),
            )
            for label, table in self.goals.items()
            for row in table.to_dict("records")
        ]
        return (
            notebook.bullets(note.text for note in self.notes.entries if note.severity in to_know)
            + notebook.table(("structure", "metric", *labels), rows)
            + notebook.table(("dose", "structure", "metric", "value", "verdict"), goals)
            + notebook.line(RESEARCH_ONLY)
        )

    @property
    def fingerprint(self) -> str:
        """Of the doses, of what they were evaluated in, and of what was asked; not of labels and titles."""
        subject, goals = self.subject, next(iter(self.goals.values()), None)
        asked = ["structure", "metric", "limit", "direction"]
        return fingerprint(
            [dose.provenance.fingerprint for dose in self.doses.values()],  # the first is the reference
            self.fractions,
            self.prescription_Gy,
            {name: roi.content for name, roi in subject.rois.items()},
            subject.ruled,
            subject.image,
            self.metrics[asked[:2]].to_numpy().tolist(),
            None if goals is None else goals[asked].to_numpy().tolist(),
            [gamma.criteria for gamma in self.gamma.values()],
        )

    @property
    def goals_met(self) -> bool:
        """Whether no goal of any dose fails."""
        return not any((table["verdict"] == "fail").any() for table in self.goals.values())

    @property
    def gamma_table(self) -> pd.DataFrame:
        """Pass rate, mean and number of points of every dose against the reference."""
        rows = [
            {
                "dose": label,
                "criteria": str(gamma.criteria),
                "pass_percent": gamma.passing_percent(),
                "mean": gamma.mean,
                "points": gamma.judged,
            }
            for label, gamma in self.gamma.items()
        ]
        return pd.DataFrame(rows, columns=["dose", "criteria", "pass_percent", "mean", "points"])


def evaluate(
    doses: Mapping[str, Dose],
    subject: Subject,
    *,
    fractions: int | None = None,
    prescription_Gy: float | None = None,
    protocol: Protocol | None = None,
    requests: Sequence[Request] = (),
    criteria: Criteria | None = None,
) -> Evaluation:
    """Measure doses in structures.

    Parameters
    ----------
    doses : mapping of label to Dose
        Of one course each; the first is what the others are compared with.
    subject : Subject
    fractions : int, optional
        Of the course, for the record.
    prescription_Gy : float, optional
        For metrics relative to it; by default the protocol's.
    protocol : Protocol, optional
        Its goals are judged; those of structures that are not there come out as absent.
    requests : sequence of Request
        What to measure; by default the usual metrics of targets and organs.
    criteria : Criteria, optional
        Of gamma, where there are several doses.

    Returns
    -------
    Evaluation

    Raises
    ------
    SpecError
        Metrics relative to a prescription that is not given, or of structures that are not there.
    """
    if prescription_Gy is None and protocol is not None:
        prescription_Gy = protocol.prescription.dose_Gy
    asked = _asked(requests, subject, prescription_Gy)
    if protocol is not None:
        check_course(protocol, doses)
    measuring = Measuring(doses, subject, prescription_Gy)
    reference, first = next(iter(doses.items()))
    rows = [_row(measuring, name, wanted) for name, wanted in asked]
    columns = ["structure", "metric", "unit"]
    for label, dose in doses.items():
        columns += [label, *((f"{label} raw", f"{label} sigma") if dose.batches is not None else ())]
    columns += [*map(outside_column, doses), "remark"]
    others = {label: dose for label, dose in doses.items() if label != reference}
    return Evaluation(
        subject=subject,
        doses=doses,
        fractions=fractions,
        prescription_Gy=prescription_Gy,
        protocol_title="" if protocol is None else protocol.title,
        structures=_structures(measuring),
        metrics=pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:-1], float)),
        goals={label: _goals(measuring, protocol, label) for label in doses} if protocol is not None else {},
        dvh={label: measuring.dvhs(label) for label in doses},
        differences=_differences(measuring, reference, list(others)),
        gamma={} if criteria is None else {k: gammas.gamma(first, dose, criteria) for k, dose in others.items()},
        notes=Notes((*subject.notes.entries, *measuring.notes)),
    )


OUTSIDE = "outside_percent"
"""Column of a table of goals: the share of the structure outside the dose's grid."""


def outside_column(label: str) -> str:
    """Column of the tables of structures and metrics: the share of a structure outside a dose's grid.

    Parameters
    ----------
    label : str
        Of the dose.

    Returns
    -------
    str
    """
    return f"outside {label} (%)"


def _row(measuring: Measuring, name: str, wanted: Metric) -> dict[str, object]:
    """One metric in every dose, with the share of the structure outside each; its volume is its own wherever it lies."""
    row = {**measuring.row(name, wanted), **_outside(measuring, name)}
    if wanted.text == "volume" and not measuring.subject.flaw(name):
        away = [label for label, known in measuring.known.items() if name not in known]
        row |= dict.fromkeys(away, _volume_cc(measuring.subject, name))
    return row


def _outside(measuring: Measuring, name: str) -> dict[str, float]:
    """Share of a structure outside each dose's grid in per cent; NaN for a structure without a volume."""
    subject = measuring.subject
    empty = _volume_cc(subject, name) == 0
    percent_by_dose: dict[str, float] = {}
    for label, known in measuring.known.items():
        share = 100.0 if not empty else float("nan")
        if name in known:
            samples = measuring.samples(label, name)
            share = 100 * samples.outside_cc / samples.total_cc
        percent_by_dose[outside_column(label)] = float(share)
    return percent_by_dose


def _volume_cc(subject: Subject, name: str) -> float:
    """Volume of a structure, wherever it lies."""
    if subject.ruled is not None and name in subject.ruled:
        return float(subject.ruled[name].occupancy.sum(dtype=np.float64)) * subject.ruled.grid.voxel_cc
    return polygon_volume_cc(subject.rois[name])


def _structures(measuring: Measuring) -> pd.DataFrame:
    """One row a structure, those outside a dose's grid too, with their own volume."""
    table = measuring.structures()
    for row, name in enumerate(table["structure"]):
        if np.isnan(table.loc[row, "volume_cc"]):
            table.loc[row, "volume_cc"] = _volume_cc(measuring.subject, name)
        for column, share in _outside(measuring, name).items():
            table.loc[row, column] = share
    return table


def check_requests(
    requests: Sequence[Request], names: Sequence[str], prescription_Gy: float | None, clinic: Mapping[str, str]
) -> dict[str, list[str]]:
    """Whether what is asked for can be measured in structures of these names.

    Parameters
    ----------
    requests : sequence of Request
    names : sequence of str
    prescription_Gy : float or None
    clinic : mapping
        The clinic's name by name, where it has another.

    Returns
    -------
    dict of list of str
        The structures that each name asked for means.

    Raises
    ------
    SpecError
        All structures that are not there, each with the nearest name; names that several structures go by; metrics that
        need a prescription.
    """
    meant = {r.structure: _named(r.structure, names, clinic) for r in requests if r.structure}
    known = [*names, *(original for original in clinic.values() if original)]
    problems = [
        f"there is no structure {name}{did_you_mean(name, known)}" for name in sorted(meant) if not meant[name]
    ]
    if problems:
        problems[-1] += f" (known: {', '.join(_listed(names, clinic))})"
    problems += [
        f"{name} is {' or '.join(names_meant)}: say which"
        for name, names_meant in meant.items()
        if len(names_meant) > 1
    ]
    relative = sorted({r.metric.text for r in requests if r.metric.needs_prescription})
    if relative and prescription_Gy is None:
        problems.append(f"{', '.join(relative)}: relative to the prescription, which is not given (--prescription)")
    raise_all(SpecError, "the metrics asked for cannot be measured:", problems)
    return meant


def clinic_names(rois: Mapping[str, Roi]) -> dict[str, str]:
    """The clinic's name of each drawn structure.

    Parameters
    ----------
    rois : mapping of name to Roi

    Returns
    -------
    dict of str
    """
    return {name: roi.original_name for name, roi in rois.items()}


def _asked(requests: Sequence[Request], subject: Subject, prescription_Gy: float | None) -> list[tuple[str, Metric]]:
    """Every metric of every structure that is asked for, or the usual ones."""
    if not requests:
        asked = []
        for name in subject.names:
            if subject.role(name) == "support" or (subject.role(name) == "other" and name not in subject.rois):
                continue  # couches, and the rings that a protocol makes for its optimiser
            texts: tuple[str, ...] = TARGET_METRICS if subject.role(name) == "target" else OTHER_METRICS
            if subject.role(name) == "target" and prescription_Gy is not None:
                texts = (*TARGET_METRICS, *RELATIVE_TARGET_METRICS)
            asked += [(name, parse(text)) for text in texts]
        return asked
    meant = check_requests(requests, subject.names, prescription_Gy, clinic_names(subject.rois))
    return [(name, r.metric) for r in requests for name in (meant[r.structure] if r.structure else subject.names)]


def _named(asked: str, names: Sequence[str], clinic: Mapping[str, str]) -> list[str]:
    """Structures that a name stands for: the name here; else the clinic's; else either, however it is spelt."""
    if asked in names:
        return [asked]
    exact = [name for name, original in clinic.items() if asked in (original, plain_name(original))]
    if exact:
        return exact
    table = naming(asked).name
    if table in names:
        return [table]
    spelt = {name: {folded(name), folded(plain_name(clinic.get(name, "")))} for name in names}
    return [name for name, spellings in spelt.items() if folded(asked) and folded(asked) in spellings]


def _listed(names: Sequence[str], clinic: Mapping[str, str]) -> list[str]:
    """Names of all structures, with the clinic's where it is another."""
    pairs = ((name, clinic.get(name, "")) for name in names)
    return [name if original in ("", name) else f"{name} ('{original}')" for name, original in pairs]


def check_course(protocol: Protocol, doses: Mapping[str, Dose]) -> None:
    """Refuse doses of another number of fractions than the protocol's.

    Parameters
    ----------
    protocol : Protocol
    doses : mapping of label to Dose

    Raises
    ------
    DataError
        Names each dose.
    """
    wanted = protocol.prescription.fractions
    for label, dose in doses.items():
        if dose.fractions != wanted:
            raise DataError(
                f"{label} stands for {dose.fractions} fraction(s), the protocol's prescription for {wanted}: "
                "evaluate it without the protocol, or state --fractions if the file is wrong"
            )


def _goals(measuring: Measuring, protocol: Protocol, label: str) -> pd.DataFrame:
    """The protocol's goals judged on one dose; missing structures are absent, not an error."""
    goals = tuple(goal.model_copy(update={"optional": True}) for goal in protocol.goals)
    judged = verdicts.judge(
        protocol.model_copy(update={"goals": goals}), measuring.sampled[label], _stand_ins(measuring, label)
    )
    table = pd.DataFrame([asdict(verdict) for verdict in judged]).rename(columns={"outcome": "verdict"})
    columns = ["structure", "metric", "value", "unit", "limit", "direction", "verdict", "margin", "scaled", "raw"]
    numbers = dict.fromkeys(("value", "limit", "margin", "raw", "sigma"), float)
    table = table.reindex(columns=[*columns, "sigma", "source"]).astype(numbers)
    names = [name if name in measuring.subject.names else "" for name in table["structure"]]
    outside = [_outside(measuring, name)[outside_column(label)] if name else float("nan") for name in names]
    table.insert(len(table.columns) - 1, OUTSIDE, np.array(outside, float))
    return table


def _stand_ins(measuring: Measuring, label: str) -> StructureSet:
    """What the judge asks of structures, which a dose knows, their roles and flaws, without their voxels."""
    subject = measuring.subject
    grid = Grid((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    voxel = np.ones((1, 1, 1), np.float32)
    return StructureSet(
        grid,
        {
            name: Structure(name, subject.role(name), voxel, flaw=subject.flaw(name))
            for name in measuring.known[label]
        },
    )


def _differences(measuring: Measuring, reference: str, others: Sequence[str]) -> pd.DataFrame:
    """Dose minus reference, structure by structure, weighted by volume."""
    rows = []
    for label in others:
        for name in measuring.known[label]:
            if name not in measuring.known[reference]:
                continue  # outside the reference's grid, which a note says
            samples = measuring.samples(label, name)
            gap = samples.dose_Gy.astype(np.float64) - measuring.samples(reference, name).dose_Gy
            weight = samples.volume_cc / samples.total_cc
            mean = float(gap @ weight)
            most, least = metrics.dose_at_volume(gap, samples.volume_cc, np.array([0.02, 0.98]) * samples.total_cc)
            spread = float(np.sqrt(max(float((gap - mean) ** 2 @ weight), 0.0)))
            rows.append(
                {
                    "dose": label,
                    "structure": name,
                    "mean_Gy": mean,
                    "sd_Gy": spread,
                    "highest 2 % above_Gy": float(most),
                    "lowest 2 % below_Gy": float(least),
                    OUTSIDE: max(_outside(measuring, name)[outside_column(each)] for each in (reference, label)),
                }
            )
    columns = ["dose", "structure", "mean_Gy", "sd_Gy", "highest 2 % above_Gy", "lowest 2 % below_Gy", OUTSIDE]
    return pd.DataFrame(rows, columns=columns)


def difference_map(evaluation: Evaluation, label: str) -> NDArray[np.float32]:
    """Dose minus reference, on the reference's grid.

    Parameters
    ----------
    evaluation : Evaluation
    label : str
        Of the dose.

    Returns
    -------
    float32 array [z, y, x]
        Gy.
    """
    return difference(evaluation.doses[label], next(iter(evaluation.doses.values())))
