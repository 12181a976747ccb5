"""What goes in comes out: energy in heterogeneous media, in fields along every axis, with gaps of air and vacuum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_transport_closed_forms import box, shoot

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.transport import electron, stack

PHOTON, ELECTRON, POSITRON = 0.0, 1.0, 2.0
REST_MeV = 0.51099895
AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def patchwork() -> Medium:
    """Tissue, lung, bone and titanium at random, with layers of air and of vacuum."""
    draw = np.random.default_rng(5)
    grid = Grid((24, 20, 18), (2.5, 3.0, 2.0), (0.0, 0.0, 0.0))
    material = draw.integers(0, 4, grid.shape_zyx).astype(np.uint8)
    density = np.array([1.0, 0.26, 1.85, 4.43], np.float32)[material] * draw.uniform(0.8, 1.1, grid.shape_zyx)
    density[8:12], material[8:12] = 1.2e-3, 4
    density[16:18], material[16:18] = 0.0, 4
    names = ("water", "lung-icru", "bone-cortical-icru", "titanium-alloy", "air-dry")
    return Medium(grid, density.astype(np.float32), material, names)


@pytest.mark.parametrize(
    ("axis", "field_T"), [("x", 0.0), *((axis, size) for axis in AXES for size in (0.35, 1.5, 3.0))]
)
def test_energy_balance(field_T, axis, claim):
    """Photons of 15 MeV make every kind of particle; positrons bring their rest energy along."""
    field = tuple(field_T * c for c in AXES[axis])
    worst = 0.0
    for kind, energy, repeats in ((PHOTON, 15.0, 3000), (ELECTRON, 8.0, 300), (POSITRON, 3.0, 300)):
        deposit, tally = shoot(patchwork(), (18.0, 30.0, 1e-6, 0.3, 0.1, 0.9487, energy, kind), repeats, field)
        given = repeats * (energy + (2 * REST_MeV if kind == POSITRON else 0.0))
        worst = max(worst, abs((deposit.sum() + tally.energy[stack.ESCAPED :].sum()) / given - 1))
        assert tally.counter[stack.N_OVERFLOW] == 0
    if field_T == 1.5 and axis == "y":
        claim(
            "energy-balance",
            "Deposited and escaped over emitted energy, minus 1: 15 MeV photons, electrons and positrons in tissue, "
            "lung, bone, titanium, air and vacuum at 1.5 T; the largest of the three",
            "conservation of energy",
            "1e-4",
            worst,
            0.0,
        )
    assert worst < 1e-4


@pytest.mark.parametrize("direction", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.6, -0.48, 0.64)])
@pytest.mark.parametrize("kinetic", [0.25, 6.0])
def test_helix_about_any_field(direction, kinetic):
    """In thin gas the deposits of one charge lie on a cylinder about B; along B they reach as far as its pitch says."""
    b = np.array(direction)
    field_T, along = 1.5, 0.2
    across = np.cross(b, [0.3, 0.9, -0.2])
    across /= np.linalg.norm(across)
    start_direction = along * b + math.sqrt(1 - along**2) * across
    momentum = math.sqrt(kinetic * (kinetic + 2 * REST_MeV))
    radius = momentum / (0.299792458 * field_T) * math.sqrt(1 - along**2)
    spacing, count = radius / 12, 64
    medium = box((count,) * 3, spacing, 1e-7, material=1)
    start = np.full(3, count * spacing / 2)
    energy, tally = shoot(medium, (*start, *start_direction, kinetic, ELECTRON), 100, tuple(field_T * b))
    z, y, x = np.nonzero(energy)
    weight = energy[z, y, x]
    point = (np.stack([x, y, z], 1) + 0.5) * spacing
    # An electron is pushed towards −v × B: there lies the axis.
    centre = start - np.cross(across, b) * radius
    offset = point - centre
    offset -= np.outer(offset @ b, b)
    distance = np.linalg.norm(offset, axis=1)
    assert np.average(distance, weights=weight) == pytest.approx(radius, rel=0.02)
    assert np.average(np.abs(distance - radius) < 0.03 * radius + spacing, weights=weight) > 0.97
    # Pitch: after one turn it has gone 2π r cot of the pitch angle along B; it never goes back.
    ahead = (point - start) @ b
    assert ahead.min() > -2 * spacing
    turn = 2 * math.pi * radius * along / math.sqrt(1 - along**2)
    behind = np.abs((point - start) @ across) < spacing  # near the start's generatrix, at whole turns
    near_axis = np.abs(offset @ np.cross(across, b) / radius - 1) < 0.1
    whole = ahead[behind & near_axis & (ahead > 0.3 * turn) & (ahead < 1.7 * turn)]
    assert len(whole) > 0
    assert np.median(whole) == pytest.approx(turn, abs=1.5 * spacing + 0.05 * turn)
    assert tally.counter[stack.N_TRUNCATED] == 0


@pytest.mark.parametrize("kinetic", [1e-3, 0.02, 0.1999])
@pytest.mark.parametrize("kind", [ELECTRON, POSITRON])
def test_slow_charges_end_where_they_are(kinetic, kind):
    medium = box((9, 9, 9), 2.0, 1.0)
    energy, tally = shoot(medium, (9, 9, 9, 0, 0, 1, kinetic, kind), 50, (0.0, 3.0, 0.0))
    assert energy[4, 4, 4] >= 50 * kinetic * (1 - 1e-6)
    assert tally.counter[stack.N_STEPS] == 0 or kind == POSITRON


@pytest.mark.parametrize("place", [0.0, 20.0, 1e-12, 20.0 - 1e-12, 10.0])
def test_nothing_is_lost_or_endless_at_borders(place):
    """Starts on the grid's faces and on faces of voxels, straight along them and in a field."""
    medium = box((10, 10, 10), 2.0, 1.0)
    for direction in ((0, 0, 1), (1, 0, 0), (-1, 0, 0), (0, -1, 0)):
        for field in ((0.0, 0.0, 0.0), (0.0, 0.0, 3.0)):
            energy, tally = shoot(medium, (place, 10.0, place, *direction, 1.0, ELECTRON), 20, field)
            assert energy.sum() + tally.energy[stack.ESCAPED :].sum() == pytest.approx(20.0, rel=1e-5)
            assert tally.counter[stack.N_TRUNCATED] == 0


def test_a_field_of_exactly_zero_is_the_limit_of_a_small_one():
    medium = box((12, 12, 12), 2.0, 1.0)
    depth = []
    for field in ((0.0, 0.0, 0.0), (0.0, 1e-9, 0.0)):
        energy, _ = shoot(medium, (11.3, 12.4, 1e-6, 0.6, 0, 0.8, 3.0, ELECTRON), 400, field)
        depth.append(energy)
    assert depth[1] == pytest.approx(depth[0], rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("angle", [1e-9, 0.3, 0.999, 1.001, 2.5, 8.1, -4.0])
def test_a_turn_keeps_the_length_and_the_angle(angle):
    """However far: an electron that lost its energy on a chord turns by more than the chord was planned for."""
    b = np.array([0.6, -0.48, 0.64])
    u = np.cross(b, [0.0, 0.0, 1.0])
    u /= np.linalg.norm(u)
    turned = np.array(electron.rotate.py_func(*u, *b, angle))
    assert turned == pytest.approx(u * math.cos(angle) + np.cross(b, u) * math.sin(angle), abs=2e-5)


def test_along_a_face_nothing_is_crossed():
    """A start on a face, exactly along it: the energy stays beside it and does not leave at once."""
    energy, tally = shoot(box((10, 10, 10), 2.0, 1.0), (0.0, 10.0, 10.0, 0, 0, 1, 1.0, ELECTRON), 50)
    assert tally.energy[stack.ESCAPED] < 0.7 * 50
    assert energy.sum() > 0.3 * 50
