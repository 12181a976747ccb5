"""Contours of rinds and rings, drawn as what they are: an outer border and an inner one.

A rind is about as thin as a voxel, and the iso-line of its occupancy breaks it into islands and slivers. The two
structures that it is the difference of are thick: their borders are drawn, and the area between is the rind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from mrlinac.anatomy.contours import contours_of, even_odd, planes_of
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Roi, Shell, Structure

SLIVER_mm = 0.2
"""A thinner piece comes from two borders that should coincide."""

SPECK_mm2 = 1.0
"""Smaller pieces of a plane are below a pixel of the CT."""

Occupancy = NDArray[np.float32]


@dataclass(frozen=True)
class _Borders:
    """Areas of one structure by plane."""

    of: dict[float, shapely.Geometry]

    def at(self, z_mm: float) -> shapely.Geometry:
        return self.of.get(z_mm, shapely.Polygon())


class Drawing:
    """Draws structures of one grid in the planes of an image; borders that several rinds share are drawn once."""

    def __init__(self, grid: Grid, planes_z_mm: Sequence[float]) -> None:
        self.grid, self.planes_z_mm = grid, [float(z) for z in np.sort(np.asarray(planes_z_mm, float))]
        self._drawn: dict[int, tuple[Occupancy, _Borders]] = {}

    def contours(self, structure: Structure) -> Roi:
        """The structure's contours; see :func:`~mrlinac.anatomy.contours.contours_of`."""
        name, role, shell = structure.name, structure.role, structure.shell
        if shell is None:
            return contours_of(structure.occupancy, self.grid, name, role, planes_z_mm=self.planes_z_mm)
        contours = [
            Contour(z_mm, np.asarray(ring.coords)[:-1])
            for z_mm in self.planes_z_mm
            for polygon in _polygons(self._area(shell, z_mm))
            for ring in (polygon.exterior, *polygon.interiors)
        ]
        steps = np.diff(self.planes_z_mm)
        spacing = float(np.median(steps)) if steps.size else self.grid.spacing_zyx_mm[0]
        return replace(Roi(name, role, tuple(contours), spacing, name), derived=True)

    def _area(self, shell: Shell, z_mm: float) -> shapely.Geometry:
        area = self._borders(shell.outer).at(z_mm).difference(self._borders(shell.inner).at(z_mm))
        for inside in shell.within:
            area = area.intersection(self._borders(inside).at(z_mm))
        for outside in shell.minus:
            area = area.difference(self._borders(outside).at(z_mm))
        half = SLIVER_mm / 2
        opened: shapely.Geometry = area.buffer(-half, join_style="mitre").buffer(half, join_style="mitre")
        return opened

    def _borders(self, inside: Occupancy) -> _Borders:
        """Areas of an occupancy, or of a share that is the same along some axes, in every plane."""
        known = self._drawn.get(id(inside))
        if known is None:
            whole = np.ascontiguousarray(np.broadcast_to(inside, self.grid.shape_zyx))
            roi = contours_of(whole, self.grid, "border", "other", planes_z_mm=self.planes_z_mm)
            known = inside, _Borders({z: even_odd(loops) for z, loops in planes_of(roi.contours)})
            self._drawn[id(inside)] = known  # with the array, so that no other takes its identity
        return known[1]


def _polygons(area: shapely.Geometry) -> list[shapely.Polygon]:
    return [part for part in shapely.get_parts(area) if part.geom_type == "Polygon" and part.area >= SPECK_mm2]
