"""Patient and machine together: what the engines work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mrlinac.anatomy.contours import rasterise
from mrlinac.anatomy.from_ct import CouchGeometry, MetalOverride, Override, calculation_grid, medium_of, metal_in
from mrlinac.anatomy.grid import Grid, Triple
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.patient import Note, Notes, Patient
from mrlinac.anatomy.rules import derive
from mrlinac.anatomy.structures import StructureSet
from mrlinac.errors import DataError
from mrlinac.machine.aperture import beamlets_around
from mrlinac.machine.beams import Beam, BeamletMap, field_xyz_T
from mrlinac.machine.model import Machine
from mrlinac.recipe.spec import PlanSpec


@dataclass(frozen=True)
class Case:
    """What the engines work on.

    Attributes
    ----------
    patient : Patient
    grid : Grid
        The calculation grid: body, couch, air around, the imaged range and the continued ends.
    structures : StructureSet
        Drawn and derived.
    medium : Medium
    isocentre_xyz_mm, field_xyz_T : tuple of float
        LPS.
    maps : tuple of BeamletMap
    notes : Notes
    """

    patient: Patient
    grid: Grid
    structures: StructureSet
    medium: Medium
    isocentre_xyz_mm: Triple
    field_xyz_T: Triple
    maps: tuple[BeamletMap, ...]
    notes: Notes

    @property
    def beamlets(self) -> int:
        """Number of beamlets of all beams."""
        return sum(len(m) for m in self.maps)


def prepare(spec: PlanSpec, patient: Patient) -> Case:
    """Grid, structures, medium, isocentre and beamlets of a plan for a patient.

    Raises
    ------
    DataError
        When the patient lacks what the protocol or the machine needs; all problems at once.
    """
    couch = couch_of(spec.machine, patient)
    grid = calculation_grid(patient, couch, spec.numerics.grid_mm)
    drawn = rasterise(patient.rois, grid)
    metal = None if spec.patient.metal is None else metal_in(patient, grid, spec.patient.metal.threshold_HU)
    structures, derived_notes = derive(
        drawn if metal is None else drawn.having(metal), spec.protocol.structures, imaged_z_mm=imaged_z_mm(patient)
    )
    medium, medium_notes = medium_of(patient, grid, drawn, couch=couch, **overrides_of(spec))
    isocentre = isocentre_of(spec.machine, structures, couch)
    maps = beams_of(spec, structures, isocentre, patient.position)
    return Case(
        patient=patient,
        grid=grid,
        structures=structures,
        medium=medium,
        isocentre_xyz_mm=isocentre,
        field_xyz_T=field_xyz_T(spec.machine.field_iec_T, patient.position),
        maps=maps,
        notes=Notes(
            patient.notes.entries
            + derived_notes.entries
            + medium_notes.entries
            + (() if metal is None else (crossing_note(maps, structures, metal.name),))
        ),
    )


def imaged_z_mm(patient: Patient) -> tuple[float, float]:
    """Outer edges of the imaged range along z."""
    return patient.image.grid.lower_xyz_mm[2], patient.image.grid.upper_xyz_mm[2]


def overrides_of(spec: PlanSpec) -> dict[str, Any]:
    """The density overrides of a plan, as ``medium_of`` takes them."""
    metal = spec.patient.metal
    return {
        "overrides": {
            name: Override(given.density_g_cm3, given.material)
            for name, given in spec.patient.density_overrides.items()
        },
        "metal": None if metal is None else MetalOverride(metal.density_g_cm3, metal.material, metal.threshold_HU),
    }


def couch_of(machine: Machine, patient: Patient) -> CouchGeometry:
    """The machine's couch, in contact with the patient, its midline under the body's."""
    layers = tuple((layer.thickness_mm, layer.density_g_cm3, layer.material) for layer in machine.couch.layers)
    external = next(roi for roi in patient.rois.values() if roi.role == "external")
    x_mm = np.concatenate([c.points_xy_mm[:, 0] for c in external.contours])
    y_mm = np.concatenate([c.points_xy_mm[:, 1] for c in external.contours])
    return CouchGeometry(
        layers=layers,
        width_mm=machine.couch.width_mm,
        top_y_mm=float(y_mm.max()),
        midline_x_mm=float(np.round((x_mm.min() + x_mm.max()) / 2)),
    )


def isocentre_of(machine: Machine, structures: StructureSet, couch: CouchGeometry) -> Triple:
    """The isocentre by the machine's rule, never by the PTV, rounded to 1 mm."""
    x, y, z = centroid_xyz_mm(structures, "CTV")
    if machine.isocentre.rule == "fixed-table":
        height = machine.isocentre.height_above_table_mm or 0.0
        return (couch.midline_x_mm, couch.top_y_mm - height, float(np.round(z)))
    return (float(np.round(x)), float(np.round(y)), float(np.round(z)))


def beams_of(
    spec: PlanSpec, structures: StructureSet, isocentre_xyz_mm: Triple, position: str
) -> tuple[BeamletMap, ...]:
    """The beams of the technique and the beamlets each needs to cover the prescription's target."""
    target = structures[spec.protocol.prescription.target].occupancy
    technique, machine = spec.technique, spec.machine
    try:
        return tuple(
            beamlets_around(
                target,
                structures.grid,
                Beam(gantry_deg, isocentre_xyz_mm, machine.sad_mm, position=position),
                machine.mlc,
                technique.travel_step_mm,
                technique.aperture_margin_mm,
            )
            for gantry_deg in technique.gantry_deg
        )
    except ValueError as error:
        raise DataError(f"{spec.protocol.prescription.target}: {error}") from error


def centroid_xyz_mm(structures: StructureSet, name: str) -> Triple:
    """Centroid of a structure by occupancy, in LPS.

    Raises
    ------
    DataError
        When there is no such structure or it is empty.
    """
    if name not in structures or not structures[name].occupancy.any():
        raise DataError(f"the structure '{name}' is missing or empty: the isocentre rule needs it")
    grid, weight = structures.grid, structures[name].occupancy
    total = weight.sum(dtype=np.float64)
    x = weight.sum((0, 1), dtype=np.float64) @ grid.x_mm / total
    y = weight.sum((0, 2), dtype=np.float64) @ grid.y_mm / total
    z = weight.sum((1, 2), dtype=np.float64) @ grid.z_mm / total
    return (float(x), float(y), float(z))


def crossing_note(maps: tuple[BeamletMap, ...], structures: StructureSet, name: str) -> Note:
    """Which beams cross a structure (metal, say), as one sentence."""
    index = np.argwhere(structures[name].occupancy > 0)
    points = structures.grid.position_xyz_mm(index.astype(float))
    crossed = []
    for beamlets in maps:
        size = np.array(beamlets.size_uv_mm)
        open_ = {(int(u), int(v)) for u, v in beamlets.lattice_uv}
        hit = np.unique(np.floor(beamlets.beam.project_uv_mm(points) / size).astype(int), axis=0)
        if any((int(u), int(v)) in open_ for u, v in hit):
            crossed.append(f"{beamlets.beam.gantry_deg:g}°")
    text = (
        f"{name}: crossed by the beams at gantry {', '.join(crossed)}" if crossed else f"{name}: no beam crosses it"
    )
    return Note("info", text)
