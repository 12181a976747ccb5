"""A thorax of analytic pencil beams: a problem of the right shape for the optimiser, not a dose engine."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from mrlinac.anatomy.grid import Grid
from mrlinac.anatomy.structures import Structure, StructureSet
from mrlinac.dose.influence import Influence
from mrlinac.machine.beams import Beam, BeamletMap
from mrlinac.machine.delivery import Beamlets
from mrlinac.provenance import Provenance

GANTRY_deg = (20, 60, 100, 140, 180, 220, 260, 300, 340)


def thorax(
    spacing_mm: float = 5.0,
    target_mm: float = 30.0,
    half_length_mm: float = 60.0,
    beamlet_mm: tuple[float, float] = (5.0, 7.0),
    noise: float = 0.0,
    scatter: float = 0.003,
    seed: int = 1,
) -> tuple[Influence, StructureSet]:
    """Influence and structures of an elliptic thorax with lungs, cord, oesophagus, heart and a spherical target."""
    half_x, half_y = 180.0, 115.0
    grid = Grid.covering((-half_x, -half_y, -half_length_mm), (half_x, half_y, half_length_mm), (spacing_mm,) * 3)
    z, y, x = np.meshgrid(grid.z_mm, grid.y_mm, grid.x_mm, indexing="ij")

    def ball(cx, cy, cz, rx, ry, rz):
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 <= 1

    long = 1e6
    external = ball(0, 0, 0, half_x, half_y, long)
    target = ball(45, 10, 0, target_mm, target_mm, target_mm)
    gtv = ball(45, 10, 0, target_mm - 10, target_mm - 10, target_mm - 10)
    lungs = (ball(95, 0, 0, 65, 85, long) | ball(-95, 0, 0, 65, 85, long)) & ~gtv
    masks = {
        "External": ("external", external),
        "PTV_eval": ("target", target & external),
        "Lungs-GTV": ("oar", lungs),
        "SpinalCord": ("oar", ball(0, 70, 0, 8, 8, long)),
        "Esophagus": ("oar", ball(5, 40, 0, 9, 9, long)),
        "Heart": ("oar", ball(15, -50, -0.7 * half_length_mm, 45, 40, 0.6 * half_length_mm)),
        "Ring": ("other", ball(45, 10, 0, target_mm + 30, target_mm + 30, target_mm + 30) & ~ball(
            45, 10, 0, target_mm + 10, target_mm + 10, target_mm + 10) & external),
        "Normal": ("other", external & ~ball(45, 10, 0, target_mm + 30, target_mm + 30, target_mm + 30)),
    }  # fmt: skip
    structures = StructureSet(
        grid, {name: Structure(name, role, mask.astype(np.float32)) for name, (role, mask) in masks.items()}
    )
    density = np.where(lungs, 0.3, np.where(external, 1.0, 0.0))
    voxel = np.flatnonzero(external.ravel())
    points = np.stack([x.ravel()[voxel], y.ravel()[voxel], z.ravel()[voxel]], axis=1)
    rng = np.random.default_rng(seed)
    maps, columns, rows, values, first = [], [], [], [], 0
    for angle in GANTRY_deg:
        beam = Beam(float(angle), (45.0, 10.0, 0.0), 1000.0)
        reach = target_mm + 6
        half_u, half_v = int(np.ceil(reach / beamlet_mm[0])), int(np.ceil(reach / beamlet_mm[1]))
        lattice = np.array(
            [
                (i, j)
                for i in range(-half_u, half_u)
                for j in range(-half_v, half_v)
                if np.hypot((i + 0.5) * beamlet_mm[0], (j + 0.5) * beamlet_mm[1]) <= reach
            ],
            dtype=np.int32,
        )
        beamlets = BeamletMap(beam, lattice, beamlet_mm)
        maps.append(beamlets)
        uv = beam.project_uv_mm(points)
        source = beam.source_xyz_mm()
        distance = np.linalg.norm(points - source, axis=1)
        depth = _depth_mm(points, source, density, grid)
        axis_dose = 0.01 * np.exp(-0.005 * depth) * (1 - 0.6 * np.exp(-depth / 5)) * (1000 / distance) ** 2
        width = 3.0 + 0.01 * depth  # mm: penumbra and scatter of the pencil
        for j, (u, v) in enumerate(beamlets.centre_uv_mm):
            du, dv = uv[:, 0] - u, uv[:, 1] - v
            near = np.flatnonzero((np.abs(du) < 40) & (np.abs(dv) < 40))
            dose = axis_dose[near] * (
                _edge(du[near], width[near], beamlet_mm[0]) * _edge(dv[near], width[near], beamlet_mm[1])
                + scatter * np.exp(-np.hypot(du[near], dv[near]) / 15)
            )
            if noise:
                peak = dose.max()
                dose = np.maximum(dose + noise * np.sqrt(dose * peak) * rng.standard_normal(len(dose)), 0)
            keep = dose > 1e-4 * dose.max()
            rows.append(voxel[near[keep]])
            columns.append(np.full(keep.sum(), first + j))
            values.append(dose[keep])
        first += len(lattice)
    matrix = sp.csc_array(
        (np.concatenate(values).astype(np.float32), (np.concatenate(rows), np.concatenate(columns))),
        shape=(grid.size, first),
    )
    return Influence(grid, matrix, Beamlets(tuple(maps)), noise, Provenance("synthetic", "pencil", seed)), structures


def _edge(offset, width, size):
    from scipy.special import erf

    scale = np.sqrt(2) * width
    return 0.5 * (erf((offset + size / 2) / scale) - erf((offset - size / 2) / scale))


def _depth_mm(points, source, density, grid, step_mm=5.0):
    """Water-equivalent depth by sampling the ray every few millimetres."""
    direction = points - source
    length = np.linalg.norm(direction, axis=1)
    direction = direction / length[:, None]
    depth = np.zeros(len(points))
    for back in np.arange(step_mm / 2, 400, step_mm):
        index = np.rint(grid.index_zyx(points - back * direction)).astype(int)
        inside = np.all((index >= 0) & (index < grid.shape_zyx), axis=1)
        depth[inside] += step_mm * density[tuple(index[inside].T)]
    return depth
