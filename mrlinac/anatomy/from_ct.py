"""From a CT to what the beam goes through: density and material on the calculation grid, couch and air included.

Every voxel is a mixture by volume of tissue, overridden structures, couch and air, so that mass is conserved; its
material is that of the part with most mass. ``docs/theory/anatomy.md`` gives the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy import materials
from mrlinac.anatomy.contours import occupancy
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.materials import HuCurve, known_materials
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.patient import Note, Notes, Patient
from mrlinac.anatomy.resample import Resampler
from mrlinac.anatomy.structures import Roi, Structure, StructureSet
from mrlinac.errors import DataError, raise_all

Floats = NDArray[np.float32]

WHOLLY_INSIDE = 0.999
"""CT voxels filled by the external at least so far say what the tissue is; the others hold air or couch as well."""

PLATEAU_VOXELS = 20
"""So many voxels at exactly the image's largest value are a detector's or a file format's ceiling, not tissue."""

UNEXPLAINED_METAL_cc = 0.1
"""Saturated volume, with no density given, from which planning is refused."""

DENSE_OUTSIDE_HU = -500.0
"""What is denser than this outside the external is worth a sentence: couch, clothes, an arm."""


@dataclass(frozen=True)
class Override:
    """A density and a material that replace the CT's."""

    density_g_cm3: float
    material: str


@dataclass(frozen=True)
class MetalOverride(Override):
    """Metal found by its CT number: the voxels at and above a threshold, by default those that are saturated."""

    threshold_HU: float | None = None


@dataclass(frozen=True)
class CouchGeometry:
    """A flat couch: layers from the top down, along all of z.

    Attributes
    ----------
    layers : sequence of (thickness_mm, density_g_cm3, material)
    width_mm : float
    midline_x_mm : float
    top_y_mm : float or None
        None: the patient's ``couch_top_y_mm`` or, without one, the external's posterior-most point.
    """

    layers: Sequence[tuple[float, float, str]]
    width_mm: float
    midline_x_mm: float = 0.0
    top_y_mm: float | None = None

    @property
    def thickness_mm(self) -> float:
        """Of all layers."""
        return float(sum(thickness for thickness, _, _ in self.layers))

    def top_of_mm(self, patient: Patient) -> float:
        """Where the couch's top lies under a patient."""
        if self.top_y_mm is not None:
            return self.top_y_mm
        return patient.couch_top_y_mm if patient.couch_top_y_mm is not None else _extent_mm(patient)[1][1]


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
    lower, upper = _extent_mm(patient)[0].copy(), _extent_mm(patient)[1].copy()
    lower, upper = np.array([lower[0], lower[1]]), np.array([upper[0], upper[1]])
    if couch is not None:
        top = couch.top_of_mm(patient)
        half = np.array([couch.width_mm / 2, 0.0])
        lower = np.minimum(lower, np.array([couch.midline_x_mm, top]) - half)
        upper = np.maximum(upper, np.array([couch.midline_x_mm, top + couch.thickness_mm]) + half)
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
        With a CT in HU and a structure of role ``external``.
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
        DataError, "the CT cannot be turned into densities:", _problems(patient, structures, overrides, metal, couch)
    )
    external = _external(patient)
    ct, hu = _cropped(patient, grid)
    body = occupancy(external, ct, continued=(True, True))
    mixture = _Mixture(grid, table)
    notes = [*_outside_notes(hu, body, ct), *_field_of_view_notes(external, patient)]

    resample = Resampler(ct, grid, continue_ends=True)
    claimed = np.zeros_like(body)  # part of each CT voxel that an override has taken
    for name, override in overrides.items():
        inside = _on_ct(name, patient, structures, ct)
        taken = np.clip(np.minimum(inside, body - claimed), 0.0, None)
        claimed += taken
        share = resample(taken)
        mixture.add(share, override.density_g_cm3, override.material)
        notes.append(Note("done", f"{name}: {_cc(share, grid):.1f} cc set to {_described(override)}"))
    notes += _add_metal(mixture, metal, table, patient, hu, body, claimed, resample)
    _add_tissue(mixture, table, hu, body, claimed, resample)
    notes.append(Note("done", f"HU to density and material: {table.title}"))
    notes += _add_couch(mixture, couch, patient, grid)
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
    patient: Patient, grid: Grid, threshold_HU: float | None = None, *, name: str = "Metal"
) -> Structure | None:
    """Voxels inside the body at or above a threshold (default: saturated) as a structure; None if there are none."""
    limit = saturation_HU(patient) if threshold_HU is None else threshold_HU
    ct, hu = _cropped(patient, grid)
    body = occupancy(_external(patient), ct, continued=(True, True))
    dense = np.where(hu >= limit, body, 0.0).astype(np.float32)
    if not dense.any():
        return None
    return Structure(name, "metal", np.clip(Resampler(ct, grid)(dense), 0.0, 1.0))


class _Mixture:
    """Collects, voxel by voxel, parts of volume with their mass; what is left over in the end is air."""

    def __init__(self, grid: Grid, curve: HuCurve) -> None:
        self.grid, self.air_g_cm3 = grid, curve.air_g_cm3
        self.names = [curve.materials[0]]
        self.filled = np.zeros(grid.shape_zyx, np.float32)
        self.mass = np.zeros(grid.shape_zyx, np.float32)  # g/cm³ of the whole voxel
        self.heaviest = np.zeros(grid.shape_zyx, np.float32)
        self.material = np.zeros(grid.shape_zyx, np.uint8)

    def index_of(self, name: str) -> int:
        """Number of a material, new ones at the end."""
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def add(self, share: Floats, density_g_cm3: Floats | float, material: NDArray[np.uint8] | str) -> None:
        """Fill a share of each voxel, as far as there is room left."""
        share = np.clip(np.minimum(share, 1.0 - self.filled), 0.0, None)
        mass = share * np.asarray(density_g_cm3, np.float32)
        self.filled += share
        self.mass += mass
        heavier = mass > self.heaviest
        index = np.uint8(self.index_of(material)) if isinstance(material, str) else material
        self.material = np.where(heavier, index, self.material)
        self.heaviest = np.where(heavier, mass, self.heaviest)

    def medium(self) -> Medium:
        """Fill the rest with air; keep the materials that occur."""
        rest = np.clip(1.0 - self.filled, 0.0, None)
        self.add(rest, self.air_g_cm3, self.names[0])
        used = np.unique(np.concatenate([[0], np.unique(self.material)]))
        renumbered = np.zeros(len(self.names), np.uint8)
        renumbered[used] = np.arange(len(used), dtype=np.uint8)
        names = tuple(self.names[i] for i in used)
        return Medium(self.grid, self.mass, renumbered[self.material], names)


def _add_tissue(
    mixture: _Mixture, curve: HuCurve, hu: Floats, body: Floats, claimed: Floats, resample: Resampler
) -> None:
    """Tissue by the HU curve. Only CT voxels wholly inside the body say what the tissue is; where a grid voxel has
    none of these, those partly inside must do, weighted by their part."""
    density = curve.density_of(hu)
    part = np.clip(body - claimed, 0.0, 1.0)
    share = resample(part)
    wholly = np.where(part >= WHOLLY_INSIDE, part, 0.0).astype(np.float32)
    volume, mass, mass_hu = resample(wholly), resample(wholly * density), resample(wholly * density * hu)
    thin = (volume < 1e-4) & (share > 0)
    if thin.any():
        volume = np.where(thin, share, volume)
        mass = np.where(thin, resample(part * density), mass)
        mass_hu = np.where(thin, resample(part * density * hu), mass_hu)
    tissue = np.divide(mass, volume, out=np.full_like(mass, curve.air_g_cm3), where=volume > 0)
    mean_hu = np.divide(mass_hu, mass, out=np.full_like(mass, -1000.0), where=mass > 0)
    numbers = np.array([mixture.index_of(name) for name in curve.materials], np.uint8)
    mixture.add(share, tissue, numbers[curve.material_of(mean_hu)])


def _add_metal(
    mixture: _Mixture,
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
    count, volume_cc = int(np.count_nonzero(taken)), _cc(taken, resample.source)
    if count == 0:
        return []
    found = f"{count} CT voxels ({volume_cc:.2f} cc) inside the external are at or above {limit:g} HU"
    if metal is not None:
        claimed += taken
        mixture.add(resample(taken), metal.density_g_cm3, metal.material)
        return [Note("warning", f"metal: {found}; set to {_described(metal)}. List the beams that cross it")]
    if volume_cc > UNEXPLAINED_METAL_cc:
        raise DataError(
            f"{found}, where CT numbers are saturated and no density is given. Give one: an override for a structure "
            "that covers them, or a metal override (titanium alloy, steel) for all saturated voxels"
        )
    return [Note("warning", f"{found}: saturated; the end of the HU curve was used")]


def _add_couch(mixture: _Mixture, couch: CouchGeometry | None, patient: Patient, grid: Grid) -> list[Note]:
    """Insert the layers; the body keeps its part of shared voxels."""
    if couch is None:
        return [Note("warning", "no couch: posterior skin sees air, which in a magnetic field is wrong")]
    top = couch.top_of_mm(patient)
    half = couch.width_mm / 2
    low, high = grid.lower_xyz_mm, grid.upper_xyz_mm
    fits_x = low[0] <= couch.midline_x_mm - half and couch.midline_x_mm + half <= high[0]
    if not fits_x or not (low[1] <= top and top + couch.thickness_mm <= high[1]):
        raise DataError(
            f"the couch (x {couch.midline_x_mm - half:g} … {couch.midline_x_mm + half:g}, "
            f"y {top:g} … {top + couch.thickness_mm:g} mm) does not fit the grid; make it with calculation_grid()"
        )
    across = _interval(grid.x_mm, grid.spacing_zyx_mm[2], couch.midline_x_mm - half, couch.midline_x_mm + half)
    before = mixture.filled.copy()
    y = top
    for thickness, density, material in couch.layers:
        down = _interval(grid.y_mm, grid.spacing_zyx_mm[1], y, y + thickness)
        share = np.broadcast_to((down[:, None] * across[None, :]), grid.shape_zyx).astype(np.float32)
        mixture.add(share, density, material)
        y += thickness
    lost = couch.width_mm * couch.thickness_mm * grid.shape_zyx[0] * grid.spacing_zyx_mm[0] / 1000
    lost -= _cc(mixture.filled - before, grid)
    posterior = _extent_mm(patient)[1][1]
    notes = [Note("done", f"couch of {couch.thickness_mm:g} mm inserted with its top at y = {top:.1f} mm")]
    if posterior - top > 1.0:
        notes.append(
            Note(
                "warning",
                f"the external reaches {posterior - top:.1f} mm into the couch; the body keeps {lost:.0f} cc",
            )
        )
    elif top - posterior > 1.0:
        notes.append(Note("warning", f"there are {top - posterior:.1f} mm of air between external and couch"))
    return notes


def _interval(centres_mm: NDArray[np.float64], step_mm: float, low_mm: float, high_mm: float) -> NDArray[np.float64]:
    """Share of each interval of a lattice that lies between two coordinates."""
    common = np.minimum(centres_mm + step_mm / 2, high_mm) - np.maximum(centres_mm - step_mm / 2, low_mm)
    share: NDArray[np.float64] = np.clip(common / step_mm, 0.0, 1.0)
    return share


def _problems(
    patient: Patient,
    structures: StructureSet,
    overrides: Mapping[str, Override],
    metal: MetalOverride | None,
    couch: CouchGeometry | None,
) -> list[str]:
    found = []
    if patient.image.quantity != "HU":
        found.append(f"the image is {patient.image.quantity}, not CT: it has no HU; plan on a CT or a synthetic CT")
    externals = [name for name, roi in patient.rois.items() if roi.role == "external"]
    if len(externals) != 1:
        found.append(f"exactly one structure of role 'external' is needed, not {len(externals)}: draw or map it")
    for name in overrides:
        if name not in patient.rois and name not in structures:
            found.append(f"override of '{name}': there is no such structure (known: {', '.join(structures)})")
    given = [o.material for o in (*overrides.values(), *([metal] if metal else []))]
    given += [material for _, _, material in couch.layers] if couch else []
    for material in dict.fromkeys(given):
        if material not in known_materials():
            found.append(f"unknown material '{material}' (known: {', '.join(known_materials())})")
    return found


def _external(patient: Patient) -> Roi:
    externals = [roi for roi in patient.rois.values() if roi.role == "external"]
    if len(externals) != 1:
        raise DataError(f"exactly one structure of role 'external' is needed, not {len(externals)}: draw or map it")
    return externals[0]


def _extent_mm(patient: Patient) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest x, y of the external."""
    points = np.concatenate([contour.points_xy_mm for contour in _external(patient).contours])
    return points.min(axis=0), points.max(axis=0)


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
    return Resampler(structures.grid, ct)(structures[name].occupancy)


def _outside_notes(hu: Floats, body: Floats, ct: Grid) -> list[Note]:
    dense = (hu > DENSE_OUTSIDE_HU) & (body <= 0)
    if not dense.any():
        return []
    volume_cc = np.count_nonzero(dense) * ct.voxel_cc
    return [Note("done", f"{volume_cc:.0f} cc of imaged matter outside the external (couch, clothes) made air")]


def _field_of_view_notes(external: Roi, patient: Patient) -> list[Note]:
    """A body that touches the image's edge was cut by the field of view."""
    grid = patient.image.grid
    tolerance = max(grid.spacing_zyx_mm[1:])
    low, high = np.array(grid.lower_xyz_mm[:2]) + tolerance, np.array(grid.upper_xyz_mm[:2]) - tolerance
    cut = [c.z_mm for c in external.contours if np.any(c.points_xy_mm < low) or np.any(c.points_xy_mm > high)]
    if not cut:
        return []
    text = f"the external is cut by the field of view in {len(set(cut))} slices ({min(cut):g} … {max(cut):g} mm): "
    return [Note("warning", text + "skin metrics are not valid there")]


def _cc(share: Floats, grid: Grid) -> float:
    return float(share.sum(dtype=np.float64)) * grid.voxel_cc


def _described(override: Override) -> str:
    return f"{override.material}, {override.density_g_cm3:g} g/cm³"
