"""Every public call says what it takes and what it gives, in numpydoc's form; numpydoc's own validator reads it.

Functions and methods: a docstring, every parameter in the order of the signature and no other, a section ``Returns``
where something is returned. Classes: a docstring, and of a dataclass every field in ``Attributes`` or ``Parameters``
(the keys of files are for ``test_keys``). Properties and methods with two underscores: a docstring.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

numpydoc_validate = pytest.importorskip(
    "numpydoc.validate", reason="numpydoc is not installed: pip install -e .[dev]"
)
docscrape = pytest.importorskip("numpydoc.docscrape", reason="numpydoc is not installed: pip install -e .[dev]")

ROOT = Path(__file__).resolve().parents[3]

CHECKS = {
    "GL08": "no docstring",
    "PR01": "not documented",
    "PR02": "documented, but not in the signature",
    "PR03": "documented in another order than the signature's",
    "RT01": "no section Returns",
}
"""numpydoc's codes that count here, in words."""

OFFERED = (
    "mrlinac",
    "mrlinac.dicom",
    "mrlinac.transport",
    "mrlinac.optimise",
    "mrlinac.protocol",
    "mrlinac.report",
    "mrlinac.phantoms",
)
"""Modules whose ``__all__`` is what they offer."""

OPEN = (
    *(f"mrlinac.machine.{name}" for name in ("delivery", "beams")),
    *(f"mrlinac.dose.{name}" for name in ("dose", "influence", "dvh", "metrics", "gamma", "sampled")),
    *(f"mrlinac.anatomy.{name}" for name in ("grid", "structures", "margins", "medium", "patient")),
    *(f"mrlinac.recipe.{name}" for name in ("plan", "recalculate", "evaluate", "spec", "result")),
)
"""Modules of which every name without an underscore counts."""


def public(module: str) -> Iterator[Any]:
    """Classes and functions that a module offers.

    Parameters
    ----------
    module : str
        Its dotted name.

    Yields
    ------
    class or function
        Each once.
    """
    loaded = importlib.import_module(module)
    own = [name for name, value in vars(loaded).items() if getattr(value, "__module__", "") == module]
    for name in loaded.__all__ if module in OFFERED else own:
        value = getattr(loaded, name)
        if not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value))):
            yield value


def faults(thing: Any) -> list[str]:
    """What is missing in the docstrings of a class, with its methods, or of a function.

    Parameters
    ----------
    thing : class or function
        With source in the package.

    Returns
    -------
    list of str
        A line for each fault.
    """
    if not inspect.isclass(thing):
        return _of_call(thing, f"{thing.__module__}.{thing.__qualname__}")
    found = _of_class(thing)
    for cls in thing.__mro__:
        if not cls.__module__.startswith("mrlinac"):
            continue
        for name, member in vars(cls).items():
            call, whole = _call_in(member)
            if call is None or not _written_here(call) or (name.startswith("_") and not name.endswith("__")):
                continue
            if not call.__doc__ and _inherits_words(cls, name):
                continue
            where = f"{cls.__module__}.{cls.__qualname__}.{name}"
            found += _of_call(call, where, whole and not name.endswith("__"))
    return list(dict.fromkeys(found))


def _call_in(member: Any) -> tuple[Any, bool]:
    """The function of a class's member, and whether its parameters count."""
    if isinstance(member, property):
        return member.fget, False
    if isinstance(member, functools.cached_property):
        return member.func, False
    if isinstance(member, (classmethod, staticmethod)):
        return member.__func__, True
    return (member, True) if inspect.isfunction(member) else (None, False)


def _written_here(call: Any) -> bool:
    """Whether a function has source in the package: not one that a dataclass or pydantic made."""
    return Path(inspect.unwrap(call).__code__.co_filename).is_relative_to(ROOT / "mrlinac")


def _inherits_words(cls: type, name: str) -> bool:
    return any(getattr(vars(base).get(name), "__doc__", None) for base in cls.__mro__[1:])


def _of_call(call: Any, where: str, whole: bool = True) -> list[str]:
    if not call.__doc__:
        return [f"{where}: {CHECKS['GL08']}"]
    if not whole:
        return []
    errors = numpydoc_validate.validate(docscrape.get_doc_object(call))["errors"]
    return [f"{where}: {_said(code, message)}" for code, message in errors if code in CHECKS]


def _said(code: str, message: str) -> str:
    """A fault in words; numpydoc prints parameters as a set, whose order is no order."""
    names = re.findall(r"'([^']+)'", message)
    if code == "PR03":
        return f"{CHECKS[code]}: {message}"
    return " ".join(filter(None, [", ".join(sorted(names)), CHECKS[code]]))


def _of_class(cls: type) -> list[str]:
    where = f"{cls.__module__}.{cls.__qualname__}"
    words = vars(cls).get("__doc__") or ""
    if not words or words.startswith(f"{cls.__name__}("):  # a dataclass without one is given its signature
        return [f"{where}: {CHECKS['GL08']}"]
    if not dataclasses.is_dataclass(cls):
        return []
    documented = set()
    for base in cls.__mro__:
        doc = docscrape.NumpyDocString(inspect.cleandoc(vars(base).get("__doc__") or ""))
        for section in ("Parameters", "Attributes"):
            documented |= {name for parameter in doc[section] for name in re.split(r",\s*", parameter.name)}
    missing = [f.name for f in dataclasses.fields(cls) if not f.name.startswith("_") and f.name not in documented]
    return [f"{where}: fields {', '.join(missing)} {CHECKS['PR01']}"] if missing else []


@pytest.mark.parametrize("module", [*OFFERED, *OPEN])
def test_every_public_call_is_documented(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpydoc's of sections that it does not know
        found = [line for thing in public(module) for line in faults(thing)]
    assert not found, "\n".join([f"{len(found)} faults", *dict.fromkeys(found)])


def wrong(first: int, second: int) -> int:
    """Add.

    Parameters
    ----------
    first : int
        One.
    third : int
        Not there.
    """
    return first + second


@dataclasses.dataclass(frozen=True)
class Wrong:
    """Fields, of which one is said.

    Attributes
    ----------
    said : int
        This one.
    """

    said: int
    unsaid: int


def test_a_fault_of_each_kind_is_found():
    here = wrong.__module__
    assert faults(wrong) == [
        f"{here}.wrong: second not documented",
        f"{here}.wrong: third documented, but not in the signature",
        f"{here}.wrong: no section Returns",
    ]
    assert faults(Wrong) == [f"{here}.Wrong: fields unsaid not documented"]
