"""Tests of downloads by the method `embedded` from media servers whose responses do not fit together. The bytes are
right, or the download fails after the last right byte."""

from __future__ import annotations

import asyncio

import pytest

from serverpy.errors import UpstreamFailed
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
    head,
    part,
    refusal,
    serving,
    whole,
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
