"""Two runs of the bench, figure by figure: before and after a change, or twice the same to see what is noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from serverpy.bench.looks import shown
from serverpy.bench.measured import Results, Row, unsound

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
"""The figures by scenario; memory first, which a second run repeats."""
IDENTITY = (
    "target", "clients", "scheme", "state", "in_flight", "requests", "process", "step", "profile", "kind",
)  # fmt: skip
"""What a row is about, where it has these fields. A row of another number of requests is another measurement, where
that number is asked for and not found."""
MEASURED_COUNTS = {"rate": ("requests",), "latency": ("requests",)}


@dataclass(frozen=True, slots=True)
class Change:
    """One figure that both runs have. `name` is its field."""

    scenario: str
    what: str
    name: str
    before: float
    now: float

    @property
    def ratio(self) -> float | None:
        """None where there was nothing before."""
        return self.now / self.before if self.before else None


def changes(earlier: Results, now: Results) -> Iterator[Change]:
    """In the order of the later run; a row that failed in either run is left out, and so is one of the two alone."""
    for scenario, names in COMPARED.items():
        before = {_identity(scenario, row): row for row in earlier.rows(scenario) if unsound(row) is None}
        for row in now.rows(scenario):
            old = before.get(_identity(scenario, row))
            if old is None or unsound(row) is not None:
                continue
            for name in names:
                if old.get(name) is not None and row.get(name) is not None:
                    yield Change(scenario, _what(scenario, row), name, float(old[name]), float(row[name]))


def _identity(scenario: str, row: Row) -> tuple[tuple[str, object], ...]:
    counted = MEASURED_COUNTS.get(scenario, ())
    return tuple((name, row[name]) for name in IDENTITY if name in row and name not in counted)


def _what(scenario: str, row: Row) -> str:
    """For people: `ServerPY relay, 200 clients, http`."""
    words = []
    for name, value in _identity(scenario, row):
        if name == "target":
            words.append(shown(str(value)).title)
        elif isinstance(value, int):
            words.append(f"{value:,} {name.replace('_', ' ')}")
        else:
            words.append(str(value))
    return ", ".join(words)
