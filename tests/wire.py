"""A low-level HTTP/1.1 client. It reads only when a test tells it to, can leave after any byte, and distinguishes a
complete body from one that was cut."""

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
"""Timeout of one send or receive, in seconds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, read to its end. `complete` is True if the body ended as its framing states, and False if the
    connection ended first. Header names are in lower case; for repeated headers, the last value is kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The `code` of the problem document, or None if the body is not a problem document."""
        code = self.json()["code"] if self.headers.get("content-type") == "application/problem+json" else None
        return None if code is None else str(code)


class Exchange:
    """One request on its own connection, and the part of the response that has been read. Leaving the block closes the
    connection.

    `receive_bytes` limits the kernel's buffer, and so the number of bytes that the server can send to a client that
    does not read."""

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
        """True if no more bytes will arrive: the response is complete, or the connection was closed or reset."""
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
        """Send `data`. Returns normally if the server has closed the connection: a server may respond and close before
        it has read the whole request, so the response can still be read."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def head(self) -> Self:
        """Read until the status and headers are known. Raises ConnectionError if the connection ends first."""
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
        """Read until `body` has `length` bytes or no more bytes will arrive. Returns the whole body so far."""
        while len(self.body) < length and not self.ended:
            self._receive()
        return bytes(self.body)

    def rest(self) -> Answer:
        """Read the response to its end."""
        self.head()
        while not self.ended:
            self._receive()
        return Answer(
            self.status, self.headers, bytes(self.body), self.complete, round(time.monotonic() - self._begun, 3)
        )

    def _receive(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except ConnectionResetError:
            data = b""
        if data:
            self._parser.feed_data(data)
        else:
            self.ended = True

    # Callbacks of the parser

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
    """Return a request without a body. `target` and `headers` are used unchanged."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {v}" for name, v in (headers or {}).items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
