"""The method `embedded`: yt-dlp's own downloader in a thread of the worker, which writes into a pipe of the operating
system.

The method serves the protocols that only yt-dlp supports, and clients that ask for yt-dlp's own transfer. It does not
honour ranges: the response is the whole file (RFC 9110 §14.2 lets a server ignore Range).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from serverpy.body import SESSION_BYTES, UNBOUNDED, Head, Source
from serverpy.containers import identify
from serverpy.errors import UpstreamFailed
from serverpy.extraction.choice import duration_of, item_of
from serverpy.extraction.messages import RawGone
from serverpy.extraction.values import Media, Track
from serverpy.memory.room import Lender
from serverpy.options import Timeouts
from serverpy.plan import Capability, Plan
from serverpy.streaming.deadline import first_byte_within
from serverpy.streaming.first_bytes import first_chunks
from serverpy.streaming.os_pipe import SMALLEST_BYTES, HandOver, PipeReader, open_pipe
from serverpy.streaming.slots import Slot, Slots
from serverpy.tasks import Closing, Unlosable

log = logging.getLogger(__name__)

WORKER_BLOCK_BYTES = 2 * 64 * 1024
"""Bytes of the block that the worker's thread is writing, and of the part of the next one that its HTTP library has
already read."""
EGRESS_BYTES = 2 * 32 * 1024
"""Bytes that the filtering proxy holds for one download, in both directions."""
CLOSE_SECONDS = 1.0

PROTOCOLS = frozenset(
    ("http", "https", "m3u8", "m3u8_native", "http_dash_segments", "http_dash_segments_generator")
) | {"ism", "f4m", "bunnycdn", "soopvod"}
"""The protocols that yt-dlp downloads without another program (`ytdlp/download/fragments.py::BY_PROTOCOL`), and that
result in media (unlike `mhtml`)."""


class RunningDownload(Protocol):
    """A download that runs in the worker."""

    async def wait(self) -> int:
        """Wait until the download has ended, and return how many bytes it has written. Raises the download's error if
        the download failed. May be called more than once."""
        ...

    async def cancel(self) -> None:
        """Stop the download, and return when the worker's thread is free again. Returns at once if the download has
        ended."""
        ...


class Downloading(Protocol):
    async def download(self, raw_id: str, track_id: str, write_fd: int) -> RunningDownload:
        """Start a download into `write_fd`, and always close `write_fd` in this process. Raises `RawGone` if the worker
        no longer has that extraction."""
        ...


class Extracting(Protocol):
    async def extract(self, url: str, *, fresh: bool = False) -> Media: ...


class Embedded:
    """The opener of the method `embedded`, with at most `max_workers` streams at once. `open` waits up to
    `timeouts.wait` seconds for a free slot, then raises `Busy`."""

    def __init__(
        self,
        workers: Downloading,
        extractor: Extracting,
        hand_over: HandOver,
        timeouts: Timeouts,
        *,
        max_workers: int,
    ) -> None:
        self._workers = workers
        self._extractor = extractor
        self._stall_timeout = timeouts.stall
        self._pipe_bytes = hand_over.pipe_bytes
        self._chunk_bytes = hand_over.chunk_bytes
        self.slots = Slots(max_workers, timeouts.wait, "workers of the embedded method")
        self.capability = Capability(
            opener="embedded",
            method="embedded",
            stream_bytes=self.stream_bytes,
            carries=self.carries,
            bytes_for=lambda tracks: self.stream_bytes,
        )

    @property
    def stream_bytes(self) -> int:
        # The method reads a chunk from the pipe while the previous one may still be in the client's transport.
        in_server = SESSION_BYTES + 2 * self._chunk_bytes
        return self._pipe_bytes + in_server + WORKER_BLOCK_BYTES + EGRESS_BYTES

    def carries(self, track: Track) -> bool:
        live = track.is_live and track.protocol != "http_dash_segments_generator"
        return track.protocol in PROTOCOLS and not live and not (track.has_drm or track.refusal)

    async def open(self, plan: Plan, source: Source, reservation: Lender) -> EmbeddedBody:
        assert source.media is not None
        (track,) = plan.tracks
        slot = await self.slots.take()
        try:
            async with first_byte_within(self._stall_timeout + max(0.0, _seconds_until(track))):
                return await self._open_or_extract_again(source, source.media, track, slot)
        except BaseException:
            slot.release()
            raise

    async def _open_or_extract_again(self, source: Source, media: Media, track: Track, slot: Slot) -> EmbeddedBody:
        try:
            return await self._open(source, media, track, slot)
        except RawGone:
            fresh = await self._extract_again(source)
        try:
            return await self._open(source, fresh, track, slot)
        except RawGone as error:
            raise UpstreamFailed("The worker lost the extraction twice.") from error

    async def _extract_again(self, source: Source) -> Media:
        return item_of(await self._extractor.extract(source.url, fresh=True), source.item)

    async def _open(self, source: Source, media: Media, track: Track, slot: Slot) -> EmbeddedBody:
        began = time.monotonic()
        reading_end, writing_end = open_pipe(SMALLEST_BYTES if source.head_only else self._pipe_bytes)
        reader = PipeReader(reading_end, self._chunk_bytes)
        try:
            # An item of a playlist has a `raw_id` of its own.
            download = await self._workers.download(media.raw_id, track.id, writing_end)
        except BaseException:
            reader.close()
            raise
        stream = _Stream(reader, download)
        try:
            first = await first_chunks(stream.read)
            container = identify(b"".join(first), declared_ext=track.file_ext, is_audio=track.is_audio)
        except BaseException:
            await stream.aclose()
            raise
        head = Head(
            content_type=container.content_type,
            ext=container.ext,
            duration=duration_of(media, track),
            estimate=track.size,
            title=media.title,
            timings={"first-byte": time.monotonic() - began},
        )
        return EmbeddedBody(head, first, stream, slot)


def _seconds_until(track: Track) -> float:
    return 0.0 if track.available_at is None else track.available_at - time.time()


class _Stream:
    """A pipe and the download that fills it. The owner of both calls `aclose`; a second call waits for the first."""

    def __init__(self, reader: PipeReader, download: RunningDownload) -> None:
        self._reader = reader
        self._download = download
        self.aclose = Closing(self._close, "close embedded stream")

    async def read(self, most: int = UNBOUNDED) -> bytes:
        """Return the next bytes; `b""` only if the worker reports the end of the download and wrote as many bytes as
        have arrived. Raises the download's error if the download failed, `UpstreamFailed` if the numbers of bytes
        differ."""
        data = await self._reader.read(most)
        if not data and (written := await self._download.wait()) != self._reader.received:
            raise UpstreamFailed(f"The worker wrote {written} bytes, but {self._reader.received} arrived.")
        return data

    async def _close(self) -> None:
        """Close the pipe, and wait up to CLOSE_SECONDS until the worker has stopped the download. A download that still
        runs then is stopped by the closed pipe."""
        self._reader.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._download.cancel()
        except TimeoutError:
            log.warning("a download in the worker did not stop within %s s", CLOSE_SECONDS)


class EmbeddedBody(Unlosable):
    """An open stream of the method `embedded`, which holds a slot until it is closed."""

    def __init__(self, head: Head, first: list[bytes], stream: _Stream, slot: Slot) -> None:
        self.head = head
        self._first = first
        self._stream = stream
        self._slot = slot
        self._ended = False
        self.aclose = Closing(self._close, "close embedded body")

    async def read(self, most: int = UNBOUNDED) -> bytes:
        if self._first:
            return self._first.pop(0)
        if self._ended:
            return b""
        data = await self._stream.read(most)
        self._ended = not data
        return data

    async def _close(self) -> None:
        self._first.clear()
        try:
            await self._stream.aclose()
        finally:
            self._slot.release()
