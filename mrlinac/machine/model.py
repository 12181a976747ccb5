"""A machine as data: what a file in ``machines/`` may say, and the few sums that belong to it."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mrlinac import inherit, spec
from mrlinac.anatomy.materials import MaterialName

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Figure(spec.Spec):
    """A number somebody published or measured, kept to compare with.

    Attributes
    ----------
    name : str
    value : float
        In ``unit``.
    unit : str
        Of the value.
    source : str
    tolerance : float or None
        In the unit.
    """

    name: str
    value: float
    unit: str
    source: str
    tolerance: float | None = None


class Spectrum(spec.Spec):
    """Photon number spectrum, uniform within each bin.

    ``edge_MeV`` has one entry more than ``weight``.

    Attributes
    ----------
    edge_MeV : tuple of float
        Bin edges.
    weight : tuple of float
        Relative number of photons in each bin.
    source : str
    """

    edge_MeV: tuple[NotNegative, ...]
    weight: tuple[NotNegative, ...]
    source: str

    @model_validator(mode="after")
    def _consistent(self) -> Spectrum:
        if len(self.edge_MeV) != len(self.weight) + 1:
            raise ValueError(f"{len(self.edge_MeV)} edges do not bound {len(self.weight)} bins")
        if any(b <= a for a, b in zip(self.edge_MeV, self.edge_MeV[1:], strict=False)):
            raise ValueError("edge_MeV must increase")
        if sum(self.weight) <= 0:
            raise ValueError("at least one weight must be positive")
        return self


class FluenceProfile(spec.Spec):
    """Photon number fluence on the isocentre plane against the distance from the axis, 1 on the axis.

    Attributes
    ----------
    radius_mm : tuple of float
        From the axis, on the isocentre plane.
    relative : tuple of float
        To the fluence on the axis.
    source : str
    """

    radius_mm: tuple[NotNegative, ...]
    relative: tuple[NotNegative, ...]
    source: str

    @model_validator(mode="after")
    def _consistent(self) -> FluenceProfile:
        if len(self.radius_mm) != len(self.relative) or len(self.radius_mm) < 2:
            raise ValueError("radius_mm and relative need the same length, at least 2")
        if any(b <= a for a, b in zip(self.radius_mm, self.radius_mm[1:], strict=False)) or self.radius_mm[0] != 0:
            raise ValueError("radius_mm must start at 0 and increase")
        return self


class ExtraFocal(spec.Spec):
    """Photons scattered in the head: a wide source below the target, seen through the same edges.

    Its density falls as exp(−r / ``decay_mm``) with the distance r from the axis.

    Attributes
    ----------
    share : float
        Of the photons that leave the collimator.
    decay_mm : float
        Distance in its plane over which the density falls to 1/e; half of its photons start within 1.68 of it.
    distance_mm : float
        Of its plane from the target.
    source : str
    """

    share: Annotated[float, Field(ge=0, lt=1)]
    decay_mm: Positive
    distance_mm: Positive
    source: str


class PhotonSource(spec.Spec):
    """A Gaussian spot at the target, seen through ideal edges in the collimator's plane.

    Attributes
    ----------
    spectrum : Spectrum
        Of the photons on the axis.
    fluence : FluenceProfile
        Across the field.
    spot_sigma_uv_mm : tuple of float
        Standard deviations of the spot.
    collimator_mm : float
        Distance of the beam-limiting plane from the source.
    softening_per_100mm : float
        Every energy is multiplied by 1 − softening · r/100 mm, r at the isocentre plane.
    nominal_MV : float or None
        Nominal energy, as plans name it.
    flattening_filter : bool
        Whether the beam is flattened.
    extra_focal : ExtraFocal or None
        Head scatter; its photons have the spectrum of the others.
    source : str
    """

    spectrum: Spectrum
    fluence: FluenceProfile
    spot_sigma_uv_mm: tuple[NotNegative, NotNegative]
    collimator_mm: Positive
    softening_per_100mm: float = 0.0
    nominal_MV: Positive | None = None
    flattening_filter: bool = True
    extra_focal: ExtraFocal | None = None
    source: str

    @model_validator(mode="after")
    def _consistent(self) -> PhotonSource:
        if self.extra_focal is not None and self.extra_focal.distance_mm >= self.collimator_mm:
            raise ValueError(
                "extra_focal.distance_mm must be smaller than collimator_mm: it is seen through the edges"
            )
        return self


class ElectronSource(spec.Spec):
    """Contaminant electrons of the treatment head; some hundredths of a tesla across the beam keep them away.

    Attributes
    ----------
    per_photon : float
        Electrons per photon of the same beamlet, at the isocentre plane.
    mean_energy_MeV : float
        Of exp(−E/mean), cut at ``max_energy_MeV``.
    max_energy_MeV : float
        Largest energy.
    spread_sigma_mm : float
        Gaussian blur on the isocentre plane, from scatter in head and air.
    source : str
    """

    per_photon: NotNegative
    mean_energy_MeV: Positive
    max_energy_MeV: Positive
    spread_sigma_mm: NotNegative
    source: str


class Mlc(spec.Spec):
    """The leaves of a multileaf collimator.

    Attributes
    ----------
    pairs : int
        Number of leaf pairs.
    leaf_width_mm : float
        At the isocentre.
    travel : {"u", "v"}
        The beam-limiting-device axis that leaves move along: u is X, v is Y.
    half_field_uv_mm : tuple of float
        Largest distance of an opening from the axis, along u and v.
    min_gap_mm : float
        Smallest distance of the leaves of an open pair, at the isocentre.
    interdigitation : bool
        Whether a leaf may pass the opposite leaf of a neighbouring pair.
    transmission : float
        Mean share of the fluence that passes closed leaves between the diaphragms.
    boundaries_mm : tuple of float or None
        Edges of the leaves at the isocentre, across their travel, where they are not all as wide.
    source : str
    """

    pairs: Annotated[int, Field(ge=1)]
    leaf_width_mm: Positive
    travel: Literal["u", "v"]
    half_field_uv_mm: tuple[Positive, Positive]
    min_gap_mm: NotNegative
    interdigitation: bool
    transmission: Annotated[float, Field(ge=0, lt=1)]
    boundaries_mm: tuple[float, ...] | None = None
    source: str

    @model_validator(mode="after")
    def _consistent(self) -> Mlc:
        edges_mm = self.boundaries_mm
        if edges_mm is not None and len(edges_mm) != self.pairs + 1:
            raise ValueError(f"boundaries_mm has {len(edges_mm)} edges; {self.pairs} pairs have {self.pairs + 1}")
        if edges_mm is not None and any(b <= a for a, b in itertools.pairwise(edges_mm)):
            raise ValueError("boundaries_mm must increase")
        return self

    @property
    def leaf_edges_mm(self) -> NDArray[np.float64]:
        """Edges (pairs + 1) of the leaves on the isocentre plane, across their travel."""
        if self.boundaries_mm is not None:
            return np.array(self.boundaries_mm, np.float64)
        return np.asarray((np.arange(self.pairs + 1) - self.pairs / 2) * self.leaf_width_mm, np.float64)

    def beamlet_size_uv_mm(self, travel_step_mm: float) -> tuple[float, float]:
        """Beamlet size du, dv: one step along travel, one leaf across it.

        Parameters
        ----------
        travel_step_mm : float

        Returns
        -------
        tuple of float
        """
        if self.travel == "u":
            return (travel_step_mm, self.leaf_width_mm)
        return (self.leaf_width_mm, travel_step_mm)


class CouchLayer(spec.Spec):
    """One layer of the couch, from the top down.

    Attributes
    ----------
    thickness_mm : float
        From top to bottom.
    density_g_cm3 : float
        Mass density.
    material : str
        Name in ``mrlinac/data/materials.toml``.
    source : str
    """

    thickness_mm: Positive
    density_g_cm3: Positive
    material: MaterialName
    source: str


class Couch(spec.Spec):
    """A flat couch top in contact with the patient.

    Attributes
    ----------
    width_mm : float
        Across the table.
    layers : tuple of CouchLayer
        From the top down.
    """

    width_mm: Positive
    layers: tuple[CouchLayer, ...]


class Isocentre(spec.Spec):
    """Where the isocentre may lie in the patient.

    ``ctv-centroid``: centroid of the CTV, rounded to 1 mm. ``fixed-table``: on the table's midline and
    ``height_above_table_mm`` over its top, free along the table only.

    Attributes
    ----------
    rule : {"ctv-centroid", "fixed-table"}
        See above.
    height_above_table_mm : float or None
        Of the fixed table's top.
    source : str
    """

    rule: Literal["ctv-centroid", "fixed-table"]
    height_above_table_mm: Positive | None = None
    source: str

    @model_validator(mode="after")
    def _consistent(self) -> Isocentre:
        if (self.rule == "fixed-table") != (self.height_above_table_mm is not None):
            raise ValueError("height_above_table_mm belongs to the rule 'fixed-table', and only to it")
        return self


class BlockedSector(spec.Spec):
    """Gantry angles to keep clear of, clockwise.

    Attributes
    ----------
    from_deg : float
        First angle.
    to_deg : float
        Last angle.
    reason : str
        For the message.
    """

    from_deg: float
    to_deg: float
    reason: str


class Calibration(spec.Spec):
    """What one MU means.

    Attributes
    ----------
    dose_per_MU_Gy : float
        In the reference conditions.
    field_mm : tuple of float
        Reference field at the isocentre.
    ssd_mm : float
        Distance from source to water surface.
    depth_mm : float
        Of the reference point in water.
    with_field : bool
        Whether the magnet is on in the reference conditions.
    photons_per_MU_per_mm2 : float
        On the axis of the isocentre plane, in the reference field, without its phantom; made by the command in
        ``made_by``.
    photons_rel_sigma : float
        Statistical uncertainty of ``photons_per_MU_per_mm2``.
    made_by : str
        The command that made ``photons_per_MU_per_mm2``.
    source : str
    """

    dose_per_MU_Gy: Positive
    field_mm: tuple[Positive, Positive]
    ssd_mm: Positive
    depth_mm: Positive
    with_field: bool
    photons_per_MU_per_mm2: Positive
    photons_rel_sigma: NotNegative
    made_by: str
    source: str


class Machine(spec.Spec):
    """A treatment machine: a file of ``machines/``.

    Attributes
    ----------
    name : str
    title : str
    sad_mm : float
        Source to axis distance.
    field_iec_T : tuple of float
        The magnet's field in IEC fixed coordinates.
    field_source : str
        Where the field's direction and size come from.
    photons : PhotonSource
        Bremsstrahlung of the target.
    electrons : ElectronSource or None
        Contaminant electrons.
    mlc : Mlc
        Leaves.
    couch : Couch
        Under the patient.
    isocentre : Isocentre
        Where it may lie.
    blocked : tuple of BlockedSector
        Gantry angles that are not allowed.
    calibration : Calibration
        What one MU means.
    references : tuple of Figure
        Published or measured figures to compare with.
    neglected : tuple of str
        What the model leaves out; printed in every report.
    """

    name: str
    title: str
    sad_mm: Positive
    field_iec_T: tuple[float, float, float]
    field_source: str
    photons: PhotonSource
    electrons: ElectronSource | None = None
    mlc: Mlc
    couch: Couch
    isocentre: Isocentre
    blocked: tuple[BlockedSector, ...] = ()
    calibration: Calibration
    references: tuple[Figure, ...] = ()
    neglected: tuple[str, ...] = ()

    @property
    def has_field(self) -> bool:
        """Whether any component of the field differs from zero."""
        return any(component != 0 for component in self.field_iec_T)

    def in_air(self, field_mm: tuple[float, float]) -> float:
        """Photons per mm² on the axis of the isocentre plane, per photon and mm² of an opening: head scatter in air.

        Parameters
        ----------
        field_mm : tuple of float
            Sides of the open field at the isocentre, along u and v.

        Returns
        -------
        float
            1 without an extra-focal source.

        Notes
        -----
        From the axis an opening of side a shows the part of the extra-focal plane within ± a c (s − d)/(2 s (s − c));
        s, c and d are the distances of axis, collimator and plane. The photons fan out more than those of the target,
        by s (c − d)/(c (s − d)) per axis. The fluence across the opening counts as flat.
        """
        extra = self.photons.extra_focal
        if extra is None or extra.share == 0:
            return 1.0
        sad, collimator, distance = self.sad_mm, self.photons.collimator_mm, extra.distance_mm
        seen = collimator * (sad - distance) / (sad * (sad - collimator))
        half_u, half_v = (side / 2 * seen / extra.decay_mm for side in field_mm)
        visible = _within(half_u, half_v) + _within(half_v, half_u)
        fan = (sad * (collimator - distance) / (collimator * (sad - distance))) ** 2
        return 1 - extra.share + extra.share * fan * visible

    @property
    def photons_per_MU_per_opened_mm2(self) -> float:
        """Photons per MU that leave the collimator per mm² of an opening, projected to the isocentre plane."""
        calibration = self.calibration
        return calibration.photons_per_MU_per_mm2 / self.in_air(calibration.field_mm)

    def blocked_reason(self, gantry_deg: float) -> str | None:
        """Why a gantry angle is blocked, or None.

        Parameters
        ----------
        gantry_deg : float

        Returns
        -------
        str or None
        """
        for sector in self.blocked:
            span_deg = sector.to_deg - sector.from_deg
            if abs(span_deg) >= 360 or (gantry_deg - sector.from_deg) % 360 <= span_deg % 360:
                return sector.reason
        return None


def _within(near: float, beside: float) -> float:
    """Share of the density exp(−r)/(2π) within the two triangles from the centre of a rectangle to sides at ± ``near``.

    ``beside`` is the half length of these sides. The radial integral up to R is 1 − (1 + R) exp(−R).
    """
    node, weight = np.polynomial.legendre.leggauss(32)
    widest = math.atan2(beside, near)
    radius = near / np.cos(widest / 2 * (node + 1))
    return float(weight @ (1 - (1 + radius) * np.exp(-radius))) * widest / math.pi


def load(name: str | Path) -> Machine:
    """Read a machine file by path or name.

    Parameters
    ----------
    name : path or str

    Returns
    -------
    Machine

    Raises
    ------
    SpecError
        With every problem of the file.
    """
    file = inherit.read("machines", name)
    return spec.validate(Machine, file.values, str(file.path))
