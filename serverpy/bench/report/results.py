"""`results.json` as the report reads it: rows found by what they are, and a reason where there is none.

Everything that the report shows comes through here, so that a scenario which failed, was skipped or never ran can
only ever give a `NotMeasured` with its reason in words, and never a number. Shape of the file: `docs/benchmark.md`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from serverpy.bench.report.styles import shown

Row: TypeAlias = Mapping[str, Any]

REASON_LETTERS = 90
NOT_RUN = "not part of this run"


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """Why there is no figure: one phrase, shown to the reader. `failed` tells a failure from what was left out."""

    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, in bytes, seconds or the unit of its claim. `note` is shown behind it, in brackets."""

    value: float
    note: str = ""


Found: TypeAlias = Figure | NotMeasured


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
    """What one run of the bench left behind."""

    meta: Row
    scenarios: Mapping[str, Scenario] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """The run ended, and every scenario in it is done or was skipped for a stated reason."""
        ended = bool(self.meta.get("complete", False))
        return ended and all(each.status in ("done", "skipped") for each in self.scenarios.values())

    def rows(self, scenario: str, **matching: object) -> list[Row]:
        """The rows of a scenario whose fields have those values. What was measured before another part of the scenario
        failed is sound by itself; `nothing` says why the rest is missing."""
        found = self.scenarios.get(scenario)
        return [row for row in found.rows if _matches(row, matching)] if found else []

    def series(self, scenario: str, **matching: object) -> list[Row]:
        found = self.scenarios.get(scenario)
        return [each for each in found.series if _matches(each, matching)] if found else []

    def nothing(self, scenario: str, target: str = "") -> NotMeasured:
        """Why there is no row: the scenario failed (there, if it is about a target), was skipped, or never ran."""
        found = self.scenarios.get(scenario)
        absent = (self.meta.get("missing") or {}).get(target)
        if absent:
            return NotMeasured(str(absent))
        if found is None or found.status == "done":
            return NotMeasured(NOT_RUN)
        reasons = [part for part in (found.reason or "").split("; ") if part]
        about = [part for part in reasons if _names(part, target)]
        if target and not about and found.rows:
            return NotMeasured(NOT_RUN)
        because = "; ".join(about or reasons)
        reason = f"{found.status}: {because}" if because else found.status
        return NotMeasured(_short(reason), failed=found.status != "skipped")

    def row(self, scenario: str, **matching: object) -> Row | NotMeasured:
        """The first such row in which nothing failed."""
        rows = self.rows(scenario, **matching)
        if not rows:
            return self.nothing(scenario, str(matching.get("target", "")))
        return unsound(rows[0]) or rows[0]

    def get(self, scenario: str, name: str, **matching: object) -> Found:
        """One field of one row."""
        row = self.row(scenario, **matching)
        if isinstance(row, NotMeasured):
            return row
        return number(row, name)


def load(path: Path) -> Results:
    """Raises OSError, or ValueError if it is not a bench's results."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict):
        raise ValueError(f"{path} is not a results file")
    return parse(raw)


def parse(raw: Mapping[str, Any]) -> Results:
    """Raises ValueError if it has neither `meta` nor `scenarios`."""
    if "meta" not in raw or "scenarios" not in raw:
        raise ValueError("results have `meta` and `scenarios`")
    scenarios = [_scenario(each) for each in raw["scenarios"]]
    return Results(raw["meta"], {each.name: each for each in scenarios})


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


def _matches(row: Row, matching: Mapping[str, object]) -> bool:
    return all(row.get(name) == value for name, value in matching.items())


def _short(reason: str) -> str:
    """For the cell of a table; the whole reason stands with the scenario."""
    return reason if len(reason) <= REASON_LETTERS else f"{reason[:REASON_LETTERS].rstrip()} …"


def _names(reason: str, target: str) -> bool:
    """A part of a scenario's reason is the title of what failed, which starts as its target does, and the error."""
    return bool(target) and reason.startswith((shown(target).cell, f"{target}:"))


def number(row: Row, name: str) -> Found:
    """A field of a row; a row without it is no zero."""
    value = row.get(name)
    if value is None:
        return NotMeasured(f"this run has no `{name}`")
    return Figure(float(value))


def unsound(row: Row) -> NotMeasured | None:
    """A crowd of which some failed or were turned away says nothing about a crowd of that size."""
    if "clients" not in row:
        return None
    clients = row["clients"]
    for name, phrase in (("failed", "failed"), ("refused", "were refused")):
        if row.get(name):
            return NotMeasured(f"failed: {row[name]} of {clients} clients {phrase}", failed=True)
    if row.get("complete", clients) != clients:
        return NotMeasured(f"failed: {row['complete']} of {clients} clients were served", failed=True)
    return None


def combine(parts: Iterable[Found], using: Callable[[Sequence[float]], float]) -> Found:
    """`using` over the values, if all are there; else the first reason. Notes are kept, each once."""
    values: list[float] = []
    notes: list[str] = []
    for part in parts:
        if isinstance(part, NotMeasured):
            return part
        values.append(part.value)
        if part.note and part.note not in notes:
            notes.append(part.note)
    return Figure(using(values), "; ".join(notes))


def plus(*parts: Found) -> Found:
    return combine(parts, sum)


def minus(left: Found, right: Found) -> Found:
    return combine((left, right), lambda values: values[0] - values[1])


def over(left: Found, right: Found) -> Found:
    """`left` in units of `right`; a divisor of nought or less is no measurement."""
    if isinstance(right, Figure) and right.value <= 0:
        return NotMeasured("too small to compare")
    return combine((left, right), lambda values: values[0] / values[1])


def saved(left: Found, right: Found) -> Found:
    """By which part `left` is less than `right`."""
    ratio = over(left, right)
    return combine((ratio,), lambda values: 1 - values[0])


def either(first: Found, second: Found) -> Found:
    """`first`, or `second` where the first has no figure and the second has one."""
    return second if isinstance(first, NotMeasured) and isinstance(second, Figure) else first


def noted(found: Found, note: str) -> Found:
    return Figure(found.value, note) if isinstance(found, Figure) else found
