"""The places for extractions that parse (EXTRACT_WORKERS). A place is the right of one thread to parse. The number of
places is limited, because parsing takes CPU time and holds the interpreter lock. While a thread waits for bytes, for a
child process or in `time.sleep`, it gives its place to another thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from serverpy.ytdlp.children import Ticket

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_SECONDS = 5.0
"""Maximum number of seconds that a thread waits for a place. After this time, the thread continues without a place.
Otherwise a page that takes minutes to parse could block all other extractions. With this limit, the threads share the
CPU."""


class _Turn(threading.Event):
    """The event for which a thread waits until it gets a place."""

    has_place = False


class Places:
    """A pool of `count` places, which waiting threads get in the order of their arrival. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._waiting: deque[_Turn] = deque()
        self._local = threading.local()

    @contextmanager
    def held(self, ticket: Ticket) -> Iterator[None]:
        """Let the calling thread hold a place during the block, except during calls of `outside`. Raises `Stopped` if
        the extraction is cancelled (its `Ticket` is set) while the thread waits for a place."""
        self._local.ticket = ticket
        self._local.has_place = False
        try:
            self._enter(ticket)
            yield
        finally:
            self._leave()
            self._local.ticket = None

    def outside(self, wait: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `wait(*args, **kwargs)` and return the result. During the call, the place of the calling thread is free
        for another thread. Raises `Stopped` if the extraction of the calling thread is cancelled before the thread has
        a place again."""
        ticket = getattr(self._local, "ticket", None)
        if ticket is None:
            return wait(*args, **kwargs)
        self._leave()
        self._local.ticket = None  # so that a nested call of `outside` in `wait` does nothing more than wait
        try:
            return wait(*args, **kwargs)
        finally:
            self._local.ticket = ticket
            self._enter(ticket)

    def _enter(self, ticket: Ticket) -> None:
        turn = _Turn()
        with self._lock:
            if self._free:
                self._free -= 1
                self._local.has_place = True
                return
            self._waiting.append(turn)
        try:
            with ticket.hook(turn.set):
                turn.wait(PATIENCE_SECONDS)
            ticket.check()
        finally:
            with self._lock:
                self._local.has_place = turn.has_place
                if not turn.has_place:
                    self._waiting.remove(turn)

    def _leave(self) -> None:
        """If the calling thread has a place, give that place to the thread that has waited for the longest time."""
        with self._lock:
            if not self._local.has_place:
                return
            self._local.has_place = False
            if self._waiting:
                turn = self._waiting.popleft()
                turn.has_place = True
                turn.set()
            else:
                self._free += 1


def install(places: Places) -> None:
    """Patch `time.sleep`, with which extractors wait between requests, so that a sleeping thread holds no place."""
    sleep = time.sleep

    def outside(seconds: float, /) -> None:
        places.outside(sleep, seconds)

    time.sleep = outside  # type: ignore[assignment]  # the argument of `time.sleep` is positional only
