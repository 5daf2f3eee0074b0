"""One upstream for all who watch the same live stream from its edge.

    media server ──▶ upstream ──▶ ring ──▶ reader ──▶ client
                        ▲          ├─────▶ reader ──▶ client
                        └─ asked ──┴─────▶ reader ──▶ client

Pull is the back-pressure here, too: the upstream is read when a reader has had all there is and wants more, so the
fastest sets the pace. Who falls so far behind that the ring no longer has its next bytes is cut; the others do not
notice. Since segments come in bursts, which are no measure of a client's line, the upstream waits a little before it
leaves one behind who still reads: for half of what a segment lasts at most, so that it keeps up in any case.

Who joins begins with the initialization section, if there is one, and the latest segment that the ring still has from
its beginning, or else the next one. An end, and an error, reach every reader after the bytes before it. The last
reader to leave closes the upstream.

What one reader holds is its own reservation, and that covers the upstream, too, whoever began it: each has reserved
as if it were alone. The ring is charged to the budget once, in what is spare of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from serverpy.errors import Busy, UpstreamFailed
from serverpy.memory.room import Room
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import Extent
from serverpy.streaming.ring import CHUNK_BYTES, Ring
from serverpy.streaming.segments.segment import Segment
from serverpy.tasks import Closing, cancel, spawn

JOIN_BYTES = 1024 * 1024
"""What a ring has to have for a second reader: otherwise that one would be cut at its first pause, and had better have
an upstream of its own."""


READS_SECONDS = 1.0
"""Who has taken nothing for so long does not read."""


class TooSlow(Busy):
    """The client read more slowly than the stream that it shares went on, and was left behind: always in mid-body, so
    that the code is for the log alone."""

    code = "too_slow"


class SharedRead(Protocol):
    """An open live stream, read once for many clients (`segments/segmented.py::SegmentedRead`)."""

    segment: Segment | None
    headers: Headers
    connect_seconds: float

    async def read(self) -> bytes: ...

    def move_to(self, room: Room) -> bool: ...

    async def aclose(self) -> None: ...


class Keeper(Protocol):
    """The budget, for what is held by no stream alone."""

    def try_keep(self, nbytes: int) -> bool: ...

    def forget(self, nbytes: int) -> None: ...


class KeptRoom:
    """What an upstream and its ring take of the budget, until `release`."""

    def __init__(self, budget: Keeper) -> None:
        self._budget = budget
        self._nbytes = 0

    def try_grow(self, nbytes: int) -> bool:
        if not self._budget.try_keep(nbytes):
            return False
        self._nbytes += nbytes
        return True

    def shrink(self, nbytes: int) -> None:
        self._nbytes -= nbytes
        self._budget.forget(nbytes)

    def release(self) -> None:
        self.shrink(self._nbytes)


@dataclass(slots=True)
class Turn:
    """Of those who would open the same thing. `is_vain` says that somebody did, and there was nothing to share: then
    nobody need wait for another any more."""

    is_vain: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Fanout:
    """The live upstreams that are shared, by what they are of."""

    def __init__(self, budget: Keeper) -> None:
        self._budget = budget
        self._broadcasts: dict[Hashable, Broadcast] = {}
        self._turns: dict[Hashable, Turn] = {}
        self.cuts = 0
        """Readers that were cut since the start, for they had fallen behind."""

    @property
    def upstreams(self) -> int:
        return len(self._broadcasts)

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[Turn]:
        """One at a time, so that only the first opens an upstream; if it leaves meanwhile, the next."""
        turn = self._turns.setdefault(key, Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield turn
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]

    def join(self, key: Hashable) -> Reader | None:
        """One more reader of the upstream of that key; None if there is none, or none that can be shared."""
        broadcast = self._broadcasts.get(key)
        return None if broadcast is None or not broadcast.has_room() else broadcast.join()

    def share(self, key: Hashable, upstream: SharedRead) -> Reader | None:
        """The first reader of `upstream`, which is its readers' from now on; None, and it stays its owner's, if another
        was faster, or there is no room."""
        room = KeptRoom(self._budget)
        if key in self._broadcasts or not upstream.move_to(room):
            return None
        broadcast = Broadcast(upstream, room, on_over=lambda: self._forget(key, broadcast), on_cut=self._count)
        self._broadcasts[key] = broadcast
        return broadcast.join()

    def _forget(self, key: Hashable, broadcast: Broadcast) -> None:
        if self._broadcasts.get(key) is broadcast:
            del self._broadcasts[key]

    def _count(self) -> None:
        self.cuts += 1


class Broadcast:
    """One upstream, which it owns, and those who read it: at least one, until it is closed. `on_over` is called when
    nobody can join any more."""

    def __init__(
        self, upstream: SharedRead, room: KeptRoom, *, on_over: Callable[[], None], on_cut: Callable[[], None]
    ) -> None:
        self.upstream = upstream
        self.ring = Ring(room)
        self.initial: list[bytes] = []
        """The initialization section."""
        self._on_cut = on_cut
        self._room = room
        self._on_over = on_over
        self._readers: set[Reader] = set()
        self._segment: Segment | None = None
        self._is_whole = True
        self._is_over = False
        self._error: Exception | None = UpstreamFailed("The live stream is no longer read.")
        self._patience = 0.0
        self.moved = asyncio.Event()
        """Set by readers who have taken something."""
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._task = spawn(self._pump(), name="live upstream")
        self._closing = Closing(self._close, name="close a live upstream")

    def has_room(self) -> bool:
        """For one more reader."""
        return self._is_whole and self.ring.hold(JOIN_BYTES)

    def join(self) -> Reader:
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    async def leave(self, reader: Reader) -> None:
        """When the last one has left, the upstream is closed when this returns. Again is nothing."""
        self._readers.discard(reader)
        if not self._readers:
            self._on_over()
            await self._closing()

    async def wait(self) -> bool:
        """Until there is more to read; False at the end. Raises what the upstream raised."""
        if not self._is_over:
            news = self._news
            self._wanted.set()
            await news.wait()
            return True
        if self._error is not None:
            raise self._error.with_traceback(None)
        return False

    async def _pump(self) -> None:
        """Read a chunk whenever one is wanted. Whatever ends this is told to the readers."""
        try:
            await self._wanted.wait()
            while chunk := await self.upstream.read():
                await self._wait_for_the_slow(len(chunk))
                self._wanted.clear()
                self._add(chunk)
                await self._wanted.wait()
            self._error = None
        except Exception as error:  # noqa: BLE001  # every reader raises it
            self._error = error
        finally:
            self._is_over = True
            self._on_over()
            self._announce()
            await self.upstream.aclose()

    def _add(self, chunk: bytes) -> None:
        segment, self._segment = self._segment, self.upstream.segment
        if self._segment is not None and self._segment.initial and self._keep_initial(chunk):
            return self._announce()
        begins = self._segment != segment
        if begins and self._segment is not None:
            self._patience = (self._segment.duration or 0.0) / 2
        self.ring.add(chunk, begins=begins)
        self._trim()
        return self._announce()

    def _trim(self) -> None:
        """Drop what nobody needs, and know who has fallen behind."""
        needed = self.ring.end
        for reader in self._readers:
            if reader.next >= self.ring.first:
                needed = min(needed, reader.next)
            elif reader.lose():
                self._on_cut()
        self.ring.drop_below(needed)

    async def _wait_for_the_slow(self, nbytes: int) -> None:
        """Before a chunk of `nbytes` would leave one behind who reads."""
        loop = asyncio.get_running_loop()
        while self._patience > 0 and self._would_lose_one_who_reads(nbytes, loop.time()):
            begun = loop.time()
            self.moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._patience, READS_SECONDS)):
                    await self.moved.wait()
            self._patience -= loop.time() - begun
            self._trim()

    def _would_lose_one_who_reads(self, nbytes: int, now: float) -> bool:
        first = self.ring.first_beside(nbytes)
        return any(reader.next < first and now - reader.took_at < READS_SECONDS for reader in self._readers)

    def _keep_initial(self, chunk: bytes) -> bool:
        """For those who will join. Without room for it nobody can, and it is a chunk like any other."""
        self._is_whole = self._is_whole and self._room.try_grow(len(chunk) + CHUNK_BYTES)
        if self._is_whole:
            self.initial.append(chunk)
        return self._is_whole

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _close(self) -> None:
        try:
            await cancel(self._task)
            await self.upstream.aclose()  # a task that had not begun has not closed it
        finally:
            self._room.release()


class Reader:
    """A client's way along a broadcast, like any read (`methods/relay.py::Read`). Closed by its owner."""

    extent = Extent(0, None, None)
    partial = False
    honoured = False

    def __init__(self, broadcast: Broadcast) -> None:
        ring = broadcast.ring
        self._broadcast = broadcast
        self._initial_given = 0
        self._next = 0 if ring.end == 0 else ring.boundary
        self.headers = broadcast.upstream.headers
        self.connect_seconds = broadcast.upstream.connect_seconds if ring.end == 0 else 0.0
        self.took_at = asyncio.get_running_loop().time()
        """When it took a chunk last."""
        self.loss: TooSlow | None = None
        """Why there is nothing more to read, for who has fallen behind."""
        self._tell: Callable[[], None] | None = None

    @property
    def next(self) -> int:
        """The number of the chunk that it needs next."""
        return self._broadcast.ring.end if self._next is None else self._next

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Have `tell` called when it falls behind, which is while nobody reads."""
        self._tell = tell

    def lose(self) -> bool:
        """It has fallen behind; False if that is known."""
        if self.loss is not None:
            return False
        self.loss = TooSlow("The live stream went on while it was read too slowly.")
        if self._tell is not None:
            self._tell()
        return True

    async def read(self, most: int = SMALL_STEP) -> bytes:
        """The next bytes; `b""` at the end. `most` has no effect: they were read for all. Raises what the upstream
        raises, and `TooSlow` for a reader that has fallen behind."""
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
        """What is there already."""
        broadcast, ring = self._broadcast, self._broadcast.ring
        if self.loss is not None:
            raise self.loss
        if self._initial_given < len(broadcast.initial):
            self._initial_given += 1
            return broadcast.initial[self._initial_given - 1]
        if self._next is None:
            self._next = ring.boundary
        if self._next is None or self._next >= ring.end:
            return None
        self._next += 1
        return ring.get(self._next - 1)
