"""From HU to mass density and material, as data: ``mrlinac/data/hu_NAME.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, field_validator

from mrlinac import spec
from mrlinac.errors import PhysicsError, SpecError, did_you_mean

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


class OwnMaterial(spec.Spec):
    """A material that a file defines where it uses it, in place of a name from ``mrlinac/data/materials.toml``.

    In a medium it goes by its :attr:`definition`, which holds all that physics needs of it: two materials of one name and
    other figures are two materials, and a fingerprint sees every figure.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    weight: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)  # mass fractions by element symbol
    density_g_cm3: Annotated[float, Field(gt=0, le=30)]  # nominal: of the density effect
    I_eV: Annotated[float, Field(gt=10, lt=1000)]  # mean excitation energy
    conductor: bool = False  # true for metals

    @field_validator("weight")
    @classmethod
    def _whole(cls, weight: dict[str, float]) -> dict[str, float]:
        unknown = [symbol for symbol in weight if symbol not in _z_per_a_of_elements()]
        if unknown:
            known = ", ".join(_z_per_a_of_elements())
            raise ValueError(f"no data for {', '.join(unknown)} (elements with data: {known})")
        total = sum(weight.values())
        if abs(total - 1) > WHOLE_WITHIN:
            raise ValueError(f"the mass fractions add up to {total:g}, not to 1")
        return weight

    @property
    def definition(self) -> str:
        """Name and figures as one string, which :func:`defined` reads."""
        parts = ",".join(f"{symbol}:{part!r}" for symbol, part in sorted(self.weight.items()))
        conductor = ";conductor" if self.conductor else ""
        return f"{self.name}{{{self.density_g_cm3!r} g/cm3;I {self.I_eV!r} eV;{parts}{conductor}}}"


WHOLE_WITHIN = 0.01
"""Mass fractions are normalised where they miss 1 by less than published tables do (rounded to 0.1 % each)."""


def defined(name: str) -> OwnMaterial | None:
    """The material that a definition defines; None for a plain name.

    Raises
    ------
    PhysicsError
        For a definition that is none.
    """
    if "{" not in name:
        return None
    try:
        head, _, inner = name.removesuffix("}").partition("{")
        density, ionisation, weight, *metal = inner.split(";")
        parts = (part.split(":") for part in weight.split(","))
        values = {
            "name": head,
            "density_g_cm3": float(density.removesuffix(" g/cm3")),
            "I_eV": float(ionisation.removeprefix("I ").removesuffix(" eV")),
            "weight": {symbol: float(part) for symbol, part in parts},
            "conductor": metal == ["conductor"],
        }
        return spec.validate(OwnMaterial, values, f"material '{name}'")
    except (ValueError, SpecError) as error:
        raise PhysicsError(f"'{name}' defines no material: {error}") from None


def short_name(name: str) -> str:
    """A material's name without its figures, to be read."""
    return name.partition("{")[0]


def material_problem(name: str) -> str | None:
    """What is wrong with a material's name or definition; None where it can be used."""
    try:
        if defined(name) is not None or name in known_materials():
            return None
    except PhysicsError as error:
        return str(error)
    hint = did_you_mean(name, known_materials())
    return (
        f"unknown material '{name}'{hint} (known: {', '.join(known_materials())}; or define it: "
        "material = { name, weight, density_g_cm3, I_eV })"
    )


def _named(value: Any) -> Any:
    return OwnMaterial.model_validate(value).definition if isinstance(value, dict) else value


MaterialName = Annotated[str, BeforeValidator(_named)]
"""A material in a file: a name, or a table that defines one (:class:`OwnMaterial`)."""


def nominal_density_g_cm3(name: str) -> float:
    """Density of a material as ``mrlinac/data/materials.toml`` has it, with its source there."""
    own = defined(name)
    return float(_materials()[name]["density_g_cm3"]) if own is None else own.density_g_cm3


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
    own = defined(name)
    weight = _materials()[name]["weight"] if own is None else own.weight
    known = _z_per_a_of_elements()
    return float(sum(part * known[symbol] for symbol, part in weight.items()) / sum(weight.values()))


@cache
def _z_per_a_of_elements() -> dict[str, float]:
    """Electrons per mass of each element that there are data for, by symbol."""
    with (files("mrlinac") / "data" / "elements.npz").open("rb") as file, np.load(file) as table:
        return dict(
            zip(table["symbol"].tolist(), (table["atomic_number"] / table["atomic_weight"]).tolist(), strict=True)
        )


@cache
def _materials() -> dict[str, dict[str, Any]]:
    path = files("mrlinac") / "data" / "materials.toml"
    return dict(tomllib.loads(path.read_text("utf-8"))["materials"])
