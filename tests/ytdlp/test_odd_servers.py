"""Tests of downloads by the method `embedded` from media servers whose responses do not fit together. The bytes are
right, or the download fails after the last right byte."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from yt_dlp.networking.impersonate import ImpersonateTarget

from serverpy.errors import UpstreamFailed
from serverpy.extraction.values import Fragment
from serverpy.ytdlp.download.upstream import MAX_SMALL_PARTS, MAX_STANDSTILLS
from serverpy.ytdlp.mpd.formats import Fragments
from serverpy.ytdlp.mpd.listing import Listing, Part
from tests.net.reading import (
    FILE,
    OTHER_FILE,
    STARTED_BYTES,
    Answer,
    Ask,
    Headers,
    Reply,
    bare,
    by_turns,
    cut_whole,
    exclusive,
    head,
    part,
    refusal,
    serving,
    whole,
    without_total,
)
from tests.ytdlp.streams import Running, progressive

MODIFIED = "Mon, 02 Nov 2026 10:00:00 GMT"
LATER = "Mon, 02 Nov 2026 10:00:01 GMT"
V1: Headers = {"ETag": '"1"', "Last-Modified": MODIFIED}


async def downloaded(url: str, **fields: object) -> tuple[bytes, BaseException | None]:
    with Running(progressive(url, **fields)) as download:
        return await asyncio.to_thread(download.read_all), download.error


OTHER: dict[str, Answer] = {
    "ETag": lambda ask: part(ask, more={**V1, "ETag": '"2"'}),
    "weak ETag": lambda ask: part(ask, more={"ETag": 'W/"2"'}),
    "date": lambda ask: part(ask, more={**V1, "Last-Modified": LATER}),
    "total": lambda ask: part(ask, FILE + b"x", more=V1),
    "bytes": lambda ask: part(ask, OTHER_FILE, more=V1),
    "another range": lambda ask: part(ask, more={**V1, "Content-Range": "bytes 7-199999/300000"}),
    "no range": lambda ask: refusal(206, FILE[10:], {"Content-Length": len(FILE) - 10}),
    "multipart": lambda ask: part(ask, more={**V1, "Content-Type": "multipart/byteranges; boundary=x"}),
    "another length": lambda ask: part(ask, more={**V1, "Content-Range": "bytes 95904-95999/300000"}),
    "another whole": lambda ask: whole(OTHER_FILE, V1),
    "another whole by its ETag": lambda ask: whole(FILE, {**V1, "ETag": '"2"'}),
    "a shorter whole": lambda ask: whole(FILE[:-1], V1),
}


@pytest.mark.parametrize("name", OTHER)
async def test_a_response_with_the_bytes_of_another_file_is_not_joined(name: str) -> None:
    async with serving(by_turns(lambda _: cut_whole(V1), OTHER[name])) as (url, _):
        received, error = await downloaded(url)
    assert isinstance(error, UpstreamFailed)
    assert received == FILE[:STARTED_BYTES]


@pytest.mark.parametrize("name", [name for name in OTHER if name != "another whole"])
async def test_a_single_response_from_another_version_of_the_file_does_not_end_the_download(name: str) -> None:
    async with serving(by_turns(lambda _: cut_whole(V1), OTHER[name], lambda ask: part(ask, more=V1))) as (url, _):
        assert await downloaded(url) == (FILE, None)


@pytest.mark.parametrize(
    "more",
    [
        {**V1, "ETag": 'W/"2"'},
        {**V1, "Last-Modified": "Mon, 2 Nov 2026 10:00:00 +0000"},
        {},
        {"ETag": '"1"', "Content-Length": None},
    ],
    ids=["weak ETag", "another form of the date", "no validators", "no length"],
)
async def test_a_response_that_may_belong_to_the_same_file_is_joined(more: Headers) -> None:
    last: Answer = lambda ask: Reply(part(ask, more=more).data, "FIN")  # noqa: E731
    async with serving(by_turns(lambda _: cut_whole(V1), last)) as (url, _):
        assert await downloaded(url) == (FILE, None)


async def test_a_200_response_that_has_the_requested_range_continues_the_file() -> None:
    async with serving(by_turns(lambda _: cut_whole(V1), lambda ask: part(ask, more=V1, status=200))) as (url, _):
        assert await downloaded(url) == (FILE, None)


@pytest.mark.parametrize(
    ("elsewhere", "is_same"),
    [({**V1, "ETag": '"2"'}, True), ({**V1, "Last-Modified": "Tue, 03 Nov 2026 10:00:00 GMT"}, False)],
)
async def test_a_response_of_a_different_server_is_joined_if_only_its_etag_differs(
    elsewhere: Headers, *, is_same: bool
) -> None:
    async with serving(lambda ask: part(ask, more=elsewhere)) as (other, _):
        away = Reply(head(302, {"Location": other, "Content-Length": 0}))
        async with serving(by_turns(lambda _: cut_whole(V1), lambda _: away)) as (url, _):
            received, error = await downloaded(url)
    assert (received, error is None) == ((FILE, True) if is_same else (FILE[:STARTED_BYTES], False))


SPANS = "".join(f"#EXTINF:1,\n#EXT-X-BYTERANGE:100000@{first}\nmedia\n" for first in (0, 100_000, 200_000))
PLAYLIST = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{SPANS}#EXT-X-ENDLIST\n".encode()


@pytest.mark.parametrize(
    ("changed", "is_same"),
    [
        ({**V1, "ETag": '"2"'}, False),
        ({**V1, "Last-Modified": LATER}, False),
        ({**V1, "Content-Range": "bytes 200000-299999/300001"}, False),
        ({**V1, "Content-Range": "bytes 200000-299999/*"}, True),
        ({}, True),
    ],
)
async def test_ranges_of_two_versions_of_a_file_are_not_joined(changed: Headers, *, is_same: bool) -> None:
    """The segments of this playlist are ranges of one file."""

    def answer(ask: Ask) -> Reply:
        if ask.url.endswith(".m3u8"):
            return whole(PLAYLIST)
        return part(ask, more=V1 if (ask.first or 0) < 200_000 else changed)

    async with serving(answer) as (url, _):
        received, error = await downloaded(f"{url}.m3u8", protocol="m3u8_native")
    assert (received, error is None) == ((FILE, True) if is_same else (FILE[:200_000], False))


def short(ask: Ask, *, most: int = 30_000, framing: str = "length", total: str = "300000", status: int = 206) -> Reply:
    """Return at most the first `most` bytes of the requested range. The Content-Range states which bytes these are."""
    first, end = ask.bounds(len(FILE))
    end = min(end, first + most)
    if framing == "chunked":
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (end - first, FILE[first:end])
        told: Headers = {"Transfer-Encoding": "chunked"}
    else:
        body, told = FILE[first:end], {"Content-Length": end - first if framing == "length" else None}
    fields = {**told, "Content-Range": f"bytes {first}-{end - 1}/{total}"}
    return Reply(head(status, fields) + body, "FIN" if framing == "close" else "")


def once(ask: Ask) -> Reply:
    return short(ask) if ask.first == 100_000 else part(ask)


SHORT: dict[str, Answer] = {
    "always": short,
    "longer parts": lambda ask: short(ask, most=70_000),
    "half": lambda ask: short(ask, most=50_000),
    "once": once,
    "all but one byte": lambda ask: short(ask, most=99_999),
    "exclusive end": exclusive,
    "exclusive end of the body": lambda ask: exclusive(ask, claims=1),
    "without total": lambda ask: short(ask, total="*"),
    "exclusive end without total": lambda ask: short(ask, most=(ask.last or 0) - (ask.first or 0), total="*"),
    "200": lambda ask: short(ask, status=200),
    "chunked": lambda ask: short(ask, framing="chunked"),
    "chunked without total": lambda ask: short(ask, framing="chunked", total="*"),
    "without length": lambda ask: short(ask, framing="close"),
}
SPAN_STARTS = (0, 100_000, 200_000)


def listed(url: str) -> dict[str, object]:
    """Return the fields of a DASH format whose segments are byte ranges of the file at `url`."""
    body = tuple(Fragment(url=url, first=first, end=first + 100_000) for first in SPAN_STARTS)
    return {"protocol": "http_dash_segments", "fragments": Fragments(Listing((Part(None, body),)))}


def with_playlist(answer: Answer) -> Answer:
    return lambda ask: whole(PLAYLIST) if ask.url.endswith(".m3u8") else answer(ask)


async def downloaded_spans(kind: str, url: str, **options: Any) -> tuple[bytes, BaseException | None]:
    """Download three byte ranges of the file at `url`, which a playlist or a manifest lists."""
    info = progressive(f"{url}.m3u8", protocol="m3u8_native") if kind == "hls" else progressive(url, **listed(url))
    with Running(info, **options) as download:
        return await asyncio.to_thread(download.read_all), download.error


@pytest.mark.parametrize("kind", ["hls", "dash"])
@pytest.mark.parametrize("name", SHORT)
async def test_the_rest_of_a_byte_range_is_requested_if_its_response_states_a_shorter_range(
    name: str, kind: str
) -> None:
    async with serving(with_playlist(SHORT[name])) as (url, asked):
        assert await downloaded_spans(kind, url) == (FILE, None)
    assert len(asked) <= 13


@pytest.mark.parametrize("kind", ["hls", "dash"])
@pytest.mark.parametrize("name", SHORT)
async def test_byte_ranges_in_parts_are_downloaded_with_impersonation(name: str, kind: str) -> None:
    async with serving(with_playlist(SHORT[name])) as (url, asked):
        assert await downloaded_spans(kind, url, impersonate=ImpersonateTarget("chrome")) == (FILE, None)
    assert len(asked) <= 13


@pytest.mark.parametrize("kind", ["hls", "dash"])
@pytest.mark.parametrize("chunk_bytes", [30_000, 100_000, 1_000_000])
async def test_a_chunk_size_does_not_move_the_requests_beyond_a_byte_range(kind: str, chunk_bytes: int) -> None:
    async with serving(with_playlist(part)) as (url, asked):
        assert await downloaded_spans(kind, url, http_chunk_size=chunk_bytes) == (FILE, None)
    assert len(asked) <= 13
    assert all((ask.first or 0) // 100_000 == ask.last // 100_000 for ask in asked if ask.last is not None)


@pytest.mark.parametrize("kind", ["hls", "dash"])
async def test_the_last_byte_range_may_go_beyond_the_end_of_the_file(kind: str) -> None:
    file = FILE[:250_000]
    parted, unknown = functools.partial(part, file=file, most=30_000), functools.partial(without_total, file=file)
    for answer in (
        functools.partial(part, file=file),
        parted,
        lambda ask: part(ask, file) if ask.first == 250_000 else unknown(ask),
    ):
        async with serving(with_playlist(answer)) as (url, _):
            assert await downloaded_spans(kind, url) == (file, None)


@pytest.mark.parametrize("most", [1, 100])
async def test_the_number_of_requests_for_small_parts_of_a_byte_range_is_limited(most: int) -> None:
    async with serving(with_playlist(lambda ask: short(ask, most=most))) as (url, asked):
        received, error = await downloaded_spans("hls", url)
    assert isinstance(error, UpstreamFailed)
    assert FILE.startswith(received)
    assert len(asked) <= MAX_SMALL_PARTS + 2


@pytest.mark.parametrize("kind", ["hls", "dash"])
async def test_a_request_that_gets_no_new_byte_is_repeated_only_a_few_times(kind: str) -> None:
    stuck: Answer = lambda ask: Reply(head(206, {"Content-Length": 0, "Content-Range": "bytes 100000-199999/300000"}))  # noqa: E731
    async with serving(with_playlist(lambda ask: part(ask) if ask.first == 0 else stuck(ask))) as (url, asked):
        received, error = await downloaded_spans(kind, url)
    assert (received, isinstance(error, UpstreamFailed)) == (FILE[:100_000], True)
    assert len(asked) <= 3 * MAX_STANDSTILLS


@pytest.mark.parametrize("name", SHORT)
async def test_the_rest_of_a_chunk_is_requested_if_its_response_states_a_shorter_range(name: str) -> None:
    """Without the total, the end of the file is unknown, so no byte is taken for the last one."""
    async with serving(SHORT[name]) as (url, asked):
        received, error = await downloaded(url, downloader_options={"http_chunk_size": 100_000})
    if "without total" in name:
        assert (received, isinstance(error, UpstreamFailed)) == (b"", True)
    else:
        assert (received, error) == (FILE, None)
    assert len(asked) <= 13


async def test_the_first_chunk_is_requested_again_without_taking_its_end_for_the_end_of_the_file() -> None:
    async with serving(by_turns(lambda _: refusal(503), part)) as (url, _):
        assert await downloaded(url, downloader_options={"http_chunk_size": 100_000}) == (FILE, None)


@pytest.mark.parametrize("name", ["always", "longer parts", "half", "200", "chunked", "without length"])
async def test_the_rest_of_a_file_is_requested_if_the_response_to_a_continuation_states_a_shorter_range(
    name: str,
) -> None:
    async with serving(by_turns(lambda _: cut_whole(V1), SHORT[name])) as (url, _):
        assert await downloaded(url) == (FILE, None)


@pytest.mark.parametrize("chunk_bytes", [50_000, 100_000])
async def test_a_chunk_without_a_content_range_is_not_taken_for_the_whole_file(chunk_bytes: int) -> None:
    async with serving(bare) as (url, _):
        received, error = await downloaded(url, downloader_options={"http_chunk_size": chunk_bytes})
    assert (received, isinstance(error, UpstreamFailed)) == (b"", True)
    async with serving(by_turns(part, bare, part)) as (url, _):
        assert await downloaded(url, downloader_options={"http_chunk_size": chunk_bytes}) == (FILE, None)


async def test_the_rest_of_a_file_without_a_content_range_is_not_taken_for_the_whole_file() -> None:
    async with serving(by_turns(lambda _: cut_whole(), bare)) as (url, _):
        received, error = await downloaded(url)
    assert (received, isinstance(error, UpstreamFailed)) == (FILE[:STARTED_BYTES], True)


async def test_chunks_of_two_versions_of_a_file_are_not_joined() -> None:
    """The options in the extraction make yt-dlp request bounded ranges."""

    def answer(ask: Ask) -> Reply:
        return part(ask, more=V1 if (ask.first or 0) < 150_000 else {**V1, "ETag": '"2"'})

    async with serving(answer) as (url, _):
        received, error = await downloaded(url, downloader_options={"http_chunk_size": 50_000})
    assert isinstance(error, UpstreamFailed)
    assert FILE.startswith(received)
    assert 150_000 <= len(received) < 200_000


REFUSALS = [400, 403, 404, 410, 429]


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refused_continuation_is_requested_again(status: int) -> None:
    async with serving(by_turns(lambda _: cut_whole(V1), lambda _: refusal(status), part)) as (url, _):
        assert await downloaded(url) == (FILE, None)
    async with serving(by_turns(lambda _: cut_whole(V1), lambda _: refusal(status))) as (url, asked):
        received, error = await downloaded(url)
    assert (received, str(error)) == (FILE[:STARTED_BYTES], f"The media server responded with HTTP status {status}.")
    assert len(asked) == 4


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_fragment_that_is_refused_once_is_requested_again(status: int) -> None:
    """The first segment is not requested again: its URL may have expired, so the page is extracted again first."""
    for refused, expected in ((200_000, FILE), (0, b"")):
        left: set[int | None] = {refused}

        def answer(ask: Ask, left: set[int | None] = left) -> Reply:
            if ask.url.endswith(".m3u8"):
                return whole(PLAYLIST)
            if ask.first in left:
                left.remove(ask.first)
                return refusal(status)
            return part(ask)

        async with serving(answer) as (url, _):
            received, error = await downloaded(f"{url}.m3u8", protocol="m3u8_native")
        assert (received, error is None) == (expected, bool(expected))
