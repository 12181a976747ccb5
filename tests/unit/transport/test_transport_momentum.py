"""What flies apart after a collision: directions of both, with the momentum of the first."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.transport import cpu, flight, rng, settle, stack, steps, tables, voxels

REST_MeV = 0.51099895
ALONG = np.array([2.0, -1.0, 2.0]) / 3.0


def momentum(kinetic: float) -> float:
    return math.sqrt(kinetic * (kinetic + 2 * REST_MeV))


class Recorder:
    """The directions that ``turn`` gives, in order, in the module's own functions run by the interpreter."""

    def __init__(self, module, monkeypatch) -> None:
        self.turns: list[tuple[tuple[float, float, float], float, np.ndarray]] = []
        turn = module.turn

        def recording(u, v, w, cos, c, s):
            result = turn(u, v, w, cos, c, s)
            self.turns.append(((u, v, w), cos, np.array(result)))
            return result

        monkeypatch.setattr(module, "turn", recording)


def scene(settings: tables.Settings):
    grid = Grid((20, 20, 20), (50.0,) * 3, (0.0, 0.0, 0.0))
    medium = Medium(grid, np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8), ("water",))
    table = tables.load(medium.materials, settings)
    geometry, code = cpu.pack(medium, table, (0.0, 0.0, 0.0))
    return table, geometry, cpu.new_tally(code, False)


def test_a_compton_electron_flies_on_the_other_side_of_the_photon(monkeypatch):
    """Free kinematics, each scattering by itself: what the photon loses in momentum the electron has."""
    table, geometry, tally = scene(tables.Settings(coherent=False, binding=False, electron_cut_MeV=0.016))
    pushed: list[tuple[np.ndarray, float]] = []

    def push(tally, top, x, y, z, u, v, w, energy, kind, weight):
        if kind == stack.ELECTRON:
            pushed.append((np.array([u, v, w]), energy))
        return top

    monkeypatch.setattr(flight, "push", push)
    recorder = Recorder(flight, monkeypatch)
    checked = 0
    for number in range(40):
        rng.start(tally.rng, number, rng.words(1, 1, 0, 0, 0))
        recorder.turns.clear()
        pushed.clear()
        tally.stack[0, :10] = [500.0, 500.0, 500.0, *ALONG, 2.0, stack.PHOTON, 1.0, 0.0]
        flight.photon.py_func(0, table, geometry, tally)
        if not pushed or len(recorder.turns) < 2:
            continue
        (before, _, electron), (_, _, photon) = recorder.turns[:2]
        direction, kinetic = pushed[0]
        if not np.array_equal(direction, electron):  # a pair came first
            continue
        left = 2.0 - kinetic
        np.testing.assert_allclose(before, ALONG)
        np.testing.assert_allclose(left * photon + momentum(kinetic) * electron, 2.0 * ALONG, atol=1e-6)
        checked += 1
    assert checked > 20


def test_both_electrons_of_a_hard_collision_share_the_momentum(monkeypatch):
    """Møller: the struck electron flies on the other side of the first, p₀ = p₁ + p₂."""
    table, geometry, tally = scene(tables.Settings())
    pushed: list[tuple[np.ndarray, float]] = []

    def push(tally, top, x, y, z, u, v, w, energy, kind, weight):
        pushed.append((np.array([u, v, w]), energy))
        return top

    monkeypatch.setattr(steps, "push", push)
    recorder = Recorder(steps, monkeypatch)
    checked = 0
    for number in range(60):
        rng.start(tally.rng, number, rng.words(2, 1, 0, 0, 0))
        recorder.turns.clear()
        pushed.clear()
        tally.stack[0, :10] = [500.0, 500.0, 500.0, *ALONG, 6.0, stack.ELECTRON, 1.0, 0.0]
        steps.charged.py_func(0, table, geometry, tally)
        for direction, given in pushed:
            at = next(i for i, (_, _, d) in enumerate(recorder.turns) if np.array_equal(d, direction))
            (before, cos, slow), (same, _, fast) = recorder.turns[at : at + 2]
            np.testing.assert_allclose(before, same)
            # The energy before follows from the angle of the slower one; the balance must then hold as vectors.
            ratio = given * 2 * REST_MeV / (cos**2 * (given + 2 * REST_MeV) - given)
            p0, p2 = momentum(ratio), momentum(given)
            p1 = momentum(ratio - given)
            np.testing.assert_allclose(p1 * fast + p2 * slow, p0 * np.array(before), atol=1e-4 * p0)
            checked += 1
    assert checked > 20


def test_photons_of_an_annihilation_in_flight_carry_the_positrons_momentum(monkeypatch):
    table, _, tally = scene(tables.Settings())
    made: list[np.ndarray] = []

    def radiate(tally, top, x, y, z, u, v, w, energy, weight, table):
        made.append(energy * np.array([u, v, w]))
        return top

    monkeypatch.setattr(steps, "radiate", radiate)
    for number, kinetic in enumerate([0.01, 0.4, 3.0] * 5):
        rng.start(tally.rng, number, rng.words(3, 1, 0, 0, 0))
        made.clear()
        steps.annihilate.py_func(0, 1.0, 1.0, 1.0, *ALONG, kinetic, 1.0, table, tally)
        np.testing.assert_allclose(made[0] + made[1], momentum(kinetic) * ALONG, atol=1e-9)


def test_photons_of_an_annihilation_at_rest_fly_apart_with_an_electrons_rest_energy_each(monkeypatch):
    table, _, tally = scene(tables.Settings())
    made: list[tuple[float, np.ndarray]] = []
    monkeypatch.setattr(
        steps, "radiate", lambda tally, top, x, y, z, u, v, w, energy, *_: made.append((energy, np.array([u, v, w])))
    )
    rng.start(tally.rng, 1, rng.words(6, 1, 0, 0, 0))
    steps.rest_annihilation.py_func(0, 1.0, 1.0, 1.0, False, 1.0, table, tally)
    assert not made  # an electron does not annihilate
    steps.rest_annihilation.py_func(0, 1.0, 1.0, 1.0, True, 1.0, table, tally)
    (first, there), (second, back) = made
    assert first == second == pytest.approx(REST_MeV)
    np.testing.assert_allclose(there, -back)
    assert np.linalg.norm(there) == pytest.approx(1)


@pytest.mark.parametrize(("kind", "towards_x"), [(stack.ELECTRON, 1), (stack.POSITRON, -1)])
def test_a_field_turns_positrons_to_the_other_side(monkeypatch, kind, towards_x):
    """Along +z in a field along +y an electron turns towards +x (``electron.rotate`` has a test of its own)."""
    table, _, tally = scene(tables.Settings())
    grid = Grid((20, 20, 20), (50.0,) * 3, (0.0, 0.0, 0.0))
    medium = Medium(grid, np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8), ("water",))
    geometry, _ = cpu.pack(medium, table, (0.0, 1.5, 0.0))
    turned, rotate = [], steps.el.rotate

    def recording(*given):
        turned.append((given[0], rotate(*given)[0]))
        return rotate(*given)

    monkeypatch.setattr(steps.el, "rotate", recording)
    rng.start(tally.rng, 1, rng.words(7, 1, 0, 0, 0))
    tally.stack[0, :10] = [500.0, 500.0, 500.0, 0.0, 0.0, 1.0, 3.0, kind, 1.0, 0.0]
    steps.charged.py_func(0, table, geometry, tally)
    before, after = turned[0]
    assert (after - before) * towards_x > 0


HEAVY = "heavy{1.0 g/cm3;I 727.0 eV;W:1.0}"


def of_two_materials(shape, spacing_mm, material, settings=None):
    """Water and tungsten, both of water's density, so that nothing is fine: tables, geometry, tally."""
    grid, names = Grid(shape, spacing_mm, (0.0, 0.0, 0.0)), ("water", HEAVY)
    inside = np.broadcast_to(np.asarray(material, np.uint8).reshape(-1, 1, 1), shape)
    table = tables.load(names, settings or tables.Settings())
    geometry, code = cpu.pack(Medium(grid, np.ones(shape, np.float32), inside, names), table, (0.0, 0.0, 0.0))
    return table, geometry, cpu.new_tally(code, False)


@pytest.mark.parametrize("material", [0, 1])
def test_a_pair_shares_the_photons_energy_in_the_nucleus_it_meets_and_flies_forward(monkeypatch, material):
    """At 5 MeV with 30 % for the electron; each angle is that of its own speed about the photon's direction."""
    table, geometry, tally = of_two_materials((2, 2, 2), (50.0,) * 3, [material] * 2)
    found, charges = [], []

    def push(tally, top, x, y, z, u, v, w, energy, kind, weight):
        found.append((kind, energy, np.array([u, v, w]) @ ALONG))
        return top + 1

    monkeypatch.setattr(flight, "push", push)
    monkeypatch.setattr(flight, "uniform", lambda rng: 0.9)
    monkeypatch.setattr(flight.ph, "pair_fraction", lambda energy, z, rng: charges.append(z) or 0.3)
    index = voxels.voxel_at.py_func(50.0, 50.0, 50.0, geometry)
    code = stack.code_at.py_func(tally, index)
    flight.pair.py_func(0, 50.0, 50.0, 50.0, *ALONG, 5.0, index, code, 1.0, table, tally)
    shared = 5.0 - 2 * REST_MeV
    assert [(kind, energy) for kind, energy, _ in found] == [
        (stack.ELECTRON, pytest.approx(0.3 * shared)), (stack.POSITRON, pytest.approx(0.7 * shared))
    ]  # fmt: skip
    for _, energy, cos in found:
        beta = momentum(energy) / (energy + REST_MeV)
        assert cos == pytest.approx((beta + 0.8) / (1 + 0.8 * beta))
    assert charges == [pytest.approx(7.5 if material == 0 else 74, rel=0.05)]


@pytest.mark.parametrize("material", [0, 1])
def test_a_photon_scatters_on_the_atoms_of_the_material_it_is_in(monkeypatch, material):
    table, geometry, tally = of_two_materials(
        (20, 2, 2), (50.0,) * 3, [material] * 20, tables.Settings(photon_cut_MeV=0.05)
    )
    forms, bindings = [], []
    monkeypatch.setattr(flight, "coherent_cos", lambda energy, form, rng: forms.append(form) or 0.5)
    monkeypatch.setattr(flight, "bound_compton", lambda energy, cos, m, table, rng: bindings.append(m) or True)
    monkeypatch.setattr(flight, "push", lambda tally, top, *_: top)
    for number in range(60):
        rng.start(tally.rng, number, rng.words(5, 1, 0, 0, 0))
        tally.stack[0, :10] = [50.0, 50.0, 1.0, 0.0, 0.0, 1.0, 0.15, stack.PHOTON, 1.0, 0.0]
        flight.photon.py_func(0, table, geometry, tally)
    assert forms
    assert all(np.array_equal(form, table.form[material]) for form in forms)
    assert not np.array_equal(*table.form[:2])
    assert set(bindings) == {material}


def test_what_an_electron_has_left_goes_as_far_as_the_materials_on_its_way_let_it():
    """A twentieth of a voxel of water, then tungsten: the rest of its mean path there, by tungsten's range."""
    side_mm, kinetic = 0.03, 0.1
    table, geometry, tally = of_two_materials((8, 1, 1), (side_mm, 50.0, 50.0), [0, *[1] * 7])
    row, share = tables.row_of.py_func(kinetic)
    water, heavy = table.range_mm[:2, row] * (1 - share) + table.range_mm[:2, row + 1] * share
    assert heavy > 1.2 * water
    path = tables.REST_SHARE * water
    start = 0.05 * side_mm
    settle.settle.py_func(25.0, 25.0, side_mm - start, 0.0, 0.0, 1.0, 0, 0, 0, kinetic, 1.0, table, geometry, tally)
    layers = voxels.from_bricks(cpu.deposits(tally), (8, 1, 1)).reshape(-1)
    reached = 1 + int((tables.REST_SHARE - start / water) * heavy / side_mm)
    assert np.flatnonzero(layers).tolist() == [reached]
    assert reached != 1 + int((path - start) / side_mm)  # as in water it would be another voxel


@pytest.mark.parametrize("first", ["water", "heavy"])
def test_an_electron_takes_the_material_it_enters(first):
    """Slabs of water and of tungsten at water's density: each gets what its own stopping power takes."""
    order = (0, 1) if first == "water" else (1, 0)
    table, geometry, tally = of_two_materials((2, 1, 1), (0.2, 50.0, 50.0), order)
    assert not (tally.cell[::2] & np.uint32(voxels.FINE_BIT)).any()  # equal densities: nothing is fine
    number = 3000
    for history in range(number):
        rng.start(tally.rng, history, rng.words(4, 1, 0, 0, 0))
        tally.stack[0, :10] = [25.0, 25.0, 1e-6, 0.0, 0.0, 1.0, 10.0, stack.ELECTRON, 1.0, 0.0]
        steps.charged(0, table, geometry, tally)
    layers = voxels.from_bricks(cpu.deposits(tally), (2, 1, 1)).reshape(-1) / number
    row = int(np.searchsorted(tables.energy_grid_MeV(), 10.0))
    per_mm = table.electron[0, :2, row, tables.LOSS] / table.electron[0, :2, row, tables.STEP]
    assert per_mm[1] < 0.8 * per_mm[0]
    # Some turn within the slab, so the way in it is longer than its thickness; far less than the two differ.
    np.testing.assert_allclose(layers, 0.2 * per_mm[list(order)], rtol=0.12)
