"""RTPLAN in: the treatment beams of any system's plan, control point by control point (PS3.3 C.8.8.9 to C.8.8.14)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from mrlinac.anatomy.grid import Triple
from mrlinac.dicom.problems import Findings, integer, numbers, quiet_pydicom, read_dataset, text
from mrlinac.dicom.read.plan_facts import FractionGroup, facts_of
from mrlinac.dicom.scan import RT_PLAN
from mrlinac.errors import DataError, raise_all
from mrlinac.machine.control_points import ControlPoint, TreatmentBeam
from mrlinac.notes import Notes

JAWS: Mapping[str, str] = {"X": "u", "ASYMX": "u", "Y": "v", "ASYMY": "v"}
LEAVES: Mapping[str, str] = {"MLCX": "u", "MLCY": "v"}
NOT_MODELLED = (
    ("NumberOfWedges", "wedge"),
    ("NumberOfCompensators", "compensator"),
    ("NumberOfBoli", "bolus"),
    ("NumberOfBlocks", "block"),
)
TILTED = ("GantryPitchAngle", "TableTopPitchAngle", "TableTopRollAngle")
OVERLAP_mm = 1.0
"""Leaves of a pair that pass each other by less count as closed."""
REFUSED = "Such a plan is not recalculated"


@dataclass(frozen=True)
class PlanObject:
    """An RTPLAN.

    Attributes
    ----------
    uid : str
        SOP Instance UID.
    label : str
        RT Plan Label.
    fractions : int
        Of the fraction group.
    position : str
        DICOM patient position; empty where the plan states none.
    frame_uid : str
        Frame of Reference UID; empty where the plan states none.
    beams : tuple of TreatmentBeam
    energies_MV : tuple of float
        Nominal beam energies.
    flattening_filter : bool
        False where a beam says that it has none.
    machines : tuple of str
        Treatment Machine Names.
    notes : Notes
    """

    uid: str
    label: str
    fractions: int
    position: str
    frame_uid: str
    beams: tuple[TreatmentBeam, ...]
    energies_MV: tuple[float, ...]
    flattening_filter: bool
    machines: tuple[str, ...]
    notes: Notes

    @property
    def total_mu(self) -> float:
        """MU of one fraction."""
        return sum(beam.mu for beam in self.beams)

    def at_isocentre(self, isocentre_xyz_mm: Triple) -> PlanObject:
        """The plan with every beam at one isocentre and the patient's own position, as for a phantom.

        Parameters
        ----------
        isocentre_xyz_mm : tuple of float

        Returns
        -------
        PlanObject
        """
        beams = (
            replace(beam, points=tuple(replace(point, isocentre_xyz_mm=isocentre_xyz_mm) for point in beam.points))
            for beam in self.beams
        )
        return replace(self, beams=tuple(beams), position="")


@quiet_pydicom()
def read_plan(path: str | Path, *, group: int | None = None) -> PlanObject:
    """Read the photon beams of an RTPLAN: static, step-and-shoot, dynamic or arcs.

    Parameters
    ----------
    path : path
    group : int, optional
        Fraction Group Number; needed where the plan has several.

    Returns
    -------
    PlanObject

    Raises
    ------
    DataError
        With every problem of the file: tag, reason, remedy.
    """
    path = Path(path)
    found, name = Findings(), path.name
    try:
        ds = read_dataset(path)
    except Exception as error:
        raise DataError(f"{name}: cannot be read as DICOM ({error}). Choose an RTPLAN") from error
    if text(ds, "SOPClassUID") not in (RT_PLAN, "") or "BeamSequence" not in ds:
        raise DataError(f"{name}: is no RTPLAN with external beams. Choose a file of modality RTPLAN with beams")
    chosen = _group_of(ds, group, name, found)
    facts = facts_of(ds)
    treating = {beam.number for beam in facts.beams if beam.treats}
    beams, energies, flattened, machines, positions = [], set(), True, set(), set()
    for item in ds.BeamSequence:
        number = integer(item, "BeamNumber")
        if number is None or chosen is None or number not in chosen.beams:
            continue
        if number not in treating:
            kind = text(item, "TreatmentDeliveryType").lower()
            found.note("done", f"beam {number} is of type {kind} and gives no planned dose: left out")
            continue
        beam = _Beam(item, number, name, found).read(chosen.metersets.get(number))
        if beam is not None:
            beams.append(beam)
        stated = (numbers(point, "NominalBeamEnergy") for point in item.get("ControlPointSequence") or [])
        energies |= {float(energy[0]) for energy in stated if energy is not None}
        modes = {text(mode, "FluenceModeID").upper() for mode in item.get("PrimaryFluenceModeSequence") or []}
        flattened &= not modes & {"FFF", "SRS"}
        machines.add(text(item, "TreatmentMachineName"))
        positions.add(_position_of(ds, item))
    if not beams and not found.problems:
        found.problem("has no treatment beam with a meterset", REFUSED, file=name, keyword="BeamSequence")
    if len(positions - {""}) > 1:
        found.problem(
            f"states positions {', '.join(sorted(positions))}", REFUSED, file=name, keyword="PatientPosition"
        )
    raise_all(DataError, f"{name} cannot be recalculated:", found.problems)
    assert chosen is not None
    return PlanObject(
        uid=text(ds, "SOPInstanceUID"),
        label=text(ds, "RTPlanLabel"),
        fractions=chosen.fractions or 1,
        position=next(iter(positions - {""}), ""),
        frame_uid=text(ds, "FrameOfReferenceUID"),
        beams=tuple(beams),
        energies_MV=tuple(sorted(energies)),
        flattening_filter=flattened,
        machines=tuple(sorted(machines - {""})),
        notes=found.notes(),
    )


def _group_of(ds: Dataset, number: int | None, file: str, found: Findings) -> FractionGroup | None:
    groups = facts_of(ds).groups
    known = ", ".join(str(group.number) for group in groups)
    if number is not None:
        groups = tuple(group for group in groups if group.number == number)
    if len(groups) == 1:
        group = groups[0]
        if not group.fractions:
            found.note("warning", f"fraction group {group.number} does not say how many fractions: one is taken")
        return group
    if groups:
        found.problem(
            f"has fraction groups {known}", "Choose one with --group", file=file, keyword="FractionGroupSequence"
        )
    else:
        reason = f"has no fraction group {number}; known: {known}" if number is not None else "has no fraction group"
        found.problem(reason, "Its beams have no meterset", file=file, keyword="FractionGroupSequence")
    return None


def _position_of(ds: Dataset, beam: Dataset) -> str:
    setups = ds.get("PatientSetupSequence") or []
    referred = integer(beam, "ReferencedPatientSetupNumber")
    own = [s for s in setups if referred is None or integer(s, "PatientSetupNumber") == referred]
    return next((text(setup, "PatientPosition") for setup in own), "")


@dataclass
class _State:
    """What control points carry over where they do not repeat it."""

    angles: dict[str, float]
    isocentre_xyz_mm: Triple | None = None
    jaws: dict[str, tuple[float, float]] | None = None
    leaf_mm: NDArray[np.float64] | None = None


ANGLES = (
    ("GantryAngle", "GantryRotationDirection"),
    ("BeamLimitingDeviceAngle", "BeamLimitingDeviceRotationDirection"),
    ("PatientSupportAngle", "PatientSupportRotationDirection"),
)


class _Beam:
    """One item of the Beam Sequence being read; problems gather in ``found``."""

    def __init__(self, item: Dataset, number: int, file: str, found: Findings) -> None:
        self.item, self.number, self.file, self.found = item, number, file, found
        self.edges_mm: NDArray[np.float64] | None = None
        self.travel = "u"

    def problem(self, reason: str, keyword: str, remedy: str = REFUSED) -> None:
        """Add a problem of this beam."""
        self.found.problem(f"beam {self.number} {reason}", remedy, file=self.file, keyword=keyword)

    def read(self, mu: float | None) -> TreatmentBeam | None:
        """The beam, or None where it has problems or gives nothing."""
        item, before = self.item, self.found.count
        radiation = text(item, "RadiationType").upper()
        if radiation not in ("PHOTON", ""):
            self.problem(f"is of {radiation.lower()}s", "RadiationType")
        for keyword, what in NOT_MODELLED:
            if integer(item, keyword):
                self.problem(f"has a {what}, which no machine file models", keyword)
        if item.get("ApplicatorSequence"):
            self.problem("has an applicator", "ApplicatorSequence")
        if (unit := text(item, "PrimaryDosimeterUnit").upper()) not in ("MU", ""):
            self.problem(f"has its meterset in {unit.lower()}s", "PrimaryDosimeterUnit")
        sad_mm = numbers(item, "SourceAxisDistance")
        if sad_mm is None:
            self.problem("states no distance of source and axis", "SourceAxisDistance")
        self._devices()
        points = self._points()
        if mu is None:
            self.problem("has no meterset", "BeamMeterset", "Export the plan with its monitor units")
        if self.found.count > before or mu is None or sad_mm is None:
            return None
        if mu <= 0:
            self.found.note("done", f"beam {self.number} has no meterset: left out")
            return None
        name = text(item, "BeamName")
        return TreatmentBeam(self.number, name, mu, float(sad_mm[0]), self.travel, self.edges_mm, tuple(points))

    def _devices(self) -> None:
        kinds = [text(device, "RTBeamLimitingDeviceType").upper() for device in self._limiting()]
        leaves = [kind for kind in kinds if kind not in JAWS]
        if unknown := sorted(set(leaves) - set(LEAVES)):
            self.problem(f"has a collimator of type {', '.join(unknown)}", "RTBeamLimitingDeviceType")
        if len(leaves) > 1:
            self.problem("has several multileaf collimators", "BeamLimitingDeviceSequence")
        for device in self._limiting():
            kind = text(device, "RTBeamLimitingDeviceType").upper()
            if kind not in LEAVES:
                continue
            self.travel = LEAVES[kind]
            edges_mm, pairs = numbers(device, "LeafPositionBoundaries"), integer(device, "NumberOfLeafJawPairs")
            if edges_mm is None or pairs is None or len(edges_mm) != pairs + 1 or (np.diff(edges_mm) <= 0).any():
                self.problem(f"needs boundaries of {pairs} leaf pairs, ascending", "LeafPositionBoundaries")
            else:
                self.edges_mm = edges_mm

    def _limiting(self) -> list[Dataset]:
        return list(self.item.get("BeamLimitingDeviceSequence") or [])

    def _points(self) -> list[ControlPoint]:
        sequence = list(self.item.get("ControlPointSequence") or [])
        if len(sequence) < 2:
            self.problem("has fewer than two control points", "ControlPointSequence")
            return []
        last = numbers(self.item, "FinalCumulativeMetersetWeight")
        weights = [numbers(point, "CumulativeMetersetWeight") for point in sequence]
        if last is None or last[0] <= 0 or any(weight is None for weight in weights):
            self.problem("lacks cumulative weights", "CumulativeMetersetWeight")
            return []
        shares = [float(weight[0] / last[0]) for weight in weights if weight is not None]
        if any(b < a - 1e-9 for a, b in itertools.pairwise(shares)) or abs(shares[-1] - 1) > 1e-4:
            self.problem("has weights that do not grow from 0 to the final one", "CumulativeMetersetWeight")
            return []
        state, points = _State({}, jaws={}), []
        ways = dict.fromkeys((name for name, _ in ANGLES), "NONE")
        for index, (item, share) in enumerate(zip(sequence, shares, strict=True)):
            problems = self.found.count
            self._take(item, state, ways, index)
            if self.found.count > problems:
                return []
            assert state.isocentre_xyz_mm is not None
            gantry, collimator, couch = (state.angles[name] for name, _ in ANGLES)
            jaws = state.jaws or {}
            points.append(
                ControlPoint(
                    share, gantry, collimator, couch, state.isocentre_xyz_mm, jaws.get("u"), jaws.get("v"), state.leaf_mm
                )
            )  # fmt: skip
        return points

    def _take(self, item: Dataset, state: _State, ways: dict[str, str], index: int) -> None:
        """Take what a control point states; the rest stays as it was."""
        for name, direction in ANGLES:
            if (angle := numbers(item, name)) is not None:
                state.angles[name] = _unwrapped(state.angles.get(name), float(angle[0]), ways[name])
            if way := text(item, direction).upper():
                ways[name] = way
            if name not in state.angles:
                if name == "GantryAngle":
                    self.problem("states no gantry angle", name)
                state.angles[name] = 0.0
        for name in TILTED:
            if (tilt := numbers(item, name)) is not None and abs(float(tilt[0])) > 0.01:
                self.problem(f"is tilted by {tilt[0]:g} degrees", name)
        if (isocentre := numbers(item, "IsocenterPosition")) is not None and len(isocentre) == 3:
            state.isocentre_xyz_mm = (float(isocentre[0]), float(isocentre[1]), float(isocentre[2]))
        if state.isocentre_xyz_mm is None:
            self.problem("states no isocentre", "IsocenterPosition")
        for device in item.get("BeamLimitingDevicePositionSequence") or []:
            self._take_device(device, state)
        if index == 0 and self.edges_mm is not None and state.leaf_mm is None:
            self.problem("has leaves without positions", "LeafJawPositions")
        if index == 0 and self.edges_mm is None and set(state.jaws or {}) != {"u", "v"}:
            self.problem("has neither leaves nor two pairs of jaws", "BeamLimitingDevicePositionSequence")

    def _take_device(self, device: Dataset, state: _State) -> None:
        kind, at_mm = text(device, "RTBeamLimitingDeviceType").upper(), numbers(device, "LeafJawPositions")
        if kind in JAWS and at_mm is not None and len(at_mm) == 2:
            state.jaws = {**(state.jaws or {}), JAWS[kind]: (float(at_mm[0]), float(at_mm[1]))}
        elif kind in LEAVES and self.edges_mm is not None:
            pairs = len(self.edges_mm) - 1
            if at_mm is None or len(at_mm) != 2 * pairs:
                count = 0 if at_mm is None else len(at_mm)
                self.problem(f"has {count} leaf positions for {pairs} pairs", "LeafJawPositions")
                return
            leaf_mm = at_mm.reshape(2, pairs).T.copy()
            crossed = leaf_mm[:, 0] > leaf_mm[:, 1]
            if (leaf_mm[crossed, 0] - leaf_mm[crossed, 1] > OVERLAP_mm).any():
                self.problem("has leaf pairs that pass each other", "LeafJawPositions")
            leaf_mm[crossed] = leaf_mm[crossed].mean(axis=1, keepdims=True)
            state.leaf_mm = leaf_mm


def _unwrapped(before: float | None, angle_deg: float, way: str) -> float:
    """An angle as a number that goes on from the one before: clockwise upwards, counter-clockwise downwards.

    Without a direction it is the short way.
    """
    if before is None:
        return angle_deg
    turn_deg = (angle_deg - before) % 360.0
    downwards = turn_deg > 0 if way == "CC" else turn_deg > 180 and way != "CW"
    return before + turn_deg - (360.0 if downwards else 0.0)
