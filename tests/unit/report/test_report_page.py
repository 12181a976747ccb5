"""The page: whole, self-contained, readable without colours, the same bytes twice."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest

from mrlinac import report
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.errors import DataError

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags and text, and complains about tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]

    @property
    def text(self):
        return re.sub(r"[ \n]+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def written(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    return report.write(content, folder)


@pytest.fixture(scope="module")
def compared(content, other, tmp_path_factory):
    return report.write_comparison({"1.5 T": content, "0 T": other}, tmp_path_factory.mktemp("compare"))


def test_everything_is_written(written):
    folder = written.parent
    for name in ("report.html", "goals.csv", "models.csv", "dvh.csv", "timing.csv"):
        assert (folder / name).stat().st_size > 0
    names = {"isodoses", "slices", "dvh", "skin", "fluences", "uncertainty"}
    assert {p.stem for p in (folder / "figures").iterdir()} == names
    for name in names:
        ElementTree.parse(folder / "figures" / f"{name}.svg")
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("which", ["written", "compared"])
def test_page_needs_no_network(which, request):
    path = request.getfixturevalue(which)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.of("img")
    for image in page.of("img"):
        head, data = image["src"].split(",", 1)
        assert head == "data:image/svg+xml;base64"
        svg = ElementTree.fromstring(base64.b64decode(data))
        assert svg.tag.endswith("svg")
        for element in svg.iter():  # nothing inside a picture points outside it
            for key, value in element.attrib.items():
                if key.endswith("href"):
                    assert value.startswith(("#", "data:"))
        assert len(image["alt"]) > 20
    for _, attributes in page.tags:
        for key in ("href", "src"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert not page.of("script")
    assert not page.of("link")
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.parametrize("which", ["written", "compared"])
def test_page_says_what_it_is(which, request):
    path = request.getfixturevalue(which)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.tags[0][0] == "html"
    assert page.tags[0][1]["lang"] == "en"
    assert any(attributes.get("class") == "banner" for attributes in page.of("p"))
    shown = [attributes.get("id", "") for attributes in page.of("figure")]
    with_dose = [name for name in shown if name != "figure-fluences"]
    # the banner, the foot, and every picture of a dose
    assert page.text.count(RESEARCH_ONLY) == 2 + len(with_dose)


def test_tables_have_heads(written):
    page = Page(written.read_text(encoding="utf-8"))
    assert len(page.of("caption")) == len(page.of("table")) >= 7
    assert all(head.get("scope") in ("col", "row") for head in page.of("th"))


def test_verdicts_are_words_not_only_colours(written):
    text = Page(written.read_text(encoding="utf-8")).text
    for words in ("✓ pass", "≈ near", "✗ fail", "· reported"):
        assert words in text
    assert "1 goal not met" in text
    assert "1 of 1 hard constraints met" in text


def test_text_is_escaped_and_complete(written, content):
    raw = written.read_text(encoding="utf-8")
    assert "<2 lines>" not in raw
    text = Page(raw).text
    for sentence in (
        "a source, <2 lines> & more",
        *content.thinning,
        *content.neglected,
        *content.warnings,
        *(note.text for note in content.notes.entries),
        "ctv boost",
        "optimal",
        "120\u202f000\u202f000",
        "66 Gy in 33 fractions to PTV",
    ):
        assert sentence in text


def test_same_content_same_bytes(content, other, written, compared, tmp_path):
    again = report.write(content, tmp_path / "again").parent
    for path in sorted(p for p in written.parent.rglob("*") if p.is_file()):
        assert (again / path.relative_to(written.parent)).read_bytes() == path.read_bytes(), path.name
    twice = report.write_comparison({"1.5 T": content, "0 T": other}, tmp_path / "twice")
    assert twice.read_bytes() == compared.read_bytes()


def test_matplotlib_is_left_as_it_was(content, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    with report.style.styled():
        assert matplotlib.rcParams["svg.hashsalt"] == "mrlinac"
    assert dict(matplotlib.rcParams) == before


def test_a_bare_plan_is_reported_and_says_what_is_missing(plain, tmp_path):
    path = report.write(plain, tmp_path)
    text = Page(path.read_text(encoding="utf-8")).text
    assert "There is no skin metric" in text
    assert "names none" in text  # no model
    assert "No map of the skin" in text
    assert "carries no statistical uncertainty" in text
    assert "No certificate" in text
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {"isodoses", "slices", "dvh", "fluences"}


def test_skin_that_cannot_be_evaluated_is_neither_map_nor_number(content, tmp_path):
    skin = replace(content.structures["Skin"], flaw="External is cut by the field of view (3 slices)")
    nan = float("nan")
    void = {"structure": "Skin", "metric": "D2cc", "value": nan, "unit": "Gy", "limit": nan, "direction": ""}
    void |= {"verdict": "void", "margin": nan, "source": f"reported; not evaluable: {skin.flaw}"}
    goals = pd.concat([content.goals, pd.DataFrame([void])], ignore_index=True)
    cut = replace(content, structures=content.structures.having(skin), goals=goals, skin=content.skin.iloc[:0])
    text = Page(report.write(cut, tmp_path).read_text(encoding="utf-8")).text
    assert "∅ not evaluable" in text
    assert "1 goal that cannot be evaluated" in text
    assert "No map of the skin" in text
    assert not (tmp_path / "figures" / "skin.svg").exists()


def test_comparison_shows_both(compared):
    text = Page(compared.read_text(encoding="utf-8")).text
    assert "0 T − 1.5 T" in text
    assert "+9.00" in text  # the skin D2cc that the second plan has more
    names = {p.stem for p in (compared.parent / "figures").iterdir()}
    assert {"dvh", "skin_bars", "skin_maps", "difference_0-t", "isodoses_0-t", "isodoses_1-5-t"} <= names


def rows_of(path, caption):
    """Cells of each row of the table with a caption."""
    text = path.read_text(encoding="utf-8")
    body = text[text.index(f"<caption>{caption}") :]
    body = body[body.index("<tbody>") : body.index("</tbody>")]
    return [re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in body.split("</tr>")[:-1]]


def test_every_figure_stands_with_its_sigma_and_its_raw_value(written):
    goals = {tuple(row[:2]): row for row in rows_of(written, "Goals, judged on the dose shown here")}
    assert goals["PTV", "D95%"][2:5] == ["61.9 ± 0.25 Gy", "61.4", "≥ 62.7 Gy"]
    assert goals["Lung_R", "V20Gy[%]"][2:4] == ["38.2 %", "38.2"]  # its σ is not known
    (limit,) = rows_of(written, "Hard constraints")
    assert limit[:4] == ["SpinalCord D0.1cc", "21.4 ± 0.40 Gy", "21.9", "48.0 Gy"]
    assert rows_of(written, "Skin dose, course")[0] == ["D2cc (5 mm)", "whole", "30.1 ± 0.10 Gy", "30.7"]
    assert "without the bias of Monte Carlo noise" in Page(written.read_text(encoding="utf-8")).text


def test_in_a_comparison_a_raw_value_stands_where_it_differs(compared):
    goals = {tuple(row[:2]): row for row in rows_of(compared, "Goals side by side")}
    assert goals["PTV", "D95%"][3].startswith("61.9 ± 0.25 Gy, raw 61.4 ")
    assert "raw" not in goals["Heart", "mean"][3]
    skin = rows_of(compared, "Skin dose side by side")[0]
    assert skin[2:] == ["30.1 ± 0.10 Gy, raw 30.7", "39.1 ± 0.10 Gy, raw 30.7", "+9.00 ± 0.14"]


def test_what_a_plan_is_worth_stands_before_everything_else(content, tmp_path):
    said = "Not normalised: D50 of PTV is 5.3 of 66 Gy prescribed."
    bad = replace(content, headline="Useless as it is.", level="useless", warnings=(said,))
    page = report.write(bad, tmp_path, figures=False).read_text(encoding="utf-8")
    assert (
        page.index("Useless as it is.") < page.index(said) < page.index('<dl class="facts">') < page.index("<main>")
    )
    assert 'class="warnings useless"' in page


def test_models_stand_with_value_noise_citation_and_a_warning(written):
    measured, absent = rows_of(written, "Models, on the dose shown here")
    assert measured[:4] == ["pneumonitis-a", "NTCP: pneumonitis", "Lung_R", "20.6 ± 0.30 %"]
    assert measured[4:] == ["20.2", "td50 30.8 Gy, n 1; EQD2 of each voxel, α/β 3 Gy", "a paper, 2010"]
    assert absent[3] == "– not drawn: no GTV"
    assert absent[-1] == "one, 1999"
    assert "population estimates" in Page(written.read_text(encoding="utf-8")).text


def test_models_of_several_plans_stand_side_by_side(content, compared, tmp_path):
    measured, absent = rows_of(compared, "Models side by side")
    assert measured[3:5] == ["20.6 ± 0.30 %, raw 20.2", "29.6 ± 0.30 %, raw 20.2"]
    assert measured[-1] == "a paper, 2010"
    assert absent[3:5] == ["– not drawn: no GTV"] * 2
    assert "population estimates" in compared.read_text(encoding="utf-8")
    other_numbers = replace(content, models=content.models.assign(parameters="td50 24.5 Gy, n 0.87").iloc[:1])
    page = report.write_comparison({"one": content, "two": other_numbers}, tmp_path, figures=False)
    first, _, changed = rows_of(page, "Models side by side")
    assert first[3:5] == ["20.6 ± 0.30 %, raw 20.2", "not in this plan"]  # other numbers are another model
    assert changed[3:5] == ["not in this plan", "20.6 ± 0.30 %, raw 20.2"]


def test_small_probabilities_are_not_told_apart(content, tmp_path):
    small = content.models.iloc[[0, 0]].assign(value=[2e-4, 0.3], raw=[3e-4, 0.37], unit=["%", "Gy"])
    page = report.write(replace(content, models=small), tmp_path, figures=False)
    tiny, dose = rows_of(page, "Models, on the dose shown here")
    assert tiny[3:5] == ["< 0.1 %".replace("<", "&lt;"), "&lt; 0.1"]
    assert dose[3:5] == ["0.300 ± 0.30 Gy", "0.370"]
    assert pd.read_csv(tmp_path / "models.csv")["value"].tolist() == [2e-4, 0.3]


def test_a_model_is_never_judged(content):
    with pytest.raises(DataError, match="not judged: pass"):
        replace(content, models=content.models.assign(verdict="pass"))


def test_comparison_refuses_what_it_cannot_compare(content, tmp_path):
    with pytest.raises(DataError, match="2 to"):
        report.write_comparison({"one": content}, tmp_path)
    short = replace(content, fractions=5, dose=replace(content.dose, fractions=5))
    with pytest.raises(DataError, match="EQD2"):
        report.write_comparison({"a": content, "b": short}, tmp_path)
    with pytest.raises(DataError, match="same file names"):
        report.write_comparison({"a b": content, "a-b": content}, tmp_path)


def test_content_names_every_problem_at_once(content):
    with pytest.raises(DataError) as caught:
        replace(
            content,
            target="ITV",
            prescription_Gy=0.0,
            fractions=20,
            goals=pd.DataFrame({"structure": [], "metric": []}),
        )
    message = str(caught.value)
    for part in ("ITV", "PTV", "must be positive", "Dose.course()", "lacks the columns value"):
        assert part in message


def test_without_figures_the_page_holds_words_and_tables_and_says_so(content, other, tmp_path):
    page = report.write(content, tmp_path / "one", figures=False)
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text
    assert "The figures were left out." in text
    assert "No map of the skin" not in text
    assert "no statistical uncertainty" not in text
    assert rows_of(page, "Goals, judged on the dose shown here")
    assert not (tmp_path / "one" / "figures").exists()
    both = report.write_comparison({"a": content, "b": other}, tmp_path / "two", figures=False)
    assert "<img" not in both.read_text(encoding="utf-8")
    assert rows_of(both, "Goals side by side")
