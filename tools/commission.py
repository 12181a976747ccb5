"""Fit a machine file to its references by Monte Carlo in water, and say how well it does.

Four steps, each a subcommand. Only ``--write`` changes the machine file::

    python tools/commission.py basis agility /tmp/agility.npz     # depth doses of single energies (minutes)
    python tools/commission.py fit agility /tmp/agility.npz       # spectrum (seconds)
    python tools/commission.py spot agility                       # penumbra of the point source -> spot size
    python tools/commission.py electrons agility                  # contaminant electrons, where there is no field
    python tools/commission.py verify agility                     # the whole model; --write stores the calibration

The spectrum has the form of Ali and Rogers (PMB 57:31, 2012): bremsstrahlung of an end-point energy behind tungsten
and aluminium. A depth dose is linear in the spectrum, so the fit mixes depth doses of single energies, each computed
once by the product's own Monte Carlo in the machine's own field.

Depth doses come from a pencil beam: the dose on the axis of an open field is the pencil dose summed over the field's
area at that depth, because turning the source about itself changes nothing but the slope of the surface (3 degrees at
the edge of 10 x 10). Every photon counts for every field size, distance and depth; the same from an open field takes
thirty times the photons (``verify`` compares the two).

Everything is per photon and mm2 on the axis of the isocentre plane until ``verify`` turns it into MU.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate, ndimage, optimize

from mrlinac import spec, transport
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.machine import model
from mrlinac.machine.beams import Beam, BeamletMap, Fluence, field_xyz_T
from mrlinac.transport import materials

Array = NDArray[np.float64]

LOWEST_MeV = 0.05  # nothing below passes the filter
BIN_MeV = 0.25
NODES_MeV = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 7.5)
PENCIL_mm = 4.0
DOSE_EXPONENT = 0.85  # dose per photon of megavoltage beams goes as energy to this power
AIR_mm = 40.0  # in front of and behind the water: electrons come back in the field


# ----------------------------------------------------------------------------------------------
# The spectrum's form


def ali_rogers(energy_MeV: ArrayLike, endpoint_MeV: float, tungsten: float, aluminium: float, shape: float) -> Array:
    """Photon number spectrum (per MeV, arbitrary scale) of Ali and Rogers' form.

    Energy fluence [1 + C3 x + x²] [ln(Ee (Ee − E)/E + 1.65) − 0.5] exp(−μ_W C1² − μ_Al C2²) with x = E/Ee: PMB 57:31
    (2012), their equation with four parameters; ``tungsten`` = C1² and ``aluminium`` = C2² in g/cm2, ``shape`` = C3.
    """
    energy = np.asarray(energy_MeV, float)
    x = np.minimum(energy / endpoint_MeV, 1.0)
    bremsstrahlung = np.log(endpoint_MeV * (endpoint_MeV - endpoint_MeV * x) / energy + 1.65) - 0.5
    filtered = np.exp(
        -materials.photon("tungsten", energy).total * tungsten
        - materials.photon("aluminium", energy).total * aluminium
    )
    psi = (1 + shape * x + x**2) * bremsstrahlung * filtered
    return np.where(energy < endpoint_MeV, psi / energy, 0.0)


def binned(endpoint_MeV: float, tungsten: float, aluminium: float, shape: float) -> tuple[Array, Array]:
    """Bin edges in MeV, and the share of the photons in each bin."""
    edges = np.append(np.arange(0.0, endpoint_MeV - 1e-9, BIN_MeV), endpoint_MeV)
    edges[0] = LOWEST_MeV
    weight = []
    for low, high in itertools.pairwise(edges):
        energy = np.linspace(low, high, 401)
        weight.append(np.trapezoid(ali_rogers(energy, endpoint_MeV, tungsten, aluminium, shape), energy))
    return edges, np.array(weight) / np.sum(weight)


# ----------------------------------------------------------------------------------------------
# Monte Carlo in water


@dataclass(frozen=True)
class Scan:
    """Dose in water of one open square field, per photon and mm2 on the axis of the isocentre plane.

    ``dose`` [repeat, z, y, x] in Gy mm2; the beam goes along +y, the isocentre is the origin.
    """

    grid: Grid
    dose: Array
    surface_y_mm: float

    @property
    def depth_mm(self) -> Array:
        """Depths of the voxels' centres in water."""
        return self.grid.y_mm - self.surface_y_mm

    def mean(self, half_x_mm: float, half_z_mm: float, depth_mm: tuple[float, float] | None = None) -> Array:
        """Mean over |x|, |z| below the half widths: [repeat, depth], or [repeat] over a range of depths."""
        x, z = np.abs(self.grid.x_mm) < half_x_mm, np.abs(self.grid.z_mm) < half_z_mm
        curve = self.dose[:, z][:, :, :, x].mean((1, 3))
        if depth_mm is None:
            return np.asarray(curve)
        inside = (self.depth_mm > depth_mm[0]) & (self.depth_mm < depth_mm[1])
        return np.asarray(curve[:, inside].mean(1))


def per_photon(machine: model.Machine, **photons: Any) -> model.Machine:
    """The machine with one photon per mm2 and MU, and changes to its photon source."""
    calibration = machine.calibration.model_copy(update={"photons_per_MU_per_mm2": 1.0})
    source = machine.photons.model_copy(update=photons)
    return machine.model_copy(update={"calibration": calibration, "photons": source})


def scan(
    machine: model.Machine,
    *,
    ssd_mm: float,
    side_mm: float,
    photons: float,
    spacing_mm: tuple[float, float] = (4.0, 2.0),
    half_width_mm: float | None = None,
    thickness_mm: float = 320.0,
    repeats: int = 2,
    field: bool = True,
    seed: int = 1,
) -> Scan:
    """Dose of an open square field (``side_mm`` at the isocentre) in a water tank at a source-surface distance.

    ``spacing_mm``: voxel size across and along the beam. ``photons`` are shared by the ``repeats``, whose scatter
    is the uncertainty.
    """
    across, along = spacing_mm
    half = half_width_mm or side_mm / 2 * (ssd_mm + thickness_mm) / machine.sad_mm + 70.0
    count = 2 * int(np.ceil(half / across))
    surface = ssd_mm - machine.sad_mm
    rows_air, rows_water = int(np.ceil(AIR_mm / along)), round(thickness_mm / along)
    first = -(count - 1) / 2 * across
    grid = Grid(
        (count, rows_air + rows_water + rows_air, count),
        (across, along, across),
        (first, surface - (rows_air - 0.5) * along, first),
    )
    depth = grid.y_mm - surface
    water = np.broadcast_to(((depth > 0) & (depth < rows_water * along))[None, :, None], grid.shape_zyx)
    air = materials.material("air-dry").density_g_cm3
    medium = Medium(grid, np.where(water, 1.0, air), np.where(water, 0, 1), ("water", "air-dry"))
    beam = Beam(0.0, (0.0, 0.0, 0.0), machine.sad_mm)
    quarters = np.array([[-1, -1], [-1, 0], [0, -1], [0, 0]], np.int32)
    fluence = Fluence((BeamletMap(beam, quarters, (side_mm / 2, side_mm / 2)),), (np.ones(4),))
    magnet = field_xyz_T(machine.field_iec_T) if field else (0.0, 0.0, 0.0)
    doses = [
        transport.dose(
            medium, fluence, machine, field_xyz_T=magnet, photons=photons / repeats, seed=seed + k
        ).dose_Gy.astype(float)
        for k in range(repeats)
    ]
    return Scan(grid, np.array(doses), surface)


def pencil(machine: model.Machine, photons: float, **options: Any) -> Scan:
    """Dose per photon of a pencil beam of 4 x 4 mm2 in water: a :class:`Scan` in Gy."""
    source = machine.model_copy(update={"electrons": None})
    result = scan(
        source, ssd_mm=machine.sad_mm - 100, side_mm=PENCIL_mm, photons=photons, spacing_mm=(5.0, 2.0),
        half_width_mm=160.0, **options,
    )  # fmt: skip
    return Scan(result.grid, result.dose / PENCIL_mm**2, result.surface_y_mm)


def on_axis(machine: model.Machine, kernel: Scan, side_mm: float, ssd_mm: float | None = None) -> Array:
    """Dose [repeat, depth] on the axis of an open square field, in Gy mm2 per photon, from a pencil's dose.

    ``side_mm`` at the isocentre. With ``ssd_mm`` None the point is the isocentre at every depth (what a TPR is made
    of), else the water stands at this distance (a PDD). The pencil's dose is weighted with the fluence off the axis
    and the dose per photon that the softening takes away, (1 − softening r)^0.85.
    """
    photons, grid = machine.photons, kernel.grid
    step = grid.spacing_zyx_mm[2]
    edge = np.append(grid.x_mm - step / 2, grid.x_mm[-1] + step / 2)
    radius = np.hypot(grid.x_mm[:, None], grid.x_mm[None])
    result = np.zeros((len(kernel.dose), len(grid.y_mm)))
    for k, depth in enumerate(kernel.depth_mm):
        scale = (machine.sad_mm if ssd_mm is None else ssd_mm + depth) / machine.sad_mm
        half = side_mm / 2 * scale
        inside = np.clip(np.minimum(edge[1:], half) - np.maximum(edge[:-1], -half), 0.0, None)
        at = radius / scale
        shape = np.interp(at, photons.fluence.radius_mm, photons.fluence.relative)
        shape = shape * (1 - photons.softening_per_100mm * at / 100) ** DOSE_EXPONENT
        result[:, k] = np.einsum("rzx,zx,z,x->r", kernel.dose[:, :, k], shape, inside, inside) / scale**2
    return result


def smooth_maximum(depth_mm: Array, dose: Array) -> tuple[float, float]:
    """Depth and height of a depth dose's maximum, from a quartic through the points above 96 % of it."""
    top = depth_mm[np.argmax(ndimage.uniform_filter1d(dose, 3))]
    near = (depth_mm > max(3.0, top - 9)) & (depth_mm < top + 14)
    curve = np.polynomial.Polynomial.fit(depth_mm[near], dose[near], 4)
    fine = np.linspace(depth_mm[near][0], depth_mm[near][-1], 2001)
    best = int(np.argmax(curve(fine)))
    return float(fine[best]), float(curve(fine[best]))


def penumbra_mm(position_mm: Array, profile: Array) -> tuple[float, float]:
    """80-20 % distances at the left and right edge, relative to the mean of the inner 20 mm."""
    relative = profile / profile[np.abs(position_mm) < 10].mean()
    widths = []
    for side in (position_mm < 0, position_mm > 0):
        x, y = position_mm[side], relative[side]
        order = np.argsort(np.abs(x))[::-1]  # from outside in
        rising = np.maximum.accumulate(y[order])
        x80, x20 = (np.interp(level, rising, x[order]) for level in (0.8, 0.2))
        widths.append(abs(float(x80 - x20)))
    return widths[0], widths[1]


# ----------------------------------------------------------------------------------------------
# Steps


SETUPS: dict[str, tuple[float, bool]] = {  # side of the field in mm, at a fixed source-surface distance?
    "tpr100": (100.0, False),
    "tpr50": (50.0, False),
    "tpr200": (200.0, False),
    "pdd100": (100.0, True),
}


def curves(machine: model.Machine, kernel: Scan) -> dict[str, Array]:
    """Depth doses [repeat, depth] of the set-ups; the surface of a PDD is 10 cm before the isocentre."""
    return {
        name: on_axis(machine, kernel, side, machine.sad_mm - 100 if fixed else None)
        for name, (side, fixed) in SETUPS.items()
    }


def basis(machine: model.Machine, path: Path, photons: float) -> None:
    """Depth doses of single energies."""
    rows: dict[str, list[Array]] = {name: [] for name in SETUPS}
    for energy in NODES_MeV:
        narrow = model.Spectrum(edge_MeV=(energy * 0.999, energy * 1.001), weight=(1.0,), source="single energy")
        kernel = pencil(per_photon(machine, spectrum=narrow), photons, seed=int(1000 * energy))
        for name, curve in curves(machine, kernel).items():
            rows[name].append(curve)
        print(f"{energy} MeV: {rows['tpr100'][-1].mean():.4g} Gy mm2 on average", flush=True)
    np.savez_compressed(
        path, energy_MeV=NODES_MeV, depth=kernel.depth_mm, **{k: np.array(v) for k, v in rows.items()}
    )


class Mixture:
    """Depth doses of any spectrum, from those of single energies; ``repeat`` picks one of the independent runs."""

    def __init__(self, path: Path, repeat: int | None = None) -> None:
        with np.load(path) as file:
            data = {key: file[key] for key in file.files}
        self.depth = data["depth"]
        nodes = np.concatenate([[0.0], data["energy_MeV"]])
        self.fine = np.linspace(LOWEST_MeV, data["energy_MeV"][-1], 1000)
        self.rows = {}
        for name in SETUPS:
            rows = data[name].mean(1) if repeat is None else data[name][:, repeat]
            rows = np.concatenate([np.zeros((1, rows.shape[1])), rows])
            self.rows[name] = interpolate.PchipInterpolator(nodes, rows)(self.fine)

    def curves(self, parameters: tuple[float, ...]) -> dict[str, Array]:
        """Depth doses of the set-ups, per photon."""
        number = ali_rogers(self.fine, *parameters)
        return {name: number @ rows / number.sum() for name, rows in self.rows.items()}

    def figures(self, parameters: tuple[float, ...]) -> dict[str, float]:
        """The figures of :func:`figures`, and the spectrum's mean energy."""
        mean = float(np.average(self.fine, weights=ali_rogers(self.fine, *parameters)))
        return figures(self.depth, self.curves(parameters)) | {"mean energy": mean}


def figures(depth_mm: Array, curve: dict[str, Array]) -> dict[str, float]:
    """TPR, PDD, dmax and phantom scatter of one set of depth doses [depth]."""
    wet = (depth_mm > 0) & (depth_mm < 300)
    d = depth_mm[wet]
    c = {name: values[wet] for name, values in curve.items()}
    at10 = _at(d, c["tpr100"], 100)
    dmax, top = smooth_maximum(d, c["pdd100"])
    found = {"TPR20,10": _at(d, c["tpr100"], 200) / at10}
    for depth in (15, 50, 150, 250):
        found[f"TPR 10x10, {depth / 10:g} cm / 10 cm"] = _at(d, c["tpr100"], depth, 6 if depth < 40 else 15) / at10
    for side in (50, 200):
        at = _at(d, c[f"tpr{side}"], 100)
        found[f"TPR {side // 10}x{side // 10}, 20 cm / 10 cm"] = _at(d, c[f"tpr{side}"], 200) / at
        found[f"phantom scatter {side // 10}x{side // 10}, 10 cm deep"] = at / at10
    found["PDD10"] = 100 * _at(d, c["pdd100"], 100) / top
    found["PDD20"] = 100 * _at(d, c["pdd100"], 200) / top
    found["dmax"] = dmax
    found["first 2 mm, % of the maximum"] = 100 * c["pdd100"][0] / top
    return found


def _at(depth_mm: Array, curve: Array, at_mm: float, half_mm: float = 15.0) -> float:
    """A depth dose at one depth, from a parabola through the logarithms nearby."""
    near = np.abs(depth_mm - at_mm) < half_mm
    return float(np.exp(np.polynomial.Polynomial.fit(depth_mm[near] - at_mm, np.log(curve[near]), 2)(0.0)))


def fit(
    machine: model.Machine, mixture: Mixture, endpoint: float, tungsten: float, shape: float
) -> tuple[float, ...]:
    """Aluminium that gives the machine's TPR20,10, for an end point, tungsten and shape."""
    target = next(f.value for f in machine.references if f.name == "TPR20,10")

    def miss(aluminium: float) -> float:
        return mixture.figures((endpoint, tungsten, aluminium, shape))["TPR20,10"] - target

    low, high = 0.0, 120.0
    if miss(low) > 0:
        aluminium = low
    elif miss(high) < 0:
        aluminium = high
    else:
        aluminium = float(optimize.brentq(miss, low, high, xtol=0.01))
    return (endpoint, tungsten, aluminium, shape)


def spot(machine: model.Machine, photons: float) -> dict[str, tuple[float, float, float]]:
    """Spot sigma along u and v that gives the referenced penumbra 10 cm deep: (target, point source, sigma) in mm.

    A Gaussian spot blurs the point source's profile by a Gaussian of spot sigma × (SAD − c)/c on the isocentre plane,
    c the collimator's distance.
    """
    result = scan(
        per_photon(machine, spot_sigma_uv_mm=(0.0, 0.0)).model_copy(update={"electrons": None}),
        ssd_mm=machine.sad_mm - 100, side_mm=100.0, photons=photons, spacing_mm=(2.0, 5.0), thickness_mm=220.0,
    )  # fmt: skip
    names = [f for f in machine.references if f.name.startswith("penumbra")]
    magnification = (machine.sad_mm - machine.photons.collimator_mm) / machine.photons.collimator_mm
    found = {}
    for axis, profile in _profiles(result, 100.0).items():
        label = "AB" if axis == "u" else "GT"
        target = next((f.value for f in names if label in f.name), names[0].value)
        position = result.grid.x_mm if axis == "u" else result.grid.z_mm

        def excess(sigma_mm: float, x: Array = position, y: Array = profile, aim: float = target) -> float:
            blurred = ndimage.gaussian_filter1d(y, sigma_mm * magnification / 2.0) if sigma_mm else y
            return float(np.mean(penumbra_mm(x, blurred))) - aim

        sigma = optimize.brentq(excess, 0.0, 5.0) if excess(0.0) < 0 else 0.0
        found[axis] = (target, excess(0.0) + target, float(sigma))
    return found


def _profiles(result: Scan, depth_mm: float, half_mm: float = 20.0) -> dict[str, Array]:
    """Profiles along u (x) and v (z), mean over ±half_mm across and ±10 mm in depth."""
    deep = np.abs(result.depth_mm - depth_mm) < 10
    dose = result.dose.mean(0)[:, deep].mean(1)
    across_x, across_z = np.abs(result.grid.x_mm) < half_mm, np.abs(result.grid.z_mm) < half_mm
    return {"u": dose[across_z].mean(0), "v": dose[:, across_x].mean(1)}


def electron_depth_dose(machine: model.Machine, photons: float) -> tuple[Array, Array]:
    """Depths in water, and the dose of one contaminant electron per photon, 10 x 10, SSD 90 cm, in Gy mm2."""
    if machine.electrons is None or machine.has_field:
        return np.array([0.0, 1.0]), np.zeros(2)
    options: dict[str, Any] = {"ssd_mm": 900.0, "side_mm": 100.0, "thickness_mm": 60.0, "spacing_mm": (4.0, 1.0)}
    bare = per_photon(machine).model_copy(update={"electrons": None})
    one = per_photon(machine).model_copy(
        update={"electrons": machine.electrons.model_copy(update={"per_photon": 1.0})}
    )
    alone, both = (scan(m, photons=photons, **options) for m in (bare, one))
    wet = (alone.depth_mm > 0) & (alone.depth_mm < 60)
    curve = (both.mean(20.0, 20.0) - alone.mean(20.0, 20.0)).mean(0)[wet]
    depth = alone.depth_mm[wet]
    return depth, np.where(depth < 30, curve, 0.0)  # beyond: no electron, only the difference of two photon doses


def electrons(machine: model.Machine, photons: float, surface_fraction: float) -> tuple[float, Array, Array]:
    """Contaminant electrons per photon for a surface dose of ``surface_fraction`` of the photons' maximum.

    Also their depths and their dose relative to the surface.
    """
    if machine.electrons is None:
        raise SystemExit(f"{machine.name}: the file has no contaminant electrons")
    depth, curve = electron_depth_dose(machine, photons)
    kernel = pencil(per_photon(machine), photons)
    wet = (kernel.depth_mm > 0) & (kernel.depth_mm < 300)
    _, top = smooth_maximum(kernel.depth_mm[wet], curves(machine, kernel)["pdd100"].mean(0)[wet])
    surface = float(np.polynomial.Polynomial.fit(depth[:4], curve[:4], 1)(0.0))
    return surface_fraction * top / surface, depth, curve / surface


def verify(machine: model.Machine, photons: float) -> tuple[list[tuple[str, float, float]], float, float]:
    """Figures of the whole model (name, value, sigma), and the calibration: photons per MU and mm2, its sigma."""
    bare, calibration = per_photon(machine), machine.calibration
    options: dict[str, Any] = {"repeats": 8, "field": calibration.with_field or not machine.has_field}
    kernel = pencil(bare, photons, **options)
    depth, curve = electron_depth_dose(machine, photons / 10)
    per = machine.electrons.per_photon if machine.electrons else 0.0
    contamination = per * np.interp(kernel.depth_mm, depth, curve, right=0.0) * (kernel.depth_mm > 0)
    each = [
        figures(kernel.depth_mm, {name: c + contamination for name, c in set_ups.items()})
        for set_ups in _by_repeat(curves(bare, kernel))
    ]
    rows = [(name, *_mean([figure[name] for figure in each])) for name in each[0]]

    side, isocentric = calibration.field_mm[0], calibration.ssd_mm + calibration.depth_mm == machine.sad_mm
    ssd = None if isocentric else calibration.ssd_mm
    wet = (kernel.depth_mm > 0) & (kernel.depth_mm < 300)
    half = 6.0 if calibration.depth_mm < 40 else 15.0
    at_point = (on_axis(bare, kernel, side, ssd) + contamination)[:, wet]
    calibrated = [_at(kernel.depth_mm[wet], c, calibration.depth_mm, half) for c in at_point]
    at10 = [_at(kernel.depth_mm[wet], c[wet], 100.0) for c in on_axis(bare, kernel, 100.0)]
    mean, sigma = _mean(calibrated)
    per_MU = calibration.dose_per_MU_Gy / mean
    output = [100 * calibration.dose_per_MU_Gy * b / a for a, b in zip(calibrated, at10, strict=True)]
    rows.append(("cGy/MU at the isocentre, 10x10, 10 cm deep", *_mean(output)))

    # The same calibration point straight from the open field, and the penumbra, which needs it.
    opened = scan(
        bare, ssd_mm=calibration.ssd_mm, side_mm=side, photons=photons,
        thickness_mm=calibration.depth_mm + 150.0, **options,
    ).mean(10.0, 10.0, (calibration.depth_mm - 5, calibration.depth_mm + 5))  # fmt: skip
    rows.append(("calibration point, open field / pencil", *_mean(opened / mean)))
    fine = scan(
        bare.model_copy(update={"electrons": None}), ssd_mm=machine.sad_mm - 100, side_mm=100.0, photons=photons / 3,
        spacing_mm=(2.0, 5.0), thickness_mm=220.0,
    )  # fmt: skip
    for axis, profile in _profiles(fine, 100.0).items():
        position = fine.grid.x_mm if axis == "u" else fine.grid.z_mm
        left, right = penumbra_mm(position, profile)
        rows.append(
            (
                f"penumbra along {axis}, both edges' mean and half difference",
                (left + right) / 2,
                abs(left - right) / 2,
            )
        )
    return rows, per_MU, sigma / mean


def _by_repeat(curve: dict[str, Array]) -> list[dict[str, Array]]:
    return [{name: rows[i] for name, rows in curve.items()} for i in range(len(next(iter(curve.values()))))]


def _mean(values: ArrayLike) -> tuple[float, float]:
    """Mean of independent repeats and its standard deviation."""
    array = np.asarray(values, float)
    return float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))


def rewritten(text: str, table: str, **values: str) -> str:
    """A TOML text with the values of some keys of one table replaced; everything else, comments too, stays.

    Raises
    ------
    KeyError
        When the table or one of the keys is not there.
    """
    start = re.search(rf"^\[{re.escape(table)}\]\s*$", text, re.M)
    if start is None:
        raise KeyError(table)
    end = re.search(r"^\[", text[start.end() :], re.M)
    stop = start.end() + end.start() if end else len(text)
    part = text[start.end() : stop]
    for key, value in values.items():
        part, count = re.subn(rf"^{key} = .*$", lambda _, k=key, v=value: f"{k} = {v}", part, count=1, flags=re.M)
        if not count:
            raise KeyError(f"{table}.{key}")
    return text[: start.end()] + part + text[stop:]


def _numbers(values: ArrayLike, form: str) -> str:
    return "[" + ", ".join(form.format(v) for v in np.asarray(values, float)) + "]"


# ----------------------------------------------------------------------------------------------
# Command line


def main(arguments: list[str] | None = None) -> int:
    """Run one step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    for name, photons in (("basis", 1e6), ("fit", 0.0), ("spot", 6e6), ("electrons", 1e6), ("verify", 1.2e7)):
        step = steps.add_parser(name)
        step.add_argument("machine")
        if name in ("basis", "fit"):
            step.add_argument("path", type=Path, help="the .npz of single energies")
        if name == "fit":
            step.add_argument("--endpoint", type=float, nargs="+", required=True, help="MeV")
            step.add_argument("--tungsten", type=float, nargs="+", default=[1.5], help="g/cm2")
            step.add_argument("--shape", type=float, default=-1.186)
        else:
            step.add_argument("--photons", type=float, default=photons)
        if name == "electrons":
            step.add_argument("--surface", type=float, required=True, help="their surface dose, of the maximum")
        if name in ("fit", "verify"):
            step.add_argument("--write", action="store_true", help="store the result in the machine file")
            step.add_argument("--source", help="what the file will say about where it comes from")
    args = parser.parse_args(arguments)
    machine, path = model.load(args.machine), spec.find("machines", args.machine)
    if args.step == "basis":
        args.path.parent.mkdir(parents=True, exist_ok=True)
        basis(machine, args.path, args.photons)
    elif args.step == "fit":
        mixture = Mixture(args.path)
        for endpoint, tungsten in itertools.product(args.endpoint, args.tungsten):
            parameters = fit(machine, mixture, endpoint, tungsten, args.shape)
            print("endpoint, W, Al, C3:", ", ".join(f"{v:.4g}" for v in parameters))
            for name, value in mixture.figures(parameters).items():
                print(f"    {name:50s} {value:.4f}")
        if args.write:
            edges, weight = binned(*parameters)
            table = {"edge_MeV": _numbers(edges, "{:g}"), "weight": _numbers(weight, "{:.5f}")}
            if args.source:
                table["source"] = f'"{args.source}"'
            path.write_text(rewritten(path.read_text(), "photons.spectrum", **table))
    elif args.step == "spot":
        for axis, (target, point, sigma) in spot(machine, args.photons).items():
            print(f"{axis}: wanted {target:.2f} mm, point source {point:.2f} mm, spot sigma {sigma:.2f} mm")
    elif args.step == "electrons":
        per, depths, shares = electrons(machine, args.photons, args.surface)
        for depth, share in zip(depths, shares, strict=True):
            print(f"{depth:5.1f} mm: {share:.3f} of the surface")
        print(f"per_photon {per:.5f}")
    else:
        rows, per_MU, relative = verify(machine, args.photons)
        for name, value, sigma in rows:
            print(f"{name:60s} {value:9.4f} ± {sigma:.4f}")
        print(f"photons per MU and mm2: {per_MU:.5g} ± {100 * relative:.2f} %")
        if args.write:
            command = f"tools/commission.py verify {args.machine} --photons {args.photons:g}"
            values = {
                "photons_per_MU_per_mm2": f"{per_MU:.5g}".replace("e+0", "e").replace("e+", "e"),
                "photons_rel_sigma": f"{relative:.4f}",
                "made_by": f'"{command}"',
            }
            path.write_text(rewritten(path.read_text(), "calibration", **values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
