"""What all charts are drawn on: an SVG, made without a display, in the reader's colours."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter

from serverpy.bench.report.svg import INK, PAPER, finish
from serverpy.bench.report.units import size

GRID = 0.18


@dataclass(frozen=True, slots=True)
class Plot:
    """One chart: `name` is that of its file, `caption` says in a sentence what it shows, with figures."""

    name: str
    title: str
    caption: str
    svg: str


@contextmanager
def new_canvas(name: str, width: float, height: float) -> Iterator[Canvas]:
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.facecolor": PAPER,
        "axes.facecolor": "none",
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    }
    with mpl.rc_context(style):
        yield Canvas(figsize=(width, height), layout="constrained")


def finished(canvas: Canvas, name: str, title: str, caption: str) -> Plot:
    FigureCanvasSVG(canvas)
    file = io.StringIO()
    canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Plot(name, title, caption, finish(file.getvalue(), name, title, caption))


def grid(axes: Axes, axis: str) -> None:
    axes.grid(True, axis=axis, color=INK, alpha=GRID, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def bytes_axis(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: size(value) if value else "0"))
    axis.set_minor_formatter(NullFormatter())
