"""Doses in biological terms, complication and control: closed forms, and the numbers papers print."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.integrate import quad

from mrlinac import protocol as protocols
from mrlinac.protocol import biology
from mrlinac.protocol.eqd2 import bed, eqd2


def uniform(dose_Gy, volume_cc=1.0, voxels=4):
    return np.full(voxels, float(dose_Gy)), np.full(voxels, volume_cc / voxels)


def shipped(name):
    return protocols.load("conventional-66in33").models[name]


def plain(kind, **numbers):
    return kind(structure="S", endpoint="test", source="test", **numbers)


# ----------------------------------------------------------------------------------------------------- BED and EQD2


@pytest.mark.parametrize(
    ("dose_Gy", "fractions", "bed10_Gy", "eqd2_Gy"),
    [
        (66, 33, 79.2, 66.0),
        (79.2, 44, 93.456, 77.88),
        (73, 30, 90.763, 75.636),
        (55, 20, 70.125, 58.4375),
        (60, 30, 72, 60),
    ],
)
def test_bed_and_eqd2_of_schedules(dose_Gy, fractions, bed10_Gy, eqd2_Gy):
    assert bed(dose_Gy, fractions, 10) == pytest.approx(bed10_Gy, abs=5e-4)
    assert eqd2(dose_Gy, fractions, 10) == pytest.approx(eqd2_Gy, abs=5e-4)


def test_every_voxel_has_its_own_fraction_size():
    """Half the lung at 60 Gy in 30, half at 6: the second half gets 0.2 Gy a fraction and is spared more."""
    dose, volume = np.array([60.0, 6.0]), np.array([1.0, 1.0])
    model = plain(biology.MeanEqd2, alpha_beta_Gy=3)
    assert model.value(dose, volume, 30) == pytest.approx((60 + 6 * (0.2 + 3) / (2 + 3)) / 2)
    assert plain(biology.MeanBed, alpha_beta_Gy=3).value(dose, volume, 30) == pytest.approx((100 + 6.4) / 2)


def test_no_fractions_and_no_ratio_are_errors():
    for wrong in ((60, 0, 3), (60, 30, 0)):
        with pytest.raises(ValueError, match="positive"):
            bed(*wrong)


# ----------------------------------------------------------------------------------------------------- complication


@pytest.mark.parametrize(("mean_Gy", "percent"), [(7, 4.8), (13, 9.7), (20, 20.6), (24, 30.0), (27, 38.5)])
def test_quantec_pneumonitis(mean_Gy, percent):
    """The shipped model: doses as given, the mean alone counts."""
    model = shipped("pneumonitis-quantec")
    assert model.value(*uniform(mean_Gy), 33) == pytest.approx(percent, abs=0.05)
    uneven = np.array([0, 2 * mean_Gy, 0.5 * mean_Gy, 1.5 * mean_Gy])
    assert model.value(uneven, np.ones(4), 33) == pytest.approx(percent, abs=0.05)


LKB = {"td50_Gy": 30.8, "m": 0.37, "n": 0.99}


@pytest.mark.parametrize("deviations", [-2, -1, 0, 1, 2])
def test_lkb_is_a_normal_distribution_of_tolerances(deviations):
    model = plain(biology.NtcpLkb, fraction_Gy=2, **LKB)
    dose = LKB["td50_Gy"] * (1 + deviations * LKB["m"])
    assert model.value(*uniform(dose), 33) == pytest.approx(100 * NormalDist().cdf(deviations), abs=1e-9)


@pytest.mark.parametrize("n", [0.03, 0.05, 0.35, 0.5, 1.0])
@pytest.mark.parametrize("part", [0.1, 0.5])
def test_lkb_tolerance_of_a_part_of_the_volume(n, part):
    """TD50 of a part v, the rest without dose, is TD50 / v^n (Kutcher and Burman)."""
    model = plain(biology.NtcpLkb, fraction_Gy=2, td50_Gy=50, m=0.15, n=n)
    dose, volume = np.array([50 / part**n, 0.0]), np.array([part, 1 - part])
    assert model.value(dose, volume, 33) == pytest.approx(50, abs=1e-6)


def test_fraction_size_is_corrected_before_the_volume():
    """n = 1, two halves: the mean of the EQD2s, which is not the EQD2 of the mean."""
    model = plain(biology.NtcpLkb, alpha_beta_Gy=3, td50_Gy=31, m=0.4, n=1.0)
    dose, volume, fractions = np.array([60.0, 6.0]), np.ones(2), 20
    each = dose * (dose / fractions + 3) / 5
    expected = NormalDist().cdf((each.mean() - 31) / (0.4 * 31))
    other = NormalDist().cdf((33 * (33 / fractions + 3) / 5 - 31) / (0.4 * 31))
    assert model.value(dose, volume, fractions) == pytest.approx(100 * expected)
    assert abs(expected - other) > 0.05  # a wrong order would be seen


def test_burmans_cord():
    """50 Gy to the whole cord in 25 fractions: Φ((50 − 66.5) / (0.175 · 66.5)) = Φ(−1.418) = 7.81 %."""
    assert shipped("myelopathy-burman").value(*uniform(50), 25) == pytest.approx(7.81, abs=0.01)


def test_geud_of_extremes():
    dose, volume = np.array([10.0, 20, 60]), np.array([1.0, 2, 1])
    assert biology.geud(dose, volume, 1.0) == pytest.approx(27.5)
    assert biology.geud(dose, volume, 0.5) == pytest.approx(math.sqrt((100 + 800 + 3600) / 4))
    assert biology.geud(dose, volume, 0.002) == pytest.approx(60 * 0.25**0.002)
    assert biology.geud(np.zeros(3), volume, 0.5) == 0


# ---------------------------------------------------------------------------------------------------------- control


def test_logistic_control_at_d50_and_its_slope():
    model = shipped("control-martel")
    assert model.value(*uniform(84.5), 84.5 / 2) == pytest.approx(50)
    up, down = (model.value(*uniform(84.5 * f), 84.5 * f / 2) / 100 for f in (1.001, 0.999))
    assert (up - down) / 0.002 == pytest.approx(model.gamma50, rel=1e-4)
    assert model.value(*uniform(66), 33) == pytest.approx(100 / (1 + (84.5 / 66) ** 6))


def test_logistic_control_of_parts_is_their_product():
    model = plain(biology.TcpLogistic, fraction_Gy=2, d50_Gy=70, gamma50=2)
    whole = [model.value(*uniform(dose), 33) / 100 for dose in (60, 80)]
    both = model.value(np.array([60.0, 80.0]), np.array([1.0, 3.0]), 33)
    assert both == pytest.approx(100 * whole[0] ** 0.25 * whole[1] ** 0.75)
    assert model.value(np.array([0.0, 80.0]), np.ones(2), 33) == 0


POISSON = {"alpha_per_Gy": 0.3, "alpha_beta_Gy": 10, "clonogens_per_cc": 1e7}


def test_poisson_control_of_one_radiosensitivity():
    model = plain(biology.TcpPoisson, alpha_sigma_per_Gy=0, **POISSON)
    survivors = 1e7 * 50 * math.exp(-0.3 * 66 * 1.2)
    assert model.value(*uniform(66, volume_cc=50), 33) == pytest.approx(100 * math.exp(-survivors))
    # Two parts: survivors add.
    dose, volume = np.array([60.0, 70.0]), np.array([20.0, 30.0])
    each = 1e7 * volume * np.exp(-0.3 * dose * (1 + dose / 330))
    assert model.value(dose, volume, 33) == pytest.approx(100 * math.exp(-each.sum()))


def test_poisson_control_with_few_survivors_is_a_lognormal_mean():
    """Few survivors: 1 − TCP is their mean, ρ V exp(−α B + σ² B² / 2)."""
    alpha, sigma, b = 0.05, 0.02, 40.0
    control = biology.poisson_control(
        *uniform(b, volume_cc=1), alpha_per_Gy=alpha, alpha_sigma_per_Gy=0.01, clonogens_per_cc=1e-5
    )
    assert 1 - control == pytest.approx(1e-5 * math.exp(-alpha * b + 0.01**2 * b**2 / 2), rel=2e-5)
    wide = biology.poisson_control(
        *uniform(b, volume_cc=1), alpha_per_Gy=0.3, alpha_sigma_per_Gy=sigma, clonogens_per_cc=1.0
    )
    assert 1 - wide == pytest.approx(math.exp(-0.3 * b + sigma**2 * b**2 / 2), rel=1e-4)


@pytest.mark.parametrize("name", ["control-marsden", "control-el-sharouni"])
@pytest.mark.parametrize("dose_Gy", [50, 66, 80])
def test_poisson_control_of_a_population(name, dose_Gy):
    """Adaptive quadrature over α of the same integral, written out by hand."""
    model = shipped(name)
    b = dose_Gy * (1 + dose_Gy / 33 / model.alpha_beta_Gy)
    grown = 2 ** ((44 - model.repopulation.kick_off_days) / model.repopulation.doubling_days)
    alpha = NormalDist(model.alpha_per_Gy, model.alpha_sigma_per_Gy)

    def control(a):
        return math.exp(-1e7 * 80 * grown * math.exp(-a * b)) * alpha.pdf(a)

    reach = 7 * model.alpha_sigma_per_Gy
    expected, _ = quad(control, model.alpha_per_Gy - reach, model.alpha_per_Gy + reach, epsabs=1e-12, limit=200)
    assert model.value(*uniform(dose_Gy, volume_cc=80), 33) == pytest.approx(100 * expected, abs=1e-4)


@pytest.mark.parametrize(
    ("fractions", "a_day", "a_week", "days"),
    [(1, 1, 5, 0), (5, 1, 5, 4), (6, 1, 5, 7), (30, 1, 5, 39), (33, 1, 5, 44), (44, 2, 5, 29), (36, 3, 7, 11)],
)
def test_overall_time(fractions, a_day, a_week, days):
    assert biology.overall_days(fractions, a_day, a_week) == days


def test_tumours_do_not_shrink_before_they_grow():
    numbers = {"doubling_days": 4, "kick_off_days": 21, "fractions_per_day": 1, "days_per_week": 5}
    growth = biology.Repopulation(**numbers)
    assert growth.growth(10) == 0
    assert growth.growth(20) == pytest.approx(math.log(2))  # 25 days after the first
    with_growth = plain(biology.TcpPoisson, alpha_sigma_per_Gy=0, repopulation=numbers, **POISSON)
    without = plain(biology.TcpPoisson, alpha_sigma_per_Gy=0, **POISSON)
    log = [math.log(m.value(*uniform(66), 20) / 100) for m in (with_growth, without)]
    assert log[0] / log[1] == pytest.approx(2)
