"""Files say what: find a TOML file by name, read it, and turn its errors into sentences."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mrlinac.errors import SpecError, did_you_mean, raise_all
from mrlinac.spec_errors import sentences

KINDS = {
    "protocols": "protocol",
    "techniques": "technique",
    "machines": "machine",
    "plans": "plan",
    "studies": "study",
}

Model = TypeVar("Model", bound="Spec")


class Spec(BaseModel):
    """Base of everything read from a file: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def packaged_folder(kind: str) -> Path:
    """Folder of the TOML files that come with the package: inside the wheel, or beside the source tree."""
    here = Path(__file__).resolve().parent
    inside = here / "_files" / kind
    return inside if inside.is_dir() else here.parent / kind


def find(kind: str, name: str | Path) -> Path:
    """Find a file of a kind: a path as it is, then ``./kind/name.toml``, then the packaged copy.

    Parameters
    ----------
    kind : str
        One of ``protocols``, ``techniques``, ``machines``, ``plans``, ``studies``.
    name : str or Path
        A path that exists, or a name (``base/lung`` in a folder of the kind's) with or without ``.toml``.

    Raises
    ------
    SpecError
        When there is no such file; names what is known and the nearest spelling.
    """
    if kind not in KINDS:
        raise SpecError(f"unknown kind of file '{kind}'; known: {', '.join(KINDS)}")
    path = Path(name)
    if path.is_file():
        return path
    bare = str(path).removesuffix(".toml")
    if not path.is_absolute() and ".." not in path.parts:
        for folder in (Path(kind), packaged_folder(kind)):
            candidate = folder / f"{bare}.toml"
            if candidate.is_file():
                return candidate
    known = names(kind)
    raise SpecError(
        f"no {KINDS[kind]} file '{name}': it is neither a path nor a name in ./{kind}/ or the package"
        f"{did_you_mean(bare, known)} (known: {', '.join(known) or 'none'})"
    )


def names(kind: str) -> list[str]:
    """Names of all files of a kind that :func:`find` would find, sorted."""
    names_found = {
        p.stem for folder in (Path(kind), packaged_folder(kind)) if folder.is_dir() for p in folder.glob("*.toml")
    }
    return sorted(names_found)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a syntax error names the file and the place."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Build a frozen spec from plain values; all problems at once, each with its dotted key.

    Raises
    ------
    SpecError
        Names ``where`` (the file), each key, what is wrong and, for an unknown key, the nearest known one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = sentences(model, values, error.errors())
        raise_all(SpecError, f"{where}: {len(problems)} problem(s)", problems)
        raise  # unreachable: a ValidationError has at least one error


def override(values: Mapping[str, Any], changes: Mapping[str, Any], where: str = "override") -> dict[str, Any]:
    """Copy of nested plain values with changes given by dotted key, e.g. ``protocol.structures.PTV.margin_mm``.

    A key that leads through something that is not a table is an error; whether the key is known is for
    :func:`validate` to say. In a list a part is a number, or the ``key`` of an item; a part with dots stands in quotes.
    """
    result: dict[str, Any] = _copied(values)
    problems: list[str] = []
    for dotted, value in changes.items():
        place: Any = result
        *path, last = split_key(dotted)
        for part in path:
            if isinstance(place, list) and (index := _index_in(place, part)) is not None:
                place = place[index]
            elif isinstance(place, dict):
                place = place.setdefault(part, {})
            else:
                place = None
                break
        if isinstance(place, dict):
            place[last] = _copied(value)  # a finer key may change it next
        elif isinstance(place, list) and (index := _index_in(place, last)) is not None:
            place[index] = _copied(value)
        else:
            problems.append(f"{dotted}: there is no such table")
    raise_all(SpecError, where, problems)
    return result


def split_key(dotted: str) -> list[str]:
    """Parts of a dotted key; a part in double quotes may hold dots: ``goals."Cord D0.1cc".near``."""
    return [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|([^."]+)', dotted)] or [dotted]


def _index_in(items: list[Any], part: str) -> int | None:
    """Place in a list of the item with a number or a ``key``."""
    for index, item in enumerate(items):
        if isinstance(item, Mapping) and item.get("key") == part:
            return index
    return int(part) if part.isdigit() and int(part) < len(items) else None


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value


def parse_set(text: str) -> tuple[str, Any]:
    """Parse one ``key=value`` of the command line; the value is TOML, or else a bare string.

    Parameters
    ----------
    text : str

    Returns
    -------
    key : str
        Dotted.
    value : object

    Raises
    ------
    SpecError
        There is no key or no ``=``.
    """
    key, sign, raw = text.partition("=")
    if not sign or not key.strip():
        raise SpecError(f"'{text}': expected key=value, for instance protocol.structures.PTV.margin_mm=3")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    return key.strip(), value
