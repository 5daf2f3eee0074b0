"""A playlist that grows. It is read from near its edge, or from a requested position, and loaded again until it has
ended.

    loaded ──▶ segments after the last one given ──▶ none left: ended? ──▶ over
       ▲                                                    │ not yet
       └──────────── a target duration later, or half ──────┘

The cursor counts in *positions*, which only rise. The position of a segment is its media sequence number, shifted if
the playlist's numbering is wrong:

- If the numbers go back and the playlist lists none of the passed segments, the playlist has begun anew (an encoder was
  restarted): all its segments follow the last one returned. If the playlist lists some of the passed segments, it is an
  old copy, and adds nothing.
- If a rolling playlist has no EXT-X-MEDIA-SEQUENCE, the addresses of its segments give the cursor's place.

A segment that leaves the playlist before it was read is an error, because the stream must have no holes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

from serverpy.errors import SourceError, TooLarge, UpstreamFailed, UpstreamTimeout
from serverpy.streaming.segments.cursor import Load, PlaylistChanged, upcoming
from serverpy.streaming.segments.manifest import HlsManifest
from serverpy.streaming.segments.passed import Passed, path_of
from serverpy.streaming.segments.reloads import Reloads
from serverpy.streaming.segments.segment import Segment

log = logging.getLogger(__name__)

EDGE_TARGETS = 3
"""Maximum distance of a client's start from the end of the playlist, in target durations (RFC 8216 §6.3.3)."""


class LiveCursor:
    """A cursor along a live playlist. `start` is the position to begin at: seconds from the oldest listed segment or,
    if negative, back from the end of the playlist; None means the edge. A reader waits `patience` seconds for a new
    segment (at least three target durations), even while the playlist cannot be loaded; then the cursor raises
    `UpstreamTimeout`, or the error of the last load."""

    def __init__(
        self,
        manifest: HlsManifest,
        load: Load,
        *,
        patience: float,
        start: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load = load
        self._patience = patience
        self._clock = clock
        self._reloads = Reloads(clock)
        self._passed = Passed()
        self._shift = 0
        self._last: int | None = None
        """The position of the last segment that the cursor passed."""
        self._has_sequence = False
        self._first = self._end = 0
        """The position of the current playlist's first segment, and the position after its last segment."""
        self._initial: Segment | None = None
        """The initialization section of the segment that is listed next."""
        self._initial_given: tuple[str, int, int | None] | None = None
        self._held: Segment | None = None
        """The segment whose initialization section the cursor returned just now."""
        self._segments: Iterator[Segment | None] = iter(())
        self._take(manifest)
        edge = max(0.0, manifest.seconds - EDGE_TARGETS * self._reloads.target_seconds)
        self._passed_seconds = min(edge, _begin(manifest, edge, start))

    @property
    def retry_seconds(self) -> float:
        return self._reloads.target_seconds

    async def next(self) -> Segment | None:
        begun = self._clock()  # a reader that was busy until now has not waited
        silence: SourceError = UpstreamTimeout("The live stream's playlist lists no more segments.")
        failure = silence
        while True:
            if (segment := await self._next_listed()) is not None:
                return segment
            if self._is_complete:
                return None
            if self._clock() - begun > max(self._patience, 3 * self._reloads.target_seconds):
                raise failure
            failure = await self._reload() or silence

    async def again(self, segment: Segment) -> Segment:
        """Load the playlist again and find `segment`, the last one returned. Returns it unchanged if it is no longer
        listed: a segment stays available for a while after that (RFC 8216 §6.2.2)."""
        position = self._last
        manifest = await self._load_now(renews=True)
        listed = manifest.segments()
        while (found := await upcoming(listed)) is not None:
            if segment.initial:
                if found.initial and _place(found) == _place(segment):
                    return found
            elif not found.initial and found.number + self._shift == position:
                return found
        return segment

    async def back(self, segment: Segment) -> Segment | None:
        return None  # a live stream is never prefetched, so the cursor is still at this segment

    # The listed segments

    async def _next_listed(self) -> Segment | None:
        """Return the next segment of the current playlist or, before that segment, the initialization section that it
        needs."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        while (segment := await upcoming(self._segments)) is not None:
            if segment.initial:
                self._initial = segment
            elif self._pass(segment):
                return self._with_initial(segment)
        return None

    def _pass(self, segment: Segment) -> bool:
        """Return whether the cursor returns `segment`, because it is new and not before the position to begin at."""
        position = segment.number + self._shift
        if self._last is not None and position <= self._last:
            return False
        self._last = position
        self._passed.add(segment, position)
        if self._passed_seconds <= 0:
            return True
        self._passed_seconds -= segment.duration or 0.0
        return self._passed_seconds < 0

    def _with_initial(self, segment: Segment) -> Segment:
        """Return the initialization section that `segment` needs, and hold `segment` back; return `segment` if the
        cursor has already returned that section. Sections are compared without their queries, because each load may
        list the section with a fresh token."""
        initial = self._initial
        if initial is None or _place(initial) == self._initial_given:
            return segment
        self._initial_given = _place(initial)
        self._held = segment
        return initial

    # Loading again

    async def _reload(self) -> SourceError | None:
        """Wait until the playlist is due, and load it again. Returns the error of a failed load instead of raising it:
        a packager may fail for a moment, so the caller tries the next load."""
        await asyncio.sleep(self._reloads.wait_seconds())
        try:
            await self._load_now(renews=self._reloads.may_renew)
        except (TooLarge, FellBehind, PlaylistChanged):
            raise
        except SourceError as error:
            self._reloads.failed()
            log.info("A live playlist could not be loaded, and will be requested again: %s", error)
            return error
        return None

    async def _load_now(self, *, renews: bool) -> HlsManifest:
        self._hold_back()
        self._segments, self._is_complete = iter(()), False  # never hold two manifests at once
        manifest = await self._load(renews=renews)
        if not isinstance(manifest, HlsManifest):
            raise PlaylistChanged("The media's playlist changed while it was read.")
        if manifest.count:
            await self._follow(manifest)
        self._take(manifest)
        return manifest

    def _hold_back(self) -> None:
        """Forget the segment that is held back: the new playlist will list the segment again, at its fresh address."""
        if self._held is not None and self._last is not None:
            self._last -= 1
        self._held = None

    async def _follow(self, manifest: HlsManifest) -> None:
        """Find the positions of the segments of `manifest`. Raises `FellBehind` if segments are missing before them."""
        if self._last is None:
            return
        goes_back = manifest.first_number + self._shift < self._first or manifest.end_number + self._shift < self._end
        if goes_back or not (manifest.has_sequence and self._has_sequence):
            shift = await self._shift_by_addresses(manifest)
            if shift is None and goes_back and (manifest.has_sequence or self._has_sequence):
                shift = self._last + 1 - manifest.first_number
                self._begin_anew()
            if shift is None:
                raise FellBehind("The live playlist lists none of the segments that were read before.")
            self._shift = shift
        if manifest.first_number + self._shift > self._last + 1:
            raise FellBehind("The client fell behind the live window.")

    async def _shift_by_addresses(self, manifest: HlsManifest) -> int | None:
        """Return the shift that gives the latest passed segment its former position. Returns None if the playlist lists
        none of the passed segments."""
        latest, shift = -1, None
        listed = manifest.segments()
        while (segment := await upcoming(listed)) is not None:
            position = None if segment.initial else self._passed.position_of(segment)
            if position is not None and position > latest:
                latest, shift = position, position - segment.number
        return shift

    def _begin_anew(self) -> None:
        log.info("A live playlist has begun anew: its segments follow as after a discontinuity.")
        self._passed.clear()
        self._initial = self._initial_given = None

    def _take(self, manifest: HlsManifest) -> None:
        self._segments = manifest.segments()
        self._is_complete = manifest.is_complete
        self._has_sequence = manifest.has_sequence if manifest.count else self._has_sequence
        self._reloads.loaded(manifest, has_changed=self._has_changed(manifest))

    def _has_changed(self, manifest: HlsManifest) -> bool:
        before = self._first, self._end
        if manifest.count:
            self._first, self._end = manifest.first_number + self._shift, manifest.end_number + self._shift
        return manifest.is_complete or (self._first, self._end) != before


class FellBehind(UpstreamFailed):
    """Segments that left the playlist before they were read."""


def _begin(manifest: HlsManifest, edge: float, start: float | None) -> float:
    """Return the position to begin at, in seconds from the oldest segment."""
    if start is None:
        return edge if manifest.begins_at_edge else 0.0
    return start if start >= 0 else max(0.0, manifest.seconds + start)


def _place(segment: Segment) -> tuple[str, int, int | None]:
    return path_of(segment), segment.first, segment.end
