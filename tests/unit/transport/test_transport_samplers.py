"""Each sampler against its formula: large samples through one compiled loop, or the interpreted function itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

from mrlinac.jit import kernel
from mrlinac.transport import electron, photon, rng, scatter, source, tables

COUNT = 200_000
MEC2 = 0.51099895


@kernel
def fill_klein_nishina(out, energy, state):
    for i in range(out.shape[0]):
        out[i, 0], out[i, 1] = photon.klein_nishina(energy, state)


@kernel
def fill_photoelectron(out, kinetic, state):
    for i in range(out.shape[0]):
        out[i] = photon.photoelectron_cos(kinetic, state)


@kernel
def fill_pair(out, energy, z, state):
    for i in range(out.shape[0]):
        out[i] = photon.pair_fraction(energy, z, state)


@kernel
def fill_moller(out, kinetic, cut, state):
    for i in range(out.shape[0]):
        out[i] = electron.moller(kinetic, cut, state)


@kernel
def fill_bhabha(out, kinetic, cut, state):
    for i in range(out.shape[0]):
        out[i] = electron.bhabha(kinetic, cut, state)


@kernel
def fill_annihilation(out, kinetic, state):
    for i in range(out.shape[0]):
        out[i] = electron.annihilation(kinetic, state)


@kernel
def fill_scatter(out, collisions, q1, w, scale, state):
    for i in range(out.shape[0]):
        out[i] = scatter.multiple(collisions, q1, w, scale, state)


@kernel
def fill_energy(out, edge, accept, other, state):
    for i in range(out.shape[0]):
        out[i] = source.photon_energy(edge, accept, other, state)


@kernel
def fill_uniform(out, name, state):
    for i in range(out.shape[0]):
        if i % 10 == 0:
            rng.start(state, i // 10, name)
        out[i] = rng.uniform(state)


def state(number: int = 1) -> np.ndarray:
    """A started generator."""
    result = np.zeros(2, np.uint64)
    rng.start.py_func(result, number, rng.words(7, 1, 2, -3, 4))
    return result


def agrees(sample: np.ndarray, density, low: float, high: float, sigmas: float = 4.5) -> bool:
    """Whether mean and mean square of a sample are those of a density, within its standard errors."""
    norm = integrate.quad(density, low, high, limit=200)[0]
    for power in (1, 2):
        wanted = integrate.quad(lambda x, p=power: x**p * density(x), low, high, limit=200)[0] / norm
        values = sample**power
        if abs(values.mean() - wanted) > sigmas * values.std() / math.sqrt(len(values)):
            return False
    return True


def test_philox_known_answers():
    # Random123's kat_vectors, philox4x32 10: counter and key all zero, and all ones.
    zero = rng.philox.py_func(*[np.uint64(0)] * 6)
    assert [int(w) for w in zero] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = rng.philox.py_func(*[np.uint64(0xFFFFFFFF)] * 6)
    assert [int(w) for w in ones] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


@kernel
def fill_exponential(out, state):
    for i in range(out.shape[0]):
        before = state[0] + state[1]
        out[i, 0] = rng.exponential(state)
        out[i, 1] = -math.log(1.0 - np.float64(np.int64(before >> np.uint64(11))) * rng.TO_UNIT)


def test_exponential_is_the_logarithm_of_a_uniform_number():
    out, state = np.empty((COUNT, 2)), np.array([3, 5], np.uint64)
    fill_exponential(out, state)
    np.testing.assert_allclose(out[:, 0], out[:, 1], rtol=1e-11)
    assert out[:, 0].mean() == pytest.approx(1.0, abs=5 / math.sqrt(COUNT))
    with np.errstate(over="ignore"):
        state[:] = 0, 1 << 11  # a uniform number of 2^-53: the shortest flight that is not 0
        assert rng.exponential.py_func(state) == pytest.approx(2.0**-53, rel=1e-9)


def test_streams_are_uniform_and_independent_of_order():
    out = np.empty(COUNT)
    fill_uniform(out, rng.words(1, 2, 3, 4, 5), np.zeros(2, np.uint64))
    assert out.min() >= 0
    assert out.max() < 1
    expected = COUNT / 100
    chi2 = np.sum((np.histogram(out, 100, (0, 1))[0] - expected) ** 2) / expected
    assert 50 < chi2 < 170
    # First numbers of neighbouring histories are not correlated.
    first = out[::10]
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 4 / math.sqrt(len(first))
    again = np.empty(10)
    fill_uniform(again, rng.words(1, 2, 3, 4, 6), np.zeros(2, np.uint64))
    assert not np.array_equal(again, out[:10])


def test_interpreted_and_compiled_agree():
    compiled = np.empty((50, 2))
    fill_klein_nishina(compiled, 1.7, state())
    interpreted, generator = np.empty((50, 2)), state()
    for i in range(50):
        interpreted[i] = photon.klein_nishina.py_func(1.7, generator)
    assert interpreted == pytest.approx(compiled, rel=1e-12)


@pytest.mark.parametrize("energy", [0.06, 0.5, 2.0, 6.0])
def test_klein_nishina(energy):
    out = np.empty((COUNT, 2))
    fill_klein_nishina(out, energy, state())
    alpha = energy / MEC2

    def density(eps):
        one = (1 - eps) / (alpha * eps)
        return 1 / eps + eps - one * (2 - one)

    assert agrees(out[:, 0], density, 1 / (1 + 2 * alpha), 1.0)
    assert not agrees(out[:, 0] * 1.02, density, 1 / (1 + 2 * alpha), 1.0)
    assert out[:, 1] == pytest.approx(1 - (1 / out[:, 0] - 1) / alpha, abs=1e-12)


@pytest.mark.parametrize("energy", [0.2, 1.0, 5.0])
def test_compton_electron_conserves_momentum(energy):
    for eps in (0.3, 0.6, 0.95):
        if eps < 1 / (1 + 2 * energy / MEC2):
            continue
        cos = 1 - (1 / eps - 1) * MEC2 / energy
        kinetic = energy * (1 - eps)
        p = math.sqrt(kinetic * (kinetic + 2 * MEC2))
        cos_e = photon.compton_electron_cos.py_func(energy, eps)
        assert p * cos_e + energy * eps * cos == pytest.approx(energy)
        assert p * math.sqrt(1 - cos_e**2) == pytest.approx(energy * eps * math.sqrt(1 - cos**2), abs=1e-9)


@pytest.mark.parametrize("kinetic", [0.05, 0.3, 1.5])
def test_photoelectron_angle(kinetic):
    out = np.empty(COUNT)
    fill_photoelectron(out, kinetic, state())
    gamma = 1 + kinetic / MEC2
    beta = math.sqrt(1 - 1 / gamma**2)

    def density(cos):
        return (1 - cos**2) / (1 - beta * cos) ** 4 * (1 + 0.5 * gamma * (gamma - 1) * (gamma - 2) * (1 - beta * cos))

    assert agrees(out, density, -1, 1)


def test_pair_shares_are_symmetric():
    for energy in (1.5, 3.0, 6.0):
        out = np.empty(COUNT)
        fill_pair(out, energy, 7.5, state())
        assert out.min() >= 0
        assert out.max() <= 1
        assert out.mean() == pytest.approx(0.5, abs=5 * out.std() / math.sqrt(COUNT))


@pytest.mark.parametrize("kinetic", [0.5, 1.0, 5.0])
def test_moller(kinetic):
    out = np.empty(COUNT)
    fill_moller(out, kinetic, 0.2, state())
    gamma = 1 + kinetic / MEC2

    def density(given):
        e = given / kinetic
        return 1 / e**2 + 1 / (1 - e) ** 2 + ((gamma - 1) / gamma) ** 2 - (2 * gamma - 1) / gamma**2 / (e * (1 - e))

    assert agrees(out, density, 0.2, kinetic / 2)
    beta2 = 1 - 1 / gamma**2
    whole = integrate.quad(density, 0.2, kinetic / 2)[0]
    wanted = 2 * np.pi * 2.8179403e-13**2 * MEC2 / (beta2 * kinetic**2) * whole
    assert tables.moller_per_electron_cm2(np.array([kinetic]), 0.2)[0] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("kinetic", [0.5, 1.0, 5.0])
def test_bhabha(kinetic):
    out = np.empty(COUNT)
    fill_bhabha(out, kinetic, 0.2, state())
    gamma = 1 + kinetic / MEC2
    beta2, y = 1 - 1 / gamma**2, 1 / (gamma + 1)
    b1, b2 = 2 - y**2, (1 - 2 * y) * (3 + y**2)
    b3, b4 = (1 - 2 * y) ** 2 + (1 - 2 * y) ** 3, (1 - 2 * y) ** 3

    def density(given):
        e = given / kinetic
        return 1 / (beta2 * e**2) - b1 / e + b2 - b3 * e + b4 * e**2

    assert agrees(out, density, 0.2, kinetic)
    wanted = 2 * np.pi * 2.8179403e-13**2 * MEC2 / kinetic**2 * integrate.quad(density, 0.2, kinetic)[0]
    assert tables.bhabha_per_electron_cm2(np.array([kinetic]), 0.2)[0] == pytest.approx(wanted, rel=1e-6)


def test_annihilation_in_flight():
    for kinetic in (0.3, 2.0):
        out = np.empty(COUNT)
        fill_annihilation(out, kinetic, state())
        gamma = 1 + kinetic / MEC2

        def density(z, gamma=gamma):
            return -((gamma + 1) ** 2) + (gamma**2 + 4 * gamma + 1) / z - 1 / z**2

        low = 1 / (gamma + 1 + math.sqrt(gamma**2 - 1))
        assert agrees(out, density, low, 1 - low)


@pytest.mark.parametrize("collisions", [10.0, 300.0, 5000.0])
@pytest.mark.parametrize("q1", [0.01, 0.1, 0.5])
def test_goudsmit_saunderson_moments(collisions, q1):
    """The first Legendre moment of the deflection is exp(−Q1), the second exp(−λ(1 − m2)) of the cross section."""
    w, scale = scatter.load()
    out = np.empty(COUNT)
    fill_scatter(out, collisions, q1, w, scale, state())
    lost = math.exp(-collisions)
    wanted = (math.exp(-q1) - lost) / (1 - lost)
    cos = 1 - out
    assert cos.mean() == pytest.approx(wanted, abs=5 * cos.std() / math.sqrt(COUNT) + 0.004 * q1)
    eta = scatter.screening_of(np.array([q1 / collisions]))
    second = scatter.legendre_moments(eta, 3)[2, 0]
    wanted = (math.exp(-collisions * (1 - second)) - lost) / (1 - lost)
    p2 = 1.5 * cos**2 - 0.5
    assert p2.mean() == pytest.approx(wanted, abs=5 * p2.std() / math.sqrt(COUNT) + 0.01 * q1)


def test_legendre_moments_by_quadrature():
    eta = np.array([1e-3])
    moments = scatter.legendre_moments(eta, 40)[:, 0]
    for order in (0, 1, 2, 7, 30):
        polynomial = np.polynomial.legendre.Legendre.basis(order)

        def shape(log_t, polynomial=polynomial):
            t = math.exp(log_t)
            return polynomial(1 - t) * (1 - scatter.SPIN * t / 2) / (t + 2e-3) ** 2 * t

        value = integrate.quad(shape, math.log(1e-9), math.log(2.0), limit=400)[0]
        assert moments[order] == pytest.approx(value / float(scatter.total(eta)[0]), abs=2e-6)


def test_spectrum():
    edge, weight = np.array([0.0, 1.0, 2.0, 5.0]), np.array([1.0, 3.0, 2.0])
    accept, other = source.alias(weight)
    out = np.empty(COUNT)
    fill_energy(out, edge, accept, other, state())
    share = np.histogram(out, edge)[0] / COUNT
    assert share == pytest.approx(weight / 6, abs=0.006)
    assert out.mean() == pytest.approx((0.5 + 3 * 1.5 + 2 * 3.5) / 6, rel=0.01)


def test_row_of_energy():
    grid = tables.energy_grid_MeV()
    for energy in (0.0157, 0.05, 0.777, 1.0, 5.999, 15.9):
        row, part = tables.row_of.py_func(energy)
        assert grid[row] <= energy < grid[row + 1]
        assert grid[row] + part * (grid[row + 1] - grid[row]) == pytest.approx(energy)


def test_field_turns_electrons_as_the_reference_has_it():
    """B along +y turns an electron that goes along +z towards +x; the angle is exact, the length kept."""
    u, v, w = electron.rotate.py_func(0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.3)
    assert (u, v, w) == pytest.approx((math.sin(0.3), 0.0, math.cos(0.3)), abs=1e-9)
    b = np.array([0.3, -0.5, 0.8]) / math.sqrt(0.98)
    direction = np.array([0.6, 0.8, 0.0])
    for _ in range(100):
        direction = np.array(electron.rotate.py_func(*direction, *b, 2 * math.pi / 100))
    assert direction == pytest.approx((0.6, 0.8, 0.0), abs=1e-8)
