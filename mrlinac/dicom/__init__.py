"""DICOM in and out: the only room that imports pydicom."""

from mrlinac.dicom.names import naming
from mrlinac.dicom.patient import read_patient

__all__ = ["naming", "read_patient"]
