"""Patient and machine together: what the engines work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mrlinac import transport
from mrlinac.anatomy.calculation_grid import calculation_grid
from mrlinac.anatomy.couch import CouchGeometry, lowest_mm
from mrlinac.anatomy.field_of_view import mark_cut_skin
from mrlinac.anatomy.grid import Grid, Triple
from mrlinac.anatomy.medium import Medium
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.position import lies_on
from mrlinac.anatomy.rules import StructureRule, derive
from mrlinac.anatomy.structures import StructureSet
from mrlinac.errors import DataError
from mrlinac.machine.aperture import beamlets_around
from mrlinac.machine.beams import Beam, BeamletMap, field_xyz_T
from mrlinac.machine.model import Machine
from mrlinac.notes import Note, Notes
from mrlinac.recipe import shared
from mrlinac.recipe.spec import PatientSource, PlanSpec


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
    making : mapping
        What it cost to prepare: CPU and wall seconds, peak memory; no part of what the case is.
    """

    patient: Patient
    grid: Grid
    structures: StructureSet
    medium: Medium
    isocentre_xyz_mm: Triple
    field_xyz_T: Triple
    maps: tuple[BeamletMap, ...]
    notes: Notes
    making: Mapping[str, float] = field(default_factory=dict, repr=False, compare=False)

    @property
    def beamlets(self) -> int:
        """Number of beamlets of all beams."""
        return sum(len(m) for m in self.maps)


def prepare(spec: PlanSpec, patient: Patient) -> Case:
    """Grid, structures, medium, isocentre and beamlets of a plan for a patient.

    Parameters
    ----------
    spec : PlanSpec
    patient : Patient

    Returns
    -------
    Case

    Raises
    ------
    DataError
        When the patient lacks what the protocol or the machine needs; all problems at once.
    """
    source = source_of(spec, patient)
    rules = rules_of(spec, patient)
    couch = couch_of(spec.machine, patient)
    grid = calculation_grid(patient, couch, spec.numerics.grid_mm)
    drawn = shared.rasterise(patient.rois, grid)
    metal = None if source.metal is None else shared.metal_in(patient, grid, source.metal.threshold_HU)
    structures, derived_notes = derive(
        drawn if metal is None else drawn.having(metal), rules, imaged_z_mm=imaged_z_mm(patient), grow=shared.expand
    )
    structures, cut_notes = mark_cut_skin(structures, rules, patient)
    medium, medium_notes = shared.medium_of(
        patient, grid, drawn, couch=couch, overrides=source.density_overrides, metal=source.metal
    )
    isocentre = source.isocentre_xyz_mm or isocentre_of(spec.machine, structures, couch)
    maps = beams_of(spec, structures, isocentre, patient.position)
    field = field_xyz_T(spec.machine.field_iec_T, patient.position)
    return Case(
        patient=patient,
        grid=grid,
        structures=structures,
        medium=medium,
        isocentre_xyz_mm=isocentre,
        field_xyz_T=field,
        maps=maps,
        notes=Notes(
            patient.notes.entries
            + derived_notes.entries
            + cut_notes
            + medium_notes.entries
            + tuple(Note("warning", text) for text in transport.field_notes(field))
            + (() if metal is None else (crossing_note(maps, structures, metal.name),))
        ),
    )


def source_of(spec: PlanSpec, patient: Patient) -> PatientSource:
    """The plan's table ``[patient]`` with what ``patient.toml`` says of densities.

    The patient's own file goes before the plan's table, and ``--set patient.…`` goes before both. An MR has no saturated
    voxels, so the rule for metal is not for it.

    Parameters
    ----------
    spec : PlanSpec
    patient : Patient

    Returns
    -------
    PatientSource
    """
    source, told = spec.patient, patient.decisions
    overrides, metal = dict(source.density_overrides), source.metal
    if told is not None:
        own = {name: o for name, o in overrides.items() if _asked_for(spec, f"patient.density_overrides.{name}")}
        merged = told.overrides(patient.external.name, overrides)
        overrides = {name: own.get(name, override) for name, override in merged.items()}
        if told.metal is not None and not _asked_for(spec, "patient.metal"):
            metal = told.metal
    if patient.image.quantity != "HU":
        metal = None
    return source.model_copy(update={"density_overrides": overrides, "metal": metal})


def _asked_for(spec: PlanSpec, key: str) -> bool:
    """Whether an override set a dotted key: itself, a part of it, or the table it stands in."""
    return any(f"{key}.".startswith(f"{changed}.") or changed.startswith(f"{key}.") for changed in spec.applied)


def rules_of(spec: PlanSpec, patient: Patient) -> Mapping[str, StructureRule]:
    """The protocol's structure rules; PTVs are made from the target that ``patient.toml`` names, where it does.

    Parameters
    ----------
    spec : PlanSpec
    patient : Patient

    Returns
    -------
    mapping of name to StructureRule
    """
    rules = spec.protocol.structures
    base = None if patient.decisions is None else patient.decisions.target_base
    if base is None:
        return rules
    chosen = {}
    for name, rule in rules.items():
        only = tuple(first for first in rule.first_of if first == base)
        chosen[name] = rule.model_copy(update={"first_of": only}) if only else rule
    return chosen


def imaged_z_mm(patient: Patient) -> tuple[float, float]:
    """Outer edges of the range along z that is imaged and has an outline of the body.

    Parameters
    ----------
    patient : Patient

    Returns
    -------
    low, high : float
        mm, in LPS.
    """
    lower, upper = patient.image.grid.lower_xyz_mm[2], patient.image.grid.upper_xyz_mm[2]
    external = patient.external
    half = external.slice_spacing_mm / 2
    planes = [contour.z_mm for contour in external.contours]
    return max(lower, min(planes) - half), min(upper, max(planes) + half)


def couch_of(machine: Machine, patient: Patient) -> CouchGeometry:
    """The machine's couch in contact beneath the patient, or where ``patient.toml`` says; its midline under the body's.

    Beneath is where gravity points for the patient's position: behind a supine patient, in front of a prone one, beside
    one on the side.

    Parameters
    ----------
    machine : Machine
    patient : Patient

    Returns
    -------
    CouchGeometry
    """
    layers = tuple((layer.thickness_mm, layer.density_g_cm3, layer.material) for layer in machine.couch.layers)
    axis, sign = lies_on(patient.position)
    lower_xy_mm, upper_xy_mm = patient.external.extent_xy_mm()
    told = None if patient.decisions is None else patient.decisions.couch_top_mm("xy"[axis])
    return CouchGeometry(
        layers=layers,
        width_mm=machine.couch.width_mm,
        top_mm=lowest_mm(patient.external, (axis, sign)) if told is None else told,
        midline_mm=float(np.round((lower_xy_mm[1 - axis] + upper_xy_mm[1 - axis]) / 2)),
        below=(axis, sign),
    )


def isocentre_of(machine: Machine, structures: StructureSet, couch: CouchGeometry) -> Triple:
    """The isocentre by the machine's rule, never by the PTV, rounded to 1 mm.

    Where the table is fixed, only the longitudinal coordinate is free: the middle of the CTV's extent, so that the
    longest target that the field can cover is covered.
    """
    fixed = fixed_xy_mm(machine, couch)
    if fixed is not None:
        planes_mm = structures.grid.z_mm[structures["CTV"].occupancy.any((1, 2))]
        return (*fixed, float(np.round((planes_mm[0] + planes_mm[-1]) / 2)))
    x, y, z = structures.centroid_xyz_mm("CTV")
    return (float(np.round(x)), float(np.round(y)), float(np.round(z)))


def fixed_xy_mm(machine: Machine, couch: CouchGeometry) -> tuple[float, float] | None:
    """Where the isocentre lies across a table that moves along the bore only.

    Parameters
    ----------
    machine : Machine
    couch : CouchGeometry

    Returns
    -------
    tuple of float, or None
        x, y in mm (LPS); None on a machine whose table moves in all directions.
    """
    if machine.isocentre.rule != "fixed-table":
        return None
    height_mm = machine.isocentre.height_above_table_mm
    assert height_mm is not None  # the schema refuses a rule without it
    axis, sign = couch.below
    above_mm = couch.top_mm - sign * height_mm
    return (couch.midline_mm, above_mm) if axis == 1 else (above_mm, couch.midline_mm)


def beams_of(
    spec: PlanSpec, structures: StructureSet, isocentre_xyz_mm: Triple, position: str
) -> tuple[BeamletMap, ...]:
    """The beams of the technique and the beamlets each needs to cover the prescription's target.

    Parameters
    ----------
    spec : PlanSpec
    structures : StructureSet
    isocentre_xyz_mm : tuple of float
    position : str
        How the patient lies.

    Returns
    -------
    tuple of BeamletMap

    Raises
    ------
    DataError
        The target lies outside the field.
    """
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
