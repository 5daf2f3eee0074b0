"""The rules that turn a request into plans, which are ways to open the media. They choose tracks, refuse requests, and
decide whether ranges are supported. The functions are pure.

    StreamRequest, Media, Capabilities ─▶ plans() ─▶ Plan, Plan, …   best first

`delivery.py` tries the plans in order until one opens; `fallback.py` decides which errors lead from one plan to the
next. Each opener (`body.py::Opener`) states what it can do as a `Capability` value, so tests check every rule by a
table, without a server. yt-dlp lists tracks worst first. The best track is the last track, except that a seekable track
of the same height, or a pair that can be merged, is preferred.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from serverpy.containers import MP4, TARGETS, UNAVAILABLE, Container
from serverpy.errors import (
    DrmProtected,
    FormatNotFound,
    InvalidParameter,
    KeyForbids,
    MediaNotFound,
    TooLarge,
    UnsupportedConversion,
)
from serverpy.extraction.choice import by_id, is_seekable
from serverpy.extraction.values import HLS_PROTOCOLS, Media, Track
from serverpy.ranges import ByteRange

UNCUT = (
    "`start` and `end` cannot trim media: the source's bytes are sent unchanged. "
    "`start` is only for live streams: the position at which to begin."
)
NO_REDIRECT = (
    "The client cannot fetch this media by itself: it is not a single file, or its server needs headers, cookies or "
    "the network address of this server. Use another method."
)
_WHOLE = ByteRange(0, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """A client's request for `/stream`, with the names of its parameters. None as `method` means the server's default
    method. `start` and `end` are in seconds. `selection` holds the format ids that a yt-dlp selector in `format` chose;
    it is None until the worker has applied the selector, or if `format` is a format id."""

    url: str
    format: str | None = None
    to: str = "source"
    method: str | None = None
    item: int | None = None
    start: float | None = None
    end: float | None = None
    range: ByteRange | None = None
    if_range: str | None = None
    selection: tuple[str, ...] | None = None
    head_only: bool = False
    """Whether the client requests only the head of the response (the method HEAD); the caller then must not read the
    stream."""


class After(Enum):
    """The condition under which `fallback.py` tries a plan after the preceding plan."""

    UNOPENABLE = "the other one cannot be opened"
    TRANSPORT = "the other one failed for a reason of the transport"
    DETOUR = "the other one was a detour, and failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to open the media of a request. `opener` names the opener that opens `tracks`, and that may hold `nbytes`
    bytes for it. `method` is the name of the method that the client sees.

    `container` is the container of the body; None if only the first bytes of the body show it. `exact_length` and
    `ranges` state whether the length will be known and ranges can be requested: always for a merged MP4, and for a
    single file if its media server supports ranges."""

    opener: str
    method: str
    nbytes: int
    tracks: tuple[Track, ...] = ()
    container: Container | None = None
    exact_length: bool = False
    ranges: bool = False
    after: After = After.UNOPENABLE

    def without_lists(self) -> Plan:
        """Return a copy without the segment lists of the tracks, which can take more memory than the whole stream."""
        if not any(each.fragments or each.manifest_data for each in self.tracks):
            return self
        return replace(self, tracks=tuple(replace(each, fragments=(), manifest_data=None) for each in self.tracks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """The capability of one opener. `method` is the request's value that allows it, `automatic` whether `auto` does.
    `carries` returns whether the opener can open a track; with `merges`, whether a track may be one of a pair that it
    merges. `stream_bytes` is the maximum number of bytes that a stream of one file holds, which is reserved before the
    media is known; `bytes_for` returns that number for known tracks. An opener that `extracts` gets no tracks: it reads
    the page itself. `seeks` is whether the opener honours ranges, `starts_live` whether it can begin at a given
    position in a live stream, `redirects` whether it only tells the client where to fetch the media."""

    opener: str
    method: str
    stream_bytes: int
    carries: Callable[[Track], bool]
    bytes_for: Callable[[tuple[Track, ...]], int]
    automatic: bool = True
    merges: bool = False
    extracts: bool = False
    seeks: bool = False
    starts_live: bool = False
    redirects: bool = False

    def plan(self, tracks: tuple[Track, ...] = ()) -> Plan:
        """Return the plan with which this opener opens `tracks`. The caller passes only tracks that the opener can
        open."""
        seekable = self.seeks and (self.merges or (len(tracks) == 1 and is_seekable(tracks[0])))
        return Plan(
            opener=self.opener,
            method=self.method,
            nbytes=self.bytes_for(tracks),
            tracks=tracks,
            container=MP4 if self.merges else None,
            exact_length=seekable,
            ranges=seekable,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The openers of a server, in the order of preference, and the settings that limit what they may open."""

    openers: tuple[Capability, ...]
    default_method: str = "auto"
    max_duration: float | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The names of the methods of all openers, without duplicates."""
        return tuple(dict.fromkeys(each.method for each in self.openers))

    def allowed_for(self, request: StreamRequest) -> Capabilities:
        """Return these capabilities with only the openers that the method of `request` allows. Raises
        `InvalidParameter` if the method is unknown, or if the request has a `start` and the method cannot begin at a
        given position in a live stream."""
        name = request.method or self.default_method
        openers = tuple(each for each in self.openers if (each.automatic if name == "auto" else each.method == name))
        if not openers:
            raise InvalidParameter(f"Unknown method: `method` must be one of auto, {', '.join(self.methods)}.")
        if request.start is not None:
            openers = tuple(each for each in openers if each.starts_live or each.merges)
            if not any(each.starts_live for each in openers):
                raise InvalidParameter(UNCUT)
        return replace(self, openers=openers)

    def restricted_to(self, methods: Collection[str]) -> Capabilities:
        """Keep the openers of `methods`, or all if it is empty. Raises `KeyForbids` if none is left."""
        if not methods:
            return self
        openers = tuple(each for each in self.openers if each.method in methods)
        if not openers:
            raise KeyForbids(f"This key may only use the methods {', '.join(sorted(methods))}.")
        return replace(self, openers=openers)

    @property
    def extracts(self) -> bool:
        """Whether the first opener extracts the page itself."""
        return self.openers[0].extracts

    @property
    def admission_bytes(self) -> int:
        """Number of bytes to reserve for a stream before the server knows its media."""
        return self.openers[0].stream_bytes

    def carries(self, track: Track) -> bool:
        return self._single(track) is not None

    def merges(self, track: Track) -> bool:
        """Return whether `track` can be merged with another track: video with audio, or audio with video."""
        return self._merger(track) is not None

    def plan(self, tracks: tuple[Track, ...]) -> Plan:
        """Plan to open `tracks`. Raises `FormatNotFound` if no opener can open them, `UnsupportedConversion` if the
        client cannot be redirected to them."""
        capability = self._single(tracks[0]) if len(tracks) == 1 else self._merger(tracks[0])
        if capability is None:
            ids = "+".join(track.id for track in tracks)
            raise self.refusal(f"The format {ids} cannot be streamed by the requested method.")
        return capability.plan(tracks)

    def refusal(self, message: str) -> FormatNotFound | UnsupportedConversion:
        """Return the error for tracks that no opener carries: `message`, or the rules of redirects."""
        return UnsupportedConversion(NO_REDIRECT) if self.openers[0].redirects else FormatNotFound(message)

    def fallbacks(self, tracks: tuple[Track, ...]) -> tuple[Plan, ...]:
        """Return the plan with which the second opener that can open the single track opens it. Returns () if no second
        opener can open it, or if `tracks` are a pair."""
        able = [each for each in self.openers if not each.merges and each.carries(tracks[0])]
        return tuple(replace(each.plan(tracks), after=After.TRANSPORT) for each in able[1:2] if len(tracks) == 1)

    def methods_of(self, track: Track) -> list[str]:
        """Return the names of the methods that can stream `track` without merging it."""
        if _withheld(track):
            return []
        able = [each for each in self.openers if not (each.merges or each.redirects)]
        return [each.method for each in able if each.carries(track)]

    def conversions_of(self, track: Track) -> list[str]:
        """Return the values of the request parameter `to` that a request for `track` may have: the format that the
        track already has."""
        if not self.methods_of(track):
            return []
        return [name for name in TARGETS if name not in UNAVAILABLE and _is_already((track,), name)]

    def _single(self, track: Track) -> Capability | None:
        return next((each for each in self.openers if not each.merges and each.carries(track)), None)

    def _merger(self, track: Track) -> Capability | None:
        return next((each for each in self.openers if each.merges and each.carries(track)), None)


def check(request: StreamRequest) -> None:
    """Check those parameters of a request whose validity does not depend on the media. Raises `UnsupportedConversion`
    if conversion to the format `to` is unavailable, and `InvalidParameter` if a parameter is out of range."""
    if request.to not in TARGETS or request.to in UNAVAILABLE:
        raise UnsupportedConversion(f"Conversion to {request.to} is not available: leave out `to`.")
    if request.end is not None:
        raise InvalidParameter(UNCUT)
    if request.start is not None and not math.isfinite(request.start):
        raise InvalidParameter("`start` must be a finite number of seconds.")
    if request.item is not None and request.item < 1:
        raise InvalidParameter("`item` must be 1 or greater.")


def needs_selection(media: Media, request: StreamRequest, capabilities: Capabilities) -> bool:
    """Return whether the `format` of `request` is a selector that yt-dlp must apply, not the id of a track of `media`.
    Raises `TooLarge` if `media` is longer than MAX_DURATION, and `InvalidParameter` if the request has a `start` but
    `media` has no HLS track."""
    _check_media(media, request, capabilities.max_duration)
    return request.format is not None and request.selection is None and by_id(media.tracks, request.format) is None


def plans(media: Media | None, request: StreamRequest, allowed: Capabilities) -> tuple[Plan, ...]:
    """Return the plans for `request`, best first; `Plan.after` states when a later plan is tried. `media` is the page
    or item that has the tracks, or None if the opener extracts the page itself. `allowed` is the result of
    `allowed_for(request)`.

    Raises `UnsupportedConversion` if the media does not already have the format `to`, or if video and audio cannot be
    merged; `TooLarge` if the media is longer than MAX_DURATION; `InvalidParameter` if the request has a `start` but the
    media is not live; `DrmProtected` if the tracks are encrypted; `FormatNotFound` if no track fits `format`;
    `MediaNotFound` if `media` has no tracks."""
    if media is None or allowed.extracts:
        if request.to != "source":
            raise UnsupportedConversion("The subprocess method cannot convert media: leave out `to`.")
        return (allowed.openers[0].plan(),)
    _check_media(media, request, allowed.max_duration)
    choices = [tracks for tracks in _choices(media, request, allowed) if _is_already(tracks, request.to)]
    if not choices:
        raise UnsupportedConversion(f"This format cannot be converted to {request.to}.")
    if request.start is not None and len(choices[0]) > 1:
        raise InvalidParameter(UNCUT)
    planned = tuple(allowed.plan(tracks) for tracks in choices)
    # No fallback for a range request: the fallback does not support ranges, and the whole file would be useless to a
    # client that asks for a part.
    return planned if request.range not in (None, _WHOLE) else planned + allowed.fallbacks(choices[-1])


def _check_media(media: Media, request: StreamRequest, max_duration: float | None) -> None:
    if max_duration is not None and (media.duration or 0) > max_duration:
        raise TooLarge(f"The media is longer than the {max_duration:g} seconds that this server allows.")
    if request.start is not None and not any(track.protocol in HLS_PROTOCOLS for track in media.tracks):
        raise InvalidParameter(UNCUT)  # for HLS, only the playlist shows whether the media is live


def _choices(media: Media, request: StreamRequest, allowed: Capabilities) -> list[tuple[Track, ...]]:
    if request.format is None:
        return _default(media, allowed)
    return [_selected(media, (request.format,) if request.selection is None else request.selection, allowed)]


def _is_already(tracks: tuple[Track, ...], to: str) -> bool:
    """Return whether `tracks` already have the format `to`: a pair is merged to MP4, a single file has the format that
    its extension names."""
    if to == "source":
        return True
    return to == "mp4" if len(tracks) == 2 else tracks[0].ext == to and is_seekable(tracks[0])


def _default(media: Media, allowed: Capabilities) -> list[tuple[Track, ...]]:
    """Return the best tracks of `media` that can be streamed, preferably seekable, followed by the tracks to open if
    the best tracks cannot be opened.

    Separate video and audio are chosen if they can be merged and the video's height exceeds that of the best single
    file, or equals it while the single file is not seekable.

    Raises `DrmProtected` if all formats, all video or all audio are encrypted; `FormatNotFound` if nothing can be
    streamed, or `UnsupportedConversion` if the client asked for a redirect; `UnsupportedConversion` also if video and
    audio are separate and cannot be merged, or if all of the video or audio is refused, because the client asked for
    both."""
    tracks = [track for track in media.tracks if not _withheld(track)]
    _check_withheld(media, tracks)
    usable = [track for track in tracks if allowed.carries(track)]
    if not usable:
        raise allowed.refusal("None of the formats of this page can be streamed by the requested method.")
    if len(tracks) == 1:
        return [(tracks[0],)]
    both = [track for track in usable if track.has_video and track.has_audio and not track.is_audio_apart]
    videos = [track for track in usable if track.has_video and (not track.has_audio or track.is_audio_apart)]
    audios = [track for track in usable if track.has_audio and not track.has_video]
    pair = _best_pair(videos, audios, allowed)
    if not both and pair is None and videos and audios:
        by_method = "" if any(each.merges for each in allowed.openers) else " by this method"
        raise UnsupportedConversion(
            f"Video and audio of this page are separate and cannot be merged{by_method}: choose one of its formats, "
            f"for example format={videos[-1].id} or format={audios[-1].id}."
        )
    single = _best(both or videos or audios or usable)
    if pair is None:
        return [(single,)]
    if not both:
        return [pair]
    return [pair, (single,)] if _is_better(pair[0], single) else [(single,)]


def _withheld(track: Track) -> bool:
    return track.has_drm or track.refusal is not None


def _check_withheld(media: Media, tracks: Sequence[Track]) -> None:
    """Raise an error if `tracks`, the tracks of `media` that can be streamed, lack all formats, all video or all audio
    of `media`. The error states why these tracks cannot be streamed."""
    if not media.tracks:
        raise _no_media()
    for name, has in _PARTS:
        missing = [track for track in media.tracks if has(track)]
        if missing and not any(map(has, tracks)):
            if reason := next((track.refusal for track in reversed(missing) if not track.has_drm), None):
                raise UnsupportedConversion(reason)
            raise DrmProtected(f"All {name} of this page are encrypted with DRM.")


_PARTS: tuple[tuple[str, Callable[[Track], bool]], ...] = (
    ("formats", lambda _track: True),
    ("video formats", lambda track: track.has_video),
    ("audio formats", lambda track: track.has_audio),
)


def _selected(media: Media, selection: Sequence[str], allowed: Capabilities) -> tuple[Track, ...]:
    """Return the tracks whose ids are in `selection`. Raises `FormatNotFound` if a track does not exist, `DrmProtected`
    if a track is encrypted, and `UnsupportedConversion` if a track cannot be streamed or the tracks cannot be
    merged."""
    tracks = [by_id(media.tracks, each) for each in selection]
    found = [track for track in tracks if track is not None]
    if not found or len(found) != len(tracks):
        raise FormatNotFound("The page has no format that fits the selector.")
    if any(track.has_drm for track in found):
        raise DrmProtected("This format is encrypted with DRM.")
    if reason := next((track.refusal for track in found if track.refusal is not None), None):
        raise UnsupportedConversion(reason)
    if len(found) == 1:
        return (found[0],)
    if len(found) == 2:
        for video, audio in (found, found[::-1]):
            if video.has_video and audio.has_audio and allowed.merges(video) and allowed.merges(audio):
                return video, audio
    raise UnsupportedConversion("These formats cannot be merged: choose two MP4s, or a single format.")


def _best_pair(videos: Sequence[Track], audios: Sequence[Track], allowed: Capabilities) -> tuple[Track, Track] | None:
    """Return the last video and the last audio track that can be merged, which are the best. Returns None if no video
    or no audio track can be merged."""
    video = next(filter(allowed.merges, reversed(videos)), None)
    audio = next(filter(allowed.merges, reversed(audios)), None)
    return None if video is None or audio is None else (video, audio)


def _is_better(video: Track, single: Track) -> bool:
    if (video.height or 0) != (single.height or 0):
        return (video.height or 0) > (single.height or 0)
    return not is_seekable(single)


def _best(tracks: Sequence[Track]) -> Track:
    best = tracks[-1]
    as_high = [track for track in tracks if track.height == best.height and is_seekable(track)]
    return as_high[-1] if as_high else best


def _no_media() -> MediaNotFound:
    return MediaNotFound("The page has no media.")
