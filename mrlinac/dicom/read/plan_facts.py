"""What an RTPLAN says of itself: beams that treat and beams that do not, fraction groups, brachytherapy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from mrlinac.dicom.problems import Findings, integer, numbers, quiet_pydicom, text
from mrlinac.dicom.scan import RT_PLAN, scan

TREATING = ("", "TREATMENT", "CONTINUATION")
"""Treatment Delivery Types (PS3.3 C.8.8.14) of beams that give the planned dose; the others set up or take pictures."""


@dataclass(frozen=True)
class PlannedBeam:
    """A beam of a plan: its number, its Beam Type and Treatment Delivery Type, the unit of its meterset.

    Attributes
    ----------
    number : int or None
    kind : str
        Beam Type.
    delivery : str
        Treatment Delivery Type.
    unit : str
        Primary Dosimeter Unit.
    """

    number: int | None
    kind: str
    delivery: str
    unit: str

    @property
    def treats(self) -> bool:
        """Whether it gives planned dose."""
        return self.delivery in TREATING


@dataclass(frozen=True)
class FractionGroup:
    """A fraction group: fractions planned, meterset a fraction by beam number, brachytherapy setups.

    ``beams`` are all that it refers to; those without a meterset are missing from ``metersets``.

    Attributes
    ----------
    number : int or None
    fractions : int or None
        Number of Fractions Planned.
    beams : tuple of int
        Numbers of all beams that the group refers to.
    metersets : mapping of int to float
        Beam Meterset of one fraction by beam number; beams without one are missing.
    setups : tuple of int
        Numbers of brachytherapy application setups.
    """

    number: int | None
    fractions: int | None
    beams: tuple[int, ...]
    metersets: Mapping[int, float]
    setups: tuple[int, ...]


@dataclass(frozen=True)
class Brachytherapy:
    """Application setups by type, treatment type (HDR …) and isotopes of a brachytherapy plan.

    Attributes
    ----------
    setups : mapping of str to int
        Number of application setups by type.
    treatment : str
        Brachy Treatment Type (HDR …).
    isotopes : tuple of str
    channels : int
    """

    setups: Mapping[str, int]
    treatment: str
    isotopes: tuple[str, ...]
    channels: int

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.setups.items()))
        count = sum(self.setups.values())
        parts = [
            f"brachytherapy: {count} application setup(s)" + (f" ({kinds})" if kinds else ""),
            self.treatment,
            " and ".join(self.isotopes),
            f"{self.channels} channel(s)" if self.channels else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class PlanFacts:
    """What an RTPLAN says of its delivery.

    Attributes
    ----------
    uid : str
        SOP Instance UID.
    beams : tuple of PlannedBeam
    groups : tuple of FractionGroup
    brachytherapy : Brachytherapy or None
    positions : tuple of str
        Patient positions.
    devices : tuple of str
        Treatment machines and beam modifiers that the plan names.
    """

    uid: str
    beams: tuple[PlannedBeam, ...] = ()
    groups: tuple[FractionGroup, ...] = ()
    brachytherapy: Brachytherapy | None = None
    positions: tuple[str, ...] = ()
    devices: tuple[str, ...] = field(default=())

    def fractions(self, groups: Iterable[int] = ()) -> int | None:
        """Fractions of some fraction groups together, of all where none is named; None where one does not say.

        Parameters
        ----------
        groups : iterable of int
            Numbers of fraction groups.

        Returns
        -------
        int or None
        """
        wanted = set(groups)
        counts = [group.fractions for group in self.groups if not wanted or group.number in wanted]
        if not counts or any(count is None for count in counts):
            return None
        return sum(count for count in counts if count is not None)

    def treatment_beams(self, groups: Iterable[int] = ()) -> frozenset[int]:
        """Numbers of the beams that give dose in some fraction groups: treating, and with a meterset where any has one.

        Parameters
        ----------
        groups : iterable of int
            Numbers of fraction groups.

        Returns
        -------
        frozenset of int
        """
        wanted = set(groups)
        chosen = [fraction_group for fraction_group in self.groups if not wanted or fraction_group.number in wanted]
        treating = {beam.number for beam in self.beams if beam.treats and beam.number is not None}
        referred = {number for group in chosen for number in group.beams}
        metered = {number for group in chosen for number, value in group.metersets.items() if value > 0}
        return frozenset(treating & (metered or referred or treating))

    def setups(self, groups: Iterable[int] = ()) -> frozenset[int]:
        """Numbers of the application setups of some fraction groups, or of all.

        Parameters
        ----------
        groups : iterable of int
            Numbers of fraction groups.

        Returns
        -------
        frozenset of int
        """
        wanted = set(groups)
        return frozenset(n for group in self.groups if not wanted or group.number in wanted for n in group.setups)

    def meterset(self, group: FractionGroup) -> float:
        """Meterset that the treatment beams of a group give in one fraction.

        Parameters
        ----------
        group : FractionGroup

        Returns
        -------
        float
            In the beams' dosimeter unit.
        """
        treating = {beam.number for beam in self.beams if beam.treats}
        return sum(value for number, value in group.metersets.items() if number in treating)

    def __str__(self) -> str:
        counts = [group.fractions for group in self.groups]
        parts = [
            *self._beam_words(),
            str(self.brachytherapy or ""),
            f"fractions {' + '.join('not stated' if f is None else str(f) for f in counts) or 'not stated'}",
            " and ".join(self.devices),
            ", ".join(self.positions) or "no position",
        ]
        return ", ".join(part for part in parts if part)

    def _beam_words(self) -> list[str]:
        """Treatment beams with their meterset, then all others."""
        if not self.beams and self.brachytherapy is not None:
            return []
        treating = [beam for beam in self.beams if beam.treats]
        kinds = Counter(beam.kind.lower() or "of no type" for beam in treating)
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        words = [f"{len(treating)} treatment beam(s)" + (f" ({listed})" if listed else "")]
        units = {"MU" if beam.unit in ("", "MU") else beam.unit.lower() for beam in treating} or {"MU"}
        metersets = [self.meterset(group) for group in self.groups]
        if metersets:
            words.append(
                " and ".join(f"{value:.1f}" for value in metersets) + f" {'/'.join(sorted(units))} a fraction"
            )
        others = Counter(beam.delivery for beam in self.beams if not beam.treats)
        metered = {number for group in self.groups for number, value in group.metersets.items() if value > 0}
        for delivery, count in sorted(others.items()):
            with_dose = sum(b.delivery == delivery and b.number in metered for b in self.beams)
            extra = f", {with_dose} with a meterset that is not counted" if with_dose else ""
            words.append(
                f"{count} {'setup beam(s)' if delivery == 'SETUP' else f'beam(s) of type {delivery}'}{extra}"
            )
        return words


def facts_of(header: Dataset) -> PlanFacts:
    """Facts of an RTPLAN's header."""
    beams = tuple(
        PlannedBeam(
            integer(item, "BeamNumber"),
            text(item, "BeamType"),
            text(item, "TreatmentDeliveryType").upper(),
            text(item, "PrimaryDosimeterUnit").upper(),
        )
        for item in header.get("BeamSequence") or []
    )
    devices = {
        (text(device, "RTBeamLimitingDeviceType"), integer(device, "NumberOfLeafJawPairs") or 0)
        for item in header.get("BeamSequence") or []
        for device in item.get("BeamLimitingDeviceSequence") or []
    }
    setups = header.get("PatientSetupSequence") or []
    return PlanFacts(
        text(header, "SOPInstanceUID"),
        beams,
        tuple(_group(item) for item in header.get("FractionGroupSequence") or []),
        _brachytherapy(header),
        tuple(sorted({text(item, "PatientPosition") for item in setups} - {""})),
        tuple(name + (f" of {pairs} pairs" if pairs > 1 else "") for name, pairs in sorted(devices)),
    )


def _group(item: Dataset) -> FractionGroup:
    referred = [(integer(beam, "ReferencedBeamNumber"), beam) for beam in item.get("ReferencedBeamSequence") or []]
    metersets = {
        number: float(value[0])
        for number, beam in referred
        if number is not None and (value := numbers(beam, "BeamMeterset")) is not None
    }
    setups = item.get("ReferencedBrachyApplicationSetupSequence") or []
    return FractionGroup(
        integer(item, "FractionGroupNumber"),
        integer(item, "NumberOfFractionsPlanned"),
        tuple(number for number, _ in referred if number is not None),
        metersets,
        tuple(n for setup in setups if (n := integer(setup, "ReferencedBrachyApplicationSetupNumber")) is not None),
    )


def _brachytherapy(header: Dataset) -> Brachytherapy | None:
    """What is said of brachytherapy; None for a plan without any."""
    setups = header.get("ApplicationSetupSequence") or []
    treatment, technique = text(header, "BrachyTreatmentType"), text(header, "BrachyTreatmentTechnique").lower()
    planned = sum(
        integer(group, "NumberOfBrachyApplicationSetups") or 0 for group in header.get("FractionGroupSequence") or []
    )
    if not setups and not treatment and not technique and not planned:
        return None
    kinds = Counter(text(setup, "ApplicationSetupType").lower() or technique or "of no type" for setup in setups)
    if not setups and planned:
        kinds[technique or "not described"] = planned
    isotopes = {text(setup, "SourceIsotopeName") for setup in header.get("SourceSequence") or []} - {""}
    channels = sum(len(setup.get("ChannelSequence") or []) for setup in setups)
    return Brachytherapy(dict(kinds), treatment, tuple(sorted(isotopes)), channels)


@quiet_pydicom()
def plans_in(folder: str | Path) -> dict[str, PlanFacts]:
    """The RTPLANs of a folder tree by SOP Instance UID.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict of PlanFacts
    """
    files = scan(Path(folder), Findings()).of_kind(RT_PLAN)
    facts = [facts_of(file.header) for file in files]
    return {file.uid: file for file in facts if file.uid}
