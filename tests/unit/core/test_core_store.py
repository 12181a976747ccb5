import json
import os

import numpy as np
import pytest

from mrlinac.store import Entry, Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", cap_GB=1.0)


def entry(value=1.0, n=10):
    return Entry({"a": np.full(n, value)}, {"note": "x"})


def test_absent_then_there(store):
    assert store.get("dose", "k") is None
    store.put("dose", "k", entry(2.0))
    found = store.get("dose", "k")
    np.testing.assert_array_equal(found.arrays["a"], np.full(10, 2.0))
    assert found.meta == {"note": "x"}
    assert store.count() == 1


def test_made_once_and_grown_when_too_small(store):
    given = []

    def grow(found):
        given.append(None if found is None else len(found.arrays["a"]))
        return entry(n=10 * len(given))

    def of_at_least(n):
        return store.get_or_grow("dose", "k", lambda found: len(found.arrays["a"]) >= n, grow)

    assert len(of_at_least(5).arrays["a"]) == 10
    assert len(of_at_least(10).arrays["a"]) == 10
    assert len(of_at_least(15).arrays["a"]) == 20
    assert len(of_at_least(15).arrays["a"]) == 20
    assert given == [None, 10]


@pytest.mark.parametrize("damage", ["truncate", "flip", "note"])
def test_a_torn_or_altered_entry_is_never_used(store, damage):
    store.put("dose", "k", entry())
    data = next(store.folder.rglob("*.npz"))
    raw = bytearray(data.read_bytes())
    if damage == "truncate":
        data.write_bytes(raw[: len(raw) // 2])
    elif damage == "flip":
        raw[-40] ^= 1
        data.write_bytes(raw)
    else:
        data.with_suffix(".json").write_text(json.dumps({"sha256": "0", "meta": {}})[:-3])
    assert store.get("dose", "k") is None
    assert store.count() == 0


def test_a_reader_does_not_remove_what_another_process_is_writing(store):
    """The writer holds the lock, its data are there and its note is not yet: a reader waits for the lock."""
    store.put("dose", "k", entry())
    data = next(store.folder.rglob("*.npz"))
    old = data.read_bytes()
    data.write_bytes(old[:-1])  # as if the new data had just replaced the old
    assert store.get("dose", "k", tidy=False) is None
    assert data.exists()
    data.write_bytes(old)
    assert store.get("dose", "k") is not None


def test_a_failed_make_leaves_nothing(store):
    def grow(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get_or_grow("dose", "k", lambda found: True, grow)
    assert store.count() == 0
    assert not list(store.folder.rglob("*.npz"))


def test_the_cap_drops_the_least_recently_used(tmp_path):
    store = Store(tmp_path, cap_GB=2.5e-4)  # 250 kB
    for age, key in ((300, "k1"), (200, "k2"), (100, "k3")):
        store.put("dose", key, entry(n=12_000))  # 96 kB each
        note = next(tmp_path.rglob(f"{key}.json"))
        stamp = note.stat().st_mtime - age
        os.utime(note, (stamp, stamp))
    assert store.get("dose", "k1") is None
    assert store.get("dose", "k3") is not None


def test_entries_are_listed_with_size_and_last_use(store):
    store.put("influence", "k1", entry())
    store.put("dose", "k2", entry(n=1000))
    note = next(store.folder.rglob("k1.json"))
    os.utime(note, (note.stat().st_mtime - 100,) * 2)
    found = store.listed()
    assert [(one.kind, one.key) for one in found] == [("dose", "k2"), ("influence", "k1")]
    assert sum(one.bytes for one in found) == store.size_bytes()


def test_clear(store):
    store.put("dose", "k", entry())
    assert store.clear() > 0
    assert store.size_bytes() == 0
