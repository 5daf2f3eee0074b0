"""The table that the command prints after a run and that the README shows: the cost of a stream with each measured
server."""

from __future__ import annotations

from serverpy.bench.report.page import Table
from serverpy.bench.report.results import Figure, Found, NotMeasured, Results, number
from serverpy.bench.report.selectors import find
from serverpy.bench.report.styles import style_of
from serverpy.bench.report.units import Unit, figure

HEAD = ("program", "memory before the first reader", "each further stream", "the same, https source",
        "CPU per GB", "CPU relative to nginx")  # fmt: skip
TARGETS = ("nginx", "relay", "embedded", "seed", "httpx-relay", "mediaflow", "streamlink", "subprocess")
FIGURES: tuple[tuple[str, Unit], ...] = (
    ("crowd(target, max, http)[base_pss]", "bytes"),
    ("crowd(target, max, http)[each_pss]", "bytes"),
    ("crowd(target, max, https)[each_pss]", "bytes"),
    ("throughput(target, http)[cpu_per_gb]", "cpu"),
    ("throughput(target, http)[ratio_to_nginx]", "times"),
)


def headline(results: Results) -> Table:
    """Return the table with a row for every server. A figure that was not measured is shown as "not measured"."""
    return Table(HEAD, tuple(_row(results, target) for target in TARGETS))


def _row(results: Results, target: str) -> tuple[str, ...]:
    title = style_of(target).title
    crowd, hls = results.nothing("crowd", target), results.row("hls", target=target)
    alone = not results.rows("crowd", target=target) and not crowd.failed
    if alone and not isinstance(hls, NotMeasured):  # a server that streams only HLS has figures for HLS
        base, cost, cpu = (number(hls, name) for name in ("base_pss", "each_pss", "cpu_per_gb"))
        figures = (show(base, "bytes"), show(cost, "bytes", "HLS"), "not measured", show(cpu, "cpu", "HLS"))
        return (title, *figures, "not measured")
    return (title, *(show(find(selector, results, target), unit) for selector, unit in FIGURES))


def show(found: Found, unit: Unit, note: str = "") -> str:
    """Format a figure for a wide table. The reason for a missing figure is shown only if the measurement failed."""
    if isinstance(found, Figure):
        note = note or found.note
        return figure(found.value, unit) + (f" ({note})" if note else "")
    if found.failed:
        return found.reason if found.reason.startswith("failed") else f"failed ({found.reason})"
    return "not measured"
