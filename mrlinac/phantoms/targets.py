"""Tumour, nodes and what is grown from them: CTV and ITV."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from mrlinac.phantoms.shapes import Ellipsoid, FAR_mm, Field, Plane


@dataclass(frozen=True)
class Tumour:
    """A lump with an uneven surface and a few spicules.

    Attributes
    ----------
    lobe : str
    centre : body coordinates in mm
    radius_mm : mean radius
    waves : (n, 3), directions times frequency of the surface's unevenness
    phase, height : (n,)
    spicules : (m, 3) unit directions
    """

    lobe: str
    centre: tuple[float, float, float]
    radius_mm: float
    waves: NDArray[np.float64]
    phase: NDArray[np.float64]
    height: NDArray[np.float64]
    spicules: NDArray[np.float64]
    motion_si_mm: float
    motion_ap_mm: float

    def distance(self, plane: Plane) -> tuple[Field, Field]:
        """Signed distance of the lump, and of the spicules."""
        lump, spikes = plane.far(), plane.far()
        reach = 1.6 * self.radius_mm + 25.0
        cx, cy, cz = self.centre
        if abs(plane.z - cz) > reach:
            return lump, spikes
        w = plane.window(cx - reach, cx + reach, cy - reach, cy + reach)
        d = np.stack([plane.x[w] - cx, plane.y[w] - cy, np.full_like(plane.x[w], plane.z - cz)], axis=-1)
        r = np.linalg.norm(d, axis=-1) + 1e-3
        unit = d / r[..., None]
        surface = self.radius_mm * (1 + np.cos(unit @ self.waves.T + self.phase) @ self.height)
        lump[w] = (r - surface) * 0.93
        nearest = np.full(r.shape, FAR_mm)
        for s in self.spicules:
            along = d @ s
            across = np.sqrt(np.maximum(r * r - along * along, 0))
            length = self.radius_mm * 1.45 + 4.0
            nearest = np.minimum(nearest, np.maximum(across - 1.7 * (1 - along / (length * 1.3)), along - length))
        spikes[w] = np.where(r < self.radius_mm * 2, nearest, FAR_mm)
        return lump, spikes


LOBES = {  # share of primary tumours by lobe: right upper, middle, lower, left upper, lower
    "RUL": (0.32, (-1, 10, 70)),
    "RML": (0.06, (-1, -60, -20)),
    "RLL": (0.22, (-1, -75, -10)),
    "LUL": (0.25, (1, 0, 65)),
    "LLL": (0.15, (1, -75, -10)),
}


def tumour(
    rng: np.random.Generator,
    lung: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    volume_cc: tuple[float, float, float],
    motion_mm: tuple[float, float],
) -> Tumour:
    """Choose a lobe, a size and a place in the lung.

    Parameters
    ----------
    lung : float32 [z, y, x]
        Signed distance of both lungs on a coarse lattice with coordinates ``x``, ``y``, ``z`` in mm.
    volume_cc : median, smallest, largest
    motion_mm : peak-to-peak head-foot motion at the apex and just above the diaphragm
    """
    names = list(LOBES)
    share = np.array([LOBES[n][0] for n in names])
    lobe = names[int(rng.choice(len(names), p=share / share.sum()))]
    median, least, most = volume_cc
    volume = float(np.clip(median * np.exp(0.45 * rng.standard_normal()), least, most))
    radius = float(np.cbrt(3 * volume * 1000 / (4 * np.pi)))
    side, low, high = LOBES[lobe][1]
    zz, yy, xx = np.meshgrid(z, y, x, indexing="ij")
    inside = (np.sign(xx) == side) & (zz > low) & (zz < high)
    # locally advanced: most of it in lung, near the hilum, its edge at the mediastinum or a little away from it
    inside &= (lung < -0.6 * radius) & (lung > -1.3 * radius) & (np.abs(xx) < 85)
    if lobe in ("RLL", "LLL"):
        inside &= yy > 5
    if lobe == "RML":
        inside &= yy < -10
    pick = np.flatnonzero(inside)
    if len(pick) == 0:  # the lobe is too small for it: take the deepest point of that side
        pick = np.array([int(np.argmin(np.where(np.sign(xx) == side, lung, FAR_mm)))])
    at = int(rng.choice(pick))
    centre = (float(xx.flat[at]), float(yy.flat[at]), float(zz.flat[at]))
    n = 14
    direction = rng.standard_normal((n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    frequency = np.r_[np.full(4, 1.8), np.full(5, 4.0), np.full(5, 8.0)]
    height = np.r_[np.full(4, 0.07), np.full(5, 0.05), np.full(5, 0.022)] * rng.uniform(0.6, 1.4, n)
    spicules = rng.standard_normal((int(rng.integers(16, 26)), 3))
    spicules /= np.linalg.norm(spicules, axis=1, keepdims=True)
    share_low = float(np.clip((70.0 - centre[2]) / 140.0, 0, 1))
    si = (motion_mm[0] + (motion_mm[1] - motion_mm[0]) * share_low) * float(rng.uniform(0.7, 1.3))
    return Tumour(
        lobe,
        centre,
        radius,
        direction * frequency[:, None],
        rng.uniform(0, 2 * np.pi, n),
        height,
        spicules,
        si,
        0.25 * si,
    )


# Places of the thoracic lymph nodes (IASLC stations) in body coordinates.
STATIONS = {
    "4R": (-19.0, -10.0, 14.0),
    "2R": (-17.0, -16.0, 44.0),
    "7": (1.0, 9.0, -21.0),
    "5": (27.0, -14.0, 10.0),
    "10R": (-51.0, 12.0, -30.0),
    "10L": (53.0, 2.0, -34.0),
}


def nodes(rng: np.random.Generator, side: float, radius_mm: tuple[float, float]) -> dict[str, Ellipsoid]:
    """Two or three enlarged nodes: the hilum of the tumour's side, subcarinal, and sometimes higher up."""
    chosen = ["10R" if side < 0 else "10L", "7"]
    if rng.random() < 0.6:
        chosen.append(str(rng.choice(["4R", "2R"])) if side < 0 else "5")
    out = {}
    for name in chosen:
        r = float(rng.uniform(*radius_mm))
        x, y, z = STATIONS[name]
        out[name] = Ellipsoid((x, y, z), (r, r * float(rng.uniform(0.7, 0.95)), r * float(rng.uniform(1.0, 1.4))))
    return out


@dataclass(frozen=True)
class Block:
    """Distances sampled on a small fine lattice in world coordinates; outside of it everything is far."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    values: NDArray[np.float32]

    def on(self, x_mm: NDArray[np.float64], y_mm: NDArray[np.float64], z_mm: float) -> Field:
        """Values on the plane [y, x] at a height, interpolated linearly."""
        shape = (len(y_mm), len(x_mm))
        step = self.x[1] - self.x[0]
        iz = (z_mm - self.z[0]) / step
        if not 0 <= iz <= len(self.z) - 1:
            return np.full(shape, FAR_mm, np.float32)
        iy, ix = np.meshgrid((y_mm - self.y[0]) / step, (x_mm - self.x[0]) / step, indexing="ij")
        at = [np.full(shape, iz), iy, ix]
        return map_coordinates(self.values, at, order=1, mode="constant", cval=FAR_mm).astype(np.float32)

    def moved(self, dy_mm: float, dz_mm: float) -> NDArray[np.float32]:
        """Values of the same shape moved along y and z, on the same lattice."""
        step = self.x[1] - self.x[0]
        at = list(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in self.values.shape), indexing="ij"))
        at[0] -= np.float32(dz_mm / step)
        at[1] -= np.float32(dy_mm / step)
        return map_coordinates(self.values, at, order=1, mode="nearest").astype(np.float32)


def true_distance(values: NDArray[np.float32], step_mm: float, reach_mm: float) -> NDArray[np.float32]:
    """Euclidean distance to the zero surface of a field on a cubic lattice, outside it and up to ``reach_mm``.

    The surface is taken where the field changes sign between neighbours (linear interpolation), so the result
    is far finer than the lattice.
    """
    points = []
    for axis in range(3):
        a, b = np.moveaxis(values, axis, 0)[:-1], np.moveaxis(values, axis, 0)[1:]
        where = np.argwhere((a < 0) != (b < 0)).astype(float)
        index = tuple(where.astype(int).T)
        where[:, 0] += a[index] / (a[index] - b[index])
        points.append(where[:, _order(axis)])
    surface = np.vstack([p.reshape(-1, 3) for p in points])
    if len(surface) == 0:
        return np.full(values.shape, FAR_mm, np.float32)
    out = np.where(values < 0, np.maximum(values, -reach_mm), FAR_mm).astype(np.float32)
    query = np.argwhere(values >= 0)
    far, _ = cKDTree(surface * step_mm).query(query * step_mm, distance_upper_bound=reach_mm)
    out[tuple(query.T)] = np.where(np.isfinite(far), far, FAR_mm)
    return out


def _order(axis: int) -> list[int]:
    """Positions of z, y, x in an index whose first entry is ``axis`` (as np.moveaxis leaves it)."""
    rest = [a for a in range(3) if a != axis]
    now = [axis, *rest]
    return [now.index(a) for a in range(3)]
