"""Functions that return free memory of the C library to the operating system. The worker calls them after its last
download, the server after its last stream."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable
from typing import Protocol

from serverpy.tasks import cancel, spawn

GIVE_BACK_SECONDS = 5.0


def settle() -> None:
    """Exempt all existing objects from garbage collection, because they exist until the process ends. A full collection
    then takes a tenth of the time. Call this function when all modules are loaded."""
    gc.collect()
    gc.freeze()


def give_memory_back() -> None:
    """Collect garbage, and make the C library return its free pages to the operating system.

    Garbage collection is necessary because an exception and the frames that it has passed refer to each other, and may
    hold the extraction of a page, which the budget counts as used as long as it exists. Without `malloc_trim`, the C
    library would keep all free pages below its last used page. The call takes some milliseconds, and does not hold the
    interpreter lock during that time."""
    gc.collect()
    if _trim is not None:
        _trim(0)


def _find_trim() -> Callable[[int], int] | None:
    """Return `malloc_trim`, which only glibc has. Returns None if the C library does not have it."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


_trim = _find_trim()


class Admissions(Protocol):
    """The properties of `Budget` that `Heap` reads."""

    @property
    def streams(self) -> int: ...
    @property
    def admitted(self) -> int: ...


class Heap:
    """A task that returns free memory to the operating system when no stream runs any more. It checks once every
    `seconds` seconds, and returns the memory in a thread. The task runs between `start` and `aclose`."""

    def __init__(
        self,
        admissions: Admissions,
        *,
        seconds: float = GIVE_BACK_SECONDS,
        give_back: Callable[[], None] = give_memory_back,
    ) -> None:
        self._admissions = admissions
        self._seconds = seconds
        self._give_back = give_back
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = spawn(self._watch(), name="give memory back")

    async def aclose(self) -> None:
        if self._task is not None:
            await cancel(self._task)

    async def _watch(self) -> None:
        done = 0
        while True:
            await asyncio.sleep(self._seconds)
            if not self._admissions.streams and self._admissions.admitted != done:
                done = self._admissions.admitted
                await asyncio.to_thread(self._give_back)
