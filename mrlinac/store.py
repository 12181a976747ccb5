"""Content-addressed artefacts on disk: influences and doses that cost minutes to make again.

An entry is an ``.npz`` of plain arrays beside a ``.json`` with its checksum and metadata. Both appear under
their names only when whole (temporary name, then ``os.replace``); the ``.json`` comes last, so that an entry
without it does not exist. A file lock per key keeps two processes from making the same entry twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from platformdirs import user_cache_path

Arrays = Mapping[str, NDArray[Any]]
DEFAULT_CAP_GB = 20.0


@dataclass(frozen=True)
class Entry:
    """One stored artefact.

    Attributes
    ----------
    arrays : mapping of array
    meta : mapping
        Plain values.
    """

    arrays: Arrays
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Listed:
    """What a stored artefact takes and when it was last used (as ``time.time()``).

    Attributes
    ----------
    kind, key : str
    bytes : int
    used_s : float
        When it was last used, as ``time.time()``.
    """

    kind: str
    key: str
    bytes: int
    used_s: float


@dataclass(frozen=True)
class Store:
    """A folder of artefacts.

    Attributes
    ----------
    folder : Path
    cap_GB : float
        After each write the least recently used entries go until the folder is below this size.
    """

    folder: Path
    cap_GB: float = DEFAULT_CAP_GB

    @classmethod
    def default(cls) -> Store:
        """The user's cache, or where ``MRLINAC_CACHE_DIR`` points; ``MRLINAC_CACHE_GB`` sets the cap."""
        place = os.environ.get("MRLINAC_CACHE_DIR")
        folder = Path(place) if place else user_cache_path("mrlinac", appauthor=False)
        return cls(folder / "store", float(os.environ.get("MRLINAC_CACHE_GB", DEFAULT_CAP_GB)))

    def get(self, kind: str, key: str, *, tidy: bool = True) -> Entry | None:
        """The entry, or None when it is absent, torn or altered (then it is removed, unless told not to).

        Parameters
        ----------
        kind, key : str
        tidy : bool
            Remove a torn or altered entry.

        Returns
        -------
        Entry or None
        """
        data, note = self._paths(kind, key)
        try:
            record = json.loads(note.read_text(encoding="utf-8"))
            if record["sha256"] != _sha256(data):
                raise ValueError("checksum")
            with np.load(data, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, OSError, zipfile.BadZipFile):
            if tidy:
                self._remove(kind, key)
            return None
        with suppress(OSError):
            os.utime(note)  # the time of last use, for the cap
        return Entry(arrays, record["meta"])

    def put(self, kind: str, key: str, entry: Entry) -> None:
        """Write an entry whole or not at all.

        Parameters
        ----------
        kind, key : str
        entry : Entry

        Raises
        ------
        DiskError
            It cannot be written.
        """
        data, note = self._paths(kind, key)
        data.parent.mkdir(parents=True, exist_ok=True)
        temporary = data.with_name(f".{data.name}.{uuid.uuid4().hex}.npz")
        try:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **dict(entry.arrays))
            record = {"sha256": _sha256(temporary), "meta": dict(entry.meta)}
            os.replace(temporary, data)
            temporary_note = temporary.with_suffix(".json")
            temporary_note.write_text(json.dumps(record), encoding="utf-8")
            os.replace(temporary_note, note)
        finally:
            temporary.unlink(missing_ok=True)
            temporary.with_suffix(".json").unlink(missing_ok=True)
        self._shrink(keep=key)

    def get_or_grow(
        self, kind: str, key: str, suffices: Callable[[Entry], bool], grow: Callable[[Entry | None], Entry]
    ) -> Entry:
        """The stored entry if it suffices; else what ``grow`` makes of it (or of nothing), under the key's lock.

        Parameters
        ----------
        kind, key : str
        suffices : callable
            Of an Entry: whether it holds what is wanted.
        grow : callable
            Of an Entry or None: the entry that holds it.

        Returns
        -------
        Entry
        """
        stored = self.get(kind, key, tidy=False)  # without the lock what looks torn may be half replaced by another
        if stored is not None and suffices(stored):
            return stored
        lock = self._paths(kind, key)[0].with_suffix(".lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            stored = self.get(kind, key)  # another process may have grown it meanwhile
            if stored is not None and suffices(stored):
                return stored
            grown = grow(stored)
            with suppress(OSError):  # a full disk must not lose what was made
                self.put(kind, key, grown)
            return grown

    def size_bytes(self) -> int:
        """Bytes of all entries.

        Returns
        -------
        int
        """
        return sum(path.stat().st_size for path in self._files())

    def count(self) -> int:
        """Number of whole entries.

        Returns
        -------
        int
        """
        return sum(1 for path in self._files() if path.suffix == ".json")

    def listed(self) -> list[Listed]:
        """All whole entries, last used first.

        Returns
        -------
        list of Listed
        """
        entries = []
        for note in (path for path in self._files() if path.suffix == ".json"):
            data = note.with_suffix(".npz")
            size = note.stat().st_size + (data.stat().st_size if data.exists() else 0)
            entries.append(Listed(note.parent.parent.name, note.stem, size, note.stat().st_mtime))
        return sorted(entries, key=lambda entry: -entry.used_s)

    def clear(self) -> int:
        """Remove everything.

        Returns
        -------
        int
            Bytes freed.
        """
        freed = self.size_bytes()
        shutil.rmtree(self.folder, ignore_errors=True)
        return freed

    def _files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()] if self.folder.is_dir() else []

    def _paths(self, kind: str, key: str) -> tuple[Path, Path]:
        stem = self.folder / kind / key[:2] / key
        return stem.with_suffix(".npz"), stem.with_suffix(".json")

    def _remove(self, kind: str, key: str) -> None:
        for path in reversed(self._paths(kind, key)):
            path.unlink(missing_ok=True)

    def _shrink(self, keep: str) -> None:
        notes = sorted((p for p in self._files() if p.suffix == ".json"), key=lambda p: p.stat().st_mtime)
        size = self.size_bytes()
        for note in notes:
            if size <= self.cap_GB * 1e9:
                return
            if note.stem == keep:
                continue
            data = note.with_suffix(".npz")
            size -= data.stat().st_size if data.exists() else 0
            note.unlink(missing_ok=True)
            data.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
