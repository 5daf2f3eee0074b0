"""The rules that turn a request into plans: what is chosen, refused and promised. Pure.

    StreamRequest, Media, Capabilities ─▶ plans() ─▶ Plan, Plan, …   best first

`delivery.py` opens the first plan that opens. Openers (`body.py::Opener`) state what they can do as a `Capability`, so
every rule is tested as a table, without a server. yt-dlp lists tracks worst first; "best" is its order, with one
preference of ours: among tracks of the greatest height, one that is seekable, be it video and audio merged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from serverpy.containers import MP4, TARGETS, UNAVAILABLE, Container
from serverpy.errors import (
    DrmProtected,
    FormatNotFound,
    InvalidParameter,
    MediaNotFound,
    TooLarge,
    UnsupportedConversion,
)
from serverpy.extraction.choice import by_id, is_seekable
from serverpy.extraction.values import HLS_PROTOCOLS, Media, Track
from serverpy.ranges import ByteRange

UNCUT = (
    "`start` and `end` cannot cut a stream whose bytes are the source's; of a live stream, `start` says where to begin."
)
UNKNOWN_CODEC = "unknown"
"""A codec that the extraction could not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What a client asks of `/stream`, by CONTRACT's names. `method` None is the server's default.

    `selection` holds the format ids that a yt-dlp selector in `format` chose; None while the worker has not been
    asked, or if `format` is a format id itself."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to answer. `opener` opens `tracks`, and may hold `nbytes`; `method` is what the client is told.

    `container` is what the bytes will be, None if only the first bytes tell. `exact_length` and `ranges` are promised:
    by our own layout without condition, of a plain file as far as its server honours ranges."""

    opener: str
    method: str
    nbytes: int
    tracks: tuple[Track, ...] = ()
    container: Container | None = None
    exact_length: bool = False
    ranges: bool = False

    def without_lists(self) -> Plan:
        """Drop the segment lists of the tracks, which can take more memory than the whole stream."""
        if not any(each.fragments or each.manifest_data for each in self.tracks):
            return self
        return replace(self, tracks=tuple(replace(each, fragments=(), manifest_data=None) for each in self.tracks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """What one opener can do. `method` is the request's value that allows it, `automatic` whether `auto` does.

    `carries` tells whether the opener can open a track; with `merges`, whether a track may be one of a pair that it
    merges. `stream_bytes` is the most that a stream of one file holds, reserved before the media is known; `bytes_for`
    gives the same for known tracks. An opener that `extracts` gets no tracks: it reads the page for itself.
    `seeks` tells whether it honours ranges, `starts_live` whether it can begin at a given place of a live stream."""

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

    def plan(self, tracks: tuple[Track, ...] = ()) -> Plan:
        """Plan to open `tracks`, each of which this opener carries."""
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
    """What a server can do: its openers in the order of preference, and the settings that limit them."""

    openers: tuple[Capability, ...]
    default_method: str = "auto"
    max_duration: float | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, without duplicates."""
        return tuple(dict.fromkeys(each.method for each in self.openers))

    def allowed_for(self, request: StreamRequest) -> Capabilities:
        """Keep the openers that the method of `request` allows. Raises `InvalidParameter` for an unknown method, and
        for a `start` with a method that cannot begin in a live stream."""
        name = request.method or self.default_method
        if name != "auto" and name not in self.methods:
            raise InvalidParameter(f"There is no method of that name; there are auto, {', '.join(self.methods)}.")
        openers = tuple(each for each in self.openers if (each.automatic if name == "auto" else each.method == name))
        if request.start is not None:
            openers = tuple(each for each in openers if each.starts_live or each.merges)
            if not any(each.starts_live for each in openers):
                raise InvalidParameter(UNCUT)
        return replace(self, openers=openers)

    @property
    def extracts(self) -> bool:
        """Whether the page is the opener's to read."""
        return self.openers[0].extracts

    @property
    def admission_bytes(self) -> int:
        """Bytes to reserve for a stream before its media is known."""
        return self.openers[0].stream_bytes

    def carries(self, track: Track) -> bool:
        return self._single(track) is not None

    def merges(self, track: Track) -> bool:
        """Whether `track` may be one of a pair of video and audio that is merged."""
        return self._merger(track) is not None

    def plan(self, tracks: tuple[Track, ...]) -> Plan:
        """Plan to open `tracks`. Raises `FormatNotFound` if no opener can."""
        capability = self._single(tracks[0]) if len(tracks) == 1 else self._merger(tracks[0])
        if capability is None:
            ids = "+".join(track.id for track in tracks)
            raise FormatNotFound(f"The format {ids} cannot be streamed by the method asked for.")
        return capability.plan(tracks)

    def methods_of(self, track: Track) -> list[str]:
        """Methods that can stream `track` alone."""
        if track.has_drm:
            return []
        return [each.method for each in self.openers if not each.merges and each.carries(track)]

    def conversions_of(self, track: Track) -> list[str]:
        """Values of `to` that `track` alone can be had as: what it is already."""
        if not self.methods_of(track):
            return []
        return [name for name in TARGETS if name not in UNAVAILABLE and _is_already((track,), name)]

    def _single(self, track: Track) -> Capability | None:
        return next((each for each in self.openers if not each.merges and each.carries(track)), None)

    def _merger(self, track: Track) -> Capability | None:
        return next((each for each in self.openers if each.merges and each.carries(track)), None)


def check(request: StreamRequest) -> None:
    """Refuse what no media can make good. Raises `UnsupportedConversion` and `InvalidParameter`."""
    if request.to not in TARGETS or request.to in UNAVAILABLE:
        raise UnsupportedConversion(f"Turning media into {request.to} is not available: leave out `to`.")
    if request.end is not None:
        raise InvalidParameter(UNCUT)
    if request.start is not None and not math.isfinite(request.start):
        raise InvalidParameter("`start` is a number of seconds.")
    if request.item is not None and request.item < 1:
        raise InvalidParameter("`item` counts from 1.")


def needs_selection(media: Media, request: StreamRequest, capabilities: Capabilities) -> bool:
    """Whether `format` is a selector that yt-dlp has to evaluate, not the id of a track of `media`. Raises `TooLarge`
    and `InvalidParameter` if no selection could help."""
    _check_media(media, request, capabilities.max_duration)
    return request.format is not None and request.selection is None and by_id(media.tracks, request.format) is None


def plans(media: Media | None, request: StreamRequest, allowed: Capabilities) -> tuple[Plan, ...]:
    """Plan the answers to `request`, best first; each is for when those before it do not open. `media` is the page or
    item that holds the tracks; None if the opener extracts for itself. `allowed` is what `allowed_for(request)` keeps.

    Raises `UnsupportedConversion` for a `to` that the media is not, and for video and audio that cannot be merged;
    `TooLarge` beyond MAX_DURATION; `InvalidParameter` for a `start` in what is not live; `DrmProtected`,
    `FormatNotFound`, `MediaNotFound`."""
    if media is None or allowed.extracts:
        if request.to != "source":
            raise UnsupportedConversion("A child process gives the source's bytes only: leave out `to`.")
        return (allowed.openers[0].plan(),)
    _check_media(media, request, allowed.max_duration)
    choices = [tracks for tracks in _choices(media, request, allowed) if _is_already(tracks, request.to)]
    if not choices:
        raise UnsupportedConversion(f"This format cannot be turned into {request.to}.")
    if request.start is not None and len(choices[0]) > 1:
        raise InvalidParameter(UNCUT)
    return tuple(allowed.plan(tracks) for tracks in choices)


def _check_media(media: Media, request: StreamRequest, max_duration: float | None) -> None:
    if max_duration is not None and (media.duration or 0) > max_duration:
        raise TooLarge(f"The media is longer than the {max_duration:g} seconds that this server allows.")
    if request.start is not None and not any(track.protocol in HLS_PROTOCOLS for track in media.tracks):
        raise InvalidParameter(UNCUT)  # of HLS, only the playlist tells whether it is live


def _choices(media: Media, request: StreamRequest, allowed: Capabilities) -> list[tuple[Track, ...]]:
    if request.format is None:
        return _default(media, allowed)
    return [_selected(media, (request.format,) if request.selection is None else request.selection, allowed)]


def _is_already(tracks: tuple[Track, ...], to: str) -> bool:
    """Whether the bytes of `tracks` are what `to` asks for: a pair is merged to MP4, a plain file is its `ext`."""
    if to == "source":
        return True
    return to == "mp4" if len(tracks) == 2 else tracks[0].ext == to and is_seekable(tracks[0])


def _default(media: Media, allowed: Capabilities) -> list[tuple[Track, ...]]:
    """Choose the best of `media` that can be streamed, seekable if possible; then what to give if that does not open.

    Video and audio apart are chosen if they can be merged and no single file is as good: a greater height than all of
    them, or the same as the best of them if that is not seekable.

    Raises `DrmProtected`, `FormatNotFound` if nothing can be streamed, and `UnsupportedConversion` if video and audio
    are apart and cannot be merged: neither alone is what the client asked for."""
    tracks = [track for track in media.tracks if not track.has_drm]
    if not tracks:
        raise DrmProtected("All formats of this page are encrypted with DRM.") if media.tracks else _no_media()
    usable = [track for track in tracks if allowed.carries(track)]
    if not usable:
        raise FormatNotFound("None of the formats of this page can be streamed by the methods allowed.")
    mute = _silent(tracks)
    both = [track for track in usable if track.has_video and track.has_audio and track.id not in mute]
    videos = [track for track in usable if track.has_video and (not track.has_audio or track.id in mute)]
    audios = [track for track in usable if track.has_audio and not track.has_video]
    pair = _best_pair(videos, audios, allowed)
    if not both and pair is None and videos and audios:
        raise UnsupportedConversion(
            "Video and audio of this page are apart, and cannot be merged: choose one of its formats, "
            f"for example format={videos[-1].id} or format={audios[-1].id}."
        )
    single = _best(both or videos or audios or usable)
    if pair is None:
        return [(single,)]
    if not both:
        return [pair]
    return [pair, (single,)] if _is_better(pair[0], single) else [(single,)]


def _selected(media: Media, selection: Sequence[str], allowed: Capabilities) -> tuple[Track, ...]:
    """Find the tracks that a selector chose. Raises `FormatNotFound`, `DrmProtected`, and `UnsupportedConversion` for
    tracks that cannot be merged."""
    tracks = [by_id(media.tracks, each) for each in selection]
    found = [track for track in tracks if track is not None]
    if not found or len(found) != len(tracks):
        raise FormatNotFound("The page has no format that fits the selector.")
    if any(track.has_drm for track in found):
        raise DrmProtected("This format is encrypted with DRM.")
    if len(found) == 1:
        return (found[0],)
    if len(found) == 2:
        for video, audio in (found, found[::-1]):
            if video.has_video and audio.has_audio and allowed.merges(video) and allowed.merges(audio):
                return video, audio
    raise UnsupportedConversion("These formats cannot be merged: choose two MP4s, or a single format.")


def _silent(tracks: Iterable[Track]) -> set[str]:
    """Find the ids of HLS variants whose codecs are unknown, beside audio renditions in the same playlist: their own
    segments most likely carry no audio (RFC 8216 §4.3.4.2 wants CODECS wherever a group is named)."""
    tracks = list(tracks)
    apart = {track.manifest_url for track in tracks if track.has_audio and not track.has_video} - {None}
    return {
        track.id
        for track in tracks
        if track.has_video and track.acodec == UNKNOWN_CODEC and track.manifest_url in apart
    }


def _best_pair(videos: Sequence[Track], audios: Sequence[Track], allowed: Capabilities) -> tuple[Track, Track] | None:
    """The last video and the last audio that may be merged."""
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
