"""What stands in the way of a plan, and what it will cost: asked before anything expensive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mrlinac import transport
from mrlinac.anatomy.autosegment import DERIVABLE
from mrlinac.anatomy.metal import METAL
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.position import lies_on, side_below
from mrlinac.anatomy.rules import StructureRule, made_by_rule
from mrlinac.anatomy.rules import problems as rule_problems
from mrlinac.anatomy.structures import StructureSet
from mrlinac.errors import DataError, MrlinacError, did_you_mean, raise_all
from mrlinac.protocol.kinds import DoseKind
from mrlinac.protocol.model import Protocol
from mrlinac.recipe.case import Case, beams_of, couch_of, fixed_xy_mm, prepare, rules_of
from mrlinac.recipe.spec import PlanSpec
from mrlinac.recipe.stages import Stages
from mrlinac.spec import Spec


@dataclass(frozen=True)
class Check:
    """The answer.

    Attributes
    ----------
    problems : tuple of str
        Each stands in the way, with its remedy.
    notes, estimates : tuple of str
        What to know; memory and time.
    case : Case or None
        What the engines will work on, to hand to ``make_plan``; None where a problem kept it from being made.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    estimates: tuple[str, ...]
    case: Case | None

    def raise_problems(self) -> None:
        """Raise one DataError with every problem; do nothing when there is none."""
        raise_all(DataError, "the plan cannot be made:", self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON.

        Returns
        -------
        dict
        """
        return {"problems": list(self.problems), "notes": list(self.notes), "estimates": list(self.estimates)}


def check_early(spec: PlanSpec, names: Iterable[str] | None = None) -> Check:
    """What can be said before the patient is read or made, which takes longer.

    Parameters
    ----------
    spec : PlanSpec
    names : iterable of str, optional
        The patient's structures, where they are known already.

    Returns
    -------
    Check
        Without a case.
    """
    problems = [*gantry_problems(spec), *transport.machine_problems(spec.machine)]
    if names is not None:
        problems += structure_name_problems(spec, names)
    return Check(tuple(problems), (), (), None)


def check(spec: PlanSpec, patient: Patient) -> Check:
    """Collect every room's problems, and estimate memory and time.

    Parameters
    ----------
    spec : PlanSpec
    patient : Patient

    Returns
    -------
    Check
    """
    problems = [*gantry_problems(spec), *transport.machine_problems(spec.machine), *patient_problems(patient)]
    if not problems:
        problems += structure_name_problems(spec, patient.rois, rules_of(spec, patient))
    case = None
    if not problems:
        try:
            stages = Stages()
            with stages.stage("anatomy"):
                case = prepare(spec, patient)
            case = replace(case, making=stages.cost("anatomy"))
        except MrlinacError as error:
            problems.append(str(error))
    if case is None:
        return Check(tuple(problems), (), (), None)
    problems += spec.protocol.problems(case.structures)
    problems += flawed_structure_problems(spec.protocol, case.structures)
    problems += [*field_size_problems(spec, case), *isocentre_problems(spec, case)]
    return Check(tuple(problems), tuple(map(str, case.notes.entries)), tuple(estimates(spec, case)), case)


def gantry_problems(spec: PlanSpec) -> list[str]:
    """Gantry angles that the machine blocks.

    Parameters
    ----------
    spec : PlanSpec

    Returns
    -------
    list of str
    """
    return [
        f"gantry {gantry_deg:g}°: {reason}; choose another angle in technique.gantry_deg"
        for gantry_deg in spec.technique.gantry_deg
        if (reason := spec.machine.blocked_reason(gantry_deg))
    ]


TABLE_TOLERANCE_mm = 0.5
"""An isocentre is given to the millimetre; half of one is rounding."""


def isocentre_problems(spec: PlanSpec, case: Case) -> list[str]:
    """A given isocentre that the machine's table cannot bring to the beam's axis (rule 9), or that lies off the grid.

    Parameters
    ----------
    spec : PlanSpec
    case : Case

    Returns
    -------
    list of str
    """
    isocentre_mm = spec.patient.isocentre_xyz_mm
    if isocentre_mm is None:
        return []
    shown = "({:g}, {:g}, {:g}) mm".format(*isocentre_mm)
    inside = zip(case.grid.lower_xyz_mm, isocentre_mm, case.grid.upper_xyz_mm, strict=True)
    if not all(lower <= x <= upper for lower, x, upper in inside):
        return [f"patient.isocentre_xyz_mm: {shown} lies outside the patient"]
    fixed = fixed_xy_mm(spec.machine, couch_of(spec.machine, case.patient))
    if fixed is None or max(abs(a - b) for a, b in zip(fixed, isocentre_mm, strict=False)) <= TABLE_TOLERANCE_mm:
        return []
    asked = "({:g}, {:g}, any z)".format(*fixed)
    return [
        f"patient.isocentre_xyz_mm: {shown}; the table of {spec.machine.name} moves along the bore only, so that the "
        f"isocentre lies at {asked} mm. Change z alone, or leave the key out"
    ]


def structure_name_problems(
    spec: PlanSpec, names: Iterable[str], rules: Mapping[str, StructureRule] | None = None
) -> list[str]:
    """Structures that the plan speaks of and that neither the patient has nor a rule can make.

    It looks at names alone, so that a spelling mistake is reported before anything is computed.

    Parameters
    ----------
    spec : PlanSpec
    names : iterable of str
        What is drawn.
    rules : mapping of StructureRule, optional

    Returns
    -------
    list of str
    """
    rules = spec.protocol.structures if rules is None else rules
    drawn = {*names, *((METAL,) if spec.patient.metal is not None else ())}
    problems = [f"protocol {spec.protocol.name}: {fault}" for fault in rule_problems(drawn, rules)]
    if not problems:
        problems = spec.protocol.problems({*drawn, *made_by_rule(drawn, rules)})
    for name in spec.patient.density_overrides:
        if name not in drawn:
            hint, known = did_you_mean(name, drawn), ", ".join(sorted(drawn))
            problems.append(f"patient.density_overrides: there is no structure '{name}'{hint} (known: {known})")
    return problems


def patient_problems(patient: Patient) -> list[str]:
    """What every plan needs of a patient.

    Parameters
    ----------
    patient : Patient

    Returns
    -------
    list of str
    """
    problems = []
    problems += couch_problems(patient)
    if not any(roi.role == "external" for roi in patient.rois.values()):
        remedy = ', or have it derived from the CT: derive = ["External"] in patient.toml (mrlinac import --derive)'
        remedy = remedy if patient.image.quantity == "HU" else ""
        problems.append(f"no structure has the role 'external': draw External (the skin){remedy}")
    for roi in patient.rois.values():
        planes_mm = np.unique([contour.z_mm for contour in roi.contours])
        gap = int(np.argmax(np.diff(planes_mm))) if len(planes_mm) > 1 else 0
        if roi.role == "external" and len(planes_mm) > 1 and np.diff(planes_mm)[gap] > 1.5 * roi.slice_spacing_mm:
            problems.append(
                f"{roi.name} has no contour between z = {planes_mm[gap]:g} and {planes_mm[gap + 1]:g} mm: "
                "the body would be air there; complete the outline"
            )
    if "CTV" not in patient.rois:
        problems.append("no CTV: the isocentre and the PTV are made from it; draw CTV or map its name")
    return problems


def couch_problems(patient: Patient) -> list[str]:
    """A height of the couch that is none for the way the patient lies.

    Parameters
    ----------
    patient : Patient

    Returns
    -------
    list of str
    """
    axis, _ = lies_on(patient.position)
    used, other = ("couch_top_y_mm", "couch_top_x_mm") if axis == 1 else ("couch_top_x_mm", "couch_top_y_mm")
    if patient.decisions is None or getattr(patient.decisions, other) is None:
        return []
    return [
        f"patient.toml: {other} is no height of the couch for a patient who lies {patient.position}, on the"
        f" {side_below(patient.position)} side: give {used}, or neither"
    ]


def flawed_structure_problems(protocol: Protocol, structures: StructureSet) -> list[str]:
    """Objectives and constraints on a structure that cannot be evaluated: it would steer the plan.

    Goals are no problem: they are reported as not evaluable.

    Parameters
    ----------
    protocol : Protocol
    structures : StructureSet

    Returns
    -------
    list of str
    """
    asked: list[tuple[str, Spec]] = [(f"the objective {o.name}", o.of) for o in protocol.objectives]
    asked += [(f"the constraint {c.name}", c.of) for c in protocol.constraints]
    return [
        f"{what} cannot be used: {structures[of.structure].flaw}; take it out of the protocol, or give a CT that "
        "holds the whole body"
        for what, of in asked
        if isinstance(of, DoseKind) and of.structure in structures and structures[of.structure].flaw
    ]


def field_size_problems(spec: PlanSpec, case: Case) -> list[str]:
    """A target that the collimator cannot cover from some gantry angle.

    Parameters
    ----------
    spec : PlanSpec
    case : Case

    Returns
    -------
    list of str
    """
    open_all = spec.machine.mlc.model_copy(update={"half_field_uv_mm": (1e4, 1e4)})
    wide = spec.model_copy(update={"machine": spec.machine.model_copy(update={"mlc": open_all})})
    needed = beams_of(wide, case.structures, case.isocentre_xyz_mm, case.patient.position)
    target = spec.protocol.prescription.target
    return [
        f"{target}: at gantry {beam.beam.gantry_deg:g}° {len(want) - len(beam)} of {len(want)} beamlets lie outside "
        "the field of the collimator; a smaller target or another machine is needed"
        for beam, want in zip(case.maps, needed, strict=True)
        if len(want) > len(beam)
    ]


INFLUENCE_PHOTONS_PER_CPU_s = 0.9e6
DOSE_EFFICIENCY_3mm_per_CPU_s = 15.8
"""Of plans in a thorax in 1.5 T (docs/benchmarks.md): photons of an influence; 1/(σ² × CPU time) of voxels of 3 mm."""
REST_CPU_s = 45.0
"""Optimisation of one plan, structures and report; an isotoxic plan takes about twice as much."""


def cpu_s_of(spec: PlanSpec, photons: float) -> dict[str, float]:
    """CPU-seconds by part, from measured rates; right to a factor of about two.

    Parameters
    ----------
    spec : PlanSpec
    photons : float
        Of the influence.

    Returns
    -------
    dict of float
        CPU-seconds by part.
    """
    numerics = spec.numerics
    per_dose_s = 1.0 / (DOSE_EFFICIENCY_3mm_per_CPU_s * (numerics.grid_mm / 3.0) ** 3)
    rounds_s = numerics.correction_rounds * per_dose_s / numerics.correction_rel_sigma**2
    return {
        "influence": photons / INFLUENCE_PHOTONS_PER_CPU_s,
        "forward doses": rounds_s + per_dose_s / numerics.final_rel_sigma**2,
        "the rest": REST_CPU_s * (1 if spec.protocol.escalation is None else 2),
    }


def time_sentence(spec: PlanSpec, photons: float) -> str:
    """How long a plan takes, as an estimate.

    Parameters
    ----------
    spec : PlanSpec
    photons : float
        Of the influence.

    Returns
    -------
    str
    """
    parts = cpu_s_of(spec, photons)
    listed = ", ".join(f"{name} {_rounded(seconds)}" for name, seconds in parts.items())
    return (
        f"time, estimated from measured rates: about {_rounded(sum(parts.values()))} CPU-seconds ({listed}); divide by the "
        "number of idle cores; less where the cache holds the influence"
    )


def _rounded(seconds: float) -> str:
    """To two figures: an estimate has no more."""
    return f"{float(f'{seconds:.2g}'):.0f}"


def planning_lacks(patient: Patient, protocols: Iterable[Protocol]) -> list[str]:
    """What a plan will ask for and the patient does not have: each with its remedy.

    Parameters
    ----------
    patient : Patient
    protocols : iterable of Protocol
        Those that may be planned with.

    Returns
    -------
    list of str
        Each with its remedy.
    """
    lacks = patient_problems(patient)
    names = set(patient.rois)
    if "ITV" not in names and "CTV" in names:
        lacks.append(
            "no ITV: the PTV is made from the CTV, without the target's motion; draw an ITV, or let the CTV hold the motion"
        )
    wanted: dict[tuple[str, ...], list[str]] = {}
    for protocol in protocols:
        missing = tuple(name for name in drawn_structures(protocol, names) if name not in names)
        if missing:
            wanted.setdefault(missing, []).append(protocol.name)
    for missing, asking in wanted.items():
        others = [name for name in missing if name not in ("External", "CTV")]  # of these is told already
        derivable = [name for name in others if name in DERIVABLE and patient.image.quantity == "HU"]
        derive = f", or have {', '.join(derivable)} derived from the CT (--derive)" if derivable else ""
        if others:
            lacks.append(
                f"no {', no '.join(others)}: needed by {', '.join(asking)}; draw, or map a drawn structure's name to it in "
                f"patient.toml under [structures]{derive}"
            )
    return lacks


def drawn_structures(protocol: Protocol, names: Iterable[str]) -> list[str]:
    """The structures that must be drawn for a protocol: those it names, and those its rules start from.

    Parameters
    ----------
    protocol : Protocol
    names : iterable of str
        What is drawn: of the sources a rule may choose from, one of these is enough.

    Returns
    -------
    list of str
    """
    drawn, needed, seen = set(names), [], set()
    asked = [
        *protocol.needed_structures(),
        *(name for name, rule in protocol.structures.items() if not rule.optional),
    ]
    while asked:
        name = asked.pop(0)
        rule = protocol.structures.get(name)
        if name in seen:
            continue
        seen.add(name)
        if rule is None or (rule.keep_drawn and name in drawn):
            needed.append(name)
        elif rule.first_of:
            chosen = [source for source in rule.first_of if source in drawn or source in protocol.structures]
            asked.append(chosen[0] if chosen else rule.first_of[-1])
        else:
            asked += [term.structure for term in (*rule.from_, *rule.within, *rule.minus) if not term.optional]
    return needed


def estimates(spec: PlanSpec, case: Case) -> list[str]:
    """Memory, photons and time.

    Parameters
    ----------
    spec : PlanSpec
    case : Case

    Returns
    -------
    list of str
        Sentences.
    """
    guess = transport.estimate(case.medium, case.maps, photons_per_beamlet=spec.numerics.photons_per_beamlet)
    nz, ny, nx = case.grid.shape_zyx
    return [
        f"grid {nx} × {ny} × {nz} voxels of {spec.numerics.grid_mm:g} mm; {case.beamlets} beamlets",
        f"influence: {guess['photons'] / 1e6:.0f} million photons, about {guess['entries'] / 1e6:.0f} million entries",
        f"memory of the Monte Carlo: about {guess['bytes'] / 1e9:.1f} GB at its peak",
        time_sentence(spec, guess["photons"]),
        spec.numerics.statement,
        *([spec.numerics.looking_only] if spec.numerics.looking_only else []),
    ]
