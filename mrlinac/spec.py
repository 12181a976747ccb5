"""Files say what: find a TOML file by name, read it, and turn its errors into sentences."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mrlinac.errors import SpecError, did_you_mean, raise_all
from mrlinac.spec_errors import sentences

KINDS = {"protocols": "protocol", "machines": "machine", "plans": "plan", "studies": "study"}

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
        One of ``protocols``, ``machines``, ``plans``, ``studies``.
    name : str or Path
        A path that exists, or a bare name with or without ``.toml``.

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
    bare = path.name.removesuffix(".toml")
    if path.parent == Path("."):
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
    found = {
        p.stem for folder in (Path(kind), packaged_folder(kind)) if folder.is_dir() for p in folder.glob("*.toml")
    }
    return sorted(found)


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
    :func:`validate` to say. A part that is a number indexes a list.
    """
    result: dict[str, Any] = _copied(values)
    problems: list[str] = []
    for dotted, value in changes.items():
        place: Any = result
        *path, last = dotted.split(".")
        for part in path:
            if isinstance(place, list) and part.isdigit() and int(part) < len(place):
                place = place[int(part)]
            elif isinstance(place, dict):
                place = place.setdefault(part, {})
            else:
                place = None
                break
        if isinstance(place, dict):
            place[last] = _copied(value)  # a finer key may change it next
        elif isinstance(place, list) and last.isdigit() and int(last) < len(place):
            place[int(last)] = _copied(value)
        else:
            problems.append(f"{dotted}: there is no such table")
    raise_all(SpecError, where, problems)
    return result


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value


def parse_set(text: str) -> tuple[str, Any]:
    """Parse one ``key=value`` of the command line; the value is TOML, or else a bare string."""
    key, sign, raw = text.partition("=")
    if not sign or not key.strip():
        raise SpecError(f"'{text}': expected key=value, for instance protocol.structures.PTV.margin_mm=3")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    return key.strip(), value
