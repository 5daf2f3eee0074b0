"""A read that heals: every byte once, in order, through whatever a media server does; or an error."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from serverpy.errors import RangeNotSatisfiable, ServerPYError, TooLarge, UpstreamFailed, UpstreamTimeout
from serverpy.net.client import Client, Response
from serverpy.net.guard import Guard, parse_networks
from serverpy.net.resume import ResumingRead
from serverpy.net.session import Session
from serverpy.sample.site import SampleSite
from tests.aio import run


@dataclass
class At:
    """An upstream at `urls`, one after the other as each is renewed."""

    client: Client
    urls: list[str]
    asked: list[dict[str, str]] = field(default_factory=list)

    async def open(self, headers: dict[str, str]) -> Response:
        self.asked.append(headers)
        return await Session(self.client, {}).open(self.urls[0], headers)

    async def renew(self) -> bool:
        if len(self.urls) == 1:
            return False
        del self.urls[0]
        return True


@asynccontextmanager
async def at(*urls: str) -> AsyncIterator[At]:
    client = Client(Guard(allow=parse_networks(["127.0.0.0/8"])), connect_timeout=5.0, stall_timeout=0.5)
    yield At(client, list(urls))
    assert client.open_connections == 0
    client.close()


@asynccontextmanager
async def reading(
    upstream: At, window_bytes: int | None = None, max_bytes: int | None = None
) -> AsyncIterator[ResumingRead]:
    read = ResumingRead(upstream, window_bytes=window_bytes, wait_seconds=2.0, max_bytes=max_bytes)
    try:
        yield read
    finally:
        read.close()


async def open_and_drain(read: ResumingRead, *, ranges: bool) -> bytes:
    await read.open(None, None, None, ranges=ranges)
    return await drain(read)


async def drain(read: ResumingRead) -> bytes:
    body = bytearray()
    while chunk := await read.read():
        body += chunk
    return bytes(body)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


HEALED = [
    "",
    "cut=1000000",
    "rst=1000000",
    "cut=1000000,norange,times=2,id=a",
    "cut=1000000,etag=flip,times=2,id=b",
    "nolength",
    "stall=2000000",
]


@pytest.mark.parametrize("fault", HEALED)
def test_the_whole_comes_byte_for_byte_through_cuts_resets_and_silence(site: SampleSite, fault: str) -> None:
    source = site.path("prog.mp4").read_bytes()
    assert len(source) > 2_500_000

    async def test() -> None:
        async with at(f"{site.http}/fault/{fault or 'delay=0'}/media/prog.mp4") as upstream, reading(upstream) as read:
            await read.open(None, None, None, ranges=True)
            assert digest(await drain(read)) == digest(source)

    run(test)


def test_a_range_is_healed_within_its_bounds(site: SampleSite) -> None:
    source = site.path("prog.mp4").read_bytes()

    async def test() -> None:
        async with at(f"{site.http}/fault/cut=300000/media/prog.mp4") as upstream, reading(upstream) as read:
            await read.open(1_000_000, 1_999_999, None, ranges=True)
            assert (read.span.first, read.span.end, read.span.total) == (1_000_000, 2_000_000, len(source))
            assert digest(await drain(read)) == digest(source[1_000_000:2_000_000])

    run(test)


@pytest.mark.parametrize("window_bytes", [65_536, 500_000, 100_000_000])
def test_a_server_that_insists_on_bounded_ranges_gets_them(site: SampleSite, window_bytes: int) -> None:
    source = site.path("prog.mp4").read_bytes()

    async def test() -> None:
        async with at(f"{site.http}/media/prog.mp4") as upstream, reading(upstream, window_bytes) as read:
            await read.open(None, None, None, ranges=True)
            assert read.span.end == len(source)
            assert digest(await drain(read)) == digest(source)
            for headers in upstream.asked:
                first, last = headers["Range"].removeprefix("bytes=").split("-")
                assert int(last) - int(first) < window_bytes

    run(test)


def test_a_suffix_of_a_windowed_source_is_found_by_its_length(site: SampleSite) -> None:
    source = site.path("prog.mp4").read_bytes()

    async def test() -> None:
        async with at(f"{site.http}/media/prog.mp4") as upstream, reading(upstream, window_bytes=65_536) as read:
            await read.open(None, 100_000, None, ranges=True)
            assert await drain(read) == source[-100_000:]

    run(test)


def test_an_address_that_expires_in_mid_stream_is_renewed(site: SampleSite) -> None:
    source = site.path("prog.mp4").read_bytes()

    async def test() -> None:
        urls = [f"{site.http}/fault/cut=700000/media/prog.mp4", f"{site.http}/media/prog.mp4"]
        async with at(*urls) as upstream, reading(upstream) as read:
            await read.open(None, None, None, ranges=True)
            begun = await read.read()
            upstream.urls[0] = f"{site.http}/fault/status=403/media/prog.mp4"
            assert digest(begun + await drain(read)) == digest(source)

    run(test)


def test_another_file_at_the_same_address_is_never_spliced(site: SampleSite) -> None:
    async def test() -> None:
        async with at(f"{site.http}/fault/cut=1000000/media/prog.mp4") as upstream, reading(upstream) as read:
            await read.open(None, None, None, ranges=True)
            await read.read()
            upstream.urls[0] = f"{site.http}/media/large-8.mp4"
            with pytest.raises(UpstreamFailed, match="changed"):
                await drain(read)


@pytest.mark.parametrize("fault", ["changes=silent,cut=1000000", "changes=silent,cut=1000000,norange"])
def test_other_bytes_of_the_same_length_are_noticed(site: SampleSite, fault: str) -> None:
    async def test() -> None:
        async with at(f"{site.http}/fault/{fault},id=resume{len(fault)}/media/prog.mp4") as up, reading(up) as read:
            await read.open(None, None, None, ranges=True)
            with pytest.raises(UpstreamFailed, match="changed"):
                await drain(read)

    run(test)


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
def test_what_cannot_be_healed_ends_after_three_tries(site: SampleSite, fault: str, error: type[ServerPYError]) -> None:
    async def test() -> None:
        async with at(f"{site.http}/fault/{fault}/media/prog.mp4") as upstream, reading(upstream) as read:
            with pytest.raises(error):
                await open_and_drain(read, ranges=True)
            assert len(upstream.asked) <= 4

    run(test)


def test_a_range_beyond_the_end_tells_the_length(site: SampleSite) -> None:
    size = site.path("prog.mp4").stat().st_size

    async def test() -> None:
        async with at(f"{site.http}/media/prog.mp4") as upstream, reading(upstream) as read:
            with pytest.raises(RangeNotSatisfiable) as caught:
                await read.open(size, None, None, ranges=True)
            assert caught.value.size == size

    run(test)


def test_if_range_that_no_longer_holds_gives_the_whole(site: SampleSite) -> None:
    async def test() -> None:
        async with at(f"{site.http}/media/prog.mp4") as upstream:
            async with reading(upstream) as read:
                await read.open(None, None, None, ranges=True)
                etag = read.headers.get("etag")
            for validator, first in ((etag, 100), ('"other"', 0), ("Mon, 01 Jan 2001 00:00:00 GMT", 0)):
                async with reading(upstream) as read:
                    await read.open(100, 199, validator, ranges=True)
                    assert read.span.first == first

    run(test)


def test_max_bytes_refuses_before_and_cuts_where_no_length_is_known(site: SampleSite) -> None:
    async def test() -> None:
        for fault in ("delay=0", "nolength"):
            url = f"{site.http}/fault/{fault}/media/prog.mp4"
            async with at(url) as upstream, reading(upstream, max_bytes=100_000) as read:
                with pytest.raises(TooLarge):
                    await open_and_drain(read, ranges=fault == "delay=0")

    run(test)
