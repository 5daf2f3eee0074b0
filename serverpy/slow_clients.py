"""The minimum rate of clients. A client that reads one byte a minute would hold a place, and all that its stream has
reserved, for as long as it likes. Such a stream runs while nobody needs its place, and is cut when others wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from serverpy.running import Record, Running

LONGEST_PAUSE_SECONDS = 2.0
"""Maximum number of seconds between two looks at the clients."""
LOOKS = 8
"""Looks in each window, if the window is short."""


@dataclass(slots=True)
class Pace:
    """The rate of a client in windows of a fixed length. The window begins again when the server does not wait for the
    client. `is_slow` is the result of the last full window."""

    since: float
    taken_bytes: int
    is_slow: bool = False

    def look(self, now: float, taken_bytes: int, *, seconds: float, min_rate: int) -> None:
        if now - self.since >= seconds:
            self.is_slow = taken_bytes - self.taken_bytes < min_rate * (now - self.since)
            self.since, self.taken_bytes = now, taken_bytes


class SlowClients:
    """The clients of `running` that read fewer than `min_rate` bytes a second, measured over `seconds`. A stream of
    theirs is cut if `is_wanted` says that others wait for its place."""

    def __init__(self, running: Running, is_wanted: Callable[[Record], bool], *, min_rate: int, seconds: float) -> None:
        self._running = running
        self._is_wanted = is_wanted
        self._min_rate = min_rate
        self._seconds = seconds
        self._paces: dict[Record, Pace] = {}

    async def watch(self) -> None:
        """Cut slow clients until the task is cancelled."""
        loop = asyncio.get_running_loop()
        while self._min_rate:
            await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, self._seconds / LOOKS))
            self.look(loop.time())

    def look(self, now: float) -> None:
        """Measure the clients for which the server waits, and cut those that are slow and wanted."""
        paces = {record: pace for record in self._running if (pace := self._pace(record, now)) is not None}
        self._paces = paces
        for record, pace in paces.items():
            if pace.is_slow and self._is_wanted(record):
                record.cancel("slow")

    def _pace(self, record: Record, now: float) -> Pace | None:
        """Return the pace of a client, or None if the server does not wait for it."""
        unsent = record.unsent_bytes()
        if not unsent:
            return None
        taken = record.given_bytes - unsent
        pace = self._paces.get(record)
        if pace is None:
            return Pace(now, taken)
        pace.look(now, taken, seconds=self._seconds, min_rate=self._min_rate)
        return pace
