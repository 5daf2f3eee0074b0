"""A playlist that grows: read from near its edge, or from a requested position, and loaded again until it says that it
has ended.

    loaded ──▶ segments after the last one given ──▶ none left: ended? ──▶ over
       ▲                                                    │ not yet
       └──────────── a target duration later, or half ──────┘

If a segment leaves the playlist before it was read, that is an error: there are no holes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

from serverpy.errors import UpstreamFailed, UpstreamTimeout
from serverpy.streaming.segments.cursor import Load, find, upcoming
from serverpy.streaming.segments.manifest import HlsManifest
from serverpy.streaming.segments.segment import Segment

EDGE_TARGETS = 3
"""How many target durations before the end a client begins, at the latest (RFC 8216 §6.3.3)."""
_MIN_TARGET_SECONDS = 0.2
_MAX_TARGET_SECONDS = 60.0
_USUAL_TARGET_SECONDS = 6.0


class LiveCursor:
    """A cursor along a live playlist. `start` is where to begin: seconds from the oldest segment listed, or, if
    negative, back from the end of the playlist; None is the edge. A reader waits `patience` seconds for a new segment
    (at least three target durations); then `UpstreamTimeout` is raised."""

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
        self._last_number: int | None = None
        self._initial: Segment | None = None
        self._segments: Iterator[Segment | None] = iter(())
        self._edge = (0, 0, False)
        self._take(manifest)
        edge = max(0.0, manifest.seconds - EDGE_TARGETS * self._target_seconds)
        self._passed_seconds = min(edge, _begin(manifest, edge, start))

    async def next(self) -> Segment | None:
        begun = self._clock()  # a reader that was busy until now has not waited
        while True:
            while (segment := await upcoming(self._segments)) is not None:
                if self._is_next(segment):
                    return segment
            if self._is_complete:
                return None
            if self._clock() - begun > max(self._patience, 3 * self._target_seconds):
                raise UpstreamTimeout("The live stream's playlist lists no more segments.")
            await self._reload()

    async def again(self, segment: Segment) -> Segment:
        await self._reload_now()
        fresh = await find(self._segments, segment)
        if fresh is None:
            raise UpstreamFailed("The live stream no longer has the segment that was being read.")
        return fresh

    async def back(self, segment: Segment) -> Segment | None:
        return None  # a live stream is never prefetched, so the cursor is still there

    def _is_next(self, segment: Segment) -> bool:
        if segment.initial:
            return self._is_new_initial(segment)
        is_behind = self._is_passed_over(segment) if self._last_number is None else segment.number <= self._last_number
        if not is_behind:
            self._last_number = segment.number
        return not is_behind

    def _is_passed_over(self, segment: Segment) -> bool:
        """Return whether the segment ends before the position to begin at."""
        if self._passed_seconds <= 0:
            return False
        self._passed_seconds -= segment.duration or 0.0
        return self._passed_seconds >= 0

    def _is_new_initial(self, segment: Segment) -> bool:
        """Return whether this is the first initialization section: each load lists it again, maybe with a fresh
        token."""
        known, self._initial = self._initial, segment
        if known is None:
            return True
        if (_path(known), known.first, known.end) != (_path(segment), segment.first, segment.end):
            raise UpstreamFailed("Changing the initialization section (EXT-X-MAP) within a playlist is unsupported.")
        return False

    async def _reload(self) -> None:
        """Load the playlist again when that is due (RFC 8216 §6.3.4)."""
        due = self._loaded_at + self._target_seconds * (1.0 if self._has_changed else 0.5)
        await asyncio.sleep(max(0.0, due - self._clock()))
        await self._reload_now()

    async def _reload_now(self) -> None:
        self._segments = iter(())  # never hold two manifests at once
        manifest = await self._load()
        if not isinstance(manifest, HlsManifest):
            raise UpstreamFailed("The media's playlist changed while it was read.")
        self._take(manifest)
        if self._last_number is not None and manifest.first_number > self._last_number + 1:
            raise UpstreamFailed("The client fell behind the live window.")

    def _take(self, manifest: HlsManifest) -> None:
        target = _USUAL_TARGET_SECONDS if manifest.target_seconds is None else manifest.target_seconds
        self._target_seconds = min(max(target, _MIN_TARGET_SECONDS), _MAX_TARGET_SECONDS)
        self._segments = manifest.segments()
        self._is_complete = manifest.is_complete
        edge, self._edge = self._edge, (manifest.first_number, manifest.count, manifest.is_complete)
        self._has_changed = self._edge != edge
        self._loaded_at = self._clock()


def _begin(manifest: HlsManifest, edge: float, start: float | None) -> float:
    """Return where to begin, in seconds from the oldest segment."""
    if start is None:
        return edge if manifest.begins_at_edge else 0.0
    return start if start >= 0 else max(0.0, manifest.seconds + start)


def _path(segment: Segment) -> str:
    return segment.url.partition("?")[0]
