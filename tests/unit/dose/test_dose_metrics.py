"""DVHs and metrics: closed forms, and dicompyler-core's own reading of the same histogram."""

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure
from mrlinac.dose import metrics
from mrlinac.dose.dose import Dose
from mrlinac.dose.dvh import dvh, metric
from mrlinac.errors import SpecError
from mrlinac.provenance import Provenance

MADE = Provenance("test", "test")


def ramp_in_sphere(spacing_mm=1.0, radius_mm=20.0):
    """Dose 50 Gy + 1 Gy/mm along x, in a sphere with partly filled surface voxels."""
    grid = Grid.covering((-25, -25, -25), (25, 25, 25), (spacing_mm,) * 3)
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")
    occupancy = np.clip((radius_mm - np.sqrt(x**2 + y**2 + z**2)) / spacing_mm + 0.5, 0, 1)
    return Dose(grid, 50 + x, None, 1, MADE), Structure("S", "target", occupancy.astype(np.float32))


def cap_share(height):
    """Share of a unit sphere's volume above a plane at distance ``height`` from its centre."""
    return (1 - height) ** 2 * (2 + height) / 4


def test_sphere_in_linear_dose():
    dose, sphere = ramp_in_sphere()
    assert metric(dose, sphere, "mean") == pytest.approx(50, abs=0.01)
    assert metric(dose, sphere, "D50%") == pytest.approx(50, abs=0.51)  # half a voxel of the ramp
    for level in (35, 45, 55, 62):
        expected = 100 * cap_share((level - 50) / 20)  # voxel faces lie on whole levels
        assert metric(dose, sphere, f"V{level}Gy[%]") == pytest.approx(expected, abs=0.3)
    volume_cc = 4 / 3 * np.pi * 2**3
    assert metric(dose, sphere, "V45Gy[cc]") == pytest.approx(volume_cc * cap_share(-5 / 20), rel=0.005)


def test_metrics_of_weighted_voxels_are_exact():
    dose_Gy, volume_cc = np.array([10.0, 40.0, 30.0, 20.0]), np.array([1.0, 0.5, 0.25, 2.25])
    value = lambda text, rx=None: metrics.value_of(dose_Gy, volume_cc, text, rx)  # noqa: E731
    assert value("D0.5cc") == 40
    assert value("D0.51cc") == 30
    assert value("D0.75cc") == 30
    assert value("D76%") == 10
    assert value("D75%") == 20
    assert value("V20Gy[cc]") == 3.0
    assert value("V20.01Gy[%]") == pytest.approx(100 * 0.75 / 4)
    assert value("V50%[cc]", 60.0) == 0.75
    assert value("D0.5cc[%]", 80.0) == 50
    assert value("mean") == pytest.approx((10 + 20 + 7.5 + 45) / 4)
    assert value("HI") == pytest.approx((40 - 10) / 20)


def row_of_voxels(*values):
    return np.array(values, np.float32).reshape(1, 1, -1)


def test_air_is_no_hot_spot_of_the_body_but_organs_stay_whole():
    grid = Grid((1, 1, 6), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    dose = Dose(grid, row_of_voxels(90, 80, 60, 50, 40, 30), None, 1, MADE)
    whole = row_of_voxels(1, 1, 1, 1, 1, 1)
    body = Structure("External", "external", whole)
    air = metrics.air_like(row_of_voxels(0.001, 0.05, 0.25, 1, 1, 1), body)
    assert air.ravel().tolist() == [True, True, False, False, False, False]  # lung at 0.25 g/cm³ is tissue
    for role, d1, d2 in (("external", 60, 60), ("other", 60, 60), ("oar", 90, 90), ("target", 90, 90)):
        structure = Structure("S", role, whole)
        assert metric(dose, structure, "D1cc", air=air) == d1
        assert metric(dose, structure, "D2%", air=air) == d2
        assert metric(dose, structure, "D1cc") == 90
    # The volume stays the whole structure's: only a search for the hottest part leaves air out.
    assert metric(dose, body, "mean", air=air) == pytest.approx(350 / 6)
    assert metric(dose, body, "D50%", air=air) == 60
    assert metric(dose, body, "V80Gy[cc]", air=air) == 2
    assert metric(dose, body, "D4cc", air=air) == 30
    with pytest.raises(ValueError, match="not air"):
        metric(dose, body, "D5cc", air=air)


def test_a_sliver_of_skin_is_tissue():
    inside = row_of_voxels(0.05, 1, 0.5, 0)
    density = inside * np.float32(1.05) + (1 - inside) * np.float32(0.0012)
    density[0, 0, 2] = 0.5 * 0.02  # a slit of air that the outline cuts
    air = metrics.air_like(density, Structure("External", "external", inside))
    assert air.ravel().tolist() == [False, False, True, False]


def test_conformity_and_gradient():
    grid = Grid((1, 1, 8), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    dose = Dose(grid, np.array([0, 50, 60, 60, 60, 60, 50, 30.0]).reshape(1, 1, 8), None, 1, MADE)
    target = Structure("T", "target", np.array([0, 1, 1, 1, 0, 0, 0, 0], np.float32).reshape(1, 1, 8))
    value = lambda text, **more: metric(dose, target, text, prescription_Gy=60, **more)  # noqa: E731
    assert value("CI_Paddick") == value("CI") == pytest.approx(2**2 / (3 * 4))
    assert value("CI_Paddick50%") == value("CI50%") == pytest.approx(3**2 / (3 * 7))
    assert value("CI_RTOG") == pytest.approx(4 / 3)
    assert value("CI_RTOG80%") == pytest.approx(6 / 3)
    assert value("R50") == pytest.approx(7 / 3)
    assert value("GI") == pytest.approx(7 / 4)  # 28.5 Gy over 57 Gy
    assert value("GI80%") == pytest.approx(7 / 6)
    body = Structure("External", "external", np.array([0, 1, 1, 1, 1, 0.5, 0, 0], np.float32).reshape(1, 1, 8))
    assert value("CI_Paddick", external=body) == pytest.approx(2**2 / (3 * 3.5))
    assert value("CI_RTOG", external=body) == pytest.approx(3.5 / 3)
    assert value("GI", external=body) == pytest.approx(4.5 / 3.5)
    assert value("R50", external=body) == pytest.approx(4.5 / 3)


def test_conformity_without_an_isodose():
    grid = Grid((1, 1, 2), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    dose = Dose(grid, np.array([30, 10.0]).reshape(1, 1, 2), None, 1, MADE)
    target = Structure("T", "target", np.array([1, 0], np.float32).reshape(1, 1, 2))
    assert metric(dose, target, "CI_Paddick", prescription_Gy=60) == 0
    assert metric(dose, target, "CI_RTOG", prescription_Gy=60) == 0
    with pytest.raises(ValueError, match="gradient"):
        metric(dose, target, "GI", prescription_Gy=60)
    with pytest.raises(SpecError, match="prescription"):
        metric(dose, target, "R50")
    nothing = Structure("T", "target", np.zeros((1, 1, 2), np.float32))
    with pytest.raises(ValueError, match="empty"):
        metric(dose, nothing, "CI_RTOG", prescription_Gy=20)


@pytest.mark.parametrize("text", ["max", "Dmax", "min", "D100%", "D0cc"])
def test_single_voxel_extremes_are_refused(text):
    with pytest.raises(SpecError, match=r"D0\.03cc"):
        metrics.parse(text)


@pytest.mark.parametrize("text", ["V20", "V20Gy", "D95", "gEUD", "V20%Gy", "D 95 %", "", "D120%", "CI_ICRU", "R50%"])
def test_unknown_forms_list_the_known_ones(text):
    with pytest.raises(SpecError, match=r"Known forms|between 0 and 100"):
        metrics.parse(text)


def test_relative_metrics_need_the_prescription():
    dose, sphere = ramp_in_sphere(5.0)
    with pytest.raises(SpecError, match="prescription"):
        metric(dose, sphere, "V95%[%]")
    with pytest.raises(SpecError, match="prescription"):
        metric(dose, sphere, "D98%[%]")
    with pytest.raises(ValueError, match="asked for"):
        metric(dose, sphere, "D500cc")


def test_dvh_agrees_with_dicompyler():
    dose, sphere = ramp_in_sphere()
    rng = np.random.default_rng(2)
    dose = Dose(dose.grid, dose.dose_Gy + rng.normal(0, 3, dose.grid.shape_zyx), None, 1, MADE)
    histogram = dvh(dose, sphere, prescription_Gy=50.0)
    volume_cc = float(sphere.occupancy.sum(dtype=float)) * dose.grid.voxel_cc
    assert histogram.volume == pytest.approx(volume_cc)
    assert histogram.name == "S"
    assert histogram.dvh_type == "cumulative"
    assert histogram.mean == pytest.approx(metric(dose, sphere, "mean"), abs=0.02)
    for text, theirs in [("D95%", "D95"), ("D50%", "D50"), ("D2%", "D2"), ("D2cc", "D2cc"), ("D0.1cc", "D0.1cc")]:
        assert histogram.statistic(theirs).value == pytest.approx(metric(dose, sphere, text), abs=0.06)
    for level in (40, 50, 60):
        assert histogram.statistic(f"V{level}Gy").value == pytest.approx(
            metric(dose, sphere, f"V{level}Gy[cc]"), abs=0.01
        )
    assert histogram.statistic("V95").value == pytest.approx(
        metric(dose, sphere, "V95%[cc]", prescription_Gy=50), abs=0.01 * volume_cc
    )


def test_dvh_keeps_doses_on_a_bin_edge():
    grid = Grid((1, 1, 3), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    dose = Dose(grid, np.array([0.0, 0.5, 1.0]).reshape(1, 1, 3), None, 1, MADE)
    whole = Structure("S", "oar", np.ones((1, 1, 3), np.float32))
    histogram = dvh(dose, whole, bin_Gy=0.5)
    np.testing.assert_allclose(histogram.bins, [0, 0.5, 1.0, 1.5])
    np.testing.assert_allclose(histogram.counts, [3, 2, 1])


def test_empty_structure_and_foreign_grid_are_errors():
    dose, _ = ramp_in_sphere(5.0)
    with pytest.raises(ValueError, match="empty"):
        dvh(dose, Structure("E", "oar", np.zeros(dose.grid.shape_zyx, np.float32)))
    with pytest.raises(ValueError, match="grid"):
        metric(dose, Structure("E", "oar", np.ones((1, 1, 1), np.float32)), "mean")
