"""The manifest of a track, an HLS playlist or the DASH fragments of an extraction. The module requests and parses the
manifest once, and keeps it in a compressed form that can be read from the beginning several times."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from serverpy.errors import Busy, DrmProtected, TooLarge, UpstreamFailed
from serverpy.extraction.values import DASH_PROTOCOL, Track
from serverpy.memory.room import Lender, Room
from serverpy.net.bounds import note
from serverpy.net.client import Response
from serverpy.net.connection import SMALL_STEP
from serverpy.net.resume import open_resuming
from serverpy.streaming.first_bytes import NoMedia
from serverpy.streaming.segments import dash, master
from serverpy.streaming.segments.hls import MediaPlaylist
from serverpy.streaming.segments.packed_lines import PackedLines
from serverpy.streaming.segments.segment import MAX_SEGMENTS, Rules, Segment
from serverpy.streaming.segments.turns import parsed
from serverpy.streaming.track_source import TrackSource
from serverpy.tasks import in_thread

PLAYLIST_BYTES = 48 * 1024
"""Memory, in bytes, that every stream reserves for a playlist: the compressed lines and one decompressed block. A
longer playlist must borrow more memory."""
_TEXT_STEP = SMALL_STEP // 4
"""Maximum number of bytes (or, if the extraction contains the playlist, of characters) that are split into lines at
once."""
_FRAGMENTS_STEP = 500
"""Number of DASH fragments that are packed before the event loop runs other streams."""


class Manifest(Protocol):
    """A sequence of `count` segments. All segments together have `length` bytes and last `duration` seconds; either
    value is None if it is unknown. `last` is the last segment; None if there is none."""

    @property
    def count(self) -> int: ...

    @property
    def length(self) -> int | None: ...

    @property
    def duration(self) -> float | None: ...

    @property
    def last(self) -> Segment | None: ...

    def segments(self) -> Iterator[Segment | None]:
        """Yield all segments, beginning with the first, and None after each turn (`turns.py`), so that the caller can
        let the event loop run other streams."""
        ...


@dataclass(frozen=True, slots=True)
class DashManifest:
    """The manifest of a DASH track, made from the fragments that the extraction lists."""

    lines: PackedLines
    url: str
    query: str | None
    count: int
    length: int | None = None
    duration: float | None = None
    last: Segment | None = None

    def segments(self) -> Iterator[Segment | None]:
        return parsed(self.lines.lines(), dash.Lines(self.url, self.query).feed)


@dataclass(frozen=True, slots=True)
class HlsManifest:
    """The manifest of an HLS track: a media playlist that has been parsed once, and therefore is valid. `is_complete`
    states whether the media server adds no more segments to the playlist."""

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
    """The media sequence number after that of the last segment."""
    has_sequence: bool
    """Whether the playlist has EXT-X-MEDIA-SEQUENCE."""
    target_seconds: float | None
    last: Segment | None
    is_complete: bool
    begins_at_edge: bool
    """Whether a stream of this playlist begins at the live edge. A stream of a playlist of the type EVENT begins at the
    first segment if the page does not say that the stream is live: such a playlist is a recording that lacks
    EXT-X-ENDLIST."""

    def segments(self) -> Iterator[Segment | None]:
        return parsed(self.lines.lines(), MediaPlaylist(self.url, self.rules).feed)


def playlist_room(lender: Lender) -> Room:
    """Return the `Room` that counts the memory of a stream's playlist. The `Room` is released together with `lender`,
    the `Room` of the stream's read."""
    return Room(lender, covered_bytes=PLAYLIST_BYTES, step_bytes=PLAYLIST_BYTES)


def _hold(room: Room, nbytes: int) -> None:
    if not room.try_hold(nbytes):
        raise Busy("The playlist of the media needs more memory than is free. Try again later.")


async def load(address: TrackSource, room: Room, *, wait_seconds: float, renews: bool = True) -> Manifest:
    """Load the current manifest of the track at `address`. `renews` states whether the call may extract the page again
    if the URL has expired. Raises `UpstreamFailed` if the playlist is invalid or cannot be loaded, `UpstreamTimeout` if
    the media server is too slow, `TooLarge` if the playlist is too long, `Busy` if too little memory is free for the
    playlist, `DrmProtected` if the media is encrypted with DRM, and the error of a new extraction if that fails."""
    try:
        return await _load(address, room, wait_seconds, renews=renews)
    except TooLarge:
        note("playlists")
        raise


async def _load(address: TrackSource, room: Room, wait_seconds: float, *, renews: bool) -> Manifest:
    if address.track.protocol == DASH_PROTOCOL:
        return await _fragments(address.take_listed(), room)
    fetching = _Fetching(address, room, wait_seconds, renews=renews)
    playlist, lines = await fetching.first()
    if playlist.is_master:
        url = await in_thread(partial(master.best_url, lines.lines, playlist.url), name="choose a variant")
        # drop the master playlist before loading the media playlist, so that memory never holds both
        del playlist, lines
        playlist, lines = await fetching.fetch(url)
        if playlist.is_master:
            raise UpstreamFailed("The media's master playlist refers to another master playlist.")
    is_complete = playlist.has_end or (playlist.is_vod and fetching.is_whole)
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
        if number % _FRAGMENTS_STEP == 0:
            _hold(room, lines.held_bytes)
            await asyncio.sleep(0)
    lines.finish()
    _hold(room, lines.held_bytes)
    count, last = len(track.fragments), _last_of(track)
    return DashManifest(lines, track.url, track.segment_query, count, length, duration, last)


def _last_of(track: Track) -> Segment | None:
    """Return the last segment of a DASH track, with the number 0, or None if the track has no segments."""
    if not track.fragments:
        return None
    (last,) = dash.Lines(track.url, track.segment_query).feed(dash.line_of(track.fragments[-1]).decode().rstrip("\n"))
    return last


class _Fetching:
    """The loader of playlists, which requests a playlist and parses its lines as they arrive."""

    def __init__(self, address: TrackSource, room: Room, wait_seconds: float, *, renews: bool) -> None:
        self._address = address
        self._room = room
        self._wait_seconds = wait_seconds
        self._renews = renews
        self.rules = Rules.of(address.track)
        self.is_whole = True
        """Whether the playlist that was loaded last arrived completely: the end of its body was certain, so that a
        truncated body would have been an error."""

    async def first(self) -> tuple[MediaPlaylist, PackedLines]:
        """Return the playlist at the URL of the track. If yt-dlp has already loaded the playlist, takes it from the
        extraction."""
        track = self._address.take_listed()
        if track.manifest_data is None:
            return await self.fetch(None)
        reader, text = _Reader(track.url, self.rules, self._room), track.manifest_data
        for at in range(0, len(text), _TEXT_STEP):
            await reader.add(text[at : at + _TEXT_STEP].encode())
        return await reader.finish()

    async def fetch(self, url: str | None) -> tuple[MediaPlaylist, PackedLines]:
        """Load the playlist at `url` or, if `url` is None, at the URL of the track. Only the URL of the track may be
        renewed."""
        source = PlaylistSource(self._address, url, renews=self._renews)
        read = await open_resuming(source, ranges=False, wait_seconds=self._wait_seconds)
        try:
            # set the rules again, because the request may have extracted the page again
            self.rules = Rules.of(self._address.track)
            self.is_whole = read.is_framed
            reader = _Reader(read.url, self.rules, self._room)
            while chunk := await read.read():
                await reader.add(chunk)
            return await reader.finish(is_whole=self.is_whole)
        finally:
            read.close()


class PlaylistSource:
    """The source of the requests for a playlist (`net/range_requests.py::RangeSource`)."""

    def __init__(self, address: TrackSource, url: str | None, *, renews: bool) -> None:
        self._address = address
        self._url = url
        self._renews = renews and url is None

    async def open(self, headers: dict[str, str]) -> Response:
        return await self._address.open(self._url or self._address.track.url, headers)

    async def renew(self) -> bool:
        return self._renews and await self._address.renew()


class _Reader:
    """The parser of a playlist that arrives from the media server. The parser also stores the lines in compressed
    form."""

    def __init__(self, url: str, rules: Rules, room: Room) -> None:
        self._playlist = MediaPlaylist(url, rules)
        self._lines = PackedLines()
        self._room = room

    async def add(self, data: bytes) -> None:
        for at in range(0, len(data), _TEXT_STEP):
            await self._parse(self._lines.write(data[at : at + _TEXT_STEP]))

    async def finish(self, *, is_whole: bool = True) -> tuple[MediaPlaylist, PackedLines]:
        await self._parse(self._lines.finish(is_whole=is_whole))
        if not self._playlist.is_playlist:
            raise NoMedia("The URL of the media's playlist did not return an HLS playlist.")
        if self._playlist.needs_drm:
            raise DrmProtected("The media is encrypted with DRM.")
        return self._playlist, self._lines

    async def _parse(self, lines: list[str]) -> None:
        """Parse `lines`. Let the event loop run other streams after each turn (`turns.py`) and at the end, because the
        caller does not wait for the network if one chunk contains many lines."""
        for segment in parsed(lines, self._playlist.feed):
            if segment is None:
                await asyncio.sleep(0)
        _hold(self._room, self._lines.held_bytes)
        await asyncio.sleep(0)
