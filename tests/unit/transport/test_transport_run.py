"""Dose and influence on a small water box: reproducibility, agreement, bookkeeping."""

from __future__ import annotations

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.errors import PhysicsError, SpecError
from mrlinac.machine import model
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Fluence, Openings
from mrlinac.transport import columns, cpu, run, simulate, source, tables
from mrlinac.transport.source import Emission

FIELD = (0.0, 0.0, 1.5)


def machine(electrons: bool = False) -> model.Machine:
    """A small machine with a made-up spectrum."""
    return model.Machine.model_validate(
        {
            "name": "test",
            "title": "test",
            "sad_mm": 1000.0,
            "field_iec_T": (0, 1.5, 0),
            "field_source": "test",
            "photons": {
                "spectrum": {"edge_MeV": [0.2, 1.0, 3.0, 6.0], "weight": [0.3, 0.5, 0.2], "source": "test"},
                "fluence": {"radius_mm": [0, 200], "relative": [1.0, 0.7], "source": "test"},
                "spot_sigma_uv_mm": (1.0, 1.0),
                "collimator_mm": 400.0,
                "softening_per_100mm": 0.03,
                "source": "test",
            },
            "electrons": {
                "per_photon": 0.05,
                "mean_energy_MeV": 1.5,
                "max_energy_MeV": 6.0,
                "spread_sigma_mm": 20.0,
                "source": "test",
            }
            if electrons
            else None,
            "mlc": {
                "pairs": 40,
                "leaf_width_mm": 10,
                "travel": "u",
                "half_field_uv_mm": (200, 200),
                "min_gap_mm": 5.0,
                "interdigitation": True,
                "transmission": 0.0,
                "source": "test",
            },
            "couch": {"width_mm": 500, "layers": []},
            "isocentre": {"rule": "ctv-centroid", "source": "test"},
            "calibration": {
                "dose_per_MU_Gy": 0.01,
                "field_mm": (100, 100),
                "ssd_mm": 900,
                "depth_mm": 100,
                "with_field": True,
                "photons_per_MU_per_mm2": 1e6,
                "photons_rel_sigma": 0.0,
                "made_by": "test",
                "source": "test",
            },
        }
    )


@pytest.fixture(scope="module")
def medium() -> Medium:
    grid = Grid((20, 24, 24), (5.0, 5.0, 5.0), (-57.5, -57.5, -47.5))
    density = np.full(grid.shape_zyx, 1.0, np.float32)
    material = np.zeros(grid.shape_zyx, np.uint8)
    density[:, :5], material[:, :5] = 0.0012, 1
    density[:, 12:16], material[:, 12:16] = 0.26, 2
    return Medium(grid, density, material, ("water", "air-dry", "lung-icru"))


@pytest.fixture(scope="module")
def maps() -> tuple[BeamletMap, ...]:
    lattice = np.array([(i, j) for i in range(-2, 2) for j in range(-2, 2)], np.int32)
    return tuple(BeamletMap(Beam(g, (0.0, 0.0, 0.0), 1000.0), lattice, (5.0, 10.0)) for g in (0.0, 90.0))


def test_dose_is_the_same_for_any_number_of_threads(medium, maps):
    fluence = Fluence(maps, tuple(np.linspace(0, 2, len(m)) for m in maps))
    one, two = (
        run.dose(medium, fluence, machine(), field_xyz_T=FIELD, photons=20_000, threads=n, batches=12) for n in (1, 2)
    )
    assert np.array_equal(one.dose_Gy, two.dose_Gy)
    assert np.array_equal(one.rel_sigma, two.rel_sigma)
    assert one.provenance.fingerprint == two.provenance.fingerprint


def test_a_subset_of_beamlets_has_the_same_columns(medium, maps):
    both = run.influence(medium, maps, machine(), field_xyz_T=FIELD, photons_per_beamlet=300, threads=2)
    some = BeamletMap(maps[1].beam, maps[1].lattice_uv[5:9], maps[1].size_uv_mm)
    few = run.influence(medium, [some], machine(), field_xyz_T=FIELD, photons_per_beamlet=300, threads=1)
    columns = both.matrix[:, len(maps[0]) + 5 : len(maps[0]) + 9]
    assert few.matrix.nnz > 0
    assert (columns != few.matrix).nnz == 0


def test_score_keeps_rows_and_changes_nothing_else(medium, maps):
    score = np.zeros(medium.grid.shape_zyx, bool)
    score[5:12, 8:20, 6:18] = True
    whole = run.influence(medium, maps[:1], machine(), field_xyz_T=FIELD, photons_per_beamlet=300)
    part = run.influence(medium, maps[:1], machine(), field_xyz_T=FIELD, photons_per_beamlet=300, score=score)
    dense = whole.matrix.toarray()
    dense[~score.reshape(-1)] = 0
    assert np.array_equal(dense, part.matrix.toarray())


@pytest.mark.parametrize("keep_above", [0.0, 0.02])
@pytest.mark.parametrize("field", [FIELD, (0.0, 0.0, 0.0)])
def test_influence_times_mu_is_the_dose(medium, maps, keep_above, field):
    mu = tuple(np.linspace(0.5, 1.5, len(m)) for m in maps)
    matrix = run.influence(
        medium, maps, machine(True), field_xyz_T=field, photons_per_beamlet=10_000, keep_above=keep_above
    )
    forward = run.dose(medium, Fluence(maps, mu), machine(True), field_xyz_T=field, photons=320_000)
    other = matrix.dose_Gy(np.concatenate(mu))
    # Places are chosen by geometry: a choice by one of the two doses would prefer its upward fluctuations.
    # Each total has a standard deviation of some 0.6 % here: 320 000 photons, half of which interact.
    energy = forward.dose_Gy.astype(float) * medium.density_g_cm3
    same = other.astype(float) * medium.density_g_cm3
    assert same.sum() == pytest.approx(energy.sum(), rel=0.025)
    axis = np.s_[6:14, 5:12, 8:16]
    assert same[axis].sum() == pytest.approx(energy[axis].sum(), rel=0.03)
    outside = energy.sum() - energy[axis].sum(), same.sum() - same[axis].sum()
    assert outside[1] == pytest.approx(outside[0], rel=0.03)


def test_contaminant_electrons_reach_the_skin_as_the_transverse_field_lets_them(medium, maps):
    fluence = Fluence(maps[:1], (np.ones(len(maps[0])),))
    skin = np.s_[5:15, 5, 8:16]

    def skin_dose(field_T: float, contaminated: bool) -> float:
        dose = run.dose(medium, fluence, machine(contaminated), field_xyz_T=(0.0, 0.0, field_T), photons=80_000)
        return float(dose.dose_Gy[skin].mean())

    none, clean = skin_dose(0.0, True), skin_dose(0.0, False)
    assert none > 1.05 * clean
    assert skin_dose(1e-12, True) == pytest.approx(none, rel=1e-4)
    assert 1.02 * clean < skin_dose(0.001, True) < 0.98 * none
    # Each has a standard deviation of 2.5 % here; the electrons of the field-free beam add a multiple of it.
    assert skin_dose(1.5, True) == pytest.approx(skin_dose(1.5, False), rel=0.08)


def with_spectrum(edge_MeV, weight) -> model.Machine:
    made = machine()
    spectrum = made.photons.spectrum.model_copy(update={"edge_MeV": edge_MeV, "weight": weight})
    return made.model_copy(update={"photons": made.photons.model_copy(update={"spectrum": spectrum})})


def test_photons_below_the_cut_are_refused_and_a_bin_across_it_is_stated(medium, maps):
    fluence = Fluence(maps[:1], (np.ones(len(maps[0])),))
    kilovolt = with_spectrum((0.01, 0.05, 3.0), (0.2, 0.8))
    (problem,) = run.machine_problems(kilovolt)
    assert "machine test, photons" in problem
    assert "0.05 MeV" in problem
    for make in (
        lambda: run.dose(medium, fluence, kilovolt, field_xyz_T=FIELD, photons=1000),
        lambda: run.influence(medium, maps[:1], kilovolt, field_xyz_T=FIELD, photons_per_beamlet=10),
    ):
        with pytest.raises(SpecError, match="photon cut"):
            make()
    finer = tables.Settings(photon_cut_MeV=0.02)
    assert run.machine_problems(with_spectrum((0.02, 0.05, 3.0), (0.2, 0.8)), finer) == ()
    assert run.machine_problems(with_spectrum((0.01, 0.05, 3.0), (0.0, 0.8))) == ()  # an empty bin is none

    across = with_spectrum((0.01, 0.09, 0.11), (0.5, 0.5))
    share = (0.05**2 - 0.01**2) / 0.08 / ((0.09**2 - 0.01**2) / 0.08 + (0.11**2 - 0.09**2) / 0.02)
    emission = Emission.of_machine(across)
    assert emission.energy_below(0.05) == pytest.approx(share, rel=1e-6)
    np.testing.assert_allclose(emission.weight, [0.5, 0.5])
    notes = run.dose(medium, fluence, across, field_xyz_T=FIELD, photons=1000).provenance.notes
    assert any(f"{100 * share:.2g} % of the photons' energy lies below" in note for note in notes)
    assert not run.dose(medium, fluence, machine(), field_xyz_T=FIELD, photons=1000).provenance.notes


def test_electrons_below_the_cut_are_refused():
    made = machine(True)
    slow = made.model_copy(update={"electrons": made.electrons.model_copy(update={"max_energy_MeV": 0.2})})
    (problem,) = run.machine_problems(slow)
    assert "electrons: max_energy_MeV = 0.2" in problem
    assert run.machine_problems(made) == ()


@pytest.mark.parametrize(("field", "said"), [((0.0, 3.0, 0.0), False), ((0.0, 2.5, -2.0), True), ((7.0, 0, 0), True)])
def test_a_field_beyond_those_validated_is_stated(medium, maps, field, said):
    fluence = Fluence(maps[:1], (np.ones(len(maps[0])),))
    dose = run.dose(medium, fluence, machine(), field_xyz_T=field, photons=1000)
    matrix = run.influence(medium, maps[:1], machine(), field_xyz_T=field, photons_per_beamlet=10)
    for result in (dose, matrix):
        assert any("validated from 0 to 3 T" in note for note in result.provenance.notes) == said


def test_energy_that_enters_is_deposited_or_leaves(medium, maps):
    emission = Emission.of_machine(machine())
    rows = source.source_rows(
        Openings.of_beamlets(maps[0]), machine(), emission, np.array(medium.grid.lower_xyz_mm), False
    )
    for field in ((0.0, 0.0, 0.0), (0.3, -0.8, 2.0)):
        out = simulate.simulate(medium, rows, np.ones(len(rows)), emission, field_xyz_T=field, photons=20_000)
        assert out.truncated == 0
        assert out.overflow == 0
        assert out.energy_MeV.sum() + out.escaped_MeV + out.played_MeV == pytest.approx(out.emitted_MeV, rel=2e-6)
        assert abs(out.played_MeV) < 0.01 * out.emitted_MeV


def test_stops_at_a_batch_end_when_good_enough(medium, maps):
    fluence = Fluence(maps, tuple(np.ones(len(m)) for m in maps))
    result = run.dose(
        medium, fluence, machine(), field_xyz_T=FIELD, photons=400_000, target_rel_sigma=0.12, batches=40
    )
    done = result.provenance.histories
    assert done % 10_000 == 0
    assert 100_000 <= done < 400_000
    again = run.dose(medium, fluence, machine(), field_xyz_T=FIELD, photons=done, batches=done // 10_000)
    assert np.array_equal(again.dose_Gy, result.dose_Gy)


def test_errors_name_the_remedy(medium, maps):
    fluence = Fluence(maps, tuple(np.zeros(len(m)) for m in maps))
    with pytest.raises(PhysicsError, match="photons= or target_rel_sigma="):
        run.dose(medium, fluence, machine(), field_xyz_T=FIELD)
    with pytest.raises(PhysicsError, match="nothing to transport"):
        run.dose(medium, fluence, machine(), field_xyz_T=FIELD, photons=1000)
    even = Fluence(maps, tuple(np.ones(len(m)) for m in maps))
    with pytest.raises(PhysicsError, match="three finite numbers"):
        run.dose(medium, even, machine(), field_xyz_T=(0.0, np.nan, 0.0), photons=1000)
    with pytest.raises(PhysicsError, match="photon_cut_MeV"):
        tables.Settings(photon_cut_MeV=0.001)


def test_cancelled_between_batches(medium, maps):
    fluence = Fluence(maps, tuple(np.ones(len(m)) for m in maps))
    with pytest.raises(KeyboardInterrupt):
        run.dose(medium, fluence, machine(), field_xyz_T=FIELD, photons=20_000, cancelled=lambda: True)


def test_estimate_is_of_the_right_order(medium, maps):
    guess = run.estimate(medium, maps, photons_per_beamlet=2000, threads=1)
    real = run.influence(medium, maps, machine(), field_xyz_T=FIELD, photons_per_beamlet=2000)
    assert guess["beamlets"] == 32
    assert guess["photons"] == 64_000
    assert real.matrix.nnz < guess["entries"] < 12 * real.matrix.nnz  # the box is small: most energy leaves it
    assert guess["bytes"] > real.matrix.data.nbytes + real.matrix.indices.nbytes


@pytest.mark.parametrize("field", [(0.0, 0.0, 0.0), FIELD])
def test_roulette_and_early_ends_leave_the_dose_as_it_is(medium, maps, field):
    emission = Emission.of_machine(machine())
    rows = source.source_rows(
        Openings.of_beamlets(maps[0]), machine(), emission, np.array(medium.grid.lower_xyz_mm), False
    )
    plain = tables.Settings(roulette_weight=1.0, rest_voxels=0.0)
    doses, sigmas = [], []
    for settings in (plain, tables.Settings()):
        out = simulate.simulate(
            medium, rows, np.ones(len(rows)), emission, field_xyz_T=field, photons=300_000, settings=settings,
            reduce=lambda energy: energy.reshape(4, 5, 24, -1).sum((1, 3)),
        )  # fmt: skip
        assert out.batch_MeV is not None
        doses.append(out.batch_MeV.mean(0))
        sigmas.append(out.batch_MeV.std(0, ddof=1) / np.sqrt(len(out.batch_MeV)))
    high = doses[0] > 0.05 * doses[0].max()
    pull = ((doses[1] - doses[0]) / np.hypot(*sigmas))[high]
    assert np.mean(pull**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / high.sum()) + 0.15)
    assert out.played_MeV != 0


def test_dense_box_shortens_flights_and_leaves_the_dose(maps):
    """Two rods of titanium in water: fewer flights, the same dose within its noise."""
    grid = Grid((30, 30, 30), (5.0,) * 3, (-72.5,) * 3)
    density, material = np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8)
    density[5:25, 18:20, 12], density[5:25, 18:20, 17] = 4.43, 4.43
    material[density > 4] = 1
    rods = Medium(grid, density, material, ("water", "titanium-alloy"))
    box, mask = cpu.dense_box(rods.density_g_cm3)
    assert box.tolist() == [[12, 18, 5], [18, 20, 25]]
    assert mask.sum() == 6 * 2 * 20
    emission = Emission.of_machine(machine())
    rows = source.source_rows(Openings.of_beamlets(maps[0]), machine(), emission, np.array(grid.lower_xyz_mm), False)

    def outcome():
        return simulate.simulate(
            rods, rows, np.ones(len(rows)), emission, field_xyz_T=FIELD, photons=200_000,
            reduce=lambda energy: energy.sum((0, 2)),
        )  # fmt: skip

    boxed = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "dense_box", lambda density: (np.zeros((2, 3), np.int64), np.zeros(density.shape, bool)))
        plain = outcome()
    assert boxed.flights < 0.6 * plain.flights
    batches = [out.batch_MeV for out in (boxed, plain)]
    mean = [b.mean(0) for b in batches]
    sigma = np.hypot(*(b.std(0, ddof=1) / np.sqrt(len(b)) for b in batches))
    pull = (mean[1] - mean[0]) / sigma
    assert np.mean(pull**2) < 2.0
    assert boxed.energy_MeV.sum() == pytest.approx(plain.energy_MeV.sum(), rel=0.01)


def test_no_box_where_nothing_stands_out():
    box, mask = cpu.dense_box(np.ones((4, 4, 4), np.float32))
    assert not mask.any()
    assert (box == 0).all()


def test_columns_are_freed_as_they_are_copied():
    """A slice of nothing would keep the whole column alive."""
    index = [np.arange(5, dtype=np.int32), np.arange(3, dtype=np.int32)]
    value = [np.ones(5, np.float32), np.ones(3, np.float32)]
    matrix = columns._assembled(index, value, 10)
    assert matrix.shape == (10, 2)
    assert matrix.nnz == 8
    assert all(a.size == 0 and a.base is None for a in (*index, *value))


def test_energies_beyond_the_tables_are_refused():
    edge = np.array([0.0, 8.0, 16.0])
    with pytest.raises(PhysicsError, match="16 MeV"):
        Emission.of(edge, np.ones(2), np.array([0.0, 100.0]), np.ones(2))
    assert Emission.of(0.9 * edge, np.ones(2), np.array([0.0, 100.0]), np.ones(2)).edge_MeV[-1] == 14.4


@pytest.mark.parametrize(
    "wrong", [{"rest_voxels": -1.0}, {"max_q1": 1.0}, {"roulette_MeV": -1.0}, {"max_turn_rad": 2.0}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(PhysicsError):
        tables.Settings(**wrong)
