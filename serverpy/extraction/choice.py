"""Pure functions that choose entries and tracks from an extraction. `plan.py` decides which function to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from serverpy.errors import ItemNotFound, MediaNotFound
from serverpy.extraction.values import DASH_PROTOCOL, Entry, Fragment, Media, Track

MAX_DURATION_SECONDS = 366 * 86400.0
"""Maximum duration, in seconds, that is accepted as plausible: a page or a playlist may state any number."""


def pick_entry(media: Media, item: int | None) -> Entry | None:
    """Return the entry number `item` (1-based), or the first entry if `item` is None. Returns None if the page itself
    has the tracks. A video of several parts has the tracks of the first part, and all parts as entries.

    Raises `ItemNotFound` if the page has no such entry, `MediaNotFound` if the page has neither entries nor tracks."""
    if media.tracks and (item is None or (item == 1 and not media.entries)):
        return None
    if not media.entries:
        if not media.tracks:
            raise MediaNotFound("The page has no media: send the URL of a page with video or audio.")
        raise ItemNotFound("The page has only one item: leave out `item`.")
    if item is not None and not 1 <= item <= len(media.entries):
        raise ItemNotFound(f"The page has {len(media.entries)} items: there is no item {item}.")
    return media.entries[(item or 1) - 1]


def playable_first(media: Media) -> list[tuple[int, Entry]]:
    """Return the entries of a page with their 1-based numbers, in the order in which they are tried if the request
    names no item. This is the order of the page, but with image posts last, unless the page itself is an image post."""
    numbered = list(enumerate(media.entries, 1))
    if media.kind != "images":
        numbered.sort(key=lambda each: each[1].media is not None and each[1].media.kind == "images")
    return numbered


def item_of(page: Media, item: int | None) -> Media:
    """Return the media of `item` if the extraction of `page` contains it; otherwise, or if `item` is None, return
    `page`. Raises the errors of `pick_entry` if `item` is invalid."""
    entry = None if item is None else pick_entry(page, item)
    return page if entry is None or entry.media is None else entry.media


def by_id(tracks: Sequence[Track], track_id: str) -> Track | None:
    return next((track for track in tracks if track.id == track_id), None)


def is_seekable(track: Track) -> bool:
    """Return whether the track is one file over http(s) and not a live stream or a list of fragments. Nearly every
    media server answers range requests for such a file."""
    return track.protocol in ("http", "https") and not track.is_live and not track.fragments


def as_one_segment(track: Track) -> Track:
    """Return `track`, one file, as a DASH track whose only fragment is that file."""
    return replace(track, protocol=DASH_PROTOCOL, fragments=(Fragment(url=track.url),))


def in_the_form_of(old: Track, new: Track) -> Track:
    """Return `new`, the track of a new extraction that replaces `old`. If `old` is the result of `as_one_segment`,
    return the same form of `new`."""
    is_one_segment = old.protocol == DASH_PROTOCOL and is_seekable(new)
    return as_one_segment(new) if is_one_segment else new


def duration_of(media: Media, track: Track) -> float | None:
    """Return the duration of `track` in seconds. Returns None if the page does not state it, or if the track is live,
    is an image, or has only a part of the media."""
    is_whole = track.discontinuity is None and not track.is_image
    return believed_duration(media.duration) if is_whole and not track.is_live and media.kind != "live" else None


def believed_duration(*stated: float | None) -> float | None:
    """Return the first of the `stated` durations, in seconds, that is positive and at most MAX_DURATION_SECONDS.
    Returns None if no duration is."""
    return next((each for each in stated if each is not None and 0 < each <= MAX_DURATION_SECONDS), None)
