"""Conversion of the formats of a page to `Track` values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

from yt_dlp.utils.networking import std_headers

from serverpy.extraction.values import IMAGE_EXTENSIONS, AesKey, Fragment, Track
from serverpy.ytdlp.m3u8 import AUDIO_APART
from serverpy.ytdlp.mpd.formats import ALTERNATE_PREFERENCE, REFUSAL, Fragments
from serverpy.ytdlp.page.details import details_of
from serverpy.ytdlp.page.info_dict import MAX_TEXT, InfoDict, address, extension, formats_of, integer, number, text

Impersonation = Callable[[Any], str | None]

_AUDIO_EXTENSIONS = frozenset({"aac", "m4a", "mp3", "oga", "ogg", "opus", "flac", "wav", "wma", "aiff", "ac3", "weba"})
_OWN_PROTOCOLS = frozenset({"http", "https", "m3u8", "m3u8_native", "http_dash_segments"})
_MAX_LISTED = 200_000
"""Maximum number of segments of all formats of a page that are sent to the server process. The limit on the size of a
message usually allows even fewer. The segments of the best formats take precedence."""
MAX_FORMATS = 2000
"""Maximum number of formats of a page. The best formats take precedence."""
MAX_TRACK_URL = 8192
"""Maximum length, in characters, of the URL of a track that ServerPY's own HTTP client requests. A stream keeps its
track in memory, so a track with a longer URL is left to yt-dlp."""
MAX_HEADERS_LENGTH = 8192
"""Maximum length, in characters, of all headers of a track together. A stream keeps its track in memory, so a track
with longer headers is left to yt-dlp."""
MAX_BODY_LENGTH = 16 * 1024
"""Maximum length, in bytes, of the body of the POST request for a track. A stream keeps its track in memory, so a track
with a longer body is left to yt-dlp."""
_ONLY_YTDLP = ("_bunnycdn_ping_data", "_cookie_refresh_params", "_download_params", "ws")


def tracks_of(info: InfoDict, impersonation: Impersonation) -> Iterator[Track]:
    formats = [fmt for fmt in formats_of(info) if isinstance(fmt, dict)][-MAX_FORMATS:]
    unlisted = _unlisted(formats)
    for fmt in formats:
        if isinstance(fmt.get("url"), str) and (url := address(fmt["url"])):
            track = _track(fmt, url, info, impersonation, listed=id(fmt) not in unlisted)
            yield replace(track, details=details_of(fmt, track))


def _unlisted(formats: Sequence[InfoDict]) -> set[int]:
    """Return the `id()` of each format whose segments must not be sent to the server process, because they exceed
    _MAX_LISTED together with the segments of all better formats."""
    found, count = set(), 0
    for fmt in reversed(formats):
        if isinstance(fragments := fmt.get("fragments"), Fragments):
            count += len(fragments)
            if count > _MAX_LISTED:
                found.add(id(fmt))
    return found


def _track(fmt: InfoDict, url: str, info: InfoDict, impersonation: Impersonation, *, listed: bool) -> Track:
    ext = extension(fmt.get("ext"), "unknown_video").lower()
    protocol = text(fmt.get("protocol"), 100) or "https"
    fragments, dynamic = _fragments(fmt, listed=listed)
    options = fmt.get("downloader_options")
    options = options if isinstance(options, Mapping) else {}
    size = integer(fmt.get("filesize"))
    impersonated = impersonation(fmt.get("impersonate"))
    headers = _headers(fmt, browser=impersonated is None)
    body = _body(fmt.get("request_data"))
    is_small = (
        len(url) <= MAX_TRACK_URL and len(body or "") <= MAX_BODY_LENGTH and _length(headers) <= MAX_HEADERS_LENGTH
    )
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
        language_preference=integer(fmt.get("language_preference")),
        is_alternate=fmt.get("vcodec") == "none" and fmt.get("source_preference") == ALTERNATE_PREFERENCE,
        note=text(fmt.get("format_note"), 200),
        has_drm=fmt.get("has_drm") is True,
        is_live=bool(info.get("is_live")),
        is_from_start=bool(fmt.get("is_from_start")),
        available_at=number(fmt.get("available_at")),
        headers=headers if is_small else {},
        request_data=body if is_small else None,
        impersonate=impersonated,
        http_chunk_size=integer(options.get("http_chunk_size")) or None,
        manifest_url=address(fmt.get("manifest_url")),
        is_audio_apart=fmt.get(AUDIO_APART) is True,
        manifest_data=_manifest(fmt.get("hls_media_playlist_data")),
        fragments=fragments,
        fragments_dynamic=dynamic,
        refusal=text(fmt.get(REFUSAL), 300) if fmt.get("fragments") is None else None,
        segment_query=text(fmt.get("extra_param_to_segment_url"), MAX_TEXT),
        key_query=text(fmt.get("extra_param_to_key_url"), MAX_TEXT),
        aes=_aes(fmt.get("hls_aes")),
        discontinuity=integer(fmt.get("format_index")),
        no_resume=bool(fmt.get("no_resume")),
        needs_ytdlp=not is_small or _needs_ytdlp(fmt, info, protocol, options),
    )


def _codec(value: Any, *, absent: bool) -> str | None:
    if value == "none":
        return None
    return text(value, 200) or (None if absent else "unknown")


def _bitrate(fmt: InfoDict) -> float | None:
    return next((rate for key in ("tbr", "vbr", "abr") if (rate := number(fmt.get(key)))), None)


def _headers(fmt: InfoDict, *, browser: bool) -> dict[str, str]:
    """Return the headers of a format without cookies, because cookies apply only to a domain and path. If `browser` is
    false, also leaves out the headers that yt-dlp adds to every request, because an impersonated browser sends headers
    of its own."""
    headers = fmt.get("http_headers")
    if not isinstance(headers, Mapping):
        return {}
    pairs = [(text(name, 200), text(value, 16384)) for name, value in headers.items()]
    return {
        name: value
        for name, value in pairs
        if name and value is not None and name.lower() != "cookie" and (browser or std_headers.get(name) != value)
    }


def _length(headers: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers.items())


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


def _needs_ytdlp(fmt: InfoDict, info: InfoDict, protocol: str, options: Mapping[str, Any]) -> bool:
    return (
        protocol.removesuffix("_generator") not in _OWN_PROTOCOLS
        or any(fmt.get(key) or info.get(key) for key in _ONLY_YTDLP)
        or any(str(key).startswith("ws") for key in options)
    )


def _fragments(fmt: InfoDict, *, listed: bool) -> tuple[tuple[Fragment, ...], bool]:
    """Return the fragments with absolute URLs, and False. If only yt-dlp can list the fragments, or if `listed` is
    False, returns no fragments, and True."""
    fragments = fmt.get("fragments")
    if fragments is None:
        return (), "_generator" in str(fmt.get("protocol"))
    if isinstance(fragments, Fragments):
        return (tuple(fragments.listing), False) if listed else ((), True)
    if not isinstance(fragments, list):
        return (), True
    base = str(fmt.get("fragment_base_url") or fmt.get("manifest_url") or fmt["url"])
    found = tuple(_fragment(item, base) for item in fragments if isinstance(item, dict))
    whole = len(found) == len(fragments) and all(item.url for item in found)
    return (found, False) if whole else ((), True)


def _fragment(item: InfoDict, base: str) -> Fragment:
    return Fragment(
        url=address(item.get("url")) or _joined(base, item.get("path")) or "",
        duration=number(item.get("duration")),
    )


def _joined(base: str, path: Any) -> str | None:
    try:
        return address(urljoin(base, str(path))) if path else None
    except ValueError:
        return None
