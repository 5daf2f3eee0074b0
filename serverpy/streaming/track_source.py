"""The current URLs of a track. ServerPY requests these URLs with the cookies and headers of the extraction, and can
renew them by a new extraction of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from serverpy.access.grant import UNLIMITED, Grant
from serverpy.body import Source
from serverpy.errors import ExtractionFailed, ServerPYError
from serverpy.extraction.choice import by_id, in_the_form_of, item_of
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import Cookie, Media, Track
from serverpy.net.client import Client, Response
from serverpy.net.session import Session

_HASHED_FRAGMENTS = 256


class Extracting(Protocol):
    """The object that extracts pages (`extraction/extractor.py::Extractor`)."""

    async def extract(
        self,
        url: str,
        *,
        fresh: bool = False,
        accepts: Callable[[Media], bool] | None = None,
        grant: Grant = UNLIMITED,
    ) -> Media: ...


class TrackSource:
    """The current URLs of one track, from the latest extraction of its page. The object holds no connection. Of the
    extraction, the object keeps only the fields that requests need, because a page may list twenty formats with a
    thousand fragments each."""

    def __init__(self, client: Client, extractor: Extractor, source: Source, media: Media, track: Track) -> None:
        self._client = client
        self._extractor = extractor
        self._page = source.url
        self._item = source.item
        self._grant = source.grant
        self._set(track, media.cookies)

    def _set(self, track: Track, cookies: tuple[Cookie, ...]) -> None:
        self._session = Session(self._client, track.headers, cookies)
        self._fingerprint = _fingerprint(track, cookies)
        self._listed: Track | None = track
        self.brings_list = bool(track.fragments) or track.manifest_data is not None
        """Whether the extraction contains the list of the segments, so that no playlist has to be requested."""
        self.track = replace(track, fragments=(), manifest_data=None) if self.brings_list else track
        """The track without its fragments and manifest data."""

    def take_listed(self) -> Track:
        """Return the track with its fragments and manifest data, and drop these from memory. Until the next extraction,
        later calls return the track without these."""
        listed, self._listed = self._listed or self.track, None
        return listed

    async def open(self, url: str, headers: dict[str, str]) -> Response:
        """Request a resource of the track other than the media itself, such as a playlist or a key."""
        return await self._session.open(url, headers)

    async def open_media(self, url: str, headers: dict[str, str]) -> Response:
        """Request media at `url`, by POST if the extraction requires it."""
        body = self.track.request_data
        return await self._session.open(url, headers, None if body is None else body.encode("latin-1"))

    async def renew(self) -> bool:
        """Extract the page again, and use the URLs of the same format of the same item from now on. Returns False if
        the requests for that format have not changed. Raises `ExtractionFailed` if the page no longer offers the
        format, and the error of the extraction if that fails."""
        media, track = await extract_anew(
            self._extractor, self._page, self._item, self.track, self._grant, self._differs
        )
        if not self._differs(media, track):
            return False
        self._set(track, media.cookies)
        return True

    def _differs(self, media: Media, track: Track) -> bool:
        """Return whether the requests for `track` of `media` are different from the current ones."""
        return _fingerprint(track, media.cookies) != self._fingerprint


async def extract_anew(
    extractor: Extracting,
    page: str,
    item: int | None,
    track: Track,
    grant: Grant,
    differs: Callable[[Media, Track], bool],
) -> tuple[Media, Track]:
    """Extract `page` again, as an extraction that counts against `grant`. Return two values: the media of the page (of
    its item number `item`, if `item` is not None), and the track of that media that has the same format as `track`. If
    another stream or track has just extracted the page again, and `differs` returns True for the result, return that
    result. Raises `ExtractionFailed` if the page no longer offers that format, `RateLimited` if `grant` allows no
    further extraction now, and the error of the extraction if that fails."""

    def accepts(extracted: Media) -> bool:
        try:
            return differs(*_same_format(extracted, item, track))
        except ServerPYError:
            return False

    return _same_format(await extractor.extract(page, fresh=True, accepts=accepts, grant=grant), item, track)


def _same_format(extracted: Media, item: int | None, track: Track) -> tuple[Media, Track]:
    media = item_of(extracted, item)
    found = by_id(media.tracks, track.id)
    if found is None or found.ext != track.ext:
        raise ExtractionFailed("The page no longer offers the format that was being streamed.")
    return media, in_the_form_of(track, found)


def is_same_address(media: Media, track: Track, other_media: Media, other: Track) -> bool:
    """Return whether the requests for `track` of `media` are the same as the requests for `other` of `other_media`."""
    return _fingerprint(track, media.cookies) == _fingerprint(other, other_media.cookies)


def _fingerprint(track: Track, cookies: Iterable[Cookie]) -> int:
    """Return a hash of those fields of `track` and of the cookies that determine the requests for the track. If the
    list of fragments is long, the hash includes only about _HASHED_FRAGMENTS of the fragments."""
    step = 1 + len(track.fragments) // _HASHED_FRAGMENTS
    lists = (
        len(track.fragments),
        track.fragments[::step],
        track.manifest_data,
        track.segment_query,
        track.key_query,
        track.aes,
    )
    return hash((track.url, tuple(track.headers.items()), lists, tuple(cookies)))
