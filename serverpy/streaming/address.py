"""Where a track's bytes are at the moment, in the extraction's own session, and how to find them again."""

from __future__ import annotations

from serverpy.errors import ExtractionFailed
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.formats import by_id, pick_entry
from serverpy.extraction.info import Media, Track
from serverpy.net.client import Client, Response
from serverpy.net.session import Session
from serverpy.streaming.body import Source


class Address:
    """The addresses of one track, as its latest extraction has them. Holds no connection."""

    def __init__(self, client: Client, extractor: Extractor, source: Source, media: Media, track: Track) -> None:
        self._client = client
        self._extractor = extractor
        self._source = source
        self._media = media
        self._session = Session(client, track.headers, media.cookies)
        self.track = track

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
        media = await self._extractor.extract(self._source.url, fresh=True)
        if self._source.item is not None:
            entry = pick_entry(media, self._source.item)
            media = entry.media if entry is not None and entry.media is not None else media
        track = by_id(media.tracks, self.track.id)
        if track is None or track.ext != self.track.ext:
            raise ExtractionFailed("The page no longer offers the format that was being streamed.")
        if (_asked(track), media.cookies) == (_asked(self.track), self._media.cookies):
            return False
        self._media, self.track = media, track
        self._session = Session(self._client, track.headers, media.cookies)
        return True


def _asked(track: Track) -> tuple[object, ...]:
    """What of a track goes into requests."""
    return track.url, track.headers, track.manifest_data, track.fragments, track.segment_query, track.key_query
