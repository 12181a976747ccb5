"""A dose in structures: the one definition of a DVH and of every number read off it.

Plans, evaluations and the loops that plan ask here. A structure is sampled once (:mod:`mrlinac.dose.sampling`); where the
dose carries the batches of its run, numbers come without the bias of noise and with a standard deviation
(:mod:`mrlinac.dose.noise`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.structures import Roi, Structure, StructureSet
from mrlinac.dose import metrics, noise, sampling
from mrlinac.dose.dose import Dose
from mrlinac.dose.grammar import Metric, parse
from mrlinac.dose.interpolate import batches_at
from mrlinac.dose.noise import Figure, Floats
from mrlinac.dose.sampling import Samples

Doses = NDArray[np.floating]
Air = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
"""Which places (n, 3) in LPS lie in air."""


@dataclass(frozen=True)
class View:
    """One way to see a structure's dose: a selection of its samples.

    Attributes
    ----------
    dose_Gy, volume_cc : arrays, shape (n,)
    index : int64 array, shape (n,)
        Numbers of the samples.
    """

    dose_Gy: Doses
    volume_cc: Floats
    index: NDArray[np.int64]

    def value(
        self,
        wanted: Metric,
        prescription_Gy: float | None,
        isodoses_cc: Sequence[float] | None = None,
        air: NDArray[np.bool_] | None = None,
    ) -> float:
        """Value of a metric, of all samples or of those not in air; ValueError where the structure is too small for it.

        Parameters
        ----------
        wanted : Metric
        prescription_Gy : float or None
        isodoses_cc : sequence of float, optional
            Volumes of the isodoses that conformity and gradient ask for.
        air : bool array, optional
            Samples in air, which are left out.

        Returns
        -------
        float
        """
        total_cc = float(self.volume_cc.sum())
        if wanted.of_isodose:
            if isodoses_cc is None or prescription_Gy is None:
                raise ValueError(f"{wanted.text} needs the prescription and the volume of the isodose")
            covered_cc = self.volume_at_least(wanted.level / 100 * prescription_Gy)
            return metrics.isodose_value(wanted, total_cc, covered_cc, isodoses_cc)
        dose_Gy = np.asarray(self.dose_Gy, np.float64)
        if air is not None:
            # Air moves to the cold end instead of going away, so that the volume stays the whole structure's.
            dose_Gy = np.where(air[self.index], -np.inf, dose_Gy)
        value = metrics.value_of(dose_Gy, self.volume_cc, wanted, prescription_Gy)
        if not np.isfinite(value):
            raise ValueError("it has less than the volume asked for that is not air")
        return value

    def times(self, factor: float) -> View:
        """The view of the dose scaled.

        Parameters
        ----------
        factor : float

        Returns
        -------
        View
        """
        return self if factor == 1.0 else replace(self, dose_Gy=self.dose_Gy * np.float32(factor))

    def volume_at_least(self, dose_Gy: float) -> float:
        """Volume (cc) with at least a dose.

        Parameters
        ----------
        dose_Gy : float

        Returns
        -------
        float
            In cc.
        """
        return float(self.volume_cc[self.dose_Gy >= dose_Gy].sum())


Pairs = tuple[tuple[View, View], ...]
"""Views of balanced half-runs, each with that of the other half."""


@dataclass(frozen=True)
class Views:
    """All ways to see one structure's dose.

    Attributes
    ----------
    raw, judged : View
        As the run gave it, and without the bias of noise: all samples.
    noise : Noise or None
        Where it is known.
    batches : function or None
        Gives the doses (12, n) of the batches at samples that stand for all, their volumes (cc) and numbers.
    factor : float
        By which the dose was scaled since.
    """

    raw: View
    judged: View
    noise: noise.Noise | None = None
    batches: Callable[[], tuple[Doses, Floats, NDArray[np.int64]]] | None = None
    factor: float = 1.0

    def times(self, factor: float) -> Views:
        """Those of the dose scaled: noise scales with it.

        Parameters
        ----------
        factor : float

        Returns
        -------
        Views
        """
        raw, judged = self.raw.times(factor), self.judged.times(factor)
        return Views(raw, judged, self.noise, self.batches, self.factor * factor)

    @cached_property
    def halves(self) -> tuple[Pairs, Pairs]:
        """Half-runs without the bias of noise, and with it; made when first asked for."""
        assert self.noise is not None
        assert self.batches is not None
        batches_Gy, volume_cc, index = self.batches()
        judged, raw = [], []
        for two in self.noise.halves(batches_Gy, volume_cc):
            of = [(View(d, volume_cc[o], index[o]), View(r, volume_cc[o], index[o])) for d, r, o in two]
            judged.append((of[0][0].times(self.factor), of[1][0].times(self.factor)))
            raw.append((of[0][1].times(self.factor), of[1][1].times(self.factor)))
        return tuple(judged), tuple(raw)


def _sorted(dose_Gy: Doses, volume_cc: Floats) -> View:
    """A view from the hottest sample to the coldest: every metric sorts again, which costs little then."""
    order = np.argsort(-dose_Gy)
    return View(dose_Gy[order], volume_cc[order], order)


MOST_THREADS = 4
"""Structures sampled side by side: each takes up to some hundreds of megabytes."""

See = Callable[[Views], View]
"""Picks one of the ways to see a dose."""


@dataclass(frozen=True)
class Sampled:
    """A dose in structures; each is sampled when first asked for.

    Attributes
    ----------
    dose : Dose
    structures : StructureSet or None
        On a grid; those that were drawn are sampled as drawn.
    rois : mapping of name to Roi
        Drawn structures that are not in ``structures``.
    air : function, optional
        Tells which places are air: they are left out of a search for hot spots in the body and in normal tissue.
    like : Sampled, optional
        Of another dose, in the same structures: its samples are used.
    """

    dose: Dose
    structures: StructureSet | None = None
    rois: Mapping[str, Roi] = field(default_factory=dict)
    air: Air | None = None
    like: Sampled | None = None
    _samples: dict[str, Samples] = field(default_factory=dict, repr=False)
    _views: dict[str, Views] = field(default_factory=dict, repr=False)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.rois, *(self.structures or ())]))

    def __contains__(self, name: object) -> bool:
        return name in self.rois or (self.structures is not None and name in self.structures)

    def __getstate__(self) -> dict[str, object]:
        """What travels to another process: not what is quickly made again."""
        return {**self.__dict__, "_views": {}}

    def samples(self, name: str) -> Samples:
        """Samples of a structure in the dose.

        Parameters
        ----------
        name : str

        Returns
        -------
        Samples

        Raises
        ------
        ValueError
            When it is empty.
        """
        if name not in self._samples:
            self._samples[name] = self.like.samples(name).of(self.dose) if self.like else self._sampled(name)
        return self._samples[name]

    def _sampled(self, name: str) -> Samples:
        if self.structures is not None and name in self.structures:
            return sampling.sample(self.dose, self.structures[name], self.structures.grid)
        return sampling.sample(self.dose, self.rois[name])

    def views(self, name: str) -> Views:
        """All ways to see a structure's dose.

        Parameters
        ----------
        name : str

        Returns
        -------
        Views
        """
        if name not in self._views:
            self._views[name] = self._seen(self.samples(name))
        return self._views[name]

    def prepare(self, names: Iterable[str], *, scatter: bool = True) -> None:
        """Make the views of structures side by side, and their half-runs where the standard deviations are wanted.

        Parameters
        ----------
        names : iterable of str
        scatter : bool
            Whether the standard deviations are wanted.
        """

        def make(name: str) -> None:
            views = self.views(name)
            if scatter and views.noise is not None:
                _ = views.halves

        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
            for _ in pool.map(make, names):
                pass

    def _seen(self, samples: Samples) -> Views:
        raw = _sorted(samples.dose_Gy, samples.volume_cc)
        if self.dose.batches is None:
            return Views(raw, raw)
        few, few_cc = noise.chosen(raw.index, samples.volume_cc)
        few_Gy = self._batches_of(samples, few)
        known = noise.noise_in(few_Gy, few_cc, self.dose.batches.primaries)
        if known is None:
            return Views(raw, raw)
        judged = replace(raw, dose_Gy=known.without(raw.dose_Gy, raw.volume_cc))  # ranks stay

        def batches() -> tuple[Doses, Floats, NDArray[np.int64]]:
            index, volume_cc = noise.chosen(raw.index, samples.volume_cc, self.dose.grid.voxel_cc)
            if len(index) == len(few):  # then they are the same
                return few_Gy, few_cc, few
            return self._batches_of(samples, index), volume_cc, index

        return Views(raw, judged, known, batches)

    def _batches_of(self, samples: Samples, index: NDArray[np.int64]) -> NDArray[np.float32]:
        return batches_at(self.dose, samples.places_xyz_mm(index))

    def times(self, factor: float, *, fractions: int | None = None) -> Sampled:
        """The dose scaled, with the samples that were made: noise scales with the dose.

        Parameters
        ----------
        factor : float
        fractions : int, optional
            What the scaled dose stands for.

        Returns
        -------
        Sampled
        """

        size = np.float32(factor)
        return replace(
            self,
            dose=self.dose.times(factor, fractions=fractions),
            _samples={
                name: replace(samples, dose_Gy=samples.dose_Gy * size) for name, samples in self._samples.items()
            },
            _views={name: views.times(factor) for name, views in self._views.items()},
        )

    def course(self, fractions: int) -> Sampled:
        """The dose of a whole course, from that of one fraction.

        Parameters
        ----------
        fractions : int

        Returns
        -------
        Sampled
        """
        if self.dose.fractions != 1:
            raise ValueError(f"a dose of {self.dose.fractions} fractions cannot be repeated {fractions} times")
        return self.times(fractions, fractions=fractions)

    def number(
        self, name: str, of: Callable[[Doses, Floats], float], *, linear: bool = False, scatter: bool = True
    ) -> Figure:
        """A number that is read off a structure's doses (Gy) and volumes (cc).

        Parameters
        ----------
        name : str
        of : function
        linear : bool
            Whether it is linear in the dose, so that noise has no bias in it.
        scatter : bool
            Whether the standard deviation is wanted: it takes longer than the number.

        Returns
        -------
        Figure

        Raises
        ------
        ValueError
            When the structure is empty.
        """

        def value(see: See) -> float:
            view = see(self.views(name))
            return of(view.dose_Gy, view.volume_cc)

        return self._figure(name, value, linear, scatter)

    def metric(
        self,
        name: str,
        wanted: str | Metric,
        prescription_Gy: float | None = None,
        *,
        times: float = 1.0,
        scatter: bool = True,
    ) -> Figure:
        """A metric of a structure, of the dose scaled by ``times``; ``scatter`` as in :meth:`number`.

        Parameters
        ----------
        name : str
            Of the structure.
        wanted : str or Metric
        prescription_Gy : float, optional
        times : float
            By which the dose is scaled first.
        scatter : bool
            Whether the standard deviation is wanted.

        Returns
        -------
        Figure

        Raises
        ------
        SpecError
            For an unknown metric.
        ValueError
            When the structure is empty or too small for it, or has no gradient index.
        """
        asked = parse(wanted) if isinstance(wanted, str) else wanted

        def value(see: See) -> float:
            isodoses_cc = None
            if asked.of_isodose and prescription_Gy is not None:
                levels_Gy = (at / 100 * prescription_Gy / times for at in asked.isodoses_percent)
                isodoses_cc = [self._isodose_cc(level_Gy, see) for level_Gy in levels_Gy]
            air = self._air_of(name) if asked.hot_spot else None
            return see(self.views(name)).times(times).value(asked, prescription_Gy, isodoses_cc, air)

        return self._figure(name, value, asked.form in ("mean", "volume"), scatter)

    def _figure(self, name: str, value: Callable[[See], float], linear: bool, scatter: bool) -> Figure:
        """A number as the run gave it, without the bias of noise, and its scatter over half-runs."""
        raw = value(attrgetter("raw"))
        known = self.views(name).noise
        if known is None:
            return Figure(raw, raw)
        judged = raw if linear else value(attrgetter("judged"))
        if not scatter:
            return Figure(judged, raw)
        pairs = [(value(_half(linear, k, 0)), value(_half(linear, k, 1))) for k in range(noise.HALVES)]
        first, second = zip(*pairs, strict=True)
        return Figure(judged, raw, noise.spread(first, second, known.shares))

    def _isodose_cc(self, level_Gy: float, see: See) -> float:
        """Volume of an isodose: within the body where there is one, else in the whole grid."""
        body = self.external
        if body is not None:
            return see(self.views(body)).volume_at_least(level_Gy)
        return self._whole_grid_cc.setdefault(level_Gy, sampling.isodose_volume_cc(self.dose, level_Gy))

    @cached_property
    def _whole_grid_cc(self) -> dict[float, float]:
        return {}

    @cached_property
    def external(self) -> str | None:
        """Name of the body's outline."""
        return next((name for name in self if self._role(name) == "external"), None)

    def _role(self, name: str) -> str:
        of: Roi | Structure = self.rois[name] if name in self.rois else (self.structures or {})[name]  # type: ignore[index]
        return of.role

    def _air_of(self, name: str) -> NDArray[np.bool_] | None:
        """Which samples lie in air, of a structure in which a search for hot spots leaves it out."""
        if self.air is None or self._role(name) not in metrics.HOT_SPOT_ROLES:
            return None
        if name not in self._in_air:
            places = self.samples(name).places_xyz_mm()
            self._in_air[name] = self.air(places) | self._beside_air(places)
        return self._in_air[name]

    @cached_property
    def _in_air(self) -> dict[str, NDArray[np.bool_]]:
        return {}

    def _beside_air(self, places_xyz_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the voxels that a place lies between include air: its dose is then a mean of air's and tissue's."""
        grid, air = self.dose.grid, self._air_voxels
        index = np.asarray(grid.index_zyx(places_xyz_mm))
        beside = np.zeros(len(index), bool)
        for corner in np.ndindex(2, 2, 2):
            z, y, x = np.clip(np.floor(index).astype(np.int64) + corner, 0, np.array(grid.shape_zyx) - 1).T
            beside |= air[z, y, x]
        return beside

    @cached_property
    def _air_voxels(self) -> NDArray[np.bool_]:
        """Which voxels of the dose have their middle in air."""
        assert self.air is not None
        grid = self.dose.grid
        flat = np.stack(np.meshgrid(grid.y_mm, grid.x_mm, indexing="ij"), axis=-1).reshape(-1, 2)[:, ::-1]
        layers = [self.air(np.column_stack([flat, np.full(len(flat), z_mm)])) for z_mm in grid.z_mm]
        return np.stack(layers).reshape(grid.shape_zyx)


def _half(raw: bool, number: int, side: int) -> See:
    return lambda views: views.halves[raw][number][side]
