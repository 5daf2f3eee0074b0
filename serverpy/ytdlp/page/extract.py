"""Functions that extract a page, with a `Media` and yt-dlp's own dictionary as the result, and that serialize a track
of such a dictionary for the download process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import msgspec

from serverpy.errors import MediaNotFound, ServerPYError, TooLarge, UnsupportedConversion
from serverpy.extraction.messages import MAX_MEDIA_BYTES, Page, WorkerOptions
from serverpy.extraction.values import Media, OwnAddress, Track
from serverpy.ytdlp.children import Ticket
from serverpy.ytdlp.faults import close_responses, translate
from serverpy.ytdlp.page import crossing
from serverpy.ytdlp.page.info_dict import InfoDict, address, is_playlist, text
from serverpy.ytdlp.page.media import media_of
from serverpy.ytdlp.page.raw_store import RawMedia
from serverpy.ytdlp.session import instance
from serverpy.ytdlp.session.cookies import copy_cookies
from serverpy.ytdlp.session.extractors import GenericIE
from serverpy.ytdlp.shared import shared

log = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()


def extract(url: str, options: WorkerOptions, ticket: Ticket, raw_id: str) -> tuple[Media, RawMedia]:
    """Extract the page `url` in the calling thread. Raises `Stopped` (a BaseException) if the extraction is cancelled
    (`ticket` is set). Any other exception except MemoryError is raised as a ServerPYError."""
    with _translated(ticket), shared().places.held(ticket), instance.open(options, cancelled=ticket) as ydl:
        info = _info(ydl, url)
        if ydl.has_parts and not is_playlist(info):
            _add_parts(ydl, url, info)
        _cut(info)
        media = within_bounds(media_of(info, raw_id, ydl.cookiejar, ydl.impersonation_name))
        _check_found(media, ydl)
        return media, RawMedia(info, copy_cookies(ydl.cookiejar))


def extract_again(page: Page, options: WorkerOptions, ticket: Ticket) -> RawMedia:
    """Extract a page in the download process. This is necessary if the dictionary that the extraction process made of
    the page cannot be serialized. Raises the errors of `extract`."""
    with _translated(ticket), instance.open(options, cancelled=ticket) as ydl:
        info = _info(ydl, page.url, ie_key=page.extractor)
        return RawMedia(info, copy_cookies(ydl.cookiejar))


def raw_bytes(raw: RawMedia, track_id: str) -> bytes | Page:
    """Return the track `track_id` of `raw` as bytes. If the track cannot be serialized, return the page, which the
    download process must then extract itself. Raises FormatNotFound if `raw` has no such track, and TooLarge if the
    track has too many bytes. Raises UnsupportedConversion if the download process would need the generic extractor for
    the page: it must not parse pages of unknown sites, because such a page could delay other downloads."""
    try:
        return crossing.dump(raw.track(track_id))
    except crossing.CannotCross as error:
        url, extractor = address(raw.info.get("webpage_url")), text(raw.info.get("extractor_key"), 200)
        if not url or not extractor or extractor == GenericIE.ie_key():
            raise UnsupportedConversion(
                "The embedded method cannot download this media. Choose another method or format."
            ) from error
        return Page(url=url, extractor=extractor)


def _info(ydl: instance.Instance, url: str, ie_key: str | None = None) -> InfoDict:
    own = OwnAddress.read(url)
    if own is not None and own.fields:
        info = ydl.process_ie_result(
            {**own.fields, "_type": "url_transparent", "url": own.address, "ie_key": own.extractor or None},
            download=False,
        )
    elif own is not None:
        info = ydl.extract_info(own.address, download=False, ie_key=own.extractor or None)
    else:
        info = ydl.extract_info(url, download=False, ie_key=ie_key)
    if not isinstance(info, dict):
        raise MediaNotFound("No media was found on this page.")
    return info


@contextmanager
def _translated(ticket: Ticket) -> Iterator[None]:
    """Translate every `Exception` that the block raises, except MemoryError, to a ServerPYError."""
    try:
        yield
    except MemoryError:
        raise  # the caller sends an error reply after it has freed the memory
    except Exception as error:  # yt-dlp and its extractors may raise any exception, not only their own
        close_responses(error)
        ticket.check()
        raise translate(error) from error


def _add_parts(ydl: instance.Instance, url: str, info: InfoDict) -> None:
    """Add all parts of a video as entries to `info`, the dictionary of its first part. If they cannot be extracted,
    only log that, because the first part can be streamed without the others."""
    ydl.lists_parts = True
    try:
        with _translated(ydl.ticket):
            listed = _info(ydl, url)
            if is_playlist(listed):
                info["entries"] = listed.get("entries")
    except ServerPYError as error:
        log.info("the parts of a video could not be extracted: %s", error.code)


def _cut(info: InfoDict) -> None:
    """Drop the entries beyond MAX_ENTRIES, and record in `info` whether entries were dropped."""
    if is_playlist(info) or info.get("entries"):
        entries = list(info.get("entries") or ())
        info["_serverpy_cut"] = len(entries) > instance.MAX_ENTRIES
        info["entries"] = entries[: instance.MAX_ENTRIES]


def _check_found(media: Media, ydl: instance.Instance) -> None:
    if media.tracks or any(entry.url or entry.media for entry in media.entries):
        return
    if ydl.first_failure is not None:
        raise ydl.first_failure
    raise MediaNotFound("No media was found on this page.")


def within_bounds(media: Media) -> Media:
    """Return `media`, reduced if its encoded form has more than MAX_MEDIA_BYTES. In that case, drops the lists of
    fragments, beginning with the worst track, until `media` is small enough: yt-dlp's own downloader can still download
    tracks without such a list. Raises TooLarge if `media` without these lists is still too large."""
    excess = len(_encoder.encode(media)) - MAX_MEDIA_BYTES
    tracks = list(media.tracks)
    for index, track in enumerate(tracks):
        if excess <= 0:
            break
        if track.fragments:
            excess -= len(_encoder.encode(track.fragments))
            tracks[index] = _without_fragments(track)
    if excess > 0:
        raise TooLarge("The page lists too many formats or items for one response.")
    return replace(media, tracks=tuple(tracks)) if tuple(tracks) != media.tracks else media


def _without_fragments(track: Track) -> Track:
    return replace(track, fragments=(), fragments_dynamic=True)
