"""One extraction: from the URL of a page to a `Media` and yt-dlp's own dictionary."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from serverpy.errors import MediaNotFound, TooLarge
from serverpy.extraction.messages import MAX_MEDIA_BYTES, WorkerOptions
from serverpy.extraction.values import Media, Track
from serverpy.ytdlp.children import Ticket
from serverpy.ytdlp.faults import close_responses, translate
from serverpy.ytdlp.page.info_dict import InfoDict, is_playlist
from serverpy.ytdlp.page.media import media_of
from serverpy.ytdlp.page.raw_store import RawMedia
from serverpy.ytdlp.session import instance
from serverpy.ytdlp.session.cookies import copy_cookies

_encoder = msgspec.json.Encoder()


def extract(url: str, options: WorkerOptions, ticket: Ticket, raw_id: str) -> tuple[Media, RawMedia]:
    """Extract the page `url` in the calling thread. Raises Stopped (a BaseException) if `ticket` is set. Translates
    every `Exception`, except MemoryError, to a ServerPYError."""
    try:
        with instance.open(options, cancelled=ticket) as ydl:
            info = ydl.extract_info(url, download=False)
            if not isinstance(info, dict):
                raise MediaNotFound("No media was found on this page.")
            _cut(info)
            media = within_bounds(media_of(info, raw_id, ydl.cookiejar, ydl.impersonation_name))
            _check_found(media, ydl)
            return media, RawMedia(info, copy_cookies(ydl.cookiejar), options)
    except MemoryError:
        raise  # the caller sends an error reply after the memory has been freed
    except Exception as error:  # yt-dlp and its extractors may raise any exception, not only their own
        close_responses(error)
        ticket.check()
        raise translate(error) from error


def _cut(info: InfoDict) -> None:
    """Drop the playlist entries beyond MAX_ENTRIES, and record in `info` whether there were more."""
    if is_playlist(info):
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
    """Return `media` with an encoded size of at most MAX_MEDIA_BYTES. If it is larger, drop the lists of fragments,
    beginning with the worst track, because yt-dlp's own downloader can still download these tracks. Raises TooLarge if
    `media` without these lists is still too large."""
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
