"""Where a track's bytes are at the moment, in the extraction's own session, and how to find them again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from serverpy.body import Source
from serverpy.errors import ExtractionFailed
from serverpy.extraction.choice import by_id, item_of
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import Cookie, Media, Track
from serverpy.net.client import Client, Response
from serverpy.net.session import Session


class TrackSource:
    """The addresses of one track, as its latest extraction has them. Holds no connection, and of what was extracted no
    more than requests need: a page may list twenty formats of a thousand fragments each."""

    def __init__(self, client: Client, extractor: Extractor, source: Source, media: Media, track: Track) -> None:
        self._client = client
        self._extractor = extractor
        self._page = source.url
        self._item = source.item
        self._set(track, media.cookies)

    def _set(self, track: Track, cookies: tuple[Cookie, ...]) -> None:
        self._session = Session(self._client, track.headers, cookies)
        self._fingerprint = _fingerprint(track, cookies)
        self._listed: Track | None = track
        self.track = replace(track, fragments=(), manifest_data=None)
        """Without the lists that came with it."""
        self.brings_list = bool(track.fragments) or track.manifest_data is not None
        """Whether the extraction itself lists the segments."""

    def take_listed(self) -> Track:
        """The track with its lists, which are let go of here: once after each extraction that brings one."""
        listed, self._listed = self._listed or self.track, None
        return listed

    async def open(self, url: str, headers: dict[str, str]) -> Response:
        """Ask for what lies beside the media: a playlist, a key."""
        return await self._session.open(url, headers)

    async def open_media(self, url: str, headers: dict[str, str]) -> Response:
        """Ask for media, by POST where the extraction says so."""
        body = self.track.request_data
        return await self._session.open(url, headers, None if body is None else body.encode("latin-1"))

    async def renew(self) -> bool:
        """Extract again; the same format of the same item, or nothing. False if that is what we had. Raises what an
        extraction raises."""
        media = item_of(await self._extractor.extract(self._page, fresh=True), self._item)
        track = by_id(media.tracks, self.track.id)
        if track is None or track.ext != self.track.ext:
            raise ExtractionFailed("The page no longer offers the format that was being streamed.")
        if _fingerprint(track, media.cookies) == self._fingerprint:
            return False
        self._set(track, media.cookies)
        return True


def _fingerprint(track: Track, cookies: Iterable[Cookie]) -> int:
    """Of what goes into requests."""
    lists = (track.fragments, track.manifest_data, track.segment_query, track.key_query, track.aes)
    return hash((track.url, tuple(track.headers.items()), lists, tuple(cookies)))
