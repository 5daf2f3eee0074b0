"""Prefetching: the opening of the next segment while the current one is still being read. If the round trip to the
media server is long, a fast reader loses a third of its speed when each segment is requested only after the previous
one.

A prefetch holds `AHEAD_BYTES` for one more connection, so the stream prefetches only if the reader would wait and the
budget can spare these bytes.
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
"""Bytes of one prefetch: a step, the bytes kept for comparison, and the objects of a connection."""

AFTER_BYTES = 8 * 1024 * 1024
"""Bytes that a reader must have taken before a segment is opened ahead of it: the first bytes only fill the kernel's
buffers, even those of a slow reader."""

Open = Callable[[], Coroutine[Any, Any, SegmentRead | None]]


class Prefetch:
    """One task that opens the next segment. A caller that takes the resulting read owns it; `drop` ends the task and
    closes a read that was not taken."""

    def __init__(self, lender: Lender) -> None:
        self._room = Room(lender)  # releasing `lender`, the room of the stream's read, releases this room
        self._task: asyncio.Task[SegmentRead | None] | None = None

    def begin(self, open_next: Open) -> None:
        """Begin to open the next segment if the lender can spare AHEAD_BYTES. The caller must have taken or dropped the
        previous read."""
        if self._room.try_hold(AHEAD_BYTES):
            self._task = spawn(open_next(), name="segment ahead")

    @property
    def is_under_way(self) -> bool:
        return self._task is not None

    async def take(self) -> SegmentRead | None:
        """Wait for the read that `begin` started. Returns None after the last segment. Raises the errors of opening.
        The caller must check `is_under_way` before."""
        assert self._task is not None
        read = await self._task
        self._task = None
        return read

    async def drop(self) -> None:
        """Abandon the read that `begin` started, even if the caller is cancelled meanwhile."""
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
    """Meter of who waits longer: the reader for the media server, or the server for the reader. Times are in
    seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned_at = clock()
        self._reader_seconds = 0.0
        self._server_seconds = 0.0

    def asked(self) -> None:
        """Record that the reader asks for more bytes: until now, the reader was busy."""
        now = self._clock()
        self._reader_seconds += now - self._turned_at
        self._turned_at = now

    def given(self) -> None:
        """Record that the reader got more bytes: until now, the reader waited for the server."""
        now = self._clock()
        self._server_seconds += now - self._turned_at
        self._turned_at = now

    def reader_waited_more(self) -> bool:
        """Return whether the reader has waited longer than it was busy since the last call."""
        waited = self._server_seconds > self._reader_seconds
        self._reader_seconds = self._server_seconds = 0.0
        return waited
