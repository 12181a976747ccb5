"""What objects show of themselves in a notebook and when printed."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import mrlinac as mr
from mrlinac import notebook
from mrlinac.anatomy.grid import Grid
from mrlinac.dose.dose import Dose
from mrlinac.notes import Note, Notes
from mrlinac.provenance import Provenance

TAGS = {"p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td"}


def is_safe(html: str) -> bool:
    """Only our own tags, each closed."""
    opened, closed = re.findall(r"<(\w+)", html), re.findall(r"</(\w+)>", html)
    return set(opened) <= TAGS and sorted(opened) == sorted(closed)


def test_words_are_escaped_everywhere():
    evil = "<script>alert(1)</script> & co"
    for html in (
        notebook.heading(evil),
        notebook.line(evil),
        notebook.bullets([evil]),
        notebook.table([evil], [[evil]]),
        Notes((Note("info", evil),))._repr_html_(),
    ):
        assert is_safe(html)
        assert "&lt;script&gt;" in html
        assert "&amp; co" in html


def test_a_long_table_is_cut_and_says_by_how_much():
    html = notebook.table(["n"], [[str(n)] for n in range(notebook.MOST_ROWS + 7)])
    assert html.count("<tr>") == notebook.MOST_ROWS + 1
    assert "7 more rows" in html


def test_a_dose_is_one_line():
    grid = Grid((4, 5, 6), (3.0, 2.0, 2.5), (0.0, 0.0, 0.0))
    gray = np.full(grid.shape_zyx, 66.0, np.float32)
    dose = Dose(grid, gray, np.full(grid.shape_zyx, 0.02, np.float32), 33, Provenance("x", "test"))
    assert str(dose) == (
        "Dose(6×5×4 voxels of 2.5×2×3 mm, up to 66 Gy in 33 fractions, to medium, mean σ 2 % above half of the maximum)"
    )
    assert repr(replace(dose, rel_sigma=None, dose_Gy=0 * gray, fractions=1)).endswith(
        "up to 0 Gy in 1 fraction, to medium)"
    )
    assert is_safe(dose._repr_html_())


def test_a_plan_shows_what_it_is_and_not_where_its_patient_lies():
    spec = mr.load_plan("unity-66in33", {"patient.folder": "/home/doe_john_1950", "technique.travel_step_mm": 6})
    html = spec._repr_html_()
    assert is_safe(html)
    assert "66 Gy in 33 fractions to PTV_eval" in html
    assert "technique.travel_step_mm = 6" in html
    assert "doe" not in html + repr(spec) + str(spec)
    assert "\n" not in repr(spec)


def test_a_result_says_first_what_it_is_worth(planned):
    html = planned(gray=5.3, limit=8.0, verdict="fail")._repr_html_()
    assert is_safe(html)
    assert (
        html.index("Useless as it is; 1 hard limit and 1 goal not met.")
        < html.index("Not normalised")
        < html.index("<td>Heart")
    )
    assert "<td>8 Gy</td><td>≤ 7</td><td>fail</td>" in html
    assert mr.RESEARCH_ONLY in html


def test_a_comparison_has_a_column_a_plan(planned):
    html = mr.compare({"a <b>": planned(), "c": planned(gray=5.3)})._repr_html_()
    assert is_safe(html)
    assert "<th>a &lt;b&gt;</th><th>c</th>" in html
    assert "Useless as it is." in html


def test_a_folder_tells_what_loading_preparing_and_writing_took():
    from mrlinac.recipe.stages import Stages

    ledger = Stages()
    ledger.spent("load patient", {"cpu_s": 3.0, "wall_s": 2.0, "peak_MB": 100.0})
    ledger.spent("anatomy", {})
    with ledger.stage("optimise"):
        pass
    assert ledger.table()["stage"].tolist() == ["load patient", "optimise"]
    assert ledger.cost("load patient") == {"cpu_s": 3.0, "wall_s": 2.0, "peak_MB": 100.0}


@pytest.mark.parametrize("figures", [True, False])
def test_saving_adds_the_cost_of_writing_once_and_hands_on_whether_to_draw(planned, tmp_path, figures):
    asked = []
    stage = {"stage": ["influence", "write files"], "cpu_s": [1.0, 9.0], "wall_s": [1.0, 9.0], "peak_MB": [1.0, 9.0]}
    result = replace(
        planned(),
        timing=pd.DataFrame(stage),
        writers=(lambda *_, figures: asked.append(figures),),
        models=pd.DataFrame(),
    )
    result.save(tmp_path / "r", figures=figures)
    timing = pd.read_csv(tmp_path / "r" / "timing.csv")
    assert timing["stage"].tolist() == ["influence", "write files", "write report"]
    assert timing["wall_s"].tolist()[1] < 9
    assert asked == [figures]
