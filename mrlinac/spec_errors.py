"""What is wrong with a file, in words: pydantic's errors of a specification, each with its dotted key and the remedy."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from mrlinac.errors import did_you_mean

NUMBER, WHOLE, TEXT, LIST, TABLE = "a number", "a whole number", "text, in quotes", "a list, in brackets", "a table"
MUST_BE = {
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "finite_number": "a finite number",
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_from_float": WHOLE,
    "string_type": TEXT,
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": LIST,
    "list_type": LIST,
    "dict_type": TABLE,
    "mapping_type": TABLE,
    "model_type": TABLE,
    "model_attributes_type": TABLE,
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "text of at least {min_length} character(s)",
    "string_pattern_mismatch": "text of the pattern {pattern}",
}
"""By pydantic's type of error: what the value must be; the names in braces are pydantic's own."""

NO_TABLE = frozenset(kind for kind, what in MUST_BE.items() if what == TABLE)


@dataclass(frozen=True)
class Place:
    """Where an error lies.

    Attributes
    ----------
    key : tuple of str
        As the file has it: without the names of kinds and alternatives that pydantic puts between.
    annotation : Any
        Type of what stands there.
    known : tuple of str
        Keys of the table that holds it.
    choice : tuple
        Key and annotation of the innermost choice between unlike types on the way, e.g. a number or a table; or empty.
    """

    key: tuple[str, ...]
    annotation: Any
    known: tuple[str, ...]
    choice: tuple[Any, ...] = ()


def sentences(model: type[BaseModel], values: Mapping[str, Any], errors: Iterable[Any]) -> list[str]:
    """One sentence for each thing that is wrong.

    Parameters
    ----------
    model : type
        What was to be built.
    values : mapping
        From these.
    errors : iterable
        ``ValidationError.errors()``.
    """
    texts: dict[str, None] = {}
    for error in errors:
        place = _place(model, values, error["loc"])
        if place.choice:
            key, options = place.choice
            value = _value_at(values, key)
            if not isinstance(value, Mapping):
                texts[f"{'.'.join(key)}: must be {_described(options)} (given: {value!r:.80})"] = None
                continue
            if len(place.key) == len(key):
                continue  # a table is given: how to write a number instead does not help
        texts[_sentence(place, error)] = None
    return list(texts)


def _sentence(place: Place, error: Any) -> str:
    where, kind, context, value = (
        ".".join(place.key) or "the file",
        error["type"],
        error.get("ctx", {}),
        error["input"],
    )
    shown = "" if isinstance(value, Mapping) else f" (given: {value!r:.80})"
    if kind == "missing":
        return f"{where}: is missing"
    if kind == "extra_forbidden":
        known = f" (known: {', '.join(place.known)})" if place.known else ""
        return f"{where}: unknown key{did_you_mean(place.key[-1], place.known)}{known}"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag, tags = context["discriminator"].strip("'"), [str(tag) for tag in _tags(place.annotation)]
        if kind == "union_tag_not_found":
            return f"{where}: {tag} is missing; one of: {', '.join(tags)}"
        wrong = context["tag"]
        return f"{where}: no such {tag} '{wrong}'{did_you_mean(wrong, tags)} (known: {', '.join(tags)})"
    if kind == "literal_error":
        hint = did_you_mean(value, [str(option) for option in get_args(_bare(place.annotation))])
        return f"{where}: must be {context['expected']}{shown}{hint}"
    if kind in MUST_BE:
        return f"{where}: must be {MUST_BE[kind].format(**context)}{shown}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{shown}"


def _place(model: type[BaseModel], values: Any, location: Sequence[Any]) -> Place:
    """Follow an error's location through the types, past names of kinds and of alternatives."""
    key: list[str] = []
    annotation: Any = model
    known: tuple[str, ...] = ()
    more: tuple[str, ...] = ()  # keys of a table that the file writes flat into its own
    choice: tuple[Any, ...] = ()
    for part in location:
        options = _options(annotation)
        if len(options) > 1:
            chosen = [option for option in options if part in _tag_of(option)]
            if not chosen:
                choice = (tuple(key), annotation)
                chosen = [option for option in options if getattr(option, "__name__", "") == part]
            annotation = chosen[0] if chosen else None
            continue
        annotation = options[0] if options else None
        if _is_model(annotation):
            fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
            known = tuple(sorted({*fields, *more}))
            spec_field = fields.get(part)
            annotation = None if spec_field is None else spec_field.annotation
            flat = isinstance(values, Mapping) and part not in values and len(_tags(annotation)) > 1
            more = tuple(known) if flat else ()
            if flat:
                continue
        else:
            known, more = (), ()
            inside = [item for item in get_args(annotation) if item is not Ellipsis]
            annotation = inside[-1] if inside else None
        values, holder = _value_at(values, (part,)), values
        # An item of a list that the file wrote as a named table goes by its name.
        named = isinstance(holder, (list, tuple)) and isinstance(values, Mapping) and values.get("key")
        key.append(str(named or part))
    return Place(tuple(key), annotation, known, choice)


def _value_at(values: Any, key: Iterable[Any]) -> Any:
    for part in key:
        if isinstance(values, Mapping):
            values = values.get(part)
        elif isinstance(values, (list, tuple)):
            by_name = [item for item in values if isinstance(item, Mapping) and item.get("key") == part]
            whole = str(part).isdigit() and int(part) < len(values)
            values = by_name[0] if by_name else values[int(part)] if whole else None
        else:
            return None
    return values


def _bare(annotation: Any) -> Any:
    """Without the remarks of ``Annotated``, and without None where it is an option."""
    options = _options(annotation)
    return options[0] if len(options) == 1 else annotation


def _options(annotation: Any) -> list[Any]:
    """The types that may stand here, None left out."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [choice for option in get_args(annotation) for choice in _options(option)]
    return [] if annotation in (None, types.NoneType) else [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tag_of(option: Any) -> tuple[Any, ...]:
    """The values of the field ``kind`` by which a table is told from its alternatives."""
    field = option.model_fields.get("kind") if _is_model(option) else None
    return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()


def _tags(annotation: Any) -> list[Any]:
    return [tag for option in _options(annotation) for tag in _tag_of(option)]


def _described(annotation: Any) -> str:
    """What may stand here: ``a number or a table (left, right)``."""
    words = []
    for option in _options(annotation):
        if _is_model(option):
            words.append(f"{TABLE} ({', '.join(field.alias or name for name, field in option.model_fields.items())})")
        else:
            names = {
                float: NUMBER,
                int: WHOLE,
                str: TEXT,
                bool: "true or false",
                tuple: LIST,
                list: LIST,
                dict: TABLE,
            }
            words.append(names.get(get_origin(option) or option, str(option)))
    return " or ".join(dict.fromkeys(words))
