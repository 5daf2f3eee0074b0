"""How a running download is told to stop, wherever it is.

A download's thread is in one of three places: waiting for room in its pipe, waiting for a socket, or pausing before
another try. `Stop` wakes it from each. One thread per process watches all running downloads for the two reasons to
stop: somebody set the download's `cancelled` event, or the reader of the pipe has gone (POLLERR on our end, which
`poll` reports without being asked). It lives while downloads run, and ends with the last one.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import weakref
from types import TracebackType
from typing import Any

import urllib3.connection
import urllib3.connectionpool
import urllib3.poolmanager

from serverpy.errors import UpstreamFailed

LOOK_MS = 50
"""How long a `cancelled` event may go unnoticed."""


def stopped() -> UpstreamFailed:
    """An error and not a quiet return: what was cut short must never pass for a whole file."""
    return UpstreamFailed("the download was stopped before its end")


class Stop:
    """One download's stop signal. Used as a context manager by the thread that downloads; the pipe's `fd` stays the
    caller's, and has to outlive the block. Inside it, connections made by this thread are cut when the signal comes.
    """

    def __init__(self, cancelled: threading.Event, fd: int) -> None:
        self._cancelled = cancelled
        self._event = threading.Event()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self.pipe = fd
        self.wake = -1
        """Readable once stopped: for `poll`, beside whatever else is waited for."""

    def __enter__(self) -> Stop:
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        _WATCHER.add(self)
        self.adopt_thread()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        _LOCAL.stop = None
        _WATCHER.remove(self)
        with self._lock:
            os.close(self.wake)
            self.wake = -1

    def adopt_thread(self) -> None:
        """Connections that this thread makes from now on belong to the download."""
        _LOCAL.stop = self

    @property
    def is_set(self) -> bool:
        return self._event.is_set() or self._cancelled.is_set()

    def check(self) -> None:
        """Raises `UpstreamFailed` once stopped."""
        if self.is_set:
            raise stopped()

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the signal; raises then."""
        self._event.wait(seconds)
        self.check()

    def fire(self) -> None:
        self._event.set()
        with self._lock:
            if self.wake >= 0:
                os.eventfd_write(self.wake, 1)
            for each in list(self._sockets):
                _cut(each)

    def due(self) -> bool:
        """Whether the signal has to be given, and was not yet."""
        return self._cancelled.is_set() and not self._event.is_set()

    @property
    def given(self) -> bool:
        return self._event.is_set()

    def own(self, connection: socket.socket) -> None:
        """Cut `connection` when the signal comes; it is held weakly, closing it stays its owner's."""
        with self._lock:
            self._sockets.add(connection)
            if self._event.is_set():
                _cut(connection)


def _cut(connection: socket.socket) -> None:
    # `shutdown` wakes a thread that is blocked in recv on the socket; `close` from another thread would not.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Watcher:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Stop] = set()
        self._thread: threading.Thread | None = None

    def add(self, stop: Stop) -> None:
        with self._lock:
            self._running.add(stop)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="download-watch", daemon=True)
                self._thread.start()

    def remove(self, stop: Stop) -> None:
        with self._lock:
            self._running.discard(stop)

    def _watch(self) -> None:
        while True:
            with self._lock:
                if not self._running:
                    self._thread = None
                    return
                waiting = {stop.pipe: stop for stop in self._running if not stop.given}
            poller = select.poll()
            for fd in waiting:
                poller.register(fd, 0)
            gone = {fd for fd, what in poller.poll(LOOK_MS) if what & select.POLLERR}
            with self._lock:
                # A number may have been closed and used again since: only those still running are told.
                due = [stop for fd, stop in waiting.items() if stop in self._running and (fd in gone or stop.due())]
            for stop in due:
                stop.fire()


_WATCHER = _Watcher()
_LOCAL = threading.local()


def _owner() -> Stop | None:
    return getattr(_LOCAL, "stop", None)


class _Connection(urllib3.connection.HTTPConnection):
    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        if owner := _owner():
            owner.own(made)
        return made


class _TlsConnection(urllib3.connection.HTTPSConnection):
    """The TLS handshake moves the connection into another socket object, so a duplicate stands for it meanwhile."""

    _meanwhile: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        if owner := _owner():
            self._meanwhile = made.dup()
            owner.own(self._meanwhile)
        return made

    def connect(self) -> None:
        try:
            super().connect()
            if (owner := _owner()) and self.sock is not None:
                owner.own(self.sock)
        finally:
            if self._meanwhile is not None:
                self._meanwhile.close()
                self._meanwhile = None


class _Pool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls: Any = _Connection


class _TlsPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls: Any = _TlsConnection


# urllib3 has no seam nearer to the socket that yt-dlp's handler leaves open. Where no download runs, these classes
# do what their parents do.
urllib3.poolmanager.pool_classes_by_scheme.update({"http": _Pool, "https": _TlsPool})
