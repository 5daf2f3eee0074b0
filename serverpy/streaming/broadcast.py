"""The broadcast of one live stream. ServerPY reads the stream only once from the media server (the upstream), for all
clients that watch it (the readers).

    media server ──▶ upstream ──▶ ring ──▶ reader ──▶ client
                        ▲          ├─────▶ reader ──▶ client
                        └─ asked ──┴─────▶ reader ──▶ client

The readers exert back-pressure: the broadcast reads a chunk from the upstream only when a reader has taken all chunks
of the ring and asks for another chunk, so the fastest reader sets the pace.

A broadcast is in one of four states:

    resting ◀──▶ reading ──▶ over ──▶ closed

- *Resting*: no reader waits for a chunk that is not in the ring yet.
- *Reading*: a reader waits, and the broadcast reads one chunk from the upstream. That chunk may push a chunk out of the
  ring that another reader still needs. If the other reader is not stalled (`READS_SECONDS`), the broadcast waits until
  it has read. This wait is necessary because segments arrive in bursts, faster than a client's bandwidth. All waits
  during one segment last at most half the segment's duration in total, which keeps the broadcast at the live edge.
- *Over*: the upstream has ended or failed. No further reader can join. Readers get the chunks of the ring, then the end
  or the error.
- *Closed*: the last reader has left, which may happen in any state. The upstream is closed, and its memory is given
  back to the budget.

A reader is in one of four states, too:

    beginning ──▶ following ──▶ ended
        └─────────────┴───────▶ lost

- *Beginning*: the reader first gets the latest initialization section, if the stream has one. It then begins with the
  latest segment whose first chunk is in the ring or, if the ring has no such segment, with the next segment.
- *Following*: the reader takes chunk after chunk, and waits if the ring has no further chunk.
- *Ended*: the broadcast is over, and the reader has taken its last chunk.
- *Lost*: the ring has dropped the chunk that the reader needs next. Every read raises `TooSlow`; the other readers
  continue.

A reader's own reservation covers the bytes that the reader and the upstream hold, because each client reserves as if it
were alone. The ring, the initialization section and a long playlist are charged to the budget once, as far as the
budget can spare the bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from serverpy.errors import Busy, UpstreamFailed
from serverpy.memory.room import Lender, Room
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import Extent
from serverpy.streaming.ring import CHUNK_BYTES, Ring
from serverpy.streaming.segments.segment import Segment
from serverpy.tasks import Closing, cancel, spawn

JOIN_BYTES = 1024 * 1024
"""Number of bytes that the ring buffer must be able to hold before a second reader may join. With a smaller ring, a
reader would fall behind at its first pause, so a further client gets an upstream of its own instead."""
READS_SECONDS = 1.0
"""Number of seconds since its last read after which a reader counts as stalled."""


class TooSlow(Busy):
    """Error: a client fell behind a live stream that it shares with other clients. The error occurs only after the
    response has begun, so only the log shows its code."""

    code = "too_slow"


class SharedRead(Protocol):
    """The interface of an open live stream that a broadcast reads once for many clients;
    `segments/segmented.py::SegmentedRead` implements it."""

    segment: Segment | None
    headers: Headers
    connect_seconds: float

    async def read(self) -> bytes: ...

    def move_to(self, lender: Lender) -> bool: ...

    async def aclose(self) -> None: ...


class Broadcast:
    """One live stream from a media server, and the readers that share it. The broadcast has at least one reader until
    it is closed. When the broadcast is closed, it closes `upstream` and releases `room`. The broadcast calls `on_over`
    when no further reader can join, and `on_cut` once for each reader that is lost, because it has fallen behind."""

    def __init__(
        self, upstream: SharedRead, room: Room, *, on_over: Callable[[], None], on_cut: Callable[[], None]
    ) -> None:
        self.upstream = upstream
        self.ring = Ring(room)
        self.initial: list[bytes] = []
        """The chunks of the latest initialization section. Each initialization section gets a list of its own, so that
        the list that a reader holds does not change."""
        self._initial_of: Segment | None = None
        self._on_cut = on_cut
        self._room = room
        self._on_over = on_over
        self._readers: set[Reader] = set()
        self._segment: Segment | None = None
        self._has_initial = True
        self._is_over = False
        self._error: Exception | None = UpstreamFailed(
            "This server closed the live stream, because its last reader left or the server stops: request it again."
        )
        self._patience = 0.0
        self.moved = asyncio.Event()
        """Event that every reader sets when it has taken a chunk."""
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._task = spawn(self._pump(), name="live upstream")
        self._closing = Closing(self._close, name="close a live upstream")

    def has_room(self) -> bool:
        """Return whether a further reader can join: the ring must be able to hold JOIN_BYTES, and the broadcast must
        have kept the whole initialization section."""
        return self._has_initial and self.ring.hold(JOIN_BYTES)

    def join(self) -> Reader:
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    async def leave(self, reader: Reader) -> None:
        """Remove `reader`. If it was the last reader, close the broadcast before returning. Idempotent."""
        self._readers.discard(reader)
        if not self._readers:
            self._on_over()
            await self._closing()

    async def wait(self) -> bool:
        """Wait until the ring has a new chunk, and return True. Returns False if the live stream has ended. Raises the
        error of the upstream if a read from it failed."""
        if not self._is_over:
            news = self._news
            self._wanted.set()
            await news.wait()
            return True
        if self._error is not None:
            raise self._error.with_traceback(None)
        return False

    async def _pump(self) -> None:
        """Read a chunk from the upstream whenever a reader wants one. When the upstream ends or fails, wake the
        readers: their reads then return `b""` or raise the error."""
        try:
            await self._wanted.wait()
            while chunk := await self.upstream.read():
                await self._wait_for_slow_readers(len(chunk))
                self._wanted.clear()
                self._add(chunk)
                self._announce()
                await self._wanted.wait()
            self._error = None
        except Exception as error:  # noqa: BLE001  # `wait` raises the error for every reader
            self._error = error
        finally:
            self._is_over = True
            self._on_over()
            self._announce()
            await self.upstream.aclose()

    def _add(self, chunk: bytes) -> None:
        segment, self._segment = self._segment, self.upstream.segment
        is_initial = self._segment is not None and self._segment.initial
        if is_initial:
            is_first = self._take_initial()
            if self._keep_initial(chunk) and is_first:
                return
        begins = self._segment != segment and not is_initial
        if begins and self._segment is not None:
            self._patience = (self._segment.duration or 0.0) / 2
        self.ring.add(chunk, begins=begins)
        self._trim()

    def _take_initial(self) -> bool:
        """Prepare for the chunks of the current initialization section. If it is a new section, drop the chunks of the
        previous section. Returns whether it is the first section of the stream, which readers get before all other
        bytes. A later section also goes into the ring for the present readers, and readers that join from now on begin
        with that section and the segment after it."""
        is_first = self.ring.end == 0
        if not is_first and self._initial_of != self._segment:
            self._room.shrink(sum(len(chunk) + CHUNK_BYTES for chunk in self.initial))
            self.initial = []
            self.ring.boundary = None
            for reader in self._readers:
                reader.follow()
        self._initial_of = self._segment
        return is_first

    def _trim(self) -> None:
        """Drop the chunks that no reader needs from the ring, and mark the readers that have fallen behind as lost."""
        needed = self.ring.end
        for reader in self._readers:
            if reader.next >= self.ring.first:
                needed = min(needed, reader.next)
            elif reader.lose():
                self._on_cut()
        self.ring.drop_below(needed)

    async def _wait_for_slow_readers(self, nbytes: int) -> None:
        """Wait while a new chunk of `nbytes` bytes would push a chunk out of the ring that a reader still needs,
        provided that the reader is not stalled. The wait ends when the waiting time of the current segment is used
        up."""
        loop = asyncio.get_running_loop()
        while self._patience > 0 and self._would_lose_a_reader(nbytes, loop.time()):
            begun = loop.time()
            self.moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._patience, READS_SECONDS)):
                    await self.moved.wait()
            self._patience -= loop.time() - begun
            self._trim()

    def _would_lose_a_reader(self, nbytes: int, now: float) -> bool:
        first = self.ring.first_beside(nbytes)
        return any(reader.next < first and now - reader.took_at < READS_SECONDS for reader in self._readers)

    def _keep_initial(self, chunk: bytes) -> bool:
        """Keep `chunk`, a part of the initialization section, for readers that join later. Returns False if too little
        of the memory budget is free; from then on no reader can join."""
        self._has_initial = self._has_initial and self._room.try_grow(len(chunk) + CHUNK_BYTES)
        if self._has_initial:
            self.initial.append(chunk)
        return self._has_initial

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _close(self) -> None:
        try:
            await cancel(self._task)
            # the task has not closed the upstream if it was cancelled before it began to run
            await self.upstream.aclose()
        finally:
            self.ring.close()
            self._room.release()


class Reader:
    """The read of a broadcast by one client (`methods/relay.py::Read`). The owner of the reader must close it."""

    extent = Extent(0, None, None)
    partial = False
    honoured = False
    is_live = True
    takes_large_steps = False

    def __init__(self, broadcast: Broadcast) -> None:
        ring = broadcast.ring
        self._broadcast = broadcast
        self._initial = broadcast.initial
        self._initial_given = 0
        self._next = 0 if ring.end == 0 else ring.boundary
        self.headers = broadcast.upstream.headers
        self.connect_seconds = broadcast.upstream.connect_seconds if ring.end == 0 else 0.0
        self.took_at = asyncio.get_running_loop().time()
        """Time, in seconds of the event loop's clock, at which the reader last took a chunk."""
        self.loss: TooSlow | None = None
        """The error that every read raises if the reader has fallen behind. None if the reader has not fallen
        behind."""
        self._tell: Callable[[], None] | None = None

    @property
    def next(self) -> int:
        """Number of the chunk in the ring that the reader needs next."""
        return self._broadcast.ring.end if self._next is None else self._next

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Register `tell`, which is called when the reader is lost, even if no read is in progress then."""
        self._tell = tell

    def lose(self) -> bool:
        """Mark the reader as lost: it has fallen behind the live stream. Returns False if the reader was already
        marked."""
        if self.loss is not None:
            return False
        self.loss = TooSlow("The client fell behind the live stream.")
        if self._tell is not None:
            self._tell()
        return True

    def follow(self) -> None:
        """If the reader waits for the beginning of a segment, let it begin with the next chunk, which is the first of a
        new initialization section."""
        if self._next is None:
            self._next = self._broadcast.ring.end

    async def read(self, most: int = SMALL_STEP) -> bytes:
        """Return the next bytes, or `b""` at the end. `most` has no effect, because the broadcast reads from the
        upstream for all readers. Raises the error of the upstream if a read from it failed, and `TooSlow` if this
        reader has fallen behind."""
        while True:
            chunk = self._take()
            if chunk is not None:
                self.took_at = asyncio.get_running_loop().time()
                self._broadcast.moved.set()
                return chunk
            if not await self._broadcast.wait():
                return b""

    async def aclose(self) -> None:
        await self._broadcast.leave(self)

    def _take(self) -> bytes | None:
        """Return the next chunk. Returns None if the next chunk has not arrived yet. Raises `TooSlow` if this reader
        has fallen behind."""
        ring = self._broadcast.ring
        if self.loss is not None:
            raise self.loss
        if self._initial_given < len(self._initial):
            self._initial_given += 1
            return self._initial[self._initial_given - 1]
        if self._next is None:
            self._next = ring.boundary
        if self._next is None or self._next >= ring.end:
            return None
        self._next += 1
        return ring.get(self._next - 1)
