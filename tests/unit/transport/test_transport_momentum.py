"""What flies apart after a collision: directions of both, with the momentum of the first."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.transport import cpu, flight, rng, stack, steps, tables, voxels

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


@pytest.mark.parametrize("first", ["water", "heavy"])
def test_an_electron_takes_the_material_it_enters(first):
    """Slabs of water and of tungsten at water's density: each gets what its own stopping power takes."""
    heavy = "heavy{1.0 g/cm3;I 727.0 eV;W:1.0}"
    names = ("water", heavy)
    order = (0, 1) if first == "water" else (1, 0)
    grid = Grid((2, 1, 1), (0.2, 50.0, 50.0), (0.0, 0.0, 0.0))
    material = np.array(order, np.uint8).reshape(2, 1, 1)
    medium = Medium(grid, np.ones((2, 1, 1), np.float32), material, names)
    table = tables.load(names)
    geometry, code = cpu.pack(medium, table, (0.0, 0.0, 0.0))
    tally = cpu.new_tally(code, False)
    assert not (code & np.uint32(64)).any()  # equal densities: nothing is fine
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
