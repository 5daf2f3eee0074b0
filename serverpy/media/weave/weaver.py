"""The weaver, which merges two MP4s, one with video and one with audio, into one seekable MP4 while it reads them from
their media servers. The weaver needs neither a muxer nor a disk.

    headers of both files (range requests) → layout (`mp4/`, in a thread, cached) → ranges, in the layout's order

The weaver reads each source file at rising offsets, over at most one connection at a time; while it reads one file, the
connection of the other file is idle. The method `relay` opens the files, and therefore provides cookies, range windows
and resumption. The weaver compares the validators of the files with the validators for which the layout was made. If a
file has changed, the stream fails or, if nothing was sent yet, gets a new layout.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Any, TypeVar

from serverpy.body import SESSION_BYTES, UNBOUNDED, Body, Head, Opener, Source
from serverpy.containers import MP4
from serverpy.errors import NotMedia, SourceError, UnsupportedConversion, UpstreamFailed
from serverpy.extraction.choice import believed_duration, is_seekable
from serverpy.extraction.values import Track
from serverpy.media.mp4.layout import AUDIO, HEADER, MADE, VIDEO, Layout, Piece
from serverpy.media.mp4.locate import MAX_MOOF_BYTES, PROBE_BYTES, WALK_SECONDS, Located, NoIndex, Span, locate
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER
from serverpy.media.mp4.woven import as_plain, lay_out, peak_bytes, plain_bytes
from serverpy.media.weave.cache import Layouts, Lease, SourceVersion, Woven
from serverpy.media.weave.fragments import read_block
from serverpy.media.weave.source import Changed, Forward, Ranged, server_of
from serverpy.memory.budget import Reservation
from serverpy.memory.room import Room
from serverpy.net.connection import SMALL_STEP
from serverpy.net.resume import OVERLAP_BYTES
from serverpy.plan import Capability, Plan
from serverpy.ranges import resolve_range
from serverpy.tasks import Interruptible, Unlosable, cancel, in_thread, spawn
from serverpy.validators import same_validator

T = TypeVar("T")

ENOUGH_BYTES = 16 * 1024
"""Minimum number of bytes to which the weaver joins small chunks before it returns them, because a write to the client
costs more than the copy."""
CHUNK_BYTES = 32 * 1024
EXTENSIONS = frozenset({"mp4", "m4a", "m4v", "mov"})
_MAX_WITHOUT_INDEX = 256
_WITHOUT_INDEX_SECONDS = 600.0
"""Maximum number of pairs of formats without an index that a weaver remembers, and the number of seconds after which it
searches for their fragments again: a slow media server may be the reason that they were not found."""
OpenFiles = Callable[[Plan, Source, Reservation], Awaitable[Body]]


class Weaver:
    """The opener of merged MP4s. `method` opens the source files. `layouts` belongs to this opener alone. `otherwise`
    opens pairs of fragmented files whose fragments cannot be found in advance."""

    stream_bytes = (
        2 * (SESSION_BYTES + OVERLAP_BYTES + 2 * SMALL_STEP + CHUNK_BYTES) + ENOUGH_BYTES + 2 * MAX_MOOF_BYTES
    )
    """Maximum memory of one stream, in bytes. For each of the two source files, a stream holds a read, a chunk and a
    patched moof box. In addition, it holds one buffer of joined chunks. The memory of the layout is charged separately:
    to the stream that builds the layout while it is built, and then once for all streams that share it."""

    def __init__(self, method: Opener, layouts: Layouts, otherwise: OpenFiles | None = None) -> None:
        self._method = method
        self._layouts = layouts
        self._otherwise = otherwise
        self._without_index = OrderedDict[bytes, float]()
        # only one layout is made at a time, because the computation holds the interpreter lock and takes memory
        self._one_at_a_time = asyncio.Semaphore(1)
        self.capability = Capability(
            opener="weave",
            method="relay",
            stream_bytes=self.stream_bytes,
            carries=self.weaves,
            bytes_for=lambda tracks: self.stream_bytes,
            merges=True,
            seeks=True,
        )

    def weaves(self, track: Track) -> bool:
        """Return whether `track` can be one of the two merged files, that is, whether the extraction describes it as an
        MP4 that can be read by range requests."""
        return (
            track.ext in EXTENSIONS
            and is_seekable(track)
            and track.request_data is None
            and not track.no_resume
            and self._method.capability.carries(track)
        )

    async def open(self, plan: Plan, source: Source, reservation: Reservation) -> Body:
        """Open the MP4 that is merged from the video and the audio of `plan`. `reservation` grows while the layout is
        made. If a fragmented file has no index, and its fragments cannot be found in advance, the MP4 is merged while
        it is read, and has neither a known length nor ranges."""
        key = _formats_of(plan, source)
        try:
            if self._without_index.get(key, 0.0) > time.monotonic():
                raise NoIndex
            return await self._open_woven(plan, source, reservation)
        except NoIndex as error:
            if self._otherwise is None:
                raise
            self._remember(key)
            return await self._open_otherwise(self._otherwise, plan, source, reservation, error)

    def _remember(self, key: bytes) -> None:
        """Remember for _WITHOUT_INDEX_SECONDS that the fragments of the formats `key` cannot be found."""
        now = time.monotonic()
        if self._without_index.get(key, 0.0) <= now:
            self._without_index.pop(key, None)
            self._without_index[key] = now + _WITHOUT_INDEX_SECONDS
            if len(self._without_index) > _MAX_WITHOUT_INDEX:
                self._without_index.popitem(last=False)

    async def _open_otherwise(
        self, otherwise: OpenFiles, plan: Plan, source: Source, reservation: Reservation, error: NoIndex
    ) -> Body:
        try:
            return await otherwise(plan, source, reservation)
        except (UnsupportedConversion, NotMedia) as failure:  # for example, only one of the files is fragmented
            raise error from failure

    async def _open_woven(self, plan: Plan, source: Source, reservation: Reservation) -> WovenBody:
        video, audio = plan.tracks
        ranged = (
            Ranged(self._method, self._method.capability.plan((video,)), source, reservation),
            Ranged(self._method, self._method.capability.plan((audio,)), source, reservation),
        )
        key = (video.url, audio.url)
        make = partial(self._make, ranged)
        begun = time.monotonic()
        for is_last in (False, True):
            lease = await self._layouts.lease(key, reservation, make)
            try:
                return await begin(lease, source, ranged, begun)
            except Changed:
                self._layouts.discard(key, lease.woven)
                lease.release()
                if is_last:
                    raise
            except BaseException:
                lease.release()
                raise
        raise AssertionError("unreachable: the loop returns or raises")

    async def _make(self, ranged: tuple[Ranged, Ranged], room: Room) -> Woven:
        """Read the boxes that describe both source files, and make the layout of the merged file."""
        await room.grow(4 * PROBE_BYTES)
        (video, video_version), (audio, audio_version) = await _together(
            _find(ranged[VIDEO], VIDEO_HANDLER, room), _find(ranged[AUDIO], AUDIO_HANDLER, room)
        )
        async with self._one_at_a_time:
            video, audio = [
                await _as_plain(each, handler, room)
                for each, handler in ((video, VIDEO_HANDLER), (audio, AUDIO_HANDLER))
            ]
            await room.grow(await in_thread(partial(peak_bytes, video, audio), name="lay out"))
            versions = video_version, audio_version
            return await in_thread(partial(_woven, video, audio, versions), name="lay out")


def _formats_of(plan: Plan, source: Source) -> bytes:
    """Return a digest that identifies the formats of `plan` on their page. It does not depend on their URLs, which many
    sites sign anew for each extraction."""
    media = source.media
    own = [track.url for track in plan.tracks] if media is None else [media.id, *(track.id for track in plan.tracks)]
    return hashlib.sha256(repr((source.url, source.item, own)).encode()).digest()


async def _as_plain(source: Located, handler: bytes, room: Room) -> Located:
    if source.moofs is None:
        return source
    await room.grow(await in_thread(partial(plain_bytes, source, handler), name="lay out"))
    return await in_thread(partial(as_plain, source, handler), name="lay out")


class WovenBody(Unlosable):
    """An open range of a merged MP4: the bytes `first`, then the bytes of `parts`. The body closes `parts` and releases
    `lease` when it is closed."""

    def __init__(self, head: Head, first: bytes, parts: _Parts, lease: Lease) -> None:
        self.head = head
        self._first = first
        self._parts = parts
        self._lease = lease
        self._left = head.length or 0
        self._reads = Interruptible()

    async def read(self, most: int = UNBOUNDED) -> bytes:
        chunk = self._first or await self._reads.run(self._parts.gather())
        if not chunk and self._left:
            raise UpstreamFailed("The media cannot be read further, because an earlier read failed.")
        chunk, self._first = chunk[:most], chunk[most:]
        self._left -= len(chunk)
        return chunk

    async def aclose(self) -> None:
        await self._reads.interrupt()
        try:
            await self._parts.aclose()
        finally:
            self._lease.release()


class _Parts:
    """The bytes of a range of the merged file. The generator `parts` reads the bytes from `readers` and yields them.
    `aclose` closes `parts` and all `readers`. Idempotent."""

    def __init__(self, parts: AsyncGenerator[bytes], readers: dict[int, Forward]) -> None:
        self._parts = parts
        self._readers = readers
        self._later = b""

    async def gather(self) -> bytes:
        """Return the next part, or several small parts joined to at least ENOUGH_BYTES. If a large part follows small
        parts, leaves the large part for the next call, because joining would copy it. Returns `b""` at the end."""
        parts, size = [self._later] if self._later else [], len(self._later)
        self._later = b""
        if size < ENOUGH_BYTES:
            async for part in self._parts:
                if parts and len(part) >= ENOUGH_BYTES:
                    self._later = part
                    break
                parts.append(part)
                size += len(part)
                if size >= ENOUGH_BYTES:
                    break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        async with AsyncExitStack() as stack:
            for reader in self._readers.values():
                stack.push_async_callback(reader.aclose)
            stack.push_async_callback(self._parts.aclose)


async def begin(lease: Lease, source: Source, ranged: tuple[Ranged, Ranged], begun: float) -> WovenBody:
    """Open the range of the merged file that `source` requests. Opens both source files at the same time."""
    woven, layout = lease.woven, lease.woven.layout
    holds = source.if_range is None or same_validator(source.if_range, woven.etag, None)
    asked = source.range if holds else None
    first, end = resolve_range(asked, layout.total)
    readers, starts = dict[int, Forward](), dict[int, int]()
    for number in (VIDEO, AUDIO):
        bounds = layout.bounds(number, first, end)
        if bounds is not None:
            starts[number] = bounds[0]
            # If the client requests only the head, one byte suffices to check whether the source file has changed.
            end_of_read = bounds[0] + 1 if source.head_only else bounds[1]
            readers[number] = Forward(ranged[number], woven.versions[number], end_of_read)
    parts = _Parts(_read(layout, layout.read(first, end), readers, Room(ranged[VIDEO].reservation)), readers)
    try:
        await _together(*(readers[number].go_to(starts[number]) for number in readers))
        connected = time.monotonic() - begun
        first_bytes = b"" if source.head_only else await parts.gather()
    except BaseException:
        await parts.aclose()
        raise
    head = Head(
        content_type=MP4.content_type,
        ext=MP4.ext,
        length=end - first,
        start=first,
        total=layout.total,
        partial=asked is not None,
        seekable=True,
        unstored_ranges=layout.is_indexed,
        duration=believed_duration(layout.seconds, None if source.media is None else source.media.duration),
        etag=woven.etag,
        title=None if source.media is None else source.media.title,
        timings={"connect": connected, "first-byte": time.monotonic() - begun},
    )
    return WovenBody(head, first_bytes, parts, lease)


async def _read(
    layout: Layout, pieces: Iterator[Piece], readers: dict[int, Forward], room: Room
) -> AsyncGenerator[bytes]:
    """Yield the bytes of `pieces`, from the header in `layout` and from `readers`, as they arrive. Releases `room` at
    the end."""
    try:
        for piece in pieces:
            if piece.source in (HEADER, MADE):
                own = layout.header if piece.source == HEADER else layout.made
                for at in range(piece.offset, piece.offset + piece.length, CHUNK_BYTES):
                    yield own[at : min(at + CHUNK_BYTES, piece.offset + piece.length)]
                    await asyncio.sleep(0)  # with a fast client, nothing else in this loop waits
            elif layout.numbers[piece.source] is not None:
                async with aclosing(read_block(layout, piece, readers[piece.source], room)) as parts:
                    async for part in parts:
                        yield part
            else:
                at, end = piece.offset, piece.offset + piece.length
                while at < end:
                    chunk = await readers[piece.source].some(at, end - at)
                    at += len(chunk)
                    yield chunk
    finally:
        room.release()


async def _find(ranged: Ranged, handler: bytes, room: Room) -> tuple[Located, SourceVersion]:
    """Return the boxes that describe a source file, and the version of the file from which the boxes were read. The
    reads that search for the fragments of a file without an index may take WALK_SECONDS together. If such a read fails
    and the file has an index, does without these fragments."""
    version, data = await _probe(ranged)
    search = locate(version.total, handler)
    walk, left, time_of = Room(room), WALK_SECONDS, asyncio.get_running_loop().time
    found: Span | Located = next(search)
    while isinstance(found, Span):
        span = found
        if span.end > len(data) or span.first:
            data = bytearray()
            if span.kept is None:
                data = await _fetch(ranged, span, version, room)
            else:
                await walk.settle(2 * span.kept + 3 * (span.end - span.first))
                begun = time_of()
                try:
                    async with asyncio.timeout(left):
                        data = await _fetch(ranged, span, version, None)
                except Changed:
                    raise
                except (TimeoutError, SourceError) as error:
                    found = _give_up(search, error)
                    break
                left -= time_of() - begun
        found = await _advance(search, span, data)
    kept = found.moofs or found.tail
    walk.shrink(max(0, walk.nbytes - (0 if kept is None else kept.nbytes)))
    return found, version


async def _advance(search: Generator[Span, bytes | memoryview, Located], span: Span, data: bytearray) -> Span | Located:
    """Pass the bytes of `span`, with which `data` begins, to `search`. Returns the next range, or the result of the
    search. Uses a thread if `search` copies megabytes, or looks at fragments, of which 64 KiB may contain thousands."""
    send = partial(_send, search, memoryview(data)[: span.end - span.first])
    is_short = len(data) <= PROBE_BYTES and b"moof" not in data
    return send() if is_short else await in_thread(send, name="locate")


def _send(search: Generator[Span, bytes | memoryview, Located], data: memoryview) -> Span | Located:
    try:
        return search.send(data)
    except StopIteration as found:
        located: Located = found.value
        return located


def _give_up(search: Generator[Span, bytes | memoryview, Located], error: Exception) -> Located:
    """End `search` without the fragments that it has not found, because a read raised `error`. Returns the result of
    `search`. If the result needs these fragments, raises `error`, or `NoIndex` if the search took too long."""
    try:
        search.throw(NoIndex())
    except StopIteration as found:
        located: Located = found.value
        return located
    except NoIndex:
        if isinstance(error, TimeoutError):
            raise
        raise error from None
    raise AssertionError("unreachable: a search that is stopped reads nothing more")


async def _probe(ranged: Ranged) -> tuple[SourceVersion, bytearray]:
    body = await ranged.open(0, PROBE_BYTES, None)
    try:
        head = body.head
        assert head.total is not None
        data = await _drain(body, min(PROBE_BYTES, head.total))
    finally:
        await body.aclose()
    return SourceVersion(head.total, head.etag, head.last_modified, server_of(head)), data


async def _fetch(ranged: Ranged, span: Span, version: SourceVersion, room: Room | None) -> bytearray:
    """Return the bytes of `span`. Borrows the memory for them from `room`, unless that is None."""
    length = span.end - span.first
    if room is not None and length > PROBE_BYTES:
        # three copies of the bytes: the joined chunks, which may be copied once more when they grow, and the kept box
        await room.grow(3 * length)
    body = await ranged.open(span.first, span.end, version)
    try:
        return await _drain(body, length)
    finally:
        await body.aclose()


async def _drain(body: Body, length: int) -> bytearray:
    """Return all bytes of `body`. Raises `UpstreamFailed` if `body` does not have exactly `length` bytes."""
    data = bytearray()
    while chunk := await body.read():
        data += chunk
        if len(data) > length:
            break
    if len(data) != length:
        raise UpstreamFailed("The media server sent a different range than requested.")
    return data


def _woven(video: Located, audio: Located, versions: tuple[SourceVersion, SourceVersion]) -> Woven:
    layout = lay_out(video, audio)
    return Woven(layout, versions, _etag(layout, versions))


def _etag(layout: Layout, versions: tuple[SourceVersion, SourceVersion]) -> str:
    """Return the ETag of the merged file, a hash of its header and of the versions of its source files. Equal files get
    the same ETag."""
    digest = hashlib.sha256(layout.header)
    for version in versions:
        digest.update(repr((version.total, version.etag, version.last_modified)).encode())
    return f'"{digest.hexdigest()[:32]}"'


async def _together(*coroutines: Coroutine[Any, Any, T]) -> list[T]:
    """Run the coroutines concurrently. If one of them raises an error, cancel the others and raise that error, not an
    `ExceptionGroup`."""
    tasks = [spawn(each, name="weave") for each in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            if not task.done():
                await cancel(task)
