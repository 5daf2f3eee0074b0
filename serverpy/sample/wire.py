"""The parts of the sample site below ASGI: a uvicorn connection that can be closed in mid-body or reset, and one
request and response on it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

CONNECTION = "serverpy.sample.connection"
REQUEST_BODY_BYTES = 1 << 20
SEND_QUEUE_POLL_SECONDS = 0.002


class Connection(HttpToolsProtocol):
    """A client's connection to the sample site. `closed` is set once the client or the site has closed the
    connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn defines the signature
        self.closed = asyncio.Event()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.closed.set()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: {"connection": self}}

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until the client disconnects."""
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self.closed.wait()
        except TimeoutError:
            return

    @property
    def protocol(self) -> str | None:
        """The protocol that the client negotiated by ALPN. None if the client negotiated none, or if the connection has
        no TLS."""
        tls = self.transport.get_extra_info("ssl_object")
        protocol: str | None = None if tls is None else tls.selected_alpn_protocol()
        return protocol

    async def babble(self) -> None:
        """Respond with a line that is not HTTP, and close the connection."""
        self.transport.write(b"SERVICE TEMPORARILY OFFLINE\r\n\r\n")
        await self.cut()

    async def cut(self) -> None:
        """Send FIN after all written bytes, and wait until the connection is closed."""
        self.transport.close()
        await self.closed.wait()

    async def reset(self) -> None:
        """Send RST once the client's kernel has all written bytes. An earlier reset would discard the bytes that are
        still in the send queue."""
        # If the client closes first, the transport closes one loop iteration before `closed` is set, and then the
        # socket has no descriptor.
        while not self.transport.is_closing() and self._unsent_bytes():
            await self.pause(SEND_QUEUE_POLL_SECONDS)
        if not self.transport.is_closing():
            self._linger_for_nothing()
            self.transport.abort()
        await self.closed.wait()

    async def spoil_tls(self) -> None:
        """Wait until the client's kernel has all written bytes, send bytes that are not a TLS record, and close the
        connection. Sends no such bytes on a connection without TLS, whose client would take them for media."""
        while not self.transport.is_closing() and self._unsent_bytes():
            await self.pause(SEND_QUEUE_POLL_SECONDS)
        if not self.transport.is_closing():
            if self.transport.get_extra_info("ssl_object") is not None:
                os.write(self._descriptor(), b"no record of TLS")
            self.transport.abort()
        await self.closed.wait()

    def _unsent_bytes(self) -> int:
        if buffered := self.transport.get_write_buffer_size():
            return buffered
        queued = fcntl.ioctl(self._descriptor(), termios.TIOCOUTQ, b"\0" * 4)
        return int.from_bytes(queued, "little")

    def _linger_for_nothing(self) -> None:
        # SO_LINGER belongs to the socket, not to the descriptor: setting it on a duplicate descriptor is enough.
        with socket.fromfd(self._descriptor(), socket.AF_INET, socket.SOCK_STREAM) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _descriptor(self) -> int:
        descriptor: int = self.transport.get_extra_info("socket").fileno()
        return descriptor


class Framing(Enum):
    """The way in which the client recognises the end of a body (RFC 9112 §6.3)."""

    LENGTH = "Content-Length"
    CHUNKED = "Transfer-Encoding: chunked"
    CLOSE = "end of the connection"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as received. Header names are in lower case; of a repeated header, the last value is kept."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    scheme: str = "http"
    body: bytes = field(default=b"", repr=False)

    @property
    def origin(self) -> str:
        """The origin of the site (scheme, host and port) as the client named it in the request."""
        return f"{self.scheme}://{self.host}"

    @property
    def host(self) -> str:
        """The host and port of the site as the client named them in the request."""
        return self.headers.get("host", "127.0.0.1")


@dataclass(slots=True)
class Exchange:
    """One request, and the methods that send its response."""

    request: Request
    connection: Connection
    send: Send

    @property
    def gone(self) -> bool:
        return self.connection.closed.is_set()

    async def start(self, status: int, headers: Mapping[str, str], length: int, framing: Framing) -> None:
        """Send the response head. With every framing, the caller must then send exactly `length` bytes through
        `write`."""
        lines = {"Date": formatdate(usegmt=True), **headers}
        if framing is Framing.LENGTH:
            lines["Content-Length"] = str(length)
        elif framing is Framing.CLOSE:
            lines["Connection"] = "close"
            # uvicorn uses the chunked coding for a body without Content-Length, unless it believes that it has sent the
            # header.
            self.connection.cycle.chunked_encoding = False
            self.connection.cycle.expected_content_length = length
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, data: bytes) -> None:
        """Send a chunk of the body. Waits while the client does not read, and always yields to the event loop."""
        await self.send({"type": "http.response.body", "body": data, "more_body": True})
        await asyncio.sleep(0)

    async def finish(self) -> None:
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def reply(
        self, status: int, body: bytes = b"", type: str = "text/plain", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a complete small response."""
        await self.start(status, {"Content-Type": type, **(headers or {})}, len(body), Framing.LENGTH)
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def refuse(self, status: int, why: str, headers: Mapping[str, str] | None = None) -> None:
        await self.reply(status, f"{why}\n".encode(), headers=headers)


async def read_exchange(scope: Scope, receive: Receive, send: Send) -> Exchange | None:
    """Return the exchange of an ASGI call, after reading the request body. Returns None if the client disconnected
    before the body was complete, or if the body is larger than 1 MiB."""
    body = bytearray()
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            break
        if len(body) > REQUEST_BODY_BYTES:
            await _connection_of(scope).cut()
            return None
    return Exchange(_request(scope, bytes(body)), _connection_of(scope), send)


def _connection_of(scope: Scope) -> Connection:
    connection: Connection = scope["extensions"][CONNECTION]["connection"]
    return connection


def _request(scope: Scope, body: bytes) -> Request:
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        scheme=scope["scheme"],
        body=body,
    )
