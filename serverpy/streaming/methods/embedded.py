"""The method `embedded`: yt-dlp's own downloader runs in a thread of the download process, and writes into a pipe of
the operating system, from which the server process reads. The server process itself notices if no byte arrives in time,
even if the download process is frozen.

The method serves the protocols that only yt-dlp supports, and requests with `method=embedded`. The method does not
support ranges: the response is the whole file (RFC 9110 §14.2 lets a server ignore Range).
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from serverpy.body import SESSION_BYTES, UNBOUNDED, Head, Source
from serverpy.containers import identify
from serverpy.errors import NotMedia, RateLimited, ServerPYError, UpstreamFailed, UpstreamTimeout
from serverpy.extraction.choice import duration_of, item_of
from serverpy.extraction.messages import RawGone
from serverpy.extraction.values import Media, Track
from serverpy.memory.room import Lender, Room
from serverpy.options import Timeouts
from serverpy.plan import After, Capability, Plan
from serverpy.streaming.deadline import FirstByteWithin
from serverpy.streaming.first_bytes import first_chunks
from serverpy.streaming.os_pipe import SMALLEST_BYTES, HandOver, PipeReader, open_pipe
from serverpy.streaming.slots import Slot, Slots
from serverpy.streaming.track_source import Extracting, extract_anew, is_same_address
from serverpy.tasks import Closing, Unlosable

log = logging.getLogger(__name__)

WORKER_BLOCK_BYTES = 2 * 64 * 1024
"""Memory, in bytes, that a download takes in the worker: the block that the thread is writing, and the part of the next
block that the HTTP library of yt-dlp has already read."""
RAW_BYTES = 32 * 1024
"""Memory, in bytes, that yt-dlp's dictionary of a track takes in the download process. If a dictionary takes more
memory, the excess is charged to the stream before the stream begins."""
EGRESS_BYTES = 2 * 32 * 1024
"""Memory, in bytes, that the filtering proxy takes for one download, in both directions."""
CLOSE_SECONDS = 1.0

PROTOCOLS = frozenset(
    ("http", "https", "m3u8", "m3u8_native", "http_dash_segments", "http_dash_segments_generator")
) | {"ism", "f4m", "bunnycdn", "soopvod"}
"""The protocols from which yt-dlp downloads without another program (`ytdlp/download/fragments.py::BY_PROTOCOL`),
except `mhtml`, whose result is not media."""


class RunningDownload(Protocol):
    """A download by yt-dlp that runs in the worker process."""

    async def wait(self) -> int:
        """Wait until the download has ended, and return the number of bytes that it has written. Raises the error of
        the download if it failed. The caller may call this method more than once."""
        ...

    async def cancel(self) -> None:
        """Stop the download, and return when the worker's thread is free again. Returns at once if the download has
        ended."""
        ...


class Downloading(Protocol):
    async def start_downloads(self) -> None:
        """Start the process in which downloads run, unless it is already running. Raises `Busy` if the start takes too
        long."""
        ...

    async def download(self, raw_id: str, track_id: str, write_fd: int, room: Room) -> RunningDownload:
        """Start a download of the track into the pipe `write_fd`, and charge the memory of yt-dlp's dictionary of the
        track to `room`. Closes `write_fd` in this process, even if the call raises an error. Raises `RawGone` if no
        worker process has the dictionary of the extraction `raw_id` any more."""
        ...


class Embedded:
    """The opener of the method `embedded`, with at most `max_workers` streams at once. `open` waits up to
    `timeouts.wait` seconds for a free slot, and raises `Busy` if none becomes free."""

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
        # two chunks, because the server process reads a chunk from the pipe while the previous chunk may still be in
        # the transport of the client's connection
        in_server = SESSION_BYTES + 2 * self._chunk_bytes
        return self._pipe_bytes + in_server + WORKER_BLOCK_BYTES + RAW_BYTES + EGRESS_BYTES

    def carries(self, track: Track) -> bool:
        live = track.is_live and track.protocol != "http_dash_segments_generator"
        return track.protocol in PROTOCOLS and not live and not (track.has_drm or track.refusal)

    async def open(self, plan: Plan, source: Source, reservation: Lender) -> EmbeddedBody:
        assert source.media is not None
        (track,) = plan.tracks
        slot = await self.slots.take()
        room = Room(reservation, covered_bytes=RAW_BYTES)
        try:
            await self._workers.start_downloads()
            with FirstByteWithin(self._stall_timeout + max(0.0, _seconds_until(track))):
                head, first, stream = await self._open_or_extract_again(plan, source, source.media, track, room)
        except BaseException:
            room.release()
            slot.release()
            raise
        stream.reader.stall_seconds = self._stall_timeout
        return EmbeddedBody(head, first, stream, room, slot)

    async def _open_or_extract_again(
        self, plan: Plan, source: Source, media: Media, track: Track, room: Room
    ) -> _Opened:
        try:
            return await self._open(source, media, track, room)
        except RawGone:
            fresh = await self._extract_again(source)
        except (UpstreamFailed, NotMedia) as error:
            if plan.after is After.TRANSPORT:  # the preceding plan has already used a fresh extraction
                raise
            fresh, track = await self._extract_anew(source, media, track, error)
        try:
            return await self._open(source, fresh, track, room)
        except RawGone as error:
            raise UpstreamFailed(
                "The yt-dlp worker lost the extraction of this page twice. Try again later."
            ) from error

    async def _extract_again(self, source: Source) -> Media:
        media = await self._extractor.extract(source.url, fresh=True, grant=source.grant)
        return item_of(media, source.item)

    async def _extract_anew(
        self, source: Source, media: Media, track: Track, error: ServerPYError
    ) -> tuple[Media, Track]:
        """Extract the page again after `error`, because the URL of `track` may have expired. Returns the media of the
        page and the track with the same format, whose URL may be the same as before: the failure may also have been
        temporary. Raises `error` if the extraction fails, and `RateLimited` if the client may not extract more pages
        now."""

        def differs(fresh: Media, other: Track) -> bool:
            return not is_same_address(media, track, fresh, other)

        try:
            return await extract_anew(self._extractor, source.url, source.item, track, source.grant, differs)
        except RateLimited:
            raise
        except ServerPYError as failure:
            raise error from failure

    async def _open(self, source: Source, media: Media, track: Track, room: Room) -> _Opened:
        began = time.monotonic()
        reading_end, writing_end = open_pipe(SMALLEST_BYTES if source.head_only else self._pipe_bytes)
        reader = PipeReader(reading_end, self._chunk_bytes)
        try:
            # an item of a playlist has a `raw_id` of its own, so `raw_id` suffices
            download = await self._workers.download(media.raw_id, track.id, writing_end, room)
        except BaseException:
            reader.close()
            raise
        stream = _Stream(reader, download, self._stall_timeout)
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
        return head, first, stream


def _seconds_until(track: Track) -> float:
    return 0.0 if track.available_at is None else track.available_at - time.time()


class _Stream:
    """A pipe and the download that fills it. The owner must call `aclose`. Idempotent: a second call of `aclose` only
    waits until the first call is complete."""

    def __init__(self, reader: PipeReader, download: RunningDownload, stall_timeout: float) -> None:
        self.reader = reader
        self._download = download
        self._stall_timeout = stall_timeout
        self.aclose = Closing(self._close, "close embedded stream")

    async def read(self, most: int = UNBOUNDED) -> bytes:
        """Return the next bytes from the pipe, or `b""` at the end. At the end, the worker must report that the
        download is complete and how many bytes it wrote. Raises the error of the download if it failed,
        `UpstreamFailed` if another number of bytes has arrived, and `UpstreamTimeout` if the worker does not report in
        time."""
        data = await self.reader.read(most)
        if not data and (written := await self._written()) != self.reader.received:
            raise UpstreamFailed(f"The yt-dlp worker wrote {written} bytes, but {self.reader.received} arrived.")
        return data

    async def _written(self) -> int:
        try:
            async with asyncio.timeout(self._stall_timeout):
                return await self._download.wait()
        except TimeoutError:
            raise UpstreamTimeout("The yt-dlp worker did not report the end of the download.") from None

    async def _close(self) -> None:
        """Close the pipe, and wait up to CLOSE_SECONDS until the worker has stopped the download. If the download still
        runs then, its next write into the closed pipe stops it."""
        self.reader.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._download.cancel()
        except TimeoutError:
            log.warning(
                "a download in the worker process did not stop within %s s; its next write will stop it", CLOSE_SECONDS
            )


_Opened = tuple[Head, list[bytes], _Stream]


class EmbeddedBody(Unlosable):
    """An open stream of the method `embedded`, which holds `slot` and `room` until it is closed."""

    def __init__(self, head: Head, first: list[bytes], stream: _Stream, room: Room, slot: Slot) -> None:
        self.head = head
        self._first = first
        self._stream = stream
        self._room = room
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
            self._room.release()
            self._slot.release()
