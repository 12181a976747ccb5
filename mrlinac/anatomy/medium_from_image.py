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
from mrlinac.anatomy.imaged_body import ImagedBody
from mrlinac.anatomy.materials import HuCurve, material_problem
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.metal import add_metal
from mrlinac.anatomy.mixture import Mixture, total_cc
from mrlinac.anatomy.overrides import MetalOverride, Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.resample import Resampler
from mrlinac.anatomy.structures import Roi, StructureSet
from mrlinac.anatomy.trace import without_traces
from mrlinac.errors import DataError, raise_all
from mrlinac.notes import Note, Notes

Floats = NDArray[np.float32]

WHOLLY_INSIDE = 0.999
"""CT voxels filled by the external to at least this share define the tissue; others hold air or couch as well."""

SLIVER = 1e-3
"""Smallest share of known tissue in a grid voxel that defines its density."""

INSIDE = 0.5
"""An overridden structure of which less than this lies in the external is a bolus, not an organ that leaves the skin."""

DENSE_OUTSIDE_HU = -500.0
"""Matter denser than this outside the external is reported: couch, clothes, an arm."""


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
        As :func:`mrlinac.anatomy.calculation_grid.calculation_grid` makes it.
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
    imaged = ImagedBody.under(grid, patient)
    ct, hu, body = imaged.grid, imaged.values, imaged.inside
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
        filled, metal_notes = add_metal(mixture, metal, patient, imaged, claimed, resample)
        notes += metal_notes
        _add_tissue(mixture, table, imaged, claimed + filled, resample)
        notes.append(Note("done", f"HU to density and material: {table.title}"))
    else:
        notes.append(Note("warning", "MR: density and material are those of the bands, the same throughout each"))
    notes += add_couch(mixture, couch, external, grid)
    return mixture.medium(), Notes(tuple(notes))


def _add_tissue(mixture: Mixture, curve: HuCurve, body: ImagedBody, claimed: Floats, resample: Resampler) -> None:
    """Tissue by the HU curve.

    Only CT voxels wholly inside the body define the tissue. A grid voxel that has none of these takes the mean
    of its neighbours in the slice; where they have none either, its own partly filled ones must do.
    """
    hu = body.values
    density = curve.density_of(hu)
    part = np.clip(body.inside - claimed, 0.0, 1.0)
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


def _problems(
    patient: Patient,
    structures: StructureSet,
    overrides: Mapping[str, Override],
    metal: MetalOverride | None,
    couch: CouchGeometry | None,
) -> list[str]:
    problems = []
    externals = [name for name, roi in patient.rois.items() if roi.role == "external"]
    if patient.image.quantity != "HU" and not set(externals) & set(overrides):
        problems.append(
            f"the image is {patient.image.quantity}, not CT: it has no HU; plan on a CT or a synthetic CT, or give "
            "density bands in patient.toml, one for the external among them"
        )
    if len(externals) != 1:
        problems.append(f"exactly one structure of role 'external' is needed, not {len(externals)}: draw or map it")
    for name in overrides:
        if name not in patient.rois and name not in structures:
            problems.append(f"override of '{name}': there is no such structure (known: {', '.join(structures)})")
    materials_used = [o.material for o in (*overrides.values(), *([metal] if metal else []))]
    materials_used += [material for _, _, material in couch.layers] if couch else []
    return problems + [
        problem for material in dict.fromkeys(materials_used) if (problem := material_problem(material))
    ]


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
