"""All measured figures of a run, as tables. The name of a field determines the unit in which its values are shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from serverpy.bench.report.page import Block, Heading, Paragraph, Table
from serverpy.bench.report.results import Results, Row
from serverpy.bench.report.styles import style_of
from serverpy.bench.report.units import Unit, figure, size, whole_size

UNITS: Mapping[str, Unit] = {
    **dict.fromkeys(("cpu", "wall", "cpu_per_request", "settling"), "seconds"),
    **dict.fromkeys(("throughput", "bytes_per_second"), "bytes per second"),
    **dict.fromkeys(("requests_per_second", "requests_per_cpu_second", "extractions_per_second"), "per second"),
    **dict.fromkeys(("ratio_to_nginx",), "times"),
    **dict.fromkeys(("growth", "added", "pss", "budget"), "bytes"),
}


TIMES = ("cpu_per_", "lag_", "answer_", "longest_")


def unit_of(name: str) -> Unit:
    """Return the unit of a results field, which its name determines."""
    if name.startswith("cpu_per_gb"):
        return "cpu"
    if name in UNITS:
        return UNITS[name]
    if any(part in name for part in ("pss", "uss", "rss")) or name.endswith("_bytes"):
        return "bytes"
    if name.startswith(TIMES) or "first_byte" in name or name.endswith("seconds"):
        return "seconds"
    return "count"


def everything(results: Results) -> Iterator[Block]:
    yield Heading("All measured figures")
    for scenario in results.scenarios.values():
        yield Heading(scenario.title, 3)
        if scenario.status != "done":
            because = f": {scenario.reason}" if scenario.reason else ""
            yield Paragraph(f"`{scenario.name}` {scenario.status}{because}.", warning=scenario.status != "skipped")
        if scenario.rows:
            yield _raw_table(scenario.rows)
        for line in scenario.series:
            if line.get("pss"):
                yield Paragraph(f"{style_of(str(line['target'])).title}: {len(line['pss'])} readings, "
                                f"{size(min(line['pss']))} to {size(max(line['pss']))}.")  # fmt: skip


def _raw_table(rows: Sequence[Row]) -> Table:
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    cells = tuple(tuple(_raw_cell(name, row.get(name)) for name in names) for row in rows)
    return Table(tuple(name.replace("_", " ") for name in names), cells)


def _raw_cell(name: str, value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name in ("chunk_bytes", "budget"):
            return whole_size(value)
        return f"{value:,}" if isinstance(value, int) and unit_of(name) == "count" else figure(value, unit_of(name))
    return str(value)
