"""The first bytes of a stream, which identify its container before the response begins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from serverpy.errors import UpstreamFailed


class NoMedia(UpstreamFailed):
    """A complete response without anything that is media: the address may have expired."""


async def first_chunks(read: Callable[[], Awaitable[bytes]], enough_bytes: int) -> list[bytes]:
    """Read chunks until they have `enough_bytes` in total, or the stream ends. Raises `NoMedia` if the stream is
    empty, and what `read` raises."""
    chunks: list[bytes] = []
    while sum(map(len, chunks)) < enough_bytes and (chunk := await read()):
        chunks.append(chunk)
    if not chunks:
        raise NoMedia("The media is empty.")
    return chunks
