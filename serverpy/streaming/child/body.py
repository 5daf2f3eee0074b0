"""The body of a stream whose bytes are the standard output of a yt-dlp child process."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from serverpy.body import UNBOUNDED, Head, Source
from serverpy.containers import identify
from serverpy.default_choice import NONE_FITS
from serverpy.errors import (
    ExtractionTimeout,
    FormatNotFound,
    ItemNotFound,
    MediaNotFound,
    ServerPYError,
    TooLarge,
    UnsupportedConversion,
    UpstreamFailed,
)
from serverpy.extraction.choice import believed_duration
from serverpy.streaming.child.errors import media_error, page_error
from serverpy.streaming.child.messages import Found
from serverpy.streaming.child.options import ChildOptions
from serverpy.streaming.child.process import Child
from serverpy.streaming.first_bytes import first_chunks
from serverpy.tasks import Unlosable

ENOUGH = 101
"""Exit code of yt-dlp when it stops because of `--max-downloads`."""


class SubprocessBody(Unlosable):
    """The standard output of a child process as a body: the chunks in `first`, then the rest of the pipe. Closing the
    body closes the child."""

    def __init__(self, head: Head, first: list[bytes], child: Child) -> None:
        self.head = head
        self._first = first
        self._child = child
        self._ended = False

    async def read(self, most: int = UNBOUNDED) -> bytes:
        if self._first:
            return self._first.pop(0)
        if self._ended:
            return b""
        data = await _read(self._child, most)
        self._ended = not data
        return data

    async def aclose(self) -> None:
        self._first.clear()
        await self._child.aclose()


async def open_body(child: Child, source: Source, options: ChildOptions, began: float) -> SubprocessBody:
    """Wait for the first bytes of the child's output, and return the body. If the child fails, raises the error that
    its messages state (`errors.py`). Raises `ExtractionTimeout` if the first bytes do not arrive in time. If the call
    raises or is cancelled, it closes the child. `began` is the time, in seconds of the monotonic clock, at which the
    child started."""
    try:
        async with asyncio.timeout(options.timeouts.extract):
            found = await _found(child, source)
            _refuse(found, source, options.max_duration)
            first = await first_chunks(partial(_read, child))
        child.has_begun()
        child.out.stall_seconds = options.timeouts.stall
        return SubprocessBody(_head(found, first, began), first, child)
    except BaseException as error:
        await child.aclose()
        if isinstance(error, TimeoutError):
            raise ExtractionTimeout("Timed out waiting for the first byte from yt-dlp.") from None
        raise


async def _found(child: Child, source: Source) -> Found:
    """Return the format that the child has chosen. Raises a `ServerPYError` if the child exits without choosing a
    format."""
    found = await child.found()
    if found is None:
        raise _not_found(await child.exit_code(), child.messages.text, source)
    return found


def _not_found(exit_code: int, messages: str, source: Source) -> ServerPYError:
    if exit_code != 0:
        error = page_error(messages)
        is_too_large = isinstance(error, FormatNotFound) and source.format is None and source.wish.max_size is not None
        return TooLarge(NONE_FITS) if is_too_large else error
    if source.item is not None:
        return ItemNotFound(f"The page has no item {source.item}.")
    return MediaNotFound("No media was found on this page.")


def _refuse(found: Found, source: Source, max_duration: float | None) -> None:
    if found.is_live:
        raise UnsupportedConversion("This method cannot stream live media: choose another method.")
    if found.is_merge:
        raise UnsupportedConversion("This method cannot merge formats: choose one that has video and audio.")
    if source.item not in (None, 1) and not found.is_in_playlist:
        raise ItemNotFound("The page has only one item: leave out `item`.")
    if max_duration is not None and found.duration is not None and found.duration > max_duration:
        raise TooLarge(f"The media is longer than the {max_duration:g} seconds that this server allows.")


async def _read(child: Child, most: int = UNBOUNDED) -> bytes:
    """Return the next bytes of the child's output, or `b""` if the output has ended and the child has exited
    successfully. If the child has failed, raises the error that its messages state (`errors.py`). Raises
    `UpstreamFailed` if the child does not exit."""
    data = await child.out.read(most)
    if not data:
        try:
            code = await child.exit_code()
        except TimeoutError:
            raise UpstreamFailed("Yt-dlp did not exit after its last byte.") from None
        if code != ENOUGH:
            raise media_error(child.messages.text)
    return data


def _head(found: Found, first: list[bytes], began: float) -> Head:
    container = identify(b"".join(first), declared_ext=found.ext, is_audio=found.is_audio)
    return Head(
        content_type=container.content_type,
        ext=container.ext,
        duration=believed_duration(found.duration),
        estimate=found.size,
        title=found.title,
        timings={"first-byte": time.monotonic() - began},
    )
