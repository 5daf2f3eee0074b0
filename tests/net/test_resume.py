"""Tests of resuming reads, which request the rest of a file after a failure. Whatever a media server does, the reader
gets every byte once and in order, or an error."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from serverpy.errors import RangeNotSatisfiable, ServerPYError, UpstreamFailed, UpstreamTimeout
from serverpy.net.connection import SMALL_STEP
from serverpy.net.resume import open_resuming
from serverpy.net.session import Session
from serverpy.ranges import ByteRange
from serverpy.sample.site import SampleSite
from serverpy.tasks import cancel, spawn
from tests.aio import eventually
from tests.net.reading import At, at, reading
from tests.opening import rest_of


async def open_and_drain(source: At) -> bytes:
    async with reading(source) as read:
        return await rest_of(read)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


RESUMED = [
    "",
    "cut=1000000",
    "rst=1000000",
    "cut=1000000,norange,times=2,id=a",
    "nolength",
    "stall=2000000",
]


@pytest.mark.parametrize("fault", RESUMED)
async def test_a_resuming_read_returns_the_whole_file_in_spite_of_truncated_responses_and_resets_and_stalls(
    site: SampleSite, fault: str
) -> None:
    source = site.path("prog.mp4").read_bytes()
    assert len(source) > 2_500_000
    async with at(f"{site.http}/fault/{fault or 'delay=0'}/media/prog.mp4") as upstream, reading(upstream) as read:
        assert digest(await rest_of(read)) == digest(source)


async def test_a_requested_range_is_resumed_without_leaving_its_bounds(site: SampleSite) -> None:
    source = site.path("prog.mp4").read_bytes()
    async with (
        at(f"{site.http}/fault/cut=300000/media/prog.mp4") as upstream,
        reading(upstream, ByteRange(1_000_000, 1_999_999)) as read,
    ):
        assert (read.extent.first, read.extent.end, read.extent.total) == (1_000_000, 2_000_000, len(source))
        assert digest(await rest_of(read)) == digest(source[1_000_000:2_000_000])


@pytest.mark.parametrize("window_bytes", [65_536, 500_000, 100_000_000])
async def test_if_window_bytes_is_set_every_request_has_a_range_of_at_most_that_size(
    site: SampleSite, window_bytes: int
) -> None:
    source = site.path("prog.mp4").read_bytes()
    async with at(f"{site.http}/media/prog.mp4") as upstream, reading(upstream, window_bytes=window_bytes) as read:
        assert read.extent.end == len(source)
        assert digest(await rest_of(read)) == digest(source)
        for headers in upstream.asked:
            first, last = headers["Range"].removeprefix("bytes=").split("-")
            assert int(last) - int(first) < window_bytes


async def test_a_suffix_range_is_read_from_a_server_that_requires_small_ranges(site: SampleSite) -> None:
    source = site.path("prog.mp4").read_bytes()
    async with (
        at(f"{site.http}/media/prog.mp4") as upstream,
        reading(upstream, ByteRange(None, 100_000), window_bytes=65_536) as read,
    ):
        assert await rest_of(read) == source[-100_000:]


async def test_a_read_continues_at_a_new_url_if_the_url_of_the_file_expires(site: SampleSite) -> None:
    source = site.path("prog.mp4").read_bytes()
    urls = [f"{site.http}/fault/cut=700000/media/prog.mp4", f"{site.http}/media/prog.mp4"]
    async with at(*urls) as upstream, reading(upstream) as read:
        begun = await read.read()
        upstream.urls[0] = f"{site.http}/fault/status=403/media/prog.mp4"
        assert digest(begun + await rest_of(read)) == digest(source)


async def test_a_read_ends_with_upstream_failed_if_the_url_returns_a_different_file_after_a_truncated_response(
    site: SampleSite,
) -> None:
    async with at(f"{site.http}/fault/cut=1000000/media/prog.mp4") as upstream, reading(upstream) as read:
        await read.read()
        upstream.urls[0] = f"{site.http}/media/large-8.mp4"
        with pytest.raises(UpstreamFailed, match="changed"):
            await rest_of(read)


@pytest.mark.parametrize(
    "fault", ["changes=silent,cut=1000000", "changes=silent,cut=1000000,norange", "changes=told,cut=1000000"]
)
async def test_a_read_ends_with_upstream_failed_if_the_file_changes_but_not_its_length(
    site: SampleSite, fault: str
) -> None:
    async with at(f"{site.http}/fault/{fault},id=resume{len(fault)}/media/prog.mp4") as up, reading(up) as read:
        with pytest.raises(UpstreamFailed, match="changed"):
            await rest_of(read)


async def test_a_read_ends_with_upstream_failed_if_the_etag_changes_after_a_truncated_response(
    site: SampleSite,
) -> None:
    """The bytes of the file are the same, but the media server sends a different ETag for the second request."""
    async with at(f"{site.http}/fault/cut=1000000,etag=flip/media/prog.mp4") as upstream, reading(upstream) as read:
        with pytest.raises(UpstreamFailed, match="changed"):
            await rest_of(read)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status=403", UpstreamFailed),
        ("status=500", UpstreamFailed),
        ("status=418", UpstreamFailed),
        ("stall=0", UpstreamTimeout),
        ("cut=0", UpstreamFailed),
    ],
)
async def test_a_permanent_failure_ends_the_read_after_at_most_four_requests(
    site: SampleSite, fault: str, error: type[ServerPYError]
) -> None:
    async with at(f"{site.http}/fault/{fault}/media/prog.mp4") as upstream:
        with pytest.raises(error):
            await open_and_drain(upstream)
        assert len(upstream.asked) <= 4


async def test_a_range_beyond_the_end_of_the_file_raises_range_not_satisfiable_with_the_total_length(
    site: SampleSite,
) -> None:
    size = site.path("prog.mp4").stat().st_size
    async with at(f"{site.http}/media/prog.mp4") as upstream:
        with pytest.raises(RangeNotSatisfiable) as caught:
            await open_resuming(upstream, ByteRange(size, None), wait_seconds=2.0)
        assert caught.value.size == size


WRONG_RANGES = [
    "bytes 5-2/300000",
    f"bytes 0-{'9' * 5000}/{'9' * 5000}",
    f"bytes 0-99/{'9' * 5000}",
    "bytes 0-99/none",
    "items 0-99/300000",
    "bytes 1-99/300000",
]


@pytest.mark.parametrize("content_range", WRONG_RANGES)
async def test_an_unexpected_content_range_raises_upstream_failed_and_leaves_no_connection_open(
    content_range: str,
) -> None:
    head = f"HTTP/1.1 206 OK\r\nContent-Length: 100\r\nContent-Range: {content_range}\r\n\r\n".encode()
    async with hostile(lambda _first, _last: head + BYTES[:100]) as (upstream, asked):
        with pytest.raises(UpstreamFailed):
            await open_resuming(upstream, wait_seconds=2.0)
        assert len(asked) == 2  # the first request had a Range header, the second none


async def test_no_connection_is_left_if_opening_a_read_is_cancelled() -> None:
    async with hostile(lambda _first, _last: b"") as (upstream, asked):
        opening = spawn(open_resuming(upstream, wait_seconds=2.0), name="open")
        await eventually(lambda: asked)
        await cancel(opening)


async def test_a_read_takes_no_more_bytes_from_the_socket_than_its_caller_requests(site: SampleSite) -> None:
    """Only the first call of `read` may return more bytes than requested, because bytes of the body arrive together
    with the response head."""
    source = site.path("prog.mp4").read_bytes()
    async with at(f"{site.http}/media/prog.mp4") as upstream, reading(upstream) as read:
        chunks = [await read.read(1000)]
        assert len(chunks[0]) <= SMALL_STEP
        for most in (1000, 3000, 2000, 3000, 1):
            chunks.append(await read.read(most))
            assert 1 <= len(chunks[-1]) <= most
        assert source.startswith(b"".join(chunks))


async def test_a_read_with_an_outdated_if_range_begins_at_the_start_of_the_file(site: SampleSite) -> None:
    async with at(f"{site.http}/media/prog.mp4") as upstream:
        async with reading(upstream) as read:
            etag = read.headers.get("etag")
        for validator, first in ((etag, 100), ('"other"', 0), ("Mon, 01 Jan 2001 00:00:00 GMT", 0)):
            async with reading(upstream, ByteRange(100, 199), validator) as read:
                assert read.extent.first == first


class Hostile(asyncio.Protocol):
    """Media server that serves a file of 307,200 bytes. It answers each request with `answer(first, last)`, where
    `first` and `last` are the first and the last byte of the requested range."""

    def __init__(self, answer: Callable[[int, int], bytes], asked: list[int]) -> None:
        self._answer = answer
        self._asked = asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        match = re.search(rb"[Rr]ange: bytes=(\d+)-(\d*)", data)
        first, last = (int(match[1]), int(match[2] or len(BYTES) - 1)) if match else (0, len(BYTES) - 1)
        self._asked.append(first)
        self._transport.write(self._answer(first, last))


BYTES = bytes(range(256)) * 1200
CAP = 100_000


@asynccontextmanager
async def hostile(answer: Callable[[int, int], bytes]) -> AsyncIterator[tuple[At, list[int]]]:
    asked: list[int] = []
    server = await asyncio.get_running_loop().create_server(lambda: Hostile(answer, asked), "127.0.0.1", 0)
    async with at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as upstream:
        try:
            yield upstream, asked
        finally:
            server.close()


def part(first: int, stop: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 206 OK\r\nContent-Length: {len(body)}\r\nContent-Range: bytes {first}-{stop}/{len(BYTES)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(("first", "last"), [(None, None), (1000, None), (1000, 250_000), (None, 150_000)])
async def test_missing_bytes_are_requested_again_if_a_server_sends_less_than_the_requested_range(
    first: int | None, last: int | None
) -> None:
    def capped(begin: int, end: int) -> bytes:
        stop = min(end, begin + CAP - 1)
        return part(begin, stop, BYTES[begin : stop + 1])

    # the server `Hostile` does not understand suffix ranges, so the read needs a window
    window = CAP if first is None and last is not None else None
    wanted = None if first is None and last is None else ByteRange(first, last)
    async with hostile(capped) as (upstream, asked), reading(upstream, wanted, window_bytes=window) as read:
        end = len(BYTES) if first is None or last is None else last + 1
        begin = len(BYTES) - last if first is None and last is not None else first or 0
        assert read.extent.end == end
        assert await rest_of(read) == BYTES[begin:end]
        assert len(asked) >= 2


async def test_a_read_fails_if_the_server_keeps_sending_empty_ranges() -> None:
    async with (
        hostile(lambda first, last: part(first, last, b"" if first else BYTES[:CAP])) as (upstream, asked),
        reading(upstream, window_bytes=CAP) as read,
    ):
        with pytest.raises(UpstreamFailed):
            await rest_of(read)
        assert len(asked) <= 6


async def test_a_file_of_unknown_length_ends_where_the_content_range_of_a_later_response_states_its_end() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    def answer(first: int, last: int) -> bytes:
        if first == 0:
            return chunked + b"c350\r\n" + BYTES[:50_000] + b"\r\nzz\r\n"
        stop = min(last, first + CAP - 1)
        return part(first, stop, BYTES[first : stop + 1])

    async with hostile(answer) as (upstream, _), reading(upstream) as read:
        assert read.extent.end is None
        assert await rest_of(read) == BYTES


async def test_redirects_are_followed_and_credentials_are_sent_only_to_the_origin_for_which_they_are_meant(
    site: SampleSite,
) -> None:
    elsewhere = f"{site.http}/media/photo-1.jpg?café"
    for location, outcome in (("http://[::1/x", UpstreamFailed), (elsewhere, None)):
        head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
        async with hostile(lambda first, last, head=head: head) as (upstream, _):  # type: ignore[misc]
            session = Session(upstream.client, {"Authorization": "secret", "X-Kept": "1"})
            if outcome is not None:
                with pytest.raises(outcome):
                    await session.open(upstream.urls[0], {})
                continue
            response = await session.open(upstream.urls[0], {})
            response.close()
    seen = site.requests[-1]
    assert "café" in str(seen.query) or "caf%C3%A9" in str(seen.query)
    assert "authorization" not in seen.headers
    assert seen.headers["x-kept"] == "1"
