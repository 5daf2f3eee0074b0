"""Tests that the worker imports curl_cffi only for the first request that must impersonate a browser, of byte ranges
that it downloads, and of the bounds on the responses that it receives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import queue
import socket
import ssl
import tracemalloc
from collections.abc import Callable, Iterator

import psutil
import pytest
import trustme
from yt_dlp import YoutubeDL
from yt_dlp.networking import Request, Response
from yt_dlp.networking.exceptions import TransportError
from yt_dlp.networking.impersonate import ImpersonateTarget

from serverpy.extraction.workers import Workers
from serverpy.sample.site import SampleSite
from serverpy.ytdlp.session import impersonation
from serverpy.ytdlp.session.impersonation import MAX_BODY_BYTES, PIECE_BYTES, JoiningQueue
from tests.aio import wait_for
from tests.extraction.workers import process_of, reader, running
from tests.net.opening import saying
from tests.net.origin import Origin
from tests.ytdlp.test_http_client import CHUNKED, EXCESSIVE, OK


def loaded(process: psutil.Process) -> bool:
    return any("curl_cffi" in mapped.path for mapped in process.memory_maps())


async def test_the_worker_imports_curl_cffi_when_a_page_requires_impersonation(site: SampleSite) -> None:
    async with running() as workers:
        process = await process_of(workers)
        ready = workers.state().ready
        assert ready is not None
        assert ready.impersonation
        assert (await workers.extract(f"{site.http}/page/prog")).tracks
        assert not loaded(process)
        assert await workers.extract(f"{site.http}/probe/impersonated?to={site.http}/page/prog")
        assert loaded(process)


async def test_a_worker_that_always_impersonates_a_browser_imports_curl_cffi_at_its_start() -> None:
    async with running(impersonate="chrome") as workers:
        assert loaded(await process_of(workers))


PAGES = ("hls-byterange", "hls-byterange-fmp4", "hls-apart-byterange", "dash-ranges")
"""Pages whose segments are byte ranges of files."""


async def test_byte_ranges_are_downloaded_with_impersonation_by_few_requests(site: SampleSite) -> None:
    """Takes some seconds, because it starts two pools of workers one after the other."""
    async with running() as workers:
        expected = [await downloads(workers, f"{site.http}/page/{page}") for page in PAGES]
    before = len(site.requests)
    async with running(impersonate="chrome") as workers:
        assert [await downloads(workers, f"{site.http}/page/{page}") for page in PAGES] == expected
    assert all(data for each in expected for data in each.values())
    assert len(site.requests) - before < 150


async def downloads(workers: Workers, url: str) -> dict[str, bytes]:
    """Return the bytes of each format of the page `url`."""
    media, received = await workers.extract(url), {}
    for track in media.tracks:
        reading, writing = os.pipe()
        download = await workers.download(media.raw_id, track.id, writing)
        received[track.id] = await asyncio.to_thread(reader(reading))
        await download.wait()
    return received


# Bounds on the responses that curl_cffi receives


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@contextlib.contextmanager
def responding(handle: Callable[[socket.socket, bytes], None], tls: ssl.SSLContext | None) -> Iterator[Response]:
    """Send a request that impersonates a browser to a server that responds by `handle`, and yield the response."""
    with Origin(handle, tls) as origin, YoutubeDL({"quiet": True}, auto_init=False) as ydl:
        director = ydl.build_request_director([impersonation.handler()])
        (handler,) = director.handlers.values()
        handler.verify = False
        response = director.send(Request(origin.url, extensions={"impersonate": ImpersonateTarget("chrome")}))
        with contextlib.closing(response):
            yield response


@pytest.fixture(params=["http", "https"])
def context(request: pytest.FixtureRequest, tls: ssl.SSLContext) -> ssl.SSLContext | None:
    return tls if request.param == "https" else None


@pytest.mark.parametrize("body", EXCESSIVE.values(), ids=EXCESSIVE)
def test_curl_cffi_refuses_a_body_with_too_many_bytes_of_framing(context: ssl.SSLContext | None, body: bytes) -> None:
    with responding(saying(CHUNKED + body + b"0\r\n\r\n"), context) as response, pytest.raises(TransportError):
        response.read()


@pytest.mark.parametrize("extension", [b";", b";a=", b' ; a = "'])
@pytest.mark.parametrize("before", [b"", b"40000\r\n%s\r\n" % bytes(0x40000)], ids=["first", "later"])
def test_curl_cffi_refuses_an_endless_chunk_extension(
    context: ssl.SSLContext | None, extension: bytes, before: bytes
) -> None:
    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(CHUNKED + b"1\r\na\r\n" + before + b"1" + extension)
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x" * 65536)

    with responding(handle, context) as response, pytest.raises(TransportError, match="framing"):
        response.read()


@pytest.mark.parametrize(
    "head",
    [
        OK + b"X: " + b"y" * 500_000 + b"\r\n\r\n",
        OK + b"X: y\r\n" * 6000 + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 6000,
        CHUNKED + b"0\r\nX: " + b"y" * 10_000 + b"\r\n\r\n",
        CHUNKED + b"0\r\n" + b"X: y\r\n" * 6000 + b"\r\n",
    ],
    ids=["long field", "fields", "interim responses", "long trailer", "trailers"],
)
def test_libcurl_bounds_heads_and_trailers_itself(context: ssl.SSLContext | None, head: bytes) -> None:
    with pytest.raises(TransportError), responding(saying(head), context) as response:
        response.read()


@pytest.mark.parametrize("extension", [b"", b";chunk-signature=" + b"0" * 64], ids=["plain", "signed"])
@pytest.mark.parametrize("size", [100, 1000])
def test_curl_cffi_reads_many_small_chunks(context: ssl.SSLContext | None, size: int, extension: bytes) -> None:
    body = b"%x%s\r\n%s\r\n" % (size, extension, bytes(size)) * 2000
    with responding(saying(CHUNKED + body + b"0\r\n\r\n"), context) as response:
        assert response.read() == bytes(size * 2000)


def test_the_bodies_of_redirects_are_no_framing(context: ssl.SSLContext | None) -> None:
    numbers = itertools.count(1)

    def handle(connection: socket.socket, _: bytes) -> None:
        number, body = next(numbers), bytes(200_000)
        moved = b"HTTP/1.1 302 Found\r\nLocation: /%d\r\n" % number
        length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        connection.sendall((moved if number < 5 else OK) + length + body)

    with responding(handle, context) as response:
        assert response.read() == bytes(200_000)


def test_curl_cffi_refuses_a_redirect_whose_stated_length_is_above_the_limit(context: ssl.SSLContext | None) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)
    with pytest.raises(TransportError), responding(saying(head), context):
        pass


def test_an_unread_response_of_tiny_chunks_takes_little_more_memory_than_its_bytes() -> None:
    sent, size = [], 100_000

    def handle(connection: socket.socket, _: bytes) -> None:
        connection.sendall(CHUNKED + b"2\r\nab\r\n" * (size // 2) + b"0\r\n\r\n")
        sent.append(True)

    with responding(handle, None) as response:
        tracemalloc.start()
        try:
            wait_for(lambda: sent and response.fp._response.stream_task.done())
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert response.read() == b"ab" * (size // 2)
    assert held < 4 * size


def test_the_queue_of_a_response_keeps_the_order_of_pieces_and_joins_only_small_ones() -> None:
    pieces, end, received = JoiningQueue(), object(), b""
    for piece in (b"a", b"b" * PIECE_BYTES, b"c", b"d", end, b"e"):
        pieces.put_nowait(piece)
    assert [pieces.get_nowait() for _ in range(5)] == [b"a", b"b" * PIECE_BYTES, b"cd", end, b"e"]
    for number in range(1000):
        pieces.put_nowait(b"%d" % number)
        if number % 7 == 0:
            received += pieces.get_nowait()
    with contextlib.suppress(queue.Empty):
        while True:
            received += pieces.get_nowait()
    assert received == b"".join(b"%d" % number for number in range(1000))
