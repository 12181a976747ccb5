"""Gamma against closed forms, and against another code."""

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.dose.dose import Dose
from mrlinac.dose.gamma import LARGEST, STEPS, Criteria, gamma, parse_criteria
from mrlinac.errors import SpecError
from mrlinac.provenance import Provenance

MADE = Provenance("test", "test")


def dose(values, grid):
    return Dose(grid, np.broadcast_to(values, grid.shape_zyx).astype(np.float32), None, 1, MADE)


def axes(grid):
    return np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")


def test_flat_dose_differs_by_its_dose_alone():
    grid = Grid((4, 4, 4), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    for share, expected in ((1.0, 0.0), (1.015, 0.5), (0.97, 1.0), (1.2, LARGEST)):
        found = gamma(dose(50.0, grid), dose(50 * share, grid), Criteria(3, 2)).values
        assert found == pytest.approx(np.full(grid.shape_zyx, expected), abs=1e-5)


@pytest.mark.parametrize(("slope", "shift_mm"), [(0.2, 1.0), (1.0, 1.0), (3.0, 1.3), (1.0, 2.9)])
def test_a_shifted_ramp_is_a_distance_from_a_line(slope, shift_mm):
    """v = shift · slope / ΔD in units of dose; the ramp's slope is m = slope · DTA / ΔD; gamma = v / √(1 + m²)."""
    grid = Grid((9, 9, 41), (2.5, 2.5, 2.5), (-10.0, -10.0, -50.0))
    x = axes(grid)[2]
    reference, moved = dose(200 + slope * x, grid), dose(200 + slope * (x - shift_mm), grid)
    criteria = Criteria(1.0, 2.0)
    tolerated = criteria.dose_percent / 100 * float(reference.dose_Gy.max())
    expected = shift_mm * slope / tolerated / np.hypot(1, slope * criteria.distance_mm / tolerated)
    found = gamma(reference, moved, criteria).values[4, 4, 8:-8]
    # Between lattice points of a tenth of the distance at most half a step is missed.
    assert found == pytest.approx(np.full(found.shape, min(expected, LARGEST)), abs=0.5 / STEPS * 0.3)
    assert np.all(found >= min(expected, LARGEST) - 1e-3)


def test_points_without_a_partner_and_below_the_cutoff_are_not_judged():
    grid = Grid((5, 5, 11), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    x = axes(grid)[2]
    half = Grid((5, 5, 6), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    found = gamma(dose(5 * x, grid), dose(5 * axes(half)[2], half), Criteria(3, 2))
    judged = np.isfinite(found.values[0, 0])
    assert judged.tolist() == [False] + 5 * [True] + 5 * [False]  # 0 Gy is below the cutoff
    assert found.judged == 5 * 25
    assert found.passing_percent() == 100
    assert np.isnan(found.passing_percent(np.zeros(grid.shape_zyx, bool)))


def test_local_is_stricter_where_the_dose_is_low():
    grid = Grid((3, 3, 3), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    values = np.full(grid.shape_zyx, 20.0)
    values[0] = 100.0
    other = values + 1.0
    at_all = gamma(dose(values, grid), dose(other, grid), Criteria(2, 0.5)).values
    locally = gamma(dose(values, grid), dose(other, grid), Criteria(2, 0.5, local=True)).values
    assert at_all[2] == pytest.approx(np.full((3, 3), 0.5), abs=1e-5)
    assert locally[2] == pytest.approx(np.full((3, 3), 2.0), abs=1e-5)


# pymedphys 0.41 (gamma_shell, interp_fraction 10, max_gamma 2, cutoff 10 %) on the same Gaussians: share of 41 472
# points that pass (%), mean gamma. It searches shells of points a tenth of the distance apart and so misses a little
# more than a lattice of that step does: its gammas are not smaller than ours.
PYMEDPHYS = [
    (2.7, 1.00, "3%/2mm", 95.968, 0.48301),
    (4.0, 1.02, "2%/2mm", 61.704, 0.83026),
    (2.7, 1.00, "3%/2mm local", 74.875, 0.66589),
]


@pytest.mark.parametrize(("shift_mm", "factor", "criteria", "passing", "mean"), PYMEDPHYS)
def test_another_code_agrees(shift_mm, factor, criteria, passing, mean):
    grid = Grid.covering((-60,) * 3, (60,) * 3, (2.5,) * 3)
    z, y, x = axes(grid)

    def ball(at):
        return 60 * np.exp(-((x - at) ** 2 + y**2 + z**2) / 2 / 25**2)

    found = gamma(dose(ball(0), grid), dose(factor * ball(shift_mm), grid), parse_criteria(criteria))
    assert found.judged == 41472
    assert found.mean == pytest.approx(mean, abs=0.006)
    assert found.passing_percent() == pytest.approx(passing, abs=2.0 if "local" in criteria else 0.1)


def test_criteria_are_read():
    assert parse_criteria("3%/2mm") == Criteria(3, 2)
    assert parse_criteria(" 2 % / 1.5 mm local ") == Criteria(2, 1.5, True)
    for wrong in ("3/2", "3mm/2%", "0%/2mm", "3%/2mm absolute", ""):
        with pytest.raises(SpecError, match="3%/2mm"):
            parse_criteria(wrong)
