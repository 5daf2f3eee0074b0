"""The times of the segments of a DASH representation, as runs of segments of equal duration. The module does no I/O. A
run takes the same memory for any number of segments: the attributes `S@r` and `@duration` can describe millions of
segments in one line of XML.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil
from xml.etree.ElementTree import Element

from serverpy.errors import TooLarge
from serverpy.ytdlp.mpd.reading import Inherited, Unreadable, children, decimal, integer
from serverpy.ytdlp.mpd.windows import Window

MAX_ENTRIES = 300_000
"""Maximum number of S elements that are parsed for one manifest. A SegmentTimeline that several representations share
counts once."""
MAX_SEGMENTS = 100_000
"""Maximum number of segments of one representation: enough for more than a day with segments of one second."""
ROUNDING = Fraction(1, 1000)
"""Tolerance in seconds. Manifests round durations to milliseconds. If a period is longer than a whole number of
segments by less than this tolerance, the difference comes from rounding and does not mean another segment."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of `count` segments of the duration `length`. `first` is the index of the first of these segments among all
    segments that the manifest lists; `time` is the start of that segment. Times and durations are in units of the
    timescale, on the media's own timeline. `may_be_absent` is true for a run of one segment that exists only if the
    media is as long as the manifest states. Players tolerate that such a segment does not exist."""

    first: int
    time: int
    length: int | Fraction
    count: int
    may_be_absent: bool = False


@dataclass(frozen=True, slots=True)
class Clock:
    """The timescale of a representation, and its period on the media's own timeline: from `begin` up to, but not
    including, `end`. `end` is None if the manifest does not state the end of the period."""

    timescale: int
    begin: int
    end: int | None
    rounding: int
    window: Window

    @classmethod
    def of(cls, described: Inherited, window: Window) -> Clock:
        """Return the `Clock` of a representation with the segment description `described`. Raises `Unreadable` if an
        attribute is invalid."""
        timescale = integer(described.get("timescale"), 1)
        if timescale <= 0:
            raise Unreadable("The DASH manifest has an invalid timescale.")
        begin = integer(described.get("presentationTimeOffset"), 0)
        end = None if window.seconds is None else begin + ceil((window.seconds - ROUNDING) * timescale)
        return cls(timescale, begin, end, int(ROUNDING * timescale), window)

    @property
    def stop(self) -> Fraction | None:
        """The end of the period without the tolerance ROUNDING, in units of the timescale."""
        return None if self.window.seconds is None else self.begin + self.window.seconds * self.timescale

    def until(self, time: int, length: int | Fraction) -> int | None:
        """Return how many segments of the duration `length` start before the end of the period, if the first of them
        starts at `time`. Returns None if the end of the period is unknown."""
        return None if self.end is None else max(0, ceil_divided(self.end - time, length))


def ceil_divided(dividend: int, divisor: int | Fraction) -> int:
    return -(-dividend // divisor)


class Timelines:
    """Parser of the SegmentTimelines of one manifest. The parser caches the timelines that several representations
    share."""

    def __init__(self, most_entries: int = MAX_ENTRIES) -> None:
        self._most_entries = most_entries
        self._known: dict[tuple[int, Clock], tuple[Run, ...]] = {}
        self._entries = 0

    def read(self, timeline: Element, clock: Clock) -> tuple[Run, ...]:
        """Return the runs of a SegmentTimeline. Raises `Unreadable` if the timeline is invalid, `TooLarge` if the
        manifest has too many S elements."""
        key = id(timeline), clock  # the elements exist longer than this object, so their ids stay unique
        if key not in self._known:
            entries = children(timeline, "S")
            self._entries += len(entries)
            if self._entries > self._most_entries:
                raise TooLarge("The DASH manifest lists too many segments.")
            self._known[key] = tuple(_within(_runs(entries, clock), clock))
        return self._known[key]


def _runs(entries: Sequence[Element], clock: Clock) -> Iterator[Run]:
    """Yield the runs that the S elements describe (ISO/IEC 23009-1 §5.3.9.6.2)."""
    first, time = 0, 0
    kept, mark = _without_end_marks(entries)
    for entry, after in zip(kept, [*kept[1:], mark], strict=False):
        if "n" in entry.attrib or integer(entry.get("k"), 1) != 1:
            raise Unreadable("The DASH manifest uses Segment Sequences (S@n or S@k), which are not supported.")
        time, length = integer(entry.get("t"), time), integer(entry.get("d"), 0)
        if length <= 0:
            raise Unreadable("The DASH manifest lists a segment without a duration.")
        repeats = integer(entry.get("r"), 0)
        count = repeats + 1 if repeats >= 0 else _repeated(time, length, after, clock)
        if count:
            run = Run(first, time, length, count)
            yield from _to_end(run, clock) if repeats < 0 and after is None else (run,)
        first += count
        time += count * length


def _without_end_marks(entries: Sequence[Element]) -> tuple[Sequence[Element], Element | None]:
    """Return `entries` without the last S elements whose duration is 0. They list no segment, but only state where the
    last one ends. Also return the first of them if it states a time, and None otherwise."""
    kept, mark = [*entries], None
    while len(kept) > 1 and integer(kept[-1].get("d"), 1) == 0:
        mark = kept.pop()
    return kept, mark if mark is not None and mark.get("t") else None


def goes_back(runs: Sequence[Run]) -> bool:
    """Return whether a run begins at or before the start of the last segment of the previous run."""
    return any(after.time <= run.time + (run.count - 1) * run.length for run, after in pairwise(runs))


def _repeated(time: int, length: int, after: Element | None, clock: Clock) -> int:
    """Return the number of segments that an S element with a negative `S@r` describes. These segments extend up to the
    next S element or, if it is the last S element, up to the end of the period."""
    if after is None:
        count = clock.until(time, length)
    else:
        count = ceil_divided(integer(after.get("t"), 0) - time, length) if after.get("t") else None
    if count is None or (after is not None and count <= 0):
        raise Unreadable("The DASH manifest does not state how many segments there are.")
    return max(0, count)


def _within(runs: Iterable[Run], clock: Clock) -> Iterator[Run]:
    """Yield the parts of `runs` that belong to the period.

    A timeline may cover several periods, so segments that lie wholly outside this period belong to another period. In
    the last or only period, the segments after the stated end are kept, because the media may be longer than the
    manifest states. A run of more than MAX_SEGMENTS segments is truncated at the end of every period, because such a
    number means "up to the end of the period"."""
    for run in runs:
        skipped, kept = 0, run.count
        if not clock.window.is_only:
            skipped = min(run.count, max(0, (clock.begin + clock.rounding - run.time) // run.length))
        end = clock.until(run.time, run.length)
        if end is not None and (not clock.window.is_last or run.count > MAX_SEGMENTS):
            kept = min(kept, end)
        if kept > skipped:
            yield Run(run.first + skipped, run.time + int(skipped * run.length), run.length, kept - skipped)


def by_duration(described: Inherited, clock: Clock, *, count: int | None = None) -> tuple[Run, ...]:
    """Return the runs of segments whose duration is the attribute `@duration`; only the last segment may be shorter.
    `count` is the number of segments, or None if it follows from `@endNumber` or the duration of the period. Returns no
    run if `@duration` is missing. Raises `Unreadable` if `@duration` is not positive or the number of segments is
    unknown."""
    length = decimal(described.get("duration"))
    if length is None:
        return ()
    if length <= 0:
        raise Unreadable("The DASH manifest lists a segment without a duration.")
    computed = clock.until(clock.begin, length) if count is None else None
    if count is None:
        count, last = computed, described.get("endNumber")
        if last is not None and last.strip():
            by_number = max(0, integer(last, 0) - integer(described.get("startNumber"), 1) + 1)
            count = by_number if count is None else min(count, by_number)
            computed = None if count == by_number else computed
    if count is None:
        raise Unreadable("The DASH manifest does not state how many segments there are.")
    runs = tuple(_to_end(Run(0, clock.begin, length, count), clock)) if count else ()
    if computed is not None and len(runs) > 1:  # the number of segments was rounded up, so the last one may not exist
        return (*runs[:-1], replace(runs[-1], may_be_absent=True))
    return runs


def _to_end(run: Run, clock: Clock) -> Iterator[Run]:
    """Yield the runs that make up `run`. If the period ends within the last segment, that segment becomes a shorter run
    that ends with the period."""
    last = run.time + int((run.count - 1) * run.length)
    rest = clock.stop - last if clock.stop is not None else run.length
    if not 0 < rest < run.length:
        yield run
        return
    if run.count > 1:
        yield replace(run, count=run.count - 1)
    yield Run(run.first + run.count - 1, last, rest, 1)
