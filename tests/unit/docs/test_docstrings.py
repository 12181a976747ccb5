"""Every public call says what it takes, what it returns and in which unit: numpydoc's validator, in CI."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass
from importlib import import_module

import pytest
from pydantic import BaseModel

import mrlinac

validate = pytest.importorskip("numpydoc.validate").validate

ROOMS = ("dicom", "transport", "optimise", "protocol", "report", "phantoms")
"""Rooms whose public calls are named in ``__all__``."""
MODULES = (
    *("machine.delivery", "machine.beams", "machine.model"),
    *("dose.dose", "dose.influence", "dose.scenarios", "dose.dvh", "dose.metrics", "dose.gamma", "dose.sampled"),
    *("anatomy.grid", "anatomy.image", "anatomy.structures", "anatomy.margins", "anatomy.medium", "anatomy.patient"),
    *("recipe.plan", "recipe.recalculate", "recipe.evaluate", "recipe.spec", "recipe.result", "recipe.check"),
    "store",
)
"""Modules of nouns and recipes: everything public that they define."""
ASKED = {
    "GL08": "no docstring",
    "PR01": "a parameter is not described",
    "PR02": "a parameter is described that there is not",
    "RT01": "no section Returns",
}


def public_calls():
    """Name and object of each public function, class and method."""
    seen = {f"mrlinac.{name}": getattr(mrlinac, name) for name in mrlinac.__all__}
    for room in ROOMS:
        module = import_module(f"mrlinac.{room}")
        seen |= {f"mrlinac.{room}.{name}": getattr(module, name) for name in module.__all__}
    for name in MODULES:
        module = import_module(f"mrlinac.{name}")
        seen |= {
            f"mrlinac.{name}.{attribute}": value
            for attribute, value in vars(module).items()
            if not attribute.startswith("_") and getattr(value, "__module__", None) == module.__name__
        }
    return {name: value for name, value in seen.items() if inspect.isroutine(value) or inspect.isclass(value)}


def faults_of(name, value, asked):
    """Codes that numpydoc finds in one docstring, among those that are asked for."""
    found = validate(f"{value.__module__}.{value.__qualname__}")["errors"]
    return [f"{name}: {text} ({code})" for code, text in found if code in asked]


def faults(name, value):
    """Faults of a function, or of a class and its public methods."""
    if not inspect.isclass(value):
        return faults_of(name, value, ASKED)
    # Fields are parameters of the constructor: a section Attributes describes them.
    has_fields = is_dataclass(value) or issubclass(value, BaseModel)
    asked = {"GL08"} if has_fields or getattr(value, "_is_protocol", False) else {"GL08", "PR01", "PR02"}
    listed = faults_of(name, value, asked)
    if has_fields and value.__annotations__:
        section = (inspect.getdoc(value) or "").partition("Attributes\n")[2]
        fields = [field for field in value.__annotations__ if not field.startswith("_")]
        listed += [f"{name}: attribute '{field}' is not described" for field in fields if field not in section]
    for attribute, member in vars(value).items():
        member = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if inspect.isfunction(member) and not attribute.startswith("_"):
            listed += faults_of(f"{name}.{attribute}", member, ASKED)
    return listed


def test_every_public_call_says_what_it_takes_and_returns():
    listed = [fault for name, value in public_calls().items() for fault in faults(name, value)]
    assert not listed, f"{len(listed)} faults:\n" + "\n".join(sorted(set(listed)))


def test_the_check_sees_what_is_missing():
    def undescribed(dose_Gy, fractions):
        """One line.

        Parameters
        ----------
        dose_Gy : float
        """
        return dose_Gy / fractions

    globals()["undescribed"] = undescribed
    undescribed.__qualname__ = "undescribed"
    text = "\n".join(faults("undescribed", undescribed))
    assert "fractions" in text
    assert "RT01" in text
