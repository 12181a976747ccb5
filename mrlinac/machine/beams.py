"""Beams and beamlets; the one place that turns gantry coordinates (IEC 61217) into patient coordinates (LPS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Triple, frozen

# Columns: the patient axes x (left), y (posterior), z (head) in IEC fixed coordinates (X to the right of a viewer
# who faces the gantry, Y towards the gantry, Z up), for a patient in DICOM position … on a couch at 0 degrees.
_PATIENT_AXES_IN_FIXED: dict[str, NDArray[np.float64]] = {
    "HFS": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float),
    "HFP": np.array([[-1, 0, 0], [0, 0, 1], [0, 1, 0]], float),
    "FFS": np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0]], float),
    "FFP": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float),
    "HFDR": np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], float),
    "HFDL": np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]], float),
    "FFDR": np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], float),
    "FFDL": np.array([[0, 1, 0], [0, 0, -1], [-1, 0, 0]], float),
}


def fixed_to_patient(position: str = "HFS") -> NDArray[np.float64]:
    """Rotation (3, 3) that turns IEC fixed components into LPS components, for a DICOM patient position.

    Parameters
    ----------
    position : str

    Returns
    -------
    float64 array, shape (3, 3)

    Raises
    ------
    ValueError
        Unknown position.
    """
    try:
        return _PATIENT_AXES_IN_FIXED[position].T.copy()
    except KeyError:
        raise ValueError(
            f"unknown patient position '{position}'; known: {', '.join(_PATIENT_AXES_IN_FIXED)}"
        ) from None


def field_xyz_T(field_iec_T: Sequence[float], position: str = "HFS") -> Triple:
    """The magnet's field in LPS, from its components in IEC fixed coordinates.

    Parameters
    ----------
    field_iec_T : sequence of float
    position : str
        DICOM Patient Position.

    Returns
    -------
    tuple of float
        T.
    """
    x, y, z = fixed_to_patient(position) @ np.asarray(field_iec_T, float)
    return (float(x), float(y), float(z))


@dataclass(frozen=True)
class Beam:
    """One gantry angle of a plan.

    Attributes
    ----------
    gantry_deg : float
        IEC 61217.
    isocentre_xyz_mm : tuple of float
        LPS.
    sad_mm : float
        Source to isocentre.
    collimator_deg : float
        IEC 61217; the beamlet axes (u, v) turn with it.
    position : str
        DICOM patient position.
    couch_deg : float
        IEC 61217 patient support angle: counter-clockwise seen from above.
    """

    gantry_deg: float
    isocentre_xyz_mm: Triple
    sad_mm: float
    collimator_deg: float = 0.0
    position: str = "HFS"
    couch_deg: float = 0.0

    def axes_xyz(self) -> NDArray[np.float64]:
        """Rows u, v, w in LPS: the IEC beam-limiting-device axes X, Y, and Z (towards the source).

        Source: IEC 61217. At gantry 0, collimator 0: u is fixed X, v fixed Y (towards the gantry), w up.

        Returns
        -------
        float64 array, shape (3, 3)
        """
        gantry, collimator = np.deg2rad(self.gantry_deg), np.deg2rad(self.collimator_deg)
        sin, cos = _exact_sin_cos(gantry)
        x, y, z = np.array([cos, 0, -sin]), np.array([0.0, 1.0, 0.0]), np.array([sin, 0, cos])
        sin, cos = _exact_sin_cos(collimator)
        rows = np.stack([cos * x + sin * y, -sin * x + cos * y, z])
        if self.couch_deg:  # the patient turns with the couch: in the couch's frame the beam turns the other way
            sin, cos = _exact_sin_cos(np.deg2rad(self.couch_deg))
            rows = rows @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        return rows @ fixed_to_patient(self.position).T

    def source_xyz_mm(self) -> NDArray[np.float64]:
        """The source's position in LPS.

        Returns
        -------
        float64 array, shape (3,)
            In mm.
        """
        return np.asarray(self.isocentre_xyz_mm) + self.sad_mm * self.axes_xyz()[2]

    def to_patient_xyz_mm(self, uvw_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (…, 3) given by u, v, w (origin at the isocentre) in LPS.

        Parameters
        ----------
        uvw_mm : float64 array, shape (…, 3)

        Returns
        -------
        float64 array, shape (…, 3)
        """
        return np.asarray(self.isocentre_xyz_mm) + np.asarray(uvw_mm, float) @ self.axes_xyz()

    def project_uv_mm(self, points_xyz_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Central projection from the source of points (…, 3) on the isocentre plane: (…, 2) u, v.

        Parameters
        ----------
        points_xyz_mm : float64 array, shape (…, 3)
            In LPS.

        Returns
        -------
        float64 array, shape (…, 2)
        """
        relative = (np.asarray(points_xyz_mm, float) - np.asarray(self.isocentre_xyz_mm)) @ self.axes_xyz().T
        return relative[..., :2] * (self.sad_mm / (self.sad_mm - relative[..., 2:]))


def _exact_sin_cos(angle_rad: float) -> tuple[float, float]:
    """Sine and cosine, exactly 0 and ±1 at the cardinal angles."""
    sin, cos = float(np.sin(angle_rad)), float(np.cos(angle_rad))
    return (0.0 if abs(sin) < 1e-15 else sin), (0.0 if abs(cos) < 1e-15 else cos)


@dataclass(frozen=True)
class BeamletMap:
    """The beamlets of one beam, on a lattice anchored at the isocentre.

    Attributes
    ----------
    beam : Beam
    lattice_uv : int32 array, shape (n, 2), read-only
        Beamlet (i, j) covers u from i·du to (i+1)·du and v from j·dv to (j+1)·dv on the isocentre plane. The
        anchor makes a larger aperture's beamlets contain a smaller one's.
    size_uv_mm : tuple of float
        du, dv.
    """

    beam: Beam
    lattice_uv: NDArray[np.int32]
    size_uv_mm: tuple[float, float]

    def __post_init__(self) -> None:
        lattice = np.asarray(self.lattice_uv)
        object.__setattr__(self, "lattice_uv", frozen(lattice, np.int32, "lattice", (len(lattice), 2)))

    def __len__(self) -> int:
        return len(self.lattice_uv)

    @property
    def centre_uv_mm(self) -> NDArray[np.float64]:
        """Centres (n, 2) on the isocentre plane."""
        return (self.lattice_uv + 0.5) * np.asarray(self.size_uv_mm)

    @property
    def area_cm2(self) -> float:
        """Area of one beamlet at the isocentre."""
        return self.size_uv_mm[0] * self.size_uv_mm[1] / 100.0


def tile_keys(lattices_uv: Sequence[NDArray[np.integer]]) -> NDArray[np.int64]:
    """A key by which beamlets follow each other in tiles of four by two, beam after beam.

    Parameters
    ----------
    lattices_uv : sequence of int arrays, shape (n, 2)
        One a beam.

    Returns
    -------
    int64 array, shape (beamlets,)
    """
    key = []
    for beam, lattice_uv in enumerate(lattices_uv):
        u, v = (lattice_uv - lattice_uv.min(axis=0, initial=0)).astype(np.int64).T
        key.append((((beam << 16 | u // 4) << 16 | v // 2) << 3) | (u % 4) << 1 | v % 2)
    return np.concatenate(key)
