"""How every picture looks, and how it is written: one place for colours, line widths and reproducible files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mrlinac.errors import writing

INK, FAINT, PAPER = "#1d2733", "#6b7785", "#ffffff"


def halo(width: float) -> list[patheffects.AbstractPathEffect]:
    """A dark edge, ``width`` points over all, that keeps light lines and letters readable on a CT."""
    return [patheffects.withStroke(linewidth=width, foreground="black", alpha=0.55)]


HALO = halo(2.6)

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # travels with matplotlib: the same letters everywhere
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#d9dee4",
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",  # no fonts needed where the report is opened
    "svg.hashsalt": "mrlinac",  # without it matplotlib draws random identifiers
    "image.interpolation": "nearest",
    "path.simplify": True,
}

# Isodose levels in % of the prescription, from cold to warm; luminance rises with the level up to 95 %, and every
# line is named in the legend, so that no level depends on hue alone.
ISODOSE: tuple[tuple[float, str], ...] = (
    (20.0, "#3b4cc0"),
    (50.0, "#2c8fd6"),
    (70.0, "#1fb5a8"),
    (90.0, "#56c02b"),
    (95.0, "#f5d400"),
    (100.0, "#ff7f0e"),
    (105.0, "#c400c4"),
)

# Structures by TG-263 name. The report gives no hundred hues: what is drawn on the CT is what a planner looks for.
STRUCTURE: dict[str, str] = {
    "PTV": "#e41a1c",
    "CTV": "#ff9da7",
    "ITV": "#a678f0",
    "GTV": "#8b0000",
    "GTVn": "#a0522d",
    "Lungs": "#0b3c6f",
    "Lung_L": "#4aa3df",
    "Lung_R": "#1f77b4",
    "Heart": "#c44e9c",
    "SpinalCord": "#2ca02c",
    "SpinalCanal": "#17a398",
    "Esophagus": "#b8860b",
    "Trachea": "#7f7fff",
    "GreatVes": "#6a3d9a",
    "BrachialPlex": "#8c6d31",
    "Liver": "#8c564b",
    "Skin": "#555555",
    "External": "#9fb0c0",
}
_OTHERS = ("#5f6b7a", "#9467bd", "#bc6c25", "#2f6f73", "#7a5195", "#a05d56")

ON_CT = (
    "PTV",
    "CTV",
    "GTV",
    "GTVp",
    "GTVn",
    "ITV",
    "Lung_L",
    "Lung_R",
    "Heart",
    "SpinalCord",
    "Esophagus",
    "External",
)
"""What is outlined on the CT, where the plan has it."""


def structure_color(name: str) -> str:
    """Colour of a structure; variants (``PTV_eval``, ``SpinalCord_PRV05``) take that of the longest known stem."""
    if name in STRUCTURE:
        return STRUCTURE[name]
    stems = sorted((stem for stem in STRUCTURE if name.startswith(stem)), key=len, reverse=True)
    if stems:
        return STRUCTURE[stems[0]]
    return _OTHERS[sum(name.encode()) % len(_OTHERS)]


def structure_colors(names: Sequence[str]) -> dict[str, str]:
    """Colours of several structures, no two alike: variants of one stem are lightened step by step."""
    colors: dict[str, str] = {}
    for name in sorted(names, key=lambda n: n not in STRUCTURE):  # known names keep their colour
        color, step = structure_color(name), 0
        while color in colors.values():
            step += 1
            share = 0.45 * (1 - 0.6**step) / 0.4  # 45, 72, 88 % … of the way to a light grey: still seen on white
            rgb = (1 - min(share, 0.8)) * np.array(to_rgb(structure_color(name))) + min(share, 0.8) * 0.8
            red, green, blue = (float(c) for c in np.clip(rgb - 0.01 * step, 0, 1))
            color = to_hex((red, green, blue))
        colors[name] = color
    return {name: colors[name] for name in names}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """The house style for the time of a block; matplotlib's own settings come back afterwards."""
    # rc_file defaults first: a user's matplotlibrc must not change a report.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for key, value in _RC.items():
            matplotlib.rcParams[key] = value  # type: ignore[index]
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """A figure that belongs to no window system and no global list."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def footer(figure: Figure, text: str) -> None:
    """The line that goes with every picture wherever it is copied to."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        room = 0.2 / figure.get_figheight()
        engine.set(rect=(0, room, 1, 1 - room))
    figure.text(0.995, 0.004, text, ha="right", va="bottom", fontsize=7, color=FAINT)


def _settle(figure: Figure) -> None:
    """Lay the figure out once and round the result.

    The layout solver's last bits depend on addresses in memory; they would change identifiers in the SVG.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # a placeholder engine would have every file drawn twice
    for ax in figure.axes:
        left, bottom, width, height = (round(float(v), 5) for v in ax.get_position(original=True).bounds)
        ax.set_position((left, bottom, width, height))
    for text in figure.texts:
        x, y = text.get_position()
        text.set_position((round(float(x), 5), round(float(y), 5)))


def save(figure: Figure, folder: Path, name: str, dpi: int = 130) -> tuple[Path, Path]:
    """Write ``name.svg`` and ``name.png``; the same figure gives the same bytes. Call within :func:`styled`."""
    folder.mkdir(parents=True, exist_ok=True)
    _settle(figure)
    svg, png = folder / f"{name}.svg", folder / f"{name}.png"
    with writing(svg):
        figure.savefig(svg, format="svg", dpi=dpi, metadata={"Date": None, "Creator": "mrlinac"})
    with writing(png):
        figure.savefig(png, format="png", dpi=dpi, metadata={"Software": "mrlinac"})
    return svg, png
