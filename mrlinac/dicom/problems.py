"""Everything wrong with a folder, collected before one error is raised."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_description, dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from mrlinac.errors import DataError, raise_all
from mrlinac.notes import Note, Notes, Severity

MOST_LISTED = 6
"""Problems of one kind listed one by one; the rest is counted, so that 300 bad slices do not bury the cause."""

SAME_FRAME = "--same-frame, or same_frame = true in patient.toml"
"""Remedy for objects that state different frames of reference although they lie in one space."""

VARIES = re.compile(r"'[^']*'|[-+]?\d[\w.,-]*")
"""What makes two sentences of one kind differ: quoted names and numbers."""


class Findings:
    """Problems (each: file, tag, reason, remedy) and notes gathered while a folder is read.

    Texts never hold values of identifying tags: file names and tag names only.
    """

    def __init__(self) -> None:
        self.count = 0
        self._kinds: dict[tuple[str, str, str], _Repeated] = {}
        self._notes: list[Note] = []

    @property
    def problems(self) -> list[str]:
        """Those that are listed one by one."""
        return [listed for repeated in self._kinds.values() for listed in repeated.listed]

    def problem(self, reason: str, remedy: str, *, file: str = "", keyword: str = "", than: str = "") -> None:
        """Add a problem; one kind of problem of many files is listed a few times, then counted.

        Parameters
        ----------
        reason, remedy : str
        file, keyword : str, optional
            Where: the file, the tag.
        than : str, optional
            A part of the reason that differs from file to file and makes no other kind of problem, such as another
            file's name. Numbers and quoted names make none either.
        """
        self.count += 1
        general = VARIES.sub("#", reason.replace(than, "#") if than else reason)
        repeated = self._kinds.setdefault((keyword, general, remedy), _Repeated(reason))
        repeated.count += 1
        if repeated.count <= MOST_LISTED:
            where = ": ".join(part for part in (file, tag_name(keyword) if keyword else "") if part)
            repeated.listed.append(f"{where}: {reason}. {remedy}" if where else f"{reason}. {remedy}")

    def absorb_problems(self, other: Findings) -> None:
        """Take over another's problems, without its notes."""
        self.count += other.count
        for kind, theirs in other._kinds.items():
            ours = self._kinds.setdefault(kind, _Repeated(theirs.reason))
            ours.listed += theirs.listed[: MOST_LISTED - len(ours.listed)]
            ours.count += theirs.count

    def note(self, severity: Severity, text: str) -> None:
        """Add a sentence to the import report, once."""
        if (told := Note(severity, text)) not in self._notes:
            self._notes.append(told)

    def notes(self) -> Notes:
        """The import report so far, as a frozen noun: what is to be looked at and repeats is counted, by kind of sentence.

        What was found (severity ``info``) is an inventory and stays whole.
        """
        kinds: dict[tuple[str, str], list[Note]] = {}
        for note in self._notes:
            kinds.setdefault(_kind_of(note), []).append(note)
        told: list[Note] = []
        for note in self._notes:
            alike = kinds[_kind_of(note)]
            if note.severity == "info" or len(alike) <= MOST_LISTED or note in alike[:MOST_LISTED]:
                told.append(note)
            elif note is alike[MOST_LISTED]:
                names = ", ".join(_subject_of(other.text) for other in alike[MOST_LISTED:])
                told.append(Note(note.severity, f"The same of {len(alike) - MOST_LISTED} more: {names}."))
        return Notes(tuple(told))

    def raise_problems(self, heading: str) -> None:
        """Raise one :class:`DataError` with all problems; nothing when there are none."""
        raise_all(DataError, heading, self.listed())

    def reasons(self) -> list[str]:
        """Kinds of problems without the files that have them: ``Pixel Spacing (0028,0030) missing (3 times)``."""
        told = []
        for (keyword, _, _), repeated in self._kinds.items():
            times = f" ({repeated.count} times)" if repeated.count > 1 else ""
            told.append(f"{tag_name(keyword)}: {repeated.reason}{times}" if keyword else f"{repeated.reason}{times}")
        return told

    def listed(self) -> list[str]:
        """All problems, kind by kind, those that repeat counted."""
        lines: list[str] = []
        for (keyword, _, _), repeated in self._kinds.items():
            lines += repeated.listed
            if more := repeated.count - len(repeated.listed):
                where = f"{tag_name(keyword)}: " if keyword else ""
                lines.append(f"... and {more} more of this kind: {where}{repeated.reason}")
        return lines


SUBJECT = re.compile(r"'[^']*'|[^\s:]+")
"""What a sentence begins with: the structure or file it is about, quoted or one word."""


def _subject_of(text: str) -> str:
    match = SUBJECT.match(text)
    return match[0] if match else text


def _kind_of(note: Note) -> tuple[str, str]:
    """A note without its subject and without its numbers."""
    return note.severity, VARIES.sub("#", note.text[len(_subject_of(note.text)) :])


@dataclass
class _Repeated:
    """Problems of one kind: the first one's reason, the first few in full, how many there are."""

    reason: str
    listed: list[str] = field(default_factory=list)
    count: int = 0


def tag_name(keyword: str) -> str:
    """A tag as conformance statements write it: ``Pixel Spacing (0028,0030)``."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        return keyword
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def text(dataset: Dataset, keyword: str) -> str:
    """Value of a tag as stripped text; empty where absent, empty or undecodable."""
    try:
        value = dataset.get(keyword)
        return "" if value is None else str(value).strip(" \0")
    except Exception:
        # A damaged element raises whatever its converter raises; to us it is as good as absent.
        return ""


def numbers(dataset: Dataset, keyword: str) -> NDArray[np.float64] | None:
    """Finite numbers of a (multi-valued) tag; None where absent, empty, not numeric or not finite.

    Decimal strings are parsed from their bytes where pydicom has not yet converted them: a structure set has
    hundreds of thousands, and one Python object for each costs seconds.
    """
    tag = tag_for_keyword(keyword)
    try:
        element = dataset.get_item(tag) if tag is not None else None
        if tag is None or element is None:
            return None
        value = element.value
        if isinstance(element, RawDataElement) and dictionary_VR(tag) in ("DS", "IS") and isinstance(value, bytes):
            written = value.strip(b" \0")
            result = np.array(written.split(b"\\")).astype(np.float64) if written else np.empty(0)
        else:
            result = np.atleast_1d(np.asarray(dataset.get(keyword), dtype=np.float64))
    except Exception:
        return None
    return result if result.size and bool(np.all(np.isfinite(result))) else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """One integer of a tag; None where absent or not an integer."""
    try:
        value = dataset.get(keyword)
        return None if value is None else int(value)
    except Exception:
        return None


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom's warnings and log lines away: they quote element values, and those may identify the patient.

    Values are converted when first looked at, so whoever reads a patient does all of it in here.
    """
    logger = logging.getLogger("pydicom")
    was_disabled = logger.disabled
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = was_disabled


def open_sequences(dataset: Dataset) -> None:
    """Parse every nested sequence now. Raises on damage, which would else surface wherever one is first looked at."""
    for raw in list(dataset.elements()):
        written = raw.VR if isinstance(raw, RawDataElement) else str(raw.VR)
        known = dictionary_VR(raw.tag) if dictionary_has_tag(raw.tag) else "UN"
        if written == "SQ" or (written in (None, "UN") and known == "SQ"):
            for item in dataset[raw.tag].value or []:
                open_sequences(item)


def read_dataset(path: Path, *, pixels: bool = True) -> Dataset:
    """Read a file that may lack preamble and file meta information. Raises whatever pydicom raises."""
    return pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)
