"""What a plan is made from, for fingerprints, seeds and the record."""

from __future__ import annotations

from typing import Any

from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.patient_file import PatientFile
from mrlinac.dose.dose import Dose
from mrlinac.dose.influence import Influence
from mrlinac.provenance import fingerprint, versions
from mrlinac.recipe.case import source_of
from mrlinac.recipe.spec import PlanSpec


def made_from(dose: Dose) -> dict[str, Any]:
    """What a dose was made with, for the record.

    Parameters
    ----------
    dose : Dose

    Returns
    -------
    dict
        Plain values, for ``result.json``.
    """
    return {
        "engine": dose.provenance.engine,
        "device": dose.provenance.device,
        "histories": dose.provenance.histories,
        "mean relative sigma above half of the maximum": round(dose.mean_rel_sigma(), 4),
        "remarks": list(dose.provenance.notes),
    }


def record_of_making(spec: PlanSpec, patient: Patient, dose: Dose, influence: Influence) -> dict[str, Any]:
    """What a plan was made from and with, for the record.

    Parameters
    ----------
    spec : PlanSpec
    patient : Patient
    dose : Dose
        The final one.
    influence : Influence

    Returns
    -------
    dict
        Plain values, for ``result.json``.
    """
    return {
        "fingerprint": fingerprint_of(spec, patient),
        **made_from(dose),
        "influence": {
            "photons per beamlet": spec.numerics.photons_per_beamlet,
            "beamlets": len(influence.columns),
            "entries": int(influence.matrix.nnz),
            "mean relative sigma": round(influence.rel_sigma, 4),
            "remarks": list(influence.provenance.notes),
        },
        "seed": spec.numerics.seed,
        "overrides": {key: value for key, value in spec.applied.items() if not key.startswith("patient.")},
        "versions": versions(),
    }


def fingerprint_of(spec: PlanSpec, patient: Patient) -> str:
    """Hash of the resolved plan, of the patient's image and structures, and of what ``patient.toml`` says of planning.

    Parameters
    ----------
    spec : PlanSpec
    patient : Patient

    Returns
    -------
    str
    """
    source, told = source_of(spec, patient), patient.decisions or PatientFile()
    return fingerprint(
        spec.fingerprint,
        patient.image,
        patient.position,
        {name: roi.content for name, roi in patient.rois.items()},
        list(source.density_overrides.items()),  # the first named has the voxel
        source.metal,
        [told.target_base, told.couch_top_y_mm, told.couch_top_x_mm],
    )


def stream_seed(seed: int, purpose: str, number: int = 0) -> int:
    """Seed of one forward dose: doses of other purposes, rounds and plans share no random numbers.

    Parameters
    ----------
    seed : int
        Of the plan.
    purpose : str
    number : int
        Of the round.

    Returns
    -------
    int
    """
    return int(fingerprint("stream", seed, purpose, number)[:15], 16)
