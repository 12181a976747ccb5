"""Shapes as signed distances on an axial plane: negative inside, in mm, exact or first order near the surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator

Field = NDArray[np.float32]
FAR_mm = 60.0
"""Signed distance given to pixels outside the window in which a shape was evaluated."""


@dataclass(frozen=True)
class Plane:
    """Points of one axial plane in the body's own coordinates.

    Attributes
    ----------
    x, y : float32 arrays, same shape
        Body coordinates of the pixels in mm (the patient's size and shape already taken out).
    z : float
        Height in mm above the carina.
    pixel_mm : float
        Width of the soft edge that stands for the partial volume effect.
    """

    x: Field
    y: Field
    z: float
    pixel_mm: float

    def far(self) -> Field:
        """A field that is outside everywhere."""
        return np.full(self.x.shape, FAR_mm, np.float32)

    def window(self, x0: float, x1: float, y0: float, y1: float) -> tuple[slice, slice]:
        """Index window that holds all pixels within a box; may be empty."""
        row, column = self.y[:, self.y.shape[1] // 2], self.x[self.x.shape[0] // 2]
        i0, i1 = np.searchsorted(row, (y0, y1))
        j0, j1 = np.searchsorted(column, (x0, x1))
        return slice(int(i0), int(i1)), slice(int(j0), int(j1))


def soft_min(a: Field, b: Field, blend_mm: float) -> Field:
    """Union of two shapes with a fillet of about ``blend_mm``."""
    h = np.maximum(blend_mm - np.abs(a - b), 0.0) / blend_mm
    return (np.minimum(a, b) - h * h * (blend_mm / 4)).astype(np.float32)


def soft_max(a: Field, b: Field, blend_mm: float) -> Field:
    """Intersection of two shapes with a rounded edge of about ``blend_mm``."""
    return -soft_min(-a, -b, blend_mm)


def occupancy(distance: Field, pixel_mm: float) -> Field:
    """Fraction of a pixel inside, from the signed distance of its centre."""
    return np.clip(0.5 - distance / pixel_mm, 0.0, 1.0).astype(np.float32)


@lru_cache(maxsize=256)
def table(z_mm: tuple[float, ...], values: tuple[float, ...]) -> PchipInterpolator:
    """Monotone interpolation of a quantity over height, constant at the ends."""
    order = np.argsort(z_mm)
    z, v = np.asarray(z_mm, float)[order], np.asarray(values, float)[order]
    return PchipInterpolator(np.r_[z[0] - 80, z, z[-1] + 80], np.r_[v[0], v, v[-1]])


def superellipse(x: Field, y: Field, a_mm: float, b_mm: float, power: float) -> Field:
    """First-order distance to ``|x/a|^n + |y/b|^n = 1``."""
    u, v = np.abs(x) / a_mm + 1e-6, np.abs(y) / b_mm + 1e-6
    k = (u**power + v**power) ** (1 / power)
    slope = np.hypot((u / k) ** (power - 1) / a_mm, (v / k) ** (power - 1) / b_mm)
    return ((k - 1) / slope).astype(np.float32)


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid; ``axes`` are three orthonormal rows, ``radii_mm`` the half-lengths along them."""

    centre: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))

    def distance(self, plane: Plane, margin_mm: float = 25.0) -> Field:
        """First-order signed distance on a plane."""
        out = plane.far()
        reach = max(self.radii_mm) + margin_mm
        cx, cy, cz = self.centre
        if abs(plane.z - cz) > reach:
            return out
        window = plane.window(cx - reach, cx + reach, cy - reach, cy + reach)
        dx, dy, dz = plane.x[window] - cx, plane.y[window] - cy, plane.z - cz
        k0, k1 = np.zeros_like(dx), np.zeros_like(dx)
        for (ax, ay, az), r in zip(self.axes, self.radii_mm, strict=True):
            q = (dx * ax + dy * ay + dz * az) / r
            k0 += q * q
            k1 += (q / r) ** 2
        k0 = np.sqrt(k0) + 1e-6
        out[window] = k0 * (k0 - 1) / (np.sqrt(k1) + 1e-6)
        return out


def frame_along(direction: Sequence[float]) -> tuple[tuple[float, float, float], ...]:
    """Three orthonormal rows of which the first is a direction."""
    d = np.asarray(direction, float)
    d = d / np.linalg.norm(d)
    helper = np.array([0.0, 1.0, 0.0]) if abs(d[1]) < 0.8 else np.array([1.0, 0.0, 0.0])
    e = np.cross(d, helper)
    e /= np.linalg.norm(e)
    f = np.cross(d, e)
    return tuple((float(v[0]), float(v[1]), float(v[2])) for v in (d, e, f))


class Tube:
    """A vessel or airway: a spline through points with a radius at each."""

    def __init__(self, points_xyz_mm: Sequence[Sequence[float]], radii_mm: Sequence[float], step_mm: float = 4.0):
        points, radii = np.asarray(points_xyz_mm, float), np.asarray(radii_mm, float)
        length = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
        n = max(2, int(length[-1] / step_mm) + 1)
        s = np.linspace(0, length[-1], n)
        self.points = CubicSpline(length, points)(s) if len(points) > 2 else np.linspace(points[0], points[1], n)
        self.radii = np.interp(s, length, radii)

    def distance(self, plane: Plane, grow_mm: float = 0.0, margin_mm: float = 18.0, flat: float = 1.0) -> Field:
        """Signed distance; ``flat`` > 1 squeezes the tube along y."""
        out = plane.far()
        p, r = self.points, self.radii + grow_mm
        reach = r.max() + margin_mm
        low, high = np.minimum(p[:-1, 2], p[1:, 2]) - reach, np.maximum(p[:-1, 2], p[1:, 2]) + reach
        for i in np.flatnonzero((low <= plane.z) & (high >= plane.z)):
            a, b = p[i], p[i + 1]
            window = plane.window(
                min(a[0], b[0]) - reach, max(a[0], b[0]) + reach, min(a[1], b[1]) - reach, max(a[1], b[1]) + reach
            )
            dx, dy, dz = plane.x[window] - a[0], plane.y[window] - a[1], plane.z - a[2]
            ux, uy, uz = b - a
            t = np.clip((dx * ux + dy * uy + dz * uz) / (ux * ux + uy * uy + uz * uz), 0, 1)
            away = np.sqrt((dx - t * ux) ** 2 + (flat * (dy - t * uy)) ** 2 + (dz - t * uz) ** 2)
            out[window] = np.minimum(out[window], away - (r[i] + t * (r[i + 1] - r[i])))
        return out


def segment(
    plane: Plane, a: Sequence[float], b: Sequence[float], radius_a: float, radius_b: float, margin_mm: float = 14.0
) -> Field:
    """Distance to a straight bar within the plane from ``a`` to ``b`` (x, y), radii at its ends."""
    out = plane.far()
    reach = max(radius_a, radius_b) + margin_mm
    window = plane.window(
        min(a[0], b[0]) - reach, max(a[0], b[0]) + reach, min(a[1], b[1]) - reach, max(a[1], b[1]) + reach
    )
    dx, dy = plane.x[window] - a[0], plane.y[window] - a[1]
    ux, uy = b[0] - a[0], b[1] - a[1]
    t = np.clip((dx * ux + dy * uy) / (ux * ux + uy * uy + 1e-9), 0, 1)
    out[window] = np.hypot(dx - t * ux, dy - t * uy) - (radius_a + t * (radius_b - radius_a))
    return out


class Noise:
    """Smooth random texture: cubic B-splines on a lattice fixed in space, so that spacing does not change it."""

    def __init__(self, rng: np.random.Generator, pitch_mm: float, box_mm: float = 300.0):
        n = int(2 * box_mm / pitch_mm) + 8
        self.pitch_mm, self.start_mm = pitch_mm, -box_mm - 3 * pitch_mm
        # the squares of a cubic B-spline's weights add up to 151/315 on average, along each of three axes
        self.lattice = rng.standard_normal((n, n, n), dtype=np.float32) / np.float32((151 / 315) ** 1.5)

    def weights(self, at_mm: NDArray[np.float64]) -> Field:
        """Spline weights (points, lattice) along one axis."""
        u = (at_mm - self.start_mm) / self.pitch_mm
        d = np.abs(u[:, None] - np.arange(self.lattice.shape[0])[None, :])
        w = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0.0))
        return w.astype(np.float32)

    def on(self, weights_yx: tuple[Field, Field], z_mm: float) -> Field:
        """Texture of about unit variance on the plane [y, x] at one height, from the axes' :meth:`weights`."""
        wz = self.weights(np.array([z_mm]))[0]
        use = np.flatnonzero(wz)
        slab = np.tensordot(wz[use], self.lattice[use], axes=1)
        return weights_yx[0] @ slab @ weights_yx[1].T
