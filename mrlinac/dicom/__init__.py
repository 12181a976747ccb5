"""DICOM in and out: the only room that imports pydicom."""

from mrlinac.dicom.anonymise import AnonymiseReport, anonymise
from mrlinac.dicom.dose import write_dose
from mrlinac.dicom.dose_reading import DoseObject, read_dose, read_dose_object
from mrlinac.dicom.names import naming
from mrlinac.dicom.patient import read_patient
from mrlinac.dicom.structures_alone import frames_of_structure_set, planned_fractions, read_structure_set
from mrlinac.dicom.write_common import with_uids
from mrlinac.dicom.writing import write_patient, write_structures

__all__ = [
    "AnonymiseReport",
    "DoseObject",
    "anonymise",
    "frames_of_structure_set",
    "naming",
    "planned_fractions",
    "read_dose",
    "read_dose_object",
    "read_patient",
    "read_structure_set",
    "with_uids",
    "write_dose",
    "write_patient",
    "write_structures",
]
