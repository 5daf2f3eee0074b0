"""The canvas of all charts of the report: SVG, drawn without a display, with colours that follow the reader's light or
dark theme."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter

from serverpy.bench.report.styles import style_of
from serverpy.bench.report.svg import INK, PAPER, finish
from serverpy.bench.report.units import size

WIDTH = 8.6
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
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


@dataclass(frozen=True, slots=True)
class Chart:
    """A finished chart. `name` is its file name without `.svg`; `caption` describes the chart in words and figures."""

    name: str
    title: str
    caption: str
    svg: str


@contextmanager
def new_canvas(name: str, height: float, width: float = WIDTH) -> Iterator[Canvas]:
    style: Any = {**STYLE, "svg.hashsalt": name}
    with mpl.rc_context(style):
        yield Canvas(figsize=(width, height), layout="constrained")


def finished(canvas: Canvas, name: str, title: str, caption: str) -> Chart:
    FigureCanvasSVG(canvas)
    file = io.StringIO()
    canvas.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Chart(name, title, caption, finish(file.getvalue(), name, title, caption))


def grid(axes: Axes, axis: str) -> None:
    axes.grid(True, axis=axis, color=INK, alpha=0.18, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def bytes_axis(axes: Axes, which: str, label: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: size(value) if value else "0"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_label_text(label)


def draw_line(
    axes: Axes, target: str, xs: Sequence[float], ys: Sequence[float], label: str = "", dash: str = "", every: int = 1
) -> None:
    """Draw a line in the style of the server `target`, with a marker on one in `every` points."""
    style = style_of(target)
    axes.plot(xs, ys, dash or style.dash, color=style.colour, marker=style.marker, markevery=every,
              label=label or style.title, linewidth=1.8, markersize=5)  # fmt: skip


def legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)


def bar_text(axes: Axes, value: float, place: int, text: str) -> None:
    """Write the value of a bar just after the end of the bar."""
    axes.annotate(text, (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
