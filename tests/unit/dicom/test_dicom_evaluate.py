"""Evaluating a dose in structures as the clinic calls them, and where they end along z."""

from pathlib import Path

import pandas as pd
import pytest
from nasty import body, dose, save, structure_set
from nasty import square as square_of

import mrlinac as mr
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.errors import SpecError

PLANES = (-4.0, 0.0, 4.0)


def slabs(half: float) -> list:
    return [(z, square_of(half)) for z in PLANES]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    made = structure_set({"BODY": body(15, (-4, 0, 4)), "Herz": slabs(5), "Ziel 1": slabs(3), "x": slabs(2)}, None)
    made.StructureSetROISequence[3].ROIName = "Ziel 1"
    save(made, tmp_path / "set")
    there = dose()
    there.ImagePositionPatient = ["-9", "-3", "-5"]
    save(there, tmp_path / "dose")
    return tmp_path / "dose", tmp_path / "set"


def measured(files: tuple[Path, Path], *metrics: str, **options: object) -> pd.DataFrame:
    found = mr.evaluate([files[0]], files[1], metrics=metrics, same_frame=True, **options)
    return found.metrics.set_index("structure")


@pytest.mark.parametrize("asked", ["Heart", "Herz", "herz", "HERZ ", "heart", "cœur"])
def test_a_metric_goes_by_the_clinics_name_too(files: tuple[Path, Path], asked: str) -> None:
    table = measured(files, f"{asked}:volume")
    assert list(table.index) == ["Heart"]
    assert table["dose"].iloc[0] == pytest.approx(100 * 12 / 1000, rel=1e-3)


def test_a_name_of_two_structures_is_for_a_person(files: tuple[Path, Path]) -> None:
    assert measured(files, "Ziel 1 [ROI 4]:volume")["dose"].iloc[0] == pytest.approx(16 * 12 / 1000, rel=1e-3)
    with pytest.raises(
        SpecError, match=r"there is no structure Xyzzy \(known: External \('BODY'\), Heart \('Herz'\)"
    ):
        measured(files, "Xyzzy:volume")


def test_structures_end_half_a_slice_beyond_or_at_their_contours(files: tuple[Path, Path]) -> None:
    beyond, at = (measured(files, "Heart:volume", ends=ends)["dose"].iloc[0] for ends in ("half-slice", "at-contour"))
    assert beyond == pytest.approx(100 * 12 / 1000, rel=1e-3)
    assert at == pytest.approx(100 * 8 / 1000, rel=1e-3)
    assert measured(files, "Heart:volume")["dose"].iloc[0] == beyond


def test_the_fingerprint_of_a_structure_follows_all_that_decides_its_voxels() -> None:
    from dataclasses import replace

    from mrlinac.provenance import fingerprint

    roi = Roi("Heart", "oar", tuple(Contour(z, square_of(5)) for z in PLANES), 4.0)
    changes = [{"ends": "at-contour"}, {"lone_slice_mm": 2.0}, {"slice_spacing_mm": 3.0}, {"role": "target"}]
    changes += [{"derived": True}, {"contours": roi.contours[1:]}]
    prints = {fingerprint(replace(roi, **change).content) for change in changes} | {fingerprint(roi.content)}
    assert len(prints) == len(changes) + 1
    assert fingerprint(replace(roi, name="Herz", color_rgb=(1, 2, 3)).content) == fingerprint(roi.content)
