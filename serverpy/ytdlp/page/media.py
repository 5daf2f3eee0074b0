"""Conversion of yt-dlp's dictionary of a page to a `Media`, the frozen values of `extraction/values.py`.

The conversion leaves out generators and objects of yt-dlp, because they cannot be sent to the server process, and sets
`fragments_dynamic` or `needs_ytdlp` instead. A field with an unusable value becomes None. A format without a URL is
left out.
"""

from __future__ import annotations

import http.cookiejar
import time
from collections.abc import Iterable, Iterator

from serverpy.extraction.values import Entry, Kind, Media, Subtitle, Track
from serverpy.ytdlp.page.cookies import cookies_for
from serverpy.ytdlp.page.entry_url import entry_url
from serverpy.ytdlp.page.expiry import expires_at
from serverpy.ytdlp.page.info_dict import MAX_TITLE, InfoDict, address, is_complete, is_playlist, number, text
from serverpy.ytdlp.page.subtitles import subtitles_of
from serverpy.ytdlp.page.tracks import Impersonation, tracks_of


def media_of(info: InfoDict, raw_id: str, jar: http.cookiejar.CookieJar, impersonation: Impersonation) -> Media:
    """Convert `info`, yt-dlp's processed dictionary of a page, to a `Media`. `info` describes a video, perhaps with all
    its parts as entries, or a playlist of videos and URLs."""
    entries = tuple(_entries(info, raw_id, jar, impersonation))
    tracks = () if is_playlist(info) else tuple(tracks_of(info, impersonation))
    subtitles = tuple(subtitles_of(info))
    page = address(info.get("webpage_url") or info.get("original_url")) or ""
    return Media(
        raw_id=raw_id,
        id=text(info.get("id"), MAX_TITLE) or "",
        title=_title(info),
        kind=_kind(info, tracks, entries),
        extractor=text(info.get("extractor"), 100) or "",
        webpage_url=page,
        uploader=text(info.get("uploader") or info.get("channel"), MAX_TITLE),
        duration=number(info.get("duration")),
        thumbnail=_thumbnail(info),
        tracks=tracks,
        subtitles=subtitles,
        entries=entries,
        entries_complete=not info.get("_serverpy_cut"),
        cookies=tuple(cookies_for(jar, _addresses(page, tracks, subtitles))),
        expires=_expires(tracks),
    )


def _title(info: InfoDict) -> str:
    """Return the title of the page. yt-dlp appends date and time to the `title` of a live stream, but not to its
    `fulltitle`."""
    title = info.get("fulltitle") if info.get("is_live") else info.get("title")
    title = title or info.get("title")
    if isinstance(title, str) and _is_alone_on_its_page(info):
        title = title.removesuffix(" (1)")
    return text(title or info.get("id"), MAX_TITLE) or "Untitled"


def _is_alone_on_its_page(info: InfoDict) -> bool:
    """Return whether this is the only media item that yt-dlp found in the HTML of a page. yt-dlp numbers the media
    items of a page in their ids and titles even if there is only one item. If there is only one, the item also has an
    older id without the number (`HTML5MediaEmbedIE`)."""
    numbered = info.get("id")
    if not isinstance(numbered, str) or not numbered.endswith("-1"):
        return False
    return info.get("_old_archive_ids") == [f"generic {numbered.removesuffix('-1')}"]


def _kind(info: InfoDict, tracks: tuple[Track, ...], entries: tuple[Entry, ...]) -> Kind:
    if is_playlist(info) or (entries and not tracks):
        return "images" if _is_post(entries) else "playlist"
    if info.get("is_live"):
        return "live"
    if tracks and all(track.is_image for track in tracks):
        return "images"
    media = [track for track in tracks if track.has_video or track.has_audio]
    return "audio" if media and not any(track.has_video for track in media) else "video"


def _is_post(entries: tuple[Entry, ...]) -> bool:
    """Return whether the entries of a page form an image post, that is, consist of images, perhaps with music."""
    kinds = {item.media.kind if item.media else "playlist" for item in entries}
    return "images" in kinds and kinds <= {"images", "audio"}


def _thumbnail(info: InfoDict) -> str | None:
    thumbnails = info.get("thumbnails")
    last = thumbnails[-1] if isinstance(thumbnails, list) and thumbnails else None
    best = last.get("url") if isinstance(last, dict) else None
    for wish in (info.get("thumbnail"), best):
        if isinstance(wish, str) and wish.startswith(("http://", "https://")) and (url := address(wish)):
            return url
    return None


def _entries(
    info: InfoDict, raw_id: str, jar: http.cookiejar.CookieJar, impersonation: Impersonation
) -> Iterator[Entry]:
    for number_, entry in enumerate(info.get("entries") or (), 1):
        if not isinstance(entry, dict):
            yield Entry()
        elif is_complete(entry):
            media = media_of(entry, f"{raw_id}.{number_}", jar, impersonation)
            yield Entry(title=media.title, url=media.webpage_url or None, duration=media.duration, media=media)
        else:
            yield Entry(
                title=text(entry.get("title"), MAX_TITLE),
                url=entry_url(entry),
                duration=number(entry.get("duration")),
            )


def _addresses(page: str, tracks: Iterable[Track], subtitles: Iterable[Subtitle]) -> Iterator[str]:
    yield page
    for track in tracks:
        yield from filter(None, (track.url, track.manifest_url, *(piece.url for piece in track.fragments[:1])))
        if track.aes and track.aes.uri:
            yield track.aes.uri
    for subtitle in subtitles:
        yield subtitle.url


def _expires(tracks: Iterable[Track]) -> float | None:
    now = time.time()
    times = (expires_at(url, now) for track in tracks for url in (track.url, track.manifest_url) if url)
    return min((time_ for time_ in times if time_ is not None), default=None)
