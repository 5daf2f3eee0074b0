"""The first bytes of a file, which identify its container. They are read once for each address, regardless of the
requested range."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from serverpy.containers import SNIFF_BYTES, enough_bytes
from serverpy.errors import RangeNotSatisfiable, UpstreamFailed
from serverpy.net.resume import ResumingRead
from serverpy.ranges import ByteRange


class NoMedia(UpstreamFailed):
    """A complete response without media: the address may have expired."""


class OpenRange(Protocol):
    """Function that opens a read of a range of one file (None: the whole file)."""

    async def __call__(self, asked: ByteRange | None) -> ResumingRead: ...


async def first_chunks(read: Callable[[], Awaitable[bytes]]) -> list[bytes]:
    """Read chunks until they are enough to identify a file that begins with them, or until the stream ends. The chunks
    before the last one hold 32 KiB at most. Raises `NoMedia` if the stream is empty, and the errors of `read`."""
    chunks: list[bytes] = []
    size, enough = 0, SNIFF_BYTES
    while size < enough and (chunk := await read()):
        chunks.append(chunk)
        size += len(chunk)
        if size >= enough:
            enough = enough_bytes(b"".join(chunks))
    if not chunks:
        raise NoMedia("The media is empty.")
    return chunks


def brings_beginning(asked: ByteRange | None) -> bool:
    """Return whether a range contains the first SNIFF_BYTES of a file, which usually suffice to identify its
    container."""
    return asked is None or (asked.first == 0 and (asked.last is None or asked.last >= SNIFF_BYTES - 1))


async def read_beginning(open_range: OpenRange) -> tuple[ResumingRead, bytes]:
    """Read enough of the first bytes of a file to identify its container, and no more if the media server honours
    ranges. Also returns the read, already closed, for its headers and extent. Raises `RangeNotSatisfiable` if the file
    is empty, and the errors of opening and reading."""
    wanted = SNIFF_BYTES
    while True:
        read = await _open(open_range, wanted)
        try:
            first = b"".join(await first_chunks(read.read))
        finally:
            read.close()
        enough = enough_bytes(first)
        if len(first) >= enough or len(first) < wanted:
            return read, first
        wanted = enough


async def _open(open_range: OpenRange, nbytes: int) -> ResumingRead:
    try:
        return await open_range(ByteRange(0, nbytes - 1))
    except RangeNotSatisfiable as error:
        if error.size == 0:
            raise
        return await open_range(None)  # the server refuses ranges, or short ones
