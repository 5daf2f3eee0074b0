"""The clients that load a server under test. They use raw sockets, so that one process on the server's machine can run
a thousand slow clients, and they compare every byte with the expected media.

Slow readers belong to a `Crowd`, which one task paces. The functions `whole`, `first_byte`, `leaving` and `for_a_while`
send one request each on a connection of its own; the function `many` and the class `Visitor` repeat requests on
connections that stay open. None of these raises an error if a request fails: the `Outcome` says how the request ended,
and the calling scenario decides.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from serverpy.bench.measure.exchange import GOOD, Answer, Ask, End, Outcome
from serverpy.tasks import cancel, spawn

RECEIVE_BYTES = 64 * 1024
"""Size in bytes of the kernel's receive buffer of a slow client. With the default size, the client's kernel accepts
megabytes, so the server notices late that the client is slow, and its own buffers fill late."""
SEGMENT_BYTES = 1448
"""TCP segment size in bytes of a slow client, as over Ethernet. With the 64 KB of loopback, the server's kernel buffers
2.6 MB for each client, so the server would be idle for the first half minute."""
READ_BYTES = 256 * 1024
SLOTS = 10
TICK_SECONDS = 0.025
"""Seconds between two ticks of a crowd. On each tick, one of SLOTS groups of clients reads, so each client reads every
quarter of a second."""
OPENING_AT_ONCE = 64
HOPELESS_AFTER = 50


class Reader:
    """One slow client. In each iteration, it reads only so many bytes that its total is at most `rate` (in bytes per
    second) × the seconds since its first byte."""

    def __init__(self, ask: Ask, rate: int) -> None:
        self._ask = ask
        self._rate = rate
        self._socket = _socket(slow=True)
        self._answer = Answer(ask)
        self._since = self._fed = 0.0
        self._stall = 0.0
        self.outcome: Outcome | None = None
        """How the request ended. None while the client is reading."""

    async def open(self) -> None:
        """Connect, send the request, and wait until the first byte of the body arrives or the response ends without a
        body. Closes the socket if the call is cancelled."""
        try:
            async with asyncio.timeout(self._ask.patience):
                await _send(self._socket, self._ask)
                self._answer = Answer(self._ask)
                await self._first()
        except TimeoutError:
            self._ended(failure=f"no byte within {self._ask.patience:g} s")
        except OSError as error:
            self._ended(failure=str(error))
        except BaseException:
            self._socket.close()
            raise
        self._since = self._fed = time.monotonic()

    async def _first(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._answer.received and self.outcome is None:
            self._take(await loop.sock_recv(self._socket, 4096))

    def turn(self) -> None:
        """Read the bytes that are due at the client's rate, without waiting for more."""
        now = time.monotonic()
        due = int((now - self._since) * self._rate) - self._answer.received
        if self.outcome is not None or due <= 0:
            return
        try:
            data = self._socket.recv(min(due, READ_BYTES))
        except BlockingIOError:
            self._stall = max(self._stall, now - self._fed)
            return
        except OSError as error:
            self._ended(failure=str(error))
            return
        self._fed = now
        self._take(data)

    def leave(self) -> None:
        if self.outcome is None:
            self._ended(left=True)

    def _take(self, data: bytes) -> None:
        self._answer.feed(data)
        if not data or self._answer.over:
            self._ended()

    def _ended(self, *, left: bool = False, failure: str = "") -> None:
        self.outcome = self._answer.outcome(left=left, failure=failure, stall=self._stall)
        self._socket.close()


class Crowd:
    """Slow clients that are connected, each reading `rate` bytes per second.

    At most `at_once` of them connect at the same time; each client reads on every `slots`-th tick. The crowd is an
    async context manager, and every exit from its block closes all connections.
    """

    def __init__(self, ask: Ask, rate: int, *, at_once: int = OPENING_AT_ONCE, slots: int = SLOTS) -> None:
        self._ask = ask
        self._rate = rate
        self._slots = slots
        self._readers: list[Reader] = []
        self._gone: list[Reader] = []
        self._gate = asyncio.Semaphore(at_once)

    async def __aenter__(self) -> Self:
        self._pace = spawn(self._paced(), name="crowd")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        await cancel(self._pace)

    @property
    def reading(self) -> int:
        return sum(reader.outcome is None for reader in self._readers)

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes of all clients that have ended."""
        return [reader.outcome for reader in (*self._gone, *self._readers) if reader.outcome is not None]

    async def join(self, count: int) -> None:
        """Connect `count` more clients, `at_once` at a time, and wait until each has received the first byte of its
        body or its response has ended without a body."""
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(self._join(), name=f"join-{number}")

    async def _join(self) -> None:
        async with self._gate:
            reader = Reader(self._ask, self._rate)
            await reader.open()
            self._readers.append(reader)

    def leave(self, count: int | None = None) -> None:
        """Disconnect the `count` clients that connected first, or all clients if `count` is None."""
        going = self._readers if count is None else self._readers[:count]
        self._readers = [] if count is None else self._readers[count:]
        for reader in going:
            reader.leave()
        self._gone += going

    async def _paced(self) -> None:
        slot = 0
        while True:
            for reader in self._readers[slot :: self._slots]:
                reader.turn()
            slot = (slot + 1) % self._slots
            await asyncio.sleep(TICK_SECONDS)


async def whole(ask: Ask) -> Outcome:
    """Read a whole body with one client, as fast as the server sends it."""
    return await _read(ask, _never)


async def first_byte(ask: Ask) -> Outcome:
    """Send one request and disconnect after the first byte of the body."""
    return await leaving(ask, 1)


async def leaving(ask: Ask, after_bytes: int) -> Outcome:
    """Send one request and disconnect once `after_bytes` of the body have arrived."""
    return await _read(ask, _after(after_bytes))


async def for_a_while(ask: Ask, seconds: float, *, at_most: int = READ_BYTES) -> Outcome:
    """Read the body as fast as it arrives, at most `at_most` bytes per read, and disconnect after `seconds`."""
    return await _read(ask, lambda answer: answer.age >= seconds, at_most)


async def pausing(ask: Ask, after_bytes: int, seconds: float) -> Outcome:
    """Send one request with a small receive buffer, stop reading for `seconds` once `after_bytes` of the body have
    arrived, and read the rest."""
    with _socket(slow=True) as connection:
        answer, buffer = Answer(ask), bytearray(READ_BYTES)
        outcome = await _exchange(connection, ask, answer, buffer, enough=_after(after_bytes))
        if outcome.end != "left":
            return outcome
        await asyncio.sleep(seconds)
        return await _read_on(connection, ask, answer, buffer, _never)


@dataclass(slots=True)
class Tally:
    """The combined outcomes of many requests. `opened` is the number of connections that the clients opened."""

    seconds: float = 0.0
    opened: int = 0
    ends: Counter[End] = field(default_factory=Counter)
    first_bytes: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.ends[outcome.end] += 1
        if outcome.first_byte is not None:
            self.first_bytes.append(outcome.first_byte)
        if outcome.end not in GOOD and len(self.reasons) < 5:
            self.reasons.append(outcome.reason)

    @property
    def complete(self) -> int:
        return self.ends["complete"]

    @property
    def total(self) -> int:
        return self.ends.total()


async def many(
    ask: Callable[[], Ask], connections: int, *, count: int | None = None, seconds: float | None = None
) -> Tally:
    """Send requests over `connections` connections, one after the other on each. `ask` returns the next request. Ends
    after `count` requests in all, or after `seconds`. A connection stays open if the server keeps it alive. Stops early
    if at least 50 requests have ended and more than a tenth of them failed."""
    tally, begun = Tally(), time.monotonic()
    left = iter(range(count)) if count is not None else None

    def more() -> bool:
        bad = tally.total - tally.complete
        if tally.total >= HOPELESS_AFTER and bad > tally.total / 10:
            return False
        if left is not None and next(left, None) is None:
            return False
        return seconds is None or time.monotonic() - begun < seconds

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(_repeat(ask, tally, more), name=f"client-{number}")
    tally.seconds = time.monotonic() - begun
    return tally


class Visitor:
    """One client that sends one request after the other, over a connection that stays open if the server keeps it
    alive. `opened` is the number of connections that the client has opened. The owner closes the visitor."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._buffer = bytearray(READ_BYTES)
        self.opened = 0

    async def ask(self, asked: Ask, after_bytes: int | None = None) -> Outcome:
        """Send one request, and read the whole response, or disconnect once `after_bytes` of its body have arrived."""
        fresh = self._connection is None
        self._connection = self._connection or _socket()
        self.opened += fresh
        answer = Answer(asked)
        enough = _never if after_bytes is None else _after(after_bytes)
        try:
            return await _exchange(self._connection, asked, answer, self._buffer, fresh=fresh, enough=enough)
        finally:
            if not answer.keeps_alive:
                self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def _repeat(ask: Callable[[], Ask], tally: Tally, more: Callable[[], bool]) -> None:
    with closing(Visitor()) as visitor:
        while more():
            tally.add(await visitor.ask(ask()))
        tally.opened += visitor.opened


def _never(_answer: Answer) -> bool:
    return False


def _after(received: int) -> Callable[[Answer], bool]:
    return lambda answer: answer.received >= received


async def _read(ask: Ask, enough: Callable[[Answer], bool], at_most: int = READ_BYTES) -> Outcome:
    with _socket() as connection:
        return await _exchange(connection, ask, Answer(ask), bytearray(at_most), enough=enough)


async def _exchange(
    connection: socket.socket,
    ask: Ask,
    answer: Answer,
    buffer: bytearray,
    *,
    fresh: bool = True,
    enough: Callable[[Answer], bool] = _never,
) -> Outcome:
    """Send one request and read the response until it is complete or `enough` returns true. Does not close the
    connection."""
    try:
        async with asyncio.timeout(ask.patience):
            await _send(connection, ask, fresh=fresh)
    except TimeoutError:
        return answer.outcome(failure=f"silent for {ask.patience:g} s")
    except OSError as error:
        return answer.outcome(failure=str(error))
    return await _read_on(connection, ask, answer, buffer, enough)


async def _read_on(
    connection: socket.socket, ask: Ask, answer: Answer, buffer: bytearray, enough: Callable[[Answer], bool]
) -> Outcome:
    """Read the response until it is complete or `enough` returns true. Each read may take as long as `ask.patience`."""
    loop, view = asyncio.get_running_loop(), memoryview(buffer)
    try:
        async with asyncio.timeout(ask.patience) as patience:
            while not answer.over and not enough(answer):
                count = await loop.sock_recv_into(connection, buffer)
                if not count:
                    return answer.outcome()
                answer.feed(view[:count])
                patience.reschedule(loop.time() + ask.patience)
    except TimeoutError:
        return answer.outcome(failure=f"silent for {ask.patience:g} s")
    except OSError as error:
        return answer.outcome(failure=str(error))
    return answer.outcome(left=not answer.framed_end)


async def _send(connection: socket.socket, ask: Ask, *, fresh: bool = True) -> None:
    loop = asyncio.get_running_loop()
    if fresh:
        await loop.sock_connect(connection, (ask.host, ask.port))
    await loop.sock_sendall(connection, ask.head())


def _socket(*, slow: bool = False) -> socket.socket:
    """Return a non-blocking socket. With `slow`, its kernel buffers are small; their sizes must be set before the
    socket connects."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if slow:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
    return connection
