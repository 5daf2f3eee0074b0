"""Prefetching, which opens the next segment while the reader still reads the current segment. Without prefetching, and
with a long round trip to the media server, a fast reader would lose a third of its speed.

A prefetch takes `AHEAD_BYTES` of memory for another connection. Therefore a stream prefetches only if the reader would
otherwise wait, and if so much of the memory budget is free.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from serverpy.memory.room import Lender, Room
from serverpy.net.connection import SMALL_STEP
from serverpy.net.resume import OVERLAP_BYTES
from serverpy.streaming.segments.segment_read import SegmentRead
from serverpy.tasks import cancel, spawn

AHEAD_BYTES = SMALL_STEP + OVERLAP_BYTES + 12 * 1024
"""Memory, in bytes, that one prefetch takes: the bytes of one read from the socket, the bytes that a read keeps to
compare them when it resumes, and the objects of a connection."""

AFTER_BYTES = 8 * 1024 * 1024
"""Number of bytes that a reader must have taken before a stream prefetches. Even a slow reader takes the first bytes
fast, because they only fill the buffers of the kernel."""

Open = Callable[[], Coroutine[Any, Any, SegmentRead | None]]


class Prefetch:
    """A task that opens the next segment in advance. The caller of `take` must close the read that it gets. `drop` ends
    the task, and closes a read that was not taken."""

    def __init__(self, lender: Lender) -> None:
        self._room = Room(lender)  # this room is released together with `lender`, the room of the stream's read
        self._task: asyncio.Task[SegmentRead | None] | None = None

    def begin(self, open_next: Open) -> None:
        """Start to open the next segment if the lender can spare AHEAD_BYTES. The caller must have taken or dropped the
        read that was opened before."""
        if self._room.try_hold(AHEAD_BYTES):
            self._task = spawn(open_next(), name="segment ahead")

    @property
    def is_under_way(self) -> bool:
        return self._task is not None

    async def take(self) -> SegmentRead | None:
        """Wait until the segment is open, and return its read, or None after the last segment. Raises the error if the
        segment could not be opened. The caller must check `is_under_way` before the call."""
        assert self._task is not None
        read = await self._task
        self._task = None
        return read

    async def drop(self) -> None:
        """Stop opening the segment. If the segment is already open, close its read, even if the caller of this method
        is cancelled."""
        task, self._task = self._task, None
        if task is None:
            return
        if task.done():
            _close(task)
        else:
            task.add_done_callback(_close)
            await cancel(task)


def _close(task: asyncio.Task[SegmentRead | None]) -> None:
    if not task.cancelled() and task.exception() is None and (read := task.result()) is not None:
        read.close()


class Waits:
    """A meter that shows who waits longer: the reader for the media server, or this server for the reader. Times are in
    seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned_at = clock()
        self._reader_seconds = 0.0
        self._server_seconds = 0.0

    def asked(self) -> None:
        """Record that the reader asks for more bytes. Until now, this server waited for the reader."""
        now = self._clock()
        self._reader_seconds += now - self._turned_at
        self._turned_at = now

    def given(self) -> None:
        """Record that the reader gets bytes. Until now, the reader waited for the media server."""
        now = self._clock()
        self._server_seconds += now - self._turned_at
        self._turned_at = now

    def reader_waited_more(self) -> bool:
        """Return whether, since the last call, the reader has waited for the media server longer than this server has
        waited for the reader."""
        waited = self._server_seconds > self._reader_seconds
        self._reader_seconds = self._server_seconds = 0.0
        return waited
