"""Slots, which limit how many streams of a method run at once: the threads of the method `embedded`, and the child
processes of the method `subprocess`."""

from __future__ import annotations

import asyncio

from serverpy.errors import Busy


class Slots:
    """The slots for at most `count` streams. A caller waits up to `wait_seconds` seconds for a free slot. Waiting
    callers get a slot in the order of their arrival."""

    def __init__(self, count: int, wait_seconds: float, what: str) -> None:
        self._count = count
        self._wait_seconds = wait_seconds
        self._what = what
        self._free = asyncio.Semaphore(count)
        self._taken = 0
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Slots {self._what}: {self._taken}/{self._count}>"

    @property
    def waiting(self) -> int:
        return self._waiting

    async def take(self) -> Slot:
        """Wait for a free slot, and take it. Raises `Busy` if no slot becomes free in time."""
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Busy(f"All {self._what} are in use. Try again later.") from None
        finally:
            self._waiting -= 1
        self._taken += 1
        return Slot(self)

    def _release(self) -> None:
        self._taken -= 1
        self._free.release()


class Slot:
    """A slot that a stream has taken. The stream must call `release` at its end. `release` is idempotent."""

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots

    def release(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._release()
