"""Clinic spellings of structures to TG-263 names, roles and colours; the table is data."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import Field

from mrlinac.anatomy.structures import Role
from mrlinac.errors import SpecError
from mrlinac.spec import Spec, read_toml, validate

Matched = Literal["exact", "alias", "pattern", "type", "none"]

INTERPRETED: Mapping[str, Role] = {
    "EXTERNAL": "external",
    "PTV": "target",
    "CTV": "target",
    "GTV": "target",
    "TREATED_VOLUME": "target",
    "ORGAN": "oar",
    "AVOIDANCE": "oar",
    "SUPPORT": "support",
    "FIXATION": "support",
}
"""RT ROI Interpreted Type (3006,00A4) to role; every other term is "other"."""


class NamedStructure(Spec):
    """A structure of the table."""

    name: str
    role: Role
    color: tuple[int, int, int]
    aliases: tuple[str, ...] = ()


class RolePattern(Spec):
    """A family of names that keep their spelling but get a role: PTV_66, CTVn2."""

    pattern: str
    role: Role
    color: tuple[int, int, int]


class NameTable(Spec):
    """The alias table."""

    source: str
    dropped_suffixes: tuple[str, ...] = ()
    structure: tuple[NamedStructure, ...]
    family: tuple[RolePattern, ...] = Field(default=())


class Naming(Spec):
    """What a clinic's name became."""

    name: str
    role: Role
    color: tuple[int, int, int] | None
    matched: Matched


def folded(name: str) -> str:
    """A spelling reduced to what counts: no case, accents, spaces or separators; "+" and digits stay.

    >>> folded("Poumon_Gauche"), folded("Œsophage"), folded("LUNGS - GTV")
    ('poumongauche', 'oesophage', 'lungsgtv')
    """
    # Twice, for letters whose decomposition has case again (mathematical alphabets).
    for _ in range(2):
        name = unicodedata.normalize("NFKD", name).casefold()
    # Ligatures and strokes are letters of their own to Unicode and do not decompose.
    for letter, plain in (("œ", "oe"), ("æ", "ae"), ("ø", "o"), ("ł", "l"), ("đ", "d"), ("ı", "i")):
        name = name.replace(letter, plain)
    decomposed = unicodedata.normalize("NFKD", name)
    return "".join(c for c in decomposed if c.isalnum() or c == "+")


@cache
def name_table() -> NameTable:
    """The table that comes with the package."""
    with resources.as_file(resources.files("mrlinac") / "data" / "structure_names.toml") as path:
        return validate(NameTable, read_toml(path), path.name)


@cache
def _spellings() -> Mapping[str, NamedStructure]:
    """Folded spelling to structure; the same spelling for two structures is an error of the table."""
    spellings: dict[str, NamedStructure] = {}
    for structure in name_table().structure:
        for spelling in (structure.name, *structure.aliases):
            other = spellings.setdefault(folded(spelling), structure)
            if other is not structure:
                raise SpecError(
                    f"structure_names.toml: '{spelling}' stands for both {other.name} and {structure.name}"
                )
    return spellings


def known(name: str) -> NamedStructure | None:
    """Entry of the table with exactly this TG-263 name."""
    return next((s for s in name_table().structure if s.name == name), None)


def naming(clinic_name: str, interpreted_type: str = "", overrides: Mapping[str, str] | None = None) -> Naming:
    """TG-263 name, role and colour of a clinic's structure.

    Parameters
    ----------
    clinic_name : str
        ROI Name (3006,0026).
    interpreted_type : str
        RT ROI Interpreted Type (3006,00A4); decides the role where the name is unknown.
    overrides : mapping of clinic name to TG-263 name, optional
        Goes before the table; matched regardless of case and separators.

    Returns
    -------
    Naming
        ``matched`` says by what. An unknown name stays as it is; only what is typed EXTERNAL becomes External.
    """
    typed = INTERPRETED.get(interpreted_type.upper(), "other")
    chosen = {folded(key): value for key, value in (overrides or {}).items()}.get(folded(clinic_name))
    spelling = chosen if chosen is not None else clinic_name
    for candidate in (spelling, *_without_suffix(spelling)):
        entry = _spellings().get(folded(candidate))
        if entry is not None:
            matched: Matched = "exact" if entry.name == clinic_name else "alias"
            return Naming(name=entry.name, role=entry.role, color=entry.color, matched=matched)
    for family in name_table().family:
        if re.fullmatch(family.pattern, spelling, re.IGNORECASE):
            return Naming(name=spelling, role=family.role, color=family.color, matched="pattern")
    if typed == "external" and chosen is None:
        outline = known("External")  # the type says what it is, whatever its name
        if outline is not None:
            return Naming(name=outline.name, role=outline.role, color=outline.color, matched="type")
    matched = "alias" if chosen is not None else "type" if typed != "other" else "none"
    return Naming(name=spelling, role=typed, color=None, matched=matched)


def _without_suffix(name: str) -> list[str]:
    shorter = (re.sub(suffix, "", name, flags=re.IGNORECASE) for suffix in name_table().dropped_suffixes)
    return [candidate for candidate in shorter if candidate and candidate != name]
