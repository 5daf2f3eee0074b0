"""Slots, which limit how many streams run at once: the threads of `embedded`, the children of `subprocess`."""

from __future__ import annotations

import asyncio

from serverpy.errors import Busy


class Slots:
    """Slots for at most `count` streams. A caller waits up to `wait_seconds` for a free slot; callers that wait are
    served in order."""

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
        """Take a slot. Raises `Busy` if no slot became free in time."""
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Busy(f"All {self._what} are in use.") from None
        finally:
            self._waiting -= 1
        self._taken += 1
        return Slot(self)

    def _release(self) -> None:
        self._taken -= 1
        self._free.release()


class Slot:
    """A slot that is taken. `release` gives the slot back, and is idempotent."""

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots

    def release(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._release()
