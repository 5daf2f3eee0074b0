"""Formatting of figures: sizes, times and ratios, the same everywhere in the report. MB is 1,000,000 bytes."""

from __future__ import annotations

from typing import Literal, TypeAlias

KB, MB, GB = 1e3, 1e6, 1e9
MIB = 1024 * 1024

Unit: TypeAlias = Literal["bytes", "seconds", "share", "times", "cpu", "count", "per second", "bytes per second"]
"""`share` is a fraction, written in per cent; `times` is a ratio; `count` has no unit; `cpu` is always in seconds,
never in milliseconds, so that the figures of a column are easy to compare."""


def figure(value: float, unit: Unit) -> str:
    """Format `value` with its unit, to two or three significant digits."""
    if unit == "bytes":
        return size(value)
    if unit == "bytes per second":
        return f"{size(value)}/s"
    if unit == "seconds":
        return seconds(value)
    if unit == "cpu":
        return f"{digits(value)} s"
    if unit == "share":
        return f"{digits(100 * value)} %"
    if unit == "times":
        return f"{digits(value)} ×"
    if unit == "per second":
        return f"{digits(value)} /s"
    return digits(value)


def span(low: float | None, high: float | None, unit: Unit) -> str:
    """Format the range from `low` to `high`; one of them may be None (open). Raises ValueError if both are None."""
    if low is None and high is None:
        raise ValueError("a range has at least one end")
    if low is None:
        return f"at most {figure(high or 0.0, unit)}"
    if high is None:
        return f"at least {figure(low, unit)}"
    if low == high:
        return figure(low, unit)
    return f"{figure(low, unit)} to {figure(high, unit)}"


def size(value: float) -> str:
    """Format bytes in a decimal unit: `8.2 KB`, `0.079 MB`, `107 MB`, `1.2 GB`.

    From 10 KB to 999 MB the unit is MB, the unit of the claims, so that rows are easy to compare.
    """
    amount = abs(value)
    if amount >= 999.5 * MB:
        return f"{digits(value / GB)} GB"
    if amount >= 10 * KB:
        return f"{digits(value / MB)} MB"
    if amount >= KB:
        return f"{digits(value / KB)} KB"
    return f"{digits(value)} bytes"


def seconds(value: float) -> str:
    """Format seconds, in milliseconds if below one second."""
    if abs(value) < 0.9995:
        return f"{digits(1000 * value)} ms"
    return f"{digits(value)} s"


def digits(value: float) -> str:
    """Format a number to three significant digits, two below ten, with thousands separators: `0.079`, `7.3`,
    `10,900`."""
    amount = abs(value)
    if amount >= 99.5:
        rounded = float(f"{value:.3g}") if amount >= 1000 else round(value)
        return f"{rounded:,.0f}"
    if amount >= 9.95:
        return f"{value:.1f}".removesuffix(".0")
    return _plain(f"{value:.2g}")


def _plain(text: str) -> str:
    """Write `7.9e-05` as `0.000079`."""
    return f"{float(text):.10f}".rstrip("0").rstrip(".") if "e" in text else text


def whole_size(value: float) -> str:
    """Format a configured size in a binary unit if it is a multiple of one (`64 KiB`, `1 MiB`), else as `size` does."""
    number = int(value)
    for unit, factor in (("GiB", MIB * 1024), ("MiB", MIB), ("KiB", 1024)):
        if number and number % factor == 0:
            return f"{number // factor} {unit}"
    return size(value)
