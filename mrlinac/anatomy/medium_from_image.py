"""From a CT to what the beam goes through: density and material on the calculation grid, couch and air included.

Every voxel is a mixture by volume of tissue, overridden structures, couch and air, so that mass is conserved; its
material is that of the part with most mass. ``docs/theory/anatomy.md`` gives the rules.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from mrlinac.anatomy import materials
from mrlinac.anatomy.contours import occupancy
from mrlinac.anatomy.couch import CouchGeometry, add_couch
from mrlinac.anatomy.field_of_view import cut_planes_of, described
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.materials import HuCurve, material_problem
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.mixture import Mixture, total_cc
from mrlinac.anatomy.overrides import MetalOverride, Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.resample import Resampler
from mrlinac.anatomy.structures import Roi, Structure, StructureSet
from mrlinac.anatomy.trace import without_traces
from mrlinac.errors import DataError, raise_all
from mrlinac.notes import Note, Notes

Floats = NDArray[np.float32]

METAL = "Metal"
"""Name of the structure of saturated voxels, where a plan or a patient says what they stand for."""

WHOLLY_INSIDE = 0.999
"""CT voxels filled by the external at least so far say what the tissue is; the others hold air or couch as well."""

SLIVER = 1e-3
"""Less known tissue than this in a grid voxel says nothing."""

PLATEAU_VOXELS = 20
"""So many voxels at exactly the image's largest value are a detector's or a file format's ceiling, not tissue."""

UNEXPLAINED_METAL_cc = 0.1
"""Saturated volume, with no density given, from which planning is refused."""

INSIDE = 0.5
"""An overridden structure of which less than this lies in the external is a bolus, not an organ that leaves the skin."""

DENSE_OUTSIDE_HU = -500.0
"""What is denser than this outside the external is worth a sentence: couch, clothes, an arm."""


def calculation_grid(
    patient: Patient,
    couch: CouchGeometry | None,
    spacing_mm: float,
    *,
    air_mm: float = 30.0,
    continued_mm: float = 30.0,
) -> Grid:
    """The grid of cubes for transport: body, couch and the air about them, the imaged range and its continuation.

    One plane lies on the CT's first slice, so that with the CT's own spacing all planes coincide; in x and y the
    voxel centres are whole multiples of the spacing, the same lattice for every couch and machine.

    Parameters
    ----------
    patient : Patient
    couch : CouchGeometry or None
    spacing_mm : float
    air_mm, continued_mm : float
        At least so much air beyond body and couch in x and y, and so much of the end slices beyond the images.
    """
    lower, upper = patient.external.extent_xy_mm()
    if couch is not None:
        low, high = couch.extent_xy_mm(patient)
        lower, upper = np.minimum(lower, low), np.maximum(upper, high)
    first = np.floor((lower - air_mm) / spacing_mm + 0.5)
    last = np.ceil((upper + air_mm) / spacing_mm - 0.5)
    nx, ny = (int(n) for n in last - first + 1)
    image = patient.image.grid
    below = int(np.ceil((continued_mm + image.spacing_zyx_mm[0] / 2) / spacing_mm - 0.5 - 1e-9))
    above_mm = image.upper_xyz_mm[2] + continued_mm - image.origin_xyz_mm[2]
    above = int(np.ceil(above_mm / spacing_mm - 0.5 - 1e-9))
    origin = (first[0] * spacing_mm, first[1] * spacing_mm, image.origin_xyz_mm[2] - below * spacing_mm)
    return Grid((below + above + 1, ny, nx), (spacing_mm,) * 3, (float(origin[0]), float(origin[1]), origin[2]))


def medium_of(
    patient: Patient,
    grid: Grid,
    structures: StructureSet,
    *,
    couch: CouchGeometry | None,
    overrides: Mapping[str, Override] | None = None,
    metal: MetalOverride | None = None,
    hu_curve: str = "schneider2000",
) -> tuple[Medium, Notes]:
    """Density and material on the calculation grid.

    Parameters
    ----------
    patient : Patient
        With a CT in HU and a structure of role ``external``. An MR needs an override for every part of the body: the
        external's own, last, for all that no other names. Its values are never looked at.
    grid : Grid
        As :func:`calculation_grid` makes it.
    structures : StructureSet
        On ``grid``; overridden structures that were not drawn come from here.
    couch : CouchGeometry or None
        None leaves no couch at all, and says so.
    overrides : mapping from structure name to Override
        Where two overlap, the first named has the voxel.
    metal : MetalOverride, optional
        For saturated voxels that no structure covers.
    hu_curve : str
        Which ``mrlinac/data/hu_NAME.toml``.

    Returns
    -------
    Medium
    Notes
        What was done, and what to look at.

    Raises
    ------
    DataError
        MR images, no external, unknown structures or materials, saturated voxels that nothing explains,
        a couch that does not fit the grid.
    """
    overrides = dict(overrides or {})
    table = materials.hu_curve(hu_curve)
    raise_all(
        DataError,
        "the image cannot be turned into densities:",
        _problems(patient, structures, overrides, metal, couch),
    )
    external = patient.external
    ct, hu = _cropped(patient, grid)
    body = occupancy(external, ct, continued=(True, True))
    mixture = Mixture(grid, table)
    is_ct = patient.image.quantity == "HU"
    notes = [*(_outside_notes(hu, body, ct) if is_ct else []), *_field_of_view_notes(external, patient)]

    resample = Resampler(ct, grid, continue_ends=True)
    claimed = np.zeros_like(body)  # part of each CT voxel that an override has taken
    for name, override in overrides.items():
        inside = body if name == external.name else _on_ct(name, patient, structures, ct)
        room = body
        if np.minimum(inside, body).sum() < INSIDE * inside.sum():
            room = np.ones_like(body)  # a bolus lies on the body; the image shows air there
            notes.append(Note("done", f"{name} lies outside {external.name} and counts with it, as a bolus does"))
        taken = np.clip(np.minimum(inside, room - claimed), 0.0, None)
        claimed += taken
        share = resample(taken)
        mixture.add(share, override.density_g_cm3, override.material)
        notes.append(Note("done", f"{name}: {total_cc(share, grid):.1f} cc set to {override.described}"))
    if is_ct:
        notes += _add_metal(mixture, metal, table, patient, hu, body, claimed, resample)
        _add_tissue(mixture, table, hu, body, claimed, resample)
        notes.append(Note("done", f"HU to density and material: {table.title}"))
    else:
        notes.append(Note("warning", "MR: density and material are those of the bands, the same throughout each"))
    notes += add_couch(mixture, couch, patient, grid)
    return mixture.medium(), Notes(tuple(notes))


def saturation_HU(patient: Patient, hu_curve: str = "schneider2000") -> float:
    """HU from which this image says nothing: the curve's end, or the image's own ceiling where that is lower."""
    table = materials.hu_curve(hu_curve)
    values = patient.image.values
    ceiling = float(values.max())
    plateau = int(np.count_nonzero(values == ceiling)) >= PLATEAU_VOXELS
    if plateau and ceiling > table.published_to_HU:
        return min(ceiling, table.saturated_from_HU)
    return table.saturated_from_HU


def metal_in(
    patient: Patient, grid: Grid, threshold_HU: float | None = None, *, name: str = METAL
) -> Structure | None:
    """Voxels inside the body at or above a threshold (default: saturated) as a structure; None if there are none."""
    limit = saturation_HU(patient) if threshold_HU is None else threshold_HU
    ct, hu = _cropped(patient, grid)
    body = occupancy(patient.external, ct, continued=(True, True))
    dense = np.where(hu >= limit, body, 0.0).astype(np.float32)
    if not dense.any():
        return None
    return Structure(name, "metal", np.clip(Resampler(ct, grid)(dense), 0.0, 1.0))


def _add_tissue(
    mixture: Mixture, curve: HuCurve, hu: Floats, body: Floats, claimed: Floats, resample: Resampler
) -> None:
    """Tissue by the HU curve.

    Only CT voxels wholly inside the body say what the tissue is. A grid voxel that has none of these takes the mean
    of its neighbours in the slice; where they have none either, its own partly filled ones must do.
    """
    density = curve.density_of(hu)
    part = np.clip(body - claimed, 0.0, 1.0)
    share = resample(part)
    volume, mass, mass_hu = _sums(np.where(part >= WHOLLY_INSIDE, part, np.float32(0)), density, hu, resample)
    thin = (volume < SLIVER) & (share > 0)
    if thin.any():
        near = [uniform_filter(sums, (1, 3, 3), mode="nearest") for sums in (volume, mass, mass_hu)]
        own = _sums(part, density, hu, resample)
        chosen = [np.where(near[0] > SLIVER / 9, n, o) for n, o in zip(near, own, strict=True)]
        volume, mass, mass_hu = (np.where(thin, c, v) for c, v in zip(chosen, (volume, mass, mass_hu), strict=True))
    tissue = np.divide(mass, volume, out=np.full_like(mass, curve.air_g_cm3), where=volume > 0)
    mean_hu = np.divide(mass_hu, mass, out=np.full_like(mass, -1000.0), where=mass > 0)
    numbers = np.array([mixture.index_of(name) for name in curve.materials], np.uint8)
    mixture.add(share, tissue, numbers[curve.material_of(mean_hu)])


def _sums(part: Floats, density: Floats, hu: Floats, resample: Resampler) -> tuple[Floats, Floats, Floats]:
    """Volume, mass, and mass-weighted HU that a part of each CT voxel brings to the grid's voxels."""
    mass = part * density
    return resample(part), resample(mass), resample(mass * hu)


def _add_metal(
    mixture: Mixture,
    metal: MetalOverride | None,
    curve: HuCurve,
    patient: Patient,
    hu: Floats,
    body: Floats,
    claimed: Floats,
    resample: Resampler,
) -> list[Note]:
    """Fill saturated voxels that no override has taken; refuse to guess."""
    saturated = saturation_HU(patient)
    limit = saturated if metal is None or metal.threshold_HU is None else metal.threshold_HU
    taken = np.where(hu >= limit, np.clip(body - claimed, 0.0, None), 0.0).astype(np.float32)
    count, volume_cc = int(np.count_nonzero(taken)), total_cc(taken, resample.source)
    if count == 0:
        return []
    found = f"{count} CT voxels ({volume_cc:.2f} cc) inside the external are at or above {limit:g} HU"
    if metal is not None:
        claimed += taken
        mixture.add(resample(taken), metal.density_g_cm3, metal.material)
        return [Note("warning", f"metal: {found}; set to {metal.described}. List the beams that cross it")]
    if volume_cc > UNEXPLAINED_METAL_cc:
        raise DataError(
            f"{found}, where CT numbers are saturated and no density is given. Give one: an override for a structure "
            "that covers them, or a metal override (titanium alloy, steel) for all saturated voxels"
        )
    return [Note("warning", f"{found}: saturated; the end of the HU curve was used")]


def _problems(
    patient: Patient,
    structures: StructureSet,
    overrides: Mapping[str, Override],
    metal: MetalOverride | None,
    couch: CouchGeometry | None,
) -> list[str]:
    found = []
    externals = [name for name, roi in patient.rois.items() if roi.role == "external"]
    if patient.image.quantity != "HU" and not set(externals) & set(overrides):
        found.append(
            f"the image is {patient.image.quantity}, not CT: it has no HU; plan on a CT or a synthetic CT, or give "
            "density bands in patient.toml, one for the external among them"
        )
    if len(externals) != 1:
        found.append(f"exactly one structure of role 'external' is needed, not {len(externals)}: draw or map it")
    for name in overrides:
        if name not in patient.rois and name not in structures:
            found.append(f"override of '{name}': there is no such structure (known: {', '.join(structures)})")
    given = [o.material for o in (*overrides.values(), *([metal] if metal else []))]
    given += [material for _, _, material in couch.layers] if couch else []
    return found + [problem for material in dict.fromkeys(given) if (problem := material_problem(material))]


def _cropped(patient: Patient, grid: Grid) -> tuple[Grid, Floats]:
    """The part of the CT under the grid, in x and y, all slices."""
    whole = patient.image.grid
    low = np.floor(whole.index_zyx(np.array(grid.lower_xyz_mm)) + 0.5).astype(int)
    high = np.ceil(whole.index_zyx(np.array(grid.upper_xyz_mm)) + 0.5).astype(int)
    _, ny, nx = whole.shape_zyx
    y0, y1 = int(np.clip(low[1], 0, ny - 1)), int(np.clip(high[1], 1, ny))
    x0, x1 = int(np.clip(low[2], 0, nx - 1)), int(np.clip(high[2], 1, nx))
    part = whole.padded((0, -y0, -x0), (0, y1 - ny, x1 - nx))
    return part, np.ascontiguousarray(patient.image.values[:, y0:y1, x0:x1])


def _on_ct(name: str, patient: Patient, structures: StructureSet, ct: Grid) -> Floats:
    """Occupancy of a structure on the CT: from its contours, or else from the calculation grid."""
    if name in patient.rois:
        return occupancy(patient.rois[name], ct)
    return without_traces(Resampler(structures.grid, ct)(structures[name].occupancy))


def _outside_notes(hu: Floats, body: Floats, ct: Grid) -> list[Note]:
    dense = (hu > DENSE_OUTSIDE_HU) & (body <= 0)
    if not dense.any():
        return []
    volume_cc = np.count_nonzero(dense) * ct.voxel_cc
    return [Note("done", f"{volume_cc:.0f} cc of imaged matter outside the external (couch, clothes) made air")]


def _field_of_view_notes(external: Roi, patient: Patient) -> list[Note]:
    """A body that touches the image's edge, or what was not imaged, was cut by the field of view."""
    cut = cut_planes_of(external, patient.image)
    if not cut:
        return []
    where = f"the external is cut by the field of view ({described(cut)})"
    return [Note("warning", f"{where}: what lies beyond it is air to the beam")]
