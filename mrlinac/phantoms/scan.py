"""Samples a body: image and contours, slice by slice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Role
from mrlinac.phantoms import paint
from mrlinac.phantoms import targets as tg
from mrlinac.phantoms.body import BACK_Y
from mrlinac.phantoms.make import Body, Section, section
from mrlinac.phantoms.shapes import FAR_mm, Field, Noise, occupancy

COLOURS: dict[str, tuple[Role, tuple[int, int, int]]] = {
    "External": ("external", (0, 200, 80)),
    "Lung_L": ("oar", (90, 160, 255)),
    "Lung_R": ("oar", (60, 110, 230)),
    "Heart": ("oar", (255, 120, 160)),
    "SpinalCord": ("oar", (255, 255, 0)),
    "SpinalCanal": ("oar", (200, 180, 0)),
    "Esophagus": ("oar", (170, 110, 60)),
    "Trachea": ("oar", (0, 220, 220)),
    "Bronchus_Main": ("oar", (0, 170, 200)),
    "A_Aorta": ("oar", (220, 30, 30)),
    "GreatVes": ("oar", (160, 60, 200)),
    "Liver": ("oar", (150, 90, 30)),
    "Ribs": ("oar", (240, 220, 180)),
    "GTVp": ("target", (255, 0, 0)),
    "GTVn": ("target", (255, 128, 0)),
    "CTV": ("target", (255, 0, 255)),
    "ITV": ("target", (0, 255, 0)),
    "CouchSurface": ("support", (160, 160, 160)),
}

JUST_OUTSIDE_mm = 0.01
"""Distance given to the image's edge, so that a line that reaches it runs along it."""


def _outlines(s: Section) -> dict[str, Field]:
    """What a person would draw, as signed distances on one plane."""
    o = s.organs
    clear = np.minimum.reduce([o.hilum - 0.5, o.wall - 0.2])
    lumen = np.minimum(o.air["main"], np.maximum(o.air["lobar"], o.air["main"] - 6.0))
    return {
        "External": s.frame.skin,
        "Lung_L": np.maximum(o.lung_l, -clear),
        "Lung_R": np.maximum(o.lung_r, -clear),
        "Heart": o.heart,
        "SpinalCord": s.column.cord,
        "SpinalCanal": s.column.canal,
        "Esophagus": o.gullet,
        "Trachea": o.air["trachea"],
        "Bronchus_Main": np.maximum.reduce([lumen, -o.air["trachea"], 0.5 - s.lumps.primary]),
        "A_Aorta": o.aorta,
        "GreatVes": o.great,
        "Liver": o.abdomen.liver,
        "Ribs": s.bones.rib,
        "GTVp": s.lumps.primary,
        "GTVn": s.lumps.nodes,
    }


def _loops(distance: Field, x_mm: NDArray[np.float64], y_mm: NDArray[np.float64], z_mm: float) -> list[Contour]:
    """Closed lines at zero distance; specks under 4 mm² are dropped.

    What reaches the edge of the image is closed along it, as a clinic's outline of a body that the scan cuts is.
    """
    if not distance.min() < 0:
        return []
    loops = []
    x, y = (np.concatenate([[a[0] - (a[1] - a[0]) / 2], a, [a[-1] + (a[1] - a[0]) / 2]]) for a in (x_mm, y_mm))
    beyond = np.pad(distance, 1, constant_values=JUST_OUTSIDE_mm)
    for line in contourpy.contour_generator(x, y, beyond).lines(0.0):
        points = np.asarray(line, float)
        if len(points) < 5 or not np.array_equal(points[0], points[-1]):
            continue
        points = points[:-1]
        px, py = points.T
        area = 0.5 * abs(float(np.dot(px, np.roll(py, 1)) - np.dot(py, np.roll(px, 1))))
        if area >= 4.0:
            loops.append(Contour(z_mm, points))
    return loops


def scan(
    body: Body, grid: Grid, data: Mapping[str, Any], seed: int, sigma_HU: float, couch_top_mm: float
) -> tuple[NDArray[np.float32], dict[str, list[Contour]]]:
    """Image and contours, slice by slice.

    Shapes are evaluated on the part of a slice that can hold the body; all else is air and couch.
    """
    _, dy, dx = grid.spacing_zyx_mm
    x, y = grid.x_mm, grid.y_mm
    # A row and a column at least lie outside the skin on every side, however wide they are: outlines close there.
    more_x, more_y = max(0.0, 1.5 * dx - 3.0), max(0.0, 1.5 * dy - 3.0)
    half, front = 212.0 * body.scale_xyz[0] + more_x, couch_top_mm - 285.0 * body.scale_xyz[1] - more_y
    rows, columns = _range(y, front, couch_top_mm + 3.0 + more_y), _range(x, -half, half)
    bx, by = x[columns], y[rows]
    values = np.empty(grid.shape_zyx, np.float32)
    loops: dict[str, list[Contour]] = {name: [] for name in COLOURS}
    target = data["tumour"]
    ctv, itv = _targets(body, target["lattice_mm"], target["ctv_margin_mm"])
    texture = [Noise(np.random.default_rng([seed, 5, k]), pitch) for k, pitch in enumerate((2.6, 7.0, 17.0))]
    weights = [(t.weights(by), t.weights(bx)) for t in texture]
    table_top = data["couch"]
    slab = paint.couch(x, y, couch_top_mm, table_top)
    blur = [data["image"]["psf_mm"] / p for p in (dy, dx)]
    for k, z in enumerate(grid.z_mm):
        plane = body.plane(bx, by, float(z), (dx + dy) / 2)
        s = section(body, plane)
        vessels = np.minimum.reduce([t.distance(plane) for t in body.trees])
        textures = paint.Textures(*(t.on(w, float(z)) for t, w in zip(texture, weights, strict=True)))
        image = np.full((len(y), len(x)), data["hu"]["air"], np.float32)
        skin = np.full_like(image, FAR_mm)
        skin[rows, columns] = s.frame.skin
        image[rows, columns] = paint.tissue(
            s.frame, s.column, s.bones, s.muscle, s.organs, s.lumps, vessels, textures, data["hu"]
        )
        in_couch = occupancy(np.maximum(slab, -skin), plane.pixel_mm)
        core = occupancy(slab + table_top["shell_mm"], plane.pixel_mm)
        couch_hu = table_top["shell_HU"] + core * (table_top["core_HU"] - table_top["shell_HU"])
        image = image + in_couch * (couch_hu - image)
        image = gaussian_filter(image, blur)
        grain = paint.noise(np.random.default_rng([seed, 6, k]), image.shape, (dy, dx))
        width = float((skin < 0).sum(axis=1).max()) * dx
        # noise grows with the path through the body: e^(mu L / 2), and is less in air
        strength = sigma_HU * np.exp(0.006 * (width - 340.0)) * (0.45 + 0.55 * occupancy(skin, 60.0))
        values[k] = np.clip(np.rint(image + strength * grain), -1024, 3071)
        drawn = _outlines(s)
        drawn["CTV"], drawn["ITV"] = ctv.on(bx, by, float(z)), itv.on(bx, by, float(z))
        for name, distance in drawn.items():
            loops[name].extend(_loops(distance, bx, by, float(z)))
        loops["CouchSurface"].extend(_loops(np.maximum(slab, -skin), x, y, float(z)))
    return values, loops


def _range(axis_mm: NDArray[np.float64], low_mm: float, high_mm: float) -> slice:
    """Indices of the coordinates within an interval."""
    first, last = np.searchsorted(axis_mm, (low_mm, high_mm))
    return slice(int(first), int(last))


def _targets(body: Body, step_mm: float, margin_mm: float) -> tuple[tg.Block, tg.Block]:
    """CTV and ITV on a fine cubic lattice around tumour and nodes, in world coordinates."""
    assert body.tumour is not None
    lump = body.tumour
    ends = [(np.asarray(lump.centre), 1.4 * lump.radius_mm)]
    ends += [(np.asarray(n.centre), max(n.radii_mm)) for n in body.nodes.values()]
    scale = np.asarray(body.scale_xyz)
    room = margin_mm + lump.motion_si_mm / 2 + 12.0
    shift = np.array([0.0, BACK_Y, 0.0])
    low = np.min([(c - r - shift) * scale + shift for c, r in ends], axis=0) - room
    high = np.max([(c + r - shift) * scale + shift for c, r in ends], axis=0) + room
    x, y, z = (np.arange(np.floor(a), b + step_mm, step_mm) for a, b in zip(low, high, strict=True))
    primary, nodal, bone, skin = [], [], [], []
    for zi in z:
        s = section(body, body.plane(x, y, float(zi), 1.0))
        primary.append(s.lumps.primary)
        nodal.append(s.lumps.nodes)
        bone.append(np.minimum.reduce([s.column.bone, s.column.disc, s.bones.rib, s.bones.sternum, s.bones.girdle]))
        skin.append(s.frame.skin)
    off = np.maximum(0.3 - np.stack(bone), np.stack(skin) + 5.0).astype(np.float32)

    def grown(parts: list[Field]) -> NDArray[np.float32]:
        return tg.true_distance(np.stack(parts), step_mm, margin_mm + 6.0) - np.float32(margin_mm)

    p, n = grown(primary), grown(nodal)
    ctv = np.maximum(np.minimum(p, n), off)
    itv = ctv.copy()
    for t in np.linspace(-0.5, 0.5, 9):
        # as the tumour moves up it moves forward; nodes move about half as far
        dz, dy = t * lump.motion_si_mm, -t * lump.motion_ap_mm
        for values, part in ((p, 1.0), (n, 0.5)):
            itv = np.minimum(itv, tg.Block(x, y, z, values).moved(part * dy, part * dz))
    itv = np.minimum(np.maximum(itv, off), ctv)
    return tg.Block(x, y, z, ctv), tg.Block(x, y, z, itv.astype(np.float32))
