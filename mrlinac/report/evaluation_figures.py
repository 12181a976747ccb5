"""Pictures of an evaluation: DVHs over one another, doses, differences and gamma in three planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mrlinac.anatomy.contours import rasterise
from mrlinac.anatomy.grid import Grid, Triple
from mrlinac.anatomy.structures import StructureSet
from mrlinac.constants import RESEARCH_ONLY
from mrlinac.recipe.evaluate import Evaluation, difference_map
from mrlinac.report import compare, diagrams, figures, planes, style

MOST_CURVES = 14
"""More structures than this are too many to tell apart: targets and organs go first, ``dvh.csv`` has all."""
DRAWN_GRID_mm = 2.0


def structures_of(evaluation: Evaluation) -> StructureSet:
    """What is outlined on the pictures, on a grid about the drawn structures."""
    rois = {name: evaluation.subject.rois[name] for name in _outlined(evaluation)}
    low = np.min([np.append(r.extent_xy_mm()[0], min(c.z_mm for c in r.contours)) for r in rois.values()], axis=0)
    high = np.max([np.append(r.extent_xy_mm()[1], max(c.z_mm for c in r.contours)) for r in rois.values()], axis=0)
    grid = Grid.covering(low - 4.0, high + 4.0, (3.0, DRAWN_GRID_mm, DRAWN_GRID_mm))
    return rasterise(rois, grid, continue_external=(False, False))


def _outlined(evaluation: Evaluation) -> list[str]:
    rois = evaluation.subject.rois
    known = [name for name in style.ON_CT if name in rois]
    more = [name for name, roi in rois.items() if roi.role == "target" and name not in known]
    return (known + more)[:12] or list(rois)[:12]


def centre_xyz_mm(evaluation: Evaluation, structures: StructureSet) -> Triple:
    """Where the planes are laid: the first target's centroid, else where the reference dose is highest."""
    targets = [name for name in structures if structures[name].role == "target"]
    if targets:
        return structures.centroid_xyz_mm(targets[0])
    dose = next(iter(evaluation.doses.values()))
    hottest = np.unravel_index(int(np.argmax(dose.dose_Gy)), dose.grid.shape_zyx)
    x, y, z = (float(v) for v in dose.grid.position_xyz_mm(np.array(hottest, float)))
    return (x, y, z)


def dvhs(evaluation: Evaluation) -> Figure:
    """DVHs of all doses over one another: colour says structure, line style says dose."""
    names = [n for n in evaluation.subject.names if evaluation.subject.role(n) in ("target", "oar")]
    names = sorted(names, key=lambda n: evaluation.subject.role(n) != "target")
    names = (names or evaluation.subject.names)[:MOST_CURVES]
    colors = style.structure_colors(names)
    figure = style.new_figure(11.0, 6.2)
    ax = figure.add_subplot()
    for curves, line in zip(evaluation.dvh.values(), compare.LINES, strict=False):
        for name in names:
            if name in curves:
                ax.plot(*diagrams.dvh_curve(curves[name]), color=colors[name], ls=line, lw=1.8)
    top_Gy = max(float(dose.dose_Gy.max()) for dose in evaluation.doses.values())
    if evaluation.prescription_Gy is not None:
        diagrams.draw_prescription(ax, evaluation.prescription_Gy)
        top_Gy = min(max(top_Gy, evaluation.prescription_Gy), 1.5 * evaluation.prescription_Gy)
    diagrams.dress_dvh(ax, max(1.05 * top_Gy, 0.1))
    handles = [
        Line2D([], [], color=style.INK, ls=line, lw=1.8, label=label)
        for label, line in zip(evaluation.doses, compare.LINES, strict=False)
    ]
    handles += [Line2D([], [], color=colors[name], lw=3, label=_marked(evaluation, name)) for name in names]
    figure.legend(handles=handles, loc="outside right upper", labelspacing=0.55, handlelength=3.0)
    ax.set_title("DVHs: colour is the structure" + (", line style the dose" if len(evaluation.doses) > 1 else ""))
    style.footer(figure, RESEARCH_ONLY)
    return figure


def _marked(evaluation: Evaluation, name: str) -> str:
    """A structure's name, with a word where no person drew it."""
    return name if evaluation.subject.origin(name) == "drawn" else f"{name} (derived)"


def isodoses(evaluation: Evaluation, label: str, structures: StructureSet) -> Figure:
    """Isodoses of one dose in three planes, on the CT where there is one."""
    dose = evaluation.doses[label]
    whole_Gy = evaluation.prescription_Gy or float(dose.dose_Gy.max())
    percent = dose.dose_Gy * np.float32(100 / whole_Gy if whole_Gy > 0 else 0.0)
    levels, colors = [level for level, _ in style.ISODOSE], [color for _, color in style.ISODOSE]
    figure, axes, centre = _three(evaluation, structures)
    for ax, view in zip(axes, planes.VIEWS, strict=True):
        plane = planes.cut(percent, dose.grid, view, centre[planes.LAYOUTS[view].normal])
        if plane.values.max() > levels[0]:
            ax.contour(plane.across_mm, plane.up_mm, plane.values, levels=levels, colors=colors, linewidths=1.1)
    handles = [Line2D([], [], color=color, lw=2, label=f"{level:g} %") for level, color in style.ISODOSE]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    of = "the prescription" if evaluation.prescription_Gy else "the dose's maximum"
    figure.suptitle(
        f"Isodoses of {label}, per cent of {of} ({whole_Gy:.4g} Gy)",
        x=0.01,
        ha="left",
        fontsize=10,
        fontweight="bold",
    )
    style.footer(figure, RESEARCH_ONLY)
    return figure


def difference(evaluation: Evaluation, label: str, structures: StructureSet) -> Figure:
    """Dose minus the first dose in three planes, in Gy."""
    reference = next(iter(evaluation.doses))
    gap = difference_map(evaluation, label)
    known = np.abs(gap[np.isfinite(gap)])
    top = max(float(np.quantile(known, 0.998)), 1e-3) if known.size else 1.0
    return _map(
        evaluation,
        np.nan_to_num(gap),
        structures,
        f"Dose of {label} minus {reference}",
        f"{label} − {reference} (Gy)",
        ("PuOr_r", -top, top),
    )


def gamma(evaluation: Evaluation, label: str, structures: StructureSet) -> Figure:
    """Gamma of a dose against the first one in three planes."""
    gamma_map = evaluation.gamma[label]
    title = f"Gamma of {label}: {gamma_map.criteria}, {gamma_map.passing_percent():.1f} % pass"
    return _map(evaluation, gamma_map.values, structures, title, "gamma", ("RdYlBu_r", 0.0, 2.0))


def _map(
    evaluation: Evaluation,
    values: NDArray[np.float32],
    structures: StructureSet,
    title: str,
    label: str,
    scale: tuple[str, float, float],
) -> Figure:
    """Values on the reference's grid as a colour wash over the three planes."""
    grid = next(iter(evaluation.doses.values())).grid
    figure, axes, centre = _three(evaluation, structures)
    cmap, low, high = scale
    mesh = None
    for ax, view in zip(axes, planes.VIEWS, strict=True):
        plane = planes.cut(values, grid, view, centre[planes.LAYOUTS[view].normal])
        strength: NDArray[np.float32] | float = 0.6
        if low < 0:  # a small difference stays transparent
            strength = np.asarray(np.clip(np.abs(plane.values) / (0.25 * high), 0, 1) * 0.75, np.float32)
        mesh = ax.imshow(
            plane.values, cmap=cmap, vmin=low, vmax=high, alpha=strength, extent=plane.extent_mm, origin="lower"
        )
    assert mesh is not None
    figure.colorbar(compare.opaque(mesh), ax=list(axes), label=label, shrink=0.85, aspect=25, pad=0.01, extend="both")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    style.footer(figure, RESEARCH_ONLY)
    return figure


def _three(evaluation: Evaluation, structures: StructureSet) -> tuple[Figure, Sequence[Axes], Triple]:
    """Three planes with CT and outlines, ready for a dose."""
    centre = centre_xyz_mm(evaluation, structures)
    limits = (structures.grid.lower_xyz_mm, structures.grid.upper_xyz_mm)
    width, depth, height = (upper - lower for lower, upper in zip(*limits, strict=True))
    figure = style.new_figure(12.0, 0.88 * 12.0 * max(depth, height) / (2 * width + depth) + 1.1)
    axes = figure.subplots(1, 3, width_ratios=[width, width, depth])
    for ax, view in zip(axes, planes.VIEWS, strict=True):
        position = centre[planes.LAYOUTS[view].normal]
        if evaluation.subject.image is not None:
            figures.draw_ct(ax, evaluation.subject.image, view, position)
        figures.draw_outlines(ax, structures, list(structures), view, position)
        figures.dress(ax, view, limits)
        ax.set_title(figures.plane_title(view, position, centre), fontsize=9)
    return figure, axes, centre
