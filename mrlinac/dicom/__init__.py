"""DICOM in and out: the only room that imports pydicom.

Comes in: folders of files. Goes out: a patient, structures, doses, notes; and files again.
"""

from mrlinac.dicom.anonymise import AnonymiseReport, anonymise
from mrlinac.dicom.names import naming
from mrlinac.dicom.patient_toml import change_patient_file, write_patient_file
from mrlinac.dicom.problems import SAME_FRAME
from mrlinac.dicom.read.dose import DoseObject, read_dose, read_dose_object
from mrlinac.dicom.read.dose_meaning import Added, Meaning, PlanPart, added
from mrlinac.dicom.read.import_report import ImportReport, import_folder
from mrlinac.dicom.read.patient import concerns_planning_alone, read_patient
from mrlinac.dicom.read.plan import PlanObject, read_plan
from mrlinac.dicom.read.plan_facts import PlanFacts, plans_in
from mrlinac.dicom.read.structures_alone import frames_of_structure_set, read_structure_set
from mrlinac.dicom.write.common import with_uids
from mrlinac.dicom.write.dose import write_dose
from mrlinac.dicom.write.patient import write_patient, write_structures
from mrlinac.dicom.write.plan import PrescribedTo, write_plan

__all__ = [
    "SAME_FRAME",
    "Added",
    "AnonymiseReport",
    "DoseObject",
    "ImportReport",
    "Meaning",
    "PlanFacts",
    "PlanObject",
    "PlanPart",
    "PrescribedTo",
    "added",
    "anonymise",
    "change_patient_file",
    "concerns_planning_alone",
    "frames_of_structure_set",
    "import_folder",
    "naming",
    "plans_in",
    "read_dose",
    "read_dose_object",
    "read_patient",
    "read_plan",
    "read_structure_set",
    "with_uids",
    "write_dose",
    "write_patient",
    "write_patient_file",
    "write_plan",
    "write_structures",
]
