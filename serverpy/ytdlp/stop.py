"""Stop signals, which end a running download during any wait of its thread.

The thread can wait for a socket, pause before a retry, or wait for room in its pipe. When the cancellation event
(`Ticket`) of the download is set, the wait for a socket ends, because the connections of the session are aborted.
`Stop` ends the other two kinds of wait, and also sets the event when the reader of the pipe has closed the reading end.
One thread per process watches the events and pipes of all downloads, and ends when no download is left.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from types import TracebackType

from serverpy.errors import UpstreamFailed

POLL_MS = 50
"""Maximum time, in milliseconds, until a thread that waits for room in its pipe notices that its download was
cancelled."""


def stopped() -> UpstreamFailed:
    """Return the error for a download that was stopped. Such a download must end with an error, because a truncated
    file must never look complete."""
    return UpstreamFailed("The download was stopped before its end.")


class Stop:
    """Stop signal of one download, and a context manager around the work of the download's thread. The signal sets
    `cancelled` when the reader of `pipe` closes the reading end. The caller still owns the descriptor `pipe`, and must
    not close it inside the block."""

    def __init__(self, cancelled: threading.Event, pipe: int) -> None:
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._signalled = False
        self.pipe = pipe
        self.wake = -1
        """A descriptor that becomes readable when the download is stopped. A thread can poll it together with other
        descriptors."""

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
        """Raise `UpstreamFailed` if the download has been stopped."""
        if self.is_set:
            raise stopped()

    def pause(self, seconds: float) -> None:
        """Wait for `seconds` seconds. Raises `UpstreamFailed` as soon as the download is stopped."""
        self._cancelled.wait(seconds)
        self.check()

    @property
    def is_signalled(self) -> bool:
        return self._signalled

    def signal(self) -> None:
        """Stop the download. Any thread may call this."""
        self._cancelled.set()
        with self._lock:
            self._signalled = True
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
        # Wake the watching thread: while its `poll` runs, the kernel keeps the pipe open, so the reader of the pipe
        # would not see EOF.
        os.eventfd_write(self._changed, 1)

    def _watch(self) -> None:
        while True:
            with self._lock:
                if not self._running:
                    self._thread = None
                    return
                waiting = {stop.pipe: stop for stop in self._running if not stop.is_signalled}
            poller = select.poll()
            for fd in waiting:
                # `poll` reports POLLERR when the reading end of the pipe is closed, even if no events are requested.
                poller.register(fd, 0)
            poller.register(self._changed, select.POLLIN)
            gone = {fd for fd, what in poller.poll(POLL_MS) if what & select.POLLERR}
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._changed)
            with self._lock:
                # The descriptor of a pipe may have been closed and its number reused, so signal only downloads that are
                # still running.
                due = [stop for fd, stop in waiting.items() if stop in self._running and (fd in gone or stop.is_set)]
            for stop in due:
                stop.signal()


_WATCH = _Watch()
