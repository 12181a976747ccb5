"""Skin dose unfolded: the mean dose of the rind against the angle around the body and z.

The electron return effect shows here as a band where beams leave the body, and as none where they enter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from mrlinac.machine.beams import Beam
from mrlinac.report import planes, style
from mrlinac.report.content import ReportContent


@dataclass(frozen=True)
class SkinMap:
    """Mean dose of the rind in bins.

    Attributes
    ----------
    angle_edge_deg : float64 array (n + 1,)
        Around each slice's centre of the body: −180 posterior, −90 right, 0 anterior, 90 left, 180 posterior.
    z_edge_mm : float64 array (m + 1,)
    dose_Gy : float64 array (m, n)
        NaN where the rind has no voxel.
    centre_xy_mm : float64 array (m, 2)
        Centre of the body per slice; NaN where the slice has none.
    """

    angle_edge_deg: NDArray[np.float64]
    z_edge_mm: NDArray[np.float64]
    dose_Gy: NDArray[np.float64]
    centre_xy_mm: NDArray[np.float64]


def angle_deg(dx_mm: NDArray[np.float64], dy_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle of an offset from the body's centre: 0 anterior (−y), 90 left (+x), ±180 posterior, −90 right."""
    return np.rad2deg(np.arctan2(dx_mm, -np.asarray(dy_mm)))


def unfold(content: ReportContent, bins: int = 72) -> SkinMap | None:
    """Occupancy-weighted mean dose of ``Skin`` per angle and slice; None without ``Skin`` and ``External``.

    None as well where the skin cannot be evaluated: a picture is read as numbers too.
    """
    structures, grid = content.structures, content.dose.grid
    if "Skin" not in structures or "External" not in structures or structures["Skin"].flaw:
        return None
    rind, body = structures["Skin"].occupancy, structures["External"].occupancy
    edges = np.linspace(-180.0, 180.0, bins + 1)
    nz = grid.shape_zyx[0]
    dose, centres = np.full((nz, bins), np.nan), np.full((nz, 2), np.nan)
    x, y = grid.x_mm, grid.y_mm
    for k in range(nz):
        total = body[k].sum(dtype=np.float64)
        if total <= 0 or not rind[k].any():
            continue
        centres[k] = (
            body[k].sum(axis=0, dtype=np.float64) @ x / total,
            body[k].sum(axis=1, dtype=np.float64) @ y / total,
        )
        rows, columns = np.nonzero(rind[k])
        weight = rind[k][rows, columns].astype(float)
        angle = angle_deg(x[columns] - centres[k, 0], y[rows] - centres[k, 1])
        filled = np.histogram(angle, edges, weights=weight)[0]
        summed = np.histogram(angle, edges, weights=weight * content.dose.dose_Gy[k][rows, columns])[0]
        # A bin of slivers says little about dose: it needs a tenth of a voxel.
        dose[k] = np.divide(summed, filled, out=np.full(bins, np.nan), where=filled > 0.1)
    half = grid.spacing_zyx_mm[0] / 2
    return SkinMap(edges, np.append(grid.z_mm - half, grid.z_mm[-1] + half), dose, centres)


def crossings_deg(content: ReportContent, skin: SkinMap, beam: Beam) -> tuple[float, float] | None:
    """Angles at which a beam's axis enters and leaves the body; None if it misses."""
    grid, body = content.dose.grid, content.structures["External"].occupancy
    toward_source = beam.axes_xyz()[2]
    along = np.arange(-700.0, 700.0, 1.0)
    points = np.asarray(beam.isocentre_xyz_mm) + along[:, None] * toward_source
    index = np.rint(grid.index_zyx(points)).astype(int)
    valid = np.all((index >= 0) & (index < np.array(grid.shape_zyx)), axis=1)
    inside = np.zeros(len(along), bool)
    inside[valid] = body[tuple(index[valid].T)] > 0.5
    if not inside.any():
        return None
    ends = points[np.flatnonzero(inside)[[-1, 0]]]  # the last one towards the source is the entrance
    slices = np.clip(np.rint(grid.index_zyx(ends)[:, 0]).astype(int), 0, grid.shape_zyx[0] - 1)
    offset = ends[:, :2] - skin.centre_xy_mm[slices]
    entry, leave = angle_deg(offset[:, 0], offset[:, 1])
    return (float(entry), float(leave)) if np.isfinite(entry + leave) else None


def draw_map(ax: Axes, content: ReportContent, skin: SkinMap, top_Gy: float | None = None) -> AxesImage:
    """The unfolded map with the target's extent and the beams' axes; returns the mesh for a colour bar."""
    top = top_Gy if top_Gy is not None else float(np.nanmax(skin.dose_Gy))
    (left, right), (low, high) = skin.angle_edge_deg[[0, -1]], skin.z_edge_mm[[0, -1]]
    mesh = ax.imshow(
        skin.dose_Gy,
        extent=(left, right, low, high),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=0,
        vmax=top,
    )
    dress_map(ax, content, skin)
    return mesh


def dress_map(ax: Axes, content: ReportContent, skin: SkinMap) -> None:
    """Axes, beam marks and the target's range; the ends that metrics leave out are not part of the skin."""
    ax.set_xticks(range(-180, 181, 45), ["P", "", "R", "", "A", "", "L", "", "P"])
    ax.set_xlabel("around the body: posterior – right – anterior – left – posterior")
    ax.set_ylabel("z (mm), head up")
    low, high = content.ct.grid.lower_xyz_mm[2], content.ct.grid.upper_xyz_mm[2]
    filled = np.flatnonzero(np.isfinite(skin.dose_Gy).any(axis=1))
    low, high = max(low, skin.z_edge_mm[filled[0]]), min(high, skin.z_edge_mm[filled[-1] + 1])
    ax.set_ylim(low, high)
    lower, upper = planes.body_box_mm(content.structures[content.target].occupancy, content.structures.grid, 0.0)
    for z in (lower[2], upper[2]):
        ax.axhline(z, color="white", lw=1.0, ls="--", alpha=0.85)
    ax.text(178, upper[2] + 2, content.target, color="white", fontsize=7.5, va="bottom", ha="right")
    iso_z = content.isocentre_xyz_mm[2]
    for beamlets in content.fluence.maps:
        crossings = crossings_deg(content, skin, beamlets.beam)
        if crossings is None:
            continue
        ax.plot(crossings[0], iso_z, marker="v", ms=8, mfc="white", mec="black", mew=0.8, ls="")
        ax.plot(crossings[1], iso_z, marker="o", ms=6, mfc="none", mec="white", mew=1.5, ls="")
        ax.text(
            crossings[0],
            iso_z + 9,
            f"{beamlets.beam.gantry_deg:g}°",
            color="white",
            fontsize=7,
            ha="center",
            va="bottom",
            path_effects=style.HALO,
        )


def skin_map(content: ReportContent) -> Figure | None:
    """The unfolded skin dose of one plan; None where there is no ``Skin``."""
    skin = unfold(content)
    if skin is None or not np.isfinite(skin.dose_Gy).any():
        return None
    figure = style.new_figure(11.0, 4.9)
    ax = figure.add_subplot()
    mesh = draw_map(ax, content, skin)
    figure.colorbar(mesh, ax=ax, label="mean dose of Skin (Gy, course)", pad=0.015)
    ax.set_title("Skin, unfolded:  ▽ beam axis enters   ○ leaves   - - range of the target")
    style.footer(figure, content.research_statement)
    return figure
