"""Tests of the time and size limits of a request: the server closes the connection of a client that sends a request too
slowly, or sends too many bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from serverpy.api import request_reader
from serverpy.api.protocol import CUT, LEFT, StreamProtocol
from serverpy.api.request_limits import BODY_BYTES
from serverpy.api.request_reader import TOO_LONG
from tests.server import Server

SECONDS = 0.3
"""Seconds within which a client must complete a request in these tests."""
HEAD = b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application that responds at once. The response body states whether the request was marked as too long, and
    lists the names of its header fields."""
    names = b" ".join(name for name, _ in scope["headers"])
    body = str(scope["extensions"].get(TOO_LONG)).encode() + b" " + names
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application that sends one byte, and then waits until the client disconnects."""
    left = asyncio.Event()
    scope["extensions"][LEFT](left.set)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    await left.wait()
    scope["extensions"][CUT]()


@contextlib.asynccontextmanager
async def connected(
    application: Application,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, list[StreamProtocol]]]:
    """Connect a client to ServerPY's HTTP protocol class, which runs in the same event loop as the test. Yields the
    client's reader and writer, and the list of protocol instances."""
    config = Config(application, http=StreamProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    state, made = ServerState(), list[StreamProtocol]()

    def make() -> StreamProtocol:
        made.append(StreamProtocol(config, state, {}))
        return made[-1]

    listener = await loop.create_server(make, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer, made
        finally:
            writer.close()


async def drip(writer: asyncio.StreamWriter, data: bytes, until: Callable[[], bool]) -> None:
    """Send `data` again and again. The pauses are much shorter than the time limit of a request (SECONDS)."""
    while not until():
        try:
            writer.write(data)
            await writer.drain()
        except ConnectionError:
            return
        await asyncio.sleep(SECONDS / 10)


@pytest.mark.parametrize("application", [answer, stream])
@pytest.mark.parametrize(
    ("head", "dripped"),
    [
        (HEAD + b"Content-Length: 100000\r\n\r\n", b"x"),
        (HEAD.replace(b"GET", b"POST") + b"Content-Length: 100000\r\n\r\n", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;", b"x"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b""),
        (HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", b""),
    ],
)
async def test_the_server_closes_a_connection_whose_request_body_stays_incomplete(
    monkeypatch: pytest.MonkeyPatch, application: Application, head: bytes, dripped: bytes
) -> None:
    monkeypatch.setattr(request_reader, "REQUEST_SECONDS", SECONDS)
    async with connected(application) as (reader, writer, _):
        writer.write(head % b"")
        await reads_to_its_end(reader, writer, dripped)


@pytest.mark.parametrize(
    ("head", "dripped"),
    [
        (b"", b"\r\n"),
        (HEAD + b"\r\n", b"\r\n"),
        (HEAD + b"\r\nGET", b" "),
        (HEAD + b"\r\n" + HEAD, b"x"),
        (HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"x"),
        (b"", b"x"),
    ],
)
async def test_the_server_closes_a_connection_that_sends_bytes_but_begins_no_request(
    monkeypatch: pytest.MonkeyPatch, head: bytes, dripped: bytes
) -> None:
    """Bytes that begin no request end uvicorn's timeout of idle connections, so the time limit of a request must apply
    to such bytes."""
    monkeypatch.setattr(request_reader, "REQUEST_SECONDS", SECONDS)
    async with connected(answer) as (reader, writer, _):
        writer.write(head.replace(b"%s", b""))
        await reads_to_its_end(reader, writer, dripped)


async def reads_to_its_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, dripped: bytes) -> None:
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        if dripped:
            tasks.create_task(drip(writer, dripped, reader.at_eof))
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        reader.feed_eof()


@pytest.mark.parametrize("verb", [b"GET", b"POST"])
@pytest.mark.parametrize("application", [answer, stream])
@pytest.mark.parametrize("framing", [b"Content-Length: 99999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_the_server_closes_a_connection_whose_request_body_is_too_long(
    application: Application, verb: bytes, framing: bytes
) -> None:
    async with connected(application) as (reader, writer, _):
        writer.write(HEAD.replace(b"GET", verb) % b"" + framing)
        part = b"x" * 65536
        with contextlib.suppress(ConnectionError):
            for _ in range(2 * BODY_BYTES // len(part)):
                writer.write(part if framing.startswith(b"Content") else b"10000\r\n" + part + b"\r\n")
                await writer.drain()
            while await reader.read(65536):
                pass


async def test_the_server_discards_a_request_body_of_the_maximum_size(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(answer) as (reader, writer, _):
        for _ in range(2):
            writer.write(HEAD % b"" + b"Content-Length: %d\r\n\r\n" % BODY_BYTES + b"x" * BODY_BYTES)
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(b"None host content-length")) == b"None host content-length"
        writer.write(HEAD % b"" + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES + 1))
        await reader.readuntil(b"\r\n\r\n")
        assert (await reader.readexactly(4)) == b"body"


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"


@pytest.mark.parametrize("rest", [b"\r\n", UPGRADE, b"Content-Length: 1\r\n\r\nx"])
async def test_a_completely_received_request_has_no_time_limit(rest: bytes) -> None:
    """The time limit of a request body does not apply to a GET request with an Upgrade header and without a body, as
    curl sends with --http2."""
    async with connected(stream) as (reader, writer, made):
        writer.write(HEAD % b"" + rest)
        await reader.readuntil(b"x\r\n")
        assert [each.is_awaiting_request for each in made] == [False]


async def test_a_trailer_field_of_a_chunked_request_does_not_become_a_header_field() -> None:
    async with connected(answer) as (reader, writer, _):
        trailer = b"0\r\nX-Forwarded-For: 192.0.2.1\r\nHost: evil.example\r\n\r\n"
        writer.write(HEAD % b"" + b"Transfer-Encoding: chunked\r\n\r\n" + trailer)
        await reader.readuntil(b"\r\n\r\n")
        names = b"None host transfer-encoding"
        assert await reader.readexactly(len(names)) == names
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reader.read(1)


def test_a_request_with_a_content_length_above_the_limit_is_refused_with_413(server: Server) -> None:
    head = f"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {BODY_BYTES + 1}\r\n\r\n"
    with server.send(head.encode()) as exchange:
        answer = exchange.rest()
        assert (answer.status, answer.code) == (413, "too_large")
