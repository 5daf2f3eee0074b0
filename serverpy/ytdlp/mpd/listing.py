"""The segments of a DASH representation in one period, and of a joined representation in all periods. The module does
no I/O. Each segment is made only when it is iterated, so that a page with many long representations needs little
memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from xml.etree.ElementTree import Element

from serverpy.extraction.values import Fragment
from serverpy.ytdlp.mpd import addresses
from serverpy.ytdlp.mpd.reading import (
    Inherited,
    Unreadable,
    integer,
    is_nothing,
    is_remote,
    segment_description,
)
from serverpy.ytdlp.mpd.timelines import MAX_SEGMENTS, Clock, Run, Timelines, by_duration, goes_back
from serverpy.ytdlp.mpd.windows import Window

NOTHING = "The DASH manifest lists no segments."


@dataclass(frozen=True, slots=True)
class Templated:
    """Segments whose URLs a template makes from the number or time of each segment."""

    pattern: addresses.Pattern
    start_number: int
    timescale: int
    runs: tuple[Run, ...]

    def __len__(self) -> int:
        return sum(run.count for run in self.runs)

    def __iter__(self) -> Iterator[Fragment]:
        for run in self.runs:
            seconds = float(run.length / self.timescale) or None
            number, time = self.start_number + run.first, run.time
            for index in range(run.count):
                yield Fragment(
                    url=self.pattern.fill(number + index, int(time + index * run.length)),
                    duration=seconds,
                    may_be_absent=run.may_be_absent,
                )


Body = Templated | tuple[Fragment, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """The segments of a representation in one period: the initialization segment `initial` (None if there is none), and
    the media segments `body`. If `is_file` is true, the representation is one file (`SegmentBase`), which usually also
    contains the initialization segment and an index. `begin_seconds` is the time in that file, in seconds, at which the
    period begins."""

    initial: Fragment | None
    body: Body
    is_file: bool = False
    begin_seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.body) + (self.initial is not None)

    @property
    def file(self) -> str | None:
        """The URL of the file, or None if the representation is not one file."""
        return next(iter(self.body)).url if self.is_file else None

    @property
    def held_bytes(self) -> int:
        """The estimated memory of this object, in bytes."""
        return 500 + (150 * len(self.body.runs) if isinstance(self.body, Templated) else 250 * len(self.body))

    def __iter__(self) -> Iterator[Fragment]:
        if self.initial is not None:
            yield self.initial
        yield from self.body


@dataclass(frozen=True, slots=True)
class Listing:
    """The segments of a joined representation (`joining.py`) in all periods, in order."""

    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[Fragment]:
        for part in self.parts:
            yield from part

    @property
    def file(self) -> str | None:
        """The URL of the file that contains all segments, or None if no single file contains all of them."""
        (first, *others) = self.parts
        return first.file if first.initial is None and not others else None


def part_of(levels: Sequence[Element], base: str, window: Window, timelines: Timelines) -> Part:
    """Return the segments of a representation in one period. `levels` are the Representation element and the elements
    that enclose it. `base` is the base URL of the representation. Raises `Unreadable` if the segments cannot be listed,
    `TooLarge` if the manifest has too many S elements."""
    if levels[0].get("dependencyId"):
        raise Unreadable("This format only complements another format of the DASH manifest and cannot be played alone.")
    described = segment_description(levels)
    if any(is_remote(each) and not is_nothing(each) for each in described.chain):
        raise Unreadable("The DASH manifest has its segments in another document (xlink), which is not supported.")
    clock = Clock.of(described, window)
    if described.kind == "SegmentBase":
        url = addresses.absolute(base, "")
        initial = _initial(described, base, levels[0])
        if initial is not None and initial.url == url:
            initial = None  # the initialization segment is a part of the file itself
        return Part(initial, (Fragment(url=url),), is_file=True, begin_seconds=float(clock.begin / clock.timescale))
    if described.kind == "SegmentList":
        body: Body = _listed(described, base, clock, timelines)
    else:
        body = _templated(described, base, clock, timelines, levels[0])
    if not len(body):
        raise Unreadable(NOTHING)
    if len(body) > MAX_SEGMENTS:
        raise Unreadable("The DASH manifest lists too many segments.")
    return Part(_initial(described, base, levels[0]), body)


def _initial(described: Inherited, base: str, representation: Element) -> Fragment | None:
    """Return the initialization segment, or None if the manifest states none. An initialization segment without a URL
    of its own is a byte range of the file at the base URL (ISO/IEC 23009-1 §5.3.9.2.2)."""
    if (template := described.get("initialization")) and described.kind == "SegmentTemplate":
        made = addresses.pattern(template, base, representation)
        if made.names:
            raise Unreadable(
                "The DASH manifest uses $Number$ or $Time$ in the URL template of an initialization segment."
            )
        return Fragment(url=made.fill(0, 0), initial=True)
    element = described.child("Initialization")
    if element is None:
        return None
    return addresses.ranged(
        addresses.absolute(base, element.get("sourceURL") or ""), element.get("range"), initial=True
    )


def _listed(described: Inherited, base: str, clock: Clock, timelines: Timelines) -> tuple[Fragment, ...]:
    """Return the segments of a SegmentList (ISO/IEC 23009-1 §5.3.9.3). The list may state no durations, because the
    number of segments does not depend on them."""
    urls = described.children("SegmentURL")
    if len(urls) > MAX_SEGMENTS:
        raise Unreadable("The DASH manifest lists too many segments.")
    timeline = described.child("SegmentTimeline")
    runs = by_duration(described, clock, count=len(urls)) if timeline is None else timelines.read(timeline, clock)
    seconds = (float(run.length / clock.timescale) for run in runs for _ in range(run.count))
    lengths = [*islice(seconds, len(urls))]
    return tuple(
        addresses.ranged(
            addresses.absolute(base, each.get("media") or ""),
            each.get("mediaRange"),
            seconds=lengths[index] if index < len(lengths) else None,
        )
        for index, each in enumerate(urls)
    )


def _templated(
    described: Inherited, base: str, clock: Clock, timelines: Timelines, representation: Element
) -> Templated:
    """Return the segments of a SegmentTemplate (ISO/IEC 23009-1 §5.3.9.4)."""
    template = described.get("media")
    if not template:
        raise Unreadable("The DASH manifest has a template without URLs of segments.")
    made = addresses.pattern(template, base, representation)
    timeline = described.child("SegmentTimeline")
    start = integer(described.get("startNumber"), 1)
    runs = by_duration(described, clock) if timeline is None else timelines.read(timeline, clock)
    if timeline is not None and (last := described.get("endNumber")) is not None and last.strip():
        runs = _first_of(runs, integer(last, 0) - start + 1)
    if timeline is None and described.get("duration") is None:
        # A template without a SegmentTimeline and without a duration describes exactly one segment (ISO/IEC 23009-1
        # §5.3.9.2.1).
        runs = (Run(0, clock.begin, (clock.window.seconds or 0) * clock.timescale, 1),)
    if "Time" in made.names and goes_back(runs):
        raise Unreadable("The DASH manifest lists segments twice or out of order.")
    if sum(run.count for run in runs) > 1 and not made.names:
        raise Unreadable("The DASH manifest has the same URL for all segments.")
    return Templated(made, start, clock.timescale, runs)


def _first_of(runs: Sequence[Run], count: int) -> tuple[Run, ...]:
    """Return `runs` reduced to the segments whose index is less than `count`."""
    return tuple(
        Run(run.first, run.time, run.length, min(run.count, count - run.first)) for run in runs if run.first < count
    )
