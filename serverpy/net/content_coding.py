"""Decoding of bodies that a media server sends compressed although the client requested `identity`. The decoders decode
the bytes as these arrive, in steps of limited size.

A step of input may decode to a thousand times its size. Therefore a decoder returns at most STEP bytes at once, and
gets no more input until the reader has taken those bytes. The memory of a decoder counts against a `Room`.
"""

from __future__ import annotations

import asyncio
import functools
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from serverpy.errors import Busy, UpstreamFailed
from serverpy.memory.room import Room

STEP = 32 * 1024
"""Maximum number of decoded bytes that a decoder returns at once."""
MAX_CODINGS = 3
_INFLATE_BYTES = 128 * 1024
"""Memory of a zlib decoder, in bytes: the window of 32 KiB, the state, the unconsumed input, and the current output."""
_BROTLI_BYTES = 512 * 1024
"""Memory of a brotli decoder without its window, in bytes: the state, the input, the output, and the code tables."""


class Decoder(Protocol):
    """Decoder of one content coding. `decode` takes the next input and returns at most STEP bytes. If `wants_input` is
    False, the input must be `b""`. `finish` raises `UpstreamFailed` if the input ended too early."""

    @property
    def wants_input(self) -> bool: ...

    def decode(self, data: bytes) -> bytes: ...

    def finish(self) -> None: ...


class Decoding:
    """The decoded bytes of a body. `source` returns the next encoded bytes. `room` limits the memory of the decoders
    (None: no limit), and `close` frees that memory. The constructor raises the errors of `decoder_of`."""

    def __init__(self, codings: tuple[str, ...], source: Callable[[], Awaitable[bytes]], room: Room | None) -> None:
        self._source = source
        self._room = room
        self._decoder = decoder_of(codings, self._hold)

    async def read(self) -> bytes:
        """Return the next decoded bytes, or `b""` at the end of the body. Raises the errors of `source`,
        `UpstreamFailed` if the body is truncated or invalid, and `Busy` if the decoder needs more memory than is
        free."""
        # A few bytes may decode to megabytes. If they are buffered and the client is fast, nothing else waits.
        await asyncio.sleep(0)
        decoder = self._decoder
        while True:
            data = await self._source() if decoder.wants_input else b""
            over = decoder.wants_input and not data
            if out := decoder.decode(data):
                return out
            if over:
                decoder.finish()
                return b""

    def close(self) -> None:
        if self._room is not None:
            self._room.release()

    def _hold(self, nbytes: int) -> None:
        if self._room is not None and not self._room.try_grow(nbytes):
            raise Busy("Decompressing the media needs more memory than is free. Try again later.")


def decoder_of(codings: tuple[str, ...], hold: Callable[[int], None]) -> Decoder:
    """Return the decoder of a body with one or several `codings`, in the order in which the media server applied them.
    The decoder calls `hold` with the size, in bytes, of the memory that it is going to use. Raises `UpstreamFailed` if
    a coding is not supported."""
    if len(codings) > MAX_CODINGS:
        raise UpstreamFailed(
            f"The media server applied too many content codings to the media (more than {MAX_CODINGS})."
        )
    return functools.reduce(_Chain, [_decoder_of(coding, hold) for coding in reversed(codings)])


def _decoder_of(coding: str, hold: Callable[[int], None]) -> Decoder:
    if coding in ("gzip", "deflate"):
        return _Inflate(hold, is_gzip=coding == "gzip")
    if coding == "br":
        return _Brotli(hold)
    raise UpstreamFailed(f"The media server compressed the media with {coding}, which this server does not support.")


class _Chain:
    """Decoder of two codings: `first` decodes the input, and `second` the output of `first`."""

    def __init__(self, first: Decoder, second: Decoder) -> None:
        self._first = first
        self._second = second

    @property
    def wants_input(self) -> bool:
        return self._first.wants_input and self._second.wants_input

    def decode(self, data: bytes) -> bytes:
        while True:
            between = self._first.decode(data) if self._second.wants_input else b""
            out = self._second.decode(between)
            if out or not between:
                return out
            data = b""

    def finish(self) -> None:
        self._first.finish()
        self._second.finish()


class _Inflate:
    """Decoder of gzip (RFC 1952) with one or several members, and of deflate (RFC 1950; the header may be missing,
    because some servers omit it). Ignores bytes after the end of the compressed data."""

    def __init__(self, hold: Callable[[int], None], *, is_gzip: bool) -> None:
        self._hold = hold
        self._is_gzip = is_gzip
        self._inflate: Any = None
        self._waiting = b""
        self._ended = False
        """Whether a gzip member (or the deflate data) has ended and no further member has begun."""
        self._is_over = False

    @property
    def wants_input(self) -> bool:
        return not self._waiting

    def decode(self, data: bytes) -> bytes:
        data, self._waiting = self._waiting or data, b""
        if self._is_over or not self._begin(data):
            return b""
        try:
            out: bytes = self._inflate.decompress(data, STEP)
        except zlib.error as error:
            raise _invalid() from error
        self._waiting, self._ended = self._inflate.unconsumed_tail, self._inflate.eof
        if self._ended:
            self._waiting, self._inflate = self._inflate.unused_data, None
        return out

    def _begin(self, data: bytes) -> bool:
        """Begin a gzip member, or the deflate data, with `data`, unless one is in progress. Returns whether one is in
        progress afterwards."""
        if self._inflate is not None:
            return True
        self._is_over = self._ended and not (self._is_gzip and data.startswith(b"\x1f"))
        if not data or self._is_over:
            return False
        if not self._ended:
            self._hold(_INFLATE_BYTES)
        has_header = self._is_gzip or data[0] & 0x0F == 8
        self._inflate = zlib.decompressobj(31 if self._is_gzip else zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        return True

    def finish(self) -> None:
        if not self._ended and not self._is_over:
            raise _cut()


class _Brotli:
    """Decoder of Brotli (RFC 7932). Ignores bytes after the end of the compressed data."""

    def __init__(self, hold: Callable[[int], None]) -> None:
        try:
            import brotli  # the module takes 1 MB of memory, and few media servers send Brotli
        except ImportError:
            raise UpstreamFailed(
                "The media server compressed the media with br, which this server does not support."
            ) from None
        self._hold = hold
        self._error: type[Exception] = brotli.error
        self._decompressor: Any = brotli.Decompressor()
        self._begun = False

    @property
    def wants_input(self) -> bool:
        return bool(self._decompressor.can_accept_more_data())

    def decode(self, data: bytes) -> bytes:
        if data and not self._begun:
            self._hold(_BROTLI_BYTES + window_of(data[0]))
            self._begun = True
        if self._decompressor.is_finished():
            return b""
        try:
            # The decoder returns whole blocks of 32 KiB, and begins no further block once the limit is reached.
            return bytes(self._decompressor.process(data, output_buffer_limit=STEP // 2))
        except self._error as error:
            raise _invalid() from error

    def finish(self) -> None:
        if not self._decompressor.is_finished():
            raise _cut()


def window_of(first: int) -> int:
    """Return the window size, in bytes, of a Brotli stream whose first byte is `first` (RFC 7932 §9.1)."""
    if not first & 1:
        return 1 << 16
    if bits := first >> 1 & 7:
        return 1 << 17 + bits
    return 1 << (8 + (first >> 4 & 7) if first >> 4 & 7 else 17)


def _invalid() -> UpstreamFailed:
    return UpstreamFailed("The media server sent invalid compressed data.")


def _cut() -> UpstreamFailed:
    return UpstreamFailed("The media server ended the compressed body too early.")
