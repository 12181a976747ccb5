"""How thick a contour is: one slice of the image, unless the structure is drawn on every second or third slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mrlinac.anatomy.contours import FILLED_GAP_SLICES, ONE_MISSING_SLICES, continues, parts_of, planes_of
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.dicom.problems import Findings
from mrlinac.dicom.read.loops import SAME_PLANE_mm

STEP_TOLERANCE_mm = 0.2
"""A step between planes that differs by less (and by less than a tenth) from the slice spacing is the slice spacing."""

HABIT_mm = 5.5
"""On thin slices structures are drawn every 5 mm; on others every second or third slice at most."""

THICKEST_mm = 5.0
"""Planning images have no thicker slices: where no image is there, a larger step between planes is a gap."""

ASSUMED_mm = 3.0
"""The most common slice thickness of planning CTs: used where neither an image nor the planes state one."""


def slice_without_image_mm(planes_mm: Sequence[float]) -> tuple[float, str]:
    """Slice spacing where no image states it, from all planes drawn in a set, and how it was found, in words."""
    step = _commonest(np.diff(_planes_apart(planes_mm)))
    if step is None:
        return ASSUMED_mm, "all contours lie in one plane"
    if step > THICKEST_mm:
        return ASSUMED_mm, f"drawn planes lie {step:g} mm apart, more than slices do ({THICKEST_mm:g} mm at most)"
    return step, ""


def thickness_mm(name: str, contours: Sequence[Contour], slice_mm: float, findings: Findings) -> float:
    """Thickness that contours with neighbours stand for.

    It is the slice spacing, unless most of the structure is drawn at another, regular step: on every second or third
    slice, or on the slices of another image. Two planes alone have a step if it is that of every second slice.
    """
    planes = planes_of(contours)
    steps = np.diff([z for z, _ in planes])
    usual = _commonest(steps)
    if usual is None or abs(usual - slice_mm) <= min(STEP_TOLERANCE_mm, slice_mm / 10):
        return slice_mm
    regular = np.flatnonzero(np.abs(steps - usual) <= STEP_TOLERANCE_mm)
    alone = len(steps) == 1 and usual <= ONE_MISSING_SLICES * slice_mm
    if not alone and (len(regular) < 2 or 2 * len(regular) < len(steps)):
        return slice_mm
    if usual > slice_mm:
        going_on = sum(continues(planes[i][1], planes[i + 1][1], usual) for i in regular.tolist())
        if usual > max(FILLED_GAP_SLICES * slice_mm, HABIT_mm) or 2 * going_on < len(regular):
            return slice_mm
    findings.note(
        "decide",
        f"'{name}' is drawn every {usual:g} mm on slices {slice_mm:g} mm apart: each contour stands for {usual:g} mm.",
    )
    return usual


def note_gaps(roi: Roi, findings: Findings) -> None:
    """Say which planes are missing between others, how many parts there are, and which contours stand alone."""
    parts = parts_of(roi)
    name = roi.original_name or roi.name
    if parts.filled_planes:
        findings.note(
            "warning",
            f"'{name}' has no contour on {parts.filled_planes} plane(s) between others: where the neighbouring"
            " contours overlap, the nearer one stands for them.",
        )
    if parts.count > 1:
        findings.note("info", f"'{name}' has {parts.count} parts along z, with nothing between.")
    if parts.lone:
        thickness = roi.lone_slice_mm or roi.slice_spacing_mm
        findings.note(
            "info",
            f"'{name}': {parts.lone} contour(s) without a near neighbour stand(s) for one slice ({thickness:g} mm) each.",
        )


def _planes_apart(planes_mm: Sequence[float]) -> list[float]:
    """Places of planes, each once: of places nearer than slices are, the one that most contours have."""
    places, counts = np.unique(np.round(planes_mm, 2), return_counts=True)
    groups: list[list[int]] = []
    for index in range(len(places)):
        if groups and places[index] - places[groups[-1][0]] <= SAME_PLANE_mm:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [float(places[max(group, key=lambda index: int(counts[index]))]) for group in groups]


def _commonest(steps_mm: NDArray[np.float64]) -> float | None:
    """The most frequent step, the smallest of several; None where there is none."""
    steps = steps_mm[steps_mm > SAME_PLANE_mm]
    if not steps.size:
        return None
    values, counts = np.unique(np.round(steps, 1), return_counts=True)
    # The median of its like: rounding to a tenth would make 1.2 of 1.25.
    near = np.abs(steps - values[np.argmax(counts)]) <= 0.05 + 1e-9
    return round(float(np.median(steps[near])), 3)
