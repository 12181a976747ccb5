"""Densities that a planning system gave structures (ROI Physical Properties), and boluses: reported, used if asked for.

They decide the dose that the other system computed, and the image does not show them.
"""

from __future__ import annotations

from collections.abc import Mapping

from mrlinac.anatomy.materials import material_at, relative_electrons_per_mass
from mrlinac.anatomy.overrides import Override
from mrlinac.anatomy.structures import Roi
from mrlinac.dicom.problems import Findings, integer, numbers, text
from mrlinac.dicom.read.structure_set import roi_name, rois_of
from mrlinac.dicom.scan import Found

WATER_g_cm3 = 1.0
"""The standard's densities are relative to water."""

WORDS = {
    "REL_MASS_DENSITY": "mass density relative to water",
    "REL_ELEC_DENSITY": "electron density relative to water",
    "EFFECTIVE_Z": "effective atomic number",
    "EFF_Z_PER_A": "effective Z/A",
    "REL_STOP_RATIO": "linear stopping power relative to water",
    "ELEM_FRACTION": "elemental composition",
    "MEAN_EXCI_ENERGY": "mean excitation energy (eV)",
}
"""ROI Physical Property (3006,00B2), PS3.3 C.8.8.8."""

HOW = "--densities, or [density_overrides] in patient.toml"


def densities_of(
    rtstruct: Found, rois: Mapping[str, Roi], decided: Mapping[str, Override], findings: Findings, *, taken: bool
) -> dict[str, Override]:
    """Density overrides that a structure set states for structures in use, where they are wanted; always reported.

    Parameters
    ----------
    rtstruct : Found
    rois : mapping from name to Roi
        Those in use.
    decided : mapping from name to Override
        What ``patient.toml`` says, which goes before.
    findings : Findings
        Gets what the set states, and what was done about it.
    taken : bool
        Whether a person wants them taken over.

    Returns
    -------
    mapping from name to Override
        Empty unless ``taken``.
    """
    stated, at_odds = _stated(rtstruct)
    boluses = _boluses(rtstruct)
    by_clinic = _in_use(rois, rtstruct)
    overrides: dict[str, Override] = {}
    if stated:
        listed = "; ".join(f"'{name}' {_listed(values)}" for name, values in _by_name(stated, rtstruct).items())
        findings.note(
            "warning", f"The planning system had overridden what the image says of these structures: {listed}."
        )
    for number, kinds in at_odds.items():
        told = "; ".join(
            f"{WORDS.get(kind, kind)} {' and '.join(f'{value:g}' for value in values)}"
            for kind, values in kinds.items()
        )
        name = by_clinic[number].name if number in by_clinic else f"ROI {number}"
        findings.note("warning", f"Several observations of '{name}' state different values: {told}. None is taken.")
    for number, values in stated.items():
        roi = by_clinic.get(number)
        density = None if roi is None else _override(values)
        if roi is not None and density is not None:
            overrides[roi.name] = density
    if taken:
        _note_taken(overrides, decided, len(stated), findings)
        overrides = {name: override for name, override in overrides.items() if name not in decided}
    elif stated and (left := [name for name in overrides if name not in decided]):
        listed = ", ".join(left)
        findings.note("decide", f"Their densities are not used unless you say so ({listed}): {HOW}.")
    if boluses:
        _note_boluses(boluses, by_clinic, {**overrides, **decided} if taken else decided, findings)
    return overrides if taken else {}


Stated = dict[int, dict[str, float | None]]


def _stated(rtstruct: Found) -> tuple[Stated, dict[int, dict[str, list[float]]]]:
    """Physical properties by ROI number, and those of which several observations state different values.

    A value is None where it is no number (a composition).
    """
    properties: Stated = {}
    at_odds: dict[int, dict[str, list[float]]] = {}
    for item in rtstruct.header.get("RTROIObservationsSequence") or []:
        number = integer(item, "ReferencedROINumber")
        for property_item in item.get("ROIPhysicalPropertiesSequence") or []:
            kind, stated_values = (
                text(property_item, "ROIPhysicalProperty").upper(),
                numbers(property_item, "ROIPhysicalPropertyValue"),
            )
            if number is None or not kind:
                continue
            value = None if stated_values is None else float(stated_values[0])
            before = properties.setdefault(number, {}).setdefault(kind, value)
            if value is None or before == value:
                continue
            if before is None and not at_odds.get(number, {}).get(kind):
                properties[number][kind] = value
                continue
            values = at_odds.setdefault(number, {}).setdefault(kind, [] if before is None else [before])
            if value not in values:
                values.append(value)
    for number, kinds in at_odds.items():
        for kind in kinds:
            properties[number][kind] = None
    return properties, at_odds


def _boluses(rtstruct: Found) -> list[int]:
    """Numbers of the ROIs that any observation types BOLUS."""
    items = rtstruct.header.get("RTROIObservationsSequence") or []
    typed = [integer(i, "ReferencedROINumber") for i in items if text(i, "RTROIInterpretedType").upper() == "BOLUS"]
    return list(dict.fromkeys(number for number in typed if number is not None))


def _in_use(rois: Mapping[str, Roi], rtstruct: Found) -> dict[int, Roi]:
    """Structures in use by ROI number: by the clinic's name, with the number behind it where names repeat."""
    by_name = {roi.original_name or roi.name: roi for roi in rois.values()}
    rois_in_use: dict[int, Roi] = {}
    for item in rois_of(rtstruct):
        number, name = integer(item, "ROINumber"), roi_name(item, rtstruct)
        if number is not None:
            roi = by_name.get(f"{name} [ROI {number}]") or by_name.get(name or f"ROI {number}")
            if roi is not None:
                rois_in_use[number] = roi
    return rois_in_use


def _by_name(stated: Mapping[int, dict[str, float | None]], rtstruct: Found) -> dict[str, dict[str, float | None]]:
    names = {integer(item, "ROINumber"): roi_name(item, rtstruct) for item in rois_of(rtstruct)}
    return {names.get(number) or f"ROI {number}": values for number, values in stated.items()}


def _listed(values: Mapping[str, float | None]) -> str:
    parts = [
        WORDS.get(kind, kind) + (f" {value:g}" if value is not None and kind != "ELEM_FRACTION" else "")
        for kind, value in values.items()
    ]
    return ", ".join(parts)


def _override(values: Mapping[str, float | None]) -> Override | None:
    """Mass density and the material that goes with it; None where neither density is stated, or it is no tissue's."""
    mass, electrons = values.get("REL_MASS_DENSITY"), values.get("REL_ELEC_DENSITY")
    if mass is None and electrons is None:
        return None
    density = (mass if mass is not None else electrons or 0.0) * WATER_g_cm3
    if density <= 0:
        return None
    material = material_at(density)
    if material is None:
        return None
    if mass is None:  # electrons per gram are nearly water's; the material tells by how much they are not
        density /= relative_electrons_per_mass(material)
    return Override(density_g_cm3=round(density, 4), material=material)


def _note_taken(
    overrides: Mapping[str, Override], decided: Mapping[str, Override], stated: int, findings: Findings
) -> None:
    used = [
        f"{name} {override.density_g_cm3:g} g/cm³ ({override.material})"
        for name, override in overrides.items()
        if name not in decided
    ]
    if used:
        findings.note("done", f"Densities taken over from the structure set, as asked for: {', '.join(used)}.")
    if own := [name for name in overrides if name in decided]:
        findings.note("info", f"patient.toml has densities of its own, which stay: {', '.join(own)}.")
    if stated > len(overrides):
        findings.note(
            "decide",
            f"{stated - len(overrides)} structure(s) state no density that can be taken over (a composition alone, a "
            "metal's, or a structure that is not in use): [density_overrides] in patient.toml.",
        )
    if not stated:
        findings.note("info", "The structure set states no densities that could be taken over (--densities).")


def _note_boluses(
    boluses: list[int], in_use: Mapping[int, Roi], overridden: Mapping[str, Override], findings: Findings
) -> None:
    """A bolus is not in the image, as a rule: without a density it is air to the beam."""
    names = [in_use[number].name for number in boluses if number in in_use]
    without = [name for name in names if name not in overridden]
    if without:
        findings.note(
            "decide",
            f"Bolus: {', '.join(without)}. Without a density of its own it is what the image shows there, and air outside"
            f" the body: {HOW}.",
        )
