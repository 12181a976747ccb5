"""DVHs against closed forms on a dose grid of 3 mm: sphere, cylinder, cone, small structures; linear and Gaussian dose.

What is drawn is a stack of discs, whose DVH has a closed form in every dose used here; the error of the drawing itself
(a sphere is no stack of discs) is measured apart, at 3 mm slices.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import brentq

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.dose.dose import Dose
from mrlinac.dose.sampled import Sampled
from mrlinac.dose.sampling import sample
from mrlinac.provenance import Provenance

MADE = Provenance("test", "test")
TOP_Gy = 60.0
CENTRE = (0.7, -0.4, 0.3)
"""Off every lattice."""
VOLUME, DOSE_Gy = 0.005, 0.005 * TOP_Gy
"""0.5 % of the volume, 0.5 % of the highest dose."""


@dataclass(frozen=True)
class Discs:
    """A stack of discs about an axis along z through CENTRE: bounds and radius of each."""

    lower: np.ndarray
    upper: np.ndarray
    radius: np.ndarray

    @property
    def volume(self):
        return float(np.sum(np.pi * self.radius**2 * (self.upper - self.lower)))

    def roi(self):
        angle = np.arange(720) * 2 * np.pi / 720
        ring = np.column_stack([np.cos(angle), np.sin(angle)])
        planes = (self.lower + self.upper) / 2
        contours = [Contour(z, CENTRE[:2] + r * ring) for z, r in zip(planes, self.radius, strict=True)]
        return Roi("S", "target", tuple(contours), float(self.upper[0] - self.lower[0]))


def stack(radius_of, lower, upper, slice_mm):
    """Discs on slices at multiples of the slice distance, each with the radius at its plane."""
    planes = np.arange(np.ceil(lower / slice_mm) * slice_mm, upper + 1e-9, slice_mm)
    radius = np.array([radius_of(z) for z in planes])
    planes, radius = planes[radius > 0], radius[radius > 0]
    return Discs(planes - slice_mm / 2, planes + slice_mm / 2, radius)


def sphere(radius, slice_mm):
    at = CENTRE[2]
    return stack(lambda z: np.sqrt(max(radius**2 - (z - at) ** 2, 0)), at - radius, at + radius, slice_mm)


def cone(radius, height, slice_mm):
    """Tip downwards."""
    tip = CENTRE[2] - height / 2
    return stack(lambda z: radius * (z - tip) / height, tip, tip + height, slice_mm)


def cylinder(radius, slices, slice_mm):
    first = round((CENTRE[2] - slices * slice_mm / 2) / slice_mm) * slice_mm
    lower = first + slice_mm * np.arange(slices)
    return Discs(lower, lower + slice_mm, np.full(slices, float(radius)))


GRADIENT = 0.6  # Gy per mm: 1 % of the highest dose


def segment(radius, distance):
    """Area of a disc beyond a chord at a distance from its centre."""
    d = np.clip(distance, -radius, radius)
    return radius**2 * np.arccos(d / radius) - d * np.sqrt(radius**2 - d**2)


def across(discs, level):
    """Volume with at least a dose that rises along x."""
    return float(np.sum(segment(discs.radius, (level - TOP_Gy / 2) / GRADIENT) * (discs.upper - discs.lower)))


def along(discs, level):
    """Volume with at least a dose that rises along z."""
    from_z = (level - TOP_Gy / 2) / GRADIENT + CENTRE[2]
    part = np.clip(discs.upper - np.maximum(discs.lower, from_z), 0, None)
    return float(np.sum(np.pi * discs.radius**2 * part))


def gaussian(sigma):
    def volume(discs, level):
        """Volume within the sphere on which the Gaussian about CENTRE has this dose."""
        square = -2 * sigma**2 * np.log(level / TOP_Gy)
        z = np.linspace(0, 1, 2001)[:, None] * (discs.upper - discs.lower) + discs.lower
        area = np.pi * np.clip(np.minimum(discs.radius**2, square - (z - CENTRE[2]) ** 2), 0, None)
        return float(np.trapezoid(area, z, axis=0).sum())

    return volume


def dose_of(kind):
    grid = Grid.covering((-51.3, -49.1, -50.2), (50, 50, 50), (3.0, 3.0, 3.0))
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    x, y, z = x - CENTRE[0], y - CENTRE[1], z - CENTRE[2]
    if kind == "across":
        values = TOP_Gy / 2 + GRADIENT * x
    elif kind == "along":
        values = TOP_Gy / 2 + GRADIENT * z
    else:
        values = TOP_Gy * np.exp(-(x**2 + y**2 + z**2) / (2 * kind**2))
    return Dose(grid, values, None, 1, MADE)


def judged(kind, discs):
    """The dose in the drawn shape, as plans and evaluations judge it."""
    return Sampled(dose_of(kind), rois={"drawn": discs.roi()})


SHAPES = {
    "sphere": sphere(20, 3.0),
    "cylinder": cylinder(15, 12, 3.0),
    "cone": cone(15, 30, 3.0),
    "small sphere": sphere(3, 1.0),
    "small cylinder": cylinder(2.5, 3, 2.0),
    "thin cylinder": cylinder(1.2, 4, 3.0),
}
DOSES = {"across": across, "along": along, 12.0: gaussian(12.0), 20.0: gaussian(20.0)}


@pytest.mark.parametrize("kind", DOSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_dvh_is_the_closed_form(shape, kind):
    discs, volume = SHAPES[shape], DOSES[kind]
    sampled = judged(kind, discs)
    found = sampled.samples("drawn")
    whole = discs.volume
    assert found.total_cc * 1000 == pytest.approx(whole, rel=VOLUME)
    bounds = (1e-6, TOP_Gy - 1e-9) if isinstance(kind, float) else (0.0, TOP_Gy)
    for percent in (2, 10, 50, 90, 95, 98):
        expected = brentq(lambda level, p=percent: volume(discs, level) - p / 100 * whole, *bounds)
        assert sampled.metric("drawn", f"D{percent}%").value == pytest.approx(expected, abs=DOSE_Gy), percent
        # A level at which volume changes by less than 0.5 % for 0.1 % of the dose; elsewhere the dose above is the test.
        step = abs(volume(discs, expected - 0.06) - volume(discs, expected)) / whole
        if step < VOLUME:
            assert sampled.metric("drawn", f"V{expected:.6f}Gy[%]").value == pytest.approx(
                percent, abs=100 * VOLUME
            ), percent


@pytest.mark.parametrize(("drawn", "ideal"), [(sphere(20, 3.0), 4 / 3 * np.pi * 20**3)])
def test_a_sphere_on_slices_of_3_mm(drawn, ideal):
    assert sample(dose_of("across"), drawn.roi()).total_cc * 1000 == pytest.approx(ideal, rel=VOLUME)
    for kind in ("across", "along"):
        sampled = judged(kind, drawn)
        for percent in (2, 50, 95, 98):
            height = brentq(lambda h, p=percent: (1 - h) ** 2 * (2 + h) / 4 - p / 100, -1, 1)
            expected = TOP_Gy / 2 + GRADIENT * 20 * height
            assert sampled.metric("drawn", f"D{percent}%").value == pytest.approx(expected, abs=DOSE_Gy), (
                kind,
                percent,
            )


def test_a_coarse_dvh_would_be_found_out():
    """The twin: one value per voxel of 3 mm, as before, is off by more than the bar."""
    from mrlinac.anatomy.contours import occupancy
    from mrlinac.anatomy.structures import Structure
    from mrlinac.dose.metrics import metric

    discs = SHAPES["small sphere"]
    dose = dose_of("across")
    expected = brentq(lambda level: across(discs, level) - 0.02 * discs.volume, 0, TOP_Gy)
    coarse = metric(dose, Structure("S", "target", occupancy(discs.roi(), dose.grid)), "D2%")
    assert abs(coarse - expected) > DOSE_Gy
