"""The one place that imports numba: the decorators for kernels, a cache that notices every edit, the build for CUDA.

Numba's own cache looks at the file of the compiled function only, and misses an edit in a callee of another file.
Here the cache folder's name is a hash of *all* kernel sources, so that an edit anywhere compiles anew. Nothing
global in numba is touched: the cache is set on each dispatcher.

A function marked with :func:`device` is written once and serves both targets: :class:`CudaBuild` takes the Python
functions behind the marked ones and compiles them again for CUDA.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import numba
import platformdirs
from filelock import FileLock

from mrlinac.errors import DeviceError, MissingExtraError

Function = TypeVar("Function", bound=Callable[..., Any])

# `_nrt=False` leaves out the reference counting of array arguments (30 % of a kernel's time). The option is private
# to numba: where a version refuses it, kernels compile without it, only slower.
_PRIVATE: dict[str, Any] = {"_nrt": False}
_COMMON: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "arcp", "nsz", "afn"}, "error_model": "numpy"}

LONGEST_COMPILATION_s = 900.0
"""Longest time for which a process waits for another that compiles the same; the slowest kernel takes a tenth of it."""


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


# -- CUDA --------------------------------------------------------------------------------------------


def load_cuda() -> Any:
    """Numba's CUDA target as the package numba-cuda has it; the one inside numba is deprecated and not used.

    Raises
    ------
    MissingExtraError
        Where numba-cuda is not installed.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        raise MissingExtraError("numba-cuda", "gpu", "Monte Carlo on a GPU")
    from numba import cuda

    return cuda


def cuda_device() -> str:
    """Name of the CUDA device that kernels would run on.

    Raises
    ------
    MissingExtraError
        Where numba-cuda is not installed.
    DeviceError
        Where there is no CUDA device, with the driver's reason.
    """
    cuda = load_cuda()
    if cuda_is_simulated():
        return "simulator"
    if not cuda.is_available():
        reason = " ".join(str(cuda.cuda_error() or "the driver lists none").split())
        raise DeviceError(
            "No CUDA device: the Monte Carlo on a GPU needs an NVIDIA card and its driver.\n"
            f"What the driver says: {reason}\n"
            "Without one, run on the processor: device 'cpu', the default."
        )
    name = cuda.get_current_device().name
    return name.decode() if isinstance(name, bytes) else str(name)


def cuda_is_simulated() -> bool:
    """Whether CUDA kernels are stepped through in Python (``NUMBA_ENABLE_CUDASIM=1``), for tests."""
    return bool(getattr(numba.config, "ENABLE_CUDASIM", False))


class CudaBuild:
    """Device functions, compiled for CUDA from the Python functions that the processor's are compiled from.

    A twin of a module is a copy of its names. In it every function marked with :func:`device` is replaced by a CUDA
    function of the same code that finds its own names in the twin, and every module of the same package by its twin.

    Parameters
    ----------
    package : str
        Modules outside it are left as they are.
    instead : mapping
        What differs on CUDA, by full name (``"package.module.name"``): plain functions, compiled here, or constants.
    """

    def __init__(self, package: str, instead: Mapping[str, Any]) -> None:
        self._cuda = load_cuda()
        self._package = package + "."
        self._instead = dict(instead)
        self._twins: dict[str, ModuleType] = {}
        self._functions: dict[str, Any] = {}

    def twin(self, module: ModuleType) -> ModuleType:
        """The module as CUDA kernels see it."""
        name = module.__name__
        if name not in self._twins:
            names = vars(self._twins.setdefault(name, ModuleType(name)))
            names.update(vars(module))
            for key, value in vars(module).items():
                if isinstance(value, ModuleType) and value.__name__.startswith(self._package):
                    names[key] = self.twin(value)
                elif f"{name}.{key}" in self._instead and not hasattr(value, "py_func"):
                    names[key] = self._instead[f"{name}.{key}"]
                elif hasattr(value, "py_func"):
                    names[key] = self._function(value.py_func)
        return self._twins[name]

    def _function(self, function: FunctionType) -> Any:
        name = f"{function.__module__}.{function.__qualname__}"
        if name not in self._functions:
            names = vars(self.twin(sys.modules[function.__module__]))
            # A module imported from may have asked for this function while it was copied.
            if name not in self._functions:
                other = self._instead.get(name)
                if isinstance(other, FunctionType):
                    self._functions[name] = self._cuda.jit(device=True)(other)
                    return self._functions[name]
                same = FunctionType(function.__code__, names, function.__name__)
                self._functions[name] = self._cuda.jit(device=True)(same)
        return self._functions[name]


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
    current, kernels = cache_folder(), []
    for folder in current.parent.iterdir() if current.parent.is_dir() else ():
        files = [path.stat() for path in folder.rglob("*") if path.is_file()]
        if not files:  # made when a kernel was defined, and nothing was compiled
            continue
        written_s = max(file.st_mtime for file in files)
        kernels.append(
            CompiledKernels(folder.name, sum(file.st_size for file in files), written_s, folder.name == current.name)
        )
    return sorted(kernels, key=lambda kernel: -kernel.written_s)


def clear_kernels(*, old_only: bool = False) -> int:
    """Remove compiled kernels, or only those of other versions of the sources; returns the bytes freed."""
    freed = 0
    for kernel in compiled_kernels():
        if not (old_only and kernel.current):
            shutil.rmtree(cache_folder().parent / kernel.key, ignore_errors=True)
            freed += kernel.bytes
    return freed


@lru_cache(maxsize=1)
def sources_hash() -> str:
    """Hash of every file of the package that uses this module, and of the versions that compile it."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256(f"{numba.__version__} {platform.python_version()}".encode())
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if path.name in ("jit.py", "vectors.py") or b"mrlinac.jit" in source or b"mrlinac import jit" in source:
            digest.update(path.relative_to(package).as_posix().encode())
            digest.update(source)
    return digest.hexdigest()[:24]


def _use_own_cache(compiled: Any, function: Callable[..., Any]) -> None:
    """Give a dispatcher a cache in :func:`cache_folder`; without numba's classes it compiles in every process."""
    try:
        compiled._cache = _own_cache(function)
        _free_when_it_fails(compiled)
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
        """Of several processes that need the same machine code one compiles it and the others wait for the file."""

        _impl_class = Implementation

        def __init__(self, py_func: Any) -> None:
            super().__init__(py_func)
            self.lock = FileLock(Path(self.cache_path) / f"{self._impl.filename_base}.lock")

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            kept = super().load_overload(sig, target_context)
            if kept is not None:
                return kept
            with suppress(OSError):  # a Timeout is one: compiling twice is slower, never wrong
                self.lock.acquire(timeout=LONGEST_COMPILATION_s)
                kept = super().load_overload(sig, target_context)  # another process may have compiled it meanwhile
                if kept is not None:
                    self.lock.release()
            return kept

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            finally:
                self.lock.release()

    Locator().ensure_cache_path()
    return Cache(function)


def _free_when_it_fails(compiled: Any) -> None:
    """Let other processes try where this one's compilation failed or was stopped."""
    compile_, lock = compiled.compile, compiled._cache.lock

    def compile_or_free(sig: Any) -> Any:
        try:
            return compile_(sig)
        except BaseException:
            lock.release()
            raise

    compiled.compile = compile_or_free
