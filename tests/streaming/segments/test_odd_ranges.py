"""Tests of segments that are byte ranges of one file, from media servers that answer range requests in odd ways. The
reader gets every byte once and in order, or an error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from serverpy.errors import UpstreamFailed
from serverpy.extraction.values import DASH_PROTOCOL, Fragment, Track
from serverpy.streaming.segments import segment_read
from tests.net.reading import (
    FILE,
    Answer,
    Ask,
    Reply,
    at,
    bare,
    by_turns,
    chunked,
    exclusive,
    head,
    part,
    refusal,
    refuses,
    serving,
    whole,
    without_total,
)
from tests.streaming.segments.relaying import Page, drain_into, drained, opened

pytestmark = pytest.mark.usefixtures("short_back_off")

SIZE = len(FILE)
SPANS = [(0, 90_000), (90_000, 200_000), (200_000, SIZE)]


def hls(url: str) -> Track:
    lines = [f"#EXTINF:1,\n#EXT-X-BYTERANGE:{end - first}@{first}\nmedia" for first, end in SPANS]
    text = "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:1", *lines, "#EXT-X-ENDLIST"])
    return Track(id="h", url=url, protocol="m3u8_native", ext="mp4", vcodec="a", acodec="b", manifest_data=text)


def dash(url: str) -> Track:
    fragments = tuple(Fragment(url=url, first=first, end=end) for first, end in SPANS)
    return Track(id="d", url=url, protocol=DASH_PROTOCOL, ext="mp4", vcodec="a", acodec="b", fragments=fragments)


def everything(_ask: Ask) -> Reply:
    return part(Ask(0, 0, None, True, None, ""))


ODD: dict[str, Answer] = {
    "no total": without_total,
    "no total once": by_turns(without_total, part),
    "no total later": by_turns(part, without_total),
    "the whole": lambda _ask: whole(),
    "the whole, chunked": lambda _ask: chunked(FILE),
    "the whole until the connection ends": lambda _ask: Reply(head(200, {"Connection": "close"}) + FILE, "FIN"),
    "the whole as 206": everything,
    "the whole once": by_turns(part, lambda _ask: whole(), part),
    "200 with a part": bare,
    "200 with a part, chunked": partial(bare, framing="chunked"),
    "200 with a part once": by_turns(part, bare, part),
    "416 without a length": partial(refuses, content_range=None),
    "416 with a length of 0": partial(refuses, content_range="bytes */0"),
    "400": lambda ask: refusal(400) if ask.has_range else whole(),
    "no last byte": exclusive,
    "a Content-Range that ends too late": lambda ask: part(
        ask, more={"Content-Range": f"bytes {ask.first}-{ask.bounds(SIZE)[1]}/{SIZE}"} if ask.has_range else {}
    ),
}


@pytest.mark.parametrize("track", [hls, dash])
@pytest.mark.parametrize("name", ODD)
async def test_the_segments_of_one_file_are_read_from_a_media_server_with_odd_ranges(
    name: str, track: Callable[[str], Track]
) -> None:
    async with serving(ODD[name]) as (url, _), at() as source:
        body = await opened(source.client, Page(lambda _visit: track(url)))
        assert await drained(body) == FILE


async def test_the_number_of_bytes_that_are_skipped_before_a_segment_is_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(segment_read, "MOST_SKIPPED_BYTES", 199_999)
    given = bytearray()
    async with serving(lambda _ask: whole()) as (url, _), at() as source:
        with pytest.raises(UpstreamFailed, match="ignores Range requests"):
            await drain_into(given, await opened(source.client, Page(lambda _visit: hls(url))))
    assert given == FILE[:200_000]


@pytest.mark.parametrize("track", [hls, dash])
@pytest.mark.parametrize("status", [403, 404, 416, 501])
async def test_a_range_that_is_refused_once_is_not_taken_from_the_whole_file(
    status: int, track: Callable[[str], Track], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment is too far from the beginning of the file to be read from the whole file."""
    monkeypatch.setattr(segment_read, "MOST_SKIPPED_BYTES", 100_000)
    answer = by_turns(part, part, lambda _ask: refusal(status), lambda ask: part(ask) if ask.has_range else whole())
    async with serving(answer) as (url, _), at() as source:
        assert await drained(await opened(source.client, Page(lambda _visit: track(url)))) == FILE


async def test_a_segment_in_a_whole_file_that_is_cut_is_read_to_its_end() -> None:
    """The connection is cut within the bytes before the segment, or within the segment."""
    for cut_bytes in (50_000, 150_000):

        def cut(_ask: Ask, end: int = cut_bytes) -> Reply:
            return Reply(head(200, {"Content-Length": SIZE}) + FILE[:end], "FIN")

        answer = by_turns(part, cut, cut, lambda _ask: whole())
        async with serving(answer) as (url, _), at() as source:
            assert await drained(await opened(source.client, Page(lambda _visit: hls(url)))) == FILE


async def test_the_whole_of_another_file_is_not_read_in_place_of_a_segment() -> None:
    given = bytearray()
    async with serving(by_turns(part, lambda _ask: whole(FILE + b"x"))) as (url, _), at() as source:
        with pytest.raises(UpstreamFailed):
            await drain_into(given, await opened(source.client, Page(lambda _visit: hls(url))))
    assert given == FILE[:90_000]
