"""The tables of a plan: against doses whose truth and noise are known."""

import numpy as np
import pytest

import mrlinac as mr
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose.dose import Batches, Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.provenance import Provenance
from mrlinac.recipe import judge

GRID = Grid((40, 50, 50), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))


def sampled_of(dose, **structures):
    made = {name: Structure(name, role, inside) for name, (role, inside) in structures.items()}
    found = StructureSet(GRID, made)
    return Sampled(dose, found), found


WHOLE = np.ones(GRID.shape_zyx, np.float32)


def test_the_bias_of_a_tail_is_taken_out(noisy):
    """A flat dose of 60 Gy, whose hot end is noise alone: the hardest case, of which two thirds go; σ says the rest."""
    table = judge.skin_table(*sampled_of(noisy(GRID, 60, 0.6, 1), Skin=("other", WHOLE))).set_index("metric")
    assert table.raw["D2cc"] > 61.3
    assert table.value["D2cc"] - 60 < (table.raw["D2cc"] - 60) / 2
    assert table.value["D2cc"] > 60 - 3 * table.sigma["D2cc"]
    assert 0 < table.sigma["D2cc"] < 0.3


def test_a_mean_has_no_bias(noisy):
    table = judge.skin_table(*sampled_of(noisy(GRID, 60, 0.6, 2), Skin=("other", WHOLE))).set_index("metric")
    assert table.value["mean"] == table.raw["mean"]
    # Two thirds more at most: not every one of so many voxels is asked.
    assert 0.6 < table.sigma["mean"] / (0.6 / np.sqrt(np.prod(GRID.shape_zyx))) < 1.7


def test_the_air_of_an_airway_is_no_hot_spot_of_the_body():
    protocol = mr.load_plan("demo").protocol
    goal = next(g for g in protocol.goals if (g.structure, g.metric) == ("External", "D1cc[%]"))
    target = protocol.prescription.model_copy(update={"target": "External"})
    update = {"prescription": target, "goals": (goal,), "constraints": (), "objectives": (), "models": {}}
    protocol = protocol.model_copy(update=update)
    body = StructureSet(GRID, {"External": Structure("External", "external", np.ones(GRID.shape_zyx, np.float32))})
    gray, density = np.full(GRID.shape_zyx, 66, np.float32), np.ones(GRID.shape_zyx, np.float32)
    gray[:5, :10, :10], density[:5, :10, :10] = 99, 0.0012
    dose = Dose(GRID, gray, None, 33, Provenance("x", "test"))
    with_air = judge.tables(protocol, Sampled(dose, body), body, {})["goals"]
    without = judge.tables(protocol, Sampled(dose, body, air=judge.air_in(body, density)), body, {})["goals"]
    assert with_air.value[0] == pytest.approx(150, rel=0.03)  # the edge of so hot a block overshoots a little
    assert without.value[0] == pytest.approx(100, rel=1e-3)
    assert without.verdict[0] == "pass"


def test_the_skin_sentence_says_whether_it_is_enough(noisy):
    sampled, structures = sampled_of(noisy(GRID, 60, 2.0, 3), Skin=("other", WHOLE))
    table = judge.skin_table(sampled, structures)
    assert ": enough" in judge.skin_sentence(table.assign(sigma=0.01), 66.0, structures)
    assert ": not enough" in judge.skin_sentence(table.assign(sigma=1.0), 66.0, structures)


def test_a_piece_of_skin_that_is_mostly_air_has_no_d2cc(noisy):
    """3 cc, of which 2 are the air of a mask's gap: D0.1cc and the mean are there, D2cc is not, nothing stops."""
    inside = np.zeros(GRID.shape_zyx, np.float32)
    inside[0, :10, :11] = 1  # 110 voxels of 0.027 cc
    structures = StructureSet(GRID, {"Skin_anterior": Structure("Skin_anterior", "other", inside)})
    dose = noisy(GRID, 60, 2.0, 4)
    table = judge.skin_table(
        Sampled(dose, structures, air=lambda places_xyz_mm: places_xyz_mm[:, 0] < 7 * 3), structures
    )
    assert list(table["metric"]) == ["mean", "D0.1cc"]


def test_models_carry_the_noise_of_the_dose_and_their_citation():
    """Batches that differ as wholes, so that the model's slope and the scatter of their mean give its σ."""
    protocol = mr.load_plan("demo").protocol
    lungs = protocol.models["pneumonitis-seppenwoolde"].model_copy(update={"structure": "Skin"})
    tumour = protocol.models["control-martel"]  # of the GTV, optional
    protocol = protocol.model_copy(update={"models": {"lungs": lungs, "tumour": tumour}})
    apart = np.array([3, -1, 2, -2, 0, 1, -3, 1, -1, 2, -2, 0]) / 100
    batches = Batches(
        np.broadcast_to(apart[:, None, None, None], (12, *GRID.shape_zyx)).astype(np.float16), (1000,) * 12
    )
    dose = Dose(GRID, np.full(GRID.shape_zyx, 20, np.float32), None, 33, Provenance("x", "test"), batches)
    table = judge.models_table(protocol, *sampled_of(dose, Skin=("other", WHOLE))).set_index("model")
    one, less, more = (lungs.value(np.array([gray]), np.ones(1), 33) for gray in (20.0, 19.9, 20.1))
    assert table.raw["lungs"] == pytest.approx(one)
    assert table.value["lungs"] == pytest.approx(one, rel=0.01)
    sigma_Gy = 20 * np.sqrt((apart**2).sum() / (12 * 11))
    assert table.sigma["lungs"] == pytest.approx((more - less) / 0.2 * sigma_Gy, rel=0.1)
    assert "Seppenwoolde" in table.source["lungs"]
    assert table.loc["tumour", ["verdict", "reason"]].tolist() == ["absent", "GTV is not drawn"]
    assert np.isnan(table.value["tumour"])
