"""Figures as text: one place that knows how a size, a time or a ratio is written. MB is 1,000,000 bytes throughout."""

from __future__ import annotations

from typing import Literal, TypeAlias

KB, MB, GB = 1e3, 1e6, 1e9
MIB = 1024 * 1024

Unit: TypeAlias = Literal["bytes", "seconds", "share", "times", "cpu", "count", "per second", "bytes per second"]
"""`share` is a part of one, written in per cent; `times` is a ratio; `count` has no unit; `cpu` is seconds,
never milliseconds, so that a column can be compared."""


def figure(value: float, unit: Unit) -> str:
    """`value` with its unit, to two or three digits that count."""
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
    """The range from `low` to `high`, either of which may be open."""
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
    """Bytes, in the decimal unit that leaves one to three digits before the point: `0.079 MB`, `107 MB`, `1.2 GB`.

    From a tenth of a kilobyte to 100 MB the unit of the claims, MB, is kept, so that rows can be compared by eye;
    below 10 KB it is KB.
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
    """Milliseconds below one second."""
    if abs(value) < 0.9995:
        return f"{digits(1000 * value)} ms"
    return f"{digits(value)} s"


def digits(value: float) -> str:
    """Three significant digits at most, two below ten, thousands separated: `0.079`, `7.3`, `107`, `10,900`."""
    amount = abs(value)
    if amount >= 99.5:
        rounded = float(f"{value:.3g}") if amount >= 1000 else round(value)
        return f"{rounded:,.0f}"
    if amount >= 9.95:
        return f"{value:.1f}".removesuffix(".0")
    return _plain(f"{value:.2g}")


def _plain(text: str) -> str:
    """`7.9e-05` as `0.000079`."""
    return f"{float(text):.10f}".rstrip("0").rstrip(".") if "e" in text else text


def whole_size(value: float) -> str:
    """A size that was set, in binary units where it is one: `64 KiB`, `1 MiB`, else as `size` writes it."""
    number = int(value)
    for unit, factor in (("GiB", MIB * 1024), ("MiB", MIB), ("KiB", 1024)):
        if number and number % factor == 0:
            return f"{number // factor} {unit}"
    return size(value)
