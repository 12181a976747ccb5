"""The grammar of metrics."""

import pytest

from mrlinac.dose.grammar import FORMS, parse, parse_requests
from mrlinac.errors import SpecError


@pytest.mark.parametrize("text", FORMS)
def test_every_form_that_is_listed_is_read(text):
    assert parse(text).text == text


@pytest.mark.parametrize(
    ("text", "form", "level", "level_unit", "unit", "relative"),
    [
        ("D95%", "dose_at", 95, "%", "Gy", False),
        ("D0.1cc[Gy]", "dose_at", 0.1, "cc", "Gy", False),
        ("D98%[%]", "dose_at", 98, "%", "%", True),
        ("V20Gy[%]", "volume_at", 20, "Gy", "%", False),
        ("V20Gy[cc]", "volume_at", 20, "Gy", "cc", False),
        ("V95%[cc]", "volume_at", 95, "%", "cc", True),
        ("mean", "mean", 0, "", "Gy", False),
        ("mean[%]", "mean", 0, "", "%", True),
        ("volume", "volume", 0, "", "cc", False),
        ("HI", "homogeneity", 0, "", "", False),
        ("CI90%", "conformity", 90, "%", "", True),
        ("R50", "gradient", 50, "%", "", True),
    ],
)
def test_what_a_form_means(text, form, level, level_unit, unit, relative):
    found = parse(text)
    assert (found.form, found.level, found.level_unit, found.unit) == (form, level, level_unit, unit)
    assert found.needs_prescription is relative


@pytest.mark.parametrize("text", ["max", "Dmax[Gy]", "min", "D0%"])
def test_single_voxels_are_refused_with_the_remedy(text):
    with pytest.raises(SpecError, match=r"noise.*D0\.03cc or D2%"):
        parse(text)


@pytest.mark.parametrize("text", ["D0.0cc", "R0", "V20Gy", "D2%[cc]", "mean[cc]", "d95%"])
def test_other_words_are_refused(text):
    with pytest.raises(SpecError, match="metric"):
        parse(text)


def test_requests_name_structures():
    found = parse_requests(["PTV: D95%, V20Gy[%]", "D2%", "a:b:mean"])
    said = [(r.structure, r.metric.text) for r in found]
    assert said == [("PTV", "D95%"), ("PTV", "V20Gy[%]"), ("", "D2%"), ("a:b", "mean")]
    with pytest.raises(SpecError) as caught:
        parse_requests(["PTV:max,D95", "V5"])
    assert "single voxel" in str(caught.value)
    assert "'D95'" in str(caught.value)
    assert "'V5'" in str(caught.value)
