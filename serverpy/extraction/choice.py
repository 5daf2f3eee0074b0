"""Helpers to choose among the values of an extraction. Pure; the rules of choice are in `plan.py`."""

from __future__ import annotations

from collections.abc import Sequence

from serverpy.errors import ItemNotFound, MediaNotFound
from serverpy.extraction.values import Entry, Media, Track


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


def item_of(page: Media, item: int | None) -> Media:
    """Return the media that the extraction of `page` holds of `item`; `page` if it holds none or `item` is None. Raises
    what `pick_entry` raises."""
    entry = None if item is None else pick_entry(page, item)
    return page if entry is None or entry.media is None else entry.media


def by_id(tracks: Sequence[Track], track_id: str) -> Track | None:
    return next((track for track in tracks if track.id == track_id), None)


def is_seekable(track: Track) -> bool:
    """One plain file over http(s), which nearly every server gives by ranges."""
    return track.protocol in ("http", "https") and not track.is_live and not track.fragments
