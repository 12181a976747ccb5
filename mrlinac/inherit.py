"""Files that build on others: ``extends = "base/lung"``, tables merged by key, with a record of what came from where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrlinac import spec
from mrlinac.errors import SpecError, did_you_mean, raise_all

EXTENDS, WITHOUT = "extends", "without"


@dataclass(frozen=True)
class Inherited:
    """A file with all that it builds on.

    Attributes
    ----------
    path : Path
        Of the file itself.
    values : dict
        Plain values, merged.
    origins : dict
        By dotted key of a single value: the file that it came from, as ``protocols/base/lung``.
    """

    path: Path
    values: dict[str, Any]
    origins: dict[str, str] = field(default_factory=dict)


def read(kind: str, name: str | Path) -> Inherited:
    """Read a file and what it builds on.

    ``extends`` names one file of the kind or several; a later one goes before an earlier one, and the file itself before
    all. Tables are merged key by key; any other value replaces what was there. An empty table moves an inherited one to
    this place. ``without`` lists dotted keys of what is not inherited.

    Parameters
    ----------
    kind : str
        As for :func:`mrlinac.spec.find`.
    name : str or Path

    Raises
    ------
    SpecError
        No such file, a circle of files, or ``without`` names something that is not inherited.
    """
    return _read(kind, spec.find(kind, name), ())


def _read(kind: str, path: Path, chain: tuple[Path, ...]) -> Inherited:
    here = path.resolve()
    if here in chain:
        circle = " → ".join(_label(kind, link) for link in (*chain[chain.index(here) :], here))
        raise SpecError(f"{path}: {EXTENDS} leads back to the file itself: {circle}")
    own = spec.read_toml(path)
    bases, without = (_names(path, key, own.pop(key, [])) for key in (EXTENDS, WITHOUT))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for base in bases:
        beside = path.parent / f"{base}.toml"
        base_file = _read(kind, beside if beside.is_file() else _find(kind, base, path), (*chain, here))
        values = _merged(values, base_file.values)
        origins |= base_file.origins
    values = _left(values, without, path)
    origins = {key: file for key, file in origins.items() if key in dict(_single(values))}
    merged = _merged(values, own)
    origins |= dict.fromkeys((key for key, _ in _single(own)), _label(kind, path))
    present = {key for key, _ in _single(merged)}
    return Inherited(path, merged, {key: file for key, file in origins.items() if key in present})


def _names(path: Path, key: str, value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    raise SpecError(f"{path}: {key}: a name or a list of names is expected, not {value!r}")


def _find(kind: str, base: str, path: Path) -> Path:
    try:
        return spec.find(kind, base)
    except SpecError as error:
        raise SpecError(f"{path}: {EXTENDS}: {error}") from None


def _label(kind: str, path: Path) -> str:
    """The file's name within its kind: no folder of a person's machine."""
    parts = path.with_suffix("").parts
    inner = parts[len(parts) - parts[::-1].index(kind) :] if kind in parts else parts[-1:]
    return "/".join((kind, *inner))


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in own.items():
        before = result.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if not value:
                result[key] = result.pop(key)
            else:
                result[key] = _merged(before, value)
        else:
            result[key] = value
    return result


def _left(values: dict[str, Any], without: list[str], path: Path) -> dict[str, Any]:
    """Values less what is not inherited."""
    problems = []
    result = spec.override(values, {})
    for dotted in without:
        *parts, last = spec.split_key(dotted)
        place: Any = result
        for part in parts:
            place = place.get(part) if isinstance(place, Mapping) else None
        if not isinstance(place, dict) or last not in place:
            known = place if isinstance(place, Mapping) else ()
            problems.append(f"{WITHOUT}: '{dotted}' is not inherited{did_you_mean(last, known)}")
        else:
            del place[last]
    raise_all(SpecError, str(path), problems)
    return result


def _single(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything that is not a table."""
    for key, value in values.items():
        part = f'"{key}"' if "." in key else key
        if isinstance(value, Mapping):
            yield from _single(value, f"{before}{part}.")
        else:
            yield f"{before}{part}", value


def summary(origins: Mapping[str, str]) -> dict[str, str]:
    """Origins in few lines: a table whose values all came from one file is named once."""
    tree: dict[str, Any] = {}
    for dotted, file in origins.items():
        *parts, last = spec.split_key(dotted)
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = file
    return dict(_single(_folded(tree)))


def _folded(tree: Mapping[str, Any]) -> dict[str, Any]:
    folded = {key: _folded(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
    for key, value in folded.items():
        if (
            isinstance(value, dict)
            and len(files := set(map(str, value.values()))) == 1
            and all(isinstance(origin, str) for origin in value.values())
        ):
            folded[key] = files.pop()
    return folded
