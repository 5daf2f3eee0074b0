"""The transport that uvicorn writes one response to, and the framing of bodies of unknown length for HTTP/1.0."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_LINGER_RESET, _LINGER_DEFAULT = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""Values of SO_LINGER. Closing the socket resets the connection with the first value, and ends it normally with the
second."""


def unframe(cycle: RequestResponseCycle, transport: asyncio.Transport) -> Callable[[], None]:
    """Make uvicorn send the body of `cycle` without chunked encoding, which HTTP/1.0 does not have (RFC 9112 §7.1): the
    end of the connection ends the body. uvicorn would send chunks unless it expects a length, so the function sets a
    huge length. Returns a function that the caller must call at the end of the body; uvicorn then takes the response as
    complete. Until then, closing the socket resets the connection, so that an exception or the end of the process never
    looks like a complete body."""
    cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
    _set_linger(transport, _LINGER_RESET)

    def end() -> None:
        cycle.expected_content_length = 0
        _set_linger(transport, _LINGER_DEFAULT)

    return end


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Return the number of written bytes that the client has not received yet. Returns 0 if the operating system has
    accepted all of them."""
    unsent: int = transport.get_write_buffer_size()
    raw: socket.socket | None = transport.get_extra_info("socket")
    if not unsent or raw is None or raw.fileno() < 0:
        return unsent
    (queued,) = struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)))
    return unsent + int(queued)


def reset(transport: asyncio.Transport) -> None:
    """Close the connection immediately with RST."""
    _set_linger(transport, _LINGER_RESET)
    transport.abort()


def _set_linger(transport: asyncio.Transport, value: bytes) -> None:
    raw: socket.socket | None = transport.get_extra_info("socket")
    if raw is not None and not transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)


class HeadFirst:
    """The transport that uvicorn writes one response to. It sends the head with the first bytes of the body, in one
    system call. The head waits no longer than the current iteration of the event loop; an interim response 100
    (Continue) counts as a head. `end` closes the connection after the response."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
        self._transport = transport
        self._loop = loop
        self._end = end
        self._head: bytes | None = None
        self.write: Callable[[bytes], None] = self._hold
        self.is_closing = transport.is_closing

    def close(self) -> None:
        self.flush()
        self._end()

    def _hold(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            head, self._head = self._head, None
            self.write = self._transport.write
            self._transport.writelines((head, data))

    def flush(self) -> None:
        """Send the head now, without the first bytes of the body, if it has not been sent yet."""
        if self._head is not None:
            head, self._head = self._head, None
            self.write = self._transport.write
            self._transport.write(head)
