"""Make ``docs/keys.md``, the reference of every key of every TOML file, from the models that read the files.

    python tools/keys.py            # writes the page
    python tools/keys.py missing    # lists the keys without a description

A key's description is, in this order: that of its ``Field``, the string beneath it, its entry in the section
``Attributes`` of the class, the comment on its line.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import tokenize
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mrlinac.anatomy import materials, rules
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.machine.model import Machine
from mrlinac.protocol import biology, kinds
from mrlinac.protocol.model import Constraint, Goal, Objective, Protocol
from mrlinac.recipe.spec import Numerics, PlanSpec, Technique, presets_of_numerics
from mrlinac.spec import Spec

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "keys.md"

UNITS = {
    "_photons_per_MU_per_mm2": "photons/(MU mm²)",
    "_dose_per_MU_Gy": "Gy/MU",
    "_softening_per_100mm": "per 100 mm",
    "_slope_per_Gy": "1/Gy",
    "_alpha_per_Gy": "1/Gy",
    "_alpha_sigma_per_Gy": "1/Gy",
    "_per_cc": "1/cm³",
    "_g_cm3": "g/cm³",
    "_rel_sigma": "relative",
    "_days": "days",
    "_percent": "%",
    "_mm": "mm",
    "_Gy": "Gy",
    "_MeV": "MeV",
    "_eV": "eV",
    "_HU": "HU",
    "_deg": "°",
    "_cc": "cm³",
    "_T": "T",
}
"""Unit by the end of a key; the first that fits counts. ``_`` stands for the beginning of the key too."""

SHORT_FORMS: Mapping[type, str] = {rules.Term: "a structure's name", rules.Side: "the name of a direction"}
"""What may stand in place of a table, as validators accept it."""

DEFAULTS: Mapping[tuple[type, str], str] = {
    (PlanSpec, "name"): "the file's name",
    (Objective, "key"): "the table's name",
    (Constraint, "key"): "the table's name",
    (Goal, "key"): "the table's name",
    (Goal, "structure"): "from the table's name",
    (Goal, "metric"): "from the table's name",
}
"""Defaults that are made when a file is read, which no model states."""

NAMED_TABLES: Mapping[tuple[type, str], str] = {
    (Protocol, "objectives"): "NAME",
    (Protocol, "constraints"): "NAME",
    (Protocol, "goals"): '"CTV D98%"',
}
"""Lists that a file writes as tables with a name."""

HEAD = """# Every key of every file

Made from the models that read the files, by `python tools/keys.py`; do not edit. An unknown key is an error. The end of a
key is its unit: `margin_mm`, `dose_Gy`. [files.md](files.md) says how files are found and how they build on one another.

In the column *default*, "required" means that the key must be there (in the file, or in a file that it builds on), and
"none" that nothing takes its place.
"""

EVERY_FILE = """
## Keys of plans, protocols, machines and techniques alike

| key | type | default | meaning |
|---|---|---|---|
| `extends` | text, or list of texts | none | Files of the same kind that this one builds on. Of several, a later one \
takes precedence; the file itself takes precedence over all. |
| `without` | text, or list of texts | none | Dotted keys that are not inherited. |
"""

OVERRIDES = """| `overrides` | table: any values, by dotted key | | none | | Values changed after all named files are \
read, for instance `"protocol.structures.PTV.margin_mm" = 3`. Those of the command line (`--set`) take precedence. |
"""


@dataclass(frozen=True)
class File:
    """A kind of file.

    Attributes
    ----------
    title : str
        Of its chapter.
    where : str
        Sentence that says where such a file stands.
    model : type
        What reads it.
    """

    title: str
    where: str
    model: type[Spec]


FILES = (
    File("Plan", "A file in `plans/`. The first argument of `mrlinac plan`.", PlanSpec),
    File("Protocol", "A file in `protocols/`, or the table `[protocol]` of a plan.", Protocol),
    File("Machine", "A file in `machines/`, or the table `[machine]` of a plan.", Machine),
    File("Technique", "A file in `techniques/`, or the table `[technique]` of a plan.", Technique),
    File(
        "Numerics",
        "The table `[numerics]` of a plan; or the name of a preset: "
        + ", ".join(f"`{name}`" for name in presets_of_numerics())
        + ".",
        Numerics,
    ),
    File(
        "patient.toml",
        "In the folder of a patient's DICOM files. `mrlinac import` writes it, a person edits it.",
        PatientFile,
    ),
)


@dataclass
class Key:
    """One row of a table.

    Attributes
    ----------
    name : str
        As a file has it.
    annotation : Any
        Type of the value.
    info : FieldInfo
        pydantic's record of it.
    description : str
        Empty where there is none.
    owner : type
        Model whose table this is.
    """

    name: str
    annotation: Any
    info: FieldInfo
    description: str
    owner: type[Spec]


@dataclass
class Table:
    """A table of a file, to be rendered under a heading of its own.

    Attributes
    ----------
    heading : str
        Unique in the page, for links.
    model : type
        What reads the table.
    keys : list of Key
        Its rows.
    before : str
        What stands between the model's own words and its rows.
    """

    heading: str
    model: type[Spec]
    keys: list[Key]
    before: str = ""


@dataclass
class Chapter:
    """Tables of one kind of file, in the order in which they are met."""

    file: File
    tables: list[Table] = field(default_factory=list)
    places: dict[type, str] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------- descriptions


@cache
def _tree(path: str) -> tuple[ast.Module, dict[int, str]]:
    """A source file's syntax, and its comments by line."""
    text = Path(path).read_text("utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {
        token.start[0]: token.string.lstrip("#: ").strip() for token in tokens if token.type == tokenize.COMMENT
    }
    return ast.parse(text), comments


@cache
def _beside(model: type) -> dict[str, str]:
    """By field that a class defines itself: the string beneath it, or else the comments on its lines."""
    tree, comments = _tree(inspect.getfile(model))
    body = next(
        node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == model.__name__
    )
    found = {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        said = " ".join(comments[line] for line in lines if line in comments and "fmt:" not in comments[line])
        if (
            isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            said = inspect.cleandoc(after.value.value)
        if said:
            found[node.target.id] = said
    return found


@cache
def _sections(model: type) -> tuple[str, dict[str, str]]:
    """A class's docstring: the text before its first section, and the entries of ``Attributes`` by name."""
    lines = inspect.cleandoc(model.__dict__.get("__doc__") or "").splitlines()
    starts = [k for k in range(len(lines) - 1) if re.fullmatch("-{3,}", lines[k + 1].strip()) and lines[k].strip()]
    text = "\n".join(lines[: starts[0]] if starts else lines).strip()
    entries: dict[str, list[str]] = {}
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=False):
        if lines[start].strip() not in ("Attributes", "Parameters"):
            continue
        names: list[str] = []
        for line in lines[start + 2 : end]:
            if line.strip() and not line.startswith(" "):
                names = re.split(r",\s*", line.partition(" : ")[0].strip())
                names = [name for name in names if name.isidentifier()]
                entries |= {name: [] for name in names}
            else:
                for name in names:
                    entries[name].append(line.strip())
    return text, {name: " ".join(words).strip() for name, words in entries.items() if any(words)}


def _description(model: type[Spec], name: str, info: FieldInfo) -> str:
    if info.description:
        return info.description
    bases = [base for base in model.__mro__ if issubclass(base, Spec) and base is not Spec]
    sources = [text for base in bases for text in (_sections(base)[1].get(name, ""), _beside(base).get(name, ""))]
    strings = [text for text in sources if text]
    return strings[0] if strings else ""


def keys_of(model: type[Spec]) -> list[Key]:
    """The keys of a model that a file may have, in order: a subclass's own come after its base's."""
    hints = get_type_hints(model, include_extras=True)
    return [
        Key(info.alias or name, hints[name], info, _description(model, name, info), model)
        for name, info in model.model_fields.items()
        if not info.exclude and get_origin(hints[name]) is not ClassVar
    ]


# -------------------------------------------------------------------------------------------------------------- types


def _arms(annotation: Any) -> list[Any]:
    """Alternatives of a type, None left out, each with what :class:`typing.Annotated` adds to it."""
    if get_origin(annotation) is Annotated and get_origin(get_args(annotation)[0]) in (Union, types.UnionType):
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return [arm for inner in get_args(annotation) if inner is not type(None) for arm in _arms(inner)]
    return [annotation]


def models_in(annotation: Any) -> list[type[Spec]]:
    """The models anywhere in a type, in order."""
    if annotation == materials.MaterialName:
        return [materials.OwnMaterial]
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation] if issubclass(annotation, Spec) else []
    found = [model for inner in get_args(annotation) for model in models_in(inner)]
    return list(dict.fromkeys(found))


def _bounds(metadata: Any) -> Iterator[str]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _bounds(item.metadata)
        for name, words in (("gt", "> {:g}"), ("ge", "≥ {:g}"), ("lt", "< {:g}"), ("le", "≤ {:g}")):
            if (value := getattr(item, name, None)) is not None:
                yield words.format(value)
        if (length := getattr(item, "min_length", None)) is not None:
            yield f"at least {length} long"
        if (length := getattr(item, "max_length", None)) is not None:
            yield f"at most {length} long"
        if (pattern := getattr(item, "pattern", None)) is not None:
            yield f"pattern `{pattern}`"


def allowed(annotation: Any, info: FieldInfo | None = None) -> list[str]:
    """Bounds and allowed values anywhere in a type, in words."""
    found = list(_bounds([info])) if info is not None else []
    if annotation == materials.MaterialName:
        return ["a known material (`mrlinac/data/materials.toml`), or a table that defines one"]
    if get_origin(annotation) is Literal:
        return [*found, ", ".join(_code(value) for value in get_args(annotation))]
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return list(dict.fromkeys([*found, *_bounds(metadata), *allowed(inner)]))
    parts = get_args(annotation)[1:] if get_origin(annotation) is dict else get_args(annotation)
    return list(dict.fromkeys([*found, *(words for part in parts for words in allowed(part))]))


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def in_words(annotation: Any, places: Mapping[type, str]) -> str:
    """A type in words; a table links to its heading."""
    if annotation == materials.MaterialName:
        return f"text, or {_link(materials.OwnMaterial, places)}"
    if len(models_in(annotation)) > 1 and all(isinstance(arm, type) for arm in map(_plain, _arms(annotation))):
        return "text"  # a choice of kinds, which the table of kinds lists
    words = [_one_in_words(arm, places) for arm in _arms(annotation)]
    return ", or ".join(dict.fromkeys(words))


def _one_in_words(annotation: Any, places: Mapping[type, str]) -> str:
    plain = _plain(annotation)
    origin, parts = get_origin(plain), get_args(plain)
    names = {
        str: "text",
        bool: "true or false",
        int: "whole number",
        float: "number",
        Any: "any value",
        object: "any value",
    }
    if plain in names:
        return names[plain]
    if origin is Literal:
        return "text" if all(isinstance(value, str) for value in parts) else "one value"
    if origin is tuple and parts[-1] is not Ellipsis:
        inner = {in_words(part, places) for part in parts}
        kind = _plural(inner.pop()) if len(inner) == 1 else "values"
        return f"list of {len(parts)} {kind}"
    if origin is tuple:
        inner_words = in_words(parts[0], places)
        short = any(model in SHORT_FORMS for model in models_in(parts[0]))
        return f"{inner_words}, or a list of both" if short else f"list of {_plural(inner_words)}"
    if origin is dict:
        return f"table by name: {in_words(parts[1], places)} each"
    if isinstance(plain, type) and issubclass(plain, Spec):
        short_form = f"{SHORT_FORMS[plain]}, or " if plain in SHORT_FORMS else ""
        return f"{short_form}{_link(plain, places)}"
    raise SystemExit(f"tools/keys.py has no words for the type {annotation}")


def _plural(words: str) -> str:
    first, _, rest = words.partition(" ")
    if words.startswith("["):
        return words.replace("[table]", "[tables]", 1)
    return {"text": "texts", "number": "numbers", "whole": "whole numbers", "table": f"tables {rest}".strip()}.get(
        first, words
    )


def _link(model: type, places: Mapping[type, str]) -> str:
    place = places.get(model)
    return "table" if place is None else f"[table](#{slug(place)})"


def slug(heading: str) -> str:
    """Anchor of a heading, as GitHub and Python-Markdown both make it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def _code(value: Any) -> str:
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def unit_of(name: str) -> str:
    """Unit of a key, from its end; empty where it has none."""
    return next((unit for end, unit in UNITS.items() if f"_{name}".endswith(end)), "")


def _default(key: Key) -> str:
    field_name = next(name for name, info in key.owner.model_fields.items() if info is key.info)
    stated = next(
        (DEFAULTS[(base, field_name)] for base in key.owner.__mro__ if (base, field_name) in DEFAULTS), None
    )
    if stated is not None:
        return stated
    if key.info.is_required():
        return "required"
    value = key.info.default
    if key.info.default_factory is not None or value is None or value == () or value is PydanticUndefined:
        return "none"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f'`"{value}"`' if isinstance(value, str) else _code(value)


# -------------------------------------------------------------------------------------------------------------- tables


def _is_choice(annotation: Any) -> bool:
    """Whether a type is one of several models, told apart by their ``kind``."""
    found = models_in(annotation)
    return len(found) > 1 and all("kind" in model.model_fields for model in found)


def chapters() -> list[Chapter]:
    """Every kind of file with its tables."""
    roots = {file.model: file.title for file in FILES}
    made = []
    for file in FILES:
        chapter = Chapter(file, places=dict(roots))
        _add(chapter, file.model, file.title, "")
        made.append(chapter)
    return made


def _add(chapter: Chapter, model: type[Spec], heading: str, dotted: str) -> None:
    """Add a model's table and, after it, the tables inside it that have no place yet."""
    keys = keys_of(model)
    chapter.places.setdefault(model, heading)
    chapter.tables.append(Table(heading, model, keys))
    below = []
    for key in keys:
        for inner in models_in(key.annotation):
            if inner in chapter.places:
                continue
            path = ".".join(part for part in (dotted, key.name) if part)
            name = NAMED_TABLES.get((model, key.name), "NAME" if get_origin(_plain(key.annotation)) is dict else "")
            path += f".{name}" if name else ""
            listed = not name and get_origin(_plain(_arms(key.annotation)[0])) is tuple
            chapter.places[inner] = f"{chapter.file.title}: `{f'[[{path}]]' if listed else f'[{path}]'}`"
            if _is_choice(key.annotation):
                chapter.places[inner] = f"Kind `{_kind(inner)}` of {_used_by(inner)}"
            below.append((inner, path))
    for inner, path in below:
        _add(chapter, inner, chapter.places[inner], path)


def _kind(model: type[Spec]) -> str:
    return str(model.model_fields["kind"].default)


def _used_by(model: type[Spec]) -> str:
    """Which tables of a protocol take a kind, in words."""
    groups = {
        "objectives": kinds.OBJECTIVE_KINDS,
        "constraints": kinds.LIMIT_KINDS,
        "models": biology.MODEL_KINDS,
    }
    return " and ".join(name for name, group in groups.items() if model in group)


def _prose(text: str) -> str:
    """A docstring's text as Markdown."""
    text = re.sub(r":(?:func|class|meth|data|attr|mod):`~?([^`]+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    return re.sub(r"`(\w+)/NAME\.toml`", r"a file in `\1/`", text)


def _sentence(text: str) -> str:
    """A description as a sentence in a table."""
    text = _prose(re.sub(r"\s+", " ", text.strip())).replace("|", "\\|")
    if not text:
        return "—"
    if text[0].islower() and not re.match(r"[a-z]\w*_", text):
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".…!?" else f"{text}."


def _row(key: Key, places: Mapping[type, str]) -> str:
    choices = models_in(key.annotation) if _is_choice(key.annotation) else []
    name, choice = key.name, "; ".join(allowed(key.annotation, key.info))
    words = in_words(key.annotation, places)
    if (key.owner, key.name) in NAMED_TABLES:
        words = f"table by name: {words.removeprefix('list of ').replace('[tables]', '[table]')} each"
    if choices:
        choice = ", ".join(f"[`{_kind(one)}`](#{slug(places[one])})" for one in choices)
        if get_origin(_plain(key.annotation)) is dict:
            words, choice = "table by name", f"with `kind` one of {choice}"
        else:
            name = "kind"  # a file writes the keys of the kind beside it
    cells = (f"`{name}`", words, unit_of(name), _default(key), choice, _sentence(key.description))
    return f"| {' | '.join(cells)} |\n"


def render() -> str:
    """The page as text."""
    page = [HEAD, "\n"]
    made = chapters()
    page += [f"- [{chapter.file.title}](#{slug(chapter.file.title)})\n" for chapter in made]
    page.append(EVERY_FILE)
    for chapter in made:
        for table in chapter.tables:
            top = table.model is chapter.file.model
            page.append(f"\n{'##' if top else '###'} {table.heading}\n\n")
            if top:
                page.append(f"{chapter.file.where}\n\n")
            if text := _prose(_sections(table.model)[0]):
                page.append(f"{text}\n\n")
            rows = [key for key in table.keys if not (key.name == "kind" and not _is_choice(key.annotation))]
            if not rows:
                page.append("No other key.\n")
                continue
            page.append("| key | type | unit | default | allowed | meaning |\n|---|---|---|---|---|---|\n")
            page += [_row(key, chapter.places) for key in rows]
            if table.model is PlanSpec:
                page.append(OVERRIDES)
    return "".join(page)


def missing() -> list[str]:
    """Keys without a description, as ``module.Class.key``."""
    lacking = [
        f"{base.__module__}.{base.__qualname__}.{name}"
        for chapter in chapters()
        for table in chapter.tables
        for key in table.keys
        if not key.description and not (key.name == "kind" and not _is_choice(key.annotation))
        for name in [next(name for name, info in key.owner.model_fields.items() if info is key.info)]
        for base in [
            next(base for base in reversed(key.owner.__mro__) if name in getattr(base, "__annotations__", {}))
        ]
    ]
    return list(dict.fromkeys(lacking))


if __name__ == "__main__":
    if sys.argv[1:] == ["missing"]:
        print("\n".join(missing()))
    else:
        PAGE.write_text(render(), encoding="utf-8")
        print(PAGE)
