"""How a running download is told to stop, wherever it is.

A download's thread is in one of three places: waiting for a socket (the session's ticket cuts that), pausing before
another try, or waiting for room in its pipe. `Stop` wakes it from the last two, and sets the ticket when the pipe's
reader has gone. One thread per process looks for both on behalf of all downloads: it lives while there are any.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from types import TracebackType

from serverpy.errors import UpstreamFailed

LOOK_MS = 50
"""How long a ticket may be set before a full pipe's writer notices."""


def stopped() -> UpstreamFailed:
    """An error and not a quiet return: what was cut short must never pass for a whole file."""
    return UpstreamFailed("The download was stopped before its end.")


class Stop:
    """One download's stop signal, around the thread's work. `cancelled` is set here too when the reader of `pipe`
    leaves. The pipe's descriptor stays the caller's, and has to outlive the block."""

    def __init__(self, cancelled: threading.Event, pipe: int) -> None:
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._told = False
        self.pipe = pipe
        self.wake = -1
        """Readable once stopped: for `poll`, beside whatever else is waited for."""

    def __enter__(self) -> Stop:
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        _WATCH.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        _WATCH.remove(self)
        with self._lock:
            os.close(self.wake)
            self.wake = -1

    @property
    def is_set(self) -> bool:
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises `UpstreamFailed` once stopped."""
        if self.is_set:
            raise stopped()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the signal; raises then."""
        self._cancelled.wait(seconds)
        self.check()

    @property
    def told(self) -> bool:
        return self._told

    def tell(self) -> None:
        """Stop. From any thread."""
        self._cancelled.set()
        with self._lock:
            self._told = True
            if self.wake >= 0:
                os.eventfd_write(self.wake, 1)


class _Watch:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Stop] = set()
        self._thread: threading.Thread | None = None
        self._changed = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def add(self, stop: Stop) -> None:
        with self._lock:
            self._running.add(stop)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="download-watch", daemon=True)
                self._thread.start()

    def remove(self, stop: Stop) -> None:
        with self._lock:
            self._running.discard(stop)
        os.eventfd_write(self._changed, 1)  # a `poll` under way would keep its pipe open, and its reader waiting

    def _watch(self) -> None:
        while True:
            with self._lock:
                if not self._running:
                    self._thread = None
                    return
                waiting = {stop.pipe: stop for stop in self._running if not stop.told}
            poller = select.poll()
            for fd in waiting:
                # Asked for nothing, `poll` still reports POLLERR: the reading end is closed.
                poller.register(fd, 0)
            poller.register(self._changed, select.POLLIN)
            gone = {fd for fd, what in poller.poll(LOOK_MS) if what & select.POLLERR}
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._changed)
            with self._lock:
                # A number may have been closed and used again since: only those still running are told.
                due = [stop for fd, stop in waiting.items() if stop in self._running and (fd in gone or stop.is_set)]
            for stop in due:
                stop.tell()


_WATCH = _Watch()
