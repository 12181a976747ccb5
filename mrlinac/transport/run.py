"""Dose and influence by Monte Carlo: what the rest of the package calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.medium import Medium
from mrlinac.constants import AIR_LIKE_g_cm3, Gy_PER_MeV_PER_g
from mrlinac.dose.dose import Batches, Dose, mean_rel_sigma
from mrlinac.dose.influence import Influence
from mrlinac.errors import PhysicsError, SpecError, raise_all
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Beamlets, Delivery, Openings
from mrlinac.machine.model import Machine
from mrlinac.provenance import Provenance, fingerprint
from mrlinac.transport import columns, cpu, source, tables, to_water
from mrlinac.transport.simulate import (
    INFLUENCE,
    MIN_BATCHES,
    PARTS,
    ROULETTE,
    SPREAD,
    Array,
    Device,
    Outcome,
    Progress,
    check_device,
    mass_g,
    simulate,
)
from mrlinac.transport.source import Emission
from mrlinac.transport.tables import Settings

ENGINE = "mrlinac Monte Carlo 1"

VALIDATED_T = 3.0
"""Fields up to here were validated: Fano's theorem at 0, 1.5 and 3 T, EGSnrc at 0 and 1.5 T (docs/validation.md)."""


def field_notes(field_xyz_T: Sequence[float]) -> tuple[str, ...]:
    """What to say of a field beyond those that the transport was validated in; nothing within.

    Parameters
    ----------
    field_xyz_T : sequence of float
        In patient coordinates.

    Returns
    -------
    tuple of str
    """
    size = float(np.linalg.norm(np.asarray(field_xyz_T, float)))
    if size <= VALIDATED_T * (1 + 1e-9):
        return ()
    return (
        f"a field of {size:g} T: the transport was validated from 0 to {VALIDATED_T:g} T (Fano's theorem at 0, 1.5 and 3 T,"
        " EGSnrc at 0 and 1.5 T); stronger fields have not been compared with another code",
    )


def machine_problems(machine: Machine, settings: Settings = Settings()) -> tuple[str, ...]:
    """Energies of a machine's sources that the transport would not transport, each with a remedy.

    Parameters
    ----------
    machine : Machine
    settings : Settings

    Returns
    -------
    tuple of str
    """
    problems = []
    try:
        problem = Emission.of_machine(machine).problem(settings.photon_cut_MeV)
    except PhysicsError as error:
        problem = str(error)
    if problem:
        problems.append(f"machine {machine.name}, photons: {problem}")
    electrons = machine.electrons
    if electrons is not None and electrons.max_energy_MeV <= settings.electron_cut_MeV:
        problems.append(
            f"machine {machine.name}, electrons: max_energy_MeV = {electrons.max_energy_MeV:g} lies below the electron cut"
            f" of {settings.electron_cut_MeV:g} MeV: none would be followed. Leave the table out"
        )
    return tuple(problems)


def _emission_of(machine: Machine, settings: Settings) -> Emission:
    """The photon source of a machine, whose energies are transported."""
    raise_all(SpecError, "these sources cannot be transported:", machine_problems(machine, settings))
    return Emission.of_machine(machine)


def photons_of(beams: Sequence[Openings], machine: Machine, emission: Emission) -> Array:
    """Photons per MU of each opening, in order, at the fluence of its centre."""
    per_mm2 = machine.photons_per_MU_per_opened_mm2
    parts = [openings.area_mm2 * per_mm2 * emission.fluence_at(openings.centre_uv_mm) for openings in beams]
    return np.concatenate(parts) if parts else np.zeros(0)


def dose(
    medium: Medium,
    delivery: Delivery,
    machine: Machine,
    *,
    field_xyz_T: Sequence[float],
    photons: int | None = None,
    target_rel_sigma: float | None = None,
    seed: int = 1,
    threads: int | None = None,
    batches: int = 20,
    settings: Settings = Settings(),
    to: Literal["medium", "water"] = "medium",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    device: Device = "cpu",
) -> Dose:
    """Dose of one fraction by Monte Carlo.

    Parameters
    ----------
    medium : Medium
    delivery : Delivery
        MU of one fraction: a fluence, or segments.
    machine : Machine
        Its source and calibration. Contaminant electrons are followed from the collimator, through the field.
    field_xyz_T : sequence of three floats
        Magnetic field in patient coordinates.
    photons : int, optional
        Primaries, or at most so many with ``target_rel_sigma``.
    target_rel_sigma : float, optional
        Mean relative standard deviation wanted in voxels above half of the maximum; decided at batch ends.
    seed : int
        Of the random numbers.
    threads : int, optional
        Default: all cores; the result does not depend on it.
    batches : int
        Independent parts, for the uncertainty; at least 12.
    settings : Settings
        Cuts and steps.
    to : str
        ``"medium"``, or ``"water"``: each voxel's dose times the mean ratio of collision stopping powers of water and
        its material over the beam's electrons (:mod:`mrlinac.transport.to_water`).
    progress : callable, optional
        Of (done, total, text).
    cancelled : callable, optional
        True stops the run at the end of a batch.
    device : str
        ``"cpu"``, or ``"gpu"``: a CUDA device, which needs the extra ``gpu``; ``provenance.device`` says which.

    Returns
    -------
    Dose
        Of one fraction, with its batches.

    Raises
    ------
    PhysicsError
        When neither ``photons`` nor ``target_rel_sigma`` is given, nothing is to be transported, or ``to`` is unknown.
    MissingExtraError, DeviceError
        When a GPU is asked for and is not there, or its memory is too small.
    """
    check_device(device)
    if to not in ("medium", "water"):
        raise PhysicsError(f"to = {to!r}: dose is to 'medium' or to 'water'")
    if batches < MIN_BATCHES:
        raise PhysicsError(f"batches must be at least {MIN_BATCHES}, not {batches}: they give the uncertainty")
    emission = _emission_of(machine, settings)
    beams = delivery.openings()
    _refuse_turned_couch(beams, field_xyz_T)
    rows = _rows(beams, machine, emission, medium)
    mu = np.concatenate([openings.mu for openings in beams]) if beams else np.zeros(0)
    amount = photons_of(beams, machine, emission) * mu
    if photons is None:
        if target_rel_sigma is None:
            raise PhysicsError("give photons= or target_rel_sigma=")
        # Twice the usual need (a million per cm² of aperture at 1 % and 3 mm voxels): it stops in time. What an arc
        # opens at many angles overlaps in the patient: it counts as so many beams.
        area_cm2 = delivery.exposed_mm2 / 100 * min(1.0, MOST_BEAMS / max(len(set(delivery.beams)), 1))
        need = 1e6 * max(area_cm2, 1.0) * (0.01 / target_rel_sigma) ** 2 * (0.027 / medium.grid.voxel_cc)
        photons, batches = int(2 * need) + batches * 1000, 2 * batches
    outcome = simulate(
        medium,
        rows,
        amount,
        emission,
        field_xyz_T=field_xyz_T,
        photons=photons,
        seed=seed,
        threads=threads,
        batches=batches,
        settings=settings,
        target_rel_sigma=target_rel_sigma,
        progress=progress,
        cancelled=cancelled,
        device=device,
    )
    mass = mass_g(medium).reshape(medium.grid.shape_zyx)
    factor = np.divide(amount.sum() * Gy_PER_MeV_PER_g, mass, out=np.zeros_like(mass), where=mass > 0)
    if to == "water":
        factor = factor * to_water.factors(medium.materials, emission)[medium.material]
    mean = outcome.energy_MeV
    relative = np.divide(outcome.sigma_MeV, mean, out=np.ones_like(mean), where=mean > 0)
    notes = (*_notes(outcome.truncated, outcome.overflow), *_source_notes(emission, field_xyz_T, settings))
    if to == "water":
        notes += ("dose to water: dose to medium times the mean ratio of collision stopping powers",)
    if target_rel_sigma is not None:
        reached = mean_rel_sigma(mean * factor, relative)
        if reached > target_rel_sigma:
            notes += (f"stopped at a mean relative standard deviation of {100 * reached:.2g} %, short of the aim",)
    field = list(map(float, field_xyz_T))
    made = fingerprint("dose", medium, list(beams), machine, field, photons // batches)
    if to == "water":
        made = fingerprint(made, to)
    if device != "cpu":  # equal within statistics, not bit for bit
        made = fingerprint(made, device)
    return Dose(
        medium.grid,
        (mean * factor).astype(np.float32),
        relative.astype(np.float32),
        1,
        _provenance(made, seed, outcome.primaries, settings, field_xyz_T, notes, outcome.device),
        _batches(outcome, mean * factor),
        to,
    )


def influence(
    medium: Medium,
    maps: Sequence[BeamletMap],
    machine: Machine,
    *,
    field_xyz_T: Sequence[float],
    photons_per_beamlet: int,
    seed: int = 1,
    threads: int | None = None,
    score: NDArray[np.bool_] | None = None,
    keep_above: float = 0.003,
    settings: Settings = Settings(),
    noise_beamlets: int = 8,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    device: Device = "cpu",
) -> Influence:
    """Dose per MU of every beamlet, of one fraction.

    Parameters
    ----------
    medium : Medium
    maps : sequence of BeamletMap
    machine : Machine
    field_xyz_T : sequence of float
        Magnetic field in patient coordinates.
    photons_per_beamlet : int
    seed : int
        A beamlet's random numbers depend on it, on the beam and on the lattice place alone.
    threads : int, optional
        Default: all cores; the result does not depend on it.
    score : bool array [z, y, x], optional
        Voxels whose rows are kept; the others stay empty.
    keep_above : float
        Entries below this share of their column's maximum survive with a chance in proportion to their size, and
        then have this size: the column's mean is unbiased. 0 keeps all.
    settings : Settings
        Cuts and steps.
    noise_beamlets : int
        How many are followed a second time, in parts, for ``rel_sigma``.
    progress : callable, optional
        Of (done, total, text).
    cancelled : callable, optional
        True stops the run.
    device : str
        ``"cpu"`` only; a GPU is refused.

    Returns
    -------
    Influence

    Notes
    -----
    A beamlet's numbers depend on (seed, its beam, its place in the lattice) only: a subset of the maps has the same
    columns bit for bit, and so does any number of threads.
    """
    if device != "cpu":
        raise PhysicsError(
            f"device = {device!r}: an influence is made on the processor ('cpu') only; dose() has a GPU"
        )
    if photons_per_beamlet < 1:
        raise PhysicsError(f"photons_per_beamlet must be at least 1, not {photons_per_beamlet}")
    maps = tuple(maps)
    emission = _emission_of(machine, settings)
    beams = tuple(Openings.of_beamlets(beamlets) for beamlets in maps)
    _refuse_turned_couch(beams, field_xyz_T)
    rows = _rows(beams, machine, emission, medium)
    per_MU = photons_of(beams, machine, emission)
    mass = mass_g(medium)
    gray_per_MeV = np.divide(Gy_PER_MeV_PER_g, mass, out=np.zeros_like(mass), where=mass > 0).astype(np.float32)
    table = tables.load(medium.materials, settings)
    geometry, code = cpu.pack(medium, table, field_xyz_T)
    shared = cpu.beamline(emission)
    words = np.concatenate([beamlet_words(m) for m in maps]) if maps else np.zeros((0, 3), np.int64)
    solid = medium.density_g_cm3.reshape(-1) > AIR_LIKE_g_cm3
    maker = columns.Maker(
        rows, per_MU, photons_per_beamlet, shared, table, geometry, gray_per_MeV, solid,
        None if score is None else np.asarray(score, bool).reshape(-1),
        keep_above,
        cpu.stream_names(seed, INFLUENCE, words),
        cpu.stream_names(seed, ROULETTE, words),
        cpu.stream_names(seed, SPREAD, words),
        noise_beamlets,
    )  # fmt: skip
    matrix, rel_sigma, truncated, overflow = maker.run(code, threads, progress, cancelled)
    field, kept = list(map(float, field_xyz_T)), [score, keep_above]
    made = fingerprint("influence", medium, list(maps), machine, field, photons_per_beamlet, kept, noise_beamlets)
    notes = (*_notes(truncated, overflow), *_source_notes(emission, field_xyz_T, settings))
    return Influence(
        medium.grid,
        matrix,
        Beamlets(tuple(maps)),
        rel_sigma,
        _provenance(made, seed, photons_per_beamlet * len(rows), settings, field_xyz_T, notes),
    )


def estimate(
    medium: Medium,
    maps: Sequence[BeamletMap],
    *,
    photons_per_beamlet: int | None = None,
    photons: int | None = None,
    threads: int | None = None,
    score: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Memory and primaries of an influence (``photons_per_beamlet``) or a dose (``photons``), before it is made.

    Parameters
    ----------
    medium : Medium
    maps : sequence of BeamletMap
    photons_per_beamlet : int, optional
        Of an influence.
    photons : int, optional
        Of a dose.
    threads : int, optional
        Default: all cores.
    score : bool array [z, y, x], optional
        Voxels whose rows are kept.

    Returns
    -------
    dict
        ``beamlets``, ``photons``, ``bytes`` (peak of what transport allocates), ``entries`` (of an influence).
    """
    size = medium.grid.size
    beamlets = sum(len(m) for m in maps)
    workers = cpu.threads_or_default(threads)
    fixed = size * (8 + 12)  # packed voxels; their making
    if photons_per_beamlet is None:
        return {
            "beamlets": beamlets,
            "photons": float(photons or 0),
            "entries": 0.0,
            "bytes": float(fixed + size * (8 * 5 + 6 * PARTS + 8 * (workers + 1))),
        }
    kept = 1.0 if score is None else float(np.mean(score))
    # Measured in water, 3 mm: 2.6 voxels touched per photon at first; later the small entries are thinned.
    finer = (0.027 / medium.grid.voxel_cc) ** (1 / 3)
    thinned = columns.ENTRIES_AT_10K * (photons_per_beamlet / 1e4) ** 0.5 * finer**2
    column = min(2.7 * photons_per_beamlet * finer, thinned)
    entries = beamlets * min(size, column) * kept
    return {
        "beamlets": beamlets,
        "photons": float(photons_per_beamlet) * beamlets,
        "entries": float(entries),
        "bytes": float(fixed + size * (8 + 5 + 9) + 8 * size * (workers + 1) + 2 * 8 * entries),
    }


def beamlet_words(beamlets: BeamletMap) -> NDArray[np.int64]:
    """The part of a beamlet's stream name that says which it is: beam, lattice indices."""
    beam: Beam = beamlets.beam
    turned = [beam.couch_deg] if beam.couch_deg else []
    angles = (beam.gantry_deg, beam.collimator_deg, *turned)
    which = int(fingerprint(*angles, beam.position, list(beamlets.size_uv_mm))[:8], 16)
    lattice = beamlets.lattice_uv.astype(np.int64)
    return np.concatenate([np.full((len(lattice), 1), which), lattice], 1)


def _refuse_turned_couch(beams: Sequence[Openings], field_xyz_T: Sequence[float]) -> None:
    """One field in patient coordinates is for a couch at 0: a patient who turns sees the magnet turn."""
    if np.any(np.asarray(field_xyz_T, float)) and any(openings.beam.couch_deg for openings in beams):
        raise PhysicsError(
            "a beam with a couch angle and a magnetic field: the field is given for a couch at 0 degrees"
        )


def _rows(beams: Sequence[Openings], machine: Machine, emission: Emission, medium: Medium) -> Array:
    """Source rows of all openings, in order."""
    lower = np.array(medium.grid.lower_xyz_mm)
    parts = [source.source_rows(openings, machine, emission, lower, True) for openings in beams]
    return np.concatenate(parts) if parts else np.zeros((0, source.COLUMNS))


MOST_BEAMS = 15
"""Number of beams beyond which their apertures no longer add to the photons that a dose needs."""

NOISE_KEPT = 0.01
"""Share of a high dose below which the noise of a voxel is not kept: it decides no metric."""


def _batches(outcome: Outcome, dose_Gy: Array) -> Batches:
    """The parts of a run relative to its mean, which scales to the dose with each voxel's own factor."""
    high_Gy = np.quantile(dose_Gy, 0.999)  # a single track in air may be the maximum
    used = (dose_Gy > NOISE_KEPT * high_Gy) & (outcome.energy_MeV > 0)
    deviation = np.zeros(outcome.part_MeV.shape, np.float16)
    deviation[:, used] = outcome.part_MeV[:, used] / outcome.energy_MeV[used] - 1
    return Batches(deviation, outcome.part_primaries)


def _source_notes(emission: Emission, field_xyz_T: Sequence[float], settings: Settings) -> tuple[str, ...]:
    return (*field_notes(field_xyz_T), *emission.note(settings.photon_cut_MeV))


def _notes(truncated: int, overflow: int) -> tuple[str, ...]:
    notes = []
    if truncated:
        notes.append(f"{truncated} electrons ended by the step limit")
    if overflow:
        notes.append(f"{overflow} particles lost by a full stack")
    return tuple(notes)


def _provenance(
    made: str,
    seed: int,
    histories: int,
    settings: Settings,
    field_xyz_T: Sequence[float],
    notes: tuple[str, ...],
    device: str = "cpu",
) -> Provenance:
    numerics = {**asdict(settings), "field_xyz_T": [float(b) for b in field_xyz_T]}
    return Provenance(fingerprint(made, seed, histories, numerics), ENGINE, seed, device, histories, notes, numerics)
