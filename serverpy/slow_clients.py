"""The minimum download rate of clients. A client that reads one byte per minute could hold its connection, and all that
its stream has reserved, for as long as it likes. The server lets such a stream run while nobody needs these resources,
and cuts it when a new connection or another request waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from serverpy.running import Record, Running

LONGEST_PAUSE_SECONDS = 2.0
"""Maximum number of seconds between two checks of the clients."""
LOOKS = 8
"""Minimum number of checks in each measuring window."""


@dataclass(slots=True)
class Pace:
    """The download rate of a client, measured in windows of a fixed length while the server waits for the client to
    read. `since` is the start of the current window, and `taken_bytes` the number of bytes that the client had received
    at the start of the window. `is_slow` is the result of the last full window."""

    since: float
    taken_bytes: int
    is_slow: bool = False

    def look(self, now: float, taken_bytes: int, *, seconds: float, min_rate: int) -> None:
        if now - self.since >= seconds:
            self.is_slow = taken_bytes - self.taken_bytes < min_rate * (now - self.since)
            self.since, self.taken_bytes = now, taken_bytes


class SlowClients:
    """A watcher of the clients of `running` that read fewer than `min_rate` bytes per second, measured over `seconds`.
    It cuts the stream of such a client if `is_wanted` returns true, which means that other clients wait for the
    connection, the memory or the place of the stream."""

    def __init__(self, running: Running, is_wanted: Callable[[Record], bool], *, min_rate: int, seconds: float) -> None:
        self._running = running
        self._is_wanted = is_wanted
        self._min_rate = min_rate
        self._seconds = seconds
        self._paces: dict[Record, Pace] = {}

    async def watch(self) -> None:
        """Cut the streams of slow clients until the task is cancelled. Returns immediately if `min_rate` is 0."""
        loop = asyncio.get_running_loop()
        while self._min_rate:
            await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, self._seconds / LOOKS))
            self.look(loop.time())

    def look(self, now: float) -> None:
        """Measure the rates of the clients for which the server waits. Cut the streams of slow clients if other clients
        wait for the connections, the memory or the places of these streams."""
        paces = {record: pace for record in self._running if (pace := self._pace(record, now)) is not None}
        self._paces = paces
        for record, pace in paces.items():
            if pace.is_slow and self._is_wanted(record):
                record.cancel("slow")

    def _pace(self, record: Record, now: float) -> Pace | None:
        """Measure and return the rate of a client. Returns None if the server does not wait for the client to read."""
        unsent = record.unsent_bytes()
        if not unsent:
            return None
        taken = record.given_bytes - unsent
        pace = self._paces.get(record)
        if pace is None:
            return Pace(now, taken)
        pace.look(now, taken, seconds=self._seconds, min_rate=self._min_rate)
        return pace
