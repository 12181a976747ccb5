"""The frame of the thorax: skin, chest wall, ribs, sternum, spine, shoulder girdle.

Body coordinates: x left of the midline, y posterior, z above the carina, mm, for a body of average size.
Every function takes a :class:`~mrlinac.phantoms.shapes.Plane` and gives signed distances on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrlinac.phantoms.shapes import (
    Ellipsoid,
    FAR_mm,
    Field,
    Plane,
    Tube,
    segment,
    soft_max,
    soft_min,
    superellipse,
    table,
)

# Height of the middle of each vertebral body, C6 ... L1, above the carina (which lies at the disc T4/5).
# Body and disc heights add up as in Panjabi et al. 1991 (see data/thorax.toml).
VERTEBRA_NAMES = ("C6", "C7", "T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1")
VERTEBRA_Z = (107.0, 90.0, 72.0, 53.0, 32.5, 11.5, -10.5, -33.0, -56.0, -80.0, -105.0, -131.0, -158.0, -187.0, -218.0)
VERTEBRA_HEIGHT = (12.0, 13.0, 15.0, 16.5, 17.0, 17.5, 18.0, 18.5, 19.0, 19.5, 20.5, 21.5, 22.5, 24.0, 25.0)

_SPINE_Y = table((-195, -150, -110, -60, -20, 20, 60, 90, 110), (44, 49, 52, 54, 53, 47, 36, 25, 16))
_CAVITY_A = table((-195, -150, -110, -60, -20, 20, 50, 70, 85, 105), (126, 129, 129, 126, 120, 108, 92, 77, 65, 50))
_CAVITY_FRONT = table((-195, -110, -60, -20, 20, 50, 70, 85, 105), (-98, -101, -98, -92, -79, -62, -48, -38, -24))
_CAVITY_DEPTH = table(
    (-195, -110, -20, 20, 50, 70, 85, 105), (36, 40, 40, 36, 30, 24, 19, 14)
)  # behind the spine's y
_SKIN_A = table((-195, -150, -110, -60, -20, 20, 60, 90, 105), (160, 162, 163, 166, 172, 178, 181, 181, 178))
_SKIN_FRONT = table((-195, -110, -60, -20, 20, 50, 80, 105), (-121, -124, -122, -117, -109, -98, -86, -74))
_SKIN_BACK = table((-195, -60, 20, 70, 105), (121, 127, 127, 123, 116))
_BODY_A = table((-218, -187, -131, -80, -33, 11, 53, 90, 107), (21, 20, 18, 16.5, 15.5, 14.5, 14.5, 13.5, 12.5))
_BODY_B = table((-218, -187, -131, -80, -33, 11, 53, 90, 107), (16, 15.5, 15, 14.5, 13.5, 12, 10.5, 9, 8.5))

# Per rib: angle around the chest at which bone becomes cartilage (rad, 0 behind), fall in mm from the head to
# there, height in mm at which the cartilage meets the sternum (None: does not reach it in front).
RIBS: tuple[tuple[float, float, float | None], ...] = (
    (2.50, 34.0, 40.0),
    (2.52, 56.0, 4.0),
    (2.50, 71.0, -20.0),
    (2.48, 80.0, -42.0),
    (2.44, 88.0, -60.0),
    (2.38, 95.0, -75.0),
    (2.30, 101.0, -88.0),
    (2.18, 104.0, -112.0),
    (2.06, 104.0, -140.0),
    (1.92, 98.0, None),
    (1.45, 72.0, None),
    (0.95, 42.0, None),
)
GUTTER_mm = 13.0
BACK_Y = 124.0
"""Where a lying back is flattened."""
RIB_OFFSET, RIB_HALF_THICK, RIB_HALF_HEIGHT = 5.6, 3.6, 6.3


@dataclass(frozen=True)
class Build:
    """What makes one body differ from the next, beside its overall size."""

    fat_mm: float
    muscle: float
    dome_right_mm: float
    dome_left_mm: float
    heart: float
    apex_mm: float
    vessel: float


def spine_y(z: float) -> float:
    """Middle of the vertebral body, y in mm."""
    return float(_SPINE_Y(z))


@dataclass(frozen=True)
class Frame:
    """Distances that many organs share, on one plane."""

    plane: Plane
    skin: Field
    cavity: Field  # inner face of the chest wall
    angle: Field  # around the chest: 0 behind, pi in front, same on both sides
    spine_y: float


def cavity_size(z: float) -> tuple[float, float, float]:
    """Half width, half depth and middle (y) of the chest's inner outline."""
    front, back = float(_CAVITY_FRONT(z)), spine_y(z) + float(_CAVITY_DEPTH(z))
    return float(_CAVITY_A(z)), (back - front) / 2, (back + front) / 2


def frame(plane: Plane, build: Build) -> Frame:
    """Skin and inner chest wall on a plane."""
    x, y, z = plane.x, plane.y, plane.z
    a, b, middle = cavity_size(z)
    # wider behind the middle than in front of it, as a chest is
    lean = 1.0 + 0.06 * np.clip((y - middle) / b, -1.2, 1.2)
    lean = lean * np.where(x < 0, 1.018, 0.976)  # the right side is a little wider
    cavity = superellipse((x / lean).astype(np.float32), y - middle, a, b, 2.3)
    # beside the spine the wall turns forwards: the gutter is deepest at the angles of the ribs
    behind = 1 / (1 + np.exp(-np.clip((y - spine_y(z)) / 4.0, -30, 30)))
    cavity = (cavity + GUTTER_mm * np.exp(-((x / 32.0) ** 2)) * behind).astype(np.float32)
    angle = np.arctan2(np.abs(x) / a, (y - middle) / b).astype(np.float32)

    extra = build.fat_mm - 14.0
    front, back = float(_SKIN_FRONT(z)) - 0.6 * extra, float(_SKIN_BACK(z)) + 0.3 * extra
    skin_a, skin_b, skin_y = float(_SKIN_A(z)) + extra, (back - front) / 2, (back + front) / 2
    lean = 1.0 + 0.07 * np.clip((y - skin_y) / skin_b, -1.2, 1.2)
    skin = superellipse((x / lean).astype(np.float32), y - skin_y, skin_a, skin_b, 2.35)
    # latissimus and the lifted shoulder: a bulge at the side and behind, from the arm pit upwards
    for side in (-1.0, 1.0):
        shoulder = Ellipsoid((side * 138.0, 48.0, 112.0), (52.0 + extra, 62.0, 118.0)).distance(plane, 60.0)
        skin = soft_min(skin, shoulder, 30.0)
        breast = Ellipsoid((side * 70.0, -92.0, -38.0), (56.0, 28.0 + 0.5 * extra, 70.0)).distance(plane, 40.0)
        skin = soft_min(skin, breast, 30.0)
    # a shallow groove over the sternum and over the spinous processes
    skin = (skin + 3.0 * np.exp(-((x / 16) ** 2)) * (np.abs(y) > 60)).astype(np.float32)
    # lying: the back is flattened by the couch
    skin = soft_max(skin, (y - BACK_Y).astype(np.float32), 24.0)
    return Frame(plane, skin.astype(np.float32), cavity, angle, spine_y(z))


def rib_height(index: int, angle: Field) -> Field:
    """Height of the middle line of a rib and its cartilage at an angle around the chest."""
    end, fall, sternal = RIBS[index]
    head = VERTEBRA_Z[2 + index] + 8.0
    t = np.clip(angle / end, 0.0, None)
    bone = head - fall * np.minimum(t, 1.0) ** 1.2
    if sternal is None:
        return bone.astype(np.float32)
    s = np.clip((angle - end) / (2.95 - end), 0.0, 1.0)
    return (bone + (sternal - (head - fall)) * s * s * (3 - 2 * s)).astype(np.float32)


def ribs(frame_: Frame) -> tuple[Field, Field]:
    """Bony ribs and costal cartilages."""
    plane, angle = frame_.plane, frame_.angle
    bone, cartilage = plane.far(), plane.far()
    near = np.abs(frame_.cavity - RIB_OFFSET) < 22
    theta, shell = angle[near], (frame_.cavity[near] - RIB_OFFSET) / RIB_HALF_THICK
    b, c = bone[near], cartilage[near]
    for index, (end, _, sternal) in enumerate(RIBS):
        height = (plane.z - rib_height(index, theta)) * 0.94 / RIB_HALF_HEIGHT
        k = np.hypot(shell, height) + 1e-6
        d = k * (k - 1) / (np.hypot(shell / RIB_HALF_THICK, height / RIB_HALF_HEIGHT) + 1e-6)
        b = np.minimum(b, np.maximum(np.maximum(d, (theta - end) * 90), (0.22 - theta) * 90))
        if sternal is not None:
            c = np.minimum(c, np.maximum(np.maximum(d, (end - theta) * 90), (theta - 2.98) * 90))
    bone[near], cartilage[near] = b, c
    for index in range(12):  # necks: from the vertebra out to the shell
        head = VERTEBRA_Z[2 + index] + 8.0
        if abs(plane.z - head + 2) > 14:
            continue
        a, half, middle = cavity_size(plane.z)
        for side in (-1.0, 1.0):
            out_x = (a + RIB_OFFSET) * np.sin(0.26)
            forwards = GUTTER_mm * np.exp(-((out_x / 32.0) ** 2))
            out = (side * out_x, middle + (half + RIB_OFFSET) * np.cos(0.26) - forwards)
            neck = segment(plane, (side * 15.0, frame_.spine_y + 10.0), out, 4.0, 3.6)
            bone = np.minimum(bone, np.hypot(np.maximum(neck, -4.0) + 4.0, (plane.z - head + 2) * 0.75) - 4.4)
    return np.clip(bone, -FAR_mm, FAR_mm).astype(np.float32), cartilage


def sternum(frame_: Frame) -> Field:
    """Manubrium, body and xiphoid."""
    plane = frame_.plane
    z = plane.z
    half = float(table((-128, -112, -98, -60, -5, 2, 40, 52), (3, 7, 15, 18, 15, 20, 29, 24))(z))
    y0 = float(_CAVITY_FRONT(min(z, 45.0))) - 7.5 - 0.25 * max(0.0, z - 45.0)
    bow = 0.004 * plane.x**2
    flat = superellipse(plane.x, plane.y - y0 - bow.astype(np.float32), half, 5.8, 3.0)
    return np.maximum(flat, np.float32(max(z - 52.0, -126.0 - z)))


@dataclass(frozen=True)
class Spine:
    """Vertebrae by part, on one plane."""

    outline: Field
    edge_mm: float  # of the plane above (or below, negative inside) the nearest body's end plate
    body: Field
    disc: Field
    arch: Field
    canal: Field
    cord: Field

    @property
    def bone(self) -> Field:
        """Bodies, arches and processes without the canal."""
        return np.maximum(np.minimum(self.body, self.arch), -self.canal)

    @property
    def all(self) -> Field:
        """The column as a solid."""
        return np.minimum(np.minimum(self.body, self.arch), np.minimum(self.disc, self.canal))


def spine(plane: Plane) -> Spine:
    """Vertebral column with canal and cord."""
    z = plane.z
    y0 = spine_y(z)
    i = int(np.argmin(np.abs(np.asarray(VERTEBRA_Z) - z)))
    half = VERTEBRA_HEIGHT[i] / 2
    dz = z - VERTEBRA_Z[i]
    a, b = float(_BODY_A(z)), float(_BODY_B(z))
    waist = 1.0 - 0.10 * max(0.0, 1 - (dz / half) ** 2)
    dy = plane.y - np.float32(y0)
    outline = superellipse(plane.x, dy, a * waist, b * waist, 2.4)
    # concave behind, where the canal lies
    outline = np.maximum(outline, b - 1.5 - np.hypot(plane.x, dy - np.float32(2 * b - 1.5)))
    body = np.maximum(outline, np.float32(abs(dz) - half))
    disc = np.maximum(superellipse(plane.x, dy, a * 0.97, b * 0.97, 2.3), np.float32(half - abs(dz)))
    canal_y = b + 8.2
    canal = superellipse(plane.x, dy - np.float32(canal_y), 10.2, 8.4, 2.0)
    cord_a = float(table((-195, -160, -60, 40, 80, 107), (5.2, 5.0, 4.6, 4.7, 5.8, 6.4))(z))
    cord_b = float(table((-195, -160, -60, 40, 80, 107), (4.2, 4.1, 3.6, 3.6, 3.7, 3.7))(z))
    cord = superellipse(plane.x, dy - np.float32(canal_y - 0.6), cord_a, cord_b, 2.0)

    arch = plane.far()
    for level, (name, zc, height) in enumerate(zip(VERTEBRA_NAMES, VERTEBRA_Z, VERTEBRA_HEIGHT, strict=True)):
        d = z - zc
        if d > height or d < -2.2 * height:
            continue
        pedicle = abs(d - 0.22 * height) - 0.28 * height
        lamina = abs(d + 0.15 * height) - 0.55 * height
        tip = abs(d - 0.12 * height) - 0.25 * height
        # thoracic spinous processes slope steeply down, lumbar and cervical ones less
        slope = 0.25 if name[0] in "LC" or level > 12 else 0.75
        parts = []
        for side in (-1.0, 1.0):
            root = (side * 10.8, y0 + b - 2)
            corner = (side * 12.0, y0 + canal_y + 3.0)
            parts.append(np.maximum(segment(plane, root, corner, 3.6, 4.0), np.float32(pedicle)))
            parts.append(np.maximum(segment(plane, corner, (0, y0 + canal_y + 13.0), 4.6, 4.0), np.float32(lamina)))
            if name[0] == "T":
                end = (side * (33.0 - 1.1 * max(0, level - 4)), y0 + canal_y + 10.0 - 0.2 * level)
                parts.append(np.maximum(segment(plane, corner, end, 4.6, 5.4), np.float32(tip)))
        # the spinous process: a plate whose reach depends on how far below its root the plane lies
        at = (0.1 * height - d) / slope
        reach0, reach1 = max(0.0, at - 9.0), min(26.0, at + 9.0)
        if reach1 > reach0:
            top = y0 + canal_y + 11.0
            parts.append(segment(plane, (0, top + reach0), (0, top + reach1), 2.6, 3.0 if reach1 > 22 else 2.4))
        for part in parts:
            arch = np.minimum(arch, part)
    return Spine(outline, abs(dz) - half, body.astype(np.float32), disc, arch, canal, cord)


def girdle(frame_: Frame) -> tuple[Field, Field]:
    """Scapulae, clavicles and humeral heads with the arms raised; second, the muscle that wraps the scapulae."""
    plane, z = frame_.plane, frame_.plane.z
    bone, muscle = plane.far(), plane.far()
    for side in (-1.0, 1.0):
        clavicle = Tube(
            [(side * 20, -63, 47), (side * 52, -62, 64), (side * 92, -40, 84), (side * 132, -16, 103)],
            [9.5, 6.5, 6, 7],
        )
        bone = np.minimum(bone, clavicle.distance(plane))
        bone = np.minimum(bone, Ellipsoid((side * 163.0, 22.0, 121.0), (23.0, 23.0, 24.0)).distance(plane))
        if -58 < z < 112:
            # the blade turns outwards as the arm is raised: its lower angle lies at the side
            inner = (
                side * float(table((-58, -20, 40, 90), (112, 88, 72, 70))(z)),
                float(table((-58, -20, 40, 90), (74, 92, 88, 74))(z)),
            )
            outer = (
                side * float(table((-58, -20, 40, 75, 100), (124, 134, 140, 140, 143))(z)),
                float(table((-58, -20, 40, 75, 100), (70, 62, 50, 42, 36))(z)),
            )
            edge = np.float32(max(0.0, -50 - z, z - 104))
            hollow = min(1.0, max(0.0, (z + 50.0) / 40.0))  # towards the ribs
            bend = (
                0.55 * inner[0] + 0.45 * outer[0] + side * 3.0 * hollow,
                0.55 * inner[1] + 0.45 * outer[1] + 5.0 * hollow,
            )
            blade = np.minimum(
                segment(plane, inner, bend, 2.4, 1.6), segment(plane, bend, outer, 1.6, 4.2 if z < 60 else 6.5)
            )
            blade = blade + edge
            bone = np.minimum(bone, blade)
            if 46 < z < 72:  # the spine of the scapula
                ridge = (inner[0] + 0.55 * (outer[0] - inner[0]), inner[1] + 0.55 * (outer[1] - inner[1]))
                bone = np.minimum(bone, segment(plane, ridge, (ridge[0] + side * 12, ridge[1] + 20), 2.6, 4.2))
            wrap = segment(plane, inner, outer, 17.0 + 0.06 * z, 24.0 + 0.05 * z) + 1.5 * edge
            muscle = np.minimum(muscle, wrap)
        glenoid = Ellipsoid((side * 142.0, 32.0, 98.0), (13.0, 16.0, 20.0)).distance(plane)
        coracoid = Tube([(side * 136, 20, 90), (side * 130, 0, 92), (side * 134, -14, 88)], [7, 6, 5]).distance(plane)
        bone = np.minimum(bone, np.minimum(glenoid, coracoid))
    return bone, muscle


def muscles(frame_: Frame, build: Build, girdle_muscle: Field) -> Field:
    """Muscle of the trunk outside the ribs, and between them."""
    plane, z = frame_.plane, frame_.plane.z
    x, y = plane.x, plane.y
    outside, theta, y0 = frame_.cavity, frame_.angle, frame_.spine_y
    m = build.muscle
    between = np.maximum(outside - 10.0, -outside)
    between = np.maximum(between, z - 8.0 - rib_height(0, theta))  # none above the first rib
    # serratus and latissimus: a sheet over the ribs, thickest at the side and behind
    side_sheet = m * (
        5.0 + 9.0 * np.exp(-(((theta - 1.25) / 0.45) ** 2)) * float(table((-195, -20, 40), (0.7, 1, 1))(z))
    )
    pectoral = (
        m * 13.0 * np.exp(-(((theta - 2.35) / 0.38) ** 2)) * float(table((-95, -50, 20, 60), (0, 0.6, 1, 1.1))(z))
    )
    abdominal = m * 6.0 * np.exp(-(((theta - 2.6) / 0.5) ** 2)) * float(table((-150, -90), (1, 0))(z))
    sheet = np.maximum(outside - 11.0 - side_sheet - pectoral - abdominal, 11.2 - outside)
    sheet = np.where(theta > 2.95, 5.0, sheet).astype(np.float32)
    muscle = np.minimum(between, sheet)
    for side in (-1.0, 1.0):
        erector = Ellipsoid((side * 27.0, y0 + 46.0, z), (23.0 * m, 15.0 * m, 50.0)).distance(plane)
        muscle = np.minimum(muscle, erector)
        latissimus = Ellipsoid((side * 146.0, 40.0, 30.0), (17.0 * m, 34.0, 85.0)).distance(plane)
        muscle = np.minimum(muscle, latissimus)
        trapezius = segment(plane, (side * 6, y0 + 66), (side * 95, y0 + 52), 4.0 * m, 3.0)
        muscle = np.minimum(muscle, trapezius + np.float32(max(0.0, 10 - z) * 0.2))
        deltoid = Ellipsoid((side * 160.0, 30.0, 125.0), (30.0, 38.0, 55.0)).distance(plane)
        pectoral_top = Ellipsoid((side * 98.0, -42.0, 62.0), (44.0, 15.0 * m, 42.0)).distance(plane)
        scalene = Ellipsoid((side * 38.0, -6.0, 118.0), (17.0, 17.0, 48.0)).distance(plane)
        levator = Ellipsoid((side * 52.0, 44.0, 120.0), (34.0, 22.0, 55.0)).distance(plane)
        mastoid = Tube([(side * 14, -62, 55), (side * 26, -46, 90), (side * 36, -30, 120)], [7, 8, 9]).distance(plane)
        for part in (deltoid, pectoral_top, scalene, levator, mastoid):
            muscle = np.minimum(muscle, part)
    longus = Ellipsoid((0.0, y0 - 13.0, 115.0), (15.0, 7.0, 60.0)).distance(plane)
    muscle = np.minimum(np.minimum(muscle, longus), girdle_muscle)
    if z > 35.0:  # the raised shoulder: one mass of muscle, with the fat of the arm pit left free
        arm_pit = np.minimum.reduce(
            [Ellipsoid((s * 100.0, -4.0, 60.0), (19, 24, 60)).distance(plane) for s in (-1, 1)]
        )
        mass = np.maximum.reduce([70.0 - np.abs(x), -34.0 - y, -arm_pit])
        mass = np.maximum(mass, np.float32(0.7 * (60.0 - z)))
        muscle = soft_min(muscle, mass.astype(np.float32), 6.0)
    cover = 0.55 * build.fat_mm
    return soft_max(muscle.astype(np.float32), frame_.skin + np.float32(cover), 4.0)
