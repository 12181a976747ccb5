"""Organs that a CT shows by itself, for patients whose structure set lacks them: body, couch, airway, lungs, canal.

Each is marked as derived, none replaces a drawn one, and what cannot be found is left out with a note: these are
thresholds and connected regions, not a person's contours. ``docs/theory/anatomy.md`` gives the rules and how far they
agree with drawn structures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from mrlinac.anatomy import regions
from mrlinac.anatomy.contours import contours_of, occupancy, polygon_volume_cc
from mrlinac.anatomy.field_of_view import leaving
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.position import lies_on
from mrlinac.anatomy.regions import Mask
from mrlinac.anatomy.structures import Roi, Role
from mrlinac.errors import DataError, SpecError
from mrlinac.notes import Note, Notes

BODY_HU, COUCH_HU, LUNG_HU, BONE_HU = -300.0, -700.0, -400.0, 180.0
"""Half-way between air and tissue (a little below, for fat); shells and foam; lung against tissue; cortical bone."""
ALL_BODY = 0.98
"""A body that fills more of the image than this has no air about it: its outline is not in the image."""
THIN_mm = 5.0
"""Parts thinner than twice this are removed from the body: couch shells, tubes, clothes."""
BESIDE_mm = 10.0
"""Beside the body the couch is looked for up to this height above the body's lowest point."""
AIRWAY_HU = tuple(range(-800, -985, -15))
"""Thresholds tried for the airway, highest first; lung of low density joins it at the higher ones."""
AIRWAY_cc = (5.0, 90.0)
"""Trachea and main bronchi hold about 25 to 60 cc of air; more means that it has leaked into the lung."""
AIRWAY_mm2 = (60.0, 900.0)
"""Cross-section of the trachea at the top of the scan."""
LUNG_cc = 150.0
"""A smaller region is no lung."""
CLOSED_mm = 6.0
"""Vessels up to about twice this across belong to the lung."""
CANAL_mm2 = (60.0, 700.0)
ASIDE_mm = 40.0
"""Largest distance of the spine from the body's middle."""
CANAL_FOUND = 0.3
"""Smallest share of slices on which bone must surround the canal; elsewhere it is interpolated."""

DERIVABLE = ("External", "CouchSurface", "Airway", "Lung_L", "Lung_R", "SpinalCanal")
"""What can be derived, in the order in which they need one another."""
STANDS_FOR: Mapping[str, tuple[str, ...]] = {
    "Airway": ("Airway", "Trachea"),
    "Lung_L": ("Lung_L", "Lungs"),
    "Lung_R": ("Lung_R", "Lungs"),
    "CouchSurface": ("CouchSurface", "CouchInterior", "Couch"),
}
"""Drawn structures that make a derived one superfluous."""
ROLES: Mapping[str, Role] = {"External": "external", "CouchSurface": "support"}
COLORS: Mapping[str, tuple[int, int, int]] = {
    "External": (159, 176, 192),
    "CouchSurface": (120, 120, 120),
    "Airway": (127, 127, 255),
    "Lung_L": (74, 163, 223),
    "Lung_R": (31, 119, 180),
    "SpinalCanal": (23, 163, 152),
}


def with_derived(patient: Patient, wanted: Sequence[str] | bool = True) -> Patient:
    """The patient with structures derived from the CT where they were not drawn.

    Parameters
    ----------
    patient : Patient
        With a CT in HU.
    wanted : sequence of str, or True
        Names from :data:`DERIVABLE`; True: all that are missing.

    Raises
    ------
    SpecError
        For a name that cannot be derived.
    DataError
        For an image that is not in HU.
    """
    asked = DERIVABLE if wanted is True else () if wanted is False else tuple(wanted)
    unknown = sorted(set(asked) - set(DERIVABLE))
    if unknown:
        raise SpecError(f"{', '.join(unknown)} cannot be derived from a CT; what can: {', '.join(DERIVABLE)}")
    missing = [name for name in DERIVABLE if name in asked and not _drawn(patient, name)]
    if not missing:
        return patient
    if patient.image.quantity != "HU":
        raise DataError("structures are derived from a CT in HU only; draw them on the MR")
    derived, notes = _Derivation(patient).run(missing)
    return replace(patient, rois={**patient.rois, **derived}, notes=Notes((*patient.notes.entries, *notes)))


def _drawn(patient: Patient, name: str) -> bool:
    if name == "External":
        return any(roi.role == "external" for roi in patient.rois.values())
    return any(other in patient.rois for other in STANDS_FOR.get(name, (name,)))


Deriver = Callable[[Patient, Sequence[str] | bool], Patient]
"""Type of :func:`with_derived`, and of functions that cache its result."""


class _Derivation:
    """The CT on working pixels, and what has been found on it."""

    def __init__(self, patient: Patient) -> None:
        self.patient = patient
        self.grid, self.hu = regions.pooled(patient.image.grid, patient.image.values)
        self.pixel_mm = self.grid.spacing_zyx_mm[2]
        self.masks: dict[str, Mask] = {}
        self.notes: list[Note] = []

    def run(self, missing: Sequence[str]) -> tuple[dict[str, Roi], list[Note]]:
        makers: dict[str, Callable[[], Mask | None]] = {
            "External": self._external,
            "CouchSurface": self._couch,
            "Airway": self._airway,
            "Lung_L": lambda: self._lung("Lung_L"),
            "Lung_R": lambda: self._lung("Lung_R"),
            "SpinalCanal": self._canal,
        }
        rois: dict[str, Roi] = {}
        for name in missing:
            mask = self._made(name, makers[name])
            if mask is None:
                self.notes.append(Note("warning", f"{name} could not be derived from the CT: draw it."))
                continue
            roi = self._roi(name, mask)
            rois[name] = roi
            volume_cc = polygon_volume_cc(roi)
            text = f"{name}: derived from the CT by software, not drawn; {volume_cc:.0f} cc. Look at it before use."
            self.notes.append(Note("decide", text))
            if told := leaving(roi, self.patient.image):
                self.notes.append(Note("warning", told))
        return rois, self.notes

    def _made(self, name: str, maker: Callable[[], Mask | None]) -> Mask | None:
        if name not in self.masks:
            mask = maker()
            if mask is None or not mask.any():
                return None
            self.masks[name] = mask
        return self.masks[name]

    def _of(self, name: str, maker: Callable[[], Mask | None]) -> Mask:
        """A structure that another needs: as drawn, else derived, else nothing."""
        drawn = [roi for roi in self.patient.rois.values() if roi.name in STANDS_FOR.get(name, (name,))]
        if name == "External":
            drawn = [roi for roi in self.patient.rois.values() if roi.role == "external"]
        if drawn:
            return occupancy(drawn[0], self.grid) >= 0.5
        mask = self._made(name, maker)
        return np.zeros(self.hu.shape, bool) if mask is None else mask

    def _roi(self, name: str, mask: Mask) -> Roi:
        smooth = ndimage.gaussian_filter(mask.astype(np.float32), (0, 0.7, 0.7))
        smooth[~ndimage.binary_dilation(mask, regions.flat(2))] = 0
        for roi in self._excluded(name):
            smooth = np.minimum(smooth, 1 - occupancy(roi, self.grid))
        role = ROLES.get(name, "oar")
        return contours_of(smooth, self.grid, name, role, color_rgb=COLORS[name])

    def _excluded(self, name: str) -> list[Roi]:
        """A lung excludes what is drawn as gross tumour."""
        if not name.startswith("Lung"):
            return []
        return [roi for roi in self.patient.rois.values() if roi.name.startswith("GTV")]

    # ------------------------------------------------------------------------------------------- body and couch

    def _external(self) -> Mask | None:
        """The largest dense region that is not thin, its holes filled slice by slice."""
        solid = self.hu > BODY_HU
        opened = regions.opened(solid, THIN_mm / self.pixel_mm)
        whole = regions.largest(opened)
        if whole is None or whole.mean() > ALL_BODY:
            return None
        filled = regions.filled(whole)
        # Opening rounds the skin's convex corners: give back what is solid and touches, but nothing thin beyond.
        back = regions.grown(filled, 2) & solid & ~self._below(filled)
        return regions.largest(regions.opened(regions.filled(filled | back), 2.0))

    def _below(self, body: Mask) -> Mask:
        """The region beneath the body, column by column, and beside its lowest rows, in which the couch lies."""
        axis, sign = lies_on(self.patient.position)
        if (axis, sign) != (1, 1):  # turned so that down is towards the last row
            lying = body if axis == 1 else body.swapaxes(1, 2)
            region = self._beneath(lying if sign > 0 else lying[:, ::-1])
            region = region if sign > 0 else region[:, ::-1]
            return region if axis == 1 else region.swapaxes(1, 2)
        return self._beneath(body)

    def _beneath(self, body: Mask) -> Mask:
        seen = np.logical_or.accumulate(body[:, ::-1, :], axis=1)[:, ::-1, :]
        rows = np.arange(body.shape[1])[None, :]
        hindmost = np.where(body.any(axis=2), rows, -1).max(axis=1)
        beside = (rows > hindmost[:, None] - BESIDE_mm / self.pixel_mm) & (hindmost >= 0)[:, None]
        below: Mask = ~seen & (body.any(axis=1, keepdims=True) | beside[:, :, None])
        return below

    def _couch(self) -> Mask | None:
        """What is denser than foam beneath the body, on most slices, and its inside."""
        body = self._of("External", self._external)
        if not body.any():
            return None
        beyond = self._below(body) & (self.hu > COUCH_HU) & ~regions.grown(body, 1)
        lasting = beyond.mean(axis=0) > 0.8
        couch = beyond & ndimage.binary_dilation(lasting, iterations=2)
        if couch.sum() * self.grid.voxel_cc < 50:
            return None
        return regions.filled(regions.closed(couch, 5.0 / self.pixel_mm)) & ~body

    # ------------------------------------------------------------------------------------------ airway and lungs

    def _airway(self) -> Mask | None:
        """Air connected to the trachea at the top of the scan, at the highest threshold without a leak."""
        body = self._of("External", self._external)
        seed = self._trachea_seed(body)
        if seed is None:
            return None
        low, high = (cc / self.grid.voxel_cc for cc in AIRWAY_cc)
        for threshold in AIRWAY_HU:
            labels, _ = ndimage.label((self.hu < threshold) & body)
            tree = labels == labels[seed] if labels[seed] else None
            if tree is not None and low <= tree.sum() <= high:
                # The partial volumes at the wall belong to the lumen up to half-way to tissue.
                wall = regions.grown(tree, 1) & (self.hu < -500) & body
                return tree | wall
        return None

    def _trachea_seed(self, body: Mask) -> tuple[int, int, int] | None:
        """The darkest voxel of a small region of air near the middle of the body, in the upper slices."""
        count = len(body)
        for z in range(count - 1, count - 1 - max(3, count // 4), -1):
            if not body[z].any():
                continue
            x_body = np.nonzero(body[z])[1]
            labels, number = ndimage.label((self.hu[z] < -800) & ndimage.binary_erosion(body[z], iterations=8))
            best: tuple[float, tuple[int, int, int]] | None = None
            for label in range(1, number + 1):
                y, x = np.nonzero(labels == label)
                area = len(x) * self.pixel_mm**2
                aside = abs(x.mean() - np.median(x_body)) * self.pixel_mm
                if AIRWAY_mm2[0] <= area <= AIRWAY_mm2[1] and aside < 40 and np.ptp(x) < 3 * (np.ptp(y) + 1):
                    darkest = int(np.argmin(self.hu[z, y, x]))
                    if best is None or aside < best[0]:
                        best = (aside, (z, int(y[darkest]), int(x[darkest])))
            if best is not None:
                return best[1]
        return None

    def _lung(self, name: str) -> Mask | None:
        if "lungs" not in self.masks:
            both = self._both_lungs()
            if both is None:
                return None
            self.masks["lungs"], self.masks["left"] = both
        left = self.masks["left"]
        return self.masks["lungs"] & (left if name == "Lung_L" else ~left)

    def _both_lungs(self) -> tuple[Mask, Mask] | None:
        """Air and lung in the body without the airway, vessels included; and what is nearer to the left one."""
        body = self._of("External", self._external)
        if not body.any():
            return None
        airway = self._of("Airway", self._airway)
        inside = ndimage.binary_erosion(body, regions.FLAT, iterations=4)
        airy = (self.hu < LUNG_HU) & inside & ~regions.grown(airway, 1)
        airy = regions.opened(airy, 1)
        labels, _ = ndimage.label(airy)
        sizes = regions.volumes_cc(labels, self.grid.voxel_cc)
        chosen = [int(n) + 1 for n in np.argsort(-sizes)[:2] if sizes[n] >= LUNG_cc]
        if not chosen:
            return None
        lungs = np.isin(labels, chosen)
        halves = self._halves(lungs)
        if halves is None:
            return None
        radius = CLOSED_mm / self.pixel_mm
        box = regions.box_of(lungs, int(radius) + 2)  # nothing beyond it is asked for
        right, left = (half[box] for half in halves)
        nearer, closed = np.zeros_like(lungs), np.zeros_like(lungs)
        nearer[box] = ndimage.distance_transform_edt(
            ~left, self.grid.spacing_zyx_mm
        ) < ndimage.distance_transform_edt(~right, self.grid.spacing_zyx_mm)
        for side in (lungs & nearer, lungs & ~nearer):  # one by one: else what lies between them closes too
            closed |= regions.filled(regions.closed(side, radius))
        return closed & inside & ~airway, nearer

    def _halves(self, lungs: Mask) -> tuple[Mask, Mask] | None:
        """Cores of the right and the left lung; lungs that touch are eroded until they separate."""
        core = lungs
        for _ in range(8):
            labels, number = ndimage.label(core)
            if number >= 2:
                sizes = regions.volumes_cc(labels, self.grid.voxel_cc)
                first, second = (int(n) + 1 for n in np.argsort(-sizes)[:2])
                if sizes[second - 1] >= LUNG_cc / 2:
                    first_half, other = labels == first, labels == second
                    x_one, x_other = (np.nonzero(m.any(axis=(0, 1)))[0].mean() for m in (first_half, other))
                    return (first_half, other) if x_one < x_other else (other, first_half)
            core = ndimage.binary_erosion(core)
        return None

    # --------------------------------------------------------------------------------------------------- canal

    def _canal(self) -> Mask | None:
        """The hole in each vertebra's ring of bone, nearest to where its neighbours have theirs."""
        body = self._of("External", self._external)
        if not body.any():
            return None
        bone = (self.hu > BONE_HU) & body
        holes: list[Mask | None] = [self._hole(bone[z], body[z]) for z in range(len(bone))]
        holes = regions.consistent(holes, self.pixel_mm)
        known = [z for z, hole in enumerate(holes) if hole is not None]
        if len(known) < CANAL_FOUND * len(bone):
            return None
        return regions.between(holes, known)

    def _hole(self, bone: Mask, body: Mask) -> Mask | None:
        """The most posterior hole of fitting size near the middle; the marrow of the vertebra may lie in front of it."""
        if not body.any() or not bone.any():
            return None
        y_body, x_body = np.nonzero(body)
        middle = (x_body.min() + x_body.max()) / 2
        for radius_mm in (2.0, 4.0, 6.0):
            ring = regions.closed(bone, radius_mm / self.pixel_mm)
            labels, number = ndimage.label(regions.filled(ring) & ~ring)
            best: tuple[float, Mask] | None = None
            for label in range(1, number + 1):
                hole = labels == label
                y, x = np.nonzero(hole)
                area = hole.sum() * self.pixel_mm**2
                share = hole.sum() / (np.ptp(x) + 1) / (np.ptp(y) + 1)  # of its rectangle: a disc has 0.79
                behind = y.mean() > y_body.min() + 0.5 * np.ptp(y_body)
                central = abs(x.mean() - middle) * self.pixel_mm < ASIDE_mm
                fits = CANAL_mm2[0] <= area <= CANAL_mm2[1] and share > 0.5 and behind and central
                if fits and (best is None or y.mean() > best[0]):
                    best = (float(y.mean()), hole)
            if best is not None:
                return best[1]
        return None
