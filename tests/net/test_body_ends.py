"""Tests that a read ends with the last byte of the requested range or of the body. The reader reads no further, and
closes or reuses its connection, even if the media server continues to send bytes."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable

import pytest

from serverpy.errors import ServerPYError, UpstreamFailed
from serverpy.net.client import Client
from serverpy.net.connection import LARGE_STEP, SMALL_STEP
from serverpy.net.session import Session
from serverpy.ranges import ByteRange
from tests.aio import PATIENCE_SECONDS, eventually
from tests.net.opening import OK, client
from tests.net.origin import Origin, read_head
from tests.net.reading import At, reading
from tests.opening import rest_of
from tests.ytdlp.streams import Running, progressive

FILE = random.Random(7).randbytes(100_000)
ASKED = ByteRange(1000, 50_999)
WANTED = FILE[1000:51_000]
MORE = bytes(65536)
Handler = Callable[[socket.socket, bytes], None]


def endlessly(head: bytes, *, body: bytes = b"", chunked: bool = False) -> Handler:
    """Return a handler that sends `head` and `body`, and then further bytes until the client closes the connection."""

    def handle(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(head + (b"%x\r\n%s\r\n" % (len(body), body) if chunked and body else body))
        while True:
            connection.sendall(b"10000\r\n%s\r\n" % MORE if chunked else MORE)

    return handle


def ranged(first: int, last: int, *fields: bytes) -> bytes:
    lines = (b"HTTP/1.1 206 Partial Content", b"Content-Range: bytes %d-%d/100000" % (first, last), *fields, b"", b"")
    return b"\r\n".join(lines)


CHUNKED = b"Transfer-Encoding: chunked"
OVERRUNS: dict[str, Handler] = {
    "bytes after Content-Length": endlessly(ranged(1000, 50_999, b"Content-Length: 50000"), body=WANTED),
    "no length": endlessly(ranged(1000, 50_999), body=WANTED),
    "endless chunks": endlessly(ranged(1000, 50_999, CHUNKED), body=WANTED, chunked=True),
    "a range longer than requested": endlessly(ranged(1000, 99_999, b"Content-Length: 99000"), body=FILE[1000:]),
    "a range longer than requested, chunked": endlessly(ranged(1000, 99_999, CHUNKED), body=FILE[1000:], chunked=True),
}


def source_at(made: Client, origin: Origin) -> At:
    return At(made, [origin.url])


@pytest.mark.parametrize("most", [SMALL_STEP, LARGE_STEP])
@pytest.mark.parametrize("name", OVERRUNS)
async def test_a_read_closes_its_connection_at_the_last_requested_byte_even_if_the_server_sends_more_bytes(
    name: str, most: int
) -> None:
    """The reader closes the connection when it gets the last byte, because a slow client may ask for the end of the
    body much later."""
    with Origin(OVERRUNS[name]) as origin:
        async with client() as made, reading(source_at(made, origin), ASKED) as read:
            given = b""
            while len(given) < len(WANTED):
                given += await read.read(most)
            assert given == WANTED
            assert made.open_connections == 0
            assert await asyncio.to_thread(origin.left.wait, PATIENCE_SECONDS)
            assert await read.read() == b""
        assert len(origin.heads) == 1


async def test_a_read_that_has_returned_its_last_byte_frees_its_connection_for_the_next_request() -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        while True:
            connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(FILE) + FILE)
            head = read_head(connection)
            origin.heads.append(head)

    with Origin(handle) as origin:
        async with client() as made, reading(source_at(made, origin)) as first:
            assert len(b"".join([await first.read() for _ in range(2)])) < len(FILE)
            while first._response is not None:  # a private attribute, because no public one shows the response
                await first.read()
            async with reading(source_at(made, origin)) as second:
                assert await rest_of(second) == FILE
        assert len(origin.heads) == 2
        assert len(origin._connections) == 1


async def test_a_body_of_unknown_length_frees_its_connection_at_its_end() -> None:
    with Origin(lambda connection, _: connection.sendall(OK + CHUNKED + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n")) as origin:
        async with client() as made, reading(source_at(made, origin)) as read:
            assert await rest_of(read) == b"hello"
            assert made.open_connections == 0
            assert await read.read() == b""
            assert len(origin.heads) == 1


ENDLESS_BODIES: dict[str, Handler] = {
    "with a Content-Length": endlessly(b"HTTP/1.1 302 Found\r\nLocation: /to\r\nContent-Length: 999999999999\r\n\r\n"),
    "chunked": endlessly(b"HTTP/1.1 302 Found\r\nLocation: /to\r\n" + CHUNKED + b"\r\n\r\n", chunked=True),
    "without a length": endlessly(b"HTTP/1.1 302 Found\r\nLocation: /to\r\n\r\n"),
}


@pytest.mark.parametrize("name", ENDLESS_BODIES)
async def test_the_endless_body_of_a_redirect_is_not_read(name: str) -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        if head.startswith(b"GET /to "):
            connection.sendall(OK + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(FILE) + FILE)
        else:
            ENDLESS_BODIES[name](connection, head)

    with Origin(handle) as origin:
        async with client() as made:
            response = await Session(made, {}).open(origin.url, {})
            assert await rest_of(response) == FILE
            response.close()
        assert await asyncio.to_thread(origin.left.wait, PATIENCE_SECONDS)
        with Running(progressive(origin.url)) as download:
            assert await asyncio.to_thread(download.read_all) == FILE
        assert download.error is None


@pytest.mark.parametrize("status", [b"404 Not Found", b"500 Internal Server Error", b"429 Too Many Requests"])
async def test_the_endless_body_of_an_error_is_not_read(status: bytes) -> None:
    with Origin(endlessly(b"HTTP/1.1 " + status + b"\r\nRetry-After: 9999\r\n\r\n")) as origin:
        async with client() as made:
            with pytest.raises(UpstreamFailed):
                async with reading(source_at(made, origin)):
                    raise AssertionError("unreachable")
            assert made.open_connections == 0
        await eventually(origin.left.is_set)


# The embedded method

WINDOW = {"http_headers": {"Range": "bytes=1000-50999"}}


@pytest.mark.parametrize("name", OVERRUNS)
async def test_embedded_writes_no_byte_beyond_the_requested_range_into_its_pipe(name: str) -> None:
    with Origin(OVERRUNS[name]) as origin:
        with Running(progressive(origin.url, **WINDOW)) as download:
            assert await asyncio.to_thread(download.read_all) == WANTED
        assert download.error is None
        assert await asyncio.to_thread(origin.left.wait, PATIENCE_SECONDS)


async def test_embedded_downloads_a_file_in_ranges_even_if_each_response_is_longer_than_its_range() -> None:
    def handle(connection: socket.socket, head: bytes) -> None:
        first = int(head.partition(b"bytes=")[2].partition(b"-")[0])
        endlessly(ranged(first, 99_999, b"Content-Length: %d" % (100_000 - first)), body=FILE[first:])(connection, head)

    with Origin(handle) as origin:
        with Running(progressive(origin.url, downloader_options={"http_chunk_size": 40_000})) as download:
            assert await asyncio.to_thread(download.read_all) == FILE
        assert download.error is None


async def test_embedded_fails_if_a_206_response_ends_before_the_last_byte_of_its_content_range() -> None:
    def handle(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(ranged(1000, 50_999) + WANTED[:-1])

    with Origin(handle) as origin, Running(progressive(origin.url, **WINDOW)) as download:
        given = await asyncio.to_thread(download.read_all)
    assert WANTED.startswith(given)
    assert isinstance(download.error, ServerPYError)
