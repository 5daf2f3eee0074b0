"""The result of an extraction, as immutable values. The worker sends them as JSON (`msgspec` checks each field against
these types), so the values contain no objects of yt-dlp.

A `Media` is one page, and has either `tracks` (which can be streamed), or `entries` (a playlist, an image post, a page
with several videos). Each entry is either a URL to extract or a `Media` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

HLS_PROTOCOLS = frozenset({"m3u8", "m3u8_native"})
DASH_PROTOCOL = "http_dash_segments"
"""yt-dlp's names for the protocols of segmented tracks."""

UNKNOWN_CODEC = "unknown"
"""The name of a codec that the extraction could not determine."""

Kind = Literal["video", "audio", "images", "playlist", "live"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One cookie of the extraction's cookie jar (RFC 6265 §5.3). `domain` begins with a dot if the cookie is also sent
    to subdomains. `expires` is in seconds since the epoch, or None for a session cookie."""

    name: str
    value: str
    domain: str
    path: str = "/"
    secure: bool = False
    expires: int | None = None


class Fragment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One fragment of a DASH (or similar) track: the file at the absolute URL `url` or, if `end` is not None, the bytes
    `first` to `end - 1` of that file. `duration` is in seconds. `initial` is true for an initialization segment.
    `may_be_absent` is true if the manifest does not list the fragment: it was counted from a duration that is longer
    than whole segments, and does not exist if the media ends earlier.

    The class is a `msgspec.Struct` and not a dataclass, because a page may list 100,000 fragments, and a `Struct` can
    omit fields with their default value from the message."""

    url: str
    duration: float | None = None
    first: int = 0
    end: int | None = None
    initial: bool = False
    may_be_absent: bool = False


ABSENT = frozenset({404, 410, 416})
"""Statuses of the responses to a request for a fragment that does not exist (`Fragment.may_be_absent`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AesKey:
    """The decryption key of an HLS track in yt-dlp's field `hls_aes`, which replaces the EXT-X-KEY tag of the playlist.
    `key` and `iv` are hexadecimal."""

    uri: str | None = None
    key: str | None = None
    iv: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One yt-dlp format, with all data that this server needs to request it without yt-dlp.

    `vcodec` and `acodec` are None if the format has no such stream, and "unknown" if the format has such a stream but
    yt-dlp does not know its codec. `bitrate` is in kbit/s, `size` in bytes; `size_exact` is False if `size` is yt-dlp's
    `filesize_approx`.
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
    language_preference: int | None = None
    """yt-dlp's preference for the language of the audio, the greatest for the original language. None if the extractor
    states no preference."""
    is_alternate: bool = False
    """Whether the playlist or manifest states that this is not the main audio (HLS: `DEFAULT=NO`; DASH: another role
    than `main`)."""
    note: str | None = None
    has_drm: bool = False
    is_live: bool = False
    is_from_start: bool = False
    available_at: float | None = None
    """Time, in seconds since the epoch, before which the media server refuses requests for the track."""

    headers: Mapping[str, str] = field(default_factory=dict)
    request_data: str | None = None
    """Body of the POST request that requests the media, decoded as Latin-1."""
    impersonate: str | None = None
    """The browser that requests for the media must impersonate, as the name of a curl_cffi target, for example
    `chrome-120`."""
    http_chunk_size: int | None = None
    """Maximum number of bytes that one range request for the file may ask for, so that the file needs several
    successive requests. None if one request may ask for the whole file."""
    manifest_url: str | None = None
    is_audio_apart: bool = False
    """Whether the track is an HLS variant of unknown codecs, and the master playlist lists its audio as separate
    playlists."""
    manifest_data: str | None = None
    """The text of the HLS media playlist, if yt-dlp has already downloaded it (yt-dlp's field
    `hls_media_playlist_data`)."""
    fragments: tuple[Fragment, ...] = ()
    fragments_dynamic: bool = False
    """Whether yt-dlp's `fragments` is a generator that only yt-dlp's own downloader can run."""
    refusal: str | None = None
    """The reason why no method can stream the track, as a sentence for the client. None if a method can stream it."""
    segment_query: str | None = None
    """Query parameters to add to each segment URL (yt-dlp's field `extra_param_to_segment_url`)."""
    key_query: str | None = None
    """Query parameters to add to each key URL (yt-dlp's field `extra_param_to_key_url`)."""
    aes: AesKey | None = None
    discontinuity: int | None = None
    """Number of EXT-X-DISCONTINUITY tags in the HLS playlist before the segments of the track, if the track has only
    the segments between two such tags (yt-dlp's field `format_index`). None if the track consists of all segments of
    the playlist."""
    no_resume: bool = False
    details: str | None = None
    """The fields of yt-dlp's format that only format selectors need, as a JSON object (`extraction/messages.py`)."""
    needs_ytdlp: bool = False
    """Whether only yt-dlp's own downloader can download the track, for example because it needs WebSockets,
    keep-alive requests or refreshed cookies."""

    @property
    def has_video(self) -> bool:
        return self.vcodec is not None

    @property
    def has_audio(self) -> bool:
        return self.acodec is not None

    @property
    def file_ext(self) -> str:
        """The most specific file extension for the track: audio-only MP4 and WebM files have extensions of their
        own."""
        return AUDIO_ONLY_EXTENSIONS.get(self.ext, self.ext) if self.has_audio and not self.has_video else self.ext

    @property
    def is_audio(self) -> bool | None:
        """Whether the format has only audio. None if the extraction does not show that."""
        if self.has_video:
            return None if self.vcodec == UNKNOWN_CODEC else False
        return True if self.has_audio else None

    @property
    def is_image(self) -> bool:
        return self.vcodec is None and self.acodec is None and self.ext in IMAGE_EXTENSIONS


AUDIO_ONLY_EXTENSIONS = {"mp4": "m4a", "webm": "weba"}
IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "avif", "heic", "bmp"})


class Subtitle(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One subtitle file. `automatic` is true for machine-generated captions.

    The class is a `msgspec.Struct` and not a dataclass, because a page may list 5,000 subtitles, which the garbage
    collector need not visit."""

    language: str
    ext: str
    url: str
    name: str | None = None
    automatic: bool = False


class OwnAddress(msgspec.Struct, frozen=True, array_like=True):
    """The address of an item of a playlist, with all that an extractor states about how to extract it. `address` is an
    http(s) URL, or an address that only yt-dlp knows, such as `kaltura:1:2`. `extractor` is yt-dlp's key of the
    extractor that reads the address, or "" if yt-dlp finds the extractor itself. `fields` are the fields of yt-dlp's
    dictionary that replace those of the item's page (yt-dlp's `url_transparent`). The text form of the address is not a
    URL that a client may send, so it always comes from an extraction."""

    extractor: str
    address: str
    fields: dict[str, Any] = {}  # msgspec copies the default

    def __str__(self) -> str:
        return _OWN + msgspec.json.encode(self).decode()

    @classmethod
    def read(cls, text: str) -> OwnAddress | None:
        """Parse the text form of an address. Returns None if `text` is a URL."""
        return msgspec.json.decode(text.removeprefix(_OWN), type=cls) if text.startswith(_OWN) else None


_OWN = "yt-dlp:"
_SMUGGLED = "#__youtubedl_smuggle="
"""The beginning of the data that yt-dlp appends to a URL for an extractor."""


def is_public(url: str | None) -> bool:
    """Return whether `url` is an http(s) URL."""
    return url is not None and url.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An item of a playlist or image post, or a part of a video: either the URL of a page that has not been extracted
    yet (`url`), or the media of a page that has been extracted (`media`). `url` may be the text form of an
    `OwnAddress`."""

    title: str | None = None
    url: str | None = None
    duration: float | None = None
    media: Media | None = None

    @property
    def public_url(self) -> str | None:
        """The URL of the item's page, without data that yt-dlp has added for an extractor. None if a client cannot
        request it."""
        own = None if self.url is None else OwnAddress.read(self.url)
        url = self.url if own is None else own.address
        return url.partition(_SMUGGLED)[0] if url is not None and is_public(url) else None

    @property
    def is_plain(self) -> bool:
        """Whether a request for `public_url` gets the same media as a request for this item of its page."""
        return self.url is not None and self.url == self.public_url


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Media:
    """The media of one page.

    `raw_id` identifies the extraction in the worker, which keeps yt-dlp's own dictionary for a later download. `tracks`
    are in yt-dlp's order, worst first. `expires` is the time (seconds since the epoch) after which the URLs of the
    tracks may stop working, or None if the URLs do not state it. A playlist or image post has `entries` and no tracks.
    A video of several parts has the tracks of the first part, and all parts as `entries`.
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
