"""The default choice: which tracks a request without `format` gets. The functions are pure.

`plan.py` lists the candidates, which are the single tracks and the pairs of tracks that this server can stream, and
`ranked` orders them by the wish of the client.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from serverpy.extraction.values import Track
from serverpy.languages import normalized

NONE_FITS = "No format of this page is known to be within `max_size`: choose a format, or a greater size."
CODECS = ("h264", "vp9", "av1", "hevc")
_FAMILIES = {
    "h264": ("avc1", "avc3", "h264", "avc"),
    "vp9": ("vp9", "vp09"),
    "av1": ("av01", "av1"),
    "hevc": ("hvc1", "hev1", "hevc", "h265", "dvh1", "dvhe"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The wish of a client for the default choice. `height` is the maximum height in pixels, measured on the shorter
    side of the video; None means no limit. `codec` is the video codec that is preferred among formats of equal height,
    or `any`. `language` is the language of the audio as a BCP 47 tag; None means the original language. `max_size` is
    the maximum size in bytes; None means no limit."""

    height: int | None = 1080
    codec: str = "h264"
    language: str | None = None
    max_size: int | None = None


DEFAULT = Wish()


@dataclass(frozen=True, slots=True)
class Candidate:
    """Tracks that this server can stream: one track, or video and audio that it can merge. `is_seekable` states whether
    the client can request ranges of the result. `order` is the position in yt-dlp's order, worst first."""

    tracks: tuple[Track, ...]
    is_seekable: bool
    order: float

    @property
    def video(self) -> Track:
        return self.tracks[0]

    @property
    def audio(self) -> Track:
        return self.tracks[-1]


def ranked(candidates: Sequence[Candidate], wish: Wish, duration: float | None) -> list[Candidate]:
    """Return the candidates that fit `wish`, best first. `duration` is the duration of the media in seconds. Candidates
    with audio in another language come after those in the wished language or, without a wish, after those in the
    original language. Candidates higher than `wish.height` come after lower ones, the lowest of them first. If `wish`
    has a `max_size`, candidates that exceed it or have an unknown size are left out."""
    fitting = [each for each in candidates if _fits_size(each, wish, duration)]
    best = _best_preference(each.audio for each in fitting)
    return sorted(fitting, key=lambda each: _key(each, wish, best), reverse=True)


def best_audio_first(audios: Sequence[Track], wish: Wish) -> list[Track]:
    """Return `audios`, which are in yt-dlp's order (worst first), best first: sorted by how well their language fits
    `wish`, then by whether they are the original audio, and then by yt-dlp's order."""
    best = _best_preference(audios)

    def key(each: tuple[int, Track]) -> tuple[Any, ...]:
        number, audio = each
        return _nearness(audio.language, wish.language), _originality(audio, best), number

    return [audio for _, audio in sorted(enumerate(audios), key=key, reverse=True)]


def _best_preference(audios: Iterable[Track]) -> int:
    return max((each.language_preference for each in audios if each.language_preference is not None), default=0)


def _originality(audio: Track, best: int) -> tuple[int, bool]:
    """Return a sort key that is greater the more likely `audio` is the original audio. `best` is the greatest
    `language_preference` of the page. Audio without a preference counts as the original audio, because the extractor
    does not describe it as a translation. yt-dlp's order does not suffice: it prefers a translation with more channels
    or a higher bit rate to the main audio of a playlist or manifest."""
    preference = best if audio.language_preference is None else audio.language_preference
    return preference, not audio.is_alternate


def _nearness(language: str | None, wanted: str | None) -> int:
    """Return how well the tag `language` fits the tag `wanted` (BCP 47): 3 if they mean the same, 2 if `language` is
    narrower (`en-GB` for `en`), 1 if only the region differs, otherwise 0."""
    if wanted is None:
        return 0
    tag, wish = normalized(language or ""), normalized(wanted)
    if tag == wish:
        return 3
    return 2 if tag.startswith(f"{wish}-") else 1 if tag.split("-")[0] == wish.split("-")[0] else 0


def resolution(track: Track) -> int:
    """Return the height of the video in pixels, measured on its shorter side, as yt-dlp's field `res` is. Returns 0 if
    the height is unknown."""
    sides = [side for side in (track.width, track.height) if side]
    return min(sides) if track.height and sides else 0


def codec_family(codec: str | None) -> str | None:
    """Return the name in CODECS for `codec`, which is an RFC 6381 string such as `avc1.64001f`, or yt-dlp's name of a
    codec. Returns None if the codec is not in CODECS."""
    prefix = (codec or "").lower().partition(".")[0]
    return next((name for name, prefixes in _FAMILIES.items() if prefix in prefixes), None)


def size_of(tracks: Sequence[Track], duration: float | None) -> int | None:
    """Return the total size of `tracks` in bytes, which the page states or the bitrates imply. Returns None if the size
    of a track is unknown."""
    sizes = [_size(each, duration) for each in tracks]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _size(track: Track, duration: float | None) -> int | None:
    if track.size is not None:
        return track.size
    return None if not track.bitrate or not duration else int(track.bitrate * 125 * duration)


def _fits_size(candidate: Candidate, wish: Wish, duration: float | None) -> bool:
    if wish.max_size is None:
        return True
    size = size_of(candidate.tracks, duration)
    return size is not None and size <= wish.max_size


def _key(candidate: Candidate, wish: Wish, best: int) -> tuple[Any, ...]:
    """Return a sort key that is greater for a better candidate. `best` is the greatest `language_preference`. At
    equal height, codec and seekability, a single track is better than a pair, because it costs the server less."""
    height = resolution(candidate.video)
    is_within = wish.height is None or height <= wish.height
    return (
        _nearness(candidate.audio.language, wish.language),
        _originality(candidate.audio, best),
        is_within,
        height if is_within else -height,
        candidate.is_seekable,
        wish.codec == "any" or codec_family(candidate.video.vcodec) == wish.codec,
        len(candidate.tracks) == 1,
        candidate.order,
    )
