"""Vessels of the lung: trees grown towards random points, with radii by the law of their orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.phantoms.shapes import Field, Plane

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Tree:
    """Straight pieces: ends (n, 3) in mm and radius (n,)."""

    start: Points
    end: Points
    radius: NDArray[np.float64]

    def distance(self, plane: Plane, margin_mm: float = 3.0) -> Field:
        """Signed distance to the nearest piece, on a plane."""
        out = plane.far()
        low = np.minimum(self.start[:, 2], self.end[:, 2]) - self.radius - margin_mm
        high = np.maximum(self.start[:, 2], self.end[:, 2]) + self.radius + margin_mm
        for i in np.flatnonzero((low <= plane.z) & (high >= plane.z)):
            a, b, r = self.start[i], self.end[i], self.radius[i]
            reach = r + margin_mm
            window = plane.window(
                min(a[0], b[0]) - reach, max(a[0], b[0]) + reach, min(a[1], b[1]) - reach, max(a[1], b[1]) + reach
            )
            dx, dy, dz = plane.x[window] - a[0], plane.y[window] - a[1], plane.z - a[2]
            ux, uy, uz = b - a
            t = np.clip((dx * ux + dy * uy + dz * uz) / (ux * ux + uy * uy + uz * uz + 1e-9), 0, 1)
            away = np.sqrt((dx - t * ux) ** 2 + (dy - t * uy) ** 2 + (dz - t * uz) ** 2) - r
            np.minimum(out[window], away, out=out[window])
        return out


def grow(
    roots: Sequence[Sequence[float]],
    goals: Points,
    rng: np.random.Generator,
    *,
    leaf_mm: float,
    step_mm: float = 7.0,
    directness: float = 0.12,
) -> Tree:
    """Grow a tree from its roots to every goal.

    A goal joins the node with the least distance plus ``directness`` times that node's path from the root
    (the balance between short wire and short paths of Cuntz et al. 2010); radii follow r^m = Σ r^m with
    m = ln 3.36 / ln 1.56 = 2.7, the ratios of number and diameter per order of Huang et al. 1996 (Murray: 3).

    Parameters
    ----------
    roots, goals : points (n, 3) in mm
    leaf_mm : float
        Radius of the last branches.
    step_mm : float
        Length of a piece; the pieces of a branch waver a little.
    """
    goals = goals[np.argsort(np.min([np.linalg.norm(goals - np.asarray(r), axis=1) for r in roots], axis=0))]
    room = len(roots) + int(sum(3 + 300 / step_mm for _ in goals))
    node, path, parent = np.zeros((room, 3)), np.zeros(room), np.full(room, -1)
    node[: len(roots)] = np.asarray(roots, float)
    n = len(roots)
    for goal in goals:
        away = np.linalg.norm(node[:n] - goal, axis=1)
        at = int(np.argmin(away + directness * path[:n]))
        pieces = max(1, round(away[at] / step_mm))
        start = node[at].copy()
        for k in range(1, pieces + 1):
            waver = rng.normal(0.0, 0.8, 3) if k < pieces else 0.0
            node[n] = start + (goal - start) * (k / pieces) + waver
            parent[n], path[n] = at, path[at] + float(np.linalg.norm(node[n] - node[at]))
            at, n = n, n + 1
    flow = np.zeros(n)
    has_child = np.zeros(n, bool)
    has_child[parent[len(roots) : n]] = True
    flow[~has_child] = 1.0
    for i in range(n - 1, len(roots) - 1, -1):  # children come after their parents
        flow[parent[i]] += flow[i]
    inner = np.arange(len(roots), n)
    return Tree(node[parent[inner]], node[inner], leaf_mm * flow[inner] ** (1 / 2.7))
