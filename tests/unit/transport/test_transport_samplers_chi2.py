"""Samplers against their densities by chi-square: those that take a table, and the shapes that moments do not show."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats
from test_transport_samplers import COUNT, MEC2, fill_klein_nishina, fill_pair, state

from mrlinac.jit import kernel
from mrlinac.transport import brems, electron, flight, materials, photon, rng, scatter, tables


@kernel
def fill_single(out, eta, generator):
    for i in range(out.shape[0]):
        out[i] = scatter.single(eta, generator)


@kernel
def fill_poisson(out, mean, generator):
    for i in range(out.shape[0]):
        out[i] = scatter.poisson(mean, generator)


@kernel
def fill_brems(out, position, quantile, cut, kinetic, generator):
    for i in range(out.shape[0]):
        out[i] = electron.brems_energy(position, quantile, cut, kinetic, generator)


@kernel
def fill_coherent(out, energy, form, generator):
    for i in range(out.shape[0]):
        out[i] = flight.coherent_cos(energy, form, generator)


@kernel
def fill_bound(out, energy, table, generator):
    for i in range(out.shape[0]):
        _eps, cos = photon.klein_nishina(energy, generator)
        while not flight.bound_compton(energy, cos, 0, table, generator):
            _eps, cos = photon.klein_nishina(energy, generator)
        out[i] = cos


@kernel
def fill_dipole(out, beta, generator):
    for i in range(out.shape[0]):
        out[i] = photon.dipole_cos(beta, rng.uniform(generator))


def expected_counts(density, edges: np.ndarray) -> np.ndarray:
    """What a sample of COUNT should have between edges, by Simpson's rule on 200 pieces of each bin."""
    share = []
    for low, high in itertools.pairwise(edges):
        x = np.linspace(low, high, 201)
        share.append(integrate.simpson([density(v) for v in x], x=x))
    return np.array(share) / np.sum(share) * COUNT


def p_value(sample: np.ndarray, density, edges: np.ndarray) -> float:
    """Chance of a worse chi-square: counts between edges against the integral of a density."""
    counts, expected = np.histogram(sample, edges)[0], expected_counts(density, edges)
    assert counts.sum() == len(sample)
    return float(stats.chi2.sf(np.sum((counts - expected) ** 2 / expected), len(expected) - 1))


@pytest.mark.parametrize("energy", [0.1, 1.25, 6.0])
def test_klein_nishina_shape(energy):
    out = np.empty((COUNT, 2))
    fill_klein_nishina(out, energy, state(11))
    alpha = energy / MEC2

    def density(eps):
        one = (1 / eps - 1) / alpha
        return 1 / eps + eps - one * (2 - one)

    edges = np.linspace(1 / (1 + 2 * alpha), 1, 41)
    assert p_value(out[:, 0], density, edges) > 1e-4
    assert p_value(out[:, 0], lambda eps: density(eps) * (1 + 0.5 * eps), edges) < 1e-4


@pytest.mark.parametrize("eta", [1e-5, 1e-3, 0.1])
def test_single_elastic_collision(eta):
    out = np.empty(COUNT)
    fill_single(out, eta, state(12))
    edges = np.concatenate([[0], np.geomspace(0.2 * eta, 2, 30)])
    edges = edges[np.concatenate([[True], np.diff(edges) > 0])]

    def density(t):
        return (1 - scatter.SPIN * t / 2) / (t + 2 * eta) ** 2

    keep = edges[edges < min(2, 2000 * eta)]
    assert p_value(out, density, np.append(keep, 2.0)) > 1e-4


@pytest.mark.parametrize("mean", [0.3, 3.0, 8.0])
def test_poisson(mean):
    out = np.empty(COUNT)
    fill_poisson(out, mean, state(13))
    top = int(stats.poisson.ppf(1 - 1e-4, mean))
    expected = stats.poisson.pmf(np.arange(top), mean) * COUNT
    counts = np.array([np.sum(out == n) for n in range(top)])
    expected, counts = np.append(expected, COUNT - expected.sum()), np.append(counts, COUNT - counts.sum())
    assert stats.chi2.sf(np.sum((counts - expected) ** 2 / expected), top) > 1e-4


@pytest.mark.parametrize("name", ["water", "tungsten"])
@pytest.mark.parametrize("kinetic", [0.5, 4.0])
def test_bremsstrahlung_spectrum(name, kinetic):
    """Seltzer and Berger's shape; the table's 128 quantiles cost less than 1 % in a bin."""
    energy = tables.energy_grid_MeV()
    row = int(np.flatnonzero(energy == kinetic)[0])
    table = tables.load(("water", "tungsten"))
    cut = 0.05
    out = np.empty(COUNT)
    fill_brems(out, float(row), table.brems[("water", "tungsten").index(name)], cut, kinetic, state(14))
    edges = np.geomspace(cut, kinetic, 16)
    curve = brems.scaled_mb(name, kinetic, np.linspace(0, 1, 2001))

    def density(k):
        return float(np.interp(k / kinetic, np.linspace(0, 1, 2001), curve)) / k

    expected = expected_counts(density, edges)
    counts = np.histogram(out, edges * [1 - 1e-6, *[1] * 14, 1 + 1e-6])[0]
    assert np.all(np.abs(counts - expected) < 4.5 * np.sqrt(expected) + 0.01 * expected)


@pytest.mark.parametrize("energy", [0.06, 0.5])
def test_coherent_angle(energy):
    out = np.empty(COUNT)
    fill_coherent(out, energy, tables.load(("water",)).form[0], state(15))
    edges = 1 - np.concatenate([[2.0], np.geomspace(1.2, 3e-4 / energy**2, 15), [0.0]])

    def density(cos):
        x = energy / tables.HC_MeV_ANGSTROM * math.sqrt((1 - cos) / 2)
        return float(materials.form_factor_squared("water", x)) * (1 + cos * cos)

    expected = expected_counts(density, edges)
    counts = np.histogram(out, edges)[0]
    assert np.all(np.abs(counts - expected) < 4.5 * np.sqrt(expected) + 0.02 * expected)


@pytest.mark.parametrize("energy", [0.03, 0.1])
def test_bound_compton_angle(energy):
    table = tables.load(("water",), tables.Settings(photon_cut_MeV=0.02))
    out = np.empty(COUNT)
    fill_bound(out, energy, table, state(16))
    alpha = energy / MEC2

    def density(cos):
        ratio = 1 / (1 + alpha * (1 - cos))
        x = energy / tables.HC_MeV_ANGSTROM * math.sqrt((1 - cos) / 2)
        s = float(materials.incoherent_function("water", x))
        return ratio**2 * (ratio + 1 / ratio - 1 + cos * cos) * s

    edges = np.linspace(-1, 1, 31)
    expected = expected_counts(density, edges)
    counts = np.histogram(out, edges)[0]
    assert np.all(np.abs(counts - expected) < 4.5 * np.sqrt(expected) + 0.01 * expected)


@pytest.mark.parametrize("beta", [0.3, 0.95, 0.999])
def test_dipole_angle(beta):
    out = np.empty(COUNT)
    fill_dipole(out, beta, state(17))
    assert p_value(out, lambda cos: 1 / (1 - beta * cos) ** 2, np.linspace(-1, 1, 21)) > 1e-4


@pytest.mark.parametrize("energy", [3.0, 10.0])
def test_pair_shape(energy):
    """Bethe-Heitler with screening (Motz, Olsen, Koch 1969), written anew."""
    z = 7.5
    out = np.empty(COUNT)
    fill_pair(out, energy, z, state(18))
    x0 = MEC2 / energy

    def screening(delta):
        if delta <= 1:
            return 20.867 - 3.242 * delta + 0.625 * delta**2, 20.209 - 1.930 * delta - 0.086 * delta**2
        return (21.12 - 4.184 * math.log(delta + 0.952),) * 2

    def density(share):
        x = x0 + (1 - 2 * x0) * share
        f1, f2 = screening(136 * x0 / z ** (1 / 3) / (x * (1 - x)))
        c = 4 / 3 * math.log(z)
        return max(0.0, (x * x + (1 - x) ** 2) * (f1 - c) + 2 / 3 * x * (1 - x) * (f2 - c))

    assert p_value(out, density, np.linspace(0, 1, 31)) > 1e-4
