"""Access to `results.json` for the report: rows by their key fields, or the reason why there is no such row.

The report reads all its figures through this module. For a scenario that failed, was skipped or never ran, the module
returns a `NotMeasured` with the reason, never a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from serverpy.bench.report.styles import style_of
from serverpy.bench.report.units import Unit, figure

Row: TypeAlias = Mapping[str, Any]

KEYS: dict[str, tuple[str, ...]] = {
    "steps": ("process", "step"),
    "crowd": ("target", "clients", "scheme"),
    "throughput": ("target", "scheme"),
    "latency": ("target", "state", "in_flight"),
    "rate": ("target", "state"),
    "extraction": ("kind",),
    "sequential": ("target", "requests"),
    "profiles": ("profile",),
    "over-time": ("target",),
    "hand-over": ("queue_chunks", "chunk_bytes"),
    "workers": ("max_workers",),
    "collect": ("gc_after_stream",),
    "overload": ("limited",),
    "idle": ("state",),
    "saturation": ("target", "extracting"),
    "mixed": ("target",),
    "promise": ("target", "limit"),
}
"""The fields of each scenario that distinguish its rows."""

REASON_LETTERS = 90
NOT_RUN = "not part of this run"


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """The reason why there is no figure: one phrase that the report shows. `failed` is True if the measurement failed,
    and False if it was left out."""

    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, in bytes, seconds or the unit of its claim. The report shows `note` after the value, in
    brackets."""

    value: float
    note: str = ""


Found: TypeAlias = Figure | NotMeasured


def tell(found: Found, unit: Unit) -> str:
    """Format a figure with its unit and note. A missing figure becomes "not measured" with the reason."""
    if isinstance(found, NotMeasured):
        return f"not measured ({found.reason})"
    return figure(found.value, unit) + (f" ({found.note})" if found.note else "")


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    status: str
    reason: str | None = None
    seconds: float = 0.0
    rows: tuple[Row, ...] = ()
    series: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """The results of one run of the bench, as read from its file."""

    meta: Row
    scenarios: Mapping[str, Scenario] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the run ended, and every scenario in it was measured, or was skipped for a stated reason."""
        return bool(self.meta.get("complete")) and not self.failed

    @property
    def failed(self) -> list[Scenario]:
        return [each for each in self.scenarios.values() if each.status not in ("done", "skipped")]

    def rows(self, scenario: str, **where: object) -> list[Row]:
        """Return the rows of a scenario whose fields have the values in `where`. If the scenario has only series,
        summarise each series as a row. Rows that were measured before another part of the scenario failed are valid;
        `nothing` returns the reason for the missing rows."""
        found = self.scenarios.get(scenario)
        rows = (found.rows or tuple(map(summary, found.series))) if found else ()
        return [row for row in rows if _matches(row, where)]

    def series(self, scenario: str) -> list[Row]:
        """Return the series of a scenario that have more than one reading."""
        found = self.scenarios.get(scenario)
        return [each for each in found.series if len(each["pss"]) > 1] if found else []

    def row(self, scenario: str, **where: object) -> Row | NotMeasured:
        """Return the first row whose fields have the values in `where`, or the reason why there is no such row, or why
        its figures are not valid (`unsound`). If `where` has the value `max` for a field, return, of the rows with
        valid figures, the one in which that field is largest."""
        largest = [name for name, value in where.items() if value == "max"]
        rows = self.rows(scenario, **{name: value for name, value in where.items() if value != "max"})
        if not rows:
            return self.nothing(scenario, str(where.get("target", "")))
        if largest:
            sound = [row for row in rows if unsound(row) is None]
            rows = sorted(sound, key=lambda row: float(row[largest[0]]), reverse=True) or rows
        return unsound(rows[0]) or rows[0]

    def nothing(self, scenario: str, target: str = "") -> NotMeasured:
        """Return why there is no row: `target` is not installed, or the scenario failed (for `target`, if given), was
        skipped, or never ran."""
        found = self.scenarios.get(scenario)
        absent = (self.meta.get("missing") or {}).get(target)
        if absent:
            return NotMeasured(str(absent))
        if found is None or found.status == "done":
            return NotMeasured(NOT_RUN)
        reasons = [part for part in (found.reason or "").split("; ") if part]
        of_target = [part for part in reasons if _names(part, target)]
        if target and not of_target and found.rows:
            return NotMeasured(NOT_RUN)
        because = "; ".join(of_target or reasons)
        reason = f"{found.status}: {because}" if because else found.status
        return NotMeasured(_short(reason), failed=found.status != "skipped")


def load(path: Path) -> dict[str, Any]:
    """Read a results file of the bench. Raises OSError if the file cannot be read, ValueError if it does not hold
    results of the bench."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or "meta" not in raw or "scenarios" not in raw:
        raise ValueError(
            f"{path} is not a results file of the bench: it must be a results.json that `serverpy bench` wrote"
        )
    return raw


def parse(raw: Mapping[str, Any]) -> Results:
    return Results(raw["meta"], {each["name"]: _scenario(each) for each in raw["scenarios"]})


def _scenario(raw: Row) -> Scenario:
    return Scenario(
        name=raw["name"],
        title=raw.get("title") or raw["name"],
        status=raw["status"],
        reason=raw.get("reason"),
        seconds=raw.get("seconds") or 0.0,
        rows=tuple(raw.get("rows") or ()),
        series=tuple(raw.get("series") or ()),
    )


def summary(series: Row) -> Row:
    """Summarise memory over time as a row: its `start`, `peak` and `end`, and the means of the first (`early`) and the
    last third (`late`) of the time in which all clients were connected."""
    pss = [float(value) for value in series["pss"]]
    row = {"target": series["target"], "peak": max(pss), "start": pss[0], "end": pss[-1], "early": None, "late": None}
    counts = series.get("clients") or ()
    most = max(counts, default=0)
    held = [value for value, clients in zip(pss, counts, strict=False) if clients == most]
    if third := len(held) // 3:
        row |= {"early": sum(held[:third]) / third, "late": sum(held[-third:]) / third}
    return {**row, "clients": most}


def _matches(row: Row, where: Mapping[str, object]) -> bool:
    """Return whether the fields of the row have all values in `where`. If a value in `where` is True or False, only the
    truth value of the field must match."""
    return all(
        bool(row.get(name)) is value if isinstance(value, bool) else row.get(name) == value
        for name, value in where.items()
    )


def _short(reason: str) -> str:
    """Shorten a reason to fit into a table. Elsewhere, the report shows the whole reason with the scenario."""
    return reason if len(reason) <= REASON_LETTERS else f"{reason[:REASON_LETTERS].rstrip()} …"


def _names(reason: str, target: str) -> bool:
    """Return whether a part of a scenario's reason is about the server `target`: the part then begins with the title of
    a failed measurement of this server."""
    return bool(target) and reason.startswith((style_of(target).cell, f"{target}:"))


def number(row: Row | NotMeasured, name: str) -> Found:
    """Return the value of the field `name` in a row. A missing field is `NotMeasured`, not zero."""
    if isinstance(row, NotMeasured):
        return row
    value = row.get(name)
    return NotMeasured(f"this run has no `{name}`") if value is None else Figure(float(value))


def unsound(row: Row) -> NotMeasured | None:
    """Return why the figures of a row are not valid for its number of clients: clients failed, or were refused although
    the server should serve all of them. Returns None if the row is sound."""
    if "clients" not in row:
        return None
    clients = row["clients"]
    # a row of the scenario `promise`, in which more clients connect than the budget has room for
    turns_away = "timed_out" in row
    phrases = {"wrong": "got wrong bytes", "failed": "failed", **({} if turns_away else {"refused": "were refused"})}
    for name, phrase in phrases.items():
        if row.get(name):
            return NotMeasured(f"failed: {row[name]} of {clients} clients {phrase}", failed=True)
    if row.get("complete", clients) != clients:
        return NotMeasured(f"failed: {row['complete']} of {clients} clients were served", failed=True)
    return None
