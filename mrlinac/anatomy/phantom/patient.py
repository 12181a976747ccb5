"""Puts the digital thorax patient together: image, contours, identifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import contourpy
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mrlinac.anatomy.grid import Grid, Triple
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.patient import Note, Notes, Patient
from mrlinac.anatomy.phantom import paint
from mrlinac.anatomy.phantom import targets as tg
from mrlinac.anatomy.phantom.body import BACK_Y, Build, Frame, Spine, frame, girdle, muscles, ribs, spine, sternum
from mrlinac.anatomy.phantom.organs import Organs, Plumbing, organs
from mrlinac.anatomy.phantom.shapes import Field, Noise, Plane, occupancy
from mrlinac.anatomy.phantom.trees import Tree, grow
from mrlinac.anatomy.structures import Contour, Roi, Role
from mrlinac.provenance import dicom_uid
from mrlinac.spec import read_toml

DATA = Path(__file__).resolve().parents[2] / "data" / "thorax.toml"
LENGTH_mm = (-195.0, 105.0)


@dataclass(frozen=True)
class Body:
    """One patient's make: everything that the seed decides before the image is sampled."""

    scale_xyz: Triple
    sway: tuple[float, float, float]
    build: Build
    tubes: Plumbing
    tumour: tg.Tumour | None = None
    nodes: Mapping[str, Any] = field(default_factory=dict)
    trees: tuple[Tree, ...] = ()

    def plane(self, x_mm: NDArray[np.float64], y_mm: NDArray[np.float64], z_mm: float, pixel_mm: float) -> Plane:
        """Body coordinates of the points of an axial plane of the world."""
        sx, sy, sz = self.scale_xyz
        z = z_mm / sz
        a, b, phase = self.sway
        # a gentle side-to-side bend of the whole trunk and a slight asymmetry of its depth
        x = x_mm / sx - a * np.sin(z / 70.0 + phase)
        y = (y_mm - BACK_Y) / sy + BACK_Y
        xx, yy = np.meshgrid(x, y)
        yy = yy + b * np.sin(xx / 90.0 + 2 * phase)
        return Plane(xx.astype(np.float32), yy.astype(np.float32), float(z), pixel_mm)


@dataclass(frozen=True)
class Section:
    """All shapes on one plane."""

    frame: Frame
    column: Spine
    bones: paint.Bones
    muscle: Field
    organs: Organs
    lumps: paint.Lumps


def section(body: Body, plane: Plane) -> Section:
    """Evaluate all shapes on a plane."""
    f = frame(plane, body.build)
    column = spine(plane)
    rib, cartilage = ribs(f)
    blade, blade_muscle = girdle(f)
    bones = paint.Bones(rib, cartilage, sternum(f), blade)
    muscle = muscles(f, body.build, blade_muscle)
    nodal = None
    if body.nodes:
        nodal = np.minimum.reduce([n.distance(plane) for n in body.nodes.values()])
    o = organs(f, column, body.build, body.tubes, nodal)
    lumps = paint.Lumps(plane.far(), plane.far(), plane.far())
    if body.tumour is not None and nodal is not None:
        keep_out = np.minimum.reduce([o.aorta, o.heart, o.gullet, o.airway_wall_main, column.all - 1.0])
        primary, spicules = body.tumour.distance(plane)
        above = (plane.z - o.dome) * 0.72 - 2.0
        primary = np.maximum.reduce([primary, 1.0 - keep_out, f.cavity + 1.0, -above.astype(np.float32)])
        keep_out = np.minimum.reduce([keep_out, o.great, o.wall])
        nodal = np.maximum.reduce([nodal, 1.0 - keep_out, 1.0 - primary])
        lumps = paint.Lumps(primary, spicules, nodal)
    return Section(f, column, bones, muscle, o, lumps)


def make_body(seed: int, data: Mapping[str, Any]) -> Body:
    """Draw a patient: size, build, organs, tumour, nodes, lung vessels."""
    rng = np.random.default_rng([seed, 1])
    vary = data["variation"]

    def around(mean: float, sd: float) -> float:
        return float(mean + sd * np.clip(rng.standard_normal(), -2, 2))

    scale = (around(1.0, vary["breadth"]), around(1.0, vary["depth"]), around(1.0, vary["height"]))
    build = Build(
        fat_mm=around(data["body"]["fat_mm"], vary["fat_mm"]),
        muscle=around(1.0, vary["muscle"]),
        dome_right_mm=around(data["body"]["dome_right_mm"], vary["dome_mm"]),
        dome_left_mm=around(data["body"]["dome_left_mm"], vary["dome_mm"]),
        heart=around(1.0, vary["heart"]),
        apex_mm=around(0.0, vary["apex_mm"]),
        vessel=around(1.0, vary["vessel"]),
    )
    sway = (around(0.0, 1.5), around(0.0, 1.0), float(rng.uniform(0, 2 * np.pi)))
    body = Body(scale, sway, build, Plumbing(build))
    x, y, z = np.arange(-135, 136, 6.0), np.arange(-105, 106, 6.0), np.arange(-185, 100, 6.0)
    flat = Body((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), build, body.tubes)
    coarse = []
    for zi in z:
        o = section(flat, flat.plane(x, y, float(zi), 1.0)).organs
        coarse.append(np.minimum(o.lung_l, o.lung_r))
    lung = np.stack(coarse)
    size = data["tumour"]
    lump = tg.tumour(
        np.random.default_rng([seed, 2]),
        lung,
        x,
        y,
        z,
        (size["volume_median_cc"], size["volume_min_cc"], size["volume_max_cc"]),
        (size["motion_apex_mm"], size["motion_base_mm"]),
    )
    nodal = tg.nodes(
        np.random.default_rng([seed, 3]),
        float(np.sign(lump.centre[0])),
        (size["node_radius_min_mm"], size["node_radius_max_mm"]),
    )
    trees = _lung_trees(np.random.default_rng([seed, 4]), lung, x, y, z, data["lung"])
    return Body(scale, sway, build, body.tubes, lump, nodal, trees)


def _lung_trees(
    rng: np.random.Generator,
    lung: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    size: Mapping[str, float],
) -> tuple[Tree, ...]:
    """Two trees per lung (arteries and veins) from the hilum to random points of the lung."""
    trees = []
    for side, roots in (
        (-1, [(-48, -2, -24), (-52, -6, -8), (-54, 18, -66), (-54, -16, -38)]),
        (1, [(48, 17, -24), (54, -4, -20), (54, 22, -66), (53, -14, -32)]),
    ):
        iz, iy, ix = np.nonzero((lung < -3.0) & (np.sign(x)[None, None, :] == side))
        for _ in range(2):
            pick = rng.choice(len(iz), int(size["branches_per_tree"]), replace=False)
            goals = np.stack([x[ix[pick]], y[iy[pick]], z[iz[pick]]], axis=1) + rng.uniform(-3, 3, (len(pick), 3))
            wavering = np.asarray(roots, float) + rng.normal(0, 2, (4, 3))
            trees.append(grow(wavering.tolist(), goals, rng, leaf_mm=size["leaf_radius_mm"]))
    return tuple(trees)


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
    "Couch": ("support", (160, 160, 160)),
}


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
        "Liver": o.liver,
        "Ribs": s.bones.rib,
        "GTVp": s.lumps.primary,
        "GTVn": s.lumps.nodes,
    }


def _loops(distance: Field, x_mm: NDArray[np.float64], y_mm: NDArray[np.float64], z_mm: float) -> list[Contour]:
    """Closed lines at zero distance; specks under 4 mm² are dropped."""
    if not distance.min() < 0:
        return []
    loops = []
    for line in contourpy.contour_generator(x_mm, y_mm, distance).lines(0.0):
        points = np.asarray(line, float)
        if len(points) < 5 or not np.array_equal(points[0], points[-1]):
            continue
        points = points[:-1]
        x, y = points.T
        area = 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
        if area >= 4.0:
            loops.append(Contour(z_mm, points))
    return loops


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
    data = read_toml(DATA)
    body = make_body(int(seed), data)
    top = _back_mm(body)
    half = fov_mm / 2
    grid = Grid.covering((-half, 15.0 - half, LENGTH_mm[0]), (half, 15.0 + half, LENGTH_mm[1]), spacing_zyx_mm)
    sigma = float(data["image"]["noise_HU"] if noise_HU is None else noise_HU)
    values, loops = _scan(body, grid, data, int(seed), sigma, top)
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
        couch_top_y_mm=top,
        frame_uid=dicom_uid(*made_of, "frame"),
        study_uid=dicom_uid(*made_of, "study"),
        series_uid=dicom_uid(*made_of, "series"),
        slice_uids=tuple(dicom_uid(*made_of, "slice", k) for k in range(grid.shape_zyx[0])),
        notes=_notes(body),
    )


def _back_mm(body: Body) -> float:
    """The hindmost point of the skin, where the couch touches, to 0.1 mm."""
    x, y = np.arange(-150.0, 151.0, 5.0), np.arange(70.0, 150.0, 1.0)
    reach = []
    for z in np.arange(LENGTH_mm[0], LENGTH_mm[1] + 1, 5.0):
        skin = frame(body.plane(x, y, float(z), 1.0), body.build).skin
        inside = skin < 0
        last = len(y) - 1 - np.argmax(inside[::-1], axis=0)
        found = np.where(inside.any(axis=0), y[last] - skin[last, np.arange(len(x))], -np.inf)
        reach.append(float(found.max()))
    return round(max(reach), 1)


def _scan(
    body: Body, grid: Grid, data: Mapping[str, Any], seed: int, sigma_HU: float, couch_top_mm: float
) -> tuple[NDArray[np.float32], dict[str, list[Contour]]]:
    """Image and contours, slice by slice."""
    _, dy, dx = grid.spacing_zyx_mm
    x, y = grid.x_mm, grid.y_mm
    values = np.empty(grid.shape_zyx, np.float32)
    loops: dict[str, list[Contour]] = {name: [] for name in COLOURS}
    target = data["tumour"]
    ctv, itv = _targets(body, target["lattice_mm"], target["ctv_margin_mm"])
    texture = [Noise(np.random.default_rng([seed, 5, k]), pitch) for k, pitch in enumerate((2.6, 7.0, 17.0))]
    weights = [(t.weights(y), t.weights(x)) for t in texture]
    table_top = data["couch"]
    slab = paint.couch(x, y, couch_top_mm, table_top)
    blur = [data["image"]["psf_mm"] / p for p in (dy, dx)]
    for k, z in enumerate(grid.z_mm):
        plane = body.plane(x, y, float(z), (dx + dy) / 2)
        s = section(body, plane)
        vessels = np.minimum.reduce([t.distance(plane) for t in body.trees])
        textures = paint.Textures(*(t.on(w, float(z)) for t, w in zip(texture, weights, strict=True)))
        image = paint.tissue(s.frame, s.column, s.bones, s.muscle, s.organs, s.lumps, vessels, textures, data["hu"])
        in_couch = occupancy(np.maximum(slab, -s.frame.skin), plane.pixel_mm)
        core = occupancy(slab + table_top["shell_mm"], plane.pixel_mm)
        couch_hu = table_top["shell_HU"] + core * (table_top["core_HU"] - table_top["shell_HU"])
        image = image + in_couch * (couch_hu - image)
        image = gaussian_filter(image, blur)
        grain = paint.noise(np.random.default_rng([seed, 6, k]), image.shape, (dy, dx))
        width = float((s.frame.skin < 0).sum(axis=1).max()) * dx
        # noise grows with the path through the body: e^(mu L / 2), and is less in air
        strength = sigma_HU * np.exp(0.006 * (width - 340.0)) * (0.45 + 0.55 * occupancy(s.frame.skin, 60.0))
        values[k] = np.clip(np.rint(image + strength * grain), -1024, 3071)
        drawn = _outlines(s)
        drawn["CTV"], drawn["ITV"] = ctv.on(x, y, float(z)), itv.on(x, y, float(z))
        drawn["Couch"] = np.maximum(slab, 0.0 - s.frame.skin)
        for name, distance in drawn.items():
            loops[name].extend(_loops(distance, x, y, float(z)))
    return values, loops


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
