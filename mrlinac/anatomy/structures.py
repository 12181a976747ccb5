"""Structures: as drawn (contours) and on a grid (occupancy)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid, Triple, frozen
from mrlinac.anatomy.trace import without_traces
from mrlinac.errors import DataError

Role = Literal["external", "target", "oar", "support", "metal", "other"]
Ends = Literal["half-slice", "at-contour"]


@dataclass(frozen=True)
class Contour:
    """One closed planar loop in an axial plane.

    Attributes
    ----------
    z_mm : float
        Plane, LPS.
    points_xy_mm : float64 array, shape (n, 2), read-only
        Vertices x, y in LPS; the last joins the first. Loops of one plane combine by the even–odd rule.
    """

    z_mm: float
    points_xy_mm: NDArray[np.float64]

    def __post_init__(self) -> None:
        points = np.asarray(self.points_xy_mm)
        object.__setattr__(self, "points_xy_mm", frozen(points, np.float64, "contour", (len(points), 2)))


@dataclass(frozen=True)
class Roi:
    """A structure as drawn.

    Attributes
    ----------
    name : str
        TG-263 name.
    role : str
        external, target, oar, support (couch), metal or other.
    contours : tuple of Contour
    slice_spacing_mm : float
        Thickness a contour stands for along z.
    original_name : str
        The clinic's name.
    derived : bool
        True where software, not a person, made it; every report says so.
    color_rgb : tuple of int
    lone_slice_mm : float
        Thickness of a contour without a near neighbour; 0: ``slice_spacing_mm``.
    ends : {"half-slice", "at-contour"}
        Whether the structure goes on for half a slice beyond its first and last contour, or ends at them. A contour
        alone stands for a slice either way: it would enclose nothing else.
    """

    name: str
    role: Role
    contours: tuple[Contour, ...]
    slice_spacing_mm: float
    original_name: str = ""
    derived: bool = False
    color_rgb: tuple[int, int, int] = (128, 128, 128)
    lone_slice_mm: float = 0.0
    ends: Ends = "half-slice"

    @property
    def content(self) -> tuple[object, ...]:
        """What a fingerprint takes of it: all that decides its voxels and what is said of it; no names, no colour."""
        contours = [(contour.z_mm, contour.points_xy_mm) for contour in self.contours]
        return self.role, float(self.slice_spacing_mm), float(self.lone_slice_mm), self.ends, self.derived, contours

    def extent_xy_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest x, y over all contours; there must be one.

        Returns
        -------
        low, high : float64 arrays, shape (2,)
            In LPS.
        """
        points = np.concatenate([contour.points_xy_mm for contour in self.contours])
        return points.min(axis=0), points.max(axis=0)


@dataclass(frozen=True)
class Shell:
    """What a rind or ring is the difference of, and what else cuts it: how :mod:`mrlinac.anatomy.shells` draws it.

    Attributes
    ----------
    outer, inner : float32 array [z, y, x] in 0…1
        The shell is what lies in the outer one but not in the inner one ...
    within, minus : tuple of arrays
        ... in all of these, and in none of these; an array may be one long along an axis where it does not change.
    """

    outer: NDArray[np.float32]
    inner: NDArray[np.float32]
    within: tuple[NDArray[np.float32], ...] = ()
    minus: tuple[NDArray[np.float32], ...] = ()


@dataclass(frozen=True)
class Structure:
    """A structure on a grid.

    Attributes
    ----------
    name, role
        As in :class:`Roi`.
    occupancy : float32 array [z, y, x] in 0…1, read-only
        Fraction of each voxel that lies inside; traces are nothing (:mod:`mrlinac.anatomy.trace`).
    drawn_volume_cc : float or None
        Volume of the polygons it came from; None for a derived structure.
    flaw : str
        Why no number of this structure means anything; empty where all is well. No metric of it is shown.
    derived : bool
        As in :class:`Roi`.
    drawn : Roi or None
        The contours it came from: a DVH is made in them, not in voxels.
    shell : Shell or None
        Of a rind or ring: its borders.
    continued_cc : float
        What of the occupancy is not the patient's: the body, continued to the grid's ends.
    """

    name: str
    role: Role
    occupancy: NDArray[np.float32]
    drawn_volume_cc: float | None = None
    flaw: str = ""
    derived: bool = False
    drawn: Roi | None = None
    continued_cc: float = 0.0
    shell: Shell | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        inside = without_traces(self.occupancy)
        object.__setattr__(self, "occupancy", frozen(inside, np.float32, self.name, inside.shape))


@dataclass(frozen=True)
class StructureSet:
    """Named structures on one grid. Behaves as a read-only mapping from TG-263 name to :class:`Structure`.

    Attributes
    ----------
    grid : Grid
    structures : mapping of name to Structure
        All on the grid.
    """

    grid: Grid
    structures: Mapping[str, Structure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, structure in self.structures.items():
            if structure.occupancy.shape != self.grid.shape_zyx:
                raise ValueError(
                    f"{name}: occupancy {structure.occupancy.shape} is not the grid's {self.grid.shape_zyx}"
                )
            if structure.name != name:
                raise ValueError(f"structure '{structure.name}' stands under the name '{name}'")

    def __getitem__(self, name: str) -> Structure:
        return self.structures[name]

    def __contains__(self, name: object) -> bool:
        return name in self.structures

    def __iter__(self) -> Iterator[str]:
        return iter(self.structures)

    def __len__(self) -> int:
        return len(self.structures)

    def volume_cc(self, name: str) -> float:
        """Volume by occupancy, in cubic centimetres; of a body that is continued to the grid's ends, the patient's.

        Parameters
        ----------
        name : str

        Returns
        -------
        float
        """
        structure = self.structures[name]
        on_grid = float(structure.occupancy.sum(dtype=np.float64)) * self.grid.voxel_cc
        return on_grid - structure.continued_cc

    def centroid_xyz_mm(self, name: str) -> Triple:
        """Centroid by occupancy, in LPS.

        Parameters
        ----------
        name : str

        Returns
        -------
        tuple of float
            In mm.

        Raises
        ------
        DataError
            When there is no such structure, or it is empty on this grid.
        """
        if name not in self or not self[name].occupancy.any():
            raise DataError(f"the structure '{name}' is missing or empty; present: {', '.join(self)}")
        grid, weight = self.grid, self[name].occupancy
        total = weight.sum(dtype=np.float64)
        x = weight.sum((0, 1), dtype=np.float64) @ grid.x_mm / total
        y = weight.sum((0, 2), dtype=np.float64) @ grid.y_mm / total
        z = weight.sum((1, 2), dtype=np.float64) @ grid.z_mm / total
        return (float(x), float(y), float(z))

    def having(self, *more: Structure) -> StructureSet:
        """A new set with structures added or replaced.

        Parameters
        ----------
        *more : Structure

        Returns
        -------
        StructureSet
        """
        return StructureSet(self.grid, {**self.structures, **{s.name: s for s in more}})

    def of_role(self, role: Role) -> list[str]:
        """Names of the structures of a role, in order.

        Parameters
        ----------
        role : str

        Returns
        -------
        list of str
        """
        return [name for name, s in self.structures.items() if s.role == role]
