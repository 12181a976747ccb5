"""Fit a machine file to its references by Monte Carlo in water, and say how well it does.

Steps, each a subcommand. Only ``--write`` changes the machine file::

    python tools/commission.py basis agility /tmp/agility.npz     # depth doses of single energies (minutes)
    python tools/commission.py fit agility /tmp/agility.npz       # spectrum (seconds)
    python tools/commission.py spot agility                       # penumbra of the point source -> spot size
    python tools/commission.py electrons agility                  # contaminant electrons, where there is no field
    python tools/commission.py head agility tools/measurements/synergy-agility-output-factors.csv --fit 30 100 200
    python tools/commission.py verify agility                     # the whole model; --write stores the calibration

The spectrum has the form of Ali and Rogers (PMB 57:31, 2012): bremsstrahlung of an end-point energy behind tungsten
and aluminium. A depth dose is linear in the spectrum, so the fit mixes depth doses of single energies, each computed
once by the product's own Monte Carlo in the machine's own field.

Everything is per photon and mm2 on the axis of the isocentre plane until ``verify`` turns it into MU.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate, ndimage, optimize
from water_dose import (
    SETUPS,
    Array,
    Scan,
    curves,
    depth_dose_at,
    figures,
    on_axis,
    pencil,
    penumbra_mm,
    per_photon,
    plane,
    scan,
    smooth_maximum,
)

from mrlinac import spec
from mrlinac.machine import model
from mrlinac.transport import materials

LOWEST_MeV = 0.05  # nothing below passes the filter
BIN_MeV = 0.25
NODES_MeV = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 7.5)


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
# Steps


def basis(machine: model.Machine, path: Path, photons: float, lung_mm: tuple[float, float] | None = None) -> None:
    """Depth doses of single energies, in water or with a slab of lung."""
    rows: dict[str, list[Array]] = {name: [] for name in SETUPS}
    for energy in NODES_MeV:
        narrow = model.Spectrum(edge_MeV=(energy * 0.999, energy * 1.001), weight=(1.0,), source="single energy")
        kernel = pencil(per_photon(machine, spectrum=narrow), photons, seed=int(1000 * energy), lung_mm=lung_mm)
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


def sensitivity(
    machine: model.Machine, water: Mixture, lung: Mixture, endpoints: list[float]
) -> list[dict[str, float]]:
    """What the end point changes when the aluminium is refitted to the same TPR20,10 (tungsten 1.5 g/cm2).

    ``lung``: with a slab of lung from 5 to 15 cm. Doses relative to water's at the isocentre, 10 cm deep.
    """
    rows = []
    for endpoint in endpoints:
        parameters = fit(machine, water, endpoint, 1.5, -1.186)
        depth = water.depth
        inside, slab = water.curves(parameters)["pdd100"], lung.curves(parameters)["pdd100"]
        at10 = depth_dose_at(depth, inside, 100)
        row = {"end point, MeV": endpoint, "aluminium, g/cm2": parameters[2]}
        row |= {name: water.figures(parameters)[name] for name in ("dmax", "PDD10", "mean energy")}
        for name, curve, (low, high) in (
            ("skin: first 4 mm", inside, (0, 4)),
            ("mean of the lung", slab, (50, 150)),
            ("lung, first 10 mm", slab, (50, 60)),
            ("lung, last 10 mm", slab, (140, 150)),
            ("water behind, first 10 mm", slab, (150, 160)),
        ):
            row[name] = float(curve[(depth > low) & (depth < high)].mean() / at10)
        rows.append(row)
    return rows


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


def phantom_factors(machine: model.Machine, sides_mm: Array, photons: float) -> tuple[Array, Array]:
    """Output factors, SSD = SAD - 10 cm and 10 cm deep, without head scatter, relative to 10 x 10; their sigmas."""
    kernel = pencil(per_photon(machine), photons, repeats=8)
    wet = (kernel.depth_mm > 0) & (kernel.depth_mm < 300)

    def at_10_cm(side_mm: float) -> Array:
        rows = on_axis(machine, kernel, side_mm, machine.sad_mm - 100)[:, wet]
        return np.array([depth_dose_at(kernel.depth_mm[wet], row, 100.0) for row in rows])

    reference = at_10_cm(100.0)
    factors = [_ratio_of_each(at_10_cm(side), reference) for side in sides_mm]
    return np.array([mean for mean, _ in factors]), np.array([sigma for _, sigma in factors])


def head(
    machine: model.Machine,
    sides_mm: Array,
    measured: Array,
    fitted: NDArray[np.bool_],
    phantom: Array,
    distance_mm: float,
) -> tuple[model.ExtraFocal, Array]:
    """Extra-focal source whose head scatter times the phantom's factors gives the measured ones; the modelled factors.

    Share and decay are fitted to the fields of ``fitted``; the plane is given, since the two stand for it as well.
    """

    def source(parameters: Array) -> model.ExtraFocal:
        share, decay_mm = parameters
        return model.ExtraFocal(share=share, decay_mm=decay_mm, distance_mm=distance_mm, source="fitted")

    def modelled(parameters: Array) -> Array:
        photons = machine.photons.model_copy(update={"extra_focal": source(parameters)})
        with_head = machine.model_copy(update={"photons": photons})
        in_air = [with_head.in_air((float(side), float(side))) for side in sides_mm]
        return phantom * np.array(in_air) / with_head.in_air((100.0, 100.0))

    found = optimize.least_squares(
        lambda p: (modelled(p) / measured - 1)[fitted],
        x0=[0.08, 15.0],
        bounds=([0.0, 1.0], [0.5, 100.0]),
        x_scale=[0.1, 10],
    )
    return source(found.x), modelled(found.x)


def verify(machine: model.Machine, photons: float) -> tuple[list[tuple[str, float, float]], float, float]:
    """Figures of the whole model (name, value, sigma), and the calibration: photons per MU and mm2, its sigma."""
    bare, calibration = per_photon(machine), machine.calibration
    options: dict[str, Any] = {"repeats": 8, "field": calibration.with_field or not machine.has_field}
    kernel = pencil(per_photon(machine), photons, **options)
    depth, curve = electron_depth_dose(machine, photons / 10)
    per = machine.electrons.per_photon if machine.electrons else 0.0
    contamination = per * np.interp(kernel.depth_mm, depth, curve, right=0.0) * (kernel.depth_mm > 0)
    each = [
        figures(kernel.depth_mm, {name: c + contamination for name, c in set_ups.items()})
        for set_ups in _by_repeat(curves(bare, kernel))
    ]
    together = figures(kernel.depth_mm, {name: c.mean(0) + contamination for name, c in curves(bare, kernel).items()})
    rows = [(name, float(value), _mean([figure[name] for figure in each])[1]) for name, value in together.items()]

    side, isocentric = calibration.field_mm[0], calibration.ssd_mm + calibration.depth_mm == machine.sad_mm
    ssd = None if isocentric else calibration.ssd_mm
    wet = (kernel.depth_mm > 0) & (kernel.depth_mm < 300)
    half = 6.0 if calibration.depth_mm < 40 else 15.0
    at_point = (on_axis(bare, kernel, side, ssd) + contamination)[:, wet]
    calibrated = [depth_dose_at(kernel.depth_mm[wet], c, calibration.depth_mm, half) for c in at_point]
    at10 = [depth_dose_at(kernel.depth_mm[wet], c[wet], 100.0) for c in on_axis(bare, kernel, 100.0)]
    mean, sigma = _mean(calibrated)
    per_MU = calibration.dose_per_MU_Gy / mean
    output = [100 * calibration.dose_per_MU_Gy * b / a for a, b in zip(calibrated, at10, strict=True)]
    rows.append(("cGy/MU at the isocentre, 10x10, 10 cm deep", *_mean(output)))

    # The same plane straight from the open field, and the penumbra, which needs it.
    opened = scan(
        bare.model_copy(update={"electrons": None}), ssd_mm=calibration.ssd_mm, side_mm=side, photons=photons,
        thickness_mm=calibration.depth_mm + 150.0, **options,
    )  # fmt: skip
    between = (calibration.depth_mm - 6, calibration.depth_mm + 6)
    direct = opened.mean(26.0, 26.0, between)
    rows.append(("open field / pencil, inner 5 x 5 cm2", *_ratio(direct, plane(bare, kernel, side, 26.0, between))))
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


def _ratio(numerator: Array, denominator: Array) -> tuple[float, float]:
    """Ratio of two means over repeats, and its standard deviation."""
    (a, da), (b, db) = _mean(numerator), _mean(denominator)
    return a / b, a / b * float(np.hypot(da / a, db / b))


def _ratio_of_each(numerator: Array, denominator: Array) -> tuple[float, float]:
    """Mean and standard deviation of the ratio of each repeat, whose numerator and denominator share their histories."""
    return _mean(numerator / denominator)


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
    for name, photons in (
        ("basis", 1e6),
        ("fit", 0.0),
        ("sensitivity", 0.0),
        ("spot", 6e6),
        ("electrons", 1e6),
        ("head", 1.2e7),
        ("verify", 1.2e7),
    ):
        step = steps.add_parser(name)
        step.add_argument("machine")
        if name == "basis":
            step.add_argument("--lung", type=float, nargs=2, metavar="mm", help="a slab of lung between two depths")
        if name in ("basis", "fit", "sensitivity"):
            step.add_argument("path", type=Path, help="the .npz of single energies")
        if name == "sensitivity":
            step.add_argument("lung_path", type=Path, help="the .npz made with --lung 50 150")
        if name in ("fit", "sensitivity"):
            step.add_argument("--endpoint", type=float, nargs="+", required=True, help="MeV")
        if name == "fit":
            step.add_argument("--tungsten", type=float, nargs="+", default=[1.5], help="g/cm2")
            step.add_argument("--shape", type=float, default=-1.186)
        elif name != "sensitivity":
            step.add_argument("--photons", type=float, default=photons)
        if name == "electrons":
            step.add_argument("--surface", type=float, required=True, help="their surface dose, of the maximum")
        if name == "head":
            step.add_argument("path", type=Path, help="CSV of side_mm, output_factor: SSD = SAD - 10 cm, 10 cm deep")
            step.add_argument("--fit", type=float, nargs="+", required=True, metavar="mm", help="the fields to fit")
            step.add_argument(
                "--distance", type=float, default=125.0, help="of the extra-focal plane from the target, mm"
            )
        if name in ("fit", "verify"):
            step.add_argument("--write", action="store_true", help="store the result in the machine file")
            step.add_argument("--source", help="what the file will say about where it comes from")
    args = parser.parse_args(arguments)
    machine, path = model.load(args.machine), spec.find("machines", args.machine)
    if args.step == "basis":
        args.path.parent.mkdir(parents=True, exist_ok=True)
        basis(machine, args.path, args.photons, tuple(args.lung) if args.lung else None)
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
    elif args.step == "sensitivity":
        for row in sensitivity(machine, Mixture(args.path), Mixture(args.lung_path), args.endpoint):
            print(", ".join(f"{name} {value:.4g}" for name, value in row.items()))
    elif args.step == "spot":
        for axis, (target, point, sigma) in spot(machine, args.photons).items():
            print(f"{axis}: wanted {target:.2f} mm, point source {point:.2f} mm, spot sigma {sigma:.2f} mm")
    elif args.step == "head":
        sides_mm, measured = np.loadtxt(args.path, delimiter=",", comments="#", skiprows=3, unpack=True)
        phantom, sigma = phantom_factors(machine, sides_mm, args.photons)
        fitted = np.isin(sides_mm, args.fit)
        extra, modelled = head(machine, sides_mm, measured, fitted, phantom, args.distance)
        print(f"share {extra.share:.4f}, decay_mm {extra.decay_mm:.2f}, distance_mm {extra.distance_mm:g}")
        for row in zip(sides_mm, measured, modelled, fitted, phantom, sigma, strict=True):
            side, aim, value, used, alone, spread = row
            print(f"{side:5.0f} mm: measured {aim:.3f}, model {value:.3f} ({100 * (value / aim - 1):+.2f} %, "
                  f"{'fitted' if used else 'predicted'}); phantom scatter alone {alone:.3f} ± {spread:.4f}")  # fmt: skip
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
            command = f"tools/commission.py verify {args.machine} --photons {args.photons:g}".replace("e+0", "e")
            values = {
                "photons_per_MU_per_mm2": f"{per_MU:.5g}".replace("e+0", "e").replace("e+", "e"),
                "photons_rel_sigma": f"{relative:.4f}",
                "made_by": f'"{command}"',
            }
            path.write_text(rewritten(path.read_text(), "calibration", **values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
