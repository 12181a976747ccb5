"""The noise of a metric, from two half-runs: against a distribution whose truth is known."""

import numpy as np
import pytest

import mrlinac as mr
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.provenance import Provenance
from mrlinac.recipe import judge

GRID = Grid((40, 50, 50), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))


def noisy(seed, sigma_Gy=2.0):
    """60 Gy everywhere, with independent noise of ``sigma_Gy`` in the mean of two halves."""
    rng = np.random.default_rng(seed)
    halves = tuple(
        (60 + sigma_Gy * np.sqrt(2) * rng.standard_normal(GRID.shape_zyx)).astype(np.float32) for _ in range(2)
    )
    return Dose(GRID, (halves[0] + halves[1]) / 2, None, 1, Provenance("x", "test"), halves)


def test_the_bias_of_a_tail_is_found():
    """D2% of a flat dose is the dose; noise of 2 Gy raises it by 2.05 · 2 Gy, and the halves tell most of that."""
    structure = Structure("Skin", "other", np.ones(GRID.shape_zyx, np.float32))
    dose = noisy(1)
    value = metrics.metric(dose, structure, "D2%")
    halves = [metrics.metric(half, structure, "D2%") for half in dose.half_doses]
    sigma, bias = judge.noise_of(value, *halves)
    assert value == pytest.approx(60 + 2.054 * 2, abs=0.1)
    # For normal noise the tail grows with σ, not with σ²: the halves then show √2 − 1 of it, a lower bound.
    assert bias == pytest.approx((np.sqrt(2) - 1) * 2.054 * 2, abs=0.1)
    assert sigma < 0.1


def test_a_mean_has_no_bias():
    structure = Structure("Skin", "other", np.ones(GRID.shape_zyx, np.float32))
    table = judge.skin_table(noisy(2), StructureSet(GRID, {"Skin": structure})).set_index("metric")
    assert abs(table.noise_bias["mean"]) < 0.01
    assert table.noise_bias["D0.1cc"] > 1


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
    with_air = judge.tables(protocol, dose, body, {})["goals"]
    without = judge.tables(protocol, dose, body, {}, density)["goals"]
    assert with_air.value[0] == pytest.approx(150)
    assert without.value[0] == pytest.approx(100)
    assert without.verdict[0] == "pass"


def test_an_absent_value_has_no_noise():
    assert np.isnan(judge.noise_of(None, 1.0, 2.0)).all()
    assert np.isnan(judge.noise_of(1.0)).all()


def test_the_skin_sentence_says_whether_it_is_enough():
    structure = Structure("Skin", "other", np.ones(GRID.shape_zyx, np.float32))
    structures = StructureSet(GRID, {"Skin": structure})
    table = judge.skin_table(noisy(3), structures)
    assert ": enough" in judge.skin_sentence(table.assign(sigma=0.01), 66.0, structures)
    assert ": not enough" in judge.skin_sentence(table.assign(sigma=1.0), 66.0, structures)


def test_a_piece_of_skin_that_is_mostly_air_has_no_d2cc():
    """3 cc, of which 2 are the air of a mask's gap: D0.1cc and the mean are there, D2cc is not, nothing stops."""
    inside = np.zeros(GRID.shape_zyx, np.float32)
    inside[0, :10, :11] = 1  # 110 voxels of 0.027 cc
    air = np.zeros(GRID.shape_zyx, bool)
    air[0, :10, :7] = True
    structure = Structure("Skin_anterior", "other", inside)
    table = judge.skin_table(noisy(4), StructureSet(GRID, {"Skin_anterior": structure}), air)
    assert list(table["metric"]) == ["mean", "D0.1cc"]


def test_models_carry_the_noise_of_the_dose_and_their_citation():
    protocol = mr.load_plan("demo").protocol
    lungs = protocol.models["pneumonitis-seppenwoolde"].model_copy(update={"structure": "Skin"})
    tumour = protocol.models["control-martel"]  # of the GTV, optional
    protocol = protocol.model_copy(update={"models": {"lungs": lungs, "tumour": tumour}})
    shape = GRID.shape_zyx
    structures = StructureSet(GRID, {"Skin": Structure("Skin", "other", np.ones(shape, np.float32))})
    halves = (np.full(shape, 21, np.float32), np.full(shape, 19, np.float32))
    dose = Dose(GRID, np.full(shape, 20, np.float32), None, 33, Provenance("x", "test"), halves)
    table = judge.models_table(protocol, dose, structures).set_index("model")
    one, low, high = (lungs.value(np.array([gray]), np.ones(1), 33) for gray in (20.0, 19.0, 21.0))
    assert table.value["lungs"] == pytest.approx(one)
    assert table.sigma["lungs"] == pytest.approx((high - low) / 2)
    assert table.noise_bias["lungs"] == pytest.approx((high + low) / 2 - one)
    assert "Seppenwoolde" in table.source["lungs"]
    assert table.loc["tumour", ["verdict", "reason"]].tolist() == ["absent", "GTV is not drawn"]
    assert np.isnan(table.value["tumour"])
