"""Dose in water of a machine's open square fields, by the product's Monte Carlo: what commissioning measures.

Everything is per photon and mm2 on the axis of the isocentre plane.

Depth doses come from a pencil beam: the dose on the axis of an open field is the pencil dose summed over the field's
area at that depth, because turning the source about itself changes nothing but the slope of the surface (3 degrees at
the edge of 10 x 10). Every photon counts for every field size, distance and depth; the same from an open field takes
thirty times the photons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from mrlinac import transport
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.machine import model
from mrlinac.machine.beams import Beam, BeamletMap, field_xyz_T
from mrlinac.machine.delivery import Fluence
from mrlinac.transport import materials

Array = NDArray[np.float64]

PENCIL_mm = 4.0
DOSE_EXPONENT = 0.85  # dose per photon of megavoltage beams goes as energy to this power
AIR_mm = 40.0  # in front of and behind the water: electrons come back in the field


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
    lung_mm: tuple[float, float] | None = None,
    repeats: int = 2,
    field: bool = True,
    seed: int = 1,
) -> Scan:
    """Dose of an open square field (``side_mm`` at the isocentre) in a water tank at a source-surface distance.

    ``spacing_mm``: voxel size across and along the beam. ``lung_mm``: a slab of lung between two
    depths. ``photons`` are shared by the ``repeats``, whose scatter
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
    density, index = np.where(water, 1.0, air), np.where(water, 0, 1)
    if lung_mm is not None:
        slab = (depth > lung_mm[0]) & (depth < lung_mm[1])
        density[:, slab], index[:, slab] = materials.material("lung-icru").density_g_cm3, 2
    medium = Medium(grid, density, index, ("water", "air-dry", "lung-icru"))
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
    """Dose per photon of a pencil beam of 4 x 4 mm2 in water: a :class:`Scan` in Gy.

    Of the photons from the target alone: those of head scatter would leave the pencil.
    """
    photons_of_target = machine.photons.model_copy(update={"extra_focal": None})
    source = machine.model_copy(update={"electrons": None, "photons": photons_of_target})
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


def plane(
    machine: model.Machine, kernel: Scan, side_mm: float, half_mm: float, depth_mm: tuple[float, float]
) -> Array:
    """Mean dose [repeat] of an open field over |x|, |z| < half_mm on the isocentre plane, from a pencil's dose."""
    photons, grid = machine.photons, kernel.grid
    step, x = grid.spacing_zyx_mm[2], grid.x_mm
    open_ = np.clip(np.minimum(x + step / 2, side_mm / 2) - np.maximum(x - step / 2, -side_mm / 2), 0.0, None)
    radius = np.hypot(x[:, None], x[None])
    shape = np.interp(radius, photons.fluence.radius_mm, photons.fluence.relative)
    shape = shape * (1 - photons.softening_per_100mm * radius / 100) ** DOSE_EXPONENT
    deep = (kernel.depth_mm > depth_mm[0]) & (kernel.depth_mm < depth_mm[1])
    field = shape * open_[:, None] * open_[None]
    dose = signal.fftconvolve(kernel.dose[:, :, deep].mean(2), field[None], axes=(1, 2))
    at = 2 * x[0] + step * np.arange(2 * len(x) - 1)
    inner = np.abs(at) < half_mm
    return np.asarray(dose[:, inner][:, :, inner].mean((1, 2)))


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


def figures(depth_mm: Array, curve: dict[str, Array]) -> dict[str, float]:
    """TPR, PDD, dmax and phantom scatter of one set of depth doses [depth]."""
    wet = (depth_mm > 0) & (depth_mm < 300)
    d = depth_mm[wet]
    c = {name: values[wet] for name, values in curve.items()}
    at10 = depth_dose_at(d, c["tpr100"], 100)
    dmax, top = smooth_maximum(d, c["pdd100"])
    found = {"TPR20,10": depth_dose_at(d, c["tpr100"], 200) / at10}
    for depth in (15, 50, 150, 250):
        found[f"TPR 10x10, {depth / 10:g} cm / 10 cm"] = (
            depth_dose_at(d, c["tpr100"], depth, 6 if depth < 40 else 15) / at10
        )
    for side in (50, 200):
        at = depth_dose_at(d, c[f"tpr{side}"], 100)
        found[f"TPR {side // 10}x{side // 10}, 20 cm / 10 cm"] = depth_dose_at(d, c[f"tpr{side}"], 200) / at
        found[f"phantom scatter {side // 10}x{side // 10}, 10 cm deep"] = at / at10
    found["PDD10"] = 100 * depth_dose_at(d, c["pdd100"], 100) / top
    found["PDD20"] = 100 * depth_dose_at(d, c["pdd100"], 200) / top
    found["dmax"] = dmax
    found["first 2 mm, % of the maximum"] = 100 * c["pdd100"][0] / top
    return found


def depth_dose_at(depth_mm: Array, curve: Array, at_mm: float, half_mm: float = 15.0) -> float:
    """A depth dose at one depth, from a parabola through the logarithms nearby."""
    near = np.abs(depth_mm - at_mm) < half_mm
    return float(np.exp(np.polynomial.Polynomial.fit(depth_mm[near] - at_mm, np.log(curve[near]), 2)(0.0)))
