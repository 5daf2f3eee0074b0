"""The charts of the report, drawn from the results of a run. Only this module and `canvas` load matplotlib (extra
`bench`). The same results produce the same bytes.

Every server has one colour, one marker and one line style in all charts. All colours have a contrast of at least 3 to 1
against the light and the dark page. No chart depends on colour alone: each bar shows its value, each line has its
marker. A chart whose scenario was not measured is not drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from serverpy.bench.report.canvas import Chart, bar_text, bytes_axis, draw_line, finished, grid, legend, new_canvas
from serverpy.bench.report.claims import claim_on
from serverpy.bench.report.results import Figure, Results, Row, number, unsound
from serverpy.bench.report.selectors import find
from serverpy.bench.report.styles import STYLES, style_of
from serverpy.bench.report.svg import INK, PAPER
from serverpy.bench.report.units import MB, digits, seconds, size, whole_size

PARTS = ("#3a7fd0", "#c56a0a", "#128f68", "#c2558d", "#8b6fd0", "#8a7d1c", "#1b8ea3", "#d3483f", "#7d7d7d")
"""Colours of the parts of the stacked bars: one for each step of the scenario `steps`, in order."""


def draw_all(results: Results) -> list[Chart]:
    """Draw every chart for which the results have data, in the order of the report."""
    return [chart for draw in CHARTS if (chart := draw(results)) is not None]


# --- What a process is made of -------------------------------------------------------------------------------------

PROCESSES = (
    ("server", "ServerPY: the serving process"),
    ("worker", "ServerPY: the worker with yt-dlp"),
    ("one process, stock", "all in one process,\nstock yt-dlp"),
)
CLAIMED_STEPS = (
    ("interpreter", 40 * MB), ("framework", 25 * MB), ("yt-dlp imported", 40 * MB), ("a thread", 12.5 * MB),
    ("a hand-over", 10.5 * MB), ("a client connection", 7.5 * MB),
)  # fmt: skip
"""The memory in bytes that the founding document claims for each step of the first embedded request (midpoints of its
ranges)."""


def breakdown(results: Results) -> Chart | None:
    rows = [row for row in results.rows("steps") if row.get("added") is not None]
    steps = list(dict.fromkeys(str(row["step"]) for row in rows))
    colours = {step: PARTS[index % len(PARTS)] for index, step in enumerate(steps)}
    bars: list[tuple[str, Sequence[tuple[str, float]]]] = [
        (label, parts)
        for process, label in PROCESSES
        if (parts := [(str(row["step"]), float(row["added"])) for row in rows if row["process"] == process])
    ]
    if not bars:
        return None
    bars.append(("the document's claim (midpoint)", CLAIMED_STEPS))
    with new_canvas("breakdown", 1.7 + 0.62 * len(bars)) as canvas:
        axes = canvas.add_subplot()
        totals = [_stack(axes, place, parts, colours) for place, (_, parts) in enumerate(bars)]
        axes.set_yticks(range(len(bars)), [label for label, _ in bars])
        axes.invert_yaxis()
        bytes_axis(axes, "x", "memory (PSS)")
        grid(axes, "x")
        axes.margins(x=0.12)
        handles = [Rectangle((0, 0), 1, 1, color=colours[step]) for step in steps]
        canvas.legend(handles, steps, loc="outside lower center", ncols=4, fontsize=9)
        labels = [label.replace("\n", " ") for label, _ in bars[:-1]]
        text = ", ".join(f"{label} {size(total)}" for label, total in zip(labels, totals, strict=False))
        caption = f"Memory until one stream runs; each colour is what one step added: {text}."
        return finished(canvas, "breakdown", "What the memory consists of", caption)


def _stack(axes: Axes, place: int, parts: Sequence[tuple[str, float]], colours: dict[str, str]) -> float:
    """Draw one stacked bar, one part for each step. A step that freed memory is not drawn, but the table shows it."""
    left = 0.0
    for step, added in parts:
        width = max(added, 0.0)
        axes.barh(place, width, left=left, color=colours.get(step, PARTS[-1]), height=0.62)
        if width >= 7 * MB:
            axes.text(left + width / 2, place, digits(width / MB), ha="center", va="center", color="#ffffff",
                      fontsize=9)  # fmt: skip
        left += width
    bar_text(axes, left, place, size(left))
    return left


# --- Memory over time ----------------------------------------------------------------------------------------------


def over_time(results: Results) -> Chart | None:
    lines = results.series("over-time")
    if not lines:
        return None
    with new_canvas("over-time", 4.6) as canvas:
        memory, people = canvas.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        phrases = []
        for line in lines:
            style = style_of(line["target"])
            _over(memory, line, style.title)
            people.plot(line["t"], line["clients"], style.dash, color=style.colour, linewidth=1.5)
            end = size(float(line["pss"][-1]))
            phrases.append(f"{style.title} {size(max(line['pss']))} at its peak and {end} at the end")
        _time_axes(memory, "memory of all processes (PSS)", "")
        people.set_ylabel("clients")
        people.set_xlabel("seconds")
        people.set_ylim(bottom=0)
        grid(people, "both")
        caption = f"Clients arrive, stay and leave: {'; '.join(phrases)}. Below: the number of connected clients."
        return finished(canvas, "over-time", "Memory over time", caption)


def promise(results: Results) -> Chart | None:
    """Draw the memory of the serving process alone, from the moment at which all clients arrive."""
    lines = results.series("promise")
    if not lines:
        return None
    with new_canvas("promise", 4.2) as canvas:
        axes = canvas.add_subplot()
        phrases = []
        for line in lines:
            title = f"{style_of(line['target']).title}{', memory limited' if line.get('limit') else ''}"
            _over(axes, line, title, dash=":" if line.get("limit") else "")
            phrases.append(f"{title} {size(max(line['pss']))} of {size(float(line['allowed']))}")
        allowed = min(float(line["allowed"]) for line in lines)
        axes.axhline(allowed, color=INK, linewidth=1.2, linestyle="--")
        axes.annotate("allowed: base + 110 % of the budget", (0, allowed), xytext=(4, 4), textcoords="offset points",
                      fontsize=9)  # fmt: skip
        _time_axes(axes, "memory of the serving process (PSS)", "seconds since all clients arrived at once")
        axes.set_ylim(top=1.15 * max(allowed, *(max(line["pss"]) for line in lines)))
        caption = f"Thousands of clients at once, half of them slow. Peak memory and limit: {'; '.join(phrases)}."
        return finished(canvas, "promise", "The memory budget as a promise", caption)


def soak(results: Results) -> Chart | None:
    lines = results.series("soak")
    if not lines:
        return None
    with new_canvas("soak", 3.8) as canvas:
        axes = canvas.add_subplot()
        phrases = []
        for line in lines:
            title = style_of(line["target"]).title
            _over(axes, {**line, "t": [t / 60 for t in line["t"]]}, title)
            row = results.row("soak", target=line["target"])
            ends = [number(row, name) for name in ("pss_first_quarter", "pss_last_quarter")]
            first, last = (size(end.value) if isinstance(end, Figure) else end.reason for end in ends)
            phrases.append(f"{title}: {first} in the first quarter, {last} in the last")
        _time_axes(axes, "memory of all processes (PSS)", "minutes")
        caption = f"Requests of all kinds and slow readers that come and go. {'; '.join(phrases)}."
        return finished(canvas, "soak", "Memory under mixed load", caption)


def _over(axes: Axes, line: Row, label: str, dash: str = "") -> None:
    draw_line(axes, line["target"], line["t"], line["pss"], label, dash, every=max(1, len(line["t"]) // 8))


def _time_axes(axes: Axes, what: str, along: str) -> None:
    axes.set_ylim(bottom=0)
    bytes_axis(axes, "y", what)
    axes.set_xlabel(along)
    grid(axes, "both")
    legend(axes)


# --- Bars ----------------------------------------------------------------------------------------------------------

Bar = tuple[str, str, float, str]
"""A bar: label, server, value, and the text after the bar. Bars of streams from https media servers are hatched."""


def per_stream(results: Results) -> Chart | None:
    bars: list[Bar] = []
    for target in STYLES:
        for scheme in ("http", "https"):
            found = find(f"crowd(target, max, {scheme})[each_pss]", results, target)
            if isinstance(found, Figure) and found.value > 0:
                bars.append((_label(target, scheme), target, found.value, size(found.value)))
    if not bars:
        return None
    bars.sort(key=lambda bar: bar[2])
    with new_canvas("per-stream", 1.0 + 0.34 * len(bars)) as canvas:
        axes = canvas.add_subplot()
        axes.set_xscale("log")
        _bars(axes, bars, top=-1.1, room=0.18)
        axes.axvspan(15 * MB, 35 * MB, color=INK, alpha=0.10, linewidth=0)
        axes.text(23 * MB, -0.75, "claimed, embedded", ha="center", va="center", fontsize=8)
        bytes_axis(axes, "x", "memory of each further slow reader (PSS, logarithmic)")
        least, most = bars[0], bars[-1]
        caption = (
            f"From {least[3]} ({least[0]}) to {most[3]} ({most[0]}); "
            "the grey band is the document's claim for an embedded request, 15 to 35 MB."
        )
        return finished(canvas, "per-stream", "Memory of each further stream", caption)


def cpu_per_gb(results: Results) -> Chart | None:
    bars: list[Bar] = []
    for scheme in ("http", "https"):
        for target in STYLES:
            row = results.row("throughput", target=target, scheme=scheme)
            cpu, ratio = number(row, "cpu_per_gb"), number(row, "ratio_to_nginx")
            if isinstance(cpu, Figure):
                beside = f" · {digits(ratio.value)} × nginx" if isinstance(ratio, Figure) else ""
                bars.append((_label(target, scheme), target, cpu.value, f"{digits(cpu.value)} s{beside}"))
    if not bars:
        return None
    with new_canvas("cpu", 1.0 + 0.34 * len(bars)) as canvas:
        axes = canvas.add_subplot()
        _bars(axes, bars, top=-0.6, room=0.28)
        axes.set_xlim(left=0)
        axes.set_xlabel("CPU seconds per GB relayed to one fast reader")
        least, most = min(bars, key=lambda bar: bar[2]), max(bars, key=lambda bar: bar[2])
        caption = f"From {least[3]} ({least[0]}) to {most[3]} ({most[0]})."
        return finished(canvas, "cpu", "CPU per GB", caption)


def _label(target: str, scheme: str) -> str:
    return f"{style_of(target).title}, {scheme} source"


def _bars(axes: Axes, bars: Sequence[Bar], top: float, room: float) -> None:
    for place, (label, target, value, text) in enumerate(bars):
        hatch = "////" if label.endswith("https source") else None
        axes.barh(place, value, color=style_of(target).colour, height=0.66, hatch=hatch, edgecolor=PAPER, linewidth=0)
        bar_text(axes, value, place, text)
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars], fontsize=9)
    axes.set_ylim(len(bars) - 0.4, top)
    axes.margins(x=room)
    grid(axes, "x")


# --- The whole process by number of clients ------------------------------------------------------------------------


def by_clients(results: Results) -> Chart | None:
    lines: dict[str, list[tuple[int, float]]] = {}
    for target in STYLES:
        rows = [row for row in results.rows("crowd", target=target, scheme="http") if unsound(row) is None]
        if points := sorted((int(row["clients"]), float(row["peak_pss"])) for row in rows):
            lines[target] = points
    if not lines:
        return None
    with new_canvas("by-clients", 4.6) as canvas:
        axes = canvas.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        _claimed_ranges(axes)
        for target, points in lines.items():
            xs, ys = zip(*points, strict=True)
            draw_line(axes, target, xs, ys)
        counts = sorted({count for points in lines.values() for count, _ in points} | {10, 50, 200})
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("clients at once, reading 64 KB per second (logarithmic)")
        bytes_axis(axes, "y", "memory of all processes (PSS, logarithmic)")
        grid(axes, "both")
        legend(axes)
        ends = "; ".join(f"{style_of(t).title} {size(p[-1][1])} at {p[-1][0]:,}" for t, p in lines.items())
        caption = f"Memory of all processes, base included: {ends}. The wide bars are the document's claims."
        return finished(canvas, "by-clients", "The whole process by number of clients", caption)


def _claimed_ranges(axes: Axes) -> None:
    for clients in (10, 50, 200):
        for what, target, shift in (("children", "subprocess", 0.94), ("embedded", "embedded", 1.06)):
            claimed = claim_on(f"{what}, at {clients}", target).range
            label = f"claimed for {target}" if clients == 10 else None
            axes.plot([clients * shift] * 2, [claimed.low or 0, claimed.high or 0], color=style_of(target).colour,
                      linewidth=7, alpha=0.6, solid_capstyle="butt", label=label)  # fmt: skip


# --- Queue and chunk -----------------------------------------------------------------------------------------------


def queue_by_chunk(results: Results) -> Chart | None:
    rows = [r for r in results.rows("hand-over") if None not in (r.get("each_pss"), r.get("pipe_bytes"))]
    if not rows:
        return None
    queues = sorted({int(row["queue_chunks"]) for row in rows})
    chunks = sorted({int(row["chunk_bytes"]) for row in rows})
    held = [float(row["each_pss"]) + float(row["pipe_bytes"]) for row in rows]
    with new_canvas("queue", 1.5 + 0.72 * len(queues), width=7.6) as canvas:
        axes = canvas.add_subplot()
        for row, value in zip(rows, held, strict=True):
            x, y = chunks.index(int(row["chunk_bytes"])), queues.index(int(row["queue_chunks"]))
            _cell(axes, x, y, value / max(held), _cell_text(value, row))
        axes.set_xlim(0, len(chunks))
        axes.set_ylim(len(queues), 0)
        axes.set_xticks([x + 0.5 for x in range(len(chunks))], [whole_size(chunk) for chunk in chunks])
        axes.set_yticks([y + 0.5 for y in range(len(queues))], [str(queue) for queue in queues])
        axes.set_xlabel("chunk")
        axes.set_ylabel("chunks in the queue")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        caption = (
            f"Memory of one embedded stream with a slow reader, in process and pipe: {size(min(held))} to "
            f"{size(max(held))}. Below it: the throughput of a fast reader, and its time to the first byte."
        )
        return finished(canvas, "queue", "Queue and chunk", caption)


def _cell(axes: Axes, x: int, y: int, part: float, text: str) -> None:
    """Draw one cell of the heat map. Darker means more memory; the text is white on the darker half of the cells, black
    on the lighter half."""
    shade = [1 - (1 - full) * (0.15 + 0.85 * part**0.5) for full in (0.10, 0.34, 0.60)]
    axes.add_patch(Rectangle((x + 0.02, y + 0.03), 0.96, 0.94, color=shade, linewidth=0))
    ink = "#ffffff" if part**0.5 > 0.55 else "#111111"
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=9, color=ink)


def _cell_text(value: float, row: Row) -> str:
    speed, first = number(row, "throughput"), number(row, "first_byte")
    below = [f"{size(speed.value)}/s"] if isinstance(speed, Figure) else []
    below += [seconds(first.value)] if isinstance(first, Figure) else []
    return "\n".join(filter(None, (size(value), " · ".join(below))))


CHARTS: tuple[Callable[[Results], Chart | None], ...] = (
    per_stream,
    by_clients,
    over_time,
    breakdown,
    queue_by_chunk,
    cpu_per_gb,
    promise,
    soak,
)
