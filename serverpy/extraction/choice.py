"""Which tracks of a page are streamed: pure choice over the values of an extraction.

yt-dlp lists tracks worst first; "best" here is its order, with one preference of ours: among tracks as high as the
best, one that can be sought, be it two tracks that are woven into one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serverpy.errors import DrmProtected, FormatNotFound, ItemNotFound, MediaNotFound, UnsupportedConversion
from serverpy.extraction.values import Entry, Media, Track

Carried = Callable[[Track], bool]
"""Whether the methods that the request allows can stream a track."""
Weaves = Callable[[Track], bool]
"""Whether a picture or a sound can be woven with its like into one file that can be sought."""
Choice = tuple[Track] | tuple[Track, Track]
"""One track, or picture and sound."""

UNKNOWN = "unknown"
"""A codec that the extraction could not tell."""


def pick_entry(media: Media, item: int | None) -> Entry | None:
    """The entry that `item` (1-based) names; None if the page itself holds the tracks. Without `item`, the first.

    Raises `ItemNotFound` beyond the last entry, `MediaNotFound` for an empty playlist."""
    if not media.entries:
        if media.tracks and item in (None, 1):
            return None
        if not media.tracks:
            raise MediaNotFound("The page has no media.")
        raise ItemNotFound("The page has one item only.")
    if item is not None and not 1 <= item <= len(media.entries):
        raise ItemNotFound(f"The page has {len(media.entries)} items, there is no item {item}.")
    return media.entries[(item or 1) - 1]


def by_id(tracks: Sequence[Track], track_id: str) -> Track | None:
    return next((track for track in tracks if track.id == track_id), None)


def is_seekable(track: Track) -> bool:
    """One plain file over http(s), which nearly every server gives by ranges."""
    return track.protocol in ("http", "https") and not track.is_live and not track.fragments


def default_choices(media: Media, carried: Carried, weaves: Weaves) -> list[Choice]:
    """The best of `media` that can be streamed, and sought if possible; then what to give if that proves impossible.

    Picture and sound apart are chosen where they can be woven, and no single file is as good: higher than all of them,
    or as high as the best of them where that cannot be sought.

    Raises `DrmProtected`, `FormatNotFound` (nothing can be streamed) and `UnsupportedConversion` where picture and
    sound are apart and cannot be woven: neither alone is what was asked for."""
    tracks = [track for track in media.tracks if not track.has_drm]
    if not tracks:
        raise DrmProtected("All formats of this page are encrypted with DRM.") if media.tracks else _no_media()
    usable = [track for track in tracks if carried(track)]
    if not usable:
        raise FormatNotFound("None of the formats of this page can be streamed by the methods allowed.")
    mute = silent(tracks)
    both = [track for track in usable if track.has_video and track.has_audio and track.id not in mute]
    pictures = [track for track in usable if track.has_video and (not track.has_audio or track.id in mute)]
    sounds = [track for track in usable if track.has_audio and not track.has_video]
    pair = _best_pair(pictures, sounds, weaves)
    if not both and pair is None and pictures and sounds:
        raise UnsupportedConversion(
            "Picture and sound of this page are apart, and cannot be merged: choose one of its formats, "
            f"for example format={pictures[-1].id} or format={sounds[-1].id}."
        )
    single = _best(both or pictures or sounds or usable)
    if pair is None:
        return [(single,)]
    if not both:
        return [pair]
    return [pair, (single,)] if _is_better(pair[0], single) else [(single,)]


def selected(media: Media, selection: Sequence[str], weaves: Weaves) -> Choice:
    """What a selector chose. Raises `UnsupportedConversion` for a merge that cannot be woven."""
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
            if video.has_video and audio.has_audio and weaves(video) and weaves(audio):
                return video, audio
    raise UnsupportedConversion("These formats cannot be merged: choose two MP4s, or a single format.")


def silent(tracks: Sequence[Track]) -> set[str]:
    """The ids of HLS variants of whose sound nothing is said, beside renditions of sound alone in the same playlist:
    their own segments most likely have none (RFC 8216 §4.3.4.2 wants CODECS wherever a group is named)."""
    apart = {track.manifest_url for track in tracks if track.has_audio and not track.has_video} - {None}
    return {track.id for track in tracks if track.has_video and track.acodec == UNKNOWN and track.manifest_url in apart}


def _best_pair(pictures: Sequence[Track], sounds: Sequence[Track], weaves: Weaves) -> tuple[Track, Track] | None:
    """The last picture and the last sound that may be woven."""
    picture = next(filter(weaves, reversed(pictures)), None)
    sound = next(filter(weaves, reversed(sounds)), None)
    return None if picture is None or sound is None else (picture, sound)


def _is_better(picture: Track, single: Track) -> bool:
    if (picture.height or 0) != (single.height or 0):
        return (picture.height or 0) > (single.height or 0)
    return not is_seekable(single)


def _best(tracks: Sequence[Track]) -> Track:
    best = tracks[-1]
    as_high = [track for track in tracks if track.height == best.height and is_seekable(track)]
    return as_high[-1] if as_high else best


def _no_media() -> MediaNotFound:
    return MediaNotFound("The page has no media.")
