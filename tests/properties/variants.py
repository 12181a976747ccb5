"""Every input of a noun changed one at a time, by enumeration of its fields: for tests of keys and fingerprints.

A field that is added later is varied too, so that a key which forgets it fails its test.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from pydantic import BaseModel

from mrlinac.errors import MrlinacError

Variant = tuple[str, Any]


def variants(noun: Any, path: str = "") -> Iterator[Variant]:
    """Copies of a noun, each with one value changed, and the dotted path of that value. Nothing is validated."""
    if isinstance(noun, BaseModel):
        for name in type(noun).model_fields:
            for where, value in variants(getattr(noun, name), f"{path}.{name}"):
                yield where, noun.model_copy(update={name: value})
    elif dataclasses.is_dataclass(noun):
        for field in dataclasses.fields(noun):
            for where, value in variants(getattr(noun, field.name), f"{path}.{field.name}"):
                other = copy.copy(noun)
                object.__setattr__(other, field.name, value)
                yield where, other
    elif isinstance(noun, Mapping):
        for key, item in _few(list(noun.items())):
            for where, value in variants(item, f"{path}.{key}"):
                yield where, {**noun, key: value}
        yield f"{path}.+", {**noun, "one more": next(iter(noun.values()), "one more")}
    elif isinstance(noun, tuple | list):
        for place, item in _few(list(enumerate(noun))):
            for where, value in variants(item, f"{path}.{place}"):
                yield where, type(noun)([*noun[:place], value, *noun[place + 1 :]])
        yield f"{path}.-", type(noun)(noun[:-1] if noun else ("one more",))
    else:
        yield path, changed(noun)


def _few(items: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The last item, and the first of every type: a key that takes one of them takes them all."""
    first = {type(item): (place, item) for place, item in reversed(items)}
    return list({**dict(first.values()), **dict(items[-1:])}.items())


def changed(value: Any) -> Any:
    """Another value of the same type, hardly different."""
    if value is None:
        return 1.5
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return float(np.nextafter(value, np.inf)) if np.isfinite(value) else 0.0
    if isinstance(value, str):
        return value + "'"
    if isinstance(value, np.ndarray):
        other = value.copy()
        flat = other.reshape(-1)
        if not flat.size:
            return np.ones((1, *value.shape[1:]), value.dtype)
        last = flat[-1]
        flat[-1] = (
            ~last if value.dtype == bool else np.nextafter(last, np.inf) if value.dtype.kind == "f" else last + 1
        )
        return other
    raise TypeError(f"how does a {type(value).__name__} change? Say it here")


def differing(key: Callable[[Any], str], noun: Any, *, without: tuple[str, ...] = ()) -> None:
    """Demand another key for every changed input, the same for those ``without`` influence (patterns of paths).

    Every pattern must fit some path, so that the list cannot outlive what it names.
    """
    before, unused = key(noun), set(without)
    assert key(copy.deepcopy(noun)) == before, "the same input has another key"
    forgotten, needless, count = [], [], 0
    for path, other in variants(noun):
        count += 1
        fits = {pattern for pattern in without if fnmatchcase(path, pattern)}
        unused -= fits
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pydantic: a value that no file could hold
            try:
                same = key(other) == before
            except MrlinacError:  # no input at all
                same = False
        if fits and not same:
            needless.append(path)
        if not fits and same:
            forgotten.append(path)
    assert not forgotten, f"the key ignores {', '.join(forgotten)}"
    assert not needless, f"the key depends on {', '.join(needless)}"
    assert not unused, f"nothing is called {', '.join(unused)}"
    assert count > 1
