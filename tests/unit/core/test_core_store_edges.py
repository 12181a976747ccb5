"""The store at its edges: kinds apart, last use, what was just written, a lock, a full disk."""

import os
from pathlib import Path

import numpy as np
import pytest

from mrlinac.store import Entry, Store


def entry(value=1.0, n=10):
    return Entry({"a": np.full(n, value)}, {"value": value})


def made_older(store: Store, key: str, seconds: float) -> None:
    (note,) = store.folder.rglob(f"{key}.json")
    stamp = note.stat().st_mtime - seconds
    os.utime(note, (stamp, stamp))


def test_two_kinds_of_one_key_are_two_entries(tmp_path):
    store = Store(tmp_path)
    store.put("dose", "key", entry(1.0))
    store.put("influence", "key", entry(2.0))
    assert store.get("dose", "key").meta == {"value": 1.0}
    assert store.get("influence", "key").meta == {"value": 2.0}
    assert store.get("other", "key") is None
    assert {(one.kind, one.key) for one in store.listed()} == {("dose", "key"), ("influence", "key")}


def test_keys_that_begin_alike_are_told_apart(tmp_path):
    store = Store(tmp_path)
    for number, key in enumerate(("ab", "abc", "abcd")):
        store.put("dose", key, entry(float(number)))
    assert [store.get("dose", key).meta["value"] for key in ("ab", "abc", "abcd")] == [0.0, 1.0, 2.0]


def test_what_was_used_last_stays_not_what_was_written_last(tmp_path):
    store = Store(tmp_path, cap_GB=2.5e-4)  # 250 kB
    for age, key in ((300, "first"), (200, "second")):
        store.put("dose", key, entry(n=12_000))  # 96 kB each
        made_older(store, key, age)
    assert store.get("dose", "first") is not None  # used now
    store.put("dose", "third", entry(n=12_000))
    assert store.get("dose", "second") is None
    assert np.array_equal(store.get("dose", "first").arrays["a"], np.ones(12_000))
    assert np.array_equal(store.get("dose", "third").arrays["a"], np.ones(12_000))


def test_what_was_just_written_stays_though_it_is_larger_than_the_cap(tmp_path):
    store = Store(tmp_path, cap_GB=1e-5)  # 10 kB
    store.put("dose", "old", entry(n=100))
    store.put("dose", "large", entry(n=12_000))
    assert store.get("dose", "old") is None
    assert store.get("dose", "large").meta == {"value": 1.0}


def test_below_the_cap_nothing_goes(tmp_path):
    store = Store(tmp_path, cap_GB=3.1e-4)
    for key in ("first", "second", "third"):
        store.put("dose", key, entry(n=12_000))
    assert store.count() == 3


def test_cap_and_folder_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MRLINAC_CACHE_DIR", str(tmp_path / "here"))
    monkeypatch.setenv("MRLINAC_CACHE_GB", "0.5")
    assert Store.default() == Store(tmp_path / "here" / "store", 0.5)
    monkeypatch.delenv("MRLINAC_CACHE_GB")
    assert Store.default().cap_GB == 20.0


def test_a_changed_entry_replaces_the_old_one(tmp_path):
    store = Store(tmp_path)
    store.put("dose", "key", entry(1.0))
    store.put("dose", "key", entry(2.0, n=3))
    assert np.array_equal(store.get("dose", "key").arrays["a"], [2.0, 2.0, 2.0])
    assert store.count() == 1
    assert not [path for path in Path(tmp_path).rglob(".*") if path.is_file()]


def test_a_full_disk_does_not_lose_what_was_made(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mrlinac.store.np.savez", full)
    found = store.get_or_grow("dose", "key", lambda one: True, lambda one: entry(3.0))
    assert found.meta == {"value": 3.0}
    monkeypatch.undo()
    assert store.get("dose", "key") is None
    assert store.count() == 0


def test_an_entry_that_another_process_made_meanwhile_is_not_made_again(tmp_path):
    store, asked = Store(tmp_path), []

    def suffices(found):
        asked.append(found.meta["value"])
        if len(asked) == 1:  # before the lock is had, another process grows it
            store.put("dose", "key", entry(2.0))
        return found.meta["value"] >= 2.0

    store.put("dose", "key", entry(1.0))
    found = store.get_or_grow("dose", "key", suffices, lambda one: pytest.fail("made again"))
    assert found.meta == {"value": 2.0}
    assert asked == [1.0, 2.0]
