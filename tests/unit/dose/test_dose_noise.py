"""Noise of a dose: its bias in a metric taken away, its standard deviation right, over replicates of known truth."""

from __future__ import annotations

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose import noise
from mrlinac.dose.dose import Batches, Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.provenance import Provenance

GRID = Grid((24, 28, 28), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
Z, Y, X = np.meshgrid(GRID.z_mm - 34.5, GRID.y_mm - 40.5, GRID.x_mm - 40.5, indexing="ij")
RADIUS_mm = np.sqrt(X**2 + Y**2 + Z**2)
TRUE_Gy = (66 / (1 + np.exp((RADIUS_mm - 34) / 3)) * (1 + 0.015 * np.sin(X / 7) * np.cos(Y / 9))).astype(np.float32)
"""A target with ripples of 1.5 %, and a gradient about it."""
STRUCTURES = StructureSet(
    GRID,
    {
        "PTV": Structure("PTV", "target", (RADIUS_mm < 26).astype(np.float32)),
        "Cord": Structure("Cord", "oar", ((abs(X - 36) < 5) & (abs(Y) < 5)).astype(np.float32)),
        "Body": Structure("Body", "oar", np.ones(GRID.shape_zyx, np.float32)),
    },
)
METRICS = {
    "PTV D98%": ("PTV", "D98%"),
    "PTV D2%": ("PTV", "D2%"),
    "PTV V97%": ("PTV", "V97%[%]"),
    "PTV HI": ("PTV", "HI"),
    "Cord D0.1cc": ("Cord", "D0.1cc"),
    "Body mean": ("Body", "mean"),
    "Body V20": ("Body", "V20Gy[%]"),
}


def figures(dose, like=None, *, whole=True):
    sampled = Sampled(dose, STRUCTURES, like=like)
    asked = {name: of for name, of in METRICS.items() if whole or of[0] != "Body"}
    return sampled, {name: sampled.metric(s, text, 66.0) for name, (s, text) in asked.items()}


@pytest.fixture(scope="module")
def truth():
    _, found = figures(Dose(GRID, TRUE_Gy, None, 1, Provenance("x", "test")))
    return {name: figure.value for name, figure in found.items()}


@pytest.fixture(scope="module")
def replicates(noisy, shared):
    """Eight at 4 % and at 2 % of the maximum, forty at 1 %, of independent noise; the whole grid in twelve of them."""

    def make():
        first, made = None, {}
        for percent, count in ((4, 8), (2, 8), (1, 40)):
            found = []
            for seed in range(count):
                dose = noisy(GRID, TRUE_Gy, 66 * percent / 100 * np.sqrt(TRUE_Gy / 66), 100 * percent + seed)
                sampled, values = figures(dose, first, whole=seed < 12)
                first = first or sampled
                found.append(values)
            made[percent] = {name: [one[name] for one in found if name in one] for name in METRICS}
        return made

    return shared("noise-replicates", make)


def test_without_batches_a_number_is_as_it_is(truth):
    _, found = figures(Dose(GRID, TRUE_Gy, None, 1, Provenance("x", "test")))
    for figure in found.values():
        assert figure.value == figure.raw
        assert np.isnan(figure.sigma)


@pytest.mark.parametrize("name", METRICS)
def test_four_two_and_one_percent_of_noise_give_the_same_metric(replicates, truth, name):
    """Within the standard deviation of one plan, at each noise: the mean of eight shows the bias that is left."""
    for percent, found in replicates.items():
        values = np.array([one.value for one in found[name]])
        sigma = np.sqrt(np.mean([one.sigma**2 for one in found[name]]))
        of_mean = values.std(ddof=1) / np.sqrt(len(values))
        rounding = 2e-4 * abs(truth[name])  # of the samples themselves
        assert abs(values.mean() - truth[name]) < 1.3 * sigma + 2 * of_mean + rounding, percent


@pytest.mark.parametrize("name", ["PTV D98%", "PTV D2%", "PTV V97%", "PTV HI"])
def test_most_of_the_bias_goes(replicates, truth, name):
    """What is seen at 4 % is several standard deviations off; less than a third of it stays."""
    found = replicates[4][name]
    raw, value = (np.mean([getattr(one, which) for one in found]) - truth[name] for which in ("raw", "value"))
    assert abs(raw) > 3 * found[0].sigma
    assert abs(value) < abs(raw) / 3


@pytest.mark.parametrize("name", METRICS)
def test_sigma_is_the_scatter_of_replicates(replicates, name):
    """The scatter of forty is known to 11 %, of twelve to 21 %; σ of a volume in many voxels is a third too large."""
    found = replicates[1][name]
    scatter = np.std([one.value for one in found], ddof=1)
    sigma = np.sqrt(np.mean([one.sigma**2 for one in found]))
    assert 0.72 < sigma / scatter < (2.0 if name.startswith("Body") else 1.6)


def test_as_many_of_forty_lie_within_one_and_two_sigma_as_should(replicates):
    """Of all metrics of the target and the cord about their mean: 27 and 38 of forty, by the binomial ± 3 and ± 1.4."""
    within = {1: [], 2: []}
    for name in [name for name in METRICS if not name.startswith("Body")]:
        found = replicates[1][name]
        centre = np.mean([one.value for one in found])
        for times, counts in within.items():
            counts.append(sum(abs(one.value - centre) <= times * one.sigma for one in found))
    assert 22 <= np.mean(within[1]) <= 34
    assert min(within[1]) >= 18
    assert np.mean(within[2]) >= 35


def test_a_pair_of_half_runs_would_not_do(replicates):
    """What was shown before: the difference of one pair scatters by its own size, eleven balanced pairs by a third."""
    sigmas = np.array([one.sigma for one in replicates[1]["PTV D98%"]])
    assert sigmas.std() / sigmas.mean() < 0.45  # of one pair: 0.76


def test_halves_are_balanced():
    halves = noise.balanced_halves()
    assert halves.shape == (11, 12)
    assert (halves.sum(1) == 6).all()
    shared_ = halves.astype(int) @ halves.T.astype(int)
    assert (shared_[~np.eye(11, dtype=bool)] == 3).all()


def test_the_spread_of_a_mean_is_its_standard_error():
    """Exactly: the halves are rows of a Hadamard matrix, whatever the twelve values."""
    values = np.random.default_rng(1).standard_normal(12) ** 3
    halves = noise.balanced_halves()
    firsts, seconds = ([values[rows].mean() for rows in which] for which in (halves, ~halves))
    assert noise.spread(firsts, seconds, np.full(11, 0.5)) == pytest.approx(values.std(ddof=1) / np.sqrt(12))


def test_another_number_of_batches_tells_no_noise():
    rng = np.random.default_rng(2)
    parts = TRUE_Gy * (1 + 0.05 * rng.standard_normal((5, *GRID.shape_zyx)))
    batches = Batches((parts / parts.mean(0) - 1).astype(np.float16), (10,) * 5)
    _, found = figures(Dose(GRID, parts.mean(0).astype(np.float32), None, 1, Provenance("x", "test"), batches))
    assert all(np.isnan(one.sigma) for one in found.values())


def test_batches_of_unequal_size_count_by_their_primaries(noisy):
    """Half of the batches five times as long as the others, each with its own noise: the mean weights them so."""
    rng = np.random.default_rng(3)
    primaries = np.array([500, 100] * 6)
    parts = TRUE_Gy + 2.0 * rng.standard_normal((12, *GRID.shape_zyx)) / np.sqrt(primaries / 300)[:, None, None, None]
    mean = np.average(parts, axis=0, weights=primaries).astype(np.float32)
    batches = Batches((parts / mean - 1).astype(np.float16), tuple(primaries.tolist()))
    sampled = Sampled(Dose(GRID, mean, None, 1, Provenance("x", "test"), batches), STRUCTURES)
    figure = sampled.metric("PTV", "mean")
    voxels = STRUCTURES["PTV"].occupancy.sum()
    assert figure.value == pytest.approx(TRUE_Gy[STRUCTURES["PTV"].occupancy > 0].mean(), abs=0.1)
    assert figure.sigma == pytest.approx(2.0 / np.sqrt(12 * voxels), rel=0.6)


def test_halves_weigh_batches_and_themselves_by_their_primaries():
    primaries = 100 * np.arange(1, 13)
    known = noise.noise_in(np.random.default_rng(4).uniform(60, 66, (12, 50)), np.ones(50), primaries)
    for half, (first, second), share in zip(noise.balanced_halves(), known.weights, known.shares, strict=True):
        np.testing.assert_allclose(first, half * primaries / primaries[half].sum())
        np.testing.assert_allclose(second, ~half * primaries / primaries[~half].sum())
        assert share == pytest.approx(primaries[half].sum() / primaries.sum())


def test_the_spread_of_unequal_halves_is_the_standard_deviation_of_the_whole():
    """One batch has half of all primaries. The square scatters by √(2/11) at least; of 4000 its mean by 1 %."""
    primaries, rng, squares = np.array([1100] + [100] * 11), np.random.default_rng(5), []
    halves, share = noise.balanced_halves(), primaries / primaries.sum()
    for values in rng.standard_normal((4000, 12)) / np.sqrt(share):  # their weighted mean has a variance of 1
        firsts, seconds = ([np.average(values[h], weights=share[h]) for h in which] for which in (halves, ~halves))
        squares.append(noise.spread(firsts, seconds, halves @ share) ** 2)
    assert np.mean(squares) == pytest.approx(1, abs=5 * np.std(squares) / np.sqrt(4000))
    assert np.std(squares) < 1.5


@pytest.mark.parametrize("name", ["D2%", "D98%"])
def test_the_bias_of_batches_of_unequal_size_goes_too(truth, name):
    """Half of the batches five times as long: what their lengths do to their DVHs is no scatter of the fit."""
    primaries, raw, value = np.array([500, 100] * 6), [], []
    sigma_Gy = 1.5 * np.sqrt(primaries.sum() / primaries)[:, None, None, None]
    for seed in range(4):
        parts = TRUE_Gy + sigma_Gy * np.random.default_rng(seed).standard_normal((12, *GRID.shape_zyx))
        mean = np.average(parts, axis=0, weights=primaries).astype(np.float32)
        deviation = np.divide(parts, mean, out=np.ones_like(parts), where=mean > 0.6) - 1  # as a run keeps it
        batches = Batches(deviation.astype(np.float16), tuple(primaries.tolist()))
        sampled = Sampled(Dose(GRID, mean, None, 1, Provenance("x", "test"), batches), STRUCTURES)
        figure = sampled.metric("PTV", name, scatter=False)
        raw.append(figure.raw - truth[f"PTV {name}"])
        value.append(figure.value - truth[f"PTV {name}"])
    # A quarter: four plans have their mean to 0.06 Gy, an eighth of the smaller of the two biases.
    assert abs(np.mean(value)) < abs(np.mean(raw)) / 4


def test_isodoses_are_without_the_bias_of_noise_where_the_metric_is(noisy):
    """What the target is compared with is seen as the target is."""
    dose = noisy(GRID, TRUE_Gy, 2.0, 5)
    body = Structure("External", "external", (RADIUS_mm < 40).astype(np.float32))
    sampled = Sampled(dose, StructureSet(GRID, {"PTV": STRUCTURES["PTV"], "External": body}))
    covered = sampled.number("External", lambda gray, cc: float(cc[gray >= 0.97 * 66].sum()), scatter=False)
    target_cc = sampled.metric("PTV", "volume", scatter=False).value
    ratio = sampled.metric("PTV", "R97", 66.0, scatter=False)
    assert (ratio.value, ratio.raw) == pytest.approx((covered.value / target_cc, covered.raw / target_cc))
    assert abs(ratio.value - ratio.raw) > 0.01


def test_noise_scales_with_the_dose(noisy):
    dose = noisy(GRID, TRUE_Gy, 1.0, 4)
    once, thrice = Sampled(dose, STRUCTURES), Sampled(dose.times(3), STRUCTURES)
    names = ("D2%", "mean")  # of the half-runs without the bias of noise, and with it
    figures_once = {
        name: once.metric("PTV", name) for name in names
    }  # seen before it is scaled, in one step or in two
    for scaled in (thrice, once.times(3), once.times(1.5).times(2)):
        for name, a in figures_once.items():
            b = scaled.metric("PTV", name)
            assert (b.value, b.raw, b.sigma) == pytest.approx((3 * a.value, 3 * a.raw, 3 * a.sigma), rel=1e-4)
