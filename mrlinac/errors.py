"""What can go wrong, by whose fault it is and what the remedy is."""

from __future__ import annotations

import difflib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class MrlinacError(Exception):
    """The base of every error this package raises on purpose.

    Its text says what is wrong and how to mend it; the command line prints it without a traceback.
    """


class SpecError(MrlinacError):
    """A plan, protocol, machine or study file is wrong: names the file, the key and the allowed values."""


class DataError(MrlinacError):
    """Patient data are wrong: names the file, the tag and the remedy."""


class PhysicsError(MrlinacError):
    """A request that physics or the tables do not cover."""


class SolverError(MrlinacError):
    """The optimiser found no solution: its status and the constraint that stands in the way."""


class DeviceError(MrlinacError):
    """The device asked for is not there."""


class DiskError(MrlinacError):
    """A file could not be written because there is no room for it: names the file and the remedy."""


class MissingExtraError(MrlinacError):
    """An optional package is not installed: gives the exact pip line."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed.\n"
            f'Install it with:  python -m pip install "mrlinac[{extra}]"'
        )


def raise_all(error: type[MrlinacError], heading: str, problems: Sequence[str]) -> None:
    """Raise one error that lists every problem; do nothing when there are none."""
    if problems:
        raise error(heading + "".join(f"\n  - {problem}" for problem in problems))


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """``; did you mean 'Heart'?`` for the nearest of the known names, whatever the case of letters; or nothing."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).casefold(), by_folded, n=1)
    return f"; did you mean '{by_folded[near[0]]}'?" if near else ""


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, the user's share of it is used up, the file is larger than is allowed."""


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Say which file found no room on its disk: writes to an open file do not.

    Raises
    ------
    DiskError
        For a full disk or a used-up quota; other errors pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DiskError(f"{path}: {no_room(error, Path(path))}") from error


def check_place(folder: str | Path, needed_bytes: float = 0.0) -> None:
    """Find out before anything long whether a folder can be made or written to, and whether its disk has room.

    Parameters
    ----------
    folder : path
    needed_bytes : float

    Raises
    ------
    DataError
        The folder may not be written to.
    DiskError
        Less is free than is needed: names both.
    """
    place = Path(folder).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
        raise DataError(f"{folder}: '{place}' may not be written to; give another folder")
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < needed_bytes:
        raise DiskError(
            f"{folder}: its disk has {free_bytes / 1e6:.0f} MB free, and {needed_bytes / 1e6:.0f} MB may be needed: free "
            "some space or give another folder"
        )


def no_room(error: OSError, path: Path) -> str:
    """Why there was none, what is free, and what to do."""
    reason = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "your quota of the disk is used up"}
    free = ""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if place.exists():
        free = f" ({shutil.disk_usage(place).free / 1e6:.0f} MB free)"
    return (
        f"{reason.get(error.errno or 0, 'the file is larger than the system allows')}{free}. Free some space or write "
        "elsewhere, and run again; `mrlinac cache info` says what the cache holds, `mrlinac cache clear` empties it"
    )
