"""The cursors, which find the next segment of a playlist. This module contains the cursor for a finished playlist.
`live.py` contains the cursor for a live playlist, to which the media server still adds segments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Protocol

from serverpy.errors import UpstreamFailed
from serverpy.streaming.segments.manifest import Manifest
from serverpy.streaming.segments.segment import Segment


class Load(Protocol):
    """The type of a function that loads the manifest again from its current URL. `renews` states whether the function
    may extract the page again if the URL has expired."""

    def __call__(self, *, renews: bool = True) -> Awaitable[Manifest]: ...


class PlaylistChanged(UpstreamFailed):
    """Error: a manifest no longer lists the segments that it listed when the stream began."""


class Cursor(Protocol):
    """A position in the segments of a manifest. A cursor belongs to one stream, and holds one version of the manifest
    at a time."""

    @property
    def retry_seconds(self) -> float | None:
        """Number of seconds for which a failed request for a segment is repeated, or None if the retries of a finished
        playlist apply (`retries.py`)."""
        ...

    async def next(self) -> Segment | None:
        """Return the next segment, or None after the last segment. Raises the error of `Load` if the cursor must load
        the manifest and that fails."""
        ...

    async def again(self, segment: Segment) -> Segment:
        """Load the manifest again, and return `segment` as the new version of the manifest lists it. `next` then
        continues after that segment. Raises `PlaylistChanged` if the segment has changed."""
        ...

    async def back(self, segment: Segment) -> Segment | None:
        """Return `segment` as the current manifest lists it, and let `next` continue after that segment. Returns None
        if no manifest is loaded, or if the manifest does not list the segment."""
        ...


class FinishedCursor:
    """A cursor that moves from the first to the last segment of a finished manifest."""

    retry_seconds = None

    def __init__(self, manifest: Manifest, load: Load) -> None:
        self._load = load
        self._count = manifest.count
        self._manifest: Manifest | None = manifest
        self._segments: Iterator[Segment | None] = manifest.segments()
        self._after: Segment | None = None
        """The last segment that `next` returned before the manifest could not be loaded. `next` must continue after
        this segment."""

    async def next(self) -> Segment | None:
        if self._manifest is None and self._after is not None:
            await self.again(self._after)
        return await upcoming(self._segments)

    async def first(self) -> Segment | None:
        """Return the first segment of the current manifest, without moving the cursor."""
        return None if self._manifest is None else await upcoming(self._manifest.segments())

    async def listed(self) -> AsyncIterator[Segment]:
        """Yield all segments of the current manifest, without moving the cursor."""
        segments = iter(()) if self._manifest is None else self._manifest.segments()
        while (segment := await upcoming(segments)) is not None:
            yield segment

    async def again(self, segment: Segment) -> Segment:
        # drop the manifest before the new version is loaded, so that memory never holds two manifests
        self._manifest, self._segments, self._after = None, iter(()), segment
        manifest = await self._load()
        self._manifest = manifest
        fresh = await self.back(segment)
        if fresh is None or manifest.count != self._count or not fresh.replaces(segment):
            self._manifest = None
            raise PlaylistChanged("The media's playlist changed while it was read.")
        return fresh

    async def back(self, segment: Segment) -> Segment | None:
        if self._manifest is None:
            self._after = segment
            return None
        self._segments = self._manifest.segments()
        return await find(self._segments, segment)


async def upcoming(segments: Iterator[Segment | None]) -> Segment | None:
    """Return the next segment of `segments`, or None after the last segment. Lets the event loop run other streams each
    time `segments` yields None."""
    for segment in segments:
        if segment is not None:
            return segment
        await asyncio.sleep(0)
    return None


async def find(segments: Iterator[Segment | None], segment: Segment) -> Segment | None:
    """Advance `segments` to after the segment that has the same number as `segment`, and return the segment that was
    found. Returns None if `segments` does not contain such a segment."""
    while (found := await upcoming(segments)) is not None:
        if (found.number, found.initial) == (segment.number, segment.initial):
            return found
    return None
