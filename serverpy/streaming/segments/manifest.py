"""The manifest of a track: fetched if it is a playlist, and read from the beginning as often as needed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from serverpy.errors import Busy, TooLarge, UpstreamFailed
from serverpy.extraction.values import DASH_PROTOCOL, Track
from serverpy.memory.room import Lender, Room
from serverpy.net.client import Response
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import open_resuming
from serverpy.streaming.first_bytes import NoMedia
from serverpy.streaming.segments import dash, master
from serverpy.streaming.segments.hls import MediaPlaylist
from serverpy.streaming.segments.packed_lines import PackedLines
from serverpy.streaming.segments.segment import MAX_SEGMENTS, Rules, Segment
from serverpy.streaming.track_source import TrackSource

PLAYLIST_BYTES = 48 * 1024
"""Bytes of the packed playlist, and its one unpacked block, that a stream may hold before it asks for more room."""
STRIDE = 500
"""Number of lines of a playlist that are read at once, before other streams get a turn."""
_TEXT_STEP = SMALL_STEP // 4
"""Characters of a playlist that are parsed at once; each takes at most four bytes."""


class Manifest(Protocol):
    """A sequence of `count` segments, with `length` bytes and `duration` seconds in total if those are known."""

    @property
    def count(self) -> int: ...

    @property
    def length(self) -> int | None: ...

    @property
    def duration(self) -> float | None: ...

    def segments(self) -> Iterator[Segment | None]:
        """Yield all segments, from the first, and None after every STRIDE lines, so that the caller can yield to other
        streams."""
        ...


@dataclass(frozen=True, slots=True)
class DashManifest:
    """The fragments of an extraction."""

    lines: PackedLines
    url: str
    query: str | None
    count: int
    length: int | None = None
    duration: float | None = None

    def segments(self) -> Iterator[Segment | None]:
        return _with_pauses(dash.segments_of(self.lines.lines(), self.url, self.query))


@dataclass(frozen=True, slots=True)
class HlsManifest:
    """A media playlist that has been read once, and is therefore known to be valid. `is_complete` means that no segment
    will be added to it."""

    lines: PackedLines
    url: str
    rules: Rules
    count: int
    length: int | None
    duration: float | None
    seconds: float
    longest_seconds: float
    first_number: int
    end_number: int
    """The number that follows that of the last segment."""
    has_sequence: bool
    """Whether the playlist itself numbers its segments (EXT-X-MEDIA-SEQUENCE)."""
    target_seconds: float | None
    last: Segment | None
    is_complete: bool
    begins_at_edge: bool
    """Whether a stream begins at the edge of an incomplete playlist. An EVENT playlist that the page does not call live
    is a recording whose end is not marked (yet); it is read from its beginning."""

    def segments(self) -> Iterator[Segment | None]:
        return _with_pauses(map(MediaPlaylist(self.url, self.rules).feed, self.lines.lines()))


def _with_pauses(lines: Iterable[Segment | None]) -> Iterator[Segment | None]:
    """Yield the segments that lines complete, and None after every STRIDE lines."""
    for passed, segment in enumerate(lines, 1):
        if segment is not None:
            yield segment
        if passed % STRIDE == 0:
            yield None


def playlist_room(lender: Lender) -> Room:
    """Make the room of the one playlist that a stream holds. Releasing `lender`, the room of the stream's read,
    releases this room."""
    return Room(lender, covered_bytes=PLAYLIST_BYTES, step_bytes=PLAYLIST_BYTES)


def _hold(room: Room, nbytes: int) -> None:
    if not room.try_hold(nbytes):
        raise Busy("The playlist of the media needs more memory than is free.")


async def load(address: TrackSource, room: Room, *, wait_seconds: float, renews: bool = True) -> Manifest:
    """Load the current manifest of the track at `address`. `renews` says whether the page may be extracted again if the
    address has expired. Raises `UpstreamFailed` if the playlist is invalid or cannot be fetched, `UpstreamTimeout` if
    the server is too slow, `TooLarge` if the playlist is too long, `Busy` if there is no memory for it, `DrmProtected`
    if the media is encrypted with DRM, and the errors of an extraction."""
    if address.track.protocol == DASH_PROTOCOL:
        return await _fragments(address.take_listed(), room)
    fetching = _Fetching(address, room, wait_seconds, renews=renews)
    playlist, lines = await fetching.first()
    if playlist.is_master:
        url = master.best_url(lines.lines, playlist.url)
        del playlist, lines  # never hold two playlists at once
        playlist, lines = await fetching.fetch(url)
        if playlist.is_master:
            raise UpstreamFailed("The media's master playlist refers to another master playlist.")
    is_complete = playlist.has_end or (playlist.is_vod and fetching.is_whole)
    if not playlist.count and is_complete:
        raise UpstreamFailed("The media's playlist has no segments.")
    return HlsManifest(
        lines=lines,
        url=playlist.url,
        rules=fetching.rules,
        count=playlist.count,
        length=playlist.length if is_complete else None,
        duration=playlist.duration if is_complete else None,
        seconds=playlist.seconds,
        longest_seconds=playlist.longest_seconds,
        first_number=playlist.first_number,
        end_number=playlist.end_number,
        has_sequence=playlist.has_sequence,
        target_seconds=playlist.target_seconds,
        last=playlist.last,
        is_complete=is_complete,
        begins_at_edge=not playlist.is_vod and (address.track.is_live or not playlist.is_event),
    )


async def _fragments(track: Track, room: Room) -> DashManifest:
    if len(track.fragments) > MAX_SEGMENTS:
        raise TooLarge("The media has too many segments.")
    lines = PackedLines()
    length: int | None = 0
    duration: float | None = 0.0
    for number, fragment in enumerate(track.fragments):
        lines.write(dash.line_of(fragment))
        length = None if length is None or fragment.end is None else length + fragment.end - fragment.first
        if not fragment.initial:
            duration = None if duration is None or fragment.duration is None else duration + fragment.duration
        if number % STRIDE == 0:
            _hold(room, lines.held_bytes)
            await asyncio.sleep(0)
    lines.finish()
    _hold(room, lines.held_bytes)
    return DashManifest(lines, track.url, track.segment_query, len(track.fragments), length, duration)


class _Fetching:
    """The loader, which fetches playlists and parses them line by line as they arrive."""

    def __init__(self, address: TrackSource, room: Room, wait_seconds: float, *, renews: bool) -> None:
        self._address = address
        self._room = room
        self._wait_seconds = wait_seconds
        self._renews = renews
        self.rules = Rules.of(address.track)
        self.is_whole = True
        """Whether the latest playlist is known to be whole, because the response stated where it ends."""

    async def first(self) -> tuple[MediaPlaylist, PackedLines]:
        """Return the track's own playlist, which the extraction may already have fetched."""
        track = self._address.take_listed()
        if track.manifest_data is None:
            return await self.fetch(None)
        reader, text = _Reader(track.url, self.rules, self._room), track.manifest_data
        for at in range(0, len(text), _TEXT_STEP):
            reader.add(text[at : at + _TEXT_STEP].encode())
            await asyncio.sleep(0)
        return reader.finish()

    async def fetch(self, url: str | None) -> tuple[MediaPlaylist, PackedLines]:
        """Fetch the playlist at `url` or, if `url` is None, at the track's own URL, which may be renewed."""
        source = PlaylistSource(self._address, url, renews=self._renews)
        read = await open_resuming(source, ranges=False, wait_seconds=self._wait_seconds)
        try:
            self.rules = Rules.of(self._address.track)  # the address may have been renewed
            self.is_whole = _is_framed(read.headers)
            reader = _Reader(read.url, self.rules, self._room)
            while chunk := await read.read():
                reader.add(chunk)
            return reader.finish(is_whole=self.is_whole)
        finally:
            read.close()


class PlaylistSource:
    """The bytes of a playlist (`net/range_requests.py::RangeSource`)."""

    def __init__(self, address: TrackSource, url: str | None, *, renews: bool) -> None:
        self._address = address
        self._url = url
        self._renews = renews and url is None

    async def open(self, headers: dict[str, str]) -> Response:
        return await self._address.open(self._url or self._address.track.url, headers)

    async def renew(self) -> bool:
        return self._renews and await self._address.renew()


def _is_framed(headers: Headers) -> bool:
    """Return whether the head states where the body ends. If it does not, a body that was cut looks like a whole one
    (RFC 9112 §6.3)."""
    coding = headers.get("transfer-encoding")
    return "chunked" in coding.lower() if coding is not None else headers.get("content-length") is not None


class _Reader:
    """Parser of a playlist that is read for the first time, which also packs the lines."""

    def __init__(self, url: str, rules: Rules, room: Room) -> None:
        self._playlist = MediaPlaylist(url, rules)
        self._lines = PackedLines()
        self._room = room

    def add(self, data: bytes) -> None:
        self._parse(self._lines.write(data))

    def finish(self, *, is_whole: bool = True) -> tuple[MediaPlaylist, PackedLines]:
        self._parse(self._lines.finish(is_whole=is_whole))
        if not self._playlist.is_playlist:
            raise NoMedia("The URL of the media's playlist did not return an HLS playlist.")
        return self._playlist, self._lines

    def _parse(self, lines: list[str]) -> None:
        for line in lines:
            self._playlist.feed(line)
        _hold(self._room, self._lines.held_bytes)
