"""Tests of the size limit for the result of an extraction."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from serverpy.errors import TooLarge
from serverpy.extraction.messages import MAX_MEDIA_BYTES
from serverpy.extraction.values import Entry, Fragment, Media, Track
from serverpy.ytdlp.page.extract import within_bounds

PIECES = tuple(Fragment(url=f"https://media.example/{number:06}.m4s" + "x" * 150) for number in range(15_000))
TRACK = Track(id="best", url="https://media.example/", protocol="http_dash_segments", ext="mp4", fragments=PIECES)
MEDIA = Media(raw_id="r", id="1", title="Film", kind="video", extractor="x", webpage_url="https://site.example/")


def test_if_an_extraction_is_too_large_the_fragments_of_the_worst_tracks_are_removed_first() -> None:
    media = replace(MEDIA, tracks=tuple(replace(TRACK, id=str(number)) for number in range(4)))
    bounded = within_bounds(media)
    assert [bool(track.fragments) for track in bounded.tracks] == [False, False, True, True]
    assert [track.fragments_dynamic for track in bounded.tracks] == [True, True, False, False]
    assert len(msgspec.json.encode(bounded)) <= MAX_MEDIA_BYTES
    assert within_bounds(bounded) is bounded


def test_an_extraction_that_is_too_large_even_without_fragments_is_refused() -> None:
    entry = Entry(title="x" * 1000, url="https://site.example/" + "x" * 10_000)
    with pytest.raises(TooLarge):
        within_bounds(replace(MEDIA, kind="playlist", entries=(entry,) * 1000))
