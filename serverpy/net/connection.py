"""One socket to a media server, read by pull: plain or TLS, never more in hand than one step.

asyncio and uvloop push up to 256 KiB at a read, and their TLS holds 0.9 MB a connection. Here the socket is read
straight into a buffer that all connections of a loop share (used only inside one callback), what comes out is given
to an HTTP parser at once, and reading pauses until the reader asks again. TLS is Python's `SSLObject` over two
MemoryBIOs, for the same bound: a step of ciphertext and a step of plaintext, nothing behind.
"""

from __future__ import annotations

import asyncio
import mmap
import ssl
from typing import Protocol, cast

SMALL_STEP = 32 * 1024
"""Bytes read at once for a reader that has not proved to be fast."""
LARGE_STEP = 1024 * 1024
"""Bytes read at once for a fast reader: fewer system calls and turns of the loop for each byte."""
CIPHER_STEP = 32 * 1024
"""Ciphertext given to TLS at once: a MemoryBIO keeps the room that it once needed."""
TLS_RECORD = 16 * 1024
"""The most plaintext that one TLS record carries (RFC 8446 §5.1)."""


class Receiver(Protocol):
    """Who is told what comes. Called inside the loop's callback: `data` is only valid during the call."""

    def data_received(self, data: memoryview) -> None: ...

    def connection_lost(self, error: Exception | None) -> None:
        """Once. `error` is None for a neat end of the stream (FIN; over TLS close_notify before it)."""
        ...


class Buffers:
    """The receive buffers that all connections of one loop share. Mapped, so that only the pages count which have ever
    been written to: until somebody reads in large steps, that is a small one."""

    def __init__(self) -> None:
        self.raw = memoryview(mmap.mmap(-1, LARGE_STEP))
        self.plain = memoryview(mmap.mmap(-1, LARGE_STEP + 3 * TLS_RECORD))  # with what an earlier step left undone


class Connection(asyncio.BufferedProtocol):
    """A connected socket, made by `loop.create_connection`; owned, and ended by `abort`, by who made it.

    Reading stops after each step until `resume`. Without a receiver nothing is expected: who speaks then is left.
    `step` is the most bytes of one step, and may be changed at any time.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._receiver: Receiver | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._error: Exception | None = None
        self.step = SMALL_STEP
        self.closed = False

    def attach(self, receiver: Receiver | None) -> None:
        self._receiver = receiver

    def write(self, data: bytes) -> None:
        """Send a request. The heads and forms that go upstream are small: they wait in the transport if they must."""
        self._send(data)

    def resume(self) -> None:
        """Ask for the next step, if reading is stopped."""
        if self._paused and not self.closed and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """End the connection at once; nothing more is read or flushed. May be called more than once."""
        if self._transport is not None:
            self._transport.abort()

    # The loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by duck, not by class

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffers.raw[: self.step]

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._received(self._buffers.raw[:nbytes])

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._transport = None
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.connection_lost(self._error or exc)

    def _received(self, data: memoryview) -> None:
        self._deliver(data)

    def _deliver(self, data: memoryview) -> None:
        if self._receiver is not None:
            self._receiver.data_received(data)
        else:
            self.abort()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class TlsConnection(Connection):
    """The same over TLS. `handshake` comes first."""

    def __init__(self, buffers: Buffers, context: ssl.SSLContext, hostname: str) -> None:
        super().__init__(buffers)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._handshaking: asyncio.Future[None] | None = None
        self._ended_neatly = False

    async def handshake(self) -> None:
        """Raises `ssl.SSLError` or `ConnectionError`. The caller limits the time, and aborts if it gives up."""
        loop = asyncio.get_running_loop()
        while True:
            self._handshaking = loop.create_future()
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if self.closed:
                    raise ConnectionError("closed during the TLS handshake") from None
                self.resume()
                await self._handshaking
            else:
                self._handshaking = None
                self._flush()
                return

    def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def _received(self, data: memoryview) -> None:
        if self._handshaking is not None:
            self._incoming.write(data)
            if not self._handshaking.done():
                self._handshaking.set_result(None)
            return
        try:
            self._deliver_plain(data)
        except ssl.SSLError as error:
            self._error = error
            self.abort()

    def _deliver_plain(self, data: memoryview) -> None:
        """Decrypt what the step brought into the shared buffer, and deliver it in one piece."""
        plain, filled = self._buffers.plain, 0
        for begin in range(0, len(data), CIPHER_STEP):
            self._incoming.write(data[begin : begin + CIPHER_STEP])
            filled = self._decrypt(plain, filled)
        self._flush()
        if filled:
            self._deliver(plain[:filled])
        elif not self._ended_neatly:
            self.resume()  # half a record, or a session ticket: the reader still waits
        if self._ended_neatly:
            self.abort()

    def _decrypt(self, plain: memoryview, filled: int) -> int:
        """Whole records, behind the first `filled` bytes; how many it is filled with then."""
        read = self._tls.read
        try:
            while filled + TLS_RECORD <= len(plain):
                count = cast(int, read(TLS_RECORD, plain[filled:]))  # with a buffer it gives a count
                if count == 0:
                    self._ended_neatly = True
                    break
                filled += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended_neatly = True
        return filled

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended_neatly and self._error is None and exc is None:
            self._error = ConnectionError("the TLS stream ended without close_notify")
        if self._handshaking is not None and not self._handshaking.done():
            self._handshaking.set_exception(self._error or ConnectionError("closed during the TLS handshake"))
        super().connection_lost(exc)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._send(self._outgoing.read())
