"""Functions that read the first bytes of a file, because these bytes identify the container. They are read once for
each URL, even if the client requests a range that does not contain them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from serverpy.containers import SNIFF_BYTES, enough_bytes
from serverpy.errors import RangeNotSatisfiable, UpstreamFailed
from serverpy.net.resume import ResumingRead
from serverpy.ranges import ByteRange


class NoMedia(UpstreamFailed):
    """Error: the complete response of a media server has no bytes. The URL of the media may have expired."""


class OpenRange(Protocol):
    """The type of a function that opens a read of the range `asked` of a file, or of the whole file if `asked` is
    None."""

    async def __call__(self, asked: ByteRange | None) -> ResumingRead: ...


async def first_chunks(read: Callable[[], Awaitable[bytes]]) -> list[bytes]:
    """Call `read` until the chunks are long enough to identify the container of the file, or until the end of the file,
    and return the chunks. All chunks but the last have at most 32 KiB in total. Raises `NoMedia` if the file has no
    bytes, and the error of `read` if a read fails."""
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
    """Return whether the range `asked` contains the first SNIFF_BYTES of a file, which usually suffice to identify its
    container."""
    return asked is None or (asked.first == 0 and (asked.last is None or asked.last >= SNIFF_BYTES - 1))


async def read_beginning(open_range: OpenRange) -> tuple[ResumingRead, bytes]:
    """Read as many of the first bytes of a file as the identification of its container needs. If the media server
    supports ranges, requests no more than these bytes. Returns two values: the read, which is closed but still has the
    headers and the extent, and the bytes. Raises `RangeNotSatisfiable` if the file is empty, and the original error if
    opening or reading fails."""
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
        return await open_range(None)  # the media server refuses ranges, or only short ranges
