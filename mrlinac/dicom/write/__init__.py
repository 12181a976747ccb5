"""DICOM out: images, structure sets, doses and plans, in the frame of the patient they belong to."""
