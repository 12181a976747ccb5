import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.provenance import dicom_uid, fingerprint, versions


def test_fingerprint_depends_on_values_only():
    assert fingerprint({"a": 1, "b": 2.0}) == fingerprint({"b": 2.0, "a": 1})
    assert fingerprint(1) != fingerprint("1")
    assert fingerprint([1, 2]) != fingerprint([12])
    assert fingerprint(np.zeros(4)) != fingerprint(np.zeros((2, 2)))
    assert fingerprint(np.zeros(2, np.float32)) != fingerprint(np.zeros(1, np.float64))
    assert fingerprint(Grid((1, 1, 1), (1, 1, 1), (0, 0, 0))) != fingerprint(Grid((1, 1, 1), (1, 1, 2), (0, 0, 0)))


def test_what_cannot_be_hashed_is_refused():
    with pytest.raises(TypeError):
        fingerprint(object())


def test_uid_is_valid_and_reproducible():
    uid = dicom_uid("a", 1)
    assert uid == dicom_uid("a", 1)
    assert uid.startswith("2.25.")
    assert len(uid) <= 64


def test_versions_name_what_decides():
    assert {"python", "numpy", "numba", "cvxpy"} <= set(versions())
