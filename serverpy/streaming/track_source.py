"""The current addresses of a track's bytes, in the extraction's own session, and how to renew them."""

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
    """The addresses of one track, from its latest extraction. Holds no connection, and keeps only what requests need of
    the extraction: a page may list twenty formats of a thousand fragments each."""

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
        """The track without its fragments and manifest data."""
        self.brings_list = bool(track.fragments) or track.manifest_data is not None
        """Whether the extraction itself lists the segments."""

    def take_listed(self) -> Track:
        """Return the track with its fragments and manifest data, and drop them here: they can be taken once after each
        extraction that lists them."""
        listed, self._listed = self._listed or self.track, None
        return listed

    async def open(self, url: str, headers: dict[str, str]) -> Response:
        """Request something that is not the media itself: a playlist, a key."""
        return await self._session.open(url, headers)

    async def open_media(self, url: str, headers: dict[str, str]) -> Response:
        """Request media, by POST if the extraction says so."""
        body = self.track.request_data
        return await self._session.open(url, headers, None if body is None else body.encode("latin-1"))

    async def renew(self) -> bool:
        """Extract again, and find the same format of the same item. Returns False if nothing has changed. Raises
        `ExtractionFailed` if the page no longer offers that format, and what an extraction raises."""
        media = item_of(await self._extractor.extract(self._page, fresh=True), self._item)
        track = by_id(media.tracks, self.track.id)
        if track is None or track.ext != self.track.ext:
            raise ExtractionFailed("The page no longer offers the format that was being streamed.")
        if _fingerprint(track, media.cookies) == self._fingerprint:
            return False
        self._set(track, media.cookies)
        return True


def _fingerprint(track: Track, cookies: Iterable[Cookie]) -> int:
    """Hash what requests need."""
    lists = (track.fragments, track.manifest_data, track.segment_query, track.key_query, track.aes)
    return hash((track.url, tuple(track.headers.items()), lists, tuple(cookies)))
