"""What lies outside a dose's grid stands beside every number of that structure."""

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.dose.dose import Dose
from mrlinac.dose.grammar import parse_requests
from mrlinac.protocol.model import load
from mrlinac.provenance import Provenance
from mrlinac.recipe.evaluate import OUTSIDE, Evaluation, evaluate, outside_column
from mrlinac.recipe.measuring import Subject
from mrlinac.report import evaluation as page


def box(name: str, role: str, low_mm: float, high_mm: float) -> Roi:
    """A box from x = low to high, 20 mm along y and 20 mm along z."""
    corners = np.array([(low_mm, -10), (high_mm, -10), (high_mm, 10), (low_mm, 10)], float)
    return Roi(name, role, tuple(Contour(z, corners) for z in (-7.5, -2.5, 2.5, 7.5)), 5.0)


def flat(dose_Gy: float, reach_mm: float) -> Dose:
    """A constant dose from x = -reach to reach, wide in y and z."""
    count = int(reach_mm)
    grid = Grid((20, 20, count), (2.0, 2.0, 2.0), (1.0 - reach_mm, -19.0, -19.0))
    return Dose(grid, np.full(grid.shape_zyx, dose_Gy, np.float32), None, 33, Provenance(f"{dose_Gy}", "t"))


ROIS = {
    "External": box("External", "external", -80, 80),
    "CTV": box("CTV", "target", -10, 10),
    "Heart": box("Heart", "oar", 10, 30),
    "Liver": box("Liver", "oar", 50, 70),
}


@pytest.fixture(scope="module")
def found() -> Evaluation:
    doses = {"small": flat(60.0, 20.0), "large": flat(60.0, 100.0)}
    return evaluate(doses, Subject("case", ROIS), requests=parse_requests(["mean,volume"]))


def test_every_metric_has_the_share_outside_beside_it(found: Evaluation) -> None:
    table = found.metrics[found.metrics["metric"] == "mean"].set_index("structure")
    small, large = (table[outside_column(label)] for label in ("small", "large"))
    assert small.to_dict() == pytest.approx({"External": 75, "CTV": 0, "Heart": 50, "Liver": 100}, abs=0.5)
    assert large.to_dict() == pytest.approx(dict.fromkeys(ROIS, 0), abs=1e-6)
    assert table.loc["Heart", "small"] == pytest.approx(30, rel=0.01)  # half of it counts with 0 Gy
    assert np.isnan(table.loc["Liver", "small"])


def test_volumes_are_the_structures_own_wherever_they_lie(found: Evaluation) -> None:
    volumes = found.metrics[found.metrics["metric"] == "volume"].set_index("structure")
    for name, width_mm in (("External", 160), ("CTV", 20), ("Heart", 20), ("Liver", 20)):
        assert volumes.loc[name, "small"] == pytest.approx(width_mm * 20 * 20 / 1000, rel=0.01)
    table = found.structures.set_index("structure")
    assert table.loc["Liver", outside_column("small")] == 100
    assert table.loc["Liver", "volume_cc"] == pytest.approx(8)


def test_differences_have_it_too(found: Evaluation) -> None:
    table = found.differences.set_index("structure")
    assert table.loc["Heart", OUTSIDE] == pytest.approx(50, abs=0.5)
    assert "Liver" not in table.index


def test_the_page_shows_the_column_where_something_lies_outside(found: Evaluation) -> None:
    table = page._metrics_table(found)
    assert outside_column("small") in table.heads
    assert outside_column("large") not in table.heads
    (row,) = [row for row in table.rows if (row[0].text, row[1].text) == ("Heart", "mean")]
    assert row[table.heads.index(outside_column("small"))].text == "50"


def test_goals_say_it() -> None:
    protocol = load("conventional-66in33").model_copy(update={"structures": {}})
    goals = evaluate({"dose": flat(20.0, 20.0)}, Subject("case", ROIS), protocol=protocol)
    table = goals.goals["dose"]
    heart = table[table["structure"] == "Heart"]
    assert len(heart)
    assert heart[OUTSIDE].to_numpy() == pytest.approx(50, abs=0.5)
    assert table.columns[-1] == "source"
    rows = page._goals_table(goals).rows
    told = [row[3].text for row in rows if row[0].text == "Heart"]
    assert all("of it outside the dose grid" in text for text in told)
    assert not any("outside" in row[3].text for row in rows if row[0].text == "CTV")
