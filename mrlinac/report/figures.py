"""The pictures of one plan: isodoses, DVH, fluences, uncertainty. Functions return a Figure and write nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from dicompylercore.dvh import DVH
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from mrlinac.anatomy.grid import Triple
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.structures import StructureSet
from mrlinac.machine.beams import BeamletMap
from mrlinac.report import planes, style
from mrlinac.report.content import ReportContent, is_upper

Edges = NDArray[np.float64]

# Level and width in HU. "thorax" shows lung and soft tissue at once under a colour wash; the other two are the
# usual settings of a CT console.
WINDOW_HU = {"thorax": (-250.0, 1500.0), "lung": (-600.0, 1500.0), "mediastinum": (40.0, 400.0)}


# ---------------------------------------------------------------------------------------------- pieces of a plane


def draw_ct(ax: Axes, image: Image, view: planes.View, position_mm: float, window: str = "thorax") -> None:
    """The grey picture."""
    plane = planes.cut(image.values, image.grid, view, position_mm)
    if image.quantity == "HU":
        level, width = WINDOW_HU[window]
        low, high = level - width / 2, level + width / 2
    else:  # MR has no scale of its own
        low, high = (float(v) for v in np.percentile(image.values[image.values > 0], (1, 99.5)))
    ax.imshow(
        plane.values,
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=plane.extent_mm,
        origin="lower",
        interpolation="bilinear",
        zorder=0,
    )


def draw_isodoses(
    ax: Axes, content: ReportContent, view: planes.View, position_mm: float, *, wash: bool = True
) -> None:
    """Dose as a transparent wash with a line at every level."""
    plane = planes.cut(content.dose.dose_Gy, content.dose.grid, view, position_mm)
    percent = plane.values * (100.0 / content.prescription_Gy)
    levels = [level for level, _ in style.ISODOSE]
    colors = [color for _, color in style.ISODOSE]
    if percent.max() <= levels[0]:
        return
    if wash:
        ax.contourf(
            plane.across_mm,
            plane.up_mm,
            percent,
            levels=[*levels, max(200.0, float(percent.max()) + 1)],
            colors=colors,
            alpha=0.24,
            zorder=1,
        )
    ax.contour(plane.across_mm, plane.up_mm, percent, levels=levels, colors=colors, linewidths=1.0, zorder=2)


def draw_outlines(
    ax: Axes,
    structures: StructureSet,
    names: Sequence[str],
    view: planes.View,
    position_mm: float,
    thickness: float = 1.0,
) -> None:
    """Structures at half occupancy, with a dark edge that keeps them apart from the isodoses."""
    for name in names:
        plane = planes.cut(structures[name].occupancy, structures.grid, view, position_mm)
        if plane.values.max() <= 0.5:
            continue
        target = structures[name].role == "target"
        lines = ax.contour(
            plane.across_mm,
            plane.up_mm,
            plane.values,
            levels=[0.5],
            colors=[style.structure_color(name)],
            linewidths=thickness * (1.9 if target else 1.3),
            linestyles="solid" if target else "dashed",
            zorder=3,
        )
        if name != "External":
            lines.set_path_effects(style.halo(thickness * (2.9 if target else 2.3)))


def dress(ax: Axes, view: planes.View, limits_mm: tuple[Triple, Triple], *, scale_bar: bool = True) -> None:
    """Limits, letters of orientation and a scale bar; one millimetre is the same both ways."""
    layout = planes.LAYOUTS[view]
    lower, upper = limits_mm
    ax.set_xlim(lower[layout.across], upper[layout.across])
    low, high = lower[layout.up], upper[layout.up]
    ax.set_ylim(*((high, low) if layout.flip_up else (low, high)))
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_facecolor("black")
    white: dict[str, Any] = {
        "color": "white",
        "fontsize": 10,
        "fontweight": "bold",
        "path_effects": style.HALO,
        "transform": ax.transAxes,
        "zorder": 6,
    }
    ax.text(0.015, 0.5, layout.left, ha="left", va="center", **white)
    ax.text(0.985, 0.5, layout.right, ha="right", va="center", **white)
    ax.text(0.5, 0.985, layout.top, ha="center", va="top", **white)
    ax.text(0.5, 0.015, layout.bottom, ha="center", va="bottom", **white)
    if scale_bar:
        span = upper[layout.across] - lower[layout.across]
        length = 50.0 if span > 150 else 20.0
        x0 = 0.03
        ax.plot([x0, x0 + length / span], [0.035, 0.035], color="white", lw=3, transform=ax.transAxes, zorder=6)
        ax.text(
            x0,
            0.055,
            f"{length / 10:.0f} cm",
            color="white",
            fontsize=8,
            transform=ax.transAxes,
            path_effects=style.HALO,
        )


def mark_isocentre(ax: Axes, view: planes.View, isocentre_xyz_mm: Triple) -> None:
    """A cross with an open middle, where the isocentre falls on this plane."""
    across, up = planes.in_plane_mm(view, isocentre_xyz_mm)
    for start, end in ((4, 13), (-4, -13)):
        for xs, ys in (((across + start, across + end), (up, up)), ((across, across), (up + start, up + end))):
            ax.plot(xs, ys, color="white", lw=1.3, zorder=5, path_effects=style.HALO, scalex=False, scaley=False)


def outlined(structures: StructureSet) -> list[str]:
    """Names of what is outlined on the CT, in the order of the legend."""
    return [name for name in style.ON_CT if name in structures and structures[name].occupancy.any()]


def limits_of(content: ReportContent, border_mm: float = 12.0) -> tuple[Triple, Triple]:
    """The box that pictures show: the body with a border, and some of the couch."""
    if "External" not in content.structures:
        return content.ct.grid.lower_xyz_mm, content.ct.grid.upper_xyz_mm
    lower, upper = planes.body_box_mm(content.structures["External"].occupancy, content.structures.grid, border_mm)
    z = content.ct.grid.lower_xyz_mm[2], content.ct.grid.upper_xyz_mm[2]
    return (lower[0], lower[1], max(lower[2], z[0])), (upper[0], upper[1] + 18.0, min(upper[2], z[1]))


def isodose_handles() -> list[Line2D | Patch]:
    """Legend entries of the isodose levels, hottest first."""
    return [Line2D([], [], color=color, lw=2.2, label=f"{level:.0f} %") for level, color in reversed(style.ISODOSE)]


def outline_handles(structures: StructureSet, names: Iterable[str]) -> list[Line2D]:
    """Legend entries of the outlined structures."""
    return [
        Line2D(
            [],
            [],
            color=style.structure_color(name),
            lw=2.2,
            ls="-" if structures[name].role == "target" else (0, (3, 1.2)),
            label=name,
        )
        for name in names
    ]


def plane_title(view: planes.View, position_mm: float, isocentre_xyz_mm: Triple) -> str:
    """Name, position and how far the isocentre lies from the plane."""
    layout = planes.LAYOUTS[view]
    offset = isocentre_xyz_mm[layout.normal] - position_mm
    axis = "xyz"[layout.normal]
    beside = "" if abs(offset) < 0.5 else f" (isocentre at {offset:+.0f} mm)"
    return f"{view.capitalize()}  {axis} = {position_mm:.0f} mm{beside}".replace("-", "−")


# ------------------------------------------------------------------------------------------------- whole figures


def isodoses(content: ReportContent) -> Figure:
    """Three planes through the target's centroid on one scale, laid out as orthographic views."""
    limits, names = limits_of(content), outlined(content.structures)
    width, depth, height = (upper - lower for lower, upper in zip(*limits, strict=True))
    page_in = 11.0
    figure = style.new_figure(page_in, page_in * (depth + height) / (width + depth) + 0.9)
    grid = figure.add_gridspec(2, 2, width_ratios=[width, depth], height_ratios=[depth, height])
    cells: dict[planes.View, tuple[int, int]] = {"axial": (0, 0), "coronal": (1, 0), "sagittal": (1, 1)}
    for view, cell in cells.items():
        ax = figure.add_subplot(grid[cell])
        position = content.centre_xyz_mm[planes.LAYOUTS[view].normal]
        draw_ct(ax, content.ct, view, position, content.window)
        draw_isodoses(ax, content, view, position)
        draw_outlines(ax, content.structures, names, view, position)
        mark_isocentre(ax, view, content.isocentre_xyz_mm)
        dress(ax, view, limits)
        ax.set_title(plane_title(view, position, content.isocentre_xyz_mm))
    corner = grid[0, 1].subgridspec(2, 1, height_ratios=[0.47, 0.53])
    _isodose_legend(figure.add_subplot(corner[0]), content, names)
    _closer(figure.add_subplot(corner[1]), content, names, shape=0.5)
    style.footer(figure, content.research_statement)
    return figure


def _isodose_legend(ax: Axes, content: ReportContent, names: Sequence[str]) -> None:
    ax.set_axis_off()
    first = ax.legend(
        handles=isodose_handles(), title=f"Isodoses\n100 % = {content.prescription_Gy:g} Gy", loc="upper left"
    )
    ax.add_artist(first)
    handles: list[Line2D] = outline_handles(content.structures, names)
    handles.append(Line2D([], [], color="none", marker="+", ms=10, mew=1.5, mec=style.INK, label="isocentre"))
    second = ax.legend(handles=handles, title="Structures", loc="upper right", bbox_to_anchor=(0.72, 1.0))
    for legend in (first, second):
        legend.set_alignment("left")
        legend.get_title().set_fontweight("bold")


def _closer(ax: Axes, content: ReportContent, names: Sequence[str], shape: float) -> None:
    """The axial plane around the target, lines only; ``shape`` is height over width of the place it fills."""
    structures = content.structures
    lower, upper = planes.body_box_mm(structures[content.target].occupancy, structures.grid, 15.0)
    half_x = max((upper[0] - lower[0]) / 2, (upper[1] - lower[1]) / 2 / shape)
    x, y, z = content.centre_xyz_mm
    limits = (x - half_x, y - shape * half_x, lower[2]), (x + half_x, y + shape * half_x, upper[2])
    draw_ct(ax, content.ct, "axial", z, content.window)
    draw_isodoses(ax, content, "axial", z, wash=False)
    draw_outlines(ax, structures, names, "axial", z)
    mark_isocentre(ax, "axial", content.isocentre_xyz_mm)
    dress(ax, "axial", limits)
    ax.set_title(f"Axial, closer: {content.target}")


def slices(content: ReportContent, count: int = 8) -> Figure:
    """Axial slices through the target from foot to head, isodose lines only."""
    low, high = planes.body_box_mm(content.structures[content.target].occupancy, content.structures.grid, 0.0)
    positions = np.linspace(high[2] - 1.5, low[2] + 1.5, count)
    limits, names = limits_of(content), outlined(content.structures)
    columns = 4
    rows = -(-count // columns)
    width, depth = limits[1][0] - limits[0][0], limits[1][1] - limits[0][1]
    figure = style.new_figure(12.0, 12.0 / columns * depth / width * rows + 0.28 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, z in zip(axes, positions, strict=False):
        draw_ct(ax, content.ct, "axial", z, content.window)
        draw_isodoses(ax, content, "axial", z, wash=False)
        draw_outlines(ax, content.structures, names, "axial", z, thickness=0.65)
        dress(ax, "axial", limits, scale_bar=ax is axes[0])
        ax.set_title(f"z = {z:.0f} mm".replace("-", "−"), fontsize=9)
    for ax in axes[count:]:
        ax.set_axis_off()
    handles = [*isodose_handles(), *outline_handles(content.structures, names)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 10), fontsize=8)
    style.footer(figure, content.research_statement)
    return figure


# ------------------------------------------------------------------------------------------------------------ DVH


def dvh_curve(dvh: DVH) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dose in Gy and the volume in % that receives at least that dose, from 100 % down to 0 %."""
    cumulative = dvh.cumulative.relative_volume
    dose = np.asarray(cumulative.bins, float)
    volume = np.append(np.asarray(cumulative.counts, float), 0.0)
    return dose, volume[: len(dose)]


def dvh_names(dvhs: Mapping[str, DVH], structures: StructureSet) -> list[str]:
    """Structures in the order of the legend: targets, then organs; no body, couch or helpers of the optimiser."""
    order = {"target": 0, "oar": 1}
    shown = [n for n in dvhs if n not in structures or structures[n].role in ("target", "oar", "other")]
    shown = [n for n in shown if n != "External" and not n.startswith(("z_", "_", "Ring", "Body-"))]
    return sorted(shown, key=lambda n: order.get(structures[n].role, 2) if n in structures else 2)


def goal_mark(metric: str, limit: float, volume_cc: float) -> tuple[float, float] | None:
    """Where a goal lies in the DVH diagram: dose in Gy and volume in %; None for goals that are no point there."""
    if match := re.fullmatch(r"D(\d+(?:\.\d+)?)(%|cc)", metric):
        volume = float(match[1]) if match[2] == "%" else float(match[1]) / volume_cc * 100
        return (limit, volume)
    if match := re.fullmatch(r"V(\d+(?:\.\d+)?)Gy\[(%|cc)\]", metric):
        volume = limit if match[2] == "%" else limit / volume_cc * 100
        return (float(match[1]), volume)
    return None


def dvh(content: ReportContent) -> Figure:
    """Cumulative DVHs with the prescription and a mark at every goal that is a point of the diagram."""
    figure = style.new_figure(11.0, 6.0)
    ax = figure.add_subplot()
    names = dvh_names(content.dvhs, content.structures)
    far = content.prescription_Gy * 1.15
    colors = style.structure_colors(names)
    for number, name in enumerate(names):
        dose, volume = dvh_curve(content.dvhs[name])
        ax.plot(dose, volume, color=colors[name], **_curve_style(name, number, content.structures), label=name)
    draw_prescription(ax, content.prescription_Gy)
    for _, goal in content.goals.iterrows():
        _draw_goal(ax, goal.to_dict(), content.dvhs, colors)
    dress_dvh(ax, far)
    handles = ax.get_legend_handles_labels()[0]
    handles += [
        Line2D([], [], ls="", marker="v", color=style.INK, mfc="none", label="goal: stay below"),
        Line2D([], [], ls="", marker="^", color=style.INK, mfc="none", label="goal: stay above"),
        Line2D([], [], ls="", marker="o", color=style.INK, mfc="none", label="goal: this value"),
        Line2D([], [], ls="", marker="X", color=style.INK, label="goal not met (filled cross)"),
    ]
    figure.legend(handles=handles, loc="outside right upper", labelspacing=0.55)
    ax.set_title("Cumulative dose–volume histograms, weighted by occupancy, dose to medium")
    style.footer(figure, content.research_statement)
    return figure


def _curve_style(name: str, number: int, structures: StructureSet) -> dict[str, Any]:
    target = name in structures and structures[name].role == "target"
    dashes: tuple[object, ...] = ("-", (0, (6, 2)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
    return {
        "lw": 2.4 if target else 1.7,
        # Names that share a stem share a hue: dashes tell them apart, and help where hues look alike.
        "ls": dashes[number % len(dashes)],
    }


def draw_prescription(ax: Axes, prescription_Gy: float) -> None:
    ax.axvline(prescription_Gy, color=style.INK, lw=1.0, ls=(0, (1, 2)))
    ax.text(
        prescription_Gy,
        101.5,
        f"prescription {prescription_Gy:g} Gy",
        ha="center",
        va="bottom",
        fontsize=8,
        color=style.INK,
    )


def dress_dvh(ax: Axes, far_Gy: float) -> None:
    ax.set_xlim(0, far_Gy)
    ax.set_ylim(0, 100)
    ax.set_xlabel("dose of the course (Gy)")
    ax.set_ylabel("volume (%)")
    ax.set_yticks(range(0, 101, 10))
    ax.grid(True)
    ax.title.set_position((0, 1.04))
    ax.set_title(ax.get_title(loc="left"), pad=18)


def _draw_goal(ax: Axes, goal: Mapping[Any, Any], dvhs: Mapping[str, DVH], colors: Mapping[str, str]) -> None:
    name, limit = str(goal["structure"]), goal["limit"]
    if name not in dvhs or limit is None or not np.isfinite(float(limit)) or goal["verdict"] == "report":
        return
    point = goal_mark(str(goal["metric"]), float(limit), float(dvhs[name].cumulative.counts.max()))
    if point is None:
        return
    failed = goal["verdict"] == "fail"
    color = colors.get(name, style.INK)
    shape = ("v" if is_upper(goal["direction"]) else "^") if str(goal["direction"]).strip() else "o"
    ax.plot(
        *point,
        marker="X" if failed else shape,
        ms=9,
        mec="white" if failed else color,
        mfc=color if failed else "white",
        mew=0.8 if failed else 1.8,
        zorder=5,
        clip_on=False,
        ls="",
    )


# ------------------------------------------------------------------------------------------------------- fluences


def fluence_edges(beamlets: BeamletMap, mu: NDArray[np.float64]) -> tuple[Edges, Edges, Edges]:
    """Edges in u and v (mm) and MU on the rectangle that holds a beam's lattice; NaN where there is no beamlet."""
    lattice = beamlets.lattice_uv
    low, high = lattice.min(axis=0), lattice.max(axis=0)
    values = np.full((high[1] - low[1] + 1, high[0] - low[0] + 1), np.nan)
    values[lattice[:, 1] - low[1], lattice[:, 0] - low[0]] = mu
    du, dv = beamlets.size_uv_mm
    return np.arange(low[0], high[0] + 2) * du, np.arange(low[1], high[1] + 2) * dv, values


def fluences(content: ReportContent) -> Figure:
    """Every beam as seen from the source, in MU per beamlet, on one colour scale."""
    maps = content.fluence.maps
    columns = min(5 if len(maps) > 9 else 3, len(maps))
    rows = -(-len(maps) // columns)
    edges = [fluence_edges(m, mu) for m, mu in zip(maps, content.fluence.mu, strict=True) if len(m)]
    low_u, high_u = min(e[0][0] for e in edges) - 6, max(e[0][-1] for e in edges) + 6
    low_v, high_v = min(e[1][0] for e in edges) - 6, max(e[1][-1] for e in edges) + 6
    low_v -= 0.12 * (high_v - low_v)  # room for the arrow of leaf travel
    width_in = 10.6
    cell_in = (width_in - 1.2) / columns - 0.45
    height_in = rows * (cell_in * (high_v - low_v) / (high_u - low_u) + 0.42) + 0.9
    figure = style.new_figure(width_in, min(height_in, 17.0))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    everything = content.fluence.vector
    # A few hot beamlets would leave all others dark; those above the scale are shown in its last colour.
    top = float(np.quantile(everything[everything > 0], 0.995)) if (everything > 0).any() else 1.0
    mesh = None
    for ax, beamlets, mu in zip(axes.ravel(), maps, content.fluence.mu, strict=False):
        ax.set_title(f"gantry {beamlets.beam.gantry_deg:g}°   highest {mu.max(initial=0):.2g} MU", fontsize=9)
        if len(beamlets):
            u, v, values = fluence_edges(beamlets, mu)
            mesh = ax.imshow(
                values, extent=(u[0], u[-1], v[0], v[-1]), origin="lower", cmap="viridis", vmin=0, vmax=top
            )
        ax.axhline(0, color=style.FAINT, lw=0.6, ls=":")
        ax.axvline(0, color=style.FAINT, lw=0.6, ls=":")
        ax.set(xlim=(low_u, high_u), ylim=(low_v, high_v), aspect="equal")
        ax.tick_params(labelsize=7.5)
    for ax in axes.ravel()[len(maps) :]:
        ax.set_axis_off()
    _travel_arrow(axes[0, 0], content.leaf_travel)
    for ax in axes[-1]:
        ax.set_xlabel("u = X (mm)", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("v = Y (mm)", fontsize=8)
    if mesh is not None:
        figure.colorbar(
            mesh, ax=axes, label="MU per beamlet and fraction", shrink=0.6, pad=0.015, aspect=35, extend="max"
        )
    du, dv = maps[0].size_uv_mm
    figure.suptitle(
        f"Beam's-eye view from the source, isocentre plane; beamlets {du:g} × {dv:g} mm; leaves of "
        f"{content.leaf_width_mm:g} mm travel along {content.leaf_travel}; relative until segmented",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    style.footer(figure, content.research_statement)
    return figure


def _travel_arrow(ax: Axes, travel: str) -> None:
    start, end = ((0.06, 0.08), (0.36, 0.08)) if travel == "u" else ((0.08, 0.06), (0.08, 0.36))
    ax.annotate(
        "",
        xy=end,
        xytext=start,
        xycoords="axes fraction",
        arrowprops={"arrowstyle": "<->", "color": style.INK, "lw": 1.2},
    )
    at = (0.06, 0.11) if travel == "u" else (0.12, 0.08)
    ax.text(*at, "leaf travel", fontsize=7, transform=ax.transAxes)


# ---------------------------------------------------------------------------------------------------- uncertainty


def uncertainty(content: ReportContent, floor_percent: float = 10.0) -> Figure | None:
    """Relative standard deviation where the dose exceeds a share of the prescription; None where it is unknown."""
    if content.dose.rel_sigma is None:
        return None
    limits = limits_of(content)
    width, depth, height = (upper - lower for lower, upper in zip(*limits, strict=True))
    figure = style.new_figure(12.0, 0.88 * 12.0 * max(depth, height) / (2 * width + depth) + 0.6)
    axes = figure.subplots(1, 3, width_ratios=[width, width, depth])
    edges = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 10]
    colors = ListedColormap(
        ["#fff7ec", "#fee8c8", "#fdd49e", "#fdbb84", "#fc8d59", "#ef6548", "#d7301f", "#7f0000"], name="sigma"
    )
    mesh = None
    for ax, view in zip(axes, planes.VIEWS, strict=True):
        position = content.centre_xyz_mm[planes.LAYOUTS[view].normal]
        draw_ct(ax, content.ct, view, position, content.window)
        dose = planes.cut(content.dose.dose_Gy, content.dose.grid, view, position)
        sigma = planes.cut(content.dose.rel_sigma, content.dose.grid, view, position)
        shown = np.where(dose.values > floor_percent / 100 * content.prescription_Gy, 100 * sigma.values, np.nan)
        mesh = ax.imshow(
            shown, extent=dose.extent_mm, origin="lower", cmap=colors, norm=BoundaryNorm(edges, colors.N), zorder=1
        )
        draw_outlines(ax, content.structures, [content.target], view, position)
        dress(ax, view, limits)
        ax.set_title(view.capitalize())
    assert mesh is not None
    figure.colorbar(mesh, ax=axes, label="σ of the voxel's dose (%)", shrink=0.85, aspect=25, pad=0.01)
    style.footer(figure, content.research_statement)
    return figure
