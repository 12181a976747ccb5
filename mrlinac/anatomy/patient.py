"""A patient: an image, what was drawn on it, and what the import had to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.anatomy.position import Position
from mrlinac.anatomy.structures import Roi
from mrlinac.errors import DataError
from mrlinac.notes import Notes


@dataclass(frozen=True)
class Patient:
    """What planning needs of a patient; no identifiers.

    Attributes
    ----------
    label : str
        A name that identifies no person: the folder's or the phantom's, never a DICOM identifier.
    image : Image
        CT in HU.
    rois : mapping from TG-263 name to Roi
    position : str
        DICOM patient position.
    frame_uid, study_uid, series_uid : str
        For objects written back into the patient's frame.
    slice_uids : tuple of str
        SOP instance UIDs of the CT slices, by increasing z.
    notes : Notes
    identifiers : mapping of DICOM keyword to str
        Name, ID and the like: never shown in repr, logs, reports or fingerprints; written only when asked for.
    decisions : PatientFile or None
        What ``patient.toml`` says of planning: densities, couch, target base.
    loading : mapping
        What it cost to read or to make: CPU and wall seconds, peak memory; no part of what the patient is.
    """

    label: str
    image: Image
    rois: Mapping[str, Roi]
    position: Position = "HFS"
    frame_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""
    slice_uids: tuple[str, ...] = ()
    notes: Notes = field(default_factory=Notes)
    identifiers: Mapping[str, str] = field(default_factory=dict, repr=False)
    decisions: PatientFile | None = None
    loading: Mapping[str, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def external(self) -> Roi:
        """The one structure of role ``external``.

        Raises
        ------
        DataError
            When there is none, or more than one.
        """
        externals = [roi for roi in self.rois.values() if roi.role == "external"]
        if len(externals) != 1 or not externals[0].contours:
            names = ", ".join(f"'{roi.name}'" for roi in externals) or "none"
            raise DataError(
                f"{self.label}: exactly one drawn structure of role 'external' is needed, there is {names}: "
                "draw the body's outline or map its name"
            )
        return externals[0]

    def __repr__(self) -> str:
        nz, ny, nx = self.image.grid.shape_zyx
        return f"Patient({self.label!r}, {nx}×{ny}×{nz} {self.image.quantity}, {len(self.rois)} structures)"
