"""Write docs/keys.md: every key of every TOML file, from the schema that reads them.

python tools/keys.py            # writes the page
python tools/keys.py --check    # says whether the page is what the schema gives, and writes nothing
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.machine.model import Machine
from mrlinac.protocol.model import Protocol
from mrlinac.recipe.spec import Numerics, PatientSource, Technique
from mrlinac.spec import Spec

PAGE = Path(__file__).parent.parent / "docs" / "keys.md"

FILES: dict[str, type[Spec]] = {
    "Plans: `plans/<name>.toml`, table `[patient]`": PatientSource,
    "Techniques: `techniques/<name>.toml`": Technique,
    "Numerics: `[numerics]`, or the name of a preset": Numerics,
    "Protocols: `protocols/<name>.toml`": Protocol,
    "Machines: `machines/<name>.toml`": Machine,
    "Patients: `patient.toml`": PatientFile,
}
SHARED = {
    "source": "Where the value comes from.",
    "structure": "Name of a structure.",
    "kind": "What it is.",
    "name": "Name of the file.",
    "title": "One line for headings.",
}
"""Keys that mean the same everywhere."""
INLINE = ("of",)
"""Fields whose keys stand in the table itself."""
PLANS = """\
| key | value | default | meaning |
|---|---|---|---|
| `title` | text | required | One line for headings. |
| `extends` | name, or list of names | none | Files this one builds on; a later one goes before an earlier one. |
| `without` | list of text | none | Dotted keys that are not inherited. |
| `patient` | table | the built-in patient | Where the patient comes from; see below. |
| `protocol`, `machine`, `technique`, `numerics` | name, or table | required | A name, a path, or the table itself. |
| `overrides` | table | none | Single values by dotted key, applied after all files are read. |
"""
WORDS = {
    float: "number",
    int: "whole number",
    str: "text",
    bool: "true or false",
    type(None): "none",
    Any: "any value",
}
UNITS = {
    "mm": "mm", "cm": "cm", "Gy": "Gy", "MeV": "MeV", "T": "T", "g_cm3": "g/cm³", "HU": "HU", "deg": "degrees", "cc": "cm³",
    "percent": "%", "s": "s", "mm2": "mm²", "GB": "GB", "MU": "MU",
}  # fmt: skip
"""Units by suffix of a name."""


def main(words: list[str]) -> int:
    """Write the page, or with ``--check`` compare it."""
    text = page()
    if "--check" in words:
        same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        print(
            "docs/keys.md is up to date"
            if same
            else "docs/keys.md is not what the schema gives: python tools/keys.py"
        )
        return 0 if same else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


def page() -> str:
    """The page as Markdown."""
    parts = [
        "# Keys of the TOML files\n",
        "Made from the schema by `python tools/keys.py`. A key that is not listed is refused. "
        "Units are the suffix of the name. How files build on each other: [files](files.md).\n",
        "## Plans: `plans/<name>.toml`\n",
        PLANS,
    ]
    seen: set[type] = set()
    for heading, model in FILES.items():
        parts.append(f"## {heading}\n")
        parts += sections(model, seen)
    return "\n".join(parts).rstrip() + "\n"


def sections(model: type[Spec], seen: set[type], path: str = "") -> Iterator[str]:
    """The table of a model, then those of the tables within it, each once."""
    if model in seen:
        return
    seen.add(model)
    if path:
        yield f"### {path}\n"
    yield sentence(model)
    yield table(model)
    for name, field in model.model_fields.items():
        nested = [kind for kind in models_in(field.annotation) if kind not in seen]
        if name in INLINE or len(nested) > 3:  # tables that say themselves what they are
            owner = path or f"`{key_of(name, field)}`"
            for kind in nested:
                yield from sections(kind, seen, f'{owner} of `kind = "{kind_of(kind)}"`')
            continue
        for kind in nested:
            yield from sections(kind, seen, f"{path + ' · ' if path else ''}`{key_of(name, field)}`")


def sentence(model: type[Spec]) -> str:
    """What the model is: its docstring up to the first section."""
    text = inspect.getdoc(model) or ""
    text = re.split(r"\n\n(?:Attributes|Parameters|Notes)\n---", text)[0]
    return re.sub(r"``([^`]+)``", r"`\1`", re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)) + "\n"


def table(model: type[Spec]) -> str:
    """A row a key."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if field.exclude or name == "key":  # the table's own name
            continue
        if name in INLINE:
            rows.append(f"| `kind` and its keys | see below | required | {meaning(model, name)} |")
            continue
        cells = (f"`{key_of(name, field)}`", value_of(name, field), default_of(field), meaning(model, name))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def key_of(name: str, field: FieldInfo) -> str:
    """The key in the file."""
    return field.alias or name


def kind_of(model: type[Spec]) -> str:
    """The value of ``kind`` that chooses a model."""
    field = model.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field is not None else model.__name__


def value_of(name: str, field: FieldInfo) -> str:
    """Type, bounds and unit in words."""
    return ", ".join(part for part in (words(field.annotation), bounds(field.metadata), unit(name)) if part)


def words(kind: Any) -> str:
    """A type in words."""
    if kind in WORDS:
        return WORDS[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        limit = bounds(inner[1:])
        return words(inner[0]) + (f" {limit}" if limit else "")
    if origin is Literal:
        return " or ".join(f'`"{value}"`' if isinstance(value, str) else f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        shown = [words(part) for part in inner if part is not type(None)]
        return "table" if len(shown) > 3 else " or ".join(dict.fromkeys(shown))
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return f"list of {words(inner[0])}"
        return f"list of {len(inner)}: {words(inner[0])}"
    if origin in (list, typing.Sequence):
        return f"list of {words(inner[0])}"
    if origin is dict:
        return f"tables by name: {words(inner[1])}" if models_in(inner[1]) else f"values by name: {words(inner[1])}"
    return "table" if isinstance(kind, type) and issubclass(kind, Spec) else getattr(kind, "__name__", str(kind))


def bounds(metadata: Any) -> str:
    """Bounds in words."""
    signs = {Gt: ">", Ge: "≥", Lt: "<", Le: "≤"}
    found = []
    for constraint in metadata:
        for inner in getattr(constraint, "metadata", ()) or (constraint,):
            if type(inner) in signs:
                (value,) = (
                    (v for k, v in vars(inner).items() if v is not None)
                    if hasattr(inner, "__dict__")
                    else (next(getattr(inner, s) for s in inner.__slots__),)
                )
                found.append(f"{signs[type(inner)]} {value:g}")
            elif isinstance(inner, MinLen):
                found.append(f"at least {inner.min_length}")
    return " and ".join(found)


def unit(name: str) -> str:
    """The unit, from the name's suffix."""
    ends = [suffix for suffix in UNITS if name.endswith(f"_{suffix}")]
    return UNITS[max(ends, key=len)] if ends else ""


def default_of(field: FieldInfo) -> str:
    """What stands for a key that is left out."""
    if field.is_required():
        return "required"
    value = field.default if field.default is not PydanticUndefined else None
    if value is None or value in ((), "", {}):
        return "none"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def meaning(model: type[Spec], name: str) -> str:
    """The description, from the section Attributes of the class or of one it derives from."""
    for kind in model.__mro__:
        if not (isinstance(kind, type) and issubclass(kind, Spec)) or kind is Spec:
            continue
        text = attributes(inspect.cleandoc(kind.__doc__ or "")).get(name)
        if text is not None:
            if text:
                return text
            break
    return SHARED.get(name, "")


def attributes(doc: str) -> dict[str, str]:
    """Descriptions of the section Attributes by name."""
    _, _, section = doc.partition("Attributes\n----------\n")
    section = re.split(r"\n\n(?:Notes|Raises|Returns)\n", section)[0]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", section):
        head, _, text = entry.partition("\n")
        names = [part.strip() for part in head.partition(" : ")[0].partition(" (")[0].split(",")]
        text = re.sub(r"\s+", " ", text).strip()
        text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
        found |= dict.fromkeys(names, text)
    return found


def models_in(kind: Any) -> list[type[Spec]]:
    """The models that a type speaks of."""
    if isinstance(kind, type) and not get_args(kind):
        return [kind] if issubclass(kind, Spec) else []
    return [model for part in get_args(kind) for model in models_in(part)]


def described() -> dict[str, str]:
    """Every key with its description, as ``Model.key``; for the test."""
    seen: set[type] = set()
    for model in FILES.values():
        list(sections(model, seen))
    return {
        f"{model.__name__}.{key_of(name, field)}": meaning(model, name)
        for model in seen
        for name, field in model.model_fields.items()
        if not field.exclude
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
