"""The child processes that yt-dlp starts: JavaScript runtimes. Each runtime takes 35–45 MB, which MEMORY_BUDGET does
not include.

All modules of yt-dlp start child processes through yt-dlp's own `Popen` class. `install` patches that class once per
process, so that each child process must wait for a `Gate`. The gate allows at most `limit` child processes at once. The
gate records the `Ticket` (cancellation event) of the thread that started a child process, so that the deadline of an
extraction kills only the child processes of that extraction.
"""

from __future__ import annotations

import functools
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from serverpy.parent import signal_at_death_of_parent


class Stopped(BaseException):
    """Exception: the extraction or download was cancelled. This class is a `BaseException`, because extractors catch
    every `Exception` and continue."""


class Ticket(threading.Event):
    """The cancellation event of one extraction or download. `set` tells the thread that does the work to stop, and
    calls the hooks of the ticket, which end any wait of that thread. Only that thread adds hooks; any other thread may
    call `set`."""

    def __init__(self, event: threading.Event | None = None) -> None:
        super().__init__()
        self._event = event
        self._lock = threading.Lock()
        self._hooks: list[Callable[[], None]] = []

    @classmethod
    def of(cls, event: threading.Event | None) -> Ticket:
        """Return `event` itself if it is a `Ticket`. Otherwise return a new `Ticket` that also counts as set while
        `event` is set."""
        return event if isinstance(event, Ticket) else cls(event)

    def is_set(self) -> bool:
        return super().is_set() or (self._event is not None and self._event.is_set())

    def check(self) -> None:
        """Raise `Stopped` if the extraction or download has been told to stop (this event is set)."""
        if self.is_set():
            raise Stopped

    def set(self) -> None:
        with self._lock:
            super().set()
            hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook()

    @contextmanager
    def hook(self, stop: Callable[[], None]) -> Iterator[None]:
        """Make `set` call `stop`, once and in the thread that calls `set`, if `set` is called while the block runs.
        Raises `Stopped` if `set` has already been called."""
        with self._lock:
            self.check()
            self._hooks.append(stop)
        try:
            yield
        finally:
            with self._lock:
                if stop in self._hooks:
                    self._hooks.remove(stop)


class Gate:
    """Thread-safe limit on the number of yt-dlp's child processes that run at once. The gate does not wait for a child
    process to end, because the code of yt-dlp that started the process does that."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = threading.Condition()
        self._running: dict[subprocess.Popen[Any], Ticket | None] = {}
        self._starting = 0
        self._closed = False
        self._local = threading.local()

    def __repr__(self) -> str:
        return f"<Gate {len(self)}/{self._limit}>"

    def __len__(self) -> int:
        """Return the number of child processes that run or are being started."""
        with self._free:
            self._sweep()
            return len(self._running) + self._starting

    @contextmanager
    def on_behalf_of(self, ticket: Ticket) -> Iterator[None]:
        """Assign the child processes that the calling thread starts in the block to the extraction or download
        `ticket`. At the end of the block, kill these child processes."""
        self._local.ticket = ticket
        try:
            yield
        finally:
            self._local.ticket = None
            self.kill(ticket)

    def close(self) -> None:
        """Kill all child processes, including those that are just being started. Idempotent."""
        self._closed = True
        self.kill()

    def kill(self, ticket: Ticket | None = None) -> None:
        """Kill the child processes of the extraction or download `ticket`. If `ticket` is None, kill all child
        processes. The pipes of the killed processes close, which wakes the threads that read from these pipes."""
        with self._free:
            doomed = [child for child, owner in self._running.items() if ticket is None or owner is ticket]
        for child in doomed:
            subprocess.Popen.kill(child)

    def start(self, child: subprocess.Popen[Any], launch: Callable[[], None]) -> None:
        """Wait until fewer than `limit` child processes run, then call `launch`, which starts the process. Raises
        `Stopped` if the work of the calling thread is cancelled first."""
        ticket: Ticket | None = getattr(self._local, "ticket", None)
        self._enter(ticket)
        try:
            launch()
        except BaseException:
            with self._free:
                self._starting -= 1
            raise
        with self._free:
            self._starting -= 1
            self._running[child] = ticket
        if self._closed or (ticket is not None and ticket.is_set()):
            subprocess.Popen.kill(child)

    def _enter(self, ticket: Ticket | None) -> None:
        with self._free:
            while True:
                if ticket is not None:
                    ticket.check()
                self._sweep()
                if len(self._running) + self._starting < self._limit:
                    self._starting += 1
                    return
                # Nothing notifies `_free` when a child process ends, so the loop polls.
                self._free.wait(0.05)

    def _sweep(self) -> None:
        for child in [child for child in self._running if child.poll() is not None]:
            del self._running[child]


def end_children_with_us(popen: type[subprocess.Popen[Any]]) -> None:
    """Patch `popen` (yt-dlp's `Popen` class) so that the kernel kills each child process when the thread that started
    it ends, and therefore also when this process ends. The patch is never undone."""
    launch = popen.__init__

    @functools.wraps(launch)
    def bound(self: Any, *args: Any, **kwargs: Any) -> None:
        # `signal_at_death_of_parent` runs in a forked copy of this process in which only the current thread exists, so
        # it must not wait for a lock.
        launch(self, *args, **{**kwargs, "preexec_fn": signal_at_death_of_parent})

    # patch the class itself, because yt-dlp's modules have already imported it
    popen.__init__ = bound  # type: ignore[method-assign]


def install(popen: type[subprocess.Popen[Any]], gate: Gate, outside: Callable[..., Any]) -> None:
    """Patch `popen` (yt-dlp's `Popen` class) so that each child process waits for `gate` before it starts, and is
    killed when this process ends. All waits for a child process go through `outside` (`places.py`), so that a waiting
    thread holds no place. The patch is never undone."""
    end_children_with_us(popen)
    launch, wait, communicate = popen.__init__, popen.wait, popen.communicate

    @functools.wraps(launch)
    def gated(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
        outside(gate.start, self, lambda: launch(self, *args, **kwargs))

    popen.__init__ = gated  # type: ignore[method-assign]
    popen.wait = lambda self, *args, **kwargs: outside(wait, self, *args, **kwargs)  # type: ignore[method-assign]
    popen.communicate = lambda self, *args, **kwargs: outside(communicate, self, *args, **kwargs)  # type: ignore[method-assign]
