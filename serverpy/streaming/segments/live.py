"""The cursor along a live playlist, to which the media server still adds segments. The cursor begins near the live
edge or at a requested time, and loads the playlist again until the playlist has ended.

    loaded ──▶ segments after the last one given ──▶ none left: ended? ──▶ over
       ▲                                                    │ not yet
       └──────────── a target duration later, or half ──────┘

The cursor counts in *positions*, which only rise. The position of a segment is its media sequence number, shifted if
the playlist's numbering is wrong:

- If the numbers go back and the playlist lists none of the passed segments, the playlist has begun anew (an encoder was
  restarted). All segments of the new playlist then follow the segment that the cursor returned last. If the numbers go
  back but the playlist lists some of the passed segments, the playlist is an old copy, and adds no segments.
- If a playlist that removes old segments has no EXT-X-MEDIA-SEQUENCE, or if the numbers are wrong, the cursor finds its
  position by the URLs of the segments. The numbers are wrong if a number has another URL than before (a number that
  stays 0, or that does not rise by the number of removed segments), or if numbers are left out although the playlist
  lists the segments that were read last.

A segment that leaves the playlist before it was read is an error, because no bytes may be missing in the stream.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

from serverpy.errors import SourceError, TooLarge, UpstreamFailed, UpstreamTimeout
from serverpy.streaming.segments.cursor import Load, PlaylistChanged, upcoming
from serverpy.streaming.segments.manifest import HlsManifest
from serverpy.streaming.segments.passed import Comparison, Passed, path_of
from serverpy.streaming.segments.reloads import Reloads
from serverpy.streaming.segments.segment import Segment

log = logging.getLogger(__name__)

EDGE_TARGETS = 3
"""Maximum distance, in target durations, between the end of a live playlist and the time at which a stream begins if
the client does not request a position (RFC 8216 §6.3.3)."""


class LiveCursor:
    """A cursor along a live playlist. `start` is the time, in seconds after the beginning of the oldest listed segment,
    at which to begin. A negative `start` counts back from the end of the playlist; None means the live edge. `next`
    waits for a new segment for `patience` seconds, but at least for three target durations, even while the playlist
    cannot be loaded. After that time, `next` raises `UpstreamTimeout`, or the error of the last load if that load
    failed."""

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
        """Position of the last segment that the cursor has returned or skipped; None before the first segment."""
        self._has_sequence = False
        self._is_misnumbered = False
        """Whether the media sequence numbers of a version were wrong, so that the cursor no longer uses them."""
        self._first = self._end = 0
        """The position (media sequence number plus `_shift`) of the first segment of the current playlist, and the
        position after that of the last segment."""
        self._initial: Segment | None = None
        """The initialization section that applies to the next segment in the playlist."""
        self._initial_given: tuple[str, int, int | None] | None = None
        self._held: Segment | None = None
        """The segment that the next call of `next` returns if the last call returned the initialization section of that
        segment. Otherwise None."""
        self._segments: Iterator[Segment | None] = iter(())
        self._before: Segment | None = None
        """The last segment that `_segments` has yielded."""
        self._is_complete = False
        """Whether the version of the playlist that was loaded last has ended."""
        self._final: int | None = None
        """The position of the last segment in that version; None if that version has no segments."""
        self._take(manifest)
        edge = max(0.0, manifest.seconds - EDGE_TARGETS * self._reloads.target_seconds)
        self._passed_seconds = min(edge, _begin(manifest, edge, start))

    @property
    def retry_seconds(self) -> float:
        return self._reloads.target_seconds

    async def next(self) -> Segment | None:
        begun = self._clock()  # the waiting time begins now, so the time between two calls does not count
        silence: SourceError = UpstreamTimeout("The live stream's playlist has listed no new segment for too long.")
        failure = silence
        while True:
            if (segment := await self._next_listed()) is not None:
                return segment
            if self._is_over:
                return None
            if self._clock() - begun > max(self._patience, 3 * self._reloads.target_seconds):
                raise failure
            failure = await self._reload() or silence

    async def again(self, segment: Segment) -> Segment:
        """Load the playlist again, and return `segment` as the new version lists it. `segment` must be the segment that
        the cursor returned last. If the playlist no longer lists that segment, returns `segment` unchanged, because a
        removed segment stays available for a while (RFC 8216 §6.2.2)."""
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
        return None  # the cursor is still at this segment, because the segments of a live stream are never prefetched

    @property
    def _is_over(self) -> bool:
        """Whether the playlist has ended, and the cursor has passed its last segment. The media server need not keep
        the playlist any longer, so it does not matter whether a later load failed."""
        return self._is_complete and (self._final is None or (self._last is not None and self._last >= self._final))

    # Methods for the segments of the current playlist

    async def _next_listed(self) -> Segment | None:
        """Return the next segment of the current playlist or, if a new initialization section applies to that segment,
        first that section. Returns None after the last segment."""
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
        """Record that the cursor passes `segment`. Returns whether the cursor must return the segment: it must be new,
        and must not lie before the time at which the stream begins."""
        position, before = segment.number + self._shift, self._before
        self._before = segment
        if self._last is not None and position <= self._last:
            return False
        self._last = position
        self._passed.add(segment, position, before)
        if self._passed_seconds <= 0:
            return True
        self._passed_seconds -= segment.duration or 0.0
        return self._passed_seconds < 0

    def _with_initial(self, segment: Segment) -> Segment:
        """Return `segment` if no initialization section applies to it, or if the cursor has already returned that
        section. Otherwise return the initialization section, and keep `segment` for the next call. URLs of sections are
        compared without their queries, because each version of the playlist may list a section with a fresh token."""
        initial = self._initial
        if initial is None or _place(initial) == self._initial_given:
            return segment
        self._initial_given = _place(initial)
        self._held = segment
        return initial

    # Methods that load the playlist again

    async def _reload(self) -> SourceError | None:
        """Wait until the playlist must be loaded again, and load it. Returns None if the load succeeds, and the error
        if the load fails. After an error the caller calls this method again, because a packager may fail only for a
        moment."""
        await asyncio.sleep(self._reloads.wait_seconds())
        try:
            await self._load_now(renews=self._reloads.may_renew)
        except (TooLarge, FellBehind, PlaylistChanged):
            raise
        except SourceError as error:
            self._reloads.failed()
            log.info("A live playlist could not be loaded, so the server requests it again: %s", error)
            return error
        return None

    async def _load_now(self, *, renews: bool) -> HlsManifest:
        self._hold_back()
        # drop the manifest before the new version is loaded, so that memory never holds two manifests
        self._segments = iter(())
        manifest = await self._load(renews=renews)
        if not isinstance(manifest, HlsManifest):
            raise PlaylistChanged("The media's playlist changed while it was read.")
        await self._follow(manifest)
        self._take(manifest)
        return manifest

    def _hold_back(self) -> None:
        """Drop the segment that the next call would have returned: the new version of the playlist lists it again, with
        a fresh URL."""
        if self._held is not None and self._last is not None:
            self._last -= 1
        self._held = None

    async def _follow(self, manifest: HlsManifest) -> None:
        """Find the positions of the segments of `manifest`, the new version of the playlist. Raises `FellBehind` if
        segments are missing between the last segment that the cursor returned and the first segment of `manifest`."""
        if self._last is None:
            return
        if not manifest.count:
            self._follow_empty(manifest, self._last)
            return
        found = await self._compared(manifest, self._last)
        shift = found.found_shift()
        goes_back = manifest.first_number + self._shift < self._first or manifest.end_number + self._shift < self._end
        missing = manifest.first_number + self._shift - self._last - 1
        if shift is None:
            are_wrong = found.contradicts and found.has_other_name and not goes_back
        else:
            are_wrong = shift != self._shift and (
                found.contradicts or (missing >= 0 and found.continues(shift, least=2 if missing else 3))
            )
        self._is_misnumbered = self._is_misnumbered or are_wrong
        if goes_back or self._is_misnumbered or not (manifest.has_sequence and self._has_sequence):
            has_numbers = (manifest.has_sequence or self._has_sequence) and not self._is_misnumbered
            if shift is None and goes_back and has_numbers:
                shift = self._last + 1 - manifest.first_number
                self._begin_anew()
            if shift is None:
                raise FellBehind("The live playlist lists none of the segments that were read before.")
            self._shift = shift
        if manifest.first_number + self._shift > self._last + 1:
            raise FellBehind("The client fell behind the live window.")

    def _follow_empty(self, manifest: HlsManifest, last: int) -> None:
        """Raise `FellBehind` if `manifest`, which lists no segments, has ended, and segments after the position `last`
        have left the playlist unread."""
        are_right = manifest.has_sequence and self._has_sequence and not self._is_misnumbered
        if manifest.is_complete and are_right and manifest.first_number + self._shift > last + 1:
            raise FellBehind("The client fell behind the live window.")

    async def _compared(self, manifest: HlsManifest, last: int) -> Comparison:
        """Compare all segments of `manifest` with the passed segments, the last of which is at the position `last`."""
        found = Comparison(self._passed, last, self._shift)
        listed = manifest.segments()
        while (segment := await upcoming(listed)) is not None:
            if not segment.initial:
                found.add(segment)
        return found

    def _begin_anew(self) -> None:
        log.info(
            "A live playlist has begun anew: the stream continues with the first segment of the new "
            "playlist, as after a discontinuity."
        )
        self._passed.clear()
        self._initial = self._initial_given = None

    def _take(self, manifest: HlsManifest) -> None:
        self._segments, self._before = manifest.segments(), None
        self._is_complete = manifest.is_complete
        self._final = None if manifest.last is None else manifest.last.number + self._shift
        self._has_sequence = manifest.has_sequence if manifest.count else self._has_sequence
        self._reloads.loaded(manifest, has_changed=self._has_changed(manifest))

    def _has_changed(self, manifest: HlsManifest) -> bool:
        before = self._first, self._end
        if manifest.count:
            self._first, self._end = manifest.first_number + self._shift, manifest.end_number + self._shift
        return manifest.is_complete or (self._first, self._end) != before


class FellBehind(UpstreamFailed):
    """Error: a cursor fell behind the live playlist, because segments left the playlist before they were read."""


def _begin(manifest: HlsManifest, edge: float, start: float | None) -> float:
    """Return the time at which the stream begins, in seconds after the beginning of the oldest segment of
    `manifest`."""
    if start is None:
        return edge if manifest.begins_at_edge else 0.0
    return start if start >= 0 else max(0.0, manifest.seconds + start)


def _place(segment: Segment) -> tuple[str, int, int | None]:
    return path_of(segment), segment.first, segment.end
