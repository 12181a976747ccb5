"""Draws one patient from a seed, and evaluates all its shapes on a plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Triple
from mrlinac.phantoms import paint
from mrlinac.phantoms import targets as tg
from mrlinac.phantoms.body import BACK_Y, Build, Frame, Spine, frame, girdle, muscles, ribs, spine, sternum
from mrlinac.phantoms.organs import Organs, Plumbing, organs
from mrlinac.phantoms.shapes import Ellipsoid, Field, Plane
from mrlinac.phantoms.trees import Tree, grow

LENGTH_mm = (-195.0, 105.0)
"""Ends of the image, above the carina."""


@dataclass(frozen=True)
class Body:
    """One patient's make: everything that the seed decides before the image is sampled."""

    scale_xyz: Triple
    sway: tuple[float, float, float]
    build: Build
    tubes: Plumbing
    tumour: tg.Tumour | None = None
    nodes: Mapping[str, Ellipsoid] = field(default_factory=dict)
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
    o = organs(f, column, rib, body.build, body.tubes, nodal)
    lumps = paint.Lumps(plane.far(), plane.far(), plane.far())
    if body.tumour is not None and nodal is not None:
        keep_out = np.minimum.reduce([o.aorta, o.heart, o.gullet, o.airway_wall_main, column.all - 1.0, rib - 0.5])
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


def back_mm(body: Body) -> float:
    """The hindmost point of the skin, where the couch touches, to 0.1 mm."""
    x, y = np.arange(-150.0, 151.0, 5.0), np.arange(70.0, 150.0, 1.0)
    reach = []
    for z in np.arange(LENGTH_mm[0], LENGTH_mm[1] + 1, 5.0):
        skin = frame(body.plane(x, y, float(z), 1.0), body.build).skin
        inside = skin < 0
        last = len(y) - 1 - np.argmax(inside[::-1], axis=0)
        back_of_column = np.where(inside.any(axis=0), y[last] - skin[last, np.arange(len(x))], -np.inf)
        reach.append(float(back_of_column.max()))
    return round(max(reach), 1)
