"""Which segment comes next: along a list that is finished, or one that goes on (`live.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Protocol

from serverpy.errors import UpstreamFailed
from serverpy.streaming.segments.listing import STRIDE, Listing
from serverpy.streaming.segments.sequence import Segment

Load = Callable[[], Awaitable[Listing]]
"""Reads the list anew, under the address of the moment."""


class Walk(Protocol):
    """A way along the segments. Belongs to one stream, and holds one list at a time."""

    async def next(self) -> Segment | None:
        """The next segment; None after the last. Raises what loading raises."""
        ...

    async def again(self, segment: Segment) -> Segment:
        """Load the list anew and find `segment`, the one given last, in it. Raises `UpstreamFailed` if it is not what
        it was."""
        ...


class FinishedWalk:
    """From the first to the last."""

    def __init__(self, listing: Listing, load: Load) -> None:
        self._load = load
        self._count = listing.count
        self._segments: Iterator[Segment] = listing.segments()
        self._index = -1

    async def next(self) -> Segment | None:
        self._index += 1
        return next(self._segments, None)

    async def again(self, segment: Segment) -> Segment:
        self._segments = iter(())  # two lists are not held at once
        listing = await self._load()
        segments = listing.segments()
        for passed in range(0, self._index, STRIDE):
            for _ in islice(segments, min(STRIDE, self._index - passed)):
                pass
            await asyncio.sleep(0)
        fresh = next(segments, None)
        if fresh is None or listing.count != self._count or not fresh.replaces(segment):
            raise UpstreamFailed("The media's playlist changed while it was read.")
        self._segments = segments
        return fresh
