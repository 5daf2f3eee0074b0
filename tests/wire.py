"""A low-level HTTP/1.1 client. The client reads only when a test calls it, can disconnect after any byte, and
distinguishes a complete body from a truncated one."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httptools

READ_BYTES = 65536
SECONDS = 60.0
"""Timeout of a single send or receive in seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that has been read to its end. `complete` is True if the body ended as its framing states, and False
    if the connection ended before that. The names of `headers` are in lower case. If a header is repeated, only its
    last value is kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The member `code` of the problem document, or None if the body is not a problem document."""
        code = self.json()["code"] if self.headers.get("content-type") == "application/problem+json" else None
        return None if code is None else str(code)


class Exchange:
    """A request on a new connection, and the part of the response that has been read so far. Leaving the block closes
    the connection.

    `receive_bytes` limits the kernel's receive buffer, and so the number of bytes that the server can send to a client
    that does not read."""

    def __init__(self, address: tuple[str, int], request: bytes, *, receive_bytes: int | None = None) -> None:
        self._begun = time.monotonic()
        self._socket = socket.socket()
        self._socket.settimeout(SECONDS)
        if receive_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._parser = httptools.HttpResponseParser(self)
        self._no_body = request.startswith(b"HEAD ")
        self._head_done = False
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False
        self.ended = False
        """Whether no more bytes will arrive: the response is complete, or the connection was closed or reset."""
        self.was_reset = False
        try:
            self._socket.connect(address)
            self.send(request)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send `data`. Does not raise if the server has closed the connection: a server may respond and close the
        connection before it has read the whole request, and a test can still read the response."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def head(self) -> Self:
        """Read until the status and headers of the response have arrived. Raises ConnectionError if the connection ends
        before that."""
        while not self._head_done and not self.ended:
            self._receive()
        if not self._head_done:
            raise ConnectionError("the server closed the connection without a response")
        return self

    @property
    def status(self) -> int:
        self.head()
        return int(self._parser.get_status_code())

    def read(self, length: int) -> bytes:
        """Read until `body` has `length` bytes or no more bytes will arrive. Returns all bytes of the body that have
        arrived."""
        while len(self.body) < length and not self.ended:
            self._receive()
        return bytes(self.body)

    def rest(self) -> Answer:
        """Read the response to its end, and return it."""
        self.head()
        while not self.ended:
            self._receive()
        return Answer(
            self.status, self.headers, bytes(self.body), self.complete, round(time.monotonic() - self._begun, 3)
        )

    def shutdown_writing(self) -> None:
        """Send FIN, and keep the connection open for the response."""
        self._socket.shutdown(socket.SHUT_WR)

    def everything(self) -> bytes:
        """Read until the connection ends. Returns the unparsed bytes, which may contain several responses."""
        data = bytearray()
        while piece := self._socket.recv(READ_BYTES):
            data += piece
        return bytes(data)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except ConnectionResetError:
            data, self.was_reset = b"", True
        if data:
            self._parser.feed_data(data)
        else:
            self.ended = True

    # Callbacks of the HTTP parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._head_done = True
        if self._no_body:
            self.complete = self.ended = True

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = self.ended = True


def request(target: str, host: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> bytes:
    """Return a request without a body. `target` and `headers` are not encoded or checked."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {v}" for name, v in (headers or {}).items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
