"""The merge of two segmented tracks, one with video and one with audio, into one fragmented MP4 while they are read.
The merge needs neither a muxer nor a disk.

    initialization sections of both ─▶ one moov (`media/mp4/sections.py`)
    fragments of both ─▶ in the order of their decode times, patched (`media/mp4/moof.py`) ─▶ client

The merge reads the track whose next fragment has the earlier time, while the connection of the other track is idle.
Therefore it never holds a whole segment, however long the segments are. The method `relay` reads the segments: it
retries failed requests and renews expired URLs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from serverpy.body import SESSION_BYTES, UNBOUNDED, Body, Head, HeadOnly, Opener, Source
from serverpy.containers import MP4
from serverpy.errors import NotMedia, RateLimited, ServerPYError, UnsupportedConversion
from serverpy.extraction.choice import as_one_segment, by_id, in_the_form_of, item_of
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import DASH_PROTOCOL, HLS_PROTOCOLS, Track
from serverpy.media.mp4.locate import MAX_MOOF_BYTES
from serverpy.media.mp4.tracks import AUDIO_HANDLER, VIDEO_HANDLER
from serverpy.media.weave.cache import Key, Layouts, Lease
from serverpy.media.weave.source import Changed, Ranged
from serverpy.media.weave.weaver import begin
from serverpy.memory.budget import Reservation
from serverpy.memory.room import Lender, Room
from serverpy.net.connection import SMALL_STEP
from serverpy.net.resume import OVERLAP_BYTES
from serverpy.plan import Capability, Plan
from serverpy.streaming.deadline import FirstByteWithin
from serverpy.streaming.first_bytes import NoMedia
from serverpy.streaming.pace import Pace
from serverpy.streaming.segments.known_lengths import blocks_of, head_of, woven
from serverpy.streaming.segments.manifest import PLAYLIST_BYTES
from serverpy.streaming.segments.segmented import SegmentedRead
from serverpy.streaming.segments.side import Side
from serverpy.tasks import Interruptible, Unlosable, cancel, spawn

T = TypeVar("T")

ENOUGH_BYTES = 16 * 1024
"""Minimum number of bytes to which the merge joins small parts before it returns them, because a write to the client
costs more than the copy."""
ENOUGH_BYTES_FAST = 4 * ENOUGH_BYTES
"""Minimum number of bytes to which the merge joins small parts for a fast client. For such a client, the merge reads
many bytes at a time, and the memory that is reserved for that suffices for the longer parts."""
EXTENSIONS = frozenset({"mp4", "m4a", "m4v", "mov"})
"""The extensions of tracks that may be in MP4. yt-dlp gives the extension `mp4` to all HLS, so only the first bytes
show whether HLS is MP4."""
NEAR_SECONDS = 0.5
"""Maximum gap, in seconds, between the end of a time line of a track and the beginning of the next time line. If the
gap is longer, the merge shifts the times."""
OVERLAP_SECONDS = 0.01
"""Maximum overlap, in seconds, of two successive time lines of a track. If the overlap is longer, the merge shifts the
times. Shorter overlaps come from rounding, and are shorter than a sample."""
WAIT_SECONDS = 1.0
"""Maximum number of seconds by which a track at a discontinuity falls behind the other track, while it waits until the
other track reaches the same discontinuity."""


class Segments(Opener, Protocol):
    """Interface of an opener for the segments of a track. `methods/relay.py` implements it."""

    stall_timeout: float

    def carries(self, track: Track) -> bool: ...

    async def open_segments(self, source: Source, track: Track, lender: Lender) -> SegmentedRead: ...


class Merger:
    """The opener of files that are merged from two segmented tracks. `segments` opens the segments of both tracks.
    `layouts` belongs to this opener alone."""

    stream_bytes = (
        2 * (SESSION_BYTES + OVERLAP_BYTES + PLAYLIST_BYTES + 2 * SMALL_STEP) + ENOUGH_BYTES + 2 * MAX_MOOF_BYTES
    )
    """Maximum memory of one stream, in bytes: a read of segments, a playlist, two chunks and a moof, for each of the
    two tracks; and the joined parts, once. A stream borrows the memory for longer moofs."""

    def __init__(self, segments: Segments, extractor: Extractor, layouts: Layouts) -> None:
        self._segments = segments
        self._layouts = layouts
        self._extractor = extractor
        self.capability = Capability(
            opener="merge",
            method="relay",
            stream_bytes=self.stream_bytes,
            carries=self.carries,
            bytes_for=lambda tracks: self.stream_bytes,
            merges=True,
            family=_is_dash,
        )

    def carries(self, track: Track) -> bool:
        """Return whether `track` can be one of the two tracks, that is, whether the extraction describes it as HLS or
        DASH that is not live and may be fragmented MP4."""
        return (
            track.ext in EXTENSIONS
            and (track.protocol in HLS_PROTOCOLS or track.protocol == DASH_PROTOCOL)
            and not track.is_live
            and self._segments.carries(track)
        )

    async def open(self, plan: Plan, source: Source, reservation: Reservation) -> Body:
        """Open `plan` as `body.py::Opener` specifies. Raises `UnsupportedConversion` if the segments are not fragmented
        MP4, or if the tracks are live."""
        tracks, begun = plan.tracks, time.monotonic()
        try:
            with FirstByteWithin(self._segments.stall_timeout):
                try:
                    return await self._open(tracks, source, reservation, begun)
                except (NotMedia, NoMedia) as error:
                    source, tracks = await self._extract_anew(source, tracks, error)
                    return await self._open(tracks, source, reservation, begun)
        except UnsupportedConversion as error:
            ids = " or ".join(f"format={track.id}" for track in tracks)
            raise UnsupportedConversion(f"{error.detail} Choose a single format, for example {ids}.") from error

    async def open_files(self, plan: Plan, source: Source, reservation: Reservation) -> Body:
        """Open the merge of two fragmented MP4s, each of which is one file and not a list of segments. The length of
        the merged file is unknown, and no range of it can be requested. `plan` may be that of another opener, which has
        reserved less. Raises the errors of `open`."""
        await reservation.grow(max(0, self.stream_bytes - plan.nbytes))
        tracks = tuple(map(as_one_segment, plan.tracks))
        return await self.open(replace(plan, tracks=tracks), source, reservation)

    async def _extract_anew(
        self, source: Source, tracks: tuple[Track, ...], error: NotMedia | NoMedia
    ) -> tuple[Source, tuple[Track, ...]]:
        """Extract the page again, because a media server may answer a request for an expired URL with a web page or
        without a body. Returns the source and the tracks with fresh URLs. Raises `error` if the page no longer has the
        tracks, if the tracks have not changed, or if the extraction fails, and `RateLimited` if the client may not
        extract more pages now."""
        try:
            page = await self._extractor.extract(source.url, fresh=True, grant=source.grant)
            media = item_of(page, source.item)
        except RateLimited:
            raise
        except ServerPYError as failure:
            raise error from failure
        found = tuple(
            in_the_form_of(each, track) for each in tracks if (track := by_id(media.tracks, each.id)) is not None
        )
        if len(found) != len(tracks) or found == tracks:
            raise error
        return replace(source, media=media), found

    async def _open(self, tracks: tuple[Track, ...], source: Source, reservation: Reservation, begun: float) -> Body:
        key = tuple(text for track in tracks for text in (track.url, track.id))
        for is_last in (False, True):
            lease = self._layouts.lease_made(key)
            if lease is None:
                sides = await self._begin_both(tracks, source, reservation)
                lease = await self._lease(key, sides, reservation)
                if lease is None:
                    return await _stream(sides, tracks, source, reservation, begun)
            try:
                return await begin(lease, source, self._ranged(tracks, source, reservation), begun)
            except Changed:
                self._layouts.discard(key, lease.woven)
                lease.release()
                if is_last:
                    raise
            except BaseException:
                lease.release()
                raise
        raise AssertionError("unreachable: the loop returns or raises")

    def _ranged(self, tracks: tuple[Track, ...], source: Source, reservation: Reservation) -> tuple[Ranged, Ranged]:
        video, audio = (
            Ranged(self._segments, self._segments.capability.plan((track,)), source, reservation) for track in tracks
        )
        return video, audio

    async def _lease(self, key: Key, sides: list[Side], reservation: Reservation) -> Lease | None:
        """Lease a layout of the merged file, and close `sides`. If the file can have no layout (for example because the
        length of a segment is unknown), leaves `sides` open and returns None."""
        room = Room(reservation)
        try:
            _align(sides)
            blocks = [await blocks_of(side, room) for side in sides]
            video, audio = blocks
            if video is None or audio is None:
                return None
            lease = await self._layouts.lease(key, reservation, partial(woven, sides, (video, audio)))
        except BaseException:
            await _close(sides)
            raise
        finally:
            room.release()
        try:
            await _close(sides)
        except BaseException:
            lease.release()
            raise
        return lease

    async def _begin_both(self, tracks: tuple[Track, ...], source: Source, lender: Lender) -> list[Side]:
        # a common room: a reservation allows only one call of `grow` at a time, and a room runs its calls one by one
        long_moofs = Room(lender)
        return await _together(
            *(
                self._begin(source, track, handler, lender, Room(long_moofs))
                for track, handler in zip(tracks, (VIDEO_HANDLER, AUDIO_HANDLER), strict=True)
            )
        )

    async def _begin(self, source: Source, track: Track, handler: bytes, lender: Lender, room: Room) -> Side:
        """Open the segments of `track`, and read up to the first fragment. Returns the open side."""
        read = await self._segments.open_segments(source, track, lender)
        side = Side(read, handler, room, states_durations=track.protocol in HLS_PROTOCOLS)
        try:
            if read.is_live:
                raise UnsupportedConversion(
                    "Video and audio of this live stream are separate and cannot be merged yet."
                )
            await side.begin()
        except BaseException:
            await side.aclose()
            raise
        return side


async def _stream(sides: list[Side], tracks: tuple[Track, ...], source: Source, lender: Lender, begun: float) -> Body:
    """Return the body of the file that is merged from `sides`, whose length is unknown."""
    try:
        head_bytes, duration = head_of(sides)
        merged = _Merged(sides, head_bytes, Pace(lender))
        connected = time.monotonic() - begun
        first = await merged.gather()
    except BaseException:
        await _close(sides)
        raise
    head = Head(
        content_type=MP4.content_type,
        ext=MP4.ext,
        duration=duration,
        estimate=_estimate(tracks),
        title=None if source.media is None else source.media.title,
        timings={"connect": connected, "first-byte": time.monotonic() - begun},
    )
    body = MergedBody(head, first, merged)
    if source.head_only:
        await body.aclose()
        return HeadOnly(head)
    return body


class MergedBody(Unlosable):
    """The body of a merged file: the bytes `first`, then the bytes of `merged`. The body closes `merged` when it is
    closed."""

    def __init__(self, head: Head, first: bytes, merged: _Merged) -> None:
        self.head = head
        self._first = first
        self._merged = merged
        self._reads = Interruptible()

    async def read(self, most: int = UNBOUNDED) -> bytes:
        chunk = self._first or await self._reads.run(self._merged.gather(most))
        chunk, self._first = chunk[:most], chunk[most:]
        return chunk

    async def aclose(self) -> None:
        await self._reads.interrupt()
        await self._merged.aclose()


class _Merged:
    """The bytes of the merged file: `head`, and then the fragments of `sides`."""

    def __init__(self, sides: list[Side], head: bytes, pace: Pace) -> None:
        self._sides = sides
        self._open = list(sides)
        self._pace = pace
        self._most = SMALL_STEP
        self._sent = 0
        self._sequence = 0
        self._later = b""
        self._parts = self._read(head)

    async def gather(self, most: int = UNBOUNDED) -> bytes:
        """Return the next part, or several small parts joined to at least ENOUGH_BYTES (ENOUGH_BYTES_FAST for a fast
        client). If a large part follows small parts, leaves the large part for the next call, because joining would
        copy it. Returns `b""` at the end."""
        step = self._pace.step(time.monotonic())
        self._most = min(most, step)
        enough = ENOUGH_BYTES if step == SMALL_STEP else ENOUGH_BYTES_FAST
        parts, size = [self._later] if self._later else [], len(self._later)
        self._later = b""
        if size < enough:
            async for part in self._parts:
                if parts and len(part) >= enough:
                    self._later = part
                    break
                parts.append(part)
                size += len(part)
                if size >= enough:
                    break
        self._pace.hand(size, time.monotonic())
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        self._later = b""
        try:
            await self._parts.aclose()
        finally:
            try:
                await _close(self._sides)
            finally:
                self._pace.release()

    async def _read(self, head: bytes) -> AsyncGenerator[bytes]:
        yield self._count(head)
        while self._open:
            side = min(self._open, key=self._turn)
            if side.moof is None:
                if not await side.advance():
                    self._open.remove(side)
                continue  # the next fragment of the other track may have an earlier time, so compare again
            if side.is_at_break:
                _align([each for each in self._open if each.moof is not None and each.is_at_break])
            for part in _pieces(self._patched(side)):
                yield self._count(part)
            while part := await side.payload(self._most):
                yield self._count(part)

    def _turn(self, side: Side) -> float:
        """Return the time, in seconds, by which the merge orders `side`: that of the next fragment or, if the side
        waits at a discontinuity, WAIT_SECONDS later. The side with the smallest time is read next. At a discontinuity,
        a side waits for the other side, because the times of both sides must be shifted by the same amount."""
        is_waiting = side.moof is not None and side.is_at_break
        return side.turn + WAIT_SECONDS if is_waiting else side.turn

    def _patched(self, side: Side) -> bytes:
        assert side.moof is not None
        position = side.position
        self._sequence += 1
        moof = side.moof.patched(
            number=self._sides.index(side) + 1,
            sequence=self._sequence,
            ticks=round(side.shift * side.section.scale),
            old_places=(position.in_all, position.in_segment, position.in_file),
            place=self._sent,
        )
        side.sent()
        return moof

    def _count(self, part: bytes) -> bytes:
        self._sent += len(part)
        return part


def _pieces(moof: bytes) -> Iterator[bytes]:
    """Yield the bytes of `moof` in pieces of at most MAX_MOOF_BYTES, because each part that the merge returns must fit
    into the memory that every stream reserves."""
    for at in range(0, len(moof), MAX_MOOF_BYTES):
        yield moof[at : at + MAX_MOOF_BYTES]


def _align(sides: list[Side]) -> None:
    """Choose the shift for `sides`, each of which begins a new time line. All sides get the same shift, so that the
    offset between video and audio does not change. The shift is so large that no time line overlaps the fragments of
    its track that were already sent. If the present shifts cause no large gap or overlap, keeps them."""
    needed = max(side.end - side.begin_time for side in sides)
    are_near = all(needed - OVERLAP_SECONDS <= side.shift <= needed + NEAR_SECONDS for side in sides)
    for side in sides:
        side.shift = side.shift if are_near else needed
        side.is_at_break = False


def _is_dash(track: Track) -> bool:
    """Return whether the track is DASH, not HLS. A DASH track and an HLS track may have different time lines."""
    return track.protocol == DASH_PROTOCOL


def _estimate(tracks: tuple[Track, ...]) -> int | None:
    sizes = [track.size for track in tracks]
    return None if None in sizes else sum(size for size in sizes if size is not None)


async def _close(sides: list[Side]) -> None:
    async with AsyncExitStack() as stack:
        for side in sides:
            stack.push_async_callback(side.aclose)


async def _together(*openings: Coroutine[Any, Any, Side]) -> list[Side]:
    """Open both sides at the same time. If opening one side raises an error, close the other side, and raise that
    error."""
    tasks = [spawn(each, name="merge") for each in openings]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            if not task.done():
                await cancel(task)
        await _close([task.result() for task in tasks if not task.cancelled() and task.exception() is None])
        raise
