"""A copy of a folder without the patient's identity: the basic profile of DICOM PS3.15, geometry kept bit for bit.

What the profile's table E.1-1 (as the package dicom-anonymizer has it) says of an attribute is done, at every depth. Two
of its options are taken: dates move by one span of days a patient (Retain Longitudinal Temporal Information, Modified
Dates), and names of structures and beams stay, without any word that identifies (Clean Descriptors). Beyond the table,
private attributes and free texts go, and a file that would still hold an identifier is not written at all.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from mrlinac.dicom.problems import Findings, quiet_pydicom, read_dataset, tag_name, text
from mrlinac.dicom.scan import KNOWN, Found, scan
from mrlinac.dicom.write.common import IMPLEMENTATION_UID
from mrlinac.errors import DataError, SpecError, writing
from mrlinac.notes import Note, Notes
from mrlinac.provenance import dicom_uid, fingerprint

TABLE = "dicomfields_2026c"
"""Edition of PS3.15 Table E.1-1."""

PIXELS = {"7FE00008", "7FE00009", "7FE00010"}
CLEANED = {"ROIName", "BeamName", "ROIObservationLabel", "FixationDeviceLabel"}
"""Kept without identifying words, whatever the table says: a structure without its name is useless."""
COPIED = {*KNOWN, "1.2.840.10008.5.1.4.1.1.481.8", "1.2.840.10008.5.1.4.1.1.481.9"}
"""Kinds that are copied; screenshots and documents may show names and are not copied."""
KEPT_UIDS = {"SOPClassUID", "ReferencedSOPClassUID", "CodingSchemeUID", "ContextUID", "MappingResourceUID"}
"""UIDs of kinds and vocabularies; they stay unless they lie under the standard's root and are none of its own."""
ROOT = "1.2.840.10008."
VOCABULARIES = re.compile(r"1\.2\.840\.10008\.(6\.1|2\.16|8\.1)\.\d{1,4}")
"""Context groups, coding schemes and mapping resources of the standard (PS3.6 annex A), which pydicom does not list."""
FREE_TEXT = {"PN", "LT", "ST", "UT", "UC", "UR"}
SHORT_TEXT = {"LO", "SH"}
TERMS = {"CS", "AE"}
"""Code strings are terms of the standard: LUNG stays for a patient called Lung."""
DATES = {"DA", "DT"}
NAMES_OF_PEOPLE = ("PatientName", "OtherPatientNames", "PatientBirthName", "ReferringPhysicianName", "OperatorsName",
                   "PhysiciansOfRecord", "PerformingPhysicianName")  # fmt: skip
IDENTIFIERS = ("PatientID", "OtherPatientIDs", "IssuerOfPatientID", "AccessionNumber", "StudyID", "InstitutionName",
               "InstitutionalDepartmentName", "InstitutionAddress", "StationName", "DeviceSerialNumber")  # fmt: skip
SHORTEST_NAME, SHORTEST_ID = 3, 4
"""Shorter words occur in any text and identify no person."""
WRITTEN_UID = re.compile(r"[0-2](\.\d+){5,}")
"""A short text that is a UID."""
DUMMY = "ANONYMOUS"
BINARY = {"OB", "OW", "UN"}
"""Bytes in which a word may stand anywhere; elsewhere what is left of a source is looked for as whole values."""
COMPARED = {*FREE_TEXT, *SHORT_TEXT, "AE", "AS", "UI"}
METHOD = f"mrlinac, PS3.15 {TABLE[-5:]}"
DAYS = (365, 3650)
"""Range of the number of days by which dates are moved back."""
CODES = (("113100", "Basic Application Confidentiality Profile"), ("113105", "Clean Descriptors Option"),
         ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))  # fmt: skip


@dataclass(frozen=True)
class AnonymiseReport:
    """What was written; nothing in it identifies.

    Attributes
    ----------
    folder : Path
    files : int
    kinds : mapping of str to int
        Files written, by kind.
    left_out : mapping of str to int
        Files not copied, by reason.
    patients : tuple of str
        The new Patient IDs.
    cleaned : int
        Texts from which an identifying word was taken.
    notes : Notes
    """

    folder: Path
    files: int
    kinds: Mapping[str, int]
    left_out: Mapping[str, int]
    patients: tuple[str, ...]
    cleaned: int
    notes: Notes


@quiet_pydicom()
def anonymise(folder: str | Path, out: str | Path, *, seed: int | None = None) -> AnonymiseReport:
    """Write a copy of a folder's CT, MR, PET and RT objects by the DICOM basic profile.

    Parameters
    ----------
    folder : path
        Anything that :func:`~mrlinac.dicom.read.patient.read_patient` may be given; several patients too.
    out : path
        New or empty folder, outside ``folder``; one subfolder a patient.
    seed : int, optional
        The same seed gives the same UIDs, IDs and dates again, so that what comes later fits what went before. Who
        knows it can recognise an object whose original he has: keep it to yourself. Without it nothing can be repeated.

    Returns
    -------
    AnonymiseReport

    Raises
    ------
    DataError
        Damaged files, or a file that would still hold an identifier; nothing is written then.
    SpecError
        When ``out`` is not empty, or lies in ``folder``.
    """
    source, target = Path(folder), Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SpecError(f"{target} is not empty: give a new folder")
    if source.resolve() in (target.resolve(), *target.resolve().parents):
        raise SpecError("the copy would lie in the folder that is copied: give a folder elsewhere")
    findings = Findings()
    files = scan(source, findings).files
    findings.raise_problems("this folder cannot be copied:")
    wanted = [file for file in files if file.kind in COPIED]
    if not wanted:
        raise DataError(f"{source}: nothing to copy: no CT, MR, PET or RT object.")
    secret = fingerprint("seed", seed) if seed is not None else secrets.token_hex(16)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".mrlinac-", suffix=".part", dir=target.parent))
    try:
        report = _copy_all(wanted, temporary, target, secret)
        if target.exists():
            target.rmdir()
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    left_out = Counter(_kind(file) for file in files if file.kind not in COPIED)
    notes = list(report.notes.entries)
    if left_out:
        text_ = f"{sum(left_out.values())} object(s) of kinds that may show names were not copied."
        notes.append(Note("done", text_))
    return AnonymiseReport(
        target, report.files, report.kinds, dict(left_out), report.patients, report.cleaned, Notes(tuple(notes))
    )


def _copy_all(wanted: Iterable[Found], folder: Path, target: Path, secret: str) -> AnonymiseReport:
    people: dict[str, list[Found]] = {}
    for file in wanted:
        people.setdefault(text(file.header, "PatientID") or text(file.header, "PatientName"), []).append(file)
    kinds: Counter[str] = Counter()
    pseudonyms: list[str] = []
    cleaned = 0
    faults = Findings()
    burned = 0
    source = _Identifiers.of([file for files in people.values() for file in files])
    for who, files in people.items():
        cleaner = _Cleaner(who, secret, source)
        pseudonyms.append(cleaner.pseudonym)
        numbers: Counter[str] = Counter()
        for file in files:
            kind = _kind(file)
            numbers[kind] += 1
            try:
                burned += cleaner.copy(file, folder / cleaner.pseudonym / f"{kind}_{numbers[kind]:04d}.dcm", faults)
            except OSError:
                raise
            except Exception as error:  # pydicom raises many types on damaged elements
                faults.problem(f"damaged ({type(error).__name__})", "Export it again or remove it", file=file.name)
        kinds += numbers
        cleaned += cleaner.cleaned
    faults.raise_problems("this folder cannot be anonymised:")
    notes = [
        Note("done", f"{sum(kinds.values())} file(s) written; dates moved, UIDs replaced, private tags taken out.")
    ]
    if cleaned:
        notes.append(Note("done", f"{cleaned} text(s) held an identifying word, which was replaced by X."))
    notes.append(
        Note("decide", "Names of structures and beams stay, and a face can be rebuilt from a CT of the head.")
    )
    if burned:
        notes.append(Note("warning", f"{burned} image(s) say that text is burned into their pixels: look at them."))
    return AnonymiseReport(
        target, sum(kinds.values()), dict(kinds), {}, tuple(pseudonyms), cleaned, Notes(tuple(notes))
    )


def _kind(file: Found) -> str:
    return re.sub(r"[^A-Z0-9]", "", text(file.header, "Modality").upper())[:8] or "OTHER"


@cache
def _actions() -> Mapping[int, str]:
    """What the table says of each attribute: D dummy, Z empty, X remove, U new UID, and their combinations."""
    table = dicom_anonymization_database_selector(TABLE)
    chosen = {"D_TAGS": "D", "Z_TAGS": "Z", "X_TAGS": "X", "U_TAGS": "U", "Z_D_TAGS": "Z", "X_Z_TAGS": "Z",
              "X_D_TAGS": "D", "X_Z_D_TAGS": "Z", "X_Z_U_STAR_TAGS": "U"}  # fmt: skip
    return {tag[0] << 16 | tag[1]: action for name, action in chosen.items() for tag in table[name] if len(tag) == 2}


@dataclass
class _Cleaner:
    """One patient's new identity, and what is done to every object of his."""

    who: str
    secret: str
    source: _Identifiers
    cleaned: int = field(default=0)

    def __post_init__(self) -> None:
        code = fingerprint("patient", self.secret, self.who)
        self.pseudonym = f"ANON-{code[:8].upper()}"
        self.days = DAYS[0] + int(code[8:16], 16) % (DAYS[1] - DAYS[0])
        listed = sorted(self.source.words, key=len, reverse=True)
        texts = (
            DUMMY,
            self.pseudonym,
            METHOD,
            "DCM",
            "YES",
            "MODIFIED",
            "X",
            *(word for code in CODES for word in code),
        )
        self.own = frozenset(text_.casefold() for text_ in texts)
        self.pattern = re.compile("|".join(map(re.escape, listed)), re.IGNORECASE) if listed else None

    def copy(self, file: Found, path: Path, faults: Findings) -> bool:
        """Write the anonymous copy of a file; says whether text is burned into its pixels."""
        ds = read_dataset(file.path)
        burned, syntax = text(ds, "BurnedInAnnotation").upper() == "YES", _syntax(ds)
        self.source.see(ds)
        self.clean(ds)
        self.state(ds)
        for tag, what in self.left_in(ds):
            faults.problem(
                f"{_named(tag)} would still hold an identifier, the {what} of the source",
                "Take the element out of the file, or leave the file out",
                file=file.name,
            )
        _write(ds, path, syntax)
        return burned

    def clean(self, ds: Dataset) -> None:
        """Everything at this depth and below."""
        for tag in list(ds.keys()):
            raw = ds.get_item(tag)
            vr = _vr(tag, raw)
            if tag.is_private or vr is None or tag.element == 0 or tag.group in range(0x5000, 0x6100):
                del ds[tag]  # private, unknown, group lengths, curves and overlays
            elif vr == "SQ":
                self._sequence(ds, tag)
            else:
                self._value(ds, tag, vr)

    def _sequence(self, ds: Dataset, tag: BaseTag) -> None:
        action = _actions().get(tag)
        if action == "X":
            del ds[tag]
        elif action == "Z":
            ds[tag].value = Sequence([])
        else:
            for item in ds[tag].value or []:
                self.clean(item)

    def _value(self, ds: Dataset, tag: BaseTag, vr: str) -> None:
        keyword, action = keyword_for_tag(tag), _actions().get(tag)
        if vr == "UI":
            ds[tag].value = [self.uid(str(uid), keyword) for uid in _many(ds[tag].value)]
        elif vr in DATES and tag.group != 0x0010:
            ds[tag].value = [self.moved(str(value)) for value in _many(ds[tag].value)]
        elif keyword in CLEANED:
            ds[tag].value = self.without_words(_readable(ds, tag))
        elif action == "X":
            del ds[tag]
        elif action == "Z" or vr == "PN":
            ds[tag].value = None
        elif action == "D":
            self._dummy(ds, tag, vr)
        elif vr == "TM":
            ds[tag].value = None
        elif vr in FREE_TEXT:
            del ds[tag]
        elif vr in SHORT_TEXT:
            before = _readable(ds, tag)
            parts = [self.uid(part) if WRITTEN_UID.fullmatch(part) else part for part in before.split("\\")]
            after = self.without_words("\\".join(parts))
            if after != before:
                ds[tag].value = after.split("\\") if "\\" in after else after

    def _dummy(self, ds: Dataset, tag: BaseTag, vr: str) -> None:
        dummies: Mapping[str, Any] = {"TM": "000000", "DS": "0", "IS": "0", "AS": "000Y"}
        if vr in {*SHORT_TEXT, *FREE_TEXT, *TERMS}:
            ds[tag].value = DUMMY
        elif vr in dummies:
            ds[tag].value = dummies[vr]
        else:
            del ds[tag]

    def state(self, ds: Dataset) -> None:
        """The new identity, and what was done."""
        ds.PatientName = ds.PatientID = self.pseudonym
        ds.PatientIdentityRemoved = "YES"
        ds.LongitudinalTemporalInformationModified = "MODIFIED"
        ds.DeidentificationMethod = METHOD
        items = []
        for value, meaning in CODES:
            item = Dataset()
            item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
            items.append(item)
        ds.DeidentificationMethodCodeSequence = Sequence(items)

    def uid(self, old: str, keyword: str = "") -> str:
        """The same new UID for the same old one, in every file; those that the standard lists stay."""
        if not _identifies(old, keyword):
            return old
        return dicom_uid("anonymised", self.secret, old)

    def moved(self, value: str) -> str:
        """A date some years earlier, the time of day taken off; empty where it cannot be read."""
        match = re.match(r"(\d{4})\.?(\d{2})\.?(\d{2})", value.strip())
        try:
            return f"{date(*map(int, match.groups())) - timedelta(self.days):%Y%m%d}" if match else ""
        except (ValueError, OverflowError):
            return ""

    def without_words(self, value: str) -> str:
        """A text with every identifying word replaced by X."""
        if self.pattern is None or not self.pattern.search(value):
            return value
        self.cleaned += 1
        return self.pattern.sub("X", value)

    def left_in(self, ds: Dataset) -> list[tuple[BaseTag, str]]:
        """Elements, at every depth, that hold an identifier of the source, and which: the final search.

        Values are compared whole, so that a person who is called like a word of a kept text passes; what this module
        writes itself is nobody's. Bytes are searched for the words. Terms of the standard (code strings) and numbers are
        not looked at.
        """
        places: list[tuple[BaseTag, str]] = []
        for tag in list(ds.keys()):
            vr = _vr(tag, ds.get_item(tag))
            if vr == "SQ":
                for item in ds[tag].value or []:
                    places += self.left_in(item)
            elif vr in COMPARED:
                values = {value.strip().casefold() for value in _readable(ds, tag).split("\\")} - self.own
                whole = {_readable(ds, tag).strip().casefold()} - self.own
                held = self.source.values.keys() & (values | whole)
                places += [(tag, self.source.values[value]) for value in sorted(held)]
            elif vr in BINARY and f"{tag:08X}" not in PIXELS:
                what = self.source.in_bytes(ds.get_item(tag).value, ds.get("SpecificCharacterSet"))
                places += [(tag, what)] if what else []
        return places


def _identifies(uid: str, keyword: str) -> bool:
    """Whether a UID may identify the patient: all but those that the standard lists, and those of object kinds."""
    if not uid or UID(uid).name != uid:
        return False
    if keyword not in KEPT_UIDS:
        return True
    return uid.startswith(ROOT) and not VOCABULARIES.fullmatch(uid)


@dataclass
class _Identifiers:
    """What the source says of who it is about.

    Attributes
    ----------
    words : frozenset of str
        Folded words of names, numbers and places, which are replaced wherever a text holds them.
    values : dict from folded whole value to what it is
        Names, numbers and places whole and in words, and UIDs.
    """

    words: frozenset[str]
    values: dict[str, str]

    @classmethod
    def of(cls, files: Iterable[Found]) -> _Identifiers:
        """Of the headers of all files."""
        words: set[str] = set()
        values: dict[str, str] = {}
        for file in files:
            for keyword in (*NAMES_OF_PEOPLE, *IDENTIFIERS):
                value = text(file.header, keyword)
                is_name = keyword in NAMES_OF_PEOPLE
                parts = re.split(r"[\^=\\\s,;]+", value) if is_name else [value]
                shortest = SHORTEST_NAME if is_name else SHORTEST_ID
                kept = {part.casefold() for part in parts if len(part) >= shortest}
                words |= kept
                for known in {value.casefold(), *kept}:
                    if len(known) >= shortest:
                        values.setdefault(known, tag_name(keyword))
        return cls(frozenset(words), values)

    def see(self, ds: Dataset) -> None:
        """Add the UIDs of a data set about to be cleaned, at every depth."""
        for tag in list(ds.keys()):
            vr = _vr(tag, ds.get_item(tag))
            if vr == "UI":
                keyword = keyword_for_tag(tag)
                for uid in _many(_readable(ds, tag).split("\\")):
                    if _identifies(uid, keyword):
                        self.values.setdefault(uid.casefold(), _named(tag))
            elif vr == "SQ" and not tag.is_private:
                for item in ds[tag].value or []:
                    self.see(item)

    def in_bytes(self, data: Any, charset: Any) -> str:
        """Which identifier stands in bytes; empty where none does. Words of digits alone stand there by chance."""
        if not isinstance(data, bytes):
            return ""
        held = data.decode("latin-1").casefold()
        encodings = {"utf-8", *convert_encodings(charset)}
        for word in sorted(self.words):
            long = len(word) >= SHORTEST_ID and not word.isdigit()
            if long and any(form in held for form in _as_bytes(word, encodings)):
                return self.values.get(word, "name or number")
        return ""


def _named(tag: BaseTag) -> str:
    """An element as messages name it."""
    keyword = keyword_for_tag(tag)
    return tag_name(keyword) if keyword else f"({tag.group:04X},{tag.element:04X})"


def _vr(tag: BaseTag, raw: Any) -> str | None:
    """VR of an element, from the dictionary where the file says nothing; None where it is unknown."""
    stated = raw.VR
    if isinstance(raw, RawDataElement) and stated in (None, "UN"):
        return dictionary_VR(tag) if dictionary_has_tag(tag) else None
    return str(stated)


def _as_bytes(word: str, encodings: Iterable[str]) -> Iterable[str]:
    """A word as it stands in the bytes of a file, in small letters and in capitals, each byte a character."""
    for encoding in encodings:
        for form in (word, word.upper(), word.title()):
            with suppress(UnicodeEncodeError):  # a word that this encoding cannot say is not in it
                yield form.encode(encoding).decode("latin-1").casefold()


def _many(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, bytes)) else list(value)


def _readable(ds: Dataset, tag: BaseTag) -> str:
    """Text of an element; empty where its bytes are no text."""
    try:
        return "\\".join(str(part) for part in _many(ds[tag].value))
    except Exception:
        return ""


def _syntax(ds: Dataset) -> UID:
    """Transfer syntax of a file, guessed from its encoding where it has no meta information."""
    stated = text(getattr(ds, "file_meta", Dataset()), "TransferSyntaxUID")
    if stated:
        return UID(stated)
    implicit, little = ds.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _write(ds: Dataset, path: Path, syntax: UID) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = "MRLINAC"
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = Dataset()
    plain.update({tag: ds.get_item(tag) for tag in ds.keys()})  # noqa: SIM118
    implicit, little = ds.original_encoding
    plain.set_original_encoding(implicit, little, ds.original_character_set)
    with writing(path):
        FileDataset(str(path), plain, preamble=b"\0" * 128, file_meta=meta).save_as(path, enforce_file_format=True)


__all__ = ["AnonymiseReport", "anonymise"]
