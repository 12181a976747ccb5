"""A body that the field of view truncates at its sides: in which slices, and which layers of skin are then not skin.

The outline of such a body runs along the edge of the image. A rind of it has a part there that is no skin: its dose says
nothing, and nothing that is measured on the whole rind says anything either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.rules import StructureRule, Term
from mrlinac.anatomy.structures import Roi, Structure, StructureSet
from mrlinac.notes import Note

SLIVER = 0.01
"""A smaller part of a voxel does not count as reaching the edge."""


SMALLEST_SHARE = 1e-3
"""A smaller share of a structure outside the image is rounding."""

CIRCLE_FIT_pixels = 1.0
"""The edge of a reconstruction circle is a circle within this (root mean square)."""

CIRCLE_SPAN = 0.9
"""A reconstruction circle spans at least this share of the image's shorter side; a smaller one is a round object in air."""

CIRCLE_POINTS = 20


def beyond_circle(values: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Pixels [y, x] outside a CT's circle of reconstruction; None where it has none.

    Scanners fill what lies outside with one value. The circle is fitted to where, over all slices, that value ends. Air
    must not be constant itself: in a scan without noise the value ends at the body, which is no circle.
    """
    padding = values[0, 0, 0]
    if any(np.any(values[:, y, x] != padding) for y in (0, -1) for x in (0, -1)):
        return None
    seen = np.zeros(values.shape[1:], bool)
    for plane in values:
        seen |= plane != padding
    rim = seen & ~ndimage.binary_erosion(ndimage.binary_fill_holes(seen), border_value=1)
    rim[[0, -1]] = rim[:, [0, -1]] = False
    y, x = (along.astype(float) for along in np.nonzero(rim))
    if len(x) < CIRCLE_POINTS:
        return None
    # Least squares for x² + y² = 2 a x + 2 b y + c (Kåsa): centre a, b; c = r² − a² − b².
    (a, b, c), *_ = np.linalg.lstsq(np.column_stack([2 * x, 2 * y, np.ones_like(x)]), x**2 + y**2, rcond=None)
    radius = float(np.sqrt(max(c + a**2 + b**2, 0.0)))
    off = float(np.sqrt(np.mean((np.hypot(x - a, y - b) - radius) ** 2)))
    if off > CIRCLE_FIT_pixels or 2 * radius + 1 < CIRCLE_SPAN * min(seen.shape):
        return None
    rows, columns = np.indices(seen.shape)
    outside: NDArray[np.bool_] = np.hypot(columns - a, rows - b) > radius + 0.5
    return outside


def cut_planes_mm(external: Roi, image: Grid, unseen: NDArray[np.bool_] | None = None) -> tuple[float, ...]:
    """Planes in which an outline comes within one pixel of the edge of the image, in x or y, or of what is not imaged.

    Parameters
    ----------
    external : Roi
    image : Grid
    unseen : bool array [z, y, x], optional
        Of :class:`~mrlinac.anatomy.image.Image`.
    """
    pixel = np.array(image.spacing_zyx_mm[:0:-1])
    low, high = np.array(image.lower_xyz_mm[:2]) + pixel, np.array(image.upper_xyz_mm[:2]) - pixel
    cut = {c.z_mm for c in external.contours if np.any(c.points_xy_mm < low) or np.any(c.points_xy_mm > high)}
    if unseen is not None:
        wide = ndimage.generate_binary_structure(2, 2)
        if unseen.strides[0] == 0:  # one circle for all slices
            near = np.broadcast_to(ndimage.binary_dilation(unseen[0], wide), unseen.shape)
        else:
            near = np.stack([ndimage.binary_dilation(plane, wide) for plane in unseen])
        for contour in external.contours:
            points = np.column_stack([contour.points_xy_mm, np.full(len(contour.points_xy_mm), contour.z_mm)])
            if np.any(near[_voxels(points, image)]):
                cut.add(contour.z_mm)
    return tuple(sorted(cut))


def cut_planes_of(external: Roi, image: Image) -> tuple[float, ...]:
    """As :func:`cut_planes_mm`, of an image."""
    return cut_planes_mm(external, image.grid, image.unseen)


def leaving(roi: Roi, image: Image) -> str:
    """One sentence on the part of a structure outside the image in x and y; empty where there is none.

    A body, and what a structure's outline along the edge of the image shows to be cut, says so by its planes; what is
    drawn beyond the edge, by its share.
    """
    if roi.role == "support":
        return ""  # couches are wider than images, and are replaced
    cut = cut_planes_of(roi, image)
    if not cut:
        return ""
    edge = "image" if image.unseen is None else "imaged part"
    outside = share_outside(roi, image.grid)
    beyond = f" and leaves it with {outside:.1%} of its area" if outside > SMALLEST_SHARE else ""
    what = "the body" if roi.role == "external" else "it"
    return f"{roi.name} reaches the edge of the {edge}{beyond} ({described(cut)}): the field of view cuts {what}."


def share_outside(roi: Roi, image: Grid) -> float:
    """Share of a structure's area, over all planes, outside the image's rectangle in x and y."""
    box = shapely.box(*image.lower_xyz_mm[:2], *image.upper_xyz_mm[:2])
    by_plane: dict[float, list[shapely.Geometry]] = {}
    for contour in roi.contours:
        by_plane.setdefault(contour.z_mm, []).append(shapely.make_valid(shapely.Polygon(contour.points_xy_mm)))
    # Loops of one plane combine by the even–odd rule.
    shapes = [reduce(shapely.symmetric_difference, loops) for loops in by_plane.values()]
    whole = sum(shape.area for shape in shapes)
    return 1 - sum(shapely.intersection(shape, box).area for shape in shapes) / whole if whole else 0.0


def _voxels(points_xyz_mm: NDArray[np.float64], grid: Grid) -> tuple[NDArray[np.int64], ...]:
    """Indices z, y, x of the voxels nearest to points."""
    index = np.rint(grid.index_zyx(points_xyz_mm)).astype(int)
    return tuple(np.clip(index[:, axis], 0, grid.shape_zyx[axis] - 1) for axis in range(3))


def rinds(rules: Mapping[str, StructureRule], external: str) -> frozenset[str]:
    """Rules that make a layer under the body's surface, or a part of such a layer."""
    names: set[str] = set()
    while True:
        more = {name for name, rule in rules.items() if _is_layer(rule, external) or names & _parts_of(rule)} - names
        if not more:
            return frozenset(names)
        names |= more


def _is_layer(rule: StructureRule, external: str) -> bool:
    ring, minus = rule.ring, [term for term in rule.minus if term.structure == external]
    thin = rule.rind_mm is not None or (ring is not None and ring.inner_mm < 0) or any(map(_shrunk, minus))
    return thin and external in {*rule.first_of, *(term.structure for term in rule.from_)}


def _shrunk(term: Term) -> bool:
    margin = term.margin_mm
    return margin < 0 if isinstance(margin, (int, float)) else margin.inward


def _parts_of(rule: StructureRule) -> set[str]:
    return {*rule.first_of, *(term.structure for term in (*rule.from_, *rule.within))}


def mark_cut_skin(
    structures: StructureSet, rules: Mapping[str, StructureRule], patient: Patient
) -> tuple[StructureSet, tuple[Note, ...]]:
    """Mark layers of skin that reach the cut as flawed, so that none of their figures is shown.

    Parameters
    ----------
    structures : StructureSet
        Drawn and derived.
    rules : mapping from name to StructureRule
        What the derived ones were made by.
    patient : Patient

    Returns
    -------
    StructureSet
    Notes
        One warning where something was flawed.
    """
    planes = cut_planes_of(patient.external, patient.image)
    if not planes:
        return structures, ()
    at_edge = _at_edge(structures.grid, patient, planes)
    names = [name for name in structures if name in rinds(rules, patient.external.name) or name.startswith("Skin")]
    reaching = [name for name in names if np.any(structures[name].occupancy[at_edge] > SLIVER)]
    if not reaching:
        return structures, ()
    flaw = f"{patient.external.name} is cut by the field of view ({described(planes)})"
    marked: list[Structure] = [replace(structures[name], flaw=flaw) for name in reaching]
    note = Note("warning", f"{', '.join(reaching)}: not evaluable: {flaw}")
    return structures.having(*marked), (note,)


def described(planes_mm: tuple[float, ...]) -> str:
    """How many planes and where: ``3 slices, z 60 … 66 mm``."""
    if len(planes_mm) == 1:
        return f"1 slice, z {planes_mm[0]:g} mm"
    return f"{len(planes_mm)} slices, z {planes_mm[0]:g} … {planes_mm[-1]:g} mm"


def _at_edge(grid: Grid, patient: Patient, planes_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    """Voxels [z, y, x] of the cut slices within one pixel of the image's edge. The end slices are continued."""
    image, external = patient.image.grid, patient.external
    (dz, dy, dx), (_, py, px) = grid.spacing_zyx_mm, image.spacing_zyx_mm
    low, high = image.lower_xyz_mm, image.upper_xyz_mm
    x = (grid.x_mm - dx / 2 < low[0] + px) | (grid.x_mm + dx / 2 > high[0] - px)
    y = (grid.y_mm - dy / 2 < low[1] + py) | (grid.y_mm + dy / 2 > high[1] - py)
    reach = (external.slice_spacing_mm + dz) / 2
    z = np.any(np.abs(grid.z_mm[:, None] - np.array(planes_mm)) < reach, axis=1)
    drawn = [c.z_mm for c in external.contours]
    z |= (grid.z_mm < min(drawn)) if planes_mm[0] == min(drawn) else False
    z |= (grid.z_mm > max(drawn)) if planes_mm[-1] == max(drawn) else False
    at_edge: NDArray[np.bool_] = z[:, None, None] & (y[:, None] | x)
    if patient.image.unseen is not None:
        at_edge |= z[:, None, None] & _near_unseen(grid, patient.image, patient.image.unseen)
    return at_edge


def _near_unseen(grid: Grid, image: Image, unseen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels [z, y, x] of a grid that come within one pixel of what is not imaged."""
    (_, dy, dx), (_, py, px) = grid.spacing_zyx_mm, image.grid.spacing_zyx_mm
    reach = (2 * int(np.ceil(dy / 2 / py)) + 3, 2 * int(np.ceil(dx / 2 / px)) + 3)
    at_z, at_y, at_x = (
        np.clip(np.rint((to - of[0]) / step).astype(int), 0, len(of) - 1)
        for to, of, step in zip(
            (grid.z_mm, grid.y_mm, grid.x_mm),
            (image.grid.z_mm, image.grid.y_mm, image.grid.x_mm),
            image.grid.spacing_zyx_mm,
            strict=True,
        )
    )
    near = {z: ndimage.maximum_filter(unseen[z], reach)[np.ix_(at_y, at_x)] for z in set(at_z.tolist())}
    return np.stack([near[z] for z in at_z.tolist()])
