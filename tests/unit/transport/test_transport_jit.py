"""The cache of machine code: keyed on every kernel source."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

import mrlinac
from mrlinac import jit


def test_an_edit_of_a_callee_in_another_file_is_another_cache(tmp_path, monkeypatch):
    """Every file is edited in `tests/properties/test_properties_keys.py`; here one, and the folder with it."""
    copy = tmp_path / "mrlinac"
    shutil.copytree(Path(mrlinac.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "data"))
    monkeypatch.setattr(jit, "__file__", str(copy / "jit.py"))
    monkeypatch.setattr(jit, "sources_hash", jit.sources_hash.__wrapped__)
    before = jit.cache_folder()
    assert len(before.name) == 24
    callee = copy / "transport" / "rng.py"
    callee.write_text(callee.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert jit.cache_folder() != before
    assert jit.cache_folder().parent == before.parent
    edited = jit.cache_folder()
    callee.rename(callee.with_name("rnh.py"))  # between the same files in the order of their names
    assert jit.cache_folder() != edited


def test_a_kernel_outside_the_package_is_compiled_anew_when_its_own_file_is_edited(tmp_path, monkeypatch):
    """A kernel's name and line stay, its file and what it gives do not."""
    monkeypatch.setenv("MRLINAC_CACHE_DIR", str(tmp_path / "cache"))
    file, found = tmp_path / "kernel_of_mine.py", []
    for number in (1, 2):
        file.write_text(f"def add(x):\n    return x + {number}\n", encoding="utf-8")
        names = {"__name__": "kernel_of_mine"}
        exec(compile(file.read_text(encoding="utf-8"), file, "exec"), names)
        found.append(jit.kernel(names["add"])(2))
    assert found == [3, 4]


def test_kernels_live_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRLINAC_CACHE_DIR", str(tmp_path))

    def add(x):
        return x + 1

    compiled = jit.kernel(add)
    assert compiled(2) == 3
    assert compiled.py_func is add
    assert list((tmp_path / "kernels" / jit.sources_hash()).glob("*.nbi"))


def test_kernels_of_other_versions_are_listed_and_cleared(tmp_path, monkeypatch):
    monkeypatch.setenv("MRLINAC_CACHE_DIR", str(tmp_path))
    assert jit.compiled_kernels() == []
    for key, size in ((jit.sources_hash(), 10), ("another", 30)):
        (tmp_path / "kernels" / key).mkdir(parents=True)
        (tmp_path / "kernels" / key / "one.nbc").write_bytes(b"x" * size)
    assert {(one.key, one.bytes, one.current) for one in jit.compiled_kernels()} == {
        (jit.sources_hash(), 10, True),
        ("another", 30, False),
    }
    assert jit.clear_kernels(old_only=True) == 30
    assert [one.current for one in jit.compiled_kernels()] == [True]
    assert jit.clear_kernels() == 10
    assert jit.compiled_kernels() == []


def test_what_another_process_compiles_meanwhile_is_not_compiled_again(tmp_path, monkeypatch):
    monkeypatch.setenv("MRLINAC_CACHE_DIR", str(tmp_path))

    def add(x):
        return x + 1

    theirs, ours = jit.kernel(add), jit.kernel(add)
    waited = []

    class Lock:
        def acquire(self, timeout):
            waited.append(timeout)
            assert theirs(2) == 3

        def release(self):
            waited.append("released")

    ours._cache.lock = Lock()
    assert ours(2) == 3
    assert waited == [jit.LONGEST_COMPILATION_s, "released"]
    assert sum(theirs.stats.cache_misses.values()) == 1
    assert sum(ours.stats.cache_hits.values()) == 1
    assert sum(ours.stats.cache_misses.values()) == 0


def test_a_compilation_holds_its_lock_until_it_is_saved_or_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("MRLINAC_CACHE_DIR", str(tmp_path))
    held = []

    def add(x):
        return x + 1

    def broken(x):
        return x + no_such_name  # noqa: F821

    good, bad = jit.kernel(add), jit.kernel(broken)
    monkeypatch.setattr(
        good._cache._cache_file, "save", lambda *_: held.append(good._cache.lock.is_locked), raising=True
    )
    good(2)
    with pytest.raises(numba.core.errors.TypingError):
        bad(2)
    assert held == [True]
    assert not good._cache.lock.is_locked
    assert not bad._cache.lock.is_locked


def test_private_options_have_a_fallback(monkeypatch):
    monkeypatch.setattr(jit, "_PRIVATE", {"an_option_numba_does_not_know": True})
    assert jit.kernel(lambda x: 2 * x)(3) == 6


def test_import_of_the_package_does_not_load_numba():
    code = "import sys, mrlinac, mrlinac.transport; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
