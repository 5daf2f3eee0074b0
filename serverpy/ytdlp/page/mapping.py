"""yt-dlp's dictionaries as the frozen values of `extraction/values.py`. Pure: what cannot cross the border (generators,
objects of yt-dlp) is left out and said so by `fragments_dynamic` or `needs_ytdlp`.

Extractors are many and pages are hostile: any field may have a type that it should not. A field that cannot be read is
None; a format without an address is left out.
"""

from __future__ import annotations

import base64
import http.cookiejar
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from yt_dlp.utils.networking import std_headers

from serverpy.extraction.values import (
    IMAGE_EXTENSIONS,
    AesKey,
    Cookie,
    Entry,
    Fragment,
    Kind,
    Media,
    Subtitle,
    Track,
)
from serverpy.ytdlp.page.expiry import expires_at

Info = dict[str, Any]
Impersonation = Callable[[Any], str | None]

_AUDIO_EXTENSIONS = frozenset({"aac", "m4a", "mp3", "oga", "ogg", "opus", "flac", "wav", "wma", "aiff", "ac3", "weba"})
_OWN_PROTOCOLS = frozenset({"http", "https", "m3u8", "m3u8_native", "http_dash_segments"})
_ONLY_YTDLP = ("_bunnycdn_ping_data", "_cookie_refresh_params", "_download_params", "ws")
_AUTOMATIC_EXTENSIONS = frozenset({"vtt", "srt", "ttml"})
_MAX_TITLE = 1000
_MAX_TEXT = 4000
_MAX_URL = 256 * 1024
_MAX_INLINE_SUBTITLES = 256 * 1024
_MAX_INT = 2**53
_EXTENSION = re.compile(r"[A-Za-z0-9]{1,16}")


def media_of(info: Info, raw_id: str, jar: http.cookiejar.CookieJar, impersonation: Impersonation) -> Media:
    """`info` is a processed result of yt-dlp: a video, or a playlist of such and of addresses."""
    entries = tuple(_entries(info, raw_id, jar, impersonation))
    tracks = () if is_playlist(info) else tuple(_tracks(info, impersonation))
    subtitles = tuple(_subtitles(info))
    page = address(info.get("webpage_url") or info.get("original_url")) or ""
    return Media(
        raw_id=raw_id,
        id=text(info.get("id"), _MAX_TITLE) or "",
        title=_title(info),
        kind=_kind(info, tracks, entries),
        extractor=text(info.get("extractor"), 100) or "",
        webpage_url=page,
        uploader=text(info.get("uploader") or info.get("channel"), _MAX_TITLE),
        duration=number(info.get("duration")),
        thumbnail=_thumbnail(info),
        tracks=tracks,
        subtitles=subtitles,
        entries=entries,
        entries_complete=not info.get("_serverpy_cut"),
        cookies=tuple(_cookies(jar, _addresses(page, tracks, subtitles))),
        expires=_expires(tracks),
    )


def is_playlist(info: Info) -> bool:
    return info.get("_type") in ("playlist", "multi_video", "compat_list")


def is_complete(entry: Info) -> bool:
    """Whether an entry of a playlist is a result, and not only the address of one."""
    return entry.get("_type", "video") not in ("url", "url_transparent")


def formats_of(info: Info) -> list[Info]:
    """A result with one format only is that format."""
    formats = info.get("formats")
    return formats if isinstance(formats, list) else [info]


def _title(info: Info) -> str:
    """yt-dlp adds the minute to the title of a live stream; `fulltitle` is the one before."""
    title = info.get("fulltitle") if info.get("is_live") else info.get("title")
    return text(title or info.get("title") or info.get("id"), _MAX_TITLE) or "Untitled"


def _kind(info: Info, tracks: tuple[Track, ...], entries: tuple[Entry, ...]) -> Kind:
    if entries or is_playlist(info):
        return "images" if _is_post(entries) else "playlist"
    if info.get("is_live"):
        return "live"
    if tracks and all(track.is_image for track in tracks):
        return "images"
    media = [track for track in tracks if track.has_video or track.has_audio]
    return "audio" if media and not any(track.has_video for track in media) else "video"


def _is_post(entries: tuple[Entry, ...]) -> bool:
    """Pictures, perhaps with music."""
    kinds = {item.media.kind if item.media else "playlist" for item in entries}
    return "images" in kinds and kinds <= {"images", "audio"}


def _thumbnail(info: Info) -> str | None:
    thumbnails = info.get("thumbnails")
    last = thumbnails[-1] if isinstance(thumbnails, list) and thumbnails else None
    best = last.get("url") if isinstance(last, dict) else None
    for wish in (info.get("thumbnail"), best):
        if isinstance(wish, str) and wish.startswith(("http://", "https://")) and (url := address(wish)):
            return url
    return None


# Entries


def _entries(info: Info, raw_id: str, jar: http.cookiejar.CookieJar, impersonation: Impersonation) -> Iterator[Entry]:
    for number_, entry in enumerate(info.get("entries") or (), 1):
        if not isinstance(entry, dict):
            yield Entry()
        elif is_complete(entry):
            media = media_of(entry, f"{raw_id}.{number_}", jar, impersonation)
            yield Entry(title=media.title, url=media.webpage_url or None, duration=media.duration, media=media)
        else:
            yield Entry(
                title=text(entry.get("title"), _MAX_TITLE),
                url=_entry_url(entry),
                duration=number(entry.get("duration")),
            )


def _entry_url(entry: Info) -> str | None:
    """Some extractors give a bare id as `url`; a full address is better where there is one."""
    urls = [address(entry.get(key)) for key in ("url", "webpage_url", "original_url")]
    known = [url for url in urls if url]
    return next((url for url in known if "://" in url), known[0] if known else None)


# Tracks


def _tracks(info: Info, impersonation: Impersonation) -> Iterator[Track]:
    for fmt in formats_of(info):
        if isinstance(fmt, dict) and isinstance(fmt.get("url"), str) and (url := address(fmt["url"])):
            yield _track(fmt, url, info, impersonation)


def _track(fmt: Info, url: str, info: Info, impersonation: Impersonation) -> Track:
    ext = _extension(fmt.get("ext"), "unknown_video").lower()
    protocol = text(fmt.get("protocol"), 100) or "https"
    fragments, dynamic = _fragments(fmt)
    options = fmt.get("downloader_options")
    options = options if isinstance(options, Mapping) else {}
    size = integer(fmt.get("filesize"))
    impersonated = impersonation(fmt.get("impersonate"))
    return Track(
        id=text(fmt.get("format_id"), 200) or "0",
        url=url,
        protocol=protocol,
        ext=ext,
        container=text(fmt.get("container"), 100),
        vcodec=_codec(fmt.get("vcodec"), absent=ext in IMAGE_EXTENSIONS or ext in _AUDIO_EXTENSIONS),
        acodec=_codec(fmt.get("acodec"), absent=ext in IMAGE_EXTENSIONS),
        width=integer(fmt.get("width")),
        height=integer(fmt.get("height")),
        fps=number(fmt.get("fps")),
        bitrate=_bitrate(fmt),
        size=size or integer(fmt.get("filesize_approx")),
        size_exact=bool(size),
        language=text(fmt.get("language"), 100),
        note=text(fmt.get("format_note"), 200),
        has_drm=fmt.get("has_drm") is True,
        is_live=bool(info.get("is_live")),
        is_from_start=bool(fmt.get("is_from_start")),
        available_at=number(fmt.get("available_at")),
        headers=_headers(fmt, browser=impersonated is None),
        request_data=_body(fmt.get("request_data")),
        impersonate=impersonated,
        http_chunk_size=integer(options.get("http_chunk_size")) or None,
        manifest_url=address(fmt.get("manifest_url")),
        manifest_data=_manifest(fmt.get("hls_media_playlist_data")),
        fragments=fragments,
        fragments_dynamic=dynamic,
        segment_query=text(fmt.get("extra_param_to_segment_url"), _MAX_TEXT),
        key_query=text(fmt.get("extra_param_to_key_url"), _MAX_TEXT),
        aes=_aes(fmt.get("hls_aes")),
        discontinuity=integer(fmt.get("format_index")),
        dash_periods=bool(fmt.get("is_dash_periods")),
        no_resume=bool(fmt.get("no_resume")),
        needs_ytdlp=_needs_ytdlp(fmt, info, protocol, options),
    )


def _codec(value: Any, *, absent: bool) -> str | None:
    if value == "none":
        return None
    return text(value, 200) or (None if absent else "unknown")


def _bitrate(fmt: Info) -> float | None:
    return next((rate for key in ("tbr", "vbr", "abr") if (rate := number(fmt.get(key)))), None)


def _headers(fmt: Info, *, browser: bool) -> dict[str, str]:
    """Without cookies, which are scoped; and without the `browser` headers that yt-dlp adds to every request where an
    impersonation brings its own."""
    headers = fmt.get("http_headers")
    if not isinstance(headers, Mapping):
        return {}
    pairs = [(text(name, 200), text(value, 16384)) for name, value in headers.items()]
    return {
        name: value
        for name, value in pairs
        if name and value is not None and name.lower() != "cookie" and (browser or std_headers.get(name) != value)
    }


def _body(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value.encode("utf-8", "replace").decode("latin-1") if isinstance(value, str) else None


def _manifest(value: Any) -> str | None:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and value else None


def _aes(value: Any) -> AesKey | None:
    if not isinstance(value, Mapping):
        return None
    return AesKey(uri=address(value.get("uri")), key=text(value.get("key"), 200), iv=text(value.get("iv"), 200))


def _needs_ytdlp(fmt: Info, info: Info, protocol: str, options: Mapping[str, Any]) -> bool:
    return (
        protocol.removesuffix("_generator") not in _OWN_PROTOCOLS
        or any(fmt.get(key) or info.get(key) for key in _ONLY_YTDLP)
        or any(str(key).startswith("ws") for key in options)
    )


def _fragments(fmt: Info) -> tuple[tuple[Fragment, ...], bool]:
    """The fragments as absolute addresses; or none, and True where only yt-dlp can list them."""
    fragments = fmt.get("fragments")
    if fragments is None:
        return (), "_generator" in str(fmt.get("protocol"))
    if not isinstance(fragments, list):
        return (), True
    base = str(fmt.get("fragment_base_url") or fmt.get("manifest_url") or fmt["url"])
    found = tuple(_fragment(item, base) for item in fragments if isinstance(item, dict))
    whole = len(found) == len(fragments) and all(item.url for item in found)
    return (found, False) if whole else ((), True)


def _fragment(item: Info, base: str) -> Fragment:
    return Fragment(
        url=address(item.get("url")) or _joined(base, item.get("path")) or "",
        duration=number(item.get("duration")),
        size=integer(item.get("filesize")),
    )


def _joined(base: str, path: Any) -> str | None:
    try:
        return address(urljoin(base, str(path))) if path else None
    except ValueError:
        return None


# Subtitles


def _subtitles(info: Info) -> Iterator[Subtitle]:
    for field, automatic in (("subtitles", False), ("automatic_captions", True)):
        languages = info.get(field)
        for language, files in languages.items() if isinstance(languages, dict) else ():
            for file in files if isinstance(files, list) else ():
                if isinstance(file, dict) and (subtitle := _subtitle(str(language), file, automatic)):
                    yield subtitle


def _subtitle(language: str, file: Info, automatic: bool) -> Subtitle | None:
    ext = _extension(file.get("ext"), "vtt")
    url = address(file.get("url")) or _inline(file.get("data"))
    if not url or (automatic and ext not in _AUTOMATIC_EXTENSIONS):
        return None
    return Subtitle(
        language=text(language, 100) or "und",
        ext=ext,
        url=url,
        name=text(file.get("name"), 200),
        automatic=automatic,
    )


def _inline(data: Any) -> str | None:
    """Subtitles that came with the page, as a `data:` address (RFC 2397)."""
    if not isinstance(data, str) or len(data) > _MAX_INLINE_SUBTITLES:
        return None
    return "data:text/plain;charset=utf-8;base64," + base64.b64encode(data.encode("utf-8", "replace")).decode()


# Cookies


def _addresses(page: str, tracks: Iterable[Track], subtitles: Iterable[Subtitle]) -> Iterator[str]:
    yield page
    for track in tracks:
        yield from filter(None, (track.url, track.manifest_url, *(piece.url for piece in track.fragments[:1])))
        if track.aes and track.aes.uri:
            yield track.aes.uri
    for subtitle in subtitles:
        yield subtitle.url


def _cookies(jar: http.cookiejar.CookieJar, urls: Iterable[str]) -> Iterator[Cookie]:
    """The cookies whose domain has something to do with one of `urls`: COOKIES_FILE may hold those of many other
    sites, which are nobody's business here. A cookie's path and whether it is secure are for the request to judge."""
    hosts = {urlsplit(url).hostname or "" for url in urls if url.startswith(("http://", "https://"))}
    now = time.time()
    for cookie in jar:
        domain = cookie.domain.removesuffix(".local") if cookie.domain.count(".") == 1 else cookie.domain
        if cookie.is_expired(int(now)) or not any(_related(domain, host) for host in hosts):
            continue
        yield Cookie(
            name=text(cookie.name, 4096) or "",
            value=text(cookie.value, 8192) or "",
            domain=text(domain, _MAX_TEXT) or "",
            path=text(cookie.path, _MAX_TEXT) or "/",
            secure=bool(cookie.secure),
            expires=integer(cookie.expires),
        )


def _related(domain: str, host: str) -> bool:
    bare = domain.removeprefix(".")
    return host == bare or (domain.startswith(".") and host.endswith(domain))


def _expires(tracks: Iterable[Track]) -> float | None:
    now = time.time()
    times = (expires_at(url, now) for track in tracks for url in (track.url, track.manifest_url) if url)
    return min((time_ for time_ in times if time_ is not None), default=None)


# Values


def text(value: Any, limit: int) -> str | None:
    """A string that JSON can carry; None for nothing, and for an address too long to be one."""
    if value is None or isinstance(value, dict | list | tuple | set):
        return None
    clean = str(value).encode("utf-8", "replace").decode()
    if limit >= _MAX_URL and len(clean) > limit:
        return None
    return clean[:limit] or None


def address(value: Any) -> str | None:
    """A URL that can be taken apart: one that cannot would fail whoever tries, and with it everything else of the
    page."""
    url = text(value, _MAX_URL)
    try:
        parts = urlsplit(url or "")
        _ = parts.hostname, parts.port  # raise where they are none
    except ValueError:
        return None
    return url


def _extension(value: Any, default: str) -> str:
    """It becomes part of file names and headers."""
    found = text(value, 20)
    return found if found and _EXTENSION.fullmatch(found) else default


def number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def integer(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and abs(found) <= _MAX_INT else None
