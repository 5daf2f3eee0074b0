"""Cursors, which find the next segment: here in a finished playlist, in `live.py` in one that still grows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Protocol

from serverpy.errors import UpstreamFailed
from serverpy.streaming.segments.manifest import Manifest
from serverpy.streaming.segments.segment import Segment


class Load(Protocol):
    """Function that loads the manifest again, from its current address. `renews` says whether the page may be extracted
    again if the address has expired."""

    def __call__(self, *, renews: bool = True) -> Awaitable[Manifest]: ...


class PlaylistChanged(UpstreamFailed):
    """A manifest that no longer lists the segments that it listed when the stream began."""


class Cursor(Protocol):
    """A position in the segments. Belongs to one stream, and holds one manifest at a time."""

    @property
    def retry_seconds(self) -> float | None:
        """Seconds for which a failing segment is requested again. None if the usual retries apply."""
        ...

    async def next(self) -> Segment | None:
        """Return the next segment. Returns None after the last. Raises the errors of loading."""
        ...

    async def again(self, segment: Segment) -> Segment:
        """Load the manifest again, and find `segment` in it; `next` then continues after that segment. Raises
        `PlaylistChanged` if the segment has changed."""
        ...

    async def back(self, segment: Segment) -> Segment | None:
        """Find `segment` in the current manifest, so that `next` continues after that segment. Returns None if the
        current manifest is missing or does not list the segment."""
        ...


class FinishedCursor:
    """A cursor from the first segment to the last."""

    retry_seconds = None

    def __init__(self, manifest: Manifest, load: Load) -> None:
        self._load = load
        self._count = manifest.count
        self._manifest: Manifest | None = manifest
        self._segments: Iterator[Segment | None] = manifest.segments()
        self._after: Segment | None = None
        """The segment after which to continue if loading the manifest has failed."""

    async def next(self) -> Segment | None:
        if self._manifest is None and self._after is not None:
            await self.again(self._after)
        return await upcoming(self._segments)

    async def first(self) -> Segment | None:
        """Return the first segment of the current manifest, without moving the cursor."""
        return None if self._manifest is None else await upcoming(self._manifest.segments())

    async def again(self, segment: Segment) -> Segment:
        self._manifest, self._segments, self._after = None, iter(()), segment  # never hold two manifests at once
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
    """Return the next segment. Returns None after the last. Yields to other streams
    (`manifest.py::Manifest.segments`)."""
    for segment in segments:
        if segment is not None:
            return segment
        await asyncio.sleep(0)
    return None


async def find(segments: Iterator[Segment | None], segment: Segment) -> Segment | None:
    """Return the segment with the number of `segment`, and leave `segments` behind it. Returns None if there is
    none."""
    while (found := await upcoming(segments)) is not None:
        if (found.number, found.initial) == (segment.number, segment.initial):
            return found
    return None
