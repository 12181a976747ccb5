"""Find and classify what lies in a folder tree, whatever the files are called."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from mrlinac.dicom.problems import Findings, open_sequences, read_dataset, text
from mrlinac.errors import DataError
from mrlinac.provenance import fingerprint

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
RT_STRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
RT_PLAN = "1.2.840.10008.5.1.4.1.1.481.5"
DICOMDIR = "1.2.840.10008.1.3.10"

KNOWN = {
    CT_IMAGE: "CT image",
    ENHANCED_CT: "enhanced CT",
    RT_STRUCT: "RTSTRUCT",
    RT_DOSE: "RTDOSE",
    RT_PLAN: "RTPLAN",
    "1.2.840.10008.5.1.4.1.1.4": "MR image",
    "1.2.840.10008.5.1.4.1.1.4.1": "enhanced MR",
    "1.2.840.10008.5.1.4.1.1.128": "PET image",
    "1.2.840.10008.5.1.4.1.1.66.1": "registration",
    "1.2.840.10008.5.1.4.1.1.66.3": "deformable registration",
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
}

# A data set without preamble starts with an element of group 0002 or 0008, little or big endian.
FIRST_BYTES = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")


@dataclass(frozen=True)
class Found:
    """One DICOM file: where it is (``name``: relative to the folder scanned) and its header without pixels.

    Errors name the file, to the person who gave its path; notes, which travel into reports, name its ``key``.
    """

    path: Path
    name: str
    kind: str
    header: Dataset = field(repr=False)

    @property
    def series_uid(self) -> str:
        """Series Instance UID, empty where absent."""
        return text(self.header, "SeriesInstanceUID")

    @property
    def key(self) -> str:
        """Short stand-in for the object in notes and options: file names and labels may hold the patient's name."""
        return series_key(text(self.header, "SOPInstanceUID") or self.series_uid)


@dataclass(frozen=True)
class Catalogue:
    """What a folder tree holds."""

    files: tuple[Found, ...]

    def of_kind(self, kind: str) -> list[Found]:
        """Files of one SOP class, by name."""
        return [found for found in self.files if found.kind == kind]

    def ct_series(self) -> dict[str, list[Found]]:
        """CT slices by Series Instance UID."""
        series: dict[str, list[Found]] = {}
        for found in self.of_kind(CT_IMAGE):
            series.setdefault(found.series_uid, []).append(found)
        return series


def series_key(uid: str) -> str:
    """Short stand-in for a UID in reports and options: a UID itself leads back to the patient."""
    return fingerprint("key", uid)[:8]


def scan(folder: Path, findings: Findings) -> Catalogue:
    """Read the headers of all files under a folder (no links followed), in a stable order.

    Parameters
    ----------
    folder : Path
    findings : Findings
        Gets damaged DICOM files as problems, other things in the folder as notes.

    Raises
    ------
    DataError
        When the folder does not exist, is a file or holds no DICOM file at all.
    """
    if not folder.is_dir():
        remedy = "Unpack it first and give the folder." if folder.is_file() else "Check the path."
        raise DataError(f"{folder}: not a folder. {remedy}")
    files: list[Found] = []
    other = 0
    for root, folders, names in os.walk(folder):
        folders.sort()
        for file_name in sorted(names):
            path = Path(root) / file_name
            found = examine(path, path.relative_to(folder).as_posix(), findings)
            if found is None:
                other += 1
            elif found.kind != DICOMDIR:
                files.append(found)
    if not files and not findings.problems:
        raise DataError(
            f"{folder}: no DICOM file among {other} file(s). Give the folder of an unpacked export"
            " (CT slices and an RTSTRUCT, in any subfolders)."
        )
    count = Counter(KNOWN.get(found.kind, "other DICOM object") for found in files)
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(count.items()))
    findings.note("info", f"The folder holds {listed or 'no readable DICOM file'}.")
    if other:
        findings.note("info", f"{other} file(s) that are not DICOM were left alone.")
    return Catalogue(tuple(files))


def examine(path: Path, name: str, findings: Findings) -> Found | None:
    """Header of one file; None when it is not DICOM. Damaged files become problems and are None too."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        findings.problem(
            f"cannot be read ({error.strerror})", "Check its permissions or copy the export again", file=name
        )
        return None
    has_preamble = start[128:132] == b"DICM"
    if not has_preamble and start[:2] not in FIRST_BYTES:
        return None
    try:
        header = read_dataset(path, pixels=False)
        kind = text(header, "SOPClassUID")
        open_sequences(header)
    except Exception as error:  # pydicom raises many types on damaged files
        if has_preamble:
            findings.problem(
                f"damaged DICOM file ({type(error).__name__} while reading)",
                "Export it again or remove it",
                file=name,
            )
        return None
    if not kind:
        kind = text(getattr(header, "file_meta", Dataset()), "MediaStorageSOPClassUID")
    if not kind:
        if has_preamble:
            findings.problem(
                "missing, so what the file is cannot be told",
                "Export it again or remove it",
                file=name,
                keyword="SOPClassUID",
            )
        return None
    return Found(path, name, kind, header)
