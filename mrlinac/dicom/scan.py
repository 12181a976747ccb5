"""Find and classify what lies in a folder tree, under any file names."""

from __future__ import annotations

import os
import stat
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from mrlinac.dicom.problems import Findings, open_sequences, read_dataset, text
from mrlinac.errors import DataError
from mrlinac.provenance import fingerprint

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
CONVERTED_CT = "1.2.840.10008.5.1.4.1.1.2.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
CONVERTED_MR = "1.2.840.10008.5.1.4.1.1.4.4"
REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.1"
RT_STRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
RT_PLAN = "1.2.840.10008.5.1.4.1.1.481.5"
DICOMDIR = "1.2.840.10008.1.3.10"

KNOWN = {
    CT_IMAGE: "CT image",
    ENHANCED_CT: "enhanced CT",
    CONVERTED_CT: "enhanced CT (converted)",
    MR_IMAGE: "MR image",
    ENHANCED_MR: "enhanced MR",
    CONVERTED_MR: "enhanced MR (converted)",
    RT_STRUCT: "RTSTRUCT",
    RT_DOSE: "RTDOSE",
    RT_PLAN: "RTPLAN",
    "1.2.840.10008.5.1.4.1.1.128": "PET image",
    REGISTRATION: "registration",
    "1.2.840.10008.5.1.4.1.1.66.3": "deformable registration",
    "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
}

MULTI_FRAME = (ENHANCED_CT, CONVERTED_CT, ENHANCED_MR, CONVERTED_MR)
CT_KINDS = (CT_IMAGE, ENHANCED_CT, CONVERTED_CT)
MR_KINDS = (MR_IMAGE, ENHANCED_MR, CONVERTED_MR)

ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".iso")

DEFLATED = b"1.2.840.10008.1.2.1.99"
MOST_INFLATED_bytes = 1 << 30
"""A deflated file that unpacks to more than this is damaged, or built to exhaust memory."""

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
    def is_multi_frame(self) -> bool:
        """Whether it is an enhanced object, whose frames carry their own geometry."""
        return self.kind in MULTI_FRAME

    @property
    def is_mr(self) -> bool:
        """Whether it is an MR image."""
        return self.kind in MR_KINDS

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
        return [file for file in self.files if file.kind == kind]

    def images(self) -> list[Found]:
        """CT and MR images, classic and enhanced."""
        return [file for file in self.files if file.kind in CT_KINDS + MR_KINDS]


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
    other, archives, links = 0, 0, 0
    for root, folders, names in os.walk(folder):
        folders.sort()
        links += sum((Path(root) / name).is_symlink() for name in folders)
        for file_name in sorted(names):
            path = Path(root) / file_name
            file = examine(path, path.relative_to(folder).as_posix(), findings)
            if file is None:
                other += 1
                archives += path.name.lower().endswith(ARCHIVES)
            elif file.kind != DICOMDIR:
                files.append(file)
    if not files and not findings.problems:
        remedy = "Give the folder of an unpacked export (CT slices and an RTSTRUCT, in any subfolders)."
        if archives:
            remedy = f"{archives} of them are archives: unpack them first."
        elif links:
            remedy = f"{links} linked folder(s) were not followed: give the folder that they lead to."
        raise DataError(f"{folder}: no DICOM file among {other} file(s). {remedy}")
    count = Counter(KNOWN.get(file.kind, "other DICOM object") for file in files)
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(count.items()))
    findings.note("info", f"The folder holds {listed or 'no readable DICOM file'}.")
    if other:
        findings.note("info", f"{other} file(s) that are not DICOM were left alone.")
    if archives:
        findings.note(
            "decide", f"{archives} of them are archives, which were not looked into: unpack what belongs here."
        )
    if links:
        findings.note("decide", f"{links} linked folder(s) were not followed: give what they lead to by itself.")
    return Catalogue(tuple(files))


def examine(path: Path, name: str, findings: Findings) -> Found | None:
    """Header of one file; None when it is not DICOM. Damaged files become problems and are None too."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None  # a pipe or a device: opening one may wait for ever
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        if path.is_symlink() and not path.exists():
            findings.problem(
                "is a link to a file that is not there", "Copy the export again, or remove it", file=name
            )
            return None
        findings.problem(
            f"cannot be read ({error.strerror})", "Check its permissions or copy the export again", file=name
        )
        return None
    has_preamble = start[128:132] == b"DICM"
    if not has_preamble and start[:2] not in FIRST_BYTES:
        return None
    try:
        if has_preamble and _swells(path):
            findings.problem(
                f"deflated, and more than {MOST_INFLATED_bytes >> 30} GiB when unpacked", "Remove it", file=name
            )
            return None
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
    if kind in CT_KINDS + MR_KINDS and not text(header, "SeriesInstanceUID"):
        # Elements stand in the order of their tags: without this one a file ends before its geometry and its pixels.
        findings.problem(
            "missing, so the image belongs to nothing: the file is cut off or damaged",
            "Export it again or remove it",
            file=name,
            keyword="SeriesInstanceUID",
        )
        return None
    return Found(path, name, kind, header)


def _swells(path: Path) -> bool:
    """Whether a deflated file unpacks to more than any export holds."""
    with path.open("rb") as file:
        head = file.read(4096)
        place = head.find(DEFLATED)
        if place < 0:
            return False
        # Where the compressed part starts depends on the meta group's length, which damage may have changed; pydicom
        # unpacks from there, so it is found the same way: group length (0002,0000), then that many bytes.
        length = int.from_bytes(head[140:144], "little")
        file.seek(144 + length)
        unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while block := file.read(1 << 16):
            while block:
                size += len(unpacker.decompress(block, 1 << 24))
                block = unpacker.unconsumed_tail
                if size > MOST_INFLATED_bytes:
                    return True
    return False
