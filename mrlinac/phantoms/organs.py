"""What lies inside the chest and under the diaphragm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrlinac.phantoms.body import Build, Frame, Spine, cavity_size, spine_y
from mrlinac.phantoms.shapes import Ellipsoid, Field, Plane, Tube, frame_along, soft_max, soft_min, table

APEX_mm = 84.0


def _column(z_mm: list[float], x_mm: list[float], ahead_mm: list[float], radii_mm: list[float]) -> Tube:
    """A tube that runs along the spine, ``ahead_mm`` in front of the middle of the vertebral bodies."""
    points = [(x, spine_y(z) - a, z) for x, a, z in zip(x_mm, ahead_mm, z_mm, strict=True)]
    return Tube(points, radii_mm)


class Plumbing:
    """Vessels, airways and gullet as tubes; made once per patient."""

    def __init__(self, build: Build):
        v = build.vessel
        ascending: list[tuple[float, float, float]] = [
            (2, -36, -42),
            (-10, -42, -22),
            (-17, -42, 2),
            (-14, -34, 22),
            (-3, -18, 33),
        ]
        arch: list[tuple[float, float, float]] = [
            (10, 0, 36),
            (21, 18, 31),
            (26, 31, 16),
            (26.5, 36, -5),
            (25, 39, -35),
        ]
        descending: list[tuple[float, float, float]] = [
            (23, 40, -70),
            (19, 36, -105),
            (13, 31, -140),
            (8, 25, -170),
            (6, 20, -205),
        ]
        self.aorta = Tube(
            ascending + arch + descending,
            [v * r for r in (15, 16.5, 16.2, 15.2, 14.2, 13.8, 13.2, 12.6, 12.5, 12.3, 12.1, 11.9, 11.5, 10.8, 10.5)],
        )
        self.branches = [
            Tube([(-8, -26, 36), (-16, -22, 56), (-24, -17, 76)], [7.0 * v, 6.5 * v, 6.0 * v]),
            Tube([(-24, -17, 76), (-44, -12, 88), (-75, -8, 92), (-118, -12, 98)], [5.5, 5, 4.5, 4]),
            Tube([(-24, -17, 76), (-22, -18, 95), (-23, -16, 125)], [4.2, 4, 4]),
            Tube([(6, -10, 40), (14, -10, 65), (22, -14, 95), (24, -14, 125)], [4.4, 4.2, 4, 4]),
            Tube([(20, 6, 40), (27, 4, 62), (38, -2, 82), (75, -6, 92), (118, -12, 98)], [5.5, 5.3, 5, 4.5, 4]),
        ]
        self.veins = [  # superior vena cava and brachiocephalic veins
            Tube([(-29, -16, -40), (-31, -24, -15), (-31, -29, 12), (-29, -34, 38)], [11, 10.3, 10, 9.5]),
            Tube([(-29, -34, 38), (-29, -36, 56), (-31, -36, 76), (-36, -36, 92)], [8.5, 7.5, 7, 6.5]),
            Tube([(-28, -35, 40), (-8, -47, 46), (14, -46, 57), (30, -40, 74), (36, -37, 92)], [7.5, 7, 7, 7, 6.5]),
        ]
        self.subclavian = [
            Tube([(s * 36, -36, 92), (s * 60, -36, 94), (s * 118, -22, 100)], [6, 5.5, 5]) for s in (-1, 1)
        ]
        self.jugular = [Tube([(s * 36, -36, 92), (s * 34, -28, 125)], [6, 6.5]) for s in (-1, 1)]
        self.cava_below = Tube(
            [(-22, 0, -88), (-25, 8, -115), (-26, 16, -150), (-23, 18, -205)], [13, 12.5, 12, 11.5]
        )
        self.pulmonary = [
            Tube(
                [(24, -54, -44), (23, -47, -28), (18, -33, -16), (14, -18, -13)], [13.5 * v, 13.5 * v, 13 * v, 12 * v]
            ),
            Tube([(14, -18, -13), (-8, -12, -17), (-30, -7, -20), (-48, -2, -24)], [11.5 * v, 11 * v, 10 * v, 8]),
            Tube([(14, -18, -13), (28, -4, -7), (40, 10, -10), (48, 17, -24)], [11.5 * v, 11 * v, 10 * v, 8]),
        ]
        self.pulmonary_veins = [
            Tube([(18, -2, -46), (36, -8, -40), (52, -14, -32)], [8, 7, 5]),
            Tube([(18, 2, -58), (36, 10, -62), (54, 20, -70)], [8, 7, 5]),
            Tube([(-16, -2, -46), (-36, -10, -40), (-54, -16, -36)], [8, 7, 5]),
            Tube([(-16, 2, -58), (-36, 8, -62), (-54, 20, -72)], [8, 7, 5]),
        ]
        self.azygos = Tube(
            [
                (-27, -16, 16),
                (-22, 6, 18),
                (-12, 24, 10),
                (-7, 33, -20),
                (-6, 36, -90),
                (-5, 28, -160),
                (-5, 20, -205),
            ],
            [4.5, 4.2, 4, 4, 3.8, 3.2, 3],
        )
        self.trachea = _column(
            [125, 95, 65, 35, 12, 0], [0, 0, -1, -3, -3, -2], [33, 32, 31.5, 31, 31, 31], [9.3] * 6
        )
        y0 = spine_y(0) - 31.0
        self.main_bronchi = [
            Tube([(-3, y0, 5), (-12, y0 + 1, -7), (-24, y0 + 3, -20), (-33, y0 + 4, -28)], [8, 7.8, 7.2, 6.6]),
            Tube([(0, y0, 5), (12, y0 + 2, -9), (27, y0 + 5, -21), (41, y0 + 8, -31)], [8, 6.9, 6.5, 6]),
        ]
        right, left = (-33, y0 + 4, -28), (41, y0 + 8, -31)
        self.lobar_bronchi = [
            Tube([(-22, y0 + 3, -17), (-38, y0 + 1, -13), (-52, y0 - 4, -6)], [5.5, 4.8, 3.8]),
            Tube([right, (-40, y0 + 6, -44), (-47, y0 + 12, -62)], [6.2, 5, 3.8]),
            Tube([(-38, y0 + 5, -40), (-46, y0 - 8, -50), (-54, y0 - 20, -58)], [4.2, 3.8, 3]),
            Tube([left, (50, y0 + 2, -28), (58, y0 - 8, -20)], [5.2, 4.6, 3.6]),
            Tube([left, (49, y0 + 17, -45), (56, y0 + 24, -62)], [5.6, 4.8, 3.6]),
        ]
        self.gullet = _column(
            [125, 90, 50, 10, -20, -50, -85, -110, -128, -138],
            [4, 4, 5, 5, 3, 3, 8, 13, 20, 27],
            [19.5, 19.5, 20.5, 21.5, 23.5, 24.5, 29, 38, 46, 52],
            [7.0, 7.0, 7.4, 7.4, 7.6, 7.8, 8.2, 8.4, 8.6, 9.0],
        )
        h = build.heart
        lv = frame_along((0.76, -0.50, -0.42))
        self.chambers = {
            "lv": Ellipsoid((48, -34, -77), (52 * h, 33 * h, 33 * h), lv),
            "rv": Ellipsoid((18, -60, -76), (45 * h, 27 * h, 29 * h), frame_along((0.86, -0.12, -0.5))),
            "ra": Ellipsoid((-19, -32, -66), (25 * h, 30 * h, 34 * h)),
            "la": Ellipsoid((5, -2, -52), (37 * h, 20 * h, 24 * h)),
            "root": Ellipsoid((4, -40, -42), (19, 19, 22)),
            "outflow": Ellipsoid((24, -55, -46), (17, 17, 24)),
        }


def _union(parts: list[Field], blend_mm: float) -> Field:
    out = parts[0]
    for part in parts[1:]:
        out = soft_min(out, part, blend_mm)
    return out


@dataclass(frozen=True)
class Abdomen:
    """Organs under the diaphragm on one plane."""

    liver: Field
    spleen: Field
    stomach: Field
    stomach_air: Field
    bowel: Field
    kidney: Field


@dataclass(frozen=True)
class Organs:
    """Signed distances of the organs on one plane; negative inside."""

    air: dict[str, Field]
    wall: Field
    airway_wall_main: Field
    gullet: Field
    aorta: Field
    great: Field
    vessels: Field
    chambers: Field
    heart: Field
    mediastinum: Field
    lung_l: Field
    lung_r: Field
    hilum: Field
    dome: Field
    abdomen: Abdomen
    cava_below: Field


def diaphragm(plane: Plane, build: Build) -> Field:
    """Height of the diaphragm's upper face."""
    x, y = plane.x, plane.y

    def dome(centre_x: float, centre_y: float, top: float, outer: float, inner: float) -> Field:
        dx, dy = x - centre_x, y - centre_y
        away = np.sign(centre_x) * dx > 0
        fall = np.where(away, outer, inner) * dx * dx + np.where(dy > 0, 0.0072, 0.0034) * dy * dy
        return top - np.minimum(fall, 160.0)

    right = dome(-64.0, -12.0, build.dome_right_mm, 0.0150, 0.0016)
    left = dome(66.0, -6.0, build.dome_left_mm, 0.0160, 0.0022)
    blend = 1 / (1 + np.exp(-np.clip(x / 7.0, -30, 30)))
    return (right * (1 - blend) + left * blend).astype(np.float32)


def _mediastinum(frame: Frame, pieces: list[Field]) -> Field:
    """Everything midline with its fat, under one smooth pleura."""
    x, y, z = frame.plane.x, frame.plane.y, frame.plane.z
    _, half, middle = cavity_size(z)
    from_front = np.clip(y - np.float32(middle - half), 0, None)
    slab_half = 6.0 + float(table((-195, -60, 0, 40, 60, 80), (10, 2, 0, 8, 22, 34))(z))
    slab = np.abs(x + 1.0) - slab_half - 9.0 * np.exp(-(((from_front - 5.0) / 22.0) ** 2))
    mediastinum = _union([slab.astype(np.float32), *pieces], 9.0)
    fat_pad = Ellipsoid((48.0, -66.0, -112.0), (26.0, 22.0, 20.0)).distance(frame.plane)
    fat_pad = np.minimum(fat_pad, Ellipsoid((-34.0, -68.0, -106.0), (18.0, 20.0, 20.0)).distance(frame.plane))
    return soft_min(mediastinum, fat_pad, 10.0)


def _pleura(frame: Frame, column: Spine, rib: Field, build: Build, mediastinum: Field, dome: Field) -> Field:
    """Both pleural cavities: what chest wall, mediastinum, diaphragm and cupolae leave over."""
    x, y, z = frame.plane.x, frame.plane.y, frame.plane.z
    above = (dome - z) * np.float32(0.72)  # slope of the dome at mid height
    # the cupola: a dome over each apex, flatter towards the front
    dy = y - np.float32(spine_y(min(z, 80.0)) - 14.0)
    fall = 0.012 * (np.abs(x) - 44.0) ** 2 + np.where(dy < 0, 0.0045, 0.013) * dy * dy
    top = z - (APEX_mm + build.apex_mm - fall)
    pleura = soft_max(frame.cavity + 1.0, above.astype(np.float32), 7.0)
    pleura = np.maximum(pleura, (top * 0.7).astype(np.float32))
    pleura = soft_max(pleura, -mediastinum, 5.0)
    return np.maximum(pleura, np.maximum(3.0 - column.arch, 1.2 - rib))


def _abdomen(frame: Frame, column: Spine, dome: Field, heart: Field, aorta: Field, cava_below: Field) -> Abdomen:
    """What fills the space under the diaphragm, each organ clear of those before it."""
    plane, cavity = frame.plane, frame.cavity
    x, y, z = plane.x, plane.y, plane.z
    below = np.maximum(cavity + 4.0, (z - dome + 4.0) * np.float32(0.72))
    below = np.maximum(below, 6.0 - column.all)
    edge = 12.0 - 0.9 * max(0.0, -150.0 - z)  # the left lobe ends higher than the right
    wavy = 5.0 * np.sin(y / 17.0 + z / 40.0)
    liver = soft_max(below, (0.80 * (x - edge) + 0.60 * (y + 26.0) + wavy).astype(np.float32), 22.0)
    behind_plane = (y - (frame.spine_y + 26.0)).astype(np.float32)
    liver = soft_max(liver, behind_plane, 14.0)
    liver = np.maximum(liver, 0.4 - cava_below)
    liver = np.maximum(liver, 2.0 - heart)
    stomach = soft_max(Ellipsoid((60, -34, -150), (46, 44, 44)).distance(plane), below, 6.0)
    stomach = soft_max(stomach, 5.0 - liver, 6.0)
    stomach_air = np.maximum(stomach + 4.0, (y + 44.0).astype(np.float32))
    spleen = soft_max(Ellipsoid((92, 48, -154), (27, 42, 46)).distance(plane), below, 5.0)
    spleen = np.maximum(spleen, 3.0 - stomach)
    spleen = np.maximum(spleen, 18.0 - aorta)
    kidney = np.minimum.reduce([Ellipsoid((s * 54.0, 56.0, -202.0), (26, 24, 34)).distance(plane) for s in (-1, 1)])
    kidney = np.maximum(kidney, np.maximum(below, 3.0 - spleen))
    liver = np.maximum(liver, 4.0 - kidney)
    bowel = np.minimum.reduce(
        [
            Ellipsoid((88, -30, -190), (24, 30, 26)).distance(plane),
            Ellipsoid((34, -62, -200), (30, 22, 18)).distance(plane),
            Ellipsoid((22, 2, -196), (22, 16, 18)).distance(plane),
        ]
    )
    bowel = np.maximum(np.maximum(bowel, below), 3.0 - np.minimum(np.minimum(stomach, spleen), liver))
    return Abdomen(liver, spleen, stomach, stomach_air, bowel, kidney)


def organs(frame: Frame, column: Spine, rib: Field, build: Build, tubes: Plumbing, nodes: Field | None) -> Organs:
    """Everything inside the chest wall on a plane.

    ``nodes``: enlarged lymph nodes, which push the mediastinal pleura outwards.
    """
    plane, z = frame.plane, frame.plane.z
    x, y = plane.x, plane.y
    trachea = tubes.trachea.distance(plane)
    trachea = np.maximum(trachea, np.float32(1.5 - z))
    main = _union([t.distance(plane) for t in tubes.main_bronchi], 4.0)
    lobar = np.minimum.reduce([t.distance(plane) for t in tubes.lobar_bronchi])
    lumen = np.minimum(np.minimum(trachea, main), lobar)
    airway_wall = np.minimum(np.minimum(trachea, main) - 1.8, lobar - 1.2)

    gullet = tubes.gullet.distance(plane, flat=1.35)
    gullet = np.maximum(gullet, 1.0 - airway_wall)
    aorta = tubes.aorta.distance(plane)
    aorta = np.maximum(aorta, 0.8 - airway_wall)
    gullet = np.maximum(gullet, 0.8 - aorta)
    branches = np.minimum.reduce([t.distance(plane) for t in tubes.branches])
    veins = _union([t.distance(plane) for t in tubes.veins], 5.0)
    outer = np.minimum.reduce([t.distance(plane) for t in tubes.subclavian + tubes.jugular])
    pulmonary = _union([t.distance(plane) for t in tubes.pulmonary], 6.0)
    pulmonary_veins = np.minimum.reduce([t.distance(plane) for t in tubes.pulmonary_veins])
    azygos = tubes.azygos.distance(plane)
    cava_below = tubes.cava_below.distance(plane)
    clear = 0.8 - airway_wall
    pulmonary, veins = np.maximum(pulmonary, clear), np.maximum(veins, clear)
    pulmonary = np.maximum(pulmonary, 0.8 - aorta)
    veins = np.maximum(veins, 0.8 - aorta)

    parts = {name: c.distance(plane) for name, c in tubes.chambers.items()}
    chambers = _union(list(parts.values()), 9.0)
    heart = _union(list(parts.values()), 26.0) - 1.5
    heart = np.maximum(heart, np.float32(z + 22.0))
    heart = np.maximum(heart, 1.2 - gullet)
    heart = np.maximum(heart, 1.5 - airway_wall)
    descending = np.where(y > 8, aorta, 20.0).astype(np.float32)
    heart = np.maximum(heart, 1.5 - descending)
    aorta = np.maximum(aorta, 0.5 - heart)
    branches = np.maximum(branches, 0.5 - heart)
    veins = np.maximum(veins, -heart + 0.5)
    pulmonary = np.maximum(pulmonary, -heart + 0.5)

    pieces = [
        heart - 3.0,
        aorta - 2.5,
        veins - 2.5,
        pulmonary - 2.0,
        airway_wall + 0.5,
        gullet - 3.0,
        column.body - 3.5,
        column.disc - 3.5,
        azygos - 2.0,
        branches - 2.5,
    ]
    if nodes is not None:
        pieces.append(nodes - 1.5)
    mediastinum = _mediastinum(frame, pieces)
    dome = diaphragm(plane, build)
    pleura = _pleura(frame, column, rib, build, mediastinum, dome)
    lung_r = np.maximum(pleura, x + 1.0)
    lung_l = np.maximum(pleura, 1.0 - x)
    hilum = np.minimum(np.minimum(pulmonary, pulmonary_veins), np.minimum(main, lobar) - 1.5)

    abdomen = _abdomen(frame, column, dome, heart, aorta, cava_below)
    trunks = np.maximum(branches, np.abs(x) - 42.0)
    great = np.minimum(np.minimum(aorta, veins), np.minimum(pulmonary, trunks))
    vessels = np.minimum(np.minimum(np.minimum(great, branches), outer), np.minimum(azygos, pulmonary_veins))
    return Organs(
        airway_wall_main=(np.minimum(trachea, main) - 1.8).astype(np.float32),
        air={"trachea": trachea, "main": main, "lobar": lobar, "all": lumen},
        wall=airway_wall,
        gullet=gullet,
        aorta=aorta,
        great=great,
        vessels=vessels,
        chambers=chambers,
        heart=heart,
        mediastinum=mediastinum,
        lung_l=lung_l,
        lung_r=lung_r,
        hilum=hilum,
        dome=dome,
        abdomen=abdomen,
        cava_below=cava_below,
    )
