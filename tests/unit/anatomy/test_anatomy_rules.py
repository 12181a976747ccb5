"""Structure rules: reading, order, what is missing, and each step."""

import tomllib

import numpy as np
import pytest

from mrlinac import spec
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.rules import StructureRule, derive, problems
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.errors import DataError, SpecError

GRID = Grid.covering((-45, -45, -30), (45, 45, 30), (3, 3, 3))


def disc(radius, x=0.0, y=0.0, z=None, half=6.0):
    """A cylinder along z, through all of the grid or within ± half of z."""
    fine = (np.arange(5) + 0.5) / 5 - 0.5
    xs = (GRID.x_mm[:, None] + 3 * fine).ravel() - x
    ys = (GRID.y_mm[:, None] + 3 * fine).ravel() - y
    plane = (ys[:, None] ** 2 + xs[None, :] ** 2 <= radius**2).reshape(30, 5, 30, 5).mean(axis=(1, 3))
    layers = np.ones(20) if z is None else (np.abs(GRID.z_mm - z) < half).astype(float)
    return (layers[:, None, None] * plane).astype(np.float32)


@pytest.fixture(scope="module")
def drawn():
    parts = [
        Structure("External", "external", disc(36)),
        Structure("CTV", "target", disc(8, x=20, z=0)),
        Structure("Lung_L", "oar", disc(12, x=18, z=0, half=12)),
        Structure("Lung_R", "oar", disc(12, x=-18, z=0, half=12)),
        Structure("Trachea", "oar", disc(5, x=10)),
    ]
    return StructureSet(GRID, {part.name: part for part in parts})


def rules(text):
    return {name: spec.validate(StructureRule, table, name) for name, table in tomllib.loads(text).items()}


def test_a_ptv_falls_back_to_the_ctv_with_a_warning(drawn):
    result, notes = derive(drawn, rules('[PTV]\nfirst_of = ["ITV", "CTV"]\nmargin_mm = 3\nrole = "target"'))
    expected = (np.pi * 11**2 * 12 + 2 * (np.pi * 64 * 3 + np.pi**2 * 8 * 9 / 2 + 4 / 3 * np.pi * 27 / 2)) / 1000
    assert result.volume_cc("PTV") == pytest.approx(expected, rel=0.02)
    assert result["PTV"].role == "target"
    assert any("no ITV" in text and "CTV" in text for text in notes.of("warning"))


def test_ptv_eval_and_its_part_in_lung(drawn):
    text = """
    [PTV]
    from = "CTV"
    margin_mm = 7
    [PTV_eval]
    from = "PTV"
    within = [{ structure = "External", margin_mm = -5 }]
    minus = ["Trachea", { structure = "Bronchi", optional = true }]
    [PTV_lung]
    from = "PTV_eval"
    within = "Lungs"
    [Lungs]
    from = ["Lung_L", "Lung_R"]
    """
    result, notes = derive(drawn, rules(text))
    assert list(result)[5:] == ["PTV", "PTV_eval", "Lungs", "PTV_lung"]  # needed before use
    evaluated = result["PTV_eval"].occupancy
    radius = np.hypot(*np.meshgrid(GRID.y_mm, GRID.x_mm, indexing="ij"))
    assert evaluated[:, radius > 31 + 2.2].max() == 0
    assert (evaluated + drawn["Trachea"].occupancy).max() <= 1 + 1e-5
    assert result.volume_cc("Lungs") == pytest.approx(2 * np.pi * 144 * 24 / 1000, rel=0.01)
    assert result.volume_cc("PTV_lung") < result.volume_cc("PTV_eval") < result.volume_cc("PTV")
    assert any("Bronchi" in text for text in notes.of("warning"))


def test_rind_sides_and_trimmed_ends(drawn):
    text = """
    [Skin]
    from = "External"
    rind_mm = 5
    trim_ends_mm = 12
    [Skin_ant]
    from = "Skin"
    side = "anterior"
    [Skin_post]
    from = "Skin"
    side = { towards = "posterior", share = 0.25 }
    """
    result, _ = derive(drawn, rules(text), imaged_z_mm=(-24.0, 24.0))
    ring_mm2 = np.pi * (36**2 - 31**2)
    assert result.volume_cc("Skin") == pytest.approx(ring_mm2 * 24 / 1000, rel=0.01)
    assert result.volume_cc("Skin_ant") == pytest.approx(ring_mm2 * 12 / 1000, rel=0.02)
    anterior = result["Skin_ant"].occupancy
    assert anterior[:, GRID.y_mm > 0].max() == 0  # LPS: anterior is towards smaller y
    # Behind y = 18 mm: an arc of 120° outside, 2 acos(18/31) = 109° inside.
    segment = 36**2 * (np.pi / 3 - np.sin(2 * np.pi / 3) / 2)
    angle = 2 * np.arccos(18 / 31)
    segment -= 31**2 * (angle - np.sin(angle)) / 2
    assert result.volume_cc("Skin_post") == pytest.approx(segment * 24 / 1000, rel=0.02)


def test_a_ring_and_the_body_without_a_target(drawn):
    text = """
    [Ring]
    from = "CTV"
    ring = { inner_mm = 3, outer_mm = 9 }
    within = "External"
    [Body]
    from = "External"
    minus = "CTV"
    trim_ends_mm = 0
    """
    result, _ = derive(drawn, rules(text), imaged_z_mm=(-21.0, 21.0))
    outer, inner = (derive(drawn, rules(f'[A]\nfrom = "CTV"\nmargin_mm = {m}'))[0]["A"].occupancy for m in (9, 3))
    ring = result["Ring"].occupancy
    assert np.all(ring <= outer + 1e-6)
    assert float((ring * inner).sum()) / float(ring.sum()) < 0.05
    assert result.volume_cc("Body") == pytest.approx((np.pi * 36**2 * 42 - np.pi * 64 * 12) / 1000, rel=0.01)


def test_everything_that_stands_in_the_way_is_said_at_once(drawn):
    text = """
    [A]
    from = "B"
    [B]
    from = "A"
    [C]
    from = "Lung_LL"
    [D]
    from = "C"
    [E]
    from = "External"
    trim_ends_mm = 30
    """
    with pytest.raises(DataError) as caught:
        derive(drawn, rules(text))
    message = str(caught.value)
    assert message.count("A → B → A") == 1
    assert "'Lung_LL'; did you mean 'Lung_L'?" in message
    assert "structures.D: needs 'C'" in message
    assert "imaged_z_mm" in message
    assert len(problems(drawn, rules(text))) == 3


def test_optional_rules_are_left_out_and_named(drawn):
    text = '[PRV]\nfrom = "SpinalCord"\nmargin_mm = 5\noptional = true\n[Near]\nfrom = "PRV"\noptional = true'
    result, notes = derive(drawn, rules(text))
    assert "PRV" not in result
    assert "Near" not in result
    assert len(notes.of("warning")) == 2
    assert "PRV left out: the patient has no SpinalCord" in notes.of("warning")[0]


def test_a_target_that_leaves_the_images_is_named(drawn):
    table = rules('[PTV]\nfrom = "CTV"\nmargin_mm = 6\nrole = "target"')
    _, notes = derive(drawn, table, imaged_z_mm=(-9.0, 30.0))
    assert "cc lie beyond the imaged range" in notes.of("warning")[0]
    _, notes = derive(drawn, table, imaged_z_mm=(-15.0, 30.0))
    assert not notes.of("warning")


def test_a_rule_replaces_what_was_drawn_unless_told_otherwise(drawn):
    result, notes = derive(drawn, rules('[Lung_L]\nfrom = "CTV"'))
    assert result.volume_cc("Lung_L") == pytest.approx(result.volume_cc("CTV"))
    assert "replaced" in notes.of("warning")[0]
    kept, notes = derive(drawn, rules('[Lung_L]\nfrom = "CTV"\nkeep_drawn = true'))
    assert kept["Lung_L"] is drawn["Lung_L"]
    assert len(notes) == 0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"from": "A", "marginmm": 3}, "marginmm: unknown key; did you mean 'margin_mm'"),
        ({"form": "A"}, "form: unknown key; did you mean 'from'"),
        ({"margin_mm": 3}, "exactly one of 'from' and 'first_of'"),
        ({"from": "A", "first_of": ["B"]}, "exactly one of 'from' and 'first_of'"),
        ({"from": "A", "rind_mm": 3, "ring": {"inner_mm": 1, "outer_mm": 2}}, "exclude each other"),
        ({"from": "A", "ring": {"inner_mm": 3, "outer_mm": 2}}, "outer_mm must be larger"),
        ({"from": "A", "margin_mm": {"left": 3}}, "right"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(table, says):
    with pytest.raises(SpecError, match=says):
        spec.validate(StructureRule, table, "protocol.toml")


def test_a_rule_survives_being_written_and_read_again():
    table = {"from": ["A", {"structure": "B", "margin_mm": -2}], "side": "left", "margin_mm": 4}
    rule = spec.validate(StructureRule, table, "protocol.toml")
    values = rule.model_dump(mode="json", exclude_none=True)
    assert "from_" not in values
    assert spec.validate(StructureRule, values, "again") == rule
