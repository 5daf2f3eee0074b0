"""Tests of the renewal of a track's URLs: the tracks of a page that notice the expiry of their URLs one after the other
share one extraction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serverpy.body import Source
from serverpy.errors import ExtractionFailed
from serverpy.extraction.extractor import RECENT_SECONDS, Extractor
from serverpy.extraction.values import Media, Track
from serverpy.net.client import Client
from serverpy.net.guard import Guard
from serverpy.streaming.track_source import TrackSource

PAGE = "https://page.example/watch"


class Pages:
    """A fake for the pool of workers. The URLs of the tracks contain the number of the extraction."""

    def __init__(self) -> None:
        self.visits = 0
        self.lacks_audio = False
        self.is_constant = False

    async def extract(self, url: str, client: str = "") -> Media:
        self.visits += 1
        ids = ("v",) if self.lacks_audio else ("v", "a")
        query = 0 if self.is_constant else self.visits
        tracks = tuple(Track(id=each, url=f"{PAGE}/{each}?{query}", protocol="https", ext="mp4") for each in ids)
        media = Media(raw_id=str(self.visits), id="1", title="", kind="video", extractor="", webpage_url=PAGE)
        return replace(media, tracks=tracks)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def opened(pages: Pages, clock: Clock | None = None) -> tuple[TrackSource, TrackSource]:
    """Return the video and the audio track of one extraction."""
    extractor = Extractor(pages, ttl=10_000, clock=clock or Clock())
    media = await extractor.extract(PAGE)
    client = Client(Guard())
    video, audio = (
        TrackSource(client, extractor, Source(url=PAGE, media=media), media, track) for track in media.tracks
    )
    return video, audio


async def test_tracks_that_are_renewed_one_after_the_other_share_an_extraction() -> None:
    pages = Pages()
    video, audio = await opened(pages)
    assert await video.renew()
    assert await audio.renew()
    assert (video.track.url, audio.track.url) == (f"{PAGE}/v?2", f"{PAGE}/a?2")
    assert pages.visits == 2


async def test_a_track_whose_renewed_url_has_expired_too_gets_a_new_extraction() -> None:
    pages = Pages()
    video, audio = await opened(pages)
    for visits in (2, 3, 4):
        assert await video.renew()
        assert pages.visits == visits
    assert await audio.renew()
    assert (audio.track.url, pages.visits) == (f"{PAGE}/a?4", 4)


async def test_an_extraction_that_is_not_recent_is_not_used_for_a_renewal() -> None:
    pages, clock = Pages(), Clock()
    video, audio = await opened(pages, clock)
    assert await video.renew()
    clock.now += RECENT_SECONDS + 1
    assert await audio.renew()
    assert (audio.track.url, pages.visits) == (f"{PAGE}/a?3", 3)


async def test_a_recent_extraction_without_the_track_is_not_used_for_a_renewal() -> None:
    pages = Pages()
    video, audio = await opened(pages)
    pages.lacks_audio = True
    assert await video.renew()
    pages.lacks_audio = False
    assert await audio.renew()
    assert (audio.track.url, pages.visits) == (f"{PAGE}/a?3", 3)
    pages.lacks_audio = True
    with pytest.raises(ExtractionFailed):
        await audio.renew()


async def test_a_recent_extraction_with_the_same_url_is_not_used_for_a_renewal() -> None:
    pages = Pages()
    pages.is_constant = True
    video, audio = await opened(pages)
    assert not await video.renew()
    assert not await audio.renew()
    assert pages.visits == 3
    pages.is_constant = False
    assert await audio.renew()
    assert (audio.track.url, pages.visits) == (f"{PAGE}/a?4", 4)
