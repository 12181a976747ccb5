"""The recipe of a recalculation: the dose of a plan's MU in another field, or with another seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from mrlinac import transport
from mrlinac.anatomy.grid import Triple
from mrlinac.dose.sampled import Sampled
from mrlinac.machine.beams import field_xyz_T
from mrlinac.provenance import fingerprint
from mrlinac.recipe import judge
from mrlinac.recipe.made_from import made_from, stream_seed
from mrlinac.recipe.result import PlanResult
from mrlinac.recipe.stages import Progress, Stages, silent

CONTAMINATED_T = 0.05
"""In weaker fields than this across the beam contaminant electrons reach the patient (docs/theory/transport.md)."""


def recalculation_fingerprint(result: PlanResult, field_T: float | None, seed: int | None = None) -> str:
    """Hash of a result, the field it is recalculated in, and the seed.

    Parameters
    ----------
    result : PlanResult
    field_T, seed
        As in :func:`recalculate`.

    Returns
    -------
    str
    """
    own = result.spec.numerics.seed if seed is None else seed
    return fingerprint("recalculate", result.fingerprint, list(_field_of(result, field_T)), own)


def recalculate(
    result: PlanResult,
    *,
    field_T: float | None = None,
    seed: int | None = None,
    progress: Progress = silent,
    threads: int | None = None,
    device: Literal["cpu", "gpu"] = "cpu",
) -> PlanResult:
    """The forward Monte Carlo dose of a result's MU in another field or with another seed, to the same uncertainty.

    Parameters
    ----------
    result : PlanResult
    field_T : float, optional
        Along the machine's direction, or along IEC fixed +Y for a machine without a field; negative turns it. The
        result's own by default.
    seed : int, optional
        The plan's by default. No seed repeats the random numbers of the plan's own doses.
    progress : function of (stage, done, total, text)
    threads : int, optional
        Threads of the Monte Carlo (default: all cores); the result does not depend on it.
    device : {"cpu", "gpu"}

    Returns
    -------
    PlanResult

    Raises
    ------
    PhysicsError, MissingExtraError, DeviceError
        What stands in the way.
    """
    transport.check_device(device)
    spec = result.spec
    stages = Stages(progress)
    field = _field_of(result, field_T)
    with stages.stage("final dose") as tell:
        fraction_dose = transport.dose(
            result.medium,
            result.delivery,
            spec.machine,
            field_xyz_T=field,
            target_rel_sigma=spec.numerics.final_rel_sigma,
            seed=stream_seed(spec.numerics.seed if seed is None else seed, "recalculate"),
            threads=threads,
            device=device,
            progress=tell,
        )
    protocol = result.protocol
    air = judge.air_in(result.structures, result.medium.density_g_cm3)
    course = Sampled(fraction_dose.course(protocol.prescription.fractions), result.structures, air=air)
    size_T = result.field_T if field_T is None else field_T
    sentences = [f"The MU of a plan made at {result.field_T:g} T, recalculated at {size_T:g} T."]
    if abs(size_T) < CONTAMINATED_T and spec.machine.electrons is None:
        sentences.append(
            f"This machine has no model of contaminant electrons: its skin dose at {size_T:g} T is too low."
        )
    sentences += [text[0].upper() + text[1:] + "." for text in transport.field_notes(field)]
    duals = dict(zip(result.constraints["name"], result.constraints["dual"], strict=True))
    judgement = judge.tables(protocol, course, result.structures, duals)
    skin_says = judge.skin_sentence(judgement["skin"], protocol.prescription.dose_Gy, result.structures)
    return replace(
        result,
        field_xyz_T=field,
        dose=course.dose,
        sampled_dose=course,
        **judgement,
        fluence_goals=pd.DataFrame(),  # they are of the plan's own field
        timing=stages.table(),
        statements=(
            *sentences,
            *(text for text in result.statements if not text.startswith(judge.SKIN_SAYS)),
            skin_says,
        ),
        made_from={
            **result.made_from,
            "fingerprint": recalculation_fingerprint(result, field_T, seed),
            "recalculation seed": spec.numerics.seed if seed is None else seed,
            **made_from(course.dose),
        },
    )


def _field_of(result: PlanResult, field_T: float | None) -> Triple:
    """Field in LPS along the machine's direction, or along IEC fixed +Y for a machine without a field; else its own."""
    if field_T is None:
        return result.field_xyz_T
    machine = result.spec.machine
    iec = np.array(machine.field_iec_T if machine.has_field else (0.0, 1.0, 0.0))
    return field_xyz_T((iec * (field_T / np.linalg.norm(iec))).tolist(), result.fluence.maps[0].beam.position)
