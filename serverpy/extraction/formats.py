"""Which track of a page is streamed: pure choice over the values of an extraction.

yt-dlp lists tracks worst first; "best" here is its order, with one preference of ours: among tracks as high as the
best, one that can be sought.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serverpy.errors import DrmProtected, FormatNotFound, ItemNotFound, MediaNotFound, UnsupportedConversion
from serverpy.extraction.info import Entry, Media, Track

Carried = Callable[[Track], bool]
"""Whether the methods that the request allows can stream a track."""


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


def default_track(media: Media, carried: Carried) -> Track:
    """The best single file of `media` that can be streamed.

    Raises `DrmProtected`, `FormatNotFound` (nothing can be streamed) and `UnsupportedConversion` where picture and
    sound are apart: neither alone is what was asked for."""
    tracks = [track for track in media.tracks if not track.has_drm]
    if not tracks:
        raise DrmProtected("All formats of this page are encrypted with DRM.") if media.tracks else _no_media()
    usable = [track for track in tracks if carried(track)]
    if not usable:
        raise FormatNotFound("None of the formats of this page can be streamed by the methods allowed.")
    both = [track for track in usable if track.has_video and track.has_audio]
    pictures = [track for track in usable if track.has_video and not track.has_audio]
    sounds = [track for track in usable if track.has_audio and not track.has_video]
    if not both and pictures and sounds:
        raise UnsupportedConversion(
            "Picture and sound of this page are apart, and merging is not available: choose one of its formats, "
            f"for example format={pictures[-1].id} or format={sounds[-1].id}."
        )
    return _best(both or pictures or sounds or usable)


def only_track(media: Media, selection: Sequence[str]) -> Track:
    """The track that a selector chose. Raises `UnsupportedConversion` for a merge of several."""
    if len(selection) > 1:
        raise UnsupportedConversion("Merging formats is not available: choose a single one.")
    track = by_id(media.tracks, selection[0]) if selection else None
    if track is None:
        raise FormatNotFound("The page has no format that fits the selector.")
    if track.has_drm:
        raise DrmProtected("This format is encrypted with DRM.")
    return track


def _best(tracks: Sequence[Track]) -> Track:
    best = tracks[-1]
    as_high = [track for track in tracks if track.height == best.height and is_seekable(track)]
    return as_high[-1] if as_high else best


def _no_media() -> MediaNotFound:
    return MediaNotFound("The page has no media.")
