"""From HU to medium: curve, conserved mass, air, couch, metal, cut ends."""

import dataclasses

import numpy as np
import pytest

from mrlinac.anatomy.calculation_grid import calculation_grid
from mrlinac.anatomy.contours import rasterise
from mrlinac.anatomy.couch import CouchGeometry
from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.materials import hu_curve, known_materials
from mrlinac.anatomy.medium_from_image import medium_of
from mrlinac.anatomy.metal import metal_in, saturation_HU
from mrlinac.anatomy.mixture import Mixture
from mrlinac.anatomy.overrides import MetalOverride, Override
from mrlinac.anatomy.patient import Patient
from mrlinac.anatomy.resample import Resampler
from mrlinac.anatomy.structures import Contour, Roi
from mrlinac.errors import DataError, PhysicsError

CT = Grid((8, 100, 120), (3.0, 1.0, 1.0), (-60.0, -40.0, 100.0))
LAYERS = [(2.0, 1.6, "carbon-fibre"), (20.0, 0.05, "foam-pmi"), (2.0, 1.6, "carbon-fibre")]
COUCH = CouchGeometry(LAYERS, 100.0, top_mm=25.75, midline_mm=1.0)  # in contact with the body below
CURVE = hu_curve("schneider2000")


def block(x0, y0, x1, y1, name, role="oar"):
    """A bar along z, in all slices."""
    points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)
    return Roi(name, role, tuple(Contour(float(z), points) for z in CT.z_mm), 3.0)


def patient_with(hu, *rois, **more):
    body = block(-30.25, -20.5, 32.25, 25.75, "External", "external")
    return Patient("block", Image(CT, hu), {roi.name: roi for roi in (body, *rois)}, **more)


def water_patient(*rois):
    """Soft tissue of 0 HU (1.018 g/cm³) on a dense imaged table; air elsewhere."""
    hu = np.full(CT.shape_zyx, -1000.0, np.float32)
    hu[:, 20:66, 30:93] = 0.0
    hu[:, 68:74, 5:115] = 300.0
    return patient_with(hu, *rois)


def made(patient, spacing_mm=3.0, couch=COUCH, **options):
    grid = calculation_grid(patient, couch, spacing_mm)
    structures = rasterise(patient.rois, grid)
    medium, notes = medium_of(patient, grid, structures, couch=couch, **options)
    return medium, notes, structures


def mass_g(medium):
    return float(medium.density_g_cm3.sum(dtype=float)) * medium.grid.voxel_cc


def test_the_curve_is_schneiders():
    # Sections of Schneider 2000: 1.018 + 0.893e-3 HU; 1.03; 1.003 + 1.169e-3 HU; 1.017 + 0.592e-3 HU.
    hu = np.array([-98, 0, 18, 50, 99, 500, 1400, -1000, -2000], np.float32)
    expected = [0.930486, 1.018, 1.03, 1.06145, 1.118731, 1.313, 1.8458, 0.00121, 0.00121]
    np.testing.assert_allclose(CURVE.density_of(hu), expected, rtol=2e-4)
    names = [CURVE.materials[i] for i in CURVE.material_of(np.array([-1000, -800, 0, 1450, 4000], np.float32))]
    assert names == ["schneider-01", "schneider-02", "schneider-06", "schneider-23", "schneider-24"]
    assert set(CURVE.materials) <= set(known_materials())
    with pytest.raises(PhysicsError, match="schneider2000"):
        hu_curve("nobody1999")


PUBLISHED_EDGES_HU = (-950, -120, -82, -52, -22, 8, 19, 80, 120, *range(200, 1501, 100))
"""Where the bins of Schneider 2000, table 6, meet; the last begins at 1500."""


@pytest.mark.parametrize(("number", "edge_HU"), list(enumerate(PUBLISHED_EDGES_HU, 1)))
def test_materials_change_at_the_published_edges_to_the_HU(number, edge_HU):
    """One HU below an edge the thinner bin, at the edge and one above it the denser."""
    found = CURVE.material_of(np.array([edge_HU - 1, edge_HU, edge_HU + 1], np.float32))
    assert [CURVE.materials[i] for i in found] == [
        f"schneider-{number:02d}", f"schneider-{number + 1:02d}", f"schneider-{number + 1:02d}",
    ]  # fmt: skip


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (2.0, 2.0, 2.0), (5.0, 1.5, 0.7)])
def test_resampling_conserves_sums(spacing):
    values = np.random.default_rng(1).random(CT.shape_zyx).astype(np.float32)
    target = Grid.covering(np.array(CT.lower_xyz_mm) - 4, np.array(CT.upper_xyz_mm) + 4, spacing)
    total = float(Resampler(CT, target)(values).sum(dtype=float)) * target.voxel_cc
    assert total == pytest.approx(float(values.sum(dtype=float)) * CT.voxel_cc, rel=1e-5)


def test_resampling_is_the_mean_over_the_overlap_and_continues_the_ends():
    fine = np.arange(8, dtype=np.float32)[:, None, None] * np.ones(CT.shape_zyx, np.float32)
    target = Grid((14, 2, 2), (3.0, 7.0, 7.0), (0.0, 0.0, 92.0))
    ends = Resampler(CT, target, continue_ends=True)(fine)[:, 0, 0]
    np.testing.assert_allclose(ends, [0, 0, 0, 1 / 3, *np.arange(1 + 1 / 3, 7, 1), 7, 7, 7, 7][:14], atol=1e-5)


@pytest.mark.parametrize("spacing_mm", [3.0, 2.0, 1.5])
def test_mass_of_body_couch_and_air(spacing_mm):
    medium, _, _ = made(water_patient(), spacing_mm)
    z_cm = medium.grid.shape_zyx[0] * spacing_mm / 10
    body_cm2, couch_cm2 = 6.25 * 4.625, 10.0 * (0.4 * 1.6 + 2.0 * 0.05)
    all_cm2 = medium.grid.shape_zyx[1] * medium.grid.shape_zyx[2] * spacing_mm**2 / 100
    air_cm2 = all_cm2 - body_cm2 - 10.0 * 2.4
    expected = (body_cm2 * 1.018 + couch_cm2 + air_cm2 * 0.00121) * z_cm
    assert mass_g(medium) == pytest.approx(expected, rel=2e-3)


def test_a_partly_filled_voxel_is_tissue_diluted_with_air():
    medium, _, structures = made(water_patient(), couch=None)
    inside = structures["External"].occupancy
    expected = inside * 1.018 + (1 - inside) * 0.00121
    np.testing.assert_allclose(medium.density_g_cm3, expected, atol=2e-3)
    assert np.count_nonzero((inside > 0.05) & (inside < 0.95)) > 1000


def bar_of(hu_of_x):
    """A body whose CT number depends on x, in whole mm; the medium's materials well inside it."""
    hu = np.full(CT.shape_zyx, -1000.0, np.float32)
    hu[:, 20:66, 30:93] = hu_of_x(np.rint(CT.x_mm).astype(int))[30:93]
    medium, _, structures = made(patient_with(hu), couch=None)
    inside = structures["External"].occupancy == 1
    inside[:, :, 1:-1] &= inside[:, :, 2:] & inside[:, :, :-2]
    return {medium.materials[i] for i in np.unique(medium.material[inside])}, medium.density_g_cm3[inside]


@pytest.mark.parametrize("hu", [-700, -100, 40, 250, 1240])
def test_a_uniform_tissue_has_the_curves_material_and_density(hu):
    materials, density = bar_of(lambda x: np.full(len(x), hu))
    number = CURVE.material_of(np.array([hu], np.float32))[0]
    assert materials == {CURVE.materials[number]}
    np.testing.assert_allclose(density, CURVE.density_of(np.array([hu], np.float32))[0], rtol=1e-5)


def test_a_mixed_voxel_has_the_material_of_its_mean_ct_number_by_mass():
    """Two pixels of lung and one of bone: 527 HU by mass, −133 by volume."""
    materials, density = bar_of(lambda x: np.where(x % 3 == 0, 1000, -700))
    lung, bone = CURVE.density_of(np.array([-700, 1000], np.float32))
    np.testing.assert_allclose(density, (2 * lung + bone) / 3, rtol=1e-4)
    by_mass = (2 * lung * -700 + bone * 1000) / (2 * lung + bone)
    assert materials == {CURVE.materials[CURVE.material_of(np.array([by_mass], np.float32))[0]]}


@pytest.mark.parametrize(("y0", "outside_g_cm3"), [(-32.0, 1.1), (-24.0, 0.00121)])
def test_a_bolus_lies_on_the_body_and_an_organ_does_not_leave_the_skin(y0, outside_g_cm3):
    """The skin lies at y = −20.5 mm: of the first most is outside it, of the second most is inside."""
    gel = block(-12.0, y0, 12.0, -14.0, "Gel")
    medium, notes, _ = made(
        water_patient(gel), 1.0, couch=None, overrides={"Gel": Override(density_g_cm3=1.1, material="water")}
    )
    column = medium.density_g_cm3[30, :, np.argmin(abs(medium.grid.x_mm))]
    y = medium.grid.y_mm
    assert column[(y > y0 + 1) & (y < -21.5)] == pytest.approx(outside_g_cm3, rel=1e-3)
    assert column[(y > -19.5) & (y < -15)] == pytest.approx(1.1, rel=1e-4)
    assert any("as a bolus does" in text for text in notes.of("done")) is (outside_g_cm3 > 1)


def test_of_two_parts_of_a_voxel_the_heavier_says_the_material_not_the_larger():
    grid = Grid((1, 1, 1), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    for order in (1, -1):
        mixture = Mixture(grid, CURVE)
        for share, density, name in ((0.6, 0.3, "lung-icru"), (0.2, 1.9, "water"))[::order]:
            mixture.add(np.full((1, 1, 1), share, np.float32), density, name)
        medium = mixture.medium()
        assert medium.materials[medium.material[0, 0, 0]] == "water"  # 0.38 g/cm³ of it, and 0.18 of lung
        assert medium.density_g_cm3[0, 0, 0] == pytest.approx(0.18 + 0.38 + 0.2 * 0.00121)


def test_imaged_couch_clothes_and_noise_outside_the_external_are_air():
    medium, notes, structures = made(water_patient(), couch=None)
    outside = structures["External"].occupancy == 0
    np.testing.assert_allclose(medium.density_g_cm3[outside], 0.00121, rtol=1e-5)
    assert {medium.materials[i] for i in np.unique(medium.material[outside])} == {"schneider-01"}
    assert any("outside the external" in text for text in notes.of("done"))
    assert any("no couch" in text for text in notes.of("warning"))


def test_the_couch_touches_the_posterior_skin_layer_by_layer():
    patient = water_patient()
    medium, _, _ = made(patient, 1.0)
    grid = medium.grid
    column = medium.density_g_cm3[10, :, np.argmin(abs(grid.x_mm - 45))]  # beside the body
    y = grid.y_mm
    assert column[(y > 26.5) & (y < 27.1)] == pytest.approx(1.6, rel=1e-5)
    assert column[(y > 29) & (y < 47)] == pytest.approx(0.05, rel=1e-5)
    assert float((column - 0.00121)[y > 20].sum()) == pytest.approx(4 * 1.6 + 20 * 0.05 - 24 * 0.00121, rel=1e-3)
    assert column[y < 25].max() < 0.0013
    # The layers start where the body ends: a voxel that both share holds both.
    below = medium.density_g_cm3[10, :, np.argmin(abs(grid.x_mm))]
    shared = int(np.argmin(abs(y - 26.0)))
    assert below[shared] == pytest.approx(0.25 * 1.018 + 0.75 * 1.6, rel=2e-2)
    width = medium.density_g_cm3[10, np.argmin(abs(y - 40))] > 0.01
    assert grid.x_mm[width].min() == pytest.approx(-49 + 0.5, abs=1)
    assert grid.x_mm[width].max() == pytest.approx(51 - 0.5, abs=1)


def test_a_couch_at_a_given_height_and_one_that_does_not_fit():
    patient = water_patient()
    _, notes, _ = made(patient, couch=dataclasses.replace(COUCH, top_mm=20.0))
    assert any("5.8 mm into the couch" in text for text in notes.of("warning"))
    _, notes, _ = made(patient, couch=dataclasses.replace(COUCH, top_mm=31.0))
    assert any("5.2 mm of air between" in text for text in notes.of("warning"))
    grid = calculation_grid(patient, None, 3.0)
    with pytest.raises(DataError, match="does not fit the grid"):
        medium_of(patient, grid, rasterise(patient.rois, grid), couch=dataclasses.replace(COUCH, width_mm=200))


def test_overrides_take_their_part_of_a_voxel_and_of_its_mass():
    cavity = block(-10.0, -10.0, 10.0, 9.5, "Cavity")
    patient = water_patient(cavity)
    plain, _, _ = made(patient, couch=None)
    medium, notes, structures = made(
        patient, couch=None, overrides={"Cavity": Override(density_g_cm3=0.3, material="lung-icru")}
    )
    z_cm = medium.grid.shape_zyx[0] * 0.3
    # The end slices go on beyond the images with all that is in them.
    assert mass_g(medium) - mass_g(plain) == pytest.approx(2.0 * 1.95 * z_cm * (0.3 - 1.018), rel=2e-3)
    full = structures["Cavity"].occupancy > 0.999
    np.testing.assert_allclose(medium.density_g_cm3[full], 0.3, rtol=1e-4)
    assert {medium.materials[i] for i in np.unique(medium.material[full])} == {"lung-icru"}
    assert any("Cavity" in text and "lung-icru" in text for text in notes.of("done"))


def test_metal_has_no_curve():
    hu = water_patient().image.values.copy()
    hu[:, 40:44, 50:54] = 3071.0
    patient = patient_with(hu)
    with pytest.raises(DataError, match=r"saturated.*override"):
        made(patient)
    medium, notes, _ = made(patient, metal=MetalOverride(density_g_cm3=4.43, material="titanium-alloy"))
    plain, _, _ = made(water_patient())
    z_cm = medium.grid.shape_zyx[0] * 0.3
    assert mass_g(medium) - mass_g(plain) == pytest.approx(0.4 * 0.4 * z_cm * (4.43 - 1.018), rel=1e-3)
    assert "titanium-alloy" in medium.materials
    assert any("128 CT voxels" in text for text in notes.of("warning"))
    # A structure that covers it will do as well.
    covered = patient_with(hu, block(-12, -2, -4, 6, "Rod", "metal"))
    made(covered, overrides={"Rod": Override(density_g_cm3=7.9, material="steel-316l")})


def test_an_image_that_saturates_early_is_noticed():
    hu = water_patient().image.values.copy()
    hu[:, 40:44, 50:54] = 2976.0
    patient = patient_with(hu)
    assert saturation_HU(patient) == 2976.0
    assert saturation_HU(water_patient()) == 3071.0
    metal = metal_in(patient, calculation_grid(patient, None, 3.0))
    assert float(metal.occupancy.sum(dtype=float)) * 0.027 == pytest.approx(0.4 * 0.4 * 2.4, rel=1e-4)
    assert metal.role == "metal"
    assert metal_in(water_patient(), calculation_grid(patient, None, 3.0)) is None


def test_end_slices_are_continued():
    rng = np.random.default_rng(2)
    hu = rng.normal(0, 80, CT.shape_zyx).astype(np.float32)
    medium, _, _ = made(patient_with(hu), couch=None)
    z = medium.grid.z_mm
    first, last = np.flatnonzero(np.isclose(z, 100.0))[0], np.flatnonzero(np.isclose(z, 121.0))[0]
    assert first >= 10
    assert len(z) - 1 - last >= 10
    for beyond, end in ((slice(0, first), first), (slice(last + 1, None), last)):
        stack = medium.density_g_cm3[beyond]
        np.testing.assert_allclose(stack, np.broadcast_to(medium.density_g_cm3[end], stack.shape), atol=1e-6)


@pytest.mark.parametrize("spacing_mm", [3.0, 2.0, 2.5])
def test_the_calculation_grid_keeps_air_and_lies_on_the_ct(spacing_mm):
    grid = calculation_grid(water_patient(), COUCH, spacing_mm)
    lower, upper = np.array(grid.lower_xyz_mm), np.array(grid.upper_xyz_mm)
    assert np.all(lower <= np.array([-49.0, -20.5, 98.5]) - 30 + 1e-9)
    assert np.all(upper >= np.array([51.0, 25.75 + 24, 122.5]) + 30 - 1e-9)
    assert np.all(lower >= np.array([-49.0, -20.5, 98.5]) - 30 - 2 * spacing_mm)
    assert np.all(upper <= np.array([51.0, 25.75 + 24, 122.5]) + 30 + 2 * spacing_mm)
    assert np.any(np.isclose(grid.z_mm, 100.0))


def test_a_body_cut_by_the_field_of_view_is_named():
    hu = np.zeros(CT.shape_zyx, np.float32)
    wide = block(-60.5, -20.0, 20.0, 20.0, "External", "external")
    _, notes, _ = made(Patient("wide", Image(CT, hu), {"External": wide}))
    assert any("field of view (8 slices" in text for text in notes.of("warning"))


def test_what_cannot_be_done_is_refused_at_once():
    patient = water_patient()
    mr = dataclasses.replace(patient, image=Image(CT, patient.image.values, "MR"))
    grid = calculation_grid(patient, None, 3.0)
    with pytest.raises(DataError, match=r"(?s)not CT.*'Hip'.*unobtainium"):
        medium_of(
            mr,
            grid,
            rasterise(patient.rois, grid),
            couch=None,
            overrides={"Hip": Override(density_g_cm3=4.4, material="unobtainium")},
        )
    nobody = dataclasses.replace(patient, rois={})
    with pytest.raises(DataError, match="external"):
        calculation_grid(nobody, None, 3.0)


def test_an_mr_is_planned_on_bands_alone():
    """Whatever the MR's values are: the same densities, mass by mass, and no HU curve."""
    lung = block(-10.0, -10.0, 10.0, 10.0, "Lungs")
    bands = {
        "Lungs": Override(density_g_cm3=0.26, material="lung-icru"),
        "External": Override(density_g_cm3=1.02, material="water"),
    }
    found = []
    for seed in (1, 2):
        values = np.random.default_rng(seed).uniform(0, 4000, CT.shape_zyx).astype(np.float32)
        patient = patient_with(values, lung)
        patient = dataclasses.replace(patient, image=Image(CT, patient.image.values, "MR"))
        medium, notes, structures = made(patient, couch=None, overrides=bands)
        found.append(medium)
        assert not any("HU" in text for text in notes.texts())
    assert np.array_equal(found[0].density_g_cm3, found[1].density_g_cm3)
    body_cc = (
        float(structures["External"].occupancy.sum(dtype=float)) * medium.grid.voxel_cc
    )  # with its continued ends
    lung_cc = body_cc * 20 * 20 / (62.5 * 46.25)  # both end slices are continued, with all that they hold
    air_cc = medium.grid.size * medium.grid.voxel_cc - body_cc
    assert mass_g(medium) == pytest.approx(0.00121 * air_cc + 0.26 * lung_cc + 1.02 * (body_cc - lung_cc), rel=1e-4)


def test_an_mr_whose_bands_leave_the_body_open_is_refused():
    patient = water_patient(block(-10.0, -10.0, 10.0, 10.0, "Lungs"))
    patient = dataclasses.replace(patient, image=Image(CT, patient.image.values, "MR"))
    with pytest.raises(DataError, match="one for the external among them"):
        made(patient, couch=None, overrides={"Lungs": Override(density_g_cm3=0.26, material="lung-icru")})
