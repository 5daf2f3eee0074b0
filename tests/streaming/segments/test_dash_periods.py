"""Tests of real DASH presentations with two periods, from the manifest to the bytes of the stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from serverpy.extraction.values import Track
from serverpy.ranges import ByteRange
from tests.extraction.workers import running
from tests.players.tools import said
from tests.streaming.segments.relaying import Page, client_for, drained, opened
from tests.streaming.segments.shelf import Shelf
from tests.written import as_relayed

SECONDS = 10.0
FIRST = ["video-360-init.mp4", *(f"video-360-{number}.m4s" for number in (1, 2, 3))]
SECOND = ["video-180-init.mp4", *(f"video-180-{number}.m4s" for number in (4, 5))]


@pytest.fixture
def shelf(media: Path) -> Iterator[Shelf]:
    with Shelf({f"/d/{name}": (media / "dash" / name).read_bytes() for name in (*FIRST, *SECOND)}) as shelf:
        yield shelf


def manifest(*periods: str) -> bytes:
    namespace, seconds = 'xmlns="urn:mpeg:dash:schema:mpd:2011"', 'mediaPresentationDuration="PT10S"'
    return f'<MPD {namespace} type="static" {seconds}>{"".join(periods)}</MPD>'.encode()


def period(seconds: int, id: str, bandwidth: int, inside: str) -> str:
    return (
        f'<Period duration="PT{seconds}S"><AdaptationSet contentType="video"><Representation id="{id}"'
        f' bandwidth="{bandwidth}" codecs="avc1.64001e" width="640" height="360">{inside}</Representation>'
        "</AdaptationSet></Period>"
    )


def numbered(name: str, start: int) -> str:
    return (
        f'<SegmentTemplate initialization="{name}-init.mp4" media="{name}-$Number$.m4s" duration="2"'
        f' startNumber="{start}"/>'
    )


async def relayed(shelf: Shelf, text: bytes, range_: ByteRange | None = None) -> tuple[Track, bytes]:
    """Extract the DASH manifest `text`. Returns its only format, and the bytes that the relay sends for that format."""
    shelf.files["/d/m.mpd"] = text
    shelf.headers["/d/m.mpd"] = {"Content-Type": "application/dash+xml"}
    async with running() as workers:
        (track,) = (await workers.extract(f"{shelf.url}/d/m.mpd")).tracks
    async with client_for(shelf) as client:
        return track, await drained(await opened(client, Page(lambda _visit: track), range_))


async def test_dash_periods_whose_ids_and_bandwidths_and_sizes_differ_are_streamed_as_one_file(
    shelf: Shelf, media: Path, tmp_path: Path
) -> None:
    text = manifest(
        period(6, "high", 700_000, numbered("video-360", 1)), period(4, "low", 200_000, numbered("video-180", 4))
    )
    track, data = await relayed(shelf, text)
    assert (track.id, track.refusal) == ("high", None)
    whole = b"".join((media / "dash" / name).read_bytes() for name in (*FIRST, *SECOND))
    assert data == as_relayed(whole, has_length=False, seconds=SECONDS)
    film = tmp_path / "film.mp4"
    film.write_bytes(data)
    seconds = said("ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(film))
    assert float(seconds) == pytest.approx(SECONDS, abs=0.1)


async def test_a_dash_format_whose_segments_are_byte_ranges_of_one_file_supports_ranges(
    shelf: Shelf, media: Path
) -> None:
    pieces = [(media / "dash" / name).read_bytes() for name in FIRST]
    film = b"".join(pieces)
    shelf.files["/d/film.mp4"] = b"before" + film + b"after"
    ends = itertools.accumulate(map(len, pieces), initial=len(b"before"))
    head, *spans = (f"{first}-{end - 1}" for first, end in itertools.pairwise(ends))
    urls = "".join(f'<SegmentURL mediaRange="{span}"/>' for span in spans)
    listed = f'<SegmentList duration="2"><Initialization range="{head}"/>{urls}</SegmentList>'
    text = manifest(period(6, "v", 1, f"<BaseURL>film.mp4</BaseURL>{listed}"))
    sent = as_relayed(film, has_length=True, seconds=6)
    assert (await relayed(shelf, text))[1] == sent
    assert (await relayed(shelf, text, ByteRange(100, 99_999)))[1] == sent[100:100_000]
