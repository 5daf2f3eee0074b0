"""The rules that turn a request into plans, which are ways to open the media. They choose tracks, refuse requests, and
decide whether ranges are supported. The functions are pure.

    StreamRequest, Media, Capabilities ─▶ plans() ─▶ Plan, Plan, …   best first

`delivery.py` tries the plans in order until one opens; `fallback.py` decides which errors lead from one plan to the
next. Each opener (`body.py::Opener`) states what it can do as a `Capability` value, so tests check every rule by a
table, without a server. `default_choice.py` orders the tracks that a request without `format` may get.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

from serverpy.containers import MP4, TARGETS, UNAVAILABLE, Container
from serverpy.default_choice import DEFAULT, NONE_FITS, Candidate, Wish, best_audio_first, ranked, size_of
from serverpy.errors import (
    DrmProtected,
    FormatNotFound,
    InvalidParameter,
    KeyForbids,
    MediaNotFound,
    ServerPYError,
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
_NO_SUCH_FORMAT = "The page has no format that fits the selector: `/info` lists its formats."
_WHOLE = ByteRange(0, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """A client's request for `/stream`, with the names of its parameters. None as `method` means the server's default
    method. `start` and `end` are in seconds. `height` (in pixels), `codec`, `lang` and `max_size` (in bytes) limit the
    default choice, and have no effect on a request with `format`. `selections` holds the format ids that a yt-dlp
    selector in `format` chose, followed by those of its next choices; it is None until the worker has applied the
    selector, or if `format` is a format id."""

    url: str
    format: str | None = None
    to: str = "source"
    method: str | None = None
    item: int | None = None
    start: float | None = None
    end: float | None = None
    range: ByteRange | None = None
    if_range: str | None = None
    selections: tuple[tuple[str, ...], ...] | None = None
    height: int | Literal["max"] | None = None
    codec: str | None = None
    lang: str | None = None
    max_size: int | None = None
    head_only: bool = False
    """Whether the client requests only the head of the response (the method HEAD); the caller then must not read the
    stream."""


class After(Enum):
    """The condition under which `fallback.py` tries a plan after the preceding plan."""

    UNOPENABLE = "the preceding plan cannot open its tracks"
    UNMERGEABLE = "the tracks of the preceding plan are in containers that cannot be merged"
    TRANSPORT = "the HTTP client of the preceding plan failed"
    DETOUR = "the preceding plan was a detour (`fallback.py`), and failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to open the media of a request. `opener` is the name of the opener that opens `tracks`. The open stream
    may hold at most `nbytes` bytes. `method` is the name of the method that the client sees.

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
    """The capability of one opener. `method` is the value of the parameter `method` that allows the opener, and
    `automatic` states whether the value `auto` also allows it.

    `carries` returns whether the opener can open a track. If `merges` is true, the opener merges a pair of tracks:
    `carries` then returns whether a track can be part of a pair, and the opener can merge two such tracks if `family`
    returns the same for both. `stream_bytes` is the maximum number of bytes that a stream of one file holds. The server
    reserves this number before it knows the media; `bytes_for` returns the number for known tracks.

    If `extracts` is true, the opener gets no tracks, because it extracts the page itself. `seeks` states whether the
    opener supports ranges, `starts_live` whether it can begin at a given position in a live stream, and `redirects`
    whether it only redirects the client to the media server."""

    opener: str
    method: str
    stream_bytes: int
    carries: Callable[[Track], bool]
    bytes_for: Callable[[tuple[Track, ...]], int]
    automatic: bool = True
    merges: bool = False
    family: Callable[[Track], Hashable] = lambda _track: None
    extracts: bool = False
    seeks: bool = False
    starts_live: bool = False
    redirects: bool = False

    def joins(self, video: Track, audio: Track) -> bool:
        """Return whether this opener merges `video` and `audio`."""
        return self.carries(video) and self.carries(audio) and self.family(video) == self.family(audio)

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
    wish: Wish = DEFAULT
    """The limits on the default choice for a request that states none."""

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
        """Return these capabilities with only the openers of `methods`, or with all openers if `methods` is empty.
        Raises `KeyForbids` if no opener is left."""
        if not methods:
            return self
        openers = tuple(each for each in self.openers if each.method in methods)
        if not openers:
            raise KeyForbids(f"This API key may only use these methods: {', '.join(sorted(methods))}.")
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

    def merges(self, video: Track, audio: Track) -> bool:
        """Return whether an opener can merge `video` and `audio`."""
        return self._merger(video, audio) is not None

    def seeks_in(self, video: Track, audio: Track) -> bool:
        """Return whether clients can request ranges of the merged `video` and `audio`."""
        merger = self._merger(video, audio)
        return merger is not None and merger.seeks

    def wish_of(self, request: StreamRequest) -> Wish:
        """Return the limits of `request` for the default choice. The settings of the server replace parameters that are
        absent."""
        height = self.wish.height if request.height is None else None if request.height == "max" else request.height
        codec = request.codec or self.wish.codec
        return Wish(height=height, codec=codec, language=request.lang, max_size=request.max_size)

    def plan(self, tracks: tuple[Track, ...]) -> Plan:
        """Return the plan with which the first suitable opener opens `tracks`. Raises `FormatNotFound` if no opener can
        open them, `UnsupportedConversion` if the server cannot redirect the client to them."""
        capability = self._single(tracks[0]) if len(tracks) == 1 else self._merger(*tracks)
        if capability is None:
            ids = "+".join(track.id for track in tracks)
            raise self.refusal(f"The requested method cannot stream the format {ids}: choose another method or format.")
        return capability.plan(tracks)

    def refusal(self, message: str) -> FormatNotFound | UnsupportedConversion:
        """Return the error for tracks that no opener can open. Its text is `message` or, if the request asks for a
        redirect, NO_REDIRECT."""
        return UnsupportedConversion(NO_REDIRECT) if self.openers[0].redirects else FormatNotFound(message)

    def fallbacks(self, tracks: tuple[Track, ...]) -> tuple[Plan, ...]:
        """Return the plan with which the second opener that can open the single track opens it. Returns () if no second
        opener can open it, or if `tracks` are a pair."""
        able = [each for each in self.openers if not each.merges and each.carries(tracks[0])]
        return tuple(replace(each.plan(tracks), after=After.TRANSPORT) for each in able[1:2] if len(tracks) == 1)

    def kinds_of(self, tracks: Sequence[Track]) -> list[int]:
        """Return a number for each of `tracks`. Two tracks have the same number if the same openers open them, alone
        and merged with any other track."""
        numbers: dict[Hashable, int] = {}
        return [numbers.setdefault(self._kind(track), len(numbers)) for track in tracks]

    def _kind(self, track: Track) -> Hashable:
        return tuple(each.carries(track) and (each.opener, each.family(track)) for each in self.openers)

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

    def _merger(self, video: Track, audio: Track) -> Capability | None:
        mergers = (each for each in self.openers if each.merges)
        return next((each for each in mergers if each.joins(video, audio)), None)


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
    return request.format is not None and request.selections is None and by_id(media.tracks, request.format) is None


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
        raise UnsupportedConversion(f"This format cannot be converted to {request.to}: leave out `to`.")
    if request.start is not None and len(choices[0]) > 1:
        raise InvalidParameter(UNCUT)
    planned = tuple(_plan(tracks, choices[0], allowed) for tracks in choices)
    # A range request has no fallback plan, because the fallback does not support ranges, and the whole file would be
    # useless to a client that asks for a part.
    is_part = request.range not in (None, _WHOLE) or planned[-1].after is After.UNMERGEABLE
    return planned if is_part else planned + allowed.fallbacks(choices[-1])


def _plan(tracks: tuple[Track, ...], best: tuple[Track, ...], allowed: Capabilities) -> Plan:
    """Return the plan to open `tracks`, which are `best` or an alternative to `best`. If they are only the audio of the
    pair `best`, the plan is for the case that the pair cannot be merged."""
    plan = allowed.plan(tracks)
    return replace(plan, after=After.UNMERGEABLE) if tracks == best[1:] else plan


def _check_media(media: Media, request: StreamRequest, max_duration: float | None) -> None:
    if max_duration is not None and (media.duration or 0) > max_duration:
        raise TooLarge(f"The media is longer than the {max_duration:g} seconds that this server allows.")
    if request.start is not None and not any(track.protocol in HLS_PROTOCOLS for track in media.tracks):
        # HLS tracks are not refused here, because only the playlist shows whether the media is live
        raise InvalidParameter(UNCUT)


def _choices(media: Media, request: StreamRequest, allowed: Capabilities) -> list[tuple[Track, ...]]:
    if request.format is None:
        return _default(media, request, allowed)
    return _selected(media, ((request.format,),) if request.selections is None else request.selections, allowed)


def _is_already(tracks: tuple[Track, ...], to: str) -> bool:
    """Return whether `tracks` already have the format `to`: a pair is merged to MP4, a single file has the format that
    its extension names."""
    if to == "source":
        return True
    return to == "mp4" if len(tracks) == 2 else tracks[0].ext == to and is_seekable(tracks[0])


def _default(media: Media, request: StreamRequest, allowed: Capabilities) -> list[tuple[Track, ...]]:
    """Return the best tracks of `media` that can be streamed and fit `request`, followed by the tracks to open if the
    best tracks cannot be opened. If `media` has audio, the returned tracks also have audio.

    Raises `DrmProtected` if all formats, all video or all audio are encrypted; `UnsupportedConversion` if all video or
    all audio is refused, or if the client asked for a redirect but can fetch no format by itself; `FormatNotFound` if
    nothing can be streamed; `TooLarge` if no format is known to be within `max_size`."""
    tracks = [track for track in media.tracks if not _withheld(track)]
    _check_withheld(media, tracks)
    usable = [track for track in tracks if allowed.carries(track)]
    if not usable:
        raise allowed.refusal("None of the formats of this page can be streamed by the requested method.")
    wish = allowed.wish_of(request)
    candidates = _candidates(media, usable, wish, allowed)
    if not candidates:  # the method is `redirect`, which must not lead the client to only video or only audio
        raise UnsupportedConversion(NO_REDIRECT)
    found = ranked(candidates, wish, media.duration)
    if not found:
        raise TooLarge(NONE_FITS)
    best = found[0].tracks
    return [best] if len(best) == 1 else _with_others(best, found, allowed)


def _with_others(best: tuple[Track, ...], found: Sequence[Candidate], allowed: Capabilities) -> list[tuple[Track, ...]]:
    """Return the pair `best`, followed by the best candidate in `found` for each other opener, because only the first
    bytes show whether two tracks can be merged. If all of these are pairs, and `best` is a pair in segments, the audio
    of `best` comes last: the segments may be MPEG-TS, which cannot be merged."""
    firsts = {allowed.plan(best).opener: best}
    for each in found:
        firsts.setdefault(allowed.plan(each.tracks).opener, each.tracks)
    choices = list(firsts.values())
    if allowed.seeks_in(*best) or any(len(each) == 1 for each in choices):
        return choices
    return [*choices, best[1:]]


def _candidates(media: Media, usable: Sequence[Track], wish: Wish, allowed: Capabilities) -> list[Candidate]:
    """Return the candidates for the default choice. Video without audio is a candidate only if the page has no audio.
    Audio without video is a candidate only if the page has no video, or if none of the audio can be streamed together
    with video."""
    order = {track.id: number for number, track in enumerate(media.tracks)}
    both = [track for track in usable if track.has_video and track.has_audio and not track.is_audio_apart]
    videos = [track for track in usable if track.has_video and (not track.has_audio or track.is_audio_apart)]
    audios = [track for track in usable if track.has_audio and not track.has_video]
    pairs = list(_pairs(videos, _AudioChoice(audios, wish, media.duration, allowed), allowed))
    if not both and not pairs:
        if videos and audios and allowed.openers[0].redirects:
            return []
        both = audios or videos or list(usable)
    return [Candidate((track,), is_seekable(track), order[track.id]) for track in both] + [
        Candidate(pair, allowed.seeks_in(*pair), order[pair[0].id]) for pair in pairs
    ]


class _AudioChoice:
    """The choice of the audio for a video. The time that it takes grows with the number of audio tracks, but not with
    the number of pairs, of which a page may have a million."""

    def __init__(self, audios: Sequence[Track], wish: Wish, duration: float | None, allowed: Capabilities) -> None:
        self._audios = best_audio_first(audios, wish)
        self._wish = wish
        self._duration = duration
        self._allowed = allowed
        self._places: dict[int, list[int]] = {}
        """By kind, the indices in `_audios` of the tracks that can be the best within a limit on the size: each track
        is smaller than all better tracks of its kind. If the size is not limited, only the index of the best track."""
        self._negative_sizes: dict[int, list[int]] = {}
        """The sizes, in bytes, of these tracks, negated because `bisect` needs ascending numbers."""
        for place, kind in enumerate(allowed.kinds_of(self._audios)):
            self._add(place, kind)

    def _add(self, place: int, kind: int) -> None:
        if self._wish.max_size is None:
            self._places.setdefault(kind, [place])
            return
        size = size_of((self._audios[place],), self._duration)
        sizes = self._negative_sizes.setdefault(kind, [])
        if size is not None and (not sizes or -size > sizes[-1]):
            self._places.setdefault(kind, []).append(place)
            sizes.append(-size)

    def kinds_for(self, video: Track) -> list[int]:
        """Return the kinds of audio that can be merged with `video`."""
        return [kind for kind, (place, *_) in self._places.items() if self._allowed.merges(video, self._audios[place])]

    def best_for(self, video: Track, kinds: Sequence[int]) -> Iterator[Track]:
        """Yield the best audio of `kinds` for `video`. If the size is limited, yield for each kind the best audio with
        which the pair has a known size within the limit, best first: different openers may merge the kinds."""
        if self._wish.max_size is None:
            places = [min(self._places[kind][0] for kind in kinds)] if kinds else []
        else:
            places = sorted(self._fitting(size_of((video,), self._duration), self._wish.max_size, kinds))
        yield from (self._audios[place] for place in places)

    def _fitting(self, size: int | None, max_size: int, kinds: Sequence[int]) -> Iterator[int]:
        if size is None:
            return
        for kind in kinds:
            found = bisect_left(self._negative_sizes[kind], size - max_size)
            yield from self._places[kind][found : found + 1]


def _pairs(videos: Sequence[Track], choice: _AudioChoice, allowed: Capabilities) -> Iterator[tuple[Track, Track]]:
    """Yield each of `videos` with the audio that `choice` finds for it."""
    kinds: dict[int, list[int]] = {}
    for video, number in zip(videos, allowed.kinds_of(videos), strict=True):
        if number not in kinds:
            kinds[number] = choice.kinds_for(video)
        yield from ((video, audio) for audio in choice.best_for(video, kinds[number]))


def _withheld(track: Track) -> bool:
    return track.has_drm or track.refusal is not None


def _check_withheld(media: Media, tracks: Sequence[Track]) -> None:
    """Check that `tracks`, the tracks of `media` that can be streamed, include video if `media` has video, and audio if
    `media` has audio. Raises `MediaNotFound` if `media` has no tracks. Raises `UnsupportedConversion` or `DrmProtected`
    if all formats, all video or all audio cannot be streamed; the error states why."""
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


def streamable(media: Media) -> Media:
    """Return `media` with only the tracks that can be streamed, among which yt-dlp applies a format selector. If no
    track can be streamed, returns `media` unchanged, so that the error for the selected track can state the reason."""
    tracks = tuple(track for track in media.tracks if not _withheld(track))
    return replace(media, tracks=tracks) if tracks and tracks != media.tracks else media


def _selected(media: Media, selections: Sequence[Sequence[str]], allowed: Capabilities) -> list[tuple[Track, ...]]:
    """Return the tracks of the best of `selections` that can be streamed, followed by the alternatives if these tracks
    cannot be opened: for each other opener, the tracks of the best selection that it can open. Selections after the
    first single track are ignored. If no selection can be streamed, raises the error of the first selection."""
    failure: ServerPYError = FormatNotFound(_NO_SUCH_FORMAT)
    firsts: dict[str, tuple[Track, ...]] = {}
    for number, selection in enumerate(selections):
        try:
            tracks = _chosen(media, selection, allowed)
            firsts.setdefault(allowed.plan(tracks).opener, tracks)
        except (FormatNotFound, UnsupportedConversion, DrmProtected) as error:
            failure = failure if number else error
            continue
        if len(tracks) == 1:
            break
    if not firsts:
        raise failure
    return list(firsts.values())


def _chosen(media: Media, selection: Sequence[str], allowed: Capabilities) -> tuple[Track, ...]:
    """Return the tracks whose ids are in `selection`. Raises `FormatNotFound` if a track does not exist, `DrmProtected`
    if a track is encrypted, and `UnsupportedConversion` if a track cannot be streamed or the tracks cannot be
    merged."""
    tracks = [by_id(media.tracks, each) for each in selection]
    found = [track for track in tracks if track is not None]
    if not found or len(found) != len(tracks):
        raise FormatNotFound(_NO_SUCH_FORMAT)
    if any(track.has_drm for track in found):
        raise DrmProtected("This format is encrypted with DRM: choose another format.")
    if reason := next((track.refusal for track in found if track.refusal is not None), None):
        raise UnsupportedConversion(reason)
    if len(found) == 1:
        return (found[0],)
    if len(found) == 2:
        for video, audio in (found, found[::-1]):
            if video.has_video and audio.has_audio and allowed.merges(video, audio):
                return video, audio
    raise UnsupportedConversion(
        "These formats cannot be merged: choose two MP4s that are both files or both segments, or a single format."
    )


def _no_media() -> MediaNotFound:
    return MediaNotFound("The page has no media: send the URL of a page with video or audio.")
