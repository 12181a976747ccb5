"""From HU to mass density and material, as data: ``mrlinac/data/hu_NAME.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlinac.errors import PhysicsError, SpecError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HuCurve:
    """Piecewise-linear density and stepwise material against HU.

    Attributes
    ----------
    title, citation : str
    published_to_HU : float
        Where the measured curve ends; beyond it the densest bone's composition is kept.
    saturated_from_HU : float
        From here on a CT number says nothing: the density has to come from a structure.
    density_HU, density_g_cm3 : float array
        Points of the density curve; constant before the first and after the last.
    edge_HU : float array
        Bin k of the materials is edge k … edge k + 1; below the first edge the first bin.
    materials : tuple of str
        One name per bin; the first is air.
    """

    title: str
    citation: str
    published_to_HU: float
    saturated_from_HU: float
    density_HU: NDArray[np.float64]
    density_g_cm3: NDArray[np.float64]
    edge_HU: NDArray[np.float64]
    materials: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.density_HU) != len(self.density_g_cm3) or np.any(np.diff(self.density_HU) <= 0):
            raise SpecError(f"{self.title}: the density curve needs as many densities as HU, and HU must increase")
        if len(self.edge_HU) != len(self.materials) + 1 or np.any(np.diff(self.edge_HU) <= 0):
            raise SpecError(f"{self.title}: {len(self.materials)} materials need one edge more, increasing")

    @property
    def air_g_cm3(self) -> float:
        """Density of air: the curve's first point."""
        return float(self.density_g_cm3[0])

    def density_of(self, hu: Floats) -> Floats:
        """Mass density in g/cm³."""
        return np.interp(hu, self.density_HU, self.density_g_cm3).astype(np.float32)

    def material_of(self, hu: Floats) -> NDArray[np.uint8]:
        """Index into ``materials``."""
        bins = np.searchsorted(self.edge_HU, hu, side="right") - 1
        return np.clip(bins, 0, len(self.materials) - 1).astype(np.uint8)


@cache
def hu_curve(name: str) -> HuCurve:
    """Read a curve that comes with the package.

    Raises
    ------
    PhysicsError
        When there is none of this name; lists those there are.
    """
    folder = files("mrlinac") / "data"
    path = folder / f"hu_{name}.toml"
    if not path.is_file():
        known = sorted(
            p.name[3:-5] for p in folder.iterdir() if p.name.startswith("hu_") and p.name.endswith(".toml")
        )
        raise PhysicsError(f"no HU curve '{name}'; known: {', '.join(known)}")
    data = tomllib.loads(path.read_text("utf-8"))
    return HuCurve(
        data["title"],
        data["citation"],
        float(data["published_to_HU"]),
        float(data["saturated_from_HU"]),
        np.array(data["density"]["HU"], float),
        np.array(data["density"]["density_g_cm3"], float),
        np.array(data["material"]["edge_HU"], float),
        tuple(data["material"]["name"]),
    )


def known_materials() -> tuple[str, ...]:
    """Names in ``mrlinac/data/materials.toml``."""
    return tuple(_materials())


def nominal_density_g_cm3(name: str) -> float:
    """Density of a material as ``mrlinac/data/materials.toml`` has it, with its source there."""
    return float(_materials()[name]["density_g_cm3"])


WATERY_g_cm3 = 0.005
"""A density this near to water's is water, whatever tissue the curve has there."""


def material_at(density_g_cm3: float, curve: str = "schneider2000") -> str | None:
    """The material that a curve has at a density, water at water's; None beyond the curve's end (a metal)."""
    if abs(density_g_cm3 - nominal_density_g_cm3("water")) <= WATERY_g_cm3:
        return "water"
    table = hu_curve(curve)
    if density_g_cm3 > float(table.density_g_cm3.max()):
        return None
    hu = np.arange(table.density_HU[0], table.density_HU[-1] + 1, dtype=np.float32)
    nearest = int(np.argmin(np.abs(table.density_of(hu) - density_g_cm3)))
    return table.materials[int(table.material_of(hu[nearest : nearest + 1])[0])]


def relative_electrons_per_mass(name: str) -> float:
    """Electrons per gram of a material over those of water (mean Z/A by mass fraction)."""
    return _z_per_a(name) / _z_per_a("water")


def _z_per_a(name: str) -> float:
    with (files("mrlinac") / "data" / "elements.npz").open("rb") as file, np.load(file) as table:
        known = dict(
            zip(table["symbol"].tolist(), (table["atomic_number"] / table["atomic_weight"]).tolist(), strict=True)
        )
    weight = _materials()[name]["weight"]
    return float(sum(part * known[symbol] for symbol, part in weight.items()) / sum(weight.values()))


@cache
def _materials() -> dict[str, dict[str, Any]]:
    path = files("mrlinac") / "data" / "materials.toml"
    return dict(tomllib.loads(path.read_text("utf-8"))["materials"])
