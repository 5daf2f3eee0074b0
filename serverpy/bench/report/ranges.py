"""Ranges of claims and limits, as text: `80 to 110 MB`, `about 10 MB`, `about 60 ± 5 %`, `at most 2 ×`, `3`.

`about` without `±` means ± 25 %. If the units of the two ends differ, each end has its own unit: `8 KB to 1 MB`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serverpy.bench.report.units import GB, KB, MB, Unit, figure

ABOUT = 0.25
UNITS: dict[str, tuple[Unit, float]] = {
    "KB": ("bytes", KB),
    "MB": ("bytes", MB),
    "GB": ("bytes", GB),
    "ms": ("seconds", 1e-3),
    "s": ("seconds", 1.0),
    "%": ("share", 1e-2),
    "×": ("times", 1.0),
    "/s": ("per second", 1.0),
    "": ("count", 1.0),
}
_UNIT = f"({'|'.join(UNITS)})"
_SHAPE = re.compile(rf"(at most |at least |about |)([\d.]+) ?{_UNIT}(?: (to|±) ([\d.]+) ?{_UNIT})?")


@dataclass(frozen=True, slots=True)
class Range:
    """A range in the base unit (bytes, seconds, …). `low` and `high` may be None (open). `about` is the middle of a
    range that is written as `about …`."""

    unit: Unit
    low: float | None = None
    high: float | None = None
    about: float | None = None

    def side(self, value: float, slack: float = 0.0) -> int:
        """Return -1 if `value` is below the range, 1 if above, else 0. Each end is first moved outwards by the share
        `slack` of its value."""
        if self.low is not None and value < self.low - abs(self.low) * slack:
            return -1
        if self.high is not None and value > self.high + abs(self.high) * slack:
            return 1
        return 0

    def __str__(self) -> str:
        if self.about is not None:
            return f"about {figure(self.about, self.unit)}"
        if self.low is None:
            return "" if self.high is None else f"at most {figure(self.high, self.unit)}"
        if self.high is None:
            return f"at least {figure(self.low, self.unit)}"
        ends = [figure(end, self.unit) for end in dict.fromkeys((self.low, self.high))]
        return " to ".join(ends)


def parse_range(text: str) -> Range:
    """Parse a range. An empty text is a range open at both ends. Raises ValueError if `text` is invalid."""
    if not text:
        return Range("count")
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise ValueError(f"invalid range: {text!r}; write, for instance, '80 to 110 MB' or 'at most 2 ×'")
    kind, first, first_unit, link, second, second_unit = shape.groups()
    unit, factor = UNITS[second_unit or first_unit]
    value = float(first) * (UNITS[first_unit][1] if first_unit else factor)
    other = float(second) * factor if link else value * ABOUT
    match kind.strip(), link:
        case "at most", None:
            return Range(unit, high=value)
        case "at least", None:
            return Range(unit, low=value)
        case "about", None | "±":
            return Range(unit, value - other, value + other, about=value)
        case "", None:
            return Range(unit, value, value)
        case "", "to":
            return Range(unit, value, other)
    raise ValueError(f"invalid range: {text!r}; write, for instance, '80 to 110 MB' or 'at most 2 ×'")
