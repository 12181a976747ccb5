"""Pictures of one plan on its CT: isodoses, slices, uncertainty. Functions return a Figure and write nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mrlinac.anatomy.grid import Triple
from mrlinac.anatomy.image import Image
from mrlinac.anatomy.structures import StructureSet
from mrlinac.report import planes, style
from mrlinac.report.content import ReportContent

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
