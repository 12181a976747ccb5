"""Where photons start, by closed forms in which source, collimator, isocentre and spot all lie apart."""

from __future__ import annotations

import numpy as np
import pytest
from test_transport_run import machine

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.jit import kernel
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Openings
from mrlinac.machine.model import ExtraFocal
from mrlinac.transport import cpu, history, rng, run, source, stack, tables
from mrlinac.transport.source import Emission

COUNT = 4000
SAD, COLLIMATOR = 1200.0, 450.0
SPOT_U, SPOT_V = 0.6, 1.7
SOFTENING = 0.04  # per 100 mm
LOWER = np.array([-300.0, -300.0, -300.0])


def of_machine(**changes):
    """The test machine with other numbers for its photons and electrons."""
    made = machine(electrons=True)
    photons = made.photons.model_copy(
        update={"collimator_mm": COLLIMATOR, "spot_sigma_uv_mm": (SPOT_U, SPOT_V), "softening_per_100mm": SOFTENING}
        | changes
    )
    return made.model_copy(update={"photons": photons, "sad_mm": SAD})


def beamlets(*places, size=(4.0, 10.0), gantry_deg=0.0):
    beam = Beam(gantry_deg, (3.0, -2.0, 5.0), SAD)
    return BeamletMap(beam, np.array(places, np.int32), size)


@kernel
def emit_many(repeats, row, name, beamline, geometry, tally, particles):
    for i in range(repeats):
        rng.start(tally.rng, i, name)
        top = history.emit(row, 1, beamline, geometry, tally)
        particles[i, :, 0] = np.nan
        for n in range(min(top, 2)):
            for column in range(particles.shape[2]):
                particles[i, n, column] = tally.stack[n, column]


def emitted(row, emission, field_xyz_T=(0.0, 0.0, 0.0)):
    """Particles [history, first and second, column] of one source row, in a box of air 600 mm wide."""
    grid = Grid((6, 6, 6), (100.0, 100.0, 100.0), tuple(LOWER + 50))
    medium = Medium(grid, np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8), ("water",))
    geometry, code = cpu.pack(medium, tables.load(medium.materials), field_xyz_T)
    particles = np.zeros((COUNT, 2, stack.PARTICLE))
    tally = cpu.new_tally(code, False)
    emit_many(COUNT, row, rng.words(1, 1, 0, 0, 0), cpu.beamline(emission), geometry, tally, particles)
    return particles


def at_distance(particles, beam, distance_mm):
    """Where lines cross the plane at a distance from the source: u, v (mm), from place and direction of particles."""
    place = particles[:, 0:3] + LOWER - beam.source_xyz_mm()
    u, v, w = (place @ axis for axis in beam.axes_xyz())
    along = particles[:, 3:6]
    du, dv, dw = (along @ axis for axis in beam.axes_xyz())
    steps = (-distance_mm - w) / dw
    return np.stack([u + steps * du, v + steps * dv], axis=1)


def only(energy_MeV, relative=(1.0, 0.4)):
    """One energy, and a fluence that falls by 0.3 in 100 mm."""
    edge = np.array([energy_MeV, energy_MeV * (1 + 1e-9)])
    return Emission.of(edge, np.ones(1), np.array([0.0, 200.0]), np.array(relative))


@pytest.mark.parametrize("gantry_deg", [0.0, 130.0])
def test_a_row_holds_the_beams_own_numbers(gantry_deg):
    made, map_ = of_machine(), beamlets((3, -2), (-1, 4), gantry_deg=gantry_deg)
    emission = only(2.0)
    rows = source.source_rows(Openings.of_beamlets(map_), made, emission, LOWER, True)
    np.testing.assert_allclose(rows[:, :3], np.tile(map_.beam.source_xyz_mm() - LOWER, (2, 1)))
    np.testing.assert_allclose(rows[:, 3:12], np.tile(map_.beam.axes_xyz().ravel(), (2, 1)))
    named = ["SAD", "COLLIMATOR", "SPOT_U", "SPOT_V", "SOFTENING"]
    assert [rows[0, getattr(source, name)] for name in named] == pytest.approx(
        [SAD, COLLIMATOR, SPOT_U, SPOT_V, SOFTENING / 100]
    )
    edges = [source.U0, source.U1, source.V0, source.V1]
    np.testing.assert_allclose(rows[:, edges], [[12, 16, -20, -10], [-4, 0, 40, 50]])
    radius = np.hypot([14, -2], [-15, 45])
    np.testing.assert_allclose(rows[:, source.INVERSE_FLUENCE], 1 / (1 - 0.003 * radius), rtol=2e-4)
    electrons = [source.ELECTRONS, source.ELECTRON_MEAN, source.ELECTRON_MAX, source.ELECTRON_SPREAD]
    np.testing.assert_allclose(rows[0, electrons], [0.05, 1.5, 6.0, 20.0])
    assert not source.source_rows(Openings.of_beamlets(map_), made, emission, LOWER, False)[:, electrons].any()


def test_energies_fall_off_axis_by_the_softening_of_the_isocentres_radius():
    """At 70 to 74 mm by −60 to −50 mm: 3.4 to 3.8 % less than on the axis, never more."""
    emission = only(2.0)
    found = {}
    for name, place in (("axis", (0, 0)), ("off", (17, -6))):
        map_ = beamlets(place, size=(4.0, 10.0) if name == "off" else (1e-6, 1e-6))
        (row,) = source.source_rows(Openings.of_beamlets(map_), of_machine(), emission, LOWER, False)
        particles = emitted(row, emission)[:, 0]
        found[name] = particles[:, 6]
        if name == "off":
            still = of_machine(spot_sigma_uv_mm=(0.0, 0.0))
            (row,) = source.source_rows(Openings.of_beamlets(map_), still, emission, LOWER, False)
            straight = emitted(row, emission)[:, 0]
            aim = at_distance(straight, map_.beam, SAD)
            expected = 2.0 * (1 - SOFTENING * np.hypot(*aim.T) / 100)
            np.testing.assert_allclose(straight[:, 6], expected, rtol=1e-7)
    assert found["axis"] == pytest.approx(2.0, rel=1e-6)
    assert found["off"].min() > 2.0 * (1 - 0.04 * 0.96)
    assert found["off"].max() < 2.0 * (1 - 0.04 * 0.84)


def test_a_spot_is_seen_through_the_collimator_not_through_the_isocentre():
    """All lines cross the collimator inside the beamlet's image there; the spot widens it beyond, by leverage."""
    map_, emission = beamlets((0, 0), size=(40.0, 20.0)), only(1.0)
    (row,) = source.source_rows(Openings.of_beamlets(map_), of_machine(), emission, LOWER, False)
    particles = emitted(row, emission)[:, 0]
    share = COLLIMATOR / SAD
    u, v = at_distance(particles, map_.beam, COLLIMATOR).T
    assert u.min() >= -1e-6
    assert u.max() <= 40 * share + 1e-6
    assert v.min() >= -1e-6
    assert v.max() <= 20 * share + 1e-6
    assert np.ptp(u) > 39.5 * share  # evenly filled
    assert u.mean() == pytest.approx(20 * share, abs=5 * 40 * share / np.sqrt(12 * COUNT))
    start = at_distance(particles, map_.beam, 0.0)
    for axis, sigma in enumerate((SPOT_U, SPOT_V)):
        assert start[:, axis].std() == pytest.approx(sigma, rel=5 / np.sqrt(2 * COUNT))
        assert start[:, axis].mean() == pytest.approx(0, abs=5 * sigma / np.sqrt(COUNT))
    # Similar triangles about the aim: at the isocentre the start is seen turned over, and SAD/collimator − 1 times.
    isocentre = at_distance(particles, map_.beam, SAD)
    aim = at_distance(particles, map_.beam, COLLIMATOR) / share
    np.testing.assert_allclose(isocentre - aim, -start * (SAD / COLLIMATOR - 1), atol=1e-6)
    assert np.corrcoef(start.T)[0, 1] == pytest.approx(0, abs=5 / np.sqrt(COUNT))


def test_weights_are_the_fluence_over_that_of_the_beamlets_middle():
    map_, emission = beamlets((4, 2), size=(20.0, 10.0)), only(1.0)
    (row,) = source.source_rows(
        Openings.of_beamlets(map_), of_machine(spot_sigma_uv_mm=(0.0, 0.0)), emission, LOWER, False
    )
    particles = emitted(row, emission)[:, 0]
    radius = np.hypot(*at_distance(particles, map_.beam, SAD).T)
    weight = (1 - 0.003 * radius) / (1 - 0.003 * np.hypot(90, 25))
    np.testing.assert_allclose(particles[:, 8], weight, rtol=1e-6)
    assert np.ptp(weight) > 0.05


def test_contaminant_electrons_come_from_the_middle_of_the_target_blurred_at_the_isocentre():
    made, emission = of_machine(), only(1.0)
    many = made.electrons.model_copy(update={"per_photon": 1.0, "spread_sigma_mm": 15.0, "max_energy_MeV": 2.0})
    made = made.model_copy(update={"electrons": many})
    map_ = beamlets((5, -3), size=(2.0, 2.0))
    (row,) = source.source_rows(Openings.of_beamlets(map_), made, emission, LOWER, True)
    electrons = emitted(row, emission)[:, 1]
    electrons = electrons[np.isfinite(electrons[:, 0])]
    assert len(electrons) > 0.99 * COUNT
    start, there = (at_distance(electrons, map_.beam, distance) for distance in (0.0, SAD))
    np.testing.assert_allclose(start, 0, atol=1e-5)
    np.testing.assert_allclose(there.mean(0), [11, -5], atol=5 * 15 / np.sqrt(COUNT))
    np.testing.assert_allclose(there.std(0), 15, rtol=5 / np.sqrt(2 * COUNT))
    assert np.corrcoef(there.T)[0, 1] == pytest.approx(0, abs=5 / np.sqrt(COUNT))  # u and v are blurred apart
    # exp(−E/1.5) cut at 2 MeV.
    assert electrons[:, 6].max() <= 2.0
    cut = np.exp(-2 / 1.5)
    mean = 1.5 - 2 * cut / (1 - cut)
    assert electrons[:, 6].mean() == pytest.approx(mean, abs=5 * electrons[:, 6].std() / np.sqrt(len(electrons)))


def contaminated(field_xyz_T):
    """Contaminant electrons of a narrow beamlet on the axis, one per history (NaN where none reaches the box)."""
    made = of_machine()
    many = made.electrons.model_copy(update={"per_photon": 1.0, "spread_sigma_mm": 0.0})
    made = made.model_copy(update={"electrons": many})
    emission = only(1.0)
    (row,) = source.source_rows(
        Openings.of_beamlets(beamlets((0, 0), size=(0.002, 0.002))), made, emission, LOWER, True
    )
    electrons = emitted(row, emission, field_xyz_T)[:, 1]
    electrons[~(np.abs(electrons[:, 3:6]).sum(1) > 0)] = np.nan
    return electrons


@pytest.mark.parametrize("field_T", [0.0005, 0.01, 0.03])
def test_a_field_across_the_beam_bends_the_way_of_contaminant_electrons_through_the_air(field_T):
    """From the collimator (y = −752 mm) to the box (y = −300 mm) on a circle of radius p/(0.2998 B), towards −x."""
    straight, bent = contaminated((0.0, 0.0, 0.0)), contaminated((0.0, 0.0, field_T))
    assert np.isfinite(straight).all()
    kinetic, way = straight[:, 6], 1202.0 - COLLIMATOR - 300.0
    radius = np.sqrt(kinetic * (kinetic + 2 * 0.51099895)) / (0.299792458 * field_T)
    aside = radius - np.sqrt(np.maximum(radius**2 - way**2, 0))
    reaches = (radius > way) & (aside < 303.0)
    near_the_limit = np.abs(aside - 303.0) < 5.0
    assert np.array_equal(np.isfinite(bent[:, 0])[~near_the_limit], reaches[~near_the_limit])
    hit = reaches & ~near_the_limit
    assert hit.sum() > 100
    np.testing.assert_allclose(straight[hit, 0] - bent[hit, 0], aside[hit], atol=0.02 * way * 0.05 + 0.5)
    np.testing.assert_allclose(bent[hit, 3], straight[hit, 3] - way / radius[hit], atol=0.06)
    np.testing.assert_allclose(bent[hit, 6], kinetic[hit])


def test_a_vanishing_field_leaves_the_contaminant_electrons_as_they_are():
    np.testing.assert_allclose(contaminated((0.0, 0.0, 1e-12)), contaminated((0.0, 0.0, 0.0)), atol=1e-5)


@pytest.mark.parametrize("field_T", [0.05, 0.35, 1.5])
def test_no_contaminant_electron_crosses_a_strong_transverse_field(field_T):
    """Those of 6 MeV, the largest energy, turn on a radius of 432 mm at 0.05 T; the box is 452 mm away."""
    assert np.isnan(contaminated((0.0, 0.0, field_T))).all()


@pytest.mark.parametrize("field_T", [0.35, 1.5])
def test_a_field_along_the_beam_keeps_contaminant_electrons(field_T):
    straight, along = contaminated((0.0, 0.0, 0.0)), contaminated((0.0, field_T, 0.0))
    np.testing.assert_allclose(along[:, :6], straight[:, :6], atol=0.01)


def test_photons_per_MU_follow_area_calibration_and_fluence():
    made = of_machine()
    emission = Emission.of_machine(made)  # 1 on the axis, 0.7 at 200 mm
    maps = (beamlets((0, 0), (9, 3), size=(4.0, 10.0)), beamlets((1, 1), size=(3.0, 5.0)))
    radius = np.hypot([2, 38, 4.5], [5, 35, 7.5])
    expected = np.array([40.0, 40.0, 15.0]) * 1e6 * (1 - 0.0015 * radius)
    np.testing.assert_allclose(
        run.photons_of([Openings.of_beamlets(m) for m in maps], made, emission), expected, rtol=2e-4
    )


@pytest.mark.parametrize(
    ("start", "along", "distance"),
    [
        ((-10, 5, 5), (1, 0, 0), 10.0),
        ((-10, 5, 5), (-1, 0, 0), -1.0),  # it lies behind
        ((30, 5, 5), (-1, 0, 0), 10.0),
        ((5, 5, 5), (0, 0, 1), 0.0),  # from inside
        ((5, -8, 5), (0, 1, 0), 8.0),
        ((5, 5, 60), (0, 0, -1), 20.0),
        ((5, 41, 5), (0, 0, 1), -1.0),  # beside it
        ((-6, -8, 5), (0.6, 0.8, 0), 10.0),
        ((-6, -9, 5), (0.6, 0.8, 0), 11.25),
    ],
)
def test_where_a_line_enters_a_box(start, along, distance):
    """A box of 20 × 30 × 40 mm."""
    size = np.array([20.0, 30.0, 40.0])
    assert source.enter.py_func(*map(float, start), *map(float, along), size) == pytest.approx(distance)


EXTRA = {"share": 0.3, "decay_mm": 12.0, "distance_mm": 130.0, "source": "test"}


def test_extra_focal_photons_start_from_their_plane_and_pass_the_same_collimator():
    """A share of 0.3, falling over 12 mm, 130 mm below the target; the rest from a point."""
    map_, emission = beamlets((0, 0), size=(40.0, 20.0)), only(1.0, relative=(1.0, 1.0))
    extra = ExtraFocal.model_validate(EXTRA)
    made = of_machine(spot_sigma_uv_mm=(0.0, 0.0), extra_focal=extra)
    (row,) = source.source_rows(Openings.of_beamlets(map_), made, emission, LOWER, False)
    particles = emitted(row, emission)[:, 0]
    entered = np.isfinite(particles[:, 0]) & (np.abs(particles[:, 3:6]).sum(1) > 0)
    assert entered.mean() > 0.98
    u, v = at_distance(particles[entered], map_.beam, COLLIMATOR).T
    assert np.abs(u / (40 * COLLIMATOR / SAD) - 0.5).max() <= 0.5 + 1e-6
    assert np.abs(v / (20 * COLLIMATOR / SAD) - 0.5).max() <= 0.5 + 1e-6
    scattered = np.hypot(*at_distance(particles[entered], map_.beam, 0.0).T) > 1e-5
    count = scattered.sum()
    assert count == pytest.approx(0.3 * COUNT, abs=5 * np.sqrt(0.3 * 0.7 * COUNT) + (~entered).sum())
    start = at_distance(particles[entered][scattered], map_.beam, 130.0)
    # Of a density exp(-r/decay): variance 3 decay² along each axis, kurtosis 5, mean radius 2 decay.
    assert start.std(0) == pytest.approx([12 * np.sqrt(3)] * 2, rel=5 / np.sqrt(count))
    assert start.mean(0) == pytest.approx([0.0, 0.0], abs=5 * 12 * np.sqrt(3 / count))
    assert np.hypot(*start.T).mean() == pytest.approx(24.0, abs=5 * 12 * np.sqrt(2 / count))
    # The start does not depend on the place in the opening.
    assert np.corrcoef(start[:, 0], u[scattered])[0, 1] == pytest.approx(0, abs=5 / np.sqrt(count))


def test_a_share_of_nothing_draws_no_random_number():
    map_, emission = beamlets((0, 0), size=(40.0, 20.0)), only(1.0)
    rows = [
        source.source_rows(Openings.of_beamlets(map_), of_machine(**changes), emission, LOWER, True)[0]
        for changes in ({}, {"extra_focal": ExtraFocal.model_validate(EXTRA | {"share": 0.0})})
    ]
    assert not np.array_equal(*rows)
    plain, none = (emitted(row, emission) for row in rows)
    np.testing.assert_array_equal(plain, none)


def test_output_in_air_is_the_photons_that_cross_the_axis():
    """Against a count of lines that cross the isocentre plane within 6 mm of the axis, 60 × 100 mm opened."""
    made = of_machine(extra_focal=ExtraFocal.model_validate(EXTRA | {"share": 0.9}))
    random = np.random.default_rng(5)
    size, lines = np.array([60.0, 100.0]), 2_000_000
    edge = (random.random((lines, 2)) - 0.5) * size * COLLIMATOR / SAD
    angle, radius = random.uniform(0, 2 * np.pi, lines), random.gamma(2.0, 12.0, lines)
    start = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    there = start + (edge - start) * (SAD - 130.0) / (COLLIMATOR - 130.0)
    crossed = (np.abs(there) < 6.0).all(1).sum()
    per_mm2 = crossed / lines * 60 * 100 / 12.0**2
    value = made.in_air((60.0, 100.0))
    assert (value - 0.1) / 0.9 == pytest.approx(per_mm2, rel=4 / np.sqrt(crossed) + 0.002)
    assert of_machine().in_air((60.0, 100.0)) == 1.0
    # Photons per MU of an opening count for the calibration's field, 10 × 10.
    emission = Emission.of_machine(made)
    openings = [Openings.of_beamlets(beamlets((0, 0), size=(4.0, 10.0)))]
    ratio = run.photons_of(openings, of_machine(), emission) / run.photons_of(openings, made, emission)
    assert ratio == pytest.approx([made.in_air((100.0, 100.0))])
