"""Influences that are made once: the engine stays pure, the recipe asks the store first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from mrlinac import transport
from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose.influence import Influence
from mrlinac.protocol.kinds import DoseKind
from mrlinac.protocol.model import Protocol
from mrlinac.provenance import Provenance, fingerprint
from mrlinac.recipe.case import Case
from mrlinac.recipe.spec import PlanSpec
from mrlinac.store import Entry, Store

Tell = Callable[[float, float, str], None]


def influence_of(spec: PlanSpec, case: Case, *, tell: Tell, store: Store, threads: int | None) -> Influence:
    """The influence of a case, from the store or made now.

    Its key holds all that decides it, the sources of the kernels included, so that a stale one is never used.
    """
    numerics, source = spec.numerics, spec.machine.model_dump(include={"photons", "electrons", "mlc", "calibration"})
    wanted = rows_wanted(spec.protocol, case.structures)
    key = fingerprint(
        "influence",
        case.medium,
        list(case.maps),
        source,
        list(case.field_xyz_T),
        numerics.photons_per_beamlet,
        numerics.seed,
        np.packbits(wanted),
        engine_hash(),
    )

    def make() -> Entry:
        made = transport.influence(
            case.medium,
            case.maps,
            spec.machine,
            field_xyz_T=case.field_xyz_T,
            photons_per_beamlet=numerics.photons_per_beamlet,
            seed=numerics.seed,
            threads=threads,
            score=wanted,
            progress=tell,
        )
        return _to_entry(made)

    entry, was_stored = store.get_or_make("influence", key, make)
    return _from_entry(entry, case, was_stored)


@cache
def engine_hash() -> str:
    """Hash of all that the Monte Carlo is made of: its sources, the tables it reads, the constants."""
    package = Path(transport.__file__).parent
    data = package.parent / "data"
    files = [*package.glob("*.py"), *data.glob("*.npz"), data / "materials.toml", package.parent / "constants.py"]
    return fingerprint([(path.name, path.read_bytes()) for path in sorted(files)])


def rows_wanted(protocol: Protocol, structures: StructureSet) -> np.ndarray:
    """Voxels [z, y, x] that an objective, a constraint or the prescription looks at."""
    kinds = [*(o.of for o in protocol.objectives), *(c.of for c in protocol.constraints)]
    names = {kind.structure for kind in kinds if isinstance(kind, DoseKind)} | {protocol.prescription.target}
    wanted = np.zeros(structures.grid.shape_zyx, dtype=bool)
    for name in names & set(structures):
        wanted |= structures[name].occupancy > 0
    return wanted


def _to_entry(made: Influence) -> Entry:
    matrix = made.matrix
    provenance = made.provenance
    return Entry(
        {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": np.array(matrix.shape)},
        {
            "rel_sigma": made.rel_sigma,
            "provenance": {
                "fingerprint": provenance.fingerprint,
                "engine": provenance.engine,
                "seed": provenance.seed,
                "device": provenance.device,
                "histories": provenance.histories,
                "notes": list(provenance.notes),
            },
        },
    )


def _from_entry(entry: Entry, case: Case, was_stored: bool) -> Influence:
    arrays = entry.arrays
    shape = tuple(int(n) for n in arrays["shape"])
    matrix = sp.csc_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    values = dict(entry.meta["provenance"])
    provenance = Provenance(**{**values, "notes": tuple(values["notes"])})
    if was_stored:
        provenance = replace(provenance, notes=(*provenance.notes, "taken from the cache"))
    return Influence(case.grid, matrix, case.maps, float(entry.meta["rel_sigma"]), provenance)
