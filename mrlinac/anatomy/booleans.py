"""Intersection, union and difference of occupancies.

Two partly filled voxels do not say how their contents lie to one another: one within the other, side by side, or
across. The normals of the two surfaces do. ``docs/theory/anatomy.md`` gives the rule and its bounds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.surface import normals_of
from mrlinac.anatomy.trace import without_traces

Occupancy = NDArray[np.float32]


def intersection(a: Occupancy, b: Occupancy, grid: Grid) -> Occupancy:
    """Occupancy of what lies in both.

    Exact where either voxel is full or empty. Where both are partly filled it lies between the Fréchet bounds
    ``max(0, a + b − 1)`` (surfaces back to back), ``a b`` (at right angles) and ``min(a, b)`` (facing the same way),
    weighted by the cosine of the angle between the surfaces.
    """
    both: Occupancy = np.ascontiguousarray(a * b)
    voxel = np.flatnonzero((both > 0) & (a < 1) & (b < 1))
    if len(voxel):
        cosine = np.einsum("ij,ij->i", normals_of(a, grid, voxel), normals_of(b, grid, voxel))
        p, q = a.ravel()[voxel].astype(float), b.ravel()[voxel].astype(float)
        extreme = np.where(cosine > 0, np.minimum(p, q), np.maximum(0.0, p + q - 1.0))
        weight = np.clip(np.abs(cosine), 0.0, 1.0)
        both.ravel()[voxel] = (1 - weight) * p * q + weight * extreme
    return without_traces(both)


def union(a: Occupancy, b: Occupancy, grid: Grid) -> Occupancy:
    """Occupancy of what lies in either: ``a + b`` less the intersection, so that volumes add up."""
    return without_traces(np.clip(a + b - intersection(a, b, grid), 0.0, 1.0).astype(np.float32))


def difference(a: Occupancy, b: Occupancy, grid: Grid) -> Occupancy:
    """Occupancy of what lies in ``a`` but not in ``b``: ``a`` less the intersection, so that volumes add up."""
    return without_traces(np.clip(a - intersection(a, b, grid), 0.0, 1.0).astype(np.float32))
