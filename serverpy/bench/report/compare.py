"""Comparison of two runs of the bench, figure by figure: before and after a change, or twice with the same version to
see the noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from serverpy.bench.report.page import Block, Heading, Paragraph, Table
from serverpy.bench.report.raw_tables import unit_of
from serverpy.bench.report.results import KEYS, Results, Row, parse, unsound
from serverpy.bench.report.styles import style_of
from serverpy.bench.report.units import digits, figure

AGAINST = "against"
"""The key in `results.json` that stores the figures of the earlier run with which this run was compared."""

COMPARED = {
    "steps": ("pss",),
    "crowd": ("base_pss", "each_pss"),
    "throughput": ("cpu_per_gb", "ratio_to_nginx"),
    "latency": ("first_byte_p50", "first_byte_p99"),
    "rate": ("requests_per_cpu_second",),
    "extraction": ("cpu",),
    "sequential": ("growth_pss",),
    "profiles": ("peak_pss", "embedded_peak_pss"),
}
"""The figures to compare, by scenario. Memory figures come first, because they are reproducible."""


@dataclass(frozen=True, slots=True)
class Change:
    """The values of one figure in two runs. `name` is the field of the figure in a row of the results."""

    scenario: str
    what: str
    name: str
    before: float
    now: float

    @property
    def ratio(self) -> float | None:
        """The ratio of the later value to the earlier value. None if the earlier value is zero."""
        return self.now / self.before if self.before else None


def changes(earlier: Results, now: Results) -> Iterator[Change]:
    """Yield the changes in the order of the later run. A row that failed or is missing in either run is left out."""
    for scenario, names in COMPARED.items():
        before = {_about(scenario, row): row for row in earlier.rows(scenario) if unsound(row) is None}
        for row in now.rows(scenario):
            old = before.get(_about(scenario, row))
            if old is None or unsound(row) is not None:
                continue
            for name in names:
                if old.get(name) is not None and row.get(name) is not None:
                    yield Change(scenario, _what(scenario, row), name, float(old[name]), float(row[name]))


def compared(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data about an earlier run for the report: its date, its version and its figures beside those of this
    run."""
    before = parse(earlier)
    return {
        "started": str(before.meta.get("started", "")),
        "version": str((before.meta.get("versions") or {}).get("serverpy", "")),
        "changes": [asdict(change) for change in changes(before, parse(now))],
    }


def comparison(kept: Mapping[str, Any] | None) -> Iterator[Block]:
    """Yield the blocks of the report's comparison section. Yields nothing if this run was not compared with an earlier
    one."""
    if kept is None:
        return
    yield Heading("Compared with an earlier run")
    yield Paragraph(
        f"The earlier run started {kept['started']}. Rows that failed or are missing in one of the two runs are left "
        "out. The last column is the figure of this run divided by the earlier one."
    )
    rows = [_row(Change(**change)) for change in kept["changes"]]
    yield Table(("", "", "earlier", "this run", "ratio"), tuple(rows))


def _row(change: Change) -> tuple[str, ...]:
    unit = unit_of(change.name)
    ratio = "" if change.ratio is None else f"{digits(change.ratio)} ×"
    name = change.name.replace("_", " ")
    return (f"{change.scenario}: {change.what}", name, figure(change.before, unit), figure(change.now, unit), ratio)


def _about(scenario: str, row: Row) -> tuple[tuple[str, object], ...]:
    return tuple((name, row[name]) for name in KEYS[scenario] if name in row)


def _what(scenario: str, row: Row) -> str:
    """Describe a row in words: `ServerPY relay, 200 clients, http`."""
    words = []
    for name, value in _about(scenario, row):
        if name == "target":
            words.append(style_of(str(value)).title)
        elif isinstance(value, int):
            words.append(f"{value:,} {name.replace('_', ' ')}")
        else:
            words.append(str(value))
    return ", ".join(words)
