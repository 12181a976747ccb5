"""What the noise of a Monte Carlo dose does to numbers read off it: their bias, taken away, and their standard deviation.

Noise widens a dose-volume histogram: the hottest 2 % are too hot, the coldest too cold (Jiang et al. 2000, Phys Med Biol
45:1863; Kawrakow 2002, Phys Med Biol 47:3087). Here the doses of a structure, sorted, are extrapolated to no noise from
what they are with more: in half of the run's batches, in pairs, in single ones (simulation extrapolation: Cook and
Stefanski 1994, J Am Stat Assoc 89:1314, with real batches instead of noise added). The standard deviation of any number is
that of balanced half-samples of the batches (McCarthy 1969, Rev Int Stat Inst 37:239): a quantile moves too little, and by
single voxels, when one batch of many is left out, so that the jackknife is wrong for it. ``docs/theory/noise.md`` states
and tests both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BATCHES = 12
"""Parts of a run that tell its noise: more than ten, and as many as have eleven balanced halves."""
HALVES = 11
SPREADS = (0.0003, 0.001, 0.003, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 50.0)
"""Variances that the dose itself may have about a tail, over that of the noise of one batch: from a flat dose, whose tail
moves with the noise's standard deviation, to a steep one, whose tail moves with its variance."""
MISFIT = 0.004
"""Misfit, over what a tail gains from the whole run to single batches, by which two such variances are told apart ..."""
SCATTER = 1.0
"""... beside the standard deviation of the mean of single batches, that many times."""
NEAR = 0.5
"""Levels of a DVH that far apart in log(v/(1 − v)) share their misfit."""
STRATUM = 1000
"""Largest number of samples of each octave of volume from either end of a DVH tell what noise adds there ..."""
WIDE = 40
"""... and up to so many times more, if as many voxels lie there, tell how the numbers scatter: too few of many voxels
scatter more than all of them."""
MOVED = 0.6
"""A shift found in half of a run scatters by more than the run's own, by √2 and by its fewer steps: of its deviation
from the mean of all halves so much is taken, by which σ is the scatter of replicates (``tests/unit/dose``)."""
HOTTEST = 10
"""Number of smallest samples that lie beyond the last level at which a DVH is corrected."""
PER_VOXEL = 3
"""Samples that stand for a voxel."""

GOLDEN = 0.6180339887498949
"""Multiples of it are spread evenly over 0…1."""

Floats = NDArray[np.float64]
Doses = NDArray[np.floating]
Ranked = tuple[Doses, Doses, NDArray[np.int64]]
"""Doses without the bias of noise from hot to cold, the same with it, and where each comes from."""


@dataclass(frozen=True)
class Figure:
    """A number read off a dose.

    Attributes
    ----------
    value : float
        Without the bias of noise; what is judged.
    raw : float
        As read off the dose of the run.
    sigma : float
        Standard deviation of ``value``; nan where the dose carries no batches.
    """

    value: float
    raw: float
    sigma: float = float("nan")


@dataclass(frozen=True)
class Noise:
    """What noise adds to a structure's doses, by their rank, in the whole run and in balanced half-runs.

    Attributes
    ----------
    levels : array (n,)
        Shares of the volume from the hot end.
    shift_Gy : array (n,)
        Added to the dose there, it takes the bias of noise away.
    half_shift : function
        The same in half of the batches or in the others, by the number of the pair and the side.
    weights : array (11, 2, 12)
        Of the batches in each half-run; they add up to 1.
    shares : array (11,)
        Of the primaries that each first half has.
    """

    levels: Floats
    shift_Gy: Floats
    half_shift: Callable[[int, int], Floats]
    weights: Floats
    shares: Floats

    def without(self, dose_Gy: Doses, volume_cc: Floats) -> Doses:
        """Doses (Gy) of the whole run without the bias of noise, for volumes (cc), in the order given."""
        moved, _, order = _ranked(dose_Gy, volume_cc, self.levels, self.shift_Gy)
        result = np.empty_like(moved)
        result[order] = moved
        return result

    def halves(self, batches_Gy: Doses, volume_cc: Floats) -> Iterator[tuple[Ranked, Ranked]]:
        """The same of each pair of half-runs, from the doses (12, n) of the batches."""
        shifts = np.array([[self.half_shift(number, side) for side in range(2)] for number in range(HALVES)])
        middle = shifts.mean((0, 1))
        for weights, own in zip(self.weights, middle + MOVED * (shifts - middle), strict=True):
            first, second = (
                _ranked(half_Gy, volume_cc, self.levels, shift)
                for half_Gy, shift in zip(_means(weights, batches_Gy), own, strict=True)
            )
            yield first, second


def spread(firsts: Sequence[float], seconds: Sequence[float], shares: Sequence[float] | Floats) -> float:
    """Standard deviation of a number from its values in balanced pairs of half-runs.

    Parameters
    ----------
    firsts, seconds : sequence of float
        The number in each half-run and in the other half of the batches.
    shares : sequence of float
        Of the primaries that each first half has.
    """
    share = np.asarray(shares, float)
    squares = (np.asarray(firsts, float) - np.asarray(seconds, float)) ** 2 * share * (1 - share)
    return float(np.sqrt(np.mean(squares)))


def noise_in(batches_Gy: Doses, volume_cc: Floats, primaries: Sequence[int]) -> Noise | None:
    """What noise adds to doses, from those of the run's batches.

    Parameters
    ----------
    batches_Gy : array (batches, n)
    volume_cc : array (n,)
    primaries : sequence of int
        Of each batch.

    Returns
    -------
    Noise or None
        None with another number of batches than :data:`BATCHES`.
    """
    if len(primaries) != BATCHES:
        return None
    halves = np.stack([balanced_halves(), ~balanced_halves()], axis=1)  # (11, 2, 12)
    sets = np.concatenate([np.ones((1, BATCHES), bool), *halves, _pairs(), np.eye(BATCHES, dtype=bool)])
    weights = sets * np.asarray(primaries, float)
    photons = weights.sum(1)
    weights /= photons[:, None]
    noise = photons.min() / photons  # its variance, over that of the smallest batch
    levels = _levels(np.sort(volume_cc)[:HOTTEST].sum() / volume_cc.sum())
    curves = np.stack([_at_volumes(row, volume_cc, levels) for row in _means(weights, batches_Gy)])
    size = sets.sum(1)

    def shift_of(number: int) -> Floats:
        within = ~(sets & ~sets[number]).any(1)
        steps = [np.flatnonzero(within & (size == count)) for count in sorted({*size[within]}, reverse=True)]
        seen = np.stack([curves[step].mean(0) for step in steps])
        scatter = _scatter(curves[steps[-1]], noise[steps[-1]])
        return _without_noise(np.array([noise[step].mean() for step in steps]), seen, scatter, levels) - seen[0]

    of_halves = slice(1, 1 + 2 * HALVES)
    return Noise(
        levels,
        shift_of(0),
        lambda number, side: shift_of(1 + 2 * number + side),
        weights[of_halves].reshape(HALVES, 2, BATCHES),
        photons[of_halves][::2] / photons[0],
    )


def _scatter(curves: Floats, noise: Floats) -> Floats:
    """Standard deviation of the mean of curves (n, levels) by chance alone.

    A batch of fewer primaries has a wider DVH: what goes with the noise of a curve is no scatter.
    """
    count = len(noise)
    if np.ptp(noise) == 0:
        return np.asarray(curves.std(0, ddof=1) / np.sqrt(count))
    base = np.stack([np.ones(count), np.sqrt(noise)], axis=1)
    rest = curves - base @ (np.linalg.pinv(base) @ curves)
    return np.asarray(np.sqrt((rest**2).sum(0) / (count - 2) / count))


def _means(weights: Floats, batches_Gy: Doses) -> Doses:
    """Doses (sets, n) of weighted batches; a cubic between voxels may dip below nothing."""
    return np.maximum(np.asarray(weights @ batches_Gy, np.float32), 0)


def balanced_halves() -> NDArray[np.bool_]:
    """Eleven halves (11, 12) of twelve batches; every two share three (Plackett and Burman 1946, Biometrika 33:305)."""
    first = np.array([1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0], bool)
    cyclic = np.stack([np.roll(first, k) for k in range(11)])
    return np.concatenate([cyclic, np.zeros((1, 11), bool)]).T


def _pairs() -> NDArray[np.bool_]:
    """Thirty pairs of batches, some of them within each half."""
    places = [(k, (k + apart) % BATCHES) for apart in (1, 2) for k in range(BATCHES)] + [(k, k + 6) for k in range(6)]
    pairs = np.zeros((len(places), BATCHES), bool)
    for row, place in zip(pairs, places, strict=True):
        row[list(place)] = True
    return pairs


def chosen(order: NDArray[np.int64], volume_cc: Floats, voxel_cc: float = np.inf) -> tuple[NDArray[np.int64], Floats]:
    """Samples that stand for a structure where its noise is concerned, and the volume (cc) each of them then has.

    They are dense at both ends of the DVH: at most :data:`STRATUM` of each octave of volume, or with a size of voxels as
    many as its voxels need, up to :data:`WIDE` times more. Their numbers decide which, not their doses, so that a dose
    that is scaled, or read from a file, keeps them.

    Parameters
    ----------
    order : int array (n,)
        Samples from the hottest to the coldest.
    volume_cc : array (n,)
        Of the samples as they are numbered.
    voxel_cc : float
        Volume of a voxel of the dose.
    """
    reached = np.arange(len(order)) * GOLDEN
    drawn = reached - np.floor(reached)
    share = _middles(volume_cc[order])
    octave = np.floor(-np.log2(np.clip(np.minimum(share, 1 - share), 2.0**-24, 0.5))).astype(np.int64)
    stratum = np.where(share < 0.5, octave, 64 - octave)
    edges = np.flatnonzero(np.diff(stratum, prepend=-1, append=-1))
    index, volume = [], []
    for start, stop in itertools.pairwise(edges.tolist()):
        here = order[start:stop]
        voxels = volume_cc[here].sum() / voxel_cc
        number = min(stop - start, int(np.clip(PER_VOXEL * voxels, STRATUM, WIDE * STRATUM)))
        if number < stop - start:
            here = here[np.argpartition(drawn[here], number - 1)[:number]]
        own = volume_cc[here]
        index.append(here)
        volume.append(own * (volume_cc[order[start:stop]].sum() / own.sum()))
    return np.concatenate(index), np.concatenate(volume)


def _levels(least: float) -> Floats:
    """Shares of the volume at which a DVH is corrected, from the hot end; dense at both ends, down to ``least``."""
    tail = np.geomspace(np.clip(least, 1e-7, 0.01), 0.02, 25)
    return np.concatenate([tail, np.linspace(0.025, 0.975, 60), 1 - tail[::-1]])


def _middles(volume_cc: Floats) -> Floats:
    """Share of the volume up to the middle of each part, in their order."""
    reached: Floats = np.cumsum(volume_cc)
    return np.asarray((reached - volume_cc / 2) / reached[-1])


def _at_volumes(dose_Gy: Doses, volume_cc: Floats, levels: Floats) -> Floats:
    """Doses at shares of the volume, from the hot end."""
    order = np.argsort(-dose_Gy)
    return np.interp(levels, _middles(volume_cc[order]), dose_Gy[order])


def _without_noise(noise: Floats, seen: Floats, scatter: Floats, levels: Floats) -> Floats:
    """Doses by level at no noise, from those at several noises, of which the last scatters.

    About a level the dose itself varies with a variance c, noise adds s: a tail of such a dose lies at
    a + b (√(c + s) − √c). Each c of :data:`SPREADS` has its least squares a and b; the a are averaged, weighted by fit.
    """
    at, misfit = [], []
    for spread in SPREADS:
        rise = np.sqrt(spread + noise) - np.sqrt(spread)
        base = np.stack([np.ones_like(rise), rise / rise[-1]], axis=1)
        fit = np.linalg.pinv(base) @ seen
        at.append(fit[0])
        misfit.append(np.sum((base @ fit - seen) ** 2, axis=0))
    place = np.log(levels / (1 - levels))
    near = np.exp(-0.5 * ((place[:, None] - place[None, :]) / NEAR) ** 2)
    near /= near.sum(0)
    gain = (seen[-1] - seen[0]) ** 2 @ near
    relative = np.stack(misfit) @ near / np.maximum(gain, 1e-12)
    told_apart = MISFIT**2 + SCATTER**2 * (scatter**2 @ near) / np.maximum(gain, 1e-12)
    weight = np.exp(-(relative - relative.min(0)) / (2 * told_apart))
    return np.asarray((weight * np.stack(at)).sum(0) / weight.sum(0))


def _ranked(dose_Gy: Doses, volume_cc: Floats, levels: Floats, shift_Gy: Floats) -> Ranked:
    """Doses moved by a shift that depends on their rank, which they keep; none goes below nothing that was not.

    Their mean stays: noise has no bias in it.
    """
    order = np.argsort(-dose_Gy)
    own_cc = volume_cc[order]
    share = np.clip(_middles(own_cc), 1e-9, 1 - 1e-9)
    place = np.log(levels / (1 - levels))
    ranked = dose_Gy[order]
    moved = np.minimum.accumulate(ranked + np.interp(np.log(share / (1 - share)), place, shift_Gy))
    moved = np.maximum(moved, np.minimum(ranked, 0))
    mean_Gy = float(moved @ own_cc)
    if mean_Gy > 0:
        moved *= float(ranked @ own_cc) / mean_Gy
    return moved.astype(np.float32), ranked, order
