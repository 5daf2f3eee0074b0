"""The result of an extraction, as frozen values. The worker sends them as JSON (`msgspec` checks each field against
these types), so nothing here holds a yt-dlp object.

A `Media` is one page, and has either `tracks` (which can be streamed), or `entries` (a playlist, an image post, a page
with several videos). Each entry is either a URL to extract or a `Media` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

HLS_PROTOCOLS = frozenset({"m3u8", "m3u8_native"})
DASH_PROTOCOL = "http_dash_segments"
"""yt-dlp's names for the protocols of segmented tracks."""

UNKNOWN_CODEC = "unknown"
"""A codec that the extraction could not determine."""

Kind = Literal["video", "audio", "images", "playlist", "live"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One cookie of the extraction's jar (RFC 6265 §5.3). `domain` begins with a dot if it covers subdomains.
    `expires` is in seconds since the epoch; None marks a session cookie."""

    name: str
    value: str
    domain: str
    path: str = "/"
    secure: bool = False
    expires: int | None = None


class Fragment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One fragment of a DASH (or similar) track: the file at `url`, which is absolute, or if `end` is given, its bytes
    from `first` to before `end`. `duration` is in seconds; `initial` marks an initialization segment.

    A msgspec.Struct and not a dataclass, because a page may list 100,000 fragments: a Struct can leave fields that have
    their default value out of the message."""

    url: str
    duration: float | None = None
    first: int = 0
    end: int | None = None
    initial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AesKey:
    """yt-dlp's `hls_aes`, which replaces the playlist's EXT-X-KEY. `key` and `iv` are hexadecimal."""

    uri: str | None = None
    key: str | None = None
    iv: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One yt-dlp format, with all data for fetching it without yt-dlp.

    `vcodec` and `acodec` are None if the format has no such stream, and "unknown" if yt-dlp does not know the codec.
    `bitrate` is in kbit/s, `size` in bytes; `size_exact` is False for yt-dlp's `filesize_approx`.
    """

    id: str
    url: str
    protocol: str
    ext: str
    container: str | None = None
    vcodec: str | None = None
    acodec: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    bitrate: float | None = None
    size: int | None = None
    size_exact: bool = False
    language: str | None = None
    note: str | None = None
    has_drm: bool = False
    is_live: bool = False
    is_from_start: bool = False
    available_at: float | None = None
    """Time (seconds since the epoch) before which the media server refuses requests."""

    headers: Mapping[str, str] = field(default_factory=dict)
    request_data: str | None = None
    """Body of the POST request that fetches the media, decoded as Latin-1."""
    impersonate: str | None = None
    """The curl_cffi target that the media request must imitate, for example `chrome-120`."""
    http_chunk_size: int | None = None
    """Maximum number of bytes of each of the successive range requests that fetch the file. None if one request fetches
    it."""
    manifest_url: str | None = None
    is_audio_apart: bool = False
    """Whether the track is a variant of unknown codecs whose master playlist has its audio in other playlists."""
    manifest_data: str | None = None
    """yt-dlp's `hls_media_playlist_data`: the playlist, already fetched."""
    fragments: tuple[Fragment, ...] = ()
    fragments_dynamic: bool = False
    """Whether the fragments come from a generator that only yt-dlp's own downloader can run."""
    refusal: str | None = None
    """Why no method can stream the track, as a sentence for the client. None if a method can stream it."""
    segment_query: str | None = None
    """yt-dlp's `extra_param_to_segment_url`."""
    key_query: str | None = None
    """yt-dlp's `extra_param_to_key_url`."""
    aes: AesKey | None = None
    discontinuity: int | None = None
    """yt-dlp's `format_index`: the track consists of the segments of that discontinuity only."""
    no_resume: bool = False
    needs_ytdlp: bool = False
    """Whether only yt-dlp's own downloader can meet the needs of this track (pings, web sockets, refreshed cookies)."""

    @property
    def has_video(self) -> bool:
        return self.vcodec is not None

    @property
    def has_audio(self) -> bool:
        return self.acodec is not None

    @property
    def file_ext(self) -> str:
        """The most specific extension: audio-only MP4 and WebM files have extensions of their own."""
        return AUDIO_ONLY_EXTENSIONS.get(self.ext, self.ext) if self.has_audio and not self.has_video else self.ext

    @property
    def is_audio(self) -> bool | None:
        """Whether the format is audio alone. None if the extraction does not state it."""
        if self.has_video:
            return None if self.vcodec == UNKNOWN_CODEC else False
        return True if self.has_audio else None

    @property
    def is_image(self) -> bool:
        return self.vcodec is None and self.acodec is None and self.ext in IMAGE_EXTENSIONS


AUDIO_ONLY_EXTENSIONS = {"mp4": "m4a", "webm": "weba"}
IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "avif", "heic", "bmp"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtitle:
    """One subtitle file. `automatic` marks machine-made captions."""

    language: str
    ext: str
    url: str
    name: str | None = None
    automatic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An item of a playlist or image post: a page to extract (`url`), or the media already extracted (`media`)."""

    title: str | None = None
    url: str | None = None
    duration: float | None = None
    media: Media | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """The media of one page.

    `raw_id` identifies the extraction in its worker, which keeps yt-dlp's own dictionary for a later download. `tracks`
    are in yt-dlp's order, worst first. `expires` is the time (seconds since the epoch) after which the tracks'
    addresses may stop working, if the addresses state one.
    """

    raw_id: str
    id: str
    title: str
    kind: Kind
    extractor: str
    webpage_url: str
    uploader: str | None = None
    duration: float | None = None
    thumbnail: str | None = None
    tracks: tuple[Track, ...] = ()
    subtitles: tuple[Subtitle, ...] = ()
    entries: tuple[Entry, ...] = ()
    entries_complete: bool = True
    cookies: tuple[Cookie, ...] = ()
    expires: float | None = None
