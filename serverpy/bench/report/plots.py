"""The charts, from results alone. Only these (and `canvas`, `limit_plots`) load matplotlib (extra `bench`).

The same results give the same bytes. Every target has one colour, one marker and one line style in all charts; all
colours have a contrast of 3 to 1 against white and against the dark page, and no chart is read by colour alone: bars
carry their figure, lines their marker. A chart whose scenario was not measured is not drawn at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from serverpy.bench.report.canvas import Plot, bytes_axis, finished, grid, new_canvas
from serverpy.bench.report.claims import TRAFFIC
from serverpy.bench.report.limit_plots import promises, soaked
from serverpy.bench.report.results import Figure, NotMeasured, Results, Row, number
from serverpy.bench.report.selectors import each, over_time, top
from serverpy.bench.report.styles import SHOWN, shown
from serverpy.bench.report.svg import INK, PAPER
from serverpy.bench.report.units import MB, digits, seconds, size, whole_size

PARTS = ("#3a7fd0", "#c56a0a", "#128f68", "#c2558d", "#8b6fd0", "#8a7d1c", "#1b8ea3", "#d3483f", "#7d7d7d")
"""Of the stacked bars, in the order of the steps."""


def draw_all(results: Results) -> list[Plot]:
    """Every chart there is something to show in, in the order of the report."""
    drawn = (draw(results) for draw in CHARTS)
    return [plot for plot in drawn if plot is not None]


# --- What a process is made of -------------------------------------------------------------------------------------

BARS = (
    ("server", "ServerPY: the serving process"),
    ("worker", "ServerPY: the worker with yt-dlp"),
    ("one process, stock", "all in one process,\nyt-dlp as it is"),
)
CLAIMED_STEPS = (
    ("interpreter", 40 * MB), ("framework", 25 * MB), ("yt-dlp imported", 40 * MB), ("a thread", 12.5 * MB),
    ("a hand-over", 10.5 * MB), ("a client connection", 7.5 * MB),
)  # fmt: skip
"""The middles of what the document claims for the first embedded request."""


def breakdown(results: Results) -> Plot | None:
    rows = [row for row in results.rows("steps") if row.get("added") is not None]
    if not rows:
        return None
    steps = list(dict.fromkeys(str(row["step"]) for row in rows))
    colours = {step: PARTS[index % len(PARTS)] for index, step in enumerate(steps)}
    present = [(process, label) for process, label in BARS if any(row["process"] == process for row in rows)]
    with new_canvas("breakdown", 8.6, 1.7 + 0.62 * (len(present) + 1)) as canvas:
        axes = canvas.add_subplot()
        totals = []
        for place, (process, _) in enumerate(present):
            parts = [(str(row["step"]), float(row["added"])) for row in rows if row["process"] == process]
            totals.append(_stack(axes, place, parts, colours))
        _stack(axes, len(present), CLAIMED_STEPS, colours)
        labels = [*(label for _, label in present), "the document's claim (middle)"]
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_xlabel("memory (PSS)")
        bytes_axis(axes, "x")
        grid(axes, "x")
        axes.margins(x=0.12)
        handles = [Rectangle((0, 0), 1, 1, color=colours[step]) for step in steps]
        canvas.legend(handles, steps, loc="outside lower center", ncols=4, fontsize=9)
        parts_text = ", ".join(
            f"{label.replace(chr(10), ' ')} {size(total)}" for (_, label), total in zip(present, totals, strict=True)
        )
        return finished(
            canvas,
            "breakdown",
            "What the memory consists of",
            f"Memory step by step until one stream runs, each colour what that step added: {parts_text}.",
        )


def _stack(axes: Axes, place: int, parts: Sequence[tuple[str, float]], colours: dict[str, str]) -> float:
    """One bar. A step that gave memory back is left out of the drawing; the table has it."""
    left = 0.0
    for step, added in parts:
        width = max(added, 0.0)
        axes.barh(place, width, left=left, color=colours.get(step, PARTS[-1]), height=0.62)
        if width >= 7 * MB:
            middle = left + width / 2
            axes.text(middle, place, digits(width / MB), ha="center", va="center", color="#ffffff", fontsize=9)
        left += width
    _beside(axes, left, place, size(left))
    return left


def _beside(axes: Axes, value: float, place: int, text: str) -> None:
    """The figure of a bar, a little behind its end."""
    axes.annotate(text, (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)


# --- Memory over time ----------------------------------------------------------------------------------------------


def over_the_time(results: Results) -> Plot | None:
    lines = [line for line in results.series("over-time") if len(line["t"]) > 1]
    if not lines:
        return None
    with new_canvas("over-time", 8.6, 4.6) as canvas:
        memory, people = canvas.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        for line in lines:
            look = shown(str(line["target"]))
            every = max(1, len(line["t"]) // 8)
            memory.plot(line["t"], line["pss"], look.dash, color=look.colour, marker=look.marker, markevery=every,
                        label=look.title, linewidth=1.8, markersize=5)  # fmt: skip
            people.plot(line["t"], line["clients"], look.dash, color=look.colour, linewidth=1.5)
        memory.set_ylim(bottom=0)
        memory.set_ylabel("memory of all processes (PSS)")
        bytes_axis(memory, "y")
        memory.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
        people.set_ylabel("clients")
        people.set_xlabel("seconds")
        people.set_ylim(bottom=0)
        for axes in (memory, people):
            grid(axes, "both")
        return finished(canvas, "over-time", "Memory over time", _over_time_caption(results, lines))


def _over_time_caption(results: Results, lines: Sequence[Row]) -> str:
    phrases = []
    for line in lines:
        peak = over_time(str(line["target"]), top)(results)
        if isinstance(peak, Figure):
            end = size(float(line["pss"][-1]))
            phrases.append(f"{shown(str(line['target'])).title} {size(peak.value)} at its peak and {end} at the end")
    return f"Clients arrive, stay and leave: {'; '.join(phrases)}. Below: how many were connected."


# --- Memory of each further stream ---------------------------------------------------------------------------------


def per_stream(results: Results) -> Plot | None:
    bars: list[tuple[str, str, float, str]] = []
    for target, look in SHOWN.items():
        for scheme in ("http", "https"):
            found = each(target, scheme)(results)
            if isinstance(found, Figure) and found.value > 0:
                bars.append((f"{look.title}, {scheme} source", look.colour, found.value, scheme))
    if not bars:
        return None
    bars.sort(key=lambda bar: bar[2])
    with new_canvas("per-stream", 8.6, 1.0 + 0.34 * len(bars)) as canvas:
        axes = canvas.add_subplot()
        axes.set_xscale("log")
        _bars(axes, bars, [size(value) for _, _, value, _ in bars])
        axes.axvspan(15 * MB, 35 * MB, color=INK, alpha=0.10, linewidth=0)
        axes.text(23 * MB, -0.75, "claimed, embedded", ha="center", va="center", fontsize=8)
        axes.set_xlabel("memory of each further slow reader (PSS, logarithmic)")
        bytes_axis(axes, "x")
        grid(axes, "x")
        least, most = bars[0], bars[-1]
        return finished(
            canvas,
            "per-stream",
            "Memory of each further stream",
            f"From {size(least[2])} ({least[0]}) to {size(most[2])} ({most[0]}); "
            "the grey band is the document's claim for an embedded request, 15 to 35 MB.",
        )


def _bars(axes: Axes, bars: Sequence[tuple[str, str, float, str]], texts: Sequence[str]) -> None:
    """Horizontal bars with their figures; https ones hatched."""
    for place, ((_, colour, value, scheme), text) in enumerate(zip(bars, texts, strict=True)):
        hatch = "////" if scheme == "https" else None
        axes.barh(place, value, color=colour, height=0.66, hatch=hatch, edgecolor=PAPER, linewidth=0)
        _beside(axes, value, place, text)
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars], fontsize=9)
    axes.set_ylim(len(bars) - 0.4, -1.1)
    axes.margins(x=0.18)


# --- The whole process by number of clients ------------------------------------------------------------------------


def by_clients(results: Results) -> Plot | None:
    lines: dict[str, list[tuple[int, float]]] = {}
    for target in SHOWN:
        points = []
        for row in results.rows("crowd", target=target, scheme="http"):
            peak = results.get("crowd", "peak_pss", target=target, scheme="http", clients=row["clients"])
            if isinstance(peak, Figure):
                points.append((int(row["clients"]), peak.value))
        if points:
            lines[target] = sorted(points)
    if not lines:
        return None
    with new_canvas("by-clients", 8.6, 4.6) as canvas:
        axes = canvas.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        _claimed_ranges(axes)
        for target, points in lines.items():
            look = shown(target)
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, look.dash, color=look.colour, marker=look.marker, label=look.title, linewidth=1.8)
        counts = sorted({count for points in lines.values() for count, _ in points} | {10, 50, 200})
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("clients at once, reading 64 KB a second (logarithmic)")
        axes.set_ylabel("memory of all processes (PSS, logarithmic)")
        bytes_axis(axes, "y")
        grid(axes, "both")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
        ends = "; ".join(f"{shown(t).title} {size(p[-1][1])} at {p[-1][0]:,}" for t, p in lines.items())
        return finished(
            canvas,
            "by-clients",
            "The whole process by number of clients",
            f"Everything that runs, base included: {ends}. The broad bars are the document's claims.",
        )


def _claimed_ranges(axes: Axes) -> None:
    for clients, child, embedded, *_ in TRAFFIC:
        for (low, high), target, shift in ((child, "subprocess", 0.94), (embedded, "embedded", 1.06)):
            label = f"claimed for {target}" if clients == 10 else None
            axes.plot([clients * shift] * 2, [low, high], color=shown(target).colour, linewidth=7, alpha=0.6,
                      solid_capstyle="butt", label=label)  # fmt: skip


# --- Queue and chunk -----------------------------------------------------------------------------------------------


def queue_by_chunk(results: Results) -> Plot | None:
    rows = results.rows("hand-over")
    queues = sorted({int(row["queue_chunks"]) for row in rows})
    chunks = sorted({int(row["chunk_bytes"]) for row in rows})
    held = {}
    for row in rows:
        each_pss, pipe = number(row, "each_pss"), number(row, "pipe_bytes")
        if isinstance(each_pss, Figure) and isinstance(pipe, Figure):
            held[int(row["queue_chunks"]), int(row["chunk_bytes"])] = (each_pss.value + pipe.value, row)
    if not held:
        return None
    with new_canvas("queue", 7.6, 1.5 + 0.72 * len(queues)) as canvas:
        axes = canvas.add_subplot()
        most = max(value for value, _ in held.values())
        for (queue, chunk), (value, row) in held.items():
            _cell(axes, chunks.index(chunk), queues.index(queue), value / most, _cell_text(value, row))
        axes.set_xlim(0, len(chunks))
        axes.set_ylim(len(queues), 0)
        axes.set_xticks([x + 0.5 for x in range(len(chunks))], [whole_size(chunk) for chunk in chunks])
        axes.set_yticks([y + 0.5 for y in range(len(queues))], [str(queue) for queue in queues])
        axes.set_xlabel("chunk")
        axes.set_ylabel("chunks in the queue")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        low, high = min(value for value, _ in held.values()), most
        return finished(
            canvas,
            "queue",
            "Queue and chunk",
            f"What one embedded stream with a slow reader holds, process and pipe: {size(low)} to {size(high)}; "
            "below it what a fast reader gets, and the wait for the first byte.",
        )


def _cell(axes: Axes, x: int, y: int, part: float, text: str) -> None:
    """Darker is more. White text stands on the darker half, black on the lighter."""
    shade = [1 - (1 - full) * (0.15 + 0.85 * part**0.5) for full in (0.10, 0.34, 0.60)]
    axes.add_patch(Rectangle((x + 0.02, y + 0.03), 0.96, 0.94, color=shade, linewidth=0))
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=9,
              color="#ffffff" if part**0.5 > 0.55 else "#111111")  # fmt: skip


def _cell_text(value: float, row: Row) -> str:
    lines = [size(value)]
    speed, first = number(row, "throughput"), number(row, "first_byte")
    extra = [f"{size(speed.value)}/s"] if isinstance(speed, Figure) else []
    extra += [seconds(first.value)] if isinstance(first, Figure) else []
    return "\n".join([*lines, " · ".join(extra)] if extra else lines)


# --- CPU -----------------------------------------------------------------------------------------------------------


def cpu_per_gb(results: Results) -> Plot | None:
    bars, texts = [], []
    for scheme in ("http", "https"):
        for target, look in SHOWN.items():
            row = results.row("throughput", target=target, scheme=scheme)
            if isinstance(row, NotMeasured):
                continue
            cpu, ratio = number(row, "cpu_per_gb"), number(row, "ratio_to_nginx")
            if isinstance(cpu, Figure):
                bars.append((f"{look.title}, {scheme} source", look.colour, cpu.value, scheme))
                beside = f" · {digits(ratio.value)} × nginx" if isinstance(ratio, Figure) else ""
                texts.append(f"{digits(cpu.value)} s{beside}")
    if not bars:
        return None
    with new_canvas("cpu", 8.6, 1.0 + 0.34 * len(bars)) as canvas:
        axes = canvas.add_subplot()
        _bars(axes, bars, texts)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.margins(x=0.28)
        axes.set_xlim(left=0)
        axes.set_xlabel("CPU seconds for each GB relayed to one fast reader")
        grid(axes, "x")
        ranked = sorted(zip(bars, texts, strict=True), key=lambda pair: pair[0][2])
        (least, least_text), (most, most_text) = ranked[0], ranked[-1]
        return finished(canvas, "cpu", "CPU for each GB",
                     f"From {least_text} ({least[0]}) to {most_text} ({most[0]}).")  # fmt: skip


CHARTS: tuple[Callable[[Results], Plot | None], ...] = (
    per_stream,
    by_clients,
    over_the_time,
    breakdown,
    queue_by_chunk,
    cpu_per_gb,
    promises,
    soaked,
)
