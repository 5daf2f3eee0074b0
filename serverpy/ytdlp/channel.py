"""The worker process's end of the socket between the worker process and the server process. The worker receives
requests and sends replies over this socket."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Iterator

from serverpy.errors import ExtractionFailed
from serverpy.extraction import messages
from serverpy.extraction.messages import Frames, Ready, Reply, Request

log = logging.getLogger("serverpy.worker")

_RECEIVE_BYTES = 64 * 1024
_MAX_DESCRIPTORS = 16


class Inbox(Iterator[Request]):
    """Iterator over the requests of the server process, up to EOF. The iterator also holds the file descriptors that
    the server sent with the requests."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = Frames()
        self._requests: deque[Request] = deque()
        self._descriptors: deque[int] = deque()

    def __next__(self) -> Request:
        while not self._requests:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._sock, _RECEIVE_BYTES, _MAX_DESCRIPTORS)
            except ConnectionError:
                raise StopIteration from None
            self._descriptors.extend(descriptors)
            if not data:
                raise StopIteration
            self._requests.extend(messages.decode_request(body) for body in self._frames.feed(data))
        return self._requests.popleft()

    def descriptor(self) -> int:
        """Return the next file descriptor that the server process sent with the latest request. The caller must call
        this method once for each descriptor of a request, right after `next` has returned the request, and close the
        descriptor."""
        descriptor = self._descriptors.popleft()
        os.set_inheritable(descriptor, False)
        return descriptor


class Outbox:
    """Thread-safe sender of replies to the server process. The sender ignores a closed connection, because the worker
    then ends as soon as `Inbox` reaches EOF."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def send(self, reply: Reply) -> None:
        """Send `reply`. If the reply cannot be encoded, send an error instead, because every request needs a reply."""
        try:
            frame = messages.encode(reply)
        except Exception:
            log.exception("The reply to request %d cannot be encoded", _id_of(reply))
            unread = ExtractionFailed("This page could not be read because of an internal error.")
            frame = messages.encode(messages.error_reply(_id_of(reply), unread))
        with self._lock, contextlib.suppress(ConnectionError):
            self._sock.sendall(frame)


def _id_of(reply: Reply) -> int:
    return 0 if isinstance(reply, Ready) else reply.id
