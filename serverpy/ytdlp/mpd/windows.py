"""The times at which the periods of a DASH manifest begin and end, and whether the presentation has ended. The module
does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from xml.etree.ElementTree import Element

from serverpy.ytdlp.mpd.reading import children, duration


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the presentation that a period covers. `start` is the start of the period, and `seconds` is its
    duration, both in seconds; each is None if the manifest does not state it. `is_only` is True if the manifest has no
    other period, `is_last` if no other period follows."""

    start: Fraction | None
    seconds: Fraction | None
    is_only: bool = True
    is_last: bool = True


def windows(mpd: Element, periods: Sequence[Element]) -> list[Window]:
    """Return the window of each period (ISO/IEC 23009-1 §5.3.2.1). If a period's duration contradicts the start of the
    next period, the earlier end is used, because the next period begins there. A start that is not later than the start
    of the previous period is ignored."""
    found: list[Window] = []
    total = duration(mpd, "mediaPresentationDuration") or None
    for period, after in zip(periods, [*periods[1:], None], strict=False):
        start = _start(period, found[-1] if found else None)
        stated = duration(period, "duration")
        if stated == 0 and len(periods) == 1:
            stated = None  # the only period cannot have a duration of 0
        next_start = (total if stated is None else None) if after is None else duration(after, "start")
        until = None
        if start is not None and next_start is not None and next_start > start:
            until = next_start - start
        seconds = min((each for each in (stated, until) if each is not None), default=None)
        found.append(Window(start, seconds, len(periods) == 1, after is None))
    return found


def _start(period: Element, previous: Window | None) -> Fraction | None:
    stated = duration(period, "start")
    if previous is None:
        return stated or Fraction()
    if stated is not None and (previous.start is None or stated > previous.start):
        return stated
    if previous.start is None or previous.seconds is None:
        return None
    return previous.start + previous.seconds


def is_live(mpd: Element, now: float) -> bool:
    """Return whether the media server may still add or remove segments. A manifest of the type `dynamic` is no longer
    live if it has no `@minimumUpdatePeriod` and the end that it states has passed (ISO/IEC 23009-1 §5.3.1.2)."""
    if mpd.get("type") != "dynamic":
        return False
    if mpd.get("minimumUpdatePeriod") is not None:
        return True
    begun, lasts = _time(mpd.get("availabilityStartTime")), _length(mpd)
    return begun is None or lasts is None or now < begun + lasts


def _length(mpd: Element) -> float | None:
    total = duration(mpd, "mediaPresentationDuration")
    if total is not None:
        return float(total)
    last = windows(mpd, children(mpd, "Period"))[-1:]
    ends = [each.start + each.seconds for each in last if each.start is not None and each.seconds is not None]
    return float(ends[0]) if ends else None


def _time(text: str | None) -> float | None:
    try:
        found = datetime.fromisoformat((text or "").strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
