"""What must hold for complication and control of any dose."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrlinac import protocol as protocols
from mrlinac.protocol import biology
from mrlinac.protocol.eqd2 import bed, eqd2

MODELS = protocols.load("conventional-66in33").models
FEW = settings(max_examples=40, deadline=None, derandomize=True)
DOSES = st.lists(st.floats(0, 90), min_size=3, max_size=30)
RATIO = st.floats(1, 20)


def volumes(doses):
    """Uneven volumes that depend on nothing but the number of voxels."""
    return 0.5 + np.arange(len(doses)) % 3


@FEW
@given(st.integers(1, 45), RATIO)
def test_eqd2_of_two_gray_fractions_is_the_dose(fractions, ratio):
    assert eqd2(2.0 * fractions, fractions, ratio) == pytest.approx(2.0 * fractions)


@FEW
@given(DOSES, st.integers(1, 45), RATIO)
def test_larger_fractions_do_more(doses, fractions, ratio):
    dose = np.array(doses)
    at_most_2 = dose <= 2 * fractions
    assert np.all(eqd2(dose, fractions, ratio)[at_most_2] <= dose[at_most_2] * (1 + 1e-12))
    assert np.all(eqd2(dose, fractions, ratio)[~at_most_2] >= dose[~at_most_2] * (1 - 1e-12))
    assert np.all(bed(dose, fractions, ratio) >= dose)
    assert np.all(bed(dose, fractions + 1, ratio) <= bed(dose, fractions, ratio))


@pytest.mark.parametrize("name", MODELS)
@FEW
@given(doses=DOSES, where=st.integers(0, 29), more=st.floats(0.1, 20))
def test_more_dose_anywhere_never_means_less(name, doses, where, more):
    model, dose = MODELS[name], np.array(doses)
    raised = dose.copy()
    raised[where % len(dose)] += more
    before, after = (model.value(d, volumes(doses), 33) for d in (dose, raised))
    assert after >= before - 1e-9
    if model.unit == "%":
        assert 0 <= before <= 100


@pytest.mark.parametrize("name", MODELS)
@FEW
@given(doses=DOSES, order=st.randoms(use_true_random=False))
def test_only_the_dvh_counts(name, doses, order):
    """Voxels in any order, and cut in two, give the same number."""
    model, dose, volume = MODELS[name], np.array(doses), volumes(doses)
    mixed = order.sample(range(len(doses)), len(doses))
    cut = np.concatenate([dose[mixed]] * 2), np.concatenate([0.25 * volume[mixed], 0.75 * volume[mixed]])
    assert model.value(*cut, 33) == pytest.approx(model.value(dose, volume, 33), rel=1e-9, abs=1e-12)


@FEW
@given(DOSES, st.floats(0.02, 1))
def test_geud_lies_between_mean_and_maximum(doses, n):
    dose, volume = np.array(doses), volumes(doses)
    value = biology.geud(dose, volume, n)
    assert np.average(dose, weights=volume) <= value + 1e-9
    assert value <= dose.max() + 1e-9
    assert biology.geud(dose, volume, n / 2) >= value - 1e-9
