"""Puts the digital thorax patient together: image, contours, identifiers."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from threadpoolctl import threadpool_limits

from mrlinac.anatomy.grid import Grid, Triple
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.structures import Roi
from mrlinac.notes import Note, Notes
from mrlinac.phantoms.make import Body, LENGTH_mm, back_mm, make_body
from mrlinac.phantoms.scan import COLOURS, scan
from mrlinac.provenance import dicom_uid
from mrlinac.spec import read_toml

DATA = Path(__file__).resolve().parents[1] / "data" / "thorax.toml"


def thorax(
    seed: int = 1,
    *,
    spacing_zyx_mm: Triple = (3.0, 1.5, 1.5),
    fov_mm: float = 500.0,
    noise_HU: float | None = None,
) -> Patient:
    """The built-in digital thorax patient.

    Parameters
    ----------
    seed : int
        Decides size, build, tumour, texture and noise; the same seed gives the same patient, bit for bit.
    spacing_zyx_mm : tuple of float
        Voxel size. The anatomy does not depend on it; the noise does.
    fov_mm : float
        Width and height of the slices.
    noise_HU : float, optional
        Standard deviation of the image noise in the trunk; by default that of ``data/thorax.toml``.

    Returns
    -------
    Patient
        HFS, CT in HU, 300 mm long, arms raised, couch in the image, structures by their TG-263 names.
    """
    data, body = read_toml(DATA), _body(int(seed))
    top = back_mm(body)
    half = fov_mm / 2
    grid = Grid.covering((-half, 15.0 - half, LENGTH_mm[0]), (half, 15.0 + half, LENGTH_mm[1]), spacing_zyx_mm)
    sigma = float(data["image"]["noise_HU"] if noise_HU is None else noise_HU)
    values, loops = scan(body, grid, data, int(seed), sigma, top)
    rois = {
        name: Roi(name, role, tuple(loops[name]), grid.spacing_zyx_mm[0], color_rgb=colour)
        for name, (role, colour) in COLOURS.items()
    }
    made_of = ("mrlinac digital thorax", int(seed), list(grid.spacing_zyx_mm), float(fov_mm), sigma)
    return Patient(
        label=f"thorax-seed{int(seed)}",
        image=Image(grid, values, "HU"),
        rois=rois,
        position="HFS",
        frame_uid=dicom_uid(*made_of, "frame"),
        study_uid=dicom_uid(*made_of, "study"),
        series_uid=dicom_uid(*made_of, "series"),
        slice_uids=tuple(dicom_uid(*made_of, "slice", k) for k in range(grid.shape_zyx[0])),
        notes=_notes(body),
    )


@lru_cache(maxsize=4)
def _body(seed: int) -> Body:
    """The patient's make, which is the same at every spacing; it takes seconds."""
    with threadpool_limits(1, user_api="blas"):  # hundreds of tiny spline systems: a second thread only spins
        return make_body(seed, read_toml(DATA))


def structure_names() -> tuple[str, ...]:
    """Names of the structures that every digital patient has.

    Returns
    -------
    tuple of str
    """
    return tuple(COLOURS)


def _notes(body: Body) -> Notes:
    lump = body.tumour
    assert lump is not None
    return Notes(
        (
            Note(
                "info", f"digital thorax patient, no person: tumour in the {lump.lobe}, nodes {', '.join(body.nodes)}"
            ),
            Note("info", f"ITV: motion {lump.motion_si_mm:.1f} mm head-foot, {lump.motion_ap_mm:.1f} mm front-back"),
            Note("info", "Lung_L and Lung_R are drawn with the tumour inside and without the main bronchi and hilum"),
        )
    )
