"""Bremsstrahlung spectra of materials, from the elements' tables of Seltzer and Berger.

``brems.npz`` holds χ = (β²/Z²) k dσ/dk in mb for the electron and the whole atom, by kinetic energy T and ratio k/T
(Seltzer and Berger, At. Data Nucl. Data Tables 35:345, 1986; built by ``tools/build_brems.py``). Only its shape is used
here: how much is radiated in all is NIST's radiative stopping power, :func:`materials.radiative_stopping`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator

from mrlinac.errors import PhysicsError
from mrlinac.transport import materials

Array = NDArray[np.float64]

FILE = materials.FOLDER / "brems.npz"
NODES = 128  # of the quantiles
_FINE = 256  # points of an integral over k


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of one material by kinetic energy: what photons above a cut carry, and their quantiles.

    Attributes
    ----------
    soft_share
        Of the radiated energy: what photons below the cut carry.
    number_per_MeV
        Photons above the cut per MeV radiated (in all).
    quantile
        [energy, node] of ln(k/cut)/ln(T/cut).
    """

    soft_share: Array
    number_per_MeV: Array
    quantile: Array


def scaled_mb(name: str, kinetic_MeV: float, ratio: ArrayLike) -> Array:
    """χ of a material at one energy: the elements' values, each with the weight of its atoms times Z²; k/T from 0 to 1.

    Cubic splines over ln T, monotone cubics (Fritsch and Carlson) over k/T.
    """
    return np.asarray(_curves(name, np.array([float(kinetic_MeV)]))(ratio))[..., 0]


def spectrum(name: str, kinetic_MeV: Array, cut_MeV: float) -> Spectrum:
    """The spectrum at each kinetic energy; at and below the cut all radiation is soft."""
    kinetic = np.asarray(kinetic_MeV, float)
    nodes = np.arange(NODES + 1) / NODES
    soft, number = np.ones_like(kinetic), np.zeros_like(kinetic)
    quantile = np.tile(nodes, (len(kinetic), 1))
    hard = kinetic > cut_MeV * 1.02
    if np.any(hard):
        soft[hard], number[hard], quantile[hard] = _hard(name, kinetic[hard], cut_MeV, nodes)
    return Spectrum(soft, number, quantile)


def _hard(name: str, kinetic: Array, cut: float, nodes: Array) -> tuple[Array, Array, Array]:
    """Soft share, photons per MeV and quantiles at energies above the cut."""
    curves = _curves(name, kinetic)
    log = np.log(kinetic / cut)[:, None]
    share = np.linspace(0, 1, _FINE)
    ratio = np.exp((share - 1) * log)  # k/T, from cut/T to 1
    chi = _along(curves, ratio)
    count = _cumulative(chi, share * log)  # ∫ χ d ln k
    energy = _cumulative(chi, ratio)[:, -1]  # ∫ χ dk / T
    whole = curves.integrate(0.0, 1.0)
    quantile = np.array([np.interp(nodes, row / row[-1], share) for row in count])
    return 1 - energy / whole, count[:, -1] / (whole * kinetic), quantile


def _along(curves: PchipInterpolator, ratio: Array) -> Array:
    """Curve i at the points of row i: ``curves(ratio)`` would give every curve at every point."""
    piece = np.clip(np.searchsorted(curves.x, ratio, side="right") - 1, 0, len(curves.x) - 2)
    x = ratio - curves.x[piece]
    row = np.arange(len(ratio))[:, None]
    a, b, c, d = (power[piece, row] for power in curves.c)
    return np.asarray(((a * x + b) * x + c) * x + d)


def _cumulative(y: Array, x: Array) -> Array:
    """Trapezoidal integral along each row, from 0."""
    parts = 0.5 * (y[:, 1:] + y[:, :-1]) * np.diff(x, axis=1)
    return np.concatenate([np.zeros((len(y), 1)), np.cumsum(parts, axis=1)], axis=1)


def _curves(name: str, kinetic_MeV: Array) -> PchipInterpolator:
    """χ over k/T at some energies: axis 0 of the result is the ratio's, axis 1 the energy's."""
    table, energy = _table(), _table()["energy_MeV"]
    if not np.all((kinetic_MeV >= energy[0]) & (kinetic_MeV <= energy[-1])):
        raise PhysicsError(
            f"kinetic_MeV must lie from {energy[0]:g} to {energy[-1]:g}: the tables of bremsstrahlung cover no more"
        )
    material = materials.material(name)
    missing = sorted(set(material.atomic_number.tolist()) - set(table["atomic_number"].tolist()))
    if missing:
        raise PhysicsError(
            f"{FILE}: no bremsstrahlung data for Z = {', '.join(map(str, missing))} of material '{name}';"
            " run tools/build_brems.py after adding an element"
        )
    rows = np.searchsorted(table["atomic_number"], material.atomic_number)
    weight = material.weight / material.atomic_weight * material.atomic_number.astype(float) ** 2
    mixed = np.tensordot(weight / weight.sum(), table["scaled_mb"][rows], 1)
    return PchipInterpolator(table["ratio"], CubicSpline(np.log(energy), mixed)(np.log(kinetic_MeV)).T)


@cache
def _table() -> dict[str, NDArray[Any]]:
    """Arrays of brems.npz: scaled_mb[element, energy, ratio]."""
    with np.load(FILE) as file:
        tables = {key: file[key] for key in file.files}
    for array in tables.values():
        array.setflags(write=False)
    return tables
