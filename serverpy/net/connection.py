"""A connection to a media server, plain or TLS, which reads from its socket only on request. The connection never
buffers more than one step, which is the number of bytes that it reads at once.

With the usual protocols of asyncio and uvloop, a connection reads up to 256 KiB at once, and TLS holds 0.9 MB per
connection. In this module, a connection reads from the socket directly into a buffer that all connections of an event
loop share, passes the bytes to an HTTP parser within the same callback, and pauses until the reader asks for more. TLS
is Python's `SSLObject` over two MemoryBIOs, so that its buffers are bounded, too: one step of ciphertext and one step
of plaintext.
"""

from __future__ import annotations

import asyncio
import mmap
import ssl
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from serverpy.net.proxies import AbsoluteForm

SMALL_STEP = 32 * 1024
"""Maximum number of bytes per read from the socket for a reader that is not known to be fast."""
LARGE_STEP = 1024 * 1024
"""Maximum number of bytes per read from the socket for a fast reader. Larger reads need fewer system calls and event
loop iterations per byte."""
CIPHER_STEP = 32 * 1024
"""Maximum number of ciphertext bytes that are written into the TLS MemoryBIO at once, because a MemoryBIO never
shrinks."""
TLS_RECORD = 16 * 1024
"""Maximum number of plaintext bytes in one TLS record (RFC 8446 §5.1)."""


class Receiver(Protocol):
    """Callbacks for the data that a connection receives. `data` is a view of the shared buffer, so it is valid only
    during the call."""

    def data_received(self, data: memoryview) -> None: ...

    def connection_lost(self, error: Exception | None) -> None:
        """Handle the end of the connection. The connection calls this method once. `error` is None if the stream ended
        cleanly (by FIN; over TLS, by close_notify before the FIN)."""
        ...


class Buffers:
    """The receive buffers that all connections of one event loop share. The buffers are memory-mapped, so the system
    allocates a memory page only when it is first written, and most pages are written only if a reader asks for many
    bytes at a time."""

    def __init__(self) -> None:
        self.raw = memoryview(mmap.mmap(-1, LARGE_STEP))
        # `plain` has room for plaintext that was left over from an earlier step.
        self.plain = memoryview(mmap.mmap(-1, LARGE_STEP + 3 * TLS_RECORD))


class Connection(asyncio.BufferedProtocol):
    """A connection to a media server, as an asyncio protocol. The caller passes it to `loop.create_connection`, owns
    it, and ends it with `abort`.

    The connection pauses reading after each step until `resume` is called. A connection without a receiver expects no
    data, and aborts itself if the media server sends data. `step` is the maximum number of bytes of one step, and may
    be changed at any time.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._receiver: Receiver | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._error: Exception | None = None
        self.step = SMALL_STEP
        self.closed = False
        self.absolute_form: AbsoluteForm | None = None
        """How to write requests if the connection leads to a proxy that takes requests in absolute form. None for other
        connections."""

    def attach(self, receiver: Receiver | None) -> None:
        self._receiver = receiver

    def write(self, data: bytes) -> None:
        """Send a request. A request is small (a head, perhaps with a form), so the transport may buffer it."""
        self._send(data)

    def resume(self) -> None:
        """Read the next step, if reading is paused."""
        if self._paused and not self.closed and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close the connection at once, without reading or flushing buffered bytes. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    # Methods that the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport does not subclass asyncio.Transport

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
    """A connection over TLS. The caller must await `handshake` before it sends a request."""

    def __init__(self, buffers: Buffers, context: ssl.SSLContext, hostname: str) -> None:
        super().__init__(buffers)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._handshaking: asyncio.Future[None] | None = None
        self._ended_cleanly = False

    async def handshake(self) -> None:
        """Perform the TLS handshake. Raises `ssl.SSLError` if the handshake fails, `ConnectionError` if the connection
        ends before the handshake is complete. The caller sets a timeout, and aborts the connection when the timeout
        expires."""
        loop = asyncio.get_running_loop()
        while True:
            self._handshaking = loop.create_future()
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if self.closed:
                    raise ConnectionError("the media server closed the connection during the TLS handshake") from None
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
        """Decrypt one step of ciphertext into the shared buffer, and pass all of its plaintext to the receiver in one
        call."""
        plain, filled = self._buffers.plain, 0
        for begin in range(0, len(data), CIPHER_STEP):
            self._incoming.write(data[begin : begin + CIPHER_STEP])
            filled = self._decrypt(plain, filled)
        self._flush()
        if filled:
            self._deliver(plain[:filled])
        elif not self._ended_cleanly:
            self.resume()  # only a partial record or a session ticket has arrived, so the reader still waits for data
        if self._ended_cleanly:
            self.abort()

    def _decrypt(self, plain: memoryview, filled: int) -> int:
        """Decrypt whole TLS records into `plain`, whose first `filled` bytes already contain plaintext. Returns how
        many bytes of `plain` are filled afterwards."""
        read = self._tls.read
        try:
            while filled + TLS_RECORD <= len(plain):
                count = cast(int, read(TLS_RECORD, plain[filled:]))  # with a buffer, `read` returns a number of bytes
                if count == 0:
                    self._ended_cleanly = True
                    break
                filled += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended_cleanly = True
        return filled

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended_cleanly and self._error is None and exc is None:
            self._error = ConnectionError("the media server ended the TLS stream without close_notify")
        if self._handshaking is not None and not self._handshaking.done():
            self._handshaking.set_exception(
                self._error or ConnectionError("the media server closed the connection during the TLS handshake")
            )
        super().connection_lost(exc)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._send(self._outgoing.read())
