"""Downloads of `get` in this process. Each job transfers a stream of the engine to stdout, or to a file, which is
resumed if possible."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Literal

from serverpy.api.filenames import file_name
from serverpy.body import Head
from serverpy.cli.jobs import MAX_NESTING, Began, Done, Event, Failed, Job, Moved, OutputClosed, Present, Watcher
from serverpy.cli.outputs import Standard
from serverpy.cli.partial import Asked, Folder, InUse, Partial, Version
from serverpy.delivery import Delivery, Stream
from serverpy.errors import RangeNotSatisfiable, ServerPYError, UpstreamFailed
from serverpy.extraction.values import Entry
from serverpy.plan import StreamRequest
from serverpy.ranges import ByteRange
from serverpy.tasks import in_thread

OVERLAP_BYTES = 64 * 1024
"""Number of bytes at the end of a partial file that `get` downloads again and compares before it appends to the
file."""
TELL_SECONDS = 0.1
"""Minimum time in seconds between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of `get` that apply to every page."""

    format: str | None = None
    to: str = "source"
    height: int | Literal["max"] | None = None
    codec: str | None = None
    lang: str | None = None
    max_size: int | None = None

    def request(self, job: Job) -> StreamRequest:
        return StreamRequest(url=job.url, item=job.item, **asdict(self))

    def asked(self, job: Job) -> Asked:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return Asked(url=job.url, item=job.item, **given)


class Fetcher:
    """A `Runner` that downloads in this process. `output` is a folder or stdout; the caller of the constructor closes
    it."""

    def __init__(self, delivery: Delivery, wish: Wish, output: Folder | Standard, watcher: Watcher) -> None:
        self._delivery = delivery
        self._wish = wish
        self._output = output
        self._watcher = watcher
        self._output_closed = False

    async def run(self, job: Job) -> Sequence[Job]:
        if self._output_closed:
            self._watcher.see(job, OutputClosed())
            return ()
        try:
            parts = await self._parts(job)
            if not parts:
                self._watcher.see(job, await self._fetch(job))
        except ServerPYError as error:
            self._watcher.see(job, Failed(error.code, error.detail))
        except InUse:
            self._watcher.see(job, Failed("in_use", "Another download of the same media is in progress."))
        except BrokenPipeError:
            self._output_closed = True
            self._watcher.see(job, OutputClosed())
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            self._watcher.see(job, Failed("file_failed", f"The file could not be written: {error.strerror}{where}"))
        else:
            return parts
        return ()

    async def _parts(self, job: Job) -> Sequence[Job]:
        """Return one job for each item of a playlist or image post, or part of a video. Returns no jobs if the page has
        no items, if the user asked for a single item, or if playlists are nested too deeply."""
        if job.item is not None or len(job.order) > MAX_NESTING:
            return ()
        media = await self._delivery.info(job.url)
        if media.entries and not media.entries_complete:
            self._watcher.say(f"{job.url}: only the first {len(media.entries)} items are known")
        return [_part(job, number, entry) for number, entry in enumerate(media.entries, 1)]

    async def _fetch(self, job: Job) -> Event:
        if isinstance(self._output, Standard):
            return await self._pour(job, self._output)
        return await self._save(job, self._output)

    async def _pour(self, job: Job, output: Standard) -> Event:
        stream = await self._delivery.open(self._wish.request(job))
        async with aclosing(stream):
            name = file_name(stream.head.title, stream.head.ext)
            self._watcher.see(job, Began(name, 0, stream.head.length))
            meter = Meter(job, self._watcher)
            count = 0
            while data := await stream.read():
                await output.write(data)
                count += len(data)
                meter.tell(count)
        _check(count, stream.head.length)
        return Done(name, count)

    async def _save(self, job: Job, folder: Folder) -> Event:
        partial = folder.find(self._wish.asked(job))
        with partial or nullcontext():
            done = None if partial is None else await self._resume(job, partial)
            if done is not None:
                return done
            stream = await self._delivery.open(self._wish.request(job))
            async with aclosing(stream):
                if partial is not None:  # remove the old partial file only after the new stream has been opened
                    partial.discard()
                return await self._begin(job, folder, stream)

    async def _begin(self, job: Job, folder: Folder, stream: Stream) -> Event:
        head = stream.head
        first = await stream.read()
        claimed = folder.claim(file_name(head.title, head.ext), self._wish.asked(job), version_of(head), first)
        if isinstance(claimed, str):
            return Present(claimed)
        with claimed as partial:
            return await self._complete(job, partial, stream, first)

    async def _resume(self, job: Job, partial: Partial) -> Event | None:
        """Resume the download where `partial` ends, and complete it. Returns None if the media server cannot resume the
        download, or if the bytes have changed."""
        start = partial.size - OVERLAP_BYTES
        if start <= 0:
            return None
        asked = replace(
            self._wish.request(job),
            range=ByteRange(start, None),
            if_range=partial.state.version.validator,
        )
        try:
            stream = await self._delivery.open(asked)
        # If only the range request fails, the caller's request for the whole file may still succeed.
        except (RangeNotSatisfiable, UpstreamFailed):
            return None
        async with aclosing(stream):
            if not _continues(stream.head, start, partial.state.version.total):
                return None
            again = await _read_at_least(stream, OVERLAP_BYTES)
            if again[:OVERLAP_BYTES] != partial.tail(OVERLAP_BYTES):
                return None
            return await self._complete(job, partial, stream, again[OVERLAP_BYTES:])

    async def _complete(self, job: Job, partial: Partial, stream: Stream, data: bytes) -> Event:
        """Append `data` and the rest of the stream to the partial file, then rename the file to its final name."""
        resumed = partial.size
        total = partial.state.version.total
        self._watcher.see(job, Began(partial.name, resumed, total))
        meter = Meter(job, self._watcher)
        while data or (data := await stream.read()):
            partial.append(data)
            meter.tell(partial.size)
            data = b""
        _check(partial.size, total)
        return Done(await in_thread(partial.finish, name="finish a file"), partial.size, resumed)


class Meter:
    """Progress reports of a job to a watcher, at least TELL_SECONDS apart."""

    def __init__(self, job: Job, watcher: Watcher) -> None:
        self._job = job
        self._watcher = watcher
        self._next = 0.0

    def tell(self, count: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + TELL_SECONDS
            self._watcher.see(self._job, Moved(count))


def version_of(head: Head) -> Version:
    return Version(head.etag, head.last_modified, head.total if head.total is not None else head.length)


def _part(job: Job, number: int, entry: Entry) -> Job:
    """Return a job for an item of a page: by the item's own URL if its media must still be extracted and the URL leads
    to the same media, otherwise by the page's URL and the item's number."""
    order = (*job.order, number)
    if entry.media is None and entry.url is not None and entry.is_plain:
        return Job(order, entry.url)
    return Job(order, job.url, number)


def _continues(head: Head, start: int, total: int | None) -> bool:
    return head.partial and head.start == start and (total is None or head.total in (None, total))


async def _read_at_least(stream: Stream, count: int) -> bytes:
    """Read at least `count` bytes. Returns fewer if the stream ends first."""
    pieces = bytearray()
    while len(pieces) < count and (data := await stream.read()):
        pieces += data
    return bytes(pieces)


def _check(count: int, total: int | None) -> None:
    if total is not None and count != total:
        raise UpstreamFailed(f"The media ended after {count} of {total} bytes.")
