"""Tests of the extraction of videos of several parts."""

from __future__ import annotations

import pytest

from serverpy.extraction.choice import pick_entry
from serverpy.sample.site import SampleSite
from tests.extraction.workers import running


async def test_a_video_of_several_parts_has_the_media_of_the_first_and_all_parts_as_entries(site: SampleSite) -> None:
    async with running() as workers:
        for page in ("same", "label"):
            url = f"{site.http}/probe3/{page}"
            media = await workers.extract(url)
            assert (media.title, media.kind, [track.url for track in media.tracks]) == (
                "Part 1", "video", ["http://192.0.2.1/1.mp4"],
            )  # fmt: skip
            assert [entry.url for entry in media.entries] == [f"{url}?p=1", f"{url}?p=2"]
            assert pick_entry(media, None) is None
            assert pick_entry(media, 2) is media.entries[1]
            part = await workers.extract(f"{url}?p=2")
            assert (part.title, part.entries) == ("Part 2", ())


async def test_the_parts_of_a_video_may_be_complete(site: SampleSite) -> None:
    async with running() as workers:
        media = await workers.extract(f"{site.http}/probe3/complete")
        assert [entry.media.title for entry in media.entries if entry.media is not None] == ["Part 1", "Part 2"]
        assert media.title == "Part 1"


@pytest.mark.parametrize("page", ["fails", "list"])
async def test_a_video_whose_parts_cannot_be_listed_or_that_is_in_a_playlist_has_no_entries(
    site: SampleSite, page: str
) -> None:
    async with running() as workers:
        media = await workers.extract(f"{site.http}/probe3/{page}")
        assert ([track.url for track in media.tracks], media.entries) == (["http://192.0.2.1/1.mp4"], ())
