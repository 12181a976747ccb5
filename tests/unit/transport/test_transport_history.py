"""The primaries of a history: on one line, each with its share of the first collision's depths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.medium import Medium
from mrlinac.jit import kernel
from mrlinac.transport import cpu, history, rng, source, stack, tables
from mrlinac.transport.source import Emission

COUNT = 20_000


@kernel
def emit_many(repeats, row, primaries, name, beamline, geometry, tally, particles):
    for i in range(repeats):
        rng.start(tally.rng, i, name)
        top = history.emit(row, primaries, beamline, geometry, tally)
        for n in range(top):
            for column in range(particles.shape[2]):
                particles[i, n, column] = tally.stack[n, column]


def emitted(primaries: int) -> tuple[np.ndarray, stack.Tally]:
    """Particles [history, primary, column] of a 10 mm beamlet, 1 to 6 MeV, and the tally."""
    grid = Grid((4, 10, 10), (20.0, 20.0, 20.0), (-90.0, -90.0, 10.0))
    medium = Medium(grid, np.ones(grid.shape_zyx, np.float32), np.zeros(grid.shape_zyx, np.uint8), ("water",))
    emission = Emission.of(np.array([1.0, 3.0, 6.0]), np.array([0.6, 0.4]), np.array([0.0, 300.0]), np.ones(2))
    row = np.zeros(source.COLUMNS)
    row[:3] = np.array([0.0, 0.0, -1000.0]) - np.array(grid.lower_xyz_mm)
    row[3:12] = [1, 0, 0, 0, -1, 0, 0, 0, -1]
    row[source.SAD] = row[source.COLLIMATOR] = 1000.0
    row[source.U0], row[source.U1], row[source.V0], row[source.V1] = -5, 5, -5, 5
    row[source.SPOT_U] = row[source.SPOT_V] = 1.0
    row[source.INVERSE_FLUENCE] = 1.0
    table = tables.load(medium.materials)
    geometry, code = cpu.pack(medium, table, (0.0, 0.0, 0.0))
    tally = cpu.new_tally(code, False)
    particles = np.zeros((COUNT, primaries, stack.PARTICLE))
    emit_many(COUNT, row, primaries, rng.words(1, 1, 0, 0, 0), cpu.beamline(emission), geometry, tally, particles)
    return particles, tally


@pytest.mark.parametrize("primaries", [1, 2, 3, history.GROUP])
def test_depths_of_a_group_are_exponential_and_shared_out(primaries):
    particles, _ = emitted(primaries)
    survival = np.exp(-particles[:, :, stack.PATHS])
    # one in each of as many equal parts
    assert np.array_equal(
        np.sort(np.floor(survival * primaries), 1), np.tile(np.arange(primaries, dtype=float), (COUNT, 1))
    )
    place = survival * primaries % 1
    assert stats.kstest(place[:, 0], "uniform").pvalue > 1e-3
    # together they are exponential, with far less variance of the mean than if they had been drawn apart
    mean = -np.log(survival).mean(1)
    assert mean.mean() == pytest.approx(1.0, abs=5 / np.sqrt(COUNT * primaries))
    assert primaries == 1 or mean.std() < 0.9 / primaries**0.5


def test_a_group_shares_line_energy_and_weight_and_is_booked_whole():
    particles, tally = emitted(history.GROUP)
    others = np.delete(particles, stack.PATHS, axis=2)
    assert np.array_equal(others, np.repeat(others[:, :1], history.GROUP, 1))
    assert tally.energy[stack.EMITTED] == pytest.approx(particles[:, :, 6].sum())
    assert tally.counter[stack.N_ENTERED] == COUNT * history.GROUP
    assert len(np.unique(particles[:, 0, 6])) > 0.99 * COUNT


@pytest.mark.parametrize("primaries", range(10))
def test_histories_of_a_number_of_primaries(primaries):
    sizes = [min(history.GROUP, primaries - n * history.GROUP) for n in range(history.groups(primaries))]
    assert sum(sizes) == primaries
    assert all(1 <= size <= history.GROUP for size in sizes)
