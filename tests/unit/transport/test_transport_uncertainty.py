"""The reported standard deviation against the scatter of independent seeds; the batches of a run."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.transport import simulate, source
from mrlinac.transport.source import Emission


def slab() -> tuple[Medium, np.ndarray, Emission]:
    """Water, lung, water in voxels of 6 mm, and a field of 40 × 40 mm² at 1 m."""
    grid = Grid((16, 14, 14), (6.0, 6.0, 6.0), (-39.0, -39.0, 3.0))
    density, material = np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8)
    density[5:10], material[5:10] = 0.26, 1
    rows = np.zeros((1, source.COLUMNS))
    rows[0, :3] = np.array([0, 0, -1000.0]) - np.array(grid.lower_xyz_mm)
    rows[0, 3:12] = [1, 0, 0, 0, -1, 0, 0, 0, -1]
    rows[0, source.SAD] = rows[0, source.COLLIMATOR] = 1000.0
    rows[0, source.U0 : source.V1 + 1] = [-20, 20, -20, 20]
    rows[0, source.INVERSE_FLUENCE] = 1
    emission = Emission.of(
        np.array([0.2, 2.0, 6.0]), np.array([0.7, 0.3]), np.array([0.0, 200.0]), np.array([1.0, 1.0])
    )
    return Medium(grid, density, material, ("water", "lung-icru")), rows, emission


def runs(count: int, photons: int) -> list[simulate.Outcome]:
    medium, rows, emission = slab()
    return [
        simulate.simulate(
            medium,
            rows,
            np.ones(1),
            emission,
            field_xyz_T=(0, 1.5, 0),
            photons=photons,
            seed=100 + i,
            threads=1,
            batches=24,
        )
        for i in range(count)
    ]


def judge(outcomes: list[simulate.Outcome]) -> tuple[float, float, float, float]:
    """Empirical over reported variance in the field with its σ, and the correlation of a run's batches with its σ.

    The ratio is the mean over voxels of the variance across seeds over the mean of what the runs report. Neighbouring
    voxels share tracks, so its σ is taken from the seeds: each gives Σ (deviation²/variance) by itself.
    """
    energy = np.array([o.energy_MeV for o in outcomes])[:, 1:-1, 5:9, 5:9].reshape(len(outcomes), -1)
    reported = np.mean([o.sigma_MeV**2 for o in outcomes], 0)[1:-1, 5:9, 5:9].ravel()
    each = ((energy - energy.mean(0)) ** 2 / reported).mean(1) * len(energy) / (len(energy) - 1)
    part = np.array([[one[1:-1, 5:9, 5:9].ravel() for one in o.part_MeV] for o in outcomes])
    part = part[:, :, (part.std(0) > 0).all(0)]
    part = (part - part.mean(0)) / part.std(0, ddof=1)
    product = (part[:, :-1] * part[:, 1:]).mean((1, 2))  # each with the next
    n = np.sqrt(len(each))
    return each.mean(), each.std(ddof=1) / n, product.mean(), product.std(ddof=1) / n


def test_reported_variance_is_the_scatter_of_seeds():
    outcomes = runs(30, 6000)
    ratio, sigma, correlation, spread = judge(outcomes)
    assert sigma < 0.06
    assert abs(ratio - 1) < 4 * sigma
    assert abs(1.5 * ratio - 1) > 4 * sigma  # a variance wrong by half would be seen
    assert abs(correlation) < 4 * spread


@pytest.mark.validation
def test_reported_variance_long(claim):
    outcomes = runs(50, 60_000)
    ratio, sigma, correlation, spread = judge(outcomes)
    claim(
        "uncertainty-variance",
        "Variance of a voxel's dose over 50 independent seeds, over the variance that the runs report (mean of 224 "
        "voxels in the beam, 1.5 T)",
        "definition",
        "1 within 3σ",
        ratio,
        sigma,
    )
    text = "Correlation of a voxel's dose in a run's batch with that in the next"
    claim("uncertainty-batches", text, "definition", "0 within 3σ", correlation, spread)
    assert abs(ratio - 1) < 3 * sigma
    assert abs(correlation) < 3 * spread
    # Single voxels: Σ deviation²/variance over the seeds follows χ² with 49 degrees of freedom (reported variances
    # themselves scatter by 5 %). All but a few must lie inside its bounds of 1 in 10 000.
    energy = np.array([o.energy_MeV for o in outcomes])[:, 1:-1, 5:9, 5:9].reshape(50, -1)
    reported = np.mean([o.sigma_MeV**2 for o in outcomes], 0)[1:-1, 5:9, 5:9].ravel()
    chi2 = ((energy - energy.mean(0)) ** 2).sum(0) / reported
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], 49)
    assert np.mean((chi2 < low) | (chi2 > high)) <= 2 / chi2.size


@pytest.mark.parametrize("batches", [2, 3, 12])
def test_the_standard_deviation_of_a_mean_is_from_one_batch_less(batches):
    """12 batches would hide 4 % of it, two 41 %."""
    values = np.random.default_rng(2).uniform(1, 2, (batches, 5))
    mean, sigma = simulate._mean_sigma(values.sum(0), (values**2).sum(0), batches)
    np.testing.assert_allclose(mean, values.mean(0))
    np.testing.assert_allclose(sigma, values.std(0, ddof=1) / np.sqrt(batches), rtol=1e-9)  # a difference of squares


def test_the_mean_is_that_of_the_batches():
    """Thirty batches in twelve parts: some of two, some of three."""
    medium, rows, emission = slab()
    given = {"field_xyz_T": (0, 1.5, 0), "photons": 6000, "seed": 1, "threads": 1, "batches": 30}
    outcome = simulate.simulate(medium, rows, np.ones(1), emission, **given)
    assert sorted(set(outcome.part_primaries)) == [400, 600]
    assert sum(outcome.part_primaries) == 6000
    weighted = np.average(outcome.part_MeV, axis=0, weights=outcome.part_primaries)
    assert weighted == pytest.approx(outcome.energy_MeV, rel=1e-5, abs=1e-9)
