"""Photon and electron data of materials, mixed from the elements' tables.

Energies in MeV, cross sections per mass in cm2/g, stopping powers in MeV cm2/g. Every function takes arrays and gives
arrays of the same shape. The derivations, sources and limits are in ``docs/theory/materials.md``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from mrlinac.anatomy.materials import OwnMaterial, defined
from mrlinac.constants import AVOGADRO_per_mol, CLASSICAL_ELECTRON_RADIUS_cm, ELECTRON_REST_ENERGY_MeV
from mrlinac.errors import PhysicsError

Array = NDArray[np.float64]

FOLDER = Path(__file__).resolve().parent.parent / "data"

STOPPING_CONSTANT_MeV_cm2_mol = (
    2 * np.pi * CLASSICAL_ELECTRON_RADIUS_cm**2 * ELECTRON_REST_ENERGY_MeV * AVOGADRO_per_mol
)
"""2π r_e² mc² N_A = 0.15354 MeV cm²/mol: the factor before Z/A in the collision stopping power."""

_BARN_cm2 = 1e-24
_PAIR_THRESHOLD_MeV, _TRIPLET_THRESHOLD_MeV = 2 * ELECTRON_REST_ENERGY_MeV, 4 * ELECTRON_REST_ENERGY_MeV
# One plasma energy: hν_p = 28.816 eV · sqrt(ρ Z/A); ICRU 37 (1984), equation 2.23.
_PLASMA_eV = 28.81593


@dataclass(frozen=True, eq=False)
class Material:
    """A material of ``materials.toml``.

    Attributes
    ----------
    name, title, source : str
    density_g_cm3 : float
        Nominal; only the density effect uses it.
    I_eV : float
        Mean excitation energy.
    conductor : bool
        Whether the outermost electrons are free (metals).
    atomic_number : int64 array (n,)
    atomic_weight : float64 array (n,)
        In g/mol.
    weight : float64 array (n,)
        Mass fractions, summing to 1.
    """

    name: str
    title: str
    density_g_cm3: float
    I_eV: float
    conductor: bool
    atomic_number: NDArray[np.int64]
    atomic_weight: Array
    weight: Array
    source: str

    @property
    def z_over_a(self) -> float:
        """Electrons per unit mass, in mol/g."""
        return float(np.sum(self.weight * self.atomic_number / self.atomic_weight))

    @property
    def electrons_per_g(self) -> float:
        """Electrons per gram."""
        return AVOGADRO_per_mol * self.z_over_a


class PhotonData(NamedTuple):
    """Mass attenuation by process, in cm2/g."""

    incoherent: Array
    coherent: Array
    photoelectric: Array
    pair: Array  # in the field of the nucleus
    triplet: Array  # in the field of an electron

    @property
    def total(self) -> Array:
        """Sum of all processes, coherent scattering included."""
        return self.incoherent + self.coherent + self.photoelectric + self.pair + self.triplet


@cache
def load() -> dict[str, Material]:
    """Every material of ``mrlinac/data/materials.toml``, by name."""
    elements = _elements()
    row = {str(symbol): i for i, symbol in enumerate(elements["symbol"])}
    path = FOLDER / "materials.toml"
    with path.open("rb") as file:
        entries = tomllib.load(file)["materials"]
    result = {}
    for name, entry in entries.items():
        unknown = [symbol for symbol in entry["weight"] if symbol not in row]
        if unknown:
            raise PhysicsError(
                f"{path}: materials.{name}: no data for {', '.join(unknown)};"
                " run tools/build_tables.py after adding an element"
            )
        index = [row[symbol] for symbol in entry["weight"]]
        weight = np.array(list(entry["weight"].values()), float)
        result[name] = Material(
            name=name,
            title=entry["title"],
            density_g_cm3=float(entry["density_g_cm3"]),
            I_eV=float(entry["I_eV"]),
            conductor=bool(entry.get("conductor", False)),
            atomic_number=elements["atomic_number"][index],
            atomic_weight=elements["atomic_weight"][index],
            weight=weight / weight.sum(),
            source=entry["source"],
        )
    return result


def material(name: str) -> Material:
    """One material by name, or by a definition (:class:`~mrlinac.anatomy.materials.OwnMaterial`).

    Raises
    ------
    PhysicsError
        When there is none; names those there are.
    """
    own = defined(name)
    if own is not None:
        return _of_definition(own)
    try:
        return load()[name]
    except KeyError:
        raise PhysicsError(f"no material '{name}'; known: {', '.join(load())}") from None


def _of_definition(own: OwnMaterial) -> Material:
    """A material that a plan or a patient file defines."""
    elements = _elements()
    symbols = [str(symbol) for symbol in elements["symbol"]]
    index = [symbols.index(symbol) for symbol in own.weight]
    weight = np.array(list(own.weight.values()), float)
    return Material(
        name=own.definition,
        title=own.name,
        density_g_cm3=own.density_g_cm3,
        I_eV=own.I_eV,
        conductor=own.conductor,
        atomic_number=elements["atomic_number"][index],
        atomic_weight=elements["atomic_weight"][index],
        weight=weight / weight.sum(),
        source="defined by the user",
    )


def photon(name: str, energy_MeV: ArrayLike) -> PhotonData:
    """Photon cross sections per mass, by process, from XCOM (NIST) by the mixture rule.

    Parameters
    ----------
    name : str
        A material.
    energy_MeV : array_like
        From 0.001 to 50.

    Raises
    ------
    PhysicsError
        Outside the tabulated energies.
    """
    tables, energy = _elements(), _checked(energy_MeV, "energy_MeV", "energy_MeV")
    per_mass = {i: n * _BARN_cm2 for i, n in _atoms_per_g(name).items()}
    grid, position = np.log(tables["energy_MeV"]), np.log(energy)

    def mixed(key: str, factor: Array | float = 1.0) -> Array:
        log = _log_table(key)
        total = np.zeros_like(energy)
        for i, n in per_mass.items():
            total += n * np.exp(np.interp(position, grid, log[i]))
        return total * factor

    def above(threshold: float) -> Array:
        return np.clip(1 - threshold / energy, 0.0, None) ** 3

    photoelectric = np.zeros_like(energy)
    for i, n in per_mass.items():
        part = slice(*tables["photoelectric_offset"][i : i + 2])
        edges, values = tables["photoelectric_energy_MeV"][part], tables["photoelectric"][part]
        photoelectric += n * np.exp(np.interp(position, np.log(edges), np.log(values)))
    return PhotonData(
        incoherent=mixed("incoherent"),
        coherent=mixed("coherent"),
        photoelectric=photoelectric,
        pair=mixed("pair_reduced", above(_PAIR_THRESHOLD_MeV)),
        triplet=mixed("triplet_reduced", above(_TRIPLET_THRESHOLD_MeV)),
    )


def form_factor_squared(name: str, x_per_angstrom: ArrayLike) -> Array:
    """Shape of coherent scattering: Σ n_i F_i²(x) / Σ n_i Z_i², with n_i atoms per gram; 1 at x = 0.

    x = sin(θ/2)/λ = E/(12.3984 keV Å) sin(θ/2). Independent atoms (Hubbell et al. 1975): no interference between the
    atoms of a molecule or liquid. The differential cross section has the shape (1 + cos²θ) times this; its size is
    :func:`photon`'s ``coherent``.
    """
    return _mixed_scattering(name, x_per_angstrom, "form_factor", 2)


def incoherent_function(name: str, x_per_angstrom: ArrayLike) -> Array:
    """Binding in incoherent scattering: Σ n_i S_i(x) / Σ n_i Z_i; 0 at x = 0, 1 for free electrons.

    x as in :func:`form_factor_squared`. The differential cross section per electron is Klein–Nishina times this.
    """
    return _mixed_scattering(name, x_per_angstrom, "incoherent_function", 1)


def collision_stopping(
    name: str, energy_MeV: ArrayLike, positron: bool = False, density_g_cm3: float | None = None
) -> Array:
    """Mass collision stopping power of electrons or positrons, with density effect.

    Berger and Seltzer's form of the Bethe formula: ICRU 37 (1984), equations 2.11 to 2.14. No shell correction: about
    1 % at 10 keV in light materials, nothing above 100 keV. The density enters the density effect only; the nominal one
    if None.
    """
    tau, beta2 = _tau_beta2(energy_MeV)
    if positron:
        t2 = tau + 2
        shape = 2 * np.log(2) - beta2 / 12 * (23 + 14 / t2 + 10 / t2**2 + 4 / t2**3)
    else:
        shape = (1 - beta2) * (1 + tau**2 / 8 - (2 * tau + 1) * np.log(2))
    return _bethe(name, tau, beta2, shape, density_g_cm3)


def restricted_collision_stopping(
    name: str,
    energy_MeV: ArrayLike,
    cut_MeV: float,
    positron: bool = False,
    density_g_cm3: float | None = None,
) -> Array:
    """Mass collision stopping power from energy transfers below ``cut_MeV``.

    Berger and Seltzer's G∓(τ, η): ICRU 37 (1984), equations 2.26 to 2.29; Møller and Bhabha losses above the cut are
    left out. A cut above half the energy (electrons) or the whole (positrons) gives the unrestricted value.
    """
    tau, beta2 = _tau_beta2(energy_MeV)
    ratio = cut_MeV / (tau * ELECTRON_REST_ENERGY_MeV)
    if positron:
        eta, xi = np.minimum(ratio, 1.0), 1 / (tau + 2)
        series = (
            1
            + (2 - xi**2) * eta
            - (3 + xi**2) * (xi * tau / 2) * eta**2
            + (1 + xi * tau) * (xi**2 * tau**2 / 3) * eta**3
            - (xi**3 * tau**3 / 4) * eta**4
        )
        # G⁺ of the report starts at η = 0 with ln 4η − β²; the 1 in the series is that β².
        shape = np.log(4 * eta) - beta2 * series
    else:
        eta = np.minimum(ratio, 0.5)
        shape = (
            -1
            - beta2
            + np.log(4 * (1 - eta) * eta)
            + 1 / (1 - eta)
            + (1 - beta2) * (tau**2 * eta**2 / 2 + (2 * tau + 1) * np.log(1 - eta))
        )
    return _bethe(name, tau, beta2, shape, density_g_cm3)


def radiative_stopping(name: str, energy_MeV: ArrayLike) -> Array:
    """Mass radiative stopping power of electrons, from ESTAR (Seltzer and Berger 1985) by the mixture rule.

    Positrons are given the same: their smaller loss below 1 MeV changes nothing where radiation matters.
    """
    energy = _checked(energy_MeV, "electron_energy_MeV", "energy_MeV")
    return np.asarray(np.exp(_radiative_spline(name)(np.log(energy))))


def density_effect(name: str, energy_MeV: ArrayLike, density_g_cm3: float | None = None) -> Array:
    """Density-effect correction δ of the collision stopping power, at the nominal density or another.

    Sternheimer's model evaluated for the material itself (Sternheimer, Berger, Seltzer, At. Data Nucl. Data Tables
    30:261, 1984; the algorithm of ESTAR): each subshell an oscillator, their energies scaled by one factor that
    reproduces the mean excitation energy. The density that counts is that within some 10 nm of the track (ħc over the
    plasma energy): of the tissue of a porous material, not of its bulk (``docs/theory/transport.md``).
    """
    tau, _ = _tau_beta2(energy_MeV)
    momentum2 = tau * (tau + 2)
    density = material(name).density_g_cm3 if density_g_cm3 is None else float(density_g_cm3)
    if not density > 0:
        raise PhysicsError(f"density_g_cm3 must be positive, not {density:g}")
    spline, lowest = _density_effect_table(name, density)
    position = np.log(np.maximum(momentum2, lowest))
    return np.where(momentum2 > lowest, np.maximum(spline(position), 0.0), 0.0)


# ----------------------------------------------------------------------------------------------------
# How the above is made


@cache
def _elements() -> dict[str, NDArray[Any]]:
    """Arrays of elements.npz: rows follow ``symbol``; cross sections in barn per atom; see tools/build_tables.py."""
    with np.load(FOLDER / "elements.npz") as file:
        tables = {key: file[key] for key in file.files}
    for array in tables.values():
        array.setflags(write=False)
    return tables


@cache
def _log_table(key: str) -> Array:
    return np.asarray(np.log(_elements()[key]))


def _checked(value: ArrayLike, key: str, label: str) -> Array:
    """The values as floats, refused outside the table's range."""
    array, grid = np.asarray(value, float), _elements()[key]
    if array.size and not (array.min() >= grid[0] * (1 - 1e-9) and array.max() <= grid[-1] * (1 + 1e-9)):
        raise PhysicsError(f"{label} must lie from {grid[0]:g} to {grid[-1]:g}: the tables cover no more")
    return array


@cache
def _atoms_per_g(name: str) -> dict[int, float]:
    """Atoms per gram by row of the elements' tables."""
    mat, numbers = material(name), _elements()["atomic_number"]
    rows = np.searchsorted(numbers, mat.atomic_number)
    return {int(i): AVOGADRO_per_mol * w / a for i, w, a in zip(rows, mat.weight, mat.atomic_weight, strict=True)}


def _mixed_scattering(name: str, x_per_angstrom: ArrayLike, key: str, power: int) -> Array:
    """Mean over the atoms of a scattering function to a power, relative to Z to that power."""
    tables, x = _elements(), _checked(x_per_angstrom, "x_per_angstrom", "x_per_angstrom")
    grid, numbers = tables["x_per_angstrom"], tables["atomic_number"]
    atoms = _atoms_per_g(name)
    values = sum(n * tables[key][i] ** power for i, n in atoms.items())
    whole = sum(n * float(numbers[i]) ** power for i, n in atoms.items())
    # Straight lines in x² near 0, where both functions are parabolas; in the logarithms beyond.
    with np.errstate(divide="ignore"):
        smooth = np.exp(np.interp(np.log(x), np.log(grid[1:]), np.log(values[1:])))
    parabola = values[0] + (values[1] - values[0]) * (x / grid[1]) ** 2
    return np.asarray(np.where(x < grid[1], parabola, smooth) / whole)


def _tau_beta2(energy_MeV: ArrayLike) -> tuple[Array, Array]:
    """Kinetic energy in rest energies, and v²/c²."""
    tau = _checked(energy_MeV, "electron_energy_MeV", "energy_MeV") / ELECTRON_REST_ENERGY_MeV
    return tau, tau * (tau + 2) / (tau + 1) ** 2


def _bethe(name: str, tau: Array, beta2: Array, shape: Array, density_g_cm3: float | None) -> Array:
    """The common part of all collision stopping powers; ICRU 37 (1984), equation 2.11."""
    mat, energy = material(name), tau * ELECTRON_REST_ENERGY_MeV
    delta = density_effect(name, energy, density_g_cm3)
    bracket = 2 * np.log(energy / (mat.I_eV * 1e-6)) + np.log1p(tau / 2) + shape - delta
    return STOPPING_CONSTANT_MeV_cm2_mol * mat.z_over_a / beta2 * bracket


@cache
def _radiative_spline(name: str) -> CubicSpline:
    mat, tables = material(name), _elements()
    rows = np.searchsorted(tables["atomic_number"], mat.atomic_number)
    return CubicSpline(np.log(tables["electron_energy_MeV"]), np.log(mat.weight @ tables["radiative_stopping"][rows]))


def _oscillators(mat: Material) -> tuple[Array, Array]:
    """Subshells of a mixture: oscillator strength (summing to 1) and binding energy in eV (0: free electrons)."""
    tables = _elements()
    strength, energy = [], []
    for number, n in zip(mat.atomic_number, mat.weight * mat.atomic_number / mat.atomic_weight, strict=True):
        i = int(np.searchsorted(tables["atomic_number"], number))
        part = slice(*tables["shell_offset"][i : i + 2])
        occupation, binding = tables["shell_occupation"][part], tables["shell_binding_eV"][part]
        free = (occupation < 0) & mat.conductor
        strength.append(n * np.abs(occupation) / np.abs(occupation).sum())
        energy.append(np.where(free, 0.0, binding))
    strength_all = np.concatenate(strength)
    return strength_all / strength_all.sum(), np.concatenate(energy)


@lru_cache(maxsize=256)
def _density_effect_table(name: str, density_g_cm3: float) -> tuple[CubicSpline, float]:
    """δ over ln(p/mc)², and the (p/mc)² below which δ is zero."""
    mat = material(name)
    strength, binding = _oscillators(mat)
    plasma = _PLASMA_eV * np.sqrt(density_g_cm3 * mat.z_over_a)
    shift = np.where(binding > 0, 2 / 3, 1.0)  # Lorentz–Lorenz term; free electrons have none
    reduced = (binding / plasma) ** 2
    # Newton's method for the factor ρ² on the oscillators' squared energies:
    # ln(I/hν_p) = ½ Σ f ln(ρ² ν² + shift f)  (Sternheimer et al. 1984, equation 8).
    target, square = 2 * np.log(mat.I_eV / plasma), 1.0
    for _ in range(100):
        term = square * reduced + shift * strength
        step = (strength @ np.log(term) - target) / (strength @ (reduced / term))
        square -= step
        if abs(step) < 1e-12 * square:
            break
    else:
        raise PhysicsError(f"material '{name}': the density effect has no solution for I = {mat.I_eV} eV")
    energy2 = square * reduced
    level2 = energy2 + shift * strength
    # One parameter L² runs through momentum and δ together (equations 6 and 7).
    parameter = np.geomspace(1e-6, 1e7, 1301)
    momentum2 = 1 / np.sum(strength[:, None] / (energy2[:, None] + parameter), 0)
    delta = strength @ np.log1p(parameter / level2[:, None]) - parameter / (momentum2 + 1)
    # Without free electrons the curve starts at a threshold, with them at zero momentum.
    lowest = 1 / np.sum(strength / energy2) if np.all(energy2 > 0) else float(momentum2[0])
    return CubicSpline(np.log(momentum2), delta), float(max(lowest, momentum2[0]))
