"""RTPLAN out: a plan in segments as step-and-shoot beams (PS3.3 A.20)."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mrlinac.anatomy.patient import Patient
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.dicom.scan import RT_PLAN, RT_STRUCT
from mrlinac.dicom.write.common import decimal, decimals, new_object, save, source_of, with_uids
from mrlinac.errors import DataError
from mrlinac.machine.beams import Beam
from mrlinac.machine.delivery import Segment, Segments
from mrlinac.machine.model import Machine, Mlc
from mrlinac.provenance import dicom_uid
from mrlinac.provenance import fingerprint as content_hash


@dataclass(frozen=True)
class PrescribedTo:
    """What an RTPLAN says of its prescription.

    Attributes
    ----------
    dose_Gy : float
        Of the course.
    fractions : int
    target : str
        Name of the structure.
    roi_number : int or None
        ROI Number of the target in the RTSTRUCT; None where it is not drawn there.
    """

    dose_Gy: float
    fractions: int
    target: str
    roi_number: int | None = None


def write_plan(
    segments: Segments,
    machine: Machine,
    patient: Patient,
    path: str | Path,
    fingerprint: str,
    *,
    prescribed: PrescribedTo,
    structure_set_uid: str,
    label: str = "research",
    identify: bool = False,
) -> str:
    """Write segments as an RTPLAN of step-and-shoot beams.

    Each segment is a pair of control points with the same aperture; the cumulative weights are MU of one fraction. Beam
    Type is STATIC, as the standard calls beams whose leaves stand still while the weight grows (PS3.3 C.8.8.14). Leaf
    positions are those of the first bank (X1 or Y1), then of the second, in the order of the boundaries.

    Parameters
    ----------
    segments : Segments
        MU of one fraction.
    machine : Machine
        Whose leaves they are.
    patient : Patient
    path : path
        File to write; replaced if it exists.
    fingerprint : str
        Fingerprint of what made the plan; goes into the UIDs.
    prescribed : PrescribedTo
    structure_set_uid : str
        SOP Instance UID of the RTSTRUCT that the plan refers to.
    label : str
        RT Plan Label, 16 characters at most.
    identify : bool
        See :func:`~mrlinac.dicom.write.common.new_object`.

    Returns
    -------
    str
        SOP Instance UID.

    Raises
    ------
    DataError
        For a plan without segments or without MU.
    """
    patient = with_uids(patient)
    if not len(segments) or segments.total_mu <= 0:
        raise DataError("RTPLAN: the plan has no segments with MU; a beam to write has some.")
    source = source_of(patient, identify=identify)
    sop_uid = dicom_uid(fingerprint, source, "RTPLAN", _content(segments), structure_set_uid, label)
    series_uid = dicom_uid(fingerprint, source, "series", "RTPLAN")
    ds = new_object(RT_PLAN, "RTPLAN", sop_uid, series_uid, patient, identify=identify)
    ds.SeriesDescription = "mrlinac research plan"
    ds.InstanceNumber = 1
    ds.RTPlanLabel = label[:16]
    ds.RTPlanDescription = RESEARCH_ONLY
    ds.RTPlanDate, ds.RTPlanTime = ds.StudyDate, ds.StudyTime
    ds.PlanIntent = "RESEARCH"
    ds.RTPlanGeometry = "PATIENT"
    structures = Dataset()
    structures.ReferencedSOPClassUID = RT_STRUCT
    structures.ReferencedSOPInstanceUID = structure_set_uid
    ds.ReferencedStructureSetSequence = Sequence([structures])
    ds.DoseReferenceSequence = Sequence([_dose_reference(prescribed, content_hash(fingerprint, "dose reference"))])
    setup = Dataset()
    setup.PatientSetupNumber = 1
    setup.PatientPosition = segments.beams[0].position
    ds.PatientSetupSequence = Sequence([setup])
    by_beam = [[one for one in segments.segments if one.beam == beam] for beam in segments.beams]
    ds.FractionGroupSequence = Sequence([_fraction_group(by_beam, prescribed.fractions)])
    ds.BeamSequence = Sequence(
        [_beam(number, own, segments.mlc, machine) for number, own in enumerate(by_beam, start=1)]
    )
    ds.ApprovalStatus = "UNAPPROVED"
    save(ds, Path(path))
    return sop_uid


def _content(segments: Segments) -> str:
    return content_hash(
        [(beam.gantry_deg, beam.collimator_deg, beam.couch_deg, *beam.isocentre_xyz_mm) for beam in segments.beams],
        [segments.beams.index(one.beam) for one in segments.segments],
        np.stack([one.leaf_mm for one in segments.segments]),
        np.array([one.diaphragm_mm for one in segments.segments]),
        segments.vector,
    )


def _dose_reference(prescribed: PrescribedTo, content: str) -> Dataset:
    item = Dataset()
    item.DoseReferenceNumber = 1
    item.DoseReferenceUID = dicom_uid(content)
    item.DoseReferenceDescription = prescribed.target[:64]
    item.DoseReferenceType = "TARGET"
    item.TargetPrescriptionDose = decimal(prescribed.dose_Gy)
    if prescribed.roi_number is None:
        item.DoseReferenceStructureType = "SITE"
    else:
        item.DoseReferenceStructureType = "VOLUME"
        item.ReferencedROINumber = prescribed.roi_number
    return item


def _fraction_group(by_beam: Several[Several[Segment]], fractions: int) -> Dataset:
    group = Dataset()
    group.FractionGroupNumber = 1
    group.NumberOfFractionsPlanned = fractions
    group.NumberOfBeams = len(by_beam)
    group.NumberOfBrachyApplicationSetups = 0
    beams = []
    for number, own in enumerate(by_beam, start=1):
        beam = Dataset()
        beam.ReferencedBeamNumber = number
        beam.BeamMeterset = decimal(_cumulated(own)[-1])
        beams.append(beam)
    group.ReferencedBeamSequence = Sequence(beams)
    return group


def _cumulated(own: Several[Segment]) -> list[float]:
    """MU of one fraction before the first segment and after each."""
    return [0.0, *np.cumsum([segment.mu for segment in own]).tolist()]


def _beam(number: int, own: Several[Segment], mlc: Mlc, machine: Machine) -> Dataset:
    beam = own[0].beam
    item = Dataset()
    item.BeamNumber = number
    item.BeamName = f"G{beam.gantry_deg:g}"
    item.BeamType = "STATIC"
    item.RadiationType = "PHOTON"
    if not machine.photons.flattening_filter:
        mode = Dataset()
        mode.FluenceMode, mode.FluenceModeID = "NON_STANDARD", "FFF"
        item.PrimaryFluenceModeSequence = Sequence([mode])
    item.TreatmentMachineName = machine.name[:16]
    item.PrimaryDosimeterUnit = "MU"
    item.SourceAxisDistance = decimal(beam.sad_mm)
    item.BeamLimitingDeviceSequence = Sequence(_devices(mlc))
    item.ReferencedPatientSetupNumber = 1
    item.TreatmentDeliveryType = "TREATMENT"
    item.NumberOfWedges = item.NumberOfCompensators = item.NumberOfBoli = item.NumberOfBlocks = 0
    cumulated = _cumulated(own)
    item.FinalCumulativeMetersetWeight = decimal(cumulated[-1])
    points: list[Dataset] = []
    for k, segment in enumerate(own):
        for weight in cumulated[k : k + 2]:
            points.append(_control_point(len(points), weight, segment, mlc))
    _put_first(points[0], beam, machine)
    item.NumberOfControlPoints = len(points)
    item.ControlPointSequence = Sequence(points)
    return item


def _names(mlc: Mlc) -> tuple[str, str]:
    """RT Beam Limiting Device Types of diaphragms and leaves."""
    return ("ASYMY", "MLCX") if mlc.travel == "u" else ("ASYMX", "MLCY")


def _devices(mlc: Mlc) -> list[Dataset]:
    diaphragms, leaves = Dataset(), Dataset()
    diaphragms.RTBeamLimitingDeviceType, leaves.RTBeamLimitingDeviceType = _names(mlc)
    diaphragms.NumberOfLeafJawPairs, leaves.NumberOfLeafJawPairs = 1, mlc.pairs
    leaves.LeafPositionBoundaries = decimals(np.round(mlc.leaf_edges_mm, 6))
    return [diaphragms, leaves]


def _control_point(index: int, weight: float, segment: Segment, mlc: Mlc) -> Dataset:
    point, diaphragms, leaves = Dataset(), Dataset(), Dataset()
    point.ControlPointIndex = index
    point.CumulativeMetersetWeight = decimal(weight)
    diaphragms.RTBeamLimitingDeviceType, leaves.RTBeamLimitingDeviceType = _names(mlc)
    diaphragms.LeafJawPositions = decimals(segment.diaphragm_mm)
    leaves.LeafJawPositions = decimals(segment.leaf_mm.T.ravel())
    point.BeamLimitingDevicePositionSequence = Sequence([diaphragms, leaves])
    return point


def _put_first(point: Dataset, beam: Beam, machine: Machine) -> None:
    """What stays as it is over the beam stands in its first control point."""
    if machine.photons.nominal_MV is not None:
        point.NominalBeamEnergy = decimal(machine.photons.nominal_MV)
    point.GantryAngle, point.GantryRotationDirection = decimal(beam.gantry_deg % 360), "NONE"
    point.BeamLimitingDeviceAngle = decimal(beam.collimator_deg % 360)
    point.BeamLimitingDeviceRotationDirection = "NONE"
    point.PatientSupportAngle, point.PatientSupportRotationDirection = decimal(beam.couch_deg % 360), "NONE"
    point.TableTopEccentricAngle, point.TableTopEccentricRotationDirection = decimal(0), "NONE"
    point.TableTopPitchAngle, point.TableTopPitchRotationDirection = 0.0, "NONE"
    point.TableTopRollAngle, point.TableTopRollRotationDirection = 0.0, "NONE"
    point.TableTopVerticalPosition = point.TableTopLongitudinalPosition = point.TableTopLateralPosition = None
    point.IsocenterPosition = decimals(beam.isocentre_xyz_mm)
