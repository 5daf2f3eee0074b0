"""The charts of what is at the limit: the budget as a line not to be crossed, and half an hour of mixed load."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from serverpy.bench.report.canvas import Plot, bytes_axis, finished, grid, new_canvas
from serverpy.bench.report.results import Figure, Results, Row, number
from serverpy.bench.report.styles import shown
from serverpy.bench.report.svg import INK
from serverpy.bench.report.units import size


def promises(results: Results) -> Plot | None:
    """The serving process alone, from the moment at which all arrive."""
    lines = [line for line in results.series("promise") if len(line["t"]) > 1]
    if not lines:
        return None
    with new_canvas("promise", 8.6, 4.2) as canvas:
        axes = canvas.add_subplot()
        phrases = []
        for line in lines:
            title = f"{shown(str(line['target'])).title}{', memory limited' if line.get('limit') else ''}"
            _line(axes, line, title, dash=":" if line.get("limit") else None)
            phrases.append(f"{title} {size(max(line['pss']))} of {size(float(line['allowed']))}")
        allowed = min(float(line["allowed"]) for line in lines)
        axes.axhline(allowed, color=INK, linewidth=1.2, linestyle="--")
        axes.annotate("allowed: base, budget and a tenth", (0, allowed), xytext=(4, 4), textcoords="offset points",
                      fontsize=9)  # fmt: skip
        _finish(axes, "memory of the serving process (PSS)", "seconds since all arrived at once")
        axes.set_ylim(top=1.15 * max(allowed, *(max(line["pss"]) for line in lines)))
        caption = f"Thousands of clients at once, half of them slow; the highest of it: {'; '.join(phrases)}."
        return finished(canvas, "promise", "The memory budget as a promise", caption)


def soaked(results: Results) -> Plot | None:
    lines = [line for line in results.series("soak") if len(line["t"]) > 1]
    if not lines:
        return None
    with new_canvas("soak", 8.6, 3.8) as canvas:
        axes = canvas.add_subplot()
        for line in lines:
            in_minutes = {**line, "t": [t / 60 for t in line["t"]]}
            _line(axes, in_minutes, shown(str(line["target"])).title)
        _finish(axes, "memory of all processes (PSS)", "minutes")
        caption = f"Requests of all kinds and slow readers that come and go. {'; '.join(_trends(results, lines))}."
        return finished(canvas, "soak", "Memory under mixed load", caption)


def _trends(results: Results, lines: Sequence[Row]) -> list[str]:
    phrases = []
    for line in lines:
        row = next(iter(results.rows("soak", target=line["target"])), {})
        first, last = number(row, "pss_first_quarter"), number(row, "pss_last_quarter")
        if isinstance(first, Figure) and isinstance(last, Figure):
            title = shown(str(line["target"])).title
            phrases.append(f"{title}: {size(first.value)} in the first quarter, {size(last.value)} in the last")
    return phrases


def _line(axes: Axes, line: Row, title: str, dash: str | None = None) -> None:
    look = shown(str(line["target"]))
    every = max(1, len(line["t"]) // 8)
    axes.plot(
        line["t"],
        line["pss"],
        dash or look.dash,
        color=look.colour,
        marker=look.marker,
        markevery=every,
        label=title,
        linewidth=1.5,
        markersize=5,
    )


def _finish(axes: Axes, what: str, along: str) -> None:
    axes.set_ylim(bottom=0)
    axes.set_ylabel(what)
    axes.set_xlabel(along)
    bytes_axis(axes, "y")
    grid(axes, "both")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
