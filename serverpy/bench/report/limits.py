"""The project's limits, from `limits.toml`: each has a measured figure, a bound that is good enough, a bound that is
the goal, and the command that measures the figure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from serverpy.bench.report.ranges import Range, parse_range
from serverpy.bench.report.results import Found, NotMeasured, Results, tell
from serverpy.bench.report.selectors import find
from serverpy.bench.report.units import figure


class Reached(Enum):
    """The verdict on a limit; the enum's value is the wording in the report."""

    AIM = "aim met"
    REACH = "reached"
    MISSED = "missed"
    NOT_MEASURED = "not measured"
    FAILED = "failed"


class _Line(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    what: str
    selector: str
    reach: str
    aim: str
    command: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limits: tuple[_Line, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on a measured figure with two bounds: `reach` is good enough, `aim` is the goal. Each may be None."""

    what: str
    selector: str
    reach: Range | None
    aim: Range | None
    command: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A limit with the measured figure and the verdict."""

    limit: Limit
    found: Found
    verdict: Reached

    @property
    def said(self) -> str:
        bound = self.limit.reach or self.limit.aim
        return tell(self.found, bound.unit if bound else "count")


def measure(limit: Limit, results: Results) -> Measured:
    found = find(limit.selector, results)
    return Measured(limit, found, verdict(limit, found))


def verdict(limit: Limit, found: Found) -> Reached:
    if isinstance(found, NotMeasured):
        return Reached.FAILED if found.failed else Reached.NOT_MEASURED
    if limit.aim and not limit.aim.side(found.value):
        return Reached.AIM
    return Reached.REACH if limit.reach and not limit.reach.side(found.value) else Reached.MISSED


def bound(range: Range | None) -> str:
    """Format a bound exactly, without rounding: rounded to two digits, 1.25 would become 1.2."""
    value = None if range is None else range.high if range.low is None else range.low
    if range is None or value is None:
        return "–"
    exact = f"{value:g} ×" if range.unit == "times" else figure(value, range.unit)
    return f"{'≥' if range.high is None else '≤'} {exact}"


def _optional(text: str) -> Range | None:
    return parse_range(text) if text else None


LIMITS = tuple(
    Limit(line.what, line.selector, _optional(line.reach), _optional(line.aim), f"serverpy bench {line.command}")
    for line in msgspec.toml.decode(Path(__file__).with_suffix(".toml").read_bytes(), type=_File).limits
)
