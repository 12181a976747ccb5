"""Pictures of several plans of one patient beside one another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from mrlinac.report import diagrams, figures, planes, skin, style, tables
from mrlinac.report.content import ReportContent

LINES: tuple[object, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
"""One line style per plan; a structure keeps its colour."""
HATCHES = ("", "///", "...", "xxx")
_PLAN_COLORS = ("#1f4e79", "#d98c00", "#4f8a3d", "#8b4f8b")


def dvhs(contents: Mapping[str, ReportContent]) -> Figure:
    """DVHs of all plans over one another: colour says structure, line style says plan."""
    first = next(iter(contents.values()))
    figure = style.new_figure(11.0, 6.2)
    ax = figure.add_subplot()
    names: list[str] = []
    for content in contents.values():  # a structure that only one plan has is shown, not dropped
        names += [n for n in diagrams.dvh_names(content) if n not in names]
    colors = style.structure_colors(names)
    for content, line in zip(contents.values(), LINES, strict=False):
        for name in names:
            if name in content.dvhs:
                ax.plot(*diagrams.dvh_curve(content.dvhs[name]), color=colors[name], ls=line, lw=1.8)
    ax.set_title("DVHs: colour is the structure, line style the plan")
    for prescription_Gy in sorted({content.prescription_Gy for content in contents.values()}):
        diagrams.draw_prescription(ax, prescription_Gy)
    diagrams.dress_dvh(ax, max(content.prescription_Gy for content in contents.values()) * 1.15)
    handles = [
        Line2D([], [], color=style.INK, ls=line, lw=1.8, label=p) for p, line in zip(contents, LINES, strict=False)
    ]
    handles += [Line2D([], [], color=colors[name], lw=3, label=name) for name in names]
    figure.legend(handles=handles, loc="outside right upper", labelspacing=0.55, handlelength=3.0)
    style.footer(figure, first.research_statement)
    return figure


def dose_on(content: ReportContent, like: ReportContent) -> NDArray[np.float32]:
    """Course dose of a plan on another plan's grid, linear; the dose itself where the grids are equal."""
    target, source = like.dose.grid, content.dose.grid
    if target == source:
        return content.dose.dose_Gy
    axes = np.meshgrid(target.z_mm, target.y_mm, target.x_mm, indexing="ij")
    index = source.index_zyx(np.stack([axes[2], axes[1], axes[0]], axis=-1))
    moved = map_coordinates(content.dose.dose_Gy, np.moveaxis(index, -1, 0), order=1, mode="constant")
    return np.asarray(moved, np.float32)


def difference(label: str, content: ReportContent, base_label: str, base: ReportContent) -> Figure:
    """Dose of a plan minus the first plan's in three planes, in Gy of the course."""
    gap = dose_on(content, base) - base.dose.dose_Gy
    if "External" in base.structures:
        gap = np.where(base.structures["External"].occupancy > 0, gap, np.float32(0))
    top = (
        max(float(np.quantile(np.abs(gap[base.structures["External"].occupancy > 0.5]), 0.995)), 0.5)
        if ("External" in base.structures)
        else max(float(np.abs(gap).max()), 0.5)
    )
    limits, names = figures.limits_of(base), figures.outlined(base.structures)
    width, depth, height = (upper - lower for lower, upper in zip(*limits, strict=True))
    page_in = 12.0
    figure = style.new_figure(page_in, 0.88 * page_in * max(depth, height) / (2 * width + depth) + 0.9)
    axes = figure.subplots(1, 3, width_ratios=[width, width, depth])
    mesh = None
    for ax, view in zip(axes, planes.VIEWS, strict=True):
        position = base.centre_xyz_mm[planes.LAYOUTS[view].normal]
        figures.draw_ct(ax, base.ct, view, position, base.window)
        plane = planes.cut(gap, base.dose.grid, view, position)
        # Small differences stay transparent: there the CT is what one wants to see.
        strength = np.clip(np.abs(plane.values) / (0.25 * top), 0, 1) * 0.75
        mesh = ax.imshow(
            plane.values,
            cmap="PuOr_r",
            vmin=-top,
            vmax=top,
            alpha=strength,
            extent=plane.extent_mm,
            origin="lower",
            zorder=1,
        )
        figures.draw_outlines(ax, base.structures, names, view, position)
        figures.dress(ax, view, limits)
        ax.set_title(figures.plane_title(view, position, base.isocentre_xyz_mm), fontsize=9)
    assert mesh is not None
    figure.colorbar(
        opaque(mesh),
        ax=axes,
        label=f"{label} − {base_label} (Gy, course)",
        shrink=0.85,
        aspect=25,
        pad=0.01,
        extend="both",
    )
    figure.suptitle(f"Dose of {label} minus {base_label}", x=0.01, ha="left", fontsize=10, fontweight="bold")
    style.footer(figure, base.research_statement)
    return figure


def opaque(mesh: AxesImage) -> ScalarMappable:
    """The same colours without the picture's own transparency, for a colour bar."""
    return ScalarMappable(norm=mesh.norm, cmap=mesh.cmap)


def skin_bars(contents: Mapping[str, ReportContent]) -> Figure | None:
    """Skin metrics as bars with one standard deviation; None where no plan has any."""
    rows = [r for r in tables.side_by_side(contents, "skin", ("metric", "region")) if r[1]]
    if not rows:
        return None
    first = next(iter(contents.values()))
    figure = style.new_figure(11.0, 0.9 + 0.22 * len(rows) * (len(contents) + 0.8))
    ax = figure.add_subplot()
    thickness = 0.8 / len(contents)
    for number, label in enumerate(contents):
        for place, (_, plans) in enumerate(rows):
            if label not in plans:
                continue
            value = float(plans[label]["value"])
            sigma = plans[label].get("sigma")
            known = sigma is not None and np.isfinite(float(sigma))
            at = place + (number - (len(contents) - 1) / 2) * thickness
            ax.barh(
                at,
                value,
                height=thickness * 0.92,
                color=_PLAN_COLORS[number % len(_PLAN_COLORS)],
                hatch=HATCHES[number % len(HATCHES)],
                edgecolor="white",
                lw=0.5,
                xerr=float(sigma) if known else None,  # type: ignore[arg-type]
                error_kw={"ecolor": style.INK, "lw": 1.0, "capsize": 2},
                label=label if place == 0 else None,
            )
            ax.text(value + (float(sigma) if known else 0.0), at, f"  {value:.1f}", va="center", fontsize=8)  # type: ignore[arg-type]
    ax.set_yticks(range(len(rows)), [f"{metric}, {region}" for (metric, region), _ in rows])
    ax.invert_yaxis()
    ax.set_xlabel("skin dose of the course (Gy); bars ± 1 σ")
    ax.margins(x=0.08)
    ax.grid(True, axis="x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside right upper")
    style.footer(figure, first.research_statement)
    return figure


def skin_maps(contents: Mapping[str, ReportContent]) -> Figure | None:
    """Unfolded skin dose of every plan on one colour scale; None where a plan has no ``Skin``."""
    maps = {label: skin.unfold(content) for label, content in contents.items()}
    known = {label: m for label, m in maps.items() if m is not None and np.isfinite(m.dose_Gy).any()}
    if len(known) != len(contents):
        return None
    first = next(iter(contents.values()))
    top = max(float(np.nanmax(m.dose_Gy)) for m in known.values())
    figure = style.new_figure(11.0, 0.6 + 3.5 * len(known))
    axes = figure.subplots(len(known), 1, squeeze=False)[:, 0]
    mesh = None
    for ax, (label, unfolded) in zip(axes, known.items(), strict=True):
        mesh = skin.draw_map(ax, contents[label], unfolded, top)
        ax.set_title(label)
    for ax in axes[:-1]:
        ax.set_xlabel("")
    assert mesh is not None
    figure.colorbar(mesh, ax=axes, label="mean dose of Skin (Gy, course)", pad=0.015, aspect=40)
    style.footer(figure, first.research_statement)
    return figure
