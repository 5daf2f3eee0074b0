"""The return of the C library's free memory to the system: in the worker after its last download, in the server after
its last stream."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable
from typing import Protocol

from serverpy.tasks import cancel, spawn

GIVE_BACK_SECONDS = 5.0


def settle() -> None:
    """Exempt all existing objects from garbage collection, because they will stay: a full collection then takes a tenth
    of the time. Call this when everything is loaded."""
    gc.collect()
    gc.freeze()


def give_memory_back() -> None:
    """Make the C library return its free pages to the system: by itself, it keeps all free pages below the last used
    page. Takes some milliseconds, without the interpreter lock."""
    if _trim is not None:
        _trim(0)


def _find_trim() -> Callable[[int], int] | None:
    """Return `malloc_trim`, which only glibc has. Returns None if it is missing."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


_trim = _find_trim()


class Admissions(Protocol):
    """The properties of `Budget` that `Heap` watches."""

    @property
    def streams(self) -> int: ...
    @property
    def admitted(self) -> int: ...


class Heap:
    """Task that returns memory to the system, in a thread, within `seconds` after the last stream has ended, and at
    most once in `seconds`. Runs between `start` and `aclose`."""

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
