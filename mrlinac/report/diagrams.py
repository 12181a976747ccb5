"""Diagrams of one plan that need no image: DVHs, fluences and segments. Functions return a Figure and write nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from dicompylercore.dvh import DVH
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mrlinac.anatomy.structures import StructureSet
from mrlinac.dose.grammar import parse
from mrlinac.machine.beams import BeamletMap
from mrlinac.machine.delivery import Segment
from mrlinac.machine.model import Mlc
from mrlinac.report import style
from mrlinac.report.content import ReportContent, is_upper

Edges = NDArray[np.float64]


# ------------------------------------------------------------------------------------------------------------ DVH


def dvh_curve(dvh: DVH) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dose in Gy and the volume in % that receives at least that dose, from 100 % down to 0 %."""
    cumulative = dvh.cumulative.relative_volume
    dose = np.asarray(cumulative.bins, float)
    volume = np.append(np.asarray(cumulative.counts, float), 0.0)
    return dose, volume[: len(dose)]


def dvh_names(content: ReportContent) -> list[str]:
    """Structures in the order of the legend: targets, then organs; no body, couch or helpers of the optimiser.

    Where goals are given, only targets and what a goal speaks of are drawn; ``dvh.csv`` has all.
    """
    dvhs, structures = content.dvhs, content.structures
    order = {"target": 0, "oar": 1}
    judged = set(content.goals["structure"])
    shown = [n for n in dvhs if n not in structures or structures[n].role in ("target", "oar", "other")]
    shown = [n for n in shown if n != "External" and not n.startswith(("z_", "_", "Ring", "Body-"))]
    if judged:
        shown = [n for n in shown if n in judged or (n in structures and structures[n].role == "target")]
    return sorted(shown, key=lambda n: order.get(structures[n].role, 2) if n in structures else 2)


def goal_mark(metric: str, limit: float, volume_cc: float) -> tuple[float, float] | None:
    """Where a goal lies in the DVH diagram: dose in Gy and volume in %; None for goals that are no point there."""
    wanted = parse(metric)
    if wanted.form == "dose_at" and wanted.unit == "Gy":
        volume = wanted.level if wanted.level_unit == "%" else wanted.level / volume_cc * 100
        return (limit, volume)
    if wanted.form == "volume_at" and wanted.level_unit == "Gy":
        return (wanted.level, limit if wanted.unit == "%" else limit / volume_cc * 100)
    return None


def dvh(content: ReportContent) -> Figure:
    """Cumulative DVHs with the prescription and a mark at every goal that is a point of the diagram."""
    figure = style.new_figure(11.0, 6.0)
    ax = figure.add_subplot()
    names = dvh_names(content)
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
    if (
        name not in dvhs
        or limit is None
        or not np.isfinite(float(limit))
        or goal["verdict"] in ("report", "absent", "void")
    ):
        return
    point = goal_mark(str(goal["metric"]), float(limit), float(dvhs[name].cumulative.counts.max()))
    if point is None:
        return
    # A goal judged on the dose scaled to an escalation's floor lies so much further along this one.
    point = point[0] / float(goal.get("scaled", 1.0)), point[1]
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
        ax.set_title(f"gantry {beamlets.beam.gantry_deg:g}°   highest {mu.max(initial=0):.0f} MU", fontsize=9)
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
        f"{content.leaf_width_mm:g} mm travel along {content.leaf_travel}; "
        f"{'relative until segmented' if content.segments is None else 'before segmentation'}",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    style.footer(figure, content.research_statement)
    return figure


def segments(content: ReportContent) -> Figure | None:
    """Every segment as seen from the source, beam after beam; None for a plan that is a fluence."""
    if content.segments is None:
        return None
    shapes, mlc = content.segments.segments, content.segments.mlc
    openings = [_opened(shape, mlc) for shape in shapes]
    corners = np.concatenate(openings)
    low, high = corners[:, :2].min(0) - 8, corners[:, 2:].max(0) + 8
    columns = min(10, len(shapes))
    rows = -(-len(shapes) // columns)
    width_in = 10.6
    cell_in = width_in / columns
    height_in = rows * (cell_in * (high[1] - low[1]) / (high[0] - low[0]) + 0.25) + 0.8
    figure = style.new_figure(width_in, min(height_in, 22.0))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.ravel():
        ax.set_axis_off()
    for ax, shape, opened in zip(axes.ravel(), shapes, openings, strict=False):
        area_cm2 = float(np.prod(opened[:, 2:] - opened[:, :2], axis=1).sum()) / 100
        for u, v, far_u, far_v in opened:
            ax.add_patch(Rectangle((u, v), far_u - u, far_v - v, facecolor=style.INK, edgecolor="none"))
        frame = (low, *(high - low))
        ax.add_patch(Rectangle(*frame, facecolor="none", edgecolor=style.FAINT, lw=0.6))
        ax.plot([0], [0], "+", color=style.PAPER, ms=4, mew=0.6)
        ax.set_title(f"{shape.beam.gantry_deg:g}°  {shape.mu:.1f} MU\n{area_cm2:.0f} cm²", fontsize=6.5, pad=2)
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    figure.suptitle(
        f"Beam's-eye view of the {len(shapes)} segments from the source, u = X to the right, v = Y up; frame "
        f"{high[0] - low[0]:.0f} × {high[1] - low[1]:.0f} mm on the isocentre plane; leaves travel along {mlc.travel}",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    style.footer(figure, content.research_statement)
    return figure


def _opened(segment: Segment, mlc: Mlc) -> NDArray[np.float64]:
    """Rectangles (n, 4) that leaves and diaphragms leave open: low u, low v, high u, high v."""
    edges_mm = mlc.leaf_edges_mm
    bottom = np.maximum(edges_mm[:-1], segment.diaphragm_mm[0])
    top = np.minimum(edges_mm[1:], segment.diaphragm_mm[1])
    left, right = segment.leaf_mm.T
    if segment.jaw_mm is not None:
        left, right = np.maximum(left, segment.jaw_mm[0]), np.minimum(right, segment.jaw_mm[1])
    opened = (top > bottom) & (right > left)
    travel = (left, bottom, right, top) if mlc.travel == "u" else (bottom, left, top, right)
    return np.asarray(np.stack(travel, axis=1)[opened])


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
