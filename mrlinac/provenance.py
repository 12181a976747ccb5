"""What made a result: fingerprints of inputs, versions, seeds."""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import numpy as np

PACKAGES = (
    "mrlinac",
    "numpy",
    "scipy",
    "numba",
    "numba-cuda",
    "cvxpy",
    "clarabel",
    "pydicom",
    "shapely",
    "dicompyler-core",
)


def fingerprint(*parts: Any) -> str:
    """Hexadecimal SHA-256 (first 32 digits) of resolved values and array contents.

    Parameters
    ----------
    *parts
        Plain values, mappings, sequences, arrays, pydantic models or dataclasses of these. Paths, times and
        identifiers must not be among them. A mapping's order does not matter, a sequence's does; floats go by their
        exact value. Every part says its kind and length, so that no two different inputs are fed alike.
    """
    digest = hashlib.sha256()
    for part in parts:
        _feed(digest, part)
    return digest.hexdigest()[:32]


def _feed(digest: Any, part: Any) -> None:
    if isinstance(part, np.ndarray):
        if part.dtype.hasobject:
            raise TypeError("cannot fingerprint an array of objects")
        digest.update(f"array:{part.dtype.str}:{part.shape}:".encode())
        digest.update(np.ascontiguousarray(part).data)
    elif isinstance(part, Mapping):
        digest.update(f"map:{len(part)}:".encode())
        for key in sorted(part, key=lambda key: (str(key), type(key).__name__)):
            plain = (
                isinstance(key, str) and key.isidentifier()
            )  # any other might hold what stands between two entries
            digest.update(f"{key if plain else json.dumps(key)}=".encode())
            _feed(digest, part[key])
    elif isinstance(part, (list, tuple)):
        digest.update(f"list:{len(part)}:".encode())
        for item in part:
            _feed(digest, item)
    elif hasattr(part, "model_dump"):
        _feed(digest, part.model_dump(mode="json"))
    elif hasattr(part, "__dataclass_fields__"):
        digest.update(type(part).__name__.encode())
        _feed(digest, {name: getattr(part, name) for name in part.__dataclass_fields__})
    elif part is None or isinstance(part, (bool, int, str)):
        digest.update(json.dumps(part).encode() + b";")
    elif isinstance(part, (float, np.floating)):
        digest.update(float(part).hex().encode() + b";")
    elif isinstance(part, np.integer):
        digest.update(json.dumps(int(part)).encode() + b";")
    elif isinstance(part, bytes):
        digest.update(f"bytes:{len(part)}:".encode())
        digest.update(part)
    else:
        raise TypeError(f"cannot fingerprint a {type(part).__name__}")


def versions() -> dict[str, str]:
    """Versions of Python, the packages that decide a result, and the processor's name."""
    versions_by_name = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            versions_by_name[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions_by_name[package] = "absent"
    return versions_by_name


def dicom_uid(*parts: Any) -> str:
    """A DICOM UID ``2.25.<UUIDv5>`` that is a function of its parts only."""
    name = fingerprint(*parts)
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


@dataclass(frozen=True)
class Provenance:
    """What a dose or influence was made from."""

    fingerprint: str
    engine: str
    seed: int | None = None
    device: str = "cpu"
    histories: int = 0
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
