"""The one place that imports numba: the decorators for kernels, and a cache that notices every edit.

Numba's own cache looks at the file of the compiled function only, and misses an edit in a callee of another file.
Here the cache folder's name is a hash of *all* kernel sources, so that an edit anywhere compiles anew. Nothing
global in numba is touched: the cache is set on each dispatcher.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import platformdirs

Function = TypeVar("Function", bound=Callable[..., Any])

# `_nrt=False` leaves out the reference counting of array arguments (30 % of a kernel's time). The option is private
# to numba: where a version refuses it, kernels compile without it, only slower.
_PRIVATE: dict[str, Any] = {"_nrt": False}
_COMMON: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "arcp", "nsz", "afn"}, "error_model": "numpy"}


def kernel(function: Function) -> Function:
    """Compile a function that releases the interpreter lock, and keep the machine code on disk.

    A kernel allocates nothing: its arrays come from outside. ``kernel(f).py_func`` is the function itself, for
    tests that step through it.
    """
    compiled = _compile(function, {})
    _use_own_cache(compiled, function)
    return compiled


def device(function: Function) -> Function:
    """Compile a helper that is inlined into the kernels that call it."""
    return _compile(function, {"forceinline": True})


def _compile(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    wanted = {**_COMMON, **_PRIVATE, **options}
    return numba.njit(**{name: value for name, value in wanted.items() if _known(name)})(function)


def _known(option: str) -> bool:
    """Whether this numba has an option; only the public ones are trusted where its list has moved."""
    try:
        from numba.core.cpu import CPUTargetOptions
    except ImportError:
        return option in _COMMON
    return hasattr(CPUTargetOptions, option)


def cache_folder() -> Path:
    """Folder of this version's machine code: under ``MRLINAC_CACHE_DIR`` or the user's cache folder."""
    root = os.environ.get("MRLINAC_CACHE_DIR") or platformdirs.user_cache_dir("mrlinac", appauthor=False)
    return Path(root) / "kernels" / sources_hash()


@dataclass(frozen=True)
class CompiledKernels:
    """Machine code of one version of the sources, on disk."""

    key: str
    bytes: int
    written_s: float  # when last added to, as time.time()
    current: bool


def compiled_kernels() -> list[CompiledKernels]:
    """What was compiled and kept, by every version of the sources, newest first."""
    current, found = cache_folder(), []
    for folder in current.parent.iterdir() if current.parent.is_dir() else ():
        files = [path.stat() for path in folder.rglob("*") if path.is_file()]
        written_s = max((file.st_mtime for file in files), default=0.0)
        found.append(
            CompiledKernels(folder.name, sum(file.st_size for file in files), written_s, folder.name == current.name)
        )
    return sorted(found, key=lambda one: -one.written_s)


def clear_kernels(*, old_only: bool = False) -> int:
    """Remove compiled kernels, or only those of other versions of the sources; returns the bytes freed."""
    freed = 0
    for one in compiled_kernels():
        if not (old_only and one.current):
            shutil.rmtree(cache_folder().parent / one.key, ignore_errors=True)
            freed += one.bytes
    return freed


@lru_cache(maxsize=1)
def sources_hash() -> str:
    """Hash of every file of the package that uses this module, and of the versions that compile it."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256(f"{numba.__version__} {platform.python_version()}".encode())
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if path.name == "jit.py" or b"mrlinac.jit" in source or b"mrlinac import jit" in source:
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(source)
    return digest.hexdigest()[:24]


def _use_own_cache(compiled: Any, function: Callable[..., Any]) -> None:
    """Give a dispatcher a cache in :func:`cache_folder`; without numba's classes it compiles in every process."""
    try:
        compiled._cache = _own_cache(function)
    except Exception:  # private classes changed, or the folder cannot be written: slower, never wrong
        return


def _own_cache(function: Callable[..., Any]) -> Any:
    from numba.core import caching

    class Locator(caching._CacheLocator):
        def get_cache_path(self) -> str:
            return str(cache_folder())

        def get_source_stamp(self) -> str:
            # A kernel outside the package (a test's) adds its own file.
            own = Path(inspect.getfile(function)).read_bytes()
            return sources_hash() + hashlib.sha256(own).hexdigest()[:24]

        def get_disambiguator(self) -> str:
            return function.__module__

        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> Any:
            return cls()

    class Implementation(caching.CompileResultCacheImpl):
        _locator_classes: Any = (Locator,)

    class Cache(caching.FunctionCache):
        _impl_class = Implementation

    Locator().ensure_cache_path()
    return Cache(function)
