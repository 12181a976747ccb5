"""A body that the scan cuts at its sides: in which slices, and which layers of skin are then no skin.

The outline of such a body runs along the edge of the image. A rind of it has a part there that is no skin: its dose says
nothing, and nothing that is measured on the whole rind says anything either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.patient import Note, Patient
from mrlinac.anatomy.rules import StructureRule, Term
from mrlinac.anatomy.structures import Roi, Structure, StructureSet

SLIVER = 0.01
"""Less of a voxel than this does not count as reaching the edge."""


def cut_planes_mm(external: Roi, image: Grid) -> tuple[float, ...]:
    """Planes in which an outline comes within one pixel of the edge of the image, in x or y."""
    pixel = np.array(image.spacing_zyx_mm[:0:-1])
    low, high = np.array(image.lower_xyz_mm[:2]) + pixel, np.array(image.upper_xyz_mm[:2]) - pixel
    cut = {c.z_mm for c in external.contours if np.any(c.points_xy_mm < low) or np.any(c.points_xy_mm > high)}
    return tuple(sorted(cut))


def rinds(rules: Mapping[str, StructureRule], external: str) -> frozenset[str]:
    """Rules that make a layer under the body's surface, or a part of such a layer."""
    found: set[str] = set()
    while True:
        more = {name for name, rule in rules.items() if _is_layer(rule, external) or found & _parts_of(rule)} - found
        if not more:
            return frozenset(found)
        found |= more


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
    """Give layers of skin that reach the cut a flaw, which keeps every number of theirs from being shown.

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
    planes = cut_planes_mm(patient.external, patient.image.grid)
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
    return at_edge
