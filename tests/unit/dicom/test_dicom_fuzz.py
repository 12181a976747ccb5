"""Damaged exports end in a sound patient or in a sentence: no traceback, no hang, no nonsense, no memory without end."""

import shutil
import zlib
from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from fuzz import batter, changes, damaged, dose_outcome, exports, made_up, outcome, peak_MB
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nasty import compressed, dose, save, series
from pydicom.dataset import FileMetaDataset
from pydicom.uid import RLELossless

from mrlinac.dicom import ImportReport, import_folder

MOST_MB = 600.0
"""Above what the exports themselves take (some MB); a header that is believed would take gigabytes."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return exports(tmp_path_factory.mktemp("clean"))


@pytest.fixture(scope="module")
def reports(clean: dict[str, Path]) -> dict[str, ImportReport]:
    return {name: import_folder(folder) for name, folder in clean.items()}


def test_what_is_not_damaged_is_a_patient(clean: dict[str, Path]) -> None:
    assert {name: outcome(folder).kind for name, folder in clean.items()} == dict.fromkeys(clean, "patient")


@pytest.mark.parametrize("block", range(6))
def test_damaged_bytes(clean: dict[str, Path], reports: dict[str, ImportReport], tmp_path: Path, block: int) -> None:
    """40 exports a block; the thousands are in ``tools/fuzz_import.py``, their figures in docs/dicom.md."""
    before = peak_MB()
    kinds = Counter(
        batter(clean, reports, tmp_path / "export", seed).kind for seed in range(40 * block, 40 * (block + 1))
    )
    assert {"patient", "problem"} <= set(kinds)  # some damage is harmless, some is found
    assert peak_MB() - before < MOST_MB


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(done=changes(), index=st.integers(0, 30))
def test_made_up_values(tmp_path_factory: pytest.TempPathFactory, done: list, index: int) -> None:
    folder = tmp_path_factory.mktemp("made")
    made_up(done, index, folder)
    shutil.rmtree(folder)


def test_damaged_doses(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    save(dose(), tmp_path / "d")
    whole_bytes = (tmp_path / "d").read_bytes()
    kinds = []
    for _ in range(150):
        (tmp_path / "d").write_bytes(damaged(whole_bytes, rng))
        kinds.append(dose_outcome(tmp_path / "d").kind)
    assert {"dose", "error"} == set(kinds)


def test_a_header_that_asks_for_gigabytes(tmp_path: Path) -> None:
    before = peak_MB()
    assert outcome(series().set(Rows=65000, Columns=65000).write(tmp_path / "a")).kind == "problem"
    export = compressed(series(), RLELossless).set(Rows=40000, Columns=40000)
    assert outcome(export.write(tmp_path / "b")).kind == "problem"
    assert peak_MB() - before < MOST_MB


def test_a_deflated_file_that_swells(tmp_path: Path) -> None:
    export = series()
    export.write(tmp_path)
    bomb = deepcopy(export.images[0])
    bomb.file_meta = FileMetaDataset()
    bomb.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    save(bomb, tmp_path / "bomb")
    start = (tmp_path / "bomb").read_bytes()
    meta = 144 + int.from_bytes(start[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    blocks = [packer.compress(bytes(1 << 24)) for _ in range(70)]
    (tmp_path / "bomb").write_bytes(start[:meta] + b"".join(blocks) + packer.flush())
    before = peak_MB()
    assert outcome(tmp_path).kind == "problem"
    assert peak_MB() - before < MOST_MB
