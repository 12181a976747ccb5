"""Influences that are made once: the engine stays pure, the recipe asks the store first, beam by beam."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from mrlinac import transport
from mrlinac.anatomy.structures import StructureSet
from mrlinac.code_hash import reached_hash
from mrlinac.dose.influence import Influence
from mrlinac.machine.beams import BeamletMap
from mrlinac.machine.delivery import Beamlets
from mrlinac.protocol.kinds import DoseKind
from mrlinac.protocol.model import Protocol
from mrlinac.provenance import Provenance, fingerprint
from mrlinac.recipe.case import Case
from mrlinac.recipe.spec import PlanSpec
from mrlinac.store import Entry, Store

Tell = Callable[[float, float, str], None]
Make = Callable[[NDArray[np.int32], NDArray[np.bool_]], "BeamColumns"]


def influence_of(spec: PlanSpec, case: Case, *, tell: Tell, store: Store, threads: int | None) -> Influence:
    """The influence of a case, from the store or made now.

    What is stored is a beam. Its key holds all that decides a column, the sources of the kernels included, so that a
    stale one is never used; but not which beamlets or voxels are wanted, because no column depends on that. So a
    smaller margin or another protocol is served from what a larger one left, equal bit for bit to a fresh one, and a
    run that was stopped goes on with the beam it was at.

    Parameters
    ----------
    spec : PlanSpec
    case : Case
    tell : callable
        Progress: of (done, total, text).
    store : Store
    threads : int or None
        Of the Monte Carlo; None: all cores.

    Returns
    -------
    Influence
    """
    wanted = rows_wanted(spec.protocol, case.structures).reshape(-1)
    beams: list[BeamColumns] = []
    followed = 0
    for beamlets in case.maps:
        done = sum(len(beam.lattice_uv) for beam in beams)

        def make(
            lattice_uv: NDArray[np.int32],
            voxels: NDArray[np.bool_],
            beamlets: BeamletMap = beamlets,
            done: int = done,
        ) -> BeamColumns:
            nonlocal followed
            followed += min(
                len(lattice_uv), len(beamlets)
            )  # those of a larger plan, followed again too, do not count
            made = transport.influence(
                case.medium,
                (replace(beamlets, lattice_uv=lattice_uv),),
                spec.machine,
                field_xyz_T=case.field_xyz_T,
                photons_per_beamlet=spec.numerics.photons_per_beamlet,
                seed=spec.numerics.seed,
                threads=threads,
                score=voxels.reshape(case.grid.shape_zyx),
                progress=lambda n, _, text: tell(min(done + n, case.beamlets), case.beamlets, text),
                noise_beamlets=NOISE_BEAMLETS,
            )
            return BeamColumns(lattice_uv, voxels, made.matrix, made.rel_sigma, made.provenance)

        beam = _beam_of(store, _key_of(spec, case, beamlets), beamlets.lattice_uv, wanted, make)
        beams.append(beam)
        tell(done + len(beamlets), case.beamlets, "influence")
    return _together(beams, case, followed, spec.numerics.photons_per_beamlet * case.beamlets)


DATA = Path(transport.__file__).parent.parent / "data"
NOISE_BEAMLETS = 2  # of each beam, followed again to know the noise of the columns


@dataclass(frozen=True)
class BeamColumns:
    """What is kept of one beam.

    Attributes
    ----------
    lattice_uv : int32 array (n, 2)
    voxels : bool array (grid.size,)
        The rows that are kept; the others are empty.
    matrix : csc_array (grid.size, n), float32
        Gy per MU of one fraction.
    rel_sigma : float
    provenance : Provenance
    """

    lattice_uv: NDArray[np.int32]
    voxels: NDArray[np.bool_]
    matrix: sp.csc_array
    rel_sigma: float
    provenance: Provenance

    @classmethod
    def of(cls, entry: Entry) -> BeamColumns:
        """From what the store holds.

        Parameters
        ----------
        entry : Entry

        Returns
        -------
        BeamColumns
        """
        arrays, meta = entry.arrays, dict(entry.meta)
        lattice_uv, size = arrays["lattice_uv"], int(meta["voxels"])
        voxels = np.unpackbits(arrays["voxels"], count=size).astype(bool)
        matrix = sp.csc_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(size, len(lattice_uv)))
        provenance = dict(meta["provenance"])
        return cls(
            lattice_uv,
            voxels,
            matrix,
            float(meta["rel_sigma"]),
            Provenance(**{**provenance, "notes": tuple(provenance["notes"])}),
        )

    def entry(self) -> Entry:
        """As the store keeps it.

        Returns
        -------
        Entry
        """
        return Entry(
            {
                "lattice_uv": self.lattice_uv,
                "voxels": np.packbits(self.voxels),
                "data": self.matrix.data,
                "indices": self.matrix.indices,
                "indptr": self.matrix.indptr,
            },
            {"voxels": len(self.voxels), "rel_sigma": self.rel_sigma, "provenance": asdict(self.provenance)},
        )

    def places(self, lattice_uv: NDArray[np.int32]) -> NDArray[np.int64]:
        """The column of each beamlet, −1 where there is none.

        Parameters
        ----------
        lattice_uv : int32 array, shape (n, 2)

        Returns
        -------
        int64 array, shape (n,)
        """
        where = {(int(u), int(v)): n for n, (u, v) in enumerate(self.lattice_uv)}
        return np.array([where.get((int(u), int(v)), -1) for u, v in lattice_uv], np.int64)

    def hold(self, lattice_uv: NDArray[np.int32], voxels: NDArray[np.bool_]) -> bool:
        """Whether all these beamlets and voxels are there.

        Parameters
        ----------
        lattice_uv : int32 array, shape (n, 2)
        voxels : bool array, shape (grid.size,)

        Returns
        -------
        bool
        """
        return bool((self.places(lattice_uv) >= 0).all() and not (voxels & ~self.voxels).any())

    def chosen(self, lattice_uv: NDArray[np.int32], voxels: NDArray[np.bool_]) -> BeamColumns:
        """These beamlets in this order, other voxels emptied.

        Parameters
        ----------
        lattice_uv : int32 array, shape (n, 2)
        voxels : bool array, shape (grid.size,)

        Returns
        -------
        BeamColumns
        """
        matrix = self.matrix
        if not np.array_equal(lattice_uv, self.lattice_uv):
            matrix = matrix[:, self.places(lattice_uv)]
        if (self.voxels & ~voxels).any():
            keep = voxels[matrix.indices]
            before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
            matrix = sp.csc_array(
                (matrix.data[keep], matrix.indices[keep], before[matrix.indptr].astype(matrix.indptr.dtype)),
                shape=matrix.shape,
            )
        return replace(self, lattice_uv=lattice_uv, voxels=voxels, matrix=matrix)

    def with_more(self, more: BeamColumns) -> BeamColumns:
        """With the columns of further beamlets on the same voxels."""
        return replace(
            self,
            lattice_uv=np.concatenate([self.lattice_uv, more.lattice_uv]),
            matrix=sp.csc_array(sp.hstack([self.matrix, more.matrix], format="csc")),
        )


def _beam_of(
    store: Store, key: str, lattice_uv: NDArray[np.int32], wanted: NDArray[np.bool_], make: Make
) -> BeamColumns:
    """A beam's columns from the store; what is not there is made and kept."""

    def grown(entry: Entry | None) -> Entry:
        if entry is None:
            return make(lattice_uv, wanted).entry()
        stored = BeamColumns.of(entry)
        if (wanted & ~stored.voxels).any():  # a row that was not kept needs its photons followed again
            extra = lattice_uv[stored.places(lattice_uv) < 0]
            return make(np.concatenate([stored.lattice_uv, extra]), stored.voxels | wanted).entry()
        return stored.with_more(make(lattice_uv[stored.places(lattice_uv) < 0], stored.voxels)).entry()

    entry = store.get_or_grow("influence", key, lambda found: BeamColumns.of(found).hold(lattice_uv, wanted), grown)
    return BeamColumns.of(entry).chosen(lattice_uv, wanted)


def _key_of(spec: PlanSpec, case: Case, beamlets: BeamletMap) -> str:
    """All that decides a column, but its place in the lattice."""
    source = spec.machine.model_dump(include={"photons", "electrons", "mlc", "calibration"})
    return fingerprint(
        "influence",
        case.medium,
        beamlets.beam,
        list(beamlets.size_uv_mm),
        source,
        list(case.field_xyz_T),
        spec.numerics.photons_per_beamlet,
        spec.numerics.seed,
        NOISE_BEAMLETS,
        engine_hash(),
    )


def _together(beams: list[BeamColumns], case: Case, followed: int, histories: int) -> Influence:
    """One influence of all beams, each freed as it is copied."""
    entries = sum(beam.matrix.nnz for beam in beams)
    kind = np.int32 if entries < 2**31 else np.int64
    data, indices = np.empty(entries, np.float32), np.empty(entries, kind)
    pointers = [np.zeros(1, np.int64)]
    weights = [len(beam.lattice_uv) for beam in beams]
    rel_sigma = float(np.average([beam.rel_sigma for beam in beams], weights=weights)) if beams else 1.0
    made = beams[0].provenance
    notes = tuple(dict.fromkeys(note for beam in beams for note in beam.provenance.notes))
    while beams:
        matrix = beams.pop(0).matrix
        start = int(pointers[-1][-1])
        data[start : start + matrix.nnz], indices[start : start + matrix.nnz] = matrix.data, matrix.indices
        pointers.append(start + matrix.indptr[1:].astype(np.int64))
    matrix = sp.csc_array(
        (data, indices, np.concatenate(pointers).astype(kind)), shape=(case.grid.size, case.beamlets)
    )
    if followed < case.beamlets:
        notes += (f"{case.beamlets - followed} of {case.beamlets} beamlets taken from the cache",)
    provenance = replace(
        made,
        fingerprint=fingerprint("influence", made.fingerprint, list(case.maps)),
        histories=histories,
        notes=notes,
    )
    return Influence(case.grid, matrix, Beamlets(case.maps), rel_sigma, provenance)


@cache
def engine_hash() -> str:
    """Hash of all that a column is made by: the code that making one reaches, the tables it reads, the compiler."""
    tables = sorted([*DATA.glob("*.npz"), DATA / "materials.toml"])
    compiler = [metadata.version(name) for name in ("numba", "llvmlite", "numpy", "scipy")]
    code = reached_hash("transport.run:influence")
    return fingerprint(code, [(path.name, path.read_bytes()) for path in tables], compiler, platform.machine())


def rows_wanted(protocol: Protocol, structures: StructureSet) -> np.ndarray:
    """Voxels [z, y, x] that an objective, a constraint or the prescription looks at, and those about them.

    A limit is judged on the dose between voxels, which two neighbours on each side decide.
    """
    kinds = [*(o.of for o in protocol.objectives), *(c.of for c in protocol.constraints)]
    names = {kind.structure for kind in kinds if isinstance(kind, DoseKind)} | {protocol.prescription.target}
    wanted = np.zeros(structures.grid.shape_zyx, dtype=bool)
    for name in names & set(structures):
        wanted |= structures[name].occupancy > 0
    return np.asarray(binary_dilation(wanted, iterations=2))
