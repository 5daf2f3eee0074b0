"""Tests of the HTTP client against the sample site, over http and https."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from serverpy.errors import TargetForbidden, UpstreamFailed, UpstreamTimeout
from serverpy.net.client import Client
from serverpy.net.connection import SMALL_STEP
from serverpy.net.guard import Guard, parse_networks
from serverpy.net.http1 import Request
from serverpy.options import Network, Timeouts
from serverpy.sample.site import SampleSite
from serverpy.tasks import cancel, spawn
from tests.aio import eventually, stays
from tests.opening import rest_of

LOOPBACK = Guard(allow=parse_networks(["127.0.0.0/8"]))


def make_client(site: SampleSite, *, stall_timeout: float = 30.0, guard: Guard = LOOPBACK) -> Client:
    return Client(guard, Network(ca_file=str(site.ca_file)), Timeouts(connect=30.0, stall=stall_timeout))


def base(site: SampleSite, scheme: str) -> str:
    url = site.http if scheme == "http" else site.https
    assert url is not None
    return url


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("fault", ["", "/fault/nolength", "/fault/closelength"])
async def test_the_client_reads_a_body_byte_for_byte_regardless_of_its_framing(
    site: SampleSite, scheme: str, fault: str
) -> None:
    client = make_client(site)
    response = await client.open(Request(url=f"{base(site, scheme)}{fault}/media/prog.mp4"))
    body = await rest_of(response)
    response.close()
    client.close()
    assert hashlib.sha256(body).digest() == hashlib.sha256(site.path("prog.mp4").read_bytes()).digest()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_client_reuses_the_connection_of_a_completed_response(site: SampleSite, scheme: str) -> None:
    client = make_client(site)
    for first in (True, False, False):
        response = await client.open(Request(url=f"{base(site, scheme)}/media/photo-1.jpg"))
        assert await rest_of(response) == site.path("photo-1.jpg").read_bytes()
        response.close()
        assert (response.connect_seconds > 0) is first
    client.close()
    assert client.open_connections == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_response_whose_body_nobody_reads_buffers_at_most_the_bytes_of_one_small_step(
    site: SampleSite, scheme: str
) -> None:
    client = make_client(site)
    response = await client.open(Request(url=f"{base(site, scheme)}/media/prog.mp4"))
    # A private attribute, because no public one shows the buffered bytes of a response.
    await stays(lambda: sum(map(len, response._exchange._chunks)) <= SMALL_STEP, seconds=0.2)
    response.close()
    client.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("fault", ["cut=200000", "rst=200000", "cut=200000,nolength", "rst=200000,nolength"])
async def test_reading_a_truncated_body_raises_upstream_failed(site: SampleSite, scheme: str, fault: str) -> None:
    client = make_client(site)
    response = await client.open(Request(url=f"{base(site, scheme)}/fault/{fault}/media/prog.mp4"))
    with pytest.raises(UpstreamFailed):
        await rest_of(response)
    response.close()


async def test_reading_from_a_stalled_upstream_raises_a_timeout_error(site: SampleSite) -> None:
    client = make_client(site, stall_timeout=1.0)
    response = await client.open(Request(url=f"{site.http}/fault/stall=100000/media/prog.mp4"))
    with pytest.raises(UpstreamTimeout):
        await rest_of(response)
    response.close()
    with pytest.raises(UpstreamTimeout):
        await client.open(Request(url=f"{site.http}/fault/delay=60/media/prog.mp4"))
    assert client.open_connections == 0


async def test_closing_an_unfinished_response_closes_its_connection(site: SampleSite) -> None:
    client = make_client(site)
    before = site.open_connections
    response = await client.open(Request(url=f"{site.http}/media/prog.mp4"))
    await response.read()
    response.close()
    response.close()
    await eventually(lambda: site.open_connections <= before)
    assert client.open_connections == 0


async def test_closing_a_response_ends_its_pending_read(site: SampleSite) -> None:
    client = make_client(site)
    response = await client.open(Request(url=f"{site.http}/fault/stall=1000/media/prog.mp4"))
    left = 1000
    while left:
        left -= len(await response.read())
    reading = spawn(response.read(), name="read")
    await asyncio.sleep(0)
    response.close()
    with pytest.raises(UpstreamFailed, match="closed while it was being read"):
        await reading
    client.close()


async def test_cancelling_a_request_closes_its_connection(site: SampleSite) -> None:
    client, seen = make_client(site), len(site.requests)
    opening = spawn(client.open(Request(url=f"{site.http}/fault/delay=60/media/prog.mp4")), name="open")
    await eventually(lambda: len(site.requests) > seen)
    await cancel(opening)
    assert client.open_connections == 0


async def test_the_guard_checks_an_address_before_the_client_opens_a_socket(site: SampleSite) -> None:
    seen = len(site.requests)
    with pytest.raises(TargetForbidden):
        await make_client(site, guard=Guard()).open(Request(url=f"{site.http}/media/prog.mp4"))
    assert len(site.requests) == seen


async def test_the_client_refuses_an_untrusted_certificate(site: SampleSite) -> None:
    client = Client(LOOPBACK, timeouts=Timeouts(connect=5.0, stall=5.0))
    with pytest.raises(UpstreamFailed, match="TLS"):
        await client.open(Request(url=f"{site.https}/media/prog.mp4"))


class Answering(asyncio.Protocol):
    """Server that answers each request with the bytes `data`, and keeps the connection open."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._data)


@asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(lambda: Answering(data), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_a_malformed_or_unsupported_response_raises_upstream_failed(site: SampleSite, data: bytes) -> None:
    async with answering(data) as url:
        client = make_client(site, stall_timeout=1.0)
        with pytest.raises((UpstreamFailed, UpstreamTimeout)):
            await rest_of(await client.open(Request(url=url)))
        assert client.open_connections <= 1


async def test_many_tiny_chunks_of_a_response_are_returned_as_one_chunk(site: SampleSite) -> None:
    pieces = b"".join(b"2\r\nab\r\n" for _ in range(20_000)) + b"0\r\n\r\n"
    async with answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces) as url:
        client = make_client(site)
        response = await client.open(Request(url=url))
        assert len(response._exchange._chunks) <= 1  # a private attribute, because no public one shows the chunks
        assert await rest_of(response) == b"ab" * 20_000
        response.close()
        client.close()


@pytest.mark.parametrize("endless", [b"X-Trailer: aaaaaaaaaaaaaaaa\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_endless_trailers_and_endless_interim_responses_raise_upstream_failed(
    site: SampleSite, endless: bytes
) -> None:
    trailers = endless.startswith(b"X-")
    begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n" if trailers else b""
    async with answering(begin + endless * 10_000) as url:
        client = make_client(site)
        with pytest.raises(UpstreamFailed):
            await rest_of(await client.open(Request(url=url)))
        client.close()


async def test_the_client_skips_an_interim_response_and_returns_the_final_response(site: SampleSite) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with answering(early + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as url:
        client = make_client(site)
        response = await client.open(Request(url=url))
        assert (response.status, await rest_of(response)) == (200, b"hi")
        response.close()
        client.close()


def test_header_values_from_pages_cannot_inject_a_second_request() -> None:
    headers = (("X-Ok", "1"), ("X-Bad", "1\r\nHost: evil"), ("Content-Length", "9"), ("Sp ace", "1"))
    wire = Request(url="http://example.com/ä b?q=ü#f", headers=headers).encode()
    assert wire == b"GET /%C3%A4%20b?q=%C3%BC HTTP/1.1\r\nHost: example.com\r\nX-Ok: 1\r\n\r\n"
