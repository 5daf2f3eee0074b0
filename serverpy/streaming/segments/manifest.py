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
from serverpy.net.resume import open_resuming
from serverpy.streaming.segments import dash, master
from serverpy.streaming.segments.hls import MediaPlaylist
from serverpy.streaming.segments.packed_lines import PackedLines
from serverpy.streaming.segments.segment import MAX_SEGMENTS, Rules, Segment
from serverpy.streaming.track_source import TrackSource

PLAYLIST_BYTES = 48 * 1024
"""The packed playlist that a stream may hold, and its one unpacked block, before it asks for more room."""
STRIDE = 500
"""Lines of a playlist that are read at once, before other streams get a turn."""
_TEXT_STEP = SMALL_STEP // 4
"""Characters, of at most four bytes each."""


class Manifest(Protocol):
    """A sequence of `count` segments, with `length` bytes in total if that is known."""

    @property
    def count(self) -> int: ...

    @property
    def length(self) -> int | None: ...

    def segments(self) -> Iterator[Segment | None]:
        """Yield all segments, from the first, and None after every STRIDE lines, so that the caller can give way to
        other streams."""
        ...


@dataclass(frozen=True, slots=True)
class DashManifest:
    """The fragments of an extraction."""

    lines: PackedLines
    url: str
    query: str | None
    count: int
    length: int | None = None

    def segments(self) -> Iterator[Segment | None]:
        return _with_pauses(dash.segments_of(self.lines.lines(), self.url, self.query))


@dataclass(frozen=True, slots=True)
class HlsManifest:
    """A media playlist that has been read once, and so is known to be valid. `is_complete` says that nothing will be
    added to it."""

    lines: PackedLines
    url: str
    rules: Rules
    count: int
    length: int | None
    seconds: float
    first_number: int
    target_seconds: float | None
    is_complete: bool
    begins_at_edge: bool
    """Whether a stream begins at the edge of an incomplete playlist. An EVENT playlist that the page does not call live
    is a recording whose end is not marked, or not yet, and is read from its beginning."""

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
    """Make the room of the one playlist that a stream holds. It is released with `lender`, the room of the stream's
    read."""
    return Room(lender, covered_bytes=PLAYLIST_BYTES, step_bytes=PLAYLIST_BYTES)


def _hold(room: Room, nbytes: int) -> None:
    if not room.try_hold(nbytes):
        raise Busy("The playlist of the media needs more memory than is free.")


async def load(address: TrackSource, room: Room, *, wait_seconds: float) -> Manifest:
    """Load the manifest of the track at `address`, as it is now. Raises `UpstreamFailed`, `UpstreamTimeout`,
    `TooLarge`, `Busy`, `DrmProtected`, and what an extraction raises."""
    if address.track.protocol == DASH_PROTOCOL:
        return await _fragments(address.take_listed(), room)
    fetching = _Fetching(address, room, wait_seconds)
    playlist, lines = await fetching.first()
    if playlist.is_master:
        variant = master.best(master.variants(lines.lines(), playlist.url))
        del playlist, lines  # never hold two playlists at once
        playlist, lines = await fetching.fetch(variant.url)
        if playlist.is_master:
            raise UpstreamFailed("The media's master playlist refers to another master playlist.")
    if not playlist.count and playlist.is_complete:
        raise UpstreamFailed("The media's playlist has no segments.")
    return HlsManifest(
        lines=lines,
        url=playlist.url,
        rules=fetching.rules,
        count=playlist.count,
        length=playlist.length if playlist.is_complete else None,
        seconds=playlist.seconds,
        first_number=playlist.first_number,
        target_seconds=playlist.target_seconds,
        is_complete=playlist.is_complete,
        begins_at_edge=address.track.is_live or not playlist.is_event,
    )


async def _fragments(track: Track, room: Room) -> DashManifest:
    if len(track.fragments) > MAX_SEGMENTS:
        raise TooLarge("The media has too many segments.")
    lines = PackedLines()
    length: int | None = 0
    for number, fragment in enumerate(track.fragments):
        lines.write(dash.line_of(fragment))
        length = None if length is None or fragment.end is None else length + fragment.end - fragment.first
        if number % STRIDE == 0:
            _hold(room, lines.held_bytes)
            await asyncio.sleep(0)
    lines.finish()
    _hold(room, lines.held_bytes)
    return DashManifest(lines, track.url, track.segment_query, len(track.fragments), length)


class _Fetching:
    """Fetches playlists, and parses them line by line as they arrive."""

    def __init__(self, address: TrackSource, room: Room, wait_seconds: float) -> None:
        self._address = address
        self._room = room
        self._wait_seconds = wait_seconds
        self.rules = Rules.of(address.track)

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
        """Fetch the playlist at `url`, or (None) at the track's own URL, which may be renewed."""
        read = await open_resuming(PlaylistSource(self._address, url), ranges=False, wait_seconds=self._wait_seconds)
        try:
            self.rules = Rules.of(self._address.track)  # it may have been renewed
            reader = _Reader(read.url, self.rules, self._room)
            while chunk := await read.read():
                reader.add(chunk)
            return reader.finish()
        finally:
            read.close()


class PlaylistSource:
    """The bytes of a playlist (`net/range_requests.py::RangeSource`)."""

    def __init__(self, address: TrackSource, url: str | None) -> None:
        self._address = address
        self._url = url

    async def open(self, headers: dict[str, str]) -> Response:
        return await self._address.open(self._url or self._address.track.url, headers)

    async def renew(self) -> bool:
        return self._url is None and await self._address.renew()


class _Reader:
    """Parses a playlist on its first reading, and keeps its lines packed."""

    def __init__(self, url: str, rules: Rules, room: Room) -> None:
        self._playlist = MediaPlaylist(url, rules)
        self._lines = PackedLines()
        self._room = room

    def add(self, data: bytes) -> None:
        self._parse(self._lines.write(data))

    def finish(self) -> tuple[MediaPlaylist, PackedLines]:
        self._parse(self._lines.finish())
        if not self._playlist.is_playlist:
            raise UpstreamFailed("The URL of the media's playlist did not return an HLS playlist.")
        return self._playlist, self._lines

    def _parse(self, lines: list[str]) -> None:
        for line in lines:
            self._playlist.feed(line)
        _hold(self._room, self._lines.held_bytes)
