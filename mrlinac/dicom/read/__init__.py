"""DICOM in: from a folder's files to a patient, structures and doses, with a note for everything unusual.

Comes in: files of any system. Goes out: :class:`~mrlinac.anatomy.patient.Patient`, :class:`~mrlinac.dose.dose.Dose`,
regions of interest, notes.
"""
