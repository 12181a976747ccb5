"""What can go wrong, by whose fault it is and what the remedy is."""

from __future__ import annotations

from collections.abc import Sequence


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
