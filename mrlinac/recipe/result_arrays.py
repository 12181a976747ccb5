"""The arrays of a result as its files keep them: grids, contours, beamlets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.machine.beams import Beam
from mrlinac.machine.delivery import Certificate, Segment, Segments
from mrlinac.machine.model import Mlc
from mrlinac.recipe.result import PlanResult


def grid_arrays(grid: Grid) -> dict[str, np.ndarray]:
    """A grid as arrays.

    Parameters
    ----------
    grid : Grid

    Returns
    -------
    dict of array
    """
    return {
        "shape_zyx": np.array(grid.shape_zyx),
        "spacing_zyx_mm": np.array(grid.spacing_zyx_mm),
        "origin_xyz_mm": np.array(grid.origin_xyz_mm),
    }


def grid_from(arrays: Mapping[str, np.ndarray], prefix: str = "") -> Grid:
    """The grid that :func:`grid_arrays` wrote.

    Parameters
    ----------
    arrays : mapping of array
    prefix : str
        Of the names.

    Returns
    -------
    Grid
    """
    keys = ("shape_zyx", "spacing_zyx_mm", "origin_xyz_mm")
    shape, spacing, origin = (arrays[prefix + key].tolist() for key in keys)
    return Grid(tuple(shape), tuple(spacing), tuple(origin))


def case_arrays(result: PlanResult) -> dict[str, np.ndarray]:
    """The arrays of a case: structures, medium, image, fluence.

    Parameters
    ----------
    result : PlanResult

    Returns
    -------
    dict of array
    """
    arrays = {
        "ct": np.round(result.ct.values).astype(np.int16),
        **{f"ct_{key}": value for key, value in grid_arrays(result.ct.grid).items()},
        "density_g_cm3": result.medium.density_g_cm3,
        "material": result.medium.material,
        **grid_arrays(result.medium.grid),
    }
    for number, structure in enumerate(result.structures.structures.values()):
        arrays[f"structure_{number}"] = structure.occupancy
        if structure.drawn is not None:
            arrays |= contour_arrays(structure.drawn.contours, f"drawn_{number}_")
    for number, (beamlets, mu) in enumerate(zip(result.fluence.maps, result.fluence.mu, strict=True)):
        arrays[f"lattice_{number}"] = beamlets.lattice_uv
        arrays[f"mu_{number}"] = mu
    if result.segments is not None:
        arrays |= segment_arrays(result.segments, result.fluence.beams)
    return arrays


def segment_arrays(segments: Segments, beams: Sequence[Beam]) -> dict[str, np.ndarray]:
    """Segments as arrays.

    Parameters
    ----------
    segments : Segments
    beams : sequence of Beam
        Numbered by their place here.

    Returns
    -------
    dict of array
    """
    parts = segments.segments
    return {
        "segment_beam": np.array([beams.index(part.beam) for part in parts], np.int32),
        "segment_leaf_mm": np.array([part.leaf_mm for part in parts], np.float64),
        "segment_diaphragm_mm": np.array([part.diaphragm_mm for part in parts], np.float64),
        "segment_mu": segments.vector,
    }


def segments_from(
    arrays: Mapping[str, np.ndarray], beams: Sequence[Beam], mlc: Mlc, certificate: Certificate | None
) -> Segments | None:
    """The segments that :func:`segment_arrays` wrote.

    Parameters
    ----------
    arrays : mapping of array
    beams : sequence of Beam
    mlc : Mlc
    certificate : Certificate or None

    Returns
    -------
    Segments or None
        None where there are none.
    """
    if "segment_mu" not in arrays:
        return None
    parts = zip(*(arrays[f"segment_{name}"] for name in ("beam", "leaf_mm", "diaphragm_mm", "mu")), strict=True)
    segments = (
        Segment(beams[int(beam)], leaf_mm, (float(diaphragm_mm[0]), float(diaphragm_mm[1])), float(mu))
        for beam, leaf_mm, diaphragm_mm, mu in parts
    )
    return Segments(tuple(segments), mlc, certificate)


def planes_of(roi: Roi) -> dict[str, Any]:
    """What the contours of a structure stand for along z.

    Parameters
    ----------
    roi : Roi

    Returns
    -------
    dict
        Plain values, for ``result.json``.
    """
    return {"slice_spacing_mm": roi.slice_spacing_mm, "lone_slice_mm": roi.lone_slice_mm, "ends": roi.ends}


def contour_arrays(contours: Sequence[Contour], prefix: str) -> dict[str, np.ndarray]:
    """Planes, numbers of points, and all points one after the other."""
    return {
        f"{prefix}z_mm": np.array([contour.z_mm for contour in contours]),
        f"{prefix}count": np.array([len(contour.points_xy_mm) for contour in contours]),
        f"{prefix}points_xy_mm": np.concatenate([contour.points_xy_mm for contour in contours]),
    }


def contours_from(arrays: Mapping[str, np.ndarray], prefix: str) -> tuple[Contour, ...]:
    ends = np.cumsum(arrays[f"{prefix}count"])
    loops = np.split(arrays[f"{prefix}points_xy_mm"], ends[:-1])
    return tuple(Contour(float(z), loop) for z, loop in zip(arrays[f"{prefix}z_mm"], loops, strict=True))


def drawn_from(case: Mapping[str, np.ndarray], saved: Mapping[str, Any], number: int) -> Roi | None:
    """The contours of a structure, where it was drawn.

    Parameters
    ----------
    case : mapping of array
        As :func:`case_arrays` wrote it.
    saved : mapping
        As :func:`planes_of` wrote it.
    number : int
        Of the structure.

    Returns
    -------
    Roi or None
    """
    planes = saved.get("drawn")
    if planes is None:
        return None
    contours = contours_from(case, f"drawn_{number}_")
    return Roi(saved["name"], saved["role"], contours, derived=saved.get("derived", False), **planes)
